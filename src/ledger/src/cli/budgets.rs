//! `keybrake budgets`: making, listing, showing and changing budgets of a running ledger.

use axum::http::Method;
use serde_json::{Map, Value, json};

use crate::cli::client::{Client, segment, with_query};
use crate::cli::statement;
use crate::cli::table::{cell, details, table};
use crate::cli::{Failure, block_on, print, print_json};
use crate::http::credentials::Role;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a budget: a named cap that many keys share. Needs KEYBRAKE_ADMIN_KEY.
    #[command(
        after_help = "Examples:\n  keybrake budgets create year --lifetime 100000\n  \
                            keybrake budgets create july --parent year --daily 500 --time-zone Europe/Berlin \\\n      \
                            --trip-on 5/60"
    )]
    Create(Box<CreateArguments>),
    /// List budgets, newest first.
    List(ListArguments),
    /// Show a budget and its balances.
    Show(One),
    /// Change a budget: what is not named stays. Effective for the very next request under it.
    #[command(
        after_help = "Examples:\n  keybrake budgets change july --daily 750\n  \
                            keybrake budgets change july --trip-on none --daily none --uncapped"
    )]
    Change(Box<ChangeArguments>),
    /// Admit nothing new under a budget, until it is opened again.
    Freeze(One),
    /// Open a budget that is frozen, or whose brake has tripped.
    Open(One),
    /// Admit nothing new under a budget, for good.
    Close(One),
    /// State what became of everything that was taken under a budget.
    Statement(StatementArguments),
}

#[derive(Debug, clap::Args)]
pub struct One {
    /// Its name
    name: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct StatementArguments {
    #[command(flatten)]
    one: One,
    /// day:2026-07-01, month:2026-07, rolling or lifetime [default: the present window of every cap]
    #[arg(long)]
    window: Option<String>,
}

/// What is said of a budget's caps and rules. `none` takes one away from a budget that has it.
#[derive(Debug, clap::Args)]
struct Terms {
    /// Most US dollars per day in its time zone
    #[arg(long, value_name = "USD")]
    daily: Option<String>,
    /// Most US dollars for one request
    #[arg(long, value_name = "USD")]
    per_request: Option<String>,
    /// Most US dollars per month in its time zone
    #[arg(long, value_name = "USD")]
    monthly: Option<String>,
    /// Most US dollars within any --rolling-hours hours
    #[arg(long, value_name = "USD")]
    rolling: Option<String>,
    /// The hours of --rolling
    #[arg(long, value_name = "HOURS")]
    rolling_hours: Option<u64>,
    /// Most US dollars in the budget's life
    #[arg(long, value_name = "USD")]
    lifetime: Option<String>,
    /// No cap on money of its own
    #[arg(long)]
    uncapped: bool,
    /// The brake: so many refusals within so many seconds stop every key under it, as in 5/60
    #[arg(long, value_name = "REFUSALS/SECONDS", value_parser = brake)]
    trip_on: Option<Value>,
    /// Seconds for which an equal purchase under another idempotency key is refused
    #[arg(long, value_name = "SECONDS")]
    duplicate_window: Option<String>,
    /// A field that makes a purchase equal; may be repeated [default: customer, amount, currency]
    #[arg(long, value_name = "FIELD")]
    duplicate_field: Vec<String>,
    /// A JSON object of your own
    #[arg(long, value_name = "JSON", value_parser = super::keys::metadata)]
    metadata: Option<Value>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct CreateArguments {
    /// Its name, for good
    name: String,
    /// The budget that it draws from in turn, for good
    #[arg(long, value_name = "NAME")]
    parent: Option<String>,
    /// IANA time zone of its days and months, for good [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Debug, clap::Args)]
pub struct ChangeArguments {
    /// Its name
    name: String,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// open, frozen, closed or tripped
    #[arg(long)]
    state: Option<String>,
    /// Right below this budget
    #[arg(long, value_name = "NAME")]
    parent: Option<String>,
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

/// Runs `keybrake budgets …`.
pub fn run(command: Command) -> Result<(), Failure> {
    let client = Client::from_environment(Role::Admin.variable())?;
    match command {
        Command::Create(arguments) => {
            let CreateArguments {
                name,
                parent,
                time_zone,
                terms,
            } = *arguments;
            let as_json = terms.json;
            let mut body = body(terms);
            let own = [
                ("name", Some(name)),
                ("parent", parent),
                ("time_zone", time_zone),
            ];
            for (field, value) in own {
                if let Some(value) = value {
                    body.insert(field.to_owned(), Value::from(value));
                }
            }
            let body = Value::Object(body).to_string().into_bytes();
            let answer = block_on(client.call(Method::POST, "/admin/budgets", Some(body)))?;
            show(&answer, as_json)
        }
        Command::List(arguments) => list(&client, arguments),
        Command::Show(One { name, json }) => show(
            &block_on(client.call(Method::GET, &path(&name), None))?,
            json,
        ),
        Command::Change(arguments) => {
            let ChangeArguments { name, terms } = *arguments;
            let as_json = terms.json;
            change(&client, &name, body(terms), as_json)
        }
        Command::Freeze(one) => set_state(&client, one, "frozen"),
        Command::Open(one) => set_state(&client, one, "open"),
        Command::Close(one) => set_state(&client, one, "closed"),
        Command::Statement(StatementArguments { one, window }) => {
            let path = format!("{}/statement", path(&one.name));
            statement::run(&client, &path, window, one.json)
        }
    }
}

fn path(name: &str) -> String {
    format!("/admin/budgets/{}", segment(name))
}

fn set_state(client: &Client, one: One, state: &str) -> Result<(), Failure> {
    let mut body = Map::new();
    body.insert("state".to_owned(), Value::from(state));
    change(client, &one.name, body, one.json)
}

fn change(
    client: &Client,
    name: &str,
    body: Map<String, Value>,
    as_json: bool,
) -> Result<(), Failure> {
    let body = Value::Object(body).to_string().into_bytes();
    let answer = block_on(client.call(Method::PATCH, &path(name), Some(body)))?;
    show(&answer, as_json)
}

/// A text as it is, `none` as null.
fn or_none(text: String) -> Value {
    match text.as_str() {
        "none" => Value::Null,
        _ => Value::from(text),
    }
}

fn body(terms: Terms) -> Map<String, Value> {
    let window = terms.duplicate_window.map(|text| {
        let seconds = text.parse::<u64>().ok().map(Value::from);
        seconds.unwrap_or_else(|| or_none(text))
    });
    let fields = terms.duplicate_field;
    let members = [
        ("daily_usd_cap", terms.daily.map(or_none)),
        ("per_request_usd_cap", terms.per_request.map(or_none)),
        ("monthly_usd_cap", terms.monthly.map(or_none)),
        ("rolling_usd_cap", terms.rolling.map(or_none)),
        ("rolling_hours", terms.rolling_hours.map(Value::from)),
        ("lifetime_usd_cap", terms.lifetime.map(or_none)),
        ("uncapped", terms.uncapped.then_some(Value::Bool(true))),
        ("trip_on", terms.trip_on),
        ("duplicate_window_seconds", window),
        (
            "duplicate_fields",
            (!fields.is_empty()).then(|| json!(fields)),
        ),
        ("metadata", terms.metadata),
    ];
    members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// Reads `5/60`: so many refusals within so many seconds.
fn brake(text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let wrong = || "must be REFUSALS/SECONDS, such as 5/60, or none".to_owned();
    let (refusals, seconds) = text.split_once('/').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    Ok(json!({"refusals": number(refusals)?, "within_seconds": number(seconds)?}))
}

fn list(client: &Client, arguments: ListArguments) -> Result<(), Failure> {
    let path = with_query(
        "/admin/budgets",
        &[
            ("state", arguments.state),
            ("parent", arguments.parent),
            ("limit", Some(arguments.limit.to_string())),
            ("cursor", arguments.cursor),
        ],
    );
    let answer = block_on(client.call(Method::GET, &path, None))?;
    if arguments.json {
        return print_json(&answer);
    }
    let names = [
        "name",
        "parent",
        "state",
        "time_zone",
        "daily_usd_cap",
        "monthly_usd_cap",
        "rolling_usd_cap",
        "lifetime_usd_cap",
    ];
    let budgets = answer.get("budgets").and_then(Value::as_array);
    let rows: Vec<Vec<String>> = budgets
        .into_iter()
        .flatten()
        .map(|budget| names.map(|name| cell(budget, name)).to_vec())
        .collect();
    print(&table(
        &[
            "NAME", "PARENT", "STATE", "ZONE", "DAILY", "MONTHLY", "ROLLING", "LIFETIME",
        ],
        &rows,
    ))?;
    match answer.get("next_cursor").and_then(Value::as_str) {
        Some(cursor) => print(&format!("more: --cursor {cursor}")),
        None => Ok(()),
    }
}

fn show(budget: &Value, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print_json(budget);
    }
    let names = [
        "name",
        "parent",
        "state",
        "time_zone",
        "daily_usd_cap",
        "per_request_usd_cap",
        "monthly_usd_cap",
        "rolling_usd_cap",
        "rolling_hours",
        "lifetime_usd_cap",
        "uncapped",
        "trip_on",
        "duplicate_window_seconds",
        "duplicate_fields",
        "version",
        "created_at",
        "tripped_at",
        "metadata",
    ];
    let pairs: Vec<(&str, String)> = names
        .into_iter()
        .map(|name| (name, cell(budget, name)))
        .filter(|(_, value)| !value.is_empty() && value != "false")
        .collect();
    print(&details(&pairs))?;
    super::keys::show_balances(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brake_is_so_many_in_so_many_seconds() {
        let five = json!({"refusals": 5, "within_seconds": 60});
        assert_eq!(brake("5/60"), Ok(five));
        assert_eq!(brake("none"), Ok(Value::Null));
        for wrong in ["5", "5/", "/60", "5/60/1", "-5/60", "five/60"] {
            assert!(brake(wrong).is_err(), "{wrong}");
        }
    }
}
