//! Faults on demand, through the real binary over TLS.

#![allow(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

mod support;

use std::io::{ErrorKind, Read, Write};

use support::{AUTHORIZED, Sandbox};

const CHARGE: &str = "amount=999&currency=usd&customer=cus_aaa";

#[test]
fn a_lost_answer_was_executed_or_not_as_asked() {
    let sandbox = Sandbox::start();
    // kind, executions before the retry, how the connection ends, whether the retry is a replay
    let table = [
        ("reset_before_answer", 1, ErrorKind::ConnectionReset, true),
        (
            "reset_before_execution",
            0,
            ErrorKind::ConnectionReset,
            false,
        ),
        ("close_before_answer", 1, ErrorKind::UnexpectedEof, true),
    ];
    for (kind, executed, end, replayed) in table {
        sandbox.fault(&format!(
            r#"{{"match":{{"method":"POST","path":"/v1/*"}},"fault":{{"kind":"{kind}"}}}}"#
        ));
        let lost = sandbox.post("/v1/charges", kind, CHARGE);
        assert_eq!(
            (lost.head.len(), lost.end.unwrap_err().kind()),
            (0, end),
            "{kind}"
        );
        assert_eq!(
            sandbox.counts()["by_key"][kind]["executions"],
            executed,
            "{kind}"
        );
        let log = sandbox.control("GET", "/requests", "").json();
        let last = log["requests"].as_array().unwrap().last().unwrap();
        assert_eq!(last["status"], serde_json::Value::Null, "{kind}");
        let retry = sandbox.post("/v1/charges", kind, CHARGE);
        assert_eq!(
            (retry.status, retry.header("idempotent-replayed").is_some()),
            (200, replayed),
            "{kind}"
        );
        assert_eq!(sandbox.counts()["by_key"][kind]["executions"], 1, "{kind}");
    }
}

#[test]
fn a_cut_answer_has_its_whole_length_in_the_header_and_less_in_the_body() {
    let sandbox = Sandbox::start();
    for bytes in [0, 7, 100_000] {
        sandbox.fault(&format!(
            r#"{{"fault":{{"kind":"cut_answer","bytes":{bytes}}}}}"#
        ));
        let key = format!("cut-{bytes}");
        let cut = sandbox.post("/v1/charges", &key, CHARGE);
        let length: usize = cut.header("content-length").unwrap().parse().unwrap();
        assert_eq!((cut.status, cut.body.len()), (200, bytes.min(length - 1)));
        assert_eq!(cut.end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let retry = sandbox.post("/v1/charges", &key, CHARGE);
        assert_eq!(
            (
                retry.body.len(),
                retry.header("idempotent-replayed").is_some()
            ),
            (length, true)
        );
    }
}

#[test]
fn a_client_that_hangs_up_does_not_stop_the_execution() {
    let sandbox = Sandbox::start();
    for (key, fault) in [
        (
            "slow",
            r#"{"match":{"idempotency_key":"slow"},"fault":{"delay_ms":300}}"#,
        ),
        (
            "hung",
            r#"{"match":{"idempotency_key":"hung"},"fault":{"kind":"hang"}}"#,
        ),
    ] {
        sandbox.fault(fault);
        let mut stream = sandbox.connect();
        let head = format!(
            "POST /v1/charges HTTP/1.1\r\nHost: a\r\n{AUTHORIZED}\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{CHARGE}",
            CHARGE.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.flush().unwrap();
        sandbox.until("it has arrived", |s| {
            s.counts()["by_key"][key]["requests"] == 1
        });
        drop(stream);
        sandbox.until("it has executed", |s| {
            s.counts()["by_key"][key]["executions"] == 1
        });
    }
    sandbox.fault(r#"{"fault":{"kind":"hang","executes":false}}"#);
    let mut stream = sandbox.connect();
    stream
        .sock
        .set_read_timeout(Some(std::time::Duration::from_millis(300)))
        .unwrap();
    stream
        .write_all(
            format!("GET /v1/balance HTTP/1.1\r\nHost: a\r\n{AUTHORIZED}\r\n\r\n").as_bytes(),
        )
        .unwrap();
    assert!(matches!(
        stream.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
}

#[test]
fn odd_answers_are_executed_and_look_odd() {
    let sandbox = Sandbox::start();
    let odd = |fault: &str| {
        sandbox.fault(&format!(
            r#"{{"match":{{"body_contains":"amount"}},"fault":{fault}}}"#
        ));
        sandbox.post("/v1/charges", &format!("odd-{}", fault.len()), CHARGE)
    };
    let raw = odd(r#"{"kind":"raw_headers","headers":{"x-odd":"ff41"}}"#);
    assert!(raw.head.windows(9).any(|w| w == b"x-odd: \xffA"));
    assert!(odd(r#"{"kind":"huge_header","bytes":50000}"#).head.len() > 50_000);
    assert_eq!(
        odd(r#"{"kind":"huge_body","bytes":300000}"#).body.len(),
        300_000
    );
    assert_eq!(
        odd(r#"{"kind":"gzip"}"#)
            .header("content-encoding")
            .as_deref(),
        Some("gzip")
    );
    let page = odd(r#"{"kind":"not_json"}"#);
    assert_eq!((page.status, page.body.first()), (200, Some(&b'<')));
    let early = odd(
        r#"{"kind":"raw_before","hex":"485454502f312e31203130322050726f63657373696e670d0a0d0a"}"#,
    );
    assert!(
        early.head.starts_with(b"HTTP/1.1 102 Processing\r\n")
            && early.body.starts_with(b"HTTP/1.1 200 OK")
    );
    let moved = odd(
        r#"{"kind":"status","status":302,"headers":{"location":"https://api.stripe.com/"},"executes":true,"body":""}"#,
    );
    assert_eq!(
        (
            moved.status,
            moved.header("location").is_some(),
            moved.body.len()
        ),
        (302, true, 0)
    );
    assert_eq!(sandbox.counts()["executions_total"], 7);
    let faults = sandbox.control("GET", "/faults", "").json();
    assert!(
        faults["faults"]
            .as_array()
            .unwrap()
            .iter()
            .all(|f| f["times"] == 0 && f["hits"] == 1)
    );
}

#[test]
fn faults_wait_for_their_request_and_can_be_cleared() {
    let sandbox = Sandbox::start();
    sandbox.fault(r#"{"match":{"method":"GET","path":"/v1/balance"},"times":null,"fault":{"kind":"status","status":503}}"#);
    assert_eq!(sandbox.post("/v1/charges", "", CHARGE).status, 200);
    for _ in 0..3 {
        assert_eq!(
            sandbox.send("GET", "/v1/balance", &[AUTHORIZED], "").status,
            503
        );
    }
    assert_eq!(
        sandbox.control("GET", "/faults", "").json()["faults"][0]["hits"],
        3
    );
    assert_eq!(sandbox.control("DELETE", "/faults", "").status, 200);
    assert_eq!(
        sandbox.send("GET", "/v1/balance", &[AUTHORIZED], "").status,
        200
    );
    for bad in [
        r#"{"fault":{"kind":"nonsense"}}"#,
        r#"{"fault":{"kind":"gzip","bytes":1}}"#,
        r#"{"fautl":{}}"#,
        "{",
    ] {
        assert_eq!(sandbox.control("POST", "/faults", bad).status, 400, "{bad}");
    }
}
