//! The one writer: everything it gathers goes into one transaction, and is answered when that is on disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::{Command, CommandAnswer, CommandResult, CountedReason};

use super::admit::cap_refusal;
use super::alarms::AlarmKind;
use super::heads::{Marks, Sign, Signer};
use super::key_cache::KeyCache;
use super::outcome::SWEEP;
use super::path::Path;
use super::remembered::Remembered;
use super::terms::Terms;
use super::{Figures, Histogram, LedgerOptions, Prepared, Received, summary};
use crate::audit::{self, CapRefused};
use crate::store::{
    Ahead, AttemptState, BudgetNumber, ChainHead, Fault, HoldRow, Kind, Others, RecordKey,
    RequestNumber, Seen, Settled, Store, StoreError,
};

/// Commands that are looked at for pruning per command that is remembered.
const PRUNE_WALK: u32 = 2;
/// Answers retired at most at a time.
const RETIRE: u32 = 64;
/// Purchases forgotten at most at a time.
const PRUNE_PURCHASES: u32 = 1_024;
/// Milliseconds for which refusals without a valid key are gathered before they are written as one event.
const COUNT_MS: i64 = 60_000;
/// Upper bounds of the commit times, in microseconds.
const COMMIT_US: [u64; 14] = [
    100, 200, 300, 500, 750, 1_000, 2_000, 3_000, 5_000, 10_000, 25_000, 100_000, 500_000,
    2_000_000,
];
/// Upper bounds of the commands in a commit.
const COMMIT_COMMANDS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// The writer's own memory. All of it can be found again in the store.
pub(super) struct Writer<S> {
    pub(super) store: S,
    pub(super) options: LedgerOptions,
    pub(super) terms: Terms,
    /// The instant of the transaction at hand; never before that of an earlier event.
    pub(super) now: i64,
    pub(super) keys: KeyCache,
    /// The budgets from each one up to its root, as they are now.
    pub(super) paths: HashMap<BudgetNumber, Arc<Path>>,
    buffer: Vec<u8>,
    pub(super) counts: BTreeMap<(CountedReason, String), u64>,
    pub(super) open_attempts: u64,
    pub(super) key_count: u64,
    /// Whether the clock was too far behind the last event when it was last looked at.
    pub(super) is_clock_behind: bool,
    pub(super) signer: Signer,
    pub(super) head: ChainHead,
    is_head_moved: bool,
    remembered: u32,
    counts_written_at: i64,
    tally: Figures,
    /// When the latest event of any ledger on this database was, as far as known.
    latest_at: i64,
    /// Whether others may have changed how many attempts and keys there are.
    are_counts_old: bool,
    /// The memory before the transaction at hand, when that may have to be taken back.
    before: Option<Box<Kept>>,
    /// Whether the last commit is in doubt.
    is_in_doubt: bool,
}

/// What a transaction changes in the writer's memory and the store does not keep.
struct Kept {
    counts: BTreeMap<(CountedReason, String), u64>,
    open_attempts: u64,
    key_count: u64,
    head: ChainHead,
    remembered: u32,
    counts_written_at: i64,
    tally: Figures,
    signed: Marks,
}

impl<S: Store> Writer<S> {
    /// A writer on this store. Checks the chain's head against the last event.
    pub(super) fn new(
        mut store: S,
        signer: Signer,
        options: LedgerOptions,
        terms: Terms,
    ) -> Result<Self, StoreError> {
        let head = store.chain_head()?;
        let open_attempts = store.open_attempts()?;
        let key_count = store.count_keys()?;
        Ok(Self {
            store,
            options,
            terms,
            now: head.at,
            keys: KeyCache::default(),
            paths: HashMap::new(),
            buffer: Vec::with_capacity(4096),
            counts: BTreeMap::new(),
            open_attempts,
            key_count,
            is_clock_behind: false,
            signer,
            head,
            is_head_moved: false,
            remembered: 0,
            latest_at: i64::MIN,
            are_counts_old: false,
            before: None,
            is_in_doubt: false,
            counts_written_at: i64::MIN,
            tally: Figures {
                commit_us: Histogram::with_bounds(&COMMIT_US),
                commit_commands: Histogram::with_bounds(&COMMIT_COMMANDS),
                ..Figures::default()
            },
        })
    }

    /// When the last event was.
    pub(super) fn last_event_at(&self) -> i64 {
        self.head.at.max(self.latest_at)
    }

    /// Begins a transaction at this instant, once it is known what became of the one before.
    pub(super) fn begin(&mut self, clock_ms: i64, ahead: &Ahead<'_>) -> Result<(), StoreError> {
        if self.is_in_doubt {
            self.settle()?;
        }
        self.before = S::MAY_RETRY.then(|| Box::new(self.kept()));
        let begun = self.store.begin(ahead)?;
        if begun.others == Others::Wrote {
            self.keys = KeyCache::default();
            self.paths.clear();
            self.head = self.store.chain_head()?;
            self.are_counts_old = true;
        }
        self.latest_at = begun.at;
        self.now = clock_ms.max(self.last_event_at());
        Ok(())
    }

    /// Makes it durable. `commands`: how many it holds.
    pub(super) fn commit(&mut self, commands: u64) -> Result<(), StoreError> {
        if self.remembered > 0 {
            let walk = self.remembered.saturating_mul(PRUNE_WALK);
            let before = self.now.saturating_sub(self.options.commands_kept_ms);
            self.store.prune_commands(walk, before)?;
            self.remembered = 0;
        }
        if self.is_head_moved {
            self.store.set_chain_head(&self.head)?;
        }
        self.sign(Sign::WhenDue)?;
        let begun = Instant::now();
        let committed = self.store.commit();
        if committed
            .as_ref()
            .is_err_and(|error| error.fault() != Fault::InDoubt)
        {
            return committed;
        }
        if std::mem::take(&mut self.is_head_moved) {
            let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.tally.commits = self.tally.commits.saturating_add(1);
            self.tally.commit_us.observe(took);
            self.tally.commit_commands.observe(commands);
        }
        self.is_in_doubt = committed.is_err();
        if committed.is_ok() {
            self.signer.committed();
        }
        committed
    }

    /// Takes back the transaction at hand, from the store and from memory. One that is in doubt is left as it is.
    pub(super) fn undo(&mut self) {
        if self.is_in_doubt {
            return;
        }
        self.store.rollback();
        self.restore();
    }

    /// Finds out whether the commit that is in doubt was done. Nothing can begin before that is known.
    pub(super) fn settle(&mut self) -> Result<Settled, StoreError> {
        let settled = self.store.settle()?;
        self.is_in_doubt = false;
        match settled {
            Settled::Committed => self.signer.committed(),
            Settled::NotCommitted => self.restore(),
        }
        Ok(settled)
    }

    fn kept(&self) -> Kept {
        Kept {
            counts: self.counts.clone(),
            open_attempts: self.open_attempts,
            key_count: self.key_count,
            head: self.head.clone(),
            remembered: self.remembered,
            counts_written_at: self.counts_written_at,
            tally: self.tally.clone(),
            signed: self.signer.marks(),
        }
    }

    fn restore(&mut self) {
        self.keys = KeyCache::default();
        self.paths.clear();
        self.is_head_moved = false;
        let Some(before) = self.before.take() else {
            return;
        };
        let Kept {
            counts,
            open_attempts,
            key_count,
            head,
            remembered,
            counts_written_at,
            tally,
            signed,
        } = *before;
        self.counts = counts;
        self.open_attempts = open_attempts;
        self.key_count = key_count;
        self.head = head;
        self.remembered = remembered;
        self.counts_written_at = counts_written_at;
        self.tally = tally;
        self.signer.take_back(signed);
    }

    /// Executes one command inside the transaction.
    pub(super) fn execute(&mut self, received: &Received) -> Result<CommandAnswer, StoreError> {
        let prepared = match received {
            Received::Command(prepared) => prepared,
            Received::Unreadable { id, message } => {
                self.tallied("unreadable", "invalid_command");
                return Ok(CommandAnswer {
                    id: *id,
                    result: CommandResult::InvalidCommand(message.clone()),
                });
            }
        };
        let Prepared {
            command,
            digest,
            record_key,
            answer_sha256,
        } = &**prepared;
        let (kind, result) = match command {
            Command::Reserve(command) => (
                "reserve",
                self.reserve(command, digest, record_key.as_ref())?,
            ),
            Command::Outcome(command) => {
                ("outcome", self.outcome(command, digest, *answer_sha256)?)
            }
            Command::Release(command) => ("release", self.release(command, digest)?),
            Command::Refused(command) => ("refused", self.refused_by_filter(command, digest)?),
            Command::RefusalCount(command) => {
                ("refusal_count", self.refusal_count(command, digest)?)
            }
        };
        self.tallied(kind, result_name(&result));
        Ok(CommandAnswer {
            id: Some(command.id()),
            result,
        })
    }

    /// What is to be done from time to time, in a transaction of its own: sweep, write counts, retire answers. Answers
    /// whether there is more to do at once.
    pub(super) fn tick(&mut self) -> Result<Tick, StoreError> {
        if std::mem::take(&mut self.are_counts_old) {
            self.open_attempts = self.store.open_attempts()?;
            self.key_count = self.store.count_keys()?;
        }
        let swept = self.sweep()?;
        if self.now.saturating_sub(self.counts_written_at) >= COUNT_MS {
            self.write_counts()?;
            self.counts_written_at = self.now;
        }
        let before = self.now.saturating_sub(self.options.answers_kept_ms);
        let retired = self.store.answers_to_retire(before, RETIRE)?;
        for (number, answer) in &retired {
            self.store
                .retire_answer(*number, &summary::of_answer(answer))?;
        }
        let pruned = self.store.prune_purchases(self.now, PRUNE_PURCHASES)?;
        let is_full =
            |count: usize, most: u32| u32::try_from(count).is_ok_and(|count| count >= most);
        let is_more =
            is_full(swept, SWEEP) || is_full(retired.len(), RETIRE) || pruned >= PRUNE_PURCHASES;
        Ok(if is_more { Tick::More } else { Tick::Done })
    }

    /// Appends an event to the chain. Answers its number.
    pub(super) fn tell(&mut self, event: &impl serde::Serialize) -> Result<u64, StoreError> {
        audit::canonical(event, &mut self.buffer)
            .map_err(|error| StoreError::new(format!("an event cannot be written: {error}")))?;
        self.head = audit::next(&self.head, self.now, &self.buffer);
        self.is_head_moved = true;
        self.signer.told(self.now);
        self.store.add_event(&self.head, &self.buffer)?;
        Ok(self.head.seq)
    }

    /// Remembers a command's answer.
    pub(super) fn remember(
        &mut self,
        id: CommandId,
        digest: &Digest,
        answer: &Remembered,
    ) -> Result<(), StoreError> {
        self.remembered = self.remembered.saturating_add(1);
        self.is_head_moved = true;
        self.store
            .add_command(id, digest, self.now, &answer.to_bytes())
    }

    /// Lets a request be found by this idempotency key.
    pub(super) fn mention(
        &mut self,
        key: Option<&str>,
        number: RequestNumber,
    ) -> Result<(), StoreError> {
        match key {
            Some(key) => self.store.add_mention(RecordKey::mention(key), number),
            None => Ok(()),
        }
    }

    /// The first answer to a command that was executed before; of any kind, since an id names one command.
    pub(super) fn repeated(
        &mut self,
        id: CommandId,
        digest: &Digest,
    ) -> Result<Option<CommandResult>, StoreError> {
        if self.store.seen(id)? == Seen::Never {
            return Ok(None);
        }
        if let Some(row) = self.store.hold_by_id(id)? {
            return self.repeated_request(&row, id, digest).map(Some);
        }
        let Some(known) = self.store.command(id)? else {
            return Ok(None);
        };
        let remembered = Remembered::from_bytes(&known.answer)
            .ok_or_else(|| StoreError::new("a remembered answer cannot be read".to_owned()))?;
        if remembered == Remembered::Tombstone {
            return Ok(Some(CommandResult::Cancelled));
        }
        if known.digest != *digest {
            return self.conflict(id).map(Some);
        }
        Ok(Some(match remembered {
            Remembered::Recorded => CommandResult::Recorded,
            Remembered::Released => CommandResult::Released,
            Remembered::Tombstone => CommandResult::Cancelled,
            Remembered::InFlight => CommandResult::InFlight,
            Remembered::Grant(grant) => CommandResult::Grant(grant),
            Remembered::Replay(number) => match self.store.hold(number)? {
                Some(row) => self.replay_of(&row)?,
                None => return Err(StoreError::new("a replayed request is missing".to_owned())),
            },
            Remembered::Attempt { hold, attempt } => self.repeated_attempt(hold, attempt)?,
        }))
    }

    fn repeated_attempt(
        &mut self,
        hold: CommandId,
        attempt: u32,
    ) -> Result<CommandResult, StoreError> {
        let Some(row) = self.store.hold_by_id(hold)? else {
            return Err(StoreError::new("an attempt's hold is missing".to_owned()));
        };
        let later = self.store.later_attempts(row.number)?;
        let is_released = later
            .iter()
            .any(|known| known.attempt == attempt && known.state == AttemptState::NotForwarded);
        Ok(if is_released {
            CommandResult::Cancelled
        } else {
            self.attempt_answer(hold, attempt)
        })
    }

    /// The first answer to a command that is a request of its own: an admitted or refused reserve, a refusal.
    fn repeated_request(
        &mut self,
        row: &HoldRow,
        id: CommandId,
        digest: &Digest,
    ) -> Result<CommandResult, StoreError> {
        if row.digest != *digest {
            return self.conflict(id);
        }
        match row.kind {
            Kind::RefusedByFilter => Ok(CommandResult::Recorded),
            Kind::Refused => self.refusal_of(row).map(CommandResult::Refused),
            Kind::Read | Kind::Write if row.first_attempt == AttemptState::NotForwarded => {
                Ok(CommandResult::Cancelled)
            }
            Kind::Read | Kind::Write => Ok(self.attempt_answer(row.id, 1)),
        }
    }

    /// A refusal as it was given, from its event.
    fn refusal_of(&mut self, row: &HoldRow) -> Result<Refusal, StoreError> {
        #[derive(serde::Deserialize)]
        struct Told {
            code: RefusalCode,
            #[serde(default)]
            cap: Option<CapRefused>,
            #[serde(default)]
            by_budget: Option<String>,
            #[serde(default)]
            earlier_request_id: Option<String>,
        }
        let body = self.store.event(row.event)?;
        let told: Told = body
            .and_then(|body| serde_json::from_slice(&body).ok())
            .ok_or_else(|| StoreError::new("the event of a refusal cannot be read".to_owned()))?;
        let refusal = match told.cap {
            None => Refusal::plain(told.code),
            Some(cap) => cap_refusal(&cap.limit, cap.asked, cap.left, cap.resets_at),
        };
        Ok(Refusal {
            budget: told.by_budget,
            earlier_request_id: told.earlier_request_id,
            ..refusal
        })
    }

    fn conflict(&mut self, id: CommandId) -> Result<CommandResult, StoreError> {
        self.alarm(AlarmKind::CommandIdConflict, Some(id), None)?;
        Ok(CommandResult::CommandIdConflict)
    }

    pub(super) fn tallied(&mut self, kind: &'static str, result: &'static str) {
        let slot = self.tally.commands.entry((kind, result)).or_default();
        *slot = slot.saturating_add(1);
    }

    pub(super) fn refused(&mut self, code: RefusalCode) {
        let slot = self.tally.refusals.entry(code.as_str()).or_default();
        *slot = slot.saturating_add(1);
    }

    pub(super) fn refused_count(&mut self, reason: CountedReason, count: u64) {
        let name = match reason {
            CountedReason::VaultKeyInvalid => "vault_key_invalid",
            CountedReason::RealCredential => "real_credential",
            CountedReason::HostNotAllowed => "host_not_allowed",
            CountedReason::NotInspectable => "request_not_inspectable",
            CountedReason::GovernanceUnavailable => "governance_unavailable",
        };
        let slot = self.tally.refusals.entry(name).or_default();
        *slot = slot.saturating_add(count);
    }

    pub(super) fn alarmed(&mut self, name: &'static str) {
        let slot = self.tally.alarms.entry(name).or_default();
        *slot = slot.saturating_add(1);
    }

    /// The counts so far.
    pub(super) fn figures(&self) -> Figures {
        let mut tally = self.tally.clone();
        let failures = self.signer.failures();
        if failures > 0 {
            tally.alarms.insert("heads_not_kept", failures);
        }
        Figures {
            open_attempts: self.open_attempts,
            keys: self.key_count,
            events: self.head.seq,
            ..tally
        }
    }
}

/// Whether a tick left something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    /// Nothing for now.
    Done,
    /// More of the same, at once.
    More,
}

const fn result_name(result: &CommandResult) -> &'static str {
    match result {
        CommandResult::Admitted(_) => "admitted",
        CommandResult::Grant(_) => "grant",
        CommandResult::Refused(_) => "refused",
        CommandResult::Replay(_) => "replay",
        CommandResult::InFlight => "in_flight",
        CommandResult::Cancelled => "cancelled",
        CommandResult::Recorded => "recorded",
        CommandResult::Released => "released",
        CommandResult::InvalidCommand(_) => "invalid_command",
        CommandResult::CommandIdConflict => "command_id_conflict",
    }
}
