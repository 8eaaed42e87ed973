//! What a retrieved object says about the request that made it: the pack's own rules, as if it were the answer.

use keybrake_contract::wire::{AttemptOutcome, Executed, ExecutedMoney, StoredAnswer};
use keybrake_pack::{Class, Endpoint, EvidenceRules, Pack};
use keybrake_policy::outcome::{VendorAnswer, judge};
use serde_json::Value;

use crate::book::Finding;

/// What was found, and what to answer to a repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// For the book.
    pub finding: Finding,
    /// The object as it was retrieved, when the request was executed.
    pub answer: Option<StoredAnswer>,
}

/// Judges a retrieved object.
///
/// # Errors
/// Why it decides nothing.
pub fn judged(
    pack: &Pack,
    operation: &str,
    object_id: &str,
    request_id: Option<&str>,
    body: &[u8],
) -> Result<Judged, &'static str> {
    let (Some(rules), Some(endpoint)) = (pack.evidence(), pack.endpoint_of(operation)) else {
        return Err("the pack does not say how to judge it");
    };
    let headers = [(b"content-type".to_vec(), b"application/json".to_vec())];
    let answer = VendorAnswer {
        status: 200,
        headers: &headers,
        body,
    };
    let judgement = judge(pack, endpoint, &answer);
    let AttemptOutcome::Executed(executed) = judgement.outcome else {
        return Err("its object is not as the pack says");
    };
    let object = judgement.vendor_object_id;
    if object.as_deref() != Some(object_id) {
        return Err("another object was retrieved than was asked for");
    }
    if is_refused(rules, operation, body)? {
        return Ok(Judged {
            finding: Finding::NotExecuted,
            answer: None,
        });
    }
    if !is_told(endpoint, &executed) {
        return Err("its object does not say how much was taken");
    }
    let answer = judgement.stored.map(|stored| StoredAnswer {
        vendor_request_id: request_id.map(str::to_owned),
        ..stored
    });
    Ok(Judged {
        finding: Finding::Executed {
            executed,
            object,
            charge: judgement.charge_id,
        },
        answer,
    })
}

/// Whether the vendor refused the request for good, by the object that it made.
fn is_refused(rules: &EvidenceRules, operation: &str, body: &[u8]) -> Result<bool, &'static str> {
    let evidence = rules.operations.get(operation);
    let evidence = evidence.ok_or("the pack does not say how to judge it")?;
    let object: Value = serde_json::from_slice(body).map_err(|_| "its object cannot be read")?;
    if object.get(&rules.kind).and_then(Value::as_str) != Some(evidence.object.as_str()) {
        return Err("its object is of another kind");
    }
    Ok(evidence.says_not_executed(&object))
}

/// Whether money was moved for an amount that is known, or none.
fn is_told(endpoint: &Endpoint, executed: &Executed) -> bool {
    let moves_none = matches!(endpoint.class, Class::Free | Class::Prepares);
    moves_none || executed.money == ExecutedMoney::Cancelled || executed.amount.is_some()
}
