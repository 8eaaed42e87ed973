//! What the admin API reads: a key to be issued, a change of one.
//!
//! Here: JSON text → typed, checked values, with every fault named by its field. Not here: routes and answers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keybrake_contract::grant::{AllowedEndpoint, Constraint, Grant, IdempotencyRule, Range};
use keybrake_policy::pack::{DefaultRule, Pack};
use serde_json::value::RawValue;

use crate::http::fields::{self, Fields};
use crate::http::problem::FieldError;
use crate::model::{Caps, Key, KeyChange, NewKey};
use crate::vendors::{Vendors, check_endpoint};

/// Fields of `POST /admin/vault_keys`, as DESIGN.md §7 has them.
pub const ISSUE_FIELDS: &[&str] = &[
    "label",
    "vendor",
    "allowed_endpoints",
    "daily_usd_cap",
    "per_request_usd_cap",
    "monthly_usd_cap",
    "lifetime_usd_cap",
    "max_requests",
    "uncapped",
    "expires_in_seconds",
    "expires_at",
    "workspace",
    "constraints",
    "vendor_accounts",
    "idempotency",
    "derive_from",
    "derive_scope",
    "worst_case_usd",
    "metadata",
    "budget",
    "duplicate_window_seconds",
];

/// Fields of `PATCH /admin/vault_keys/{key_id}`.
pub const CHANGE_FIELDS: &[&str] = &[
    "label",
    "allowed_endpoints",
    "daily_usd_cap",
    "per_request_usd_cap",
    "monthly_usd_cap",
    "lifetime_usd_cap",
    "max_requests",
    "uncapped",
    "expires_in_seconds",
    "expires_at",
    "constraints",
    "vendor_accounts",
    "worst_case_usd",
    "metadata",
    "budget",
    "duplicate_window_seconds",
];

/// Fields that the contract knows and this build does not do. They are refused, never passed over.
const NOT_IN_THIS_BUILD: [&str; 2] = ["budget", "duplicate_window_seconds"];

/// Most keys in one call.
pub const MAX_KEYS: usize = 1000;
/// Longest label.
const MAX_LABEL: usize = 200;
/// Longest text of a constraint, an account, a field name.
const MAX_TEXT: usize = 255;
/// Most members of any list.
const MAX_LIST: usize = 256;
/// Most bytes of metadata.
const MAX_METADATA: usize = 4096;
/// Life of a key when nothing is said.
const DEFAULT_LIFE_SECONDS: u64 = 24 * 60 * 60;
/// Longest life of a key.
const MAX_LIFE_SECONDS: u64 = 90 * 24 * 60 * 60;
/// What makes a purchase, when nothing is said.
const DEFAULT_DERIVE_FROM: [&str; 3] = ["customer", "amount", "currency"];

/// What one call asks to issue.
pub enum Issue {
    /// One key, answered as an object.
    One(Box<NewKey>),
    /// A list under `keys`, answered as a list, all or nothing.
    Many(Vec<NewKey>),
}

/// Reads the body of `POST /admin/vault_keys`.
///
/// # Errors
/// Every fault, by field; of a list, `keys[3].label`.
pub fn issue(text: &str, vendors: &Vendors, now: Timestamp) -> Result<Issue, Vec<FieldError>> {
    if is_list(text) {
        return many(text, vendors, now).map(Issue::Many);
    }
    new_key(text, "", vendors, now).map(|key| Issue::One(Box::new(key)))
}

/// Whether the body is the form with `keys`: that member is there and none of a single key's.
fn is_list(text: &str) -> bool {
    fields::members(text).is_ok_and(|members| members.iter().any(|(name, _)| name == "keys"))
}

fn many(text: &str, vendors: &Vendors, now: Timestamp) -> Result<Vec<NewKey>, Vec<FieldError>> {
    let mut outer = Fields::read(text, "", &["keys"]).map_err(|fault| vec![fault])?;
    let items = outer.take("keys", |raw| {
        let items: Vec<&RawValue> =
            serde_json::from_str(raw).map_err(|_| "must be a list of objects".to_owned())?;
        if items.is_empty() || items.len() > MAX_KEYS {
            return Err(format!("must have 1 to {MAX_KEYS} members"));
        }
        Ok(items)
    });
    let mut keys = Vec::new();
    for (index, item) in items.unwrap_or_default().into_iter().enumerate() {
        match new_key(item.get(), &format!("keys[{index}]."), vendors, now) {
            Ok(key) => keys.push(key),
            Err(faults) => outer.faults(faults),
        }
    }
    outer.finish().map(|()| keys)
}

fn new_key(
    text: &str,
    prefix: &str,
    vendors: &Vendors,
    now: Timestamp,
) -> Result<NewKey, Vec<FieldError>> {
    let mut fields = Fields::read(text, prefix, ISSUE_FIELDS).map_err(|fault| vec![fault])?;
    refuse_what_is_not_built(&mut fields);
    let label = fields.need("label", fields::line(MAX_LABEL));
    let workspace = fields.take("workspace", fields::name(64));
    let pack = fields.need("vendor", |raw| {
        let name = fields::string(raw)?;
        vendors
            .get(&name)
            .ok_or_else(|| format!("no such vendor; there are: {}", vendors.names()))
    });
    let endpoints = fields.need("allowed_endpoints", fields::texts(MAX_LIST, 512));
    let allowed_endpoints = check_endpoints(&mut fields, pack, endpoints);
    let caps = read_caps(&mut fields);
    let expires_at = expiry(&mut fields, now);
    let constraints = constraints(&mut fields);
    let vendor_accounts = fields.take("vendor_accounts", fields::texts(MAX_LIST, MAX_TEXT));
    let idempotency = idempotency(&mut fields, pack);
    let worst_case = fields.take("worst_case_usd", fields::usd);
    let metadata = fields.take("metadata", metadata);
    fields.finish()?;
    let (Some(label), Some(pack), Some(allowed_endpoints), Some(caps), Some(idempotency)) =
        (label, pack, allowed_endpoints, caps, idempotency)
    else {
        return Err(vec![FieldError::new(
            prefix.trim_end_matches('.'),
            "cannot be read",
        )]);
    };
    Ok(NewKey {
        label,
        workspace: workspace.unwrap_or_else(|| "default".to_owned()),
        grant: Grant {
            key_id: String::new(),
            version: 0,
            vendor: pack.vendor().to_owned(),
            allowed_endpoints,
            constraints: constraints.unwrap_or_default(),
            vendor_accounts: vendor_accounts.unwrap_or_default(),
            idempotency,
        },
        caps,
        worst_case,
        expires_at: expires_at.unwrap_or_else(|| after(now, DEFAULT_LIFE_SECONDS)),
        metadata,
    })
}

/// Reads the body of `PATCH /admin/vault_keys/{key_id}` against the key as it is. Caps that are not named stay, a
/// cap of `null` is taken away.
///
/// # Errors
/// Every fault, by field.
pub fn change(
    text: &str,
    key: &Key,
    pack: Option<&Pack>,
    now: Timestamp,
) -> Result<KeyChange, Vec<FieldError>> {
    let mut fields = Fields::read(text, "", CHANGE_FIELDS).map_err(|fault| vec![fault])?;
    if text.trim_ascii().trim_start_matches('{').trim_ascii_start() == "}" {
        fields.fault(
            "",
            format!(
                "nothing to change; give at least one of {}",
                CHANGE_FIELDS.join(", ")
            ),
        );
    }
    refuse_what_is_not_built(&mut fields);
    let label = fields.take("label", fields::line(MAX_LABEL));
    let endpoints = fields.take("allowed_endpoints", fields::texts(MAX_LIST, 512));
    let allowed_endpoints = check_endpoints(&mut fields, pack, endpoints);
    let caps = changed_caps(&mut fields, key.caps);
    let expires_at = expiry(&mut fields, now);
    let constraints = constraints(&mut fields);
    let vendor_accounts =
        fields.take_nullable("vendor_accounts", fields::texts(MAX_LIST, MAX_TEXT));
    let worst_case = fields.take("worst_case_usd", fields::usd);
    let metadata = fields.take("metadata", metadata);
    fields.finish()?;
    let mut grant = key.grant.clone();
    let before = grant.clone();
    if let Some(allowed) = allowed_endpoints {
        grant.allowed_endpoints = allowed;
    }
    if let Some(constraints) = constraints {
        grant.constraints = constraints;
    }
    if let Some(accounts) = vendor_accounts {
        grant.vendor_accounts = accounts.unwrap_or_default();
    }
    Ok(KeyChange {
        label,
        caps,
        grant: (grant != before).then_some(grant),
        expires_at,
        worst_case,
        metadata,
    })
}

fn refuse_what_is_not_built(fields: &mut Fields<'_>) {
    for name in NOT_IN_THIS_BUILD {
        let _ = fields.take::<()>(name, |_| {
            Err("is not in this build; the key was not touched, leave the field out".to_owned())
        });
    }
}

fn check_endpoints(
    fields: &mut Fields<'_>,
    pack: Option<&Pack>,
    endpoints: Option<Vec<String>>,
) -> Option<Vec<AllowedEndpoint>> {
    let pack = pack?;
    let mut allowed = Vec::new();
    let mut fine = true;
    for (index, text) in endpoints?.iter().enumerate() {
        match check_endpoint(pack, text) {
            Ok(endpoint) => allowed.push(endpoint),
            Err(message) => {
                fine = false;
                let shown = fields::shorten(text);
                fields.fault(
                    &format!("allowed_endpoints[{index}]"),
                    format!("`{shown}`: {message}"),
                );
            }
        }
    }
    fine.then_some(allowed)
}

/// Caps of a new key: at least one on money, or `"uncapped": true`.
fn read_caps(fields: &mut Fields<'_>) -> Option<Caps> {
    let named = CAP_FIELDS.iter().any(|name| fields.has(name));
    let caps = Caps {
        per_request: fields.take("per_request_usd_cap", fields::usd),
        daily: fields.take("daily_usd_cap", fields::usd),
        monthly: fields.take("monthly_usd_cap", fields::usd),
        lifetime: fields.take("lifetime_usd_cap", fields::usd),
        max_requests: fields.take("max_requests", fields::whole(1, fields::MAX_EXACT)),
    };
    let has_uncapped = fields.has("uncapped");
    let uncapped = fields.take("uncapped", fields::boolean);
    if has_uncapped && uncapped.is_none() {
        return None;
    }
    match (uncapped.unwrap_or(false), named) {
        (true, true) => fields.fault("uncapped", "contradicts the caps on money: give one or the other"),
        (false, false) if caps.max_requests.is_some() => fields.fault(
            "max_requests",
            "is not a cap on money: add at least one of daily_usd_cap, per_request_usd_cap, monthly_usd_cap, \
             lifetime_usd_cap, or \"uncapped\": true",
        ),
        (false, false) => fields.fault(
            "daily_usd_cap",
            "give at least one cap (daily_usd_cap, per_request_usd_cap, monthly_usd_cap, lifetime_usd_cap), or \
             \"uncapped\": true",
        ),
        (true, false) | (false, true) => return Some(caps),
    }
    None
}

const CAP_FIELDS: [&str; 4] = [
    "daily_usd_cap",
    "per_request_usd_cap",
    "monthly_usd_cap",
    "lifetime_usd_cap",
];

/// Caps of a changed key: those that are named, over those it has.
fn changed_caps(fields: &mut Fields<'_>, before: Caps) -> Option<Caps> {
    let mut caps = before;
    if let Some(cap) = fields.take_nullable("per_request_usd_cap", fields::usd) {
        caps.per_request = cap;
    }
    if let Some(cap) = fields.take_nullable("daily_usd_cap", fields::usd) {
        caps.daily = cap;
    }
    if let Some(cap) = fields.take_nullable("monthly_usd_cap", fields::usd) {
        caps.monthly = cap;
    }
    if let Some(cap) = fields.take_nullable("lifetime_usd_cap", fields::usd) {
        caps.lifetime = cap;
    }
    if let Some(most) = fields.take_nullable("max_requests", fields::whole(1, fields::MAX_EXACT)) {
        caps.max_requests = most;
    }
    match fields.take("uncapped", fields::boolean) {
        Some(true) if !caps.is_uncapped() => {
            fields.fault(
                "uncapped",
                "contradicts the caps on money: set each of them to null as well",
            );
        }
        Some(false) if caps.is_uncapped() => {
            fields.fault("uncapped", "give at least one cap on money")
        }
        None if caps.is_uncapped() && !before.is_uncapped() => {
            fields.fault(
                "uncapped",
                "the last cap on money would go: say \"uncapped\": true as well",
            );
        }
        _ => {}
    }
    (caps != before).then_some(caps)
}

/// The end of a key, if one is given: in so many seconds or at a time, 1 second to 90 days from now.
fn expiry(fields: &mut Fields<'_>, now: Timestamp) -> Option<Timestamp> {
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
fn after(now: Timestamp, seconds: u64) -> Timestamp {
    let life = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    now.checked_add(life).unwrap_or(Timestamp::MAX)
}

fn constraints(fields: &mut Fields<'_>) -> Option<BTreeMap<String, Constraint>> {
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
    let range = read_range(raw)?;
    match (range.min, range.max) {
        (None, None) => Err("needs `min`, `max` or both".to_owned()),
        (Some(min), Some(max)) if min > max => {
            Err("has `min` above `max`: nothing would be allowed".to_owned())
        }
        _ => Ok(Constraint::Range(range)),
    }
}

fn read_range(raw: &str) -> Result<Range, String> {
    let mut range = Fields::read(raw, "", &["min", "max"]).map_err(|_| {
        "must be a list of strings, or an object with `min`, `max` or both".to_owned()
    })?;
    let min = range.take("min", fields::whole(0, fields::MAX_EXACT));
    let max = range.take("max", fields::whole(0, fields::MAX_EXACT));
    match range.finish() {
        Ok(()) => Ok(Range { min, max }),
        Err(faults) => Err(faults
            .into_iter()
            .map(|fault| format!("`{}` {}", fault.field, fault.message))
            .collect::<Vec<_>>()
            .join("; ")),
    }
}

/// The idempotency rule: as said, else the pack's own.
fn idempotency(fields: &mut Fields<'_>, pack: Option<&Pack>) -> Option<IdempotencyRule> {
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

fn metadata(raw: &str) -> Result<serde_json::Value, String> {
    if raw.len() > MAX_METADATA {
        return Err(format!("must have at most {MAX_METADATA} bytes"));
    }
    match serde_json::from_str(raw) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(value),
        Ok(_) => Err("must be an object".to_owned()),
        Err(error) => Err(format!("cannot be kept: {error}")),
    }
}
