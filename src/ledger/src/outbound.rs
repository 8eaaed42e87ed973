//! Calls to other HTTP servers: their addresses, as settings name them, and why a call came to nothing.

use axum::http::Uri;
use axum::http::uri::Authority;

/// `http://HOST[:PORT]`: without credentials, path or query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

/// Not such a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be http://HOST[:PORT]")]
pub struct InvalidBaseUrl;

impl BaseUrl {
    /// Reads one.
    ///
    /// # Errors
    /// [`InvalidBaseUrl`].
    pub fn parse(text: &str) -> Result<Self, InvalidBaseUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidBaseUrl)?;
        let authority = uri.authority().ok_or(InvalidBaseUrl)?;
        let is_plain = uri.scheme_str() == Some("http")
            && is_host_and_port(authority)
            && uri.path() == "/"
            && uri.query().is_none()
            && !text.contains('#');
        is_plain
            .then(|| Self(text.trim_end_matches('/').to_owned()))
            .ok_or(InvalidBaseUrl)
    }

    /// Without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether this is `HOST[:PORT]`, without credentials and with a port that there is: 80 would take the place of another.
#[must_use]
pub fn is_host_and_port(authority: &Authority) -> bool {
    let text = authority.as_str();
    let after_host = text.strip_prefix(authority.host());
    !authority.host().is_empty()
        && after_host.is_some_and(|port| port.is_empty() || authority.port_u16().is_some())
}

/// The cause at the bottom of an error: "connection refused" rather than "client error".
#[must_use]
pub fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_plain_http_listener() {
        for (text, expected) in [
            ("http://127.0.0.1:10000", Some("http://127.0.0.1:10000")),
            ("http://envoy/", Some("http://envoy")),
            ("https://127.0.0.1:10000", None),
            ("http://u:p@h", None),
            ("http://h/stripe", None),
            ("http://h?x", None),
            ("http://h#x", None),
            ("http://h:99999", None),
            ("http://h:x", None),
            ("http://:9901", None),
            ("http://[::1]:9901", Some("http://[::1]:9901")),
            ("127.0.0.1:10000", None),
            ("", None),
        ] {
            let base = BaseUrl::parse(text).ok().map(|BaseUrl(text)| text);
            assert_eq!(base.as_deref(), expected, "{text}");
        }
    }
}
