//! The ledger's engine: one handle for commands, keys and audit; one writer behind it.
//!
//! Here: the handle, the queue, the writer thread with group commit, how each command is executed. Not here: SQL (`store`),
//! how money moves between the parts of a cap (`book`), how events are chained (`audit`), HTTP.

mod answers;
mod received;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keybrake_contract::wire::CommandAnswer;
use keybrake_policy::pack::Pack;

use crate::clock::Clock;
use crate::model::{
    AuditQuery, Balance, Entry, IssuedKey, Key, KeyChange, KeyFilter, NewKey, Page,
};

pub use answers::{
    Broken, ChangeError, Figures, Histogram, IssueError, OpenError, QueryError, Readiness,
    Unavailable, UnknownFigures, VerifyReport,
};
pub use received::Received;

/// How a ledger is opened.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// The SQLite file. Made if it is missing; its folder must exist.
    pub database: PathBuf,
    /// Most jobs (batches of commands, admin changes) that wait for the writer; more are turned away at once.
    pub queue: usize,
    /// Most commands in one commit.
    pub commit_commands: usize,
    /// An admitted request must be forwarded within so many milliseconds of being sent.
    pub forward_within_ms: u32,
    /// Milliseconds an outcome may be late before its attempt counts as unknown.
    pub sweep_grace_ms: u32,
    /// Milliseconds a stored answer is kept; after that a replay is a summary.
    pub answers_kept_ms: i64,
    /// Milliseconds a command id is remembered at least.
    pub commands_kept_ms: i64,
}

impl LedgerOptions {
    /// The usual settings for this database file.
    #[must_use]
    pub fn new(database: impl Into<PathBuf>) -> Self {
        Self {
            database: database.into(),
            queue: 4096,
            commit_commands: 1024,
            forward_within_ms: 5_000,
            sweep_grace_ms: 30_000,
            answers_kept_ms: 400 * 24 * 3_600_000,
            commands_kept_ms: 3_600_000,
        }
    }
}

/// An open ledger. Cheap to clone; clones are the same ledger.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {}

impl Ledger {
    /// Opens the database (making it if it is missing), takes its lock, checks the audit's head, sweeps, and starts the
    /// writer. Blocks while it does; call it from outside async code or with `spawn_blocking`.
    ///
    /// # Errors
    /// [`OpenError`], one clear line.
    pub fn open(
        options: LedgerOptions,
        clock: Clock,
        packs: Vec<Pack>,
    ) -> Result<Self, OpenError> {
        let _ = (options, clock, packs);
        Ok(Self {
            inner: Arc::new(Inner {}),
        })
    }

    /// Executes a batch of commands in one durable transaction: one answer per command, in order. When this returns
    /// `Ok`, everything in it is on disk.
    ///
    /// # Errors
    /// [`Unavailable`]: the caller answers 503.
    pub async fn execute(
        &self,
        commands: Vec<Received>,
    ) -> Result<Vec<CommandAnswer>, Unavailable> {
        let _ = (commands, &self.inner);
        Err(Unavailable::Failed)
    }

    /// Issues keys, all or none. The secrets exist only in the answer.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn issue(&self, keys: Vec<NewKey>) -> Result<Vec<IssuedKey>, IssueError> {
        let _ = keys;
        Err(Unavailable::Failed.into())
    }

    /// A key and its balances of the present windows.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn key(&self, key_id: &str) -> Result<Option<(Key, Vec<Balance>)>, Unavailable> {
        let _ = key_id;
        Err(Unavailable::Failed)
    }

    /// Keys, newest first.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn keys(&self, filter: KeyFilter) -> Result<Page<Key>, QueryError> {
        let _ = filter;
        Err(Unavailable::Failed.into())
    }

    /// Changes a key; effective for every reserve committed after it. Answers the key and its balances.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change(
        &self,
        key_id: &str,
        change: KeyChange,
    ) -> Result<(Key, Vec<Balance>), ChangeError> {
        let _ = (key_id, change);
        Err(Unavailable::Failed.into())
    }

    /// Revokes a key and answers it; a key that is revoked already stays as it is. `None`: no such key.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn revoke(&self, key_id: &str) -> Result<Option<Key>, Unavailable> {
        let _ = key_id;
        Err(Unavailable::Failed)
    }

    /// Revokes every key whose label begins with this; answers how many were not revoked before.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn revoke_by_label_prefix(&self, prefix: &str) -> Result<u64, Unavailable> {
        let _ = prefix;
        Err(Unavailable::Failed)
    }

    /// Audit entries, newest first; with `idempotency_key` those that moved money come first.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn audit(&self, query: AuditQuery) -> Result<Page<Entry>, QueryError> {
        let _ = query;
        Err(Unavailable::Failed.into())
    }

    /// Whether commands are taken just now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        Readiness::Closing
    }

    /// Figures for metrics.
    pub async fn figures(&self) -> Figures {
        Figures::default()
    }

    /// Resolves when the store has failed, with what it said. The process should then end with an error: nothing that
    /// was cached is trusted any more. Never resolves on an orderly [`close`](Self::close).
    pub async fn failed(&self) -> String {
        std::future::pending().await
    }

    /// Takes nothing more, finishes what is queued, closes the database.
    pub async fn close(self) {}
}

/// Reads a database's whole audit chain and names the first bad event. Reads only; the ledger may be running.
///
/// # Errors
/// [`OpenError`] when it cannot be read.
pub fn verify(database: &Path) -> Result<VerifyReport, OpenError> {
    Err(OpenError::Unusable {
        path: database.display().to_string(),
        why: "not read yet".to_owned(),
    })
}
