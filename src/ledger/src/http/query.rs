//! Reading a query string strictly: each parameter once, none unknown, none empty.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::http::fields::shorten;
use crate::http::problem::{FieldError, Problem};

/// Most entries or keys on a page.
pub const MAX_LIMIT: u32 = 1000;
/// Entries or keys on a page when nothing is said.
pub const DEFAULT_LIMIT: u32 = 100;
/// Longest value of a parameter.
const MAX_VALUE: usize = 2048;

/// A query being read. Take every parameter that is wanted, then [`Query::finish`] it.
pub struct Query {
    values: BTreeMap<String, String>,
    faults: Vec<FieldError>,
}

impl Query {
    /// Reads a query string whose parameters are all among `known`.
    #[must_use]
    pub fn read(query: Option<&str>, known: &[&str]) -> Self {
        let mut read = Self {
            values: BTreeMap::new(),
            faults: Vec::new(),
        };
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        for (name, value) in pairs.into_owned() {
            if !known.contains(&name.as_str()) {
                let allowed = if known.is_empty() {
                    "none is taken here".to_owned()
                } else {
                    format!("allowed are {}", known.join(", "))
                };
                read.fault(
                    &shorten(&name),
                    format!("unknown query parameter; {allowed}"),
                );
            } else if value.is_empty() || value.len() > MAX_VALUE {
                read.fault(&name, format!("must have 1 to {MAX_VALUE} characters"));
            } else if value.contains(char::REPLACEMENT_CHARACTER) {
                read.fault(&name, "is not UTF-8");
            } else if read.values.insert(name.clone(), value).is_some() {
                read.fault(&name, "given twice");
            }
        }
        read
    }

    fn fault(&mut self, name: &str, message: impl Into<String>) {
        self.faults.push(FieldError::new(name, message));
    }

    /// Takes a parameter as text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// Takes a parameter that is one of these words.
    pub fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.values.remove(name)?;
        let found = words
            .iter()
            .find(|(word, _)| *word == value)
            .map(|(_, meaning)| *meaning);
        if found.is_none() {
            let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.fault(name, format!("must be one of {}", allowed.join(", ")));
        }
        found
    }

    /// Takes a time: `2026-07-01T12:00:00Z`, or a day, whose midnight in UTC is meant.
    pub fn time(&mut self, name: &str) -> Option<Timestamp> {
        let value = self.values.remove(name)?;
        let midnight = || {
            let day: jiff::civil::Date = value.parse().ok()?;
            (value.len() == 10).then_some(())?;
            Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
        };
        let time = value.parse().ok().or_else(midnight);
        if time.is_none() {
            self.fault(
                name,
                "must be a time such as 2026-07-01T12:00:00Z, or a day such as 2026-07-01",
            );
        }
        time
    }

    /// Takes `limit`: 1 to 1000, 100 when nothing is said.
    pub fn limit(&mut self) -> u32 {
        let Some(value) = self.values.remove("limit") else {
            return DEFAULT_LIMIT;
        };
        let plain = value.bytes().all(|byte| byte.is_ascii_digit());
        let limit = value
            .parse()
            .ok()
            .filter(|limit| plain && (1..=MAX_LIMIT).contains(limit));
        limit.unwrap_or_else(|| {
            self.fault(
                "limit",
                format!("must be a whole number from 1 to {MAX_LIMIT}"),
            );
            DEFAULT_LIMIT
        })
    }

    /// The end: a problem that names every fault, or none.
    ///
    /// # Errors
    /// 400.
    pub fn finish(self) -> Result<(), Problem> {
        debug_assert!(
            self.values.is_empty() || !self.faults.is_empty(),
            "not every known parameter was taken"
        );
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.faults))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_repeated_and_empty_parameters_are_named() {
        for (query, field, message) in [
            (
                "labl=x",
                "labl",
                "unknown query parameter; allowed are label",
            ),
            ("label=x&label=y", "label", "given twice"),
            ("label=", "label", "must have 1 to 2048 characters"),
            ("label=%FF", "label", "is not UTF-8"),
        ] {
            let problem = Query::read(Some(query), &["label"]).finish().unwrap_err();
            assert_eq!(
                problem.errors,
                vec![FieldError::new(field, message)],
                "{query}"
            );
        }
    }

    #[test]
    fn limits_are_whole_numbers_within_bounds() {
        for (text, fine) in [
            ("1", true),
            ("1000", true),
            ("0", false),
            ("1001", false),
            ("+1", false),
            ("x", false),
        ] {
            let mut query = Query::read(
                Some(&format!("limit={}", text.replace('+', "%2B"))),
                &["limit"],
            );
            let limit = query.limit();
            assert_eq!(query.finish().is_ok(), fine, "{text}");
            assert_eq!(fine, limit.to_string() == text);
        }
    }

    #[test]
    fn times_are_instants_or_days() {
        for (text, expected) in [
            ("2026-07-01T12:00:00Z", Some("2026-07-01T12:00:00Z")),
            ("2026-07-01T12:00:00%2B02:00", Some("2026-07-01T10:00:00Z")),
            ("2026-07-01", Some("2026-07-01T00:00:00Z")),
            ("2026-07-01T12:00:00", None),
            ("yesterday", None),
            ("1751371200", None),
        ] {
            let mut query = Query::read(Some(&format!("since={text}")), &["since"]);
            let time = query.time("since").map(|time| time.to_string());
            assert_eq!(time.as_deref(), expected, "{text}");
            assert_eq!(query.finish().is_ok(), expected.is_some(), "{text}");
        }
    }
}
