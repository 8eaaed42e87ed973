//! The PostgreSQL store: several ledgers on one database.
//!
//! Here: opening, checking and setting up the database. How transactions follow each other is in `turn`, what is read ahead in
//! `foresee`, what is written in `pending`; SQL stands in this folder and nowhere else. It is plain SQL: no procedures, extensions,
//! notifications or advisory locks, so that it holds on engines that speak the protocol as well.

mod address;
mod attempts;
mod budgets;
mod commands;
mod entries;
mod fill;
mod foresee;
mod keys;
mod known;
mod link;
mod money;
mod new_requests;
mod pending;
mod periods;
mod pieces;
mod prune;
mod read;
mod requests;
mod rows;
mod schema;
mod statements;
mod tls;
mod turn;
mod write;

use self::link::{Link, Question};
use self::schema::Found;
use super::StoreError;
use crate::engine::OpenError;

pub use address::{Address, Encryption};
pub(super) use fill::Target;
pub use read::PostgresReads;
pub use turn::PostgresStore;

/// Opens the database for a ledger: checks that it keeps what it commits, makes its tables if there are none, brings them up to
/// date, and takes a chain that no other ledger holds.
///
/// # Errors
/// [`OpenError`], one clear line.
pub fn open(address: &Address) -> Result<PostgresStore, OpenError> {
    let mut store = PostgresStore::new(address.clone(), connect(address)?);
    store
        .check_head()
        .map_err(|error| corrupt(address, error.to_string()))?;
    Ok(store)
}

/// Connects, checks that the database keeps what it commits, and brings its tables up to date.
fn connect(address: &Address) -> Result<Link, OpenError> {
    let mut link = Link::for_writing(address).map_err(|error| unusable(address, &error))?;
    check_durable(&mut link).map_err(|error| refused(address, error))?;
    prepare(address, &mut link)?;
    Ok(link)
}

/// Opens the database for reading only.
///
/// # Errors
/// [`OpenError`], one clear line.
pub fn open_reads(address: &Address) -> Result<PostgresReads, OpenError> {
    let mut link = Link::for_reading(address).map_err(|error| unusable(address, &error))?;
    match schema::look(&mut link).map_err(|error| unusable(address, &error))? {
        Found::Version(found) if found <= schema::newest() => Ok(PostgresReads::new(link)),
        Found::Version(found) => Err(newer(address, found)),
        Found::Nothing => Err(corrupt(address, "it has no tables of ours".to_owned())),
        Found::Foreign => Err(foreign(address)),
    }
}

fn prepare(address: &Address, link: &mut Link) -> Result<(), OpenError> {
    let look = |link: &mut Link| schema::look(link).map_err(|error| unusable(address, &error));
    let found = match look(link)? {
        Found::Version(found) => found,
        Found::Nothing => 0,
        Found::Foreign => return Err(foreign(address)),
    };
    if found > schema::newest() {
        return Err(newer(address, found));
    }
    if found == schema::newest() {
        return Ok(());
    }
    let Err(error) = schema::migrate(link, found) else {
        return Ok(());
    };
    // Another ledger may have been faster.
    match look(link)? {
        Found::Version(version) if version == schema::newest() => Ok(()),
        _ => Err(unusable(address, &error)),
    }
}

/// Why a database would not keep what it commits.
enum Unsafe {
    Setting(String),
    Store(StoreError),
}

impl From<StoreError> for Unsafe {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A commit must be on disk, and on the synchronous standby if there is one, when it is answered. `synchronous_commit` is raised for
/// our own sessions when it is too low; `fsync` and `full_page_writes` are the server's alone.
fn check_durable(link: &mut Link) -> Result<(), Unsafe> {
    let settings = |link: &mut Link| -> Result<Vec<(String, String)>, StoreError> {
        let rows = link.ask(&Question::new(
            "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')",
            Vec::new(),
        ))?;
        rows.iter()
            .map(|row| Ok((rows::get(row, 0)?, rows::get(row, 1)?)))
            .collect()
    };
    let is_waiting = |setting: &str| matches!(setting, "on" | "remote_apply");
    let before = settings(link)?;
    let is_low =
        |(name, setting): &(String, String)| name == "synchronous_commit" && !is_waiting(setting);
    let now = if before.iter().any(is_low) {
        link.tell("SET synchronous_commit = on")?;
        settings(link)?
    } else {
        before
    };
    for (name, setting) in now {
        let is_right = match name.as_str() {
            "synchronous_commit" => is_waiting(&setting),
            _ => setting == "on",
        };
        if !is_right {
            return Err(Unsafe::Setting(format!("{name} is {setting}")));
        }
    }
    Ok(())
}

fn refused(address: &Address, why: Unsafe) -> OpenError {
    match why {
        Unsafe::Store(error) => unusable(address, &error),
        Unsafe::Setting(why) => OpenError::NotDurable {
            path: address.to_string(),
            why,
        },
    }
}

fn unusable(address: &Address, error: &StoreError) -> OpenError {
    OpenError::Unusable {
        path: address.to_string(),
        why: error.to_string(),
    }
}

fn corrupt(address: &Address, why: String) -> OpenError {
    OpenError::Corrupt {
        path: address.to_string(),
        why,
    }
}

fn foreign(address: &Address) -> OpenError {
    corrupt(address, "it has tables of another program".to_owned())
}

fn newer(address: &Address, found: i64) -> OpenError {
    OpenError::Newer {
        path: address.to_string(),
        found,
        known: schema::newest(),
    }
}

/// A real server for tests.
#[cfg(test)]
#[path = "../../../tests/support/postgres.rs"]
pub mod server;

/// A relay to it that cuts connections.
#[cfg(test)]
#[path = "../../../tests/support/relay.rs"]
pub mod relay;

#[cfg(test)]
mod tests {
    use super::server::{Schema, Server};
    use super::*;
    use crate::store::conformance::{Backend, every_conformance_test};
    use crate::store::{Ahead, Fault, Others, Store as _};

    impl Backend for Schema {
        type Store = PostgresStore;
        type Reads = PostgresReads;

        fn new() -> Self {
            Self::fresh()
        }

        fn store(&self) -> PostgresStore {
            open(&address(&self.url)).unwrap()
        }

        fn reads(&self) -> PostgresReads {
            open_reads(&address(&self.url)).unwrap()
        }
    }

    every_conformance_test!(Schema);

    fn address(url: &str) -> Address {
        Address::parse(url).unwrap()
    }

    #[test]
    fn a_writer_is_told_when_another_has_written() {
        let schema = Schema::fresh();
        let mut one = open(&address(&schema.url)).unwrap();
        let mut two = open(&address(&schema.url)).unwrap();
        let turn = |store: &mut PostgresStore| {
            let begun = store.begin(&Ahead::Work(&Default::default)).unwrap();
            store.commit().unwrap();
            begun.others
        };
        turn(&mut one);
        assert_eq!(turn(&mut one), Others::Silent);
        assert_eq!(turn(&mut two), Others::Wrote);
        assert_eq!(turn(&mut two), Others::Silent);
        assert_eq!(turn(&mut one), Others::Wrote);
    }

    #[test]
    fn nobody_begins_while_another_has_the_turn() {
        let schema = Schema::fresh();
        let mut one = open(&address(&schema.url)).unwrap();
        let mut two = open(&address(&schema.url)).unwrap();
        one.begin(&Ahead::Work(&Default::default)).unwrap();
        let waited = two.begin(&Ahead::Work(&Default::default)).unwrap_err();
        assert_eq!(waited.fault(), Fault::Transient, "{waited}");
        two.rollback();
        one.commit().unwrap();
        let begun = two.begin(&Ahead::Work(&Default::default)).unwrap();
        assert_eq!(begun.others, Others::Wrote);
        two.commit().unwrap();
    }

    /// Takes the lock out of `turn`, as on an engine that has forgotten it: what is read through a `WITH` is not locked.
    fn without_locks(schema: &Schema) {
        schema.sql(
            "ALTER TABLE turn RENAME TO turn_row;
             CREATE VIEW turn AS WITH found AS MATERIALIZED (SELECT * FROM turn_row) SELECT * FROM found;
             CREATE FUNCTION move_turn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 DELETE FROM turn_row;
                 INSERT INTO turn_row SELECT NEW.*;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER move INSTEAD OF UPDATE ON turn FOR EACH ROW EXECUTE FUNCTION move_turn();",
        );
    }

    #[test]
    fn were_the_turn_not_locked_the_later_of_two_would_fail_and_be_done_again() {
        let schema = Schema::fresh();
        drop(open(&address(&schema.url)).unwrap());
        without_locks(&schema);
        let mut one = open(&address(&schema.url)).unwrap();
        let mut two = open(&address(&schema.url)).unwrap();
        one.begin(&Ahead::Work(&Default::default)).unwrap();
        two.begin(&Ahead::Work(&Default::default)).unwrap();
        one.commit().unwrap();
        let late = two.commit().unwrap_err();
        assert_eq!(late.fault(), Fault::Transient, "{late}");
        two.rollback();
        let begun = two.begin(&Ahead::Work(&Default::default)).unwrap();
        assert_eq!(begun.others, Others::Wrote);
        two.commit().unwrap();
        assert_eq!(
            schema.sql("SELECT number FROM turn_row"),
            "2",
            "each moved it once"
        );
    }

    #[test]
    fn two_that_start_at_once_on_an_empty_database_both_find_its_tables() {
        for _ in 0..4 {
            let schema = Schema::fresh();
            let start = || open(&address(&schema.url)).map(|mut store| store.chain_head().unwrap());
            let heads = std::thread::scope(|scope| {
                let threads = [scope.spawn(start), scope.spawn(start), scope.spawn(start)];
                threads.map(|thread| thread.join().unwrap().unwrap().chain)
            });
            assert_eq!(heads[0], heads[1], "one chain");
            assert_eq!(heads[0], heads[2], "one chain");
            assert_eq!(schema.sql("SELECT count(*) FROM keybrake_version"), "1");
        }
    }

    #[test]
    fn a_database_that_would_lose_what_it_commits_is_refused() {
        let server = Server::start(&["synchronous_commit=off"]);
        let schema = server.schema();
        let mut store = open(&address(&server.url(&schema))).unwrap();
        let rows = store
            .connection()
            .unwrap()
            .ask(&Question::new("SHOW synchronous_commit", Vec::new()))
            .unwrap();
        assert_eq!(rows[0].get::<_, String>(0), "on", "raised for our sessions");
        drop(store);
        for setting in ["fsync", "full_page_writes"] {
            server.configure(&format!("{setting} = off"));
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            let error = loop {
                match open(&address(&server.url(&schema))) {
                    Err(error) => break error.to_string(),
                    Ok(_) => assert!(std::time::Instant::now() < deadline, "never read"),
                }
            };
            assert!(error.contains(&format!("{setting} is off")), "{error}");
            server.configure(&format!("{setting} = on"));
        }
    }

    #[test]
    fn a_server_is_trusted_by_its_certificate_and_its_name() {
        let server = Server::start(&[]);
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        server.keep("server.crt", &own.cert.pem());
        server.keep("server.key", &own.signing_key.serialize_pem());
        server.configure("ssl = on");
        let schema = server.schema();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, pem: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path.display().to_string()
        };
        let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let trusted = file("own.pem", &own.cert.pem());
        let other = file("other.pem", &stranger.cert.pem());
        let opened = |host: &str, roots: &str| {
            let url = server.url(&schema).replace("127.0.0.1", host);
            let url = format!("{url}&sslmode=verify-full&sslrootcert={roots}");
            open(&address(&url))
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while opened("localhost", &trusted).is_err() {
            assert!(
                std::time::Instant::now() < deadline,
                "{:?}",
                opened("localhost", &trusted)
            );
        }
        for (host, roots) in [
            ("localhost", other.as_str()),
            ("127.0.0.1", trusted.as_str()),
            ("localhost", "/no/such/file.pem"),
        ] {
            let error = opened(host, roots).unwrap_err();
            assert!(!error.contains(super::server::PASSWORD), "{error}");
        }
        let mut link = Link::for_writing(&address(&format!(
            "{}&sslrootcert={trusted}",
            server.url(&schema).replace("127.0.0.1", "localhost")
        )))
        .unwrap();
        let rows = link
            .ask(&Question::new(
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
                Vec::new(),
            ))
            .unwrap();
        assert!(rows[0].get::<_, bool>(0));
    }
}
