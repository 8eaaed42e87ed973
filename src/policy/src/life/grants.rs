//! The grants a worker has seen, by key digest. Bounded; the oldest leave first.
//!
//! A cached grant never admits anything by itself: each reserve names the version it was checked against, and the
//! ledger answers with the new grant when that one has changed.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use keybrake_contract::digest::Digest;
use keybrake_contract::grant::Grant;

/// A bounded map from key digest to grant.
#[derive(Debug)]
pub struct GrantCache {
    capacity: usize,
    grants: BTreeMap<Digest, Slot>,
    /// Order of arrival. A grant that was used since it came to the front gets another round.
    order: VecDeque<Digest>,
}

#[derive(Debug)]
struct Slot {
    grant: Rc<Grant>,
    use_since: UseSince,
}

/// Whether a grant was asked for since it was last looked at for eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UseSince {
    Used,
    Unused,
}

impl GrantCache {
    /// An empty cache for so many grants. With 0 nothing is ever kept.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            grants: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The grant of the key with this digest, if it is known.
    pub fn get(&mut self, digest: &Digest) -> Option<Rc<Grant>> {
        let slot = self.grants.get_mut(digest)?;
        slot.use_since = UseSince::Used;
        Some(Rc::clone(&slot.grant))
    }

    /// Keeps a grant in place of what was known of that key. A version older than the known one is passed over: two
    /// answers may overtake each other.
    pub fn put(&mut self, digest: Digest, grant: Rc<Grant>) {
        if self.capacity == 0 {
            return;
        }
        if let Some(slot) = self.grants.get_mut(&digest) {
            if grant.version >= slot.grant.version {
                slot.grant = grant;
            }
            return;
        }
        while self.grants.len() >= self.capacity {
            self.evict_one();
        }
        self.order.push_back(digest);
        let slot = Slot {
            grant,
            use_since: UseSince::Unused,
        };
        self.grants.insert(digest, slot);
    }

    /// Forgets the grant of a key that is no longer valid.
    pub fn forget(&mut self, digest: &Digest) {
        if self.grants.remove(digest).is_some() {
            self.order.retain(|known| known != digest);
        }
    }

    fn evict_one(&mut self) {
        while let Some(digest) = self.order.pop_front() {
            match self.grants.get_mut(&digest) {
                Some(slot) if slot.use_since == UseSince::Used => {
                    slot.use_since = UseSince::Unused;
                    self.order.push_back(digest);
                }
                _ => {
                    self.grants.remove(&digest);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use keybrake_contract::grant::{AllowedEndpoint, IdempotencyRule};

    use super::*;

    fn grant(version: u64) -> Rc<Grant> {
        Rc::new(Grant {
            key_id: "vk_1".to_owned(),
            version,
            vendor: "stripe".to_owned(),
            allowed_endpoints: vec![AllowedEndpoint::parse("charges.create").unwrap()],
            constraints: BTreeMap::new(),
            duplicate_fields: Vec::new(),
            vendor_accounts: Vec::new(),
            idempotency: IdempotencyRule::Required,
        })
    }

    fn digest(number: u8) -> Digest {
        Digest::of(&[number])
    }

    #[test]
    fn the_cache_never_grows_past_its_capacity_and_keeps_what_is_used() {
        let mut cache = GrantCache::new(3);
        cache.put(digest(0), grant(1));
        for number in 1..100 {
            assert!(cache.get(&digest(0)).is_some(), "before {number}");
            cache.put(digest(number), grant(1));
            assert!(cache.grants.len() <= 3);
            assert_eq!(cache.order.len(), cache.grants.len());
        }
        assert!(cache.get(&digest(1)).is_none());
        assert!(cache.get(&digest(99)).is_some());
    }

    #[test]
    fn an_older_version_never_replaces_a_newer_one() {
        let mut cache = GrantCache::new(3);
        cache.put(digest(0), grant(2));
        cache.put(digest(0), grant(1));
        assert_eq!(cache.get(&digest(0)).map(|grant| grant.version), Some(2));
        cache.put(digest(0), grant(3));
        assert_eq!(cache.get(&digest(0)).map(|grant| grant.version), Some(3));
    }

    #[test]
    fn a_forgotten_grant_leaves_nothing_behind() {
        let mut cache = GrantCache::new(2);
        cache.put(digest(0), grant(1));
        cache.forget(&digest(0));
        cache.forget(&digest(0));
        assert!(cache.get(&digest(0)).is_none());
        assert!(cache.order.is_empty());
        let mut none = GrantCache::new(0);
        none.put(digest(0), grant(1));
        assert!(none.get(&digest(0)).is_none());
    }
}
