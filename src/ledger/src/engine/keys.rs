//! Keys: issued, changed, revoked. Each is an event, and effective for every reserve after it.

use jiff::Timestamp;
use keybrake_contract::digest::Digest;
use keybrake_contract::vault_key;
use serde_json::Value;

use super::path::{grant_version, own_subject};
use super::writer::Writer;
use super::{BudgetError, IssueError};
use crate::audit::key_facts;
use crate::clock::timestamp;
use crate::model::{Balance, BudgetState, IssuedKey, Key, KeyChange, NewKey, SecretText};
use crate::store::{BudgetNumber, FullKey, Spender, Store, StoreError};

/// Random bytes of a key's public handle.
const KEY_ID_BYTES: usize = 12;

/// A key drawn on the caller's thread: the writer never sees the secret.
pub(super) struct Drawn {
    pub key: Key,
    pub secret: SecretText,
}

/// Draws secret and handle of a new key.
pub(super) fn draw(new: NewKey, now: Timestamp) -> Result<Drawn, getrandom::Error> {
    let mut random = [0_u8; vault_key::RANDOM_BYTES];
    getrandom::fill(&mut random)?;
    let mut handle = [0_u8; KEY_ID_BYTES];
    getrandom::fill(&mut handle)?;
    let secret = vault_key::compose(random);
    let key_id = format!("vk_{}", hex::encode(handle));
    let NewKey {
        label,
        workspace,
        mut grant,
        caps,
        worst_case,
        expires_at,
        metadata,
        budget,
        duplicates,
    } = new;
    grant.key_id.clone_from(&key_id);
    grant.version = 1;
    let key = Key {
        key_id,
        digest: Digest::of(secret.as_bytes()),
        label,
        workspace,
        grant,
        caps,
        worst_case,
        created_at: now,
        expires_at,
        revoked_at: None,
        metadata,
        budget,
        duplicates,
    };
    Ok(Drawn {
        key,
        secret: SecretText::new(secret),
    })
}

impl Drawn {
    pub(super) fn issued(self) -> IssuedKey {
        IssuedKey {
            key: self.key,
            secret: self.secret,
        }
    }
}

/// What came of a change.
pub(super) enum Change {
    Done(Box<(Key, Vec<Balance>)>),
    NotFound,
    Revoked,
    /// The budget is not there or closed.
    Budget(BudgetError),
}

impl<S: Store> Writer<S> {
    pub(super) fn issue(
        &mut self,
        keys: &[Key],
    ) -> Result<Result<Vec<Key>, IssueError>, StoreError> {
        // All budgets are looked up before the first key is put on record.
        let mut budgets = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            match self.budget_to_draw_from(key.budget.as_deref())? {
                Ok(budget) => budgets.push(budget),
                Err(error) => return Ok(Err(IssueError::Budget { index, error })),
            }
        }
        let mut issued = Vec::with_capacity(keys.len());
        for (key, budget) in keys.iter().zip(budgets) {
            let mut key = key.clone();
            key.created_at = timestamp(self.now);
            self.store.add_key(&key, budget)?;
            self.key_event("issued", &key)?;
            issued.push(key);
        }
        self.key_count = self
            .key_count
            .saturating_add(u64::try_from(issued.len()).unwrap_or(0));
        Ok(Ok(issued))
    }

    /// The number of the budget that a key names, if it may draw from it.
    fn budget_to_draw_from(
        &mut self,
        name: Option<&str>,
    ) -> Result<Result<Option<BudgetNumber>, BudgetError>, StoreError> {
        let Some(name) = name else {
            return Ok(Ok(None));
        };
        Ok(match self.store.budget_by_name(name)? {
            None => Err(BudgetError::NotFound),
            Some(found) if found.budget.state == BudgetState::Closed => Err(BudgetError::Closed),
            Some(found) => Ok(Some(found.number)),
        })
    }

    pub(super) fn change(
        &mut self,
        key_id: &str,
        change: &KeyChange,
    ) -> Result<Change, StoreError> {
        let Some(mut full) = self.store.key_by_id(key_id)? else {
            return Ok(Change::NotFound);
        };
        if full.key.revoked_at.is_some() {
            return Ok(Change::Revoked);
        }
        let KeyChange {
            label,
            caps,
            grant,
            expires_at,
            worst_case,
            metadata,
            budget,
            duplicates,
        } = change.clone();
        let path = self.path_of(&full)?;
        // Above what filters know, whatever the rules of the new budget add to it.
        let version = grant_version(&full, path.as_deref()).saturating_add(1);
        if let Some(name) = budget {
            match self.budget_to_draw_from(name.as_deref())? {
                Ok(number) => full.budget = number,
                Err(error) => return Ok(Change::Budget(error)),
            }
            full.key.budget = name;
        }
        let before = full.key.caps;
        if let Some(grant) = grant {
            full.key.grant = grant;
        }
        full.key.grant.key_id.clone_from(&full.key.key_id);
        full.key.grant.version = version;
        full.key.label = label.unwrap_or(full.key.label);
        full.key.caps = caps.unwrap_or(full.key.caps);
        full.key.expires_at = expires_at.unwrap_or(full.key.expires_at);
        full.key.worst_case = worst_case.or(full.key.worst_case);
        full.key.metadata = metadata.or(full.key.metadata);
        full.key.duplicates = duplicates.unwrap_or(full.key.duplicates);
        self.put_changed(&full, "changed")?;
        let subject = own_subject(&full);
        self.recap(&subject, Spender::Key(full.number), &before)?;
        let balances = self.present_balances(&subject)?;
        Ok(Change::Done(Box::new((full.key, balances))))
    }

    pub(super) fn revoke(&mut self, key_id: &str) -> Result<Option<Box<Key>>, StoreError> {
        let Some(mut full) = self.store.key_by_id(key_id)? else {
            return Ok(None);
        };
        if full.key.revoked_at.is_none() {
            self.revoke_key(&mut full)?;
        }
        Ok(Some(Box::new(full.key)))
    }

    pub(super) fn revoke_by_label_prefix(&mut self, prefix: &str) -> Result<u64, StoreError> {
        let keys = self.store.unrevoked_by_label_prefix(prefix)?;
        self.revoke_all(keys)
    }

    pub(super) fn revoke_all(&mut self, keys: Vec<FullKey>) -> Result<u64, StoreError> {
        let mut count = 0_u64;
        for mut full in keys {
            self.revoke_key(&mut full)?;
            count = count.saturating_add(1);
        }
        Ok(count)
    }

    fn revoke_key(&mut self, full: &mut FullKey) -> Result<(), StoreError> {
        full.key.revoked_at = Some(timestamp(self.now));
        full.key.grant.version = full.key.grant.version.saturating_add(1);
        self.put_changed(full, "revoked")
    }

    fn put_changed(&mut self, full: &FullKey, event: &str) -> Result<(), StoreError> {
        self.store.change_key(full)?;
        self.keys.forget(&full.key.digest);
        self.key_event(event, &full.key)
    }

    /// An event that shows a key or a budget as it is after it.
    pub(super) fn tell_facts(&mut self, event: &str, mut facts: Value) -> Result<(), StoreError> {
        if let Some(members) = facts.as_object_mut() {
            members.insert("at".to_owned(), self.now.into());
            members.insert("event".to_owned(), event.into());
        }
        self.tell(&facts)?;
        Ok(())
    }

    /// The event shows the key as it is after it; never its digest.
    fn key_event(&mut self, event: &str, key: &Key) -> Result<(), StoreError> {
        self.tell_facts(event, key_facts(key))
    }
}
