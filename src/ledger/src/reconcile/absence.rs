//! When nothing found means that nothing was done: only with time, with two whole reads, and where the vendor's events are
//! complete.
//!
//! What was read is remembered in memory alone. After a restart the reads count from the start again: money waits, nothing else.

use std::collections::{HashMap, HashSet};

use keybrake_contract::ids::HoldId;
use keybrake_pack::EvidenceRules;

use super::report::Why;
use super::search::Wanted;
use super::{SKEW_MS, search::Stretch};

/// Whole reads that find nothing before a request counts as not executed.
pub const READS: u32 = 2;
/// Milliseconds between them at least.
const APART_MS: i64 = 60_000;

/// What is remembered of requests from one pass to the next.
#[derive(Debug, Default)]
pub struct Memory {
    known: HashMap<HoldId, Known>,
}

#[derive(Debug)]
struct Known {
    attempts: u32,
    /// After this instant no attempt was begun.
    made_by: i64,
    /// How many whole reads found nothing, and when the last of those that count was begun.
    empty: Option<(u32, i64)>,
    /// Why looking again is of no use.
    given_up: Option<Why>,
}

/// What a whole read that found nothing means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nothing {
    /// It was not executed.
    NotExecuted,
    /// Not yet, or never to be told this way.
    Stays(Why),
}

impl Memory {
    /// Notes a request that is unknown now. Answers the instant by which its last attempt was made: it is over, so it was made
    /// before now; and a first attempt is made within `longest_ms` of its reserve or never.
    pub fn see(&mut self, wanted: &Wanted, now: i64, longest_ms: i64) -> i64 {
        let known = self.known.entry(wanted.id).or_insert_with(|| Known {
            attempts: 0,
            made_by: now,
            empty: None,
            given_up: None,
        });
        if known.attempts != wanted.attempts {
            *known = Known {
                attempts: wanted.attempts,
                made_by: now,
                empty: None,
                given_up: None,
            };
        }
        if wanted.attempts == 1 {
            let latest = wanted.reserved_at.saturating_add(longest_ms);
            known.made_by = known.made_by.min(latest);
        }
        known.made_by
    }

    /// Why a request need not be looked for again, when that is so.
    #[must_use]
    pub fn given_up(&self, id: HoldId) -> Option<Why> {
        self.known.get(&id).and_then(|known| known.given_up)
    }

    /// Forgets every other request.
    pub fn keep(&mut self, ids: &HashSet<HoldId>) {
        self.known.retain(|id, _| ids.contains(id));
    }

    /// Something was found: reads that found nothing do not count any more.
    pub fn found(&mut self, id: HoldId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.empty = None;
        }
    }

    /// A whole read of the request's stretch, begun at `read_at`, found nothing.
    pub fn nothing(
        &mut self,
        wanted: &Wanted,
        stretch: Stretch,
        rules: &EvidenceRules,
        read_at: i64,
    ) -> Nothing {
        let Some(known) = self.known.get_mut(&wanted.id) else {
            return Nothing::Stays(Why::ReadOnce);
        };
        let ready_at = known
            .made_by
            .saturating_add(rules.vendor_max_ms.cast_signed());
        if read_at < ready_at {
            return Nothing::Stays(Why::TooEarly { ready_at });
        }
        let is_complete = rules
            .operations
            .get(&wanted.operation)
            .is_some_and(|operation| operation.complete);
        let oldest_kept = read_at
            .saturating_sub(rules.kept_ms.cast_signed())
            .saturating_add(SKEW_MS);
        let why = if !is_complete {
            Why::NotComplete
        } else if stretch.from_s.saturating_mul(1_000) < oldest_kept {
            Why::TooOld
        } else {
            return known.count(read_at);
        };
        known.given_up = Some(why);
        Nothing::Stays(why)
    }
}

impl Known {
    fn count(&mut self, read_at: i64) -> Nothing {
        let reads = match self.empty {
            None => 1,
            Some((reads, last)) if read_at.saturating_sub(last) >= APART_MS => {
                reads.saturating_add(1)
            }
            Some(_) => return Nothing::Stays(Why::ReadOnce),
        };
        self.empty = Some((reads, read_at));
        if reads >= READS {
            Nothing::NotExecuted
        } else {
            Nothing::Stays(Why::ReadOnce)
        }
    }
}
