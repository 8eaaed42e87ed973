//! Detached calls to a vendor: how one is put together, and what Envoy's end of it means.

use keybrake_policy::config::Vendor;
use keybrake_policy::life::effect::{VendorCall, VendorFailure};
use keybrake_policy::outcome::VendorAnswer;

/// The vendor's cluster puts this header with the value `1` on every answer of the vendor. Envoy's own answers lack it.
pub const UPSTREAM_MARK: &str = "keybrake-upstream";

/// How Envoy's text for a call that found no connection begins. Nothing was sent: a connection that was refused or was
/// not made in time, a TLS handshake that failed, a circuit breaker.
const NOT_SENT: [&str; 3] = [
    "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
    "upstream connect error or disconnect/reset before headers. reset reason: overflow",
];

/// How a detached call ended.
pub enum Ended<'a> {
    /// The vendor answered.
    Answered(VendorAnswer<'a>),
    /// It did not.
    Failed(VendorFailure),
}

/// Tells the vendor's answers from what Envoy says in its place. When in doubt the call may have been executed.
#[must_use]
pub fn ended<'a>(headers: &'a [(Vec<u8>, Vec<u8>)], body: &'a [u8]) -> Ended<'a> {
    let value = |wanted: &str| {
        headers
            .iter()
            .find(|(name, _)| name == wanted.as_bytes())
            .map(|(_, value)| value.as_slice())
    };
    let status = value(":status")
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.parse().ok());
    let Some(status) = status else {
        return Ended::Failed(VendorFailure::Broken);
    };
    if value(UPSTREAM_MARK) == Some(b"1") {
        return Ended::Answered(VendorAnswer {
            status,
            headers,
            body,
        });
    }
    let nothing_sent = || {
        NOT_SENT
            .iter()
            .any(|text| body.starts_with(text.as_bytes()))
    };
    Ended::Failed(match status {
        503 if nothing_sent() => VendorFailure::NotSent,
        504 => VendorFailure::TimedOut,
        _ => VendorFailure::Broken,
    })
}

/// The headers of a detached call, pseudo headers included. `None`: one of them cannot be sent, so nothing may be.
pub(crate) fn headers(vendor: &Vendor, call: &VendorCall) -> Option<Vec<(String, String)>> {
    let permit = call.permit();
    let mut headers = vec![
        (":method".to_owned(), permit.method().to_owned()),
        (":path".to_owned(), permit.path_and_query()),
        (":authority".to_owned(), vendor.authority.clone()),
        (":scheme".to_owned(), "https".to_owned()),
    ];
    for (name, value) in permit.headers_to_send(call.hold().id()) {
        headers.push((name, String::from_utf8(value).ok()?));
    }
    Some(headers)
}
