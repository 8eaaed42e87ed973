//! Where the ledgers of these tests keep everything: a file in the test's folder.

use std::path::{Path, PathBuf};

use crate::engine::LedgerOptions;
use crate::store::Database;

/// Sequences of the model's test.
pub const CASES: u32 = 90;
/// For its ledger.
pub const CHORES_EVERY_MS: u32 = 5;
/// Histories of overlapping commands.
pub const HISTORIES: u32 = 60;
/// Ledgers on one database: a file has one.
pub const LEDGERS: usize = 1;

pub struct Place(PathBuf);

impl Place {
    pub fn new(folder: &Path) -> Self {
        Self(folder.join("k.db"))
    }

    pub fn options(&self, _folder: &Path) -> LedgerOptions {
        LedgerOptions::new(self.database())
    }

    pub fn database(&self) -> Database {
        Database::from(self.0.clone())
    }

    /// Executes SQL; its rows are lines, as `psql` shows them.
    pub fn sql(&self, sql: &str) -> String {
        let connection = rusqlite::Connection::open(&self.0).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut lines = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let cells = (0..columns).map(|index| match row.get_ref(index).unwrap() {
                rusqlite::types::ValueRef::Integer(value) => value.to_string(),
                other => other.as_str_or_null().unwrap().unwrap_or("").to_owned(),
            });
            lines.push(cells.collect::<Vec<_>>().join("|"));
        }
        lines.join("\n")
    }

    /// Says that what is in it is to be damaged.
    pub fn will_be_damaged(&mut self) {}

    /// All bytes that are kept.
    pub fn everything(&self) -> Vec<u8> {
        let folder = std::fs::read_dir(self.0.parent().unwrap()).unwrap();
        let files = folder.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.flatten().collect()
    }
}
