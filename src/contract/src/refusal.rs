//! The closed set of reasons for a no.
//!
//! A refusal is a decision, never an error: errors (a store that fails, a host call that fails) have types of their
//! own. How a refusal looks to a caller (status, vendor's shape) is `policy`'s refusal table.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::money::Micros;

/// Why a request was not forwarded, or its outcome not known. Stable: codes are part of the public contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// No vault key, a malformed one or one that nobody issued.
    VaultKeyInvalid,
    /// Its time is over.
    VaultKeyExpired,
    /// It was revoked.
    VaultKeyRevoked,
    /// The key is for another vendor.
    VendorNotAllowed,
    /// Method and path are not in the grant, or not in the vendor pack.
    EndpointNotAllowed,
    /// The connected account is not in the grant.
    AccountNotAllowed,
    /// A request field is outside the grant's constraints.
    ParameterNotAllowed,
    /// A cap would be passed.
    SpendCapExceeded,
    /// What the call costs cannot be known and the grant gives no worst case.
    AmountUnknown,
    /// The budget is frozen or closed.
    BudgetFrozen,
    /// The budget's brake has tripped.
    BudgetTripped,
    /// The host (or path prefix) belongs to no configured vendor.
    HostNotAllowed,
    /// Headers or body above the limit.
    RequestTooLarge,
    /// The request can be read in two ways, or not at all.
    RequestNotInspectable,
    /// The body's type or encoding is not accepted. Same code as [`Self::RequestNotInspectable`], other status.
    EncodingNotAccepted,
    /// A write without an idempotency key where the grant requires one.
    IdempotencyKeyRequired,
    /// The idempotency key was used with other parameters, or by another workspace.
    IdempotencyError,
    /// An equal purchase under another idempotency key, within the window.
    PossibleDuplicate,
    /// A request with this idempotency key is still running.
    IdempotencyKeyInUse,
    /// An earlier request with this key has no known outcome and the vendor's window is over.
    OutcomeUnknown,
    /// The ledger or its store is not available; nothing was sent.
    GovernanceUnavailable,
}

impl RefusalCode {
    /// Every code, in declaration order.
    pub const ALL: [Self; 21] = [
        Self::VaultKeyInvalid,
        Self::VaultKeyExpired,
        Self::VaultKeyRevoked,
        Self::VendorNotAllowed,
        Self::EndpointNotAllowed,
        Self::AccountNotAllowed,
        Self::ParameterNotAllowed,
        Self::SpendCapExceeded,
        Self::AmountUnknown,
        Self::BudgetFrozen,
        Self::BudgetTripped,
        Self::HostNotAllowed,
        Self::RequestTooLarge,
        Self::RequestNotInspectable,
        Self::EncodingNotAccepted,
        Self::IdempotencyKeyRequired,
        Self::IdempotencyError,
        Self::PossibleDuplicate,
        Self::IdempotencyKeyInUse,
        Self::OutcomeUnknown,
        Self::GovernanceUnavailable,
    ];

    /// The code as callers see it in `keybrake-reason`, in error bodies and in the audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VaultKeyInvalid => "vault_key_invalid",
            Self::VaultKeyExpired => "vault_key_expired",
            Self::VaultKeyRevoked => "vault_key_revoked",
            Self::VendorNotAllowed => "vendor_not_allowed",
            Self::EndpointNotAllowed => "endpoint_not_allowed",
            Self::AccountNotAllowed => "account_not_allowed",
            Self::ParameterNotAllowed => "parameter_not_allowed",
            Self::SpendCapExceeded => "spend_cap_exceeded",
            Self::AmountUnknown => "amount_unknown",
            Self::BudgetFrozen => "budget_frozen",
            Self::BudgetTripped => "budget_tripped",
            Self::HostNotAllowed => "host_not_allowed",
            Self::RequestTooLarge => "request_too_large",
            Self::RequestNotInspectable | Self::EncodingNotAccepted => "request_not_inspectable",
            Self::IdempotencyKeyRequired => "idempotency_key_required",
            Self::IdempotencyError => "idempotency_error",
            Self::PossibleDuplicate => "possible_duplicate",
            Self::IdempotencyKeyInUse => "idempotency_key_in_use",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::GovernanceUnavailable => "governance_unavailable",
        }
    }
}

impl RefusalCode {
    /// The code as it crosses the wire: as callers see it, but for the two that share one.
    #[must_use]
    pub const fn wire(self) -> &'static str {
        match self {
            Self::EncodingNotAccepted => "encoding_not_accepted",
            other => other.as_str(),
        }
    }

    /// The code that crosses the wire as this.
    #[must_use]
    pub fn from_wire(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.wire() == text)
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A no from the ledger, with what the caller needs to act on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Why.
    pub code: RefusalCode,
    /// Which cap, how much is left, when it resets: for [`RefusalCode::SpendCapExceeded`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<CapLeft>,
    /// Name of the budget whose cap, state or rule said no. `None`: the key's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// Request id of the earlier purchase: for [`RefusalCode::PossibleDuplicate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier_request_id: Option<String>,
}

impl Refusal {
    /// A refusal that needs no further explanation.
    #[must_use]
    pub const fn plain(code: RefusalCode) -> Self {
        Self {
            code,
            cap: None,
            budget: None,
            earlier_request_id: None,
        }
    }

    /// The same, said by this budget (`None`: by the key itself).
    #[must_use]
    pub fn by_budget(self, budget: Option<&str>) -> Self {
        Self {
            budget: budget.map(str::to_owned),
            ..self
        }
    }
}

/// The cap that a request would have passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapLeft {
    /// Name of the cap as it stands in the issue call: `daily_usd_cap`, `per_request_usd_cap`, `rolling_usd_cap`,
    /// `max_requests`, …
    pub limit: String,
    /// What this request would have cost. `None` for `max_requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Micros>,
    /// What is left of the cap: money for a cap in dollars, else `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Micros>,
    /// When the window ends, RFC 3339. `None` for caps that never reset, or not at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_the_code_but_for_the_two_that_share_one() {
        for code in RefusalCode::ALL {
            let wire = serde_json::to_string(&code).unwrap();
            assert_eq!(wire, format!("\"{}\"", code.wire()));
            assert_eq!(RefusalCode::from_wire(code.wire()), Some(code));
        }
    }
}
