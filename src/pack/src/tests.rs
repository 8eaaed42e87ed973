use super::*;

fn stripe_text() -> String {
    builtin("stripe").unwrap()
}

fn stripe() -> Pack {
    Pack::parse(&stripe_text()).unwrap()
}

/// The built-in pack with one text exchanged for another.
fn changed(from: &str, to: &str) -> Result<Pack, InvalidPack> {
    assert!(stripe_text().contains(from), "{from}");
    Pack::parse(&stripe_text().replacen(from, to, 1))
}

#[test]
fn every_built_in_pack_is_valid_and_named_after_its_vendor() {
    for name in builtin_names() {
        assert_eq!(Pack::parse(&builtin(name).unwrap()).unwrap().vendor(), name);
    }
    assert!(builtin("nobody").is_none());
}

#[test]
fn a_built_in_pack_is_its_file_to_the_byte() {
    assert_eq!(stripe_text(), include_str!("../../../vendors/stripe.json"));
}

#[test]
fn every_operation_can_be_granted_by_name_and_by_its_pattern() {
    let pack = stripe();
    assert!(pack.operation_names().count() > 600);
    for endpoint in pack.endpoints() {
        let path = endpoint.pattern.to_string().replace(['{', '}'], "");
        let (method, path) = path.split_once(' ').unwrap();
        assert_eq!(
            pack.endpoint(method, path).unwrap().operation,
            endpoint.operation
        );
        let by_name = AllowedEndpoint::Operation(endpoint.operation.clone());
        let by_pattern = AllowedEndpoint::Pattern(endpoint.pattern.clone());
        assert!(pack.covers(&by_name) && pack.covers(&by_pattern));
    }
}

#[test]
fn the_most_specific_template_wins_and_what_is_not_listed_is_unknown() {
    let pack = stripe();
    let cases = [
        ("GET", "/v1/charges/search", Some("charges.search")),
        ("GET", "/v1/charges/searches", Some("charges.retrieve")),
        ("GET", "/v1/charges", Some("charges.list")),
        ("POST", "/v1/charges", Some("charges.create")),
        ("DELETE", "/v1/charges", None),
        ("GET", "/v1/charges/", None),
        ("GET", "/v1/charges/a/b/c/d/e/f/g", None),
        ("GET", "v1/charges", None),
        ("GET", "", None),
        ("GET", "/v1/{charge}", None),
    ];
    for (method, path, expected) in cases {
        let found = pack
            .endpoint(method, path)
            .map(|endpoint| endpoint.operation.as_str());
        assert_eq!(found, expected, "{method} {path}");
    }
}

#[test]
fn a_line_of_a_grant_must_mean_something() {
    let pack = stripe();
    let cases = [
        ("charges.create", true),
        ("charges.creates", false),
        ("POST /v1/charges", true),
        ("POST /v1/charges/{any}/capture", true),
        ("POST /v1/charges/ch_1/capture", true),
        ("GET /v1/{any}", true),
        ("GET /v1/{any}/{id}", true),
        ("PUT /v1/charges", false),
        ("POST /v1/chargess", false),
        ("POST /charges", false),
    ];
    for (line, expected) in cases {
        assert_eq!(
            pack.covers(&AllowedEndpoint::parse(line).unwrap()),
            expected,
            "{line}"
        );
    }
}

#[test]
fn stripes_idempotency_is_a_day_less_an_hour() {
    let pack = stripe();
    let expected = PackIdempotency {
        header: "idempotency-key".to_owned(),
        window_ms: Some(24 * 3_600_000),
        margin_ms: 3_600_000,
        max_key_length: 255,
        default_rule: DefaultRule::Required,
    };
    assert_eq!(*pack.idempotency(), expected);
    assert_eq!(pack.hosts(), ["api.stripe.com"]);
}

#[test]
fn money_is_never_moved_by_an_endpoint_that_says_nothing_of_it() {
    for endpoint in stripe().endpoints() {
        let costs = !matches!(endpoint.cost, CostRule::Nothing);
        let free = matches!(endpoint.class, Class::Read | Class::Free);
        assert_ne!(costs, free, "{}", endpoint.operation);
        let money = matches!(endpoint.class, Class::Money | Class::MoneyOptional);
        assert!(
            endpoint.answer.is_some() || !money,
            "{}",
            endpoint.operation
        );
        // A call that costs nothing can end what is held for its object, never settle it.
        if endpoint.class == Class::Free
            && let Some(answer) = &endpoint.answer
        {
            let ends = |state: &StateRule| state.money == MoneyState::Cancelled;
            assert!(answer.states.iter().any(ends), "{}", endpoint.operation);
        }
    }
}

#[test]
fn mistakes_say_where_they_are_and_what_is_allowed() {
    let cases = [
        (
            r#""vendor": "stripe""#,
            r#""vendor": "Stripe""#,
            "vendor: 1 to 64",
        ),
        (
            r#""vendor": "stripe""#,
            r#""vendr": "stripe""#,
            "unknown field `vendr`",
        ),
        (
            r#""vendor": "stripe""#,
            r#""vendor": "stripe", "vendor": "b""#,
            "duplicate field `vendor`",
        ),
        (r#"["api.stripe.com"]"#, "[]", "hosts: at least one"),
        (
            r#"["api.stripe.com"]"#,
            r#"["API.stripe.com:443"]"#,
            "hosts[0]: a host name",
        ),
        (
            r#""bearer","#,
            r#""header","#,
            "credential.places[0]: unknown variant \"header\", expected one of",
        ),
        (
            r#""max_key_length": 255"#,
            r#""max_key_length": 256"#,
            "max_key_length: 1 to 255",
        ),
        (
            r#""margin_ms": 3600000"#,
            r#""margin_ms": 86400000"#,
            "margin_ms: less than window_ms",
        ),
        (
            r#""header": "idempotency-key""#,
            r#""header": "Idempotency-Key""#,
            "not a header name in lower case",
        ),
        (
            r#""forward_headers": ["#,
            r#""forward_headers": ["authorization", "#,
            "must never be forwarded",
        ),
        (
            r#""forward_headers": ["#,
            r#""forward_headers": ["x-envoy-a", "#,
            "must never be forwarded",
        ),
        (
            r#""v1": "form""#,
            r#""v1": "xml""#,
            "path.roots.v1: unknown variant \"xml\"",
        ),
        (
            r#""segment_extra": "_-""#,
            r#""segment_extra": "_%""#,
            "path.segment_extra: none but",
        ),
        (
            r#""status": "422""#,
            r#""status": "222""#,
            "outcomes[3].status",
        ),
        (
            r#""outcome": "declined_final""#,
            r#""outcome": "fine""#,
            ".outcome: unknown variant \"fine\"",
        ),
        (
            r#""idempotency_error": "idempotency_error""#,
            r#""no_code": "x""#,
            "refusal.types.no_code: a refusal code",
        ),
        (
            r#""mark": "/error""#,
            r#""mark": "error""#,
            "refusal.mark: a JSON pointer",
        ),
        (
            r#""operation": "charges.create""#,
            r#""operation": "Charges""#,
            "endpoints[0].operation",
        ),
        (
            r#""operation": "charges.list""#,
            r#""operation": "charges.create""#,
            "charges.create stands twice",
        ),
        (
            "POST /v1/charges\"",
            "post /v1/charges\"",
            "endpoints[0].endpoint: must begin with an upper-case method",
        ),
        (
            "GET /v1/charges\"",
            "POST /v1/charges\"",
            "endpoints[1].class: read for GET",
        ),
        (
            "GET /v1/charges/search",
            "GET /v1/charges",
            "endpoints[2].endpoint: matches the same paths as endpoints[1]",
        ),
        (
            r#""class": "money""#,
            r#""class": "free""#,
            "endpoints[0].cost: only for money",
        ),
        (
            r#""class": "money", "cost": {"amount": "amount", "currency": "currency"}"#,
            r#""class": "money""#,
            "wanted for money",
        ),
        (
            r#""answer": "charge""#,
            r#""answer": "charges""#,
            "endpoints[0].answer: charges is not one of",
        ),
        (
            r#"["{charge}"]"#,
            r#"["{id}"]"#,
            "the path has no such {name}",
        ),
        (
            r#""stated": "price_data""#,
            r#""stated": "price_date""#,
            ".stated: a name in `stated`",
        ),
        (
            r#""class": "prepares", "stated": "price_data""#,
            r#""class": "free", "stated": "price_data""#,
            ".stated: only for money_blind and prepares",
        ),
        (
            r#""unit": "price_data[unit_amount]""#,
            r#""unit": """#,
            "stated.price_data: no empty names",
        ),
        (
            r#""currency": "currency", "signed": true"#,
            r#""currency": "currency", "max_digits": 19"#,
            ".cost.max_digits: 1 to 18",
        ),
        (
            r#""fixed_amount": 0"#,
            r#""fixed_amount": 0, "signed": true"#,
            ".cost.amount: wanted where max_digits or signed stands",
        ),
        (
            r#""fixed_amount": 0"#,
            r#""fixed_amount": 0, "anew": true"#,
            ".cost.anew: only beside object",
        ),
        (
            r#""fixed_amount": 0"#,
            r#""fixed_amount": 0, "absent": "unknown""#,
            ".cost.absent: only for money_optional",
        ),
        (
            r#""max_digits": 8"#,
            r#""max_digits": 19"#,
            "max_digits: 1 to 18",
        ),
    ];
    for (from, to, expected) in cases {
        let message = changed(from, to).unwrap_err().to_string();
        assert!(message.contains(expected), "{to}: {message}");
    }
    let message = Pack::parse("{").unwrap_err().to_string();
    assert!(message.contains("line 1"), "{message}");
}

#[test]
fn evidence_names_reads_and_writes_of_its_own_pack() {
    let pack = stripe();
    let rules = pack.evidence().unwrap();
    assert_eq!(rules.events.path, "/v1/events");
    let charge = rules.operations.get("charges.create").unwrap();
    assert_eq!(charge.path_of("ch_1").as_deref(), Some("/v1/charges/ch_1"));
    for odd in ["", "../events", "ch/1", "ch_1?x", "ch 1", &"x".repeat(256)] {
        assert_eq!(charge.path_of(odd), None, "{odd}");
    }
    for operation in rules.reads() {
        assert_eq!(pack.endpoint_of(operation).unwrap().class, Class::Read);
    }
    for (from, to, at) in [
        (
            r#""operation": "events.list",
      "from""#,
            r#""operation": "charges.create",
      "from""#,
            "evidence.events.operation",
        ),
        (
            r#""operation": "events.list",
      "from""#,
            r#""operation": "events.retrieve",
      "from""#,
            "evidence.events.operation",
        ),
        (
            r#""retrieve": "charges.retrieve", "complete""#,
            r#""retrieve": "charges.list", "complete""#,
            "evidence.operations.charges.create.retrieve",
        ),
        (
            r#""retrieve": "charges.retrieve", "complete""#,
            r#""retrieve": "charges.capture", "complete""#,
            "evidence.operations.charges.create.retrieve",
        ),
        (
            r#""charges.create": {"object""#,
            r#""charges.list": {"object""#,
            "evidence.operations.charges.list",
        ),
        (
            r#""vendor_max_ms": 900000"#,
            r#""vendor_max_ms": 0"#,
            "evidence.vendor_max_ms",
        ),
        (
            r#""kept_ms": 2592000000"#,
            r#""kept_ms": 900000"#,
            "evidence.kept_ms",
        ),
        (
            r#""page_size": 100"#,
            r#""page_size": 0"#,
            "evidence.events.page_size",
        ),
        (
            r#""more": "/has_more""#,
            r#""more": "has_more""#,
            "evidence.events",
        ),
        (
            r#""after": "starting_after""#,
            r#""after": """#,
            "evidence.events",
        ),
        ("\"bearer\",\n", "", "credential.places"),
    ] {
        let refused = changed(from, to).unwrap_err().to_string();
        assert!(refused.contains(at), "{at}: {refused}");
    }
}

#[test]
fn a_value_that_stands_for_nothing_is_a_mistake_and_no_null() {
    for nothing in [r#""\ud800""#, "1e999"] {
        let changed = changed(
            r#""status": "canceled""#,
            &format!(r#""status": {nothing}"#),
        );
        let message = changed.unwrap_err().to_string();
        assert!(message.contains(".when.status: "), "{message}");
    }
}

#[test]
fn every_mistake_is_named_with_its_place_and_nothing_else_is() {
    let mut text: Value = serde_json::from_str(&stripe_text()).unwrap();
    text["vendor"] = "Stripe".into();
    text["hosts"] = serde_json::json!([]);
    text["answers"]["charge"]["currency"] = Value::Null;
    text["parameters"]["integers"]["amount"]["max_digits"] = 19.into();
    text["outcomes"][1]["status"] = "200".into();
    text["outcomes"][2]["status"] = "abc".into();
    text["endpoints"][0]["cost"] =
        serde_json::json!({"amount": "amount", "currency": "currency", "max_digits": 19});
    text["endpoints"][1]["class"] = "free".into();
    text["endpoints"][2]["answer"] = "none".into();
    let mistakes = Pack::check(&text.to_string()).unwrap_err();
    let places: Vec<&str> = mistakes.iter().map(InvalidPack::at).collect();
    assert_eq!(
        places,
        [
            "vendor",
            "hosts",
            "answers.charge.currency",
            "parameters.integers.amount.max_digits",
            "endpoints[0].cost.max_digits",
            "endpoints[1].class",
            "endpoints[2].answer",
            "outcomes[1].status",
            "outcomes[2].status",
        ]
    );
}
