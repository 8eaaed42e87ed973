//! The command socket: `POST /internal/v1/commands`, the hot path between filter and ledger.
//!
//! Here: who may send, the bounds of a batch, taking it apart, the marker header. Not here: what a command does
//! (`engine`). Each command is parsed and digested on the connection's own task, so that the writer only writes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use keybrake_contract::wire::Results;
use keybrake_contract::{
    BATCH_MAX_BYTES, BATCH_MAX_COMMANDS, COMMANDS_PATH, LEDGER_HEADER, LEDGER_HEADER_VALUE,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::engine::Received;
use crate::http::Api;

/// For the whole body of a batch.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A batch, taken apart into its commands' texts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch<'a> {
    #[serde(borrow)]
    commands: Vec<&'a RawValue>,
}

/// Why a batch was not executed. Nothing of it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rejected {
    NotFound,
    MethodNotAllowed,
    Unauthenticated,
    Unreadable,
    TooManyCommands,
    TooLarge,
    TimedOut,
    Unavailable,
}

impl Rejected {
    const fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "{\"error\":\"not_found\"}"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "{\"error\":\"method_not_allowed\"}",
            ),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "{\"error\":\"unauthenticated\"}"),
            Self::Unreadable => (StatusCode::BAD_REQUEST, "{\"error\":\"batch_unreadable\"}"),
            Self::TooManyCommands => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "{\"error\":\"too_many_commands\"}",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "{\"error\":\"batch_too_large\"}",
            ),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, "{\"error\":\"body_too_slow\"}"),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "{\"error\":\"unavailable\"}",
            ),
        }
    }
}

/// Serves the command route and nothing else.
#[derive(Clone)]
pub struct Commands {
    api: Arc<Api>,
}

impl Commands {
    /// On this ledger.
    #[must_use]
    pub const fn new(api: Arc<Api>) -> Self {
        Self { api }
    }
}

impl Service<Request<Incoming>> for Commands {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let api = Arc::clone(&self.api);
        Box::pin(async move {
            let answer = answer(&api, request).await;
            Ok(match answer {
                Ok(body) => respond(StatusCode::OK, Body::from(body)),
                Err(rejected) => {
                    api.requests.rejected_batches(rejected.answer().0);
                    let (status, body) = rejected.answer();
                    tracing::debug!(status = status.as_u16(), "batch not executed");
                    respond(status, Body::from(body))
                }
            })
        })
    }
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(LEDGER_HEADER, HeaderValue::from_static(LEDGER_HEADER_VALUE));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    response
}

async fn answer(api: &Api, request: Request<Incoming>) -> Result<Vec<u8>, Rejected> {
    let (head, body) = request.into_parts();
    if head.uri.path() != COMMANDS_PATH {
        return Err(Rejected::NotFound);
    }
    if head.method != Method::POST {
        return Err(Rejected::MethodNotAllowed);
    }
    if !api.credentials.is_internal(&head.headers) {
        return Err(Rejected::Unauthenticated);
    }
    if declared_length(&head.headers).is_some_and(|length| length > BATCH_MAX_BYTES) {
        return Err(Rejected::TooLarge);
    }
    let commands = split(&read(body).await?)?;
    match api.ledger.execute(commands).await {
        Ok(results) => serde_json::to_vec(&Results { results }).map_err(|_| Rejected::Unavailable),
        Err(unavailable) => {
            tracing::debug!(%unavailable, "batch not executed");
            Err(Rejected::Unavailable)
        }
    }
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read(body: Incoming) -> Result<Bytes, Rejected> {
    let whole = Limited::new(body, BATCH_MAX_BYTES).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Err(_) => Err(Rejected::TimedOut),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Rejected::TooLarge),
        Ok(Err(_)) => Err(Rejected::Unreadable),
    }
}

fn split(body: &[u8]) -> Result<Vec<Received>, Rejected> {
    let RawBatch { commands } = serde_json::from_slice(body).map_err(|_| Rejected::Unreadable)?;
    if commands.len() > BATCH_MAX_COMMANDS {
        return Err(Rejected::TooManyCommands);
    }
    Ok(commands.into_iter().map(Received::read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_an_object_with_commands_and_nothing_else() {
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"commands":{}}"#,
            r#"{"commands":[],"x":1}"#,
            r#"{"commands":[]} {}"#,
            r#"{"commands":[nope]}"#,
            r#"{"commands":[],"commands":[]}"#,
        ] {
            assert_eq!(
                split(wrong.as_bytes()).err(),
                Some(Rejected::Unreadable),
                "{wrong}"
            );
        }
        assert_eq!(split(br#"{"commands":[]}"#).unwrap().len(), 0);
    }

    #[test]
    fn one_command_too_many_is_too_many() {
        let of = |count: usize| format!(r#"{{"commands":[{}]}}"#, vec!["{}"; count].join(","));
        assert_eq!(split(of(256).as_bytes()).unwrap().len(), 256);
        assert_eq!(
            split(of(257).as_bytes()).err(),
            Some(Rejected::TooManyCommands)
        );
    }

    #[test]
    fn an_unreadable_command_does_not_spoil_the_batch() {
        let batch = r#"{"commands":[{"release":{"id":"0123456789abcdef0123456789abcdef0000000000000001",
            "reserve":"0123456789abcdef0123456789abcdef0000000000000002","cause":"client_gone"}},{"nope":{}}]}"#;
        let commands = split(batch.as_bytes()).unwrap();
        assert!(matches!(commands[0], Received::Command { .. }));
        assert!(matches!(commands[1], Received::Unreadable { .. }));
    }
}
