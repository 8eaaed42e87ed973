//! `keybrake audit`: `list` from a running ledger, the rest straight from a database (`chain`).

use axum::http::Method;
use serde_json::Value;

use crate::cli::chain::{self, Database, ExportArguments, PublicKeyArguments, VerifyArguments};

use crate::cli::client::{Client, with_query};
use crate::cli::table::{cell, table};
use crate::cli::{Failure, block_on, print, print_json};
use crate::http::credentials::Role;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List entries, newest first. Needs KEYBRAKE_AUDIT_KEY; KEYBRAKE_URL says where the ledger is.
    #[command(
        after_help = "Examples:\n  keybrake audit list --label nightly --outcome unknown\n  \
                            keybrake audit list --idempotency-key order-17 --json"
    )]
    List(Box<ListArguments>),
    /// Verify the chain of audit events in a database or an export, and name the first thing that is not as it was written.
    #[command(after_help = "Examples:\n  keybrake audit verify\n  \
                            keybrake audit verify --heads kept-heads.jsonl\n  \
                            keybrake audit verify --export audit.jsonl --public-key 3f…\n\n\
                            Exit code 1: something is broken, or cannot be read. docs/audit.md says what is proven by what.")]
    Verify(VerifyArguments),
    /// Print the heads that were signed last, for safe keeping: one line of JSON.
    #[command(after_help = "Examples:\n  keybrake audit heads >> /mnt/elsewhere/kept-heads.jsonl")]
    Heads(Database),
    /// Write the signed events as JSON Lines, for whoever verifies them without the database. The ledger may be running.
    #[command(
        after_help = "Examples:\n  keybrake audit export --output audit.jsonl\n  \
                            keybrake audit export | gzip > audit.jsonl.gz"
    )]
    Export(ExportArguments),
    /// Print the public key that signed heads are checked with.
    PublicKey(PublicKeyArguments),
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
    /// Of keys that drew from this budget or one below it
    #[arg(long, value_name = "NAME")]
    budget: Option<String>,
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

/// Runs `keybrake audit …`.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list(*arguments),
        Command::Verify(arguments) => chain::verify(arguments),
        Command::Heads(database) => chain::heads(&database),
        Command::Export(arguments) => chain::export(&arguments),
        Command::PublicKey(arguments) => chain::public_key(&arguments),
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
            ("budget", arguments.budget),
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
            "MINOR UNITS",
            "COST USD",
            "VERDICT",
            "OUTCOME",
            "REASON",
            "IDEMPOTENCY KEY",
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
        cell(entry, "idempotency_key"),
        cell(entry, "vendor_object_id"),
        cell(entry, "replays"),
    ]
}
