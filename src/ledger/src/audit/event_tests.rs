//! Every kind of event is canonical: what a sorted reader makes of it is the same bytes again, and no number has a point.

use serde_json::Value;

use super::*;

fn balance() -> BalanceAfter {
    BalanceAfter {
        free: Micros::new(-1),
        held: Micros::new(2),
        settled: Micros::new(3),
        subject: 4,
        unknown: Micros::new(5),
        window: "day:2026-11-23".to_owned(),
    }
}

fn is_canonical(event: &impl Serialize) {
    let mut bytes = vec![b'x'];
    canonical(event, &mut bytes).unwrap();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let again = serde_json::to_string(&value).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), again);
    no_floats(&value);
    assert!(value.get("event").is_some_and(Value::is_string));
    assert!(value.get("at").is_some_and(Value::is_i64));
}

fn no_floats(value: &Value) {
    match value {
        Value::Number(number) => assert!(number.is_i64() || number.is_u64(), "{number}"),
        Value::Null => panic!("null in an event"),
        Value::Array(items) => items.iter().for_each(no_floats),
        Value::Object(members) => members.values().for_each(no_floats),
        Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn every_event_with_all_its_members_is_canonical() {
    let id = CommandId::new([1; 16], 2);
    let digest = Digest::of(b"x");
    let params = BTreeMap::from([
        ("customer".to_owned(), "cus_1".to_owned()),
        ("amount".to_owned(), "\"\u{1}é".to_owned()),
    ]);
    let balances = [balance()];
    let judged = [Judged {
        cost: Some(Micros::new(1)),
        hold: id,
        hold_state: HoldState::Settled,
    }];
    is_canonical(&Decided {
        account: Some("acct"),
        amount: Some(u64::MAX),
        at: 1,
        attempt: Some(1),
        balances: &balances,
        budget: Some("july"),
        by: Some("ledger"),
        by_budget: Some("year"),
        cap: Some(CapRefused {
            asked: Some(Micros::new(1)),
            left: Some(Micros::new(2)),
            limit: "daily_usd_cap".to_owned(),
            resets_at: Some("2026-11-24T00:00:00Z".to_owned()),
        }),
        client_idempotency_key: Some("c"),
        code: Some(RefusalCode::EncodingNotAccepted),
        cost: Some(Micros::new(7)),
        credential: "stripe",
        currency: Some(Currency::USD),
        earlier_request_id: Some("req"),
        event: "admitted",
        fingerprint: Some(&digest),
        full_fingerprint: Some(&digest),
        grant_version: Some(3),
        hold: id,
        idempotency_key: Some("k"),
        key_id: "vk_1",
        label: "l",
        method: "POST",
        operation: "charges.create",
        param: Some("amount"),
        params: &params,
        path: "/v1/charges",
        priced_by: Some(PricedBy::WorstCase),
        request_id: "req",
        reserve: Some(id),
        run_id: Some("run"),
        traceparent: Some("00"),
        usd_per_unit: Some("0.010845".to_owned()),
        vendor: "stripe",
        workspace: "default",
    });
    is_canonical(&Tripped {
        at: 1,
        budget: "july",
        event: "budget_tripped",
        hold: id,
        refusals: 3,
        within_seconds: 60,
    });
    is_canonical(&Replayed {
        at: 1,
        event: "replayed",
        hold: id,
        key_id: "vk_1",
        request_id: "req",
        reserve: id,
        run_id: Some("run"),
        with: "answer",
    });
    is_canonical(&Ended {
        amount: Some(1),
        answer_sha256: Some(digest),
        at: 1,
        attempt: 1,
        balances: &balances,
        cause: Some(ReleaseCause::ClientGone),
        charge_id: Some("ch"),
        cost: Some(Micros::new(1)),
        currency: Some(Currency::USD),
        event: "outcome",
        evidence: &Evidence::Operator {
            reason: "r".to_owned(),
            who: "w".to_owned(),
        },
        hold: id,
        hold_state: HoldState::Held,
        judged: &judged,
        latency_ms: Some(1),
        money: Some(ExecutedMoney::Moved),
        outcome: "executed",
        record_state: RecordState::Answered,
        replayed_by_vendor: Some("yes"),
        reserve: Some(id),
        status: Some(200),
        vendor_object_id: Some("ch"),
        vendor_request_id: Some("req"),
    });
    is_canonical(&Tombstone {
        at: 1,
        cause: ReleaseCause::NoAnswer,
        event: "cancelled",
        reserve: id,
    });
    is_canonical(&Orphan {
        at: 1,
        attempt: 1,
        event: "orphan",
        hold: id,
        outcome: "executed",
        status: Some(200),
        vendor_object_id: Some("ch"),
        vendor_request_id: Some("req"),
    });
    is_canonical(&Alarm {
        alarm: "cap_overrun",
        at: 1,
        command: Some(id),
        event: "alarm",
        hold: Some(id),
    });
    is_canonical(&Counted {
        at: 1,
        count: 2,
        event: "counted",
        listener: "stripe",
        reason: CountedReason::VaultKeyInvalid,
    });
    is_canonical(&SigningKeyChanged {
        at: 1,
        event: "signing_key",
        public_key: "0a".repeat(32).parse().unwrap(),
    });
}
