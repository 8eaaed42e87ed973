//! Golden cases: requests and answers of a vendor, with what a pack must make of them (`vendors/golden/<pack>/*.json`).
//!
//! A file is a list of cases. A case has a request and what it is read as, or why it is turned away, and any number of
//! answers with what they are judged as. Not here: reading files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::vault_key;
use keybrake_contract::wire::{AttemptOutcome, Cost};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::Value;

use crate::config::PluginConfig;
use crate::outcome::{VendorAnswer, judge};
use crate::pack::{Class, CredentialPlace, Pack};
use crate::read::{RawRequest, read};
use keybrake_text::document;

/// How the cases of one file went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// How many there are.
    pub cases: usize,
    /// What did not hold: the case's name, and what was found in the place of what.
    pub failures: Vec<String>,
}

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
    #[serde(deserialize_with = "class")]
    class: Class,
    cost: Cost,
}

fn class<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Class, D::Error> {
    let read = document::read(&Value::deserialize(deserializer)?.to_string());
    read.map_err(|mistakes| {
        let problems = mistakes.into_iter().map(|mistake| mistake.problem);
        D::Error::custom(problems.collect::<String>())
    })
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

/// Judges a file of cases by a pack, given as its JSON text.
///
/// # Errors
/// The pack is not one, or the file is not a list of cases: where and why.
pub fn judge_cases(pack: &str, cases: &str) -> Result<Judged, String> {
    let configuration = format!(
        r#"{{"commands_cluster": "c", "vendors": [{{"pack": {pack}, "cluster": "v", "hosts": ["*"]}}]}}"#
    );
    let config =
        PluginConfig::parse(configuration.as_bytes()).map_err(|error| error.to_string())?;
    let pack = config.vendors.first().map(|vendor| &vendor.pack);
    let pack = pack.ok_or("no pack")?;
    let cases: Vec<Case> = serde_json::from_str(cases).map_err(|error| error.to_string())?;
    let mut judged = Judged {
        cases: cases.len(),
        failures: Vec::new(),
    };
    for case in &cases {
        let mut found = Differences::default();
        judge_request(&config, pack, case, &mut found);
        for answer in &case.answers {
            judge_answer(pack, &case.request, answer, &mut found);
        }
        let named = found.0.iter();
        judged
            .failures
            .extend(named.map(|difference| format!("{}: {difference}", case.name)));
    }
    Ok(judged)
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn expect<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: &T, wanted: &T) {
        if found != wanted {
            self.0
                .push(format!("{what}: {found:?}, and should be {wanted:?}"));
        }
    }
}

fn judge_request(config: &PluginConfig, pack: &Pack, case: &Case, found: &mut Differences) {
    let Request {
        method,
        path,
        headers: own,
        body,
    } = &case.request;
    let mut headers = pairs(&[
        (":method".to_owned(), method.clone()),
        (":path".to_owned(), path.clone()),
        (":authority".to_owned(), "localhost".to_owned()),
        ("authorization".to_owned(), authorization(pack)),
    ]);
    let named = |(name, _): &(String, String)| name == "content-type";
    if !body.is_empty() && !own.iter().any(named) {
        let kind = "application/x-www-form-urlencoded".to_owned();
        headers.extend(pairs(&[("content-type".to_owned(), kind)]));
    }
    headers.extend(pairs(own));
    let raw = RawRequest {
        headers: &headers,
        body: body.as_bytes(),
        request_id: "golden",
    };
    match (read(config, &raw), &case.read_as, &case.turned) {
        (Ok(reading), Some(wanted), None) => {
            found.expect(
                "operation",
                &reading.operation(),
                &wanted.operation.as_str(),
            );
            found.expect("class", &reading.class, &wanted.class);
            found.expect("cost", &reading.cost, &wanted.cost);
        }
        (Err(turned), None, Some(wanted)) => {
            found.expect("code", &turned.code, &wanted.code);
            found.expect("param", &turned.param, &wanted.param);
        }
        (_, Some(_), Some(_)) | (_, None, None) => {
            found.0.push("either read_as or turned".to_owned());
        }
        (Ok(reading), None, Some(_)) => {
            let operation = reading.operation();
            found
                .0
                .push(format!("read as {operation}, and should be turned away"));
        }
        (Err(turned), Some(_), None) => {
            found.0.push(format!(
                "turned away ({}, {:?}): {}",
                turned.code.as_str(),
                turned.param,
                turned.message
            ));
        }
    }
}

/// A made-up vault key in the first place where the vendor takes one.
fn authorization(pack: &Pack) -> String {
    let key = vault_key::compose([0; vault_key::RANDOM_BYTES]);
    match pack.credential.places.first() {
        Some(CredentialPlace::BasicUser) => format!("Basic {}", STANDARD.encode(format!("{key}:"))),
        Some(CredentialPlace::BasicPassword) => {
            format!("Basic {}", STANDARD.encode(format!("user:{key}")))
        }
        Some(CredentialPlace::Bearer) | None => format!("Bearer {key}"),
    }
}

fn judge_answer(pack: &Pack, request: &Request, wanted: &AnswerCase, found: &mut Differences) {
    let path = request.path.split('?').next().unwrap_or_default();
    let Some(endpoint) = pack.endpoint(&request.method, path) else {
        found
            .0
            .push("has answers, and the pack no such endpoint".to_owned());
        return;
    };
    let headers = pairs(&wanted.headers);
    let body = match &wanted.body {
        Value::String(text) => text.clone(),
        json => json.to_string(),
    };
    let given = VendorAnswer {
        status: wanted.status,
        headers: &headers,
        body: body.as_bytes(),
    };
    let judgement = judge(pack, endpoint, &given);
    let of = |what: &str| format!("{what} of {} {body}", wanted.status);
    found.expect(&of("outcome"), &judgement.outcome, &wanted.outcome);
    found.expect(&of("object"), &judgement.vendor_object_id, &wanted.object);
    found.expect(&of("charge"), &judgement.charge_id, &wanted.charge);
    found.expect(
        &of("replayed"),
        &judgement.replayed_by_vendor,
        &wanted.replayed,
    );
    found.expect(
        &of("client_status"),
        &judgement.client.status,
        &wanted.client_status,
    );
    let kept = matches!(judgement.outcome, AttemptOutcome::Executed(_));
    found.expect(&of("stored"), &judgement.stored.is_some(), &kept);
}

fn pairs(headers: &[(String, String)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers
        .iter()
        .map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pack::{builtin, builtin_names};

    #[test]
    fn every_golden_case_of_a_built_in_pack_holds() {
        for vendor in builtin_names() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../vendors/golden")
                .join(vendor);
            let mut count = 0;
            for file in std::fs::read_dir(&folder).unwrap() {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                let judged = judge_cases(&builtin(vendor).unwrap(), &text).unwrap();
                assert_eq!(judged.failures, Vec::<String>::new(), "{vendor}");
                count += judged.cases;
            }
            assert!(count > 0, "{vendor} has golden cases");
        }
    }

    const READ: &str = r#""operation": "charges.list", "class": "read", "cost": "nothing""#;

    /// The failures of one case about `GET /v1/charges`.
    fn failures(rest: &str) -> Vec<String> {
        let case = format!(
            r#"[{{"name": "n", "request": {{"method": "GET", "path": "/v1/charges"}}, {rest}}}]"#
        );
        let judged = judge_cases(&builtin("stripe").unwrap(), &case).unwrap();
        assert_eq!(judged.cases, 1);
        judged.failures
    }

    #[test]
    fn what_differs_is_said_with_the_name_of_the_case() {
        assert_eq!(failures(&format!(r#""read_as": {{{READ}}}"#)), [""; 0]);
        let answer = r#"{"status": 500, "body": {}, "outcome": {"executed": {"money": "cancelled"}}, "client_status": 200}"#;
        let turned = r#""turned": {"code": "endpoint_not_allowed"}"#;
        let cases = [
            (
                format!(r#""read_as": {{{}}}"#, READ.replace("list", "x")),
                "operation",
            ),
            (
                format!(r#""read_as": {{{}}}"#, READ.replace("read", "free")),
                "class",
            ),
            (
                format!(r#""read_as": {{{}}}"#, READ.replace("nothing", "unknown")),
                "cost",
            ),
            (turned.to_owned(), "read as charges.list"),
            (format!(r#""read_as": {{{READ}}}, {turned}"#), "either"),
            (
                format!(r#""read_as": {{{READ}}}, "answers": [{answer}]"#),
                "outcome of 500 {}",
            ),
        ];
        for (rest, wanted) in cases {
            let found = failures(&rest);
            assert!(
                found.iter().all(|line| line.starts_with("n: ")),
                "{found:?}"
            );
            assert!(
                found.iter().any(|line| line.contains(wanted)),
                "{wanted}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_no_pack_and_what_are_no_cases_is_an_error() {
        assert!(judge_cases("{}", "[]").is_err());
        let stripe = builtin("stripe").unwrap();
        assert!(judge_cases(&stripe, "{}").is_err());
        assert_eq!(judge_cases(&stripe, "[]").unwrap(), Judged::default());
    }
}
