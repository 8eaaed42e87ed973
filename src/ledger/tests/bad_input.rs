//! Every way to ask for a key wrongly, through the real binary: the field is named and nothing is issued.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod support;

use support::{ADMIN, Service, with};

const KEYS: &str = "/admin/vault_keys";

/// Field put into the published call, its value (empty: left out), the field that the answer blames, part of the message.
const BAD_FIELDS: &[(&str, &str, &str, &str)] = &[
    (
        "daily_usd_cap",
        "10.990",
        "daily_usd_cap",
        "at most two decimals",
    ),
    (
        "daily_usd_cap",
        "1e1",
        "daily_usd_cap",
        "not a plain decimal number",
    ),
    (
        "daily_usd_cap",
        "\"NaN\"",
        "daily_usd_cap",
        "not a plain decimal number",
    ),
    (
        "daily_usd_cap",
        "NaN",
        "",
        "the value of `daily_usd_cap` is not JSON",
    ),
    (
        "daily_usd_cap",
        "Infinity",
        "",
        "the value of `daily_usd_cap` is not JSON",
    ),
    (
        "daily_usd_cap",
        "-1",
        "daily_usd_cap",
        "must not be negative",
    ),
    (
        "daily_usd_cap",
        "\"1,000\"",
        "daily_usd_cap",
        "not a plain decimal number",
    ),
    (
        "daily_usd_cap",
        "10000000000",
        "daily_usd_cap",
        "at most 9999999999.99",
    ),
    ("daily_usd_cap", "null", "daily_usd_cap", "must not be null"),
    (
        "daily_usd_cap",
        "{}",
        "daily_usd_cap",
        "must be an amount of US dollars",
    ),
    (
        "daily_usd_cap",
        "",
        "daily_usd_cap",
        "give at least one cap",
    ),
    (
        "per_request_usd_cap",
        "1.999",
        "per_request_usd_cap",
        "at most two decimals",
    ),
    (
        "monthly_usd_cap",
        "true",
        "monthly_usd_cap",
        "must be an amount",
    ),
    (
        "lifetime_usd_cap",
        "\"\"",
        "lifetime_usd_cap",
        "not a plain decimal number",
    ),
    (
        "worst_case_usd",
        "-0.01",
        "worst_case_usd",
        "must not be negative",
    ),
    ("uncapped", "true", "uncapped", "contradicts the caps"),
    ("uncapped", "\"yes\"", "uncapped", "must be true or false"),
    (
        "max_requests",
        "0",
        "max_requests",
        "must be a whole number from 1",
    ),
    (
        "max_requests",
        "1.0",
        "max_requests",
        "must be a whole number from 1",
    ),
    (
        "expires_in_seconds",
        "0",
        "expires_in_seconds",
        "from 1 to 7776000",
    ),
    (
        "expires_in_seconds",
        "7776001",
        "expires_in_seconds",
        "from 1 to 7776000",
    ),
    (
        "expires_in_seconds",
        "\"7200\"",
        "expires_in_seconds",
        "from 1 to 7776000",
    ),
    (
        "expires_in_seconds",
        "1e3",
        "expires_in_seconds",
        "from 1 to 7776000",
    ),
    (
        "expires_at",
        "\"2099-01-01T00:00:00Z\"",
        "expires_at",
        "at most one of",
    ),
    ("label", "", "label", "is missing"),
    ("label", "\"\"", "label", "1 to 200 characters"),
    ("label", "7", "label", "must be a string"),
    ("label", "\"a\\nb\"", "label", "control characters"),
    ("vendor", "", "vendor", "is missing"),
    (
        "vendor",
        "\"strip\"",
        "vendor",
        "no such vendor; there are: resend, stripe, twilio",
    ),
    ("allowed_endpoints", "", "allowed_endpoints", "is missing"),
    (
        "allowed_endpoints",
        "[]",
        "allowed_endpoints",
        "1 to 256 members",
    ),
    (
        "allowed_endpoints",
        "\"POST /v1/charges\"",
        "allowed_endpoints",
        "must be a list of strings",
    ),
    (
        "allowed_endpoints",
        "[\"POST /v1/charge\"]",
        "allowed_endpoints[0]",
        "did you mean `POST /v1/charges`",
    ),
    (
        "allowed_endpoints",
        "[\"charges.create\",\"charge.create\"]",
        "allowed_endpoints[1]",
        "`charges.create`",
    ),
    (
        "allowed_endpoints",
        "[\"post /v1/charges\"]",
        "allowed_endpoints[0]",
        "upper-case method",
    ),
    (
        "allowed_endpoints",
        "[\"POST /v1/*\"]",
        "allowed_endpoints[0]",
        "path segment",
    ),
    (
        "allowed_endpoints",
        "[\"charges.create\",\"charges.create\"]",
        "allowed_endpoints",
        "twice",
    ),
    ("workspace", "\"a b\"", "workspace", "letters, digits"),
    ("workspace", "\"\"", "workspace", "1 to 64 characters"),
    ("constraints", "[]", "constraints", "must be an object"),
    (
        "constraints",
        "{\"customer\":[]}",
        "constraints.customer",
        "1 to 256 members",
    ),
    (
        "constraints",
        "{\"customer\":\"cus_aaa\"}",
        "constraints.customer",
        "must be a list of strings, or an object",
    ),
    (
        "constraints",
        "{\"amount\":{}}",
        "constraints.amount",
        "needs `prefix`, or `min`, `max` or both",
    ),
    (
        "constraints",
        "{\"customer\":{\"prefix\":\"\"}}",
        "constraints.customer",
        "`prefix` must have 1 to 255 characters",
    ),
    (
        "constraints",
        "{\"customer\":{\"prefix\":\"cus_\",\"max\":1}}",
        "constraints.customer",
        "a text has no order",
    ),
    (
        "constraints",
        "{\"amount\":{\"max\":-1}}",
        "constraints.amount",
        "`max` must be a whole number",
    ),
    (
        "constraints",
        "{\"amount\":{\"max\":1.5}}",
        "constraints.amount",
        "`max` must be a whole number",
    ),
    (
        "constraints",
        "{\"amount\":{\"mx\":1}}",
        "constraints.amount",
        "`mx` unknown field",
    ),
    (
        "constraints",
        "{\"amount\":{\"min\":2,\"max\":1}}",
        "constraints.amount",
        "nothing would be allowed",
    ),
    (
        "constraints",
        "{\"a\":[\"x\"],\"a\":[\"y\"]}",
        "constraints",
        "has `a` twice",
    ),
    (
        "vendor_accounts",
        "[]",
        "vendor_accounts",
        "1 to 256 members",
    ),
    (
        "vendor_accounts",
        "[7]",
        "vendor_accounts",
        "must be a string",
    ),
    (
        "idempotency",
        "\"maybe\"",
        "idempotency",
        "one of required, optional, derived",
    ),
    ("idempotency", "\"derived\"", "derive_scope", "is needed"),
    (
        "derive_scope",
        "\"2026-07\"",
        "derive_scope",
        "counts only with",
    ),
    (
        "derive_from",
        "[\"customer\"]",
        "derive_from",
        "counts only with",
    ),
    ("metadata", "[]", "metadata", "must be an object"),
    ("metadata", "{\"a\":1e999}", "metadata", "cannot be kept"),
    ("budget", "\"b\"", "budget", "no budget has this name"),
    ("budget", "\"..\"", "budget", "must begin with a letter"),
    ("budget", "null", "budget", "must not be null"),
    ("rolling_usd_cap", "5", "rolling_hours", "is missing"),
    (
        "rolling_hours",
        "5",
        "rolling_hours",
        "counts only with rolling_usd_cap",
    ),
    (
        "duplicate_window_seconds",
        "0",
        "duplicate_window_seconds",
        "must be a whole number from 1 to 2592000",
    ),
    (
        "duplicate_fields",
        "[\"customer\"]",
        "duplicate_fields",
        "counts only with duplicate_window_seconds",
    ),
    (
        "dayly_usd_cap",
        "5",
        "dayly_usd_cap",
        "unknown field; allowed are label, vendor",
    ),
    ("vault_key", "\"x\"", "vault_key", "unknown field"),
    ("keys", "[]", "label", "unknown field; allowed are keys"),
];

#[test]
fn every_bad_field_is_named_and_nothing_is_issued() {
    let service = Service::start();
    let mut cases: Vec<(String, &str, &str)> = BAD_FIELDS
        .iter()
        .map(|(field, value, blamed, part)| (with(field, value), *blamed, *part))
        .collect();
    let long = format!("\"{}\"", "x".repeat(201));
    cases.push((with("label", &long), "label", "1 to 200 characters"));
    let scope = format!("\"derived\",\"derive_scope\":\"{}\"", "x".repeat(65));
    cases.push((
        with("idempotency", &scope),
        "derive_scope",
        "1 to 64 characters",
    ));
    let metadata = format!("{{\"a\":\"{}\"}}", "x".repeat(4096));
    cases.push((
        with("metadata", &metadata),
        "metadata",
        "at most 4096 bytes",
    ));
    cases.push((
        with("label", "\"a\",\"label\":\"b\""),
        "label",
        "given twice",
    ));
    cases.push((
        with("daily_usd_cap", "1,\"daily_usd_cap\":1000"),
        "daily_usd_cap",
        "given twice",
    ));
    let only_requests =
        with("daily_usd_cap", "").replace("\"label\"", "\"max_requests\":5,\"label\"");
    cases.push((only_requests, "max_requests", "is not a cap on money"));
    for at in ["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"] {
        let text = with("expires_in_seconds", "")
            .replace("\"label\"", &format!("\"expires_at\":\"{at}\",\"label\""));
        cases.push((text, "expires_at", "1 second to 90 days"));
    }
    let vague = with("expires_in_seconds", "")
        .replace("\"label\"", "\"expires_at\":\"2026-07-01\",\"label\"");
    cases.push((vague, "expires_at", "must be a time such as"));
    for text in [
        "",
        "[]",
        "null",
        "{",
        "{}{}",
        "\"x\"",
        "{\"label\":\"l\" \"vendor\":\"x\"}",
    ] {
        cases.push((text.to_owned(), "", "not a JSON object"));
    }
    for (body, blamed, part) in cases {
        let answer = service.api("POST", KEYS, ADMIN, Some(&body));
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:keybrake:problem:invalid_request");
        let errors = problem["errors"].as_array().unwrap();
        let found = errors.iter().any(|error| {
            error["field"] == blamed && error["message"].as_str().unwrap().contains(part)
        });
        assert!(found, "{body}: no {blamed:?} {part:?} in {problem}");
    }
    let keys = service.api("GET", KEYS, ADMIN, None).json();
    assert_eq!(
        keys["keys"].as_array().unwrap().len(),
        0,
        "nothing was issued"
    );
}
