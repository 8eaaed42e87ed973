//! What the admin API reads: a key to be issued, a change of one.
//!
//! Here: JSON text → typed, checked values, with every fault named by its field. Not here: the terms that both share
//! (`terms`), routes and answers.

use jiff::Timestamp;
use keybrake_contract::grant::{AllowedEndpoint, Grant};
use keybrake_pack::Pack;
use serde_json::value::RawValue;

use crate::http::admin::budget_request::budget_name;
use crate::http::admin::caps::{Whose, changed_caps, changed_duplicates, new_caps, new_duplicates};
use crate::http::admin::terms::{
    DEFAULT_LIFE_SECONDS, MAX_LIST, MAX_TEXT, after, constraints, expiry, idempotency, metadata,
};
use crate::http::fields::{self, Fields};
use crate::http::problem::FieldError;
use crate::model::{Key, KeyChange, NewKey};
use crate::vendors::{Vendors, check_endpoint};

/// Fields of `POST /admin/vault_keys`, as DESIGN.md §7 has them.
pub const ISSUE_FIELDS: &[&str] = &[
    "label",
    "vendor",
    "allowed_endpoints",
    "daily_usd_cap",
    "per_request_usd_cap",
    "monthly_usd_cap",
    "rolling_usd_cap",
    "rolling_hours",
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
    "duplicate_fields",
];

/// Fields of `PATCH /admin/vault_keys/{key_id}`.
pub const CHANGE_FIELDS: &[&str] = &[
    "label",
    "allowed_endpoints",
    "daily_usd_cap",
    "per_request_usd_cap",
    "monthly_usd_cap",
    "rolling_usd_cap",
    "rolling_hours",
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
    "duplicate_fields",
];

/// Most keys in one call.
pub const MAX_KEYS: usize = 1000;
/// Longest label.
const MAX_LABEL: usize = 200;

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
    let caps = new_caps(&mut fields, Whose::Key);
    let budget = fields.take("budget", budget_name);
    let duplicates = new_duplicates(&mut fields);
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
            duplicate_fields: Vec::new(),
        },
        caps,
        worst_case,
        expires_at: expires_at.unwrap_or_else(|| after(now, DEFAULT_LIFE_SECONDS)),
        metadata,
        budget,
        duplicates,
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
    let label = fields.take("label", fields::line(MAX_LABEL));
    let endpoints = fields.take("allowed_endpoints", fields::texts(MAX_LIST, 512));
    let allowed_endpoints = check_endpoints(&mut fields, pack, endpoints);
    let caps = changed_caps(&mut fields, key.caps, Whose::Key);
    let budget = fields.take_nullable("budget", budget_name);
    let duplicates = changed_duplicates(&mut fields, key.duplicates.as_ref());
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
        budget,
        duplicates,
    })
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

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
