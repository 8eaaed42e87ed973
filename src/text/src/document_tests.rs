use super::*;

record! {
    #[derive(Debug, PartialEq)]
    struct Order {
        name: String,
        kind as "type": Kind,
        lines: Vec<Line>,
        by_name: Named<Line> = Named::default(),
        note: Option<String>,
        pair: Option<(String, String)>,
        urgent: bool = false,
    }
}

record! {
    #[derive(Debug, PartialEq)]
    struct Line {
        count: u8,
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Sale,
    Return,
}

words!(Kind: Sale = "sale", Return = "return");

fn order(text: &str) -> Result<Order, Vec<Mistake>> {
    read(text)
}

#[test]
fn what_may_be_left_out_has_its_default() {
    let expected = Order {
        name: "a\"b".to_owned(),
        kind: Kind::Return,
        lines: vec![Line { count: 7 }],
        by_name: Named::default(),
        note: None,
        pair: None,
        urgent: false,
    };
    let text = r#" {"type": "return", "lines": [{"count": 7}], "name": "a\"b", "note": null} "#;
    assert_eq!(order(text), Ok(expected));
}

#[test]
fn a_mistake_is_told_with_its_place_and_what_is_allowed() {
    let with = |more: &str| format!(r#"{{"name": "a", "type": "sale", "lines": []{more}}}"#);
    assert!(order(&with("")).is_ok());
    let cases = [
        ("5".to_owned(), "", "wants an object"),
        (
            r#"{"type": "sale", "lines": []}"#.to_owned(),
            "",
            "missing field `name`",
        ),
        (
            with(r#", "nmae": 1"#),
            "",
            "unknown field `nmae`, expected one of `name`, `type`, `lines`, `by_name`, `note`, `pair`, `urgent`",
        ),
        // The name of the field in the code is none in the document.
        (with(r#", "kind": "sale""#), "", "unknown field `kind`"),
        (with(r#", "by_name": []"#), "by_name", "wants an object"),
        (
            with(r#", "by_name": {"a": 1}"#),
            "by_name.a",
            "wants an object",
        ),
        (
            with(r#", "by_name": {"a": {"count": 256}}"#),
            "by_name.a.count",
            "wants a whole number that fits into u8",
        ),
        (
            with(r#", "by_name": {"a": {"count": -1}}"#),
            "by_name.a.count",
            "wants a whole number",
        ),
        (
            with(r#", "by_name": {"a": {"count": 1.0}}"#),
            "by_name.a.count",
            "wants a whole number",
        ),
        (with(r#", "note": 1"#), "note", "wants a text"),
        (
            with(r#", "pair": ["a"]"#),
            "pair",
            "wants a list of two texts",
        ),
        (
            with(r#", "pair": ["a", "b", "c"]"#),
            "pair",
            "wants a list of two texts",
        ),
        (with(r#", "pair": ["a", 1]"#), "pair[1]", "wants a text"),
        (with(r#", "urgent": 1"#), "urgent", "wants true or false"),
        (with(r#", "urgent": null"#), "urgent", "wants true or false"),
        (
            r#"{"name": "a", "type": "gift", "lines": []}"#.to_owned(),
            "type",
            "unknown variant \"gift\", expected one of `sale`, `return`",
        ),
        (
            r#"{"name": "a", "type": "sale", "lines": [{"count": 1}, {"count": 1, "cuont": 1}]}"#
                .to_owned(),
            "lines[1]",
            "unknown field `cuont`",
        ),
        (
            r#"{"name": "a", "type": "sale", "lines": {}}"#.to_owned(),
            "lines",
            "wants a list",
        ),
    ];
    for (text, at, problem) in cases {
        let mistakes = order(&text).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
        assert_eq!(mistakes[0].at, at, "{text}");
        assert!(
            mistakes[0].problem.starts_with(problem),
            "{text}: {mistakes:?}"
        );
    }
}

#[test]
fn no_name_stands_twice_at_any_depth() {
    let told = |mistakes: Vec<Mistake>| {
        let told = mistakes
            .into_iter()
            .map(|mistake| format!("{}: {}", mistake.at, mistake.problem));
        told.collect::<Vec<_>>()
    };
    let line = read::<Line>(r#"{"count": 1, "\u0063ount": 1}"#);
    assert_eq!(told(line.unwrap_err()), [": duplicate field `count`"]);
    let named = read::<Named<Line>>(r#"{"a": {"count": 1}, "a": {"count": 1}}"#);
    assert_eq!(told(named.unwrap_err()), [": duplicate field `a`"]);
    let any = read::<Named<Value>>(r#"{"any": [1, {"b": {"a": 1, "b": 2, "a": 3}}]}"#);
    assert_eq!(told(any.unwrap_err()), ["any: duplicate field `a`"]);
}

#[test]
fn what_is_not_json_is_told_with_its_line() {
    for text in ["", "{", "{} {}", "{\"count\": 01}", "{\n\"count\": 1,}"] {
        let mistakes = read::<Line>(text).unwrap_err();
        assert!(
            mistakes[0].problem.contains("at line "),
            "{text}: {mistakes:?}"
        );
    }
    let deep = format!(
        "{{\"any\": {}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let mistakes = read::<Named<Value>>(&deep).unwrap_err();
    assert_eq!(mistakes[0].problem, "is nested more than 32 deep");
    assert_eq!(read("\n {\"count\": 1} \r\n"), Ok(Line { count: 1 }));
}

#[test]
fn json_of_any_form_is_read_as_serde_json_reads_it() {
    let text = r#"{"a": [1, -1, 1.5, 1e3, true, false, null, "x\n", {}, []], "b": 18446744073709551615, "c": 18446744073709551616}"#;
    let expected: Value = serde_json::from_str(text).unwrap();
    assert_eq!(read(text), Ok(expected));
}

#[test]
fn every_mistake_is_told_and_none_of_what_follows_from_another() {
    let text = r#"{"type": 1, "lines": [7, {"count": -1}, {}], "by_name": {"b": [], "a": {"count": 3, "more": 0}}}"#;
    let told: Vec<String> = order(text)
        .unwrap_err()
        .into_iter()
        .map(|Mistake { at, problem }| format!("{at}: {problem}"))
        .collect();
    assert_eq!(
        told,
        [
            ": missing field `name`",
            "type: unknown variant 1, expected one of `sale`, `return`",
            "lines[0]: wants an object",
            "lines[1].count: wants a whole number that fits into u8",
            "lines[2]: missing field `count`",
            "by_name.b: wants an object",
            "by_name.a: unknown field `more`, expected one of `count`",
        ]
    );
    let told = read_at::<Order>("orders[4]", "null").unwrap_err();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].at, "orders[4]");
}

#[test]
fn a_value_is_found_by_its_name() {
    let text = r#"{"b": 2, "a": 1, "c": 3, "B": 4}"#;
    let named: Named<u8> = read(text).unwrap();
    for (name, expected) in [
        ("a", Some(1)),
        ("b", Some(2)),
        ("c", Some(3)),
        ("B", Some(4)),
        ("d", None),
        ("", None),
    ] {
        assert_eq!(named.get(name).copied(), expected, "{name}");
    }
    let names: Vec<&str> = named.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["B", "a", "b", "c"]);
}

#[test]
fn json_that_stands_for_nothing_is_no_value() {
    for nothing in [
        r#""\ud800""#,
        "1e999",
        r#"{"\ud800": 1}"#,
        r#"[{"a": "\udc00"}]"#,
    ] {
        let mistakes = read::<Named<Value>>(&format!(r#"{{"any": {nothing}}}"#)).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{nothing}: {mistakes:?}");
        assert_eq!(mistakes[0].at, "any");
    }
}
