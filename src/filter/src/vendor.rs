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

/// What of a detached call's headers is put together for it.
pub(crate) struct Made {
    path: String,
    hold: String,
}

impl Made {
    pub(crate) fn of(call: &VendorCall) -> Self {
        Self {
            path: call.permit().path_and_query(),
            hold: call.hold().id().to_string(),
        }
    }

    /// The headers of the call, pseudo headers included. `None`: one of them cannot be sent, so nothing may be.
    pub(crate) fn headers<'a>(
        &'a self,
        vendor: &'a Vendor,
        call: &'a VendorCall,
    ) -> Option<Vec<(&'a str, &'a str)>> {
        let permit = call.permit();
        let mut headers = vec![
            (":method", permit.method()),
            (":path", self.path.as_str()),
            (":authority", vendor.authority.as_str()),
            (":scheme", "https"),
        ];
        for (name, value) in permit.headers_to_send(&self.hold) {
            headers.push((name, std::str::from_utf8(value).ok()?));
        }
        Some(headers)
    }
}
