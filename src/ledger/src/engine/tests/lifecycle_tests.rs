//! Paths of a request's life through the real store: records, holds, attempts, releases, sweeps.

use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::*;
use std::sync::Arc;

use super::bench::*;
use crate::model::{AuditQuery, EntryOutcome};

fn refused(code: RefusalCode) -> CommandResult {
    CommandResult::Refused(Refusal::plain(code))
}

#[tokio::test]
async fn a_charge_is_held_then_settled_and_its_repeat_is_replayed() {
    let bench = Bench::new();
    let key = bench.key(daily(1_099)).await;
    let admitted = bench.admitted(charge(&key, 999, "k-1")).await;
    assert_eq!(admitted.attempt, 1);
    assert_eq!(admitted.forward_within_ms, 5_000);
    assert_eq!(bench.parts(&key).await, [100, 999, 0, 0]);
    assert_eq!(
        bench.reserve(charge(&key, 999, "k-1")).await,
        CommandResult::InFlight
    );
    bench.outcome(charged(&admitted, "ch_1", 999)).await;
    assert_eq!(bench.parts(&key).await, [100, 0, 999, 0]);
    let CommandResult::Replay(replay) = bench.reserve(charge(&key, 999, "k-1")).await else {
        panic!("no replay")
    };
    assert_eq!(replay.answer, answer("ch_1", 999));
    assert!(!replay.summary);
    assert_eq!(bench.parts(&key).await, [100, 0, 999, 0], "no second debit");
    let entry = bench.entry(admitted.hold).await;
    assert_eq!(entry.replays, 1);
    assert_eq!(entry.cost_usd.as_deref(), Some("9.990000"));
    assert_eq!(entry.stripe_charge_id.as_deref(), Some("ch_1"));
    assert_eq!(entry.outcome, Some(EntryOutcome::Settled));
}

#[tokio::test]
async fn a_known_key_replays_when_the_cap_is_used_up_but_scope_is_judged_first() {
    let bench = Bench::new();
    let key = bench.key(daily(999)).await;
    let admitted = bench.admitted(charge(&key, 999, "k-1")).await;
    bench.outcome(charged(&admitted, "ch_1", 999)).await;
    assert!(matches!(
        bench.reserve(charge(&key, 1, "k-2")).await,
        CommandResult::Refused(Refusal {
            code: RefusalCode::SpendCapExceeded,
            ..
        })
    ));
    let again = bench.reserve(charge(&key, 999, "k-1")).await;
    assert!(matches!(again, CommandResult::Replay(_)), "{again:?}");
    for version in [None, Some(0), Some(2)] {
        let stale = Reserve {
            grant_version: version,
            ..charge(&key, 999, "k-1")
        };
        let CommandResult::Grant(grant) = bench.reserve(stale).await else {
            panic!("no grant for {version:?}")
        };
        assert_eq!(*grant, key.key.grant);
    }
    bench.ledger.revoke(&key.key.key_id).await.unwrap();
    assert_eq!(
        bench.reserve(charge(&key, 999, "k-1")).await,
        refused(RefusalCode::VaultKeyRevoked)
    );
}

#[tokio::test]
async fn another_request_under_the_same_key_is_a_mismatch_whatever_the_record() {
    let bench = Bench::new();
    let key = bench.key(daily(10_000)).await;
    let admitted = bench.admitted(charge(&key, 999, "k-1")).await;
    let mismatch = refused(RefusalCode::IdempotencyError);
    assert_eq!(bench.reserve(charge(&key, 998, "k-1")).await, mismatch);
    bench
        .outcome(outcome_of(&admitted, AttemptOutcome::Indeterminate))
        .await;
    assert_eq!(bench.reserve(charge(&key, 998, "k-1")).await, mismatch);
    let admitted = bench.admitted(charge(&key, 999, "k-1")).await;
    bench.outcome(charged(&admitted, "ch_1", 999)).await;
    assert_eq!(bench.reserve(charge(&key, 998, "k-1")).await, mismatch);
    // Another account is another record.
    let other = Reserve {
        request: Arc::new(RequestFacts {
            vendor_account: Some("acct_2".to_owned()),
            ..facts("charges.create")
        }),
        ..charge(&key, 998, "k-1")
    };
    bench.admitted(other).await;
}

#[tokio::test]
async fn a_new_key_of_the_same_workspace_resumes_and_another_workspace_does_not() {
    let bench = Bench::new();
    let first = bench.key(daily(10_000)).await;
    let admitted = bench.admitted(charge(&first, 999, "k-1")).await;
    bench.outcome(charged(&admitted, "ch_1", 999)).await;
    let second = bench.key(daily(10_000)).await;
    let again = bench.reserve(charge(&second, 999, "k-1")).await;
    assert!(matches!(again, CommandResult::Replay(_)), "{again:?}");
    assert_eq!(bench.parts(&second).await, [10_000, 0, 0, 0]);
    let foreign = bench
        .key_like(daily(10_000), |key| key.workspace = "other".to_owned())
        .await;
    assert_eq!(
        bench.reserve(charge(&foreign, 999, "k-1")).await,
        refused(RefusalCode::IdempotencyError)
    );
}

#[tokio::test]
async fn a_decline_gives_the_money_back_and_the_vendor_decides_again() {
    let bench = Bench::new();
    let key = bench.key(daily(999)).await;
    let admitted = bench.admitted(charge(&key, 999, "k-1")).await;
    let decline = Outcome {
        status: Some(402),
        ..outcome_of(&admitted, AttemptOutcome::DeclinedFinal)
    };
    bench.outcome(decline).await;
    assert_eq!(bench.parts(&key).await, [999, 0, 0, 0]);
    let again = bench.admitted(charge(&key, 999, "k-1")).await;
    assert_ne!(again.hold, admitted.hold, "a new hold");
    // The vendor replays its decline: that is no alarm, for we did forward this key before.
    let replayed = Outcome {
        replayed_by_vendor: true,
        status: Some(402),
        ..outcome_of(&again, AttemptOutcome::DeclinedFinal)
    };
    bench.outcome(replayed).await;
    let by_key = AuditQuery {
        idempotency_key: Some("k-1".to_owned()),
        ..AuditQuery::default()
    };
    let entries = bench.entries(by_key).await;
    assert_eq!(entries.len(), 2, "superseded holds are found as well");
    assert!(entries.iter().all(|entry| entry.alarms.is_empty()));
    assert!(
        entries
            .iter()
            .all(|entry| entry.outcome == Some(EntryOutcome::Released))
    );
}

#[tokio::test]
async fn an_unknown_is_forwarded_again_on_the_same_hold_within_the_vendors_window() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let first = bench.admitted(charge(&key, 999, "k-1")).await;
    bench
        .outcome(outcome_of(&first, AttemptOutcome::Indeterminate))
        .await;
    assert_eq!(bench.parts(&key).await, [1_001, 0, 0, 999]);
    bench.hand.advance_ms(23 * HOUR - 1);
    let second = bench.admitted(charge(&key, 999, "k-1")).await;
    assert_eq!((second.hold, second.attempt), (first.hold, 2));
    assert_eq!(
        bench.reserve(charge(&key, 999, "k-1")).await,
        CommandResult::InFlight,
        "others wait"
    );
    let replayed = Outcome {
        replayed_by_vendor: true,
        ..charged(&second, "ch_1", 999)
    };
    bench.outcome(replayed).await;
    let entry = bench.entry(first.hold).await;
    assert_eq!(entry.attempts, 2);
    assert_eq!(entry.outcome, Some(EntryOutcome::Settled));
    assert!(entry.alarms.is_empty(), "{:?}", entry.alarms);
}

#[tokio::test]
async fn an_unknown_beyond_the_vendors_window_is_refused_until_it_is_reconciled() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let first = bench.admitted(charge(&key, 999, "k-1")).await;
    bench
        .outcome(outcome_of(&first, AttemptOutcome::Indeterminate))
        .await;
    bench.hand.advance_ms(23 * HOUR);
    assert_eq!(
        bench.reserve(charge(&key, 999, "k-1")).await,
        refused(RefusalCode::OutcomeUnknown)
    );
    // A vendor without idempotency has no window at all.
    let twilio = bench
        .key_like(daily(2_000), |key| key.grant.vendor = "twilio".to_owned())
        .await;
    let message = |id| Reserve {
        id,
        request: Arc::new(RequestFacts {
            vendor: "twilio".to_owned(),
            ..facts("messages.create")
        }),
        ..charge(&twilio, 10, "m-1")
    };
    let sent = bench.admitted(message(fresh())).await;
    bench
        .outcome(outcome_of(&sent, AttemptOutcome::Indeterminate))
        .await;
    assert_eq!(
        bench.reserve(message(fresh())).await,
        refused(RefusalCode::OutcomeUnknown)
    );
}

#[tokio::test]
async fn not_executed_gives_back_only_what_no_other_attempt_may_have_spent() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let first = bench.admitted(charge(&key, 999, "k-1")).await;
    bench
        .outcome(outcome_of(&first, AttemptOutcome::Indeterminate))
        .await;
    let second = bench.admitted(charge(&key, 999, "k-1")).await;
    bench
        .outcome(outcome_of(&second, AttemptOutcome::NotExecuted))
        .await;
    assert_eq!(
        bench.parts(&key).await,
        [1_001, 0, 0, 999],
        "the first one is in doubt"
    );
    bench
        .outcome(outcome_of(&first, AttemptOutcome::NotExecuted))
        .await;
    assert_eq!(bench.parts(&key).await, [2_000, 0, 0, 0], "now none is");
    // The same attempt turns out to be executed after all: debited in full, and alarmed.
    bench.outcome(charged(&first, "ch_1", 999)).await;
    assert_eq!(bench.parts(&key).await, [1_001, 0, 999, 0]);
    let entry = bench.entry(first.hold).await;
    assert_eq!(entry.alarms, ["executed_after_release"]);
    let again = bench.reserve(charge(&key, 999, "k-1")).await;
    assert!(matches!(again, CommandResult::Replay(_)), "{again:?}");
}

#[tokio::test]
async fn a_weaker_word_about_an_attempt_does_not_undo_a_firmer_one() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let first = bench.admitted(charge(&key, 999, "k-1")).await;
    bench
        .outcome(outcome_of(&first, AttemptOutcome::Indeterminate))
        .await;
    let second = bench.admitted(charge(&key, 999, "k-1")).await;
    for word in [AttemptOutcome::NotExecuted, AttemptOutcome::Indeterminate] {
        bench.outcome(outcome_of(&first, word)).await;
    }
    bench
        .outcome(outcome_of(&second, AttemptOutcome::NotExecuted))
        .await;
    assert_eq!(
        bench.parts(&key).await,
        [2_000, 0, 0, 0],
        "neither was executed"
    );
}

#[tokio::test]
async fn a_late_execution_takes_its_record_back_from_a_newer_hold() {
    for newer_ends_first in [true, false] {
        let bench = Bench::new();
        let key = bench.key(daily(5_000)).await;
        let first = bench.admitted(charge(&key, 999, "k-1")).await;
        bench
            .outcome(outcome_of(&first, AttemptOutcome::NotExecuted))
            .await;
        let second = bench.admitted(charge(&key, 999, "k-1")).await;
        let decline = outcome_of(&second, AttemptOutcome::DeclinedFinal);
        if newer_ends_first {
            bench.outcome(decline).await;
            bench.outcome(charged(&first, "ch_1", 999)).await;
        } else {
            bench.outcome(charged(&first, "ch_1", 999)).await;
            assert_eq!(
                bench.reserve(charge(&key, 999, "k-1")).await,
                CommandResult::InFlight
            );
            bench.outcome(decline).await;
        }
        let CommandResult::Replay(replay) = bench.reserve(charge(&key, 999, "k-1")).await else {
            panic!("the action was done: it must not be done again")
        };
        assert_eq!(replay.hold, first.hold);
        let by_key = AuditQuery {
            idempotency_key: Some("k-1".to_owned()),
            ..AuditQuery::default()
        };
        let entries = bench.entries(by_key).await;
        assert_eq!(entries.len(), 2);
        assert_eq!(
            entries[0].id,
            first.hold.to_string(),
            "moved money comes first"
        );
    }
}

#[tokio::test]
async fn settled_is_final_and_a_second_execution_is_alarmed() {
    let bench = Bench::new();
    let key = bench.key(daily(5_000)).await;
    let first = bench.admitted(charge(&key, 999, "k-1")).await;
    bench
        .outcome(outcome_of(&first, AttemptOutcome::Indeterminate))
        .await;
    let second = bench.admitted(charge(&key, 999, "k-1")).await;
    bench.outcome(charged(&second, "ch_2", 999)).await;
    for late in [
        outcome_of(&first, AttemptOutcome::NotExecuted),
        outcome_of(&first, AttemptOutcome::Indeterminate),
        outcome_of(&second, AttemptOutcome::NotExecuted),
    ] {
        bench.outcome(late).await;
    }
    assert_eq!(bench.parts(&key).await, [4_001, 0, 999, 0]);
    assert!(bench.entry(first.hold).await.alarms.is_empty());
    bench.outcome(charged(&first, "ch_1", 999)).await;
    let entry = bench.entry(first.hold).await;
    assert_eq!(entry.alarms, ["executed_twice"]);
    assert_eq!(entry.vendor_object_id.as_deref(), Some("ch_2"));
}
