//! Outcome, release and sweep: the three ways in which an attempt ends.

use keybrake_contract::digest::Digest;
use keybrake_contract::lifecycle::Verdict;
use keybrake_contract::wire::{AttemptOutcome, CommandResult, Executed, Outcome, Release};

use super::alarms::AlarmKind;
use super::conclude::{About, Concluded, Ending};
use super::remembered::Remembered;
use super::writer::Writer;
use crate::audit::{Ended, Orphan, Tombstone};
use crate::book::{Evidence, verdict_of};
use crate::model::EntryOutcome;
use crate::store::{AttemptState, HoldRow, Kind, Store, StoreError};

/// Most attempts that one sweep ends. What is left over is swept next.
pub(super) const SWEEP: u32 = 256;

impl<S: Store> Writer<S> {
    pub(super) fn outcome(
        &mut self,
        command: &Outcome,
        digest: &Digest,
        answer_sha256: Option<Digest>,
    ) -> Result<CommandResult, StoreError> {
        if let Some(answer) = self.repeated(command.id, digest)? {
            return Ok(answer);
        }
        let row = self.store.hold_by_id(command.hold)?;
        match row {
            Some(row) if matches!(row.kind, Kind::Read | Kind::Write) => {
                let ending = ending_of(command, row.kind);
                let concluded = self.conclude(&row, &ending)?;
                self.ended(&row, command, answer_sha256, &concluded)?;
                self.alarms_of(&row, &concluded.alarms, Some(command.id))?;
            }
            _ => {
                let orphan = Orphan {
                    at: self.now,
                    attempt: command.attempt,
                    event: "orphan",
                    hold: command.hold,
                    outcome: name_of(&command.outcome),
                    status: command.status,
                    vendor_object_id: command.vendor_object_id.as_deref(),
                    vendor_request_id: command.vendor_request_id.as_deref(),
                };
                self.tell(&orphan)?;
                let hold = Some(command.hold);
                self.alarm(AlarmKind::OutcomeWithoutHold, Some(command.id), hold)?;
            }
        }
        self.remember(command.id, digest, &Remembered::Recorded)?;
        Ok(CommandResult::Recorded)
    }

    fn ended(
        &mut self,
        row: &HoldRow,
        command: &Outcome,
        answer_sha256: Option<Digest>,
        concluded: &Concluded,
    ) -> Result<(), StoreError> {
        let executed = executed_of(&command.outcome);
        let amount = executed.and_then(|executed| executed.amount);
        let event = Ended {
            amount: amount.map(|minor| minor.amount),
            answer_sha256,
            at: self.now,
            attempt: command.attempt,
            balances: &concluded.balances,
            cause: None,
            charge_id: command.charge_id.as_deref(),
            cost: concluded.cost,
            currency: amount.map(|minor| minor.currency),
            event: "outcome",
            evidence: match command.status {
                Some(_) if command.replayed_by_vendor => &Evidence::VendorReplay,
                Some(_) => &Evidence::VendorAnswer,
                None => &Evidence::None,
            },
            hold: row.id,
            hold_state: concluded.state.hold,
            judged: &concluded.judged,
            latency_ms: Some(command.latency_ms),
            money: executed.map(|executed| executed.money),
            outcome: name_of(&command.outcome),
            record_state: concluded.state.record,
            replayed_by_vendor: command.replayed_by_vendor.then_some("yes"),
            reserve: None,
            status: command.status,
            vendor_object_id: command.vendor_object_id.as_deref(),
            vendor_request_id: command.vendor_request_id.as_deref(),
        };
        self.tell(&event)?;
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        command: &Release,
        digest: &Digest,
    ) -> Result<CommandResult, StoreError> {
        if let Some(answer) = self.repeated(command.id, digest)? {
            return Ok(answer);
        }
        self.release_reserve(command)?;
        self.remember(command.id, digest, &Remembered::Released)?;
        Ok(CommandResult::Released)
    }

    fn release_reserve(&mut self, command: &Release) -> Result<(), StoreError> {
        if let Some(row) = self.store.hold_by_id(command.reserve)? {
            return match row.kind {
                Kind::Read | Kind::Write => self.release_attempt(command, &row, 1),
                Kind::Refused | Kind::RefusedByFilter => Ok(()),
            };
        }
        if let Some((number, attempt)) = self.store.attempt_by_reserve(command.reserve)?
            && let Some(row) = self.store.hold(number)?
        {
            return self.release_attempt(command, &row, attempt);
        }
        if self.store.command(command.reserve)?.is_some() {
            return Ok(());
        }
        let tombstone = Tombstone {
            at: self.now,
            cause: command.cause,
            event: "cancelled",
            reserve: command.reserve,
        };
        self.tell(&tombstone)?;
        let nothing = Digest::from_bytes([0; 32]);
        self.remember(command.reserve, &nothing, &Remembered::Tombstone)
    }

    /// An attempt that is being made, or of which nothing was heard in time, was never begun. What the vendor has said
    /// about an attempt is not undone by a release.
    fn release_attempt(
        &mut self,
        command: &Release,
        row: &HoldRow,
        attempt: u32,
    ) -> Result<(), StoreError> {
        let state = if attempt == 1 {
            Some(row.first_attempt)
        } else {
            let later = self.store.later_attempts(row.number)?;
            later
                .into_iter()
                .find(|other| other.attempt == attempt)
                .map(|other| other.state)
        };
        if !matches!(state, Some(AttemptState::Open | AttemptState::Overdue)) {
            return Ok(());
        }
        let ending = Ending {
            about: About::OneAttempt,
            attempt,
            state: AttemptState::NotForwarded,
            verdict: Verdict::NotExecuted,
            executed: None,
            outcome: None,
            object: None,
            called: None,
        };
        let concluded = self.conclude(row, &ending)?;
        let event = Ended {
            cause: Some(command.cause),
            event: "released",
            evidence: &Evidence::NotForwarded,
            outcome: "not_executed",
            reserve: Some(command.reserve),
            ..self.bare(row, attempt, &concluded)
        };
        self.tell(&event)?;
        self.alarms_of(row, &concluded.alarms, Some(command.id))
    }

    /// Ends attempts whose outcome is overdue. Answers how many.
    pub(super) fn sweep(&mut self) -> Result<usize, StoreError> {
        let due = self.store.due(self.now, SWEEP)?;
        for one in &due {
            let Some(row) = self.store.hold(one.number)? else {
                continue;
            };
            let (verdict, called) = match row.kind {
                // Nothing can have been moved by a read.
                Kind::Read => (Verdict::NotExecuted, Some(EntryOutcome::Abandoned)),
                _ => (Verdict::Indeterminate, None),
            };
            let ending = Ending {
                about: About::OneAttempt,
                attempt: one.attempt,
                state: AttemptState::Overdue,
                verdict,
                executed: None,
                outcome: None,
                object: None,
                called,
            };
            let concluded = self.conclude(&row, &ending)?;
            let event = Ended {
                event: "swept",
                outcome: "indeterminate",
                ..self.bare(&row, one.attempt, &concluded)
            };
            self.tell(&event)?;
            self.alarms_of(&row, &concluded.alarms, None)?;
        }
        Ok(due.len())
    }

    pub(super) fn bare<'a>(
        &self,
        row: &HoldRow,
        attempt: u32,
        concluded: &'a Concluded,
    ) -> Ended<'a> {
        Ended {
            amount: None,
            answer_sha256: None,
            at: self.now,
            attempt,
            balances: &concluded.balances,
            cause: None,
            charge_id: None,
            cost: concluded.cost,
            currency: None,
            event: "outcome",
            evidence: &Evidence::None,
            hold: row.id,
            hold_state: concluded.state.hold,
            judged: &concluded.judged,
            latency_ms: None,
            money: None,
            outcome: "indeterminate",
            record_state: concluded.state.record,
            replayed_by_vendor: None,
            reserve: None,
            status: None,
            vendor_object_id: None,
            vendor_request_id: None,
        }
    }
}

/// How an outcome ends its attempt. A read moves nothing: whatever became of it, it ends, and its client may be gone.
fn ending_of(command: &Outcome, kind: Kind) -> Ending<'_> {
    let is_read = kind == Kind::Read;
    let (state, verdict, called) = match &command.outcome {
        AttemptOutcome::Executed(_) if is_read => {
            (AttemptState::Executed, Verdict::ExecutedMoved, None)
        }
        AttemptOutcome::Executed(executed) => {
            (AttemptState::Executed, verdict_of(executed.money), None)
        }
        AttemptOutcome::DeclinedFinal => (AttemptState::Declined, Verdict::DeclinedFinal, None),
        AttemptOutcome::NotExecuted => (AttemptState::NotExecuted, Verdict::NotExecuted, None),
        AttemptOutcome::Indeterminate | AttemptOutcome::Abandoned if is_read => (
            AttemptState::Indeterminate,
            Verdict::NotExecuted,
            Some(EntryOutcome::Abandoned),
        ),
        AttemptOutcome::Indeterminate | AttemptOutcome::Abandoned => {
            (AttemptState::Indeterminate, Verdict::Indeterminate, None)
        }
    };
    Ending {
        about: About::OneAttempt,
        attempt: command.attempt,
        state,
        verdict,
        executed: executed_of(&command.outcome).filter(|_| !is_read),
        outcome: Some(command),
        object: command.vendor_object_id.as_deref(),
        called,
    }
}

const fn executed_of(outcome: &AttemptOutcome) -> Option<&Executed> {
    match outcome {
        AttemptOutcome::Executed(executed) => Some(executed),
        _ => None,
    }
}

const fn name_of(outcome: &AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Executed(_) => "executed",
        AttemptOutcome::DeclinedFinal => "declined_final",
        AttemptOutcome::NotExecuted => "not_executed",
        AttemptOutcome::Indeterminate => "indeterminate",
        AttemptOutcome::Abandoned => "abandoned",
    }
}
