//! What the headers say about the message itself: its size, its type, and what belongs to one hop only.

use keybrake_contract::refusal::RefusalCode;

use crate::config::PluginConfig;
use crate::pack::{BodyEncoding, at};

use super::head::{Announced, ContentType, Head, Judged, inspect, one_value};
use super::headers::Headers;

/// Most bytes in all headers together.
const MAX_HEADER_BYTES: usize = 60 * 1024;

/// Sizes, hop-by-hop headers and a second host.
pub(super) fn check_framing(head: &Head<'_>, headers: &Headers<'_>) -> Judged<()> {
    if headers.bytes > MAX_HEADER_BYTES {
        return Err(inspect(
            head,
            None,
            "the headers are longer than 60 KiB together",
        ));
    }
    for pseudo in [at::METHOD, at::PATH, at::AUTHORITY] {
        if !matches!(headers.one(pseudo), Ok(Some(_))) {
            let message = format!("{} must stand exactly once", headers.name(pseudo));
            return Err(inspect(head, None, message));
        }
    }
    let authority = headers.first(at::AUTHORITY).unwrap_or_default();
    // Envoy makes one value of two Host headers, with a comma.
    let of_a_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    if !authority.iter().all(of_a_host) {
        return Err(inspect(
            head,
            Some("host"),
            "the host header is not one host",
        ));
    }
    if headers
        .all(at::HOST)
        .any(|host| !host.eq_ignore_ascii_case(authority))
    {
        return Err(inspect(
            head,
            Some("host"),
            "the host header names another host than :authority",
        ));
    }
    for value in headers
        .all(at::CONNECTION)
        .chain(headers.all(at::PROXY_CONNECTION))
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
                "the connection header names a header of the request",
            ));
        }
    }
    Ok(())
}

pub(super) fn judge_length(
    head: &Head<'_>,
    config: &PluginConfig,
    headers: &Headers<'_>,
) -> Judged<Announced> {
    let chunked = one_value(head, headers, at::TRANSFER_ENCODING)?;
    let length = one_value(head, headers, at::CONTENT_LENGTH)?;
    match (chunked, length) {
        (None, None) => Ok(Announced::Nothing),
        (Some(value), None) if value.bytes.eq_ignore_ascii_case(b"chunked") => {
            Ok(Announced::UnknownLength)
        }
        (Some(_), _) => Err(inspect(
            head,
            Some("transfer-encoding"),
            "transfer-encoding must be chunked, without content-length",
        )),
        (None, Some(value)) => {
            let length = std::str::from_utf8(value.bytes)
                .ok()
                .filter(|text| text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| {
                    inspect(
                        head,
                        Some("content-length"),
                        "content-length is not a number",
                    )
                })?;
            if length > u64::from(config.max_request_bytes) {
                return Err(head.turn(RefusalCode::RequestTooLarge, None, too_large(config)));
            }
            Ok(Announced::Length(length))
        }
    }
}

pub(super) fn too_large(config: &PluginConfig) -> String {
    format!("the body is longer than {} bytes", config.max_request_bytes)
}

/// The type of a write's body. Reads have no body, so their type says nothing.
pub(super) fn judge_type(head: &Head<'_>, headers: &Headers<'_>) -> Judged<ContentType> {
    let refuse = |name: &str, message: &str| {
        head.turn(
            RefusalCode::EncodingNotAccepted,
            Some(name.to_owned()),
            message,
        )
    };
    if headers.first(at::CONTENT_ENCODING).is_some() {
        return Err(refuse(
            "content-encoding",
            "the body must not be compressed or encoded",
        ));
    }
    if head.method == "GET" {
        return Ok(ContentType::Absent);
    }
    let mut values = headers.all(at::CONTENT_TYPE);
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
