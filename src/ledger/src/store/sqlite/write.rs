//! The writer's connection: transactions, the chain, commands, places. The rest is handed on.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::money::Micros;
use keybrake_contract::wire::StoredAnswer;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::checkpoint::Checkpointer;
use super::codes::{Wrote, command_id, digest};
use super::memory::Memory;
use super::{Lock, budgets, holds, keys, money, pieces, purchases};
use crate::book::{Movement, Parts};
use crate::model::{Budget, Key};
use crate::store::counters::{range, split};
use crate::store::{
    Admission, Ahead, AttemptRow, AttemptState, Begun, BudgetNumber, ChainHead, Due, FullBudget,
    FullKey, HoldChange, HoldRow, KeyNumber, KnownAnswer, KnownCommand, Link, NewRequest,
    ObjectRow, Others, PlaceNumber, Purchase, RecordKey, RequestNumber, Seen, Settled, Spender,
    Store, StoreError, Taken,
};

/// The one writer of a database.
pub struct SqliteStore {
    connection: Connection,
    /// Gone only while the store is being dropped.
    checkpointer: Option<Checkpointer>,
    memory: Memory,
    next_request: Option<RequestNumber>,
    /// Where the round over old commands goes on.
    prune_cursor: Option<CommandId>,
    /// Events since the last commit: each stands for about one page.
    written: u64,
    _lock: Lock,
}

impl Drop for SqliteStore {
    /// Moves what is in the write-ahead log into the database, so that a stopped ledger is one file.
    fn drop(&mut self) {
        drop(self.checkpointer.take());
        if self.connection.is_autocommit() {
            // Without it nothing is lost: the log is read at the next opening.
            let _ = self
                .connection
                .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        }
    }
}

impl SqliteStore {
    pub(super) fn new(
        connection: Connection,
        checkpointer: Checkpointer,
        lock: Lock,
    ) -> Result<Self, StoreError> {
        let store = Self {
            connection,
            checkpointer: Some(checkpointer),
            written: 0,
            memory: Memory::default(),
            next_request: None,
            prune_cursor: None,
            _lock: lock,
        };
        store.begin_chain()?;
        store.check_head()?;
        Ok(store)
    }

    /// A chain's name is made once, when the database is, and kept.
    fn begin_chain(&self) -> Result<(), StoreError> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|error| StoreError::new(error.to_string()))?;
        self.connection.execute(
            "INSERT INTO chain (only, id, seq, hash, at) VALUES (1, ?1, 0, ?2, 0) ON CONFLICT (only) DO NOTHING",
            params![hex::encode(random), [0_u8; 32]],
        )?;
        Ok(())
    }
}

impl SqliteStore {
    /// A balance after a movement that was just written.
    fn after(
        &mut self,
        key: KeyNumber,
        window: i64,
        movement: Movement,
    ) -> Result<Option<Parts>, StoreError> {
        if let Some(parts) = self.memory.moved(key, window, movement) {
            return Ok(Some(parts));
        }
        let parts = money::balance(&self.connection, key, window)?;
        if let Some(parts) = parts {
            self.memory.keep_parts(key, window, parts);
        }
        Ok(parts)
    }

    /// The head must be the last event: else the chain was cut off, or something was written past the ledger.
    fn check_head(&self) -> Result<(), StoreError> {
        let head = chain_head(&self.connection)?;
        let last = self
            .connection
            .query_row(
                "SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1",
                [],
                |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), digest(row, 1)?)),
            )
            .optional()?;
        if last.map_or(head.seq == 0, |last| last == (head.seq, head.hash)) {
            return Ok(());
        }
        Err(StoreError::new(format!(
            "the audit chain ends at event {}, its head is event {}: run `keybrake audit verify`",
            last.map_or(0, |(seq, _)| seq),
            head.seq
        )))
    }
}

pub(super) fn chain_head(connection: &Connection) -> rusqlite::Result<ChainHead> {
    connection.query_row("SELECT id, seq, hash, at FROM chain", [], |row| {
        Ok(ChainHead {
            chain: row.get_ref(0)?.as_str()?.into(),
            seq: row.get::<_, i64>(1)?.cast_unsigned(),
            hash: digest(row, 2)?,
            at: row.get(3)?,
        })
    })
}

impl Store for SqliteStore {
    /// Whatever fails here fails for good.
    const MAY_RETRY: bool = false;

    fn begin(&mut self, _ahead: &Ahead<'_>) -> Result<Begun, StoreError> {
        self.connection
            .prepare_cached("BEGIN IMMEDIATE")?
            .execute([])?;
        Ok(Begun {
            at: i64::MIN,
            others: Others::Silent,
        })
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        let pages = std::mem::take(&mut self.written);
        if let Some(checkpointer) = &self.checkpointer
            && pages > 0
        {
            checkpointer.after_commit(&self.connection, pages);
        }
        Ok(())
    }

    fn rollback(&mut self) {
        self.memory = Memory::default();
        self.next_request = None;
        if !self.connection.is_autocommit() {
            // A failure here changes nothing: what was not committed is not there after the next opening.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn settle(&mut self) -> Result<Settled, StoreError> {
        Err(StoreError::new("no commit to a file is in doubt"))
    }

    fn chain_head(&mut self) -> Result<ChainHead, StoreError> {
        Ok(chain_head(&self.connection)?)
    }

    fn add_event(&mut self, head: &ChainHead, body: &[u8]) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR FAIL INTO events (seq, hash, body) VALUES (?1, ?2, ?3)")?
            .execute(params![head.seq.cast_signed(), head.hash.as_bytes(), body])?;
        self.written = self.written.saturating_add(1);
        Ok(())
    }

    fn set_chain_head(&mut self, head: &ChainHead) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE OR FAIL chain SET seq = ?1, hash = ?2, at = ?3 WHERE only = 1")?
            .execute(params![
                head.seq.cast_signed(),
                head.hash.as_bytes(),
                head.at
            ])?;
        Ok(())
    }

    fn add_signed_heads(&mut self, seq: u64, line: &str) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR FAIL INTO signed_heads (seq, line) VALUES (?1, ?2)")?
            .execute(params![seq.cast_signed(), line])?;
        self.written = self.written.saturating_add(1);
        Ok(())
    }

    fn last_signed_heads(&mut self) -> Result<Option<String>, StoreError> {
        Ok(pieces::last_signed_heads(&self.connection)?)
    }

    fn event_hash(&mut self, seq: u64) -> Result<Option<Digest>, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT hash FROM events WHERE seq = ?1")?
            .query_row([seq.cast_signed()], |row| digest(row, 0))
            .optional()?)
    }

    fn event(&mut self, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT body FROM events WHERE seq = ?1")?
            .query_row([seq.cast_signed()], |row| row.get(0))
            .optional()?)
    }

    fn seen(&mut self, id: CommandId) -> Result<Seen, StoreError> {
        if let Some(seen) = self.memory.seen(id) {
            return Ok(seen);
        }
        let (lowest, highest) = range(split(id).0);
        let known = self
            .connection
            .prepare_cached(
                "SELECT id FROM (
                     SELECT max(id) AS id FROM requests WHERE id BETWEEN ?1 AND ?2
                     UNION ALL SELECT max(id) FROM commands WHERE id BETWEEN ?1 AND ?2
                     UNION ALL SELECT max(reserve) FROM attempts WHERE reserve BETWEEN ?1 AND ?2
                 ) WHERE id IS NOT NULL ORDER BY id DESC LIMIT 1",
            )?
            .query_row(params![lowest.as_bytes(), highest.as_bytes()], |row| {
                command_id(row, 0)
            })
            .optional()?;
        self.memory.learn_nonce(id, known);
        Ok(self.memory.seen(id).unwrap_or(Seen::Perhaps))
    }

    fn command(&mut self, id: CommandId) -> Result<Option<KnownCommand>, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT digest, answer FROM commands WHERE id = ?1")?
            .query_row([id.as_bytes()], |row| {
                Ok(KnownCommand {
                    digest: digest(row, 0)?,
                    answer: row.get(1)?,
                })
            })
            .optional()?)
    }

    fn add_command(
        &mut self,
        id: CommandId,
        digest: &Digest,
        at: i64,
        answer: &[u8],
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT OR FAIL INTO commands (id, digest, at, answer) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![id.as_bytes(), digest.as_bytes(), at, answer])?;
        self.memory.keep_counter(id);
        Ok(())
    }

    fn prune_commands(&mut self, walk: u32, before: i64) -> Result<(), StoreError> {
        let after = self.prune_cursor.map_or([0_u8; 24], |id| *id.as_bytes());
        let seen = self
            .connection
            .prepare_cached("SELECT id, at FROM commands WHERE id > ?1 ORDER BY id LIMIT ?2")?
            .query_map(params![after, walk], |row| {
                Ok((command_id(row, 0)?, row.get::<_, i64>(1)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        for (id, at) in &seen {
            if *at < before {
                self.connection
                    .prepare_cached("DELETE FROM commands WHERE id = ?1")?
                    .execute([id.as_bytes()])?;
            }
        }
        let is_end = u32::try_from(seen.len()).unwrap_or(u32::MAX) < walk;
        self.prune_cursor = seen.last().filter(|_| !is_end).map(|(id, _)| *id);
        Ok(())
    }

    fn place(
        &mut self,
        vendor: &str,
        credential: &str,
        account: Option<&str>,
    ) -> Result<PlaceNumber, StoreError> {
        let account = account.unwrap_or_default();
        let name = [vendor, credential, account].join("\0");
        if let Some(number) = self.memory.place(&name) {
            return Ok(number);
        }
        self.connection
            .prepare_cached("INSERT OR FAIL INTO places (vendor, credential, account) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
            .execute(params![vendor, credential, account])?;
        let number = self
            .connection
            .prepare_cached(
                "SELECT number FROM places WHERE vendor = ?1 AND credential = ?2 AND account = ?3",
            )?
            .query_row(params![vendor, credential, account], |row| row.get(0))?;
        self.memory.keep_place(name, number);
        Ok(number)
    }

    fn next_request(&mut self) -> Result<RequestNumber, StoreError> {
        let number = match self.next_request {
            Some(number) => number,
            None => self.connection.query_row(
                "SELECT coalesce(max(number), 0) + 1 FROM requests",
                [],
                |row| row.get(0),
            )?,
        };
        self.next_request = Some(number.saturating_add(1));
        Ok(number)
    }

    fn add_request(&mut self, request: &NewRequest<'_>) -> Result<(), StoreError> {
        holds::add(&self.connection, request)?;
        self.memory.keep_counter(request.id);
        self.memory.keep_fresh(request);
        Ok(())
    }

    fn link(
        &mut self,
        key: KeyNumber,
        request: RequestNumber,
        admission: Admission,
    ) -> Result<Link, StoreError> {
        if keys::count(&self.connection, key, request, admission)? == Wrote::Nothing {
            return Ok(Link::Full);
        }
        let previous = match self.memory.link(key, request) {
            Some(previous) => Some(previous),
            None => keys::previous(&self.connection, key)?,
        };
        Ok(Link::Linked(previous))
    }

    fn hold_by_id(&mut self, id: CommandId) -> Result<Option<HoldRow>, StoreError> {
        match self.memory.fresh(id) {
            Some(row) => Ok(Some(row)),
            None => holds::by_id(&self.connection, id),
        }
    }

    fn hold(&mut self, number: RequestNumber) -> Result<Option<HoldRow>, StoreError> {
        holds::by_number(&self.connection, number)
    }

    fn change_hold(
        &mut self,
        number: RequestNumber,
        change: &HoldChange<'_>,
    ) -> Result<(), StoreError> {
        self.memory.drop_fresh(number);
        holds::change(&self.connection, number, change)
    }

    fn set_shadow(
        &mut self,
        number: RequestNumber,
        shadow: RequestNumber,
    ) -> Result<(), StoreError> {
        self.memory.drop_fresh(number);
        self.connection
            .prepare_cached("UPDATE OR FAIL requests SET shadow = ?2 WHERE number = ?1")?
            .execute(params![number, shadow])?;
        Ok(())
    }

    fn set_resolution(
        &mut self,
        number: RequestNumber,
        event: u64,
        object: Option<&str>,
        charge: Option<&str>,
    ) -> Result<(), StoreError> {
        self.memory.drop_fresh(number);
        holds::set_resolution(&self.connection, number, event, object, charge)
    }

    fn add_alarm(&mut self, number: RequestNumber, alarm: &str) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "UPDATE OR FAIL requests SET alarms = coalesce(alarms || ',', '') || ?2 WHERE number = ?1",
            )?
            .execute(params![number, alarm])?;
        Ok(())
    }

    fn later_attempts(&mut self, number: RequestNumber) -> Result<Vec<AttemptRow>, StoreError> {
        holds::later_attempts(&self.connection, number)
    }

    fn attempt_by_reserve(
        &mut self,
        reserve: CommandId,
    ) -> Result<Option<(RequestNumber, u32)>, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT request, attempt FROM attempts WHERE reserve = ?1")?
            .query_row([reserve.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?)
    }

    fn add_attempt(
        &mut self,
        number: RequestNumber,
        attempt: u32,
        reserve: CommandId,
        deadline: i64,
    ) -> Result<(), StoreError> {
        self.memory.keep_counter(reserve);
        holds::add_attempt(&self.connection, number, attempt, reserve, deadline)
    }

    fn end_attempt(
        &mut self,
        number: RequestNumber,
        attempt: u32,
        state: AttemptState,
    ) -> Result<(), StoreError> {
        holds::end_attempt(&self.connection, number, attempt, state)
    }

    fn due(&mut self, now: i64, most: u32) -> Result<Vec<Due>, StoreError> {
        holds::due(&self.connection, now, most)
    }

    fn open_attempts(&mut self) -> Result<u64, StoreError> {
        let count: i64 = self.connection.query_row(
            "SELECT (SELECT count(*) FROM requests WHERE deadline IS NOT NULL)
                  + (SELECT count(*) FROM attempts WHERE deadline IS NOT NULL)",
            [],
            |row| row.get(0),
        )?;
        Ok(count.cast_unsigned())
    }

    fn record(&mut self, key: &RecordKey) -> Result<Option<RequestNumber>, StoreError> {
        Ok(self
            .connection
            .prepare_cached("SELECT request FROM records WHERE record_key = ?1")?
            .query_row([key.as_bytes()], |row| row.get(0))
            .optional()?)
    }

    fn set_record(&mut self, key: &RecordKey, number: RequestNumber) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR FAIL INTO records (record_key, request) VALUES (?1, ?2) ON CONFLICT (record_key) DO UPDATE SET request = ?2")?
            .execute(params![key.as_bytes(), number])?;
        Ok(())
    }

    fn add_mention(&mut self, mention: i64, number: RequestNumber) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT OR FAIL INTO mentions (mention, request) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )?
            .execute(params![mention, number])?;
        Ok(())
    }

    fn object(
        &mut self,
        place: PlaceNumber,
        object: &str,
        payments: &[String],
    ) -> Result<Option<ObjectRow>, StoreError> {
        holds::object(&self.connection, place, object, payments)
    }

    fn open_holds(&mut self, place: PlaceNumber, object: &str) -> Result<Vec<HoldRow>, StoreError> {
        holds::open_holds(&self.connection, place, object)
    }

    fn settled_on(&mut self, place: PlaceNumber, object: &str) -> Result<Micros, StoreError> {
        holds::settled_on(&self.connection, place, object)
    }

    fn add_answer(
        &mut self,
        number: RequestNumber,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError> {
        holds::add_answer(&self.connection, number, answer)
    }

    fn answer(&mut self, number: RequestNumber) -> Result<Option<KnownAnswer>, StoreError> {
        holds::answer(&self.connection, number)
    }

    fn count_replay(&mut self, number: RequestNumber) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE OR FAIL requests SET replays = replays + 1 WHERE number = ?1")?
            .execute([number])?;
        Ok(())
    }

    fn answers_to_retire(
        &mut self,
        before: i64,
        most: u32,
    ) -> Result<Vec<(RequestNumber, StoredAnswer)>, StoreError> {
        holds::answers_to_retire(&self.connection, before, most)
    }

    fn retire_answer(
        &mut self,
        number: RequestNumber,
        summary: &StoredAnswer,
    ) -> Result<(), StoreError> {
        holds::retire_answer(&self.connection, number, summary)
    }

    fn take(&mut self, key: KeyNumber, window: i64, amount: Micros) -> Result<Taken, StoreError> {
        if money::take(&self.connection, key, window, amount)? == Wrote::Nothing {
            let parts = money::balance(&self.connection, key, window)?;
            return Ok(parts.map_or(Taken::NoBalance, Taken::TooLittle));
        }
        let free = Micros::ZERO.checked_sub(amount).unwrap_or_default();
        let movement = Movement {
            free,
            held: amount,
            ..Movement::default()
        };
        let parts = self.after(key, window, movement)?;
        Ok(parts.map_or(Taken::NoBalance, Taken::Taken))
    }

    fn move_parts(
        &mut self,
        key: KeyNumber,
        window: i64,
        movement: Movement,
    ) -> Result<Option<Parts>, StoreError> {
        if self.memory.is_absent(key, window) {
            return Ok(None);
        }
        if money::move_parts(&self.connection, key, window, movement)? == Wrote::Nothing {
            self.memory.keep_absent(key, window);
            return Ok(None);
        }
        self.after(key, window, movement)
    }

    fn balance(&mut self, key: KeyNumber, window: i64) -> Result<Option<Parts>, StoreError> {
        if self.memory.is_absent(key, window) {
            return Ok(None);
        }
        let parts = money::balance(&self.connection, key, window)?;
        if parts.is_none() {
            self.memory.keep_absent(key, window);
        }
        Ok(parts)
    }

    fn put_balance(&mut self, key: KeyNumber, window: i64, parts: Parts) -> Result<(), StoreError> {
        self.memory.keep_parts(key, window, parts);
        money::put(&self.connection, key, window, parts)
    }

    fn remove_balance(&mut self, key: KeyNumber, window: i64) -> Result<(), StoreError> {
        self.memory.drop_parts(key, window);
        self.connection
            .prepare_cached("DELETE FROM balances WHERE subject = ?1 AND window = ?2")?
            .execute(params![key, window])?;
        Ok(())
    }

    fn remove_balances(
        &mut self,
        subject: KeyNumber,
        from: i64,
        before: i64,
    ) -> Result<Parts, StoreError> {
        let removed = money::remove(&self.connection, subject, from, before)?;
        let mut sum = Parts::untouched(Micros::ZERO);
        for (window, parts) in removed {
            self.memory.drop_parts(subject, window);
            sum = sum.joined(parts).ok_or_else(money::overflow)?;
        }
        Ok(sum)
    }

    fn spent_since(
        &mut self,
        spender: Spender,
        since: i64,
        cap: Micros,
    ) -> Result<Parts, StoreError> {
        money::spent_since(&self.connection, spender, since, cap)
    }

    fn spent_in_steps(
        &mut self,
        spender: Spender,
        since: i64,
        step_ms: i64,
    ) -> Result<Vec<(i64, Parts)>, StoreError> {
        money::spent_in_steps(&self.connection, spender, since, step_ms)
    }

    fn key_by_digest(&mut self, digest: &Digest) -> Result<Option<FullKey>, StoreError> {
        keys::by_digest(&self.connection, digest)
    }

    fn key_by_id(&mut self, key_id: &str) -> Result<Option<FullKey>, StoreError> {
        keys::by_id(&self.connection, key_id)
    }

    fn workspace(&mut self, key: KeyNumber) -> Result<Option<String>, StoreError> {
        keys::workspace(&self.connection, key)
    }

    fn unrevoked_by_label_prefix(&mut self, prefix: &str) -> Result<Vec<FullKey>, StoreError> {
        keys::unrevoked_by_label_prefix(&self.connection, prefix)
    }

    fn unrevoked_by_budget(&mut self, budget: BudgetNumber) -> Result<Vec<FullKey>, StoreError> {
        keys::unrevoked_by_budget(&self.connection, budget)
    }

    fn add_key(
        &mut self,
        key: &Key,
        budget: Option<BudgetNumber>,
    ) -> Result<KeyNumber, StoreError> {
        keys::add(&self.connection, key, budget)
    }

    fn change_key(&mut self, key: &FullKey) -> Result<(), StoreError> {
        keys::change(&self.connection, key)
    }

    fn count_keys(&mut self) -> Result<u64, StoreError> {
        let count: i64 = self
            .connection
            .query_row("SELECT count(*) FROM keys", [], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    fn budget(&mut self, number: BudgetNumber) -> Result<Option<FullBudget>, StoreError> {
        budgets::by_number(&self.connection, number)
    }

    fn budget_by_name(&mut self, name: &str) -> Result<Option<FullBudget>, StoreError> {
        budgets::by_name(&self.connection, name)
    }

    fn add_budget(
        &mut self,
        budget: &Budget,
        parent: Option<BudgetNumber>,
    ) -> Result<BudgetNumber, StoreError> {
        budgets::add(&self.connection, budget, parent)
    }

    fn change_budget(&mut self, number: BudgetNumber, budget: &Budget) -> Result<(), StoreError> {
        budgets::change(&self.connection, number, budget)
    }

    fn note_refusal(
        &mut self,
        budget: BudgetNumber,
        request: RequestNumber,
        at: i64,
        since: i64,
    ) -> Result<u64, StoreError> {
        budgets::note_refusal(&self.connection, budget, request, at, since)
    }

    fn forget_refusals(&mut self, budget: BudgetNumber) -> Result<(), StoreError> {
        budgets::forget_refusals(&self.connection, budget)
    }

    fn purchase(
        &mut self,
        subject: KeyNumber,
        digest: &Digest,
    ) -> Result<Option<Purchase>, StoreError> {
        purchases::latest(&self.connection, subject, digest)
    }

    fn set_purchase(
        &mut self,
        subject: KeyNumber,
        digest: &Digest,
        purchase: Purchase,
        until: i64,
    ) -> Result<(), StoreError> {
        purchases::set(&self.connection, subject, digest, purchase, until)
    }

    fn prune_purchases(&mut self, now: i64, most: u32) -> Result<u32, StoreError> {
        purchases::prune(&self.connection, now, most)
    }
}
