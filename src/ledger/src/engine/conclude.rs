//! The end of an attempt, however it came: outcome, release or sweep. The one place where record, hold and money follow the
//! life-cycle table.

use keybrake_contract::lifecycle::{
    HoldState, OtherAttempts, RecordState, State, Verdict, WhichAttempt, on_object, on_outcome,
};
use keybrake_contract::money::{Micros, Minor};
use keybrake_contract::wire::{Executed, Outcome};

use super::alarms::AlarmKind;
use super::balances::overflow;
use super::writer::Writer;
use crate::audit::{BalanceAfter, Judged};
use crate::book::{Movement, OpenPart, Settlement, beyond_settled, executed_cost, settle};
use crate::model::EntryOutcome;
use crate::store::{AttemptState, HoldChange, HoldRow, Kind, Said, Store, StoreError, outcome_of};

/// What an ending is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// One attempt.
    OneAttempt,
    /// The request as a whole: what holds for its latest attempt holds for every one of which nobody knew.
    EveryAttempt,
}

/// How an attempt ended.
pub(super) struct Ending<'a> {
    pub about: About,
    pub attempt: u32,
    pub state: AttemptState,
    pub verdict: Verdict,
    /// What the vendor did, when it executed.
    pub executed: Option<&'a Executed>,
    /// The outcome command, when there is one.
    pub outcome: Option<&'a Outcome>,
    /// What was made or changed, when that is known.
    pub object: Option<&'a str>,
    /// What the audit calls the request, when its state does not say it.
    pub called: Option<EntryOutcome>,
}

/// What the end of an attempt did.
pub(super) struct Concluded {
    pub state: State,
    pub cost: Option<Micros>,
    pub balances: Vec<BalanceAfter>,
    pub judged: Vec<Judged>,
    pub alarms: Vec<AlarmKind>,
}

/// How an attempt stands among the attempts of its hold.
struct Standing {
    /// What was known of it; `None`: it was never admitted.
    known: Option<AttemptState>,
    which: WhichAttempt,
    others: OtherAttempts,
}

impl Standing {
    /// A word about an attempt that was never admitted counts only when it says that money has moved.
    const fn is_evidence(&self, ending: &Ending<'_>) -> bool {
        self.known.is_some() || ending.executed.is_some()
    }
}

/// Another hold that was decided along with this one.
struct Along {
    row: HoldRow,
    cost: Micros,
}

impl<S: Store> Writer<S> {
    pub(super) fn conclude(
        &mut self,
        row: &HoldRow,
        ending: &Ending<'_>,
    ) -> Result<Concluded, StoreError> {
        let standing = self.standing(row, ending)?;
        let mut alarms = Vec::new();
        let state = next_state(row, ending, &standing, &mut alarms);
        if let Some(outcome) = ending.outcome {
            self.doubts(row, outcome, ending, standing.known, &mut alarms)?;
        }
        let is_decided_now =
            state.record == RecordState::Answered && row.state.record != RecordState::Answered;
        let executed = ending.executed.filter(|_| is_decided_now);
        let settled = match executed {
            Some(executed) => Some(self.settlement(row, executed, ending.object)?),
            None => None,
        };
        let mut cost = row.cost;
        let mut along = Vec::new();
        if let Some((settlement, others)) = settled {
            cost = settlement.own;
            along = others;
            if settlement.above_hold {
                alarms.push(AlarmKind::AmountAboveHold);
            }
        }
        let before = (row.state.hold, row.cost);
        let mut balances = self.shift(row, before, (state.hold, cost), &mut alarms)?;
        let first_attempt = self.end_attempt(row, ending, standing.known)?;
        let is_news = row.state.record != RecordState::Answered;
        let said = ending
            .outcome
            .filter(|_| is_news && standing.is_evidence(ending));
        let called = ending
            .called
            .filter(|_| state.record != RecordState::Answered);
        self.store.change_hold(
            row.number,
            &HoldChange {
                state,
                outcome: called.unwrap_or(outcome_of(state)),
                cost,
                amount: amount_after(row, executed),
                attempts: row.attempts,
                first_attempt,
                said: said.map(said_by),
            },
        )?;
        let mut judged = Vec::new();
        for along in along {
            let (one, changed) = self.judge(&along, ending.verdict, &mut alarms)?;
            judged.push(one);
            balances.extend(changed);
        }
        let answer = ending.outcome.and_then(|outcome| outcome.answer.as_ref());
        if let Some(answer) = answer.filter(|_| is_decided_now && row.kind == Kind::Write) {
            self.store.add_answer(row.number, answer)?;
        }
        self.follow_record(row, state)?;
        Ok(Concluded {
            state,
            cost,
            balances,
            judged,
            alarms,
        })
    }

    /// How an attempt stands among the attempts of its hold.
    fn standing(&mut self, row: &HoldRow, ending: &Ending<'_>) -> Result<Standing, StoreError> {
        let attempt = ending.attempt;
        let mut attempts = vec![(1_u32, row.first_attempt)];
        if row.attempts > 1 {
            let later = self.store.later_attempts(row.number)?;
            attempts.extend(later.iter().map(|other| (other.attempt, other.state)));
        }
        let known = attempts
            .iter()
            .find(|(number, _)| *number == attempt)
            .map(|(_, state)| *state);
        let is_about_one = ending.about == About::OneAttempt;
        let doubtful = is_about_one
            && attempts
                .iter()
                .any(|(number, state)| *number != attempt && is_doubtful(*state));
        Ok(Standing {
            known,
            which: if attempt >= row.attempts {
                WhichAttempt::Latest
            } else {
                WhichAttempt::Earlier
            },
            others: if doubtful || known.is_none() {
                OtherAttempts::Doubtful
            } else {
                OtherAttempts::NoneExecuted
            },
        })
    }

    /// Puts down what is known of the attempt now. Answers the state of the hold's first attempt.
    fn end_attempt(
        &mut self,
        row: &HoldRow,
        ending: &Ending<'_>,
        known: Option<AttemptState>,
    ) -> Result<AttemptState, StoreError> {
        let Some(known) = known else {
            return Ok(row.first_attempt);
        };
        if known == AttemptState::Open {
            self.open_attempts = self.open_attempts.saturating_sub(1);
        }
        let state = merged(known, ending.state);
        if ending.about == About::EveryAttempt && ending.state == AttemptState::NotExecuted {
            return self.end_every_attempt(row, ending.state);
        }
        if ending.attempt == 1 {
            return Ok(state);
        }
        self.store.end_attempt(row.number, ending.attempt, state)?;
        Ok(row.first_attempt)
    }

    /// Puts down one word about every attempt of which nobody knew.
    fn end_every_attempt(
        &mut self,
        row: &HoldRow,
        state: AttemptState,
    ) -> Result<AttemptState, StoreError> {
        if row.attempts > 1 {
            for other in self.store.later_attempts(row.number)? {
                let merged = merged(other.state, state);
                self.store.end_attempt(row.number, other.attempt, merged)?;
            }
        }
        Ok(merged(row.first_attempt, state))
    }

    /// What an outcome says that does not fit what is known.
    fn doubts(
        &mut self,
        row: &HoldRow,
        outcome: &Outcome,
        ending: &Ending<'_>,
        known: Option<AttemptState>,
        alarms: &mut Vec<AlarmKind>,
    ) -> Result<(), StoreError> {
        if outcome.replayed_by_vendor
            && !row.forwarded_before
            && !self.was_forwarded(row, ending.attempt)?
        {
            alarms.push(AlarmKind::ReplayedByVendor);
        }
        let is_second = row.state.record == RecordState::Answered
            && known != Some(AttemptState::Executed)
            && ending.executed.is_some()
            && !outcome.replayed_by_vendor
            && outcome.vendor_object_id != row.object;
        if is_second && row.kind == Kind::Write {
            alarms.push(AlarmKind::ExecutedTwice);
        }
        Ok(())
    }

    /// What an execution settles on its own hold and on the open holds of the same object.
    fn settlement(
        &mut self,
        row: &HoldRow,
        executed: &Executed,
        object: Option<&str>,
    ) -> Result<(Settlement, Vec<Along>), StoreError> {
        let object = object.filter(|_| row.kind == Kind::Write);
        let mut open = match object {
            Some(object) => self.store.open_holds(row.place, object)?,
            None => Vec::new(),
        };
        open.retain(|other| other.number != row.number);
        let parts: Vec<OpenPart> = open
            .iter()
            .map(|other| OpenPart {
                cost: other.cost.unwrap_or_default(),
            })
            .collect();
        let mut taken = executed_cost(executed.amount, (row.amount, row.rate));
        if executed.is_total
            && let (Some(total), Some(object)) = (taken, object)
        {
            let settled = self.store.settled_on(row.place, object)?;
            taken = Some(beyond_settled(total, settled));
        }
        let settlement = settle(executed.money, row.cost, taken, &parts);
        let along = open
            .into_iter()
            .zip(settlement.open.iter().copied())
            .map(|(row, cost)| Along { row, cost })
            .collect();
        Ok((settlement, along))
    }

    /// Decides another hold of the same object.
    fn judge(
        &mut self,
        along: &Along,
        verdict: Verdict,
        alarms: &mut Vec<AlarmKind>,
    ) -> Result<(Judged, Vec<BalanceAfter>), StoreError> {
        let cost = along.row.cost.map(|_| along.cost);
        let (state, balances) = self.decide_open(&along.row, verdict, cost, alarms)?;
        let judged = Judged {
            cost,
            hold: along.row.id,
            hold_state: state.hold,
        };
        Ok((judged, balances))
    }

    /// State and money of an open hold after a verdict about its object.
    pub(super) fn decide_open(
        &mut self,
        row: &HoldRow,
        verdict: Verdict,
        cost: Option<Micros>,
        alarms: &mut Vec<AlarmKind>,
    ) -> Result<(State, Vec<BalanceAfter>), StoreError> {
        let state = on_object(row.state, verdict);
        let balances = self.shift(row, (row.state.hold, row.cost), (state.hold, cost), alarms)?;
        self.store.change_hold(
            row.number,
            &HoldChange {
                state,
                outcome: outcome_of(state),
                cost,
                amount: row.amount,
                attempts: row.attempts,
                first_attempt: row.first_attempt,
                said: None,
            },
        )?;
        Ok((state, balances))
    }

    /// Moves the money of a hold from one state and cost to another.
    fn shift(
        &mut self,
        row: &HoldRow,
        before: (HoldState, Option<Micros>),
        after: (HoldState, Option<Micros>),
        alarms: &mut Vec<AlarmKind>,
    ) -> Result<Vec<BalanceAfter>, StoreError> {
        let movement = Movement::between(
            (before.0, before.1.unwrap_or_default()),
            (after.0, after.1.unwrap_or_default()),
        )
        .ok_or_else(overflow)?;
        let balances = self.move_money(row, movement)?;
        let is_overrun = movement.free < Micros::ZERO
            && balances.iter().any(|balance| balance.free < Micros::ZERO);
        if is_overrun && !alarms.contains(&AlarmKind::CapOverrun) {
            alarms.push(AlarmKind::CapOverrun);
        }
        Ok(balances)
    }

    /// A record stands for its newest hold, save that an older one that turned out to be executed after all takes its place
    /// as soon as the newest is released: the next repeat must find the answer, not a free way.
    fn follow_record(&mut self, row: &HoldRow, state: State) -> Result<(), StoreError> {
        let Some(record_key) = &row.record_key else {
            return Ok(());
        };
        if row.state.record == RecordState::Released && state.record == RecordState::Answered {
            let Some(newest) = self.store.record(record_key)? else {
                return Ok(());
            };
            if newest == row.number {
                return Ok(());
            }
            let Some(other) = self.store.hold(newest)? else {
                return Ok(());
            };
            if other.state.record == RecordState::Released {
                self.store.set_record(record_key, row.number)?;
                self.store.add_mention(record_key.mentioned(), newest)?;
            } else {
                self.store.set_shadow(newest, row.number)?;
            }
        } else if let Some(shadow) = row.shadow
            && row.state.record != RecordState::Released
            && state.record == RecordState::Released
        {
            self.store.set_record(record_key, shadow)?;
            self.store.add_mention(record_key.mentioned(), row.number)?;
        }
        Ok(())
    }
}

/// The table's word on an ending.
fn next_state(
    row: &HoldRow,
    ending: &Ending<'_>,
    standing: &Standing,
    alarms: &mut Vec<AlarmKind>,
) -> State {
    if standing.known.is_none() {
        alarms.push(AlarmKind::OutcomeWithoutAttempt);
    }
    if !standing.is_evidence(ending) {
        return row.state;
    }
    let step = on_outcome(row.state, ending.verdict, standing.which, standing.others);
    alarms.extend(step.alarm.map(AlarmKind::from));
    step.state
}

/// Whether an attempt in this state may have been executed.
const fn is_doubtful(state: AttemptState) -> bool {
    match state {
        AttemptState::Open
        | AttemptState::Executed
        | AttemptState::Indeterminate
        | AttemptState::Overdue => true,
        AttemptState::Declined | AttemptState::NotExecuted | AttemptState::NotForwarded => false,
    }
}

/// What is known of an attempt after another word about it: the firmer one stays.
const fn merged(known: AttemptState, said: AttemptState) -> AttemptState {
    if firmness(said) >= firmness(known) {
        said
    } else {
        known
    }
}

const fn firmness(state: AttemptState) -> u8 {
    match state {
        AttemptState::Open => 0,
        AttemptState::Overdue => 1,
        AttemptState::Indeterminate => 2,
        AttemptState::NotForwarded | AttemptState::NotExecuted => 3,
        AttemptState::Declined => 4,
        AttemptState::Executed => 5,
    }
}

fn amount_after(row: &HoldRow, executed: Option<&Executed>) -> Option<Minor> {
    executed.and_then(|executed| executed.amount).or(row.amount)
}

fn said_by(outcome: &Outcome) -> Said<'_> {
    Said {
        status: outcome.status,
        object: outcome.vendor_object_id.as_deref(),
        charge: outcome.charge_id.as_deref(),
        vendor_request_id: outcome.vendor_request_id.as_deref(),
        latency_ms: outcome.latency_ms,
    }
}
