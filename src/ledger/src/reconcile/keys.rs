//! The reconciler's own vault keys: issued, renewed and revoked like any other, and good for reading evidence alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keybrake_contract::grant::{AllowedEndpoint, Grant, IdempotencyRule};
use keybrake_pack::{EvidenceRules, Pack};

use crate::engine::{IssueError, Ledger, QueryError};
use crate::model::{Caps, IssuedKey, KeyFilter, KeyStatus, NewKey};

/// Label of these keys. Whatever key has it is revoked at the next start.
pub const LABEL: &str = "keybrake-reconciler";

/// How long a key is good for.
const LIFE: SignedDuration = SignedDuration::from_hours(24);
/// A key that ends sooner than this is renewed.
const RENEW: SignedDuration = SignedDuration::from_hours(6);
/// For a word to the ledger that is ending.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The keys, one for each vendor that has evidence.
#[derive(Default)]
pub struct Keys(BTreeMap<String, Arc<IssuedKey>>);

impl Keys {
    /// The key for a vendor, issued now if there is none that will do.
    pub async fn get(
        &mut self,
        ledger: &Ledger,
        pack: &Pack,
        rules: &EvidenceRules,
        now: Timestamp,
    ) -> Result<Arc<IssuedKey>, IssueError> {
        let vendor = pack.vendor();
        if let Some(key) = self.0.get(vendor)
            && key.key.expires_at.duration_since(now) > RENEW
        {
            return Ok(Arc::clone(key));
        }
        let mut issued = ledger.issue(vec![new_key(pack, rules, now)]).await?;
        let key = issued.pop().map(Arc::new);
        let key = key.ok_or(IssueError::UnknownVendor { index: 0 })?;
        if let Some(old) = self.0.insert(vendor.to_owned(), Arc::clone(&key)) {
            revoke(ledger, &old.key.key_id).await;
        }
        Ok(key)
    }

    /// A key that is not taken any more: the next pass issues another.
    pub async fn drop_key(&mut self, ledger: &Ledger, vendor: &str) {
        if let Some(old) = self.0.remove(vendor) {
            revoke(ledger, &old.key.key_id).await;
        }
    }

    /// Revokes all of them.
    pub async fn end(self, ledger: &Ledger) {
        for key in self.0.values() {
            let revoked = tokio::time::timeout(LAST_WORDS, revoke(ledger, &key.key.key_id));
            if revoked.await.is_err() {
                tracing::warn!(
                    key_id = key.key.key_id,
                    "the reconciler's key was not revoked in time"
                );
            }
        }
    }
}

/// Revokes the keys that an earlier reconciler left behind.
pub async fn revoke_earlier(ledger: &Ledger) -> Result<u64, QueryError> {
    let mut revoked = 0_u64;
    loop {
        let filter = KeyFilter {
            label_prefix: Some(LABEL.to_owned()),
            status: Some(KeyStatus::Active),
            limit: 1_000,
            ..KeyFilter::default()
        };
        let page = ledger.keys(filter).await?;
        let mut earlier = 0_u64;
        for key in page.items.iter().filter(|key| key.label == LABEL) {
            ledger.revoke(&key.key_id).await?;
            earlier = earlier.saturating_add(1);
        }
        revoked = revoked.saturating_add(earlier);
        if earlier == 0 || page.next_cursor.is_none() {
            return Ok(revoked);
        }
    }
}

async fn revoke(ledger: &Ledger, key_id: &str) {
    if let Err(error) = ledger.revoke(key_id).await {
        tracing::warn!(key_id, %error, "the reconciler's key was not revoked");
    }
}

fn new_key(pack: &Pack, rules: &EvidenceRules, now: Timestamp) -> NewKey {
    let mut allowed: Vec<AllowedEndpoint> = Vec::new();
    for operation in rules.reads() {
        let line = AllowedEndpoint::Operation(operation.to_owned());
        if !allowed.contains(&line) {
            allowed.push(line);
        }
    }
    NewKey {
        label: LABEL.to_owned(),
        workspace: "default".to_owned(),
        grant: Grant {
            key_id: String::new(),
            version: 0,
            vendor: pack.vendor().to_owned(),
            allowed_endpoints: allowed,
            constraints: BTreeMap::new(),
            vendor_accounts: Vec::new(),
            idempotency: IdempotencyRule::Required,
            duplicate_fields: Vec::new(),
        },
        caps: Caps::default(),
        worst_case: None,
        budget: None,
        duplicates: None,
        expires_at: now.saturating_add(LIFE).unwrap_or(now),
        metadata: None,
    }
}
