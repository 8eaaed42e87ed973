//! `/admin/requests…`: requests whose outcome nobody knows, and an operator's word about one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use keybrake_contract::ids::HoldId;
use keybrake_contract::money::{Currency, Minor};
use keybrake_contract::wire::{Executed, ExecutedMoney};
use serde::Serialize;

use crate::book::{Evidence, Finding};
use crate::engine::ResolveError;
use crate::http::credentials::Role;
use crate::http::fields::{self, Fields, MAX_EXACT};
use crate::http::problem::{FieldError, Kind, Problem};
use crate::http::query::Query;
use crate::http::{Api, body, json, no_list, unavailable};
use crate::model::{Entry, UnknownQuery};

/// Parameters of `GET /admin/requests`.
pub const UNKNOWN_PARAMETERS: &[&str] = &["key_id", "limit", "cursor"];

/// Fields of `POST /admin/requests/{id}/resolve`.
pub const RESOLVE_FIELDS: &[&str] = &[
    "outcome",
    "reason",
    "by",
    "amount",
    "currency",
    "vendor_object_id",
    "stripe_charge_id",
];

/// Words of `outcome`.
pub const RESOLVE_OUTCOMES: [&str; 2] = ["executed", "not_executed"];

/// Longest reason.
const MAX_REASON: usize = 1000;
/// Longest name and longest id.
const MAX_NAME: usize = 200;
/// Who it was when nobody says.
const ADMIN: &str = "admin";

#[derive(Serialize)]
struct Unknowns {
    requests: Vec<UnknownView>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct UnknownView {
    #[serde(flatten)]
    entry: Entry,
    age_seconds: u64,
}

/// Lists requests whose outcome nobody knows, oldest first.
///
/// # Errors
/// The problem to answer instead.
pub async fn list(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    let mut query = Query::read(uri.query(), UNKNOWN_PARAMETERS);
    let asked = UnknownQuery {
        key_id: query.text("key_id"),
        limit: query.limit(),
        cursor: query.text("cursor"),
    };
    query.finish()?;
    let page = api.ledger.unknown_requests(asked).await.map_err(no_list)?;
    let view = |one: crate::model::UnknownRequest| UnknownView {
        age_seconds: seconds(one.age_ms),
        entry: one.entry,
    };
    Ok(json(&Unknowns {
        requests: page.items.into_iter().map(view).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Whole seconds of an age.
#[must_use]
pub fn seconds(age_ms: i64) -> u64 {
    u64::try_from(age_ms).unwrap_or(0) / 1_000
}

/// Takes an operator's word about a request whose outcome nobody knows.
///
/// # Errors
/// The problem to answer instead; nothing was changed.
pub async fn resolve(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
    stream: Body,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    let hold = id
        .ok()
        .and_then(|Path(id)| HoldId::try_from(id.as_str()).ok());
    let hold = hold.ok_or_else(no_such_request)?;
    Query::read(uri.query(), &[]).finish()?;
    let bytes = body(&headers, stream).await?;
    let (finding, evidence) = read(fields::utf8(&bytes)?).map_err(Problem::invalid)?;
    let resolved = api.ledger.resolve(hold, finding, evidence).await;
    let entry = resolved.map_err(|error| match error {
        ResolveError::Unavailable(error) => unavailable(error),
        ResolveError::NotFound => no_such_request(),
        ResolveError::Undecided(why) => {
            Problem::new(Kind::Conflict, format!("{why}; nothing was changed"))
        }
    })?;
    Ok(json(&entry))
}

fn no_such_request() -> Problem {
    Problem::new(
        Kind::NotFound,
        "no request that was forwarded has this id; nothing was changed",
    )
}

/// What an operator says.
fn read(text: &str) -> Result<(Finding, Evidence), Vec<FieldError>> {
    let mut fields = Fields::read(text, "", RESOLVE_FIELDS).map_err(|fault| vec![fault])?;
    let outcome = fields.need("outcome", |text| {
        let word = fields::string(text)?;
        let found = RESOLVE_OUTCOMES.into_iter().find(|known| *known == word);
        found.ok_or_else(|| format!("must be one of {}", RESOLVE_OUTCOMES.join(", ")))
    });
    let reason = fields.need("reason", fields::line(MAX_REASON));
    let who = fields.take("by", fields::line(MAX_NAME));
    let is_executed = outcome == Some("executed");
    if is_executed {
        for name in ["amount", "currency"] {
            if !fields.has(name) {
                let wanted =
                    "is missing: say what the vendor took, in the currency's smallest unit";
                fields.fault(name, wanted);
            }
        }
    } else if outcome.is_some() {
        for name in ["amount", "currency", "vendor_object_id", "stripe_charge_id"] {
            if fields.has(name) {
                fields.fault(name, "belongs to an executed request only");
            }
        }
    }
    let amount = fields.take("amount", fields::whole(0, MAX_EXACT));
    let currency = fields.take("currency", currency);
    let object = fields.take("vendor_object_id", fields::line(MAX_NAME));
    let charge = fields.take("stripe_charge_id", fields::line(MAX_NAME));
    if charge.is_some() && object.is_none() {
        fields.fault("stripe_charge_id", "needs vendor_object_id");
    }
    fields.finish()?;
    let amount = amount
        .zip(currency)
        .map(|(amount, currency)| Minor { amount, currency });
    let finding = if is_executed {
        Finding::Executed {
            executed: Executed {
                money: ExecutedMoney::Moved,
                amount,
                is_total: false,
            },
            object,
            charge,
        }
    } else {
        Finding::NotExecuted
    };
    let evidence = Evidence::Operator {
        reason: reason.unwrap_or_default(),
        who: who.unwrap_or_else(|| ADMIN.to_owned()),
    };
    Ok((finding, evidence))
}

fn currency(text: &str) -> Result<Currency, String> {
    let text = fields::string(text)?;
    Currency::parse(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_word_is_read_with_every_field() {
        let text = r#"{"outcome":"executed","amount":999,"currency":"usd","vendor_object_id":"pi_1",
            "stripe_charge_id":"ch_1","reason":"seen in the dashboard","by":"ana"}"#;
        let (finding, evidence) = read(text).unwrap();
        let expected = Finding::Executed {
            executed: Executed {
                money: ExecutedMoney::Moved,
                amount: Some(Minor {
                    amount: 999,
                    currency: Currency::USD,
                }),
                is_total: false,
            },
            object: Some("pi_1".to_owned()),
            charge: Some("ch_1".to_owned()),
        };
        assert_eq!(finding, expected);
        let expected = Evidence::Operator {
            reason: "seen in the dashboard".to_owned(),
            who: "ana".to_owned(),
        };
        assert_eq!(evidence, expected);
        let (finding, evidence) = read(r#"{"outcome":"not_executed","reason":"r"}"#).unwrap();
        assert_eq!(finding, Finding::NotExecuted);
        assert!(matches!(evidence, Evidence::Operator { who, .. } if who == "admin"));
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_named() {
        let rows: &[(&str, &[&str])] = &[
            ("{}", &["outcome", "reason"]),
            (r#"{"outcome":"done","reason":"r"}"#, &["outcome"]),
            (r#"{"outcome":"not_executed","reason":""}"#, &["reason"]),
            (
                r#"{"outcome":"executed","reason":"r"}"#,
                &["amount", "currency"],
            ),
            (
                r#"{"outcome":"executed","reason":"r","amount":-1,"currency":"usd"}"#,
                &["amount"],
            ),
            (
                r#"{"outcome":"executed","reason":"r","amount":1.5,"currency":"usd"}"#,
                &["amount"],
            ),
            (
                r#"{"outcome":"executed","reason":"r","amount":1,"currency":"dollars"}"#,
                &["currency"],
            ),
            (
                r#"{"outcome":"executed","reason":"r","amount":1,"currency":"usd","stripe_charge_id":"c"}"#,
                &["stripe_charge_id"],
            ),
            (
                r#"{"outcome":"not_executed","reason":"r","amount":1}"#,
                &["amount"],
            ),
            (
                r#"{"outcome":"not_executed","reason":"r","force":true}"#,
                &["force"],
            ),
        ];
        for (text, expected) in rows {
            let faults = read(text).unwrap_err();
            let named: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
            assert_eq!(named, *expected, "{text}");
        }
    }
}
