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
use super::{RawRequest, Turned, TurnedKey, path, secret};

/// Most bytes in all headers together.
const MAX_HEADER_BYTES: usize = 60 * 1024;
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

type Judged<T> = Result<T, Box<Turned>>;

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

/// Whether any header has bytes that are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotText {
    Found,
    None,
}

/// The headers, looked up by lower-case name. There are few, so a walk beats an index.
#[derive(Clone, Copy)]
struct Headers<'a>(&'a [(Vec<u8>, Vec<u8>)]);

impl<'a> Headers<'a> {
    fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(have, _)| have == name.as_bytes())
            .map(|(_, value)| value.as_slice())
    }

    fn first(self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    fn all_text(self) -> NotText {
        let fine = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        if self.0.iter().all(|(name, value)| fine(name) && fine(value)) {
            NotText::None
        } else {
            NotText::Found
        }
    }
}

/// By path prefix, else by host, else by listener.
fn find_vendor<'c, 'a>(
    config: &'c PluginConfig,
    headers: Headers<'a>,
) -> Judged<(usize, &'c Vendor, &'a [u8])> {
    let target = headers.first(":path").unwrap_or_default();
    let host = headers.first(":authority").and_then(host_name);
    let by_prefix = config
        .vendors
        .iter()
        .enumerate()
        .find_map(|(position, vendor)| {
            let rest = target.strip_prefix(vendor.prefix.as_ref()?.as_bytes())?;
            rest.starts_with(b"/").then_some((position, vendor, rest))
        });
    let by_host = host.as_ref().and_then(|host| {
        let mut vendors = config.vendors.iter().enumerate();
        vendors.find(|(_, vendor)| vendor.hosts.iter().any(|have| have == host))
    });
    match (by_prefix, by_host) {
        // A path for one vendor and a host of another.
        (Some((position, _, _)), Some((other, _))) if position != other => {
            Err(Box::new(no_vendor()))
        }
        (Some(found), _) => Ok(found),
        (None, Some((position, vendor))) => Ok((position, vendor, target)),
        (None, None) => config
            .vendors
            .iter()
            .enumerate()
            .find(|(_, vendor)| vendor.hosts.iter().any(|have| have == "*"))
            .map(|(position, vendor)| (position, vendor, target))
            .ok_or_else(|| {
                Box::new(if is_tunnel(headers) {
                    tunnel()
                } else {
                    no_vendor()
                })
            }),
    }
}

/// `API.stripe.com:443` → `api.stripe.com`; `None` when it is not a plain host.
fn host_name(authority: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(authority).ok()?.to_ascii_lowercase();
    let host = match text.split_once(':') {
        None => text,
        Some((host, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            host.to_owned()
        }
        Some(_) => return None,
    };
    crate::pack::is_host(&host).then_some(host)
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

/// Sizes, hop-by-hop headers and a second host.
fn check_framing(head: &Head<'_>, headers: Headers<'_>) -> Judged<()> {
    let bytes: usize = headers
        .0
        .iter()
        .map(|(name, value)| name.len().saturating_add(value.len()))
        .fold(0, usize::saturating_add);
    if bytes > MAX_HEADER_BYTES {
        return Err(inspect(
            head,
            None,
            "the headers are longer than 60 KiB together",
        ));
    }
    for pseudo in [":method", ":path", ":authority"] {
        if headers.all(pseudo).count() != 1 {
            return Err(inspect(
                head,
                None,
                format!("{pseudo} must stand exactly once"),
            ));
        }
    }
    let authority = headers.first(":authority").unwrap_or_default();
    if headers
        .all("host")
        .any(|host| !host.eq_ignore_ascii_case(authority))
    {
        return Err(inspect(
            head,
            Some("host"),
            "names another host than :authority",
        ));
    }
    for value in headers
        .all("connection")
        .chain(headers.all("proxy-connection"))
    {
        let odd = value
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            .any(|token| {
                !["", "keep-alive", "close", "upgrade", "te"]
                    .iter()
                    .any(|fine| token.eq_ignore_ascii_case(fine.as_bytes()))
            });
        if odd {
            return Err(inspect(
                head,
                Some("connection"),
                "names a header of the request",
            ));
        }
    }
    Ok(())
}

fn is_tunnel(headers: Headers<'_>) -> bool {
    headers.first(":method") == Some(b"CONNECT")
        || headers.first("upgrade").is_some()
        || headers.first(":protocol").is_some()
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

fn judge_length(head: &Head<'_>, config: &PluginConfig, headers: Headers<'_>) -> Judged<Announced> {
    let chunked = one_value(head, headers, "transfer-encoding")?;
    let length = one_value(head, headers, "content-length")?;
    match (chunked, length) {
        (None, None) => Ok(Announced::Nothing),
        (Some(value), None) if value.eq_ignore_ascii_case(b"chunked") => {
            Ok(Announced::UnknownLength)
        }
        (Some(_), _) => Err(inspect(
            head,
            Some("transfer-encoding"),
            "only chunked, without content-length",
        )),
        (None, Some(value)) => {
            let length = std::str::from_utf8(value)
                .ok()
                .filter(|text| text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| inspect(head, Some("content-length"), "is not a number"))?;
            if length > u64::from(config.max_request_bytes) {
                return Err(too_large(head, config));
            }
            Ok(Announced::Length(length))
        }
    }
}

pub(super) fn too_large(head: &Head<'_>, config: &PluginConfig) -> Box<Turned> {
    let message = format!("the body is longer than {} bytes", config.max_request_bytes);
    head.turn(RefusalCode::RequestTooLarge, None, message)
}

/// The type of a write's body. Reads have no body, so their type says nothing.
fn judge_type(head: &Head<'_>, headers: Headers<'_>) -> Judged<ContentType> {
    let refuse = |name: &str, message: &str| {
        head.turn(
            RefusalCode::EncodingNotAccepted,
            Some(name.to_owned()),
            message,
        )
    };
    if headers.first("content-encoding").is_some() {
        return Err(refuse(
            "content-encoding",
            "the body must not be compressed or encoded",
        ));
    }
    if head.known.facts.method == "GET" {
        return Ok(ContentType::Absent);
    }
    let mut values = headers.all("content-type");
    let Some(value) = values.next() else {
        return Ok(ContentType::Absent);
    };
    let wanted = match head.encoding {
        BodyEncoding::Form => "application/x-www-form-urlencoded",
        BodyEncoding::Json => "application/json",
    };
    if values.next().is_none() && is_type(value, wanted) {
        Ok(ContentType::Accepted)
    } else {
        Err(refuse(
            "content-type",
            &format!("only {wanted} in UTF-8 is accepted here"),
        ))
    }
}

/// The type, alone or with `charset=utf-8`.
fn is_type(value: &[u8], wanted: &str) -> bool {
    let (essence, parameter) = match value.iter().position(|byte| *byte == b';') {
        None => (value, None),
        Some(at) => (
            value.get(..at).unwrap_or_default(),
            value.get(at.saturating_add(1)..),
        ),
    };
    essence.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
        && parameter.is_none_or(|parameter| {
            let parameter = parameter.trim_ascii();
            parameter.eq_ignore_ascii_case(b"charset=utf-8")
                || parameter.eq_ignore_ascii_case(b"charset=\"utf-8\"")
        })
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

fn one_value<'a>(head: &Head<'_>, headers: Headers<'a>, name: &str) -> Judged<Option<&'a [u8]>> {
    let mut values = headers.all(name);
    let value = values.next();
    if values.next().is_some() {
        return Err(inspect(head, Some(name), "stands more than once"));
    }
    Ok(value)
}

fn inspect(head: &Head<'_>, param: Option<&str>, message: impl Into<String>) -> Box<Turned> {
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

fn no_vendor() -> Turned {
    Turned {
        code: RefusalCode::HostNotAllowed,
        param: None,
        message: "no configured vendor has this host or path".to_owned(),
        vendor: None,
        known: None,
        counted: CountedReason::HostNotAllowed,
    }
}

/// CONNECT has no path and its host is the far end: it belongs to no vendor.
fn tunnel() -> Turned {
    Turned {
        code: RefusalCode::EndpointNotAllowed,
        message: "tunnels and upgrades are not allowed".to_owned(),
        ..no_vendor()
    }
}
