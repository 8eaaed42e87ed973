//! What readers need: never the writer's connection, never a lock that the writer waits for.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;

use crate::engine::UnknownFigures;
use crate::model::{
    AuditQuery, Budget, BudgetFilter, Entry, Key, KeyFilter, Page, Tally, UnknownQuery,
    UnknownRequest,
};

use super::{ChainHead, FullBudget, FullKey, Piece, Spender, StoreError};
use crate::book::Parts;

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its number.
    pub seq: u64,
    /// The hash that is stored with it.
    pub hash: Digest,
    /// The canonical event.
    pub body: Vec<u8>,
}

/// Why a list was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The cursor did not come from this list.
    #[error("not a cursor of this list")]
    InvalidCursor,
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is asked of one window of a spender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The balances to add up, by their windows: from the first up to but without the second.
    pub windows: (i64, i64),
    /// The requests to count, by their time: from the first up to but without the second.
    pub times: (i64, i64),
}

/// What readers need.
pub trait Reads: Send {
    /// A key by its public handle.
    fn key(&mut self, key_id: &str) -> Result<Option<FullKey>, StoreError>;
    /// Balances of a subject in these ranges of windows (from, and up to but without), in their order, each range added up;
    /// `None`: there is none yet.
    fn balances(
        &mut self,
        subject: i64,
        windows: &[(i64, i64)],
    ) -> Result<Vec<Option<Parts>>, StoreError>;
    /// What these periods of a spender come to, all as of one moment: the balances together (`None`: there is none), and
    /// what the requests say.
    fn periods(
        &mut self,
        spender: Spender,
        periods: &[Period],
    ) -> Result<Vec<(Option<Parts>, Tally)>, StoreError>;
    /// A budget by its name.
    fn budget(&mut self, name: &str) -> Result<Option<FullBudget>, StoreError>;
    /// A page of budgets, newest first.
    fn budgets(&mut self, filter: &BudgetFilter) -> Result<Page<Budget>, ListError>;
    /// A page of keys, newest first. `now`: in milliseconds since 1970, for the status.
    fn keys(&mut self, filter: &KeyFilter, now: i64) -> Result<Page<Key>, ListError>;
    /// A page of audit entries.
    fn entries(&mut self, query: &AuditQuery) -> Result<Page<Entry>, ListError>;
    /// Holds whose outcome nobody knows.
    fn unknown(&mut self, now: i64) -> Result<UnknownFigures, StoreError>;
    /// Those of one key.
    fn unknown_of(&mut self, key_id: &str, now: i64) -> Result<UnknownFigures, StoreError>;
    /// A page of them, oldest first.
    fn unknown_requests(
        &mut self,
        query: &UnknownQuery,
        now: i64,
    ) -> Result<Page<UnknownRequest>, ListError>;
    /// One entry.
    fn entry(&mut self, id: CommandId) -> Result<Option<Entry>, StoreError>;
    /// The chain's head.
    fn chain_head(&mut self) -> Result<ChainHead, StoreError>;
    /// The chain's head and all its events in order, as of one moment; stops when `visit` says so.
    fn chain(
        &mut self,
        visit: &mut dyn FnMut(EventRow) -> std::ops::ControlFlow<()>,
    ) -> Result<ChainHead, StoreError>;
    /// The chain's head and every piece that the audit rests on, as of one moment; stops when `visit` says so.
    fn pieces(
        &mut self,
        visit: &mut dyn FnMut(Piece) -> std::ops::ControlFlow<()>,
    ) -> Result<ChainHead, StoreError>;
    /// The signed heads that were kept last.
    fn last_signed_heads(&mut self) -> Result<Option<String>, StoreError>;
}
