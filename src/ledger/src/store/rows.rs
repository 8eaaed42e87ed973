//! The typed rows that cross the store traits.

use std::sync::Arc;

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::lifecycle::{HoldState, RecordState, State};
use keybrake_contract::money::{Micros, Minor};
use keybrake_contract::wire::StoredAnswer;

use crate::book::{Parts, Rate};
use crate::model::{Budget, EntryOutcome, EntryVerdict, Key};

/// Numbers requests in the order in which they were decided.
pub type RequestNumber = i64;
/// Numbers subjects: what balances belong to. A key is one.
pub type KeyNumber = i64;
/// A budget is a subject too: its number among those of the keys.
pub type BudgetNumber = KeyNumber;
/// Numbers places: a vendor, our credential there, an account.
pub type PlaceNumber = i64;

/// What a request is to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Admitted, goes through the router, moves nothing.
    Read,
    /// Admitted, executed detached.
    Write,
    /// Refused by the ledger.
    Refused,
    /// Refused by the filter, put on record here.
    RefusedByFilter,
}

impl Kind {
    /// Whether the audit calls it admitted.
    #[must_use]
    pub const fn verdict(self) -> EntryVerdict {
        match self {
            Self::Read | Self::Write => EntryVerdict::Admitted,
            Self::Refused | Self::RefusedByFilter => EntryVerdict::Refused,
        }
    }
}

/// What is known of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptState {
    /// Being made.
    Open,
    /// The vendor did it.
    Executed,
    /// The vendor refused for good.
    Declined,
    /// For certain nothing was done.
    NotExecuted,
    /// It was never begun.
    NotForwarded,
    /// It was forwarded and nobody knows.
    Indeterminate,
    /// Nothing was heard of it in time.
    Overdue,
}

/// Finds a record: the first 8 bytes of SHA-256 of the idempotency key, then 16 bytes of SHA-256 over vendor, credential,
/// account and key. All records of one idempotency key stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordKey([u8; 24]);

impl RecordKey {
    /// The key of the record of this idempotency key at this place.
    #[must_use]
    pub fn new(
        vendor: &str,
        credential: &str,
        account: Option<&str>,
        idempotency_key: &str,
    ) -> Self {
        let whole = Digest::of_parts([
            vendor.as_bytes(),
            credential.as_bytes(),
            account.unwrap_or_default().as_bytes(),
            idempotency_key.as_bytes(),
        ]);
        let mut bytes = [0_u8; 24];
        let (head, tail) = bytes.split_at_mut(8);
        head.copy_from_slice(&Self::mention(idempotency_key).to_be_bytes());
        for (to, from) in tail.iter_mut().zip(whole.as_bytes()) {
            *to = *from;
        }
        Self(bytes)
    }

    /// From the 24 bytes themselves.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 24]) -> Self {
        Self(bytes)
    }

    /// The 24 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }

    /// The number under which other requests mention this record's idempotency key.
    #[must_use]
    pub fn mentioned(&self) -> i64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The number under which other requests mention an idempotency key: the first 8 bytes of its SHA-256.
    #[must_use]
    pub fn mention(idempotency_key: &str) -> i64 {
        let digest = Digest::of(idempotency_key.as_bytes());
        let mut bytes = [0_u8; 8];
        for (to, from) in bytes.iter_mut().zip(digest.as_bytes()) {
            *to = *from;
        }
        i64::from_be_bytes(bytes)
    }
}

/// The chain and its last event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    /// Names the chain.
    pub chain: Arc<str>,
    /// Number of the last event; 0 when there is none.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
    /// When it was, in milliseconds since 1970.
    pub at: i64,
}

/// A command that was answered before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCommand {
    /// SHA-256 of the command; all zero for a tombstone.
    pub digest: Digest,
    /// The answer, in the engine's own form.
    pub answer: Vec<u8>,
}

/// Whether a command's id may be on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is not, for certain.
    Never,
    /// It has to be looked up.
    Perhaps,
}

/// A request to be put on record.
#[derive(Debug, Clone)]
pub struct NewRequest<'a> {
    /// See [`RequestNumber`].
    pub number: RequestNumber,
    /// The command's id: the hold's.
    pub id: CommandId,
    /// SHA-256 of the command.
    pub digest: &'a Digest,
    /// When, in milliseconds since 1970. Fixes the windows.
    pub at: i64,
    /// Of which key.
    pub key: KeyNumber,
    /// The budget that the key drew from.
    pub budget: Option<BudgetNumber>,
    /// The key's request before this one.
    pub previous: Option<RequestNumber>,
    /// The key's label at this time.
    pub label: &'a str,
    /// The caller's run.
    pub run_id: Option<&'a str>,
    /// Where.
    pub place: PlaceNumber,
    /// Operation name.
    pub operation: &'a str,
    /// Number of the event that holds the other facts.
    pub event: u64,
    /// See [`Kind`].
    pub kind: Kind,
    /// Why it was refused.
    pub reason: Option<&'a str>,
    /// For writes with an idempotency key.
    pub record_key: Option<&'a RecordKey>,
    /// As the vendor sees it.
    pub idempotency_key: Option<&'a str>,
    /// As the caller sent it, when that is another one.
    pub client_key: Option<&'a str>,
    /// What must be equal for a repeat.
    pub fingerprint: Option<&'a Digest>,
    /// What must be equal to forward a derived key's unknown again.
    pub full_fingerprint: Option<&'a Digest>,
    /// As far as known.
    pub amount: Option<Minor>,
    /// The exchange rate in `cost`, when its currency needs one.
    pub rate: Option<Rate>,
    /// In dollars, as far as known.
    pub cost: Option<Micros>,
    /// Admitted: until when the first attempt's outcome is awaited.
    pub deadline: Option<i64>,
    /// Whether the vendor may have seen the idempotency key from us before.
    pub forwarded_before: bool,
}

/// Whether a request that is linked to its key is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is refused: not counted.
    Refused,
    /// It is admitted if fewer than `most` were.
    Admitted {
        /// The key's `max_requests`.
        most: Option<u64>,
    },
}

/// What linking a request to its key said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Done; the key's request before this one.
    Linked(Option<RequestNumber>),
    /// As many as allowed are admitted already. Nothing was done.
    Full,
}

/// A request as far as later commands need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRow {
    /// See [`RequestNumber`].
    pub number: RequestNumber,
    /// The hold's id.
    pub id: CommandId,
    /// SHA-256 of the command that made it.
    pub digest: Digest,
    /// When it was reserved.
    pub at: i64,
    /// Of which key.
    pub key: KeyNumber,
    /// The budget it draws from, and with it every budget up to the root.
    pub budget: Option<BudgetNumber>,
    /// Where.
    pub place: PlaceNumber,
    /// Number of the event that holds the other facts.
    pub event: u64,
    /// See [`Kind`].
    pub kind: Kind,
    /// Its record, if it has one.
    pub record_key: Option<RecordKey>,
    /// What must be equal for a repeat.
    pub fingerprint: Option<Digest>,
    /// What must be equal to forward a derived key's unknown again.
    pub full_fingerprint: Option<Digest>,
    /// As far as known.
    pub amount: Option<Minor>,
    /// The exchange rate in `cost`, when its currency needs one.
    pub rate: Option<Rate>,
    /// In dollars, as far as known.
    pub cost: Option<Micros>,
    /// Of record and hold; of no meaning for refusals.
    pub state: State,
    /// Number of the latest attempt.
    pub attempts: u32,
    /// State of the first attempt.
    pub first_attempt: AttemptState,
    /// Whether the vendor may have seen the idempotency key from us before.
    pub forwarded_before: bool,
    /// The request that the record falls back to when this one is released.
    pub shadow: Option<RequestNumber>,
    /// The vendor's HTTP status.
    pub status: Option<u16>,
    /// What was made or changed.
    pub object: Option<String>,
    /// Number of the event in which evidence decided it.
    pub resolution: Option<u64>,
}

impl HoldRow {
    /// As it is right after it was put on record.
    #[must_use]
    pub fn admitted(request: &NewRequest<'_>) -> Self {
        Self {
            number: request.number,
            id: request.id,
            digest: *request.digest,
            at: request.at,
            key: request.key,
            budget: request.budget,
            place: request.place,
            event: request.event,
            kind: request.kind,
            record_key: request.record_key.copied(),
            fingerprint: request.fingerprint.copied(),
            full_fingerprint: request.full_fingerprint.copied(),
            amount: request.amount,
            rate: request.rate,
            cost: request.cost,
            state: State::ADMITTED,
            attempts: 1,
            first_attempt: AttemptState::Open,
            forwarded_before: request.forwarded_before,
            shadow: None,
            status: None,
            object: None,
            resolution: None,
        }
    }
}

/// A change of a hold.
#[derive(Debug, Clone)]
pub struct HoldChange<'a> {
    /// Of record and hold.
    pub state: State,
    /// What the audit calls it.
    pub outcome: EntryOutcome,
    /// See [`HoldRow`].
    pub cost: Option<Micros>,
    /// See [`HoldRow`].
    pub amount: Option<Minor>,
    /// Number of the latest attempt.
    pub attempts: u32,
    /// State of the first attempt; anything but open ends its deadline.
    pub first_attempt: AttemptState,
    /// What the vendor said; `None`: leave as it is.
    pub said: Option<Said<'a>>,
}

/// What the vendor's answer says about a request.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// HTTP status.
    pub status: Option<u16>,
    /// What was made or changed.
    pub object: Option<&'a str>,
    /// The charge behind it.
    pub charge: Option<&'a str>,
    /// The vendor's id of the request.
    pub vendor_request_id: Option<&'a str>,
    /// From forward to the vendor's last byte.
    pub latency_ms: u32,
}

/// A later attempt of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptRow {
    /// Its number, from 2.
    pub attempt: u32,
    /// What is known of it.
    pub state: AttemptState,
}

/// An open attempt whose outcome is overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Of which hold.
    pub number: RequestNumber,
    /// Its number.
    pub attempt: u32,
}

/// What is known of a vendor object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectRow {
    /// Its whole amount.
    pub amount: Option<Minor>,
}

/// A kept answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAnswer {
    /// The answer or the summary.
    pub answer: StoredAnswer,
    /// Whether the whole answer was retired.
    pub is_summary: bool,
}

/// What taking from a balance said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Done; the balance after it.
    Taken(Parts),
    /// Not enough is free. Nothing was done.
    TooLittle(Parts),
    /// There is no such balance yet. Nothing was done.
    NoBalance,
}

/// A key with its number.
#[derive(Debug, Clone)]
pub struct FullKey {
    /// See [`KeyNumber`].
    pub number: KeyNumber,
    /// Number of the budget it draws from.
    pub budget: Option<BudgetNumber>,
    /// The key.
    pub key: Key,
}

/// A budget with its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullBudget {
    /// See [`BudgetNumber`].
    pub number: BudgetNumber,
    /// Number of its parent.
    pub parent: Option<BudgetNumber>,
    /// The budget.
    pub budget: Budget,
}

/// Whose requests are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spender {
    /// Those of a key.
    Key(KeyNumber),
    /// Those that drew from a budget, also by one below it.
    Budget(BudgetNumber),
}

/// A request that bought something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purchase {
    /// Which.
    pub request: RequestNumber,
    /// When, in milliseconds since 1970.
    pub at: i64,
}

/// What the audit calls this state.
#[must_use]
pub const fn outcome_of(state: State) -> EntryOutcome {
    match (state.record, state.hold) {
        (RecordState::InFlight, _) => EntryOutcome::InFlight,
        (RecordState::Unknown, _) => EntryOutcome::Unknown,
        (RecordState::Released, _) | (RecordState::Answered, HoldState::Released) => {
            EntryOutcome::Released
        }
        (RecordState::Answered, HoldState::Held) => EntryOutcome::Held,
        (RecordState::Answered, HoldState::Settled) => EntryOutcome::Settled,
        (RecordState::Answered, HoldState::Unknown) => EntryOutcome::Unknown,
    }
}
