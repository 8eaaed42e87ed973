//! `/admin/budgets…`: making, showing and changing budgets, for whoever holds the admin key.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;

use super::budget_request as request;
use super::budget_view::{BudgetList, BudgetView};
use crate::engine::BudgetError;
use crate::http::credentials::Role;
use crate::http::fields;
use crate::http::problem::{Kind, Problem};
use crate::http::query::Query;
use crate::http::{Api, body, json, json_with, no_list, unavailable};
use crate::model::{BudgetFilter, BudgetState};

/// Parameters of `GET /admin/budgets`.
pub const LIST_PARAMETERS: &[&str] = &["state", "parent", "limit", "cursor"];

/// Words of `state`.
pub const STATES: &[(&str, BudgetState)] = &[
    ("open", BudgetState::Open),
    ("frozen", BudgetState::Frozen),
    ("closed", BudgetState::Closed),
    ("tripped", BudgetState::Tripped),
];

/// Makes a budget.
///
/// # Errors
/// The problem to answer instead.
pub async fn create(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    uri: Uri,
    stream: Body,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    Query::read(uri.query(), &[]).finish()?;
    let bytes = body(&headers, stream).await?;
    let new = request::new_budget(fields::utf8(&bytes)?).map_err(Problem::invalid)?;
    let (budget, balances) = api.ledger.create_budget(new).await.map_err(problem)?;
    Ok(json_with(
        StatusCode::CREATED,
        &BudgetView::of(&budget).with(&balances),
    ))
}

/// Lists budgets, newest first.
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
    let filter = BudgetFilter {
        state: query.word("state", STATES),
        parent: query.text("parent"),
        limit: query.limit(),
        cursor: query.text("cursor"),
    };
    query.finish()?;
    let page = api.ledger.budgets(filter).await.map_err(no_list)?;
    Ok(json(&BudgetList {
        budgets: page.items.iter().map(BudgetView::of).collect(),
        next_cursor: page.next_cursor.as_deref(),
    }))
}

/// Shows a budget and its balances.
///
/// # Errors
/// The problem to answer instead.
pub async fn show(
    State(api): State<Arc<Api>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    let name = named(name)?;
    Query::read(uri.query(), &[]).finish()?;
    let found = api.ledger.budget(&name).await.map_err(unavailable)?;
    let (budget, balances) = found.ok_or_else(no_such_budget)?;
    Ok(json(&BudgetView::of(&budget).with(&balances)))
}

/// Changes a budget. Effective for the very next request under it.
///
/// # Errors
/// The problem to answer instead.
pub async fn change(
    State(api): State<Arc<Api>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
    stream: Body,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    let name = named(name)?;
    Query::read(uri.query(), &[]).finish()?;
    let bytes = body(&headers, stream).await?;
    let text = fields::utf8(&bytes)?;
    let _changing = api.changing.lock().await;
    let found = api.ledger.budget(&name).await.map_err(unavailable)?;
    let (budget, _) = found.ok_or_else(no_such_budget)?;
    let change = request::change(text, &budget).map_err(Problem::invalid)?;
    let changed = api.ledger.change_budget(&name, change).await;
    let (budget, balances) = changed.map_err(problem)?;
    Ok(json(&BudgetView::of(&budget).with(&balances)))
}

fn problem(error: BudgetError) -> Problem {
    match error {
        BudgetError::Unavailable(error) => unavailable(error),
        BudgetError::NotFound => no_such_budget(),
        BudgetError::NameTaken | BudgetError::Closed => {
            Problem::new(Kind::Conflict, error.to_string())
        }
        BudgetError::UnknownParent
        | BudgetError::ParentClosed
        | BudgetError::TooDeep
        | BudgetError::Cycle
        | BudgetError::ParentFixed => Problem::invalid_field("parent", error.to_string()),
    }
}

/// The name in the path; one that is not even UTF-8 is nobody's.
///
/// # Errors
/// 404.
pub fn named(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    path.map(|Path(name)| name).map_err(|_| no_such_budget())
}

/// No budget has this name.
#[must_use]
pub fn no_such_budget() -> Problem {
    Problem::new(Kind::NotFound, "no budget has this name")
}
