//! What the headers of a request say: vendor, key, path, endpoint, idempotency key, and what goes on.
//!
//! Order of judgement: vendor, vault key, then everything else, so that a refusal of a known key is audited.

use std::sync::Arc;

use keybrake_contract::digest::Digest;
use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::{CountedReason, RequestFacts};

use crate::config::{PluginConfig, Vendor};
use crate::pack::{BodyEncoding, Class, Endpoint, Place, at};
use keybrake_text::bytes::Text;

use super::credential::{self, NoKey};
use super::framing::{check_framing, judge_length, judge_type};
use super::headers::{Headers, NotText, Repeated, Value};
use super::vendor::{find_vendor, is_tunnel};
use super::{RawRequest, Turned, TurnedKey, path, secret};

/// Most characters in the caller's run id.
const MAX_RUN_ID: usize = 256;

/// The judged headers, borrowed from the request.
pub(super) struct Head<'a> {
    pub vendor_at: usize,
    pub vendor: &'a Vendor,
    pub key_digest: Digest,
    pub request_id: &'a str,
    pub method: &'a str,
    /// Empty until it is judged; so are all that follow.
    pub path: &'a str,
    pub run_id: Option<&'a str>,
    pub traceparent: Option<&'a str>,
    pub account: Option<&'a str>,
    pub idempotency_key: Option<&'a str>,
    pub endpoint: Option<&'a Arc<Endpoint>>,
    pub query: &'a str,
    pub encoding: BodyEncoding,
    pub announced: Announced,
    pub content_type: ContentType,
    /// The caller's headers that go on, in the pack's order.
    pub forward: Vec<(&'a str, &'a [u8])>,
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

impl<'a> Head<'a> {
    fn new(
        vendor_at: usize,
        vendor: &'a Vendor,
        key_digest: Digest,
        headers: &Headers<'a>,
        request_id: &'a str,
    ) -> Self {
        let method = headers
            .first(at::METHOD)
            .filter(|method| method.len() <= 16 && method.iter().all(u8::is_ascii_uppercase))
            .and_then(|method| std::str::from_utf8(method).ok())
            .unwrap_or_default();
        let traceparent = headers
            .first(at::TRACEPARENT)
            .filter(|value| is_traceparent(value))
            .and_then(|value| std::str::from_utf8(value).ok());
        Self {
            vendor_at,
            vendor,
            key_digest,
            request_id,
            method,
            path: "",
            run_id: None,
            traceparent,
            account: None,
            idempotency_key: None,
            endpoint: None,
            query: "",
            encoding: BodyEncoding::Form,
            announced: Announced::Nothing,
            content_type: ContentType::Absent,
            forward: Vec::new(),
        }
    }

    pub(super) fn class(&self) -> Class {
        self.endpoint
            .map_or(Class::Forbidden, |endpoint| endpoint.class)
    }

    /// What is known so far, for record and audit.
    pub(super) fn known(&self) -> TurnedKey {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        TurnedKey {
            key_digest: self.key_digest,
            facts: RequestFacts {
                vendor: self.vendor.pack.vendor().to_owned(),
                credential: self.vendor.credential.clone(),
                operation: self
                    .endpoint
                    .map_or_else(String::new, |endpoint| endpoint.operation.clone()),
                method: self.method.to_owned(),
                path: self.path.to_owned(),
                vendor_account: owned(self.account),
                request_id: self.request_id.to_owned(),
                run_id: owned(self.run_id),
                traceparent: owned(self.traceparent),
                params: std::collections::BTreeMap::new(),
            },
            idempotency_key: owned(self.idempotency_key),
        }
    }

    /// A refusal that is put on record.
    pub(super) fn turn(
        &self,
        code: RefusalCode,
        param: Option<String>,
        message: impl Into<String>,
    ) -> Box<Turned> {
        Box::new(turned(
            self.vendor_at,
            Some(self.known()),
            code,
            param,
            message,
        ))
    }
}

pub(super) type Judged<T> = Result<T, Box<Turned>>;

pub(super) fn judge<'a>(config: &'a PluginConfig, raw: &RawRequest<'a>) -> Judged<Head<'a>> {
    let (vendor_at, vendor, target) = find_vendor(config, raw.headers)?;
    let headers = Headers::look(raw.headers, &vendor.pack.headers.names);
    let mut head = match (find_key(vendor, &headers), headers.not_text) {
        (Ok(key_digest), _) => Head::new(vendor_at, vendor, key_digest, &headers, raw.request_id),
        (Err(_), NotText::Found) => return Err(Box::new(not_text(vendor_at, None))),
        (Err(none), NotText::None) => return Err(Box::new(no_key(vendor_at, none))),
    };
    if headers.not_text == NotText::Found {
        return Err(Box::new(not_text(vendor_at, Some(head.known()))));
    }
    if let Some(run_id) = one_value(&head, &headers, at::RUN_ID)? {
        head.run_id = Some(run_id_text(&head, run_id)?);
    }
    refuse_tunnels(&head, &headers)?;
    check_framing(&head, &headers)?;
    judge_method(&head, &headers)?;
    let target = judge_path(&head, target)?;
    head.query = target.query.unwrap_or_default();
    head.encoding = target.encoding;
    head.path = target.path;
    head.idempotency_key = judge_idempotency_key(&head, &headers)?;
    head.account = judge_account(&head, &headers)?;
    head.announced = judge_length(&head, config, &headers)?;
    head.content_type = judge_type(&head, &headers)?;
    head.endpoint = vendor.pack.find(head.method, target.path);
    head.forward = judge_forward(&head, &headers)?;
    Ok(head)
}

fn find_key(vendor: &Vendor, headers: &Headers<'_>) -> Result<Digest, NoKey> {
    credential::digest(&vendor.pack.credential, headers.all(at::AUTHORIZATION))
}

/// `00-<32 hex>-<16 hex>-<2 hex>`. Anything else is dropped, as W3C says.
fn is_traceparent(bytes: &[u8]) -> bool {
    let hex = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let dash = |position: usize| bytes.get(position) == Some(&b'-');
    bytes.len() == 55 && [2, 35, 52].into_iter().all(dash) && bytes.iter().filter(hex).count() == 52
}

fn run_id_text<'a>(head: &Head<'_>, value: Value<'a>) -> Judged<&'a str> {
    printable(value, MAX_RUN_ID).ok_or_else(|| {
        let message = "x-agent-run-id must be 1 to 256 printable ASCII characters";
        inspect(head, Some("x-agent-run-id"), message)
    })
}

/// 1 to `most` printable ASCII characters that hold no vault key.
fn printable(value: Value<'_>, most: usize) -> Option<&str> {
    let Value { bytes, text } = value;
    let fine = !bytes.is_empty()
        && bytes.len() <= most
        && text == Text::Printable
        && !secret::holds_vault_key(bytes);
    std::str::from_utf8(bytes).ok().filter(|_| fine)
}

/// Before the framing is looked at: CONNECT has no path.
fn refuse_tunnels(head: &Head<'_>, headers: &Headers<'_>) -> Judged<()> {
    if is_tunnel([at::METHOD, at::UPGRADE, at::PROTOCOL].map(|place| headers.first(place))) {
        let message = "tunnels and upgrades are not allowed";
        return Err(head.turn(RefusalCode::EndpointNotAllowed, None, message));
    }
    Ok(())
}

fn judge_method(head: &Head<'_>, headers: &Headers<'_>) -> Judged<()> {
    if head.method.is_empty() {
        return Err(inspect(
            head,
            None,
            "the method is not in upper case letters",
        ));
    }
    for place in at::METHOD_OVERRIDES {
        if headers.first(place).is_some() {
            return Err(inspect(
                head,
                Some(headers.name(place)),
                "the method must not be overridden",
            ));
        }
    }
    Ok(())
}

fn judge_path<'a>(head: &Head<'_>, target: &'a [u8]) -> Judged<path::Target<'a>> {
    let text =
        std::str::from_utf8(target).map_err(|_| inspect(head, None, "the path is not text"))?;
    if secret::holds_vault_key(target) {
        return Err(inspect(
            head,
            Some("path"),
            "a vault key stands where none belongs",
        ));
    }
    let found = path::parse(&head.vendor.pack.path, text).map_err(|bad| match bad {
        path::BadPath::Ambiguous(message) => inspect(head, Some("path"), message),
        path::BadPath::Unknown => head.turn(
            RefusalCode::EndpointNotAllowed,
            None,
            "no endpoint has this path",
        ),
    })?;
    if found.query.is_some() && !matches!(head.method, "GET" | "DELETE") {
        return Err(inspect(
            head,
            Some("query"),
            "parameters belong in the body",
        ));
    }
    Ok(found)
}

fn judge_idempotency_key<'a>(head: &Head<'_>, headers: &Headers<'a>) -> Judged<Option<&'a str>> {
    let place = head.vendor.pack.headers.idempotency;
    let Some(value) = one_value(head, headers, place)? else {
        return Ok(None);
    };
    let most = head.vendor.pack.idempotency().max_key_length;
    printable(value, most).map(Some).ok_or_else(|| {
        let name = headers.name(place);
        let message = format!("{name} must be 1 to {most} printable ASCII characters");
        inspect(head, Some(name), message)
    })
}

/// At most one account header, once.
fn judge_account<'a>(head: &Head<'_>, headers: &Headers<'a>) -> Judged<Option<&'a str>> {
    let mut found = None;
    for place in &head.vendor.pack.headers.account {
        let Some(value) = one_value(head, headers, *place)? else {
            continue;
        };
        let name = Some(headers.name(*place));
        let account = printable(value, 255).filter(|account| !account.contains([' ', ',']));
        match (account, &found) {
            (Some(account), None) => found = Some(account),
            (Some(_), Some(_)) => {
                return Err(inspect(head, name, "this request names a second account"));
            }
            (None, _) => {
                return Err(inspect(
                    head,
                    name,
                    "this header is not the id of one account",
                ));
            }
        }
    }
    Ok(found)
}

/// The caller's headers that the pack lets through, each at most once.
fn judge_forward<'a>(head: &Head<'a>, headers: &Headers<'a>) -> Judged<Vec<(&'a str, &'a [u8])>> {
    let places = &head.vendor.pack.headers.forward;
    let mut kept = Vec::with_capacity(places.len());
    for place in places {
        let Some(Value { bytes, text }) = one_value(head, headers, *place)? else {
            continue;
        };
        let control = match text {
            Text::Printable => false,
            Text::Control => true,
            Text::NotAscii => bytes.iter().any(u8::is_ascii_control),
        };
        let name = headers.name(*place);
        if control || secret::holds_vault_key(bytes) {
            return Err(inspect(
                head,
                Some(name),
                format!("{name} has a control character or a vault key"),
            ));
        }
        kept.push((name, bytes));
    }
    Ok(kept)
}

pub(super) fn one_value<'a>(
    head: &Head<'_>,
    headers: &Headers<'a>,
    place: Place,
) -> Judged<Option<Value<'a>>> {
    headers.one(place).map_err(|Repeated| {
        let name = headers.name(place);
        inspect(head, Some(name), format!("{name} stands more than once"))
    })
}

#[cold]
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

pub(super) fn turned(
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
            "what was presented is not a vault key: that begins with vault_key_, and has a checksum",
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
