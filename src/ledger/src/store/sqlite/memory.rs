//! What the one writer may keep in memory because nobody else writes: bounded, and found again in the tables when it is lost.

use std::collections::{HashMap, HashSet};

use keybrake_contract::ids::CommandId;

use crate::book::{Movement, Parts};
use crate::store::counters::split;
use crate::store::{HoldRow, KeyNumber, Kind, NewRequest, PlaceNumber, RequestNumber, Seen};

/// Most entries of each kind. When there are more, that kind is forgotten whole.
const MOST: usize = 65_536;

/// See the module.
#[derive(Default)]
pub struct Memory {
    places: HashMap<String, PlaceNumber>,
    /// Balances that do not exist.
    absent: HashSet<(KeyNumber, i64)>,
    /// Balances as they are. What may be taken is decided by the table all the same.
    parts: HashMap<(KeyNumber, i64), Parts>,
    /// The latest request of each key.
    last: HashMap<KeyNumber, RequestNumber>,
    /// Requests that were put on record and not changed since.
    fresh: HashMap<CommandId, HoldRow>,
    fresh_ids: HashMap<RequestNumber, CommandId>,
    /// The highest counter on record, by nonce.
    counters: HashMap<[u8; 16], u64>,
}

impl Memory {
    pub fn place(&self, name: &str) -> Option<PlaceNumber> {
        self.places.get(name).copied()
    }

    pub fn keep_place(&mut self, name: String, number: PlaceNumber) {
        if self.places.len() >= MOST {
            self.places.clear();
        }
        self.places.insert(name, number);
    }

    pub fn is_absent(&self, key: KeyNumber, window: i64) -> bool {
        self.absent.contains(&(key, window))
    }

    pub fn keep_absent(&mut self, key: KeyNumber, window: i64) {
        if self.absent.len() >= MOST {
            self.absent.clear();
        }
        self.absent.insert((key, window));
    }

    /// A balance as it is after this movement, if it was known before; it is known from then on.
    pub fn moved(&mut self, key: KeyNumber, window: i64, movement: Movement) -> Option<Parts> {
        let parts = self.parts.remove(&(key, window))?.after(movement)?;
        self.parts.insert((key, window), parts);
        Some(parts)
    }

    pub fn keep_parts(&mut self, key: KeyNumber, window: i64, parts: Parts) {
        if self.parts.len() >= MOST {
            self.parts.clear();
        }
        self.parts.insert((key, window), parts);
        self.absent.remove(&(key, window));
    }

    pub fn drop_parts(&mut self, key: KeyNumber, window: i64) {
        self.parts.remove(&(key, window));
    }

    /// Makes this the latest request of the key; answers the one before it, if that is known.
    pub fn link(&mut self, key: KeyNumber, request: RequestNumber) -> Option<RequestNumber> {
        if self.last.len() >= MOST {
            self.last.clear();
        }
        self.last.insert(key, request)
    }

    pub fn fresh(&self, id: CommandId) -> Option<HoldRow> {
        self.fresh.get(&id).cloned()
    }

    pub fn keep_fresh(&mut self, request: &NewRequest<'_>) {
        if !matches!(request.kind, Kind::Read | Kind::Write) {
            return;
        }
        if self.fresh.len() >= MOST {
            self.fresh.clear();
            self.fresh_ids.clear();
        }
        self.fresh_ids.insert(request.number, request.id);
        self.fresh.insert(request.id, HoldRow::admitted(request));
    }

    pub fn drop_fresh(&mut self, number: RequestNumber) {
        if let Some(id) = self.fresh_ids.remove(&number) {
            self.fresh.remove(&id);
        }
    }

    /// `None`: this nonce is not known here; look up its highest counter and [`Self::keep_counter`] it.
    pub fn seen(&self, id: CommandId) -> Option<Seen> {
        let (nonce, counter) = split(id);
        let highest = *self.counters.get(&nonce)?;
        Some(if counter > highest {
            Seen::Never
        } else {
            Seen::Perhaps
        })
    }

    /// Notes that an id is on record, for a nonce that is known.
    pub fn keep_counter(&mut self, id: CommandId) {
        let (nonce, counter) = split(id);
        if let Some(highest) = self.counters.get_mut(&nonce) {
            *highest = counter.max(*highest);
        }
    }

    /// Notes the highest id on record of a nonce.
    pub fn learn_nonce(&mut self, of: CommandId, highest: Option<CommandId>) {
        if self.counters.len() >= MOST {
            self.counters.clear();
        }
        let highest = highest.map_or(0, |id| split(id).1);
        self.counters.insert(split(of).0, highest);
    }
}
