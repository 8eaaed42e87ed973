//! Equal purchases under different idempotency keys.

use std::sync::Arc;

use keybrake_contract::digest::Digest;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::*;

use super::bench::*;
use crate::model::{BudgetChange, Caps, DuplicateRule, IssuedKey, KeyChange};

const MINUTE: i64 = 60_000;

fn rule(seconds: u32) -> Option<DuplicateRule> {
    Some(DuplicateRule {
        fields: vec!["customer".to_owned(), "amount".to_owned()],
        window_seconds: seconds,
    })
}

fn capped() -> Caps {
    daily(100_000)
}

/// A charge that is this purchase, with a request id of its own.
fn purchase(key: &IssuedKey, what: &str, idempotency_key: &str) -> Reserve {
    Reserve {
        purchases: vec![Digest::of(what.as_bytes())],
        request: Arc::new(RequestFacts {
            request_id: format!("req-{idempotency_key}"),
            ..facts("charges.create")
        }),
        ..charge(key, 10, idempotency_key)
    }
}

fn refusal(result: CommandResult) -> Refusal {
    match result {
        CommandResult::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn earlier(result: CommandResult) -> Option<String> {
    let refusal = refusal(result);
    assert_eq!(refusal.code, RefusalCode::PossibleDuplicate);
    refusal.earlier_request_id
}

async fn ruled(bench: &Bench, seconds: u32) -> IssuedKey {
    bench
        .key_like(capped(), |key| key.duplicates = rule(seconds))
        .await
}

#[tokio::test]
async fn an_equal_purchase_is_refused_within_the_window_and_names_the_first() {
    let bench = Bench::new();
    let key = ruled(&bench, 60).await;
    let first = bench.admitted(purchase(&key, "same", "k-1")).await;
    let second = purchase(&key, "same", "k-2");
    let told = bench.reserve(second.clone()).await;
    assert_eq!(bench.reserve(second).await, told, "repeated as it was");
    assert_eq!(earlier(told).as_deref(), Some("req-k-1"));
    assert_eq!(
        bench.parts(&key).await,
        [99_990, 10, 0, 0],
        "nothing was taken"
    );
    bench.admitted(purchase(&key, "other", "k-3")).await;
    bench.outcome(charged(&first, "ch_1", 10)).await;
    let again = bench.reserve(purchase(&key, "same", "k-1")).await;
    assert!(matches!(again, CommandResult::Replay(_)), "its own repeat");
    bench.hand.advance_ms(MINUTE - 1);
    earlier(bench.reserve(purchase(&key, "same", "k-4")).await);
    bench.hand.advance_ms(1);
    bench.admitted(purchase(&key, "same", "k-5")).await;
    assert_eq!(
        earlier(bench.reserve(purchase(&key, "same", "k-6")).await).as_deref(),
        Some("req-k-5")
    );
}

#[tokio::test]
async fn what_was_given_back_was_no_purchase_and_what_nobody_knows_was_one() {
    let bench = Bench::new();
    let key = ruled(&bench, 600).await;
    let reserve = purchase(&key, "a", "k-1");
    bench.admitted(reserve.clone()).await;
    bench.release(reserve.id).await;
    let declined = bench.admitted(purchase(&key, "a", "k-2")).await;
    bench
        .outcome(outcome_of(&declined, AttemptOutcome::DeclinedFinal))
        .await;
    let lost = bench.admitted(purchase(&key, "a", "k-3")).await;
    bench
        .outcome(outcome_of(&lost, AttemptOutcome::Indeterminate))
        .await;
    assert_eq!(
        earlier(bench.reserve(purchase(&key, "a", "k-4")).await).as_deref(),
        Some("req-k-3")
    );
    // A request of nothing is no purchase, and neither is one without an idempotency key the same as another.
    let free = || Reserve {
        cost: Cost::Nothing,
        purchases: Vec::new(),
        ..purchase(&key, "a", "k-5")
    };
    bench.admitted(free()).await;
    let nameless = || Reserve {
        idempotency: None,
        ..purchase(&key, "b", "none")
    };
    bench.admitted(nameless()).await;
    earlier(bench.reserve(nameless()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_equal_purchases_at_once_one_is_admitted() {
    let bench = Arc::new(Bench::new());
    bench
        .budget_like("b", None, capped(), |budget| budget.duplicates = rule(60))
        .await;
    let mut keys = Vec::new();
    for _ in 0..5 {
        let drawn = bench.key_like(capped(), |key| key.budget = Some("b".to_owned()));
        keys.push(Arc::new(drawn.await));
    }
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let (bench, key) = (Arc::clone(&bench), Arc::clone(&keys[number % 5]));
            tokio::spawn(async move {
                let reserve = purchase(&key, "same", &format!("k-{number}"));
                match bench.reserve(reserve).await {
                    CommandResult::Admitted(_) => 1,
                    refused => {
                        let refusal = refusal(refused);
                        assert_eq!(refusal.code, RefusalCode::PossibleDuplicate);
                        assert_eq!(refusal.budget.as_deref(), Some("b"));
                        0
                    }
                }
            })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += task.await.unwrap();
    }
    assert_eq!(admitted, 1);
}

#[tokio::test]
async fn a_rule_is_about_the_purchases_of_whose_it_is() {
    let bench = Bench::new();
    let one = ruled(&bench, 60).await;
    let two = ruled(&bench, 60).await;
    bench.admitted(purchase(&one, "same", "k-1")).await;
    bench.admitted(purchase(&two, "same", "k-2")).await;
    let refused = refusal(bench.reserve(purchase(&two, "same", "k-3")).await);
    assert_eq!(refused.budget, None);
}

#[tokio::test]
async fn filters_hear_of_every_change_of_a_rule() {
    let bench = Bench::new();
    bench.budget("root", None, capped()).await;
    bench
        .budget_like("leaf", Some("root"), capped(), |budget| {
            budget.duplicates = rule(60);
        })
        .await;
    let key = bench
        .key_like(capped(), |key| key.budget = Some("leaf".to_owned()))
        .await;
    let grant = async |version: Option<u64>, purchases: usize| {
        let reserve = Reserve {
            grant_version: version,
            purchases: vec![Digest::of(b"x"); purchases],
            ..charge(&key, 10, &format!("k-{version:?}-{purchases}"))
        };
        match bench.reserve(reserve).await {
            CommandResult::Grant(grant) => Some(*grant),
            CommandResult::Refused(_) | CommandResult::Admitted(_) => None,
            other => panic!("{other:?}"),
        }
    };
    let first = grant(None, 0).await.unwrap();
    assert_eq!(first.duplicate_fields, [["customer", "amount"]]);
    assert!(grant(Some(first.version), 1).await.is_none());
    let other = DuplicateRule {
        fields: vec!["source".to_owned()],
        window_seconds: 5,
    };
    let with = |rule: Option<DuplicateRule>| BudgetChange {
        duplicates: Some(rule),
        ..BudgetChange::default()
    };
    bench.budget_change("root", with(Some(other.clone()))).await;
    let second = grant(Some(first.version), 1)
        .await
        .expect("the grant has changed");
    assert!(second.version > first.version);
    let both: [&[&str]; 2] = [&["customer", "amount"], &["source"]];
    assert_eq!(second.duplicate_fields, both);
    // The same rule again is no news; other caps neither.
    bench.budget_change("root", with(Some(other))).await;
    assert!(grant(Some(second.version), 2).await.is_none());
    // Away from the budgets: the version rises all the same, though nothing is added to it any more.
    let away = KeyChange {
        budget: Some(None),
        ..KeyChange::default()
    };
    bench.ledger.change(&key.key.key_id, away).await.unwrap();
    let third = grant(Some(second.version), 2)
        .await
        .expect("the grant has changed");
    assert!(third.version > second.version);
    assert!(third.duplicate_fields.is_empty());
}

#[tokio::test]
async fn a_purchase_without_its_digests_is_not_admitted() {
    let bench = Bench::new();
    let key = ruled(&bench, 60).await;
    for count in [0, 2, 10] {
        let reserve = Reserve {
            purchases: vec![Digest::of(b"x"); count],
            ..charge(&key, 10, "k-1")
        };
        let result = bench.reserve(reserve).await;
        assert!(
            matches!(result, CommandResult::InvalidCommand(_)),
            "{result:?}"
        );
    }
    assert_eq!(bench.parts(&key).await, [100_000, 0, 0, 0]);
}

#[tokio::test]
async fn purchases_are_forgotten_when_no_rule_asks_for_them_any_more() {
    let bench = Bench::new();
    let key = ruled(&bench, 60).await;
    for number in 0..10 {
        let name = format!("k-{number}");
        bench.admitted(purchase(&key, &name, &name)).await;
    }
    let left = || bench.place.sql("SELECT count(*) FROM purchases");
    assert_eq!(left(), "10");
    bench.hand.advance_ms(MINUTE);
    bench.eventually("forgotten", async || left() == "0").await;
}
