//! The tables, and the steps from each schema version to the next.

use rusqlite::{Connection, OptionalExtension as _};

/// Marks a SQLite file as ours (`KBRK`).
pub const APPLICATION_ID: i32 = 0x4b42_524b;

/// Every step, from version 1 on. A step that was released is never changed: the next change is another step.
const STEPS: &[&str] = &[VERSION_1];

/// The newest version known here.
#[must_use]
pub fn newest() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// `requests`: one row per hold or refusal; it is the audit entry, the money's state and the record's state. What never changes
/// and is not filtered by is only in its event. Columns hold these numbers:
/// kind 0 read, 1 write, 2 refused, 3 refused by the filter; record 0 in flight, 1 answered, 2 unknown, 3 released; hold 0 held,
/// 1 settled, 2 released, 3 unknown; outcome 0 in flight, 1 held, 2 settled, 3 released, 4 unknown, 5 abandoned; attempts 0 open,
/// 1 executed, 2 declined, 3 not executed, 4 not forwarded, 5 indeterminate, 6 overdue.
/// Budget state 0 open, 1 frozen, 2 closed, 3 tripped. `requests.asked` is what a hold was reserved for, once its cost is another,
/// `requests.rate` its exchange rate in trillionths of a dollar.
/// `refusals` holds those that a brake still counts, `purchases` those that a rule about equal purchases still knows.
/// `previous` links the requests of one key, newest first, from `subjects.last`: an index would touch a page per key.
const VERSION_1: &str = "
CREATE TABLE chain (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE signed_heads (
    number INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    line TEXT NOT NULL
) STRICT;
CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE commands (
    id BLOB PRIMARY KEY,
    digest BLOB NOT NULL,
    at INTEGER NOT NULL,
    answer BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE subjects (
    number INTEGER PRIMARY KEY,
    last INTEGER,
    previous INTEGER,
    admitted INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE keys (
    number INTEGER PRIMARY KEY REFERENCES subjects (number),
    key_id TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL UNIQUE,
    label TEXT NOT NULL,
    workspace TEXT NOT NULL,
    vendor TEXT NOT NULL,
    key_grant TEXT NOT NULL,
    caps TEXT NOT NULL,
    worst_case INTEGER,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    metadata TEXT,
    budget INTEGER,
    duplicates TEXT
) STRICT;
CREATE INDEX keys_label ON keys (label);
CREATE INDEX keys_budget ON keys (budget) WHERE budget IS NOT NULL;
CREATE TABLE budgets (
    number INTEGER PRIMARY KEY REFERENCES subjects (number),
    name TEXT NOT NULL UNIQUE,
    parent INTEGER REFERENCES budgets (number),
    caps TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    state INTEGER NOT NULL,
    trip_on TEXT,
    duplicates TEXT,
    rule_version INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    tripped_at INTEGER,
    metadata TEXT
) STRICT;
CREATE INDEX budgets_parent ON budgets (parent) WHERE parent IS NOT NULL;
CREATE TABLE refusals (
    budget INTEGER NOT NULL,
    at INTEGER NOT NULL,
    request INTEGER NOT NULL,
    PRIMARY KEY (budget, at, request)
) STRICT, WITHOUT ROWID;
CREATE TABLE purchases (
    subject INTEGER NOT NULL,
    digest BLOB NOT NULL,
    request INTEGER NOT NULL,
    at INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (subject, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX purchases_until ON purchases (until);
CREATE TABLE balances (
    subject INTEGER NOT NULL,
    window INTEGER NOT NULL,
    cap INTEGER NOT NULL,
    free INTEGER NOT NULL,
    held INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    PRIMARY KEY (subject, window),
    CHECK (free + held + settled + unknown = cap)
) STRICT, WITHOUT ROWID;
CREATE TABLE places (
    number INTEGER PRIMARY KEY,
    vendor TEXT NOT NULL,
    credential TEXT NOT NULL,
    account TEXT NOT NULL,
    UNIQUE (vendor, credential, account)
) STRICT;
CREATE TABLE requests (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    digest BLOB NOT NULL,
    at INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    previous INTEGER,
    place INTEGER NOT NULL,
    event INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    record INTEGER NOT NULL,
    hold INTEGER NOT NULL,
    outcome INTEGER,
    attempts INTEGER NOT NULL,
    first_attempt INTEGER NOT NULL,
    deadline INTEGER,
    cost INTEGER,
    amount INTEGER,
    currency TEXT,
    replays INTEGER NOT NULL DEFAULT 0,
    status INTEGER,
    latency_ms INTEGER,
    forwarded_before INTEGER NOT NULL,
    shadow INTEGER,
    object TEXT,
    charge TEXT,
    charge_is_object INTEGER NOT NULL DEFAULT 0,
    vendor_request_id TEXT,
    alarms TEXT,
    resolution INTEGER,
    operation TEXT NOT NULL,
    label TEXT NOT NULL,
    run_id TEXT,
    reason TEXT,
    record_key BLOB,
    idempotency_key TEXT,
    client_key TEXT,
    fingerprint BLOB,
    full_fingerprint BLOB,
    budget INTEGER,
    asked INTEGER,
    rate INTEGER
) STRICT;
CREATE INDEX requests_budget ON requests (budget, number) WHERE budget IS NOT NULL;
CREATE UNIQUE INDEX requests_id ON requests (id);
CREATE INDEX requests_due ON requests (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX requests_run ON requests (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX requests_object ON requests (object) WHERE object IS NOT NULL;
CREATE INDEX requests_charge ON requests (charge) WHERE charge IS NOT NULL;
CREATE INDEX requests_open ON requests (object) WHERE record = 1 AND hold = 0 AND object IS NOT NULL;
CREATE INDEX requests_unknown ON requests (at, subject, cost) WHERE hold = 3 AND kind = 1;
CREATE TABLE attempts (
    request INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    reserve BLOB NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    deadline INTEGER,
    PRIMARY KEY (request, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_due ON attempts (deadline) WHERE deadline IS NOT NULL;
CREATE TABLE records (
    record_key BLOB PRIMARY KEY,
    request INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE mentions (
    mention INTEGER NOT NULL,
    request INTEGER NOT NULL,
    PRIMARY KEY (mention, request)
) STRICT, WITHOUT ROWID;
CREATE TABLE answers (
    request INTEGER PRIMARY KEY,
    status INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    body TEXT NOT NULL,
    vendor_request_id TEXT,
    is_summary INTEGER NOT NULL DEFAULT 0
) STRICT;
";

/// The version of the tables in this database: 0 when it has none.
///
/// # Errors
/// When it cannot be read.
pub fn version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    let has_table = connection
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'",
            [],
            |_| Ok(()),
        )
        .optional()?;
    match has_table {
        None => Ok(0),
        Some(()) => {
            connection.query_row("SELECT version FROM schema_version", [], |row| row.get(0))
        }
    }
}

/// Brings the tables from `found` to the newest version, each step in a transaction of its own.
///
/// # Errors
/// When a step fails; the steps before it stand.
pub fn migrate(connection: &mut Connection, found: i64) -> Result<(), rusqlite::Error> {
    migrate_by(STEPS, connection, found)
}

fn migrate_by(
    steps: &[&str],
    connection: &mut Connection,
    found: i64,
) -> Result<(), rusqlite::Error> {
    for (step, target) in steps.iter().zip(1_i64..) {
        if target <= found {
            continue;
        }
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.execute_batch(
            "CREATE TABLE IF NOT EXISTS schema_version (only INTEGER PRIMARY KEY CHECK (only = 1), version INTEGER NOT NULL) STRICT",
        )?;
        transaction.execute(
            "INSERT INTO schema_version (only, version) VALUES (1, ?1) ON CONFLICT (only) DO UPDATE SET version = ?1",
            [target],
        )?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str =
        "CREATE TABLE purse (coins INTEGER NOT NULL) STRICT; INSERT INTO purse VALUES (7);";
    const SECOND: &str = "ALTER TABLE purse ADD COLUMN owner TEXT NOT NULL DEFAULT 'nobody';";
    const BROKEN: &str =
        "ALTER TABLE purse ADD COLUMN lid TEXT; INSERT INTO no_such_table VALUES (1);";

    fn columns(connection: &Connection) -> i64 {
        let sql = "SELECT count(*) FROM pragma_table_info('purse')";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_database_of_an_older_step_is_moved_forward_and_keeps_what_is_in_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert_eq!(version(&connection).unwrap(), 0);
        migrate_by(&[FIRST], &mut connection, 0).unwrap();
        assert_eq!(
            (version(&connection).unwrap(), columns(&connection)),
            (1, 1)
        );
        migrate_by(&[FIRST, SECOND], &mut connection, 1).unwrap();
        assert_eq!(
            (version(&connection).unwrap(), columns(&connection)),
            (2, 2)
        );
        let sql = "SELECT coins, owner FROM purse";
        let row: (i64, String) = connection
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!(row, (7, "nobody".to_owned()));
        migrate_by(&[FIRST, SECOND], &mut connection, 2).unwrap();
        assert_eq!(columns(&connection), 2, "nothing is done twice");
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it_whole() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(migrate_by(&[FIRST, SECOND, BROKEN], &mut connection, 0).is_err());
        assert_eq!(
            (version(&connection).unwrap(), columns(&connection)),
            (2, 2)
        );
    }

    #[test]
    fn the_newest_version_is_reached_from_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, 0).unwrap();
        assert_eq!(version(&connection).unwrap(), newest());
    }
}
