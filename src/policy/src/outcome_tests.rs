use super::*;
use crate::read::tests::stripe;

const CHARGE: &str = r#"{"id":"ch_1","object":"charge","amount":999,"currency":"usd","status":"succeeded","captured":true}"#;

fn judged(status: u16, headers: &[(&str, &[u8])], body: &[u8]) -> Judgement {
    let config = stripe();
    let pack = &config.vendors[0].pack;
    let endpoint = pack.endpoint("POST", "/v1/charges").unwrap();
    let headers: Vec<(Vec<u8>, Vec<u8>)> = headers
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
        .collect();
    judge(
        pack,
        endpoint,
        &VendorAnswer {
            status,
            headers: &headers,
            body,
        },
    )
}

#[test]
fn an_executed_charge_is_kept_and_passed_on() {
    let headers: [(&str, &[u8]); 8] = [
        (":status", b"200"),
        ("content-type", b"application/json"),
        ("request-id", b"req_v1"),
        ("idempotent-replayed", b"true"),
        ("keybrake-upstream", b"1"),
        ("x-envoy-upstream-service-time", b"5"),
        ("transfer-encoding", b"chunked"),
        ("stripe-version", b"2024-06-20"),
    ];
    let judgement = judged(200, &headers, CHARGE.as_bytes());
    assert!(matches!(
        judgement.outcome,
        AttemptOutcome::Executed(Executed {
            money: ExecutedMoney::Moved,
            amount: Some(Minor { amount: 999, .. }),
            is_total: true,
        })
    ));
    assert_eq!(judgement.vendor_object_id.as_deref(), Some("ch_1"));
    assert_eq!(judgement.charge_id.as_deref(), Some("ch_1"));
    assert_eq!(judgement.vendor_request_id.as_deref(), Some("req_v1"));
    assert!(judgement.replayed_by_vendor);
    assert_eq!(judgement.stored.unwrap().body, CHARGE);
    assert_eq!(
        (judgement.client.status, judgement.client.body.as_slice()),
        (200, CHARGE.as_bytes())
    );
    let names: Vec<_> = judgement
        .client
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "content-type",
            "request-id",
            "idempotent-replayed",
            "stripe-version"
        ]
    );
}

/// Status, one header, body.
type Unreadable<'a> = (u16, (&'a str, &'a [u8]), &'a [u8]);

#[test]
fn answers_that_cannot_be_read_are_open_and_never_a_success_for_the_caller() {
    let long = "a".repeat(100_000);
    let cut = &CHARGE[..CHARGE.len() - 10];
    let two = format!("{CHARGE}{CHARGE}");
    let cases: [Unreadable<'_>; 19] = [
        (200, ("x-note", b"\xff"), CHARGE.as_bytes()),
        (200, ("x-note", long.as_bytes()), CHARGE.as_bytes()),
        (200, ("content-encoding", b"gzip"), b"\x1f\x8b\x08"),
        (200, ("content-encoding", b"gzip"), CHARGE.as_bytes()),
        (200, ("a", b""), b""),
        (204, ("a", b""), b""),
        (200, ("a", b""), b"ok"),
        (200, ("a", b""), b"[]"),
        (200, ("a", b""), b"{}"),
        (200, ("a", b""), br#"{"id":5}"#),
        (200, ("a", b""), br#"{"id":"ch_1","error":{"type":"x"}}"#),
        (200, ("a", b""), b"{\"id\":\"ch_\xff\"}"),
        (200, ("a", b""), cut.as_bytes()),
        (200, ("a", b""), two.as_bytes()),
        (103, ("a", b""), CHARGE.as_bytes()),
        (
            302,
            ("location", b"https://evil.example"),
            CHARGE.as_bytes(),
        ),
        (302, ("a", b""), br#"{"error":{"type":"x"}}"#),
        (500, ("a", b""), b"<html>"),
        (500, ("a", b""), CHARGE.as_bytes()),
    ];
    for (status, header, body) in cases {
        let judgement = judged(status, &[header], body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(50)]).into_owned();
        assert_eq!(
            judgement.outcome,
            AttemptOutcome::Indeterminate,
            "{status} {shown}"
        );
        assert_eq!(judgement.stored, None);
        assert_eq!(judgement.client.status, 502, "{status} {shown}");
        let error: Value = serde_json::from_slice(&judgement.client.body).unwrap();
        assert_eq!(error["error"]["type"], "api_error");
        assert!(
            judgement
                .client
                .headers
                .contains(&reason("outcome_unknown"))
        );
        assert!(
            judgement
                .client
                .headers
                .iter()
                .all(|(name, _)| name != "location")
        );
    }
}

fn reason(code: &str) -> (String, String) {
    (REASON.to_owned(), code.to_owned())
}

#[test]
fn a_refusal_in_an_odd_form_is_given_in_the_usual_one() {
    for body in ["<html>", "", r#"{"message":"no"}"#] {
        let judgement = judged(404, &[], body.as_bytes());
        assert_eq!(judgement.outcome, AttemptOutcome::NotExecuted);
        assert_eq!(judgement.client.status, 404);
        let error: Value = serde_json::from_slice(&judgement.client.body).unwrap();
        assert!(
            error["error"].is_object(),
            "clients take a body without `error` for a success"
        );
        assert!(judgement.client.headers.contains(&reason("vendor_error")));
    }
}

#[test]
fn vendor_texts_cannot_forge_a_line_of_the_audit() {
    for odd in [
        "req_1\n{\"verdict\":\"admitted\"}",
        "req\"1",
        "re\\q",
        "",
        "é",
        &"r".repeat(300),
    ] {
        let judgement = judged(200, &[("request-id", odd.as_bytes())], CHARGE.as_bytes());
        assert_eq!(judgement.vendor_request_id, None, "{odd:?}");
        assert!(matches!(judgement.outcome, AttemptOutcome::Executed(_)));
        assert!(
            judgement
                .client
                .headers
                .iter()
                .all(|(_, value)| !value.contains('\n'))
        );
    }
    let odd_id = judged(200, &[], br#"{"id":"ch_1\n\"x"}"#);
    assert_eq!(odd_id.outcome, AttemptOutcome::Indeterminate);
}

#[test]
fn a_long_answer_is_kept_as_a_summary_and_passed_on_whole() {
    let body = format!(
        "{},\"pad\":\"{}\"}}",
        &CHARGE[..CHARGE.len() - 1],
        "x".repeat(2_000_000)
    );
    let judgement = judged(200, &[], body.as_bytes());
    let stored: Value = serde_json::from_str(&judgement.stored.unwrap().body).unwrap();
    assert_eq!(
        stored,
        serde_json::json!({"id": "ch_1", "object": "charge", "amount": 999, "currency": "usd", "status": "succeeded"})
    );
    assert_eq!(judgement.client.body.len(), body.len());
}

#[test]
fn reads_are_executed_or_not() {
    for (status, executed) in [
        (Some(200), true),
        (Some(304), true),
        (Some(404), false),
        (Some(500), false),
        (None, false),
    ] {
        let outcome = judge_read(status);
        assert_eq!(
            matches!(outcome, AttemptOutcome::Executed(_)),
            executed,
            "{status:?}"
        );
        assert_ne!(outcome, AttemptOutcome::Indeterminate);
    }
}

#[test]
fn a_value_says_what_it_means_however_it_is_written() {
    let wanted = [
        Value::Null,
        Value::Bool(true),
        Value::Bool(false),
        Value::from("succeeded"),
        Value::from(""),
        Value::from(5),
        Value::from(0.5),
        serde_json::json!({"a": [1]}),
    ];
    let written = [
        "null",
        "true",
        "false",
        r#""succeeded""#,
        r#""succ\u0065eded""#,
        r#""true""#,
        r#""\ud800""#,
        r#""""#,
        "5",
        "5.0",
        "0.5",
        "5e-1",
        "1e999",
        r#"{"a":[1]}"#,
        r#"{ "a" : [ 1 ] }"#,
        "[]",
    ];
    for wanted in &wanted {
        for raw in written {
            let read = serde_json::from_str::<Value>(raw).ok();
            assert_eq!(
                says(raw, wanted),
                read.as_ref() == Some(wanted),
                "{raw} {wanted}"
            );
        }
    }
}

#[test]
fn what_belongs_to_the_connection_or_to_us_is_not_passed_on() {
    let dropped = [
        ":status",
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "content-length",
        "trailer",
        "upgrade",
        "te",
        "server",
        "x-envoy-upstream-service-time",
        "keybrake-reason",
    ];
    for name in dropped {
        let judgement = judged(200, &[(name, b"1")], CHARGE.as_bytes());
        assert!(judgement.client.headers.is_empty(), "{name}");
    }
    for value in ["a\tb", "a\u{7f}", "a\u{85}b"] {
        let judgement = judged(200, &[("x-note", value.as_bytes())], CHARGE.as_bytes());
        assert!(judgement.client.headers.is_empty(), "{value:?}");
    }
    let judgement = judged(
        200,
        &[("x-note", "gr\u{fc}n".as_bytes())],
        CHARGE.as_bytes(),
    );
    assert_eq!(judgement.client.headers.len(), 1);
}
