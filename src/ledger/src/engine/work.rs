//! The writer's thread: gathers what waits into one transaction, commits, then answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use keybrake_contract::ids::HoldId;
use keybrake_contract::wire::CommandAnswer;
use tokio::sync::{oneshot, watch};

use super::heads::Sign;
use super::keys::Change;
use super::resolve::{Resolved, Word};
use super::writer::{Tick, Writer};
use super::{BudgetError, Figures, IssueError, Received, Unavailable};
use crate::clock::Clock;
use crate::model::{BudgetChange, BudgetNow, Key, KeyChange, NewBudget};
use crate::store::{Store, StoreError};

/// How often the writer looks for overdue attempts and other chores.
const TICK: Duration = Duration::from_millis(500);
/// How far the clock may be behind the last event.
pub(super) const CLOCK_TOLERANCE_MS: i64 = 60_000;

/// Where the answer to a job goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Unavailable>>;

/// What came of issuing keys.
pub(super) type Issued = Result<Vec<Key>, IssueError>;
/// What came of making or changing a budget.
pub(super) type Budgeted = Result<Box<BudgetNow>, BudgetError>;

/// What waits for the writer.
pub(super) enum Job {
    Commands(Vec<Received>, Reply<Vec<CommandAnswer>>),
    Issue(Vec<Key>, Reply<Issued>),
    Change(String, Box<KeyChange>, Reply<Change>),
    Revoke(String, Reply<Option<Box<Key>>>),
    RevokePrefix(String, Reply<u64>),
    RevokeBudget(String, Reply<Option<u64>>),
    CreateBudget(Box<NewBudget>, Reply<Budgeted>),
    ChangeBudget(String, Box<BudgetChange>, Reply<Budgeted>),
    Resolve(HoldId, Box<Word>, Reply<Resolved>),
    Figures(oneshot::Sender<Figures>),
    Close,
}

impl Job {
    fn commands(&self) -> usize {
        match self {
            Self::Commands(commands, _) => commands.len(),
            _ => 1,
        }
    }

    fn turn_away(self, why: Unavailable) {
        // Whoever asked may be gone; then nobody needs the answer.
        match self {
            Self::Commands(_, reply) => drop(reply.send(Err(why))),
            Self::Issue(_, reply) => drop(reply.send(Err(why))),
            Self::Change(_, _, reply) => drop(reply.send(Err(why))),
            Self::Revoke(_, reply) => drop(reply.send(Err(why))),
            Self::RevokePrefix(_, reply) => drop(reply.send(Err(why))),
            Self::Resolve(_, _, reply) => drop(reply.send(Err(why))),
            Self::RevokeBudget(_, reply) => drop(reply.send(Err(why))),
            Self::CreateBudget(_, reply) | Self::ChangeBudget(_, _, reply) => {
                drop(reply.send(Err(why)));
            }
            Self::Figures(_) | Self::Close => {}
        }
    }
}

/// A job that was done inside a transaction that is not on disk yet.
enum Pending {
    Commands(Vec<CommandAnswer>, Reply<Vec<CommandAnswer>>),
    Issue(Issued, Reply<Issued>),
    Change(Change, Reply<Change>),
    Revoke(Option<Box<Key>>, Reply<Option<Box<Key>>>),
    RevokePrefix(u64, Reply<u64>),
    Resolve(Resolved, Reply<Resolved>),
    RevokeBudget(Option<u64>, Reply<Option<u64>>),
    Budget(Budgeted, Reply<Budgeted>),
    Figures(oneshot::Sender<Figures>),
}

impl Pending {
    fn answer<S: Store>(self, outcome: Result<&Writer<S>, Unavailable>) {
        fn say<T, W>(reply: Reply<T>, done: T, outcome: Result<W, Unavailable>) {
            drop(reply.send(outcome.map(|_| done)));
        }
        match self {
            Self::Commands(done, reply) => say(reply, done, outcome),
            Self::Issue(done, reply) => say(reply, done, outcome),
            Self::Change(done, reply) => say(reply, done, outcome),
            Self::Revoke(done, reply) => say(reply, done, outcome),
            Self::RevokePrefix(done, reply) => say(reply, done, outcome),
            Self::Resolve(done, reply) => say(reply, done, outcome),
            Self::RevokeBudget(done, reply) => say(reply, done, outcome),
            Self::Budget(done, reply) => say(reply, done, outcome),
            Self::Figures(reply) => {
                if let Ok(writer) = outcome {
                    drop(reply.send(writer.figures()));
                }
            }
        }
    }
}

/// What the writer's thread shares with the handles.
pub(super) struct Shared {
    /// When the last committed event was.
    pub last_event_at: Arc<AtomicI64>,
    /// Why the store failed, once it has.
    pub failed: watch::Sender<Option<String>>,
}

impl Drop for Shared {
    /// A writer that ends without a word has failed as well.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failed
                .send_replace(Some("the writer stopped unexpectedly".to_owned()));
        }
    }
}

/// Runs until it is closed, all handles are gone, or the store fails.
pub(super) fn run<S: Store>(
    mut writer: Writer<S>,
    jobs: &Receiver<Job>,
    clock: &Clock,
    shared: &Shared,
) {
    let mut is_closing = false;
    // What became overdue while the ledger was down is swept before anything is answered.
    let mut next_tick = match chores(&mut writer, clock) {
        Ok(tick) => after(tick),
        Err(error) => return fail(writer, jobs, shared, &error),
    };
    while !is_closing {
        let mut gathered = Vec::new();
        let wait = next_tick.saturating_duration_since(Instant::now());
        match jobs.recv_timeout(wait) {
            Ok(job) => gather(&mut gathered, job, jobs, writer.options.commit_commands),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => is_closing = true,
        }
        if let Err(error) = turn(&mut writer, gathered, clock, &mut is_closing) {
            return fail(writer, jobs, shared, &error);
        }
        shared
            .last_event_at
            .store(writer.last_event_at(), Ordering::Release);
        if next_tick <= Instant::now() {
            match chores(&mut writer, clock) {
                Ok(tick) => next_tick = after(tick),
                Err(error) => return fail(writer, jobs, shared, &error),
            }
        }
    }
    let last_words = |writer: &mut Writer<S>| {
        writer.begin(clock.now_ms())?;
        writer.write_counts()?;
        writer.sign(Sign::Now)?;
        writer.commit(0)
    };
    if let Err(error) = last_words(&mut writer) {
        fail(writer, jobs, shared, &error);
    }
}

/// When the next chores are due.
fn after(tick: Tick) -> Instant {
    let now = Instant::now();
    match tick {
        Tick::More => now,
        Tick::Done => now.checked_add(TICK).unwrap_or(now),
    }
}

fn gather(into: &mut Vec<Job>, first: Job, jobs: &Receiver<Job>, most: usize) {
    let mut commands = first.commands();
    into.push(first);
    while commands < most {
        let Ok(job) = jobs.try_recv() else { return };
        commands = commands.saturating_add(job.commands());
        into.push(job);
    }
}

/// One transaction: everything gathered, committed, then answered.
fn turn<S: Store>(
    writer: &mut Writer<S>,
    gathered: Vec<Job>,
    clock: &Clock,
    is_closing: &mut bool,
) -> Result<(), StoreError> {
    if gathered.is_empty() {
        return Ok(());
    }
    let clock_ms = clock.now_ms();
    if is_behind(writer, clock_ms) {
        for job in gathered {
            match job {
                Job::Figures(reply) => drop(reply.send(writer.figures())),
                Job::Close => *is_closing = true,
                job => job.turn_away(Unavailable::ClockBehind),
            }
        }
        return Ok(());
    }
    let mut pending = Vec::with_capacity(gathered.len());
    let mut commands = 0_u64;
    writer.begin(clock_ms)?;
    let mut waiting = gathered.into_iter();
    let mut result = Ok(());
    for job in waiting.by_ref() {
        commands = commands.saturating_add(u64::try_from(job.commands()).unwrap_or(0));
        if let Err(error) = one(writer, job, &mut pending, is_closing) {
            result = Err(error);
            break;
        }
    }
    let result = result.and_then(|()| writer.commit(commands));
    if result.is_err() {
        for job in waiting {
            job.turn_away(Unavailable::Failed);
        }
    }
    for done in pending {
        done.answer(match &result {
            Ok(()) => Ok(&*writer),
            Err(_) => Err(Unavailable::Failed),
        });
    }
    result
}

fn one<S: Store>(
    writer: &mut Writer<S>,
    job: Job,
    pending: &mut Vec<Pending>,
    is_closing: &mut bool,
) -> Result<(), StoreError> {
    /// Keeps the way to answer even when the job failed: the asker hears of it.
    fn done<T>(
        result: Result<T, StoreError>,
        reply: Reply<T>,
        into: impl FnOnce(T, Reply<T>) -> Pending,
    ) -> Result<Pending, StoreError> {
        match result {
            Ok(value) => Ok(into(value, reply)),
            Err(error) => {
                drop(reply.send(Err(Unavailable::Failed)));
                Err(error)
            }
        }
    }
    pending.push(match job {
        Job::Commands(commands, reply) => {
            let answers = commands
                .iter()
                .map(|received| writer.execute(received))
                .collect();
            done(answers, reply, Pending::Commands)?
        }
        Job::Issue(keys, reply) => done(writer.issue(keys), reply, Pending::Issue)?,
        Job::Change(key_id, change, reply) => {
            done(writer.change(&key_id, *change), reply, Pending::Change)?
        }
        Job::Revoke(key_id, reply) => done(writer.revoke(&key_id), reply, Pending::Revoke)?,
        Job::RevokePrefix(prefix, reply) => done(
            writer.revoke_by_label_prefix(&prefix),
            reply,
            Pending::RevokePrefix,
        )?,
        Job::Resolve(hold, word, reply) => {
            done(writer.apply_evidence(hold, &word), reply, Pending::Resolve)?
        }
        Job::RevokeBudget(name, reply) => {
            done(writer.revoke_by_budget(&name), reply, Pending::RevokeBudget)?
        }
        Job::CreateBudget(new, reply) => done(writer.create_budget(*new), reply, Pending::Budget)?,
        Job::ChangeBudget(name, change, reply) => {
            done(writer.change_budget(&name, *change), reply, Pending::Budget)?
        }
        Job::Figures(reply) => Pending::Figures(reply),
        Job::Close => {
            *is_closing = true;
            return Ok(());
        }
    });
    Ok(())
}

fn chores<S: Store>(writer: &mut Writer<S>, clock: &Clock) -> Result<Tick, StoreError> {
    let clock_ms = clock.now_ms();
    if is_behind(writer, clock_ms) {
        return Ok(Tick::Done);
    }
    writer.begin(clock_ms)?;
    writer.tell_new_key()?;
    let tick = writer.tick()?;
    writer.commit(0)?;
    Ok(tick)
}

/// Whether the clock is too far behind the last event to judge anything by it. Alarmed once each time it happens.
fn is_behind<S: Store>(writer: &mut Writer<S>, clock_ms: i64) -> bool {
    let is_behind = writer.last_event_at().saturating_sub(clock_ms) > CLOCK_TOLERANCE_MS;
    if is_behind && !writer.is_clock_behind {
        tracing::error!("the clock is behind the last audit event: commands are turned away");
        writer.alarmed("clock_behind");
    }
    writer.is_clock_behind = is_behind;
    is_behind
}

fn fail<S: Store>(
    mut writer: Writer<S>,
    jobs: &Receiver<Job>,
    shared: &Shared,
    error: &StoreError,
) {
    tracing::error!(why = %error, "the store failed: the ledger takes nothing more");
    shared.failed.send_replace(Some(error.to_string()));
    writer.rollback();
    // What is queued hears of it; what comes later finds the state or a closed queue.
    while let Ok(job) = jobs.try_recv() {
        job.turn_away(Unavailable::Failed);
    }
}
