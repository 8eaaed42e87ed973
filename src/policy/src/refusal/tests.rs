use keybrake_contract::ids::CommandId;
use keybrake_contract::money::Micros;

use serde_json::json;

use super::*;
use crate::read::tests::stripe;

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut found = answer.headers.iter().filter(|(have, _)| have == name);
    let value = found.next().map(|(_, value)| value.as_str());
    assert!(found.next().is_none(), "{name} stands twice");
    value
}

fn error(answer: &Answer) -> Value {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "nothing beside `error`");
    body.get("error").unwrap().clone()
}

/// DESIGN.md §7, line by line.
const TABLE: [(RefusalCode, u16, &str, &str, &str); 21] = [
    (
        RefusalCode::VaultKeyInvalid,
        401,
        "invalid_request_error",
        "vault_key_invalid",
        "false",
    ),
    (
        RefusalCode::VaultKeyExpired,
        401,
        "invalid_request_error",
        "vault_key_expired",
        "false",
    ),
    (
        RefusalCode::VaultKeyRevoked,
        401,
        "invalid_request_error",
        "vault_key_revoked",
        "false",
    ),
    (
        RefusalCode::VendorNotAllowed,
        403,
        "invalid_request_error",
        "vendor_not_allowed",
        "false",
    ),
    (
        RefusalCode::EndpointNotAllowed,
        403,
        "invalid_request_error",
        "endpoint_not_allowed",
        "false",
    ),
    (
        RefusalCode::AccountNotAllowed,
        403,
        "invalid_request_error",
        "account_not_allowed",
        "false",
    ),
    (
        RefusalCode::ParameterNotAllowed,
        403,
        "invalid_request_error",
        "parameter_not_allowed",
        "false",
    ),
    (
        RefusalCode::SpendCapExceeded,
        402,
        "invalid_request_error",
        "spend_cap_exceeded",
        "false",
    ),
    (
        RefusalCode::AmountUnknown,
        403,
        "invalid_request_error",
        "amount_unknown",
        "false",
    ),
    (
        RefusalCode::BudgetFrozen,
        403,
        "invalid_request_error",
        "budget_frozen",
        "false",
    ),
    (
        RefusalCode::BudgetTripped,
        403,
        "invalid_request_error",
        "budget_tripped",
        "false",
    ),
    (
        RefusalCode::HostNotAllowed,
        421,
        "invalid_request_error",
        "host_not_allowed",
        "false",
    ),
    (
        RefusalCode::RequestTooLarge,
        413,
        "invalid_request_error",
        "request_too_large",
        "false",
    ),
    (
        RefusalCode::RequestNotInspectable,
        400,
        "invalid_request_error",
        "request_not_inspectable",
        "false",
    ),
    (
        RefusalCode::EncodingNotAccepted,
        415,
        "invalid_request_error",
        "request_not_inspectable",
        "false",
    ),
    (
        RefusalCode::IdempotencyKeyRequired,
        400,
        "invalid_request_error",
        "idempotency_key_required",
        "false",
    ),
    (
        RefusalCode::IdempotencyError,
        400,
        "idempotency_error",
        "idempotency_error",
        "false",
    ),
    (
        RefusalCode::PossibleDuplicate,
        409,
        "invalid_request_error",
        "possible_duplicate",
        "false",
    ),
    (
        RefusalCode::IdempotencyKeyInUse,
        409,
        "invalid_request_error",
        "idempotency_key_in_use",
        "true",
    ),
    (
        RefusalCode::OutcomeUnknown,
        409,
        "api_error",
        "outcome_unknown",
        "false",
    ),
    (
        RefusalCode::GovernanceUnavailable,
        503,
        "api_error",
        "governance_unavailable",
        "true",
    ),
];

#[test]
fn every_code_has_its_line_with_and_without_a_pack() {
    let config = stripe();
    let listed: Vec<_> = TABLE.iter().map(|line| line.0).collect();
    assert_eq!(listed, RefusalCode::ALL);
    for (code, status, kind, text, retry) in TABLE {
        for pack in [None, Some(&config.vendors[0].pack)] {
            let answer = answer(pack, &RefusalView::plain(code, "req-1"));
            let error = error(&answer);
            assert_eq!(answer.status, status, "{text}");
            assert_eq!(
                (error["type"].as_str(), error["code"].as_str()),
                (Some(kind), Some(text))
            );
            assert!(
                error["message"].as_str().unwrap().starts_with("Keybrake: "),
                "{error}"
            );
            assert!(error.get("decline_code").is_none() && error.get("param").is_none());
            assert_eq!(
                header(&answer, "stripe-should-retry"),
                Some(retry),
                "{text}"
            );
            assert_eq!(header(&answer, "keybrake-reason"), Some(text));
            assert_eq!(header(&answer, "keybrake-request-id"), Some("req-1"));
            assert_eq!(header(&answer, "content-type"), Some("application/json"));
        }
    }
}

#[test]
fn a_cap_refusal_says_what_is_left_and_when_it_resets() {
    let config = stripe();
    let refusal = Refusal {
        code: RefusalCode::SpendCapExceeded,
        cap: Some(CapLeft {
            limit: "daily_usd_cap".to_owned(),
            asked: Some(Micros::new(9_990_000)),
            left: Some(Micros::new(1_000_000)),
            resets_at: Some("2026-11-24T00:00:00Z".to_owned()),
        }),
        ..Refusal::plain(RefusalCode::SpendCapExceeded)
    }
    .by_budget(Some("july"));
    let answer = answer(
        Some(&config.vendors[0].pack),
        &RefusalView::of_ledger(&refusal, "r"),
    );
    let error = error(&answer);
    assert_eq!(error["limit"], "daily_usd_cap");
    assert_eq!(
        (error["asked"].as_str(), error["left"].as_str()),
        (Some("9.990000"), Some("1.000000"))
    );
    assert_eq!(error["resets_at"], "2026-11-24T00:00:00Z");
    assert_eq!(error["budget"], "july");
    assert_eq!(
        error["message"],
        "Keybrake: this call would pass the cap daily_usd_cap: 9.990000 USD asked, 1.000000 USD left, it resets at \
         2026-11-24T00:00:00Z; nothing was sent; budget july"
    );
    assert_eq!(header(&answer, "keybrake-budget"), Some("july"));
    assert_eq!(header(&answer, "keybrake-cap-limit"), Some("daily_usd_cap"));
    assert_eq!(header(&answer, "keybrake-cap-left"), Some("1.000000"));
    assert_eq!(
        header(&answer, "keybrake-cap-resets-at"),
        Some("2026-11-24T00:00:00Z")
    );
}

#[test]
fn a_cap_on_requests_has_no_figures() {
    let cap = CapLeft {
        limit: "max_requests".to_owned(),
        asked: None,
        left: None,
        resets_at: None,
    };
    assert_eq!(
        passed_cap(&cap),
        "this call would pass the cap max_requests; nothing was sent"
    );
}

#[test]
fn a_possible_duplicate_names_the_earlier_request() {
    let config = stripe();
    let refusal = Refusal {
        earlier_request_id: Some("req-7".to_owned()),
        ..Refusal::plain(RefusalCode::PossibleDuplicate)
    };
    let answer = answer(
        Some(&config.vendors[0].pack),
        &RefusalView::of_ledger(&refusal, "r"),
    );
    let error = error(&answer);
    assert_eq!(error["earlier_request_id"], "req-7");
    assert_eq!(error.get("budget"), None, "the key's own rule");
    assert_eq!(
        header(&answer, "keybrake-earlier-request-id"),
        Some("req-7")
    );
}

#[test]
fn a_scope_refusal_says_what_was_asked_and_what_is_allowed() {
    let config = stripe();
    let allowed = vec!["POST /v1/charges".to_owned()];
    let view = RefusalView {
        attempted: Some("POST /v1/refunds"),
        allowed_endpoints: &allowed,
        param: Some("quo\"te"),
        message: "no\nway",
        ..RefusalView::plain(RefusalCode::EndpointNotAllowed, "a\r\nset-cookie: x")
    };
    let answer = answer(Some(&config.vendors[0].pack), &view);
    let error = error(&answer);
    assert_eq!(error["attempted"], "POST /v1/refunds");
    assert_eq!(error["allowed_endpoints"], json!(["POST /v1/charges"]));
    assert_eq!(error["param"], "quo\"te");
    assert_eq!(error["message"], "Keybrake: no\nway");
    assert_eq!(
        header(&answer, "keybrake-request-id"),
        Some("aset-cookie: x")
    );
}

#[test]
fn another_vendor_gets_errors_in_its_own_shape() {
    let text = crate::pack::builtin("stripe").unwrap().replace(
        r#""type": "$type","#,
        r#""statusCode": "$status", "name": "$type", "fixed": 1,"#,
    );
    let pack = Pack::parse(&text).unwrap();
    let answer = answer(
        Some(&pack),
        &RefusalView::plain(RefusalCode::SpendCapExceeded, "r"),
    );
    let error = error(&answer);
    assert_eq!(
        (error["statusCode"].as_u64(), error["fixed"].as_u64()),
        (Some(402), Some(1))
    );
    assert!(error.get("type").is_none());
}

#[test]
fn built_in_vendors_have_the_members_that_their_own_errors_have() {
    let cap = RefusalView::plain(RefusalCode::SpendCapExceeded, "r");
    for (name, wanted) in [
        (
            "twilio",
            ["code", "message", "more_info", "status"].as_slice(),
        ),
        ("resend", ["statusCode", "name", "message"].as_slice()),
    ] {
        let pack = Pack::parse(&crate::pack::builtin(name).unwrap()).unwrap();
        let body: Value = serde_json::from_slice(&answer(Some(&pack), &cap).body).unwrap();
        for member in wanted {
            assert!(!body[member].is_null(), "{name}: {body}");
        }
        assert!(
            body.to_string().contains("\"spend_cap_exceeded\""),
            "{body}"
        );
    }
}

#[test]
fn a_replay_is_the_stored_answer_and_says_that_it_is_one() {
    let config = stripe();
    let replay = |summary, retrieved| Replay {
        hold: CommandId::new([0; 16], 1),
        answer: StoredAnswer {
            status: 200,
            content_type: "application/json".to_owned(),
            body: r#"{"id":"ch_1"}"#.to_owned(),
            vendor_request_id: Some("req_v1".to_owned()),
        },
        summary,
        retrieved,
    };
    let answer = replay_answer(&config.vendors[0].pack, &replay(false, false), "r");
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, &br#"{"id":"ch_1"}"#[..])
    );
    assert_eq!(header(&answer, "idempotent-replayed"), Some("true"));
    assert_eq!(header(&answer, "request-id"), Some("req_v1"));
    assert_eq!(header(&answer, "keybrake-request-id"), Some("r"));
    assert_eq!(header(&answer, "keybrake-replay"), None);
    let summary = replay_answer(&config.vendors[0].pack, &replay(true, false), "r");
    assert_eq!(header(&summary, "keybrake-replay"), Some("summary"));
    let retrieved = replay_answer(&config.vendors[0].pack, &replay(false, true), "r");
    assert_eq!(header(&retrieved, "keybrake-replay"), Some("retrieved"));
    assert_eq!(header(&retrieved, "idempotent-replayed"), Some("true"));
}

#[test]
fn open_outcomes_say_so_and_replace_the_vendors_advice() {
    let config = stripe();
    let pack = &config.vendors[0].pack;
    let client = Answer {
        status: 500,
        headers: vec![("stripe-should-retry".to_owned(), "true".to_owned())],
        body: b"{}".to_vec(),
    };
    let unknown = OutcomeKnown::Unknown(RetryHint::DoNotRetry);
    let answer = vendor_answer(pack, client.clone(), "r", Settlement::Pending, unknown);
    assert_eq!(header(&answer, "keybrake-settlement"), Some("pending"));
    assert_eq!(header(&answer, "keybrake-outcome"), Some("unknown"));
    assert_eq!(header(&answer, "stripe-should-retry"), Some("false"));
    let known = vendor_answer(pack, client, "r", Settlement::Recorded, OutcomeKnown::Known);
    assert_eq!(header(&known, "keybrake-settlement"), None);
    assert_eq!(header(&known, "keybrake-outcome"), None);
    assert_eq!(header(&known, "stripe-should-retry"), Some("true"));

    for (how, status) in [(NoAnswer::TimedOut, 504), (NoAnswer::Failed, 502)] {
        let answer = no_vendor_answer(pack, how, RetryHint::Retry, "r");
        assert_eq!(answer.status, status);
        assert_eq!(error(&answer)["code"], "outcome_unknown");
        assert_eq!(error(&answer)["type"], "api_error");
        assert_eq!(header(&answer, "keybrake-outcome"), Some("unknown"));
        assert_eq!(header(&answer, "keybrake-reason"), Some("outcome_unknown"));
        assert_eq!(header(&answer, "stripe-should-retry"), Some("true"));
    }
    let not_sent = not_sent(pack, "r");
    assert_eq!(not_sent.status, 503);
    assert_eq!(header(&not_sent, "stripe-should-retry"), Some("true"));
    assert_eq!(error(&not_sent)["code"], "governance_unavailable");
}
