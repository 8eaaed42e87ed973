use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// What the library makes of a text.
fn by_library(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(text).ok()
}

fn same(text: &str) -> Result<(), String> {
    let found = Members::parse(text);
    let expected = by_library(text);
    match (&found, &expected) {
        (None, None) => Ok(()),
        (Some(found), Some(expected)) => {
            let by_last: BTreeMap<&str, &str> = found
                .0
                .iter()
                .map(|(name, raw)| (name.as_ref(), *raw))
                .collect();
            let wanted: BTreeMap<&str, &str> = expected
                .iter()
                .map(|(name, raw)| (name.as_str(), raw.get()))
                .collect();
            let looked_up = wanted
                .keys()
                .all(|name| found.get(name) == wanted.get(name).copied());
            (by_last == wanted && looked_up)
                .then_some(())
                .ok_or(format!("{by_last:?} is not {wanted:?}"))
        }
        _ => Err(format!(
            "{text}: {} here, {} there",
            found.is_some(),
            expected.is_some()
        )),
    }
}

fn same_elements(text: &str) -> Result<(), String> {
    let expected: Option<Vec<&RawValue>> = serde_json::from_str(text).ok();
    let expected: Option<Vec<&str>> =
        expected.map(|all| all.into_iter().map(RawValue::get).collect());
    let found = elements(text);
    (found == expected)
        .then_some(())
        .ok_or(format!("{text}: {found:?} is not {expected:?}"))
}

#[test]
fn what_is_json_is_what_the_library_says() {
    let cases = [
        "",
        " ",
        "{",
        "}",
        "{}",
        " \t\r\n{ \t\r\n} \t\r\n",
        "{}{}",
        "{} x",
        "[]",
        "null",
        "\"a\"",
        "1",
        "\u{feff}{}",
        "{\u{a0}}",
        "{\u{b}}",
        "{\0}",
        "{}\0",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{,"a":1}"#,
        r#"{"a":1 "b":2}"#,
        r#"{"a" 1}"#,
        r#"{a:1}"#,
        r#"{'a':1}"#,
        r#"{1:1}"#,
        r#"{"a":1}"#,
        r#"{ "a" : 1 , "b" : 2 }"#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"":1}"#,
        r#"{"a":tru}"#,
        r#"{"a":true}"#,
        r#"{"a":truex}"#,
        r#"{"a":nul"#,
        r#"{"a":null}"#,
        r#"{"a":false}"#,
        r#"{"a":False}"#,
        r#"{"a":NaN}"#,
        r#"{"a":Infinity}"#,
        r#"{"a":[]}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[,1]}"#,
        r#"{"a":[1 2]}"#,
        r#"{"a":[1,2]}"#,
        r#"{"a":[1}"#,
        r#"{"a":{"b":[{}]}}"#,
        r#"{"a":{"b":1,}}"#,
        r#"{"a":{,}}"#,
        r#"{"a":{"b"}}"#,
        r#"{"a":{1:1}}"#,
        r#"{"a":{]}"#,
        r#"{"a":[}]}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"\ud800":1}"#,
        r#"{"\ud83d\ude00":1}"#,
        r#"{"a":{"\ud800":1}}"#,
        r#"{"a":"\u12"}"#,
        r#"{"a":"\u12g4"}"#,
        r#"{"a":"\u+123"}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\"#,
        r#"{"a":"\"\\\/\b\f\n\r\t\u00e9"}"#,
        "{\"a\":\"\n\"}",
        "{\"a\":\"\u{1f}\"}",
        "{\"a\":\"\u{7f}\"}",
        "{\"a\n\":1}",
        "{\"a\":\"",
        "{\"a\":\"b",
        "{\"é\":\"é\"}",
        r#"{"a":/**/1}"#,
        "{\"a\":1}//",
    ];
    for text in cases {
        assert_eq!(same(text), Ok(()));
        assert_eq!(same_elements(text), Ok(()));
        assert_eq!(same_elements(&format!("[{text}]")), Ok(()));
    }
    for number in [
        "0",
        "-0",
        "-",
        "00",
        "01",
        "-01",
        "1",
        "12",
        "1.",
        "1.5",
        ".5",
        "1.5.5",
        "1e5",
        "1E5",
        "1e+5",
        "1e-5",
        "1e",
        "1e+",
        "1.e5",
        "1.5e5",
        "0e5",
        "0.5",
        "0x1",
        "+1",
        "--1",
        "1-",
        "1e5.5",
        "1e999",
        "123456789012345678901234567890",
        "1 2",
        "0 ",
        "0.",
        "00.5",
        "0e",
    ] {
        for text in [
            format!(r#"{{"a":{number}}}"#),
            format!(r#"{{"a":[{number}]}}"#),
            format!(r#"{{"a":{number}"#),
        ] {
            assert_eq!(same(&text), Ok(()));
        }
    }
}

#[test]
fn control_characters_and_ends_are_found_wherever_they_stand() {
    for length in 0..20 {
        for byte in 0..0x80_u8 {
            let around = "x".repeat(length);
            let text = format!(
                "{{\"{around}{}{around}\":\"{around}{}{around}\"}}",
                char::from(byte),
                char::from(byte)
            );
            assert_eq!(same(&text), Ok(()));
            let text = format!(
                "{{{}{}\"a\":{}1}}",
                " ".repeat(length),
                char::from(byte),
                " ".repeat(length)
            );
            assert_eq!(same(&text), Ok(()));
        }
    }
}

#[test]
fn nesting_costs_no_stack() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let text = format!(
            r#"{{"a":{}1{}}}"#,
            open.repeat(200_000),
            close.repeat(200_000)
        );
        assert_eq!(same(&text), Ok(()));
        assert_eq!(same(&text[..text.len() - 1]), Ok(()));
    }
}

#[test]
fn strings_are_read_as_the_library_reads_them() {
    for raw in [
        r#""""#,
        r#""a""#,
        r#""\u0061""#,
        r#""\ud800""#,
        r#""é\n""#,
        r#""\\""#,
        "1",
        "null",
        "[]",
        "{}",
        "true",
    ] {
        let expected: Option<String> = serde_json::from_str(raw).ok();
        assert_eq!(text_of(raw).map(Cow::into_owned), expected, "{raw}");
    }
}

const PIECES: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    " ",
    "\n  ",
    "\n          ",
    "\t",
    "\r",
    "0",
    "1",
    "-",
    ".",
    "e",
    "E",
    "+",
    "true",
    "false",
    "null",
    "\"a\"",
    "\"b\":",
    "\"a\":1",
    ",\"c\":[",
    "\"\\u0061\":",
    "\\u",
    "00e9",
    "\\ud800",
    "\\n",
    "\"long enough for a word\"",
    "{}",
    "[]",
    "\u{1}",
    "é",
    "\u{7f}",
    "{\"a\":",
    "[1,",
    "}}",
    "]}",
    "\"x\":{\"y\":",
    "}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_text_of_pieces_is_judged_the_same(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..16)) {
        let text = pieces.concat();
        prop_assert_eq!(same(&text), Ok(()));
        prop_assert_eq!(same(&format!("{{\"a\":{text}}}")), Ok(()));
        prop_assert_eq!(same(&format!("{{{text}}}")), Ok(()));
        prop_assert_eq!(same_elements(&text), Ok(()));
        prop_assert_eq!(same_elements(&format!("[{text}]")), Ok(()));
    }

    #[test]
    fn what_is_open_is_closed_in_its_order_at_any_depth(
        objects in proptest::collection::vec(any::<bool>(), 0..300),
        wrong in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let open = |object: &bool| if *object { "{\"b\":" } else { "[" };
        let close = |object: &bool| if *object { "}" } else { "]" };
        let opened: String = objects.iter().map(open).collect();
        let mut closed = objects.clone();
        if let Some(closing) = wrong.filter(|_| !closed.is_empty()) {
            let at = closing.index(closed.len());
            closed[at] = !closed[at];
        }
        let closed: String = closed.iter().rev().map(close).collect();
        let text = format!("{{\"a\":{opened}1{closed},\"c\":[{opened}2{closed}]}}");
        prop_assert_eq!(same(&text), Ok(()));
        prop_assert_eq!(Members::parse(&text).is_some(), wrong.is_none() || objects.is_empty());
    }

    #[test]
    fn an_answer_with_a_few_bytes_off_is_judged_the_same(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), proptest::sample::select(&PIECES[..]), 0_usize..3), 0..4),
    ) {
        let mut text = r#"{
  "id": "ch_1",
  "object": "charge", "amount": 999, "currency": "usd", "ratio": -1.5e-3,
  "list": {"data": [{"a": null}, [], [true, false, "é\u00e9"]], "has_more": false},
  "status": "succeeded"
}"#.to_owned();
        for (index, piece, cut) in changes {
            let positions: Vec<usize> = (0..=text.len()).filter(|position| text.is_char_boundary(*position)).collect();
            let from = index.index(positions.len());
            let to = (from + cut).min(positions.len() - 1);
            text.replace_range(positions[from]..positions[to], piece);
        }
        prop_assert_eq!(same(&text), Ok(()));
    }
}

#[test]
fn only_one_member_is_the_only_one() {
    let only = |text| Members::parse(text).and_then(Members::only);
    assert_eq!(only(r#"{"a": [1]}"#), Some(("a".into(), "[1]")));
    assert_eq!(only("{}"), None);
    assert_eq!(only(r#"{"a": 1, "b": 2}"#), None);
    assert_eq!(only(r#"{"a": 1, "a": 1}"#), None);
}

#[test]
fn what_has_too_many_parts_is_not_read() {
    let object = |members: usize| format!("{{{}}}", vec!["\"a\":0"; members].join(","));
    let array = |items: usize| format!("[{}]", vec!["0"; items].join(","));
    assert!(Members::parse(&object(MOST)).is_some());
    assert!(Members::parse(&object(MOST + 1)).is_none());
    assert!(elements(&array(MOST)).is_some());
    assert!(elements(&array(MOST + 1)).is_none());
    // What is only passed over may have any number.
    let inner = format!("{{\"a\":{},\"b\":{}}}", object(MOST + 1), array(MOST + 1));
    assert!(Members::parse(&inner).is_some());
}
