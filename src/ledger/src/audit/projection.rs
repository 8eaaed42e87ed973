//! Entries, keys and budgets against the events that they were made from.
//!
//! Here: what the events say of each request, key and budget, and the comparison. It is kept in memory: a few hundred bytes a request.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use keybrake_contract::digest::Digest;
use keybrake_contract::ids::{CommandId, HoldId};
use keybrake_contract::lifecycle::{HoldState, RecordState, State};
use keybrake_contract::money::{Currency, Micros, Minor};
use keybrake_contract::refusal::RefusalCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::balances::{Balances, Subject};
use super::facts::{budget_facts, key_facts};
use super::report::Broken;
use crate::book;
use crate::model::EntryOutcome;
use crate::store::{BalancePiece, EventRow, FullBudget, FullKey, Kind, RequestPiece, outcome_of};

/// An event, as far as entries are made from it.
#[derive(Deserialize)]
struct Told {
    event: String,
    at: i64,
    hold: Option<HoldId>,
    reserve: Option<CommandId>,
    attempt: Option<u32>,
    cost: Option<Micros>,
    amount: Option<u64>,
    currency: Option<Currency>,
    record_state: Option<RecordState>,
    hold_state: Option<HoldState>,
    outcome: Option<String>,
    status: Option<u16>,
    vendor_object_id: Option<String>,
    charge_id: Option<String>,
    vendor_request_id: Option<String>,
    #[serde(default)]
    judged: Vec<JudgedTold>,
    code: Option<RefusalCode>,
    key_id: Option<String>,
    budget: Option<String>,
    label: Option<String>,
    run_id: Option<String>,
    operation: Option<String>,
    idempotency_key: Option<String>,
    client_idempotency_key: Option<String>,
    usd_per_unit: Option<String>,
}

#[derive(Deserialize)]
struct JudgedTold {
    hold: HoldId,
    cost: Option<Micros>,
    hold_state: HoldState,
}

/// What the events say of a request.
struct Expected {
    event: u64,
    /// `None`: it was refused.
    state: Option<State>,
    cost: Option<Micros>,
    amount: Option<Minor>,
    attempts: u32,
    replays: u64,
    /// Of what is told once.
    facts: Digest,
    /// Of status and request id.
    answer: Digest,
    /// Of object and charge.
    object: Digest,
    resolution: Option<u64>,
}

/// What the events say of a key.
struct ExpectedKey {
    facts: Digest,
    is_revoked: bool,
    changed_at: i64,
}

/// What the events say of a budget.
struct ExpectedBudget {
    facts: Map<String, Value>,
    changed_at: i64,
}

/// See the module.
#[derive(Default)]
pub struct Projection {
    requests: HashMap<HoldId, Expected>,
    keys: HashMap<String, ExpectedKey>,
    budgets: HashMap<String, ExpectedBudget>,
    balances: Balances,
    entries: u64,
}

impl Projection {
    /// How many entries were compared.
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// Takes an event.
    pub fn event(&mut self, row: &EventRow) -> Result<(), Broken> {
        let unreadable = Broken::Altered { seq: row.seq };
        let told: Told = serde_json::from_slice(&row.body).map_err(|_| unreadable.clone())?;
        match told.event.as_str() {
            "admitted" | "refused" => self.decided(row.seq, told),
            "replayed" => {
                if let Some(expected) = told.hold.and_then(|hold| self.requests.get_mut(&hold)) {
                    expected.replays = expected.replays.saturating_add(1);
                }
            }
            "outcome" | "released" | "swept" | "resolved" => self.ended(row.seq, &told),
            "issued" | "changed" | "revoked" => {
                let members = serde_json::from_slice(&row.body).map_err(|_| unreadable)?;
                self.key_event(told, members);
            }
            "budget_created" | "budget_changed" => {
                let members = serde_json::from_slice(&row.body).map_err(|_| unreadable)?;
                self.budget_event(told, members);
            }
            "budget_tripped" => self.tripped(&told),
            _ => {}
        }
        Ok(())
    }

    fn decided(&mut self, seq: u64, told: Told) {
        let Some(hold) = told.hold else { return };
        if told.reserve.is_some() {
            // A later attempt on a hold that is there.
            if let Some(expected) = self.requests.get_mut(&hold) {
                expected.attempts = told.attempt.unwrap_or(expected.attempts);
                if let Some(state) = &mut expected.state {
                    state.record = RecordState::InFlight;
                }
            }
            return;
        }
        let is_admitted = told.event == "admitted";
        let amount = minor(&told);
        let facts = facts(&[
            told.key_id.as_deref(),
            told.budget.as_deref(),
            told.label.as_deref(),
            told.run_id.as_deref(),
            told.operation.as_deref(),
            told.idempotency_key.as_deref(),
            told.client_idempotency_key.as_deref(),
            told.code.map(RefusalCode::as_str),
            told.usd_per_unit.as_deref(),
        ]);
        let expected = Expected {
            event: seq,
            state: is_admitted.then_some(State::ADMITTED),
            cost: told.cost,
            amount,
            attempts: u32::from(is_admitted),
            replays: 0,
            facts,
            answer: answer(None, None),
            object: object(None, None),
            resolution: None,
        };
        self.requests.insert(hold, expected);
    }

    fn ended(&mut self, seq: u64, told: &Told) {
        let Some(expected) = told.hold.and_then(|hold| self.requests.get_mut(&hold)) else {
            return;
        };
        let (Some(record), Some(hold), Some(before)) =
            (told.record_state, told.hold_state, expected.state)
        else {
            return;
        };
        let was_answered = before.record == RecordState::Answered;
        let is_executed = told.outcome.as_deref() == Some("executed");
        let is_known = told
            .attempt
            .is_some_and(|number| number <= expected.attempts);
        if told.event == "outcome" && !was_answered && (is_known || is_executed) {
            expected.answer = answer(told.status, told.vendor_request_id.as_deref());
            expected.object = object(told.vendor_object_id.as_deref(), told.charge_id.as_deref());
        }
        if told.event == "resolved" {
            expected.resolution = Some(seq);
        }
        if told.event == "resolved" && told.vendor_object_id.is_some() {
            expected.object = object(told.vendor_object_id.as_deref(), told.charge_id.as_deref());
        }
        if is_executed && !was_answered && record == RecordState::Answered {
            expected.amount = minor(told).or(expected.amount);
        }
        expected.state = Some(State { record, hold });
        expected.cost = told.cost;
        for judged in &told.judged {
            if let Some(other) = self.requests.get_mut(&judged.hold) {
                other.cost = judged.cost;
                if let Some(state) = &mut other.state {
                    state.hold = judged.hold_state;
                }
            }
        }
    }

    fn key_event(&mut self, told: Told, members: Map<String, Value>) {
        let Some(key_id) = told.key_id else { return };
        let expected = ExpectedKey {
            facts: Digest::of(Value::Object(facts_in(members)).to_string().as_bytes()),
            is_revoked: told.event == "revoked",
            changed_at: told.at,
        };
        self.keys.insert(key_id, expected);
    }

    fn budget_event(&mut self, told: Told, members: Map<String, Value>) {
        let Some(name) = told.budget else { return };
        let expected = ExpectedBudget {
            facts: facts_in(members),
            changed_at: told.at,
        };
        self.budgets.insert(name, expected);
    }

    fn tripped(&mut self, told: &Told) {
        let name = told.budget.as_ref();
        let Some(expected) = name.and_then(|name| self.budgets.get_mut(name)) else {
            return;
        };
        let facts = &mut expected.facts;
        let version = facts.get("version").and_then(Value::as_u64);
        facts.insert("state".to_owned(), "tripped".into());
        facts.insert(
            "version".to_owned(),
            version.unwrap_or_default().saturating_add(1).into(),
        );
    }

    /// Takes a key.
    pub fn key(&mut self, full: &FullKey) -> Result<(), Broken> {
        let key = &full.key;
        let broken = |what| Broken::Key {
            key_id: key.key_id.clone(),
            what,
        };
        let expected = self.keys.get(&key.key_id);
        let expected = expected.ok_or_else(|| broken("there is no event of it"))?;
        if expected.facts != Digest::of(key_facts(key).to_string().as_bytes()) {
            return Err(broken("its caps, grant, end or label"));
        }
        if expected.is_revoked != key.revoked_at.is_some() {
            return Err(broken("whether it is revoked"));
        }
        let subject = Subject {
            kind: "key",
            name: key.key_id.clone(),
            budget: None,
            zone: TimeZone::UTC,
            caps: key.caps,
            changed_at: expected.changed_at,
        };
        self.balances.subject(full.number, subject);
        Ok(())
    }

    /// Takes a budget.
    pub fn budget(&mut self, full: &FullBudget) -> Result<(), Broken> {
        let budget = &full.budget;
        let broken = |what| Broken::Budget {
            name: budget.name.clone(),
            what,
        };
        let expected = self.budgets.get(&budget.name);
        let expected = expected.ok_or_else(|| broken("there is no event of it"))?;
        if budget_facts(budget).as_object() != Some(&expected.facts) {
            return Err(broken(
                "its caps, state, brake, rule, parent, time zone or version",
            ));
        }
        let subject = Subject {
            kind: "budget",
            name: budget.name.clone(),
            budget: full.parent,
            zone: book::zone(&budget.time_zone).ok_or_else(|| broken("its time zone"))?,
            caps: budget.caps,
            changed_at: expected.changed_at,
        };
        self.balances.subject(full.number, subject);
        Ok(())
    }

    /// Takes a request's entry.
    pub fn request(&mut self, row: &RequestPiece) -> Result<(), Broken> {
        let expected = self.requests.remove(&row.id);
        let budget = row.budget.and_then(|number| self.balances.name(number));
        let differs = expected.map_or(Some("there is no event of it"), |expected| {
            difference(&expected, row, budget)
        });
        if let Some(what) = differs {
            return Err(Broken::Entry {
                id: row.id.to_string(),
                event: row.event,
                what,
            });
        }
        self.entries = self.entries.saturating_add(1);
        if let (Kind::Read | Kind::Write, Some(cost)) = (row.kind, row.cost) {
            self.balances.add(row, cost);
        }
        Ok(())
    }

    /// Takes a balance.
    pub fn balance(&self, row: &BalancePiece) -> Result<(), Broken> {
        self.balances.balance(row)
    }

    /// The first request that has an event and no entry.
    pub fn left_over(&self) -> Option<Broken> {
        let first = self
            .requests
            .iter()
            .min_by_key(|(_, expected)| expected.event)?;
        Some(Broken::NoEntry {
            id: first.0.to_string(),
            event: first.1.event,
        })
    }
}

/// The first thing in which an entry differs from what its events say.
fn difference(
    expected: &Expected,
    row: &RequestPiece,
    budget: Option<&str>,
) -> Option<&'static str> {
    let is_admitted = matches!(row.kind, Kind::Read | Kind::Write);
    let rate = row.rate.map(|rate| rate.to_string());
    let has_facts = facts(&[
        Some(row.key_id.as_str()),
        budget,
        Some(row.label.as_str()),
        row.run_id.as_deref(),
        Some(row.operation.as_str()),
        row.idempotency_key.as_deref(),
        row.client_key.as_deref(),
        row.reason.as_deref(),
        rate.as_deref(),
    ]);
    let is_called = match expected.state {
        None => row.outcome.is_none(),
        Some(state) => {
            row.outcome == Some(outcome_of(state))
                || (row.kind == Kind::Read && row.outcome == Some(EntryOutcome::Abandoned))
        }
    };
    // What a read answered moves nothing, and its outcome's amount is not its own.
    let is_read = row.kind == Kind::Read;
    let rows = [
        (row.event == expected.event, "which event decided it"),
        (is_admitted == expected.state.is_some(), "its verdict"),
        (
            has_facts == expected.facts,
            "its key, label, budget, run, operation, idempotency key, reason or exchange rate",
        ),
        (
            expected.state.is_none_or(|state| state == row.state),
            "the state of its money or of its record",
        ),
        (is_called, "its outcome"),
        (row.cost == expected.cost, "its cost"),
        (is_read || row.amount == expected.amount, "its amount"),
        (
            row.attempts == expected.attempts,
            "how often it was forwarded",
        ),
        (row.replays == expected.replays, "how often it was replayed"),
        (
            row.resolution == expected.resolution,
            "which evidence decided it",
        ),
        (
            is_read || answer(row.status, row.vendor_request_id.as_deref()) == expected.answer,
            "the vendor's status or request id",
        ),
        (
            is_read || object(row.object.as_deref(), row.charge.as_deref()) == expected.object,
            "the vendor's object or charge",
        ),
    ];
    rows.into_iter()
        .find(|(is_right, _)| !is_right)
        .map(|(_, what)| what)
}

/// What an event says of a key or a budget itself.
fn facts_in(mut members: Map<String, Value>) -> Map<String, Value> {
    members.remove("at");
    members.remove("event");
    members
}

fn minor(told: &Told) -> Option<Minor> {
    told.amount
        .zip(told.currency)
        .map(|(amount, currency)| Minor { amount, currency })
}

fn facts(texts: &[Option<&str>]) -> Digest {
    let parts = texts.iter().flat_map(|text| match text {
        None => [&b"-"[..], b""],
        Some(text) => [&b"+"[..], text.as_bytes()],
    });
    Digest::of_parts(parts)
}

fn answer(status: Option<u16>, vendor_request_id: Option<&str>) -> Digest {
    let status = status.map(|status| status.to_string());
    facts(&[status.as_deref(), vendor_request_id])
}

fn object(object: Option<&str>, charge: Option<&str>) -> Digest {
    facts(&[object, charge])
}
