//! What the writer knows of the tables, so that it need not ask: what it read or wrote while no other ledger wrote.
//!
//! Everything here is forgotten when a transaction is taken back and when another ledger has written. What is decided by it is
//! written under a condition that fails when it no longer holds.

use std::collections::{BTreeSet, HashMap, HashSet};

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::lifecycle::{HoldState, RecordState};
use keybrake_contract::money::Micros;

use crate::book::Parts;
use crate::store::counters::split;
use crate::store::{
    BudgetNumber, FullBudget, FullKey, HoldRow, KeyNumber, Kind, KnownAnswer, KnownCommand,
    PlaceNumber, Purchase, RecordKey, RequestNumber, Seen,
};

/// Most entries of each kind that are carried from one transaction to the next.
const MOST: usize = 65_536;

/// Most keys, which are large.
const MOST_KEYS: usize = 4_096;

/// The links from a key to its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    pub last: Option<RequestNumber>,
    pub previous: Option<RequestNumber>,
    pub admitted: i64,
}

/// See the module. `Some(None)` of a map: it is known that there is none.
#[derive(Default)]
pub struct Known {
    /// Places never change, so they are kept whatever others write.
    pub places: HashMap<String, PlaceNumber>,
    pub facts: Facts,
}

/// What others can change.
#[derive(Default)]
pub struct Facts {
    pub keys: HashMap<Digest, Option<FullKey>>,
    pub budgets: HashMap<BudgetNumber, FullBudget>,
    pub purchases: HashMap<(KeyNumber, Digest), Option<Purchase>>,
    /// Windows of a subject, from and up to but without, in which there is no balance.
    pub empty: HashMap<KeyNumber, (i64, i64)>,
    pub subjects: HashMap<KeyNumber, Subject>,
    pub balances: HashMap<(KeyNumber, i64), Option<Parts>>,
    pub records: HashMap<RecordKey, Option<RequestNumber>>,
    pub holds: HashMap<RequestNumber, HoldRow>,
    pub by_id: HashMap<CommandId, Option<RequestNumber>>,
    pub commands: HashMap<CommandId, Option<KnownCommand>>,
    pub reserves: HashMap<CommandId, Option<(RequestNumber, u32)>>,
    pub answers: HashMap<RequestNumber, Option<KnownAnswer>>,
    /// The open holds of some objects, at every place.
    pub open: HashMap<String, BTreeSet<RequestNumber>>,
    /// What is settled on some objects, at every place, by request.
    pub settled: HashMap<String, HashMap<RequestNumber, (PlaceNumber, Micros)>>,
    /// The highest counter on record, by nonce.
    counters: HashMap<[u8; 16], u64>,
    /// Ids that were looked up everywhere where an id can stand.
    looked_up: HashSet<CommandId>,
}

impl Known {
    /// Keeps what is bounded.
    pub fn trim(&mut self) {
        let facts = &mut self.facts;
        let sizes = [
            facts.subjects.len(),
            facts.balances.len(),
            facts.records.len(),
            facts.holds.len(),
            facts.by_id.len(),
            facts.commands.len(),
            facts.open.len(),
            facts.settled.len(),
            facts.budgets.len(),
            facts.purchases.len(),
            facts.counters.len(),
        ];
        // The writer keeps those that it uses.
        if facts.keys.len() > MOST_KEYS {
            facts.keys.clear();
        }
        if sizes.into_iter().any(|size| size > MOST) {
            self.facts = Facts::default();
        }
        if self.places.len() > MOST {
            self.places.clear();
        }
        // Answers are large, and asked for once.
        self.facts.answers.clear();
        self.facts.looked_up.clear();
    }
}

impl Facts {
    pub fn put_hold(&mut self, row: HoldRow) {
        self.by_id.insert(row.id, Some(row.number));
        self.holds.insert(row.number, row);
    }

    /// Forgets a hold that was changed past what is known, and with it what is known of all objects.
    pub fn forget_hold(&mut self, number: RequestNumber) {
        if let Some(row) = self.holds.remove(&number) {
            self.by_id.remove(&row.id);
        }
        self.forget_objects();
    }

    /// Forgets the holds of every object.
    pub fn forget_objects(&mut self) {
        self.open.clear();
        self.settled.clear();
    }

    /// Forgets the holds of one object.
    pub fn forget_object(&mut self, object: &str) {
        self.open.remove(object);
        self.settled.remove(object);
    }

    /// Puts a hold as it is now, and keeps the holds of its object in line.
    pub fn change_hold(&mut self, row: HoldRow) {
        if let Some(object) = &row.object {
            if let Some(open) = self.open.get_mut(object) {
                if is_open(&row) {
                    open.insert(row.number);
                } else {
                    open.remove(&row.number);
                }
            }
            if let Some(settled) = self.settled.get_mut(object) {
                match row.cost.filter(|_| is_settled(&row)) {
                    Some(cost) => settled.insert(row.number, (row.place, cost)),
                    None => settled.remove(&row.number),
                };
            }
        }
        self.put_hold(row);
    }

    /// `None`: this nonce is not known; look up its highest counter and [`Self::learn_nonce`] it.
    pub fn seen(&self, id: CommandId) -> Option<Seen> {
        let (nonce, counter) = split(id);
        match self.counters.get(&nonce) {
            Some(highest) if counter > *highest => return Some(Seen::Never),
            Some(_) => {}
            None if !self.looked_up.contains(&id) => return None,
            None => {}
        }
        let is_nowhere = self.looked_up.contains(&id)
            && self.by_id.get(&id).is_some_and(Option::is_none)
            && self.commands.get(&id).is_some_and(Option::is_none)
            && self.reserves.get(&id).is_some_and(Option::is_none);
        Some(if is_nowhere {
            Seen::Never
        } else {
            Seen::Perhaps
        })
    }

    /// Notes that an id was looked for everywhere, and what was not found of it.
    pub fn looked_up(&mut self, id: CommandId) {
        self.by_id.entry(id).or_insert(None);
        self.commands.entry(id).or_insert(None);
        self.reserves.entry(id).or_insert(None);
        self.looked_up.insert(id);
    }

    /// Notes that an id is on record, for a nonce that is known.
    pub fn keep_counter(&mut self, id: CommandId) {
        let (nonce, counter) = split(id);
        if let Some(highest) = self.counters.get_mut(&nonce) {
            *highest = counter.max(*highest);
        }
    }

    /// Notes the highest counter on record of a nonce.
    pub fn learn_nonce(&mut self, nonce: [u8; 16], highest: u64) {
        self.counters.insert(nonce, highest);
    }
}

/// Whether a hold has settled money on its object.
fn is_settled(row: &HoldRow) -> bool {
    row.kind == Kind::Write && row.state.hold == HoldState::Settled
}

/// Whether a hold is of those that a later request on its object decides.
pub fn is_open(row: &HoldRow) -> bool {
    row.kind == Kind::Write
        && row.state.record == RecordState::Answered
        && row.state.hold == HoldState::Held
}
