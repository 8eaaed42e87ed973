//! The SQLite store: one writing connection under a lock, reading connections beside it.
//!
//! Here: opening, locking, checking and setting up the file. SQL is in the modules below and nowhere else. The writer's statements
//! say `OR FAIL`: a failure takes back the whole transaction anyway, and without it SQLite would keep a journal for each
//! statement.

mod backup;
mod budgets;
mod checkpoint;
mod codes;
mod dump;
mod entries;
mod holds;
mod keys;
mod listing;
mod memory;
mod money;
mod pieces;
mod purchases;
mod read;
mod schema;
mod statements;
mod write;

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;
use crate::engine::OpenError;
use checkpoint::Checkpointer;

pub use backup::{Copy, copy};
pub(super) use dump::dump;
pub use read::SqliteReads;
pub use write::SqliteStore;

/// Only the owner reads and writes: answers hold personal data.
const OWNER_ONLY: u32 = 0o600;
/// KiB of page cache of the writer. Not more: SQLite walks over the whole cache after a commit in which pages changed places,
/// and what is not here is in the system's own cache.
const WRITER_CACHE_KIB: i64 = 16_384;
/// KiB of page cache of each reader.
const READER_CACHE_KIB: i64 = 8_192;
/// A database up to this size is checked page by page when it is opened.
const CHECKED_BYTES: u64 = 64 * 1024 * 1024;
/// Prepared statements kept per connection: more than there are.
const STATEMENTS: usize = 128;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Keeps a second ledger off the same file for as long as it lives.
#[derive(Debug)]
struct Lock {
    _file: File,
}

/// Opens (or makes) the database, takes its lock, and brings its tables up to date.
///
/// # Errors
/// [`OpenError`], one clear line.
pub fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    make_private(path).map_err(|error| unusable(path, &error))?;
    // Two names of one file are one database.
    let path = &std::fs::canonicalize(path).map_err(|error| unusable(path, &error))?;
    let lock = lock(path)?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare(path, &mut connection).map_err(|failure| failure.into_open_error(path))?;
    for suffix in ["-wal", "-shm"] {
        let beside = with_suffix(path, suffix);
        if beside.exists() {
            std::fs::set_permissions(&beside, Permissions::from_mode(OWNER_ONLY))
                .map_err(|error| unusable(&beside, &error))?;
        }
    }
    let checkpointer = Checkpointer::start(path)?;
    SqliteStore::new(connection, checkpointer, lock).map_err(|error| OpenError::Corrupt {
        path: path.display().to_string(),
        why: error.to_string(),
    })
}

/// Opens a database for reading only.
///
/// # Errors
/// [`OpenError`], one clear line.
pub fn open_reads(path: &Path) -> Result<SqliteReads, OpenError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    prepare_reader(&connection).map_err(|failure| failure.into_open_error(path))?;
    Ok(SqliteReads::new(connection))
}

/// Why a database cannot be used, before it has a name.
enum Failure {
    Sqlite(rusqlite::Error),
    Foreign,
    Damaged(String),
    Newer(i64),
    Older(i64),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Failure {
    fn into_open_error(self, path: &Path) -> OpenError {
        let path = path.display().to_string();
        let corrupt = |why: String| OpenError::Corrupt {
            path: path.clone(),
            why,
        };
        match self {
            Self::Foreign => corrupt("it belongs to another program".to_owned()),
            Self::Damaged(why) => corrupt(why),
            Self::Newer(found) => OpenError::Newer {
                path,
                found,
                known: schema::newest(),
            },
            Self::Older(found) => OpenError::Older {
                path,
                found,
                known: schema::newest(),
            },
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                    corrupt(error.to_string())
                }
                _ => OpenError::Unusable {
                    path,
                    why: error.to_string(),
                },
            },
        }
    }
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, OpenError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| Failure::from(error).into_open_error(path))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // One plan per statement: without this SQLite prepares some of them anew for each value that is bound.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(|error| Failure::from(error).into_open_error(path))?;
    Ok(connection)
}

fn prepare(path: &Path, connection: &mut Connection) -> Result<(), Failure> {
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if tables == 0 {
        connection.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    } else if application != schema::APPLICATION_ID {
        return Err(Failure::Foreign);
    }
    let found = schema::version(connection)?;
    if found > schema::newest() {
        return Err(Failure::Newer(found));
    }
    let size = std::fs::metadata(path).map_or(0, |file| file.len());
    if size <= CHECKED_BYTES {
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            let one_line: Vec<&str> = verdict.split_whitespace().collect();
            return Err(Failure::Damaged(one_line.join(" ")));
        }
    }
    // Memory-mapped reads are left off: an I/O error would be a signal, not an error.
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA fullfsync = ON;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA cache_size = -{WRITER_CACHE_KIB};
         PRAGMA temp_store = MEMORY;
         PRAGMA foreign_keys = OFF;
         PRAGMA busy_timeout = 5000;"
    ))?;
    schema::migrate(connection, found)?;
    Ok(())
}

fn prepare_reader(connection: &Connection) -> Result<(), Failure> {
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if application != schema::APPLICATION_ID {
        return Err(Failure::Foreign);
    }
    let found = schema::version(connection)?;
    if found > schema::newest() {
        return Err(Failure::Newer(found));
    }
    if found < schema::newest() {
        return Err(Failure::Older(found));
    }
    connection.execute_batch(&format!(
        "PRAGMA query_only = ON;
         PRAGMA cache_size = -{READER_CACHE_KIB};
         PRAGMA busy_timeout = 5000;"
    ))?;
    Ok(())
}

#[expect(
    clippy::incompatible_msrv,
    reason = "file locks are in the standard library since 1.89; the pinned toolchain is newer"
)]
fn lock(path: &Path) -> Result<Lock, OpenError> {
    // Never the database file itself: closing another handle of it would drop SQLite's own locks.
    let beside = with_suffix(path, ".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(OWNER_ONLY)
        .open(&beside)
        .map_err(|error| unusable(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: path.display().to_string(),
        }),
        Err(TryLockError::Error(error)) => Err(unusable(path, &error)),
    }
}

/// Makes the file if it is missing, and takes everybody else's rights to it: SQLite gives the files beside it the same.
fn make_private(path: &Path) -> Result<(), std::io::Error> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(OWNER_ONLY)
        .open(path)?
        .set_permissions(Permissions::from_mode(OWNER_ONLY))
}

fn unusable(path: &Path, error: &std::io::Error) -> OpenError {
    OpenError::Unusable {
        path: path.display().to_string(),
        why: error.to_string(),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::store::conformance::{Backend, every_conformance_test};

    struct Folder(TempDir);

    impl Backend for Folder {
        type Store = SqliteStore;
        type Reads = SqliteReads;

        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn store(&self) -> SqliteStore {
            open(&self.0.path().join("k.db")).unwrap()
        }

        fn reads(&self) -> SqliteReads {
            open_reads(&self.0.path().join("k.db")).unwrap()
        }
    }

    every_conformance_test!(Folder);

    #[test]
    fn a_commit_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.db");
        let mut connection = Connection::open(&path).unwrap();
        assert!(prepare(&path, &mut connection).is_ok());
        let told = |name: &str| -> String {
            let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
            connection.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(told("journal_mode"), "wal");
        assert_eq!(told("synchronous"), "2", "FULL: each commit is synced");
    }
}
