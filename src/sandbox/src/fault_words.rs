//! The control API's words for a fault → the typed [`Fault`]. Nothing here acts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::faults::{Act, Canned, Executes, Fault, Stored, Twist, When};

/// A fault in the control API's words. Which fields a kind takes is in the README's table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the README's table explains them")]
pub struct FaultWords {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executes: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

/// A fault that cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFault {
    /// No such kind.
    #[error("unknown fault kind '{0}'")]
    Kind(String),
    /// A field that this kind needs.
    #[error("a fault of kind '{0}' needs '{1}'")]
    Missing(String, &'static str),
    /// A field that this kind does not take.
    #[error("a fault of kind '{0}' does not take '{1}'")]
    Surplus(String, &'static str),
    /// A value that cannot be.
    #[error("'{0}' is not valid")]
    Value(&'static str),
}

impl TryFrom<&FaultWords> for Fault {
    type Error = InvalidFault;

    fn try_from(words: &FaultWords) -> Result<Self, InvalidFault> {
        let kind = words.kind.as_deref().unwrap_or("delay");
        words.check_fields(kind)?;
        let missing = |field| InvalidFault::Missing(kind.to_owned(), field);
        let bytes = || words.bytes.ok_or_else(|| missing("bytes"));
        let stored_500 = |executes| Act::Instead {
            canned: Canned::api_error(500),
            executes,
            stored: Stored::Yes,
        };
        let (act, twist) = match kind {
            "delay" => (Act::Execute, Twist::None),
            "stored_500" => (stored_500(Executes::No), Twist::None),
            "executed_500" => (stored_500(Executes::Yes), Twist::None),
            "reset_before_answer" => (Act::Execute, Twist::Reset),
            "reset_before_execution" => (Act::Skip, Twist::Reset),
            "close_before_answer" => (Act::Execute, Twist::Close),
            "cut_answer" => (Act::Execute, Twist::Cut(bytes()?)),
            "hang" if words.executes == Some(false) => (Act::Skip, Twist::Hang),
            "hang" => (Act::Execute, Twist::Hang),
            "raw_headers" => {
                let mut headers = Vec::new();
                for (name, value) in words.headers.as_ref().ok_or_else(|| missing("headers"))? {
                    headers.push((
                        name.clone(),
                        hex::decode(value).map_err(|_| InvalidFault::Value("headers"))?,
                    ));
                }
                check_headers(&headers)?;
                (Act::Execute, Twist::Headers(headers))
            }
            "raw_before" => {
                let text = words.hex.as_deref().ok_or_else(|| missing("hex"))?;
                (
                    Act::Execute,
                    Twist::RawBefore(hex::decode(text).map_err(|_| InvalidFault::Value("hex"))?),
                )
            }
            "huge_header" => (Act::Execute, Twist::HugeHeader(bytes()?)),
            "huge_body" => (Act::Execute, Twist::HugeBody(bytes()?)),
            "gzip" => (Act::Execute, Twist::Gzip),
            "not_json" => (Act::Execute, Twist::NotJson),
            "status" => (words.canned_status()?, Twist::None),
            other => return Err(InvalidFault::Kind(other.to_owned())),
        };
        let delay = match words.delay_ms {
            Some(ms) => Some((
                words.when.unwrap_or(When::Before),
                Duration::from_millis(ms),
            )),
            None if kind == "delay" => return Err(missing("delay_ms")),
            None => None,
        };
        Ok(Self { delay, act, twist })
    }
}

impl FaultWords {
    fn canned_status(&self) -> Result<Act, InvalidFault> {
        let status = self
            .status
            .ok_or_else(|| InvalidFault::Missing("status".to_owned(), "status"))?;
        if !(200..=599).contains(&status) {
            return Err(InvalidFault::Value("status"));
        }
        let mut canned = Canned::api_error(status);
        if self.code.is_some() || self.error_type.is_some() {
            canned.body = error_body(
                self.error_type
                    .as_deref()
                    .unwrap_or_else(|| default_type(status)),
                self.code.as_deref(),
                "The sandbox was asked for this error.",
            );
        }
        if let Some(body) = &self.body {
            canned.body.clone_from(body);
        }
        let headers = self.headers.iter().flatten();
        canned.headers = headers
            .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
            .collect();
        check_headers(&canned.headers)?;
        Ok(Act::Instead {
            canned,
            executes: if self.executes == Some(true) {
                Executes::Yes
            } else {
                Executes::No
            },
            stored: if self.stored == Some(true) {
                Stored::Yes
            } else {
                Stored::No
            },
        })
    }

    /// A field that the kind would silently pass over is an error: a test would believe in a fault that is none.
    fn check_fields(&self, kind: &str) -> Result<(), InvalidFault> {
        let given = [
            (
                "bytes",
                self.bytes.is_some(),
                &["cut_answer", "huge_header", "huge_body"][..],
            ),
            ("status", self.status.is_some(), &["status"]),
            ("code", self.code.is_some(), &["status"]),
            ("type", self.error_type.is_some(), &["status"]),
            (
                "headers",
                self.headers.is_some(),
                &["status", "raw_headers"],
            ),
            ("body", self.body.is_some(), &["status"]),
            ("executes", self.executes.is_some(), &["status", "hang"]),
            ("stored", self.stored.is_some(), &["status"]),
            ("hex", self.hex.is_some(), &["raw_before"]),
            ("when", self.when.is_some() && self.delay_ms.is_none(), &[]),
        ];
        match given
            .into_iter()
            .find(|(_, is_given, kinds)| *is_given && !kinds.contains(&kind))
        {
            Some((field, _, _)) => Err(InvalidFault::Surplus(kind.to_owned(), field)),
            None => Ok(()),
        }
    }
}

fn check_headers(headers: &[(String, Vec<u8>)]) -> Result<(), InvalidFault> {
    for (name, value) in headers {
        hyper::header::HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| InvalidFault::Value("headers"))?;
        hyper::header::HeaderValue::from_bytes(value)
            .map_err(|_| InvalidFault::Value("headers"))?;
    }
    Ok(())
}

impl Canned {
    fn api_error(status: u16) -> Self {
        let code = match status {
            409 => Some("idempotency_key_in_use"),
            429 => Some("rate_limit"),
            _ => None,
        };
        let body = match status {
            200..=399 => "{}".to_owned(),
            _ => error_body(
                default_type(status),
                code,
                "The sandbox was asked for this error.",
            ),
        };
        Self {
            status,
            body,
            headers: Vec::new(),
        }
    }
}

fn default_type(status: u16) -> &'static str {
    match status {
        402 => "card_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn error_body(kind: &str, code: Option<&str>, message: &str) -> String {
    let mut error = serde_json::json!({"message": message, "type": kind});
    if let (Some(code), Some(map)) = (code, error.as_object_mut()) {
        map.insert("code".to_owned(), code.into());
    }
    serde_json::json!({ "error": error }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Fault, InvalidFault> {
        Fault::try_from(&serde_json::from_str::<FaultWords>(text).unwrap())
    }

    #[test]
    fn fields_that_a_kind_would_pass_over_are_refused() {
        for text in [
            r#"{"kind":"stored_500","bytes":1}"#,
            r#"{"kind":"reset_before_answer","executes":false}"#,
            r#"{"kind":"hang","when":"after"}"#,
            r#"{"kind":"cut_answer"}"#,
            r#"{"kind":"status"}"#,
            r#"{"kind":"status","status":99}"#,
            r#"{"kind":"raw_headers","headers":{"x":"zz"}}"#,
            r#"{"kind":"raw_headers","headers":{"x":"0a"}}"#,
            r#"{"kind":"reste"}"#,
            "{}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_become_faults() {
        let fault = read(r#"{"kind":"cut_answer","bytes":7,"delay_ms":5,"when":"after"}"#).unwrap();
        assert_eq!(fault.delay, Some((When::After, Duration::from_millis(5))));
        assert_eq!((fault.act, fault.twist), (Act::Execute, Twist::Cut(7)));
        assert_eq!(
            read(r#"{"kind":"hang","executes":false}"#).unwrap().act,
            Act::Skip
        );
        assert!(matches!(
            read(r#"{"kind":"executed_500"}"#).unwrap().act,
            Act::Instead {
                executes: Executes::Yes,
                stored: Stored::Yes,
                ..
            }
        ));
    }
}
