//! The command socket through the real binary: who may send, the bounds of a batch, and what the audit then says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod support;

use std::os::unix::net::UnixStream;

use keybrake_contract::vault_key;
use serde_json::{Value, json};
use support::{AUDIT, FIVE_FIELDS, INTERNAL, Service, exchange};

fn id(number: u64) -> String {
    format!("{}{number:016x}", "ab".repeat(16))
}

fn digest_of(key: &Value) -> String {
    vault_key::digest(key["vault_key"].as_str().unwrap().as_bytes())
        .unwrap()
        .to_string()
}

fn reserve(number: u64, digest: &str, idempotency_key: &str) -> Value {
    json!({"reserve": {
        "id": id(number), "key_digest": digest, "grant_version": 1,
        "request": {"vendor": "stripe", "credential": "stripe", "operation": "charges.create", "method": "POST",
                    "path": "/v1/charges", "request_id": format!("req-{number}"), "params": {"customer": "cus_aaa"}},
        "forward": "detached", "cost": {"amount": {"amount": 999, "currency": "usd"}},
        "idempotency": {"key": idempotency_key, "fingerprint": "0".repeat(64)}, "forward_timeout_ms": 90000}})
}

fn executed(number: u64, hold: &str) -> Value {
    json!({"outcome": {
        "id": id(number), "hold": hold, "attempt": 1,
        "outcome": {"executed": {"money": "moved", "amount": {"amount": 999, "currency": "usd"}}},
        "status": 200, "vendor_request_id": "req_v1", "vendor_object_id": "ch_1", "charge_id": "ch_1",
        "answer": {"status": 200, "content_type": "application/json", "body": "{\"id\":\"ch_1\"}"}, "latency_ms": 12}})
}

fn batch(commands: &[Value]) -> Vec<u8> {
    json!({"commands": commands}).to_string().into_bytes()
}

#[test]
fn nothing_is_executed_without_the_internal_key() {
    let service = Service::start();
    let digest = digest_of(&service.issue(FIVE_FIELDS));
    let body = batch(&[reserve(1, &digest, "k")]);
    for credential in ["", "wrong", support::ADMIN, AUDIT] {
        let answer = service.batch(credential, &body);
        assert_eq!(answer.status, 401, "{credential}");
        assert_eq!(answer.header("keybrake-ledger"), Some("1"));
    }
    let twice =
        format!("keybrake-internal-key: {INTERNAL}\r\nkeybrake-internal-key: {INTERNAL}\r\n");
    let stream = UnixStream::connect(&service.socket).unwrap();
    assert_eq!(
        exchange(stream, "POST", "/internal/v1/commands", &twice, &body).status,
        401
    );
    assert_eq!(
        service.api("GET", "/audit", AUDIT, None).json()["entries"],
        json!([])
    );
}

#[test]
fn a_batch_has_bounds() {
    let service = Service::start();
    let digest = digest_of(&service.issue(FIVE_FIELDS));
    let many: Vec<Value> = (0..257)
        .map(|number| reserve(number, &digest, "k"))
        .collect();
    let one = batch(&[reserve(1, &digest, "k")]);
    let padded = |length: usize| {
        let mut body = one.clone();
        body.resize(length, b' ');
        body
    };
    for (body, expected) in [
        (batch(&many), 413),
        (padded(4 * 1024 * 1024 + 1), 413),
        (b"{".to_vec(), 400),
        (br#"{"commands":[],"more":1}"#.to_vec(), 400),
        (Vec::new(), 400),
    ] {
        let answer = service.batch(INTERNAL, &body);
        assert_eq!(answer.status, expected, "{}", answer.text());
        assert_eq!(answer.header("keybrake-ledger"), Some("1"));
    }
    // The same bound for a body that does not say how long it is.
    let stream = UnixStream::connect(&service.socket).unwrap();
    let answer = chunked(stream, &padded(4 * 1024 * 1024 + 1));
    assert_eq!(answer.status, 413);
    assert_eq!(
        service.api("GET", "/audit", AUDIT, None).json()["entries"],
        json!([]),
        "nothing was executed"
    );

    let answer = service.batch(INTERNAL, &padded(4 * 1024 * 1024));
    assert_eq!(answer.status, 200, "exactly the bound is allowed");
    assert_eq!(
        service.batch(INTERNAL, br#"{"commands":[]}"#).json(),
        json!({"results": []})
    );
}

fn chunked(mut stream: UnixStream, body: &[u8]) -> support::Answer {
    use std::io::Write as _;
    let head = format!(
        "POST /internal/v1/commands HTTP/1.1\r\nhost: l\r\nconnection: close\r\nkeybrake-internal-key: {INTERNAL}\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.write_all(body);
    let _ = stream.write_all(b"\r\n0\r\n\r\n");
    support::read_answer(stream)
}

#[test]
fn a_bad_command_does_not_spoil_its_batch() {
    let service = Service::start();
    let digest = digest_of(&service.issue(FIVE_FIELDS));
    let mut surprising = reserve(2, &digest, "k-2");
    surprising["reserve"]["surprise"] = json!("vault_key_secret_text");
    let commands = [
        reserve(1, &digest, "k-1"),
        surprising,
        json!("nonsense"),
        json!({"unheard_of": {"id": id(3)}}),
        json!({"release": {"id": "no-id", "reserve": id(9), "cause": "no_answer"}}),
    ];
    let answer = service.batch(INTERNAL, &batch(&commands));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("keybrake-ledger"), Some("1"));
    let results = answer.json()["results"].clone();
    assert_eq!(results.as_array().unwrap().len(), 5);
    assert!(results[0]["result"]["admitted"].is_object(), "{results}");
    for (index, expected) in [(1, Some(id(2))), (2, None), (3, Some(id(3))), (4, None)] {
        assert!(
            results[index]["result"]["invalid_command"].is_string(),
            "{results}"
        );
        assert_eq!(results[index]["id"].as_str().map(str::to_owned), expected);
    }
    assert!(!answer.text().contains("vault_key_secret_text"));
}

#[test]
fn other_paths_and_methods_are_not_there() {
    let service = Service::start();
    let key = format!("keybrake-internal-key: {INTERNAL}\r\n");
    for (method, path, expected) in [
        ("GET", "/internal/v1/commands", 405),
        ("POST", "/admin/vault_keys", 404),
        ("GET", "/healthz", 404),
        ("POST", "/internal/v1/commands/", 404),
    ] {
        let stream = UnixStream::connect(&service.socket).unwrap();
        assert_eq!(
            exchange(stream, method, path, &key, b"").status,
            expected,
            "{method} {path}"
        );
    }
}

#[test]
fn a_charge_is_admitted_settled_and_found_by_its_idempotency_key() {
    let service = Service::start();
    let key = service.issue(FIVE_FIELDS);
    let digest = digest_of(&key);
    let admitted = service.command(reserve(1, &digest, "order-17"));
    assert_eq!(admitted["admitted"]["hold"], id(1));
    assert_eq!(service.command(executed(2, &id(1))), "recorded");
    let over = service.command(reserve(3, &digest, "order-18"));
    assert_eq!(over["refused"]["code"], "spend_cap_exceeded");

    let found = service.api("GET", "/audit?idempotency_key=order-17", AUDIT, None);
    assert_eq!(found.header("cache-control"), Some("no-store"));
    let entries = found.json()["entries"].clone();
    assert_eq!(entries.as_array().unwrap().len(), 1);
    for (field, expected) in [
        ("stripe_charge_id", json!("ch_1")),
        ("verdict", json!("admitted")),
        ("outcome", json!("settled")),
        ("cost_usd", json!("9.990000")),
        ("amount", json!(999)),
        ("currency", json!("usd")),
        ("label", json!("metaflow-2026-07-cus_aaa")),
        ("latency_ms", json!(12)),
        ("params", json!({"customer": "cus_aaa"})),
    ] {
        assert_eq!(entries[0][field], expected, "{field}");
    }
    let wanted = [
        "id",
        "time",
        "key_id",
        "label",
        "run_id",
        "vendor",
        "operation",
        "method",
        "path",
        "idempotency_key",
        "amount",
        "currency",
        "cost_usd",
        "verdict",
        "reason",
        "outcome",
        "status",
        "vendor_object_id",
        "stripe_charge_id",
        "vendor_request_id",
        "replays",
        "latency_ms",
        "params",
    ];
    let text = found.text();
    let mut at = 0;
    for name in wanted {
        let place = text[at..].find(&format!("\"{name}\":"));
        at += place.unwrap_or_else(|| panic!("{name} is not there, or not in its place"));
    }
    let refused = service
        .api("GET", "/audit?verdict=refused", AUDIT, None)
        .json();
    assert_eq!(refused["entries"][0]["reason"], "spend_cap_exceeded");
    let shown = service.api(
        "GET",
        &format!("/admin/vault_keys/{}", key["key_id"].as_str().unwrap()),
        support::ADMIN,
        None,
    );
    assert_eq!(shown.json()["balances"][0]["settled"], "9.990000");
    assert_eq!(shown.json()["balances"][0]["free"], "1.000000");

    let metrics = service.api("GET", "/metrics", "", None).text();
    for line in [
        "keybrake_commands_total{command=\"reserve\",result=\"admitted\"} 1",
        "keybrake_refusals_total{reason=\"spend_cap_exceeded\"} 1",
        "keybrake_ready 1",
    ] {
        assert!(
            metrics.lines().any(|have| have == line),
            "{line} is not in\n{metrics}"
        );
    }
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_spoken_on_the_socket() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let service = Service::start();
    let stream = tokio::net::UnixStream::connect(&service.socket)
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let running = tokio::spawn(connection);
    let large = format!("{{\"commands\":[]{}}}", " ".repeat(3 * 1024 * 1024));
    for body in ["{\"commands\":[]}".to_owned(), large] {
        let request = hyper::Request::post("http://ledger/internal/v1/commands")
            .header("keybrake-internal-key", INTERNAL)
            .body(Full::new(bytes::Bytes::from(body)))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(
            (
                answer.status().as_u16(),
                &answer.headers()["keybrake-ledger"]
            ),
            (200, &"1".parse().unwrap())
        );
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"{\"results\":[]}");
    }
    drop(sender);
    running.await.unwrap().unwrap();
}
