//! Moving everything from a file to a database of several ledgers, once, with the audit chain intact.

use super::tables::{Cell, TABLES, Table};
use super::{Database, Store as _, StoreError, postgres, sqlite};
use crate::engine::{OpenError, Trust, VerifyReport, verify};

/// Why nothing was moved. One clear line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigrateError {
    /// Only this way is known.
    #[error("migrate moves from sqlite:PATH to postgres://…, not the other way")]
    WrongWay,
    /// There is nothing to move.
    #[error("there is no database {0}")]
    NoSource(String),
    /// See [`OpenError`].
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is broken is not moved.
    #[error("the audit chain of {0} is broken: run `keybrake audit verify`; nothing was moved")]
    Broken(String),
    /// There is something already.
    #[error("the database {0} is not empty: it has rows in {1}; nothing was moved")]
    NotEmpty(String, &'static str),
    /// Something failed on the way.
    #[error("nothing was moved: {0}")]
    Failed(String),
    /// It was moved, and does not look the same.
    #[error("what was moved to {0} is not what was in the source: do not use it")]
    Different(String),
}

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Rows of each table.
    pub rows: Vec<(&'static str, u64)>,
    /// The chain as it is in the target.
    pub chain: VerifyReport,
}

/// Takes rows of a table, some at a time.
pub(super) type Sink<'a> = dyn FnMut(&'static Table, Vec<Vec<Cell>>) -> Result<(), StoreError> + 'a;

/// Moves everything, all or nothing. The file's ledger must be stopped: its lock is held meanwhile.
///
/// # Errors
/// [`MigrateError`].
pub fn migrate(from: &Database, to: &Database) -> Result<Moved, MigrateError> {
    let (Database::Sqlite(path), Database::Postgres(address)) = (from, to) else {
        return Err(MigrateError::WrongWay);
    };
    if !path.exists() {
        return Err(MigrateError::NoSource(from.to_string()));
    }
    // Keeps a ledger off the file, brings its tables up to date and checks its head.
    let mut held = sqlite::open(path)?;
    let failed = |error: StoreError| MigrateError::Failed(error.to_string());
    let head = held.chain_head().map_err(failed)?;
    let trust = Trust::default();
    let source = verify(from, &trust)?;
    if source.broken.is_some() {
        return Err(MigrateError::Broken(from.to_string()));
    }
    let mut target = postgres::Target::open(address)?;
    if let Some(table) = target.first_with_rows(TABLES).map_err(failed)? {
        return Err(MigrateError::NotEmpty(to.to_string(), table));
    }
    let rows = target
        .fill(&head, |sink| sqlite::dump(path, TABLES, sink))
        .map_err(failed)?;
    drop(held);
    let chain = verify(to, &trust)?;
    if chain == source {
        Ok(Moved { rows, chain })
    } else {
        Err(MigrateError::Different(to.to_string()))
    }
}
