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
use crate::pack::{BodyEncoding, Class, Endpoint, Pack};

mod cost;
mod credential;
mod fields;
mod form;
mod framing;
mod head;
mod headers;
mod json;
mod path;
mod priced;
pub(crate) mod secret;
mod stated;
#[cfg(test)]
pub(crate) mod tests;
mod vendor;

pub(crate) use fields::{Unreadable, plain_integer};
use head::{Announced, ContentType, Head};

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

/// Judges what can be judged before the body has come, and keeps it for the time when it has. `raw.body` is not looked at.
///
/// # Errors
/// [`Turned`]: refused; do not wait for the body.
pub fn headers(config: &PluginConfig, raw: &RawRequest<'_>) -> Result<JudgedHeaders, Box<Turned>> {
    let head = head::judge(config, raw)?;
    match (head.class(), head.announced) {
        (Class::Read, Announced::Length(1..)) => {
            let param = Some("body".to_owned());
            Err(head.turn(RefusalCode::RequestNotInspectable, param, BODY_ON_A_READ))
        }
        _ => Ok(JudgedHeaders::new(&head)),
    }
}

/// Reads a whole request.
///
/// # Errors
/// [`Turned`]: refused, whatever the grant may say.
pub fn read(config: &PluginConfig, raw: &RawRequest<'_>) -> Result<Reading, Box<Turned>> {
    let head = head::judge(config, raw)?;
    JudgedHeaders::new(&head).read(config, raw.body)
}

const BODY_ON_A_READ: &str = "a read must not have a body";

/// The headers of a request, judged, while its body is on its way.
#[derive(Debug)]
pub struct JudgedHeaders {
    vendor: usize,
    known: TurnedKey,
    endpoint: Option<Arc<Endpoint>>,
    query: String,
    encoding: BodyEncoding,
    content_type: ContentType,
    forward_headers: Vec<(String, Vec<u8>)>,
}

impl JudgedHeaders {
    fn new(head: &Head<'_>) -> Self {
        Self {
            vendor: head.vendor_at,
            known: head.known(),
            endpoint: head.endpoint.cloned(),
            query: head.query.to_owned(),
            encoding: head.encoding,
            content_type: head.content_type,
            forward_headers: head
                .forward
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
                .collect(),
        }
    }

    /// Reads the body, which is here to its last byte. `config` is the one that the headers were judged by.
    ///
    /// # Errors
    /// [`Turned`]: refused, whatever the grant may say.
    pub fn read(mut self, config: &PluginConfig, body: &[u8]) -> Result<Reading, Box<Turned>> {
        if u32::try_from(body.len()).map_or(true, |length| length > config.max_request_bytes) {
            let message = framing::too_large(config);
            return Err(self.turn(RefusalCode::RequestTooLarge, None, message));
        }
        let Some(vendor) = config.vendors.get(self.vendor) else {
            return Err(self.turn(RefusalCode::HostNotAllowed, None, "no such vendor"));
        };
        if !body.is_empty() {
            if self.class() == Class::Read {
                let param = Some("body".to_owned());
                return Err(self.turn(RefusalCode::RequestNotInspectable, param, BODY_ON_A_READ));
            }
            if self.content_type == ContentType::Absent {
                let param = Some("content-type".to_owned());
                return Err(self.turn(
                    RefusalCode::EncodingNotAccepted,
                    param,
                    "the body's type is missing",
                ));
            }
        }
        let (fields, cost) = match self.parameters(&vendor.pack, body) {
            Ok(read) => read,
            Err(Unreadable {
                code,
                param,
                message,
            }) => return Err(self.turn(code, param, message)),
        };
        self.known.facts.params = cost::audited(&vendor.pack, &fields);
        Ok(Reading {
            vendor: self.vendor,
            key_digest: self.known.key_digest,
            class: self.class(),
            query: self.query,
            fields,
            cost,
            client_idempotency_key: self.known.idempotency_key,
            forward_headers: self.forward_headers,
            body: body.to_vec(),
            endpoint: self.endpoint,
            facts: Arc::new(self.known.facts),
        })
    }

    fn class(&self) -> Class {
        self.endpoint
            .as_ref()
            .map_or(Class::Forbidden, |endpoint| endpoint.class)
    }

    fn turn(
        self,
        code: RefusalCode,
        param: Option<String>,
        message: impl Into<String>,
    ) -> Box<Turned> {
        Box::new(head::turned(
            self.vendor,
            Some(self.known),
            code,
            param,
            message,
        ))
    }

    /// The decoded parameters and the cost. What is refused whatever it says is not read at all.
    fn parameters(&self, pack: &Pack, body: &[u8]) -> Result<(Fields, Cost), Unreadable> {
        let Some(endpoint) = self
            .endpoint
            .as_deref()
            .filter(|found| found.class != Class::Forbidden)
        else {
            return Ok((Fields::default(), Cost::Unknown));
        };
        if !body.is_empty() && !self.query.is_empty() {
            return Err(Unreadable::field(
                "query",
                "has parameters, and so has the body",
            ));
        }
        let (fields, encoding) = match self.encoding {
            _ if body.is_empty() => (form::parse(self.query.as_bytes())?, BodyEncoding::Form),
            BodyEncoding::Form => (form::parse(body)?, BodyEncoding::Form),
            BodyEncoding::Json => (json::parse(body)?, BodyEncoding::Json),
        };
        if fields.iter().any(|field| {
            secret::holds_vault_key(field.name.as_bytes())
                || secret::holds_vault_key(field.value.as_bytes())
        }) {
            return Err(Unreadable::whole("a vault key stands where none belongs"));
        }
        fields.check(&pack.parameters, &endpoint.cost, encoding)?;
        fields.refuse(&endpoint.refuse)?;
        let path = &self.known.facts.path;
        let cost = cost::read(pack, &endpoint.cost, path, &fields, encoding)?;
        Ok((fields, cost))
    }
}

/// A request that has one meaning, and that meaning.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Index into [`PluginConfig::vendors`].
    pub vendor: usize,
    /// SHA-256 of the vault key.
    pub key_digest: Digest,
    /// For record and audit; has vendor, operation, method, path, account, run id.
    pub facts: Arc<RequestFacts>,
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
            request: Arc::new(known.facts.clone()),
            amount: None,
            idempotency_key: known.idempotency_key.clone(),
        })
    }
}
