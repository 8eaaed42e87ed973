//! Budgets and statements through the real binary: made, drawn from, shut, stated, revoked; and every way to ask for one
//! wrongly.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod support;

use keybrake_contract::vault_key;
use serde_json::{Value, json};
use support::{ADMIN, AUDIT, Answer, Service, finished, keybrake, with};

const BUDGETS: &str = "/admin/budgets";

fn make(service: &Service, body: Value) -> Value {
    let answer = service.api("POST", BUDGETS, ADMIN, Some(&body.to_string()));
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

fn change(service: &Service, name: &str, body: &Value) -> Answer {
    let path = format!("{BUDGETS}/{name}");
    service.api("PATCH", &path, ADMIN, Some(&body.to_string()))
}

fn show(service: &Service, name: &str) -> Value {
    service
        .api("GET", &format!("{BUDGETS}/{name}"), ADMIN, None)
        .json()
}

fn drawing(service: &Service, budget: &str) -> Value {
    service.issue(
        &json!({"label": "l", "vendor": "stripe", "allowed_endpoints": ["charges.create"], "budget": budget})
            .to_string(),
    )
}

fn reserve(number: u64, key: &Value, cents: u64) -> Value {
    let digest = vault_key::digest(key["vault_key"].as_str().unwrap().as_bytes()).unwrap();
    json!({"reserve": {
        "id": format!("{}{number:016x}", "cd".repeat(16)), "key_digest": digest.to_string(), "grant_version": 1,
        "request": {"vendor": "stripe", "credential": "stripe", "operation": "charges.create", "method": "POST",
                    "path": "/v1/charges", "request_id": format!("req-{number}")},
        "forward": "detached", "cost": {"amount": {"amount": cents, "currency": "usd"}},
        "idempotency": {"key": format!("k-{number}"), "fingerprint": "0".repeat(64)}, "forward_timeout_ms": 90000}})
}

#[test]
fn a_budget_is_made_shown_listed_drawn_from_and_shut() {
    let service = Service::start();
    make(&service, json!({"name": "year", "lifetime_usd_cap": "100"}));
    let made = make(
        &service,
        json!({"name": "july", "parent": "year", "daily_usd_cap": 10.99, "time_zone": "europe/berlin",
               "trip_on": {"refusals": 5, "within_seconds": 60}, "rolling_usd_cap": 50, "rolling_hours": 6,
               "metadata": {"team": "x"}}),
    );
    for (field, expected) in [
        ("name", json!("july")),
        ("parent", json!("year")),
        ("state", json!("open")),
        ("time_zone", json!("Europe/Berlin")),
        ("daily_usd_cap", json!("10.99")),
        ("rolling_usd_cap", json!("50.00")),
        ("rolling_hours", json!(6)),
        ("lifetime_usd_cap", Value::Null),
        ("uncapped", json!(false)),
        ("trip_on", json!({"refusals": 5, "within_seconds": 60})),
        ("metadata", json!({"team": "x"})),
        ("version", json!(1)),
    ] {
        assert_eq!(made[field], expected, "{field}");
    }
    assert_eq!(made["balances"][0]["free"], "10.990000");
    assert_eq!(show(&service, "july"), made);
    let listed = service.api("GET", "/admin/budgets?parent=year", ADMIN, None);
    assert_eq!(listed.json()["budgets"].as_array().unwrap().len(), 1);

    let key = drawing(&service, "july");
    assert_eq!(
        (&key["budget"], &key["uncapped"]),
        (&json!("july"), &json!(true))
    );
    let admitted = service.command(reserve(1, &key, 999));
    assert!(admitted.get("admitted").is_some(), "{admitted}");
    let refused = service.command(reserve(2, &key, 101));
    assert_eq!(refused["refused"]["code"], "spend_cap_exceeded");
    assert_eq!(refused["refused"]["budget"], "july");
    assert_eq!(refused["refused"]["cap"]["limit"], "daily_usd_cap");
    assert_eq!(show(&service, "year")["balances"][0]["held"], "9.990000");
    let entries = service.api("GET", "/audit?budget=year", AUDIT, None).json();
    assert_eq!(entries["entries"].as_array().unwrap().len(), 2);
    assert_eq!(entries["entries"][0]["budget"], "july");

    let frozen = change(&service, "year", &json!({"state": "frozen"}));
    assert_eq!(
        (frozen.status, &frozen.json()["state"]),
        (200, &json!("frozen"))
    );
    let refused = service.command(reserve(3, &key, 1));
    assert_eq!(
        refused["refused"],
        json!({"code": "budget_frozen", "budget": "year"})
    );
    change(&service, "year", &json!({"state": "open"}));
    let raised = change(
        &service,
        "july",
        &json!({"daily_usd_cap": "20", "rolling_usd_cap": null}),
    );
    assert_eq!(raised.json()["balances"][0]["free"], "10.010000");
    assert!(
        service
            .command(reserve(4, &key, 1001))
            .get("admitted")
            .is_some()
    );
    change(&service, "july", &json!({"state": "closed"}));
    for (name, body) in [
        ("july", json!({"state": "open"})),
        ("july", json!({"daily_usd_cap": 5})),
    ] {
        let answer = change(&service, name, &body);
        assert_eq!(answer.status, 409, "{}", answer.text());
    }
    let again = service.api(
        "POST",
        BUDGETS,
        ADMIN,
        Some(r#"{"name":"july","uncapped":true}"#),
    );
    assert_eq!(again.status, 409, "names are for good");
}

#[test]
fn a_thousand_keys_of_one_budget_are_issued_stated_and_revoked_together() {
    let service = Service::start();
    make(
        &service,
        json!({"name": "fan-out", "lifetime_usd_cap": 100}),
    );
    make(
        &service,
        json!({"name": "branch", "parent": "fan-out", "uncapped": true}),
    );
    let one = with("budget", r#""branch""#);
    let stranger = with("budget", r#""none""#);
    let mut list = vec![one.as_str(); 999];
    list.push(&stranger);
    let body = format!(r#"{{"keys":[{}]}}"#, list.join(","));
    let answer = service.api("POST", "/admin/vault_keys", ADMIN, Some(&body));
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["errors"][0]["field"], "keys[999].budget");
    let keys = service.api("GET", "/admin/vault_keys?budget=fan-out", ADMIN, None);
    assert_eq!(keys.json()["keys"], json!([]), "none was issued");
    let body = format!(r#"{{"keys":[{}]}}"#, vec![one.as_str(); 1000].join(","));
    let issued = service.issue(&body);
    let keys = issued["keys"].as_array().unwrap();
    for (number, key) in (1..).zip(&keys[..11]) {
        let result = service.command(reserve(number, key, 999));
        assert_eq!(result.get("admitted").is_some(), number <= 10, "{result}");
    }
    let statement = service.api("GET", "/admin/budgets/fan-out/statement", ADMIN, None);
    let statement = statement.json();
    assert_eq!(statement["budget"], "fan-out");
    let window = &statement["windows"][0];
    assert_eq!(window["holds"], json!({"count": 10, "usd": "99.900000"}));
    assert_eq!(window["closing"]["free"], "0.100000");
    assert_eq!(window["adds_up"], true);
    let path = format!(
        "/admin/vault_keys/{}/statement",
        keys[0]["key_id"].as_str().unwrap()
    );
    let own = service.api("GET", &path, ADMIN, None).json();
    assert_eq!(
        own["windows"][0]["held"],
        json!({"count": 1, "usd": "9.990000"})
    );
    let body = Some(r#"{"budget":"fan-out"}"#);
    let revoked = service.api("POST", "/admin/vault_keys/revoke", ADMIN, body);
    assert_eq!(revoked.json(), json!({"revoked": 1000}));
    let refused = service.command(reserve(50, &keys[20], 1));
    assert_eq!(refused["refused"]["code"], "vault_key_revoked");
}

#[test]
fn what_cannot_be_done_with_a_budget_is_a_problem_and_changes_nothing() {
    let service = Service::start();
    make(&service, json!({"name": "a", "lifetime_usd_cap": 1}));
    make(
        &service,
        json!({"name": "b", "parent": "a", "lifetime_usd_cap": 1}),
    );
    #[rustfmt::skip]
    let new = [
        (json!({"name": "x", "daily_usd_cap": -1}), "daily_usd_cap", "must not be negative"),
        (json!({"name": "x", "daily_usd_cap": "NaN"}), "daily_usd_cap", "not a plain decimal number"),
        (json!({"name": "x", "daily_usd_cap": "1.001"}), "daily_usd_cap", "at most two decimals"),
        (json!({"name": "x", "daily_usd_cap": "99999999999999999999"}), "daily_usd_cap", "at most 9999999999.99"),
        (json!({"name": "x", "rolling_usd_cap": "-1", "rolling_hours": 1}), "rolling_usd_cap", "must not be negative"),
        (json!({"name": "x", "uncapped": true, "time_zone": "Mars/Olympus"}), "time_zone", "is no time zone"),
        (json!({"name": "x", "uncapped": true, "parent": "x"}), "parent", "would make a cycle"),
        (json!({"name": "x", "uncapped": true, "parent": "none"}), "parent", "no budget has this name"),
        (json!({"name": "x/y", "uncapped": true}), "name", "letters"),
        (json!({"name": "x"}), "daily_usd_cap", "at least one cap"),
        (json!({"name": "x", "uncapped": true, "trip_on": {"refusals": 1}}), "trip_on", "`within_seconds` is missing"),
        (json!({"name": "x", "uncapped": true, "surprise": 1}), "surprise", "unknown field"),
    ];
    for (body, field, message) in new {
        let answer = service.api("POST", BUDGETS, ADMIN, Some(&body.to_string()));
        is_problem(&answer, 400, field, message);
    }
    #[rustfmt::skip]
    let changes = [
        (json!({"parent": "b"}), "parent", "would make a cycle"),
        (json!({"parent": "a"}), "parent", "would make a cycle"),
        (json!({"parent": "none"}), "parent", "no budget has this name"),
        (json!({"daily_usd_cap": -1}), "daily_usd_cap", "must not be negative"),
        (json!({"lifetime_usd_cap": null}), "uncapped", "the last cap on money would go"),
        (json!({"state": "tripped"}), "state", "must be one of open, frozen, closed"),
        (json!({"time_zone": "UTC"}), "time_zone", "unknown field"),
        (json!({}), "", "nothing to change"),
    ];
    for (body, field, message) in changes {
        is_problem(&change(&service, "a", &body), 400, field, message);
    }
    is_problem(
        &change(&service, "b", &json!({"parent": null})),
        400,
        "parent",
        "for good",
    );
    assert_eq!(
        change(&service, "none", &json!({"state": "open"})).status,
        404
    );
    assert_eq!(show(&service, "a")["version"], 1, "nothing was changed");
    let all = service.api("GET", BUDGETS, ADMIN, None).json();
    assert_eq!(
        all["budgets"].as_array().unwrap().len(),
        2,
        "nothing was made"
    );
    for (method, path, status) in [
        ("GET", "/admin/budgets/none", 404),
        ("GET", "/admin/budgets/none/statement", 404),
        ("GET", "/admin/vault_keys/vk_none/statement", 404),
        ("GET", "/admin/budgets/%FF", 404),
        ("GET", "/admin/budgets?state=broken", 400),
        ("GET", "/admin/budgets?cursor=made-up", 400),
        ("GET", "/admin/budgets/a/statement?window=week:1", 400),
        ("DELETE", "/admin/budgets/a", 405),
    ] {
        let answer = service.api(method, path, ADMIN, None);
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        if status != 405 {
            assert_eq!(
                service.api(method, path, AUDIT, None).status,
                403,
                "admin only: {path}"
            );
        }
    }
}

fn is_problem(answer: &Answer, status: u16, field: &str, message: &str) {
    assert_eq!(answer.status, status, "{field}: {}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let error = answer.json()["errors"][0].clone();
    assert_eq!(error["field"], field, "{}", answer.text());
    assert!(
        error["message"].as_str().unwrap().contains(message),
        "{error}"
    );
}

fn cli(service: &Service, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = keybrake(service.folder.path());
    command
        .env("KEYBRAKE_URL", format!("http://{}/", service.listen))
        .args(arguments);
    finished(&mut command)
}

fn fine(service: &Service, arguments: &[&str]) -> String {
    let (code, out, err) = cli(service, arguments);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
    out
}

#[test]
fn the_command_line_does_all_of_it() {
    let service = Service::start();
    fine(
        &service,
        &["budgets", "create", "year", "--lifetime", "100"],
    );
    let made = fine(
        &service,
        &[
            "budgets",
            "create",
            "july",
            "--parent",
            "year",
            "--daily",
            "10",
            "--rolling",
            "9",
            "--rolling-hours",
            "3",
            "--time-zone",
            "Europe/Berlin",
            "--trip-on",
            "5/60",
            "--duplicate-window",
            "60",
            "--json",
        ],
    );
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(
        made["trip_on"],
        json!({"refusals": 5, "within_seconds": 60})
    );
    assert_eq!(
        made["duplicate_fields"],
        json!(["customer", "amount", "currency"])
    );
    let table = fine(&service, &["budgets", "list"]);
    assert!(
        table.starts_with("NAME") && table.contains("Europe/Berlin"),
        "{table}"
    );
    let shown = fine(&service, &["budgets", "show", "july"]);
    assert!(
        shown.contains("rolling_usd_cap") && shown.contains("10.000000"),
        "{shown}"
    );
    let issued = fine(
        &service,
        &[
            "keys",
            "issue",
            "--label",
            "l",
            "--vendor",
            "stripe",
            "--allow",
            "charges.create",
            "--budget",
            "july",
            "--json",
        ],
    );
    let key: Value = serde_json::from_str(&issued).unwrap();
    assert_eq!(key["budget"], "july");
    assert!(fine(&service, &["keys", "list", "--budget", "year"]).contains("july"));
    assert!(fine(&service, &["budgets", "freeze", "july"]).contains("frozen"));
    assert!(fine(&service, &["budgets", "open", "july"]).contains("open"));
    let changed = fine(
        &service,
        &[
            "budgets",
            "change",
            "july",
            "--daily",
            "none",
            "--trip-on",
            "none",
            "--duplicate-window",
            "none",
            "--json",
        ],
    );
    let changed: Value = serde_json::from_str(&changed).unwrap();
    for gone in ["daily_usd_cap", "trip_on", "duplicate_window_seconds"] {
        assert_eq!(changed[gone], Value::Null, "{gone}");
    }
    assert!(
        service
            .command(reserve(1, &key, 100))
            .get("grant")
            .is_some(),
        "its rule has changed"
    );
    let statement = fine(&service, &["budgets", "statement", "july"]);
    assert!(
        statement.contains("rolling_usd_cap rolling") && statement.contains("closing free"),
        "{statement}"
    );
    let key_id = key["key_id"].as_str().unwrap();
    let own = fine(&service, &["keys", "statement", key_id, "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&own).unwrap()["key_id"],
        key_id
    );
    assert_eq!(
        fine(&service, &["keys", "revoke", "--budget", "year"]),
        "revoked: 1\n"
    );
    assert!(fine(&service, &["budgets", "close", "july"]).contains("closed"));
    for (arguments, code, part) in [
        (&["budgets", "open", "july"][..], 1, "409"),
        (&["budgets", "show", "none"], 1, "404"),
        (
            &["budgets", "create", "x", "--trip-on", "5"],
            2,
            "REFUSALS/SECONDS",
        ),
        (
            &["keys", "revoke", "--budget", "a", "--label-prefix", "b"],
            2,
            "cannot be used with",
        ),
    ] {
        let (found, _, err) = cli(&service, arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {err}");
        assert!(err.contains(part), "{arguments:?}: {err}");
    }
}
