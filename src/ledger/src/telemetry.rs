//! Logs: to stderr, as text or as JSON lines.
//!
//! Here: where they go and how they look. What is logged never holds a credential, a vault key or a body.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// What is said about the database is said by the store.
const DRIVER_IS_SILENT: &str = "tokio_postgres=off";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// A log filter that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the log filter {filter:?}: {cause}")]
pub struct InvalidFilter {
    filter: String,
    cause: String,
}

/// Starts logging.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(format: LogFormat, filter: &str) -> Result<(), InvalidFilter> {
    let invalid = |cause: String| InvalidFilter {
        filter: filter.to_owned(),
        cause,
    };
    let directives = EnvFilter::try_new(filter).map_err(|error| invalid(error.to_string()))?;
    // The driver would log statements with their parameters.
    let quiet = DRIVER_IS_SILENT
        .parse()
        .map_err(|_| invalid("the driver cannot be silenced".to_owned()))?;
    let directives = directives.add_directive(quiet);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(directives)
        .with_writer(std::io::stderr)
        .with_timer(SystemTime)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| invalid(error.to_string()))
}
