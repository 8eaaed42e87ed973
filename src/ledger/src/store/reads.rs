//! What readers need: never the writer's connection, never a lock that the writer waits for.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;

use crate::engine::UnknownFigures;
use crate::model::{AuditQuery, Entry, Key, KeyFilter, Page, UnknownQuery, UnknownRequest};

use super::{ChainHead, FullKey, Piece, StoreError};
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

/// What readers need.
pub trait Reads: Send {
    /// A key by its public handle.
    fn key(&mut self, key_id: &str) -> Result<Option<FullKey>, StoreError>;
    /// Balances of a key in these windows, in their order; `None`: there is none yet.
    fn balances(&mut self, key: i64, windows: &[i64]) -> Result<Vec<Option<Parts>>, StoreError>;
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
