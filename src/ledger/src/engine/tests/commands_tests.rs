//! Command ids, batches, refusals by the filter, counts, alarms, the clock.

use keybrake_contract::digest::Digest;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::*;
use serde_json::value::RawValue;
use std::sync::Arc;

use super::bench::*;
use crate::engine::{Readiness, Received, Unavailable};
use crate::model::{AuditQuery, Caps, EntryVerdict, KeyChange};

#[tokio::test]
async fn the_same_batch_again_gets_the_same_answers_and_does_nothing() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let settled = bench.admitted(charge(&key, 100, "k-0")).await;
    bench.outcome(charged(&settled, "ch_0", 100)).await;
    let open = bench.admitted(charge(&key, 100, "k-1")).await;
    let unknown = bench.admitted(charge(&key, 100, "k-2")).await;
    bench
        .outcome(outcome_of(&unknown, AttemptOutcome::Indeterminate))
        .await;
    let released = bench.admitted(charge(&key, 100, "k-3")).await;
    let reserve = |reserve: Reserve| Command::Reserve(Box::new(reserve));
    let commands = [
        reserve(charge(&key, 500, "k-4")),
        reserve(charge(&key, 5_000, "k-5")),
        reserve(charge(&key, 100, "k-0")),
        reserve(charge(&key, 100, "k-1")),
        reserve(charge(&key, 100, "k-2")),
        reserve(Reserve {
            grant_version: None,
            ..charge(&key, 1, "k-6")
        }),
        reserve(read(&key)),
        Command::Outcome(Box::new(charged(&open, "ch_1", 100))),
        Command::Release(Release {
            id: fresh(),
            reserve: released.hold,
            cause: ReleaseCause::ClientGone,
        }),
        Command::Refused(Box::new(refusal(key.key.digest, Some(1)))),
        Command::RefusalCount(RefusalCount {
            id: fresh(),
            reason: CountedReason::NotInspectable,
            listener: "stripe".to_owned(),
            count: 3,
        }),
    ];
    let batch = || commands.iter().map(received).collect::<Vec<_>>();
    let first = bench.ledger.execute(batch()).await.unwrap();
    let results: Vec<_> = first.iter().map(|answer| &answer.result).collect();
    assert!(matches!(results[0], CommandResult::Admitted(_)));
    assert!(matches!(results[1], CommandResult::Refused(_)));
    assert!(matches!(results[2], CommandResult::Replay(_)));
    assert!(matches!(results[3], CommandResult::InFlight));
    assert!(matches!(results[4], CommandResult::Admitted(_)));
    assert!(matches!(results[5], CommandResult::Grant(_)));
    assert!(matches!(results[8], CommandResult::Released));
    let before = (
        bench.balances(&key).await,
        bench.ledger.figures().await.events,
    );
    assert_eq!(bench.ledger.execute(batch()).await.unwrap(), first);
    assert_eq!(bench.ledger.execute(batch()).await.unwrap(), first);
    let twice_in_one: Vec<_> = batch().into_iter().chain(batch()).collect();
    let answers = bench.ledger.execute(twice_in_one).await.unwrap();
    assert_eq!(answers, [first.clone(), first.clone()].concat());
    let after = (
        bench.balances(&key).await,
        bench.ledger.figures().await.events,
    );
    assert_eq!(after, before);
    // Also after a restart.
    let bench = bench.reopened().await;
    assert_eq!(bench.ledger.execute(batch()).await.unwrap(), first);
    assert_eq!(bench.balances(&key).await, before.0);
}

#[tokio::test]
async fn a_command_twice_in_its_first_batch_is_done_once() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let command = Command::Reserve(Box::new(charge(&key, 500, "k-1")));
    let answers = bench
        .ledger
        .execute(vec![received(&command), received(&command)])
        .await
        .unwrap();
    assert_eq!(answers[0], answers[1]);
    assert_eq!(bench.parts(&key).await, [1_500, 500, 0, 0]);
}

#[tokio::test]
async fn one_id_for_two_commands_is_a_conflict_and_alarmed() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let first = charge(&key, 500, "k-1");
    bench.admitted(first.clone()).await;
    let other = Reserve {
        id: first.id,
        ..charge(&key, 700, "k-2")
    };
    assert_eq!(bench.reserve(other).await, CommandResult::CommandIdConflict);
    let count = |count| {
        Command::RefusalCount(RefusalCount {
            id: first.id,
            reason: CountedReason::NotInspectable,
            listener: String::new(),
            count,
        })
    };
    let id = fresh();
    let with_id = |command: Command| match command {
        Command::RefusalCount(count) => Command::RefusalCount(RefusalCount { id, ..count }),
        other => other,
    };
    assert_eq!(bench.send(with_id(count(1))).await, CommandResult::Recorded);
    assert_eq!(
        bench.send(with_id(count(2))).await,
        CommandResult::CommandIdConflict
    );
    // Of another kind, under the id of a request: admitted, refused, refused by the filter.
    let too_much = charge(&key, 5_000, "k-3");
    bench.reserve(too_much.clone()).await;
    let by_filter = refusal(key.key.digest, Some(1));
    let recorded = bench
        .send(Command::Refused(Box::new(by_filter.clone())))
        .await;
    assert_eq!(recorded, CommandResult::Recorded);
    for taken in [first.id, too_much.id, by_filter.id] {
        let admitted = Admitted {
            hold: first.id,
            attempt: 1,
            forward_within_ms: 0,
        };
        let outcome = Outcome {
            id: taken,
            ..charged(&admitted, "ch_1", 500)
        };
        let release = Release {
            id: taken,
            reserve: first.id,
            cause: ReleaseCause::NoAnswer,
        };
        for command in [
            Command::Outcome(Box::new(outcome)),
            Command::Release(release),
            Command::RefusalCount(RefusalCount {
                id: taken,
                reason: CountedReason::NotInspectable,
                listener: String::new(),
                count: 1,
            }),
        ] {
            let result = bench.send(command).await;
            assert_eq!(result, CommandResult::CommandIdConflict);
        }
    }
    assert_eq!(bench.parts(&key).await, [1_500, 500, 0, 0]);
    let figures = bench.ledger.figures().await;
    assert_eq!(figures.alarms["command_id_conflict"], 11);
}

#[tokio::test]
async fn an_unreadable_command_does_not_stop_the_others() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let good = Command::Reserve(Box::new(charge(&key, 500, "k-1")));
    let id = fresh();
    let raw = |text: String| Received::read(&RawValue::from_string(text).unwrap());
    let zero_count = Command::RefusalCount(RefusalCount {
        id,
        reason: CountedReason::NotInspectable,
        listener: String::new(),
        count: 0,
    });
    let answers = bench
        .ledger
        .execute(vec![
            raw(format!(
                r#"{{"reserve":{{"id":"{id}","surprise":"sk_test_sandbox_x"}}}}"#
            )),
            raw("17".to_owned()),
            received(&zero_count),
            received(&good),
        ])
        .await
        .unwrap();
    let ids: Vec<_> = answers.iter().map(|answer| answer.id).collect();
    assert_eq!(ids, [Some(id), None, Some(id), Some(good.id())]);
    for answer in &answers[..3] {
        let CommandResult::InvalidCommand(message) = &answer.result else {
            panic!("{answer:?}")
        };
        assert!(!message.contains("sk_test"), "{message}");
    }
    assert!(matches!(answers[3].result, CommandResult::Admitted(_)));
}

#[tokio::test]
async fn an_outcome_with_an_endless_id_is_cut_and_not_lost() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let admitted = bench.admitted(charge(&key, 500, "k-1")).await;
    let endless = "é".repeat(5_000);
    let outcome = Outcome {
        vendor_request_id: Some(endless),
        ..charged(&admitted, "ch_1", 500)
    };
    bench.outcome(outcome).await;
    assert_eq!(bench.parts(&key).await, [1_500, 0, 500, 0]);
    let entry = bench.entry(admitted.hold).await;
    assert_eq!(entry.vendor_request_id.unwrap().len(), 1_024);
}

#[tokio::test]
async fn figures_of_a_closed_ledger_are_the_last_ones() {
    let bench = Bench::new();
    bench.key(daily(2_000)).await;
    let figures = bench.ledger.figures().await;
    assert_eq!((figures.keys, figures.events), (1, 1));
    let other = bench.ledger.clone();
    bench.ledger.close().await;
    let after = other.figures().await;
    assert_eq!((after.keys, after.events), (1, 1));
}

fn refusal(key_digest: Digest, grant_version: Option<u64>) -> Refused {
    Refused {
        id: fresh(),
        key_digest,
        grant_version,
        code: RefusalCode::ParameterNotAllowed,
        param: Some("customer".to_owned()),
        request: Arc::new(facts("refunds.create")),
        amount: Some(cents(5)),
        idempotency_key: Some("k-r".to_owned()),
    }
}

#[tokio::test]
async fn what_the_filter_refused_is_on_record_unless_the_grant_has_changed() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let send = async |command: Refused| bench.send(Command::Refused(Box::new(command))).await;
    let digest = key.key.digest;
    assert_eq!(
        send(refusal(digest, Some(1))).await,
        CommandResult::Recorded
    );
    assert_eq!(send(refusal(digest, None)).await, CommandResult::Recorded);
    let query = || AuditQuery {
        idempotency_key: Some("k-r".to_owned()),
        ..AuditQuery::default()
    };
    let entries = bench.entries(query()).await;
    assert_eq!(entries.len(), 2);
    let entry = &entries[0];
    assert_eq!(entry.verdict, EntryVerdict::Refused);
    assert_eq!(entry.reason.as_deref(), Some("parameter_not_allowed"));
    assert_eq!(entry.param.as_deref(), Some("customer"));
    assert_eq!((entry.outcome, entry.amount), (None, Some(5)));
    assert_eq!(entry.params["customer"], "cus_1");
    let label = KeyChange {
        label: Some("renamed".to_owned()),
        ..KeyChange::default()
    };
    bench.ledger.change(&key.key.key_id, label).await.unwrap();
    let CommandResult::Grant(grant) = send(refusal(digest, Some(1))).await else {
        panic!("no grant")
    };
    assert_eq!(grant.version, 2);
    bench.ledger.revoke(&key.key.key_id).await.unwrap();
    let revoked = CommandResult::Refused(Refusal::plain(RefusalCode::VaultKeyRevoked));
    assert_eq!(send(refusal(digest, Some(2))).await, revoked);
    assert_eq!(
        bench.entries(query()).await[0].reason.as_deref(),
        Some("vault_key_revoked")
    );
    let unknown = CommandResult::Refused(Refusal::plain(RefusalCode::VaultKeyInvalid));
    assert_eq!(send(refusal(Digest::of(b"?"), Some(2))).await, unknown);
    assert_eq!(bench.entries(query()).await.len(), 3, "only counted");
}

#[tokio::test]
async fn refusals_without_a_key_are_counted_and_a_real_secret_is_alarmed() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let events = bench.ledger.figures().await.events;
    for _ in 0..5 {
        let unknown = Reserve {
            key_digest: Digest::of(b"nobody's"),
            ..charge(&key, 1, "k-1")
        };
        let result = bench.reserve(unknown).await;
        assert_eq!(
            result,
            CommandResult::Refused(Refusal::plain(RefusalCode::VaultKeyInvalid))
        );
    }
    assert!(bench.ledger.figures().await.events <= events + 1);
    bench.hand.advance_ms(60_000);
    bench
        .eventually("the count is an event", || async {
            bench.ledger.figures().await.events > events
        })
        .await;
    let count = |reason| {
        Command::RefusalCount(RefusalCount {
            id: fresh(),
            reason,
            listener: "stripe".to_owned(),
            count: 7,
        })
    };
    bench.send(count(CountedReason::RealCredential)).await;
    bench.send(count(CountedReason::HostNotAllowed)).await;
    let figures = bench.ledger.figures().await;
    assert_eq!(figures.refusals["vault_key_invalid"], 5);
    assert_eq!(figures.refusals["real_credential"], 7);
    assert_eq!(figures.refusals["host_not_allowed"], 7);
    assert_eq!(figures.alarms["real_credential"], 1);
    assert!(bench.entries(AuditQuery::default()).await.is_empty());
}

#[tokio::test]
async fn words_about_things_that_are_not_on_record_are_alarmed() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let nowhere = Admitted {
        hold: fresh(),
        attempt: 1,
        forward_within_ms: 0,
    };
    bench.outcome(charged(&nowhere, "ch_x", 5)).await;
    let first = bench.admitted(charge(&key, 500, "k-1")).await;
    let later = Admitted {
        attempt: 2,
        ..first.clone()
    };
    bench
        .outcome(outcome_of(&later, AttemptOutcome::NotExecuted))
        .await;
    assert_eq!(bench.parts(&key).await, [1_500, 500, 0, 0], "no evidence");
    bench.outcome(charged(&later, "ch_1", 500)).await;
    assert_eq!(bench.parts(&key).await, [1_500, 0, 500, 0], "evidence");
    let refused = bench.reserve(charge(&key, 5_000, "k-2")).await;
    assert!(matches!(refused, CommandResult::Refused(_)));
    let figures = bench.ledger.figures().await;
    assert_eq!(figures.alarms["outcome_without_hold"], 1);
    assert_eq!(figures.alarms["outcome_without_attempt"], 2);
}

#[tokio::test]
async fn a_vendors_replay_of_what_we_never_sent_settles_once_and_is_alarmed() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let first = bench.admitted(charge(&key, 500, "k-1")).await;
    bench.release(first.hold).await;
    let second = bench.admitted(charge(&key, 500, "k-1")).await;
    let replayed = Outcome {
        replayed_by_vendor: true,
        ..charged(&second, "ch_1", 500)
    };
    bench.outcome(replayed).await;
    assert_eq!(bench.parts(&key).await, [1_500, 0, 500, 0]);
    assert_eq!(
        bench.entry(second.hold).await.alarms,
        ["replayed_by_vendor"],
        "the first one was never forwarded"
    );
}

#[tokio::test]
async fn command_ids_are_forgotten_after_their_time_and_holds_are_not() {
    let bench = Bench::with(|options| options.commands_kept_ms = HOUR);
    let key = bench.key(Caps::default()).await;
    let old = charge(&key, 1, "k-1");
    let admitted = bench.admitted(old.clone()).await;
    let outcome = charged(&admitted, "ch_1", 1);
    bench.outcome(outcome.clone()).await;
    bench.hand.advance_ms(HOUR + 1);
    for number in 0..8 {
        let admitted = bench
            .admitted(charge(&key, 1, &format!("n-{number}")))
            .await;
        bench.outcome(charged(&admitted, "ch_n", 1)).await;
    }
    let events = bench.ledger.figures().await.events;
    bench.outcome(outcome).await;
    assert_eq!(
        bench.ledger.figures().await.events,
        events + 1,
        "forgotten, so it is executed again, to no effect"
    );
    let again = bench.reserve(old).await;
    assert_eq!(
        again,
        CommandResult::Admitted(admitted),
        "a hold keeps its answer"
    );
}

#[tokio::test]
async fn a_clock_that_fell_behind_stops_commands_until_it_is_right() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    bench.hand.advance_ms(-60_000);
    assert_eq!(bench.ledger.readiness(), Readiness::Ready);
    let admitted = bench.admitted(charge(&key, 1, "k-1")).await;
    assert_eq!(
        bench.entry(admitted.hold).await.time.as_millisecond(),
        NOON,
        "time never goes backwards in the audit"
    );
    bench.hand.advance_ms(-1);
    assert_eq!(
        bench.ledger.readiness(),
        Readiness::ClockBehind { behind_ms: 60_001 }
    );
    let reserve = Command::Reserve(Box::new(charge(&key, 1, "k-2")));
    assert_eq!(
        bench.try_send(reserve.clone()).await,
        Err(Unavailable::ClockBehind)
    );
    let bench = bench.reopened().await;
    assert_eq!(
        bench.try_send(reserve.clone()).await,
        Err(Unavailable::ClockBehind)
    );
    bench.hand.advance_ms(1);
    assert_eq!(bench.ledger.readiness(), Readiness::Ready);
    assert!(matches!(
        bench.send(reserve).await,
        CommandResult::Admitted(_)
    ));
}

#[tokio::test]
async fn a_closed_ledger_says_so() {
    let bench = Bench::new();
    let key = bench.key(daily(2_000)).await;
    let other = bench.ledger.clone();
    bench.ledger.close().await;
    assert_eq!(other.readiness(), Readiness::Closing);
    let command = Command::Reserve(Box::new(charge(&key, 1, "k-1")));
    assert_eq!(
        other.execute(vec![received(&command)]).await,
        Err(Unavailable::Closing)
    );
}
