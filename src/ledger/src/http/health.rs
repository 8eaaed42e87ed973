//! `GET /healthz`, `/readyz`, `/metrics`, `/openapi.json`: about the service itself, for anybody who can reach the port.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::engine::Readiness;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::{Api, json, json_with, openapi};
use crate::metrics;
use crate::reconcile::Reconciler;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

/// The service lives.
///
/// # Errors
/// 400 for query parameters.
pub async fn healthz(uri: Uri) -> Result<Response, Problem> {
    Query::read(uri.query(), &[]).finish()?;
    Ok(json(&Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    }))
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<String>,
}

/// Commands are taken, or why not.
///
/// # Errors
/// 400 for query parameters.
pub async fn readyz(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    Query::read(uri.query(), &[]).finish()?;
    let mut reasons = Vec::new();
    match api.ledger.readiness() {
        Readiness::Ready => {}
        Readiness::ClockBehind { behind_ms } => {
            reasons.push(format!(
                "the clock is {behind_ms} ms behind the last audit event"
            ));
        }
        Readiness::Unreachable { why } => {
            reasons.push(format!("the database cannot be reached: {why}"));
        }
        Readiness::Failed { why } => reasons.push(format!("the store failed: {why}")),
        Readiness::Closing => reasons.push("the ledger is closing".to_owned()),
    }
    if api.is_stopping() && reasons.is_empty() {
        reasons.push("the ledger is stopping".to_owned());
    }
    if let Some(gates) = &api.gates {
        reasons.extend(gates.faults());
    }
    let ready = reasons.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok(json_with(status, &Ready { ready, reasons }))
}

/// Figures in the Prometheus text format.
///
/// # Errors
/// 400 for query parameters.
pub async fn metrics(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    Query::read(uri.query(), &[]).finish()?;
    let text = metrics::render(
        &api.ledger.figures().await,
        &api.ledger.readiness(),
        &api.requests,
        api.reconciler.as_ref().map(Reconciler::counts),
    );
    let headers = [
        (CONTENT_TYPE, metrics::CONTENT_TYPE),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, text).into_response())
}

/// The description of this API.
///
/// # Errors
/// 400 for query parameters.
pub async fn openapi(uri: Uri) -> Result<Response, Problem> {
    Query::read(uri.query(), &[]).finish()?;
    Ok(([(CONTENT_TYPE, "application/json")], openapi::DOCUMENT).into_response())
}
