//! The golden cases of every built-in pack: `vendors/golden/<pack>/*.json`, one data-driven test for all.
//!
//! A file is a list of cases. A case has a request and what it is read as, or why it is turned away, and any number of
//! answers with what they are judged as.

use std::path::Path;

use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::{AttemptOutcome, Cost};
use serde::Deserialize;
use serde_json::Value;

use crate::config::PluginConfig;
use crate::outcome::{VendorAnswer, judge};
use crate::pack::{Class, builtin, builtin_names};
use crate::read::{RawRequest, read, tests::KEY};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    request: Request,
    #[serde(default)]
    read_as: Option<ReadAs>,
    #[serde(default)]
    turned: Option<TurnedAs>,
    #[serde(default)]
    answers: Vec<AnswerCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    method: String,
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadAs {
    operation: String,
    class: Class,
    cost: Cost,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TurnedAs {
    code: RefusalCode,
    param: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerCase {
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// JSON, or a text that is sent as it stands.
    body: Value,
    outcome: AttemptOutcome,
    #[serde(default)]
    object: Option<String>,
    #[serde(default)]
    charge: Option<String>,
    #[serde(default)]
    replayed: bool,
    client_status: u16,
}

#[test]
fn every_golden_case_holds() {
    for vendor in builtin_names() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../vendors/golden")
            .join(vendor);
        let mut count = 0;
        for file in std::fs::read_dir(&folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
            for case in cases {
                count += 1;
                holds(vendor, &case);
            }
        }
        assert!(count > 0, "{vendor} has golden cases");
    }
}

fn holds(vendor: &str, case: &Case) {
    let name = format!("{vendor}: {}", case.name);
    let configuration = format!(
        r#"{{"commands_cluster": "c", "vendors": [{{"pack": {}, "cluster": "v", "hosts": ["*"]}}]}}"#,
        builtin(vendor).unwrap()
    );
    let config = PluginConfig::parse(configuration.as_bytes()).unwrap();
    let pack = &config.vendors[0].pack;
    let mut headers = pairs(&[
        (":method".to_owned(), case.request.method.clone()),
        (":path".to_owned(), case.request.path.clone()),
        (":authority".to_owned(), "localhost".to_owned()),
        ("authorization".to_owned(), format!("Bearer {KEY}")),
    ]);
    let named = |(name, _): &(String, String)| name == "content-type";
    if !case.request.body.is_empty() && !case.request.headers.iter().any(named) {
        let kind = "application/x-www-form-urlencoded".to_owned();
        headers.extend(pairs(&[("content-type".to_owned(), kind)]));
    }
    headers.extend(pairs(&case.request.headers));
    let raw = RawRequest {
        headers: &headers,
        body: case.request.body.as_bytes(),
        request_id: "golden",
    };
    match (read(&config, &raw), &case.read_as, &case.turned) {
        (Ok(reading), Some(expected), None) => {
            assert_eq!(reading.operation(), expected.operation, "{name}");
            assert_eq!(reading.class, expected.class, "{name}");
            assert_eq!(reading.cost, expected.cost, "{name}");
        }
        (Err(turned), None, Some(expected)) => {
            assert_eq!(
                (turned.code, &turned.param),
                (expected.code, &expected.param),
                "{name}"
            );
        }
        (found, _, _) => panic!("{name}: {found:?}"),
    }
    for answer in &case.answers {
        let path = case.request.path.split('?').next().unwrap();
        let endpoint = pack.endpoint(&case.request.method, path).unwrap();
        let headers = pairs(&answer.headers);
        let body = match &answer.body {
            Value::String(text) => text.clone(),
            json => json.to_string(),
        };
        let given = VendorAnswer {
            status: answer.status,
            headers: &headers,
            body: body.as_bytes(),
        };
        let judgement = judge(pack, endpoint, &given);
        let at = format!("{name}: {} {body}", answer.status);
        assert_eq!(judgement.outcome, answer.outcome, "{at}");
        assert_eq!(judgement.vendor_object_id, answer.object, "{at}");
        assert_eq!(judgement.charge_id, answer.charge, "{at}");
        assert_eq!(judgement.replayed_by_vendor, answer.replayed, "{at}");
        assert_eq!(judgement.client.status, answer.client_status, "{at}");
        let kept = matches!(judgement.outcome, AttemptOutcome::Executed(_));
        assert_eq!(judgement.stored.is_some(), kept, "{at}");
    }
}

fn pairs(headers: &[(String, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers
        .iter()
        .map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()))
        .collect()
}
