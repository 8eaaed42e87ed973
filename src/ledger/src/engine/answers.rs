//! What the engine says besides command answers: errors, readiness, figures.

use std::collections::BTreeMap;

use keybrake_contract::money::Micros;

use crate::book::Undecided;
use crate::signing::UnusableFile;

/// Why the ledger could not be opened. One clear line for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The folder or the file cannot be made, read or written.
    #[error("cannot use the database {path}: {why}")]
    Unusable {
        /// The file, or host and database.
        path: String,
        /// What the system said.
        why: String,
    },
    /// Another process (or another ledger in this one) has it open.
    #[error("the database {path} is in use by another ledger")]
    InUse {
        /// The file, or host and database.
        path: String,
    },
    /// It would not keep what is committed.
    #[error("the database {path} would lose what was committed: {why}")]
    NotDurable {
        /// Host and database.
        path: String,
        /// Which setting.
        why: String,
    },
    /// It is not a database, or damaged.
    #[error("the database {path} is corrupt or not a keybrake database: {why}")]
    Corrupt {
        /// The file, or host and database.
        path: String,
        /// What was found.
        why: String,
    },
    /// A file that signing needs cannot be used.
    #[error(transparent)]
    File(#[from] UnusableFile),
    /// The key that signed the heads so far is gone.
    #[error(
        "the signing key {path} is missing, and the heads of this database were signed with it (public key {public_key}): put it \
         back, or start once with --new-signing-key"
    )]
    LostKey {
        /// Where it was looked for.
        path: String,
        /// What its signatures are checked with.
        public_key: String,
    },
    /// The chain is not the one that was signed.
    #[error(
        "the database {path} is not as it was signed: {why}; run `keybrake audit verify`, and move the file of signed heads away \
         only if you know why"
    )]
    NotAsSigned {
        /// The file.
        path: String,
        /// What was found.
        why: String,
    },
    /// An older version of this program wrote it, and no ledger was started on it since.
    #[error(
        "the database {path} has schema version {found}, this program's is {known}: start the ledger on it once, which moves it forward"
    )]
    Older {
        /// The file.
        path: String,
        /// Version in the file.
        found: i64,
        /// Version of this program.
        known: i64,
    },
    /// A newer version of this program wrote it.
    #[error(
        "the database {path} has schema version {found}; this program knows up to {known}: use a newer program"
    )]
    Newer {
        /// The file, or host and database.
        path: String,
        /// Version in the file.
        found: i64,
        /// Newest version known here.
        known: i64,
    },
}

/// Nothing was done, or it cannot be told whether it was; the caller answers 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Too many commands are waiting. Nothing was done.
    #[error("the ledger is busy")]
    Busy,
    /// The clock is more than a minute behind the last event. Nothing was done.
    #[error("the clock is behind the last audit event")]
    ClockBehind,
    /// The database cannot be reached just now. Nothing was done.
    #[error("the ledger's database cannot be reached")]
    Unreachable,
    /// The connection broke while the transaction was being committed: it may or may not be on disk. The ledger goes on as soon as
    /// it knows.
    #[error("the ledger's database does not say whether it was committed")]
    InDoubt,
    /// The store failed. The transaction may or may not be on disk; the ledger takes nothing more.
    #[error("the ledger's store failed")]
    Failed,
    /// The ledger is shutting down. Nothing was done.
    #[error("the ledger is closing")]
    Closing,
}

/// Why no key was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The vendor has no pack here.
    #[error("no pack for the vendor of key {index}")]
    UnknownVendor {
        /// Which of the list, from 0.
        index: usize,
    },
    /// The end lies in the past.
    #[error("key {index} would be expired at once")]
    AlreadyExpired {
        /// Which of the list, from 0.
        index: usize,
    },
    /// Its budget cannot be drawn from.
    #[error("{error}")]
    Budget {
        /// Which of the list, from 0.
        index: usize,
        /// Why not.
        error: BudgetError,
    },
}

/// Why a budget was not made, changed or drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// No such budget.
    #[error("no budget has this name")]
    NotFound,
    /// Names are for good, also those of closed budgets.
    #[error("a budget with this name exists")]
    NameTaken,
    /// The parent that it names is not there.
    #[error("no budget has this name; make the parent first")]
    UnknownParent,
    /// The parent that it names is closed.
    #[error("this budget is closed: nothing can be drawn through it")]
    ParentClosed,
    /// More than [`crate::model::MAX_DEPTH`] budgets up to the root.
    #[error("budgets are nested at most {} deep", crate::model::MAX_DEPTH)]
    TooDeep,
    /// It would be above itself.
    #[error("would make a cycle: that budget draws from this one")]
    Cycle,
    /// A parent is for good.
    #[error("a parent is for good: what was spent was counted in the tree as it is")]
    ParentFixed,
    /// A closed budget stays as it is.
    #[error("the budget is closed and stays so")]
    Closed,
}

/// Why a key was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// No such key.
    #[error("no such key")]
    NotFound,
    /// A revoked key stays as it is.
    #[error("the key is revoked")]
    Revoked,
    /// Its new budget cannot be drawn from.
    #[error("{0}")]
    Budget(BudgetError),
}

/// Why a list was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The cursor did not come from an earlier page.
    #[error("not a cursor of this list")]
    InvalidCursor,
}

/// Why evidence decided nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// No such write.
    #[error("no such request")]
    NotFound,
    /// See [`Undecided`].
    #[error(transparent)]
    Undecided(#[from] Undecided),
}

/// Whether commands are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// They are.
    Ready,
    /// The clock is more than a minute behind the last event.
    ClockBehind {
        /// By how much.
        behind_ms: i64,
    },
    /// The database cannot be reached just now.
    Unreachable {
        /// What the store said.
        why: String,
    },
    /// The store failed; the ledger must be opened anew.
    Failed {
        /// What the store said.
        why: String,
    },
    /// It is being closed.
    Closing,
}

/// Counts since the ledger was opened, and what is open just now. For metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Commands executed, by kind (`reserve`, …) and result (`admitted`, …).
    pub commands: BTreeMap<(&'static str, &'static str), u64>,
    /// Refusals by reason code, those without a valid key included.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Alarms by kind.
    pub alarms: BTreeMap<&'static str, u64>,
    /// Requests that found the queue full.
    pub busy: u64,
    /// Durable commits.
    pub commits: u64,
    /// How long commits took, in microseconds.
    pub commit_us: Histogram,
    /// Commands per commit.
    pub commit_commands: Histogram,
    /// Attempts without an outcome yet.
    pub open_attempts: u64,
    /// Keys on record, whatever their status.
    pub keys: u64,
    /// Writes whose outcome nobody knows; `None` when the store could not be asked.
    pub unknown: Option<UnknownFigures>,
    /// Audit events on record.
    pub events: u64,
}

/// Holds whose outcome nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnknownFigures {
    /// How many.
    pub count: u64,
    /// What they hold together.
    pub amount: Micros,
    /// How long ago the oldest was reserved.
    pub oldest_age_ms: Option<i64>,
}

/// Counts by upper bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Upper bounds (inclusive), rising, each with how many lay at or below it and above the one before.
    pub buckets: Vec<(u64, u64)>,
    /// How many lay above the last bound.
    pub above: u64,
    /// Sum of all.
    pub sum: u64,
    /// Count of all.
    pub count: u64,
}

impl Histogram {
    /// An empty one with these bounds.
    #[must_use]
    pub fn with_bounds(bounds: &[u64]) -> Self {
        Self {
            buckets: bounds.iter().map(|bound| (*bound, 0)).collect(),
            ..Self::default()
        }
    }

    /// Counts one value.
    pub fn observe(&mut self, value: u64) {
        self.sum = self.sum.saturating_add(value);
        self.count = self.count.saturating_add(1);
        let bucket = self.buckets.iter_mut().find(|(bound, _)| value <= *bound);
        let slot = bucket.map_or(&mut self.above, |(_, count)| count);
        *slot = slot.saturating_add(1);
    }
}
