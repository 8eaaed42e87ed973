//! Caps: exact under any concurrency, windows, objects, overruns.

use std::sync::Arc;

use keybrake_contract::money::{Currency, Micros, Minor};
use keybrake_contract::refusal::{CapLeft, Refusal, RefusalCode};
use keybrake_contract::wire::*;

use super::bench::*;
use crate::model::Caps;

fn cap_left(result: CommandResult) -> CapLeft {
    match result {
        CommandResult::Refused(Refusal {
            code: RefusalCode::SpendCapExceeded,
            cap: Some(cap),
            ..
        }) => cap,
        other => panic!("not refused by a cap: {other:?}"),
    }
}

fn code(result: CommandResult) -> RefusalCode {
    match result {
        CommandResult::Refused(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_at_once_exactly_the_fifty_seven_that_fit_are_admitted() {
    let bench = Arc::new(Bench::new());
    let key = Arc::new(bench.key(daily(57 * 999 + 998)).await);
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let (bench, key) = (Arc::clone(&bench), Arc::clone(&key));
            tokio::spawn(async move {
                let reserve = charge(&key, 999, &format!("k-{number}"));
                match bench.reserve(reserve).await {
                    CommandResult::Admitted(admitted) => {
                        let object = format!("ch_{number}");
                        bench.outcome(charged(&admitted, &object, 999)).await;
                        1
                    }
                    refused => {
                        assert_eq!(cap_left(refused).left, Some(usd(998)));
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
    assert_eq!(bench.parts(&key).await, [998, 0, 57 * 999, 0]);
    let figures = bench.ledger.figures().await;
    assert_eq!(figures.commands[&("reserve", "admitted")], 57);
    assert_eq!(figures.commands[&("reserve", "refused")], 143);
    assert_eq!(figures.refusals["spend_cap_exceeded"], 143);
}

#[tokio::test]
async fn exactly_the_cap_is_allowed_and_one_micro_more_is_not() {
    let bench = Bench::new();
    let caps = Caps {
        daily: usd(999)
            .checked_add(usd(1))
            .and_then(|sum| sum.checked_sub(Micros::new(1))),
        ..Caps::default()
    };
    let key = bench.key(caps).await;
    let left = cap_left(bench.reserve(charge(&key, 1_000, "k-1")).await);
    assert_eq!(
        left,
        CapLeft {
            limit: "daily_usd_cap".to_owned(),
            asked: Some(usd(1_000)),
            left: caps.daily,
            resets_at: Some("2026-11-24T00:00:00Z".to_owned()),
        }
    );
    let key = bench.key(daily(1_000)).await;
    bench.admitted(charge(&key, 1_000, "k-2")).await;
    assert_eq!(bench.parts(&key).await, [0, 1_000, 0, 0]);
    let next = cap_left(bench.reserve(charge(&key, 1, "k-3")).await);
    assert_eq!(next.left, Some(Micros::ZERO));
    bench.admitted(charge(&key, 0, "k-4")).await;
}

#[tokio::test]
async fn every_cap_is_debited_or_none() {
    let bench = Bench::new();
    let caps = Caps {
        daily: Some(usd(1_000)),
        monthly: Some(usd(1_500)),
        lifetime: Some(usd(1_200)),
        ..Caps::default()
    };
    let key = bench.key(caps).await;
    let first = bench.admitted(charge(&key, 900, "k-1")).await;
    bench.outcome(charged(&first, "ch_1", 900)).await;
    // The next day the day and the month have room, the lifetime has not: the first two are given back.
    bench.hand.advance_ms(24 * HOUR);
    let left = cap_left(bench.reserve(charge(&key, 400, "k-2")).await);
    assert_eq!(
        (left.limit.as_str(), left.left),
        ("lifetime_usd_cap", Some(usd(300)))
    );
    assert_eq!(left.resets_at, None);
    let free: Vec<_> = bench
        .balances(&key)
        .await
        .iter()
        .map(|one| one.free)
        .collect();
    assert_eq!(free, [usd(1_000), usd(600), usd(300)]);
    let second = bench.admitted(charge(&key, 300, "k-3")).await;
    let parts: Vec<_> = bench
        .balances(&key)
        .await
        .iter()
        .map(|one| (one.window.clone(), one.free, one.held, one.settled))
        .collect();
    assert_eq!(
        parts,
        [
            ("day:2026-11-24".to_owned(), usd(700), usd(300), usd(0)),
            ("month:2026-11".to_owned(), usd(300), usd(300), usd(900)),
            ("lifetime".to_owned(), usd(0), usd(300), usd(900)),
        ]
    );
    bench.release(second.hold).await;
    let free: Vec<_> = bench
        .balances(&key)
        .await
        .iter()
        .map(|one| one.free)
        .collect();
    assert_eq!(free, [usd(1_000), usd(600), usd(300)]);
}

#[tokio::test]
async fn a_hold_is_settled_in_the_window_in_which_it_was_reserved() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    bench.hand.advance_ms(12 * HOUR - 1);
    let late = bench.admitted(charge(&key, 999, "k-1")).await;
    assert_eq!(bench.parts(&key).await, [1, 999, 0, 0]);
    bench.hand.advance_ms(1);
    assert_eq!(bench.parts(&key).await, [1_000, 0, 0, 0], "a new day");
    bench.admitted(charge(&key, 600, "k-2")).await;
    bench.outcome(charged(&late, "ch_1", 999)).await;
    assert_eq!(
        bench.parts(&key).await,
        [400, 600, 0, 0],
        "the old day's business"
    );
    bench.hand.advance_ms(-1);
    assert_eq!(bench.parts(&key).await, [1, 0, 999, 0]);
}

#[tokio::test]
async fn per_request_is_a_comparison_and_max_requests_counts_admitted_ones() {
    let bench = Bench::new();
    let caps = Caps {
        per_request: Some(usd(500)),
        daily: Some(usd(10_000)),
        max_requests: Some(3),
        ..Caps::default()
    };
    let key = bench.key(caps).await;
    let left = cap_left(bench.reserve(charge(&key, 501, "k-1")).await);
    assert_eq!(
        (left.limit.as_str(), left.asked, left.left),
        ("per_request_usd_cap", Some(usd(501)), Some(usd(500)))
    );
    let first = bench.admitted(charge(&key, 500, "k-1")).await;
    bench
        .outcome(outcome_of(&first, AttemptOutcome::Indeterminate))
        .await;
    let again = bench.admitted(charge(&key, 500, "k-1")).await;
    assert_eq!(again.attempt, 2, "a repeat is not another request");
    bench.outcome(charged(&again, "ch_1", 500)).await;
    bench.admitted(read(&key)).await;
    let third = bench.admitted(charge(&key, 100, "k-3")).await;
    bench.release(third.hold).await;
    let left = cap_left(bench.reserve(charge(&key, 100, "k-4")).await);
    assert_eq!(left.limit, "max_requests");
    assert_eq!(bench.parts(&key).await, [9_500, 0, 500, 0], "given back");
    assert_eq!(
        cap_left(bench.reserve(read(&key)).await).limit,
        "max_requests"
    );
    let replay = bench.reserve(charge(&key, 500, "k-1")).await;
    assert!(matches!(replay, CommandResult::Replay(_)), "{replay:?}");
}

#[tokio::test]
async fn more_than_the_hold_is_debited_in_full_and_below_zero_nothing_is_admitted() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    let first = bench.admitted(charge(&key, 900, "k-1")).await;
    bench.outcome(charged(&first, "ch_1", 950)).await;
    assert_eq!(bench.parts(&key).await, [50, 0, 950, 0]);
    assert_eq!(bench.entry(first.hold).await.alarms, ["amount_above_hold"]);
    let second = bench.admitted(charge(&key, 50, "k-2")).await;
    bench.outcome(charged(&second, "ch_2", 80)).await;
    assert_eq!(bench.parts(&key).await, [-30, 0, 1_030, 0]);
    let entry = bench.entry(second.hold).await;
    assert_eq!(entry.alarms, ["amount_above_hold", "cap_overrun"]);
    assert_eq!(entry.cost_usd.as_deref(), Some("0.800000"));
    for reserve in [charge(&key, 0, "k-3"), read(&key)] {
        assert_eq!(cap_left(bench.reserve(reserve).await).left, Some(usd(-30)));
    }
    let figures = bench.ledger.figures().await;
    assert_eq!(figures.alarms["cap_overrun"], 1);
    assert_eq!(figures.alarms["amount_above_hold"], 2);
    // Less than the hold gives the rest back; an amount beyond counting does not stop the ledger.
    let key = bench.key(daily(1_000)).await;
    let third = bench.admitted(charge(&key, 900, "k-4")).await;
    bench.outcome(charged(&third, "ch_3", 300)).await;
    assert_eq!(bench.parts(&key).await, [700, 0, 300, 0]);
    let fourth = bench.admitted(charge(&key, 700, "k-5")).await;
    bench.outcome(charged(&fourth, "ch_4", u64::MAX)).await;
    let free = bench.balances(&key).await[0].free;
    assert!(free < usd(-100_000_000_000));
}

#[tokio::test]
async fn a_cost_that_cannot_be_known_needs_a_worst_case_and_a_currency_a_rate() {
    let bench = Bench::new();
    let key = bench.key(daily(10_000)).await;
    let euro = |key| Reserve {
        cost: Cost::Amount(Minor {
            amount: 100,
            currency: Currency::parse("eur").unwrap(),
        }),
        ..charge(key, 100, "k-1")
    };
    let blind = |key| Reserve {
        cost: Cost::Unknown,
        ..charge(key, 100, "k-2")
    };
    for reserve in [euro(&key), blind(&key)] {
        assert_eq!(
            code(bench.reserve(reserve).await),
            RefusalCode::AmountUnknown
        );
    }
    let beyond = Reserve {
        cost: Cost::Amount(cents(u64::MAX)),
        ..charge(&key, 1, "k-3")
    };
    assert_eq!(cap_left(bench.reserve(beyond).await).limit, "daily_usd_cap");
    let worst = bench
        .key_like(daily(10_000), |key| key.worst_case = Some(usd(4_000)))
        .await;
    // A hundred cents of a euro or a million: who has no rate cannot tell.
    let refused = bench.reserve(euro(&worst)).await;
    assert_eq!(code(refused), RefusalCode::AmountUnknown);
    bench.admitted(blind(&worst)).await;
    assert_eq!(bench.parts(&worst).await, [6_000, 4_000, 0, 0]);
    let uncapped = bench.key(Caps::default()).await;
    let euro = Reserve {
        idempotency: None,
        ..euro(&uncapped)
    };
    let admitted = bench.admitted(euro).await;
    let entry = bench.entry(admitted.hold).await;
    assert_eq!((entry.amount, entry.cost_usd), (Some(100), None));
}

#[tokio::test]
async fn what_a_vendor_takes_for_a_write_that_was_to_cost_nothing_is_counted_by_every_cap() {
    let bench = Bench::new();
    let caps = Caps {
        daily: Some(usd(100)),
        monthly: Some(usd(200)),
        lifetime: Some(usd(300)),
        ..Caps::default()
    };
    bench.budget("july", None, caps).await;
    let key = bench
        .key_like(caps, |key| key.budget = Some("july".to_owned()))
        .await;
    let free = Reserve {
        cost: Cost::Nothing,
        ..charge(&key, 0, "k-1")
    };
    let admitted = bench.admitted(free).await;
    bench.outcome(charged(&admitted, "ch_1", 60)).await;
    let left = [40, 140, 240].map(|free| [free, 0, 60, 0]);
    let of_key: Vec<_> = bench.balances(&key).await;
    let of_key: Vec<_> = of_key.iter().map(|one| one.free).collect();
    assert_eq!(of_key, [40, 140, 240].map(usd));
    assert_eq!(bench.all_budget_parts("july").await, left);
    let refused = bench.reserve(charge(&key, 41, "k-2")).await;
    assert!(matches!(refused, CommandResult::Refused(_)), "{refused:?}");
    let entry = bench.entry(admitted.hold).await;
    assert_eq!(entry.alarms, ["amount_above_hold"]);
}
