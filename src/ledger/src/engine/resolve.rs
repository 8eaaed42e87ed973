//! Evidence applied to a request whose outcome nobody knows: the one way, whoever brings the evidence.

use keybrake_contract::ids::HoldId;
use keybrake_contract::lifecycle::Verdict;
use keybrake_contract::wire::Executed;

use super::conclude::{About, Ending};
use super::writer::Writer;
use crate::audit::Ended;
use crate::book::{Evidence, Finding, Undecided, decide};
use crate::store::{AttemptState, HoldRow, Kind, Store, StoreError};

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
    /// Decides a request by evidence, if it is unknown and the evidence can show that: state, money, record, and an event that
    /// names the evidence.
    pub(super) fn apply_evidence(
        &mut self,
        hold: HoldId,
        finding: &Finding,
        evidence: &Evidence,
    ) -> Result<Resolved, StoreError> {
        let row = self.store.hold_by_id(hold)?;
        let Some(row) = row.filter(|row| row.kind == Kind::Write) else {
            return Ok(Resolved::NotFound);
        };
        let verdict = match decide(row.state, evidence, finding) {
            Ok(verdict) => verdict,
            Err(why) => return Ok(Resolved::Undecided(why)),
        };
        self.decide_unknown(&row, verdict, finding, evidence)?;
        let result = match finding {
            Finding::Executed { .. } => "executed",
            Finding::NotExecuted => "not_executed",
        };
        self.tallied("resolve", result);
        Ok(Resolved::Done)
    }

    fn decide_unknown(
        &mut self,
        row: &HoldRow,
        verdict: Verdict,
        finding: &Finding,
        evidence: &Evidence,
    ) -> Result<(), StoreError> {
        let Found {
            executed,
            object,
            charge,
            state,
            name,
        } = found(finding);
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
        let event = Ended {
            amount: amount.map(|minor| minor.amount),
            charge_id: charge,
            currency: amount.map(|minor| minor.currency),
            event: "resolved",
            evidence,
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
