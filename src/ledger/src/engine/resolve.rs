//! Evidence applied to a request whose outcome nobody knows: the one way, whoever brings the evidence.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::HoldId;
use keybrake_contract::lifecycle::{RecordState, Verdict};
use keybrake_contract::wire::{Executed, StoredAnswer};

use super::alarms::AlarmKind;
use super::conclude::{About, Concluded, Ending};
use super::writer::Writer;
use crate::audit::Ended;
use crate::book::{Evidence, Finding, Undecided, decide, executed_cost};
use crate::store::{AttemptState, HoldRow, Kind, Store, StoreError};

/// Evidence about a request, as whoever gathered it brings it.
#[derive(Debug, Clone)]
pub struct Word {
    /// What it says.
    pub finding: Finding,
    /// What that rests on.
    pub evidence: Evidence,
    /// The number of attempts that the evidence covers; one more, and it decides nothing. `None`: it speaks of the request as
    /// a whole.
    pub attempts: Option<u32>,
    /// What to answer to a repeat, when the vendor's records held it.
    pub answer: Option<StoredAnswer>,
}

/// What came of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolved {
    /// The request is decided.
    Done,
    /// There is no such write.
    NotFound,
    /// Nothing was changed.
    Undecided(Undecided),
}

impl<S: Store> Writer<S> {
    /// Decides a request by evidence, if it is unknown (or held, and an operator says so) and the evidence can show that: state,
    /// money, record, and an event that names the evidence.
    pub(super) fn apply_evidence(
        &mut self,
        hold: HoldId,
        word: &Word,
    ) -> Result<Resolved, StoreError> {
        let (finding, evidence) = (&word.finding, &word.evidence);
        let row = self.store.hold_by_id(hold)?;
        let Some(row) = row.filter(|row| row.kind == Kind::Write) else {
            return Ok(Resolved::NotFound);
        };
        let verdict = match decide(row.state, evidence, finding) {
            Ok(verdict) => verdict,
            Err(why) => return Ok(Resolved::Undecided(why)),
        };
        if word.attempts.is_some_and(|seen| seen != row.attempts) {
            return Ok(Resolved::Undecided(Undecided::AttemptedAgain));
        }
        match row.state.record {
            RecordState::Answered => self.end_held(&row, verdict, word)?,
            _ => self.decide_unknown(&row, verdict, word)?,
        }
        let result = match finding {
            Finding::Executed { .. } => "executed",
            Finding::NotExecuted => "not_executed",
        };
        self.tallied("resolve", result);
        Ok(Resolved::Done)
    }

    /// Ends what is held for an object that the vendor made: its money has moved or never will. What was answered stays answered.
    fn end_held(&mut self, row: &HoldRow, verdict: Verdict, word: &Word) -> Result<(), StoreError> {
        let Found { executed, name, .. } = found(&word.finding);
        let amount = executed.and_then(|executed| executed.amount);
        let cost = executed_cost(amount, (row.amount, row.rate)).or(row.cost);
        let mut alarms = Vec::new();
        if row.cost.is_some_and(|held| cost > Some(held)) {
            alarms.push(AlarmKind::AmountAboveHold);
        }
        let (state, balances) = self.decide_open(row, verdict, cost, &mut alarms)?;
        let concluded = Concluded {
            state,
            cost,
            balances,
            judged: Vec::new(),
            alarms,
        };
        let event = Ended {
            amount: amount.map(|minor| minor.amount),
            currency: amount.map(|minor| minor.currency),
            event: "resolved",
            evidence: &word.evidence,
            money: executed.map(|executed| executed.money),
            outcome: name,
            ..self.bare(row, row.attempts, &concluded)
        };
        let event = self.tell(&event)?;
        self.store.set_resolution(row.number, event, None, None)?;
        self.alarms_of(row, &concluded.alarms, None)
    }

    fn decide_unknown(
        &mut self,
        row: &HoldRow,
        verdict: Verdict,
        word: &Word,
    ) -> Result<(), StoreError> {
        let Found {
            executed,
            object,
            charge,
            state,
            name,
        } = found(&word.finding);
        let ending = Ending {
            about: About::EveryAttempt,
            attempt: row.attempts,
            state,
            verdict,
            executed,
            outcome: None,
            object,
            called: None,
        };
        let concluded = self.conclude(row, &ending)?;
        let amount = executed.and_then(|executed| executed.amount);
        let answer = word.answer.as_ref().filter(|_| executed.is_some());
        if let Some(answer) = answer
            && self.store.answer(row.number)?.is_none()
        {
            self.store.add_answer(row.number, answer)?;
        }
        let event = Ended {
            amount: amount.map(|minor| minor.amount),
            answer_sha256: answer.map(|answer| Digest::of(answer.body.as_bytes())),
            charge_id: charge,
            currency: amount.map(|minor| minor.currency),
            event: "resolved",
            evidence: &word.evidence,
            money: executed.map(|executed| executed.money),
            outcome: name,
            vendor_object_id: object,
            ..self.bare(row, row.attempts, &concluded)
        };
        let event = self.tell(&event)?;
        self.store
            .set_resolution(row.number, event, object, charge)?;
        self.alarms_of(row, &concluded.alarms, None)
    }
}

/// A finding, taken apart.
struct Found<'a> {
    executed: Option<&'a Executed>,
    object: Option<&'a str>,
    charge: Option<&'a str>,
    state: AttemptState,
    name: &'static str,
}

fn found(finding: &Finding) -> Found<'_> {
    match finding {
        Finding::Executed {
            executed,
            object,
            charge,
        } => Found {
            executed: Some(executed),
            object: object.as_deref(),
            charge: charge.as_deref().filter(|_| object.is_some()),
            state: AttemptState::Executed,
            name: "executed",
        },
        Finding::NotExecuted => Found {
            executed: None,
            object: None,
            charge: None,
            state: AttemptState::NotExecuted,
            name: "not_executed",
        },
    }
}
