//! The engine's tests once more, on PostgreSQL; and what only there can be: several ledgers on one database.

#![allow(
    clippy::duplicate_mod,
    reason = "the same tests are written once and compiled for each store"
)]

#[path = "audit_tests.rs"]
mod audit_tests;
#[path = "bench.rs"]
mod bench;
#[path = "budgets_tests.rs"]
mod budgets_tests;
#[path = "commands_tests.rs"]
mod commands_tests;
#[path = "dice.rs"]
mod dice;
#[path = "doubt_tests.rs"]
mod doubt_tests;
#[path = "duplicates_tests.rs"]
mod duplicates_tests;
#[path = "endings_tests.rs"]
mod endings_tests;
#[path = "evidence_tests.rs"]
mod evidence_tests;
#[path = "gathered_tests.rs"]
mod gathered_tests;
#[path = "histories_tests.rs"]
mod histories_tests;
#[path = "keys_tests.rs"]
mod keys_tests;
#[path = "lifecycle_tests.rs"]
mod lifecycle_tests;
#[path = "model_tests.rs"]
mod model_tests;
#[path = "money_tests.rs"]
mod money_tests;
#[path = "objects_tests.rs"]
mod objects_tests;
#[path = "rates_tests.rs"]
mod rates_tests;
#[path = "rolling_tests.rs"]
mod rolling_tests;
#[path = "several_tests.rs"]
mod several_tests;
#[path = "statement_tests.rs"]
mod statement_tests;

/// Where the ledgers of these tests keep everything: a schema of the test's own.
mod place {
    use std::path::Path;

    use crate::engine::{LedgerOptions, Trust, verify};
    use crate::store::Database;
    use crate::store::postgres::server::Schema;

    /// Sequences of the model's test: each takes longer here.
    pub const CASES: u32 = 8;
    /// For its ledger: a look is some round trips.
    pub const CHORES_EVERY_MS: u32 = 50;
    /// Histories of overlapping commands.
    pub const HISTORIES: u32 = 10;
    /// Ledgers on one database.
    pub const LEDGERS: usize = 2;

    pub struct Place {
        pub schema: Schema,
        /// Another way to the same schema.
        pub url: Option<String>,
        /// Whether the test has damaged what is in it.
        pub is_damaged: bool,
    }

    impl Place {
        pub fn new(_folder: &Path) -> Self {
            Self {
                schema: Schema::fresh(),
                url: None,
                is_damaged: false,
            }
        }

        /// With a signing key in this folder.
        pub fn options(&self, folder: &Path) -> LedgerOptions {
            let mut options = LedgerOptions::new(self.database());
            options.signing.key_file = Some(folder.join("signing-key"));
            options
        }

        pub fn database(&self) -> Database {
            Database::parse(self.url.as_deref().unwrap_or(&self.schema.url)).unwrap()
        }

        /// Executes SQL; its rows are lines.
        pub fn sql(&self, sql: &str) -> String {
            self.schema.sql(sql)
        }

        /// Says that what is in it is to be damaged.
        pub fn will_be_damaged(&mut self) {
            self.is_damaged = true;
        }

        /// All that is kept, as text.
        pub fn everything(&self) -> Vec<u8> {
            let tables = ["keys", "events", "subjects", "commands", "requests"];
            let texts = tables.map(|table| {
                self.schema
                    .sql(&format!("SELECT row_to_json(t) FROM {table} t"))
            });
            // Events are bytes: as hexadecimal digits they would hide what is in them.
            let events = self
                .schema
                .sql("SELECT convert_from(body, 'UTF8') FROM events");
            format!("{} {events}", texts.join(" ")).into_bytes()
        }
    }

    impl Drop for Place {
        /// What a test leaves behind is whole, and its entries are what the events say.
        fn drop(&mut self) {
            if std::thread::panicking() || self.is_damaged {
                return;
            }
            let database = self.database();
            let report = std::thread::scope(|scope| {
                let verified = scope.spawn(|| verify(&database, &Trust::default()));
                verified.join().unwrap().unwrap()
            });
            assert_eq!(report.broken, None);
        }
    }
}
