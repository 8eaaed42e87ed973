//! Releases, sweeps, reads, writes without a record, derived keys, retired answers.

use keybrake_contract::digest::Digest;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::*;

use super::bench::*;
use crate::model::{AuditQuery, EntryOutcome};

fn refused(code: RefusalCode) -> CommandResult {
    CommandResult::Refused(Refusal::plain(code))
}

#[tokio::test]
async fn a_release_ends_its_attempt_and_only_its_attempt() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let reserve = charge(&key, 999, "k-1");
    let first = bench.admitted(reserve.clone()).await;
    assert_eq!(bench.release(first.hold).await, CommandResult::Released);
    assert_eq!(bench.parts(&key).await, [2_000, 0, 0, 0]);
    assert_eq!(
        bench.reserve(reserve).await,
        CommandResult::Cancelled,
        "its release came first"
    );
    // The next one is a new hold; a release of its second attempt names the reserve of that attempt.
    let hold = bench.admitted(charge(&key, 999, "k-1")).await;
    bench
        .outcome(outcome_of(&hold, AttemptOutcome::Indeterminate))
        .await;
    let retry = charge(&key, 999, "k-1");
    let second = bench.admitted(retry.clone()).await;
    assert_eq!((second.hold, second.attempt), (hold.hold, 2));
    assert_eq!(bench.release(retry.id).await, CommandResult::Released);
    assert_eq!(bench.parts(&key).await, [1_001, 0, 0, 999], "still unknown");
    assert_eq!(bench.reserve(retry).await, CommandResult::Cancelled);
    // What the vendor has said is not undone by a release.
    assert_eq!(bench.release(hold.hold).await, CommandResult::Released);
    assert_eq!(bench.parts(&key).await, [1_001, 0, 0, 999]);
    let third = bench.admitted(charge(&key, 999, "k-1")).await;
    assert_eq!(third.attempt, 3);
    bench.outcome(charged(&third, "ch_1", 999)).await;
    assert_eq!(bench.release(hold.hold).await, CommandResult::Released);
    assert_eq!(bench.parts(&key).await, [1_001, 0, 999, 0]);
}

#[tokio::test]
async fn a_release_that_comes_first_cancels_the_reserve() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let reserve = charge(&key, 999, "k-1");
    assert_eq!(bench.release(reserve.id).await, CommandResult::Released);
    assert_eq!(bench.release(reserve.id).await, CommandResult::Released);
    assert_eq!(
        bench.reserve(reserve.clone()).await,
        CommandResult::Cancelled
    );
    assert_eq!(bench.parts(&key).await, [2_000, 0, 0, 0]);
    let bench = bench.reopened().await;
    assert_eq!(bench.reserve(reserve).await, CommandResult::Cancelled);
    bench.admitted(charge(&key, 999, "k-1")).await;
}

#[tokio::test]
async fn an_attempt_without_a_word_is_swept_to_unknown_by_the_clock_and_at_start() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let first = bench.admitted(charge(&key, 999, "k-1")).await;
    let read_of = bench.admitted(read(&key)).await;
    let open = bench.admitted(charge(&key, 1, "k-2")).await;
    bench
        .outcome(outcome_of(&open, executed(ExecutedMoney::Open, Some(1))))
        .await;
    bench.hand.advance_ms(5_000 + 90_000 + 30_000 - 1);
    bench.admitted(charge(&key, 1, "k-3")).await;
    assert_eq!(
        bench.entry(first.hold).await.outcome,
        Some(EntryOutcome::InFlight),
        "one millisecond early"
    );
    bench.hand.advance_ms(1);
    bench
        .eventually("swept", || async {
            bench.entry(first.hold).await.outcome == Some(EntryOutcome::Unknown)
        })
        .await;
    assert_eq!(bench.parts(&key).await, [999, 2, 0, 999]);
    assert_eq!(
        bench.entry(read_of.hold).await.outcome,
        Some(EntryOutcome::Abandoned)
    );
    assert_eq!(
        bench.entry(open.hold).await.outcome,
        Some(EntryOutcome::Held),
        "answered and open: never swept"
    );
    let figures = bench.ledger.figures().await;
    let unknown = figures.unknown.unwrap();
    assert_eq!((unknown.count, unknown.amount), (1, usd(999)));
    assert_eq!(unknown.oldest_age_ms, Some(125_000));
    assert_eq!(figures.open_attempts, 1);
    // Late words still count: never begun, then (on another hold) executed after all.
    assert_eq!(bench.release(first.hold).await, CommandResult::Released);
    assert_eq!(bench.parts(&key).await, [1_998, 2, 0, 0]);
    let late = bench.admitted(charge(&key, 500, "k-4")).await;
    let Bench { hand, .. } = &bench;
    hand.advance_ms(200_000);
    let bench = bench.reopened().await;
    bench
        .eventually("swept at start", || async {
            bench.entry(late.hold).await.outcome == Some(EntryOutcome::Unknown)
        })
        .await;
    bench.outcome(charged(&late, "ch_4", 500)).await;
    assert_eq!(
        bench.entry(late.hold).await.outcome,
        Some(EntryOutcome::Settled)
    );
}

#[tokio::test]
async fn reads_cost_nothing_and_have_no_record() {
    let bench = Bench::new();
    let key = bench.key(daily(0)).await;
    let first = bench.admitted(read(&key)).await;
    bench
        .outcome(outcome_of(&first, executed(ExecutedMoney::Moved, None)))
        .await;
    assert_eq!(
        bench.entry(first.hold).await.outcome,
        Some(EntryOutcome::Settled)
    );
    for (outcome, expected) in [
        (AttemptOutcome::Abandoned, EntryOutcome::Abandoned),
        (AttemptOutcome::Indeterminate, EntryOutcome::Abandoned),
        (AttemptOutcome::NotExecuted, EntryOutcome::Released),
    ] {
        let admitted = bench.admitted(read(&key)).await;
        bench.outcome(outcome_of(&admitted, outcome)).await;
        assert_eq!(bench.entry(admitted.hold).await.outcome, Some(expected));
    }
    assert_eq!(bench.parts(&key).await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn a_write_without_idempotency_is_held_without_a_record() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let plain = |key| Reserve {
        idempotency: None,
        ..charge(key, 999, "")
    };
    let first = bench.admitted(plain(&key)).await;
    let second = bench.admitted(plain(&key)).await;
    assert_ne!(first.hold, second.hold);
    bench
        .outcome(outcome_of(&first, AttemptOutcome::Indeterminate))
        .await;
    bench.outcome(charged(&second, "ch_2", 999)).await;
    assert_eq!(bench.parts(&key).await, [2, 0, 999, 999]);
}

#[tokio::test]
async fn a_derived_keys_other_request_is_replayed_but_never_forwarded_again() {
    let bench = Bench::new();
    let key = bench.key(daily(5_000)).await;
    let derived = |full: &str| {
        let mut reserve = charge(&key, 999, "kb1_x");
        let idempotency = reserve.idempotency.as_mut().unwrap();
        idempotency.full_fingerprint = Some(Digest::of(full.as_bytes()));
        idempotency.client_key = Some(format!("random-{full}"));
        reserve
    };
    let first = bench.admitted(derived("a")).await;
    bench
        .outcome(outcome_of(&first, AttemptOutcome::Indeterminate))
        .await;
    assert_eq!(
        bench.reserve(derived("b")).await,
        refused(RefusalCode::OutcomeUnknown)
    );
    let second = bench.admitted(derived("a")).await;
    bench.outcome(charged(&second, "ch_1", 999)).await;
    let again = bench.reserve(derived("b")).await;
    assert!(matches!(again, CommandResult::Replay(_)), "{again:?}");
    for name in ["random-a", "kb1_x"] {
        let query = AuditQuery {
            idempotency_key: Some(name.to_owned()),
            ..AuditQuery::default()
        };
        assert_eq!(bench.entries(query).await[0].id, first.hold.to_string());
    }
}

#[tokio::test]
async fn a_retired_answer_is_replayed_as_a_summary() {
    let bench = Bench::with(|options| options.answers_kept_ms = HOUR);
    let key = bench.key(daily(5_000)).await;
    let first = bench.admitted(charge(&key, 999, "k-1")).await;
    bench.outcome(charged(&first, "ch_1", 999)).await;
    let bare = bench.admitted(charge(&key, 999, "k-2")).await;
    let without_answer = Outcome {
        answer: None,
        ..charged(&bare, "ch_2", 999)
    };
    bench.outcome(without_answer).await;
    bench.hand.advance_ms(HOUR);
    // A count is written in the same breath in which answers are retired: when it is there, they were looked at.
    let nobody = Reserve {
        key_digest: Digest::of(b"nobody's"),
        ..charge(&key, 1, "k-3")
    };
    let events = bench.ledger.figures().await.events;
    bench.reserve(nobody).await;
    bench
        .eventually("a count", || async {
            bench.ledger.figures().await.events > events
        })
        .await;
    let CommandResult::Replay(replay) = bench.reserve(charge(&key, 999, "k-1")).await else {
        panic!("no replay")
    };
    assert!(!replay.summary, "not older than allowed");
    bench.hand.advance_ms(1);
    bench
        .eventually("retired", || async {
            match bench.reserve(charge(&key, 999, "k-1")).await {
                CommandResult::Replay(replay) => {
                    replay.summary
                        && replay.answer.body
                            == r#"{"amount":999,"currency":"usd","id":"ch_1","object":"charge","status":"succeeded"}"#
                }
                _ => false,
            }
        })
        .await;
    let CommandResult::Replay(replay) = bench.reserve(charge(&key, 999, "k-2")).await else {
        panic!("no replay")
    };
    assert!(replay.summary);
    assert!(replay.answer.body.contains("\"id\":\"ch_2\""));
}
