//! `…/statement`: what became of everything that was taken from a cap, window by window.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

use super::budgets::{self, no_such_budget};
use crate::book::{Parts, Window};
use crate::http::credentials::Role;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::{Api, json, unavailable};
use crate::model::{Line, Statement, Tally};

/// Parameters of both statements.
pub const PARAMETERS: &[&str] = &["window"];

/// Of a key.
///
/// # Errors
/// The problem to answer instead.
pub async fn of_key(
    State(api): State<Arc<Api>>,
    key_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    let key_id = super::named(key_id)?;
    let window = window(uri.query())?;
    let found = api.ledger.key_statement(&key_id, window).await;
    let (time_zone, windows) = found.map_err(unavailable)?.ok_or_else(super::no_such_key)?;
    Ok(json(&StatementView {
        key_id: Some(&key_id),
        budget: None,
        time_zone: &time_zone,
        windows: windows.iter().map(WindowView::of).collect(),
    }))
}

/// Of a budget.
///
/// # Errors
/// The problem to answer instead.
pub async fn of_budget(
    State(api): State<Arc<Api>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Admin)?;
    let name = budgets::named(name)?;
    let window = window(uri.query())?;
    let found = api.ledger.budget_statement(&name, window).await;
    let (time_zone, windows) = found.map_err(unavailable)?.ok_or_else(no_such_budget)?;
    Ok(json(&StatementView {
        key_id: None,
        budget: Some(&name),
        time_zone: &time_zone,
        windows: windows.iter().map(WindowView::of).collect(),
    }))
}

fn window(query: Option<&str>) -> Result<Option<Window>, Problem> {
    let mut query = Query::read(query, PARAMETERS);
    let text = query.text("window");
    query.finish()?;
    text.map(|text| {
        Window::parse(&text).ok_or_else(|| {
            Problem::invalid_field(
                "window",
                "must be a window such as day:2026-11-23, month:2026-11, rolling or lifetime",
            )
        })
    })
    .transpose()
}

#[derive(Serialize)]
struct StatementView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<&'a str>,
    time_zone: &'a str,
    windows: Vec<WindowView<'a>>,
}

/// One cap in one window.
#[derive(Serialize)]
struct WindowView<'a> {
    limit: &'a str,
    window: &'a str,
    begins_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    cap: String,
    opening: PartsView,
    holds: LineView,
    beyond: LineView,
    held: LineView,
    settlements: LineView,
    unknowns: LineView,
    releases: LineView,
    closing: PartsView,
    adds_up: bool,
}

#[derive(Serialize)]
struct PartsView {
    free: String,
    held: String,
    settled: String,
    unknown: String,
}

#[derive(Serialize)]
struct LineView {
    count: u64,
    usd: String,
}

impl<'a> WindowView<'a> {
    fn of(statement: &'a Statement) -> Self {
        let Tally {
            holds,
            beyond,
            held,
            settlements,
            unknowns,
            releases,
        } = statement.tally;
        Self {
            limit: statement.limit,
            window: &statement.window,
            begins_at: statement.begins_at,
            ends_at: statement.ends_at,
            cap: statement.closing.cap.to_string(),
            opening: PartsView::of(statement.opening),
            holds: LineView::of(holds),
            beyond: LineView::of(beyond),
            held: LineView::of(held),
            settlements: LineView::of(settlements),
            unknowns: LineView::of(unknowns),
            releases: LineView::of(releases),
            closing: PartsView::of(statement.closing),
            adds_up: statement.adds_up(),
        }
    }
}

impl PartsView {
    fn of(parts: Parts) -> Self {
        Self {
            free: parts.free.to_string(),
            held: parts.held.to_string(),
            settled: parts.settled.to_string(),
            unknown: parts.unknown.to_string(),
        }
    }
}

impl LineView {
    fn of(line: Line) -> Self {
        Self {
            count: line.count,
            usd: line.amount.to_string(),
        }
    }
}
