//! The ledger's engine: one handle for commands, keys and audit; one writer behind it.
//!
//! Here: the handle, the queue, the writer thread with group commit, how each command is executed. Not here: SQL (`store`),
//! how money moves between the parts of a cap (`book`), how events are chained (`audit`), HTTP.

mod admit;
mod alarms;
mod answers;
mod balances;
mod brake;
mod budgets;
mod conclude;
mod decided;
mod duplicates;
mod handle;
mod heads;
mod key_cache;
mod keys;
mod outcome;
mod path;
mod pool;
mod received;
mod refused;
mod remembered;
mod reserve;
mod resolve;
mod statement;
mod summary;
mod terms;
mod work;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use jiff::tz::TimeZone;
use keybrake_contract::ids::HoldId;
use keybrake_contract::wire::CommandAnswer;
use keybrake_pack::Pack;
use tokio::sync::{Mutex, oneshot, watch};

use self::heads::Signer;
use self::keys::{Change, Drawn, draw};
use self::pool::Pool;
use self::resolve::Resolved;
use self::terms::{Terms, terms_of};
use self::work::{CLOCK_TOLERANCE_MS, Job, Reply, Shared};
use self::writer::Writer;
use crate::book::{Evidence, Finding};
use crate::clock::Clock;
use crate::model::{
    AuditQuery, Balance, Entry, IssuedKey, Key, KeyChange, KeyFilter, NewKey, Page, UnknownQuery,
    UnknownRequest,
};
use crate::rates::RateTable;
use crate::signing::SigningOptions;
use crate::store::{Database, ListError, Reads, Store, StoreError, WithStore};

pub use crate::audit::{Broken, Trust, VerifyReport};
pub use answers::{
    BudgetError, ChangeError, Figures, Histogram, IssueError, OpenError, QueryError, Readiness,
    ResolveError, Unavailable, UnknownFigures,
};
pub use handle::Statements;
pub use received::{MAX_FORWARD_TIMEOUT_MS, Prepared, Received};
pub use resolve::Word;

/// How a ledger is opened.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// Where everything is kept. A SQLite file is made if it is missing; its folder must exist.
    pub database: Database,
    /// Most jobs (batches of commands, admin changes) that wait for the writer; more are turned away at once.
    pub queue: usize,
    /// Most commands in one commit, save that one batch is never split.
    pub commit_commands: usize,
    /// An admitted request must be forwarded within so many milliseconds of being sent.
    pub forward_within_ms: u32,
    /// Milliseconds an outcome may be late before its attempt counts as unknown.
    pub sweep_grace_ms: u32,
    /// Milliseconds a stored answer is kept; after that a replay is a summary.
    pub answers_kept_ms: i64,
    /// Milliseconds a command id is remembered at least.
    pub commands_kept_ms: i64,
    /// Milliseconds between two looks for overdue attempts and other chores.
    pub chores_every_ms: u32,
    /// How the heads of the audit chain are signed and kept.
    pub signing: SigningOptions,
    /// What other currencies cost; without it only dollars have a price.
    pub rates: Option<RateTable>,
}

impl LedgerOptions {
    /// The usual settings for this database.
    #[must_use]
    pub fn new(database: impl Into<Database>) -> Self {
        Self {
            database: database.into(),
            queue: 4096,
            commit_commands: 1024,
            forward_within_ms: 5_000,
            sweep_grace_ms: 30_000,
            answers_kept_ms: 400 * 24 * 3_600_000,
            commands_kept_ms: 3_600_000,
            chores_every_ms: 500,
            signing: SigningOptions::default(),
            rates: None,
        }
    }
}

/// An open ledger. Cheap to clone; clones are the same ledger.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    jobs: SyncSender<Job>,
    failed: watch::Receiver<Option<String>>,
    away: watch::Receiver<Option<String>>,
    last_event_at: Arc<AtomicI64>,
    busy: AtomicI64,
    /// As the writer last told them.
    figures: Mutex<Figures>,
    clock: Clock,
    vendors: Vec<String>,
    pool: Pool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Ledger {
    /// Opens the database (making it if it is missing), takes its lock, checks the audit's head, sweeps, and starts the
    /// writer. Blocks while it does; call it from outside async code or with `spawn_blocking`.
    ///
    /// # Errors
    /// [`OpenError`], one clear line.
    pub fn open(options: LedgerOptions, clock: Clock, packs: Vec<Pack>) -> Result<Self, OpenError> {
        let terms = terms_of(&packs, options.rates.as_ref());
        Self::open_with(options, clock, terms)
    }

    /// As [`Self::open`], with what is relied on at each vendor.
    fn open_with(options: LedgerOptions, clock: Clock, terms: Terms) -> Result<Self, OpenError> {
        let vendors = terms.keys().cloned().collect();
        let database = options.database.clone();
        let (jobs, waiting) = sync_channel(options.queue);
        let last_event_at = Arc::new(AtomicI64::new(i64::MIN));
        let (failed_sender, failed) = watch::channel(None);
        let (away_sender, away) = watch::channel(None);
        let start = Start {
            options,
            terms,
            clock: clock.clone(),
            waiting,
            shared: Shared {
                last_event_at: Arc::clone(&last_event_at),
                failed: failed_sender,
                away: away_sender,
            },
        };
        let thread = database.open(start)??;
        let pool = Pool::open(&database)?;
        Ok(Self {
            inner: Arc::new(Inner {
                jobs,
                failed,
                away,
                last_event_at,
                busy: AtomicI64::new(0),
                figures: Mutex::new(Figures::default()),
                clock,
                vendors,
                pool,
                thread: Mutex::new(Some(thread)),
            }),
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
        self.ask(|reply| Job::Commands(commands, reply)).await
    }

    /// Issues keys, all or none. The secrets exist only in the answer.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn issue(&self, keys: Vec<NewKey>) -> Result<Vec<IssuedKey>, IssueError> {
        let now = self.inner.clock.now();
        for (index, key) in keys.iter().enumerate() {
            if !self.inner.vendors.contains(&key.grant.vendor) {
                return Err(IssueError::UnknownVendor { index });
            }
            if key.expires_at <= now {
                return Err(IssueError::AlreadyExpired { index });
            }
        }
        let mut drawn = keys
            .into_iter()
            .map(|key| draw(key, now))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Unavailable::Failed)?;
        let on_record = drawn.iter().map(|drawn| drawn.key.clone()).collect();
        let issued = self.ask(|reply| Job::Issue(on_record, reply)).await??;
        for (drawn, issued) in drawn.iter_mut().zip(issued) {
            drawn.key = issued;
        }
        Ok(drawn.into_iter().map(Drawn::issued).collect())
    }

    /// A key and its balances of the present windows.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn key(&self, key_id: &str) -> Result<Option<(Key, Vec<Balance>)>, Unavailable> {
        let key_id = key_id.to_owned();
        let now = self.inner.clock.now_ms();
        self.inner
            .pool
            .read(move |reads| {
                let Some(full) = reads.key(&key_id)? else {
                    return Ok(None);
                };
                let balances =
                    statement::balances(reads, full.number, &full.key.caps, &TimeZone::UTC, now)?;
                Ok(Some((full.key, balances)))
            })
            .await
    }

    /// Keys, newest first.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn keys(&self, filter: KeyFilter) -> Result<Page<Key>, QueryError> {
        let now = self.inner.clock.now_ms();
        self.list(move |reads| reads.keys(&filter, now)).await
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
        let (key_id, change) = (key_id.to_owned(), Box::new(change));
        match self.ask(|reply| Job::Change(key_id, change, reply)).await? {
            Change::Done(done) => Ok(*done),
            Change::NotFound => Err(ChangeError::NotFound),
            Change::Revoked => Err(ChangeError::Revoked),
            Change::Budget(error) => Err(ChangeError::Budget(error)),
        }
    }

    /// Revokes a key and answers it; a key that is revoked already stays as it is. `None`: no such key.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn revoke(&self, key_id: &str) -> Result<Option<Key>, Unavailable> {
        let key_id = key_id.to_owned();
        let revoked = self.ask(|reply| Job::Revoke(key_id, reply)).await?;
        Ok(revoked.map(|key| *key))
    }

    /// Revokes every key whose label begins with this; answers how many were not revoked before.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn revoke_by_label_prefix(&self, prefix: &str) -> Result<u64, Unavailable> {
        let prefix = prefix.to_owned();
        self.ask(|reply| Job::RevokePrefix(prefix, reply)).await
    }

    /// Audit entries, newest first; with `idempotency_key` those that moved money come first.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn audit(&self, query: AuditQuery) -> Result<Page<Entry>, QueryError> {
        self.list(move |reads| reads.entries(&query)).await
    }

    /// Decides a request whose outcome nobody knows by evidence, and answers its entry. Nothing but an unknown is decided.
    ///
    /// # Errors
    /// [`ResolveError`]: nothing was changed.
    pub async fn resolve(
        &self,
        hold: HoldId,
        finding: Finding,
        evidence: Evidence,
    ) -> Result<Entry, ResolveError> {
        let word = Word {
            finding,
            evidence,
            attempts: None,
            answer: None,
        };
        self.apply_evidence(hold, word).await
    }

    /// As [`Self::resolve`], for whoever gathered the evidence from the vendor's own records.
    ///
    /// # Errors
    /// [`ResolveError`]: nothing was changed.
    pub async fn apply_evidence(&self, hold: HoldId, word: Word) -> Result<Entry, ResolveError> {
        let word = Box::new(word);
        match self.ask(|reply| Job::Resolve(hold, word, reply)).await? {
            Resolved::Done => {}
            Resolved::NotFound => return Err(ResolveError::NotFound),
            Resolved::Undecided(why) => return Err(ResolveError::Undecided(why)),
        }
        let entry = self.inner.pool.read(move |reads| reads.entry(hold)).await?;
        entry.ok_or(ResolveError::NotFound)
    }

    /// Requests whose outcome nobody knows, oldest first.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn unknown_requests(
        &self,
        query: UnknownQuery,
    ) -> Result<Page<UnknownRequest>, QueryError> {
        let now = self.inner.clock.now_ms();
        self.list(move |reads| reads.unknown_requests(&query, now))
            .await
    }

    /// How many of a key's requests have an unknown outcome, and what they hold.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn unknown_of(&self, key_id: &str) -> Result<UnknownFigures, Unavailable> {
        let (key_id, now) = (key_id.to_owned(), self.inner.clock.now_ms());
        self.inner
            .pool
            .read(move |reads| reads.unknown_of(&key_id, now))
            .await
    }

    /// Whether commands are taken just now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if let Some(why) = self.inner.failed.borrow().as_ref() {
            return Readiness::Failed { why: why.clone() };
        }
        if self.inner.failed.has_changed().is_err() {
            return Readiness::Closing;
        }
        if let Some(why) = self.inner.away.borrow().as_ref() {
            return Readiness::Unreachable { why: why.clone() };
        }
        let last = self.inner.last_event_at.load(Ordering::Acquire);
        let behind_ms = last.saturating_sub(self.inner.clock.now_ms());
        if behind_ms > CLOCK_TOLERANCE_MS {
            Readiness::ClockBehind { behind_ms }
        } else {
            Readiness::Ready
        }
    }

    /// Figures for metrics. When the writer cannot be asked just now, its counts are those of the time before.
    pub async fn figures(&self) -> Figures {
        let (reply, answer) = oneshot::channel();
        let asked = self.inner.jobs.try_send(Job::Figures(reply)).ok();
        let told = match asked {
            Some(()) => answer.await.ok(),
            None => None,
        };
        let counted = {
            let mut last = self.inner.figures.lock().await;
            if let Some(told) = told {
                *last = told;
            }
            last.clone()
        };
        let now = self.inner.clock.now_ms();
        let unknown = self
            .inner
            .pool
            .read(move |reads| reads.unknown(now))
            .await
            .ok();
        let busy = self.inner.busy.load(Ordering::Relaxed).cast_unsigned();
        Figures {
            unknown,
            busy,
            ..counted
        }
    }

    /// Resolves when the store has failed, with what it said. The process should then end with an error: nothing that
    /// was cached is trusted any more. Never resolves on an orderly [`close`](Self::close).
    pub async fn failed(&self) -> String {
        let mut failed = self.inner.failed.clone();
        loop {
            if let Some(why) = failed.borrow_and_update().as_ref() {
                return why.clone();
            }
            if failed.changed().await.is_err() {
                if let Some(why) = failed.borrow().as_ref() {
                    return why.clone();
                }
                return std::future::pending().await;
            }
        }
    }

    /// Takes nothing more, finishes what is queued, closes the database.
    pub async fn close(self) {
        let jobs = self.inner.jobs.clone();
        let thread = self.inner.thread.lock().await.take();
        let inner = Arc::clone(&self.inner);
        let closing = tokio::task::spawn_blocking(move || {
            // The last connection that closes tidies up: let it be the writer's.
            inner.pool.rest();
            // A writer that is gone already needs no word.
            let _ = jobs.send(Job::Close);
            thread.map(JoinHandle::join)
        });
        let _ = closing.await;
    }

    /// Puts a job into the queue and waits for its answer.
    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        match self.inner.jobs.try_send(job(reply)) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(self.ended())),
            Err(TrySendError::Full(_)) => {
                self.inner.busy.fetch_add(1, Ordering::Relaxed);
                Err(Unavailable::Busy)
            }
            Err(TrySendError::Disconnected(_)) => Err(self.ended()),
        }
    }

    fn ended(&self) -> Unavailable {
        if self.inner.failed.borrow().is_some() {
            Unavailable::Failed
        } else {
            Unavailable::Closing
        }
    }

    async fn list<T: Send + 'static>(
        &self,
        read: impl Fn(&mut dyn Reads) -> Result<T, ListError> + Send + 'static,
    ) -> Result<T, QueryError> {
        self.inner
            .pool
            .read(move |reads| match read(reads) {
                Ok(listed) => Ok(Ok(listed)),
                Err(ListError::InvalidCursor) => Ok(Err(QueryError::InvalidCursor)),
                Err(ListError::Store(error)) => Err(error),
            })
            .await?
    }
}

/// A writer that is about to start on whichever store the database has.
struct Start {
    options: LedgerOptions,
    terms: Terms,
    clock: Clock,
    waiting: Receiver<Job>,
    shared: Shared,
}

impl WithStore for Start {
    type Output = Result<JoinHandle<()>, OpenError>;

    fn with<S: Store + 'static>(self, mut store: S) -> Self::Output {
        let Self {
            options,
            terms,
            clock,
            waiting,
            shared,
        } = self;
        let path = options.database.to_string();
        let unusable = |why: String| OpenError::Unusable {
            path: path.clone(),
            why,
        };
        let signer = Signer::open(&mut store, &options)?;
        let writer = Writer::new(store, signer, options, terms)
            .map_err(|error| unusable(error.to_string()))?;
        shared
            .last_event_at
            .store(writer.last_event_at(), Ordering::Release);
        std::thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || work::run(writer, &waiting, &clock, &shared))
            .map_err(|error| unusable(error.to_string()))
    }
}

/// Reads a database's whole audit chain, its signed heads and what was made from its events, and names the first thing that
/// is not as it was written. Reads only; the ledger may be running.
///
/// # Errors
/// [`OpenError`] when it cannot be read.
pub fn verify(database: impl Into<Database>, trust: &Trust) -> Result<VerifyReport, OpenError> {
    let database = database.into();
    let mut reads = database.open_reads()?;
    crate::audit::verify(&mut *reads, trust).map_err(|error| OpenError::Corrupt {
        path: database.to_string(),
        why: error.to_string(),
    })
}

/// Writes a database's audit chain for whoever verifies it elsewhere: see [`crate::audit::export`]. The ledger may be running.
///
/// # Errors
/// One clear line.
pub fn export(
    database: impl Into<Database>,
    into: &mut impl std::io::Write,
) -> Result<(u64, u64), crate::audit::ExportError> {
    let database = database.into();
    let unusable = |error: OpenError| StoreError::new(error.to_string());
    let mut reads = database.open_reads().map_err(unusable)?;
    crate::audit::export(&mut *reads, into)
}

/// The signed heads that a database kept last, as they are.
///
/// # Errors
/// [`OpenError`] when it cannot be read.
pub fn last_signed_heads(database: impl Into<Database>) -> Result<Option<String>, OpenError> {
    let database = database.into();
    let mut reads = database.open_reads()?;
    reads
        .last_signed_heads()
        .map_err(|error| OpenError::Corrupt {
            path: database.to_string(),
            why: error.to_string(),
        })
}

/// Copies a database while its ledger runs, verifies the copy, and only then gives it its name. The ledger is not held up.
///
/// # Errors
/// [`OpenError`], one clear line; nothing is left behind.
pub fn backup(database: impl Into<Database>, to: &Path) -> Result<VerifyReport, OpenError> {
    let database = database.into();
    let copy = database.copy(to)?;
    let report = verify(copy.path(), &Trust::default())?;
    if let Some(broken) = &report.broken {
        return Err(OpenError::Corrupt {
            path: database.to_string(),
            why: format!("there is no backup, because the copy does not verify: {broken}"),
        });
    }
    copy.keep()?;
    Ok(report)
}

#[cfg(test)]
mod tests;
