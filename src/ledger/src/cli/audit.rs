//! `keybrake audit`: `list` from a running ledger, `verify` straight from a database.

use std::path::PathBuf;

use axum::http::Method;
use serde_json::{Value, json};

use crate::cli::client::{Client, with_query};
use crate::cli::table::{cell, table};
use crate::cli::{Failure, block_on, print, print_json};
use crate::config;
use crate::engine::{self, VerifyReport};
use crate::http::credentials::Role;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List entries, newest first. Needs KEYBRAKE_AUDIT_KEY; KEYBRAKE_URL says where the ledger is.
    #[command(
        after_help = "Examples:\n  keybrake audit list --label nightly --outcome unknown\n  \
                            keybrake audit list --idempotency-key order-17 --json"
    )]
    List(Box<ListArguments>),
    /// Verify the chain of audit events in a database and name the first bad one. The ledger may be running.
    #[command(after_help = "Examples:\n  keybrake audit verify\n  \
                            keybrake audit verify --database-url sqlite:/var/lib/keybrake/keybrake.db --json\n\n\
                            Exit code 1: the chain is broken, or cannot be read.")]
    Verify(VerifyArguments),
}

#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// The vendor-side key, or the caller's own
    #[arg(long)]
    idempotency_key: Option<String>,
    /// Of one key (vk_…)
    #[arg(long)]
    key_id: Option<String>,
    /// Of keys with exactly this label
    #[arg(long)]
    label: Option<String>,
    /// Of one run
    #[arg(long)]
    run_id: Option<String>,
    /// Of one vendor
    #[arg(long)]
    vendor: Option<String>,
    /// Of one operation (charges.create)
    #[arg(long)]
    operation: Option<String>,
    /// in_flight, held, settled, released, unknown or abandoned
    #[arg(long)]
    outcome: Option<String>,
    /// admitted or refused
    #[arg(long)]
    verdict: Option<String>,
    /// About one object of the vendor's (ch_…)
    #[arg(long)]
    vendor_object_id: Option<String>,
    /// At or after this time or day
    #[arg(long)]
    since: Option<String>,
    /// Before this time or day
    #[arg(long)]
    until: Option<String>,
    /// At most so many, 1 to 1000
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Where the last page ended
    #[arg(long)]
    cursor: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// The database: sqlite:PATH [default: keybrake.db in the run folder]
    #[arg(
        long,
        value_name = "URL",
        env = "KEYBRAKE_DATABASE_URL",
        hide_env_values = true
    )]
    database_url: Option<String>,
    /// The run folder
    #[arg(
        long,
        value_name = "FOLDER",
        env = "KEYBRAKE_RUN_DIR",
        default_value = ".run"
    )]
    run_dir: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `keybrake audit …`.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list(*arguments),
        Command::Verify(arguments) => verify(arguments),
    }
}

fn list(arguments: ListArguments) -> Result<(), Failure> {
    let client = Client::from_environment(Role::Audit.variable())?;
    let path = with_query(
        "/audit",
        &[
            ("idempotency_key", arguments.idempotency_key),
            ("key_id", arguments.key_id),
            ("label", arguments.label),
            ("run_id", arguments.run_id),
            ("vendor", arguments.vendor),
            ("operation", arguments.operation),
            ("outcome", arguments.outcome),
            ("verdict", arguments.verdict),
            ("vendor_object_id", arguments.vendor_object_id),
            ("since", arguments.since),
            ("until", arguments.until),
            ("limit", Some(arguments.limit.to_string())),
            ("cursor", arguments.cursor),
        ],
    );
    let answer = block_on(client.call(Method::GET, &path, None))?;
    if arguments.json {
        return print_json(&answer);
    }
    let entries = answer
        .get("entries")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    print(&table(
        &[
            "TIME",
            "LABEL",
            "OPERATION",
            "AMOUNT",
            "COST USD",
            "VERDICT",
            "OUTCOME",
            "REASON",
            "OBJECT",
            "REPLAYS",
        ],
        &rows,
    ))?;
    match answer.get("next_cursor").and_then(Value::as_str) {
        Some(cursor) => print(&format!("more: --cursor {cursor}")),
        None => Ok(()),
    }
}

fn row(entry: &Value) -> Vec<String> {
    let amount = format!("{} {}", cell(entry, "amount"), cell(entry, "currency"));
    let operation = match cell(entry, "operation") {
        operation if operation.is_empty() => {
            format!("{} {}", cell(entry, "method"), cell(entry, "path"))
        }
        operation => operation,
    };
    vec![
        cell(entry, "time"),
        cell(entry, "label"),
        operation,
        amount.trim().to_owned(),
        cell(entry, "cost_usd"),
        cell(entry, "verdict"),
        cell(entry, "outcome"),
        cell(entry, "reason"),
        cell(entry, "vendor_object_id"),
        cell(entry, "replays"),
    ]
}

fn verify(arguments: VerifyArguments) -> Result<(), Failure> {
    let database = match arguments.database_url.filter(|url| !url.is_empty()) {
        Some(url) => config::sqlite_path(&url).map_err(Failure::usage)?,
        None => arguments.run_dir.join("keybrake.db"),
    };
    let report = engine::verify(&database).map_err(Failure::new)?;
    if arguments.json {
        print_json(&as_json(&report))?;
    }
    match &report.broken {
        Some(broken) => Err(Failure::new(format!(
            "the audit chain is broken: {broken} ({} events before it are whole)",
            report.events
        ))),
        None if arguments.json => Ok(()),
        None => {
            let VerifyReport {
                chain,
                events,
                head: (seq, hash),
                ..
            } = &report;
            print(&format!(
                "the audit chain is whole: {events} events, chain {chain}, head {seq} {hash}"
            ))
        }
    }
}

fn as_json(report: &VerifyReport) -> Value {
    let VerifyReport {
        chain,
        events,
        head: (seq, hash),
        broken,
    } = report;
    json!({
        "whole": broken.is_none(),
        "chain": chain,
        "events": events,
        "head": {"seq": seq, "hash": hash},
        "broken": broken.as_ref().map(ToString::to_string),
    })
}
