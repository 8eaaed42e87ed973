//! Amounts in other currencies than dollars.

use keybrake_contract::money::{Currency, Micros, Minor};
use keybrake_contract::wire::*;

use super::bench::*;
use crate::model::IssuedKey;
use crate::rates::RateTable;

const DEAR: &str = "1.2";
const CHEAP: &str = "1.1";

fn table(euro: &str) -> RateTable {
    RateTable::parse(&format!(
        r#"{{"as_of": "2026-11-01", "rates": [{{"currency": "eur", "usd": "{euro}"}}]}}"#
    ))
    .unwrap()
}

fn euros(amount: u64) -> Minor {
    Minor {
        amount,
        currency: Currency::parse("eur").unwrap(),
    }
}

fn charge_in_euros(key: &IssuedKey, amount: u64, id: &str) -> Reserve {
    Reserve {
        cost: Cost::Amount(euros(amount)),
        ..charge(key, amount, id)
    }
}

fn said(admitted: &Admitted, money: ExecutedMoney, object: &str, amount: Minor) -> Outcome {
    let executed = Executed {
        money,
        amount: Some(amount),
        is_total: false,
    };
    Outcome {
        outcome: AttemptOutcome::Executed(executed),
        ..charged(admitted, object, amount.amount)
    }
}

async fn settled(bench: &Bench, key: &IssuedKey) -> Micros {
    bench.balances(key).await[0].settled
}

#[tokio::test]
async fn another_currency_is_debited_by_its_rate_and_the_rate_is_on_record() {
    let bench = Bench::with(|options| options.rates = Some(table("1.0845")));
    let key = bench.key(daily(2_000)).await;
    let first = bench.admitted(charge_in_euros(&key, 1_001, "k-1")).await;
    assert_eq!(
        bench.balances(&key).await[0].held,
        Micros::new(10_855_845),
        "10.01 euros at 1.0845"
    );
    bench
        .outcome(said(&first, ExecutedMoney::Moved, "ch_1", euros(1_001)))
        .await;
    assert_eq!(settled(&bench, &key).await, Micros::new(10_855_845));
    let entry = bench.entry(first.hold).await;
    assert_eq!(entry.cost_usd.as_deref(), Some("10.855845"));
    assert_eq!(entry.usd_per_unit.as_deref(), Some("0.010845"));
    // 8.44 euros are the most that is left, 8.45 pass the cap.
    let over = bench.reserve(charge_in_euros(&key, 844, "k-2")).await;
    assert!(matches!(over, CommandResult::Refused(_)), "{over:?}");
    bench.admitted(charge_in_euros(&key, 843, "k-3")).await;
    let dollars = bench.admitted(charge(&key, 0, "k-4")).await;
    assert_eq!(bench.entry(dollars.hold).await.usd_per_unit, None);
}

#[tokio::test]
async fn a_hold_keeps_its_rate_when_the_table_changes() {
    let bench = Bench::with(|options| options.rates = Some(table(DEAR)));
    let key = bench.key(daily(100_000)).await;
    let paid = bench.admitted(charge_in_euros(&key, 1_000, "k-1")).await;
    let opened = bench.admitted(charge_in_euros(&key, 2_000, "k-2")).await;
    bench
        .outcome(said(&opened, ExecutedMoney::Open, "pi_2", euros(2_000)))
        .await;
    let bench = bench
        .reopened_with(|options| options.rates = Some(table(CHEAP)))
        .await;
    bench
        .outcome(said(&paid, ExecutedMoney::Moved, "ch_1", euros(900)))
        .await;
    assert_eq!(
        settled(&bench, &key).await,
        Micros::new(10_800_000),
        "9 at 1.2"
    );
    let on_object = |amount, id| Reserve {
        cost: Cost::OfObject(OfObject {
            object: "pi_2".to_owned(),
            amount,
            currency: None,
            draws: Draws::OnHold,
        }),
        ..charge(&key, 0, id)
    };
    // Raised by 5 euros, captured with 24: all of it at the rate of the hold.
    let raised = bench.admitted(on_object(Some(2_500), "k-3")).await;
    assert_eq!(bench.balances(&key).await[0].held, Micros::new(30_000_000));
    bench
        .outcome(said(&raised, ExecutedMoney::Open, "pi_2", euros(2_500)))
        .await;
    let captured = bench.admitted(on_object(Some(2_400), "k-4")).await;
    bench
        .outcome(said(&captured, ExecutedMoney::Moved, "pi_2", euros(2_400)))
        .await;
    assert_eq!(
        settled(&bench, &key).await,
        Micros::new(10_800_000 + 28_800_000)
    );
    assert_eq!(bench.balances(&key).await[0].held, Micros::ZERO);
    let new = bench.admitted(charge_in_euros(&key, 1_000, "k-5")).await;
    assert_eq!(
        bench.entry(new.hold).await.usd_per_unit.as_deref(),
        Some("0.011"),
        "a new request has the new rate"
    );
}

#[tokio::test]
async fn what_was_taken_in_dollars_counts_in_dollars() {
    let bench = Bench::with(|options| options.rates = Some(table(DEAR)));
    let key = bench.key(daily(100_000)).await;
    let asked = bench.admitted(charge_in_euros(&key, 1_000, "k-1")).await;
    bench
        .outcome(said(&asked, ExecutedMoney::Moved, "ch_1", cents(1_150)))
        .await;
    assert_eq!(settled(&bench, &key).await, Micros::new(11_500_000));
}
