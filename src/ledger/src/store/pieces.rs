//! What the audit rests on, piece by piece, as of one moment.

use keybrake_contract::ids::CommandId;
use keybrake_contract::lifecycle::State;
use keybrake_contract::money::{Micros, Minor};

use super::{EventRow, FullBudget, FullKey, Kind};
use crate::book::{Parts, Rate};
use crate::model::EntryOutcome;

/// One piece. They come in this order: events, each followed by the heads that were signed at it; keys; budgets, each after its parent; requests; balances.
#[derive(Debug)]
pub enum Piece {
    /// An event, in order.
    Event(EventRow),
    /// Signed heads, as they were kept.
    Signed(String),
    /// A key.
    Key(Box<FullKey>),
    /// A budget.
    Budget(Box<FullBudget>),
    /// A request, in the order of their numbers.
    Request(Box<RequestPiece>),
    /// A balance.
    Balance(BalancePiece),
}

/// A request as far as its events tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPiece {
    /// The hold's id, or the refused command's.
    pub id: CommandId,
    /// When it was decided.
    pub at: i64,
    /// Number of the event that it was decided in.
    pub event: u64,
    /// Of which key.
    pub subject: i64,
    /// Its handle.
    pub key_id: String,
    /// Number of the budget that the key drew from.
    pub budget: Option<i64>,
    /// Its label at that time.
    pub label: String,
    /// The caller's run.
    pub run_id: Option<String>,
    /// Operation name.
    pub operation: String,
    /// As the vendor sees it.
    pub idempotency_key: Option<String>,
    /// As the caller sent it.
    pub client_key: Option<String>,
    /// Why it was refused.
    pub reason: Option<String>,
    /// See [`Kind`].
    pub kind: Kind,
    /// Of record and hold.
    pub state: State,
    /// What the audit calls it.
    pub outcome: Option<EntryOutcome>,
    /// In dollars, as far as known.
    pub cost: Option<Micros>,
    /// As far as known.
    pub amount: Option<Minor>,
    /// Number of the latest attempt.
    pub attempts: u32,
    /// How often its answer was given again.
    pub replays: u64,
    /// The vendor's HTTP status.
    pub status: Option<u16>,
    /// What was made or changed.
    pub object: Option<String>,
    /// The charge behind it.
    pub charge: Option<String>,
    /// The vendor's id of the request.
    pub vendor_request_id: Option<String>,
    /// Number of the event in which evidence decided it.
    pub resolution: Option<u64>,
    /// The exchange rate in its cost.
    pub rate: Option<Rate>,
}

/// A balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancePiece {
    /// Number of the subject.
    pub subject: i64,
    /// The window's number.
    pub window: i64,
    /// Its parts.
    pub parts: Parts,
}
