//! Keys that were used lately, by the digest of their secret: bounded, owned by the writer and written through by it.

use std::collections::HashMap;
use std::sync::Arc;

use keybrake_contract::digest::Digest;

use crate::store::FullKey;

/// Keys in one generation. Two generations are kept.
const GENERATION: usize = 32_768;

/// Two generations: when the young one is full it becomes the old one, and the old one is forgotten.
#[derive(Default)]
pub struct KeyCache {
    young: HashMap<Digest, Arc<FullKey>>,
    old: HashMap<Digest, Arc<FullKey>>,
}

impl KeyCache {
    /// The key with this digest, if it was used lately.
    pub fn get(&mut self, digest: &Digest) -> Option<Arc<FullKey>> {
        if let Some(key) = self.young.get(digest) {
            return Some(Arc::clone(key));
        }
        let key = self.old.remove(digest)?;
        self.put(Arc::clone(&key));
        Some(key)
    }

    /// Remembers a key.
    pub fn put(&mut self, key: Arc<FullKey>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.key.digest, key);
    }

    /// Forgets a key: it was changed.
    pub fn forget(&mut self, digest: &Digest) {
        self.young.remove(digest);
        self.old.remove(digest);
    }
}
