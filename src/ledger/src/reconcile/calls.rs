//! Reads of a vendor through Envoy's listener: GET alone, bounded in time and size, never repeated.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING};
use axum::http::{HeaderValue, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::model::SecretText;
use crate::outbound::{BaseUrl, deepest};

/// For one read as a whole.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is kept from one page to the next, not from one pass to the next.
const IDLE: Duration = Duration::from_secs(5);
/// Largest answer.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

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
    base: BaseUrl,
    client: HttpClient<HttpConnector, Empty<Bytes>>,
}

impl Calls {
    /// Through this listener.
    pub fn new(base: BaseUrl) -> Self {
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
        let base = self.base.as_str();
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
