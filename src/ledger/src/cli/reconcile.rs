//! `keybrake reconcile`: has a running ledger settle unknown requests by the vendors' own records, now.

use std::io::Write as _;
use std::time::Duration;

use axum::http::Method;
use serde_json::Value;
use tokio::time::Instant;

use crate::cli::client::Client;
use crate::cli::table::{cell, table};
use crate::cli::{Failure, block_on, print, print_json};
use crate::http::credentials::Role;
use crate::outbound::BaseUrl;
use crate::reconcile::Settings;

const PATH: &str = "/admin/requests/reconcile";
/// How often the ledger is asked how far it is.
const POLL: Duration = Duration::from_millis(250);
/// Two passes at their longest: one that was being made, and ours.
const PATIENCE: Duration = Duration::from_secs(1_260);
/// How often progress is told.
const TELL: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is found decides: an event of the vendor's settles a request, and nothing found in two whole reads, a minute \
                  apart and after the vendor's own maximum time, gives its money back. Nothing is ever sent again.\n\n\
                  Examples:\n  keybrake reconcile\n  keybrake reconcile --json"
)]
pub struct Arguments {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What `keybrake serve` is told about the reconciler.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Settle unknown requests by the vendors' own records, read through Envoy's listener for every vendor: http://HOST[:PORT]
    #[arg(long, value_name = "URL", env = "KEYBRAKE_RECONCILE_URL")]
    reconcile_url: Option<String>,
    /// How often that is done
    #[arg(long, value_name = "SECONDS", env = "KEYBRAKE_RECONCILE_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    reconcile_seconds: u32,
}

impl Flags {
    /// The settings, when there is to be a reconciler; `longest_ms` as in [`Settings`].
    pub fn settings(self, longest_ms: i64) -> Result<Option<Settings>, Failure> {
        let Some(url) = self.reconcile_url.filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(Settings {
            base: BaseUrl::parse(&url).map_err(|error| {
                Failure::usage(format!(
                    "the reconcile URL {error}, Envoy's listener for every vendor"
                ))
            })?,
            every: Duration::from_secs(self.reconcile_seconds.into()),
            longest_ms,
        }))
    }
}

/// Runs `keybrake reconcile`. Needs `KEYBRAKE_ADMIN_KEY`.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let client = Client::from_environment(Role::Admin.variable())?;
    let report = block_on(pass(&client))?;
    if arguments.json {
        print_json(&report)?;
    } else {
        show(&report)?;
    }
    let failures = report.get("failures").and_then(Value::as_array);
    match failures.map_or(0, Vec::len) {
        0 => Ok(()),
        count => Err(Failure::new(format!(
            "{count} things could not be read or applied; nothing was decided by them"
        ))),
    }
}

/// Asks for a pass and waits for its report.
async fn pass(client: &Client) -> Result<Value, Failure> {
    let asked = client.call(Method::POST, PATH, None).await?;
    let number = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_u64);
    let wanted = number(&asked, "/pass").ok_or_else(|| Failure::new("the ledger named no pass"))?;
    let began = Instant::now();
    let mut told = began;
    loop {
        let mut shown = client.call(Method::GET, PATH, None).await?;
        if number(&shown, "/last/pass").is_some_and(|pass| pass >= wanted) {
            return Ok(shown
                .pointer_mut("/last")
                .map(Value::take)
                .unwrap_or_default());
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::new("the pass does not end; see the ledger's log"));
        }
        if told.elapsed() > TELL {
            told = Instant::now();
            tell(&shown);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Says on stderr how far it is.
fn tell(shown: &Value) {
    let count = |name: &str| {
        let running = shown.get("running").and_then(|running| running.get(name));
        running.and_then(Value::as_u64).unwrap_or(0)
    };
    let (pages, events, decided) = (count("pages"), count("events"), count("decided"));
    // Whoever closed stderr does not want to know.
    let _ = writeln!(
        anstream::stderr(),
        "keybrake: {events} events on {pages} pages read, {decided} requests decided"
    );
}

fn show(report: &Value) -> Result<(), Failure> {
    let count = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or(0);
    print(&format!(
        "{} decided, {} stay unknown; {} events on {} pages read",
        count("decided_count"),
        count("unknown_count"),
        count("events"),
        count("pages")
    ))?;
    let lists: [(&str, &[&str], &[&str]); 3] = [
        (
            "decided",
            &[
                "id",
                "operation",
                "finding",
                "outcome",
                "vendor_object_id",
                "evidence",
                "idempotency_key",
            ],
            &[
                "DECIDED",
                "OPERATION",
                "FOUND",
                "OUTCOME",
                "OBJECT",
                "EVIDENCE",
                "IDEMPOTENCY KEY",
            ],
        ),
        (
            "unknown",
            &[
                "id",
                "age_seconds",
                "operation",
                "idempotency_key",
                "detail",
            ],
            &[
                "UNKNOWN",
                "AGE SECONDS",
                "OPERATION",
                "IDEMPOTENCY KEY",
                "WHY",
            ],
        ),
        ("failures", &["vendor", "what"], &["FAILED AT", "WHAT"]),
    ];
    for (name, members, head) in lists {
        let listed = report.get(name).and_then(Value::as_array);
        let rows: Vec<Vec<String>> = listed
            .into_iter()
            .flatten()
            .map(|one| members.iter().map(|member| cell(one, member)).collect())
            .collect();
        if !rows.is_empty() {
            print(&table(head, &rows))?;
        }
    }
    Ok(())
}
