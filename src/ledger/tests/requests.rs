//! Unknowns through the real binary: listed with their age, decided by an operator's word, seen in metrics and per key.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod support;

use keybrake_contract::digest::Digest;
use serde_json::{Value, json};
use support::{ADMIN, AUDIT, FIVE_FIELDS, Service, finished, keybrake};

fn id(number: u64) -> String {
    format!("{:032x}{number:016x}", 0xfeed)
}

/// Makes a charge of $2.99 whose outcome nobody knows; answers its id.
fn unknown(service: &Service, key: &Value, number: u64) -> String {
    let secret = key["vault_key"].as_str().unwrap();
    let digest = Digest::of(secret.as_bytes()).to_string();
    let hold = id(number * 2);
    let reserve = json!({"reserve": {
        "id": hold, "key_digest": digest, "grant_version": 1,
        "request": {"vendor": "stripe", "credential": "stripe", "operation": "charges.create", "method": "POST",
                    "path": "/v1/charges", "request_id": "req", "params": {}},
        "forward": "detached", "cost": {"amount": {"amount": 299, "currency": "usd"}},
        "idempotency": {"key": format!("k-{number}"), "fingerprint": "0".repeat(64)}, "forward_timeout_ms": 90000}});
    assert_eq!(service.command(reserve)["admitted"]["attempt"], 1);
    let outcome = json!({"outcome": {
        "id": id(number * 2 + 1), "hold": hold, "attempt": 1, "outcome": "indeterminate", "latency_ms": 9}});
    assert_eq!(service.command(outcome), "recorded");
    hold
}

fn path(hold: &str) -> String {
    format!("/admin/requests/{hold}/resolve")
}

const NOT_EXECUTED: &str = r#"{"outcome":"not_executed","reason":"no charge in the dashboard"}"#;

#[test]
fn an_unknown_is_listed_resolved_once_and_gone_from_every_figure() {
    let service = Service::start();
    let key = service.issue(FIVE_FIELDS);
    let key_path = format!("/admin/vault_keys/{}", key["key_id"].as_str().unwrap());
    let hold = unknown(&service, &key, 1);
    let list = service.api("GET", "/admin/requests", ADMIN, None).json();
    assert_eq!(list["requests"][0]["id"], json!(hold));
    assert_eq!(list["requests"][0]["outcome"], "unknown");
    assert!(list["requests"][0]["age_seconds"].as_u64().unwrap() < 60);
    let shown = service.api("GET", &key_path, ADMIN, None).json();
    assert_eq!(shown["unknown"]["count"], 1);
    assert_eq!(shown["unknown"]["amount_usd"], "2.990000");
    assert!(shown["unknown"]["oldest_age_seconds"].is_u64());
    let metrics = service.api("GET", "/metrics", "", None).text();
    assert!(metrics.contains("keybrake_unknown 1\n"), "{metrics}");
    assert!(metrics.contains("keybrake_unknown_usd 2.99\n"), "{metrics}");
    assert!(!metrics.contains("vk_"), "no key in a label");

    let word = r#"{"outcome":"executed","amount":299,"currency":"usd","vendor_object_id":"ch_7",
        "stripe_charge_id":"ch_7","reason":"seen in the dashboard","by":"ana"}"#;
    let answer = service.api("POST", &path(&hold), ADMIN, Some(word));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = json!({"operator": {"reason": "seen in the dashboard", "who": "ana"}});
    assert_eq!(answer.json()["resolution"]["evidence"], said);
    let again = service.api("POST", &path(&hold), ADMIN, Some(NOT_EXECUTED));
    assert_eq!(again.status, 409);
    let detail = again.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(
        detail,
        "the outcome of the request is not unknown, and nothing is held for it; nothing was changed"
    );
    let audit = service.api("GET", "/audit?idempotency_key=k-1", AUDIT, None);
    let entry = audit.json()["entries"][0].clone();
    assert_eq!(entry["stripe_charge_id"], "ch_7");
    assert_eq!(entry["outcome"], "settled");
    assert_eq!(entry["resolution"]["evidence"], said);
    let shown = service.api("GET", &key_path, ADMIN, None).json();
    let expected = json!({"count": 0, "amount_usd": "0.000000", "oldest_age_seconds": null});
    assert_eq!(shown["unknown"], expected);
    assert_eq!(shown["balances"][0]["settled"], "2.990000");
    let metrics = service.api("GET", "/metrics", "", None).text();
    assert!(metrics.contains("keybrake_unknown 0\n"), "{metrics}");
    let counted = r#"keybrake_commands_total{command="resolve",result="executed"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn a_resolve_asked_wrongly_is_a_problem_and_changes_nothing() {
    let service = Service::start();
    let key = service.issue(FIVE_FIELDS);
    let hold = unknown(&service, &key, 1);
    let post = |path: &str, credential: &str, body: &str| {
        service.api("POST", path, credential, Some(body))
    };
    let secret = key["vault_key"].as_str().unwrap();
    assert_eq!(post(&path(&hold), "", NOT_EXECUTED).status, 401);
    assert_eq!(post(&path(&hold), AUDIT, NOT_EXECUTED).status, 403);
    assert_eq!(post(&path(&hold), secret, NOT_EXECUTED).status, 403);
    let list = service.api("GET", "/admin/requests", AUDIT, None);
    assert_eq!(list.status, 403);
    for nobody in [&id(99), "x", "..%2f..", &hold[1..], &hold.to_uppercase()] {
        if *nobody != hold {
            let answer = post(&path(nobody), ADMIN, NOT_EXECUTED);
            assert_eq!(answer.status, 404, "{nobody}: {}", answer.text());
        }
    }
    for (body, field) in [
        ("{}", "outcome"),
        (r#"{"outcome":"executed","reason":"r"}"#, "amount"),
        (
            r#"{"outcome":"executed","reason":"r","amount":"2.99","currency":"usd"}"#,
            "amount",
        ),
        (
            r#"{"outcome":"not_executed","reason":"r","amount":1}"#,
            "amount",
        ),
        (r#"{"outcome":"not_executed"}"#, "reason"),
    ] {
        let answer = post(&path(&hold), ADMIN, body);
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{body}");
    }
    let list = service.api("GET", "/admin/requests?cursor=x", ADMIN, None);
    assert_eq!(list.status, 400);
    let list = service.api("GET", "/admin/requests", ADMIN, None).json();
    assert_eq!(list["requests"].as_array().unwrap().len(), 1);
}

#[test]
fn the_command_line_lists_and_resolves() {
    let service = Service::start();
    let key = service.issue(FIVE_FIELDS);
    let first = unknown(&service, &key, 1);
    let second = unknown(&service, &key, 2);
    let run = |arguments: &[&str]| {
        let mut command = keybrake(service.folder.path());
        command
            .env("KEYBRAKE_URL", format!("http://{}/", service.listen))
            .env("USER", "ana")
            .arg("requests")
            .args(arguments);
        finished(&mut command)
    };
    let (code, out, err) = run(&["unknown"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.starts_with("AGE SECONDS") && out.contains(&first),
        "{out}"
    );
    let reason = ["--reason", "no charge in the dashboard"];
    let not = ["resolve", &first, "--outcome", "not_executed"];
    let (code, out, err) = run(&[&not[..], &reason].concat());
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("released") && out.contains("\"who\":\"ana\""),
        "{out}"
    );
    let (code, _, err) = run(&[&not[..], &reason].concat());
    assert_eq!(code, Some(1));
    assert!(
        err.contains("nothing is held for it; nothing was changed"),
        "{err}"
    );
    let done = [
        "resolve",
        &second,
        "--outcome",
        "executed",
        "--amount",
        "299",
        "--currency",
        "usd",
        "--object",
        "ch_1",
        "--charge",
        "ch_1",
        "--json",
    ];
    let (code, out, err) = run(&[&done[..], &reason].concat());
    assert_eq!(code, Some(0), "{err}");
    let entry: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(entry["outcome"], "settled");
    let (_, out, _) = run(&["unknown", "--json"]);
    let list: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(list["requests"], json!([]));
}
