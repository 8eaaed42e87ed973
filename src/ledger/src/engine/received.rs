//! A command as it came: parsed and digested on the caller's thread, before it joins the writer's queue.
//!
//! Here: reading one command and the bounds of its fields. Not here: reading the batch around it (`http`), executing it.

use std::sync::Arc;

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::wire::{
    AttemptOutcome, Command, Forward, Outcome, RefusalCount, Refused, RequestFacts, Reserve,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::MAX_DEPTH;
use crate::store::{RecordKey, Wanted};

/// Most bytes of an idempotency key.
const MAX_IDEMPOTENCY_KEY: usize = 255;
/// Most bytes of any other short text in a command.
const MAX_TEXT: usize = 1024;
/// Most bytes of a path.
const MAX_PATH: usize = 4096;
/// Most digests of a purchase: one for the key's rule, one for each budget's up to the root.
const MAX_PURCHASES: usize = MAX_DEPTH.saturating_add(1);
/// Longest forward time-out that is taken, in milliseconds: one hour.
pub const MAX_FORWARD_TIMEOUT_MS: u32 = 3_600_000;

/// One command of a batch, ready to be executed or to be answered as unreadable.
#[derive(Debug, Clone)]
pub enum Received {
    /// It could be read.
    Command(Box<Prepared>),
    /// It could not be read. Nothing is done; the answer is `invalid_command`.
    Unreadable {
        /// Its id, if at least that could be read.
        id: Option<CommandId>,
        /// What was wrong, for the answer. Names fields, never values.
        message: String,
    },
}

/// A command with everything that can be computed from it alone.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What is to be done.
    pub(super) command: Command,
    /// SHA-256 of the command's raw bytes: the same id with another digest is a conflict.
    pub(super) digest: Digest,
    /// Of a reserve with an idempotency key.
    pub(super) record_key: Option<RecordKey>,
    /// SHA-256 of the body of an outcome's answer.
    pub(super) answer_sha256: Option<Digest>,
}

impl Prepared {
    fn new(mut command: Command, raw: &str) -> Self {
        if let Command::Outcome(outcome) = &mut command {
            cut(outcome);
        }
        without_null(&mut command);
        let (record_key, answer_sha256) = match &command {
            Command::Reserve(reserve) => (record_key(reserve), None),
            Command::Outcome(outcome) => {
                let body = outcome.answer.as_ref().map(|answer| answer.body.as_bytes());
                (None, body.map(Digest::of))
            }
            Command::Release(_) | Command::Refused(_) | Command::RefusalCount(_) => (None, None),
        };
        Self {
            digest: Digest::of(raw.as_bytes()),
            command,
            record_key,
            answer_sha256,
        }
    }
}

/// Only what is executed detached has a record.
fn record_key(reserve: &Reserve) -> Option<RecordKey> {
    let facts = &reserve.request;
    match (&reserve.idempotency, reserve.forward) {
        (Some(idempotency), Forward::Detached) => Some(RecordKey::new(
            &facts.vendor,
            &facts.credential,
            facts.vendor_account.as_deref(),
            &idempotency.key,
        )),
        _ => None,
    }
}

impl Received {
    /// Adds what executing it is going to ask the store for.
    pub(super) fn want(&self, wanted: &mut Wanted) {
        let Self::Command(prepared) = self else {
            return;
        };
        wanted.ids.push(prepared.command.id());
        match &prepared.command {
            Command::Reserve(reserve) => {
                wanted.keys.push(reserve.key_digest);
                wanted.records.extend(prepared.record_key);
            }
            Command::Outcome(outcome) => {
                wanted.holds.push(outcome.hold);
                wanted.objects.extend(outcome.vendor_object_id.clone());
                if matches!(&outcome.outcome, AttemptOutcome::Executed(executed) if executed.is_total)
                {
                    wanted.totals.extend(outcome.vendor_object_id.clone());
                }
            }
            Command::Release(release) => wanted.holds.push(release.reserve),
            Command::Refused(refused) => wanted.keys.push(refused.key_digest),
            Command::RefusalCount(_) => {}
        }
    }

    /// Reads one command from its raw JSON.
    #[must_use]
    pub fn read(raw: &RawValue) -> Self {
        match serde_json::from_str::<Command>(raw.get()) {
            Ok(command) => match check(&command) {
                Ok(()) => Self::Command(Box::new(Prepared::new(command, raw.get()))),
                Err(message) => Self::Unreadable {
                    id: Some(command.id()),
                    message: message.to_owned(),
                },
            },
            Err(error) => Self::Unreadable {
                id: id_of(raw),
                message: describe(&error),
            },
        }
    }
}

/// What serde says, without the values it quotes: they may hold what must not be printed.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let quotes_a_value = !text.starts_with("missing field") && !text.starts_with("unknown field");
    if quotes_a_value {
        format!(
            "not a command (line {}, column {})",
            error.line(),
            error.column()
        )
    } else {
        text.chars().take(200).collect()
    }
}

/// The id inside a command that could not be read as a whole.
fn id_of(raw: &RawValue) -> Option<CommandId> {
    #[derive(Deserialize)]
    struct Body {
        id: CommandId,
    }
    let members: std::collections::BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(raw.get()).ok()?;
    let mut bodies = members.into_values();
    match (bodies.next(), bodies.next()) {
        (Some(body), None) => serde_json::from_str::<Body>(body.get())
            .ok()
            .map(|body| body.id),
        _ => None,
    }
}

fn check(command: &Command) -> Result<(), &'static str> {
    match command {
        Command::Reserve(reserve) => check_reserve(reserve),
        Command::Outcome(outcome) => check_outcome(outcome),
        Command::Release(_) => Ok(()),
        Command::Refused(refused) => check_refused(refused),
        Command::RefusalCount(count) => check_count(count),
    }
}

fn check_reserve(reserve: &Reserve) -> Result<(), &'static str> {
    check_facts(&reserve.request)?;
    if reserve.forward_timeout_ms > MAX_FORWARD_TIMEOUT_MS {
        return Err("forward_timeout_ms: at most one hour");
    }
    if reserve.purchases.len() > MAX_PURCHASES {
        return Err("purchases: more than rules can be");
    }
    let Some(idempotency) = &reserve.idempotency else {
        return Ok(());
    };
    let printable = idempotency
        .key
        .bytes()
        .all(|byte| (b' '..=b'~').contains(&byte));
    if idempotency.key.is_empty() || idempotency.key.len() > MAX_IDEMPOTENCY_KEY || !printable {
        return Err("idempotency.key: 1 to 255 printable ASCII characters");
    }
    short(
        idempotency.client_key.as_deref(),
        "idempotency.client_key: too long",
    )
}

fn check_outcome(outcome: &Outcome) -> Result<(), &'static str> {
    if outcome.attempt == 0 {
        return Err("attempt: counts from 1");
    }
    Ok(())
}

/// What a vendor sent is cut to a bound rather than refused: an outcome must never be lost for an odd header.
fn cut(outcome: &mut Outcome) {
    let texts = [
        &mut outcome.vendor_request_id,
        &mut outcome.vendor_object_id,
        &mut outcome.charge_id,
    ];
    for text in texts.into_iter().flatten() {
        let whole = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(whole.unwrap_or(0));
    }
}

/// U+0000 stands in no text that any store keeps: not all of them can. In its place stands U+FFFD.
fn without_null(command: &mut Command) {
    fn facts(facts: &mut RequestFacts) -> [Option<&mut String>; 5] {
        [
            Some(&mut facts.vendor),
            Some(&mut facts.credential),
            Some(&mut facts.operation),
            facts.vendor_account.as_mut(),
            facts.run_id.as_mut(),
        ]
    }
    let mut texts: Vec<&mut String> = Vec::new();
    match command {
        Command::Reserve(reserve) => {
            texts.extend(
                facts(Arc::make_mut(&mut reserve.request))
                    .into_iter()
                    .flatten(),
            );
            let idempotency = reserve.idempotency.as_mut();
            texts.extend(idempotency.and_then(|given| given.client_key.as_mut()));
        }
        Command::Refused(refused) => {
            texts.extend(
                facts(Arc::make_mut(&mut refused.request))
                    .into_iter()
                    .flatten(),
            );
            texts.extend(refused.idempotency_key.as_mut());
        }
        Command::Outcome(outcome) => {
            texts.extend(outcome.vendor_request_id.as_mut());
            texts.extend(outcome.vendor_object_id.as_mut());
            texts.extend(outcome.charge_id.as_mut());
        }
        Command::Release(_) | Command::RefusalCount(_) => {}
    }
    for text in texts {
        if text.contains('\0') {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
}

fn check_refused(refused: &Refused) -> Result<(), &'static str> {
    check_facts(&refused.request)?;
    short(refused.param.as_deref(), "param: too long")?;
    short(
        refused.idempotency_key.as_deref(),
        "idempotency_key: too long",
    )
}

fn check_count(count: &RefusalCount) -> Result<(), &'static str> {
    if count.count == 0 {
        return Err("count: at least 1");
    }
    short(Some(&count.listener), "listener: too long")
}

fn check_facts(facts: &RequestFacts) -> Result<(), &'static str> {
    if facts.path.len() > MAX_PATH {
        return Err("request.path: too long");
    }
    short(Some(&facts.vendor), "request.vendor: too long")?;
    short(Some(&facts.credential), "request.credential: too long")?;
    short(Some(&facts.operation), "request.operation: too long")?;
    short(Some(&facts.method), "request.method: too long")?;
    short(
        facts.vendor_account.as_deref(),
        "request.vendor_account: too long",
    )?;
    short(Some(&facts.request_id), "request.request_id: too long")?;
    short(facts.run_id.as_deref(), "request.run_id: too long")?;
    short(
        facts.traceparent.as_deref(),
        "request.traceparent: too long",
    )
}

fn short(text: Option<&str>, message: &'static str) -> Result<(), &'static str> {
    match text {
        Some(text) if text.len() > MAX_TEXT => Err(message),
        _ => Ok(()),
    }
}
