//! `keybrake migrate`: from a SQLite file to PostgreSQL, once.

use crate::cli::{Failure, print};
use crate::store::migrate::{Moved, migrate};
use crate::store::{Database, InvalidUrl};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Stop the ledger first: its file is locked meanwhile. The target must be empty. All is moved or nothing; the file stays \
                  as it is.\n\nExamples:\n  keybrake migrate --from sqlite:.run/keybrake.db --to postgres://keybrake@db.internal/keybrake\n  \
                  KEYBRAKE_DATABASE_URL=postgres://… keybrake migrate --from sqlite:.run/keybrake.db"
)]
pub struct Arguments {
    /// The file that is moved: sqlite:PATH
    #[arg(long, value_name = "URL")]
    from: String,
    /// The empty database that it is moved to: postgres://…
    #[arg(
        long,
        value_name = "URL",
        env = "KEYBRAKE_DATABASE_URL",
        hide_env_values = true
    )]
    to: String,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { from, to } = arguments;
    let parsed = |url: &str| -> Result<Database, InvalidUrl> { Database::parse(url) };
    let from = parsed(&from).map_err(Failure::usage)?;
    let to = parsed(&to).map_err(Failure::usage)?;
    let Moved { rows, chain } = migrate(&from, &to).map_err(Failure::new)?;
    let counts: Vec<String> = rows
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(table, count)| format!("{table} {count}"))
        .collect();
    let (seq, hash) = chain.head;
    print(&format!("moved to {to}: {}", counts.join(", ")))?;
    print(&format!(
        "the audit chain is whole: {} events, chain {}, head {seq} {hash}",
        chain.events, chain.chain
    ))
}
