//! What is read from good requests about budgets, and what is wrong with the others.

use keybrake_contract::money::Micros;

use super::*;
use crate::clock::timestamp;
use crate::model::{Caps, DuplicateRule, Rolling, TripOn};

fn faults(text: &str) -> Vec<(String, String)> {
    let faults = new_budget(text).unwrap_err();
    let pairs = faults.into_iter().map(|fault| (fault.field, fault.message));
    pairs.collect()
}

fn plain() -> Budget {
    let NewBudget {
        name,
        parent,
        caps,
        time_zone,
        trip_on,
        duplicates,
        metadata,
    } = new_budget(r#"{"name":"july","daily_usd_cap":"5"}"#).unwrap();
    Budget {
        name,
        parent,
        caps,
        time_zone,
        state: BudgetState::Open,
        trip_on,
        duplicates,
        rule_version: 0,
        version: 1,
        created_at: timestamp(0),
        tripped_at: None,
        metadata,
    }
}

#[test]
fn every_field_arrives() {
    let budget = new_budget(
        r#"{"name":"july.eu-1","parent":"year","daily_usd_cap":1,"per_request_usd_cap":"2.50","monthly_usd_cap":3,
            "rolling_usd_cap":4,"rolling_hours":744,"lifetime_usd_cap":"5","time_zone":"europe/berlin",
            "trip_on":{"refusals":5,"within_seconds":60},"duplicate_window_seconds":60,"metadata":{"a":1}}"#,
    )
    .unwrap();
    assert_eq!(
        (budget.name.as_str(), budget.parent.as_deref()),
        ("july.eu-1", Some("year"))
    );
    let caps = Caps {
        per_request: Some(Micros::new(2_500_000)),
        daily: Some(Micros::new(1_000_000)),
        monthly: Some(Micros::new(3_000_000)),
        rolling: Some(Rolling {
            cap: Micros::new(4_000_000),
            hours: 744,
        }),
        lifetime: Some(Micros::new(5_000_000)),
        max_requests: None,
    };
    assert_eq!(budget.caps, caps);
    assert_eq!(
        budget.time_zone, "Europe/Berlin",
        "as the database writes it"
    );
    assert_eq!(
        budget.trip_on,
        Some(TripOn {
            refusals: 5,
            within_seconds: 60
        })
    );
    let fields = ["customer", "amount", "currency"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(
        budget.duplicates,
        Some(DuplicateRule {
            fields,
            window_seconds: 60
        })
    );
    assert_eq!(plain().time_zone, "UTC");
}

#[test]
fn what_cannot_be_a_budget_is_named() {
    #[rustfmt::skip]
    let cases = [
        (r#"{"daily_usd_cap":1}"#, "name", "is missing"),
        (r#"{"name":"..","daily_usd_cap":1}"#, "name", "must begin with a letter or a digit"),
        (r#"{"name":"a/b","daily_usd_cap":1}"#, "name", "letters"),
        (r#"{"name":"a"}"#, "daily_usd_cap", "give at least one cap"),
        (r#"{"name":"a","uncapped":true,"max_requests":1}"#, "max_requests", "unknown field"),
        (r#"{"name":"a","daily_usd_cap":1,"uncapped":true}"#, "uncapped", "contradicts"),
        (r#"{"name":"a","daily_usd_cap":-1}"#, "daily_usd_cap", "must not be negative"),
        (r#"{"name":"a","daily_usd_cap":"NaN"}"#, "daily_usd_cap", "not a plain decimal number"),
        (r#"{"name":"a","daily_usd_cap":1.001}"#, "daily_usd_cap", "at most two decimals"),
        (r#"{"name":"a","daily_usd_cap":10000000000}"#, "daily_usd_cap", "at most 9999999999.99"),
        (r#"{"name":"a","rolling_usd_cap":1}"#, "rolling_hours", "is missing"),
        (r#"{"name":"a","daily_usd_cap":1,"rolling_hours":1}"#, "rolling_hours", "counts only with"),
        (r#"{"name":"a","rolling_usd_cap":1,"rolling_hours":0}"#, "rolling_hours", "from 1 to 744"),
        (r#"{"name":"a","rolling_usd_cap":1,"rolling_hours":745}"#, "rolling_hours", "from 1 to 744"),
        (r#"{"name":"a","parent":"a","daily_usd_cap":1}"#, "parent", "would make a cycle"),
        (r#"{"name":"a","daily_usd_cap":1,"time_zone":"Mars/Olympus"}"#, "time_zone", "is no time zone"),
        (r#"{"name":"a","daily_usd_cap":1,"time_zone":5}"#, "time_zone", "must be a string"),
        (r#"{"name":"a","daily_usd_cap":1,"trip_on":{"refusals":5}}"#, "trip_on", "`within_seconds` is missing"),
        (r#"{"name":"a","daily_usd_cap":1,"trip_on":{"refusals":0,"within_seconds":1}}"#, "trip_on", "`refusals` must be"),
        (r#"{"name":"a","daily_usd_cap":1,"trip_on":5}"#, "trip_on", "must be an object"),
        (r#"{"name":"a","daily_usd_cap":1,"duplicate_fields":["x"]}"#, "duplicate_fields", "counts only with"),
        (r#"{"name":"a","daily_usd_cap":1,"duplicate_window_seconds":0}"#, "duplicate_window_seconds", "whole number"),
        (r#"{"name":"a","daily_usd_cap":1,"duplicate_window_seconds":60,"duplicate_fields":[]}"#, "duplicate_fields", "1 to 32"),
        (r#"{"name":"a","daily_usd_cap":1,"state":"frozen"}"#, "state", "unknown field"),
    ];
    for (text, field, message) in cases {
        let faults = faults(text);
        let [(blamed, said)] = faults.as_slice() else {
            panic!("{text}: {faults:?}")
        };
        assert_eq!(blamed, field, "{text}");
        assert!(said.contains(message), "{text}: {said}");
    }
}

#[test]
fn a_change_touches_what_it_names() {
    let mut before = plain();
    let of = |before: &Budget, text: &str| change(text, before);
    let frozen = of(&before, r#"{"state":"frozen"}"#).unwrap();
    assert_eq!(frozen.state, Some(BudgetState::Frozen));
    assert!(frozen.caps.is_none() && frozen.trip_on.is_none() && frozen.duplicates.is_none());
    let rolling = of(&before, r#"{"rolling_usd_cap":"1","rolling_hours":2}"#).unwrap();
    before.caps = rolling.caps.unwrap();
    let longer = of(&before, r#"{"rolling_hours":3}"#).unwrap().caps.unwrap();
    let expected = Rolling {
        cap: Micros::new(1_000_000),
        hours: 3,
    };
    assert_eq!(longer.rolling, Some(expected));
    let none = of(&before, r#"{"rolling_usd_cap":null}"#)
        .unwrap()
        .caps
        .unwrap();
    assert_eq!(none.rolling, None);
    let rule = of(&before, r#"{"duplicate_window_seconds":9}"#).unwrap();
    before.duplicates = rule.duplicates.unwrap();
    let fields = of(&before, r#"{"duplicate_fields":["source"]}"#).unwrap();
    let after = fields.duplicates.unwrap().unwrap();
    assert_eq!(
        (after.window_seconds, after.fields),
        (9, vec!["source".to_owned()])
    );
    let gone = of(
        &before,
        r#"{"duplicate_window_seconds":null,"trip_on":null}"#,
    )
    .unwrap();
    assert_eq!((gone.duplicates, gone.trip_on), (Some(None), Some(None)));
    for (text, field) in [
        ("{}", ""),
        (r#"{"state":"tripped"}"#, "state"),
        (r#"{"state":null}"#, "state"),
        (r#"{"name":"x"}"#, "name"),
        (r#"{"time_zone":"UTC"}"#, "time_zone"),
        (
            r#"{"daily_usd_cap":null,"rolling_usd_cap":null}"#,
            "uncapped",
        ),
        (
            r#"{"rolling_usd_cap":null,"rolling_hours":5}"#,
            "rolling_hours",
        ),
        (
            r#"{"duplicate_window_seconds":null,"duplicate_fields":["x"]}"#,
            "duplicate_fields",
        ),
    ] {
        let faults = of(&before, text).unwrap_err();
        assert_eq!(faults[0].field, field, "{text}");
    }
}
