//! Stripe's idempotency rules for API v1 (STRIPE.md), for one account.
//!
//! A record is made when an endpoint began to execute, and holds for 24 hours of the moved clock; then the same key
//! executes again. What failed validation leaves no record.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::answer::{Advice, Answer, ApiError};

/// How long a record holds.
pub const WINDOW_MS: i64 = 24 * 60 * 60 * 1_000;
/// The longest key.
pub const MAX_KEY_CHARS: usize = 255;

/// What a key stands for: endpoint and decoded parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Method and path.
    pub endpoint: String,
    /// SHA-256 of the decoded parameters.
    pub params: [u8; 32],
}

/// The stored answer of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// What the key was used for.
    pub fingerprint: Fingerprint,
    /// When its first request came, by the moved clock.
    pub created_ms: i64,
    /// That request's id.
    pub request_id: String,
    /// Stored status.
    pub status: u16,
    /// Stored body.
    pub body: String,
}

#[derive(Debug)]
enum Slot {
    InFlight(Fingerprint),
    Answered(Record),
}

/// What a key's request meets.
#[derive(Debug)]
pub enum Met {
    /// Nothing: the request executes.
    Fresh,
    /// A stored answer.
    Replay(Answer),
    /// A refusal.
    Refused(ApiError),
}

/// All records of one account.
#[derive(Debug, Default)]
pub struct Records(HashMap<Arc<str>, Slot>);

impl Records {
    /// What this key's request meets. Changes nothing.
    #[must_use]
    pub fn meet(&self, key: &str, asked: &Fingerprint, now_ms: i64) -> Met {
        match self.0.get(key) {
            None => Met::Fresh,
            Some(Slot::Answered(record))
                if now_ms.saturating_sub(record.created_ms) >= WINDOW_MS =>
            {
                Met::Fresh
            }
            Some(Slot::Answered(Record { fingerprint, .. }) | Slot::InFlight(fingerprint))
                if fingerprint != asked =>
            {
                Met::Refused(mismatch(key, fingerprint, asked))
            }
            Some(Slot::InFlight(_)) => Met::Refused(in_use(key)),
            Some(Slot::Answered(record)) => Met::Replay(Answer {
                status: record.status,
                body: record.body.clone().into(),
                should_retry: (record.status == 402).then_some(Advice::DoNotRetry),
                replay_of: Some(record.request_id.clone()),
            }),
        }
    }

    /// Marks a key as in flight.
    pub fn start(&mut self, key: Arc<str>, fingerprint: Fingerprint) {
        self.0.insert(key, Slot::InFlight(fingerprint));
    }

    /// Frees a key whose request did not execute.
    pub fn free(&mut self, key: &str) {
        if matches!(self.0.get(key), Some(Slot::InFlight(_))) {
            self.0.remove(key);
        }
    }

    /// Stores a key's answer.
    pub fn store(&mut self, key: Arc<str>, record: Record) {
        self.0.insert(key, Slot::Answered(record));
    }
}

/// Reads the `Idempotency-Key` header's text.
///
/// # Errors
/// 400 for a key that is too long.
pub fn check_key(key: &str) -> Result<(), ApiError> {
    if key.chars().count() > MAX_KEY_CHARS {
        return Err(ApiError::invalid(format!(
            "Idempotency keys can be at most {MAX_KEY_CHARS} characters long."
        )));
    }
    Ok(())
}

fn mismatch(key: &str, first: &Fingerprint, asked: &Fingerprint) -> ApiError {
    let message = if first.endpoint == asked.endpoint {
        format!(
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using \
             a key other than '{key}' if you meant to execute a different request."
        )
    } else {
        format!(
            "Keys for idempotent requests can only be used for the same endpoint they were first used for ('{}' vs '{}'). \
             Try using a key other than '{key}' if you meant to execute a different request.",
            asked.endpoint, first.endpoint
        )
    };
    ApiError::new(400, "idempotency_error", message).advise(Advice::DoNotRetry)
}

fn in_use(key: &str) -> ApiError {
    ApiError::new(
        409,
        "invalid_request_error",
        format!("There is currently another in-progress request using this Idempotency Key '{key}'. Try again later."),
    )
    .code("idempotency_key_in_use")
    .advise(Advice::Retry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(endpoint: &str, byte: u8) -> Fingerprint {
        Fingerprint {
            endpoint: endpoint.to_owned(),
            params: [byte; 32],
        }
    }

    fn answered(created_ms: i64) -> Records {
        let mut records = Records::default();
        let record = Record {
            fingerprint: print("POST /v1/charges", 1),
            created_ms,
            request_id: "req_1".to_owned(),
            status: 500,
            body: "{}".to_owned(),
        };
        records.store("k".into(), record);
        records
    }

    fn word(met: &Met) -> String {
        match met {
            Met::Fresh => "fresh".to_owned(),
            Met::Replay(answer) => format!(
                "replay {} of {}",
                answer.status,
                answer.replay_of.as_deref().unwrap()
            ),
            Met::Refused(error) => format!(
                "{} {} {}",
                error.status,
                error.kind,
                error.code.as_deref().unwrap_or("-")
            ),
        }
    }

    #[test]
    fn what_a_key_meets() {
        let mut in_flight = Records::default();
        in_flight.start("k".into(), print("POST /v1/charges", 1));
        let stored = answered(1_000);
        let same = print("POST /v1/charges", 1);
        let other_params = print("POST /v1/charges", 2);
        let other_endpoint = print("POST /v1/refunds", 1);
        let end = 1_000 + WINDOW_MS;
        let table = [
            (&stored, "other", &same, 1_000, "fresh"),
            (&stored, "k", &same, 1_000, "replay 500 of req_1"),
            (&stored, "k", &same, end - 1, "replay 500 of req_1"),
            (&stored, "k", &same, end, "fresh"),
            (
                &stored,
                "k",
                &other_params,
                1_000,
                "400 idempotency_error -",
            ),
            (
                &stored,
                "k",
                &other_endpoint,
                end - 1,
                "400 idempotency_error -",
            ),
            (&stored, "k", &other_params, end, "fresh"),
            (
                &in_flight,
                "k",
                &same,
                1_000,
                "409 invalid_request_error idempotency_key_in_use",
            ),
            (
                &in_flight,
                "k",
                &other_params,
                1_000,
                "400 idempotency_error -",
            ),
            (&in_flight, "other", &other_params, 1_000, "fresh"),
        ];
        for (n, (records, key, asked, now_ms, expected)) in table.into_iter().enumerate() {
            assert_eq!(
                word(&records.meet(key, asked, now_ms)),
                expected,
                "line {n}"
            );
        }
    }

    #[test]
    fn a_freed_key_is_fresh_and_a_stored_one_stays() {
        let mut records = Records::default();
        records.start("k".into(), print("POST /v1/charges", 1));
        records.free("k");
        assert!(matches!(
            records.meet("k", &print("POST /v1/charges", 2), 0),
            Met::Fresh
        ));
        let mut stored = answered(0);
        stored.free("k");
        assert!(matches!(
            stored.meet("k", &print("POST /v1/charges", 1), 1),
            Met::Replay(_)
        ));
    }

    #[test]
    fn keys_have_at_most_255_characters() {
        assert!(check_key(&"ü".repeat(255)).is_ok());
        assert!(check_key(&"k".repeat(256)).is_err());
    }
}
