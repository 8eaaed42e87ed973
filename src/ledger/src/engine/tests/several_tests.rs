//! Several ledgers on one database: what one has decided holds for all at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::*;

use super::bench::*;
use crate::engine::Ledger;
use crate::model::{AuditQuery, BudgetChange, BudgetState, EntryOutcome, KeyChange};

async fn send(ledger: &Ledger, command: Command) -> CommandResult {
    let answers = ledger.execute(vec![received(&command)]).await.unwrap();
    answers.into_iter().next().unwrap().result
}

async fn reserve(ledger: &Ledger, reserve: Reserve) -> CommandResult {
    send(ledger, Command::Reserve(Box::new(reserve))).await
}

fn is_admitted(result: &CommandResult) -> bool {
    matches!(result, CommandResult::Admitted(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ledgers_admit_together_what_the_cap_allows_and_no_more() {
    let bench = Bench::new();
    let other = bench.another();
    let key = Arc::new(bench.key(daily(57 * 19)).await);
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let ledger = if number % 2 == 0 {
                &bench.ledger
            } else {
                &other
            }
            .clone();
            let charge = charge(&key, 19, &format!("k-{number}"));
            tokio::spawn(async move { reserve(&ledger, charge).await })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        match task.await.unwrap() {
            CommandResult::Admitted(_) => admitted += 1,
            CommandResult::Refused(refusal) => {
                assert_eq!(refusal.code, RefusalCode::SpendCapExceeded);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(admitted, 57);
    assert_eq!(bench.parts(&key).await, [0, 57 * 19, 0, 0]);
    let entries = bench.entries(AuditQuery::default()).await;
    assert_eq!(entries.len(), 200, "each request is on record once");
    other.close().await;
}

#[tokio::test]
async fn a_revoke_at_one_is_effective_on_the_very_next_request_at_the_other() {
    let bench = Bench::new();
    let other = bench.another();
    let key = bench.key(daily(2_000)).await;
    assert!(is_admitted(&reserve(&other, charge(&key, 5, "k-1")).await));
    assert!(is_admitted(&reserve(&other, charge(&key, 5, "k-2")).await));
    let label = KeyChange {
        label: Some("renamed".to_owned()),
        ..KeyChange::default()
    };
    bench.ledger.change(&key.key.key_id, label).await.unwrap();
    let stale = reserve(&other, charge(&key, 5, "k-3")).await;
    assert!(matches!(stale, CommandResult::Grant(_)), "{stale:?}");
    bench.ledger.revoke(&key.key.key_id).await.unwrap();
    let refused = CommandResult::Refused(Refusal::plain(RefusalCode::VaultKeyRevoked));
    assert_eq!(reserve(&other, charge(&key, 5, "k-4")).await, refused);
    other.close().await;
}

#[tokio::test]
async fn a_cap_that_is_lowered_at_one_binds_the_other() {
    let bench = Bench::new();
    let other = bench.another();
    let key = bench.key(daily(2_000)).await;
    assert!(is_admitted(
        &reserve(&other, charge(&key, 500, "k-1")).await
    ));
    let caps = KeyChange {
        caps: Some(daily(700)),
        ..KeyChange::default()
    };
    bench.ledger.change(&key.key.key_id, caps).await.unwrap();
    let with_new_grant = |amount, name: &str| Reserve {
        grant_version: Some(2),
        ..charge(&key, amount, name)
    };
    let above = reserve(&other, with_new_grant(201, "k-2")).await;
    assert!(matches!(above, CommandResult::Refused(_)), "{above:?}");
    assert!(is_admitted(
        &reserve(&other, with_new_grant(200, "k-3")).await
    ));
    assert_eq!(bench.parts(&key).await, [0, 700, 0, 0]);
    other.close().await;
}

#[tokio::test]
async fn a_command_answered_at_one_gets_the_same_answer_at_the_other() {
    let bench = Bench::new();
    let other = bench.another();
    let key = bench.key(daily(2_000)).await;
    let first = charge(&key, 500, "k-1");
    let admitted = bench.admitted(first.clone()).await;
    let settled = Command::Outcome(Box::new(charged(&admitted, "ch_1", 500)));
    let in_flight = Command::Reserve(Box::new(charge(&key, 500, "k-1")));
    let too_much = Command::Reserve(Box::new(charge(&key, 9_000, "k-9")));
    let commands = [
        Command::Reserve(Box::new(first)),
        in_flight,
        too_much,
        settled,
        Command::Reserve(Box::new(charge(&key, 500, "k-1"))),
        Command::Release(Release {
            id: fresh(),
            reserve: fresh(),
            cause: ReleaseCause::ClientGone,
        }),
    ];
    let batch = || commands.iter().map(received).collect::<Vec<_>>();
    let answers = bench.ledger.execute(batch()).await.unwrap();
    assert!(matches!(answers[1].result, CommandResult::InFlight));
    assert!(matches!(answers[4].result, CommandResult::Replay(_)));
    assert_eq!(other.execute(batch()).await.unwrap(), answers);
    assert_eq!(bench.ledger.execute(batch()).await.unwrap(), answers);
    assert_eq!(bench.parts(&key).await, [1_500, 0, 500, 0]);
    other.close().await;
}

#[tokio::test]
async fn a_command_again_is_known_also_when_another_ledger_has_written_since() {
    let bench = Bench::new();
    let other = bench.another();
    let key = bench.key(daily(2_000)).await;
    // No record leads to it: it has no idempotency key, or the key has gone to another request.
    let without_key = Reserve {
        idempotency: None,
        ..charge(&key, 300, "")
    };
    let declined = charge(&key, 500, "k-1");
    for first in [without_key, declined] {
        let admitted = bench.admitted(first.clone()).await;
        let outcome = outcome_of(&admitted, AttemptOutcome::DeclinedFinal);
        bench.outcome(outcome).await;
        if first.idempotency.is_some() {
            bench.admitted(charge(&key, 500, "k-1")).await;
        }
        // This ledger is alone and relies on its memory, until the other one writes.
        bench.admitted(charge(&key, 1, &first.id.to_string())).await;
        let elsewhere = charge(&key, 1, &format!("other-{}", first.id));
        assert!(is_admitted(&reserve(&other, elsewhere).await));
        let again = reserve(&bench.ledger, first).await;
        assert_eq!(again, CommandResult::Admitted(admitted));
    }
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_at_two_ledgers_is_one_execution() {
    let bench = Bench::new();
    let other = bench.another();
    let key = bench.key(daily(100_000)).await;
    for number in 0..20 {
        let name = format!("k-{number}");
        let (here, there) = tokio::join!(
            reserve(&bench.ledger, charge(&key, 5, &name)),
            reserve(&other, charge(&key, 5, &name))
        );
        let admitted = usize::from(is_admitted(&here)) + usize::from(is_admitted(&there));
        assert_eq!(admitted, 1, "{here:?} {there:?}");
        assert!(
            [&here, &there].contains(&&CommandResult::InFlight),
            "{here:?} {there:?}"
        );
    }
    assert_eq!(bench.parts(&key).await[1], 100);
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_at_one_and_its_late_reserve_at_the_other_leave_nothing_held() {
    let bench = Bench::new();
    let other = bench.another();
    let key = bench.key(daily(100_000)).await;
    for number in 0..20 {
        let late = charge(&key, 5, &format!("k-{number}"));
        let release = Command::Release(Release {
            id: fresh(),
            reserve: late.id,
            cause: ReleaseCause::NoAnswer,
        });
        let (released, reserved) =
            tokio::join!(send(&bench.ledger, release), reserve(&other, late.clone()));
        assert_eq!(released, CommandResult::Released);
        assert!(
            is_admitted(&reserved) || reserved == CommandResult::Cancelled,
            "{reserved:?}"
        );
        let again = reserve(&bench.ledger, late).await;
        assert_eq!(again, CommandResult::Cancelled);
    }
    assert_eq!(bench.parts(&key).await[1], 0);
    other.close().await;
}

#[tokio::test]
async fn what_is_overdue_is_swept_by_one_ledger_alone() {
    let bench = Bench::new();
    let other = bench.another();
    let key = bench.key(daily(100_000)).await;
    let mut holds = BTreeSet::new();
    for number in 0..30 {
        let ledger = if number % 2 == 0 {
            &bench.ledger
        } else {
            &other
        };
        let answer = reserve(ledger, charge(&key, 5, &format!("k-{number}"))).await;
        let CommandResult::Admitted(admitted) = answer else {
            panic!("{answer:?}")
        };
        holds.insert(admitted.hold.to_string());
    }
    bench.hand.advance_ms(HOUR);
    bench
        .eventually("all are unknown", || async {
            bench.parts(&key).await == [99_850, 0, 0, 150]
        })
        .await;
    let swept = bench
        .place
        .schema
        .sql("SELECT convert_from(body, 'UTF8') FROM events");
    let swept: Vec<String> = swept
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["event"] == "swept")
        .map(|event| event["hold"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(swept.len(), 30, "each once");
    assert_eq!(swept.into_iter().collect::<BTreeSet<_>>(), holds);
    let entries = bench.entries(AuditQuery::default()).await;
    assert!(
        entries
            .iter()
            .all(|entry| entry.outcome == Some(EntryOutcome::Unknown))
    );
    other.close().await;
}

#[tokio::test]
async fn requests_are_numbered_without_gaps_in_the_order_of_time_over_all_ledgers() {
    let bench = Bench::new();
    let other = bench.another();
    let key = bench.key(daily(100_000)).await;
    for number in 0..12 {
        let ledger = if number % 3 == 0 {
            &other
        } else {
            &bench.ledger
        };
        reserve(ledger, charge(&key, 5, &format!("k-{number}"))).await;
        // Never backwards, whichever clock is behind.
        bench
            .hand
            .advance_ms(if number % 2 == 0 { 40 } else { -30 });
    }
    let schema = &bench.place.schema;
    let odd = schema.sql(
        "SELECT count(*) FROM requests a JOIN requests b ON b.number = a.number + 1 WHERE b.at < a.at",
    );
    assert_eq!(odd, "0");
    assert_eq!(
        schema.sql("SELECT max(number), count(*) FROM requests"),
        "12|12"
    );
    other.close().await;
}

#[tokio::test]
async fn counts_of_keys_and_open_attempts_follow_what_others_do() {
    let bench = Bench::new();
    let other = bench.another();
    let key = bench.key(daily(2_000)).await;
    bench.admitted(charge(&key, 5, "k-1")).await;
    bench
        .eventually("the other counts them", || async {
            let figures = other.figures().await;
            (figures.keys, figures.open_attempts) == (1, 1)
        })
        .await;
    other.close().await;
}

#[tokio::test]
async fn a_chain_that_was_cut_off_is_not_gone_on_with() {
    let bench = Bench::new();
    bench.key(daily(5)).await;
    bench.key(daily(5)).await;
    let mut place = bench.place;
    place.is_damaged = true;
    bench.ledger.close().await;
    place.schema.sql("DELETE FROM events WHERE seq = 2");
    let opened = open(
        place.options(bench.folder.path()),
        &crate::clock::Clock::manual(NOON).0,
    );
    let why = opened.err().unwrap().to_string();
    assert!(
        why.contains("ends at event 1, its head is event 2"),
        "{why}"
    );
    assert!(verified(place.database()).broken.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_keys_of_one_budget_at_two_ledgers_spend_what_it_has_and_no_more() {
    let bench = Bench::new();
    let other = bench.another();
    bench.budget("company", None, daily(57 * 19)).await;
    bench
        .budget("team", Some("company"), daily(1_000_000))
        .await;
    let draws = |new: &mut crate::model::NewKey| new.budget = Some("team".to_owned());
    let keys = [
        Arc::new(bench.key_like(daily(1_000_000), draws).await),
        Arc::new(bench.key_like(daily(1_000_000), draws).await),
    ];
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let ledger = if number % 2 == 0 {
                &bench.ledger
            } else {
                &other
            }
            .clone();
            let charge = charge(&keys[number % 2], 19, &format!("k-{number}"));
            tokio::spawn(async move { reserve(&ledger, charge).await })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += usize::from(is_admitted(&task.await.unwrap()));
    }
    assert_eq!(admitted, 57);
    assert_eq!(bench.budget_parts("company").await, [0, 57 * 19, 0, 0]);
    let frozen = BudgetChange {
        state: Some(BudgetState::Frozen),
        ..BudgetChange::default()
    };
    bench.budget_change("company", frozen).await;
    let late = reserve(&other, charge(&keys[1], 1, "late")).await;
    let CommandResult::Refused(refusal) = late else {
        panic!("{late:?}")
    };
    assert_eq!(refusal.code, RefusalCode::BudgetFrozen);
    other.close().await;
}
