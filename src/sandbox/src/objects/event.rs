//! Events: one per state change, with the request's idempotency key. They are the evidence for a lost answer.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Object;
use super::list::{self, List, Window};
use crate::answer::ApiError;
use crate::book::Book;
use crate::form::Params;

/// An event in Stripe's shape.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct Event {
    pub id: String,
    pub api_version: String,
    pub created: i64,
    pub data: EventData,
    pub livemode: bool,
    pub pending_webhooks: i64,
    pub request: EventRequest,
    #[serde(rename = "type")]
    pub kind: String,
}

/// The object as it was right after the change.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct EventData {
    pub object: Object,
}

/// The request that caused the change.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct EventRequest {
    pub id: Option<String>,
    pub idempotency_key: Option<String>,
}

/// `GET /v1/events/{id}`
///
/// # Errors
/// 404 when there is none.
pub fn retrieve(book: &Book, id: &str) -> Result<Object, ApiError> {
    book.events
        .get(id)
        .map(|e| Object::Event(Arc::clone(e)))
        .ok_or_else(|| ApiError::no_such("event", id, "id"))
}

/// `GET /v1/events`
///
/// # Errors
/// 400 for bad filters.
pub fn list(book: &Book, params: &Params) -> Result<List, ApiError> {
    params.only(&[list::WINDOW_PARAMS, &["type", "types"]].concat())?;
    let mut kinds: Vec<String> = params.map("types")?.into_values().collect();
    kinds.extend(params.owned("type")?);
    Window::read(params)?.page(&book.events, "event", "/v1/events", |event| {
        kinds.is_empty() || kinds.iter().any(|kind| matches_kind(kind, &event.kind))
    })
}

/// `charge.*` matches `charge.succeeded`.
fn matches_kind(wanted: &str, kind: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => wanted == kind,
    }
}
