//! The rules of the check: vendor, endpoint, account, constraints, idempotency.

use std::sync::Arc;

use keybrake_contract::digest::Digest;
use keybrake_contract::grant::{AllowedEndpoint, Constraint, Grant, IdempotencyRule};
use keybrake_contract::money::Currency;
use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::{Cost, Idempotency};

use crate::config::PluginConfig;
use crate::fingerprint;
use crate::pack::{Class, CostRule, Endpoint, ObjectAmount, Pack};
use crate::read::{Reading, plain_integer};

/// Allowed values that a refusal names at most.
const SHOWN: usize = 8;

/// What the check adds to the reading.
pub(super) struct Checked {
    pub endpoint: Arc<Endpoint>,
    pub cost: Cost,
    pub idempotency: Option<Idempotency>,
    pub idempotency_header: Option<String>,
    /// One digest for each list in the grant's `duplicate_fields`, for a write that costs something.
    pub purchases: Vec<Digest>,
}

/// A no, before it is told.
pub(super) struct No {
    pub code: RefusalCode,
    pub param: Option<String>,
    pub message: String,
    pub endpoint: ToBlame,
}

/// Whether the endpoint itself is what is refused.
pub(super) enum ToBlame {
    Yes,
    No,
}

fn no(code: RefusalCode, param: Option<&str>, message: impl Into<String>) -> No {
    No {
        code,
        param: param.map(str::to_owned),
        message: message.into(),
        endpoint: ToBlame::No,
    }
}

pub(super) fn check(
    config: &PluginConfig,
    grant: &Grant,
    reading: &Reading,
) -> Result<Checked, No> {
    let pack = config
        .vendors
        .get(reading.vendor)
        .map(|vendor| &vendor.pack)
        .filter(|pack| pack.vendor() == grant.vendor)
        .ok_or_else(|| {
            let message = format!("this key is for {} only", grant.vendor);
            no(RefusalCode::VendorNotAllowed, None, message)
        })?;
    let endpoint = allowed_endpoint(grant, reading)?;
    check_account(pack, grant, reading)?;
    check_constraints(grant, &endpoint, reading)?;
    let mut cost = reading.cost.clone();
    if let Cost::OfObject(of_object) = &mut cost {
        of_object.currency = single_currency(grant);
    }
    let (idempotency, idempotency_header) = match endpoint.class {
        Class::Read => (None, None),
        _ => (
            idempotency(pack, grant, reading)?,
            pack.idempotency()
                .window_ms
                .map(|_| pack.idempotency().header.clone()),
        ),
    };
    let purchases = match (endpoint.class, &cost) {
        (Class::Read, _) | (_, Cost::Nothing) => Vec::new(),
        _ => purchases(pack, grant, reading),
    };
    Ok(Checked {
        endpoint,
        cost,
        idempotency,
        idempotency_header,
        purchases,
    })
}

fn purchases(pack: &Pack, grant: &Grant, reading: &Reading) -> Vec<Digest> {
    if grant.duplicate_fields.is_empty() {
        return Vec::new();
    }
    let whole = fingerprint::whole(reading, &pack.account_headers);
    let lists = grant.duplicate_fields.iter();
    lists
        .map(|names| fingerprint::equal_purchase(reading, names, whole))
        .collect()
}

fn allowed_endpoint(grant: &Grant, reading: &Reading) -> Result<Arc<Endpoint>, No> {
    let refuse = |message: &str| No {
        code: RefusalCode::EndpointNotAllowed,
        param: None,
        message: message.to_owned(),
        endpoint: ToBlame::Yes,
    };
    let endpoint = reading
        .endpoint
        .as_ref()
        .ok_or_else(|| refuse("this endpoint is not in the vendor pack"))?;
    if endpoint.class == Class::Forbidden {
        return Err(refuse(
            "this endpoint hands out credentials and is never allowed",
        ));
    }
    let allowed = grant.allowed_endpoints.iter().any(|line| match line {
        AllowedEndpoint::Operation(name) => *name == endpoint.operation,
        AllowedEndpoint::Pattern(pattern) => pattern.matches(reading.method(), reading.path()),
    });
    if allowed {
        Ok(Arc::clone(endpoint))
    } else {
        Err(refuse("this key does not allow this endpoint"))
    }
}

fn check_account(pack: &Pack, grant: &Grant, reading: &Reading) -> Result<(), No> {
    let Some(account) = &reading.facts.vendor_account else {
        return Ok(());
    };
    if grant.vendor_accounts.contains(account) {
        return Ok(());
    }
    let header = pack.account_headers.iter().find(|name| {
        reading
            .forward_headers
            .iter()
            .any(|(have, _)| have == *name)
    });
    let message = "this key does not allow this account";
    Err(no(
        RefusalCode::AccountNotAllowed,
        header.map(String::as_str),
        message,
    ))
}

/// A write must have every constrained field; a read only must not go against one that it has. A cost that depends on
/// an object has the object's currency, so that constraint is the ledger's there (STRIPE.md, Currencies).
fn check_constraints(grant: &Grant, endpoint: &Endpoint, reading: &Reading) -> Result<(), No> {
    for (name, constraint) in &grant.constraints {
        let (field, wanted) = match (meant_field(endpoint, name), endpoint.class) {
            (Meant::Nothing, _) => continue,
            (Meant::FromObject, _) | (Meant::Field(_), Class::Read) => {
                (name.as_str(), Wanted::IfThere)
            }
            (Meant::Field(field), _) => (field, Wanted::Always),
        };
        let refuse = |what: String| {
            let message = format!("{what}: {}", bound(constraint));
            no(RefusalCode::ParameterNotAllowed, Some(field), message)
        };
        if let Some(inner) = reading.fields.group(field).next() {
            return Err(no(
                RefusalCode::RequestNotInspectable,
                Some(field),
                format!(
                    "{} stands where this key wants a single {field}",
                    inner.name
                ),
            ));
        }
        let Some(given) = reading.fields.get(field) else {
            match wanted {
                Wanted::IfThere => continue,
                Wanted::Always => return Err(refuse(format!("this key wants {field}"))),
            }
        };
        let within = match constraint {
            Constraint::OneOf(allowed) => allowed.contains(&given.value),
            Constraint::Prefix(begin) => given.value.starts_with(&begin.prefix),
            Constraint::Range(range) => plain_integer(&given.value).is_some_and(|number| {
                range.min.is_none_or(|min| min <= number)
                    && range.max.is_none_or(|max| number <= max)
            }),
        };
        if !within {
            return Err(refuse(format!("{field} is outside what this key allows")));
        }
    }
    Ok(())
}

/// What a constraint allows, in words.
fn bound(constraint: &Constraint) -> String {
    match constraint {
        Constraint::OneOf(allowed) => {
            let shown = allowed.get(..SHOWN).unwrap_or(allowed).join(", ");
            match allowed.len().saturating_sub(SHOWN) {
                0 => shown,
                more => format!("{shown} and {more} more"),
            }
        }
        Constraint::Prefix(begin) => format!("what begins with {}", begin.prefix),
        Constraint::Range(range) => match (range.min, range.max) {
            (Some(min), Some(max)) => format!("whole numbers from {min} to {max}"),
            (Some(min), None) => format!("whole numbers from {min}"),
            (None, Some(max)) => format!("whole numbers up to {max}"),
            (None, None) => "whole numbers".to_owned(),
        },
    }
}

/// Whether a field must be there.
enum Wanted {
    Always,
    IfThere,
}

/// What a constraint is about at an endpoint.
enum Meant<'a> {
    /// This field.
    Field(&'a str),
    /// What the request cannot say: it is the object's.
    FromObject,
    /// What the endpoint never asks for: it takes no money.
    Nothing,
}

/// `amount` and `currency` mean the field that this endpoint reads them from.
fn meant_field<'a>(endpoint: &'a Endpoint, name: &'a str) -> Meant<'a> {
    match (&endpoint.cost, name) {
        (CostRule::Fields { amount, .. }, "amount") => Meant::Field(&amount.field),
        (CostRule::Fields { currency, .. }, "currency") => Meant::Field(currency),
        (CostRule::Object { .. }, "currency") => Meant::FromObject,
        (CostRule::Object { amount, .. }, "amount") => match amount {
            ObjectAmount::Required(at)
            | ObjectAmount::Field(at)
            | ObjectAmount::FieldOrUnknown(at) => Meant::Field(&at.field),
            ObjectAmount::Fixed(_) => Meant::Nothing,
            ObjectAmount::Whole => Meant::Field(name),
        },
        _ => Meant::Field(name),
    }
}

/// The only currency that the grant allows, if it allows only one.
fn single_currency(grant: &Grant) -> Option<Currency> {
    match grant.constraints.get("currency") {
        Some(Constraint::OneOf(allowed)) => match allowed.as_slice() {
            [only] => Currency::parse(only).ok(),
            _ => None,
        },
        _ => None,
    }
}

fn idempotency(pack: &Pack, grant: &Grant, reading: &Reading) -> Result<Option<Idempotency>, No> {
    let header = pack.idempotency().header.as_str();
    let full = fingerprint::whole(reading, &pack.account_headers);
    let client_key = reading.client_idempotency_key.clone();
    match &grant.idempotency {
        IdempotencyRule::Derived { scope, from } => {
            let purchase = fingerprint::purchase(reading, scope, from).map_err(|missing| {
                let message =
                    format!("the idempotency key is derived from {missing}, which is missing");
                no(RefusalCode::RequestNotInspectable, Some(missing), message)
            })?;
            Ok(Some(Idempotency {
                key: fingerprint::derived_key(purchase),
                fingerprint: purchase,
                full_fingerprint: Some(full),
                client_key,
            }))
        }
        IdempotencyRule::Required if client_key.is_none() => {
            let message = format!("this key wants the header {header} on every write");
            Err(no(
                RefusalCode::IdempotencyKeyRequired,
                Some(header),
                message,
            ))
        }
        IdempotencyRule::Required | IdempotencyRule::Optional => {
            Ok(client_key.map(|key| Idempotency {
                key,
                fingerprint: full,
                full_fingerprint: None,
                client_key: None,
            }))
        }
    }
}
