//! New requests, column by column.

use keybrake_contract::digest::Digest;
use keybrake_contract::lifecycle::{HoldState, RecordState, State};
use keybrake_contract::money::Micros;

use super::link::Question;
use super::rows::{parameters, text, text_if_any};
use crate::store::codes::{Coded as _, rate_code};
use crate::store::{AttemptState, Kind, NewRequest};

/// See the module.
#[derive(Default)]
pub struct Requests {
    number: Vec<i64>,
    id: Vec<Vec<u8>>,
    digest: Vec<Vec<u8>>,
    at: Vec<i64>,
    subject: Vec<i64>,
    previous: Vec<Option<i64>>,
    place: Vec<i64>,
    event: Vec<i64>,
    kind: Vec<i64>,
    record: Vec<i64>,
    hold: Vec<i64>,
    outcome: Vec<Option<i64>>,
    attempts: Vec<i64>,
    first_attempt: Vec<i64>,
    deadline: Vec<Option<i64>>,
    cost: Vec<Option<i64>>,
    amount: Vec<Option<i64>>,
    currency: Vec<Option<String>>,
    forwarded_before: Vec<i64>,
    operation: Vec<String>,
    label: Vec<String>,
    run_id: Vec<Option<String>>,
    reason: Vec<Option<String>>,
    record_key: Vec<Option<Vec<u8>>>,
    idempotency_key: Vec<Option<String>>,
    client_key: Vec<Option<String>>,
    fingerprint: Vec<Option<Vec<u8>>>,
    full_fingerprint: Vec<Option<Vec<u8>>>,
    rate: Vec<Option<i64>>,
    budget: Vec<Option<i64>>,
}

impl Requests {
    pub fn push(&mut self, request: &NewRequest<'_>) {
        let is_admitted = matches!(request.kind, Kind::Read | Kind::Write);
        let state = if is_admitted {
            State::ADMITTED
        } else {
            State {
                record: RecordState::Released,
                hold: HoldState::Released,
            }
        };
        self.number.push(request.number);
        self.budget.push(request.budget);
        self.id.push(request.id.as_bytes().to_vec());
        self.digest.push(request.digest.as_bytes().to_vec());
        self.at.push(request.at);
        self.subject.push(request.key);
        self.previous.push(request.previous);
        self.place.push(request.place);
        self.event.push(request.event.cast_signed());
        self.kind.push(request.kind.code());
        self.record.push(state.record.code());
        self.hold.push(state.hold.code());
        self.outcome
            .push(is_admitted.then(|| crate::model::EntryOutcome::InFlight.code()));
        self.attempts.push(i64::from(is_admitted));
        self.first_attempt.push(AttemptState::Open.code());
        self.deadline.push(request.deadline);
        self.cost.push(request.cost.map(Micros::get));
        self.amount
            .push(request.amount.map(|minor| minor.amount.cast_signed()));
        self.currency.push(
            request
                .amount
                .map(|minor| minor.currency.as_str().to_owned()),
        );
        self.forwarded_before
            .push(i64::from(request.forwarded_before));
        self.operation.push(text(request.operation));
        self.label.push(text(request.label));
        self.run_id.push(text_if_any(request.run_id));
        self.reason.push(text_if_any(request.reason));
        self.record_key
            .push(request.record_key.map(|key| key.as_bytes().to_vec()));
        self.idempotency_key
            .push(text_if_any(request.idempotency_key));
        self.client_key.push(text_if_any(request.client_key));
        let bytes = |digest: &Digest| digest.as_bytes().to_vec();
        self.fingerprint.push(request.fingerprint.map(bytes));
        self.full_fingerprint
            .push(request.full_fingerprint.map(bytes));
        self.rate.push(rate_code(request.rate));
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.number.len()
    }

    pub fn is_empty(&self) -> bool {
        self.number.is_empty()
    }

    pub fn insert(self) -> Question {
        Question::new(
            "INSERT INTO requests (
                 number, id, digest, at, subject, previous, place, event, kind, record, hold, outcome, attempts,
                 first_attempt, deadline, cost, amount, currency, forwarded_before, operation, label, run_id, reason,
                 record_key, idempotency_key, client_key, fingerprint, full_fingerprint,
                 budget, rate)
             SELECT * FROM unnest(
                 $1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                 $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
                 $15::bigint[], $16::bigint[], $17::bigint[], $18::text[], $19::bigint[], $20::text[], $21::text[],
                 $22::text[], $23::text[], $24::bytea[], $25::text[], $26::text[], $27::bytea[], $28::bytea[],
                 $29::bigint[], $30::bigint[])",
            parameters![
                self.number,
                self.id,
                self.digest,
                self.at,
                self.subject,
                self.previous,
                self.place,
                self.event,
                self.kind,
                self.record,
                self.hold,
                self.outcome,
                self.attempts,
                self.first_attempt,
                self.deadline,
                self.cost,
                self.amount,
                self.currency,
                self.forwarded_before,
                self.operation,
                self.label,
                self.run_id,
                self.reason,
                self.record_key,
                self.idempotency_key,
                self.client_key,
                self.fingerprint,
                self.full_fingerprint,
                self.budget,
                self.rate,
            ],
        )
    }
}
