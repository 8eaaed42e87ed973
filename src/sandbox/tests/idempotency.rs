//! Stripe's idempotency rules, through the real binary over TLS.

#![allow(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

mod support;

use std::sync::Arc;

use support::{AUTHORIZED, Sandbox};

const CHARGE: &str = "amount=999&currency=usd&customer=cus_aaa";

fn executions(sandbox: &Sandbox, key: &str) -> (u64, u64) {
    let count = &sandbox.counts()["by_key"][key];
    (
        count["requests"].as_u64().unwrap(),
        count["executions"].as_u64().unwrap(),
    )
}

#[test]
fn a_key_executes_once_in_24_hours_of_the_moved_clock() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let clock = folder.path().join("clock");
    let sandbox = Sandbox::start_in(Arc::clone(&folder), &["--clock", clock.to_str().unwrap()]);
    let first = sandbox.post("/v1/charges", "k", CHARGE);
    assert_eq!(
        (first.status, first.header("idempotent-replayed")),
        (200, None)
    );
    let same = sandbox.post(
        "/v1/charges",
        "k",
        "currency=usd&customer=cus%5Faaa&amount=999",
    );
    assert_eq!((same.status, &same.body), (200, &first.body));
    assert_eq!(same.header("idempotent-replayed").as_deref(), Some("true"));
    assert_eq!(same.header("original-request"), first.header("request-id"));
    assert_ne!(same.header("request-id"), first.header("request-id"));

    let hour = 3_600_000_i64;
    std::fs::write(&clock, (24 * hour - 60_000).to_string()).unwrap();
    assert_eq!(sandbox.post("/v1/charges", "k", CHARGE).id(), first.id());
    assert_eq!(executions(&sandbox, "k"), (3, 1));
    std::fs::write(&clock, (24 * hour + 1).to_string()).unwrap();
    let later = sandbox.post("/v1/charges", "k", CHARGE);
    assert_ne!(later.id(), first.id());
    assert_eq!(executions(&sandbox, "k"), (4, 2));
    assert!(
        later.json()["created"].as_i64() >= first.json()["created"].as_i64().map(|s| s + 86_400)
    );
    assert_eq!(sandbox.counts()["executed_minor"]["usd"], 2 * 999);
}

#[test]
fn other_parameters_or_another_endpoint_are_an_idempotency_error() {
    let sandbox = Sandbox::start();
    let charge = sandbox.post("/v1/charges", "k", CHARGE).id();
    for (path, body) in [
        ("/v1/charges", "amount=998&currency=usd&customer=cus_aaa"),
        ("/v1/refunds", &format!("charge={charge}")),
    ] {
        let reply = sandbox.post(path, "k", body);
        assert_eq!(
            (reply.status, &reply.json()["error"]["type"]),
            (400, &"idempotency_error".into())
        );
    }
    let other_account = ["Idempotency-Key: k", "Stripe-Account: acct_1", AUTHORIZED];
    let other = sandbox.send("POST", "/v1/charges", &other_account, CHARGE);
    assert_eq!(
        (other.status, other.header("idempotent-replayed")),
        (200, None)
    );
    let lost = sandbox.send(
        "GET",
        &format!("/v1/charges/{charge}"),
        &["Stripe-Account: acct_1", AUTHORIZED],
        "",
    );
    assert_eq!(lost.status, 404);
    assert_eq!(executions(&sandbox, "k"), (4, 2));
}

#[test]
fn validation_failures_429_and_409_are_not_stored_and_402_and_500_are() {
    let sandbox = Sandbox::start();
    assert_eq!(
        sandbox.post("/v1/charges", "bad", "currency=usd").status,
        400
    );
    assert_eq!(sandbox.post("/v1/charges", "bad", CHARGE).status, 200);
    for status in [429, 409, 401] {
        sandbox.fault(&format!(
            r#"{{"fault":{{"kind":"status","status":{status}}}}}"#
        ));
        let key = format!("s{status}");
        assert_eq!(sandbox.post("/v1/charges", &key, CHARGE).status, status);
        assert_eq!(sandbox.post("/v1/charges", &key, CHARGE).status, 200);
        assert_eq!(executions(&sandbox, &key), (2, 1));
    }
    for _ in 0..2 {
        let declined = sandbox.post(
            "/v1/charges",
            "dec",
            "amount=5&currency=usd&source=tok_chargeDeclined",
        );
        let error = declined.json()["error"].clone();
        assert_eq!(
            (declined.status, &error["code"]),
            (402, &"card_declined".into())
        );
        assert_eq!(error["decline_code"], "generic_decline");
    }
    assert_eq!(executions(&sandbox, "dec"), (2, 0));
    for (kind, executed) in [("stored_500", 0), ("executed_500", 1)] {
        sandbox.fault(&format!(
            r#"{{"match":{{"idempotency_key":"{kind}"}},"fault":{{"kind":"{kind}"}}}}"#
        ));
        let first = sandbox.post("/v1/charges", kind, CHARGE);
        let again = sandbox.post("/v1/charges", kind, CHARGE);
        assert_eq!((first.status, again.status), (500, 500));
        assert_eq!(first.body, again.body);
        assert_eq!(again.header("idempotent-replayed").as_deref(), Some("true"));
        assert_eq!(executions(&sandbox, kind), (2, executed));
    }
    assert_eq!(
        sandbox.post("/v1/charges", &"k".repeat(256), CHARGE).status,
        400
    );
    assert_eq!(
        sandbox.post("/v1/charges", &"k".repeat(255), CHARGE).status,
        200
    );
}

#[test]
fn a_second_request_while_the_first_is_in_flight_gets_409() {
    let sandbox = Sandbox::start();
    sandbox.fault(r#"{"match":{"idempotency_key":"slow"},"fault":{"delay_ms":1500}}"#);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| sandbox.post("/v1/charges", "slow", CHARGE));
        sandbox.until("the first has arrived", |s| {
            s.counts()["by_key"]["slow"]["requests"] == 1
        });
        let second = sandbox.post("/v1/charges", "slow", CHARGE);
        assert_eq!(
            (second.status, &second.json()["error"]["code"]),
            (409, &"idempotency_key_in_use".into())
        );
        assert_eq!(
            second.header("stripe-should-retry").as_deref(),
            Some("true")
        );
        let other = sandbox.post("/v1/charges", "slow", "amount=1&currency=usd");
        assert_eq!(other.json()["error"]["type"], "idempotency_error");
        assert_eq!(first.join().unwrap().status, 200);
    });
    assert_eq!(
        sandbox
            .post("/v1/charges", "slow", CHARGE)
            .header("idempotent-replayed")
            .as_deref(),
        Some("true")
    );
    assert_eq!(executions(&sandbox, "slow"), (4, 1));
}

#[test]
fn fifty_at_once_execute_once() {
    let sandbox = Sandbox::start();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| sandbox.post("/v1/charges", "k", CHARGE)))
            .collect();
        all.into_iter()
            .map(|one| one.join().unwrap().id())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(executions(&sandbox, "k"), (50, 1));
}

#[test]
fn a_killed_sandbox_remembers_what_it_executed() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let state = folder.path().join("state.jsonl");
    let more = ["--state", state.to_str().unwrap()];
    let sandbox = Sandbox::start_in(Arc::clone(&folder), &more);
    let first = sandbox.post("/v1/charges", "k", CHARGE);
    sandbox.fault(r#"{"fault":{"kind":"reset_before_answer"}}"#);
    assert!(sandbox.post("/v1/charges", "lost", CHARGE).end.is_err());
    sandbox.kill();
    // A kill may cut the last line short; that line never happened, however long it is.
    let mut torn = std::fs::read(&state).unwrap();
    torn.extend_from_slice(br#"{"account":"","key":"torn","objects":["#);
    torn.resize(torn.len() + 20_000, b' ');
    std::fs::write(&state, torn).unwrap();

    for start in 0..3 {
        let sandbox = Sandbox::start_in(Arc::clone(&folder), &more);
        assert_eq!(sandbox.counts()["executed_minor"]["usd"], (2 + start) * 999);
        let again = sandbox.post("/v1/charges", "k", CHARGE);
        assert_eq!(
            (again.header("idempotent-replayed").as_deref(), &again.body),
            (Some("true"), &first.body)
        );
        assert_eq!(sandbox.post("/v1/charges", "lost", CHARGE).status, 200);
        assert_eq!(
            (executions(&sandbox, "k"), executions(&sandbox, "lost")),
            ((1, 1), (1, 1))
        );
        let events = sandbox.get("/v1/events?type=charge.succeeded&limit=100");
        let events = events["data"].as_array().unwrap();
        assert_eq!(events.len(), 2 + usize::try_from(start).unwrap());
        assert_eq!(
            events[events.len() - 2]["request"]["idempotency_key"],
            "lost"
        );
        assert_eq!(
            sandbox
                .post("/v1/charges", &format!("new-{start}"), CHARGE)
                .status,
            200
        );
        sandbox.kill();
    }

    let sandbox = Sandbox::start_in(Arc::clone(&folder), &more);
    assert_eq!(sandbox.control("POST", "/reset", "").status, 200);
    assert_ne!(sandbox.post("/v1/charges", "k", CHARGE).id(), first.id());
    sandbox.kill();
    let sandbox = Sandbox::start_in(Arc::clone(&folder), &more);
    assert_eq!(sandbox.counts()["executed_minor"]["usd"], 999);
}
