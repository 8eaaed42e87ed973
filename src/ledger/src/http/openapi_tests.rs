//! The document says what the code does: same routes, methods, fields, parameters, words and problems.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::DOCUMENT;
use crate::http::admin::request::{self, CHANGE_FIELDS, ISSUE_FIELDS};
use crate::http::admin::requests::{RESOLVE_FIELDS, RESOLVE_OUTCOMES, UNKNOWN_PARAMETERS};
use crate::http::admin::{
    LIST_PARAMETERS, REVOKE_FIELDS, STATUSES, budget_request, budgets, statements,
};
use crate::http::audit::{AUDIT_PARAMETERS, OUTCOMES, VERDICTS};
use crate::http::problem::{Kind, Problem};
use crate::http::{Api, routes};
use crate::vendors::Vendors;

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

fn schema(name: &str) -> Value {
    document()["components"]["schemas"][name].clone()
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

#[test]
fn paths_are_the_routes() {
    let documented = names(&document()["paths"]);
    assert_eq!(documented, set(routes().iter().map(|(path, _)| *path)));
}

/// Which methods a route takes is asked of the route itself: one that it does not take is answered 405.
#[tokio::test]
async fn methods_are_those_of_the_routes() {
    for (path, handlers) in routes() {
        let documented = names(&document()["paths"][path]);
        // The handlers never run: an odd method is turned away with the list of those that would do.
        let router: Router<Arc<Api>> = Router::new().route(path, handlers);
        let probe = Request::builder()
            .method("PUT")
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let answer = router
            .with_state(unused_api())
            .oneshot(probe)
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        let allow = answer.headers()["allow"]
            .to_str()
            .unwrap()
            .to_ascii_lowercase();
        let taken = set(allow.split(',').filter(|method| *method != "head"));
        let documented: BTreeSet<String> = documented
            .into_iter()
            .filter(|name| METHODS.contains(&name.as_str()))
            .collect();
        assert_eq!(taken, documented, "{path}");
    }
}

fn unused_api() -> Arc<Api> {
    use crate::clock::Clock;
    use crate::engine::{Ledger, LedgerOptions};
    use crate::http::credentials::Credentials;
    let folder = tempfile::tempdir().unwrap();
    let (clock, _hand) = Clock::manual(1_800_000_000_000);
    let ledger = Ledger::open(
        LedgerOptions::new(folder.path().join("k.db")),
        clock.clone(),
        Vec::new(),
    )
    .unwrap();
    let credentials = Credentials::from_environment(|name| {
        (!name.ends_with("_FILE")).then(|| format!("sandbox-credential-{name}"))
    });
    Arc::new(Api::new(
        ledger,
        Arc::new(credentials.unwrap()),
        Vendors::load(None).unwrap(),
        clock,
    ))
}

#[test]
fn fields_are_those_that_are_read() {
    assert_eq!(
        names(&schema("NewKey")["properties"]),
        set(ISSUE_FIELDS.iter().copied())
    );
    assert_eq!(
        names(&schema("KeyChange")["properties"]),
        set(CHANGE_FIELDS.iter().copied())
    );
    assert_eq!(
        names(&schema("Resolve")["properties"]),
        set(RESOLVE_FIELDS.iter().copied())
    );
    for (name, fields) in [
        ("NewBudget", budget_request::NEW_FIELDS),
        ("BudgetChange", budget_request::CHANGE_FIELDS),
        ("Revoke", REVOKE_FIELDS),
    ] {
        assert_eq!(
            names(&schema(name)["properties"]),
            set(fields.iter().copied()),
            "{name}"
        );
    }
}

fn parameters(path: &str) -> BTreeSet<String> {
    document()["paths"][path]["get"]["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn parameters_are_those_that_are_read() {
    assert_eq!(parameters("/audit"), set(AUDIT_PARAMETERS.iter().copied()));
    assert_eq!(
        parameters("/admin/vault_keys"),
        set(LIST_PARAMETERS.iter().copied())
    );
    assert_eq!(
        parameters("/admin/requests"),
        set(UNKNOWN_PARAMETERS.iter().copied())
    );
    assert_eq!(
        parameters("/admin/budgets"),
        set(budgets::LIST_PARAMETERS.iter().copied())
    );
    for path in [
        "/admin/vault_keys/{key_id}/statement",
        "/admin/budgets/{name}/statement",
    ] {
        assert_eq!(
            parameters(path),
            set(statements::PARAMETERS.iter().copied())
        );
    }
}

#[test]
fn words_are_those_that_are_read() {
    let words = |path: &str, name: &str| -> BTreeSet<String> {
        let document = document();
        let all = document["paths"][path]["get"]["parameters"]
            .as_array()
            .unwrap();
        let one = all
            .iter()
            .find(|parameter| parameter["name"] == name)
            .unwrap();
        serde_json::from_value(one["schema"]["enum"].clone()).unwrap()
    };
    assert_eq!(
        words("/audit", "outcome"),
        set(OUTCOMES.iter().map(|(word, _)| *word))
    );
    assert_eq!(
        words("/audit", "verdict"),
        set(VERDICTS.iter().map(|(word, _)| *word))
    );
    let outcomes = schema("Resolve")["properties"]["outcome"]["enum"].clone();
    let outcomes: BTreeSet<String> = serde_json::from_value(outcomes).unwrap();
    assert_eq!(outcomes, set(RESOLVE_OUTCOMES));
    assert_eq!(
        words("/admin/vault_keys", "status"),
        set(STATUSES.iter().map(|(word, _)| *word))
    );
    assert_eq!(
        words("/admin/budgets", "state"),
        set(budgets::STATES.iter().map(|(word, _)| *word))
    );
    let set_states: BTreeSet<String> =
        serde_json::from_value(schema("BudgetChange")["properties"]["state"]["enum"].clone())
            .unwrap();
    assert_eq!(
        set_states,
        set(budget_request::SET_STATES.iter().map(|(word, _)| *word))
    );
}

#[tokio::test]
async fn every_problem_is_in_the_document_as_it_is_answered() {
    let document = document();
    let responses = document["components"]["responses"].as_object().unwrap();
    assert_eq!(responses.len(), Kind::ALL.len());
    for kind in Kind::ALL {
        let answer = Problem::new(kind, "x").into_response();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let said: Value = serde_json::from_slice(&body).unwrap();
        let example = responses
            .values()
            .map(|response| &response["content"]["application/problem+json"]["example"])
            .find(|example| example["type"] == said["type"])
            .unwrap_or_else(|| panic!("{} is not in the document", kind.word()));
        assert_eq!(example["status"], status.as_u16());
        assert_eq!(example["title"], said["title"]);
    }
}

#[test]
fn every_example_of_a_key_can_be_issued() {
    let vendors = Vendors::load(None).unwrap();
    let now = crate::clock::timestamp(1_800_000_000_000);
    let document = document();
    let examples = &document["paths"]["/admin/vault_keys"]["post"]["requestBody"]["content"]["application/json"]
        ["examples"];
    for (name, example) in examples.as_object().unwrap() {
        let read = request::issue(&example["value"].to_string(), &vendors, now);
        assert!(read.is_ok(), "{name}: {:?}", read.err());
    }
}

#[test]
fn every_example_of_a_budget_can_be_made() {
    let document = document();
    let examples = &document["paths"]["/admin/budgets"]["post"]["requestBody"]["content"]["application/json"]
        ["examples"];
    for (name, example) in examples.as_object().unwrap() {
        let read = budget_request::new_budget(&example["value"].to_string());
        assert!(read.is_ok(), "{name}: {:?}", read.err());
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(target)) = members.get("$ref") {
                    found.push(target.clone());
                }
                members.values().for_each(|child| references(child, found));
            }
            Value::Array(items) => items.iter().for_each(|child| references(child, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50);
    for target in found {
        assert!(
            document.pointer(target.trim_start_matches('#')).is_some(),
            "{target}"
        );
    }
}
