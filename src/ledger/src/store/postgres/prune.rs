//! Forgetting old commands, a few with each transaction.

use super::link::Question;
use super::rows::{get, parameters};
use crate::store::StoreError;

/// Most commands that are looked at at a time.
const MOST_LOOKED_AT: i64 = 4_096;

/// A round over the commands on record, a few with each transaction.
#[derive(Default)]
pub struct Prune {
    /// The last one that was looked at.
    pub cursor: Vec<u8>,
    /// How many are to be looked at.
    pub owed: i64,
    /// Those that were, with when they were remembered; `None`: not asked for in this transaction.
    pub found: Option<Looked>,
}

/// Commands that were looked at.
pub struct Looked {
    pub commands: Vec<(Vec<u8>, i64)>,
    /// Where the round goes on when they are done with.
    pub next: Vec<u8>,
}

impl Prune {
    /// Asks for the next of them. What is found belongs to this transaction alone.
    pub fn question(&mut self) -> Option<Question> {
        self.found = None;
        self.owed = self.owed.min(MOST_LOOKED_AT);
        (self.owed > 0).then(|| {
            Question::new(
                "SELECT id, at FROM commands WHERE id > $1 ORDER BY id LIMIT $2",
                parameters![self.cursor.clone(), self.owed],
            )
        })
    }

    pub fn learn(&mut self, rows: &[tokio_postgres::Row]) -> Result<(), StoreError> {
        let commands = rows
            .iter()
            .map(|row| Ok((get(row, 0)?, get(row, 1)?)))
            .collect::<Result<Vec<(Vec<u8>, i64)>, StoreError>>()?;
        let is_end = i64::try_from(commands.len()).unwrap_or(i64::MAX) < self.owed;
        let next = match commands.last().filter(|_| !is_end) {
            Some((id, _)) => id.clone(),
            None => Vec::new(),
        };
        self.found = Some(Looked { commands, next });
        Ok(())
    }
}
