//! What a writer and its store tell each other at the ends of a transaction.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;

use super::RecordKey;

/// What a transaction is going to ask for, as far as it is known before it begins. A store to which each question is a round
/// trip asks them all at once; one that reads at no cost does not look.
pub enum Ahead<'a> {
    /// Nothing is answered to anybody: when nothing is written either, the end of the transaction need not be durable.
    Chores,
    /// Somebody waits for the answers.
    Work(&'a dyn Fn() -> Wanted),
}

/// See [`Ahead`].
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Commands that may have been answered before, and the requests they may have made.
    pub ids: Vec<CommandId>,
    /// Keys.
    pub keys: Vec<Digest>,
    /// Records.
    pub records: Vec<RecordKey>,
    /// Holds that outcomes and releases name.
    pub holds: Vec<CommandId>,
    /// Vendor objects whose open holds may be decided.
    pub objects: Vec<String>,
    /// Those of them of which it is going to be asked what is settled on them.
    pub totals: Vec<String>,
    /// Windows of the balances that reserves of the keys draw from.
    pub windows: Vec<i64>,
}

/// Whether other writers have written since this one's last transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// For certain not: what is in memory still holds.
    Silent,
    /// Perhaps: what is in memory must be read again.
    Wrote,
}

/// A transaction that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// When the latest event of any chain was, in milliseconds since 1970.
    pub at: i64,
    /// See [`Others`].
    pub others: Others,
}

/// What became of a commit that was in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It was done.
    Committed,
    /// It was not, and never will be.
    NotCommitted,
}
