//! The ledger over HTTP: the public API (admin, audit, health) and the command socket.
//!
//! Here: routes, bounds, credentials, JSON of the public API. Not here: what is done (`engine`), how a request is
//! priced or a cap is kept (`book`).

pub mod admin;
pub mod audit;
pub mod commands;
pub mod credentials;
pub mod fields;
pub mod health;
pub mod listen;
pub mod openapi;
pub mod problem;
pub mod query;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use tokio::sync::{Mutex, Semaphore};

use crate::clock::Clock;
use crate::doctor::GateWatch;
use crate::engine::{Ledger, QueryError, Unavailable};
use crate::http::credentials::Credentials;
use crate::http::problem::{Kind, Problem};
use crate::metrics::Requests;
use crate::reconcile::Reconciler;
use crate::vendors::Vendors;

/// Largest body of an admin request: a thousand keys with all their metadata.
pub const MAX_BODY: usize = 8 * 1024 * 1024;
/// For the whole body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// For a request as a whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Most requests at work at a time; more are turned away.
const MAX_REQUESTS: usize = 256;

/// What every route works on.
pub struct Api {
    /// The ledger.
    pub ledger: Ledger,
    /// The service credentials.
    pub credentials: Arc<Credentials>,
    /// The vendor packs.
    pub vendors: Vendors,
    /// The ledger's clock.
    pub clock: Clock,
    /// The reconciler, when there is one.
    pub reconciler: Option<Reconciler>,
    /// The gates whose proof is a condition of readiness, when there are any.
    pub gates: Option<GateWatch>,
    /// Counts of what was turned away before the ledger saw it.
    pub requests: Requests,
    /// Held while a key is read, merged with a change and written: this service is the only writer of its database.
    pub changing: Mutex<()>,
    at_work: Semaphore,
    stopping: AtomicBool,
}

impl Api {
    /// An API on this ledger.
    #[must_use]
    pub fn new(
        ledger: Ledger,
        credentials: Arc<Credentials>,
        vendors: Vendors,
        clock: Clock,
    ) -> Self {
        Self {
            ledger,
            credentials,
            vendors,
            clock,
            reconciler: None,
            gates: None,
            requests: Requests::default(),
            changing: Mutex::new(()),
            at_work: Semaphore::new(MAX_REQUESTS),
            stopping: AtomicBool::new(false),
        }
    }

    /// With this reconciler.
    #[must_use]
    pub fn with(self, reconciler: Option<Reconciler>) -> Self {
        Self { reconciler, ..self }
    }

    /// Ready only while these gates are proven.
    #[must_use]
    pub fn behind(self, gates: Option<GateWatch>) -> Self {
        Self { gates, ..self }
    }

    /// From here on `/readyz` says no.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether [`Api::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// Every path of the public API with its handlers. The OpenAPI document is compared with this list.
#[must_use]
pub fn routes() -> Vec<(&'static str, MethodRouter<Arc<Api>>)> {
    vec![
        ("/admin/vault_keys", post(admin::issue).get(admin::list)),
        ("/admin/vault_keys/revoke", post(admin::revoke_many)),
        (
            "/admin/vault_keys/{key_id}",
            get(admin::show).patch(admin::change).delete(admin::revoke),
        ),
        ("/admin/requests", get(admin::requests::list)),
        (
            "/admin/requests/reconcile",
            post(admin::reconcile::ask).get(admin::reconcile::show),
        ),
        (
            "/admin/requests/{id}/resolve",
            post(admin::requests::resolve),
        ),
        (
            "/admin/vault_keys/{key_id}/statement",
            get(admin::statements::of_key),
        ),
        (
            "/admin/budgets",
            post(admin::budgets::create).get(admin::budgets::list),
        ),
        (
            "/admin/budgets/{name}",
            get(admin::budgets::show).patch(admin::budgets::change),
        ),
        (
            "/admin/budgets/{name}/statement",
            get(admin::statements::of_budget),
        ),
        ("/audit", get(audit::list)),
        ("/healthz", get(health::healthz)),
        ("/readyz", get(health::readyz)),
        ("/metrics", get(health::metrics)),
        ("/openapi.json", get(health::openapi)),
    ]
}

/// The public API. It has nothing under `/internal`.
pub fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    for (path, handlers) in routes() {
        router = router.route(path, handlers);
    }
    router
        .fallback(|| async { Problem::new(Kind::NotFound, "no such path; see /openapi.json") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                Kind::MethodNotAllowed,
                "the path exists; see the Allow header for its methods",
            )
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&api), bound))
        .with_state(api)
}

/// Bounds how many requests are at work and for how long.
async fn bound(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = api.at_work.try_acquire() else {
        return Problem::new(
            Kind::Unavailable,
            "too many requests at a time; nothing was done",
        )
        .into_response();
    };
    let response = match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            Kind::Internal,
            "no answer in time; look up whether it was done before you ask again",
        )
        .into_response(),
    };
    api.requests.answered(response.status());
    response
}

/// The whole JSON body of a request, within bounds.
///
/// # Errors
/// 413, 415, 408, 400.
pub async fn body(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let json = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if !json {
        let detail = "send `content-type: application/json`";
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
    }
    if headers.contains_key(CONTENT_ENCODING) {
        let detail = "send the body as it is, without content-encoding";
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
    }
    let too_large = || Problem::new(Kind::TooLarge, format!("at most {MAX_BODY} bytes"));
    let declared: Option<usize> = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Err(_) => Err(Problem::new(
            Kind::TimedOut,
            "the body did not arrive in time; nothing was done",
        )),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(
            Kind::InvalidRequest,
            "the body broke off; nothing was done",
        )),
    }
}

/// A JSON answer that nobody keeps.
pub fn json_with(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = (status, body).into_response();
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(_) => Problem::new(Kind::Internal, "the answer could not be written").into_response(),
    }
}

/// A JSON answer, 200.
pub fn json(value: &impl Serialize) -> Response {
    json_with(StatusCode::OK, value)
}

/// The problem of a list that was not given.
#[must_use]
pub fn no_list(error: QueryError) -> Problem {
    match error {
        QueryError::Unavailable(error) => unavailable(error),
        QueryError::InvalidCursor => Problem::invalid_field("cursor", error.to_string()),
    }
}

/// The problem of a ledger that did not do it.
#[must_use]
pub fn unavailable(error: Unavailable) -> Problem {
    let detail = match error {
        Unavailable::Failed | Unavailable::InDoubt => {
            format!("{error}; look up whether it was done before you ask again")
        }
        Unavailable::Busy
        | Unavailable::ClockBehind
        | Unavailable::Closing
        | Unavailable::Unreachable => {
            format!("{error}; nothing was done")
        }
    };
    Problem::new(Kind::Unavailable, detail)
}
