//! From the bytes of a request to a [`Reading`], or to a [`Turned`].
//!
//! Whatever two readers could take for two different requests is turned away (HOSTILE.md).

use std::sync::Arc;

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::money::Minor;
use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::{Cost, CountedReason, Forward, Refused, RequestFacts};

use crate::config::PluginConfig;
use crate::pack::{Class, Endpoint};

mod fields;

pub use fields::{Field, Fields, Kind};

/// A request as Envoy gives it.
#[derive(Clone, Copy)]
pub struct RawRequest<'a> {
    /// Names and values as Envoy gives them, pseudo headers included, names in lower case.
    pub headers: &'a [(Vec<u8>, Vec<u8>)],
    /// The whole body; empty when there is none.
    pub body: &'a [u8],
    /// Ours: goes into the facts and the answer.
    pub request_id: &'a str,
}

/// What the headers alone decide.
#[derive(Debug)]
pub enum Early {
    /// No; do not wait for the body.
    Refuse(Box<Turned>),
    /// Wait for the whole body, then [`read`].
    ReadBody,
    /// The headers announce no body. If the stream is not at its end all the same, read it before [`read`].
    NoBody,
}

/// Judges what can be judged before the body has come. `raw.body` is not looked at.
#[must_use]
pub fn early(config: &PluginConfig, raw: &RawRequest<'_>) -> Early {
    let _ = (config, raw);
    Early::ReadBody
}

/// Reads a whole request.
///
/// # Errors
/// [`Turned`]: refused, whatever the grant may say.
pub fn read(config: &PluginConfig, raw: &RawRequest<'_>) -> Result<Reading, Box<Turned>> {
    let _ = (config, raw);
    Err(Box::new(Turned {
        code: RefusalCode::RequestNotInspectable,
        param: None,
        message: String::new(),
        vendor: None,
        known: None,
        counted: CountedReason::NotInspectable,
    }))
}

/// A request that has one meaning, and that meaning.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Index into [`PluginConfig::vendors`].
    pub vendor: usize,
    /// SHA-256 of the vault key.
    pub key_digest: Digest,
    /// For record and audit; has vendor, operation, method, path, account, run id.
    pub facts: RequestFacts,
    /// What the endpoint does with money. [`Class::Forbidden`] also for an endpoint that is not in the pack.
    pub class: Class,
    /// The query, without `?`; empty when there is none. Strictly read, so it may be sent on.
    pub query: String,
    /// The decoded parameters of query or body.
    pub fields: Fields,
    /// What the request says that it costs; `authorize` completes it from the grant.
    pub cost: Cost,
    /// As the caller sent it.
    pub client_idempotency_key: Option<String>,
    /// The caller's headers that go on to the vendor, for reads and for detached calls alike; nothing else does.
    pub forward_headers: Vec<(String, Vec<u8>)>,
    /// The body to send: the caller's own bytes, strictly read.
    pub body: Vec<u8>,
    pub(crate) endpoint: Option<Arc<Endpoint>>,
}

impl Reading {
    /// Operation name; empty when the endpoint is not in the pack.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.facts.operation
    }

    /// Method, upper case.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.facts.method
    }

    /// Vendor-relative canonical path, without query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.facts.path
    }

    /// The vendor-relative path with the query: what is sent as `:path`.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        if self.query.is_empty() {
            self.facts.path.clone()
        } else {
            format!("{}?{}", self.facts.path, self.query)
        }
    }

    /// How it would be forwarded.
    #[must_use]
    pub fn forward(&self) -> Forward {
        match self.class {
            Class::Read => Forward::Read,
            _ => Forward::Detached,
        }
    }

    /// Amount and currency, when the request says both.
    #[must_use]
    pub fn amount(&self) -> Option<Minor> {
        match &self.cost {
            Cost::Amount(minor) => Some(*minor),
            _ => None,
        }
    }
}

/// A request that was turned away before any grant was looked at.
#[derive(Debug, Clone)]
pub struct Turned {
    /// Why.
    pub code: RefusalCode,
    /// The request field or header that was to blame.
    pub param: Option<String>,
    /// For people; without the leading "Keybrake:".
    pub message: String,
    /// Index into [`PluginConfig::vendors`], when a vendor was found.
    pub vendor: Option<usize>,
    /// With a well-formed vault key: what goes to the ledger. `None`: it is only counted.
    pub known: Option<TurnedKey>,
    /// What it counts as when there is no key.
    pub counted: CountedReason,
}

/// What is known of a turned request that had a well-formed vault key.
#[derive(Debug, Clone)]
pub struct TurnedKey {
    /// SHA-256 of the vault key.
    pub key_digest: Digest,
    /// For the audit; operation and path are empty when they could not be read.
    pub facts: RequestFacts,
    /// As the caller sent it, when it could be read.
    pub idempotency_key: Option<String>,
}

impl Turned {
    /// The command that puts it on record. `None`: it is only counted.
    #[must_use]
    pub fn refused(&self, id: CommandId) -> Option<Refused> {
        self.known.as_ref().map(|known| Refused {
            id,
            key_digest: known.key_digest,
            grant_version: None,
            code: self.code,
            param: self.param.clone(),
            request: known.facts.clone(),
            amount: None,
            idempotency_key: known.idempotency_key.clone(),
        })
    }
}
