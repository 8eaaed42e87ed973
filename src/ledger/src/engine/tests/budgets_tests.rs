//! Budgets: shared caps over a tree, all or none; states; brakes; time zones.

use std::sync::Arc;

use keybrake_contract::refusal::{CapLeft, Refusal, RefusalCode};
use keybrake_contract::wire::*;

use super::bench::*;
use crate::engine::{BudgetError, ChangeError, IssueError};
use crate::model::{
    AuditQuery, BudgetChange, BudgetState, Caps, IssuedKey, KeyChange, KeyFilter, Rolling, TripOn,
};

fn lifetime(cents: i64) -> Caps {
    Caps {
        lifetime: Some(usd(cents)),
        ..Caps::default()
    }
}

fn refusal(result: CommandResult) -> Refusal {
    match result {
        CommandResult::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn cap(refusal: &Refusal) -> &CapLeft {
    assert_eq!(refusal.code, RefusalCode::SpendCapExceeded);
    refusal.cap.as_ref().unwrap()
}

async fn drawing(bench: &Bench, budget: &str, caps: Caps) -> IssuedKey {
    bench
        .key_like(caps, |key| key.budget = Some(budget.to_owned()))
        .await
}

fn set(state: BudgetState) -> BudgetChange {
    BudgetChange {
        state: Some(state),
        ..BudgetChange::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_share_one_cap_exactly() {
    let bench = Arc::new(Bench::new());
    bench.budget("year", None, lifetime(1_000_000)).await;
    bench
        .budget("july", Some("year"), lifetime(57 * 999 + 998))
        .await;
    let mut keys = Vec::new();
    for _ in 0..10 {
        keys.push(Arc::new(drawing(&bench, "july", Caps::default()).await));
    }
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let (bench, key) = (Arc::clone(&bench), Arc::clone(&keys[number % 10]));
            tokio::spawn(async move {
                match bench
                    .reserve(charge(&key, 999, &format!("k-{number}")))
                    .await
                {
                    CommandResult::Admitted(admitted) => {
                        let object = format!("ch_{number}");
                        bench.outcome(charged(&admitted, &object, 999)).await;
                        1
                    }
                    refused => {
                        let refused = refusal(refused);
                        assert_eq!(refused.budget.as_deref(), Some("july"));
                        assert_eq!(cap(&refused).left, Some(usd(998)));
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
    assert_eq!(admitted, 57);
    assert_eq!(bench.budget_parts("july").await, [998, 0, 57 * 999, 0]);
    let left = 1_000_000 - 57 * 999;
    assert_eq!(bench.budget_parts("year").await, [left, 0, 57 * 999, 0]);
}

#[tokio::test]
async fn a_debit_takes_from_the_key_and_every_budget_or_from_none() {
    let bench = Bench::new();
    bench.budget("root", None, lifetime(1_000)).await;
    bench.budget("mid", Some("root"), lifetime(5_000)).await;
    let leaf = Caps {
        rolling: Some(Rolling {
            cap: usd(5_000),
            hours: 1,
        }),
        ..lifetime(5_000)
    };
    bench.budget("leaf", Some("mid"), leaf).await;
    let key = drawing(&bench, "leaf", lifetime(5_000)).await;
    bench.admitted(charge(&key, 700, "k-1")).await;
    let refused = refusal(bench.reserve(charge(&key, 301, "k-2")).await);
    assert_eq!(
        refused.budget.as_deref(),
        Some("root"),
        "the subject is named"
    );
    assert_eq!(
        (cap(&refused).limit.as_str(), cap(&refused).left),
        ("lifetime_usd_cap", Some(usd(300)))
    );
    assert_eq!(bench.parts(&key).await, [4_300, 700, 0, 0]);
    for budget in ["leaf", "mid"] {
        for parts in bench.all_budget_parts(budget).await {
            assert_eq!(parts, [4_300, 700, 0, 0], "{budget}");
        }
    }
    assert_eq!(bench.budget_parts("root").await, [300, 700, 0, 0]);
    let exactly = bench.admitted(charge(&key, 300, "k-3")).await;
    assert_eq!(bench.budget_parts("root").await, [0, 1_000, 0, 0]);
    // What becomes of a hold, becomes of it everywhere.
    bench.outcome(charged(&exactly, "ch_1", 200)).await;
    for budget in ["leaf", "mid"] {
        for parts in bench.all_budget_parts(budget).await {
            assert_eq!(parts, [4_100, 700, 200, 0], "{budget}");
        }
    }
    assert_eq!(bench.budget_parts("root").await, [100, 700, 200, 0]);
    let own = drawing(&bench, "leaf", lifetime(50)).await;
    let refused = refusal(bench.reserve(charge(&own, 51, "k-4")).await);
    assert_eq!(refused.budget, None, "the key's own cap");
}

#[tokio::test]
async fn a_request_may_not_cost_more_than_any_subject_allows_for_one() {
    let bench = Bench::new();
    let one = Caps {
        per_request: Some(usd(100)),
        ..Caps::default()
    };
    bench.budget("small", None, one).await;
    let key = drawing(&bench, "small", lifetime(1_000)).await;
    bench.admitted(charge(&key, 100, "k-1")).await;
    let refused = refusal(bench.reserve(charge(&key, 101, "k-2")).await);
    assert_eq!(cap(&refused).limit, "per_request_usd_cap");
    assert_eq!(refused.budget.as_deref(), Some("small"));
    let open = drawing(&bench, "small", Caps::default()).await;
    let unknown = Reserve {
        cost: Cost::Unknown,
        ..charge(&open, 0, "k-3")
    };
    let refused = refusal(bench.reserve(unknown).await);
    assert_eq!(
        refused.code,
        RefusalCode::AmountUnknown,
        "capped by its budget, if not by itself"
    );
}

#[tokio::test]
async fn a_full_count_gives_back_what_the_budgets_gave() {
    let bench = Bench::new();
    let caps = Caps {
        daily: Some(usd(1_000)),
        rolling: Some(Rolling {
            cap: usd(1_000),
            hours: 2,
        }),
        ..Caps::default()
    };
    bench.budget("b", None, caps).await;
    let once = Caps {
        max_requests: Some(1),
        ..Caps::default()
    };
    let key = drawing(&bench, "b", once).await;
    bench.admitted(charge(&key, 10, "k-1")).await;
    let refused = refusal(bench.reserve(charge(&key, 10, "k-2")).await);
    assert_eq!(cap(&refused).limit, "max_requests");
    for parts in bench.all_budget_parts("b").await {
        assert_eq!(parts, [990, 10, 0, 0]);
    }
}

#[tokio::test]
async fn a_shut_budget_admits_nothing_and_still_gives_answers_again() {
    let bench = Bench::new();
    bench.budget("root", None, lifetime(10_000)).await;
    bench.budget("leaf", Some("root"), lifetime(10_000)).await;
    let key = drawing(&bench, "leaf", lifetime(10_000)).await;
    let elsewhere = bench.key(lifetime(10_000)).await;
    let done = bench.admitted(charge(&key, 10, "k-done")).await;
    bench.outcome(charged(&done, "ch_1", 10)).await;
    let lost = bench.admitted(charge(&key, 20, "k-lost")).await;
    let doubt = outcome_of(&lost, AttemptOutcome::Indeterminate);
    bench.outcome(doubt).await;
    bench.budget_change("root", set(BudgetState::Frozen)).await;
    for state in [BudgetState::Frozen, BudgetState::Closed] {
        bench.budget_change("root", set(state)).await;
        for reserve in [
            charge(&key, 1, "k-new"),
            read(&key),
            charge(&key, 20, "k-lost"),
        ] {
            let refused = refusal(bench.reserve(reserve).await);
            assert_eq!(refused.code, RefusalCode::BudgetFrozen);
            assert_eq!(refused.budget.as_deref(), Some("root"));
        }
        let again = bench.reserve(charge(&key, 10, "k-done")).await;
        assert!(matches!(again, CommandResult::Replay(_)), "{again:?}");
        // Also a key of another budget may not forward it again.
        let refused = refusal(bench.reserve(charge(&elsewhere, 20, "k-lost")).await);
        assert_eq!(refused.code, RefusalCode::BudgetFrozen);
    }
    assert_eq!(bench.budget_parts("root").await, [9_970, 0, 10, 20]);
    let closed = bench
        .ledger
        .change_budget("root", set(BudgetState::Open))
        .await;
    assert_eq!(closed.err(), Some(BudgetError::Closed), "for good");
}

#[tokio::test]
async fn an_opened_budget_goes_on_where_it_was() {
    let bench = Bench::new();
    bench.budget("b", None, lifetime(100)).await;
    let key = drawing(&bench, "b", lifetime(10_000)).await;
    let lost = bench.admitted(charge(&key, 20, "k-lost")).await;
    bench
        .outcome(outcome_of(&lost, AttemptOutcome::Indeterminate))
        .await;
    bench.budget_change("b", set(BudgetState::Frozen)).await;
    refusal(bench.reserve(charge(&key, 20, "k-lost")).await);
    bench.budget_change("b", set(BudgetState::Open)).await;
    let again = bench.admitted(charge(&key, 20, "k-lost")).await;
    assert_eq!((again.hold, again.attempt), (lost.hold, 2));
    assert_eq!(
        bench.budget_parts("b").await,
        [80, 0, 0, 20],
        "no second debit"
    );
}

#[tokio::test]
async fn a_brake_stops_every_key_below_until_it_is_opened_again() {
    let bench = Bench::new();
    bench.budget("quiet", None, lifetime(10_000)).await;
    bench
        .budget_like("fan-out", Some("quiet"), lifetime(10_000), |budget| {
            budget.trip_on = Some(TripOn {
                refusals: 3,
                within_seconds: 60,
            });
        })
        .await;
    bench
        .budget("branch", Some("fan-out"), lifetime(10_000))
        .await;
    let wrong = drawing(&bench, "branch", lifetime(5)).await;
    let sibling = drawing(&bench, "fan-out", lifetime(500)).await;
    let outside = drawing(&bench, "quiet", lifetime(500)).await;
    let fail = async |name: &str| refusal(bench.reserve(charge(&wrong, 6, name)).await).code;
    assert_eq!(fail("k-1").await, RefusalCode::SpendCapExceeded);
    // Too long ago when the third comes.
    bench.hand.advance_ms(60_000);
    assert_eq!(fail("k-2").await, RefusalCode::SpendCapExceeded);
    assert_eq!(fail("k-3").await, RefusalCode::SpendCapExceeded);
    bench.admitted(charge(&sibling, 1, "k-4")).await;
    bench.hand.advance_ms(59_999);
    assert_eq!(
        fail("k-5").await,
        RefusalCode::SpendCapExceeded,
        "the third in time"
    );
    for (key, name) in [(&sibling, "k-6"), (&wrong, "k-7")] {
        let refused = refusal(bench.reserve(charge(key, 1, name)).await);
        assert_eq!(refused.code, RefusalCode::BudgetTripped);
        assert_eq!(refused.budget.as_deref(), Some("fan-out"));
    }
    bench.admitted(charge(&outside, 1, "k-8")).await;
    let (budget, _) = bench.ledger.budget("fan-out").await.unwrap().unwrap();
    assert_eq!(budget.state, BudgetState::Tripped);
    assert_eq!(budget.tripped_at.unwrap().as_millisecond(), NOON + 119_999);
    let figures = bench.ledger.figures().await;
    assert_eq!(figures.alarms["budget_tripped"], 1, "once, and alarmed");
    let bench = bench.reopened().await;
    let refused = refusal(bench.reserve(charge(&sibling, 1, "k-9")).await);
    assert_eq!(
        refused.code,
        RefusalCode::BudgetTripped,
        "also after a restart"
    );
    bench.budget_change("fan-out", set(BudgetState::Open)).await;
    bench.admitted(charge(&sibling, 1, "k-10")).await;
    refusal(bench.reserve(charge(&wrong, 6, "k-11")).await);
    bench.admitted(charge(&sibling, 1, "k-12")).await;
    let events = bench.events();
    let told = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((told("budget_tripped"), told("budget_changed")), (1, 1));
}

#[tokio::test]
async fn only_refusals_that_say_something_trip_a_brake() {
    let bench = Bench::new();
    bench
        .budget_like("b", None, lifetime(10_000), |budget| {
            budget.trip_on = Some(TripOn {
                refusals: 2,
                within_seconds: 60,
            });
        })
        .await;
    let gone = drawing(&bench, "b", lifetime(500)).await;
    let key = drawing(&bench, "b", lifetime(500)).await;
    bench
        .ledger
        .revoke(&gone.key.key_id)
        .await
        .unwrap()
        .unwrap();
    bench.budget_change("b", set(BudgetState::Frozen)).await;
    for name in ["k-1", "k-2", "k-3"] {
        let refused = refusal(bench.reserve(charge(&key, 1, name)).await);
        assert_eq!(refused.code, RefusalCode::BudgetFrozen);
    }
    bench.budget_change("b", set(BudgetState::Open)).await;
    for name in ["k-4", "k-5", "k-6"] {
        let refused = refusal(bench.reserve(charge(&gone, 1, name)).await);
        assert_eq!(refused.code, RefusalCode::VaultKeyRevoked);
    }
    // What the filter refused counts as well.
    let by_filter = || {
        Command::Refused(Box::new(Refused {
            id: fresh(),
            key_digest: key.key.digest,
            grant_version: Some(1),
            code: RefusalCode::EndpointNotAllowed,
            param: None,
            request: Arc::new(facts("refunds.create")),
            amount: None,
            idempotency_key: None,
        }))
    };
    assert_eq!(bench.send(by_filter()).await, CommandResult::Recorded);
    bench.admitted(charge(&key, 1, "k-7")).await;
    let same = by_filter();
    assert_eq!(bench.send(same.clone()).await, CommandResult::Recorded);
    assert_eq!(bench.send(same).await, CommandResult::Recorded, "repeated");
    let refused = refusal(bench.reserve(charge(&key, 1, "k-8")).await);
    assert_eq!(refused.code, RefusalCode::BudgetTripped);
}

#[tokio::test]
async fn days_are_those_of_the_budgets_time_zone() {
    let bench = Bench::new();
    bench
        .budget_like("berlin", None, daily(100), |budget| {
            budget.time_zone = "Europe/Berlin".to_owned();
        })
        .await;
    let key = drawing(&bench, "berlin", lifetime(10_000)).await;
    let first = bench.admitted(charge(&key, 100, "k-1")).await;
    // 22:59:59.999 in UTC is a minute before midnight in Berlin.
    bench.hand.advance_ms(11 * HOUR - 1);
    let refused = refusal(bench.reserve(charge(&key, 1, "k-2")).await);
    assert_eq!(
        cap(&refused).resets_at.as_deref(),
        Some("2026-11-23T23:00:00Z")
    );
    bench.hand.advance_ms(1);
    bench.admitted(charge(&key, 99, "k-3")).await;
    assert_eq!(bench.budget_parts("berlin").await, [1, 99, 0, 0]);
    // The first one is settled in the window that it was reserved in.
    bench.outcome(charged(&first, "ch_1", 100)).await;
    assert_eq!(bench.budget_parts("berlin").await, [1, 99, 0, 0]);
}

#[tokio::test]
async fn the_tree_has_no_cycles_no_strangers_and_a_bound() {
    let bench = Bench::new();
    bench.budget("b-1", None, lifetime(5)).await;
    for depth in 2..=8 {
        let parent = format!("b-{}", depth - 1);
        bench
            .budget(&format!("b-{depth}"), Some(&parent), lifetime(5))
            .await;
    }
    let make = async |name: &str, parent: Option<&str>| {
        let new = new_budget(name, parent, lifetime(5));
        bench.ledger.create_budget(new).await.err()
    };
    assert_eq!(make("b-9", Some("b-8")).await, Some(BudgetError::TooDeep));
    assert_eq!(
        make("b-9", Some("none")).await,
        Some(BudgetError::UnknownParent)
    );
    assert_eq!(make("b-3", None).await, Some(BudgetError::NameTaken));
    let reparent = async |name: &str, parent: Option<&str>| {
        let change = BudgetChange {
            parent: Some(parent.map(str::to_owned)),
            ..BudgetChange::default()
        };
        bench.ledger.change_budget(name, change).await.err()
    };
    assert_eq!(reparent("b-2", Some("b-5")).await, Some(BudgetError::Cycle));
    assert_eq!(reparent("b-2", Some("b-2")).await, Some(BudgetError::Cycle));
    assert_eq!(
        reparent("b-5", Some("b-1")).await,
        Some(BudgetError::ParentFixed)
    );
    assert_eq!(reparent("b-5", None).await, Some(BudgetError::ParentFixed));
    assert_eq!(
        reparent("b-5", Some("none")).await,
        Some(BudgetError::UnknownParent)
    );
    assert_eq!(reparent("none", None).await, Some(BudgetError::NotFound));
    let (unchanged, _) = bench.ledger.budget("b-5").await.unwrap().unwrap();
    assert_eq!(
        (unchanged.version, unchanged.parent.as_deref()),
        (1, Some("b-4"))
    );
    assert_eq!(reparent("b-5", Some("b-4")).await, None, "the one it has");
    bench.budget_change("b-1", set(BudgetState::Closed)).await;
    assert_eq!(
        make("b-0", Some("b-1")).await,
        Some(BudgetError::ParentClosed)
    );
    let mut stranger = new_key(Caps::default(), NOON);
    stranger.budget = Some("none".to_owned());
    let fine = || {
        let mut key = new_key(Caps::default(), NOON);
        key.budget = Some("b-2".to_owned());
        key
    };
    let error = bench.ledger.issue(vec![fine(), stranger]).await.err();
    let (index, not_found) = (1, BudgetError::NotFound);
    assert_eq!(
        error,
        Some(IssueError::Budget {
            index,
            error: not_found
        })
    );
    assert_eq!(bench.ledger.figures().await.keys, 0, "all or none");
    let mut closed = fine();
    closed.budget = Some("b-1".to_owned());
    let error = bench.ledger.issue(vec![closed]).await.err();
    let (index, closed) = (0, BudgetError::Closed);
    assert_eq!(
        error,
        Some(IssueError::Budget {
            index,
            error: closed
        })
    );
}

#[tokio::test]
async fn a_key_that_changes_its_budget_leaves_behind_what_it_drew() {
    let bench = Bench::new();
    bench.budget("one", None, lifetime(1_000)).await;
    bench.budget("two", None, lifetime(1_000)).await;
    let mut key = drawing(&bench, "one", lifetime(5_000)).await;
    let first = bench.admitted(charge(&key, 100, "k-1")).await;
    let to = |budget: Option<&str>| KeyChange {
        budget: Some(budget.map(str::to_owned)),
        ..KeyChange::default()
    };
    let missing = bench.ledger.change(&key.key.key_id, to(Some("none"))).await;
    assert_eq!(
        missing.err(),
        Some(ChangeError::Budget(BudgetError::NotFound))
    );
    let (changed, _) = bench
        .ledger
        .change(&key.key.key_id, to(Some("two")))
        .await
        .unwrap();
    assert_eq!(changed.budget.as_deref(), Some("two"));
    key.key = changed;
    bench.admitted(charge(&key, 30, "k-2")).await;
    bench.outcome(charged(&first, "ch_1", 100)).await;
    assert_eq!(bench.budget_parts("one").await, [900, 0, 100, 0]);
    assert_eq!(bench.budget_parts("two").await, [970, 30, 0, 0]);
    let (changed, _) = bench
        .ledger
        .change(&key.key.key_id, to(None))
        .await
        .unwrap();
    assert_eq!(changed.budget, None);
    key.key = changed;
    bench.admitted(charge(&key, 5, "k-3")).await;
    assert_eq!(bench.budget_parts("two").await, [970, 30, 0, 0]);
}

#[tokio::test]
async fn a_new_cap_of_a_budget_finds_what_was_spent_below_it_before() {
    let bench = Bench::new();
    bench.budget("root", None, Caps::default()).await;
    bench.budget("leaf", Some("root"), lifetime(10_000)).await;
    let old = drawing(&bench, "leaf", lifetime(10_000)).await;
    let before = bench.admitted(charge(&old, 500, "k-0")).await;
    bench.outcome(charged(&before, "ch_0", 500)).await;
    bench.hand.advance_ms(24 * HOUR);
    let other = drawing(&bench, "root", lifetime(10_000)).await;
    let settled = bench.admitted(charge(&old, 30, "k-1")).await;
    bench.outcome(charged(&settled, "ch_1", 30)).await;
    bench.admitted(charge(&other, 4, "k-2")).await;
    let outside = bench.key(lifetime(100)).await;
    bench.admitted(charge(&outside, 9, "k-3")).await;
    let caps = Caps {
        daily: Some(usd(100)),
        rolling: Some(Rolling {
            cap: usd(50),
            hours: 24,
        }),
        ..lifetime(600)
    };
    let change = BudgetChange {
        caps: Some(caps),
        ..BudgetChange::default()
    };
    bench.budget_change("root", change).await;
    let [daily, rolling, lifetime] = bench.all_budget_parts("root").await[..] else {
        panic!("three caps")
    };
    assert_eq!(daily, [66, 4, 30, 0]);
    assert_eq!(lifetime, [66, 4, 530, 0]);
    assert_eq!(
        rolling,
        [-484, 4, 530, 0],
        "to the millisecond 24 hours ago"
    );
    let refused = refusal(bench.reserve(charge(&old, 1, "k-4")).await);
    assert_eq!(cap(&refused).limit, "rolling_usd_cap");
    // The last minute that counted it is over.
    bench.hand.advance_ms(60_000);
    bench.admitted(charge(&old, 16, "k-5")).await;
    refusal(bench.reserve(charge(&old, 1, "k-6")).await);
}

#[tokio::test]
async fn keys_are_listed_and_revoked_by_budget_and_those_below_it() {
    let bench = Bench::new();
    bench.budget("root", None, lifetime(100)).await;
    bench.budget("leaf", Some("root"), lifetime(100)).await;
    bench.budget("other", None, lifetime(100)).await;
    let keys = [
        drawing(&bench, "root", Caps::default()).await,
        drawing(&bench, "leaf", Caps::default()).await,
        drawing(&bench, "other", Caps::default()).await,
        bench.key(lifetime(100)).await,
    ];
    let count = async |budget: &str| {
        let filter = KeyFilter {
            budget: Some(budget.to_owned()),
            limit: 10,
            ..KeyFilter::default()
        };
        bench.ledger.keys(filter).await.unwrap().items.len()
    };
    assert_eq!(
        (
            count("root").await,
            count("leaf").await,
            count("none").await
        ),
        (2, 1, 0)
    );
    for (number, key) in keys.iter().enumerate() {
        bench.admitted(charge(key, 1, &format!("k-{number}"))).await;
    }
    let drew = async |budget: &str| {
        let query = AuditQuery {
            budget: Some(budget.to_owned()),
            ..AuditQuery::default()
        };
        let entries = bench.entries(query).await;
        entries
            .into_iter()
            .map(|entry| entry.budget.unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(drew("root").await, ["leaf", "root"]);
    assert_eq!(drew("other").await, ["other"]);
    assert_eq!(bench.ledger.revoke_by_budget("root").await, Ok(Some(2)));
    assert_eq!(bench.ledger.revoke_by_budget("root").await, Ok(Some(0)));
    assert_eq!(bench.ledger.revoke_by_budget("none").await, Ok(None));
    for (key, code) in [
        (&keys[0], true),
        (&keys[1], true),
        (&keys[2], false),
        (&keys[3], false),
    ] {
        let result = bench
            .reserve(charge(key, 1, &format!("again-{}", key.key.key_id)))
            .await;
        assert_eq!(matches!(result, CommandResult::Refused(_)), code);
    }
}

#[tokio::test]
async fn a_refusal_by_a_budget_is_repeated_as_it_was() {
    let bench = Bench::new();
    bench.budget("b", None, lifetime(10)).await;
    let key = drawing(&bench, "b", Caps::default()).await;
    let reserve = charge(&key, 11, "k-1");
    let first = bench.reserve(reserve.clone()).await;
    assert_eq!(bench.reserve(reserve).await, first);
    assert_eq!(refusal(first).budget.as_deref(), Some("b"));
}
