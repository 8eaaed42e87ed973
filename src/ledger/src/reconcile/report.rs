//! What came of a pass, for people and for the admin API.

use jiff::Timestamp;
use keybrake_contract::ids::HoldId;
use serde::{Serialize, Serializer};

use super::search::Wanted;
use crate::book::{Evidence, Finding};
use crate::clock::timestamp;
use crate::model::{Entry, EntryOutcome};

/// Most requests that a report lists of each kind; the counts count all.
const MOST_LISTED: usize = 1_000;

/// Why a request stays unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A repeat of it is being made.
    InFlight,
    /// The vendor's pack names no evidence.
    NoEvidence,
    /// Nor for this operation.
    OtherOperation,
    /// The vendor keeps other books for it.
    ConnectedAccount,
    /// It was made with another credential than the evidence is read with.
    OtherCredential,
    /// Nothing to find it by.
    NoKey,
    /// Nothing was found, but the vendor may still execute it.
    TooEarly {
        /// Until then, in milliseconds since 1970.
        ready_at: i64,
    },
    /// Nothing was found, once.
    ReadOnce,
    /// Nothing was found, which shows nothing for this operation.
    NotComplete,
    /// The vendor no longer keeps events of that time.
    TooOld,
    /// The events do not say one thing.
    Odd(&'static str),
    /// The vendor's records could not be read to their end.
    NotRead,
    /// The evidence came too late.
    Overtaken,
    /// The ledger could not take the evidence just now.
    NotApplied,
    /// More requests are unknown than one pass looks for.
    LeftOut,
}

impl Why {
    /// A stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::NoEvidence => "no_evidence",
            Self::OtherOperation => "operation_not_shown",
            Self::ConnectedAccount => "connected_account",
            Self::OtherCredential => "other_credential",
            Self::NoKey => "no_idempotency_key",
            Self::TooEarly { .. } => "too_early",
            Self::ReadOnce => "read_once",
            Self::NotComplete => "absence_shows_nothing",
            Self::TooOld => "too_old",
            Self::Odd(_) => "odd",
            Self::NotRead => "not_read",
            Self::Overtaken => "overtaken",
            Self::NotApplied => "not_applied",
            Self::LeftOut => "left_out",
        }
    }

    /// One line for a person.
    #[must_use]
    pub fn line(self) -> String {
        let line = match self {
            Self::InFlight => "a repeat of it is being made; its outcome decides",
            Self::NoEvidence => {
                "the vendor's pack names no records to read; look yourself, then resolve it"
            }
            Self::OtherOperation => {
                "the vendor's events do not show this operation; look yourself, then resolve it"
            }
            Self::ConnectedAccount => "it is of a connected account; look there, then resolve it",
            Self::OtherCredential => {
                "it was made with another credential than the events are read with; look there, then resolve it"
            }
            Self::NoKey => {
                "it has no idempotency key to find it by; look yourself, then resolve it"
            }
            Self::TooEarly { ready_at } => {
                return format!(
                    "nothing found; the vendor may still execute it until {}",
                    timestamp(ready_at)
                );
            }
            Self::ReadOnce => "nothing found once; it is read again after a minute",
            Self::NotComplete => {
                "nothing found, which shows nothing for this operation; look yourself, then resolve it"
            }
            Self::TooOld => {
                "nothing found, but the vendor no longer keeps all events of its time; look yourself, then resolve it"
            }
            Self::Odd(what) => {
                return format!(
                    "{what}; nothing is decided by that, look yourself, then resolve it"
                );
            }
            Self::NotRead => {
                "the vendor's records could not be read to their end; nothing is decided by a part"
            }
            Self::Overtaken => "it was decided or attempted again meanwhile",
            Self::NotApplied => {
                "the ledger could not take the evidence just now; the next pass brings it again"
            }
            Self::LeftOut => {
                "more requests are unknown than one pass looks for; the oldest come first"
            }
        };
        line.to_owned()
    }
}

/// A request that the pass decided.
#[derive(Debug, Clone, Serialize)]
pub struct Decided {
    /// The hold's id.
    #[serde(serialize_with = "shown")]
    pub id: HoldId,
    /// Operation name.
    pub operation: String,
    /// As the vendor saw it.
    pub idempotency_key: String,
    /// What was found: `executed` or `not_executed`.
    pub finding: &'static str,
    /// What its money is now: `settled`, `held`, `released`.
    pub outcome: Option<EntryOutcome>,
    /// What was made or changed.
    pub vendor_object_id: Option<String>,
    /// What that rests on.
    pub evidence: Evidence,
}

/// A request that stays unknown.
#[derive(Debug, Clone, Serialize)]
pub struct Unsettled {
    /// The hold's id.
    pub id: String,
    /// Operation name.
    pub operation: String,
    /// As the vendor saw it.
    pub idempotency_key: Option<String>,
    /// How long ago it was reserved.
    pub age_seconds: u64,
    /// A stable word for why.
    pub reason: &'static str,
    /// One line for a person.
    pub detail: String,
}

/// Something that did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// At which vendor.
    pub vendor: String,
    /// What.
    pub what: String,
}

/// What came of a pass.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its number since the ledger was started.
    pub pass: u64,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Pages of events that were read.
    pub pages: u64,
    /// Events in them.
    pub events: u64,
    /// How many requests were decided.
    pub decided_count: u64,
    /// The first of them.
    pub decided: Vec<Decided>,
    /// How many stay unknown.
    pub unknown_count: u64,
    /// The oldest of them.
    pub unknown: Vec<Unsettled>,
    /// What did not work.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Of a pass that begins.
    pub(super) fn begun(pass: u64, at: Timestamp) -> Self {
        Self {
            pass,
            began_at: at,
            ended_at: at,
            pages: 0,
            events: 0,
            decided_count: 0,
            decided: Vec::new(),
            unknown_count: 0,
            unknown: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Of a pass that has ended; the log hears of it when something came of it.
    pub(super) fn ended(mut self, at: Timestamp) -> Self {
        self.ended_at = at;
        self.unknown
            .sort_by_key(|one| std::cmp::Reverse(one.age_seconds));
        if self.decided_count > 0 || !self.failures.is_empty() {
            tracing::info!(
                pass = self.pass,
                decided = self.decided_count,
                unknown = self.unknown_count,
                failures = self.failures.len(),
                "reconciled"
            );
        }
        self
    }

    /// A request was decided.
    pub(super) fn decided(
        &mut self,
        one: &Wanted,
        finding: &Finding,
        entry: Entry,
        evidence: Evidence,
    ) {
        let finding = match finding {
            Finding::Executed { .. } => "executed",
            Finding::NotExecuted => "not_executed",
        };
        tracing::info!(hold = %one.id, finding, "an unknown request was decided");
        self.decided_count = self.decided_count.saturating_add(1);
        if self.decided.len() < MOST_LISTED {
            self.decided.push(Decided {
                id: one.id,
                operation: one.operation.clone(),
                idempotency_key: one.idempotency_key.clone(),
                finding,
                outcome: entry.outcome,
                vendor_object_id: entry.vendor_object_id,
                evidence,
            });
        }
    }

    /// A request stays unknown.
    pub(super) fn unsettled(
        &mut self,
        id: String,
        operation: &str,
        idempotency_key: Option<String>,
        age_ms: i64,
        why: Why,
    ) {
        self.unknown_count = self.unknown_count.saturating_add(1);
        if self.unknown.len() < MOST_LISTED {
            self.unknown.push(Unsettled {
                id,
                operation: operation.to_owned(),
                idempotency_key,
                age_seconds: u64::try_from(age_ms).unwrap_or(0) / 1_000,
                reason: why.word(),
                detail: why.line(),
            });
        }
    }

    /// Something did not work.
    pub(super) fn failed(&mut self, vendor: &str, what: String) {
        tracing::warn!(vendor, what, "the reconciler decides nothing by this");
        if self.failures.len() < MOST_LISTED {
            self.failures.push(Failure {
                vendor: vendor.to_owned(),
                what,
            });
        }
    }
}

fn shown<S: Serializer>(id: &HoldId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
