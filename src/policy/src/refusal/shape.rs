//! An error in the vendor's own shape: the pack's template, filled.

use keybrake_contract::refusal::RefusalCode;
use serde_json::{Map, Value, json};

use crate::pack::Pack;

use super::Answer;

/// An error in the vendor's shape, before it is written.
pub(crate) struct Shape<'a> {
    pub status: u16,
    /// The error's type; `None`: the pack's for this code.
    pub kind: Option<&'a str>,
    pub code: &'a str,
    pub refusal: Option<RefusalCode>,
    pub message: &'a str,
    pub param: Option<&'a str>,
    pub details: Map<String, Value>,
}

impl Shape<'_> {
    pub(crate) fn answer(&self, pack: Option<&Pack>) -> Answer {
        let shape = pack.map(|pack| &pack.refusal);
        let kind = self.kind.unwrap_or_else(|| match shape {
            Some(shape) => self
                .refusal
                .and_then(|code| shape.types.iter().find(|(have, _)| *have == code))
                .map_or(&shape.default_type, |(_, kind)| kind),
            None => generic_type(self.refusal),
        });
        let body = match shape {
            Some(shape) => self.fill(&shape.body, kind),
            None => Some(json!({ "error": self.generic(kind) })),
        };
        let body = body.unwrap_or_else(|| Value::Object(Map::new()));
        Answer {
            status: self.status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.to_string().into_bytes(),
        }
    }

    fn generic(&self, kind: &str) -> Value {
        let mut error = self.details.clone();
        error.insert("type".to_owned(), kind.into());
        error.insert("code".to_owned(), self.code.into());
        error.insert("message".to_owned(), self.text().into());
        if let Some(param) = self.param {
            error.insert("param".to_owned(), param.into());
        }
        Value::Object(error)
    }

    fn text(&self) -> String {
        format!("Keybrake: {}", self.message)
    }

    /// The template with its placeholders filled; `None` drops the member.
    fn fill(&self, template: &Value, kind: &str) -> Option<Value> {
        match template {
            Value::String(text) => match text.as_str() {
                "$type" => Some(kind.into()),
                "$code" => Some(self.code.into()),
                "$message" => Some(self.text().into()),
                "$status" => Some(self.status.into()),
                "$param" => self.param.map(Value::from),
                other => Some(other.into()),
            },
            Value::Object(members) => {
                let mut filled = Map::new();
                for (name, value) in members {
                    if name == "$details" {
                        filled.extend(self.details.clone());
                    } else if let Some(value) = self.fill(value, kind) {
                        filled.insert(name.clone(), value);
                    }
                }
                Some(Value::Object(filled))
            }
            other => Some(other.clone()),
        }
    }
}

fn generic_type(code: Option<RefusalCode>) -> &'static str {
    match code {
        Some(RefusalCode::IdempotencyError) => "idempotency_error",
        Some(RefusalCode::OutcomeUnknown | RefusalCode::GovernanceUnavailable) => "api_error",
        _ => "invalid_request_error",
    }
}
