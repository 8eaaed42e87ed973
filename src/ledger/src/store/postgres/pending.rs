//! What a transaction has decided and not sent yet. It goes out in one round trip, one statement for each table.
//!
//! What rests on something that was read is written under the condition that it is still so: [`Write::rows`] says how many rows
//! must have been written, and a transaction in which it is another number is taken back.

use std::collections::BTreeMap;

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::lifecycle::State;
use keybrake_contract::money::Micros;
use keybrake_contract::wire::StoredAnswer;

use super::known::Subject;
use super::link::{Parameter, Question};
use super::new_requests::Requests;
use super::rows::{parameter, text_if_any};
use super::statements;
use crate::book::Parts;
use crate::store::codes::Coded as _;
use crate::store::{
    AttemptState, FullKey, HoldChange, KeyNumber, NewRequest, Purchase, RecordKey, RequestNumber,
    StoreError,
};

/// A statement of a transaction.
pub struct Write {
    pub question: Question,
    /// How many rows it must write; `None`: any number.
    pub rows: Option<u64>,
}

/// A balance that was changed.
#[derive(Debug, Clone, Copy)]
pub struct Touched {
    /// As it is in the table; `None`: it is not there.
    pub before: Option<Parts>,
    pub now: Parts,
    /// What must have been free before for everything to be allowed that was taken since.
    pub needed: Option<Micros>,
}

/// A change of a hold.
#[derive(Debug, Clone)]
pub struct Change {
    pub state: State,
    pub outcome: i64,
    pub cost: Option<i64>,
    pub amount: Option<i64>,
    pub currency: Option<String>,
    pub attempts: i64,
    pub first_attempt: AttemptState,
    pub said: Option<Told>,
}

/// What the vendor said.
#[derive(Debug, Clone)]
pub struct Told {
    pub status: Option<i64>,
    pub object: Option<String>,
    pub charge: Option<String>,
    pub charge_is_object: i64,
    pub vendor_request_id: Option<String>,
    pub latency_ms: i64,
}

/// See the module.
#[derive(Default)]
pub struct Pending {
    pub events: Vec<(i64, Vec<u8>, Vec<u8>)>,
    requests: Requests,
    changes: BTreeMap<RequestNumber, Change>,
    commands: Vec<(CommandId, Digest, i64, Vec<u8>)>,
    pub records: BTreeMap<[u8; 24], RequestNumber>,
    pub mentions: Vec<(i64, RequestNumber)>,
    answers: BTreeMap<RequestNumber, StoredAnswer>,
    pub replays: BTreeMap<RequestNumber, i64>,
    /// Before (`None`: a new one) and now.
    pub subjects: BTreeMap<KeyNumber, (Option<Subject>, Subject)>,
    pub balances: BTreeMap<(KeyNumber, i64), Touched>,
    keys: Vec<FullKey>,
    /// With until when each is kept.
    pub purchases: BTreeMap<(KeyNumber, [u8; 32]), (Purchase, i64)>,
    /// What is seldom done, in order.
    pub rare: Vec<Write>,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.requests.is_empty()
            && self.changes.is_empty()
            && self.commands.is_empty()
            && self.records.is_empty()
            && self.mentions.is_empty()
            && self.answers.is_empty()
            && self.replays.is_empty()
            && self.subjects.is_empty()
            && self.balances.is_empty()
            && self.keys.is_empty()
            && self.purchases.is_empty()
            && self.rare.is_empty()
    }

    pub fn add_request(&mut self, request: &NewRequest<'_>) {
        self.requests.push(request);
    }

    pub fn add_command(&mut self, id: CommandId, digest: &Digest, at: i64, answer: &[u8]) {
        self.commands.push((id, *digest, at, answer.to_vec()));
    }

    pub fn add_key(&mut self, key: FullKey) {
        self.keys.push(key);
    }

    /// The first answer stays.
    pub fn add_answer(&mut self, number: RequestNumber, answer: &StoredAnswer) {
        self.answers.entry(number).or_insert_with(|| answer.clone());
    }

    /// A later change takes the place of an earlier one, save that what the vendor said stays until it says something else.
    pub fn change(&mut self, number: RequestNumber, change: &HoldChange<'_>) {
        let earlier = self
            .changes
            .remove(&number)
            .and_then(|earlier| earlier.said);
        let said = change.said.map(|said| Told {
            status: said.status.map(i64::from),
            object: text_if_any(said.object),
            charge: text_if_any(said.charge.filter(|charge| Some(*charge) != said.object)),
            charge_is_object: i64::from(said.charge.is_some() && said.charge == said.object),
            vendor_request_id: text_if_any(said.vendor_request_id),
            latency_ms: i64::from(said.latency_ms),
        });
        self.changes.insert(
            number,
            Change {
                state: change.state,
                outcome: change.outcome.code(),
                cost: change.cost.map(Micros::get),
                amount: change.amount.map(|minor| minor.amount.cast_signed()),
                currency: change
                    .amount
                    .map(|minor| minor.currency.as_str().to_owned()),
                attempts: i64::from(change.attempts),
                first_attempt: change.first_attempt,
                said: said.or(earlier),
            },
        );
    }

    /// Everything, in an order in which each statement finds what it changes.
    pub fn take(&mut self) -> Result<Vec<Write>, StoreError> {
        let Self {
            events,
            requests,
            changes,
            commands,
            records,
            mentions,
            answers,
            replays,
            subjects,
            balances,
            keys,
            purchases,
            rare,
        } = std::mem::take(self);
        let (new_subjects, old_subjects): (Vec<_>, Vec<_>) = subjects
            .into_iter()
            .partition(|(_, (before, _))| before.is_none());
        let (said, silent): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|(_, change)| change.said.is_some());
        let (new_balances, old_balances): (Vec<_>, Vec<_>) = balances
            .into_iter()
            .partition(|(_, touched)| touched.before.is_none());
        let mut writes = Writes(Vec::new());
        writes.all(events.len(), || statements::insert_events(events));
        if !keys.is_empty() {
            let question = statements::insert_keys(&keys)?;
            writes.all(keys.len(), || question);
        }
        writes.all(new_subjects.len(), || {
            statements::insert_subjects(&new_subjects)
        });
        writes.all(old_subjects.len(), || {
            statements::update_subjects(&old_subjects)
        });
        writes.all(requests.len(), || requests.insert());
        writes.all(said.len(), || statements::update_said(said));
        writes.all(silent.len(), || statements::update_silent(&silent));
        writes.all(new_balances.len(), || {
            statements::insert_balances(&new_balances)
        });
        writes.all(old_balances.len(), || {
            statements::update_balances(&old_balances)
        });
        writes.all(records.len(), || statements::upsert_records(&records));
        writes.any(mentions.len(), || statements::insert_mentions(mentions));
        writes.any(answers.len(), || statements::insert_answers(answers));
        writes.all(commands.len(), || statements::insert_commands(commands));
        writes.all(replays.len(), || statements::count_replays(&replays));
        writes.all(purchases.len(), || statements::upsert_purchases(purchases));
        writes.0.extend(rare);
        Ok(writes.0)
    }
}

/// The statements of a transaction. One without rows is left out.
struct Writes(Vec<Write>);

impl Writes {
    /// A statement that must write every one of its rows.
    fn all(&mut self, rows: usize, question: impl FnOnce() -> Question) {
        if rows > 0 {
            self.0.push(Write {
                question: question(),
                rows: u64::try_from(rows).ok(),
            });
        }
    }

    /// A statement that leaves rows as they are that are there already.
    fn any(&mut self, rows: usize, question: impl FnOnce() -> Question) {
        if rows > 0 {
            self.0.push(Write {
                question: question(),
                rows: None,
            });
        }
    }
}

/// A record's key as it is kept here.
pub fn record_bytes(key: &RecordKey) -> [u8; 24] {
    *key.as_bytes()
}

/// Any statement that seldom comes.
pub fn rare(sql: &'static str, parameters: Vec<Parameter>, rows: Option<u64>) -> Write {
    Write {
        question: Question::new(sql, parameters),
        rows,
    }
}

/// A single parameter, where the macro would be too much.
pub fn only<T: tokio_postgres::types::ToSql + Sync + Send + 'static>(value: T) -> Vec<Parameter> {
    vec![parameter(value)]
}
