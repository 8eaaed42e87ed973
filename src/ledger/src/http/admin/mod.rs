//! `/admin/vault_keys…`: issuing, showing, changing and revoking keys, for whoever holds the admin key. (`/admin/budgets…` is in
//! `budgets`, statements of both in `statements`.)

pub mod budget_request;
mod budget_view;
pub mod budgets;
mod caps;
pub mod reconcile;
pub mod request;
pub mod requests;
pub mod statements;
mod terms;
pub mod view;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;

use crate::engine::{ChangeError, IssueError};
use crate::http::credentials::Role;
use crate::http::fields::{self, Fields};
use crate::http::problem::{Kind, Problem};
use crate::http::query::Query;
use crate::http::{Api, body, json, json_with, no_list, unavailable};
use crate::model::{KeyFilter, KeyStatus};
use request::Issue;
use view::{IssuedList, KeyList, KeyView, Revoked};

/// Parameters of `GET /admin/vault_keys`.
pub const LIST_PARAMETERS: &[&str] = &[
    "label_prefix",
    "vendor",
    "workspace",
    "budget",
    "status",
    "limit",
    "cursor",
];

/// Words of `status`.
pub const STATUSES: &[(&str, KeyStatus)] = &[
    ("active", KeyStatus::Active),
    ("expired", KeyStatus::Expired),
    ("revoked", KeyStatus::Revoked),
];

/// Issues a key, or many, all or none. The only answer that holds a vault key.
///
/// # Errors
/// The problem to answer instead.
pub async fn issue(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    uri: Uri,
    stream: Body,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    Query::read(uri.query(), &[]).finish()?;
    let bytes = body(&headers, stream).await?;
    let now = api.clock.now();
    let asked =
        request::issue(fields::utf8(&bytes)?, &api.vendors, now).map_err(Problem::invalid)?;
    let (keys, many) = match asked {
        Issue::One(key) => (vec![*key], false),
        Issue::Many(keys) => (keys, true),
    };
    let issued = api.ledger.issue(keys).await.map_err(|error| match error {
        IssueError::Unavailable(error) => unavailable(error),
        IssueError::Budget { index, error } => {
            let prefix = if many {
                format!("keys[{index}].")
            } else {
                String::new()
            };
            Problem::invalid_field(format!("{prefix}budget"), error.to_string())
        }
        IssueError::UnknownVendor { index } | IssueError::AlreadyExpired { index } => {
            Problem::invalid_field(
                if many {
                    format!("keys[{index}]")
                } else {
                    String::new()
                },
                error.to_string(),
            )
        }
    })?;
    let views: Vec<KeyView<'_>> = issued.iter().map(|key| KeyView::issued(key, now)).collect();
    match views.as_slice() {
        [view] if !many => Ok(json_with(StatusCode::CREATED, view)),
        _ => Ok(json_with(StatusCode::CREATED, &IssuedList { keys: views })),
    }
}

/// Lists keys, newest first.
///
/// # Errors
/// The problem to answer instead.
pub async fn list(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    let mut query = Query::read(uri.query(), LIST_PARAMETERS);
    let filter = KeyFilter {
        label_prefix: query.text("label_prefix"),
        vendor: query.text("vendor"),
        workspace: query.text("workspace"),
        budget: query.text("budget"),
        status: query.word("status", STATUSES),
        limit: query.limit(),
        cursor: query.text("cursor"),
    };
    query.finish()?;
    let now = api.clock.now();
    let page = api.ledger.keys(filter).await.map_err(no_list)?;
    Ok(json(&KeyList {
        keys: page.items.iter().map(|key| KeyView::of(key, now)).collect(),
        next_cursor: page.next_cursor.as_deref(),
    }))
}

/// Shows a key and its balances.
///
/// # Errors
/// The problem to answer instead.
pub async fn show(
    State(api): State<Arc<Api>>,
    key_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    let key_id = named(key_id)?;
    Query::read(uri.query(), &[]).finish()?;
    let found = api.ledger.key(&key_id).await.map_err(unavailable)?;
    let (key, balances) = found.ok_or_else(no_such_key)?;
    let unknown = api.ledger.unknown_of(&key_id).await.map_err(unavailable)?;
    let view = KeyView::of(&key, api.clock.now()).with(&balances);
    Ok(json(&view.with_unknown(&unknown)))
}

/// Changes a key. Effective for the very next request that is made with it.
///
/// # Errors
/// The problem to answer instead.
pub async fn change(
    State(api): State<Arc<Api>>,
    key_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
    stream: Body,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    let key_id = named(key_id)?;
    Query::read(uri.query(), &[]).finish()?;
    let bytes = body(&headers, stream).await?;
    let text = fields::utf8(&bytes)?;
    let _changing = api.changing.lock().await;
    let found = api.ledger.key(&key_id).await.map_err(unavailable)?;
    let (key, _) = found.ok_or_else(no_such_key)?;
    let now = api.clock.now();
    let pack = api.vendors.get(&key.grant.vendor);
    let change = request::change(text, &key, pack, now).map_err(Problem::invalid)?;
    let (key, balances) =
        api.ledger
            .change(&key_id, change)
            .await
            .map_err(|error| match error {
                ChangeError::Unavailable(error) => unavailable(error),
                ChangeError::NotFound => no_such_key(),
                ChangeError::Budget(error) => Problem::invalid_field("budget", error.to_string()),
                ChangeError::Revoked => {
                    Problem::new(Kind::Conflict, "the key is revoked and stays as it is")
                }
            })?;
    Ok(json(&KeyView::of(&key, now).with(&balances)))
}

/// Revokes a key; once more does nothing more.
///
/// # Errors
/// The problem to answer instead.
pub async fn revoke(
    State(api): State<Arc<Api>>,
    key_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    let key_id = named(key_id)?;
    Query::read(uri.query(), &[]).finish()?;
    let found = api.ledger.revoke(&key_id).await.map_err(unavailable)?;
    let key = found.ok_or_else(no_such_key)?;
    Ok(json(&KeyView::of(&key, api.clock.now())))
}

/// Revokes every key whose label begins with a text, or that draws from a budget.
///
/// # Errors
/// The problem to answer instead.
pub async fn revoke_many(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    uri: Uri,
    stream: Body,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    Query::read(uri.query(), &[]).finish()?;
    let bytes = body(&headers, stream).await?;
    let revoked = match which(fields::utf8(&bytes)?)? {
        Which::LabelPrefix(prefix) => api.ledger.revoke_by_label_prefix(&prefix).await,
        Which::Budget(budget) => {
            let revoked = api.ledger.revoke_by_budget(&budget).await;
            let revoked = revoked.map_err(unavailable)?;
            Ok(revoked
                .ok_or_else(|| Problem::invalid_field("budget", "no budget has this name"))?)
        }
    };
    let revoked = revoked.map_err(unavailable)?;
    Ok(json(&Revoked { revoked }))
}

/// Which keys are revoked together.
enum Which {
    LabelPrefix(String),
    /// And those below it.
    Budget(String),
}

/// Fields of `POST /admin/vault_keys/revoke`.
pub const REVOKE_FIELDS: &[&str] = &["label_prefix", "budget"];

fn which(text: &str) -> Result<Which, Problem> {
    let mut fields =
        Fields::read(text, "", REVOKE_FIELDS).map_err(|fault| Problem::invalid(vec![fault]))?;
    match (fields.has("label_prefix"), fields.has("budget")) {
        (true, true) => fields.fault("budget", "give either label_prefix or budget"),
        (false, false) => fields.fault("label_prefix", "is missing; give it or budget"),
        _ => {}
    }
    let prefix = fields
        .take("label_prefix", fields::line(200))
        .map(Which::LabelPrefix);
    let budget = fields
        .take("budget", budget_request::budget_name)
        .map(Which::Budget);
    fields.finish().map_err(Problem::invalid)?;
    prefix
        .or(budget)
        .ok_or_else(|| Problem::invalid_field("label_prefix", "is missing"))
}

/// The key id of the path; one that is not even UTF-8 is nobody's.
fn named(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    path.map(|Path(key_id)| key_id).map_err(|_| no_such_key())
}

fn no_such_key() -> Problem {
    Problem::new(Kind::NotFound, "no key with this key_id")
}
