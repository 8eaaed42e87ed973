//! The command line of `keybrake`.
//!
//! Here: flags, help, exit codes (0 done, 1 failed, 2 wrong use), what is printed. Not here: what a command does to
//! money or keys: `serve` opens a ledger, what is about the chain reads a database, `migrate` moves one, `vendors` reads packs, `doctor` asks a gate, the rest calls a running
//! ledger's API.

mod audit;
mod backup;
mod budgets;
mod chain;
mod client;
mod doctor;
mod keys;
mod migrate;
mod reconcile;
mod requests;
mod serve;
mod statement;
mod table;
mod vendors;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::http::openapi;

const EXAMPLES: &str = "\
Examples:
  keybrake serve --listen 127.0.0.1:9080 --database-url sqlite:.run/keybrake.db
  keybrake keys issue --label nightly --vendor stripe --allow 'POST /v1/charges' \\
      --daily 10.99 --expires-in 7200
  keybrake keys list --status active
  keybrake requests unknown
  keybrake budgets create july --daily 500 --time-zone Europe/Berlin --trip-on 5/60
  keybrake reconcile
  keybrake doctor --envoy-admin http://127.0.0.1:9901
  keybrake audit list --idempotency-key order-17 --json
  keybrake audit verify
  keybrake audit export --output audit.jsonl
  keybrake vendors check acme.json --golden golden/acme
  keybrake backup /backups/keybrake.db
  keybrake migrate --from sqlite:.run/keybrake.db --to postgres://keybrake@db.internal/keybrake

Exit codes: 0 done, 1 failed, 2 wrong use.";

/// Spend governance for outbound API calls: the ledger and its command line.
#[derive(Debug, Parser)]
#[command(name = "keybrake", version, about, after_help = EXAMPLES, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the ledger: caps, records, audit, the API and the command socket.
    Serve(Box<serve::Arguments>),
    /// Issue, list, show and revoke vault keys of a running ledger.
    #[command(subcommand)]
    Keys(keys::Command),
    /// List requests of a running ledger whose outcome nobody knows, and say what became of one.
    #[command(subcommand)]
    Requests(requests::Command),
    /// Make, list, show, change, freeze and open budgets of a running ledger.
    #[command(subcommand)]
    Budgets(budgets::Command),
    /// Have a running ledger settle unknown requests by the vendors' own records, now. Needs KEYBRAKE_ADMIN_KEY.
    Reconcile(reconcile::Arguments),
    /// Read the audit of a running ledger; verify and export the chain in a database.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Copy the database while the ledger runs, and verify the copy.
    Backup(backup::Arguments),
    /// Send canaries through Envoy and say whether the gate works.
    Doctor(doctor::Arguments),
    /// Move everything from a SQLite file to an empty PostgreSQL database, the audit chain intact.
    Migrate(migrate::Arguments),
    /// List the vendor packs in force, and check packs.
    #[command(subcommand)]
    Vendors(vendors::Command),
    /// Print the OpenAPI document of the public API.
    Openapi,
    /// Print shell completions.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// A command that did not do what it was asked. One clear line for a person; never holds a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// It failed: exit code 1.
    fn new(message: impl Display) -> Self {
        Self {
            message: message.to_string(),
            code: 1,
        }
    }

    /// It was asked wrongly: exit code 2.
    fn usage(message: impl Display) -> Self {
        Self {
            message: message.to_string(),
            code: 2,
        }
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let done = match command {
        Command::Serve(arguments) => serve::run(*arguments),
        Command::Keys(command) => keys::run(command),
        Command::Requests(command) => requests::run(command),
        Command::Budgets(command) => budgets::run(command),
        Command::Reconcile(arguments) => reconcile::run(&arguments),
        Command::Audit(command) => audit::run(command),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Migrate(arguments) => migrate::run(arguments),
        Command::Vendors(command) => vendors::run(command),
        Command::Openapi => print(openapi::DOCUMENT),
        Command::Completions { shell } => completions(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, code }) => {
            let line = message.replace(['\n', '\r'], " ");
            let style = anstyle::AnsiColor::Red.on_default().bold();
            let _ = writeln!(anstream::stderr(), "{style}keybrake:{style:#} {line}");
            ExitCode::from(code)
        }
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "keybrake", &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// Prints text to stdout, colours only on a terminal. A reader that went away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a JSON value, indented.
fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value).map_err(Failure::new)?)
}

/// Runs a short task that waits for the network.
fn block_on<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::new)?
        .block_on(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Arguments::command().debug_assert();
    }
}
