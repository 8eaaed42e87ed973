//! Paths of a request's life through the real store.

use keybrake_contract::wire::*;

use super::bench::*;

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
}
