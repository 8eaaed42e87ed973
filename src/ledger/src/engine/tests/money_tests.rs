//! Caps: exact under any concurrency, windows, objects, overruns.

use std::sync::Arc;

use keybrake_contract::money::{Currency, Micros, Minor};
use keybrake_contract::refusal::{CapLeft, Refusal, RefusalCode};
use keybrake_contract::wire::*;

use super::bench::*;
use crate::model::{Caps, EntryOutcome, KeyChange};

fn cap_left(result: CommandResult) -> CapLeft {
    match result {
        CommandResult::Refused(Refusal {
            code: RefusalCode::SpendCapExceeded,
            cap: Some(cap),
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
async fn a_cost_that_cannot_be_known_needs_a_worst_case() {
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
    bench.admitted(euro(&worst)).await;
    bench.admitted(blind(&worst)).await;
    assert_eq!(bench.parts(&worst).await, [2_000, 8_000, 0, 0]);
    let uncapped = bench.key(Caps::default()).await;
    let euro = Reserve {
        idempotency: None,
        ..euro(&uncapped)
    };
    let admitted = bench.admitted(euro).await;
    let entry = bench.entry(admitted.hold).await;
    assert_eq!((entry.amount, entry.cost_usd), (Some(100), None));
}

/// Acts on an object.
fn on_object(
    key: &crate::model::IssuedKey,
    object: &str,
    amount: Option<u64>,
    id: &str,
) -> Reserve {
    Reserve {
        cost: Cost::OfObject(OfObject {
            object: object.to_owned(),
            amount,
            currency: None,
        }),
        ..charge(key, 0, id)
    }
}

#[tokio::test]
async fn a_refund_costs_what_its_known_object_says() {
    let bench = Bench::new();
    let key = bench.key(daily(10_000)).await;
    let intent = bench.admitted(charge(&key, 1_000, "k-1")).await;
    let paid = Outcome {
        charge_id: Some("ch_1".to_owned()),
        ..charged(&intent, "pi_1", 1_000)
    };
    bench.outcome(paid).await;
    // By the object's id or by the charge behind it.
    bench.admitted(on_object(&key, "pi_1", None, "r-1")).await;
    bench
        .admitted(on_object(&key, "ch_1", Some(300), "r-2"))
        .await;
    assert_eq!(bench.parts(&key).await, [10_000 - 2_300, 1_300, 1_000, 0]);
    let entry = bench.entry(intent.hold).await;
    assert_eq!(entry.stripe_charge_id.as_deref(), Some("ch_1"));
    let unknown = bench
        .reserve(on_object(&key, "ch_x", Some(300), "r-3"))
        .await;
    assert_eq!(code(unknown), RefusalCode::AmountUnknown);
    let mut elsewhere = on_object(&key, "ch_1", Some(300), "r-4");
    elsewhere.request.vendor_account = Some("acct_2".to_owned());
    assert_eq!(
        code(bench.reserve(elsewhere).await),
        RefusalCode::AmountUnknown
    );
    let single_currency = Reserve {
        cost: Cost::OfObject(OfObject {
            object: "ch_x".to_owned(),
            amount: Some(300),
            currency: Some(Currency::USD),
        }),
        ..charge(&key, 0, "r-5")
    };
    bench.admitted(single_currency).await;
}

#[tokio::test]
async fn what_is_done_with_an_open_object_debits_only_the_difference() {
    let bench = Bench::new();
    let key = bench.key(daily(10_000)).await;
    let opened = |admitted: &Admitted, amount| Outcome {
        outcome: executed(ExecutedMoney::Open, Some(amount)),
        ..charged(admitted, "pi_1", amount)
    };
    let intent = bench.admitted(charge(&key, 1_000, "k-1")).await;
    bench.outcome(opened(&intent, 1_000)).await;
    assert_eq!(bench.parts(&key).await, [9_000, 1_000, 0, 0]);
    assert_eq!(
        bench.entry(intent.hold).await.outcome,
        Some(EntryOutcome::Held)
    );
    // Answered and open: replayed, not forwarded.
    let again = bench.reserve(charge(&key, 1_000, "k-1")).await;
    assert!(matches!(again, CommandResult::Replay(_)), "{again:?}");
    let raised = bench
        .admitted(on_object(&key, "pi_1", Some(1_500), "k-2"))
        .await;
    assert_eq!(bench.parts(&key).await, [8_500, 1_500, 0, 0]);
    bench.outcome(opened(&raised, 1_500)).await;
    assert_eq!(bench.parts(&key).await, [8_500, 1_500, 0, 0]);
    let capture = bench
        .admitted(on_object(&key, "pi_1", Some(1_200), "k-3"))
        .await;
    assert_eq!(bench.parts(&key).await, [8_500, 1_500, 0, 0]);
    bench.outcome(charged(&capture, "pi_1", 1_200)).await;
    assert_eq!(bench.parts(&key).await, [8_800, 0, 1_200, 0]);
    for hold in [intent.hold, raised.hold, capture.hold] {
        let entry = bench.entry(hold).await;
        assert_eq!(entry.outcome, Some(EntryOutcome::Settled));
        assert!(entry.alarms.is_empty(), "{:?}", entry.alarms);
    }
    // A refund of it costs in full, of what was captured.
    bench.admitted(on_object(&key, "pi_1", None, "k-4")).await;
    assert_eq!(bench.parts(&key).await, [7_600, 1_200, 1_200, 0]);
}

#[tokio::test]
async fn a_cancelled_object_gives_its_hold_back() {
    let bench = Bench::new();
    let key = bench.key(daily(10_000)).await;
    let intent = bench.admitted(charge(&key, 1_000, "k-1")).await;
    let opened = Outcome {
        outcome: executed(ExecutedMoney::Open, Some(1_000)),
        ..charged(&intent, "pi_1", 1_000)
    };
    bench.outcome(opened).await;
    let cancel = Reserve {
        cost: Cost::Nothing,
        ..charge(&key, 0, "k-2")
    };
    let cancel = bench.admitted(cancel).await;
    let cancelled = Outcome {
        outcome: executed(ExecutedMoney::Cancelled, None),
        ..charged(&cancel, "pi_1", 1_000)
    };
    bench.outcome(cancelled).await;
    assert_eq!(bench.parts(&key).await, [10_000, 0, 0, 0]);
    assert_eq!(
        bench.entry(intent.hold).await.outcome,
        Some(EntryOutcome::Released)
    );
    // A capture that fails leaves the hold as it is; a read decides nothing.
    let intent = bench.admitted(charge(&key, 1_000, "k-3")).await;
    let opened = Outcome {
        outcome: executed(ExecutedMoney::Open, Some(1_000)),
        ..charged(&intent, "pi_2", 1_000)
    };
    bench.outcome(opened).await;
    let capture = bench.admitted(on_object(&key, "pi_2", None, "k-4")).await;
    bench
        .outcome(outcome_of(&capture, AttemptOutcome::NotExecuted))
        .await;
    let looked = bench.admitted(read(&key)).await;
    bench.outcome(charged(&looked, "pi_2", 1_000)).await;
    assert_eq!(bench.parts(&key).await, [9_000, 1_000, 0, 0]);
}

#[tokio::test]
async fn changed_caps_count_what_was_spent_before() {
    let bench = Bench::new();
    let key = bench.key(daily(10_000)).await;
    let settled = bench.admitted(charge(&key, 1_000, "k-1")).await;
    bench.outcome(charged(&settled, "ch_1", 1_000)).await;
    let unknown = bench.admitted(charge(&key, 2_000, "k-2")).await;
    bench
        .outcome(outcome_of(&unknown, AttemptOutcome::Indeterminate))
        .await;
    let released = bench.admitted(charge(&key, 500, "k-3")).await;
    bench.release(released.hold).await;
    let held = bench.admitted(charge(&key, 3_000, "k-4")).await;
    let change = |caps| KeyChange {
        caps: Some(caps),
        ..KeyChange::default()
    };
    let caps = Caps {
        daily: Some(usd(5_000)),
        monthly: Some(usd(7_000)),
        max_requests: Some(4),
        ..Caps::default()
    };
    let (changed, balances) = bench
        .ledger
        .change(&key.key.key_id, change(caps))
        .await
        .unwrap();
    assert_eq!(changed.grant.version, 2);
    let shown: Vec<_> = balances
        .iter()
        .map(|one| [one.free, one.held, one.settled, one.unknown].map(|part| part.get() / 10_000))
        .collect();
    assert_eq!(
        shown,
        [[-1_000, 3_000, 1_000, 2_000], [1_000, 3_000, 1_000, 2_000]]
    );
    assert_eq!(bench.balances(&key).await, balances);
    let with_version = |reserve: Reserve, version| Reserve {
        grant_version: Some(version),
        ..reserve
    };
    let next = bench.reserve(with_version(charge(&key, 0, "k-5"), 2)).await;
    assert_eq!(cap_left(next).limit, "daily_usd_cap");
    // What was on its way moves in the cap that came later, too.
    bench.outcome(charged(&held, "ch_4", 3_000)).await;
    let monthly = bench.balances(&key).await.remove(1);
    assert_eq!((monthly.held, monthly.settled), (usd(0), usd(4_000)));
    // Without the daily cap, only the count of requests is in the way: four were admitted before it was set.
    let caps = Caps {
        daily: None,
        ..caps
    };
    bench
        .ledger
        .change(&key.key.key_id, change(caps))
        .await
        .unwrap();
    let next = bench.reserve(with_version(charge(&key, 1, "k-6"), 3)).await;
    assert_eq!(cap_left(next).limit, "max_requests");
    // Set again, it knows the day.
    let caps = Caps {
        daily: Some(usd(6_000)),
        ..caps
    };
    let (_, balances) = bench
        .ledger
        .change(&key.key.key_id, change(caps))
        .await
        .unwrap();
    assert_eq!(balances[0].free, usd(0));
    assert_eq!(balances[0].settled, usd(4_000));
}
