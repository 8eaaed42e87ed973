//! The check of a [`Reading`] against a grant: a [`Permit`], or [`Denied`].

mod check;

use std::sync::Arc;

use keybrake_contract::digest::Digest;
use keybrake_contract::grant::Grant;
use keybrake_contract::ids::CommandId;
use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::{Cost, Forward, Idempotency, Refused, RequestFacts, Reserve};

use crate::config::PluginConfig;
use crate::pack::Endpoint;
use crate::read::Reading;
use check::{Checked, No, ToBlame, check};

/// A request that its grant allows. Made by [`authorize`] alone.
#[derive(Debug, Clone)]
pub struct Permit {
    reading: Box<Reading>,
    endpoint: Arc<Endpoint>,
    cost: Cost,
    idempotency: Option<Idempotency>,
    /// Lower-case name of the vendor's idempotency header; `None` for a read or a vendor without idempotency.
    idempotency_header: Option<String>,
    purchases: Vec<Digest>,
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
    pub facts: Arc<RequestFacts>,
    /// What it says that it costs.
    pub cost: Cost,
    /// `None` for reads, and for writes without a key whose grant allows that.
    pub idempotency: Option<Idempotency>,
    /// What makes this purchase, by the grant's lists of fields.
    pub purchases: Vec<Digest>,
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
            purchases,
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
            purchases,
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
            facts: Arc::clone(&self.facts),
            cost: self.cost.clone(),
            idempotency: None,
            purchases: Vec::new(),
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
            facts: Arc::clone(&self.reading.facts),
            cost: self.cost.clone(),
            idempotency: self.idempotency.clone(),
            purchases: self.purchases.clone(),
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
    pub fn headers_to_send<'a>(&'a self, hold: &'a str) -> Vec<(&'a str, &'a [u8])> {
        let forward = self.forward_headers().iter();
        let forward = forward.map(|(name, value)| (name.as_str(), value.as_slice()));
        let own = self.idempotency_header.as_ref().map(|name| {
            let key = self.idempotency_key().unwrap_or(hold);
            (name.as_str(), key.as_bytes())
        });
        forward.chain(own).collect()
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
            request: Arc::clone(&self.reading.facts),
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
            purchases,
        }) => Ok(Permit {
            reading: Box::new(reading),
            endpoint,
            cost,
            idempotency,
            idempotency_header,
            purchases,
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

#[cfg(test)]
mod tests;
