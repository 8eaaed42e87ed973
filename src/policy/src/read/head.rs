//! What the headers of a request say: vendor, key, path, endpoint, idempotency key, and what goes on.
//!
//! Order of judgement: vendor, vault key, then everything else, so that a refusal of a known key is audited.

use std::sync::Arc;

use keybrake_contract::digest::Digest;
use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::{CountedReason, RequestFacts};

use crate::config::{PluginConfig, Vendor};
use crate::pack::{BodyEncoding, Class, Endpoint};

use super::credential::{self, NoKey};
use super::framing::{check_framing, judge_length, judge_type};
use super::headers::{Headers, NotText};
use super::vendor::{find_vendor, is_tunnel};
use super::{RawRequest, Turned, TurnedKey, path, secret};

/// Most characters in the caller's run id.
const MAX_RUN_ID: usize = 256;
/// Headers that change the method behind our back, in some frameworks.
const METHOD_OVERRIDES: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// The judged headers.
pub(super) struct Head<'a> {
    pub vendor: usize,
    pub known: TurnedKey,
    pub endpoint: Option<Arc<Endpoint>>,
    pub query: &'a str,
    pub encoding: BodyEncoding,
    pub announced: Announced,
    pub content_type: ContentType,
    pub forward_headers: Vec<(String, Vec<u8>)>,
}

/// What the headers say about the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    Nothing,
    Length(u64),
    UnknownLength,
}

/// Whether the body's type was said. A wrong one is turned away at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentType {
    Accepted,
    Absent,
}

impl Head<'_> {
    pub(super) fn class(&self) -> Class {
        self.endpoint
            .as_ref()
            .map_or(Class::Forbidden, |endpoint| endpoint.class)
    }

    /// A refusal that is put on record.
    pub(super) fn turn(
        &self,
        code: RefusalCode,
        param: Option<String>,
        message: impl Into<String>,
    ) -> Box<Turned> {
        Box::new(turned(
            self.vendor,
            Some(self.known.clone()),
            code,
            param,
            message,
        ))
    }
}

pub(super) type Judged<T> = Result<T, Box<Turned>>;

pub(super) fn judge<'a>(config: &PluginConfig, raw: &RawRequest<'a>) -> Judged<Head<'a>> {
    let headers = Headers(raw.headers);
    let (vendor_at, vendor, target) = find_vendor(config, headers)?;
    let text = headers.all_text();
    let mut head = match (find_key(vendor, headers), text) {
        (Ok(key_digest), _) => base(vendor_at, vendor, key_digest, headers, raw.request_id),
        (Err(_), NotText::Found) => return Err(Box::new(not_text(vendor_at, None))),
        (Err(none), NotText::None) => return Err(Box::new(no_key(vendor_at, none))),
    };
    if text == NotText::Found {
        return Err(Box::new(not_text(vendor_at, Some(head.known))));
    }
    if let Some(run_id) = one_value(&head, headers, "x-agent-run-id")? {
        head.known.facts.run_id = Some(run_id_text(&head, run_id)?);
    }
    check_framing(&head, headers)?;
    judge_method(&head, headers)?;
    let target = judge_path(&head, vendor, target)?;
    head.query = target.query.unwrap_or_default();
    head.encoding = target.encoding;
    target.path.clone_into(&mut head.known.facts.path);
    head.known.idempotency_key = judge_idempotency_key(&head, vendor, headers)?;
    head.known.facts.vendor_account = judge_account(&head, vendor, headers)?;
    head.announced = judge_length(&head, config, headers)?;
    head.content_type = judge_type(&head, headers)?;
    head.endpoint = vendor
        .pack
        .find(&head.known.facts.method, target.path)
        .cloned();
    if let Some(endpoint) = &head.endpoint {
        endpoint
            .operation
            .clone_into(&mut head.known.facts.operation);
    }
    head.forward_headers = judge_forward(&head, vendor, headers)?;
    Ok(head)
}

fn find_key(vendor: &Vendor, headers: Headers<'_>) -> Result<Digest, NoKey> {
    credential::digest(&vendor.pack.credential, headers.all("authorization"))
}

fn base<'a>(
    vendor_at: usize,
    vendor: &Vendor,
    key_digest: Digest,
    headers: Headers<'_>,
    request_id: &str,
) -> Head<'a> {
    let method = headers
        .first(":method")
        .filter(|method| method.len() <= 16 && method.iter().all(u8::is_ascii_uppercase))
        .and_then(|method| std::str::from_utf8(method).ok())
        .unwrap_or_default();
    let traceparent = headers
        .first("traceparent")
        .and_then(|value| std::str::from_utf8(value).ok())
        .filter(|value| is_traceparent(value));
    Head {
        vendor: vendor_at,
        known: TurnedKey {
            key_digest,
            facts: RequestFacts {
                vendor: vendor.pack.vendor().to_owned(),
                credential: vendor.credential.clone(),
                operation: String::new(),
                method: method.to_owned(),
                path: String::new(),
                vendor_account: None,
                request_id: request_id.to_owned(),
                run_id: None,
                traceparent: traceparent.map(str::to_owned),
                params: std::collections::BTreeMap::new(),
            },
            idempotency_key: None,
        },
        endpoint: None,
        query: "",
        encoding: BodyEncoding::Form,
        announced: Announced::Nothing,
        content_type: ContentType::Absent,
        forward_headers: Vec::new(),
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`. Anything else is dropped, as W3C says.
fn is_traceparent(text: &str) -> bool {
    let lengths = [2, 32, 16, 2];
    text.split('-').count() == lengths.len()
        && text.split('-').zip(lengths).all(|(part, length)| {
            part.len() == length
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
}

fn run_id_text(head: &Head<'_>, value: &[u8]) -> Judged<String> {
    printable(value, MAX_RUN_ID).ok_or_else(|| {
        let message = "must be 1 to 256 printable ASCII characters";
        inspect(head, Some("x-agent-run-id"), message)
    })
}

/// 1 to `most` printable ASCII characters that hold no vault key.
fn printable(value: &[u8], most: usize) -> Option<String> {
    let fine = !value.is_empty()
        && value.len() <= most
        && value.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && !secret::holds_vault_key(value);
    fine.then(|| String::from_utf8_lossy(value).into_owned())
}

fn judge_method(head: &Head<'_>, headers: Headers<'_>) -> Judged<()> {
    if is_tunnel(headers) {
        let message = "tunnels and upgrades are not allowed";
        return Err(head.turn(RefusalCode::EndpointNotAllowed, None, message));
    }
    if head.known.facts.method.is_empty() {
        return Err(inspect(
            head,
            None,
            "the method is not in upper case letters",
        ));
    }
    for name in METHOD_OVERRIDES {
        if headers.first(name).is_some() {
            return Err(inspect(
                head,
                Some(name),
                "the method must not be overridden",
            ));
        }
    }
    Ok(())
}

fn judge_path<'a>(head: &Head<'_>, vendor: &Vendor, target: &'a [u8]) -> Judged<path::Target<'a>> {
    let text =
        std::str::from_utf8(target).map_err(|_| inspect(head, None, "the path is not text"))?;
    if secret::holds_vault_key(target) {
        return Err(inspect(
            head,
            Some("path"),
            "a vault key stands where none belongs",
        ));
    }
    let found = path::parse(&vendor.pack.path, text).map_err(|bad| match bad {
        path::BadPath::Ambiguous(message) => inspect(head, Some("path"), message),
        path::BadPath::Unknown => head.turn(
            RefusalCode::EndpointNotAllowed,
            None,
            "no endpoint has this path",
        ),
    })?;
    if found.query.is_some() && !matches!(head.known.facts.method.as_str(), "GET" | "DELETE") {
        return Err(inspect(
            head,
            Some("query"),
            "parameters belong in the body",
        ));
    }
    Ok(found)
}

fn judge_idempotency_key(
    head: &Head<'_>,
    vendor: &Vendor,
    headers: Headers<'_>,
) -> Judged<Option<String>> {
    let rules = vendor.pack.idempotency();
    let Some(value) = one_value(head, headers, &rules.header)? else {
        return Ok(None);
    };
    printable(value, rules.max_key_length)
        .map(Some)
        .ok_or_else(|| {
            let message = format!(
                "must be 1 to {} printable ASCII characters",
                rules.max_key_length
            );
            inspect(head, Some(&rules.header), message)
        })
}

/// At most one account header, once.
fn judge_account(head: &Head<'_>, vendor: &Vendor, headers: Headers<'_>) -> Judged<Option<String>> {
    let mut found = None;
    for name in &vendor.pack.account_headers {
        let Some(value) = one_value(head, headers, name)? else {
            continue;
        };
        let account = printable(value, 255).filter(|account| !account.contains([' ', ',']));
        match (account, &found) {
            (Some(account), None) => found = Some(account),
            (Some(_), Some(_)) => return Err(inspect(head, Some(name), "a second account")),
            (None, _) => return Err(inspect(head, Some(name), "is not the id of one account")),
        }
    }
    Ok(found)
}

/// The caller's headers that the pack lets through, each at most once.
fn judge_forward(
    head: &Head<'_>,
    vendor: &Vendor,
    headers: Headers<'_>,
) -> Judged<Vec<(String, Vec<u8>)>> {
    let mut kept = Vec::with_capacity(vendor.pack.forward_headers.len());
    for name in &vendor.pack.forward_headers {
        if let Some(value) = one_value(head, headers, name)? {
            if value.iter().any(u8::is_ascii_control) || secret::holds_vault_key(value) {
                return Err(inspect(
                    head,
                    Some(name),
                    "has a control character or a vault key",
                ));
            }
            kept.push((name.clone(), value.to_vec()));
        }
    }
    Ok(kept)
}

pub(super) fn one_value<'a>(
    head: &Head<'_>,
    headers: Headers<'a>,
    name: &str,
) -> Judged<Option<&'a [u8]>> {
    let mut values = headers.all(name);
    let value = values.next();
    if values.next().is_some() {
        return Err(inspect(head, Some(name), "stands more than once"));
    }
    Ok(value)
}

pub(super) fn inspect(
    head: &Head<'_>,
    param: Option<&str>,
    message: impl Into<String>,
) -> Box<Turned> {
    head.turn(
        RefusalCode::RequestNotInspectable,
        param.map(str::to_owned),
        message,
    )
}

fn turned(
    vendor: usize,
    known: Option<TurnedKey>,
    code: RefusalCode,
    param: Option<String>,
    message: impl Into<String>,
) -> Turned {
    Turned {
        code,
        param,
        message: message.into(),
        vendor: Some(vendor),
        known,
        counted: CountedReason::NotInspectable,
    }
}

fn not_text(vendor: usize, known: Option<TurnedKey>) -> Turned {
    let message = "a header has bytes that are not UTF-8";
    turned(
        vendor,
        known,
        RefusalCode::RequestNotInspectable,
        None,
        message,
    )
}

fn no_key(vendor: usize, none: NoKey) -> Turned {
    let (message, counted) = match none {
        NoKey::Absent => ("no vault key was presented", CountedReason::VaultKeyInvalid),
        NoKey::Malformed => (
            "what was presented is not a vault key",
            CountedReason::VaultKeyInvalid,
        ),
        NoKey::RealCredential => (
            "a real secret of the vendor was presented; rotate it, and use a vault key here",
            CountedReason::RealCredential,
        ),
    };
    Turned {
        counted,
        ..turned(vendor, None, RefusalCode::VaultKeyInvalid, None, message)
    }
}
