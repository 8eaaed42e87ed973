//! How keys look in the admin API's answers. Amounts are strings: a number would pass through a float on its way.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keybrake_contract::grant::{AllowedEndpoint, Constraint, IdempotencyRule};
use keybrake_contract::money::Micros;
use serde::Serialize;

use crate::engine::UnknownFigures;
use crate::http::admin::requests::seconds;
use crate::model::{Balance, IssuedKey, Key, KeyStatus};

/// One key.
#[derive(Serialize)]
pub struct KeyView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    vault_key: Option<&'a str>,
    key_id: &'a str,
    expires_at: Timestamp,
    label: &'a str,
    vendor: &'a str,
    allowed_endpoints: &'a [AllowedEndpoint],
    daily_usd_cap: Option<String>,
    per_request_usd_cap: Option<String>,
    monthly_usd_cap: Option<String>,
    rolling_usd_cap: Option<String>,
    rolling_hours: Option<u16>,
    lifetime_usd_cap: Option<String>,
    max_requests: Option<u64>,
    uncapped: bool,
    workspace: &'a str,
    constraints: &'a BTreeMap<String, Constraint>,
    vendor_accounts: &'a [String],
    idempotency: &'static str,
    derive_scope: Option<&'a str>,
    derive_from: Option<&'a [String]>,
    worst_case_usd: Option<String>,
    budget: Option<&'a str>,
    duplicate_window_seconds: Option<u32>,
    duplicate_fields: Option<&'a [String]>,
    metadata: Option<&'a serde_json::Value>,
    status: KeyStatus,
    version: u64,
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balances: Option<Vec<BalanceView<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<UnknownView>,
}

/// The requests of a key whose outcome nobody knows.
#[derive(Serialize)]
struct UnknownView {
    count: u64,
    amount_usd: String,
    oldest_age_seconds: Option<u64>,
}

/// One balance, in US dollars with six decimals.
#[derive(Serialize)]
pub struct BalanceView<'a> {
    limit: &'a str,
    window: &'a str,
    cap: String,
    free: String,
    held: String,
    settled: String,
    unknown: String,
}

/// A page of keys.
#[derive(Serialize)]
pub struct KeyList<'a> {
    /// The keys.
    pub keys: Vec<KeyView<'a>>,
    /// Where the next page begins.
    pub next_cursor: Option<&'a str>,
}

/// The keys of one call, in its order.
#[derive(Serialize)]
pub struct IssuedList<'a> {
    /// The keys.
    pub keys: Vec<KeyView<'a>>,
}

/// How many keys were revoked.
#[derive(Serialize)]
pub struct Revoked {
    /// That were not revoked before.
    pub revoked: u64,
}

impl<'a> BalanceView<'a> {
    /// A balance.
    #[must_use]
    pub fn of(balance: &'a Balance) -> Self {
        Self {
            limit: balance.limit,
            window: &balance.window,
            cap: balance.cap.to_string(),
            free: balance.free.to_string(),
            held: balance.held.to_string(),
            settled: balance.settled.to_string(),
            unknown: balance.unknown.to_string(),
        }
    }
}

impl<'a> KeyView<'a> {
    /// A key, without balances.
    #[must_use]
    pub fn of(key: &'a Key, now: Timestamp) -> Self {
        let (idempotency, derive_scope, derive_from) = match &key.grant.idempotency {
            IdempotencyRule::Required => ("required", None, None),
            IdempotencyRule::Optional => ("optional", None, None),
            IdempotencyRule::Derived { scope, from } => {
                ("derived", Some(scope.as_str()), Some(from.as_slice()))
            }
        };
        Self {
            vault_key: None,
            key_id: &key.key_id,
            expires_at: key.expires_at,
            label: &key.label,
            vendor: &key.grant.vendor,
            allowed_endpoints: &key.grant.allowed_endpoints,
            daily_usd_cap: key.caps.daily.map(cents),
            per_request_usd_cap: key.caps.per_request.map(cents),
            monthly_usd_cap: key.caps.monthly.map(cents),
            rolling_usd_cap: key.caps.rolling.map(|rolling| cents(rolling.cap)),
            rolling_hours: key.caps.rolling.map(|rolling| rolling.hours),
            lifetime_usd_cap: key.caps.lifetime.map(cents),
            max_requests: key.caps.max_requests,
            uncapped: key.caps.is_uncapped(),
            workspace: &key.workspace,
            constraints: &key.grant.constraints,
            vendor_accounts: &key.grant.vendor_accounts,
            idempotency,
            derive_scope,
            derive_from,
            worst_case_usd: key.worst_case.map(cents),
            budget: key.budget.as_deref(),
            duplicate_window_seconds: key.duplicates.as_ref().map(|rule| rule.window_seconds),
            duplicate_fields: key.duplicates.as_ref().map(|rule| rule.fields.as_slice()),
            metadata: key.metadata.as_ref(),
            status: status(key, now),
            version: key.grant.version,
            created_at: key.created_at,
            revoked_at: key.revoked_at,
            balances: None,
            unknown: None,
        }
    }

    /// A key that was just issued, with its secret.
    #[must_use]
    pub fn issued(issued: &'a IssuedKey, now: Timestamp) -> Self {
        Self {
            vault_key: Some(issued.secret.expose()),
            ..Self::of(&issued.key, now)
        }
    }

    /// The same with what is unknown.
    #[must_use]
    pub fn with_unknown(self, figures: &UnknownFigures) -> Self {
        let unknown = UnknownView {
            count: figures.count,
            amount_usd: figures.amount.to_string(),
            oldest_age_seconds: figures.oldest_age_ms.map(seconds),
        };
        Self {
            unknown: Some(unknown),
            ..self
        }
    }

    /// The same with these balances.
    #[must_use]
    pub fn with(self, balances: &'a [Balance]) -> Self {
        Self {
            balances: Some(balances.iter().map(BalanceView::of).collect()),
            ..self
        }
    }
}

/// A revoked key is revoked, whatever its time.
fn status(key: &Key, now: Timestamp) -> KeyStatus {
    if key.revoked_at.is_some() {
        KeyStatus::Revoked
    } else if key.expires_at <= now {
        KeyStatus::Expired
    } else {
        KeyStatus::Active
    }
}

/// A cap as it may be sent back: caps are whole cents, so nothing is lost with the last four decimals.
#[must_use]
pub fn cents(amount: Micros) -> String {
    let text = amount.to_string();
    text.strip_suffix("0000").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_are_shown_as_they_may_be_given() {
        for text in ["10.99", "0.00", "100000.00", "9999999999.99"] {
            assert_eq!(cents(Micros::parse_usd(text).unwrap()), text);
        }
    }
}
