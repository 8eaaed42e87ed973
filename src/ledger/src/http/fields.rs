//! Reading a JSON object strictly: each field once, none unknown, values taken from their text.
//!
//! Here: the reader and the values that every request shares (texts, amounts, whole numbers, lists). Not here: what a
//! particular request consists of. Amounts never pass through a float: `serde_json` hands over the raw text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use keybrake_contract::money::Micros;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::http::problem::{FieldError, Problem};

/// Largest whole number that every JSON reader keeps exactly (2^53 - 1).
pub const MAX_EXACT: u64 = 9_007_199_254_740_991;

/// The members of an object in the order they came, with the text of each value.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value::<&RawValue>().map_err(|error| {
                        A::Error::custom(format!("the value of `{name}` is not JSON ({error})"))
                    })?;
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The members of an object, each with the text of its value, in the order they came.
///
/// # Errors
/// When the text is not an object, or has a member twice.
pub fn members(text: &str) -> Result<Vec<(String, &str)>, String> {
    let Members(members) =
        serde_json::from_str(text).map_err(|_| "must be an object".to_owned())?;
    let mut seen = BTreeSet::new();
    if let Some((twice, _)) = members.iter().find(|(name, _)| !seen.insert(name)) {
        return Err(format!("has `{}` twice", shorten(twice)));
    }
    Ok(members
        .iter()
        .map(|(name, value)| (name.clone(), value.get()))
        .collect())
}

/// An object being read. Take every field that is wanted, then [`Fields::finish`] it.
pub struct Fields<'a> {
    prefix: String,
    members: BTreeMap<String, &'a RawValue>,
    known: &'static [&'static str],
    faults: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Reads an object whose members are all among `known`. Faults name their field as `prefix` + name.
    ///
    /// # Errors
    /// When the text is not an object at all. Unknown and repeated members are kept as faults for `finish`.
    pub fn read(
        text: &'a str,
        prefix: &str,
        known: &'static [&'static str],
    ) -> Result<Self, FieldError> {
        let Members(members) = serde_json::from_str(text).map_err(|error| {
            FieldError::new(
                prefix.trim_end_matches('.'),
                format!("not a JSON object: {error}"),
            )
        })?;
        let mut fields = Self {
            prefix: prefix.to_owned(),
            members: BTreeMap::new(),
            known,
            faults: Vec::new(),
        };
        for (name, value) in members {
            if !known.contains(&name.as_str()) {
                let shown = shorten(&name);
                fields.fault(
                    &shown,
                    format!("unknown field; allowed are {}", known.join(", ")),
                );
            } else if fields.members.insert(name.clone(), value).is_some() {
                fields.fault(&name, "given twice");
            }
        }
        Ok(fields)
    }

    /// Whether the field is there and not yet taken.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Notes a fault of a field.
    pub fn fault(&mut self, name: &str, message: impl Into<String>) {
        let field = format!("{}{name}", self.prefix);
        self.faults.push(FieldError::new(field, message));
    }

    /// Takes faults found elsewhere.
    pub fn faults(&mut self, faults: Vec<FieldError>) {
        self.faults.extend(faults);
    }

    /// Takes a field. `None`: not there, or at fault. `null` is a fault: leaving out and saying nothing are the same
    /// thing said once.
    pub fn take<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        debug_assert!(self.known.contains(&name), "{name} is not a known field");
        let text = self.members.remove(name)?.get();
        let value = if text == "null" {
            Err("must not be null; leave it out instead".to_owned())
        } else {
            read(text)
        };
        value.map_err(|message| self.fault(name, message)).ok()
    }

    /// Takes a field where `null` has a meaning: `Some(None)`.
    pub fn take_nullable<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        if self
            .members
            .get(name)
            .is_some_and(|value| value.get() == "null")
        {
            self.members.remove(name);
            return Some(None);
        }
        self.take(name, read).map(Some)
    }

    /// Takes a field that must be there.
    pub fn need<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(name) {
            self.fault(name, "is missing");
        }
        self.take(name, read)
    }

    /// The end: all faults, or none.
    ///
    /// # Errors
    /// The faults.
    pub fn finish(self) -> Result<(), Vec<FieldError>> {
        debug_assert!(self.members.is_empty(), "not every known field was taken");
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(self.faults)
        }
    }
}

/// The whole body as text.
///
/// # Errors
/// When it is not UTF-8.
pub fn utf8(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|_| Problem::invalid_field("", "the body is not UTF-8"))
}

/// Any JSON string.
///
/// # Errors
/// Says what is wanted.
pub fn string(text: &str) -> Result<String, String> {
    serde_json::from_str(text).map_err(|_| "must be a string".to_owned())
}

/// A string of 1 to `max` characters, none of them a control character.
pub fn line(max: usize) -> impl FnOnce(&str) -> Result<String, String> {
    move |text| {
        let value = string(text)?;
        let length = value.chars().count();
        if length == 0 || length > max {
            return Err(format!("must have 1 to {max} characters"));
        }
        if value.chars().any(char::is_control) {
            return Err("must not hold control characters".to_owned());
        }
        Ok(value)
    }
}

/// A name: 1 to `max` letters, digits, `_`, `-`, `.`.
pub fn name(max: usize) -> impl FnOnce(&str) -> Result<String, String> {
    move |text| {
        let value = line(max)(text)?;
        if value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        {
            Ok(value)
        } else {
            Err("may hold letters, digits, `_`, `-` and `.` only".to_owned())
        }
    }
}

/// `true` or `false`.
///
/// # Errors
/// Says what is wanted.
pub fn boolean(text: &str) -> Result<bool, String> {
    serde_json::from_str(text).map_err(|_| "must be true or false".to_owned())
}

/// An amount of US dollars, as a JSON number or string, read from its text.
///
/// # Errors
/// Says what is wanted.
pub fn usd(text: &str) -> Result<Micros, String> {
    let amount = if text.starts_with('"') {
        string(text)?
    } else if text.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
        text.to_owned()
    } else {
        return Err(
            "must be an amount of US dollars, as a number or a string, such as 10.99".to_owned(),
        );
    };
    Micros::parse_usd(&amount).map_err(|error| error.to_string())
}

/// A whole number within bounds, written without sign, point or exponent.
pub fn whole(min: u64, max: u64) -> impl FnOnce(&str) -> Result<u64, String> {
    move |text| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten()
            .filter(|value| (min..=max).contains(value))
            .ok_or_else(|| format!("must be a whole number from {min} to {max}"))
    }
}

/// A list of 1 to `max` different strings of 1 to `length` characters.
pub fn texts(max: usize, length: usize) -> impl FnOnce(&str) -> Result<Vec<String>, String> {
    move |text| {
        let raw: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|_| "must be a list of strings".to_owned())?;
        if raw.is_empty() || raw.len() > max {
            return Err(format!("must have 1 to {max} members"));
        }
        let values = raw
            .iter()
            .map(|value| line(length)(value.get()).map_err(|error| format!("each member {error}")))
            .collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeSet::new();
        match values.iter().find(|value| !seen.insert(value.as_str())) {
            Some(twice) => Err(format!("has `{}` twice", shorten(twice))),
            None => Ok(values),
        }
    }
}

/// A text of the caller's, short enough to be shown back.
#[must_use]
pub fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
    if text.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["amount", "label"];

    #[test]
    fn amounts_come_from_their_text() {
        let cases: [(&str, Result<i64, &str>); 12] = [
            ("10.99", Ok(10_990_000)),
            ("\"10.99\"", Ok(10_990_000)),
            ("11.0", Ok(11_000_000)),
            ("0", Ok(0)),
            ("10.990", Err("at most two decimals are allowed")),
            ("1e1", Err("not a plain decimal number such as 10.99")),
            ("\"1e1\"", Err("not a plain decimal number such as 10.99")),
            ("\"NaN\"", Err("not a plain decimal number such as 10.99")),
            ("-1", Err("must not be negative")),
            ("\"\"", Err("not a plain decimal number such as 10.99")),
            (
                "[1]",
                Err("must be an amount of US dollars, as a number or a string, such as 10.99"),
            ),
            (
                "true",
                Err("must be an amount of US dollars, as a number or a string, such as 10.99"),
            ),
        ];
        for (text, expected) in cases {
            let read = usd(text).map(Micros::get);
            assert_eq!(read, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn unknown_repeated_and_null_fields_are_named() {
        let cases = [
            (
                r#"{"labl":"x"}"#,
                "labl",
                "unknown field; allowed are amount, label",
            ),
            (r#"{"label":"x","label":"y"}"#, "label", "given twice"),
            (r#"{"label":"x","l\u0061bel":"y"}"#, "label", "given twice"),
            (
                r#"{"label":null}"#,
                "label",
                "must not be null; leave it out instead",
            ),
            (r#"{"label":5}"#, "label", "must be a string"),
        ];
        for (text, field, message) in cases {
            let mut fields = Fields::read(text, "", KNOWN).unwrap();
            let _ = fields.take("label", string);
            let _ = fields.take("amount", usd);
            assert_eq!(
                fields.finish(),
                Err(vec![FieldError::new(field, message)]),
                "{text}"
            );
        }
    }

    #[test]
    fn a_value_that_is_not_json_is_named() {
        for text in [r#"{"amount": NaN}"#, r#"{"amount": }"#, r#"{"amount": 1.}"#] {
            let error = Fields::read(text, "", KNOWN).err().unwrap();
            assert!(error.message.contains("`amount`"), "{}", error.message);
        }
        for text in ["[]", "", "5", "{} {}", "nul"] {
            assert!(Fields::read(text, "", KNOWN).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_numbers_have_no_sign_point_or_exponent() {
        for (text, fine) in [
            ("1", true),
            ("10", true),
            ("0", false),
            ("11", false),
            ("-1", false),
            ("1.0", false),
            ("1e1", false),
            ("\"1\"", false),
            ("99999999999999999999", false),
        ] {
            assert_eq!(whole(1, 10)(text).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn lists_are_of_different_lines() {
        assert_eq!(
            texts(2, 3)(r#"["a","b"]"#),
            Ok(vec!["a".to_owned(), "b".to_owned()])
        );
        for wrong in [
            r#"[]"#,
            r#"["a","b","c"]"#,
            r#"["a","a"]"#,
            r#"["long"]"#,
            r#"[1]"#,
            r#""a""#,
            r#"["\u0000"]"#,
        ] {
            assert!(texts(2, 3)(wrong).is_err(), "{wrong}");
        }
    }
}
