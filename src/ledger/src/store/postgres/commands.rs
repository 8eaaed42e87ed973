//! Commands that were answered, and places.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;

use super::foresee::highest_counters;
use super::pending::rare;
use super::rows::{command_id, digest, get, parameters, text};
use super::turn::PostgresStore;
use crate::store::counters::split;
use crate::store::{KnownCommand, PlaceNumber, Seen, StoreError};

impl PostgresStore {
    pub(super) fn seen(&mut self, id: CommandId) -> Result<Seen, StoreError> {
        if let Some(seen) = self.known.facts.seen(id) {
            return Ok(seen);
        }
        self.flush()?;
        let nonce = split(id).0;
        let rows = self.connection()?.ask(&highest_counters(&[nonce]))?;
        let highest = match rows.first() {
            Some(row) => split(command_id(row, 0)?).1,
            None => 0,
        };
        self.known.facts.learn_nonce(nonce, highest);
        Ok(self.known.facts.seen(id).unwrap_or(Seen::Perhaps))
    }

    pub(super) fn command(&mut self, id: CommandId) -> Result<Option<KnownCommand>, StoreError> {
        if let Some(known) = self.known.facts.commands.get(&id) {
            return Ok(known.clone());
        }
        let rows = self.ask(
            "SELECT digest, answer FROM commands WHERE id = $1",
            parameters![id.as_bytes().to_vec()],
        )?;
        let found = match rows.first() {
            Some(row) => Some(KnownCommand {
                digest: digest(row, 0)?,
                answer: get(row, 1)?,
            }),
            None => None,
        };
        self.known.facts.commands.insert(id, found.clone());
        Ok(found)
    }

    pub(super) fn add_command(
        &mut self,
        id: CommandId,
        digest: &Digest,
        at: i64,
        answer: &[u8],
    ) -> Result<(), StoreError> {
        self.pending.add_command(id, digest, at, answer);
        let known = KnownCommand {
            digest: *digest,
            answer: answer.to_vec(),
        };
        self.known.facts.commands.insert(id, Some(known));
        self.known.facts.keep_counter(id);
        Ok(())
    }

    /// Those that are looked at come with the beginning of the next transaction, so that none waits for them.
    pub(super) fn prune_commands(&mut self, walk: u32, before: i64) -> Result<(), StoreError> {
        let Some(looked) = self.prune.found.take() else {
            self.prune.owed = self.prune.owed.saturating_add(i64::from(walk));
            return Ok(());
        };
        self.prune.owed = i64::from(walk);
        self.prune.cursor = looked.next;
        let old: Vec<Vec<u8>> = looked
            .commands
            .into_iter()
            .filter(|(_, at)| *at < before)
            .map(|(id, _)| id)
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        for id in &old {
            if let Ok(id) = <[u8; 24]>::try_from(id.as_slice()) {
                let id = CommandId::from_bytes(id);
                self.known.facts.commands.remove(&id);
            }
        }
        self.pending.rare.push(rare(
            "DELETE FROM commands WHERE id = ANY($1::bytea[])",
            parameters![old],
            None,
        ));
        Ok(())
    }

    pub(super) fn place(
        &mut self,
        vendor: &str,
        credential: &str,
        account: Option<&str>,
    ) -> Result<PlaceNumber, StoreError> {
        let of = [vendor, credential, account.unwrap_or_default()].map(text);
        let name = of.join("\0");
        if let Some(number) = self.known.places.get(&name) {
            return Ok(*number);
        }
        let [vendor, credential, account] = of;
        let mut rows = self.ask(
            "SELECT number FROM places WHERE vendor = $1 AND credential = $2 AND account = $3",
            parameters![vendor.clone(), credential.clone(), account.clone()],
        )?;
        if rows.is_empty() {
            self.has_written()?;
            rows = self.ask(
                "INSERT INTO places (number, vendor, credential, account)
                 SELECT coalesce(max(number), 0) + 1, $1, $2, $3 FROM places RETURNING number",
                parameters![vendor, credential, account],
            )?;
        }
        let row = rows.first();
        let number = get(row.ok_or_else(|| StoreError::new("a place is missing"))?, 0)?;
        self.known.places.insert(name, number);
        Ok(number)
    }
}
