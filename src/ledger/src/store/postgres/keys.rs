//! Keys, and the links from a key to its requests.

use keybrake_contract::digest::Digest;

use super::known::Subject;
use super::rows::{full_key, get, key_columns, parameters, text};
use super::statements;
use super::turn::PostgresStore;
use crate::model::Key;
use crate::store::{Admission, BudgetNumber, FullKey, KeyNumber, Link, RequestNumber, StoreError};

impl PostgresStore {
    fn subject(&mut self, key: KeyNumber) -> Result<Subject, StoreError> {
        if let Some(subject) = self.known.facts.subjects.get(&key) {
            return Ok(*subject);
        }
        let rows = self.ask(
            "SELECT last, previous, admitted FROM subjects WHERE number = $1",
            parameters![key],
        )?;
        let row = rows.first();
        let row = row.ok_or_else(|| StoreError::new("a subject is missing"))?;
        let subject = Subject {
            last: get(row, 0)?,
            previous: get(row, 1)?,
            admitted: get(row, 2)?,
        };
        self.known.facts.subjects.insert(key, subject);
        Ok(subject)
    }

    pub(super) fn link(
        &mut self,
        key: KeyNumber,
        request: RequestNumber,
        admission: Admission,
    ) -> Result<Link, StoreError> {
        let before = self.subject(key)?;
        let more = match admission {
            Admission::Refused => 0,
            Admission::Admitted { most } => {
                let most = most.map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX));
                if before.admitted >= most {
                    return Ok(Link::Full);
                }
                1
            }
        };
        let now = Subject {
            last: Some(request),
            previous: before.last,
            admitted: before.admitted.saturating_add(more),
        };
        self.known.facts.subjects.insert(key, now);
        let entry = self.pending.subjects.entry(key);
        entry.or_insert((Some(before), now)).1 = now;
        Ok(Link::Linked(before.last))
    }

    pub(super) fn key_by_digest(&mut self, digest: &Digest) -> Result<Option<FullKey>, StoreError> {
        if let Some(known) = self.known.facts.keys.get(digest) {
            return Ok(known.clone());
        }
        let rows = self.ask_all_sent(
            concat!(
                "SELECT ",
                key_columns!(),
                " FROM keys k WHERE k.digest = $1"
            ),
            parameters![digest.as_bytes().to_vec()],
        )?;
        let found = rows.first().map(full_key).transpose()?;
        self.known.facts.keys.insert(*digest, found.clone());
        Ok(found)
    }

    pub(super) fn key_by_id(&mut self, key_id: &str) -> Result<Option<FullKey>, StoreError> {
        let rows = self.ask_all_sent(
            concat!(
                "SELECT ",
                key_columns!(),
                " FROM keys k WHERE k.key_id = $1"
            ),
            parameters![text(key_id)],
        )?;
        rows.first().map(full_key).transpose()
    }

    pub(super) fn workspace(&mut self, key: KeyNumber) -> Result<Option<String>, StoreError> {
        let rows = self.ask_all_sent(
            "SELECT workspace FROM keys WHERE number = $1",
            parameters![key],
        )?;
        rows.first().map(|row| get(row, 0)).transpose()
    }

    pub(super) fn unrevoked_by_label_prefix(
        &mut self,
        prefix: &str,
    ) -> Result<Vec<FullKey>, StoreError> {
        let rows = self.ask_all_sent(
            concat!(
                "SELECT ",
                key_columns!(),
                " FROM keys k WHERE left(k.label, char_length($1::text)) = $1::text AND k.revoked_at IS NULL
                  ORDER BY k.number"
            ),
            parameters![text(prefix)],
        )?;
        rows.iter().map(full_key).collect()
    }

    pub(super) fn unrevoked_by_budget(
        &mut self,
        budget: BudgetNumber,
    ) -> Result<Vec<FullKey>, StoreError> {
        let rows = self.ask_all_sent(
            concat!(
                "WITH RECURSIVE tree (number) AS (
                     SELECT $1::bigint UNION ALL SELECT b.number FROM tree t JOIN budgets b ON b.parent = t.number)
                 SELECT ",
                key_columns!(),
                " FROM keys k WHERE k.budget IN (SELECT number FROM tree) AND k.revoked_at IS NULL ORDER BY k.number"
            ),
            parameters![budget],
        )?;
        rows.iter().map(full_key).collect()
    }

    /// The number of a new subject.
    pub(super) fn new_subject(&mut self) -> Result<KeyNumber, StoreError> {
        let turn = self.turn()?;
        let number = turn.next_subject;
        turn.next_subject = number.saturating_add(1);
        let new = Subject {
            last: None,
            previous: None,
            admitted: 0,
        };
        self.pending.subjects.insert(number, (None, new));
        self.known.facts.subjects.insert(number, new);
        Ok(number)
    }

    pub(super) fn add_key(
        &mut self,
        key: &Key,
        budget: Option<BudgetNumber>,
    ) -> Result<KeyNumber, StoreError> {
        let number = self.new_subject()?;
        let turn = self.turn()?;
        turn.keys = turn.keys.saturating_add(1);
        let full = FullKey {
            number,
            budget,
            key: key.clone(),
        };
        self.pending.add_key(full.clone());
        self.known.facts.keys.insert(key.digest, Some(full));
        Ok(number)
    }

    pub(super) fn change_key(&mut self, full: &FullKey) -> Result<(), StoreError> {
        let digest = full.key.digest;
        self.known.facts.keys.insert(digest, Some(full.clone()));
        self.pending.rare.push(statements::update_key(full)?);
        Ok(())
    }

    pub(super) fn count_keys(&mut self) -> Result<u64, StoreError> {
        if let Ok(turn) = self.turn() {
            return Ok(turn.keys.cast_unsigned());
        }
        let rows = self.ask("SELECT keys FROM turn WHERE only_one = 1", Vec::new())?;
        let count = rows.first().map(|row| get::<i64>(row, 0)).transpose()?;
        Ok(count.unwrap_or_default().cast_unsigned())
    }
}
