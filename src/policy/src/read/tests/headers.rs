//! Headers and credentials: one line per class of HOSTILE.md.

use keybrake_contract::refusal::RefusalCode::{
    EncodingNotAccepted, RequestNotInspectable, RequestTooLarge, VaultKeyInvalid,
};
use keybrake_contract::wire::CountedReason;

use super::{Draft, GOOD, KEY, code, stripe};
use crate::read::headers;

#[test]
fn without_a_well_formed_key_a_request_is_only_counted() {
    let cases = [
        (
            Draft::charge(GOOD).without("authorization"),
            CountedReason::VaultKeyInvalid,
        ),
        (
            Draft::charge(GOOD).set("authorization", "Bearer nonsense"),
            CountedReason::VaultKeyInvalid,
        ),
        (
            Draft::charge(GOOD).with("authorization", format!("Bearer {KEY}")),
            CountedReason::VaultKeyInvalid,
        ),
        (
            Draft::charge(&format!("{GOOD}&key={KEY}"))
                .without("authorization")
                .with("cookie", format!("key={KEY}")),
            CountedReason::VaultKeyInvalid,
        ),
        (
            Draft::charge(GOOD).set("authorization", "Bearer sk_live_fake"),
            CountedReason::RealCredential,
        ),
    ];
    for (draft, counted) in cases {
        let turned = draft.read().unwrap_err();
        assert_eq!((turned.code, turned.counted), (VaultKeyInvalid, counted));
        assert!(turned.known.is_none());
        assert!(
            turned
                .refused(keybrake_contract::ids::CommandId::new([0; 16], 1))
                .is_none()
        );
    }
}

#[test]
fn a_vault_key_stays_in_nothing_that_is_kept_or_printed() {
    let reading = Draft::charge(GOOD).read().unwrap();
    assert!(!format!("{reading:?}").contains("vault_key_0"));
    for draft in [
        Draft::charge(&format!("{GOOD}&description={KEY}")),
        Draft::charge(&format!("{GOOD}&description=vault%5Fkey{}", &KEY[9..])),
        Draft::charge(&format!("{GOOD}&{KEY}=1")),
        Draft::charge(&format!("{GOOD}&{KEY}=1&{KEY}=2")),
        Draft::charge(&format!("{GOOD}&metadata[{KEY}]=1")),
        Draft::charge(GOOD).set("idempotency-key", KEY),
        Draft::charge(GOOD).with("x-agent-run-id", KEY),
        Draft::charge(GOOD).with("user-agent", KEY),
        Draft::new("GET", &format!("/v1/charges?customer={KEY}")),
        Draft::new("GET", &format!("/v1/charges/{KEY}")),
    ] {
        let turned = draft.read().unwrap_err();
        assert_eq!(turned.code, RequestNotInspectable);
        assert!(turned.known.is_some());
        assert!(!format!("{turned:?}").contains("vault_key_0"), "{turned:?}");
    }
}

#[test]
fn headers_that_are_ambiguous_are_refused() {
    let long = "a".repeat(256);
    let cases = [
        (
            Draft::charge(GOOD).with("x-note", b"\xff"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("x-note", "a".repeat(100_000)),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("x-http-method-override", "DELETE"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("x-http-method", "GET"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("x-method-override", "GET"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("idempotency-key", "order-2"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).set("idempotency-key", ""),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).set("idempotency-key", &long),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).set("idempotency-key", "é"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("connection", "idempotency-key"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("host", "evil.example"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).set(":authority", "127.0.0.1:10000,evil.example"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with(":path", "/stripe/v1/refunds"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD)
                .with("stripe-account", "a")
                .with("stripe-context", "b"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("stripe-account", "a,b"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("stripe-account", ""),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD)
                .with("stripe-version", "a")
                .with("stripe-version", "b"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("user-agent", "a\nb"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("x-agent-run-id", "é"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD)
                .with("content-length", "5")
                .with("content-length", "6"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("content-length", "+5"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD)
                .with("content-length", "5")
                .with("transfer-encoding", "chunked"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("transfer-encoding", "gzip, chunked"),
            RequestNotInspectable,
        ),
        (
            Draft::charge(GOOD).with("content-length", "1048577"),
            RequestTooLarge,
        ),
        (
            Draft::charge(GOOD).without("content-type"),
            EncodingNotAccepted,
        ),
        (
            Draft::charge(GOOD).with("content-type", "application/json"),
            EncodingNotAccepted,
        ),
        (
            Draft::charge(GOOD).set("content-type", "application/json"),
            EncodingNotAccepted,
        ),
        (
            Draft::charge(GOOD).set("content-type", "text/plain"),
            EncodingNotAccepted,
        ),
        (
            Draft::charge(GOOD).set("content-type", "multipart/form-data; boundary=x"),
            EncodingNotAccepted,
        ),
        (
            Draft::charge(GOOD).set(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-16",
            ),
            EncodingNotAccepted,
        ),
        (
            Draft::charge(GOOD).with("content-encoding", "gzip"),
            EncodingNotAccepted,
        ),
        (
            Draft::charge(GOOD).with("content-encoding", "identity"),
            EncodingNotAccepted,
        ),
        (Draft::post("/v2/core/accounts", GOOD), EncodingNotAccepted),
    ];
    for (draft, expected) in cases {
        let turned = draft.read().unwrap_err();
        let shown = draft
            .headers
            .last()
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        assert_eq!(turned.code, expected, "{shown:?} {}", turned.message);
        assert!(
            turned.known.is_some(),
            "a known key's refusal goes on record: {shown:?}"
        );
        // Without a type only the body can tell: there may be none.
        let typed = draft
            .headers
            .iter()
            .any(|(name, _)| name == b"content-type");
        let refused = headers(&stripe(), &draft.raw()).is_err();
        assert_eq!(refused, typed, "{shown:?}");
    }
    let without_key = Draft::charge(GOOD).set("authorization", b"Bearer \xff");
    assert_eq!(code(&without_key), Some(RequestNotInspectable));
    let big = Draft::charge(&format!("{GOOD}&x={}", "a".repeat(1_048_576)));
    assert_eq!(code(&big), Some(RequestTooLarge));
    for fine in [
        "application/x-www-form-urlencoded;charset=UTF-8",
        "Application/X-WWW-Form-Urlencoded; charset=\"utf-8\"",
    ] {
        assert_eq!(
            code(&Draft::charge(GOOD).set("content-type", fine)),
            None,
            "{fine}"
        );
    }
}

#[test]
fn forged_internal_headers_never_go_on() {
    let mut draft = Draft::charge(GOOD);
    for name in [
        "x-envoy-original-path",
        "x-envoy-upstream-rq-timeout-ms",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-original-url",
        "x-rewrite-url",
        "keybrake-internal-key",
        "keybrake-upstream",
        "cookie",
        "proxy-authorization",
        "accept-encoding",
        "te",
    ] {
        draft.add(name, "forged");
    }
    let reading = draft.read().unwrap();
    let sent: Vec<_> = reading
        .forward_headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(sent, ["content-type"], "neither these nor the credential");
}

#[test]
fn a_trace_context_of_another_form_is_dropped() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let kept = |value: &str| {
        let reading = Draft::charge(GOOD)
            .with("traceparent", value)
            .read()
            .unwrap();
        reading.facts.traceparent.clone()
    };
    assert_eq!(kept(good).as_deref(), Some(good));
    for position in 0..good.len() {
        for other in ["-", "g", "A", "é"] {
            let mut odd = good.to_owned();
            odd.replace_range(position..=position, other);
            if odd != good {
                assert_eq!(kept(&odd), None, "{odd}");
            }
        }
    }
    for odd in [
        "",
        &good[1..],
        &format!("{good}0"),
        &format!("{good}-00"),
        &good.replace('-', "0"),
    ] {
        assert_eq!(kept(odd), None, "{odd}");
    }
}
