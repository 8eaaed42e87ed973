//! The ledger's answer to a batch as the filter reads it: leaner than the derived readers, to which the tests hold it.

use std::collections::BTreeMap;

use crate::grant::{AllowedEndpoint, Constraint, Grant, IdempotencyRule, Prefix, Range};
use crate::ids::CommandId;
use crate::money::Micros;
use crate::refusal::{CapLeft, Refusal, RefusalCode};
use crate::wire::{Admitted, CommandAnswer, CommandResult, Replay, StoredAnswer};

use keybrake_text::document::{self, FromJson, Named, Reading};
use keybrake_text::json::{Members, elements};
use keybrake_text::{readable, record};

/// The results in a body, without those that cannot be read: one must not cost the others theirs.
pub fn read(body: &[u8]) -> Vec<CommandAnswer> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let results = Members::parse(text).and_then(|members| {
        let mut named = members.iter().filter(|(name, _)| *name == "results");
        match (named.next(), named.next()) {
            (Some((_, raw)), None) => elements(raw),
            _ => None,
        }
    });
    let results = results.into_iter().flatten();
    results.filter_map(document::try_read).collect()
}

readable!(CommandAnswer { id, result });
readable!(Admitted {
    hold,
    attempt,
    forward_within_ms
});
readable!(Replay { hold, answer, summary = false, retrieved = false });
readable!(StoredAnswer {
    status,
    content_type,
    body,
    vendor_request_id
});
readable!(Refusal {
    code,
    cap,
    budget,
    earlier_request_id
});
readable!(CapLeft {
    limit,
    asked,
    left,
    resets_at
});
readable!(Prefix { prefix });
readable!(Range { min, max });

record! {
    struct GrantDto {
        key_id: String,
        version: u64,
        vendor: String,
        allowed_endpoints: Vec<AllowedEndpoint>,
        constraints: Named<Constraint> = Named::default(),
        vendor_accounts: Vec<String> = Vec::new(),
        idempotency: IdempotencyRule,
        duplicate_fields: Vec<Vec<String>> = Vec::new(),
    }
}

impl FromJson for Grant {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        let GrantDto {
            key_id,
            version,
            vendor,
            allowed_endpoints,
            constraints,
            vendor_accounts,
            idempotency,
            duplicate_fields,
        } = GrantDto::from_json(raw, reading);
        // One by one: they come sorted, and sorting them again would be more code than it saves.
        let mut by_field = BTreeMap::new();
        for (field, constraint) in constraints {
            by_field.insert(field, constraint);
        }
        Self {
            key_id,
            version,
            vendor,
            allowed_endpoints,
            constraints: by_field,
            vendor_accounts,
            idempotency,
            duplicate_fields,
        }
    }
}

impl FromJson for CommandResult {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        let (kind, raw) = document::variant(raw);
        match (kind.as_ref(), raw) {
            ("admitted", raw) => Self::Admitted(reading.inside(&kind, raw)),
            ("grant", raw) => Self::Grant(Box::new(reading.inside(&kind, raw))),
            ("refused", raw) => Self::Refused(reading.inside(&kind, raw)),
            ("replay", raw) => Self::Replay(Box::new(reading.inside(&kind, raw))),
            ("in_flight", "null") => Self::InFlight,
            ("cancelled", "null") => Self::Cancelled,
            ("recorded", "null") => Self::Recorded,
            ("released", "null") => Self::Released,
            ("invalid_command", raw) => Self::InvalidCommand(reading.inside(&kind, raw)),
            ("command_id_conflict", "null") => Self::CommandIdConflict,
            _ => {
                reading.wrong("a kind of result".to_owned());
                Self::CommandIdConflict
            }
        }
    }
}

record! {
    struct Derived {
        scope: String,
        from: Vec<String>,
    }
}

impl FromJson for IdempotencyRule {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        let (kind, raw) = document::variant(raw);
        match (kind.as_ref(), raw) {
            ("required", "null") => Self::Required,
            ("optional", "null") => Self::Optional,
            ("derived", raw) => {
                let Derived { scope, from } = reading.inside(&kind, raw);
                Self::Derived { scope, from }
            }
            _ => {
                reading.wrong("required, optional or derived".to_owned());
                Self::Required
            }
        }
    }
}

impl FromJson for Constraint {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        if raw.starts_with('[') {
            Self::OneOf(Vec::from_json(raw, reading))
        } else if Members::parse(raw).is_some_and(|members| members.get("prefix").is_some()) {
            Self::Prefix(Prefix::from_json(raw, reading))
        } else {
            Self::Range(Range::from_json(raw, reading))
        }
    }
}

impl FromJson for AllowedEndpoint {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        let parse = |text: &str| Self::parse(text).ok();
        let blank = Self::Operation(String::new());
        document::text(raw, parse, "an endpoint", blank, reading)
    }
}

impl FromJson for CommandId {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        let parse = |text: &str| Self::try_from(text).ok();
        let blank = Self::from_bytes([0; 24]);
        document::text(raw, parse, "an id", blank, reading)
    }
}

impl FromJson for RefusalCode {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        let blank = Self::GovernanceUnavailable;
        document::text(raw, Self::from_wire, "a refusal code", blank, reading)
    }
}

impl FromJson for Micros {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        Self::new(i64::from_json(raw, reading))
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::Results;
    use serde_json::Value;

    use super::*;

    const GOLDEN: &str = include_str!("../golden/results.json");

    /// Every result that differs from the golden ones in one value or one name, and where.
    fn variations(golden: &Value) -> Vec<(String, Value)> {
        let replacements = [
            Value::Null,
            Value::Bool(true),
            0.into(),
            (-1).into(),
            70_000.into(),
            u64::MAX.into(),
            1.5.into(),
            "".into(),
            "in_flight".into(),
            "0123456789ABCDEF0123456789abcdef0000000000000001".into(),
            "encoding_not_accepted".into(),
            Value::Array(Vec::new()),
            serde_json::json!({}),
            serde_json::json!({"in_flight": null}),
            serde_json::json!({"in_flight": 1}),
            serde_json::json!({"prefix": "a"}),
            serde_json::json!({"min": 1, "max": 2}),
        ];
        let mut varied = Vec::new();
        let mut pointers = Vec::new();
        places(golden, String::new(), &mut pointers);
        for pointer in pointers {
            for replacement in &replacements {
                let mut other = golden.clone();
                *other.pointer_mut(&pointer).unwrap() = replacement.clone();
                varied.push((pointer.clone(), other));
            }
            let mut other = golden.clone();
            if let Some(Value::Object(members)) = other.pointer_mut(&pointer) {
                members.insert("surprise".to_owned(), 1.into());
                varied.push((pointer.clone(), other));
            }
            let mut other = golden.clone();
            let (around, name) = pointer.rsplit_once('/').unwrap_or(("", ""));
            if let Some(Value::Object(members)) = other.pointer_mut(around) {
                members.remove(name);
                varied.push((pointer.clone(), other));
            }
        }
        varied
    }

    fn places(value: &Value, at: String, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    places(value, format!("{at}/{name}"), found);
                }
            }
            Value::Array(items) => {
                for (position, value) in items.iter().enumerate() {
                    places(value, format!("{at}/{position}"), found);
                }
            }
            _ => {}
        }
        found.push(at);
    }

    #[test]
    fn a_result_is_read_as_the_contract_derives_it_or_not_at_all() {
        let Results { results } = serde_json::from_str(GOLDEN).unwrap();
        assert_eq!(read(GOLDEN.as_bytes()), results);
        let golden: Value = serde_json::from_str(GOLDEN).unwrap();
        let (mut read_alike, mut refused_alike) = (0_usize, 0_usize);
        for golden in golden["results"].as_array().unwrap() {
            for (pointer, varied) in variations(golden) {
                let derived: Result<CommandAnswer, _> = serde_json::from_value(varied.clone());
                let own: Result<CommandAnswer, _> = document::read_at("", &varied.to_string());
                match (own, derived) {
                    (Ok(own), Ok(derived)) => {
                        assert_eq!(own, derived, "{varied}");
                        read_alike += 1;
                    }
                    (Err(_), Err(_)) => refused_alike += 1,
                    // Derived readers take a list for a record: `[null]` for a range without bounds, say.
                    (Err(_), Ok(_)) => {
                        let list = varied.pointer(&pointer).is_some_and(Value::is_array);
                        let constraint = pointer.starts_with("/result/grant/constraints");
                        assert!(list || constraint, "{varied}");
                    }
                    (Ok(own), Err(_)) => panic!("{varied}: {own:?}"),
                }
            }
        }
        assert!(read_alike > 100 && refused_alike > 1000);
    }

    #[test]
    fn what_is_no_list_of_results_has_none() {
        for body in [
            &b""[..],
            b"{}",
            b"[]",
            b"{\"results\": {}}",
            b"{\"results\": [\"\xff\"]}",
            b"{\"results\": [{\"result\": \"recorded\"}], \"results\": [{\"result\": \"recorded\"}]}",
        ] {
            assert_eq!(read(body), []);
        }
    }
}
