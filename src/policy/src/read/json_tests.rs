use proptest::prelude::*;

use super::*;

#[test]
fn json_that_can_be_read_in_two_ways_is_refused() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    let bracketed = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let many = format!(
        "{{{}}}",
        (0..1_001)
            .map(|n| format!(r#""x{n}":1"#))
            .collect::<Vec<_>>()
            .join(",")
    );
    let cases = [
        r#"{"amount":1,"amount":2}"#,
        r#"{"amount":1,"\u0061mount":2}"#,
        r#"{"Amount":1,"amount":2}"#,
        r#"{"a":{"b":1,"b":2}}"#,
        r#"{"a":{"b":1},"a":{"c":2}}"#,
        r#"{"a":{"b":1},"\u0061":{"c":2}}"#,
        r#"{"a":[{"b":{"c":1},"b":{"d":2}}]}"#,
        r#"{"a":1e2}"#,
        r#"{"a":-0}"#,
        r#"{"a":-0.00}"#,
        r#"{"a":1E400}"#,
        r#"{"a":1.5e3}"#,
        r#"{"a[b]":1}"#,
        r#"{"a":9007199254740993}"#,
        r#"{"a":0.12345678901234567890}"#,
        r#"{"a":01}"#,
        r#"{"a":NaN}"#,
        r#"[{"a":1}]"#,
        r#"{"a":1}{"b":2}"#,
        r#"{"a":1} x"#,
        r#"{"a":1,}"#,
        r#"{"a":1/*x*/}"#,
        "{\"a\":1}//x",
        r#"{"a[b]":1,"a":{"b":2}}"#,
        r#"{" a":1}"#,
        r#"{"":1}"#,
        r#"{"a":"\u0000"}"#,
        r#"{"a":"\ud800"}"#,
        "\u{feff}{\"a\":1}",
        "null",
        "1",
        "{",
        &deep,
        &bracketed,
        &many,
    ];
    for text in cases {
        assert!(
            parse(text.as_bytes()).is_err(),
            "{}",
            &text[..text.len().min(60)]
        );
    }
    assert!(parse(b"{\"a\":\"\xff\"}").is_err());
}

#[test]
fn json_is_read_under_the_names_that_a_form_would_have() {
    let fields = parse(
        br#"{"amount":{"value":5,"currency":"usd"},"list":["x",{"y":true}],"none":{},"d":1.5}"#,
    )
    .unwrap();
    let found: Vec<_> = fields
        .iter()
        .map(|field| (field.name.as_str(), field.value.as_str(), field.kind))
        .collect();
    assert_eq!(
        found,
        [
            ("amount[currency]", "usd", Kind::Text),
            ("amount[value]", "5", Kind::Number),
            ("d", "1.5", Kind::Number),
            ("list[0]", "x", Kind::Text),
            ("list[1][y]", "true", Kind::Literal),
            ("none", "{}", Kind::Literal),
        ]
    );
}

#[test]
fn amounts_in_json_are_integers_and_neither_texts_nor_decimals() {
    let bounds = crate::pack::IntegerBounds {
        min: 1,
        max_digits: 8,
    };
    for (text, expected) in [
        (r#"{"a":100}"#, Ok(100)),
        (r#"{"a":"100"}"#, Err(())),
        (r#"{"a":1.0}"#, Err(())),
    ] {
        let fields = parse(text.as_bytes()).unwrap();
        let read = super::super::fields::integer(
            fields.get("a").unwrap(),
            bounds,
            crate::pack::BodyEncoding::Json,
        );
        assert_eq!(read.map_err(|_| ()), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[\\[\\]{}\",:a0-9.e\\\\u+ -]{0,60}") {
        let _ = parse(text.as_bytes());
    }
}
