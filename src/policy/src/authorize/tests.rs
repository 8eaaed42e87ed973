use std::collections::BTreeMap;

use keybrake_contract::grant::Range;
use keybrake_contract::ids::CommandId;
use keybrake_contract::wire::{Draws, OfObject};
use proptest::prelude::*;

use keybrake_contract::grant::{AllowedEndpoint, Constraint, IdempotencyRule, Prefix};
use keybrake_contract::money::Currency;

use super::*;
use crate::read::tests::{Draft, KEY, stripe};

const GOOD: &str = "amount=999&currency=usd&customer=cus_aaa";

fn grant(allowed: &[&str]) -> Grant {
    Grant {
        key_id: "vk_1".to_owned(),
        version: 7,
        vendor: "stripe".to_owned(),
        allowed_endpoints: allowed
            .iter()
            .map(|text| AllowedEndpoint::parse(text).unwrap())
            .collect(),
        constraints: BTreeMap::new(),
        vendor_accounts: Vec::new(),
        idempotency: IdempotencyRule::Required,
        duplicate_fields: Vec::new(),
    }
}

fn charges() -> Grant {
    grant(&["POST /v1/charges"])
}

fn constrained(pairs: &[(&str, Constraint)]) -> Grant {
    Grant {
        constraints: pairs
            .iter()
            .map(|(name, constraint)| ((*name).to_owned(), constraint.clone()))
            .collect(),
        ..grant(&[
            "POST /v1/charges",
            "refunds.create",
            "charges.list",
            "payment_intents.cancel",
            "charges.capture",
        ])
    }
}

fn begins(text: &str) -> Constraint {
    Constraint::Prefix(Prefix {
        prefix: text.to_owned(),
    })
}

fn one_of(texts: &[&str]) -> Constraint {
    Constraint::OneOf(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn ask(grant: &Grant, draft: &Draft) -> Result<Permit, Box<Denied>> {
    authorize(&stripe(), grant, draft.read().unwrap())
}

fn refused(grant: &Grant, draft: &Draft) -> (RefusalCode, Option<String>) {
    let denied = ask(grant, draft).unwrap_err();
    (denied.code, denied.param)
}

#[test]
fn a_permit_carries_what_reserve_and_forward_need() {
    let permit = ask(&charges(), &Draft::charge(GOOD)).unwrap();
    let reserve = permit
        .reserve_parts()
        .into_reserve(CommandId::new([1; 16], 2), 90_000);
    assert_eq!(reserve.grant_version, Some(7));
    assert_eq!(reserve.forward, Forward::Detached);
    assert!(matches!(reserve.cost, Cost::Amount(minor) if minor.amount == 999));
    let idempotency = reserve.idempotency.unwrap();
    assert_eq!(
        (idempotency.key.as_str(), idempotency.client_key),
        ("order-1", None)
    );
    assert_eq!(
        permit.headers_to_send("hold"),
        [
            ("content-type", &b"application/x-www-form-urlencoded"[..]),
            ("idempotency-key", b"order-1"),
        ]
    );
    assert!(!format!("{permit:?}").contains(KEY));
}

#[test]
fn endpoints_are_allowed_by_pattern_or_operation_and_nothing_else_is() {
    let capture = "/v1/charges/ch_1/capture";
    let cases: [(&[&str], &str, &str, bool); 12] = [
        (&["POST /v1/charges"], "POST", "/v1/charges", true),
        (&["charges.create"], "POST", "/v1/charges", true),
        (&["POST /v1/charges"], "POST", capture, false),
        (&["POST /v1/charges/{id}/capture"], "POST", capture, true),
        (&["POST /v1/charges/ch_1/capture"], "POST", capture, true),
        (&["POST /v1/charges/ch_2/capture"], "POST", capture, false),
        (&["GET /v1/charges"], "POST", "/v1/charges", false),
        (&["GET /v1/{any}"], "GET", "/v1/charges", true),
        (&["GET /v1/{any}"], "GET", "/v1/no_such_list", false),
        (&["POST /v1/{any}"], "POST", "/v1/ephemeral_keys", false),
        (
            &["ephemeral_keys.create"],
            "POST",
            "/v1/ephemeral_keys",
            false,
        ),
        (&["POST /v1/charges"], "POST", "/v2/core/accounts", false),
    ];
    for (allowed, method, path, expected) in cases {
        let mut draft = Draft::new(method, path).with("idempotency-key", "k");
        if path == "/v1/charges" && method == "POST" {
            draft = Draft::charge(GOOD);
        }
        let verdict = ask(&grant(allowed), &draft);
        assert_eq!(verdict.is_ok(), expected, "{allowed:?} {method} {path}");
        if let Err(denied) = verdict {
            assert_eq!(denied.code, RefusalCode::EndpointNotAllowed);
            assert_eq!(denied.attempted, Some(format!("{method} {path}")));
            assert_eq!(denied.allowed_endpoints, allowed);
            assert_eq!(
                denied.refused(CommandId::new([0; 16], 1)).grant_version,
                Some(7)
            );
        }
    }
}

#[test]
fn another_vendors_key_and_unnamed_accounts_are_refused() {
    let mut other = charges();
    "twilio".clone_into(&mut other.vendor);
    assert_eq!(
        refused(&other, &Draft::charge(GOOD)).0,
        RefusalCode::VendorNotAllowed
    );
    let named = Draft::charge(GOOD).with("stripe-account", "acct_1");
    let expected = (
        RefusalCode::AccountNotAllowed,
        Some("stripe-account".to_owned()),
    );
    assert_eq!(refused(&charges(), &named), expected);
    let context = Draft::charge(GOOD).with("stripe-context", "acct_1");
    assert_eq!(
        refused(&charges(), &context).1.as_deref(),
        Some("stripe-context")
    );
    let mut with_account = charges();
    with_account.vendor_accounts = vec!["acct_1".to_owned()];
    assert!(ask(&with_account, &named).is_ok());
    assert!(ask(&with_account, &Draft::charge(GOOD)).is_ok());
}

#[test]
fn constraints_bound_each_field_and_want_it_to_be_there() {
    let range = |min, max| Constraint::Range(Range { min, max });
    let cases = [
        ("customer", one_of(&["cus_aaa", "cus_b"]), true),
        ("customer", one_of(&["cus_b"]), false),
        ("currency", one_of(&["eur"]), false),
        ("customer", begins("cus_"), true),
        ("customer", begins("cus_aaa"), true),
        ("customer", begins("cus_aaaa"), false),
        ("customer", begins("us_"), false),
        ("metadata[team]", begins("x"), false),
        ("amount", range(None, Some(999)), true),
        ("amount", range(None, Some(998)), false),
        ("amount", range(Some(1_000), None), false),
        ("amount", range(Some(999), Some(999)), true),
        ("customer", range(None, Some(9)), false),
        ("metadata[team]", one_of(&["x"]), false),
    ];
    for (name, constraint, expected) in cases {
        let grant = constrained(&[(name, constraint)]);
        let verdict = ask(&grant, &Draft::charge(GOOD));
        assert_eq!(verdict.is_ok(), expected, "{name}");
        if let Err(denied) = verdict {
            assert_eq!(denied.code, RefusalCode::ParameterNotAllowed);
            assert_eq!(denied.param.as_deref(), Some(name));
            assert!(denied.attempted.is_none());
        }
    }
    let told = |constraint| {
        ask(
            &constrained(&[("customer", constraint)]),
            &Draft::charge(GOOD),
        )
        .map(|_| ())
        .unwrap_err()
        .message
    };
    let ten: Vec<String> = (0..10).map(|number| format!("cus_{number}")).collect();
    let allowed: [(Constraint, &str); 5] = [
        (one_of(&["cus_b", "cus_c"]), "cus_b, cus_c"),
        (
            Constraint::OneOf(ten),
            "cus_0, cus_1, cus_2, cus_3, cus_4, cus_5, cus_6, cus_7 and 2 more",
        ),
        (begins("us_"), "what begins with us_"),
        (range(Some(1), Some(9)), "whole numbers from 1 to 9"),
        (range(None, Some(9)), "whole numbers up to 9"),
    ];
    for (constraint, what) in allowed {
        assert_eq!(
            told(constraint),
            format!("customer is outside what this key allows: {what}")
        );
    }
    let grouped = Draft::charge("amount=1&currency=usd&customer[0]=cus_aaa");
    let grant = constrained(&[("customer", one_of(&["cus_aaa"]))]);
    assert_eq!(
        refused(&grant, &grouped).0,
        RefusalCode::RequestNotInspectable
    );
}

#[test]
fn constraints_on_reads_and_on_objects() {
    let grant = constrained(&[
        ("currency", one_of(&["usd"])),
        (
            "amount",
            Constraint::Range(Range {
                min: None,
                max: Some(500),
            }),
        ),
    ]);
    let permit = ask(
        &grant,
        &Draft::post("/v1/refunds", "charge=ch_1&amount=500"),
    )
    .unwrap();
    let expected = Cost::OfObject(OfObject {
        object: "ch_1".to_owned(),
        amount: Some(500),
        currency: Some(Currency::USD),
        draws: Draws::Anew,
    });
    assert_eq!(
        permit.reserve_parts().cost,
        expected,
        "the grant's only currency"
    );
    let over = Draft::post("/v1/refunds", "charge=ch_1&amount=501");
    assert_eq!(refused(&grant, &over).1.as_deref(), Some("amount"));
    let whole = Draft::post("/v1/refunds", "charge=ch_1");
    assert_eq!(
        refused(&grant, &whole).1.as_deref(),
        Some("amount"),
        "the whole may be more"
    );
    assert!(ask(&grant, &Draft::post("/v1/payment_intents/pi_1/cancel", "")).is_ok());

    let two = constrained(&[("currency", one_of(&["usd", "eur"]))]);
    let permit = ask(&two, &Draft::post("/v1/refunds", "charge=ch_1")).unwrap();
    assert!(matches!(
        permit.reserve_parts().cost,
        Cost::OfObject(OfObject { currency: None, .. })
    ));

    let customer = constrained(&[("customer", one_of(&["cus_aaa"]))]);
    let lists = [
        ("", true),
        ("?customer=cus_aaa", true),
        ("?customer=cus_b", false),
    ];
    for (query, expected) in lists {
        let draft = Draft::new("GET", &format!("/v1/charges{query}"));
        assert_eq!(ask(&customer, &draft).is_ok(), expected, "{query}");
    }
}

#[test]
fn writes_want_a_key_where_the_grant_says_so_and_reads_never_do() {
    let bare = Draft::charge(GOOD).without("idempotency-key");
    let expected = (
        RefusalCode::IdempotencyKeyRequired,
        Some("idempotency-key".to_owned()),
    );
    assert_eq!(refused(&charges(), &bare), expected);
    let optional = Grant {
        idempotency: IdempotencyRule::Optional,
        ..charges()
    };
    let permit = ask(&optional, &bare).unwrap();
    assert_eq!(permit.reserve_parts().idempotency, None);
    let sent = permit.headers_to_send("hold");
    let key = sent
        .iter()
        .find(|(name, _)| *name == "idempotency-key")
        .unwrap();
    assert_eq!(key.1, b"hold", "evidence can be found under the hold's id");

    let read = Draft::new("GET", "/v1/charges").with("idempotency-key", "k");
    let permit = ask(&grant(&["charges.list"]), &read).unwrap();
    assert_eq!(permit.idempotency_key(), None);
    assert_eq!(permit.forward(), Forward::Read);
    assert!(
        permit
            .headers_to_send("hold")
            .iter()
            .all(|(name, _)| *name != "idempotency-key")
    );
}

fn derived(scope: &str, from: &[&str]) -> Grant {
    Grant {
        idempotency: IdempotencyRule::Derived {
            scope: scope.to_owned(),
            from: from.iter().map(|name| (*name).to_owned()).collect(),
        },
        vendor_accounts: vec!["acct_1".to_owned()],
        ..grant(&["POST /v1/charges", "payment_intents.create"])
    }
}

#[test]
fn derived_keys_cover_just_what_makes_a_purchase() {
    let usual = derived("2026-07", &["customer", "amount", "currency"]);
    let of = |grant: &Grant, draft: &Draft| {
        ask(grant, draft)
            .unwrap()
            .reserve_parts()
            .idempotency
            .unwrap()
    };
    let first = of(&usual, &Draft::charge(GOOD));
    // Pinned: a key that changes with a release would charge the same purchase again.
    assert_eq!(
        first.key,
        "kb1_7270c504a0403a7cf23fbd80af6467a51bbf788fac65c342e6fab65c2f0295e4"
    );
    assert_eq!(first.key, format!("kb1_{}", first.fingerprint));
    assert_eq!(first.client_key.as_deref(), Some("order-1"));

    let reordered = derived("2026-07", &["currency", "amount", "customer", "amount"]);
    let same = [
        (
            &usual,
            Draft::charge(&format!("{GOOD}&description=other")).set("idempotency-key", "random"),
        ),
        (&usual, Draft::charge(GOOD).without("idempotency-key")),
        (&reordered, Draft::charge(GOOD)),
    ];
    for (grant, draft) in same {
        let other = of(grant, &draft);
        assert_eq!(
            (other.key, other.fingerprint),
            (first.key.clone(), first.fingerprint)
        );
    }
    let with_description = of(&usual, &Draft::charge(&format!("{GOOD}&description=other")));
    assert_ne!(with_description.full_fingerprint, first.full_fingerprint);

    let different = [
        (
            &usual,
            Draft::charge("amount=998&currency=usd&customer=cus_aaa"),
        ),
        (&usual, Draft::charge(GOOD).with("stripe-account", "acct_1")),
        (&usual, Draft::post("/v1/payment_intents", GOOD)),
        (
            &derived("2026-08", &["customer", "amount", "currency"]),
            Draft::charge(GOOD),
        ),
        (
            &derived("2026-07", &["customer", "amount"]),
            Draft::charge(GOOD),
        ),
    ];
    for (grant, draft) in different {
        assert_ne!(of(grant, &draft).key, first.key);
    }
    for body in [
        "amount=999&currency=usd",
        "amount=999&currency=usd&customer=",
    ] {
        let expected = (
            RefusalCode::RequestNotInspectable,
            Some("customer".to_owned()),
        );
        assert_eq!(refused(&usual, &Draft::charge(body)), expected);
    }
}

fn fingerprint_of(draft: &Draft) -> Digest {
    let grant = Grant {
        vendor_accounts: vec!["acct_1".to_owned()],
        ..grant(&["POST /v1/charges", "payment_intents.create"])
    };
    ask(&grant, draft)
        .unwrap()
        .reserve_parts()
        .idempotency
        .unwrap()
        .fingerprint
}

#[test]
fn a_fingerprint_is_of_the_meaning_and_not_of_the_bytes() {
    let first = fingerprint_of(&Draft::charge(
        "amount=999&currency=usd&description=a+b&expand[0]=x",
    ));
    assert_eq!(
        first.to_string(),
        "a5386c999c562c9f9b65282d19031a29013da00de922aa73c0f09347611fbb8b",
        "pinned: fingerprints are kept for good"
    );
    for same in [
        Draft::charge("expand[]=x&description=a%20b&currency=usd&%61mount=999"),
        Draft::charge("amount=999&currency=usd&description=a+b&expand[0]=x")
            .with("stripe-version", "2020-01-01"),
        Draft::charge("amount=999&currency=usd&description=a+b&expand[0]=x")
            .set("idempotency-key", "k2"),
    ] {
        assert_eq!(fingerprint_of(&same), first);
    }
    for other in [
        Draft::charge("amount=998&currency=usd&description=a+b&expand[0]=x"),
        Draft::charge("amount=999&currency=usd&description=a%2Bb&expand[0]=x"),
        Draft::charge("amount=999&currency=usd&description=a+b&expand[0]=x&x="),
        Draft::charge("amount=999&currency=usd&description=a+b&expand[0]=x")
            .with("stripe-account", "acct_1"),
        Draft::charge("amount=999&currency=usd&description=a+b&expand[0]=x")
            .with("stripe-context", "acct_1"),
        Draft::post(
            "/v1/payment_intents",
            "amount=999&currency=usd&description=a+b&expand[0]=x",
        ),
    ] {
        assert_ne!(fingerprint_of(&other), first);
    }
}

proptest! {
    #[test]
    fn fingerprints_do_not_depend_on_order_or_encoding(
        pairs in proptest::collection::btree_map("[a-z]{3,6}", "[a-z ]{0,6}", 0..8),
        seed in any::<u8>(),
    ) {
        let mut all: Vec<(String, String)> = pairs.into_iter().filter(|(name, _)| name != "amount").collect();
        all.push(("amount".to_owned(), "5".to_owned()));
        all.retain(|(name, _)| name != "currency");
        all.push(("currency".to_owned(), "usd".to_owned()));
        let plain = |pairs: &[(String, String)]| {
            pairs.iter().map(|(n, v)| format!("{n}={}", v.replace(' ', "+"))).collect::<Vec<_>>().join("&")
        };
        let escaped = |pairs: &[(String, String)]| {
            let hex = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
            pairs.iter().map(|(n, v)| format!("{}={}", hex(n), hex(v))).collect::<Vec<_>>().join("&")
        };
        let one = fingerprint_of(&Draft::charge(&plain(&all)));
        let turn = usize::from(seed) % all.len();
        all.rotate_left(turn);
        prop_assert_eq!(fingerprint_of(&Draft::charge(&escaped(&all))), one);
    }
}

#[test]
fn equal_purchases_have_one_digest_for_each_list_of_fields() {
    let lists = |lists: &[&[&str]]| Grant {
        duplicate_fields: lists
            .iter()
            .map(|names| names.iter().map(|name| (*name).to_owned()).collect())
            .collect(),
        vendor_accounts: vec!["acct_1".to_owned()],
        ..grant(&[
            "POST /v1/charges",
            "payment_intents.create",
            "refunds.create",
            "customers.create",
            "charges.list",
        ])
    };
    let usual = lists(&[&["customer", "amount", "currency"]]);
    let of = |grant: &Grant, draft: &Draft| ask(grant, draft).unwrap().reserve_parts().purchases;
    let first = of(&usual, &Draft::charge(GOOD));
    assert_eq!(first.len(), 1);
    let other_key = Draft::charge(&format!("{GOOD}&description=x")).set("idempotency-key", "k-2");
    assert_eq!(of(&usual, &other_key), first, "only the named fields count");
    let two = lists(&[&["amount"], &["currency", "customer", "amount", "amount"]]);
    let both = of(&two, &Draft::charge(GOOD));
    assert_eq!(both[1..], first[..], "in any order");
    assert_ne!(both[0], both[1]);
    for different in [
        Draft::charge("amount=998&currency=usd&customer=cus_aaa"),
        Draft::charge(GOOD).with("stripe-account", "acct_1"),
        Draft::post("/v1/payment_intents", GOOD),
        Draft::charge("amount=999&currency=usd"),
    ] {
        assert_ne!(of(&usual, &different), first);
    }
    // A field that is not there cannot tell purchases apart: the whole request must be equal.
    let card = |body: &str| of(&usual, &Draft::charge(body));
    let bare = card("amount=999&currency=usd&source=tok_visa");
    assert_eq!(bare, card("source=tok_visa&currency=usd&amount=999"));
    assert_ne!(bare, card("amount=999&currency=usd&source=tok_amex"));
    // Two objects are two purchases.
    let by_amount = lists(&[&["amount"]]);
    let refund = |charge: &str| {
        let body = format!("charge={charge}&amount=5");
        of(&by_amount, &Draft::post("/v1/refunds", &body))
    };
    assert_ne!(refund("ch_1"), refund("ch_2"));
    assert_eq!(refund("ch_1"), refund("ch_1"));
    // What costs nothing is no purchase, and without a rule nothing is computed.
    assert!(of(&usual, &Draft::post("/v1/customers", "name=x")).is_empty());
    assert!(of(&usual, &Draft::new("GET", "/v1/charges")).is_empty());
    assert!(of(&lists(&[]), &Draft::charge(GOOD)).is_empty());
}
