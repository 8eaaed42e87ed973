//! The life of a record (idempotency) and of a hold (money): the whole table of state × command → state, answer.
//!
//! A **record** says whether a business action was done; a **hold** says where its money is. Every forward is an
//! **attempt** with a number. The functions here are total and pure; the ledger's book applies what they return, and
//! nothing else changes a record or a hold.

use serde::{Deserialize, Serialize};

/// What is known about a business action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// An attempt is being made.
    InFlight,
    /// The vendor did it; its answer is kept.
    Answered,
    /// It was forwarded and nobody knows what came of it.
    Unknown,
    /// For certain it was not done: the next request with the key starts afresh.
    Released,
}

/// Where a hold's money is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// Set aside.
    Held,
    /// Spent.
    Settled,
    /// Given back.
    Released,
    /// Set aside, and perhaps spent.
    Unknown,
}

/// A record together with its hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The record.
    pub record: RecordState,
    /// The hold.
    pub hold: HoldState,
}

impl State {
    /// Just admitted: attempt 1 is being made.
    pub const ADMITTED: Self = Self {
        record: RecordState::InFlight,
        hold: HoldState::Held,
    };

    /// Every state that the table can lead to.
    pub const REACHABLE: [Self; 7] = [
        Self::ADMITTED,
        Self {
            record: RecordState::InFlight,
            hold: HoldState::Unknown,
        },
        Self {
            record: RecordState::Answered,
            hold: HoldState::Settled,
        },
        Self {
            record: RecordState::Answered,
            hold: HoldState::Held,
        },
        Self {
            record: RecordState::Answered,
            hold: HoldState::Released,
        },
        Self {
            record: RecordState::Unknown,
            hold: HoldState::Unknown,
        },
        Self {
            record: RecordState::Released,
            hold: HoldState::Released,
        },
    ];
}

/// Whether a repeat asks for the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// Same fingerprint, same workspace.
    Same,
    /// For a derived key: the same purchase, but not the same request. It is replayed, never forwarded again.
    SamePurchase,
    /// Something else.
    Other,
}

/// Whether the vendor still remembers the idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VendorWindow {
    /// Younger than the vendor's window less our margin: the vendor itself prevents a second execution.
    Open,
    /// Older, or the vendor knows no idempotency.
    Closed,
}

/// What a reserve with an idempotency key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReserve {
    /// A new hold, attempt 1.
    NewHold,
    /// The next attempt on the same hold; no debit.
    NextAttempt,
    /// The stored answer.
    Replay,
    /// Someone is at it.
    InFlight,
    /// 409: nobody knows, and the vendor would execute it again.
    OutcomeUnknown,
    /// 400: the key stands for something else.
    Mismatch,
}

/// The table for a reserve. `record` is `None` when the key was never seen.
#[must_use]
pub const fn on_reserve(
    record: Option<RecordState>,
    likeness: Likeness,
    window: VendorWindow,
) -> OnReserve {
    match (record, likeness, window) {
        (None | Some(RecordState::Released), _, _) => OnReserve::NewHold,
        (Some(_), Likeness::Other, _) => OnReserve::Mismatch,
        (Some(RecordState::InFlight), Likeness::Same | Likeness::SamePurchase, _) => {
            OnReserve::InFlight
        }
        (Some(RecordState::Answered), Likeness::Same | Likeness::SamePurchase, _) => {
            OnReserve::Replay
        }
        (Some(RecordState::Unknown), Likeness::Same, VendorWindow::Open) => OnReserve::NextAttempt,
        (Some(RecordState::Unknown), _, _) => OnReserve::OutcomeUnknown,
    }
}

/// What an attempt came to, without the amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Executed, and the money has moved.
    ExecutedMoved,
    /// Executed, and the money may still move.
    ExecutedOpen,
    /// Executed, and the money will never move.
    ExecutedCancelled,
    /// Refused by the vendor for good.
    DeclinedFinal,
    /// For certain nothing was done.
    NotExecuted,
    /// Cannot be told. A sweep (no outcome in time) is this, too.
    Indeterminate,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 6] = [
        Self::ExecutedMoved,
        Self::ExecutedOpen,
        Self::ExecutedCancelled,
        Self::DeclinedFinal,
        Self::NotExecuted,
        Self::Indeterminate,
    ];
}

/// Which attempt an outcome is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichAttempt {
    /// The newest one.
    Latest,
    /// One before it.
    Earlier,
}

/// What is known of the hold's other attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherAttempts {
    /// There are none, or each was for certain not executed.
    NoneExecuted,
    /// At least one may have been executed.
    Doubtful,
}

/// Something an operator must hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alarm {
    /// A hold that had been given back turned out to be executed; it was debited in full.
    ExecutedAfterRelease,
}

/// What an outcome does to record and hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnOutcome {
    /// The state after it.
    pub state: State,
    /// To be raised with it.
    pub alarm: Option<Alarm>,
}

/// The table for an outcome, a release of an attempt (as [`Verdict::NotExecuted`]) and a sweep (as
/// [`Verdict::Indeterminate`]).
#[must_use]
pub const fn on_outcome(
    state: State,
    verdict: Verdict,
    which: WhichAttempt,
    others: OtherAttempts,
) -> OnOutcome {
    match verdict {
        Verdict::ExecutedMoved => executed(state, HoldState::Settled),
        Verdict::ExecutedOpen => executed(state, HoldState::Held),
        Verdict::ExecutedCancelled => executed(state, HoldState::Released),
        Verdict::DeclinedFinal => quiet(match state.record {
            RecordState::InFlight | RecordState::Unknown => RELEASED,
            RecordState::Answered | RecordState::Released => state,
        }),
        Verdict::NotExecuted => quiet(match (state.record, which, others) {
            (RecordState::InFlight | RecordState::Unknown, _, OtherAttempts::NoneExecuted) => {
                RELEASED
            }
            (RecordState::InFlight, WhichAttempt::Latest, OtherAttempts::Doubtful) => UNKNOWN,
            _ => state,
        }),
        Verdict::Indeterminate => quiet(match (state.record, which) {
            (RecordState::InFlight, WhichAttempt::Latest) => UNKNOWN,
            (RecordState::InFlight, WhichAttempt::Earlier) => State {
                record: RecordState::InFlight,
                hold: HoldState::Unknown,
            },
            _ => state,
        }),
    }
}

/// The table for a hold that is answered and still open (authorised, waiting) when a later request on the same vendor
/// object comes to a verdict: a capture, a confirmation, a cancellation. Every other state stays as it is.
#[must_use]
pub const fn on_object(state: State, verdict: Verdict) -> State {
    match (state.record, state.hold) {
        (RecordState::Answered, HoldState::Held) => State {
            record: RecordState::Answered,
            hold: match verdict {
                Verdict::ExecutedMoved => HoldState::Settled,
                Verdict::ExecutedCancelled => HoldState::Released,
                Verdict::ExecutedOpen
                | Verdict::DeclinedFinal
                | Verdict::NotExecuted
                | Verdict::Indeterminate => HoldState::Held,
            },
        },
        _ => state,
    }
}

const RELEASED: State = State {
    record: RecordState::Released,
    hold: HoldState::Released,
};
const UNKNOWN: State = State {
    record: RecordState::Unknown,
    hold: HoldState::Unknown,
};

const fn quiet(state: State) -> OnOutcome {
    OnOutcome { state, alarm: None }
}

/// `executed` decides, save that what is settled stays settled and what was answered stays as answered.
const fn executed(before: State, hold: HoldState) -> OnOutcome {
    let after = State {
        record: RecordState::Answered,
        hold,
    };
    match (before.record, before.hold) {
        (RecordState::Answered, _) | (_, HoldState::Settled) => quiet(before),
        (_, HoldState::Released) => OnOutcome {
            state: after,
            alarm: Some(Alarm::ExecutedAfterRelease),
        },
        (_, HoldState::Held | HoldState::Unknown) => quiet(after),
    }
}

#[cfg(test)]
#[path = "lifecycle_table_tests.rs"]
mod tests;
