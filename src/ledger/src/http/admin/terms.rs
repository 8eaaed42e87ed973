//! The terms of a key, read from their fields: expiry, constraints, idempotency, metadata. (Caps are in `caps`.)

use std::collections::BTreeMap;

use jiff::Timestamp;
use keybrake_contract::grant::{Constraint, IdempotencyRule, Prefix, Range};
use keybrake_pack::{DefaultRule, Pack};

use crate::http::fields::{self, Fields};

/// Longest text of a constraint, an account, a field name.
pub const MAX_TEXT: usize = 255;
/// Most members of any list.
pub const MAX_LIST: usize = 256;
/// Most bytes of metadata.
const MAX_METADATA: usize = 4096;
/// Life of a key when nothing is said.
pub const DEFAULT_LIFE_SECONDS: u64 = 24 * 60 * 60;
/// Longest life of a key.
const MAX_LIFE_SECONDS: u64 = 90 * 24 * 60 * 60;
/// What makes a purchase, when nothing is said.
const DEFAULT_DERIVE_FROM: [&str; 3] = ["customer", "amount", "currency"];

/// The end of a key, if one is given: in so many seconds or at a time, 1 second to 90 days from now.
pub fn expiry(fields: &mut Fields<'_>, now: Timestamp) -> Option<Timestamp> {
    if fields.has("expires_in_seconds") && fields.has("expires_at") {
        fields.fault(
            "expires_at",
            "give at most one of expires_in_seconds and expires_at",
        );
    }
    let seconds = fields.take("expires_in_seconds", fields::whole(1, MAX_LIFE_SECONDS));
    let at = fields.take("expires_at", |raw| {
        let text = fields::string(raw)?;
        let at: Timestamp = text
            .parse()
            .map_err(|_| "must be a time such as 2026-07-01T12:00:00Z".to_owned())?;
        if at < after(now, 1) || at > after(now, MAX_LIFE_SECONDS) {
            return Err("must lie 1 second to 90 days in the future".to_owned());
        }
        Ok(at)
    });
    at.or_else(|| seconds.map(|seconds| after(now, seconds)))
}

/// So many seconds later. The bounds above keep it far from the end of time.
pub fn after(now: Timestamp, seconds: u64) -> Timestamp {
    let life = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    now.checked_add(life).unwrap_or(Timestamp::MAX)
}

/// Bounds on request fields. Faults name the field of the bound.
pub fn constraints(fields: &mut Fields<'_>) -> Option<BTreeMap<String, Constraint>> {
    let mut faults = Vec::new();
    let read = fields.take("constraints", |raw| {
        let members = fields::members(raw)?;
        if members.len() > MAX_LIST {
            return Err(format!("must have at most {MAX_LIST} members"));
        }
        let mut read = BTreeMap::new();
        for (name, bound) in members {
            match constraint(&name, bound) {
                Ok(bound) => {
                    read.insert(name, bound);
                }
                Err(message) => faults.push((fields::shorten(&name), message)),
            }
        }
        Ok(read)
    });
    for (name, message) in faults {
        fields.fault(&format!("constraints.{name}"), message);
    }
    read
}

fn constraint(name: &str, raw: &str) -> Result<Constraint, String> {
    let fine = name.bytes().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'[' | b']')
    });
    if name.is_empty() || name.len() > MAX_TEXT || !fine {
        return Err("is not the name of a request field".to_owned());
    }
    if raw.starts_with('[') {
        return fields::texts(MAX_LIST, MAX_TEXT)(raw).map(Constraint::OneOf);
    }
    let bound = Fields::read(raw, "", &["prefix", "min", "max"]).map_err(|_| {
        "must be a list of strings, or an object with `prefix`, or with `min`, `max` or both"
            .to_owned()
    })?;
    if bound.has("prefix") {
        return read_prefix(bound).map(Constraint::Prefix);
    }
    let range = read_range(bound)?;
    match (range.min, range.max) {
        (None, None) => Err("needs `prefix`, or `min`, `max` or both".to_owned()),
        (Some(min), Some(max)) if min > max => {
            Err("has `min` above `max`: nothing would be allowed".to_owned())
        }
        _ => Ok(Constraint::Range(range)),
    }
}

fn read_prefix(mut bound: Fields<'_>) -> Result<Prefix, String> {
    if bound.has("min") || bound.has("max") {
        return Err("has `prefix` beside `min` or `max`: a text has no order".to_owned());
    }
    let prefix = bound.take("prefix", fields::line(MAX_TEXT));
    finished(bound)?;
    prefix
        .map(|prefix| Prefix { prefix })
        .ok_or_else(|| "needs `prefix`".to_owned())
}

fn read_range(mut range: Fields<'_>) -> Result<Range, String> {
    let min = range.take("min", fields::whole(0, fields::MAX_EXACT));
    let max = range.take("max", fields::whole(0, fields::MAX_EXACT));
    finished(range)?;
    Ok(Range { min, max })
}

fn finished(bound: Fields<'_>) -> Result<(), String> {
    bound.finish().map_err(|faults| {
        let told = faults
            .into_iter()
            .map(|fault| format!("`{}` {}", fault.field, fault.message));
        told.collect::<Vec<_>>().join("; ")
    })
}

/// The idempotency rule: as said, else the pack's own.
pub fn idempotency(fields: &mut Fields<'_>, pack: Option<&Pack>) -> Option<IdempotencyRule> {
    let given = fields.has("idempotency");
    let rule = fields.take("idempotency", |raw| match fields::string(raw)?.as_str() {
        "required" => Ok("required"),
        "optional" => Ok("optional"),
        "derived" => Ok("derived"),
        _ => Err("must be one of required, optional, derived".to_owned()),
    });
    let has_scope = fields.has("derive_scope");
    let has_from = fields.has("derive_from");
    let scope = fields.take("derive_scope", fields::line(64));
    let from = fields.take("derive_from", fields::texts(32, MAX_TEXT));
    if rule == Some("derived") {
        if !has_scope {
            fields.fault(
                "derive_scope",
                "is needed with \"idempotency\": \"derived\": 1 to 64 characters that name the business period, \
                 such as 2026-07",
            );
        }
        let from = from.unwrap_or_else(|| DEFAULT_DERIVE_FROM.map(str::to_owned).to_vec());
        return scope.map(|scope| IdempotencyRule::Derived { scope, from });
    }
    if !given || rule.is_some() {
        for (name, there) in [("derive_scope", has_scope), ("derive_from", has_from)] {
            if there {
                fields.fault(name, "counts only with \"idempotency\": \"derived\"");
            }
        }
    }
    match rule {
        Some("required") => Some(IdempotencyRule::Required),
        Some(_) => Some(IdempotencyRule::Optional),
        None => pack.map(|pack| match pack.idempotency().default_rule {
            DefaultRule::Required => IdempotencyRule::Required,
            DefaultRule::Optional => IdempotencyRule::Optional,
        }),
    }
}

/// The caller's own JSON object.
///
/// # Errors
/// When it is no object, or too large.
pub fn metadata(raw: &str) -> Result<serde_json::Value, String> {
    if raw.len() > MAX_METADATA {
        return Err(format!("must have at most {MAX_METADATA} bytes"));
    }
    match serde_json::from_str(raw) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(value),
        Ok(_) => Err("must be an object".to_owned()),
        Err(error) => Err(format!("cannot be kept: {error}")),
    }
}
