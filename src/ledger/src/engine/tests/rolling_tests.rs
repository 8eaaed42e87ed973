//! Rolling caps: never above the cap in any span of their hours, and no longer than a minute more.

use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::*;

use super::bench::*;
use super::dice::Dice;
use crate::model::{Caps, IssuedKey, KeyChange, Rolling};

const MINUTE: i64 = 60_000;

fn rolling(cents: i64, hours: u16) -> Caps {
    Caps {
        rolling: Some(Rolling {
            cap: usd(cents),
            hours,
        }),
        ..Caps::default()
    }
}

async fn is_admitted(bench: &Bench, reserve: Reserve) -> bool {
    match bench.reserve(reserve).await {
        CommandResult::Admitted(_) => true,
        CommandResult::Refused(refusal) => {
            assert_eq!(refusal.code, RefusalCode::SpendCapExceeded);
            assert_eq!(refusal.cap.unwrap().limit, "rolling_usd_cap");
            false
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_taken_is_free_again_when_its_hours_and_its_minute_are_over() {
    let bench = Bench::new();
    let key = bench.key(rolling(100, 1)).await;
    bench.hand.advance_ms(30_000);
    assert!(is_admitted(&bench, charge(&key, 100, "k-1")).await);
    assert!(!is_admitted(&bench, charge(&key, 1, "k-2")).await);
    bench.hand.advance_ms(HOUR);
    assert!(
        !is_admitted(&bench, charge(&key, 1, "k-3")).await,
        "exactly the hours ago"
    );
    assert_eq!(bench.parts(&key).await, [0, 100, 0, 0]);
    // It was in the first half of a minute; that minute's end is half a minute later.
    bench.hand.advance_ms(30_000 - 1);
    assert!(!is_admitted(&bench, charge(&key, 1, "k-4")).await);
    bench.hand.advance_ms(1);
    assert_eq!(
        bench.parts(&key).await,
        [100, 0, 0, 0],
        "shown before it is used"
    );
    assert!(is_admitted(&bench, charge(&key, 100, "k-5")).await);
}

#[tokio::test]
async fn in_no_span_of_the_hours_is_more_admitted_than_the_cap() {
    for seed in 1..=4_u64 {
        let mut dice = Dice::new(seed);
        let bench = Bench::new();
        let key = bench.key(rolling(300, 2)).await;
        let mut admitted: Vec<(i64, i64)> = Vec::new();
        let mut now = NOON;
        let mut refused_for_nothing = 0;
        for number in 0..250 {
            let step = i64::try_from(dice.below(20 * 60_000)).unwrap();
            bench.hand.advance_ms(step);
            now += step;
            let cents = i64::try_from(dice.below(120)).unwrap() + 1;
            let sum_since = |since: i64| -> i64 {
                let within = admitted.iter().filter(|(at, _)| *at >= since);
                within.map(|(_, cents)| cents).sum()
            };
            let fits = sum_since(now - 2 * HOUR) + cents <= 300;
            let fits_for_sure = sum_since(now - 2 * HOUR - MINUTE) + cents <= 300;
            let amount = u64::try_from(cents).unwrap();
            let said = is_admitted(&bench, charge(&key, amount, &format!("k-{number}"))).await;
            assert!(!said || fits, "seed {seed}: above the cap at step {number}");
            assert!(
                said || !fits_for_sure,
                "seed {seed}: refused for nothing at {number}"
            );
            refused_for_nothing += usize::from(fits && !said);
            if said {
                admitted.push((now, cents));
            }
        }
        assert!(
            admitted.len() > 50 && refused_for_nothing < 25,
            "seed {seed}"
        );
    }
}

/// Free, set aside (held, or unknown once the sweep has come by), settled.
async fn counted(bench: &Bench, key: &IssuedKey) -> [i64; 3] {
    let [free, held, settled, unknown] = bench.parts(key).await;
    [free, held + unknown, settled]
}

#[tokio::test]
async fn other_hours_count_what_was_spent_before_them() {
    let bench = Bench::new();
    let mut key = bench.key(rolling(1_000, 1)).await;
    let old = bench.admitted(charge(&key, 200, "k-1")).await;
    bench.hand.advance_ms(3 * HOUR);
    bench.admitted(charge(&key, 30, "k-2")).await;
    assert_eq!(counted(&bench, &key).await, [970, 30, 0]);
    let to = |caps: Caps| KeyChange {
        caps: Some(caps),
        ..KeyChange::default()
    };
    for (caps, expected) in [
        (rolling(1_000, 4), [770, 230, 0]),
        (rolling(500, 4), [270, 230, 0]),
        (rolling(500, 2), [470, 30, 0]),
        (rolling(500, 4), [270, 230, 0]),
    ] {
        let (changed, _) = bench
            .ledger
            .change(&key.key.key_id, to(caps))
            .await
            .unwrap();
        key.key = changed;
        assert_eq!(counted(&bench, &key).await, expected, "{caps:?}");
    }
    bench.outcome(charged(&old, "ch_1", 150)).await;
    assert_eq!(
        counted(&bench, &key).await,
        [320, 30, 150],
        "what became of it counts"
    );
    bench.hand.advance_ms(HOUR + MINUTE);
    assert_eq!(counted(&bench, &key).await, [470, 30, 0]);
    let (changed, _) = bench
        .ledger
        .change(&key.key.key_id, to(daily(50)))
        .await
        .unwrap();
    key.key = changed;
    let windows = bench.balances(&key).await;
    assert_eq!(windows.len(), 1, "the rolling cap is gone: {windows:?}");
}

#[tokio::test]
async fn what_a_vendor_takes_for_a_request_of_nothing_is_counted() {
    let bench = Bench::new();
    let key = bench.key(rolling(100, 1)).await;
    let free = Reserve {
        cost: Cost::Nothing,
        ..charge(&key, 0, "k-1")
    };
    let admitted = bench.admitted(free).await;
    bench.outcome(charged(&admitted, "ch_1", 40)).await;
    assert_eq!(bench.parts(&key).await, [60, 0, 40, 0]);
}

#[tokio::test]
async fn late_news_of_a_hold_that_is_not_counted_any_more_changes_nothing() {
    let bench = Bench::new();
    let key = bench.key(rolling(100, 1)).await;
    let lost = bench.admitted(charge(&key, 80, "k-1")).await;
    bench.hand.advance_ms(HOUR + MINUTE);
    assert!(is_admitted(&bench, charge(&key, 70, "k-2")).await);
    bench.outcome(charged(&lost, "ch_1", 90)).await;
    assert_eq!(bench.parts(&key).await, [30, 70, 0, 0]);
    assert!(!is_admitted(&bench, charge(&key, 31, "k-3")).await);
    assert!(
        is_admitted(&bench, charge(&key, 30, "k-4")).await,
        "what decides says the same"
    );
}
