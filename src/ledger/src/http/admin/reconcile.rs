//! `/admin/requests/reconcile`: asks the reconciler for a pass, and shows what came of the last one.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;

use crate::http::credentials::Role;
use crate::http::problem::{Kind, Problem};
use crate::http::query::Query;
use crate::http::{Api, json, json_with};
use crate::reconcile::Reconciler;

#[derive(Serialize)]
struct Asked {
    pass: u64,
}

/// Asks for a pass that begins after this, and answers its number at once.
///
/// # Errors
/// The problem to answer instead.
pub async fn ask(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let reconciler = reconciler(&api, &headers, &uri)?;
    let pass = reconciler.ask();
    Ok(json_with(StatusCode::ACCEPTED, &Asked { pass }))
}

/// Shows how far a pass has come and what came of the last one.
///
/// # Errors
/// The problem to answer instead.
pub async fn show(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let reconciler = reconciler(&api, &headers, &uri)?;
    Ok(json(&reconciler.shown()))
}

fn reconciler<'a>(api: &'a Api, headers: &HeaderMap, uri: &Uri) -> Result<&'a Reconciler, Problem> {
    api.credentials.authorize(headers, Role::Admin)?;
    Query::read(uri.query(), &[]).finish()?;
    api.reconciler.as_ref().ok_or_else(|| {
        Problem::new(
            Kind::Conflict,
            "this ledger has no reconciler: start it with --reconcile-url; nothing was done",
        )
    })
}
