//! Where the ledger keeps what it knows: one trait for the writer, one for readers, a conformance suite for both.
//!
//! Here: the traits and the typed rows that cross them. Not here: any rule about money or states; SQL (in the backends below).

mod codes;
#[cfg(test)]
pub(crate) mod conformance;
mod counters;
mod database;
mod error;
mod event_facts;
pub mod migrate;
mod paging;
mod pieces;
pub mod postgres;
mod reads;
mod rows;
pub mod sqlite;
mod sums;
mod tables;
mod transaction;

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::money::Micros;
use keybrake_contract::wire::StoredAnswer;

use crate::book::{Movement, Parts};
use crate::model::{Budget, Key};

pub use database::{Database, InvalidUrl, WithStore};
pub use error::{Fault, StoreError};
pub use pieces::{BalancePiece, Piece, RequestPiece};
pub use reads::{EventRow, ListError, Period, Reads};
pub use rows::{
    Admission, AttemptRow, AttemptState, BudgetNumber, ChainHead, Due, FullBudget, FullKey,
    HoldChange, HoldRow, KeyNumber, Kind, KnownAnswer, KnownCommand, Link, NewRequest, ObjectRow,
    PlaceNumber, Purchase, RecordKey, RequestNumber, Said, Seen, Spender, Taken, outcome_of,
};
pub use transaction::{Ahead, Begun, Others, Settled, Wanted};

/// What the one writer needs. Every method between `begin` and `commit` is part of one transaction; a `commit` that
/// returned is on disk. Transactions of several writers on one database are as if they were made one after the other.
pub trait Store: Send {
    /// Whether an error may be transient: then the writer keeps what it needs to do the same transaction again.
    const MAY_RETRY: bool;

    /// Begins a transaction.
    fn begin(&mut self, ahead: &Ahead<'_>) -> Result<Begun, StoreError>;
    /// Makes everything since `begin` durable.
    fn commit(&mut self) -> Result<(), StoreError>;
    /// Takes back everything since `begin`. Does nothing outside a transaction.
    fn rollback(&mut self);
    /// After a `commit` that failed with [`Fault::InDoubt`]: whether it was done. When this returns, the answer is final, and
    /// what it rests on is as durable as a commit.
    fn settle(&mut self) -> Result<Settled, StoreError>;

    /// The chain and its last event.
    fn chain_head(&mut self) -> Result<ChainHead, StoreError>;
    /// Appends an event; `head` is the chain's head after it.
    fn add_event(&mut self, head: &ChainHead, body: &[u8]) -> Result<(), StoreError>;
    /// Keeps the head itself, once before each commit.
    fn set_chain_head(&mut self, head: &ChainHead) -> Result<(), StoreError>;
    /// Keeps signed heads, the newest of which stands at event `seq` of this store's chain.
    fn add_signed_heads(&mut self, seq: u64, line: &str) -> Result<(), StoreError>;
    /// The signed heads that were kept last.
    fn last_signed_heads(&mut self) -> Result<Option<String>, StoreError>;
    /// The hash that is stored with an event.
    fn event_hash(&mut self, seq: u64) -> Result<Option<Digest>, StoreError>;
    /// The body of an event.
    fn event(&mut self, seq: u64) -> Result<Option<Vec<u8>>, StoreError>;

    /// Whether an id may have been used, without looking it up: ids of one filter instance rise.
    fn seen(&mut self, id: CommandId) -> Result<Seen, StoreError>;
    /// A command that was answered before and did not become a request of its own.
    fn command(&mut self, id: CommandId) -> Result<Option<KnownCommand>, StoreError>;
    /// Remembers a command's answer.
    fn add_command(
        &mut self,
        id: CommandId,
        digest: &Digest,
        at: i64,
        answer: &[u8],
    ) -> Result<(), StoreError>;
    /// Forgets commands older than `before`: looks at the next `walk` of them, in a round over all that are on record.
    fn prune_commands(&mut self, walk: u32, before: i64) -> Result<(), StoreError>;

    /// The number of a vendor, credential and account, given now if there was none.
    fn place(
        &mut self,
        vendor: &str,
        credential: &str,
        account: Option<&str>,
    ) -> Result<PlaceNumber, StoreError>;

    /// The number that the next request gets.
    fn next_request(&mut self) -> Result<RequestNumber, StoreError>;
    /// Puts a request on record.
    fn add_request(&mut self, request: &NewRequest<'_>) -> Result<(), StoreError>;
    /// Makes this the latest request of its key, and counts it as admitted unless `most` are admitted already.
    fn link(
        &mut self,
        key: KeyNumber,
        request: RequestNumber,
        admission: Admission,
    ) -> Result<Link, StoreError>;
    /// A request by its id.
    fn hold_by_id(&mut self, id: CommandId) -> Result<Option<HoldRow>, StoreError>;
    /// A request by its number.
    fn hold(&mut self, number: RequestNumber) -> Result<Option<HoldRow>, StoreError>;
    /// Changes a hold.
    fn change_hold(
        &mut self,
        number: RequestNumber,
        change: &HoldChange<'_>,
    ) -> Result<(), StoreError>;
    /// Names the request that the record falls back to when this one is released.
    fn set_shadow(
        &mut self,
        number: RequestNumber,
        shadow: RequestNumber,
    ) -> Result<(), StoreError>;
    /// Notes the event in which evidence decided a request, and the vendor's object and charge that it named, if it did.
    fn set_resolution(
        &mut self,
        number: RequestNumber,
        event: u64,
        object: Option<&str>,
        charge: Option<&str>,
    ) -> Result<(), StoreError>;
    /// Adds an alarm's name to a request.
    fn add_alarm(&mut self, number: RequestNumber, alarm: &str) -> Result<(), StoreError>;

    /// The later attempts of a hold (the first one is in its row), in order.
    fn later_attempts(&mut self, number: RequestNumber) -> Result<Vec<AttemptRow>, StoreError>;
    /// Hold and attempt that a reserve was admitted for as a later attempt.
    fn attempt_by_reserve(
        &mut self,
        reserve: CommandId,
    ) -> Result<Option<(RequestNumber, u32)>, StoreError>;
    /// Begins a later attempt.
    fn add_attempt(
        &mut self,
        number: RequestNumber,
        attempt: u32,
        reserve: CommandId,
        deadline: i64,
    ) -> Result<(), StoreError>;
    /// Ends a later attempt, or judges it anew.
    fn end_attempt(
        &mut self,
        number: RequestNumber,
        attempt: u32,
        state: AttemptState,
    ) -> Result<(), StoreError>;
    /// Open attempts whose outcome is overdue, oldest first.
    fn due(&mut self, now: i64, most: u32) -> Result<Vec<Due>, StoreError>;
    /// How many attempts are open.
    fn open_attempts(&mut self) -> Result<u64, StoreError>;

    /// The request that a record stands for just now.
    fn record(&mut self, key: &RecordKey) -> Result<Option<RequestNumber>, StoreError>;
    /// Makes a record stand for this request.
    fn set_record(&mut self, key: &RecordKey, number: RequestNumber) -> Result<(), StoreError>;
    /// Lets a request be found by an idempotency key that it is not on record for.
    fn add_mention(&mut self, mention: i64, number: RequestNumber) -> Result<(), StoreError>;

    /// The newest write on this vendor object whose amount is known. `payments`: the operations whose amount is that of the
    /// charge that they name, which others (a refund) only mention.
    fn object(
        &mut self,
        place: PlaceNumber,
        object: &str,
        payments: &[String],
    ) -> Result<Option<ObjectRow>, StoreError>;
    /// The open holds of this vendor object, oldest first.
    fn open_holds(&mut self, place: PlaceNumber, object: &str) -> Result<Vec<HoldRow>, StoreError>;
    /// What the writes that are settled on this vendor object cost together. More than 256 that cost something need not be
    /// counted, so that a vendor that gives everything one id makes nothing slow.
    fn settled_on(&mut self, place: PlaceNumber, object: &str) -> Result<Micros, StoreError>;

    /// Keeps an answer.
    fn add_answer(
        &mut self,
        number: RequestNumber,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError>;
    /// The kept answer, whole or as a summary.
    fn answer(&mut self, number: RequestNumber) -> Result<Option<KnownAnswer>, StoreError>;
    /// Counts one replay.
    fn count_replay(&mut self, number: RequestNumber) -> Result<(), StoreError>;
    /// Whole answers of the oldest requests before `before`, at most so many, that were not retired yet.
    fn answers_to_retire(
        &mut self,
        before: i64,
        most: u32,
    ) -> Result<Vec<(RequestNumber, StoredAnswer)>, StoreError>;
    /// Puts a summary in the place of an answer.
    fn retire_answer(
        &mut self,
        number: RequestNumber,
        summary: &StoredAnswer,
    ) -> Result<(), StoreError>;

    /// Takes an amount from free to held if free is enough: one conditional write.
    fn take(&mut self, key: KeyNumber, window: i64, amount: Micros) -> Result<Taken, StoreError>;
    /// Moves money between the parts of a balance; `None`: there is no such balance.
    fn move_parts(
        &mut self,
        key: KeyNumber,
        window: i64,
        movement: Movement,
    ) -> Result<Option<Parts>, StoreError>;
    /// A balance.
    fn balance(&mut self, key: KeyNumber, window: i64) -> Result<Option<Parts>, StoreError>;
    /// Sets a balance.
    fn put_balance(&mut self, key: KeyNumber, window: i64, parts: Parts) -> Result<(), StoreError>;
    /// Forgets a balance.
    fn remove_balance(&mut self, key: KeyNumber, window: i64) -> Result<(), StoreError>;
    /// Forgets the balances of a subject with a window from `from` up to but without `before`, and answers what they held,
    /// settled and left unknown together (as a balance of a cap of nothing). What is forgotten is answered once.
    fn remove_balances(
        &mut self,
        subject: KeyNumber,
        from: i64,
        before: i64,
    ) -> Result<Parts, StoreError>;
    /// What the requests of a spender since an instant hold, settled and left unknown, as a balance of this cap.
    fn spent_since(
        &mut self,
        spender: Spender,
        since: i64,
        cap: Micros,
    ) -> Result<Parts, StoreError>;
    /// The same by steps of so many milliseconds since 1970, each with its number, as balances of a cap of nothing. Steps
    /// without requests are left out.
    fn spent_in_steps(
        &mut self,
        spender: Spender,
        since: i64,
        step_ms: i64,
    ) -> Result<Vec<(i64, Parts)>, StoreError>;

    /// A key by the digest of its secret.
    fn key_by_digest(&mut self, digest: &Digest) -> Result<Option<FullKey>, StoreError>;
    /// A key by its public handle.
    fn key_by_id(&mut self, key_id: &str) -> Result<Option<FullKey>, StoreError>;
    /// The workspace of a key.
    fn workspace(&mut self, key: KeyNumber) -> Result<Option<String>, StoreError>;
    /// Keys that are not revoked and whose label begins with this.
    fn unrevoked_by_label_prefix(&mut self, prefix: &str) -> Result<Vec<FullKey>, StoreError>;
    /// Keys that are not revoked and draw from this budget or one below it.
    fn unrevoked_by_budget(&mut self, budget: BudgetNumber) -> Result<Vec<FullKey>, StoreError>;
    /// Puts a new key on record; `budget` is the number of the one it names.
    fn add_key(&mut self, key: &Key, budget: Option<BudgetNumber>)
    -> Result<KeyNumber, StoreError>;
    /// Puts a changed key on record.
    fn change_key(&mut self, key: &FullKey) -> Result<(), StoreError>;
    /// How many keys there are.
    fn count_keys(&mut self) -> Result<u64, StoreError>;

    /// A budget by its number. (The engine remembers it until it changes a budget itself: a store that others write to as
    /// well must tell it.)
    fn budget(&mut self, number: BudgetNumber) -> Result<Option<FullBudget>, StoreError>;
    /// A budget by its name.
    fn budget_by_name(&mut self, name: &str) -> Result<Option<FullBudget>, StoreError>;
    /// Puts a new budget on record: a subject of its own, numbered among the keys. `parent` is the number of the one it
    /// names.
    fn add_budget(
        &mut self,
        budget: &Budget,
        parent: Option<BudgetNumber>,
    ) -> Result<BudgetNumber, StoreError>;
    /// Puts a changed budget on record. Name, parent and time zone never change.
    fn change_budget(&mut self, number: BudgetNumber, budget: &Budget) -> Result<(), StoreError>;
    /// Notes a refusal under a budget with a brake, forgets those at or before `since`, and answers how many are left.
    fn note_refusal(
        &mut self,
        budget: BudgetNumber,
        request: RequestNumber,
        at: i64,
        since: i64,
    ) -> Result<u64, StoreError>;
    /// Forgets the refusals that were noted under a budget.
    fn forget_refusals(&mut self, budget: BudgetNumber) -> Result<(), StoreError>;

    /// The latest purchase of a subject with this digest, if it is still on record.
    fn purchase(
        &mut self,
        subject: KeyNumber,
        digest: &Digest,
    ) -> Result<Option<Purchase>, StoreError>;
    /// Makes this request the latest purchase of a subject with this digest, to be kept until `until`.
    fn set_purchase(
        &mut self,
        subject: KeyNumber,
        digest: &Digest,
        purchase: Purchase,
        until: i64,
    ) -> Result<(), StoreError>;
    /// Forgets purchases that are not to be kept any longer, at most so many; answers how many.
    fn prune_purchases(&mut self, now: i64, most: u32) -> Result<u32, StoreError>;
}
