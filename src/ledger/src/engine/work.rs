//! The writer's thread: gathers what waits into one transaction, commits, then answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use keybrake_contract::ids::HoldId;
use keybrake_contract::wire::CommandAnswer;
use tokio::sync::{oneshot, watch};

use super::heads::Sign;
use super::keys::Change;
use super::resolve::{Resolved, Word};
use super::writer::{Tick, Writer};
use super::{BudgetError, Figures, IssueError, Received, Unavailable};
use crate::book::{Window, WindowKind, rolling};
use crate::clock::Clock;
use crate::model::{BudgetChange, BudgetNow, Key, KeyChange, NewBudget};
use crate::store::{Ahead, Fault, Settled, Store, StoreError, Wanted};

/// How far the clock may be behind the last event.
pub(super) const CLOCK_TOLERANCE_MS: i64 = 60_000;

/// How long a transaction is tried again before those who wait for it are turned away. Below the time after which the filter
/// gives up a command.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

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
    Resolve(HoldId, Box<Word>, Reply<Resolved>),
    RevokeBudget(String, Reply<Option<u64>>),
    CreateBudget(Box<NewBudget>, Reply<Budgeted>),
    ChangeBudget(String, Box<BudgetChange>, Reply<Budgeted>),
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

/// What a job came to, inside a transaction that is not on disk yet.
enum Done {
    Commands(Vec<CommandAnswer>),
    Issue(Issued),
    Change(Change),
    Revoke(Option<Box<Key>>),
    RevokePrefix(u64),
    Resolve(Resolved),
    RevokeBudget(Option<u64>),
    Budget(Budgeted),
    Nothing,
}

/// Tells whoever asked. Whoever asked may be gone; then nobody needs the answer.
fn answer(job: Job, done: Done) {
    match (job, done) {
        (Job::Commands(_, reply), Done::Commands(done)) => drop(reply.send(Ok(done))),
        (Job::Issue(_, reply), Done::Issue(done)) => drop(reply.send(Ok(done))),
        (Job::Change(_, _, reply), Done::Change(done)) => drop(reply.send(Ok(done))),
        (Job::Revoke(_, reply), Done::Revoke(done)) => drop(reply.send(Ok(done))),
        (Job::RevokePrefix(_, reply), Done::RevokePrefix(done)) => drop(reply.send(Ok(done))),
        (Job::Resolve(_, _, reply), Done::Resolve(done)) => drop(reply.send(Ok(done))),
        (Job::RevokeBudget(_, reply), Done::RevokeBudget(done)) => drop(reply.send(Ok(done))),
        (Job::CreateBudget(_, reply) | Job::ChangeBudget(_, _, reply), Done::Budget(done)) => {
            drop(reply.send(Ok(done)));
        }
        (job, _) => job.turn_away(Unavailable::Failed),
    }
}

/// What the writer's thread shares with the handles.
pub(super) struct Shared {
    /// When the last committed event was.
    pub last_event_at: Arc<AtomicI64>,
    /// Why the store failed, once it has.
    pub failed: watch::Sender<Option<String>>,
    /// Why the database cannot be reached, while it cannot.
    pub away: watch::Sender<Option<String>>,
}

impl Shared {
    fn is_away(&self, error: &StoreError) {
        if self.away.borrow().is_none() {
            tracing::error!(why = %error, "the database cannot be reached: commands are turned away until it can");
        }
        self.away.send_replace(Some(error.to_string()));
    }

    fn is_here(&self) {
        if self.away.borrow().is_some() {
            tracing::info!("the database can be reached again");
            self.away.send_replace(None);
        }
    }
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
    let every_ms = writer.options.chores_every_ms;
    // What became overdue while the ledger was down is swept before anything is answered.
    let mut next_tick = match chores(&mut writer, clock, shared) {
        Ok(tick) => after(tick, every_ms),
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
        if let Err(error) = turn(&mut writer, gathered, clock, shared, &mut is_closing) {
            return fail(writer, jobs, shared, &error);
        }
        shared
            .last_event_at
            .store(writer.last_event_at(), Ordering::Release);
        if next_tick <= Instant::now() {
            match chores(&mut writer, clock, shared) {
                Ok(tick) => next_tick = after(tick, every_ms),
                Err(error) => return fail(writer, jobs, shared, &error),
            }
        }
    }
    let last_words = |writer: &mut Writer<S>, _: &[Job]| {
        writer.write_counts()?;
        writer.sign(Sign::Now)
    };
    match persist(&mut writer, &[], clock, shared, last_words) {
        Ok(Ok(())) => {}
        Ok(Err(_)) => tracing::error!("the last counts of refusals could not be written"),
        Err(error) => fail(writer, jobs, shared, &error),
    }
}

/// When the next chores are due.
fn after(tick: Tick, every_ms: u32) -> Instant {
    let now = Instant::now();
    let every = Duration::from_millis(u64::from(every_ms));
    match tick {
        Tick::More => now,
        Tick::Done => now.checked_add(every).unwrap_or(now),
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
    shared: &Shared,
    is_closing: &mut bool,
) -> Result<(), StoreError> {
    let (asking, telling): (Vec<_>, Vec<_>) = gathered
        .into_iter()
        .partition(|job| !matches!(job, Job::Figures(_) | Job::Close));
    let result = if asking.is_empty() {
        Ok(())
    } else {
        decide(writer, asking, clock, shared)
    };
    for job in telling {
        match job {
            // A writer that has failed has nothing to tell.
            Job::Figures(reply) if result.is_ok() => drop(reply.send(writer.figures())),
            Job::Close => *is_closing = true,
            _ => {}
        }
    }
    result
}

fn decide<S: Store>(
    writer: &mut Writer<S>,
    jobs: Vec<Job>,
    clock: &Clock,
    shared: &Shared,
) -> Result<(), StoreError> {
    let all = |writer: &mut Writer<S>, jobs: &[Job]| {
        jobs.iter()
            .map(|job| one(writer, job))
            .collect::<Result<Vec<_>, _>>()
    };
    let outcome = persist(writer, &jobs, clock, shared, all);
    let why = match &outcome {
        Ok(Ok(_)) => None,
        Ok(Err(why)) => Some(*why),
        Err(_) => Some(Unavailable::Failed),
    };
    match (outcome, why) {
        (Ok(Ok(done)), None) => {
            for (job, done) in jobs.into_iter().zip(done) {
                answer(job, done);
            }
            Ok(())
        }
        (outcome, why) => {
            for job in jobs {
                job.turn_away(why.unwrap_or(Unavailable::Failed));
            }
            outcome.map(|_| ())
        }
    }
}

/// Does one transaction to its end: again, with the same jobs, when the store says that this may help; and when a commit is
/// in doubt, until it is known whether it was done. `Ok(Err(_))`: the time for that is over. Without jobs it is a chore.
fn persist<S: Store, T>(
    writer: &mut Writer<S>,
    jobs: &[Job],
    clock: &Clock,
    shared: &Shared,
    work: impl Fn(&mut Writer<S>, &[Job]) -> Result<T, StoreError>,
) -> Result<Result<T, Unavailable>, StoreError> {
    // Once the database is away, nobody is made to wait for it again.
    let patience = if shared.away.borrow().is_some() {
        Duration::ZERO
    } else {
        PATIENCE
    };
    let until = Instant::now().checked_add(patience);
    let commands = jobs.iter().map(Job::commands).sum::<usize>();
    loop {
        let clock_ms = clock.now_ms();
        if is_behind(writer, clock_ms) {
            return Ok(Err(Unavailable::ClockBehind));
        }
        let wanted = || wanted(jobs, clock_ms);
        let ahead = match jobs {
            [] => Ahead::Chores,
            _ => Ahead::Work(&wanted),
        };
        let error = match writer.begin(clock_ms, &ahead) {
            Ok(()) if is_behind(writer, clock_ms) => {
                writer.undo();
                return Ok(Err(Unavailable::ClockBehind));
            }
            Ok(()) => match attempt(writer, jobs, commands, &work) {
                Ok(done) => {
                    shared.is_here();
                    return Ok(Ok(done));
                }
                Err(Undone::Failed(error)) => error,
                Err(Undone::InDoubt(done, error)) => match wait_to_settle(writer, until)? {
                    Some(Settled::Committed) => return Ok(Ok(done)),
                    Some(Settled::NotCommitted) => error,
                    None => {
                        shared.is_away(&error);
                        return Ok(Err(Unavailable::InDoubt));
                    }
                },
            },
            Err(error) => error,
        };
        if error.fault() == Fault::Fatal {
            return Err(error);
        }
        writer.undo();
        if until.is_none_or(|until| Instant::now() >= until) {
            shared.is_away(&error);
            return Ok(Err(Unavailable::Unreachable));
        }
        tracing::debug!(why = %error, "the transaction is done again");
        std::thread::sleep(PAUSE);
    }
}

/// Why a transaction was not done.
enum Undone<T> {
    Failed(StoreError),
    /// It may have been done all the same, and then this is what it came to.
    InDoubt(T, StoreError),
}

fn attempt<S: Store, T>(
    writer: &mut Writer<S>,
    jobs: &[Job],
    commands: usize,
    work: impl Fn(&mut Writer<S>, &[Job]) -> Result<T, StoreError>,
) -> Result<T, Undone<T>> {
    let done = work(writer, jobs).map_err(Undone::Failed)?;
    match writer.commit(u64::try_from(commands).unwrap_or(0)) {
        Ok(()) => Ok(done),
        Err(error) if error.fault() == Fault::InDoubt => Err(Undone::InDoubt(done, error)),
        Err(error) => Err(Undone::Failed(error)),
    }
}

/// Asks what became of a commit until there is an answer; `None`: not in time. The writer asks again before it begins anew.
fn wait_to_settle<S: Store>(
    writer: &mut Writer<S>,
    until: Option<Instant>,
) -> Result<Option<Settled>, StoreError> {
    loop {
        match writer.settle() {
            Ok(settled) => return Ok(Some(settled)),
            Err(error) if error.fault() == Fault::Fatal => return Err(error),
            Err(_) if until.is_none_or(|until| Instant::now() >= until) => return Ok(None),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// What the jobs are going to ask the store for.
fn wanted(jobs: &[Job], clock_ms: i64) -> Wanted {
    let mut wanted = Wanted {
        windows: WindowKind::ALL
            .into_iter()
            .map(|kind| Window::at(kind, clock_ms, &TimeZone::UTC).code())
            .chain([rolling::minute(clock_ms)])
            .collect(),
        ..Wanted::default()
    };
    for job in jobs {
        let Job::Commands(commands, _) = job else {
            continue;
        };
        for received in commands {
            received.want(&mut wanted);
        }
    }
    wanted
}

fn one<S: Store>(writer: &mut Writer<S>, job: &Job) -> Result<Done, StoreError> {
    Ok(match job {
        Job::Commands(commands, _) => {
            let answers = commands.iter().map(|received| writer.execute(received));
            Done::Commands(answers.collect::<Result<_, _>>()?)
        }
        Job::Issue(keys, _) => Done::Issue(writer.issue(keys)?),
        Job::Change(key_id, change, _) => Done::Change(writer.change(key_id, change)?),
        Job::Revoke(key_id, _) => Done::Revoke(writer.revoke(key_id)?),
        Job::RevokePrefix(prefix, _) => Done::RevokePrefix(writer.revoke_by_label_prefix(prefix)?),
        Job::Resolve(hold, word, _) => Done::Resolve(writer.apply_evidence(*hold, word)?),
        Job::RevokeBudget(name, _) => Done::RevokeBudget(writer.revoke_by_budget(name)?),
        Job::CreateBudget(new, _) => Done::Budget(writer.create_budget((**new).clone())?),
        Job::ChangeBudget(name, change, _) => {
            Done::Budget(writer.change_budget(name, (**change).clone())?)
        }
        Job::Figures(_) | Job::Close => Done::Nothing,
    })
}

fn chores<S: Store>(
    writer: &mut Writer<S>,
    clock: &Clock,
    shared: &Shared,
) -> Result<Tick, StoreError> {
    let ticked = persist(writer, &[], clock, shared, |writer, _| {
        writer.tell_new_key()?;
        writer.tick()
    })?;
    Ok(ticked.unwrap_or(Tick::Done))
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
    writer.undo();
    // What is queued hears of it; what comes later finds the state or a closed queue.
    while let Ok(job) = jobs.try_recv() {
        job.turn_away(Unavailable::Failed);
    }
}
