//! Endpoint patterns: `POST /v1/charges`, `GET /v1/charges/{id}`; and operation names: `charges.create`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A method and a path template. `{name}` stands for exactly one segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointPattern {
    method: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    Literal(String),
    /// Holds the name between the braces, for printing only: it does not take part in matching.
    Any(String),
}

/// Most characters in a pattern.
const MAX_PATTERN: usize = 512;

impl EndpointPattern {
    /// Reads `METHOD /path/template`.
    ///
    /// # Errors
    /// [`InvalidPattern`] says what was wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        if text.len() > MAX_PATTERN {
            return Err(InvalidPattern::TooLong);
        }
        let (method, path) = text.split_once(' ').ok_or(InvalidPattern::NoMethod)?;
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidPattern::NoMethod);
        }
        let rest = path.strip_prefix('/').ok_or(InvalidPattern::NoPath)?;
        let segments = rest
            .split('/')
            .map(Segment::parse)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            method: method.to_owned(),
            segments,
        })
    }

    /// The method, upper case.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Whether this method and path (vendor-relative, without query) are meant.
    #[must_use]
    pub fn matches(&self, method: &str, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else {
            return false;
        };
        self.method == method
            && rest.split('/').count() == self.segments.len()
            && rest
                .split('/')
                .zip(&self.segments)
                .all(|(given, wanted)| wanted.matches(given))
    }

    /// How many segments are literal: the more, the more specific. Orders templates that match the same path.
    #[must_use]
    pub fn literal_count(&self) -> usize {
        self.segments
            .iter()
            .filter(|segment| matches!(segment, Segment::Literal(_)))
            .count()
    }

    /// Whether every path that `other` matches is matched by this pattern too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.method == other.method
            && self.segments.len() == other.segments.len()
            && self
                .segments
                .iter()
                .zip(&other.segments)
                .all(|pair| match pair {
                    (Segment::Any(_), _) => true,
                    (Segment::Literal(mine), Segment::Literal(theirs)) => mine == theirs,
                    (Segment::Literal(_), Segment::Any(_)) => false,
                })
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, InvalidPattern> {
        if let Some(name) = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        {
            let fine = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            return if fine {
                Ok(Self::Any(name.to_owned()))
            } else {
                Err(InvalidPattern::BadSegment)
            };
        }
        let fine = !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
            && text != "."
            && text != "..";
        if fine {
            Ok(Self::Literal(text.to_owned()))
        } else {
            Err(InvalidPattern::BadSegment)
        }
    }

    fn matches(&self, given: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == given,
            Self::Any(_) => !given.is_empty(),
        }
    }
}

impl fmt::Display for EndpointPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.method)?;
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(formatter, "/{text}")?,
                Segment::Any(name) => write!(formatter, "/{{{name}}}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for EndpointPattern {
    type Error = InvalidPattern;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<EndpointPattern> for String {
    fn from(pattern: EndpointPattern) -> Self {
        pattern.to_string()
    }
}

/// Why a text is not an endpoint pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidPattern {
    /// Does not begin with an upper-case method and one space.
    NoMethod,
    /// The path does not begin with `/`.
    NoPath,
    /// A segment is empty, is `.` or `..`, or has a character that is not a letter, digit, `_`, `-`, `.` or a
    /// `{name}`.
    BadSegment,
    /// More than 512 characters.
    TooLong,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoMethod => "must begin with an upper-case method and one space, as in `POST /v1/charges`",
            Self::NoPath => "the path must begin with `/`",
            Self::BadSegment => "each path segment is letters, digits, `_`, `-`, `.`, or `{name}` for any one segment",
            Self::TooLong => "at most 512 characters",
        })
    }
}

impl std::error::Error for InvalidPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> EndpointPattern {
        EndpointPattern::parse(text).unwrap()
    }

    #[test]
    fn a_template_stands_for_exactly_one_segment() {
        let capture = pattern("POST /v1/charges/{id}/capture");
        let cases = [
            ("POST", "/v1/charges/ch_1/capture", true),
            ("GET", "/v1/charges/ch_1/capture", false),
            ("POST", "/v1/charges/ch_1", false),
            ("POST", "/v1/charges//capture", false),
            ("POST", "/v1/charges/a/b/capture", false),
            ("POST", "/v1/charges/ch_1/capture/", false),
            ("POST", "v1/charges/ch_1/capture", false),
        ];
        for (method, path, expected) in cases {
            assert_eq!(capture.matches(method, path), expected, "{method} {path}");
        }
        assert!(!pattern("POST /v1/charges").matches("POST", "/v1/charges/ch_1/capture"));
        assert!(!pattern("POST /v1/charges").matches("POST", "/V1/Charges"));
    }

    #[test]
    fn covering_is_by_segment() {
        assert!(pattern("GET /v1/{any}/{id}").covers(&pattern("GET /v1/charges/{charge}")));
        assert!(!pattern("GET /v1/charges/search").covers(&pattern("GET /v1/charges/{id}")));
        assert!(!pattern("GET /v1/{a}").covers(&pattern("POST /v1/{a}")));
    }

    #[test]
    fn patterns_print_as_they_were_written() {
        for text in [
            "POST /v1/charges",
            "GET /v1/charges/{id}",
            "POST /2010-04-01/Accounts/{sid}/Messages.json",
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_pattern_says_why() {
        let cases = [
            ("/v1/charges", InvalidPattern::NoMethod),
            ("post /v1/charges", InvalidPattern::NoMethod),
            ("POST v1", InvalidPattern::NoPath),
            ("POST /v1/charges/", InvalidPattern::BadSegment),
            ("POST /v1//charges", InvalidPattern::BadSegment),
            ("POST /v1/*", InvalidPattern::BadSegment),
            ("POST /v1/..", InvalidPattern::BadSegment),
            ("POST /v1/{}", InvalidPattern::BadSegment),
            ("POST  /v1", InvalidPattern::NoPath),
        ];
        for (text, expected) in cases {
            assert_eq!(EndpointPattern::parse(text), Err(expected), "{text}");
        }
        assert_eq!(
            EndpointPattern::parse(&"x".repeat(600)),
            Err(InvalidPattern::TooLong)
        );
    }
}
