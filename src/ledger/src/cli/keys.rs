//! `keybrake keys`: issuing, listing, showing and revoking keys of a running ledger.

use std::io::Read as _;
use std::path::PathBuf;

use axum::http::Method;
use serde_json::{Map, Value, json};

use crate::cli::client::{Client, segment, with_query};
use crate::cli::statement;
use crate::cli::table::{cell, details, table};
use crate::cli::{Failure, block_on, print, print_json};
use crate::http::credentials::Role;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Issue a key and print it: the only time it is shown. Needs KEYBRAKE_ADMIN_KEY.
    #[command(
        allow_negative_numbers = true,
        after_help = "Examples:\n  keybrake keys issue --label nightly --vendor stripe --allow 'POST /v1/charges' \\\n      \
                            --daily 10.99 --expires-in 7200\n  \
                            keybrake keys issue --label refunds --vendor stripe --allow refunds.create \\\n      \
                            --lifetime 50 --constraint currency=usd --constraint amount=..2999\n  \
                            keybrake keys issue --file keys.json --json"
    )]
    Issue(Box<IssueArguments>),
    /// List keys, newest first.
    List(ListArguments),
    /// Show a key and its balances.
    Show {
        /// vk_…
        key_id: String,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// State what became of everything that a key took.
    Statement {
        /// vk_…
        key_id: String,
        /// day:2026-07-01, month:2026-07, rolling or lifetime [default: the present window of every cap]
        #[arg(long)]
        window: Option<String>,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key, or every key whose label begins with a text or that draws from a budget. Effective for the very
    /// next request.
    #[command(group = clap::ArgGroup::new("which").required(true).args(["key_id", "label_prefix", "budget"]),
        after_help = "Examples:\n  keybrake keys revoke vk_0123\n  \
                            keybrake keys revoke --label-prefix metaflow-2026-07-\n  \
                            keybrake keys revoke --budget july")]
    Revoke {
        /// vk_…
        key_id: Option<String>,
        /// Every key whose label begins with this
        #[arg(long)]
        label_prefix: Option<String>,
        /// Every key that draws from this budget or one below it
        #[arg(long, value_name = "NAME")]
        budget: Option<String>,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
}

/// What a request in a file says already.
const FLAGS: [&str; 24] = [
    "label",
    "vendor",
    "allow",
    "daily",
    "per_request",
    "monthly",
    "rolling",
    "rolling_hours",
    "lifetime",
    "max_requests",
    "uncapped",
    "expires_in",
    "expires_at",
    "workspace",
    "constraint",
    "vendor_account",
    "idempotency",
    "derive_scope",
    "derive_from",
    "worst_case",
    "budget",
    "duplicate_window",
    "duplicate_field",
    "metadata",
];

#[derive(Debug, clap::Args)]
pub struct IssueArguments {
    /// The request as JSON, from a file or - for stdin; instead of the flags below
    #[arg(long, value_name = "FILE", conflicts_with_all = FLAGS)]
    file: Option<PathBuf>,
    /// For people, and for revoking by prefix
    #[arg(long, required_unless_present = "file")]
    label: Option<String>,
    /// Vendor pack
    #[arg(long, required_unless_present = "file")]
    vendor: Option<String>,
    /// What may be called: 'POST /v1/charges' or charges.create; may be repeated
    #[arg(long, value_name = "ENDPOINT", required_unless_present = "file")]
    allow: Vec<String>,
    /// Most US dollars per UTC day
    #[arg(long, value_name = "USD")]
    daily: Option<String>,
    /// Most US dollars for one request
    #[arg(long, value_name = "USD")]
    per_request: Option<String>,
    /// Most US dollars per UTC month
    #[arg(long, value_name = "USD")]
    monthly: Option<String>,
    /// Most US dollars within any --rolling-hours hours
    #[arg(long, value_name = "USD")]
    rolling: Option<String>,
    /// The hours of --rolling
    #[arg(long, value_name = "HOURS")]
    rolling_hours: Option<u64>,
    /// Most US dollars in the key's life
    #[arg(long, value_name = "USD")]
    lifetime: Option<String>,
    /// Most requests in the key's life
    #[arg(long, value_name = "COUNT")]
    max_requests: Option<u64>,
    /// No cap on money
    #[arg(long)]
    uncapped: bool,
    /// Seconds until it ends, at most 90 days [default: 24 hours]
    #[arg(long, value_name = "SECONDS", conflicts_with = "expires_at")]
    expires_in: Option<u64>,
    /// When it ends (2026-07-01T12:00:00Z)
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// Idempotency and tenancy scope [default: default]
    #[arg(long)]
    workspace: Option<String>,
    /// A bound on a request field: customer=cus_a,cus_b, customer^=cus_ (begins with) or amount=100..2999; may be repeated
    #[arg(long, value_name = "FIELD=BOUND", value_parser = constraint)]
    constraint: Vec<(String, Value)>,
    /// A connected account that may be named; may be repeated
    #[arg(long, value_name = "ACCOUNT")]
    vendor_account: Vec<String>,
    /// required, optional or derived [default: the pack's]
    #[arg(long)]
    idempotency: Option<String>,
    /// Names the business period, for derived keys
    #[arg(long, value_name = "SCOPE")]
    derive_scope: Option<String>,
    /// A field that makes a purchase, for derived keys; may be repeated
    #[arg(long, value_name = "FIELD")]
    derive_from: Vec<String>,
    /// What a call without a readable amount is debited with, in US dollars
    #[arg(long, value_name = "USD")]
    worst_case: Option<String>,
    /// The budget that it draws from; its own caps may then be left out
    #[arg(long, value_name = "NAME")]
    budget: Option<String>,
    /// Seconds for which an equal purchase under another idempotency key is refused
    #[arg(long, value_name = "SECONDS")]
    duplicate_window: Option<u64>,
    /// A field that makes a purchase equal; may be repeated [default: customer, amount, currency]
    #[arg(long, value_name = "FIELD")]
    duplicate_field: Vec<String>,
    /// A JSON object of your own
    #[arg(long, value_name = "JSON", value_parser = metadata)]
    metadata: Option<Value>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// Labels that begin with this
    #[arg(long)]
    label_prefix: Option<String>,
    /// Of one vendor
    #[arg(long)]
    vendor: Option<String>,
    /// Of one workspace
    #[arg(long)]
    workspace: Option<String>,
    /// That draw from this budget or one below it
    #[arg(long, value_name = "NAME")]
    budget: Option<String>,
    /// active, expired or revoked
    #[arg(long)]
    status: Option<String>,
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

/// Runs `keybrake keys …`.
pub fn run(command: Command) -> Result<(), Failure> {
    let client = Client::from_environment(Role::Admin.variable())?;
    match command {
        Command::Issue(arguments) => issue(&client, *arguments),
        Command::List(arguments) => list(&client, arguments),
        Command::Show { key_id, json } => {
            let path = format!("/admin/vault_keys/{}", segment(&key_id));
            show(&block_on(client.call(Method::GET, &path, None))?, json)
        }
        Command::Statement {
            key_id,
            window,
            json,
        } => {
            let path = format!("/admin/vault_keys/{}/statement", segment(&key_id));
            statement::run(&client, &path, window, json)
        }
        Command::Revoke {
            key_id,
            label_prefix,
            budget,
            json,
        } => {
            let many = label_prefix
                .map(|prefix| json!({"label_prefix": prefix}))
                .or_else(|| budget.map(|name| json!({"budget": name})));
            revoke(&client, key_id, many, json)
        }
    }
}

fn issue(client: &Client, arguments: IssueArguments) -> Result<(), Failure> {
    let as_json = arguments.json;
    let body = match &arguments.file {
        Some(path) => read(path)?,
        None => body(arguments).to_string().into_bytes(),
    };
    let answer = block_on(client.call(Method::POST, "/admin/vault_keys", Some(body)))?;
    match answer.get("keys").and_then(Value::as_array) {
        Some(keys) if !as_json => {
            let rows: Vec<Vec<String>> = keys
                .iter()
                .map(|key| {
                    ["vault_key", "key_id", "label", "expires_at"]
                        .map(|name| cell(key, name))
                        .to_vec()
                })
                .collect();
            print(&table(&["VAULT KEY", "KEY ID", "LABEL", "EXPIRES"], &rows))
        }
        _ => show(&answer, as_json),
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut text))
    };
    read.map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    Ok(text)
}

fn body(arguments: IssueArguments) -> Value {
    let list = |items: Vec<String>| (!items.is_empty()).then(|| json!(items));
    let constraints: Map<String, Value> = arguments.constraint.into_iter().collect();
    let members = [
        ("label", arguments.label.map(Value::from)),
        ("vendor", arguments.vendor.map(Value::from)),
        ("allowed_endpoints", list(arguments.allow)),
        ("daily_usd_cap", arguments.daily.map(Value::from)),
        (
            "per_request_usd_cap",
            arguments.per_request.map(Value::from),
        ),
        ("monthly_usd_cap", arguments.monthly.map(Value::from)),
        ("rolling_usd_cap", arguments.rolling.map(Value::from)),
        ("rolling_hours", arguments.rolling_hours.map(Value::from)),
        ("lifetime_usd_cap", arguments.lifetime.map(Value::from)),
        ("max_requests", arguments.max_requests.map(Value::from)),
        ("uncapped", arguments.uncapped.then_some(Value::Bool(true))),
        ("expires_in_seconds", arguments.expires_in.map(Value::from)),
        ("expires_at", arguments.expires_at.map(Value::from)),
        ("workspace", arguments.workspace.map(Value::from)),
        (
            "constraints",
            (!constraints.is_empty()).then_some(Value::Object(constraints)),
        ),
        ("vendor_accounts", list(arguments.vendor_account)),
        ("idempotency", arguments.idempotency.map(Value::from)),
        ("derive_scope", arguments.derive_scope.map(Value::from)),
        ("derive_from", list(arguments.derive_from)),
        ("worst_case_usd", arguments.worst_case.map(Value::from)),
        ("budget", arguments.budget.map(Value::from)),
        (
            "duplicate_window_seconds",
            arguments.duplicate_window.map(Value::from),
        ),
        ("duplicate_fields", list(arguments.duplicate_field)),
        ("metadata", arguments.metadata),
    ];
    members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect::<Map<_, _>>()
        .into()
}

/// Reads `customer=cus_a,cus_b`, `customer^=cus_` (begins with) or `amount=100..2999` (either end may be left out).
fn constraint(text: &str) -> Result<(String, Value), String> {
    let (field, bound) = text.split_once('=').ok_or("must be FIELD=BOUND")?;
    if let Some(field) = field.strip_suffix('^') {
        return Ok((field.to_owned(), json!({ "prefix": bound })));
    }
    let Some((min, max)) = bound.split_once("..") else {
        return Ok((
            field.to_owned(),
            json!(bound.split(',').collect::<Vec<_>>()),
        ));
    };
    let mut range = Map::new();
    for (name, text) in [("min", min), ("max", max)] {
        if !text.is_empty() {
            let number: u64 = text
                .parse()
                .map_err(|_| format!("{text:?} is not a whole number"))?;
            range.insert(name.to_owned(), json!(number));
        }
    }
    Ok((field.to_owned(), Value::Object(range)))
}

/// Reads a JSON value.
pub fn metadata(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn list(client: &Client, arguments: ListArguments) -> Result<(), Failure> {
    let path = with_query(
        "/admin/vault_keys",
        &[
            ("label_prefix", arguments.label_prefix),
            ("vendor", arguments.vendor),
            ("workspace", arguments.workspace),
            ("budget", arguments.budget),
            ("status", arguments.status),
            ("limit", Some(arguments.limit.to_string())),
            ("cursor", arguments.cursor),
        ],
    );
    let answer = block_on(client.call(Method::GET, &path, None))?;
    if arguments.json {
        return print_json(&answer);
    }
    let keys = answer
        .get("keys")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let names = [
        "key_id",
        "label",
        "vendor",
        "workspace",
        "budget",
        "status",
        "expires_at",
        "allowed_endpoints",
    ];
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| names.map(|name| cell(key, name)).to_vec())
        .collect();
    print(&table(
        &[
            "KEY ID",
            "LABEL",
            "VENDOR",
            "WORKSPACE",
            "BUDGET",
            "STATUS",
            "EXPIRES",
            "ALLOWED",
        ],
        &rows,
    ))?;
    match answer.get("next_cursor").and_then(Value::as_str) {
        Some(cursor) => print(&format!("more: --cursor {cursor}")),
        None => Ok(()),
    }
}

fn show(key: &Value, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print_json(key);
    }
    let names = [
        "vault_key",
        "key_id",
        "label",
        "status",
        "vendor",
        "allowed_endpoints",
        "daily_usd_cap",
        "per_request_usd_cap",
        "monthly_usd_cap",
        "rolling_usd_cap",
        "rolling_hours",
        "lifetime_usd_cap",
        "max_requests",
        "uncapped",
        "constraints",
        "vendor_accounts",
        "idempotency",
        "derive_scope",
        "derive_from",
        "worst_case_usd",
        "budget",
        "duplicate_window_seconds",
        "duplicate_fields",
        "workspace",
        "version",
        "created_at",
        "expires_at",
        "revoked_at",
        "metadata",
    ];
    let pairs: Vec<(&str, String)> = names
        .into_iter()
        .map(|name| (name, cell(key, name)))
        .filter(|(_, value)| !value.is_empty() && value != "{}" && value != "false")
        .collect();
    print(&details(&pairs))?;
    show_balances(key)
}

/// Prints the balances of a key or budget, if it has any.
pub fn show_balances(of: &Value) -> Result<(), Failure> {
    let Some(balances) = of
        .get("balances")
        .and_then(Value::as_array)
        .filter(|list| !list.is_empty())
    else {
        return Ok(());
    };
    let columns = [
        "limit", "window", "cap", "free", "held", "settled", "unknown",
    ];
    let rows: Vec<Vec<String>> = balances
        .iter()
        .map(|balance| columns.map(|name| cell(balance, name)).to_vec())
        .collect();
    print(&format!(
        "\n{}",
        table(
            &[
                "LIMIT", "WINDOW", "CAP", "FREE", "HELD", "SETTLED", "UNKNOWN"
            ],
            &rows
        )
    ))
}

fn revoke(
    client: &Client,
    key_id: Option<String>,
    many: Option<Value>,
    as_json: bool,
) -> Result<(), Failure> {
    if let Some(body) = many {
        let body = body.to_string().into_bytes();
        let answer = block_on(client.call(Method::POST, "/admin/vault_keys/revoke", Some(body)))?;
        return if as_json {
            print_json(&answer)
        } else {
            print(&format!("revoked: {}", cell(&answer, "revoked")))
        };
    }
    let path = format!("/admin/vault_keys/{}", segment(&key_id.unwrap_or_default()));
    show(
        &block_on(client.call(Method::DELETE, &path, None))?,
        as_json,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_lists_beginnings_or_ranges() {
        let of = |text: &str| constraint(text).map(|(field, bound)| format!("{field} {bound}"));
        assert_eq!(of("customer=a,b").unwrap(), r#"customer ["a","b"]"#);
        assert_eq!(of("amount=..2999").unwrap(), r#"amount {"max":2999}"#);
        assert_eq!(of("amount=1..2").unwrap(), r#"amount {"max":2,"min":1}"#);
        assert_eq!(
            of("customer^=cus_").unwrap(),
            r#"customer {"prefix":"cus_"}"#
        );
        assert!(of("amount").is_err() && of("amount=x..").is_err());
    }
}
