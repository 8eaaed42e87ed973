//! Reads of a vendor through Envoy's listener: GET alone, bounded in time and size, never repeated.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING};
use axum::http::{HeaderValue, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::model::SecretText;

/// For one read as a whole.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is kept from one page to the next, not from one pass to the next.
const IDLE: Duration = Duration::from_secs(5);
/// Largest answer.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Where Envoy's listener for every vendor is: `http://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base(String);

/// Not such a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reconcile URL must be http://HOST[:PORT], Envoy's listener for every vendor")]
pub struct InvalidBase;

impl Base {
    /// Reads one.
    ///
    /// # Errors
    /// [`InvalidBase`].
    pub fn parse(text: &str) -> Result<Self, InvalidBase> {
        let uri: Uri = text.parse().map_err(|_| InvalidBase)?;
        let is_plain = uri.scheme_str() == Some("http")
            && uri
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.path() == "/"
            && uri.query().is_none();
        is_plain
            .then(|| Self(text.trim_end_matches('/').to_owned()))
            .ok_or(InvalidBase)
    }
}

/// Why a read came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No answer.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// Another status than 200.
    #[error("answered {0}")]
    Status(u16),
    /// The answer broke off or is too large.
    #[error("the answer broke off or is too large")]
    Cut,
    /// It is compressed, which nobody asked for.
    #[error("the answer is encoded")]
    Encoded,
}

/// Reads through one listener.
pub struct Calls {
    base: Base,
    client: HttpClient<HttpConnector, Empty<Bytes>>,
}

impl Calls {
    /// Through this listener.
    pub fn new(base: Base) -> Self {
        Self {
            base,
            client: HttpClient::builder(TokioExecutor::new())
                .pool_max_idle_per_host(1)
                .pool_idle_timeout(IDLE)
                .pool_timer(TokioTimer::new())
                .build_http(),
        }
    }

    /// The whole body of a 200.
    pub async fn get(
        &self,
        secret: &SecretText,
        run_id: &str,
        vendor: &str,
        path: &str,
        query: &str,
    ) -> Result<Bytes, ReadError> {
        let Base(base) = &self.base;
        let mark = if query.is_empty() { "" } else { "?" };
        let unreadable = |_| ReadError::Unreachable("the request cannot be written".to_owned());
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))
            .map_err(|_| ReadError::Unreachable("the key cannot be written".to_owned()))?;
        bearer.set_sensitive(true);
        let request = Request::get(format!("{base}/{vendor}{path}{mark}{query}"))
            .header(AUTHORIZATION, bearer)
            .header("x-agent-run-id", run_id)
            .body(Empty::new())
            .map_err(unreadable)?;
        tokio::time::timeout(TIMEOUT, self.exchange(request))
            .await
            .map_err(|_| ReadError::TimedOut)?
    }

    async fn exchange(&self, request: Request<Empty<Bytes>>) -> Result<Bytes, ReadError> {
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| ReadError::Unreachable(deepest(&error)))?;
        if response.status() != StatusCode::OK {
            return Err(ReadError::Status(response.status().as_u16()));
        }
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err(ReadError::Encoded);
        }
        Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .map_err(|_| ReadError::Cut)
    }
}

/// The cause at the bottom: "connection refused" rather than "client error".
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
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
            ("127.0.0.1:10000", None),
            ("", None),
        ] {
            let base = Base::parse(text).ok().map(|Base(text)| text);
            assert_eq!(base.as_deref(), expected, "{text}");
        }
    }
}
