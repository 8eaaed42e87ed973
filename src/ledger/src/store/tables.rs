//! The tables that all stores have, as they are moved from one to another: names, columns, what is in them. The chain's head is
//! moved by itself.
//!
//! A column that is added to the schema is added here; a test compares this list with both stores' own.

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// A whole number.
    Integer,
    /// Bytes. In a file it may be a text.
    Bytes,
    /// A text.
    Text,
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name in a file.
    pub name: &'static str,
    /// Its columns.
    pub columns: &'static [(&'static str, Holds)],
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// See [`Holds`].
    Integer(i64),
    /// See [`Holds`].
    Bytes(Vec<u8>),
    /// See [`Holds`].
    Text(String),
}

const fn table(name: &'static str, columns: &'static [(&'static str, Holds)]) -> Table {
    Table { name, columns }
}

use Holds::{Bytes, Integer, Text};

/// All of them.
pub const TABLES: &[Table] = &[
    table(
        "events",
        &[("seq", Integer), ("hash", Bytes), ("body", Bytes)],
    ),
    table(
        "signed_heads",
        &[("number", Integer), ("seq", Integer), ("line", Text)],
    ),
    table("marks", &[("name", Text), ("value", Integer)]),
    table(
        "commands",
        &[
            ("id", Bytes),
            ("digest", Bytes),
            ("at", Integer),
            ("answer", Bytes),
        ],
    ),
    table(
        "subjects",
        &[
            ("number", Integer),
            ("last", Integer),
            ("previous", Integer),
            ("admitted", Integer),
        ],
    ),
    table(
        "keys",
        &[
            ("number", Integer),
            ("key_id", Text),
            ("digest", Bytes),
            ("label", Text),
            ("workspace", Text),
            ("vendor", Text),
            ("key_grant", Text),
            ("caps", Text),
            ("worst_case", Integer),
            ("created_at", Integer),
            ("expires_at", Integer),
            ("revoked_at", Integer),
            ("metadata", Text),
            ("budget", Integer),
            ("duplicates", Text),
        ],
    ),
    table(
        "budgets",
        &[
            ("number", Integer),
            ("name", Text),
            ("parent", Integer),
            ("caps", Text),
            ("time_zone", Text),
            ("state", Integer),
            ("trip_on", Text),
            ("duplicates", Text),
            ("rule_version", Integer),
            ("version", Integer),
            ("created_at", Integer),
            ("tripped_at", Integer),
            ("metadata", Text),
        ],
    ),
    table(
        "refusals",
        &[("budget", Integer), ("at", Integer), ("request", Integer)],
    ),
    table(
        "purchases",
        &[
            ("subject", Integer),
            ("digest", Bytes),
            ("request", Integer),
            ("at", Integer),
            ("until", Integer),
        ],
    ),
    table(
        "balances",
        &[
            ("subject", Integer),
            ("window", Integer),
            ("cap", Integer),
            ("free", Integer),
            ("held", Integer),
            ("settled", Integer),
            ("unknown", Integer),
        ],
    ),
    table(
        "places",
        &[
            ("number", Integer),
            ("vendor", Text),
            ("credential", Text),
            ("account", Text),
        ],
    ),
    table(
        "requests",
        &[
            ("number", Integer),
            ("id", Bytes),
            ("digest", Bytes),
            ("at", Integer),
            ("subject", Integer),
            ("previous", Integer),
            ("place", Integer),
            ("event", Integer),
            ("kind", Integer),
            ("record", Integer),
            ("hold", Integer),
            ("outcome", Integer),
            ("attempts", Integer),
            ("first_attempt", Integer),
            ("deadline", Integer),
            ("cost", Integer),
            ("amount", Integer),
            ("currency", Text),
            ("replays", Integer),
            ("status", Integer),
            ("latency_ms", Integer),
            ("forwarded_before", Integer),
            ("shadow", Integer),
            ("object", Text),
            ("charge", Text),
            ("charge_is_object", Integer),
            ("vendor_request_id", Text),
            ("alarms", Text),
            ("resolution", Integer),
            ("operation", Text),
            ("label", Text),
            ("run_id", Text),
            ("reason", Text),
            ("record_key", Bytes),
            ("idempotency_key", Text),
            ("client_key", Text),
            ("fingerprint", Bytes),
            ("full_fingerprint", Bytes),
            ("budget", Integer),
            ("asked", Integer),
            ("rate", Integer),
        ],
    ),
    table(
        "attempts",
        &[
            ("request", Integer),
            ("attempt", Integer),
            ("reserve", Bytes),
            ("state", Integer),
            ("deadline", Integer),
        ],
    ),
    table("records", &[("record_key", Bytes), ("request", Integer)]),
    table("mentions", &[("mention", Integer), ("request", Integer)]),
    table(
        "answers",
        &[
            ("request", Integer),
            ("status", Integer),
            ("content_type", Text),
            ("body", Bytes),
            ("vendor_request_id", Text),
            ("is_summary", Integer),
        ],
    ),
];
