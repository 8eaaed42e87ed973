//! One request as it arrived, with all that is needed to judge, execute and show it.

use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::auth::{Judged, Secret};

/// The header that names the request to the vendor.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that names another account.
pub const STRIPE_ACCOUNT: &str = "stripe-account";
/// The header that names the API version.
pub const STRIPE_VERSION: &str = "stripe-version";

/// The connection a request came on.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Number of the connection since start.
    pub connection: u64,
    /// The server name of the TLS handshake.
    pub sni: Option<Arc<str>>,
}

/// One request as it arrived.
#[derive(Debug)]
pub struct Arrival {
    /// Where from.
    pub origin: Origin,
    /// By the moved clock.
    pub time_ms: i64,
    /// Method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Query without `?`.
    pub query: Option<String>,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// All headers but `Authorization`.
    pub headers: HeaderMap,
    /// How the credentials were judged.
    pub judged: Judged,
    /// The idempotency key, as text.
    pub key: Option<Arc<str>>,
    /// The account; empty for the secret's own.
    pub account: Arc<str>,
    /// The whole body.
    pub body: Bytes,
    body_sha256: [u8; 32],
    /// Trailers of the request.
    pub trailers: Option<HeaderMap>,
}

impl Arrival {
    /// Reads a request's parts.
    #[must_use]
    pub fn new(
        origin: Origin,
        time_ms: i64,
        parts: Parts,
        body: Bytes,
        trailers: Option<HeaderMap>,
        secret: &Secret,
    ) -> Self {
        let judged = secret.judge(&parts.headers);
        let mut headers = parts.headers;
        headers.remove(AUTHORIZATION);
        let text = |name: &str| {
            headers
                .get(name)
                .map(|v| String::from_utf8_lossy(v.as_bytes()))
        };
        Self {
            origin,
            time_ms,
            method: parts.method.as_str().to_owned(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            protocol: format!("{:?}", parts.version),
            judged,
            key: text(IDEMPOTENCY_KEY).map(Arc::from),
            account: text(STRIPE_ACCOUNT).map_or_else(|| Arc::from(""), Arc::from),
            body_sha256: Sha256::digest(&body).into(),
            body,
            trailers,
            headers,
        }
    }

    /// The API version asked for.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.headers.get(STRIPE_VERSION)?.to_str().ok()
    }
}

/// What the request log keeps of an arrival.
#[derive(Debug)]
pub struct Entry {
    n: u64,
    time_ms: i64,
    origin: Origin,
    method: String,
    path: String,
    query: Option<String>,
    protocol: String,
    headers: HeaderMap,
    trailers: Option<HeaderMap>,
    judged: Judged,
    key: Option<Arc<str>>,
    body_sha256: [u8; 32],
    body_length: usize,
    status: Option<u16>,
    replayed: bool,
}

impl Entry {
    /// Takes over what may be kept; the body itself is not.
    #[must_use]
    pub fn new(n: u64, arrival: Arrival) -> Self {
        Self {
            n,
            time_ms: arrival.time_ms,
            origin: arrival.origin,
            method: arrival.method,
            path: arrival.path,
            query: arrival.query,
            protocol: arrival.protocol,
            headers: arrival.headers,
            trailers: arrival.trailers,
            judged: arrival.judged,
            key: arrival.key,
            body_sha256: arrival.body_sha256,
            body_length: arrival.body.len(),
            status: None,
            replayed: false,
        }
    }

    /// The request's number since start.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.n
    }

    /// Notes what was answered.
    pub fn answered(&mut self, status: u16, replayed: bool) {
        self.status = Some(status);
        self.replayed = replayed;
    }

    /// As the control API shows it.
    #[must_use]
    pub fn show(&self) -> Value {
        let mut headers = show_headers(&self.headers);
        match &self.judged {
            Judged::Missing => {}
            Judged::Accepted(seen) => headers.push(json!(["authorization", seen])),
            Judged::Rejected(all) => {
                headers.extend(all.iter().map(|seen| json!(["authorization", seen])))
            }
        }
        json!({
            "n": self.n,
            "time_ms": self.time_ms,
            "connection": self.origin.connection,
            "sni": self.origin.sni.as_deref(),
            "protocol": self.protocol,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": headers,
            "trailers": self.trailers.as_ref().map(show_headers),
            "idempotency_key": self.key.as_deref(),
            "body_sha256": hex::encode(self.body_sha256),
            "body_length": self.body_length,
            "status": self.status,
            "replayed": self.replayed,
        })
    }
}

/// Name and value pairs, since a header may come twice; bytes that are not UTF-8 are replaced.
fn show_headers(headers: &HeaderMap) -> Vec<Value> {
    headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect()
}
