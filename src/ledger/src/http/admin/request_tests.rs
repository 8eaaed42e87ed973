//! What is read from good requests. Bad ones are in a table of the integration tests, through the real binary.

use keybrake_contract::grant::{Constraint, IdempotencyRule};
use keybrake_contract::money::Micros;

use super::*;
use crate::clock::timestamp;
use crate::model::{Caps, DuplicateRule, Rolling};

const FIVE: &str = r#"{"label":"metaflow-2026-07-cus_aaa","vendor":"stripe","allowed_endpoints":["POST /v1/charges"],"daily_usd_cap":10.99,"expires_in_seconds":7200}"#;

fn now() -> Timestamp {
    timestamp(1_800_000_000_000)
}

fn one(text: &str) -> NewKey {
    match issue(text, &Vendors::load(None).unwrap(), now()).unwrap() {
        Issue::One(key) => *key,
        Issue::Many(_) => panic!("one was asked"),
    }
}

#[test]
fn five_fields_make_a_key() {
    let key = one(FIVE);
    assert_eq!(key.label, "metaflow-2026-07-cus_aaa");
    assert_eq!(key.workspace, "default");
    assert_eq!(
        key.caps,
        Caps {
            daily: Some(Micros::new(10_990_000)),
            ..Caps::default()
        }
    );
    assert_eq!(key.expires_at, timestamp(1_800_007_200_000));
    assert_eq!(key.grant.idempotency, IdempotencyRule::Required);
    assert!(key.grant.constraints.is_empty() && key.grant.vendor_accounts.is_empty());
}

#[test]
fn every_field_arrives() {
    let key = one(
        r#"{"label":"l","vendor":"stripe","allowed_endpoints":["charges.create","GET /v1/charges/{id}"],
            "per_request_usd_cap":"1","monthly_usd_cap":2.5,"rolling_usd_cap":"4.50","rolling_hours":6,"lifetime_usd_cap":"3.01","max_requests":7,
            "expires_at":"2027-02-01T00:00:00Z","workspace":"team-a",
            "constraints":{"customer":["cus_a"],"description":{"prefix":"July "},"amount":{"min":1,"max":2999}},"vendor_accounts":["acct_1"],
            "idempotency":"derived","derive_scope":"2026-07","derive_from":["customer"],"worst_case_usd":5,
            "metadata":{"a":[1]},"budget":"july","duplicate_window_seconds":60,"duplicate_fields":["source"]}"#,
    );
    assert_eq!(key.budget.as_deref(), Some("july"));
    let rule = DuplicateRule {
        fields: vec!["source".to_owned()],
        window_seconds: 60,
    };
    assert_eq!(key.duplicates, Some(rule));
    let expected = Caps {
        per_request: Some(Micros::new(1_000_000)),
        daily: None,
        monthly: Some(Micros::new(2_500_000)),
        rolling: Some(Rolling {
            cap: Micros::new(4_500_000),
            hours: 6,
        }),
        lifetime: Some(Micros::new(3_010_000)),
        max_requests: Some(7),
    };
    assert_eq!(key.caps, expected);
    assert_eq!(key.workspace, "team-a");
    assert_eq!(key.expires_at.to_string(), "2027-02-01T00:00:00Z");
    assert_eq!(key.grant.allowed_endpoints.len(), 2);
    assert_eq!(
        key.grant.constraints["customer"],
        Constraint::OneOf(vec!["cus_a".to_owned()])
    );
    assert!(
        matches!(&key.grant.constraints["description"], Constraint::Prefix(begin) if begin.prefix == "July ")
    );
    assert!(
        matches!(key.grant.constraints["amount"], Constraint::Range(range) if range.max == Some(2999))
    );
    assert_eq!(key.grant.vendor_accounts, ["acct_1"]);
    let derived = IdempotencyRule::Derived {
        scope: "2026-07".to_owned(),
        from: vec!["customer".to_owned()],
    };
    assert_eq!(key.grant.idempotency, derived);
    assert_eq!(key.worst_case, Some(Micros::new(5_000_000)));
    assert_eq!(key.metadata, Some(serde_json::json!({"a": [1]})));
}

#[test]
fn a_day_is_the_life_of_a_key_that_says_nothing() {
    let key = one(
        r#"{"label":"l","vendor":"stripe","allowed_endpoints":["charges.create"],"uncapped":true}"#,
    );
    assert_eq!(key.expires_at, timestamp(1_800_086_400_000));
    assert!(key.caps.is_uncapped());
}

fn stored() -> Key {
    let NewKey {
        label,
        workspace,
        grant,
        caps,
        worst_case,
        expires_at,
        metadata,
        budget,
        duplicates,
    } = one(FIVE);
    Key {
        key_id: "vk_1".to_owned(),
        digest: keybrake_contract::digest::Digest::of(b"x"),
        label,
        workspace,
        grant,
        caps,
        worst_case,
        created_at: now(),
        expires_at,
        revoked_at: None,
        metadata,
        budget,
        duplicates,
    }
}

fn changed(text: &str) -> Result<KeyChange, String> {
    let vendors = Vendors::load(None).unwrap();
    change(text, &stored(), vendors.get("stripe"), now())
        .map_err(|faults| format!("{}: {}", faults[0].field, faults[0].message))
}

#[test]
fn a_change_says_only_what_changes() {
    let same =
        changed(r#"{"daily_usd_cap":"10.99","allowed_endpoints":["POST /v1/charges"]}"#).unwrap();
    assert!(same.caps.is_none() && same.grant.is_none() && same.label.is_none());

    let change = changed(r#"{"daily_usd_cap":20,"monthly_usd_cap":"100","label":"new"}"#).unwrap();
    let caps = change.caps.unwrap();
    assert_eq!(
        (caps.daily, caps.monthly),
        (
            Some(Micros::new(20_000_000)),
            Some(Micros::new(100_000_000))
        )
    );
    assert_eq!(change.label.as_deref(), Some("new"));
    assert!(change.expires_at.is_none() && change.grant.is_none());

    let change = changed(
        r#"{"constraints":{"currency":["usd"]},"vendor_accounts":null,"expires_in_seconds":1}"#,
    )
    .unwrap();
    assert!(change.grant.unwrap().constraints.contains_key("currency"));
    assert_eq!(change.expires_at, Some(timestamp(1_800_000_001_000)));
}

#[test]
fn the_last_cap_does_not_go_by_accident() {
    let refused = changed(r#"{"daily_usd_cap":null}"#).unwrap_err();
    assert!(
        refused.starts_with("uncapped: the last cap on money would go"),
        "{refused}"
    );
    let open = changed(r#"{"daily_usd_cap":null,"uncapped":true}"#).unwrap();
    assert!(open.caps.unwrap().is_uncapped());
    assert!(changed(r#"{"uncapped":true}"#).is_err());
    assert!(changed(r#"{"daily_usd_cap":null,"lifetime_usd_cap":5}"#).is_ok());
    assert!(changed(r#"{"daily_usd_cap":null,"max_requests":5}"#).is_err());
}

#[test]
fn what_cannot_be_changed_is_said() {
    for (text, field) in [
        ("{}", ""),
        (r#"{"vendor":"stripe"}"#, "vendor"),
        (r#"{"workspace":"x"}"#, "workspace"),
        (r#"{"label":null}"#, "label"),
        (r#"{"budget":".."}"#, "budget"),
        (r#"{"duplicate_fields":["x"]}"#, "duplicate_fields"),
        (
            r#"{"allowed_endpoints":["POST /v1/charge"]}"#,
            "allowed_endpoints[0]",
        ),
    ] {
        let refused = changed(text).unwrap_err();
        assert!(
            refused.starts_with(&format!("{field}: ")),
            "{text}: {refused}"
        );
    }
}
