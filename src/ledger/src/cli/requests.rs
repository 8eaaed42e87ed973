//! `keybrake requests`: requests of a running ledger whose outcome nobody knows, and an operator's word about one.

use axum::http::Method;
use serde_json::{Map, Value};

use crate::cli::client::{Client, segment, with_query};
use crate::cli::table::{cell, details, table};
use crate::cli::{Failure, block_on, print, print_json};
use crate::http::credentials::Role;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List requests whose outcome nobody knows, oldest first. Needs KEYBRAKE_ADMIN_KEY.
    Unknown(UnknownArguments),
    /// Say what became of a request whose outcome nobody knows, or of what is held for an object that was paid or has ended without
    /// Keybrake. It is settled or given back on your word, which the audit keeps.
    #[command(
        after_help = "Examples:\n  keybrake requests resolve 0123… --outcome executed --amount 999 --currency usd \\\n      \
                            --object ch_1 --reason 'seen in the dashboard'\n  \
                            keybrake requests resolve 0123… --outcome not_executed \\\n      \
                            --reason 'no charge in the dashboard, support case 17'"
    )]
    Resolve(Box<ResolveArguments>),
}

#[derive(Debug, clap::Args)]
pub struct UnknownArguments {
    /// Of one key (vk_…)
    #[arg(long)]
    key_id: Option<String>,
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
pub struct ResolveArguments {
    /// The request's id, as `requests unknown` and the audit show it
    id: String,
    /// executed or not_executed
    #[arg(long)]
    outcome: String,
    /// Why: what you have seen, and where
    #[arg(long)]
    reason: String,
    /// Who says so
    #[arg(long, value_name = "NAME", env = "USER")]
    by: Option<String>,
    /// What the vendor took, in the currency's smallest unit (executed)
    #[arg(long)]
    amount: Option<u64>,
    /// Three letters (executed)
    #[arg(long)]
    currency: Option<String>,
    /// What the vendor made or changed (executed)
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// The charge behind it (executed)
    #[arg(long, value_name = "ID", requires = "object")]
    charge: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `keybrake requests …`.
pub fn run(command: Command) -> Result<(), Failure> {
    let client = Client::from_environment(Role::Admin.variable())?;
    match command {
        Command::Unknown(arguments) => unknown(&client, arguments),
        Command::Resolve(arguments) => resolve(&client, *arguments),
    }
}

fn unknown(client: &Client, arguments: UnknownArguments) -> Result<(), Failure> {
    let path = with_query(
        "/admin/requests",
        &[
            ("key_id", arguments.key_id),
            ("limit", Some(arguments.limit.to_string())),
            ("cursor", arguments.cursor),
        ],
    );
    let answer = block_on(client.call(Method::GET, &path, None))?;
    if arguments.json {
        return print_json(&answer);
    }
    let requests = answer.get("requests").and_then(Value::as_array);
    let names = [
        "age_seconds",
        "id",
        "key_id",
        "label",
        "operation",
        "cost_usd",
        "outcome",
        "attempts",
        "idempotency_key",
    ];
    let rows: Vec<Vec<String>> = requests
        .into_iter()
        .flatten()
        .map(|request| names.map(|name| cell(request, name)).to_vec())
        .collect();
    let head = [
        "AGE SECONDS",
        "ID",
        "KEY ID",
        "LABEL",
        "OPERATION",
        "COST USD",
        "OUTCOME",
        "ATTEMPTS",
        "IDEMPOTENCY KEY",
    ];
    print(&table(&head, &rows))?;
    match answer.get("next_cursor").and_then(Value::as_str) {
        Some(cursor) => print(&format!("more: --cursor {cursor}")),
        None => Ok(()),
    }
}

fn resolve(client: &Client, arguments: ResolveArguments) -> Result<(), Failure> {
    let ResolveArguments {
        id,
        outcome,
        reason,
        by,
        amount,
        currency,
        object,
        charge,
        json,
    } = arguments;
    let members = [
        ("outcome", Some(Value::from(outcome))),
        ("reason", Some(Value::from(reason))),
        ("by", by.filter(|name| !name.is_empty()).map(Value::from)),
        ("amount", amount.map(Value::from)),
        ("currency", currency.map(Value::from)),
        ("vendor_object_id", object.map(Value::from)),
        ("stripe_charge_id", charge.map(Value::from)),
    ];
    let said: Map<String, Value> = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
    let path = format!("/admin/requests/{}/resolve", segment(&id));
    let body = Value::Object(said).to_string().into_bytes();
    let entry = block_on(client.call(Method::POST, &path, Some(body)))?;
    if json {
        return print_json(&entry);
    }
    let names = [
        "id",
        "key_id",
        "label",
        "operation",
        "idempotency_key",
        "outcome",
        "amount",
        "currency",
        "cost_usd",
        "vendor_object_id",
        "stripe_charge_id",
        "alarms",
        "resolution",
    ];
    print(&details(&names.map(|name| (name, cell(&entry, name)))))
}
