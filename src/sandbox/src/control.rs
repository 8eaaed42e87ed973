//! The control API: counts, the request log, faults, raw objects, reset. Plain HTTP on loopback, never counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::book::Totals;
use crate::exchange::Shop;
use crate::faults::FaultOrder;
use crate::wire::Meter;

/// What the control API shows and moves.
#[derive(Debug, Clone)]
pub struct Control {
    /// The vendor.
    pub shop: Arc<Shop>,
    /// Counts of its connections.
    pub meter: Arc<Meter>,
}

/// The routes.
pub fn routes(control: Control) -> Router {
    Router::new()
        .route("/healthz", get(|| async { Json(json!({"ok": true})) }))
        .route("/counts", get(counts))
        .route("/requests", get(requests))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/objects/{kind}", get(objects))
        .route("/payment_intents/{id}/authenticate", post(authenticate))
        .route("/reset", post(reset))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "no such control endpoint") })
        .with_state(control)
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}

async fn counts(State(control): State<Control>) -> Json<Value> {
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let vendor = control.shop.vendor();
    let mut shown = serde_json::to_value(&vendor.counts).unwrap_or_default();
    let mut totals = Totals::default();
    for book in vendor.books().values() {
        totals.merge(&book.totals);
    }
    drop(vendor);
    if let Some(map) = shown.as_object_mut() {
        map.insert(
            "connections".to_owned(),
            read(&control.meter.connections).into(),
        );
        map.insert(
            "tls_failures".to_owned(),
            read(&control.meter.tls_failures).into(),
        );
        map.insert(
            "bytes_received".to_owned(),
            read(&control.meter.bytes_received).into(),
        );
        map.insert(
            "tcp_bytes_received".to_owned(),
            read(&control.meter.tcp_bytes_received).into(),
        );
        if let Ok(Value::Object(totals)) = serde_json::to_value(&totals) {
            map.extend(totals);
        }
    }
    Json(shown)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn requests(
    State(control): State<Control>,
    Query(Since { since }): Query<Since>,
) -> Json<Value> {
    let vendor = control.shop.vendor();
    Json(json!({"requests": vendor.log.since(since), "last": vendor.log.last_number()}))
}

async fn faults(State(control): State<Control>) -> Json<Value> {
    Json(json!({"faults": control.shop.vendor().faults.all()}))
}

async fn add_fault(
    State(control): State<Control>,
    order: Result<Json<FaultOrder>, JsonRejection>,
) -> Response {
    let order = match order {
        Ok(Json(order)) => order,
        Err(rejection) => return problem(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    match control.shop.vendor().faults.add(order) {
        Ok(id) => (StatusCode::CREATED, Json(json!({"id": id}))).into_response(),
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn clear_faults(State(control): State<Control>) -> Json<Value> {
    control.shop.vendor().faults.clear();
    Json(json!({"ok": true}))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfAccount {
    #[serde(default)]
    account: String,
}

async fn objects(
    State(control): State<Control>,
    Path(kind): Path<String>,
    Query(OfAccount { account }): Query<OfAccount>,
) -> Response {
    let vendor = control.shop.vendor();
    let empty = crate::book::Book::default();
    match vendor
        .books()
        .get(account.as_str())
        .unwrap_or(&empty)
        .objects(&kind)
    {
        Some(data) => Json(json!({"data": data})).into_response(),
        None => problem(
            StatusCode::NOT_FOUND,
            "kinds: customers, charges, payment_intents, refunds, events",
        ),
    }
}

async fn authenticate(
    State(control): State<Control>,
    Path(id): Path<String>,
    Query(OfAccount { account }): Query<OfAccount>,
) -> Response {
    let now_ms = control.shop.clock.now_ms();
    match control.shop.vendor().authenticate(&account, &id, now_ms) {
        Ok(object) => Json(object).into_response(),
        Err(error) => {
            let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, Json(json!({"error": error}))).into_response()
        }
    }
}

async fn reset(State(control): State<Control>) -> Response {
    let mut vendor = control.shop.vendor();
    if let Err(error) = vendor.reset() {
        return problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("the state file cannot be emptied: {error}"),
        );
    }
    control.meter.reset();
    Json(json!({"ok": true})).into_response()
}
