//! The reconciler through the real binary, against a gate and vendor that say what the test tells them to.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod support;

#[path = "support/gate.rs"]
mod gate;

use std::net::TcpListener;
use std::path::PathBuf;

use gate::{Clock, Gate, facts, id};
use keybrake_contract::digest::Digest;
use serde_json::{Value, json};
use support::{ADMIN, AUDIT, FIVE_FIELDS, Service, eventually, finished, keybrake};

/// Makes a request whose outcome nobody knows; answers its hold.
fn unknown(service: &Service, key: &Value, name: &str, facts: Value) -> String {
    let digest = Digest::of(key["vault_key"].as_str().unwrap().as_bytes()).to_string();
    let hold = id();
    let reserve = json!({"reserve": {
        "id": hold, "key_digest": digest, "grant_version": 1, "request": facts,
        "forward": "detached", "cost": {"amount": {"amount": 299, "currency": "usd"}},
        "idempotency": {"key": name, "fingerprint": "0".repeat(64)}, "forward_timeout_ms": 90000}});
    assert_eq!(service.command(reserve)["admitted"]["attempt"], 1);
    let outcome = json!({"outcome": {
        "id": id(), "hold": hold, "attempt": 1, "outcome": "indeterminate", "status": 500, "latency_ms": 9}});
    assert_eq!(service.command(outcome), "recorded");
    hold
}

fn charge(service: &Service, key: &Value, name: &str) -> String {
    unknown(
        service,
        key,
        name,
        facts("charges.create", "POST", "/v1/charges"),
    )
}

/// One pass, as `keybrake reconcile --json` prints it, and the exit code.
fn pass(service: &Service) -> (Option<i32>, Value, String) {
    let mut command = keybrake(service.folder.path());
    command
        .env("KEYBRAKE_URL", format!("http://{}", service.listen))
        .args(["reconcile", "--json"]);
    let (code, out, err) = finished(&mut command);
    let report = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    (code, report, err)
}

fn reason(report: &Value, hold: &str) -> String {
    let listed = report["unknown"].as_array().unwrap();
    let found = listed.iter().find(|one| one["id"] == hold);
    let found = found.unwrap_or_else(|| panic!("{hold} is not in {report}"));
    found["reason"].as_str().unwrap().to_owned()
}

fn events(events: &[Value]) -> Value {
    json!({"object": "list", "data": events, "has_more": false})
}

fn event(event_id: &str, name: &str, object: &str) -> Value {
    let now = keybrake_ledger::clock::Clock::new(None).unwrap().now_ms() / 1_000;
    json!({"id": event_id, "created": now, "request": {"id": "req_9", "idempotency_key": name},
           "data": {"object": {"id": object, "object": "charge"}}})
}

fn charged(object: &str) -> Value {
    json!({"id": object, "object": "charge", "amount": 299, "currency": "usd", "status": "succeeded", "captured": true})
}

#[test]
fn an_event_settles_and_the_key_that_read_it_can_do_nothing_else_and_is_gone_afterwards() {
    let (gate, clock) = (Gate::open(), Clock::new());
    let service = gate.start(&clock);
    let key = service.issue(FIVE_FIELDS);
    let hold = charge(&service, &key, "k-1");
    gate.say("/v1/events", 200, &events(&[event("evt_1", "k-1", "ch_7")]));
    gate.say("/v1/charges/ch_7", 200, &charged("ch_7"));
    let (code, report, err) = pass(&service);
    assert_eq!(code, Some(0), "{err}");
    let decided = &report["decided"][0];
    assert_eq!(decided["id"], json!(hold));
    assert_eq!(decided["finding"], "executed");
    assert_eq!(
        decided["evidence"],
        json!({"vendor_event": {"event_id": "evt_1"}})
    );
    let seen = gate.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(
        seen[0].starts_with("GET /stripe/v1/events?created%5Bgte%5D="),
        "{seen:?}"
    );
    assert_eq!(seen[1], "GET /stripe/v1/charges/ch_7");
    let audit = service
        .api("GET", "/audit?idempotency_key=k-1", AUDIT, None)
        .json();
    let entry = &audit["entries"][0];
    assert_eq!(
        (&entry["outcome"], &entry["stripe_charge_id"]),
        (&json!("settled"), &json!("ch_7"))
    );
    assert!(entry.get("credential").is_none(), "not for show");
    let own = service
        .api("GET", "/audit?label=keybrake-reconciler", AUDIT, None)
        .json();
    assert_eq!(own["entries"].as_array().unwrap().len(), 2);

    let keys = "/admin/vault_keys?label_prefix=keybrake-reconciler";
    let shown = service.api("GET", keys, ADMIN, None).json()["keys"][0].clone();
    let allowed = shown["allowed_endpoints"].as_array().unwrap();
    assert!(allowed.contains(&json!("events.list")));
    for line in allowed {
        let line = line.as_str().unwrap();
        assert!(
            line.ends_with(".retrieve") || line.ends_with(".list"),
            "{line}"
        );
    }
    let metrics = service.api("GET", "/metrics", "", None).text();
    assert!(metrics.contains("keybrake_reconcile_decided_total{finding=\"executed\"} 1\n"));
    assert!(metrics.contains("keybrake_reconcile_passes_total{result=\"whole\"} 1\n"));

    let secret = gate.secrets.lock().unwrap()[0].clone();
    assert!(secret.starts_with("vault_key_"));
    let folder = service.stop();
    for file in files(folder.path()) {
        let bytes = std::fs::read(&file).unwrap();
        let holds = bytes
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        assert!(!holds, "the secret is in {}", file.display());
    }
    let service = Service::start_in(folder, |command| {
        command.env("KEYBRAKE_TEST_CLOCK", clock.0.path());
    });
    let shown = service.api("GET", keys, ADMIN, None).json()["keys"].clone();
    assert_eq!(shown.as_array().unwrap().len(), 1);
    assert_eq!(shown[0]["status"], "revoked");
}

fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

#[test]
fn whatever_is_odd_decides_nothing() {
    let (gate, clock) = (Gate::open(), Clock::new());
    let service = gate.start(&clock);
    let key = service.issue(FIVE_FIELDS);
    let hold = charge(&service, &key, "k-1");
    clock.advance(20);
    let one = || event("evt_1", "k-1", "ch_7");
    let many = json!({"data": [one()], "has_more": true});
    let mut two = events(&[one(), event("evt_2", "k-1", "ch_8")]);
    let odd_object = [
        json!({"id": "ch_7", "object": "charge"}),
        charged("ch_8"),
        json!({"error": {"type": "api_error"}}),
    ];
    let rows = [
        (500, events(&[]), "not_read"),
        (403, events(&[]), "not_read"),
        (200, json!({"error": {"type": "x"}}), "not_read"),
        // The same page for ever.
        (200, many, "not_read"),
        (200, two.take(), "odd"),
    ];
    // Each of them twice and more than a minute apart, so that it would count as read if anything did.
    for (status, body, expected) in rows {
        gate.say("/v1/events", status, &body);
        for _ in 0..2 {
            clock.advance(2);
            let (code, report, _) = pass(&service);
            assert_eq!(reason(&report, &hold), expected, "{status} {body}");
            assert_eq!(code, Some(i32::from(expected == "not_read")), "{report}");
        }
    }
    gate.say("/v1/events", 200, &events(&[one()]));
    for object in odd_object {
        gate.say("/v1/charges/ch_7", 200, &object);
        let (_, report, _) = pass(&service);
        assert_eq!(reason(&report, &hold), "odd", "{object}");
    }
    gate.say("/v1/charges/ch_7", 404, &json!({}));
    let (code, report, err) = pass(&service);
    assert_eq!(
        (code, reason(&report, &hold).as_str()),
        (Some(1), "not_read")
    );
    assert!(err.contains("nothing was decided"), "{err}");
    let shown = service.api("GET", "/admin/requests", ADMIN, None).json();
    assert_eq!(shown["requests"][0]["id"], json!(hold));
}

#[test]
fn absence_takes_time_and_two_reads_and_a_key_that_was_revoked_is_replaced() {
    let (gate, clock) = (Gate::open(), Clock::new());
    let service = gate.start(&clock);
    let key = service.issue(FIVE_FIELDS);
    let hold = charge(&service, &key, "k-1");
    gate.say("/v1/events", 200, &events(&[]));
    for (minutes, expected) in [
        (0, "too_early"),
        (14, "too_early"),
        (2, "read_once"),
        (0, "read_once"),
    ] {
        clock.advance(minutes);
        let (_, report, _) = pass(&service);
        assert_eq!(reason(&report, &hold), expected);
    }
    let prefix = r#"{"label_prefix":"keybrake-reconciler"}"#;
    service.api("POST", "/admin/vault_keys/revoke", ADMIN, Some(prefix));
    clock.advance(2);
    let (code, report, _) = pass(&service);
    assert_eq!(
        (code, reason(&report, &hold).as_str()),
        (Some(1), "not_read")
    );
    // The next pass has another one; and what it has no use of after a day it renews.
    let (_, report, _) = pass(&service);
    assert_eq!(report["decided"][0]["finding"], "not_executed", "{report}");
    assert_eq!(
        report["decided"][0]["evidence"],
        json!({"absence": {"reads": 2}})
    );
    assert_eq!(report["decided"][0]["outcome"], "released");
    clock.advance(60 * 25);
    let key = service.issue(FIVE_FIELDS);
    let hold = charge(&service, &key, "k-2");
    let (code, report, _) = pass(&service);
    assert_eq!(
        (code, reason(&report, &hold).as_str()),
        (Some(0), "too_early")
    );
}

#[test]
fn what_no_record_shows_is_left_and_said_so() {
    let (gate, clock) = (Gate::open(), Clock::new());
    let service = gate.start(&clock);
    let body = support::with(
        "allowed_endpoints",
        r#"["charges.create","refunds.create","payment_intents.confirm"]"#,
    );
    let body = body.replace("10.99", "100");
    let accounts = format!(
        "{},\"vendor_accounts\":[\"acct_1\"]}}",
        body.trim_end_matches('}')
    );
    let key = service.issue(&accounts);
    let create = || facts("charges.create", "POST", "/v1/charges");
    let mut account = create();
    account["vendor_account"] = json!("acct_1");
    let mut credential = create();
    credential["credential"] = json!("stripe_eu");
    let rows = [
        ("connected_account", unknown(&service, &key, "k-1", account)),
        (
            "other_credential",
            unknown(&service, &key, "k-2", credential),
        ),
        (
            "operation_not_shown",
            unknown(
                &service,
                &key,
                "k-3",
                facts(
                    "payment_intents.confirm",
                    "POST",
                    "/v1/payment_intents/pi_1/confirm",
                ),
            ),
        ),
        (
            "absence_shows_nothing",
            unknown(
                &service,
                &key,
                "k-4",
                facts("refunds.create", "POST", "/v1/refunds"),
            ),
        ),
    ];
    gate.say("/v1/events", 200, &events(&[]));
    for _ in 0..3 {
        clock.advance(20);
        let (code, report, _) = pass(&service);
        assert_eq!((code, &report["unknown_count"]), (Some(0), &json!(4)));
        for (expected, hold) in &rows {
            let found = reason(&report, hold);
            let is_early = found == "too_early" && *expected == "absence_shows_nothing";
            assert!(found == *expected || is_early, "{expected}: {report}");
        }
    }
    let (_, report, _) = pass(&service);
    assert_eq!(reason(&report, &rows[3].1), "absence_shows_nothing");
}

#[test]
fn without_a_url_there_is_no_reconciler_and_a_wrong_one_is_refused() {
    let service = Service::start();
    for method in ["GET", "POST"] {
        let answer = service.api(method, "/admin/requests/reconcile", ADMIN, None);
        assert_eq!(answer.status, 409, "{}", answer.text());
        let answer = service.api(method, "/admin/requests/reconcile", AUDIT, None);
        assert_eq!(answer.status, 403);
    }
    let mut command = keybrake(service.folder.path());
    command
        .env("KEYBRAKE_URL", format!("http://{}", service.listen))
        .arg("reconcile");
    let (code, _, err) = finished(&mut command);
    assert_eq!(code, Some(1));
    assert!(err.contains("--reconcile-url"), "{err}");
    for url in ["https://127.0.0.1:1", "127.0.0.1:1", "http://u:p@h"] {
        let mut command = keybrake(service.folder.path());
        command.args(["serve", "--listen", "127.0.0.1:0", "--reconcile-url", url]);
        let (code, _, err) = finished(&mut command);
        assert_eq!(code, Some(2), "{url}: {err}");
        assert!(
            err.contains("reconcile URL") && !err.contains("u:p"),
            "{err}"
        );
    }
}

#[test]
fn a_vendor_that_does_not_answer_holds_up_nothing() {
    let clock = Clock::new();
    // A listener that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = Gate {
        url: format!("http://{}", silent.local_addr().unwrap()),
        ..Gate::open()
    };
    let mut service = gate.start(&clock);
    let key = service.issue(FIVE_FIELDS);
    charge(&service, &key, "k-1");
    let asked = service.api("POST", "/admin/requests/reconcile", ADMIN, None);
    assert_eq!(
        (asked.status, asked.json()["pass"].clone()),
        (202, json!(1))
    );
    eventually("the pass is being made", || {
        let shown = service.api("GET", "/admin/requests/reconcile", ADMIN, None);
        shown.json()["running"]["pass"] == 1
    });
    // Who asks meanwhile gets a pass of their own, after this one.
    let asked = service.api("POST", "/admin/requests/reconcile", ADMIN, None);
    assert_eq!(asked.json()["pass"], 2);
    charge(&service, &key, "k-2");
    service.terminate();
    assert_eq!(service.wait().code(), Some(0), "{}", service.log());
}
