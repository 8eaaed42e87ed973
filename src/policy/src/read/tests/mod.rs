//! One line per class of hostile request (HOSTILE.md), and what an innocent one is read as.

mod bodies;
mod headers;

use keybrake_contract::money::{Currency, Minor};
use keybrake_contract::refusal::RefusalCode::{
    self, EndpointNotAllowed, HostNotAllowed, RequestNotInspectable,
};
use keybrake_contract::wire::{Cost, CountedReason, Draws, OfObject};

use super::{RawRequest, Reading, Turned, read};
use crate::config::PluginConfig;
use crate::pack::Class;

/// A vault key whose random bytes are all zero: well-formed, and visibly nobody's.
pub(crate) const KEY: &str = "vault_key_0000000000000000000000000000000000000000000000001ee4b823";

pub(crate) fn stripe() -> PluginConfig {
    PluginConfig::parse(
        br#"{"commands_cluster": "keybrake_commands", "vendors": [
            {"pack": "stripe", "cluster": "stripe", "prefix": "/stripe", "hosts": ["api.stripe.com"]}]}"#,
    )
    .unwrap()
}

/// A request that is fine until a test changes it.
#[derive(Clone)]
pub(crate) struct Draft {
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Draft {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        let mut draft = Self {
            headers: Vec::new(),
            body: Vec::new(),
        };
        draft.add(":method", method);
        draft.add(":path", format!("/stripe{path}"));
        draft.add(":authority", "127.0.0.1:10000");
        draft.add("authorization", format!("Bearer {KEY}"));
        draft
    }

    pub(crate) fn post(path: &str, body: &str) -> Self {
        let mut draft = Self::new("POST", path);
        draft.add("content-type", "application/x-www-form-urlencoded");
        draft.add("idempotency-key", "order-1");
        body.as_bytes().clone_into(&mut draft.body);
        draft
    }

    pub(crate) fn charge(body: &str) -> Self {
        Self::post("/v1/charges", body)
    }

    pub(crate) fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.headers
            .push((name.as_bytes().to_vec(), value.as_ref().to_vec()));
    }

    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.add(name, value);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(have, _)| have != name.as_bytes());
        self
    }

    pub(crate) fn set(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).with(name, value)
    }

    pub(crate) fn raw(&self) -> RawRequest<'_> {
        RawRequest {
            headers: &self.headers,
            body: &self.body,
            request_id: "req-1",
        }
    }

    pub(crate) fn read(&self) -> Result<Reading, Box<Turned>> {
        read(&stripe(), &self.raw())
    }
}

const GOOD: &str = "amount=999&currency=usd&customer=cus_aaa";

fn code(draft: &Draft) -> Option<RefusalCode> {
    draft.read().err().map(|turned| turned.code)
}

#[test]
fn a_charge_is_read_with_its_cost_and_its_facts() {
    let draft = Draft::charge(
        "amount=999&currency=usd&customer=cus_aaa&metadata[amount]=1&description=amount%3D9",
    )
    .with("x-agent-run-id", "run-7")
    .with(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    .with("stripe-version", "2024-06-20")
    .with("stripe-account", "acct_1");
    let reading = draft.read().unwrap();
    let expected = Minor {
        amount: 999,
        currency: Currency::USD,
    };
    assert_eq!(reading.cost, Cost::Amount(expected));
    assert_eq!(reading.class, Class::Money);
    assert_eq!(reading.operation(), "charges.create");
    assert_eq!((reading.method(), reading.path()), ("POST", "/v1/charges"));
    assert_eq!(reading.client_idempotency_key.as_deref(), Some("order-1"));
    assert_eq!(reading.facts.vendor_account.as_deref(), Some("acct_1"));
    assert_eq!(reading.facts.run_id.as_deref(), Some("run-7"));
    assert!(reading.facts.traceparent.is_some());
    let params: Vec<_> = reading.facts.params.keys().map(String::as_str).collect();
    assert_eq!(params, ["amount", "currency", "customer"]);
    assert_eq!(reading.body, draft.body);
    let sent: Vec<_> = reading
        .forward_headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(sent, ["content-type", "stripe-version", "stripe-account"]);
}

#[test]
fn what_each_money_endpoint_says_that_it_costs() {
    let drawn = |object: &str, amount, draws| {
        Cost::OfObject(OfObject {
            object: object.to_owned(),
            amount,
            currency: None,
            draws,
        })
    };
    let of = |object: &str, amount| drawn(object, amount, Draws::OnHold);
    let refund = |object: &str, amount| drawn(object, amount, Draws::Anew);
    let cases = [
        ("/v1/refunds", "charge=ch_1", refund("ch_1", None)),
        (
            "/v1/refunds",
            "payment_intent=pi_1&amount=500",
            refund("pi_1", Some(500)),
        ),
        ("/v1/charges/ch_1/capture", "", of("ch_1", None)),
        ("/v1/charges/ch_1/capture", "amount=5", of("ch_1", Some(5))),
        (
            "/v1/payment_intents/pi_1/capture",
            "amount_to_capture=7",
            of("pi_1", Some(7)),
        ),
        (
            "/v1/payment_intents/pi_1/confirm",
            "return_url=https%3A%2F%2Fx",
            of("pi_1", None),
        ),
        (
            "/v1/payment_intents/pi_1/increment_authorization",
            "amount=12",
            of("pi_1", Some(12)),
        ),
        ("/v1/payment_intents/pi_1/cancel", "", of("pi_1", Some(0))),
        ("/v1/customers", "email=a%40example.com", Cost::Nothing),
    ];
    for (path, body, expected) in cases {
        assert_eq!(
            Draft::post(path, body).read().unwrap().cost,
            expected,
            "{path} {body}"
        );
    }
    let draft = Draft::post("/v1/charges/ch_1/capture", "").without("content-type");
    assert!(
        draft.read().is_ok(),
        "a capture needs no body and then no type"
    );
}

#[test]
fn paths_are_canonical_or_refused() {
    let cases = [
        ("/v1/charges/", EndpointNotAllowed),
        ("/V1/Charges", EndpointNotAllowed),
        ("/v1/charges;x=1", EndpointNotAllowed),
        ("/v1/charges.json", EndpointNotAllowed),
        ("/v3/charges", EndpointNotAllowed),
        ("//v1/charges", RequestNotInspectable),
        ("/v1//charges", RequestNotInspectable),
        ("/v1/charges/../payouts", RequestNotInspectable),
        ("/v1/./charges", RequestNotInspectable),
        ("/v1/%63harges", RequestNotInspectable),
        ("/v1%2fcharges", RequestNotInspectable),
        ("/v1%5ccharges", RequestNotInspectable),
        ("/v1\\charges", RequestNotInspectable),
        ("/v1/charges%00", RequestNotInspectable),
        ("/v1/%252e%252e/charges", RequestNotInspectable),
        ("/v1/charges%20", RequestNotInspectable),
        ("/v1/charges%0a", RequestNotInspectable),
        ("/v1/charges%3Famount=1", RequestNotInspectable),
        ("/v1/charges#x", RequestNotInspectable),
        ("/v1/charges?", RequestNotInspectable),
        ("/v1/charges?amount=1", RequestNotInspectable),
        ("/v1/charges?_method=get", RequestNotInspectable),
    ];
    for (path, expected) in cases {
        assert_eq!(code(&Draft::post(path, GOOD)), Some(expected), "{path}");
    }
    let long = format!("/v1/{}", "a".repeat(65_536));
    assert_eq!(code(&Draft::post(&long, GOOD)), Some(RequestNotInspectable));
    let masked = [
        Draft::new("GET", "/v1/charges?"),
        Draft::new("GET", &format!("/v1/charges?a={}", "b".repeat(9_000))),
        Draft::post("/v1/charges/ch_1/capture?amount=5", ""),
    ];
    for draft in masked {
        assert_eq!(code(&draft), Some(RequestNotInspectable));
    }
    let id = format!("/v1/charges/{KEY}");
    let turned = Draft::new("GET", &id).read().unwrap_err();
    assert_eq!(turned.code, RequestNotInspectable);
    assert!(
        !format!("{turned:?}").contains(KEY),
        "the key must not be kept"
    );
}

#[test]
fn unknown_endpoints_and_methods_are_forbidden_whatever_their_body_says() {
    for (method, path) in [
        ("POST", "/v1/payouts_of_nobody"),
        ("POST", "/v2/core/nothing"),
        ("POST", "/v1/ephemeral_keys"),
        ("HEAD", "/v1/charges"),
        ("OPTIONS", "/v1/charges"),
        ("PUT", "/v1/charges"),
        ("PATCH", "/v1/charges"),
        ("TRACE", "/v1/charges"),
    ] {
        let reading = Draft::new(method, path).read().unwrap();
        assert_eq!(reading.class, Class::Forbidden, "{method} {path}");
        assert_eq!(reading.cost, Cost::Unknown);
    }
    for draft in [
        Draft::new("CONNECT", "/v1/charges"),
        Draft::charge(GOOD).with("upgrade", "websocket"),
        Draft::charge(GOOD)
            .with("connection", "upgrade")
            .with("upgrade", "h2c"),
        Draft::charge(GOOD).with(":protocol", "websocket"),
        Draft::new("CONNECT", "")
            .without(":path")
            .set(":authority", "api.stripe.com:443"),
        Draft::new("CONNECT", "")
            .without(":path")
            .set(":authority", "evil.example:443"),
    ] {
        assert_eq!(code(&draft), Some(EndpointNotAllowed));
    }
}

#[test]
fn vendors_are_found_by_prefix_or_by_host_and_nobody_else_is() {
    let by_host = Draft::charge(GOOD)
        .set(":path", "/v1/charges")
        .set(":authority", "API.stripe.com:443");
    assert_eq!(by_host.read().unwrap().path(), "/v1/charges");
    for (path, authority) in [
        ("/v1/charges", "127.0.0.1:10000"),
        ("/v1/charges", "evil.example"),
        ("/v1/charges", "api.stripe.com.evil.example"),
        ("/v1/charges", "user@api.stripe.com"),
        ("/stripe", "127.0.0.1"),
        ("/stripes/v1/charges", "127.0.0.1"),
        ("/Stripe/v1/charges", "127.0.0.1"),
    ] {
        let draft = Draft::charge(GOOD)
            .set(":path", path)
            .set(":authority", authority);
        let turned = draft.read().unwrap_err();
        assert_eq!(turned.code, HostNotAllowed, "{path} {authority}");
        assert_eq!(turned.counted, CountedReason::HostNotAllowed);
        assert!(turned.known.is_none());
    }
    let two = PluginConfig::parse(
        br#"{"commands_cluster": "c", "vendors": [
            {"pack": "stripe", "cluster": "a", "prefix": "/stripe"},
            {"pack": "stripe", "cluster": "b", "hosts": ["other.example"]}]}"#,
    )
    .unwrap();
    let mixed = Draft::charge(GOOD).set(":authority", "other.example");
    assert_eq!(read(&two, &mixed.raw()).unwrap_err().code, HostNotAllowed);
}

#[test]
fn a_body_that_headers_announce_is_not_waited_for_where_none_belongs() {
    let get = Draft::new("GET", "/v1/charges/ch_1");
    let cases = [
        (get.clone(), true),
        (get.clone().with("content-length", "0"), true),
        (get.clone().with("transfer-encoding", "chunked"), true),
        (get.clone().with("content-length", "5"), false),
        (Draft::charge(""), true),
        (Draft::new("DELETE", "/v1/customers/cus_1"), true),
        (get.clone().without("authorization"), false),
    ];
    for (draft, expected) in cases {
        assert_eq!(super::headers(&stripe(), &draft.raw()).is_ok(), expected);
    }
    let mut with_body = get;
    with_body.body = b"amount=1".to_vec();
    assert_eq!(code(&with_body), Some(RequestNotInspectable));
}

#[test]
fn headers_judged_beforehand_read_the_body_as_if_it_had_come_with_them() {
    let with_body = |draft: Draft, body: &[u8]| Draft {
        body: body.to_vec(),
        ..draft
    };
    let get = Draft::new("GET", "/v1/charges/ch_1");
    let cases = [
        Draft::charge(GOOD),
        Draft::charge("amount=1&amount=2"),
        Draft::charge(GOOD).without("content-type"),
        Draft::charge(&"x".repeat(2_000_000)),
        Draft::new("POST", "/v1/no_such_thing"),
        Draft::new("DELETE", "/v1/customers/cus_1?a=1"),
        get.clone(),
        with_body(get.clone(), b"amount=1"),
        get.clone().without("authorization"),
        get.with("x-agent-run-id", ""),
    ];
    let config = stripe();
    for draft in cases {
        let before = RawRequest {
            body: b"",
            ..draft.raw()
        };
        let in_two = super::headers(&config, &before);
        let in_two = in_two.and_then(|judged| judged.read(&config, &draft.body));
        assert_eq!(format!("{in_two:?}"), format!("{:?}", draft.read()));
    }
}

#[test]
fn reads_keep_their_query_and_deletes_have_one_place_for_parameters() {
    let list = Draft::new(
        "GET",
        "/v1/charges?limit=3&expand[]=data.customer&created[gte]=5",
    );
    let reading = list.read().unwrap();
    assert_eq!(
        reading.path_and_query(),
        "/v1/charges?limit=3&expand[]=data.customer&created[gte]=5"
    );
    assert_eq!(reading.class, Class::Read);
    assert_eq!(
        code(&Draft::new("GET", "/v1/charges?limit=1&limit=2")),
        Some(RequestNotInspectable)
    );
    let mut delete = Draft::new("DELETE", "/v1/customers/cus_1?a=1");
    assert!(delete.read().is_ok());
    delete.add("content-type", "application/x-www-form-urlencoded");
    delete.body = b"b=2".to_vec();
    assert_eq!(code(&delete), Some(RequestNotInspectable));
}
