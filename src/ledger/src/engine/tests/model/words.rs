//! What is said to the ledger, and what it answers, in whole cents and small numbers.

use keybrake_contract::refusal::RefusalCode;

use super::{Cents, Id, Subject};

/// What a request says that it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cost {
    Nothing,
    Amount(Cents),
    Unknown,
    /// All of an object, or a part.
    OfObject(u8, Option<Cents>),
}

/// A reserve.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    pub key: usize,
    pub version: Option<u64>,
    pub is_read: bool,
    pub cost: Cost,
    pub idempotency: Option<u8>,
    pub fingerprint: u8,
    pub full_fingerprint: Option<u8>,
    /// What makes it a purchase, when a rule asks for it.
    pub purchase: Option<u8>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Executed, the money has moved: so much, or what was held.
    Moved(Option<Cents>),
    /// Executed, the money may still move.
    Open(Option<Cents>),
    /// Executed, the money will never move.
    Cancelled,
    Declined,
    NotExecuted,
    Indeterminate,
}

impl Verdict {
    pub const fn is_executed(self) -> bool {
        matches!(self, Self::Moved(_) | Self::Open(_) | Self::Cancelled)
    }
}

/// An outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Said {
    pub hold: Id,
    pub attempt: u32,
    pub verdict: Verdict,
    pub object: Option<u8>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    Reserve(Ask),
    Outcome(Said),
    /// Of the attempt that this reserve was admitted for, or would be.
    Release(Id),
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct No {
    pub code: RefusalCode,
    pub limit: Option<String>,
    pub asked: Option<Cents>,
    pub left: Option<Cents>,
    pub budget: Option<usize>,
    /// The equal purchase.
    pub earlier: Option<Id>,
}

impl No {
    pub const fn plain(code: RefusalCode) -> Self {
        Self {
            code,
            limit: None,
            asked: None,
            left: None,
            budget: None,
            earlier: None,
        }
    }

    pub fn by(self, subject: Subject) -> Self {
        let budget = match subject {
            Subject::Key(_) => None,
            Subject::Budget(budget) => Some(budget),
        };
        Self { budget, ..self }
    }
}

/// What the ledger answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    Admitted {
        hold: Id,
        attempt: u32,
    },
    Grant(u64),
    Refused(No),
    /// With the answer that came with this outcome; `None`: a summary.
    Replay {
        hold: Id,
        answer: Option<Id>,
    },
    InFlight,
    Cancelled,
    Recorded,
    Released,
    Conflict,
}

/// One cap in its present window.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Parts {
    pub limit: &'static str,
    pub cap: Cents,
    pub free: Cents,
    pub held: Cents,
    pub settled: Cents,
    pub unknown: Cents,
}
