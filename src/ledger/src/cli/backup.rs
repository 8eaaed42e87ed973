//! `keybrake backup`: a copy of the database, made while the ledger runs, verified before it is there.

use std::path::PathBuf;

use crate::cli::chain::Database;
use crate::cli::{Failure, print};
use crate::engine;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  keybrake backup /backups/keybrake-2026-07-01.db\n\nThe signing key is not in it: keep that by itself. To go \
                  back to a backup, stop the ledger and put it in the database's place; what happened since then is in no balance, so \
                  compare with your kept heads and the vendor first (docs/audit.md)."
)]
pub struct Arguments {
    /// Where to; must not exist
    to: PathBuf,
    #[command(flatten)]
    database: Database,
}

/// Makes a backup.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let report =
        engine::backup(&arguments.database.named()?, &arguments.to).map_err(Failure::new)?;
    let (seq, hash) = &report.head;
    print(&format!(
        "backed up to {} and verified: {} events, chain {}, head {seq} {hash}",
        arguments.to.display(),
        report.events,
        report.chain
    ))
}
