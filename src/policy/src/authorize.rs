//! The check of a [`Reading`] against a grant: a [`Permit`], or [`Denied`].

use std::sync::Arc;

use keybrake_contract::digest::Digest;
use keybrake_contract::grant::{AllowedEndpoint, Constraint, Grant, IdempotencyRule};
use keybrake_contract::ids::{CommandId, HoldId};
use keybrake_contract::money::Currency;
use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::{Cost, Forward, Idempotency, Refused, RequestFacts, Reserve};

use crate::config::PluginConfig;
use crate::fingerprint;
use crate::pack::{Class, CostRule, Endpoint, ObjectAmount, Pack};
use crate::read::{Reading, plain_integer};

/// A request that its grant allows. Made by [`authorize`] alone.
#[derive(Debug, Clone)]
pub struct Permit {
    reading: Box<Reading>,
    endpoint: Arc<Endpoint>,
    cost: Cost,
    idempotency: Option<Idempotency>,
    /// Lower-case name of the vendor's idempotency header; `None` for a read or a vendor without idempotency.
    idempotency_header: Option<String>,
    grant_version: u64,
}

/// What a reserve needs of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReserveParts {
    /// SHA-256 of the vault key.
    pub key_digest: Digest,
    /// The grant it was checked against; `None`: none yet, the answer will be the grant.
    pub grant_version: Option<u64>,
    /// For record and audit.
    pub facts: RequestFacts,
    /// What it says that it costs.
    pub cost: Cost,
    /// `None` for reads, and for writes without a key whose grant allows that.
    pub idempotency: Option<Idempotency>,
    /// How it would be forwarded.
    pub forward: Forward,
}

impl ReserveParts {
    /// The command.
    #[must_use]
    pub fn into_reserve(self, id: CommandId, forward_timeout_ms: u32) -> Reserve {
        let Self {
            key_digest,
            grant_version,
            facts,
            cost,
            idempotency,
            forward,
        } = self;
        Reserve {
            id,
            key_digest,
            grant_version,
            request: facts,
            forward,
            cost,
            idempotency,
            forward_timeout_ms,
        }
    }
}

impl Reading {
    /// What the first reserve of a key needs, whose grant is not known yet: its answer is the grant.
    #[must_use]
    pub fn reserve_parts(&self) -> ReserveParts {
        ReserveParts {
            key_digest: self.key_digest,
            grant_version: None,
            facts: self.facts.clone(),
            cost: self.cost.clone(),
            idempotency: None,
            forward: self.forward(),
        }
    }
}

impl Permit {
    /// What the reserve needs.
    #[must_use]
    pub fn reserve_parts(&self) -> ReserveParts {
        ReserveParts {
            key_digest: self.reading.key_digest,
            grant_version: Some(self.grant_version),
            facts: self.reading.facts.clone(),
            cost: self.cost.clone(),
            idempotency: self.idempotency.clone(),
            forward: self.reading.forward(),
        }
    }

    /// Index into [`PluginConfig::vendors`].
    #[must_use]
    pub fn vendor(&self) -> usize {
        self.reading.vendor
    }

    /// The endpoint, for the judgement of the answer.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How it is forwarded.
    #[must_use]
    pub fn forward(&self) -> Forward {
        self.reading.forward()
    }

    /// Method, upper case.
    #[must_use]
    pub fn method(&self) -> &str {
        self.reading.method()
    }

    /// `:path` of the call: vendor-relative path and query.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        self.reading.path_and_query()
    }

    /// The caller's headers that go on.
    #[must_use]
    pub fn forward_headers(&self) -> &[(String, Vec<u8>)] {
        &self.reading.forward_headers
    }

    /// The body to send.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.reading.body
    }

    /// The idempotency key as record and vendor see it. `None`: a read, or a write without one.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<&str> {
        self.idempotency.as_ref().map(|found| found.key.as_str())
    }

    /// Every header of a detached call but the pseudo headers: [`Self::forward_headers`] and the idempotency key; a
    /// write without a key goes under its hold's id, so that evidence can be found.
    #[must_use]
    pub fn headers_to_send(&self, hold: HoldId) -> Vec<(String, Vec<u8>)> {
        let mut headers = self.reading.forward_headers.clone();
        if let Some(name) = &self.idempotency_header {
            let key = self
                .idempotency_key()
                .map_or_else(|| hold.to_string(), str::to_owned);
            headers.push((name.clone(), key.into_bytes()));
        }
        headers
    }

    /// Back to the reading, to check it against a newer grant.
    #[must_use]
    pub fn into_reading(self) -> Reading {
        *self.reading
    }
}

/// A request that its grant does not allow.
#[derive(Debug, Clone)]
pub struct Denied {
    /// Why.
    pub code: RefusalCode,
    /// The request field that was to blame.
    pub param: Option<String>,
    /// For people; without the leading "Keybrake:".
    pub message: String,
    /// What was asked for, `POST /v1/refunds`, when the endpoint is to blame.
    pub attempted: Option<String>,
    /// What the grant allows, when the endpoint is to blame.
    pub allowed_endpoints: Vec<String>,
    /// The grant that this rests on.
    pub grant_version: u64,
    reading: Box<Reading>,
}

impl Denied {
    /// The command that puts it on record.
    #[must_use]
    pub fn refused(&self, id: CommandId) -> Refused {
        Refused {
            id,
            key_digest: self.reading.key_digest,
            grant_version: Some(self.grant_version),
            code: self.code,
            param: self.param.clone(),
            request: self.reading.facts.clone(),
            amount: self.reading.amount(),
            idempotency_key: self.reading.client_idempotency_key.clone(),
        }
    }

    /// Index into [`PluginConfig::vendors`].
    #[must_use]
    pub fn vendor(&self) -> usize {
        self.reading.vendor
    }

    /// Back to the reading, to check it against a newer grant.
    #[must_use]
    pub fn into_reading(self) -> Reading {
        *self.reading
    }
}

/// Checks a request against its grant.
///
/// # Errors
/// [`Denied`]: the grant does not allow it.
pub fn authorize(
    config: &PluginConfig,
    grant: &Grant,
    reading: Reading,
) -> Result<Permit, Box<Denied>> {
    match check(config, grant, &reading) {
        Ok(Checked {
            endpoint,
            cost,
            idempotency,
            idempotency_header,
        }) => Ok(Permit {
            reading: Box::new(reading),
            endpoint,
            cost,
            idempotency,
            idempotency_header,
            grant_version: grant.version,
        }),
        Err(No {
            code,
            param,
            message,
            endpoint,
        }) => {
            let (attempted, allowed_endpoints) = match endpoint {
                ToBlame::No => (None, Vec::new()),
                ToBlame::Yes => (
                    Some(format!("{} {}", reading.method(), reading.path())),
                    grant
                        .allowed_endpoints
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                ),
            };
            Err(Box::new(Denied {
                code,
                param,
                message,
                attempted,
                allowed_endpoints,
                grant_version: grant.version,
                reading: Box::new(reading),
            }))
        }
    }
}

/// What the check adds to the reading.
struct Checked {
    endpoint: Arc<Endpoint>,
    cost: Cost,
    idempotency: Option<Idempotency>,
    idempotency_header: Option<String>,
}

/// A no, before it is told.
struct No {
    code: RefusalCode,
    param: Option<String>,
    message: String,
    endpoint: ToBlame,
}

/// Whether the endpoint itself is what is refused.
enum ToBlame {
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

fn check(config: &PluginConfig, grant: &Grant, reading: &Reading) -> Result<Checked, No> {
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
    Ok(Checked {
        endpoint,
        cost,
        idempotency,
        idempotency_header,
    })
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
        let refuse = |message: String| no(RefusalCode::ParameterNotAllowed, Some(field), message);
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
        (CostRule::Fields { amount, .. }, "amount") => Meant::Field(amount),
        (CostRule::Fields { currency, .. }, "currency") => Meant::Field(currency),
        (CostRule::Object { .. }, "currency") => Meant::FromObject,
        (CostRule::Object { amount, .. }, "amount") => match amount {
            ObjectAmount::Required(field) | ObjectAmount::Field(field) => Meant::Field(field),
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
            let message = format!("this key wants a {header} header on every write");
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

#[cfg(test)]
#[path = "authorize_tests.rs"]
mod tests;
