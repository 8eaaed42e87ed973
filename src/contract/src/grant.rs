//! What a vault key allows, as the ledger tells it to the filter.
//!
//! Caps are not in it: only the ledger judges money. Expiry is not in it: only the ledger has a clock.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::{EndpointPattern, InvalidPattern};

/// The scope of one vault key, at one version. The version rises with every change of the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Public handle of the key, `vk_…`.
    pub key_id: String,
    /// Rises with every change. A reserve names the version it was checked against.
    pub version: u64,
    /// The only vendor (pack name) the key is for.
    pub vendor: String,
    /// What may be called. Never empty.
    pub allowed_endpoints: Vec<AllowedEndpoint>,
    /// Bounds on request fields, by field name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub constraints: BTreeMap<String, Constraint>,
    /// Connected accounts that may be named. Empty: none may be named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vendor_accounts: Vec<String>,
    /// Where the idempotency key of a write comes from.
    pub idempotency: IdempotencyRule,
    /// Lists of request fields by which equal purchases are found: a write that costs something sends one digest for each, in this
    /// order ([`crate::wire::Reserve::purchases`]). The ledger fills this in from the rules of the key and its budgets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duplicate_fields: Vec<Vec<String>>,
}

/// One line of a grant: an endpoint pattern or an operation name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AllowedEndpoint {
    /// `POST /v1/charges`.
    Pattern(EndpointPattern),
    /// `charges.create`.
    Operation(String),
}

impl AllowedEndpoint {
    /// Reads a pattern (it has a space) or an operation name (`[a-z0-9_.]`, with a point).
    ///
    /// # Errors
    /// [`InvalidPattern`] when it is neither.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let named = text.contains('.')
            && text.len() <= 128
            && text.split('.').all(|part| {
                !part.is_empty()
                    && part
                        .bytes()
                        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            });
        if named {
            Ok(Self::Operation(text.to_owned()))
        } else {
            EndpointPattern::parse(text).map(Self::Pattern)
        }
    }
}

impl fmt::Display for AllowedEndpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(pattern) => pattern.fmt(formatter),
            Self::Operation(name) => formatter.write_str(name),
        }
    }
}

impl TryFrom<String> for AllowedEndpoint {
    type Error = InvalidPattern;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<AllowedEndpoint> for String {
    fn from(allowed: AllowedEndpoint) -> Self {
        allowed.to_string()
    }
}

/// A bound on one request field. In JSON a list of allowed texts, `{"prefix": "…"}`, or `{"min": …, "max": …}` on an integer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Constraint {
    /// The field must be there and its text must be one of these. Never empty.
    OneOf(Vec<String>),
    /// The field must be there and its text must begin with this.
    Prefix(Prefix),
    /// The field must be there, be an integer, and lie within.
    Range(Range),
}

/// How a text begins. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    /// The beginning.
    pub prefix: String,
}

/// Inclusive bounds. At least one of the two is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Smallest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
    /// Largest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

/// Where the idempotency key of a write comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum IdempotencyRule {
    /// The caller must send one.
    Required,
    /// The caller may send one; without it the hold's id is sent to the vendor.
    Optional,
    /// It is computed from the request; what the caller sent is only noted.
    Derived {
        /// Names the business period or batch: equal purchases within one scope are one purchase. 1 to 64 characters.
        scope: String,
        /// Request fields that make a purchase. Never empty.
        from: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_point_is_an_operation_and_the_rest_are_patterns() {
        assert_eq!(
            AllowedEndpoint::parse("charges.create"),
            Ok(AllowedEndpoint::Operation("charges.create".to_owned()))
        );
        assert!(matches!(
            AllowedEndpoint::parse("POST /v1/charges"),
            Ok(AllowedEndpoint::Pattern(_))
        ));
        for wrong in [
            "charges",
            "charges.",
            ".create",
            "Charges.Create",
            "charges.*",
            "*",
            "",
        ] {
            assert!(AllowedEndpoint::parse(wrong).is_err(), "{wrong}");
        }
    }
}
