//! What is done with vendor objects, and changed caps.

use keybrake_contract::money::Currency;
use keybrake_contract::refusal::{CapLeft, Refusal, RefusalCode};
use keybrake_contract::wire::*;
use std::sync::Arc;

use super::bench::*;
use crate::model::{Caps, EntryOutcome, KeyChange};

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
            draws: Draws::OnHold,
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
    Arc::make_mut(&mut elsewhere.request).vendor_account = Some("acct_2".to_owned());
    assert_eq!(
        code(bench.reserve(elsewhere).await),
        RefusalCode::AmountUnknown
    );
    let single_currency = Reserve {
        cost: Cost::OfObject(OfObject {
            object: "ch_x".to_owned(),
            amount: Some(300),
            currency: Some(Currency::USD),
            draws: Draws::OnHold,
        }),
        ..charge(&key, 0, "r-5")
    };
    bench.admitted(single_currency).await;
}

/// Gives back so much of a charge, or all that is left of it.
fn refund(key: &crate::model::IssuedKey, charge: &str, amount: Option<u64>, id: &str) -> Reserve {
    let of_charge = OfObject {
        object: charge.to_owned(),
        amount,
        currency: amount.map(|_| Currency::USD),
        draws: Draws::Anew,
    };
    Reserve {
        request: Arc::new(facts("refunds.create")),
        cost: Cost::OfObject(of_charge),
        ..on_object(key, charge, amount, id)
    }
}

#[tokio::test]
async fn a_refund_does_not_say_how_much_its_charge_is() {
    let bench = Bench::new();
    let key = bench.key(daily(10_000)).await;
    let given_back = |admitted: &Admitted, object: &str, charge: &str| Outcome {
        charge_id: Some(charge.to_owned()),
        ..charged(admitted, object, 300)
    };
    let intent = bench.admitted(charge(&key, 1_000, "k-1")).await;
    let paid = Outcome {
        charge_id: Some("ch_1".to_owned()),
        ..charged(&intent, "pi_1", 1_000)
    };
    bench.outcome(paid).await;
    let part = bench.admitted(refund(&key, "ch_1", Some(300), "r-1")).await;
    bench.outcome(given_back(&part, "re_1", "ch_1")).await;
    assert_eq!(bench.parts(&key).await, [8_700, 0, 1_300, 0]);
    let entry = bench.entry(part.hold).await;
    assert_eq!(entry.stripe_charge_id.as_deref(), Some("ch_1"));
    // The rest of it: nobody knows how much that is, and it is no more than the charge.
    bench.admitted(refund(&key, "ch_1", None, "r-2")).await;
    assert_eq!(bench.parts(&key).await, [7_700, 1_000, 1_300, 0]);
    // Of a charge that was made elsewhere a part that was given back says nothing either.
    let part = bench.admitted(refund(&key, "ch_x", Some(300), "r-3")).await;
    bench.outcome(given_back(&part, "re_2", "ch_x")).await;
    let rest = bench.reserve(refund(&key, "ch_x", None, "r-4")).await;
    assert_eq!(code(rest), RefusalCode::AmountUnknown);
}

#[tokio::test]
async fn a_worst_case_is_not_believed_against_an_amount_without_a_currency() {
    let bench = Bench::new();
    let worst = |key: &mut crate::model::NewKey| key.worst_case = Some(usd(500));
    let key = bench.key_like(daily(1_000), worst).await;
    // A charge that was made elsewhere, in nobody knows what currency.
    let of_charge = |amount, id| {
        let mut refund = refund(&key, "ch_x", Some(amount), id);
        if let Cost::OfObject(named) = &mut refund.cost {
            named.currency = None;
        }
        refund
    };
    let refused = cap_left(bench.reserve(of_charge(100_000, "r-1")).await);
    assert_eq!(refused.asked, Some(usd(100_000)));
    assert_eq!(bench.parts(&key).await, [1_000, 0, 0, 0]);
    // A small one costs the worst case: it may be more than so many cents.
    bench.admitted(of_charge(300, "r-2")).await;
    assert_eq!(bench.parts(&key).await, [500, 500, 0, 0]);
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
async fn of_an_objects_total_nothing_is_debited_twice() {
    let bench = Bench::new();
    let key = bench.key(daily(10_000)).await;
    let told = |admitted: &Admitted, amount, is_total| Outcome {
        outcome: AttemptOutcome::Executed(Executed {
            money: ExecutedMoney::Moved,
            amount: Some(cents(amount)),
            is_total,
        }),
        ..charged(admitted, "pi_1", amount)
    };
    let paid = bench.admitted(charge(&key, 1_000, "k-1")).await;
    bench.outcome(told(&paid, 1_000, true)).await;
    assert_eq!(bench.parts(&key).await, [9_000, 0, 1_000, 0]);
    // Nobody knows beforehand that it takes nothing; its answer says so.
    let described = bench.admitted(on_object(&key, "pi_1", None, "k-2")).await;
    assert_eq!(bench.parts(&key).await, [8_000, 1_000, 1_000, 0]);
    bench.outcome(told(&described, 1_000, true)).await;
    assert_eq!(bench.parts(&key).await, [9_000, 0, 1_000, 0]);
    let entry = bench.entry(described.hold).await;
    assert_eq!(entry.outcome, Some(EntryOutcome::Settled));
    assert!(entry.alarms.is_empty(), "{:?}", entry.alarms);
    // What the vendor took beyond is debited.
    let raised = bench
        .admitted(on_object(&key, "pi_1", Some(300), "k-3"))
        .await;
    bench.outcome(told(&raised, 1_300, true)).await;
    assert_eq!(bench.parts(&key).await, [8_700, 0, 1_300, 0]);
    // Another account's object of that name is another object.
    let mut elsewhere = charge(&key, 1_300, "k-4");
    Arc::make_mut(&mut elsewhere.request).vendor_account = Some("acct_2".to_owned());
    let elsewhere = bench.admitted(elsewhere).await;
    bench.outcome(told(&elsewhere, 1_300, true)).await;
    assert_eq!(bench.parts(&key).await, [7_400, 0, 2_600, 0]);
    // Where the answer tells of the one request, all of it counts.
    let one = bench.admitted(charge(&key, 100, "k-5")).await;
    bench.outcome(told(&one, 100, false)).await;
    assert_eq!(bench.parts(&key).await, [7_300, 0, 2_700, 0]);
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
