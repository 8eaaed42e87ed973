//! The messages between filter and ledger.
//!
//! `POST /internal/v1/commands` takes a [`Batch`] and answers 200 with [`Results`], one result per command in the same
//! order, as long as the batch itself could be read. Unknown fields are errors on both sides; golden files pin every
//! message (`golden/`).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::grant::Grant;
use crate::ids::{CommandId, HoldId};
use crate::money::{Currency, Minor};
use crate::refusal::{Refusal, RefusalCode};

/// What the filter sends in one call-out. The ledger executes it in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// At most [`crate::BATCH_MAX_COMMANDS`].
    pub commands: Vec<Command>,
}

/// One command. In JSON an object with one member, named after the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// May this request be made? Takes its cost from every cap, or from none.
    Reserve(Box<Reserve>),
    /// What came of an attempt.
    Outcome(Box<Outcome>),
    /// The attempt was not begun and never will be.
    Release(Release),
    /// The filter refused a request of a key; the ledger puts it on record.
    Refused(Box<Refused>),
    /// So many requests without a valid key were turned away.
    RefusalCount(RefusalCount),
}

impl Command {
    /// The id the command carries.
    #[must_use]
    pub fn id(&self) -> CommandId {
        match self {
            Self::Reserve(reserve) => reserve.id,
            Self::Outcome(outcome) => outcome.id,
            Self::Release(release) => release.id,
            Self::Refused(refused) => refused.id,
            Self::RefusalCount(count) => count.id,
        }
    }

    /// The command as it crosses the wire.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // It holds texts, numbers and maps with text keys: nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What is known of a request, for the record and the audit. Never a credential, never a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestFacts {
    /// Vendor pack name.
    pub vendor: String,
    /// Which of our credentials at that vendor would be used. Idempotency keys are unique within it.
    pub credential: String,
    /// Operation name, `charges.create`; empty when the endpoint is not in the pack.
    pub operation: String,
    /// Method, upper case.
    pub method: String,
    /// Vendor-relative canonical path, without query.
    pub path: String,
    /// Connected account named in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_account: Option<String>,
    /// Ours: also in the answer's `keybrake-request-id`.
    pub request_id: String,
    /// The caller's `x-agent-run-id`, at most 256 printable ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The caller's W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The request fields that the pack lets the audit keep.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
}

/// Asks for admission. Its id becomes the hold's id when it is admitted as a new hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// New for every time of asking; the same only when the very same batch is sent again.
    pub id: CommandId,
    /// SHA-256 of the vault key.
    pub key_digest: Digest,
    /// The grant the request was checked against. `None`: none known yet; the answer is the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_version: Option<u64>,
    /// For record and audit. Shared: who asks again says the same.
    pub request: Arc<RequestFacts>,
    /// How it would be forwarded.
    pub forward: Forward,
    /// What the request says that it costs. The ledger prices it.
    pub cost: Cost,
    /// `None` for reads, and for writes whose grant leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Idempotency>,
    /// What makes this purchase, one digest for each list in the grant's `duplicate_fields`. Empty when the grant has none, and for
    /// what costs nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub purchases: Vec<Digest>,
    /// How long the forward may take: after this and a grace the ledger calls the outcome unknown.
    pub forward_timeout_ms: u32,
}

/// The two ways a request goes to the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forward {
    /// Through the router, streaming.
    Read,
    /// By the root context, whatever becomes of the client.
    Detached,
}

/// What a request says that it costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// Moves no money.
    Nothing,
    /// Says amount and currency itself.
    Amount(Minor),
    /// Acts on a vendor object that the ledger may know (a refund of a charge).
    OfObject(OfObject),
    /// Moves money, and the request does not say how much. Needs a worst case in the grant, or an uncapped key.
    Unknown,
    /// The same, and what the request shows is no worst case: it costs this much at least.
    AtLeast(Minor),
}

/// A cost that depends on a vendor object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfObject {
    /// The vendor's id of it.
    pub object: String,
    /// Said in the request; `None`: the whole amount of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<u64>,
    /// Used when the ledger does not know the object: the single currency the grant allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Where its money comes from.
    #[serde(default, skip_serializing_if = "Draws::is_on_hold")]
    pub draws: Draws,
}

/// Where the money of a request comes from that acts on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Draws {
    /// From what is held for the object, as long as it is open: a capture.
    #[default]
    OnHold,
    /// It is money of its own, whatever is held: a refund.
    Anew,
}

impl Draws {
    const fn is_on_hold(&self) -> bool {
        matches!(self, Self::OnHold)
    }
}

/// The idempotency of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// The key as the vendor sees it. 1 to 255 printable ASCII characters.
    pub key: String,
    /// Digest of what must be equal for it to be the same request.
    pub fingerprint: Digest,
    /// For derived keys: digest of the whole request, which must be equal to forward an unknown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_fingerprint: Option<Digest>,
    /// For derived keys: what the caller sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<String>,
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Of this command.
    pub id: CommandId,
    /// The hold the attempt belongs to.
    pub hold: HoldId,
    /// Its number, as admitted.
    pub attempt: u32,
    /// The judgement by the pack's table.
    pub outcome: AttemptOutcome,
    /// The vendor's HTTP status; `None` when there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The vendor's id of this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_request_id: Option<String>,
    /// The vendor's id of what was made or changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_object_id: Option<String>,
    /// The charge behind the object: itself, or the latest one of an intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge_id: Option<String>,
    /// The vendor marked its answer as a replay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed_by_vendor: bool,
    /// To be given again to a repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<StoredAnswer>,
    /// From forward to the vendor's last byte.
    pub latency_ms: u32,
}

/// The judgement about an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The vendor did it.
    Executed(Executed),
    /// The vendor refused for good and keeps that answer under the idempotency key.
    DeclinedFinal,
    /// For certain nothing was done.
    NotExecuted,
    /// Cannot be told.
    Indeterminate,
    /// A read whose client went away.
    Abandoned,
}

/// What an executed attempt did with the money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Executed {
    /// Whether the money has moved.
    pub money: ExecutedMoney,
    /// What the vendor says it took. `None`: what was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Minor>,
    /// Whether `amount` is all that the vendor has ever taken for the object, with what earlier requests have settled on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_total: bool,
}

/// Whether an executed attempt moved the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutedMoney {
    /// It has moved.
    Moved,
    /// It is authorised, or waits for an action: it may still move.
    Open,
    /// It will never move.
    Cancelled,
}

/// A vendor's answer, kept to be given again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// `content-type` of the answer.
    pub content_type: String,
    /// Body, UTF-8. (An answer whose body is not is never `executed`.)
    pub body: String,
    /// The vendor's id of the request that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_request_id: Option<String>,
}

/// The attempt that this reserve was admitted for, or would be, was not begun and never will be.
///
/// It names the reserve, not the hold: the filter may never have seen the answer. For a reserve that the ledger has
/// not seen, the release leaves a tombstone that cancels it should it come late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Of this command.
    pub id: CommandId,
    /// The reserve's command id.
    pub reserve: CommandId,
    /// Why.
    pub cause: ReleaseCause,
}

/// Why an attempt was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseCause {
    /// The reserve's answer did not come in time.
    NoAnswer,
    /// The answer came, but too late to be acted on.
    AnswerTooOld,
    /// The client went away before the forward began.
    ClientGone,
    /// Envoy did not take the forward.
    NotForwarded,
}

/// A request of a key that the filter refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Of this command.
    pub id: CommandId,
    /// SHA-256 of the vault key.
    pub key_digest: Digest,
    /// The grant the refusal rests on; `None` when it rests on none (an unreadable body, say).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_version: Option<u64>,
    /// Why.
    pub code: RefusalCode,
    /// The request field that was to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// For the audit.
    pub request: Arc<RequestFacts>,
    /// Amount and currency, when they could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Minor>,
    /// As the caller sent it, when it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// Refusals of requests without a valid key are only counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusalCount {
    /// Of this command.
    pub id: CommandId,
    /// What they were refused for.
    pub reason: CountedReason,
    /// Which vendor entry of the plugin configuration they came in by; empty when none.
    pub listener: String,
    /// How many since the last count. At least 1.
    pub count: u64,
}

/// What requests without a valid key are refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountedReason {
    /// No key, or not of a key's form.
    VaultKeyInvalid,
    /// What looks like a real vendor secret was presented. Alarmed.
    RealCredential,
    /// No configured vendor has this host or path.
    HostNotAllowed,
    /// Could not be read well enough to find a key.
    NotInspectable,
    /// The filter had no free slot, or the ledger did not answer.
    GovernanceUnavailable,
}

/// The ledger's answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// One per command, in the batch's order.
    pub results: Vec<CommandAnswer>,
}

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandAnswer {
    /// The command's id; `None` when not even that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// What was decided.
    pub result: CommandResult,
}

/// What the ledger decided about a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandResult {
    /// Reserve: yes.
    Admitted(Admitted),
    /// Reserve, refused: check against this grant, then ask again with a new command.
    Grant(Box<Grant>),
    /// Reserve, refused: no. On record.
    Refused(Refusal),
    /// Reserve: it was done before; this is the answer.
    Replay(Box<Replay>),
    /// Reserve: the same request is being forwarded; ask again with a new command.
    InFlight,
    /// Reserve: its release came first.
    Cancelled,
    /// Outcome, refused, refusal count: on disk.
    Recorded,
    /// Release: nothing is held by that reserve.
    Released,
    /// The command could not be read. Nothing was done.
    InvalidCommand(String),
    /// The id was used for another command. Nothing was done.
    CommandIdConflict,
}

/// A yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admitted {
    /// The hold the attempt belongs to: the reserve's own id, or an older one for a repeat of an unknown.
    pub hold: HoldId,
    /// Its number, from 1.
    pub attempt: u32,
    /// Not forwarded so many milliseconds after the reserve was sent, it must be released instead.
    pub forward_within_ms: u32,
}

/// A stored answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The hold that was settled by it.
    pub hold: HoldId,
    /// What to answer.
    pub answer: StoredAnswer,
    /// The body is a summary, because the stored answer has been retired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub summary: bool,
    /// The answer itself was lost: the body is the vendor's object as it was retrieved when evidence decided the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retrieved: bool,
}

#[cfg(test)]
#[path = "wire_golden_tests.rs"]
mod tests;
