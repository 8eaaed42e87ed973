//! The tables, and the steps from each schema version to the next.

use super::link::{Link, Question};
use crate::store::StoreError;

/// Every step, from version 1 on. A step that was released is never changed: the next change is another step.
const STEPS: &[&str] = &[VERSION_1];

/// The newest version known here.
pub fn newest() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// The same tables as in a file, with these differences: `turn` is the row that every writing transaction takes and moves on;
/// with the head of the one chain that all of them go on with; bodies of answers are bytes, since a text
/// here cannot hold every character.
const VERSION_1: &str = r#"
CREATE TABLE turn (
    only_one bigint PRIMARY KEY CHECK (only_one = 1),
    number bigint NOT NULL,
    next_request bigint NOT NULL,
    next_subject bigint NOT NULL,
    keys bigint NOT NULL,
    chain text NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    at bigint NOT NULL
);
CREATE TABLE events (
    seq bigint PRIMARY KEY,
    hash bytea NOT NULL,
    body bytea NOT NULL
);
CREATE TABLE signed_heads (
    number bigint PRIMARY KEY,
    seq bigint NOT NULL,
    line text NOT NULL
);
CREATE TABLE marks (
    name text PRIMARY KEY,
    value bigint NOT NULL
);
CREATE TABLE commands (
    id bytea PRIMARY KEY,
    digest bytea NOT NULL,
    at bigint NOT NULL,
    answer bytea NOT NULL
);
CREATE TABLE subjects (
    number bigint PRIMARY KEY,
    last bigint,
    previous bigint,
    admitted bigint NOT NULL DEFAULT 0
);
CREATE TABLE keys (
    number bigint PRIMARY KEY,
    key_id text NOT NULL UNIQUE,
    digest bytea NOT NULL UNIQUE,
    label text NOT NULL,
    workspace text NOT NULL,
    vendor text NOT NULL,
    key_grant text NOT NULL,
    caps text NOT NULL,
    worst_case bigint,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    revoked_at bigint,
    metadata text,
    budget bigint,
    duplicates text
);
CREATE INDEX keys_label ON keys (label);
CREATE INDEX keys_budget ON keys (budget) WHERE budget IS NOT NULL;
CREATE TABLE budgets (
    number bigint PRIMARY KEY,
    name text NOT NULL UNIQUE,
    parent bigint,
    caps text NOT NULL,
    time_zone text NOT NULL,
    state bigint NOT NULL,
    trip_on text,
    duplicates text,
    rule_version bigint NOT NULL,
    version bigint NOT NULL,
    created_at bigint NOT NULL,
    tripped_at bigint,
    metadata text
);
CREATE INDEX budgets_parent ON budgets (parent) WHERE parent IS NOT NULL;
CREATE TABLE refusals (
    budget bigint NOT NULL,
    at bigint NOT NULL,
    request bigint NOT NULL,
    PRIMARY KEY (budget, at, request)
);
CREATE TABLE purchases (
    subject bigint NOT NULL,
    digest bytea NOT NULL,
    request bigint NOT NULL,
    at bigint NOT NULL,
    until bigint NOT NULL,
    PRIMARY KEY (subject, digest)
);
CREATE INDEX purchases_until ON purchases (until);
CREATE TABLE balances (
    subject bigint NOT NULL,
    "window" bigint NOT NULL,
    cap bigint NOT NULL,
    free bigint NOT NULL,
    held bigint NOT NULL,
    settled bigint NOT NULL,
    unknown bigint NOT NULL,
    PRIMARY KEY (subject, "window"),
    CHECK (free + held + settled + unknown = cap)
);
CREATE TABLE places (
    number bigint PRIMARY KEY,
    vendor text NOT NULL,
    credential text NOT NULL,
    account text NOT NULL,
    UNIQUE (vendor, credential, account)
);
CREATE TABLE requests (
    number bigint PRIMARY KEY,
    id bytea NOT NULL,
    digest bytea NOT NULL,
    at bigint NOT NULL,
    subject bigint NOT NULL,
    previous bigint,
    place bigint NOT NULL,
    event bigint NOT NULL,
    kind bigint NOT NULL,
    record bigint NOT NULL,
    hold bigint NOT NULL,
    outcome bigint,
    attempts bigint NOT NULL,
    first_attempt bigint NOT NULL,
    deadline bigint,
    cost bigint,
    amount bigint,
    currency text,
    replays bigint NOT NULL DEFAULT 0,
    status bigint,
    latency_ms bigint,
    forwarded_before bigint NOT NULL,
    shadow bigint,
    object text,
    charge text,
    charge_is_object bigint NOT NULL DEFAULT 0,
    vendor_request_id text,
    alarms text,
    resolution bigint,
    operation text NOT NULL,
    label text NOT NULL,
    run_id text,
    reason text,
    record_key bytea,
    idempotency_key text,
    client_key text,
    fingerprint bytea,
    full_fingerprint bytea,
    budget bigint,
    asked bigint,
    rate bigint
) WITH (fillfactor = 70);
CREATE INDEX requests_subject ON requests (subject, number);
CREATE INDEX requests_budget ON requests (budget, number) WHERE budget IS NOT NULL;
CREATE UNIQUE INDEX requests_id ON requests (id);
CREATE INDEX requests_due ON requests (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX requests_run ON requests (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX requests_object ON requests (object) WHERE object IS NOT NULL;
CREATE INDEX requests_charge ON requests (charge) WHERE charge IS NOT NULL;
CREATE INDEX requests_open ON requests (object) WHERE record = 1 AND hold = 0 AND object IS NOT NULL;
CREATE INDEX requests_unknown ON requests (at, subject, cost) WHERE hold = 3 AND kind = 1;
CREATE TABLE attempts (
    request bigint NOT NULL,
    attempt bigint NOT NULL,
    reserve bytea NOT NULL UNIQUE,
    state bigint NOT NULL,
    deadline bigint,
    PRIMARY KEY (request, attempt)
);
CREATE INDEX attempts_due ON attempts (deadline) WHERE deadline IS NOT NULL;
CREATE TABLE records (
    record_key bytea PRIMARY KEY,
    request bigint NOT NULL
);
CREATE TABLE mentions (
    mention bigint NOT NULL,
    request bigint NOT NULL,
    PRIMARY KEY (mention, request)
);
CREATE TABLE answers (
    request bigint PRIMARY KEY,
    status bigint NOT NULL,
    content_type text NOT NULL,
    body bytea NOT NULL,
    vendor_request_id text,
    is_summary bigint NOT NULL DEFAULT 0
);
"#;

/// What the database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No table of ours and none in our way.
    Nothing,
    /// Our tables, of this version.
    Version(i64),
    /// Tables with our names that are not ours.
    Foreign,
}

/// Looks. Changes nothing.
pub fn look(link: &mut Link) -> Result<Found, StoreError> {
    let tables = link.ask(&Question::new(
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()
         AND table_name IN ('keybrake_version', 'turn', 'events', 'signed_heads', 'marks', 'commands', 'subjects', 'keys', 'budgets', 'refusals',
                            'purchases', 'balances', 'places', 'requests', 'attempts', 'records', 'mentions', 'answers')",
        Vec::new(),
    ))?;
    let names: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
    if names.is_empty() {
        return Ok(Found::Nothing);
    }
    if !names.iter().any(|name| name == "keybrake_version") {
        return Ok(Found::Foreign);
    }
    let version = link.ask(&Question::new(
        "SELECT version FROM keybrake_version WHERE only_one = 1",
        Vec::new(),
    ))?;
    Ok(version
        .first()
        .map_or(Found::Foreign, |row| Found::Version(row.get(0))))
}

/// Brings the tables from `found` to the newest version, all steps in one transaction. Two ledgers that start at once do not
/// disturb each other: one finds its transaction refused, and then the tables there.
pub fn migrate(link: &mut Link, found: i64) -> Result<(), StoreError> {
    let mut sql = String::from("BEGIN;");
    let mut begin_chain = String::new();
    if found == 0 {
        sql.push_str(
            "CREATE TABLE keybrake_version (only_one bigint PRIMARY KEY CHECK (only_one = 1), version bigint NOT NULL);
             INSERT INTO keybrake_version (only_one, version) VALUES (1, 0);",
        );
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|error| StoreError::new(error.to_string()))?;
        // A chain's name is made once, when the database is, and kept.
        begin_chain = format!(
            "INSERT INTO turn (only_one, number, next_request, next_subject, keys, chain, seq, hash, at)
             VALUES (1, 0, 1, 1, 0, '{}', 0, decode('{}', 'hex'), 0);",
            hex::encode(random),
            crate::audit::start()
        );
    }
    for (step, target) in STEPS.iter().zip(1_i64..) {
        if target <= found {
            continue;
        }
        let before = target.saturating_sub(1);
        sql.push_str(step);
        // Somebody who has done this step already leaves no row with the version before it.
        sql.push_str(&format!(
            "INSERT INTO keybrake_version (only_one, version)
             SELECT 2, 0 WHERE NOT EXISTS (SELECT 1 FROM keybrake_version WHERE version = {before} FOR UPDATE);
             UPDATE keybrake_version SET version = {target} WHERE only_one = 1;"
        ));
    }
    sql.push_str(&begin_chain);
    sql.push_str("COMMIT");
    let done = link.tell(&sql);
    if done.is_err() {
        // Already gone if the connection is.
        let _ = link.tell("ROLLBACK");
    }
    done
}
