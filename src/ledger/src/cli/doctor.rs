//! `keybrake doctor`: whether the gate works.

use serde_json::json;

use crate::cli::{Failure, block_on, print, print_json};
use crate::doctor::{Admin, Finding, State, Target, examine};

const DEFAULT_TARGET: &str = "http://127.0.0.1:10000/stripe/v1/charges";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Canaries are requests with a vault key that nobody issued: over HTTP/1.1 and HTTP/2, without a body, with one, and \
                  with trailers. A gate that works refuses each of them with 401, and nothing goes to the vendor. With Envoy's admin \
                  port the configuration is looked at as well, and the counters of the vendors' clusters must stand still.\n\n\
                  Examples:\n  keybrake doctor\n  \
                  keybrake doctor --envoy-admin http://127.0.0.1:9901 \\\n      \
                  http://127.0.0.1:10000/stripe/v1/charges http://127.0.0.1:10001/v1/charges\n  \
                  keybrake doctor --json\n\n\
                  Exit codes: 0 the gate works, 1 a fault was found, 2 wrong use."
)]
pub struct Arguments {
    /// A vendor's endpoint as callers reach it through the gate
    #[arg(value_name = "URL", default_value = DEFAULT_TARGET)]
    targets: Vec<String>,
    /// Envoy's admin port, to look at its configuration and counters
    #[arg(long, value_name = "URL")]
    envoy_admin: Option<String>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `keybrake doctor`.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let targets = arguments
        .targets
        .iter()
        .map(|text| Target::parse(text).map_err(|error| Failure::usage(format!("{text}: {error}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let admin = arguments
        .envoy_admin
        .as_deref()
        .map(|text| {
            Admin::parse(text).map_err(|error| Failure::usage(format!("--envoy-admin: {error}")))
        })
        .transpose()?;
    let tell = |finding: &Finding| {
        if !arguments.json {
            // A reader that went away is no failure of the gate.
            let _ = print(&line(finding));
        }
    };
    let findings = block_on(async { Ok(examine(&targets, admin.as_ref(), tell).await) })?;
    let faults = findings
        .iter()
        .filter(|finding| finding.state == State::Fault)
        .count();
    if arguments.json {
        print_json(&json!({ "works": faults == 0, "findings": findings }))?;
    }
    match faults {
        0 => Ok(()),
        1 => Err(Failure::new("the gate does not work as it should: 1 fault")),
        faults => Err(Failure::new(format!(
            "the gate does not work as it should: {faults} faults"
        ))),
    }
}

fn line(finding: &Finding) -> String {
    let (word, colour) = match finding.state {
        State::Ok => ("ok   ", anstyle::AnsiColor::Green),
        State::Fault => ("FAULT", anstyle::AnsiColor::Red),
    };
    let style = colour.on_default().bold();
    format!(
        "{style}{word}{style:#} {}: {}",
        finding.checked, finding.detail
    )
}
