//! `GET /audit`: what was admitted and refused, for whoever holds the audit key.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Serialize;

use crate::http::credentials::Role;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::{Api, json, no_list};
use crate::model::{AuditQuery, Entry, EntryOutcome, EntryVerdict};

/// Parameters of `GET /audit`.
pub const AUDIT_PARAMETERS: &[&str] = &[
    "idempotency_key",
    "key_id",
    "label",
    "budget",
    "run_id",
    "vendor",
    "operation",
    "outcome",
    "verdict",
    "vendor_object_id",
    "since",
    "until",
    "limit",
    "cursor",
];

/// Words of `outcome`.
pub const OUTCOMES: &[(&str, EntryOutcome)] = &[
    ("in_flight", EntryOutcome::InFlight),
    ("held", EntryOutcome::Held),
    ("settled", EntryOutcome::Settled),
    ("released", EntryOutcome::Released),
    ("unknown", EntryOutcome::Unknown),
    ("abandoned", EntryOutcome::Abandoned),
];

/// Words of `verdict`.
pub const VERDICTS: &[(&str, EntryVerdict)] = &[
    ("admitted", EntryVerdict::Admitted),
    ("refused", EntryVerdict::Refused),
];

#[derive(Serialize)]
struct Answer {
    entries: Vec<Entry>,
    next_cursor: Option<String>,
}

/// Answers a page of entries.
///
/// # Errors
/// The problem to answer instead.
pub async fn list(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    api.credentials.authorize(&headers, Role::Audit)?;
    let query = read(uri.query())?;
    let page = api.ledger.audit(query).await.map_err(no_list)?;
    Ok(json(&Answer {
        entries: page.items,
        next_cursor: page.next_cursor,
    }))
}

fn read(query: Option<&str>) -> Result<AuditQuery, Problem> {
    let mut query = Query::read(query, AUDIT_PARAMETERS);
    let read = AuditQuery {
        idempotency_key: query.text("idempotency_key"),
        key_id: query.text("key_id"),
        label: query.text("label"),
        budget: query.text("budget"),
        run_id: query.text("run_id"),
        vendor: query.text("vendor"),
        operation: query.text("operation"),
        outcome: query.word("outcome", OUTCOMES),
        verdict: query.word("verdict", VERDICTS),
        vendor_object_id: query.text("vendor_object_id"),
        since: query.time("since"),
        until: query.time("until"),
        limit: query.limit(),
        cursor: query.text("cursor"),
    };
    query.finish()?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_read() {
        let text = "idempotency_key=k&key_id=vk_1&label=l&budget=b&run_id=r&vendor=stripe&operation=charges.create\
                    &outcome=settled&verdict=admitted&vendor_object_id=ch_1&since=2026-07-01&until=2026-07-02\
                    &limit=5&cursor=c";
        let query = read(Some(text)).unwrap();
        assert_eq!(query.idempotency_key.as_deref(), Some("k"));
        assert_eq!(query.budget.as_deref(), Some("b"));
        assert_eq!(query.outcome, Some(EntryOutcome::Settled));
        assert_eq!(query.verdict, Some(EntryVerdict::Admitted));
        assert!(query.since < query.until);
        assert_eq!((query.limit, query.cursor.as_deref()), (5, Some("c")));
        assert_eq!(read(None).unwrap().limit, 100);
    }

    #[test]
    fn the_words_are_those_of_the_entries() {
        for (word, outcome) in OUTCOMES {
            assert_eq!(serde_json::to_value(outcome).unwrap(), *word);
        }
        for (word, verdict) in VERDICTS {
            assert_eq!(serde_json::to_value(verdict).unwrap(), *word);
        }
    }

    #[test]
    fn what_cannot_be_answered_is_said() {
        for (text, field) in [
            ("outcome=done", "outcome"),
            ("verdict=yes", "verdict"),
            ("since=now", "since"),
            ("limit=0", "limit"),
            ("page=2", "page"),
        ] {
            let problem = read(Some(text)).unwrap_err();
            assert_eq!(problem.errors.first().unwrap().field, field, "{text}");
        }
    }
}
