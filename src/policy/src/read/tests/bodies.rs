//! Bodies: one line per class of HOSTILE.md.

use keybrake_contract::refusal::RefusalCode::{ParameterNotAllowed, RequestNotInspectable};
use keybrake_contract::wire::Cost;

use super::{Draft, GOOD, code};

#[test]
fn form_bodies_that_can_be_read_in_two_ways_are_refused() {
    let long = "9".repeat(10_000);
    let deep = format!("{GOOD}&a{}=1", "[b]".repeat(8));
    let many = format!(
        "{GOOD}&{}",
        (0..1_000)
            .map(|n| format!("x{n}=1"))
            .collect::<Vec<_>>()
            .join("&")
    );
    let bodies = [
        "amount=100&amount=999999&currency=usd",
        "amount=999999&amount=100&currency=usd",
        "amount[]=900&currency=usd",
        "amount[0]=900&currency=usd",
        "amount[x]=900&amount=100&currency=usd",
        "amount=100&amount[x]=900&currency=usd",
        "%61mount=900&amount=1&currency=usd",
        "amount=1&amount%5B%5D=900&currency=usd",
        "%20amount=900&currency=usd&amount=1",
        " amount=900&currency=usd&amount=1",
        "+amount=900&currency=usd&amount=1",
        "amount%20=900&currency=usd&amount=1",
        "[amount]=900&currency=usd&amount=1",
        "amount]=900&currency=usd&amount=1",
        "amount[=900&currency=usd&amount=1",
        "a=1& amount=900&currency=usd&amount=1",
        "a=1;amount=900&currency=usd&amount=1",
        "amount&currency=usd",
        "amount=&currency=usd",
        "amount=%2B900&currency=usd",
        "amount=-900&currency=usd",
        "amount=+900&currency=usd",
        "amount=%20900&currency=usd",
        "amount=900%0a&currency=usd",
        "amount=900\n&currency=usd",
        "amount=0900&currency=usd",
        "amount=0&currency=usd",
        "amount=0x10&currency=usd",
        "amount=1_000&currency=usd",
        "amount=1,000&currency=usd",
        "amount=1e5&currency=usd",
        "amount=100.00&currency=usd",
        "amount=%D9%A1&currency=usd",
        "amount=123456789&currency=usd",
        "amount=18446744073709551616&currency=usd",
        "amount=NaN&currency=usd",
        "amount=null&currency=usd",
        "amount=true&currency=usd",
        "amount=1&currency=usd&a=%zz",
        "amount=1&currency=usd&a=%4",
        "amount=1&currency=usd&a=%ff",
        "amount=1&currency=usd&a=%00",
        "Amount=900&amount=1&currency=usd",
        "amount=900",
        "amount=900&currency=usd&currency=eur",
        "amount=900&currency[]=usd",
        "amount=900&currency=us",
        "amount=1&currency=usd&items[][price]=a&items[][price]=b",
        "amount=1&currency=usd&x[]=1&x[a]=2",
        "amount=1&currency=usd&x[0]=1&x[00]=2",
        "amount=1&currency=usd&quantity=0",
        "amount=1&currency=usd&items[0][quantity]=-1",
        "amount=1&currency=usd&quantity=99999999999999999999",
        "amount=1&currency=usd&items[0][unit_amount]=1&items[0][unit_amount_decimal]=2",
        "amount=1&currency=usd&_method=delete",
        "amount=1&currency=usd&",
        "&amount=1&currency=usd",
        "amount=1&&currency=usd",
        "",
        &format!("amount={long}&currency=usd"),
        &deep,
        &many,
        &"&".repeat(1_000_000),
    ];
    for body in bodies {
        let shown = &body[..body.len().min(80)];
        assert_eq!(
            code(&Draft::charge(body)),
            Some(RequestNotInspectable),
            "{shown}"
        );
    }
}

#[test]
fn odd_looking_forms_with_one_meaning_are_read() {
    for body in [
        "amount=999&currency=USD",
        "%61mount=999&currency=usd",
        "amount=999&currency=usd&metadata[amount]=x&metadata[quantity]=0",
        "amount=999&currency=usd&confirm=True",
        "amount=999&currency=usd&expand[]=customer&expand[]=invoice",
        "amount=999&currency=usd&metadata[my+key]=a%26b%3D%3B&description=caf%C3%A9",
        "amount=99999999&currency=usd",
        "amount=1&currency=usd&items[0][unit_amount]=1&items[1][unit_amount_decimal]=2",
        "amount=1&currency=usd&metadata[vault_key_label]=vk_1",
        "amount=1&currency=usd&description=",
    ] {
        assert!(
            matches!(Draft::charge(body).read().unwrap().cost, Cost::Amount(_)),
            "{body}"
        );
    }
}

#[test]
fn refunds_name_one_object_and_existing_objects_keep_their_currency() {
    let cases = [
        ("/v1/refunds", "amount=5", RequestNotInspectable, "charge"),
        (
            "/v1/refunds",
            "charge=ch_1&payment_intent=pi_1",
            RequestNotInspectable,
            "payment_intent",
        ),
        ("/v1/refunds", "charge=", RequestNotInspectable, "charge"),
        (
            "/v1/refunds",
            "charge=ch%201",
            RequestNotInspectable,
            "charge",
        ),
        (
            "/v1/refunds",
            "charge=ch_1&amount=5.0",
            RequestNotInspectable,
            "amount",
        ),
        (
            "/v1/charges/ch_1/capture",
            "amount[0]=5",
            RequestNotInspectable,
            "amount[0]",
        ),
        (
            "/v1/payment_intents/pi_1/capture",
            "amount_to_capture[x]=5",
            RequestNotInspectable,
            "amount_to_capture[x]",
        ),
        (
            "/v1/payment_intents/pi_1",
            "currency=usd",
            ParameterNotAllowed,
            "currency",
        ),
        (
            "/v1/payment_intents/pi_1/increment_authorization",
            "description=x",
            RequestNotInspectable,
            "amount",
        ),
        (
            "/v1/customers",
            "balance=-5000",
            ParameterNotAllowed,
            "balance",
        ),
        (
            "/v1/customers/cus_1",
            "plan=gold",
            ParameterNotAllowed,
            "plan",
        ),
    ];
    for (path, body, expected, param) in cases {
        let turned = Draft::post(path, body).read().unwrap_err();
        assert_eq!(
            (turned.code, turned.param.as_deref()),
            (expected, Some(param)),
            "{path} {body}"
        );
        assert!(
            turned.message.starts_with(&format!("{param} ")),
            "{path} {body}: {}",
            turned.message
        );
    }
}

#[test]
fn the_first_name_that_stands_in_two_cases_is_told() {
    let param = |body: &str| {
        let turned = Draft::charge(&format!("{GOOD}&{body}")).read().err();
        turned.and_then(|turned| turned.param)
    };
    assert_eq!(param("Ab=1&Zz=1&zz=1&ab=1").as_deref(), Some("ab"));
    assert_eq!(param("AB=1&Aa=1&aB=1&aa=1").as_deref(), Some("aa"));
    assert_eq!(param("Items[0][a]=1&Items[0][b]=1&Other=1"), None);
    assert_eq!(
        param("Items[0][a]=1&items[0][b]=1").as_deref(),
        Some("items")
    );
}

#[test]
fn the_audit_keeps_short_printable_text_alone() {
    let kept = |customer: &str| {
        let body = format!("amount=999&currency=usd&customer={customer}");
        let reading = Draft::charge(&body).read().unwrap();
        reading.facts.params.get("customer").cloned()
    };
    assert_eq!(kept("cus_1+~").as_deref(), Some("cus_1 ~"));
    assert_eq!(kept(&"x".repeat(256)), Some("x".repeat(256)));
    for odd in ["", "a%0Ab", "a%7Fb", "gr%C3%BCn", &"x".repeat(257)] {
        assert_eq!(kept(odd), None, "{odd}");
    }
}
