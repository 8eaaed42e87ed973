//! Events in canonical form: JSON, members sorted by name, integers and texts only, nothing absent written.
//!
//! The members of every struct here stand in the order of their names; a test holds them to it. Bodies of requests and
//! answers are never in an event, an answer only as its digest.

use std::collections::BTreeMap;

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::{CommandId, HoldId};
use keybrake_contract::lifecycle::{HoldState, RecordState};
use keybrake_contract::money::{Currency, Micros};
use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::{CountedReason, ExecutedMoney, ReleaseCause};
use serde::{Deserialize, Serialize};

use super::heads::PublicKey;
use crate::book::{Evidence, PricedBy};

/// A balance after what the event tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BalanceAfter {
    /// Free.
    pub free: Micros,
    /// Held.
    pub held: Micros,
    /// Settled.
    pub settled: Micros,
    /// Number of the subject it belongs to.
    pub subject: i64,
    /// Unknown.
    pub unknown: Micros,
    /// `day:2026-11-23` and so on.
    pub window: String,
}

/// The cap that a refused request would have passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapRefused {
    /// What the request would have cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Micros>,
    /// What was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Micros>,
    /// Which cap.
    pub limit: String,
    /// When it resets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<String>,
}

/// A request was decided: admitted (as a new hold or as a later attempt) or refused.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Decided<'a> {
    /// Vendor account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<&'a str>,
    /// In the currency's smallest unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<u64>,
    /// When.
    pub at: i64,
    /// Which attempt was admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Balances it was taken from, after it.
    #[serde(skip_serializing_if = "<[BalanceAfter]>::is_empty")]
    pub balances: &'a [BalanceAfter],
    /// The budget that the key draws from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<&'a str>,
    /// Who refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'static str>,
    /// The budget whose cap, state or rule said no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_budget: Option<&'a str>,
    /// The cap that was in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<CapRefused>,
    /// As the caller sent it, when another one is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_idempotency_key: Option<&'a str>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<RefusalCode>,
    /// In micro-dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Micros>,
    /// Our credential at the vendor.
    pub credential: &'a str,
    /// Of the amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Request id of the earlier purchase that this one equals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earlier_request_id: Option<&'a str>,
    /// `admitted` or `refused`.
    pub event: &'static str,
    /// What must be equal for a repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<&'a Digest>,
    /// What must be equal to forward a derived key's unknown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_fingerprint: Option<&'a Digest>,
    /// The grant it was checked against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_version: Option<u64>,
    /// The hold, or the refused command.
    pub hold: HoldId,
    /// As the vendor sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<&'a str>,
    /// Which key asked.
    pub key_id: &'a str,
    /// Its label.
    pub label: &'a str,
    /// Method.
    pub method: &'a str,
    /// Operation name.
    pub operation: &'a str,
    /// The request field that was to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<&'a str>,
    /// The request fields that the audit keeps.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: &'a BTreeMap<String, String>,
    /// Vendor-relative path.
    pub path: &'a str,
    /// What the cost rests on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priced_by: Option<PricedBy>,
    /// The request id that the answer carries.
    pub request_id: &'a str,
    /// The command that asked, when it is not the hold's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<CommandId>,
    /// The caller's run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<&'a str>,
    /// The caller's trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<&'a str>,
    /// The exchange rate in `cost`: US dollars for one smallest unit of `currency`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_unit: Option<String>,
    /// Vendor.
    pub vendor: &'a str,
    /// The key's workspace.
    pub workspace: &'a str,
}

/// A stored answer was given again.
#[derive(Debug, Clone, Serialize)]
pub struct Replayed<'a> {
    /// When.
    pub at: i64,
    /// `replayed`.
    pub event: &'static str,
    /// Whose answer.
    pub hold: HoldId,
    /// Which key asked.
    pub key_id: &'a str,
    /// The request id that the answer carries.
    pub request_id: &'a str,
    /// The command that asked.
    pub reserve: CommandId,
    /// The caller's run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<&'a str>,
    /// What was given: `answer`, `retrieved` or `summary`.
    pub with: &'static str,
}

/// A hold that was decided by a later request on its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Its cost now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Micros>,
    /// Which.
    pub hold: HoldId,
    /// Its money's state now.
    pub hold_state: HoldState,
}

/// An attempt ended: by an outcome, a release or a sweep.
#[derive(Debug, Clone, Serialize)]
pub struct Ended<'a> {
    /// In the currency's smallest unit, as the vendor said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<u64>,
    /// SHA-256 of the answer's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_sha256: Option<Digest>,
    /// When.
    pub at: i64,
    /// Which attempt.
    pub attempt: u32,
    /// Balances that changed, after it.
    #[serde(skip_serializing_if = "<[BalanceAfter]>::is_empty")]
    pub balances: &'a [BalanceAfter],
    /// Why it was released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<ReleaseCause>,
    /// The charge behind the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charge_id: Option<&'a str>,
    /// In micro-dollars, after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Micros>,
    /// Of the amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// `outcome`, `released`, `swept` or `resolved`.
    pub event: &'static str,
    /// What it rests on.
    pub evidence: &'a Evidence,
    /// Whose attempt.
    pub hold: HoldId,
    /// The money's state after it.
    pub hold_state: HoldState,
    /// Other holds of the same object that it decided.
    #[serde(skip_serializing_if = "<[Judged]>::is_empty")]
    pub judged: &'a [Judged],
    /// From forward to the vendor's last byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u32>,
    /// Whether executed money moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<ExecutedMoney>,
    /// `executed`, `declined_final`, `not_executed`, `indeterminate`, `abandoned`.
    pub outcome: &'static str,
    /// The record's state after it.
    pub record_state: RecordState,
    /// `yes` when the vendor marked its answer as a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed_by_vendor: Option<&'static str>,
    /// The reserve that a release named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<CommandId>,
    /// The vendor's HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What was made or changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_object_id: Option<&'a str>,
    /// The vendor's id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_request_id: Option<&'a str>,
}

/// A release came for a reserve that was not seen.
#[derive(Debug, Clone, Serialize)]
pub struct Tombstone {
    /// When.
    pub at: i64,
    /// Why.
    pub cause: ReleaseCause,
    /// `cancelled`.
    pub event: &'static str,
    /// Which reserve.
    pub reserve: CommandId,
}

/// An outcome came for a hold that is not on record.
#[derive(Debug, Clone, Serialize)]
pub struct Orphan<'a> {
    /// When.
    pub at: i64,
    /// Which attempt it named.
    pub attempt: u32,
    /// `orphan`.
    pub event: &'static str,
    /// Which hold it named.
    pub hold: HoldId,
    /// See [`Ended`].
    pub outcome: &'static str,
    /// The vendor's HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What was made or changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_object_id: Option<&'a str>,
    /// The vendor's id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_request_id: Option<&'a str>,
}

/// Something an operator must hear of.
#[derive(Debug, Clone, Serialize)]
pub struct Alarm {
    /// Which.
    pub alarm: &'static str,
    /// When.
    pub at: i64,
    /// The command that raised it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandId>,
    /// `alarm`.
    pub event: &'static str,
    /// The hold it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldId>,
}

/// A budget's brake tripped.
#[derive(Debug, Clone, Serialize)]
pub struct Tripped<'a> {
    /// When.
    pub at: i64,
    /// Which.
    pub budget: &'a str,
    /// `budget_tripped`.
    pub event: &'static str,
    /// The refused request that was one too many.
    pub hold: HoldId,
    /// So many were too many.
    pub refusals: u32,
    /// In so short a time.
    pub within_seconds: u32,
}

/// Refusals without a valid key, counted.
#[derive(Debug, Clone, Serialize)]
pub struct Counted<'a> {
    /// When.
    pub at: i64,
    /// How many.
    pub count: u64,
    /// `counted`.
    pub event: &'static str,
    /// Which vendor entry of the plugin configuration they came in by, or the vendor they named.
    pub listener: &'a str,
    /// What they were refused for.
    pub reason: CountedReason,
}

/// Heads are signed by another key from here on.
#[derive(Debug, Clone, Serialize)]
pub struct SigningKeyChanged {
    /// When.
    pub at: i64,
    /// `signing_key`.
    pub event: &'static str,
    /// The key that signs from now on.
    pub public_key: PublicKey,
}

/// Writes an event in canonical form into this buffer, which is emptied first.
///
/// # Errors
/// Never for the events of this module; `serde_json`'s for a value that is not JSON.
pub fn canonical(event: &impl Serialize, into: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    into.clear();
    serde_json::to_writer(into, event)
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
