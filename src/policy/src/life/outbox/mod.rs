//! The outbox: commands on their way to the ledger, and what becomes of them.
//!
//! Here: when a batch is sent, what is in it, what is sent again, what is given up. Not here: what a command or an
//! answer means to a request (that is [`super::request`]), and the call-out itself (that is `filter`).
//!
//! Self-clocked: at once when nothing is in flight, else everything that gathered meanwhile. What nobody waits for does
//! not start a batch by itself for a moment: it rides with what somebody waits for. A command is serialised once; each further sending has the same id and the same bytes, so that the ledger knows a repeat. There is no
//! bound of its own: who enqueues holds a slot until the command has been delivered.

mod reply;

use std::collections::{BTreeMap, VecDeque};

use keybrake_contract::ids::CommandId;
use keybrake_contract::results;
use keybrake_contract::wire::{Command, CommandAnswer, CommandResult};

use super::{Millis, RequestNumber};

pub use reply::{BatchReply, Delivery, Fate, LedgerFailure};

/// First pause after a batch that came to nothing.
const FIRST_PAUSE_MS: Millis = 25;
/// Longest pause between two tries.
const LONGEST_PAUSE_MS: Millis = 1_000;
/// A batch past its time does not block the next one, but this many are out at most.
const MAX_BATCHES: usize = 2;
/// A command that nobody waits for starts a batch after so long.
const UNHURRIED_MS: Millis = 20;
/// `{"commands":[` and `]}`.
const BATCH_HEAD: &[u8] = b"{\"commands\":[";
const BATCH_TAIL: &[u8] = b"]}";

/// Bounds of the outbox, from the plugin configuration.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// Most commands in one batch. At least 1.
    pub batch_max_commands: usize,
    /// Most bytes in one batch.
    pub batch_max_bytes: usize,
    /// After this a batch no longer blocks the next, and its commands are sent again.
    pub ledger_timeout_ms: Millis,
    /// Reserves and refusals without an answer by then are given up.
    pub ask_deadline_ms: Millis,
}

/// Names one batch of one outbox.
pub type BatchNumber = u64;

/// A batch to be sent now.
#[derive(Debug)]
pub struct BatchOut {
    /// To name it when its answer comes.
    pub number: BatchNumber,
    /// The request body.
    pub body: Vec<u8>,
}

/// Whether somebody waits for a command's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hurry {
    /// Somebody does.
    AtOnce,
    /// Nobody does: it may wait for company.
    CanWait,
}

/// How long a command is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Until(Millis),
    Forever,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    InBatch(BatchNumber),
}

#[derive(Debug)]
struct Entry {
    owner: Option<RequestNumber>,
    patience: Patience,
    place: Place,
    json: Vec<u8>,
}

#[derive(Debug)]
struct BatchInFlight {
    number: BatchNumber,
    sent_at: Millis,
    commands: Vec<CommandId>,
    late: bool,
}

/// Commands on their way.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    entries: BTreeMap<CommandId, Entry>,
    /// In order of sending. May name commands that are gone or already in a batch; those are passed over.
    waiting: VecDeque<CommandId>,
    /// In order of time. May name commands that are gone.
    deadlines: VecDeque<(Millis, CommandId)>,
    batches: Vec<BatchInFlight>,
    next_batch: BatchNumber,
    /// Lowered when the ledger calls a batch too large, raised again by every one that it takes.
    batch_commands: usize,
    failures_in_a_row: u32,
    pause_until: Millis,
    /// When a batch may start for the sake of what waits. `None`: nothing waits.
    start_at: Option<Millis>,
    failures: Vec<LedgerFailure>,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            waiting: VecDeque::new(),
            deadlines: VecDeque::new(),
            batches: Vec::new(),
            next_batch: 0,
            batch_commands: limits.batch_max_commands.max(1),
            failures_in_a_row: 0,
            pause_until: 0,
            start_at: None,
            failures: Vec::new(),
        }
    }

    /// Takes a command. How long it is repeated follows from what it is: questions have a deadline, outcomes,
    /// releases and counts have none.
    pub fn enqueue(
        &mut self,
        now: Millis,
        owner: Option<RequestNumber>,
        hurry: Hurry,
        command: Command,
    ) {
        let id = command.id();
        self.start_by(match hurry {
            Hurry::AtOnce => now,
            Hurry::CanWait => now.saturating_add(UNHURRIED_MS),
        });
        let patience = match command {
            Command::Reserve(_) | Command::Refused(_) => {
                Patience::Until(now.saturating_add(self.limits.ask_deadline_ms))
            }
            Command::Outcome(_) | Command::Release(_) | Command::RefusalCount(_) => {
                Patience::Forever
            }
        };
        if let Patience::Until(deadline) = patience {
            self.deadlines.push_back((deadline, id));
        }
        let entry = Entry {
            owner,
            patience,
            place: Place::Waiting,
            json: self.serialise(command),
        };
        self.entries.insert(id, entry);
        self.waiting.push_back(id);
    }

    /// Sends what waits as soon as that can be, also what could wait for company.
    pub fn hurry(&mut self) {
        if !self.waiting.is_empty() {
            self.start_by(0);
        }
    }

    fn start_by(&mut self, at: Millis) {
        self.start_at = Some(self.start_at.map_or(at, |before| before.min(at)));
    }

    /// A stored answer that does not fit a batch is left out: the outcome counts for more than its replay.
    fn serialise(&self, mut command: Command) -> Vec<u8> {
        let room = self
            .limits
            .batch_max_bytes
            .saturating_sub(BATCH_HEAD.len().saturating_add(BATCH_TAIL.len()));
        let json = command.to_json();
        if json.len() <= room {
            return json;
        }
        if let Command::Outcome(outcome) = &mut command {
            outcome.answer = None;
        }
        command.to_json()
    }

    /// Whether a batch would be sent now.
    #[must_use]
    pub fn could_send(&self, now: Millis) -> bool {
        self.start_at.is_some_and(|at| now >= at)
            && now >= self.pause_until
            && self.batches.len() < MAX_BATCHES
            && self.batches.iter().all(|batch| batch.late)
    }

    /// The next batch, if one is to be sent now.
    pub fn next_batch(&mut self, now: Millis) -> Option<BatchOut> {
        if !self.could_send(now) {
            return None;
        }
        let number = self.next_batch;
        let mut body = Vec::with_capacity(1024);
        body.extend_from_slice(BATCH_HEAD);
        let mut commands = Vec::new();
        while let Some(id) = self.waiting.front() {
            let Some(entry) = self
                .entries
                .get_mut(id)
                .filter(|entry| entry.place == Place::Waiting)
            else {
                self.waiting.pop_front();
                continue;
            };
            let length = body
                .len()
                .saturating_add(entry.json.len())
                .saturating_add(BATCH_TAIL.len())
                .saturating_add(1);
            if commands.len() >= self.batch_commands
                || (!commands.is_empty() && length > self.limits.batch_max_bytes)
            {
                break;
            }
            if !commands.is_empty() {
                body.push(b',');
            }
            body.extend_from_slice(&entry.json);
            entry.place = Place::InBatch(number);
            commands.push(*id);
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() {
            self.start_at = None;
        }
        if commands.is_empty() {
            return None;
        }
        body.extend_from_slice(BATCH_TAIL);
        self.next_batch = number.saturating_add(1);
        self.batches.push(BatchInFlight {
            number,
            sent_at: now,
            commands,
            late: false,
        });
        Some(BatchOut { number, body })
    }

    /// Takes what came back for a batch. What it decided is appended to `deliveries`.
    pub fn batch_replied(
        &mut self,
        now: Millis,
        number: BatchNumber,
        reply: BatchReply<'_>,
        deliveries: &mut Vec<Delivery>,
    ) {
        let Some(position) = self.batches.iter().position(|batch| batch.number == number) else {
            return;
        };
        let batch = self.batches.swap_remove(position);
        let executed = matches!(
            reply,
            BatchReply::Answer {
                status: 200,
                marked: true,
                ..
            }
        );
        if batch.late && !executed {
            // It was counted as failed, and its commands were queued again, when it became late.
            return;
        }
        match reply {
            BatchReply::NotSent => self.batch_failed(now, &batch, LedgerFailure::NotSent),
            BatchReply::Answer { marked: false, .. } => {
                self.batch_failed(now, &batch, LedgerFailure::NotTheLedger);
            }
            BatchReply::Answer {
                status: 200, body, ..
            } => self.batch_answered(now, &batch, body, deliveries),
            BatchReply::Answer { status: 413, .. } => self.batch_too_large(now, &batch, deliveries),
            BatchReply::Answer { .. } => {
                self.batch_failed(now, &batch, LedgerFailure::NothingExecuted);
            }
        }
    }

    fn batch_answered(
        &mut self,
        now: Millis,
        batch: &BatchInFlight,
        body: &[u8],
        deliveries: &mut Vec<Delivery>,
    ) {
        for CommandAnswer { id, result } in results::read(body) {
            if let Some(id) = id {
                self.deliver(now, id, result, deliveries);
            }
        }
        let forgotten = batch
            .commands
            .iter()
            .any(|id| self.is_in_batch(*id, batch.number));
        if forgotten {
            self.batch_failed(now, batch, LedgerFailure::Unreadable);
        } else {
            self.failures_in_a_row = 0;
            self.pause_until = 0;
            self.batch_commands = self
                .batch_commands
                .saturating_mul(2)
                .min(self.limits.batch_max_commands.max(1));
        }
    }

    /// Ends the wait of one command. An answer after its deadline counts as none: the request may not act on it.
    fn deliver(
        &mut self,
        now: Millis,
        id: CommandId,
        result: CommandResult,
        deliveries: &mut Vec<Delivery>,
    ) {
        let Some(entry) = self.entries.remove(&id) else {
            return;
        };
        let fate = match entry.patience {
            Patience::Until(deadline) if now > deadline => Fate::GivenUp,
            Patience::Until(_) | Patience::Forever => Fate::Answered(result),
        };
        if matches!(
            fate,
            Fate::Answered(CommandResult::InvalidCommand(_) | CommandResult::CommandIdConflict)
        ) {
            self.failures.push(LedgerFailure::CommandRejected);
        }
        deliveries.push(Delivery {
            owner: entry.owner,
            id,
            fate,
        });
    }

    fn batch_failed(&mut self, now: Millis, batch: &BatchInFlight, failure: LedgerFailure) {
        self.failures.push(failure);
        self.requeue(batch);
        let doublings = self.failures_in_a_row.min(16);
        let pause = FIRST_PAUSE_MS
            .saturating_mul(1_u64.checked_shl(doublings).unwrap_or(u64::MAX))
            .min(LONGEST_PAUSE_MS);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.pause_until = now.saturating_add(pause);
    }

    /// Half as many the next time. A single command that is too large by itself will never be taken.
    fn batch_too_large(
        &mut self,
        now: Millis,
        batch: &BatchInFlight,
        deliveries: &mut Vec<Delivery>,
    ) {
        if let [only] = batch.commands.as_slice()
            && let Some(entry) = self.entries.remove(only)
        {
            self.failures.push(LedgerFailure::CommandRejected);
            let rejected = CommandResult::InvalidCommand("larger than any batch".to_owned());
            deliveries.push(Delivery {
                owner: entry.owner,
                id: *only,
                fate: Fate::Answered(rejected),
            });
            return;
        }
        self.batch_commands = (batch.commands.len() >> 1).max(1);
        self.failures.push(LedgerFailure::NothingExecuted);
        self.requeue(batch);
        self.pause_until = now;
    }

    /// Back to the front of the queue, in their order.
    fn requeue(&mut self, batch: &BatchInFlight) {
        self.start_by(batch.sent_at);
        for id in batch.commands.iter().rev() {
            if let Some(entry) = self
                .entries
                .get_mut(id)
                .filter(|entry| entry.place == Place::InBatch(batch.number))
            {
                entry.place = Place::Waiting;
                self.waiting.push_front(*id);
            }
        }
    }

    fn is_in_batch(&self, id: CommandId, number: BatchNumber) -> bool {
        self.entries
            .get(&id)
            .is_some_and(|entry| entry.place == Place::InBatch(number))
    }

    /// Lets time pass: batches that are late, commands whose deadline is over.
    pub fn tick(&mut self, now: Millis, deliveries: &mut Vec<Delivery>) {
        let timeout = self.limits.ledger_timeout_ms;
        let mut batches = std::mem::take(&mut self.batches);
        for batch in &mut batches {
            if !batch.late && now.saturating_sub(batch.sent_at) >= timeout {
                batch.late = true;
                self.batch_failed(now, batch, LedgerFailure::Late);
            }
        }
        self.batches = batches;
        while let Some((deadline, id)) = self.deadlines.front().copied() {
            let waits = self.entries.contains_key(&id);
            if waits && now <= deadline {
                break;
            }
            self.deadlines.pop_front();
            if let Some(entry) = self.entries.remove(&id) {
                deliveries.push(Delivery {
                    owner: entry.owner,
                    id,
                    fate: Fate::GivenUp,
                });
            }
        }
    }

    /// Takes the failures since the last time, for a metric.
    pub fn take_failures(&mut self) -> Vec<LedgerFailure> {
        std::mem::take(&mut self.failures)
    }

    /// Whether nothing waits and nothing is in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.batches.is_empty()
    }

    /// How many commands have not been delivered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether every command has been delivered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests;
