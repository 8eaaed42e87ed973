//! The store's questions and changes, on what is known and what is pending.
//!
//! What is asked for by its key is known or read; whatever was written in this transaction is known. What is asked for in any other
//! way is read from the tables, after everything pending was sent.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::money::Micros;
use keybrake_contract::wire::StoredAnswer;

use super::link::{Parameter, Question};
use super::pending::rare;
use super::pieces;
use super::rows::{digest, get, parameters};
use super::turn::PostgresStore;
use crate::book::{Movement, Parts};
use crate::model::{Budget, Key};
use crate::store::{
    Admission, Ahead, AttemptRow, AttemptState, Begun, BudgetNumber, ChainHead, Due, FullBudget,
    FullKey, HoldChange, HoldRow, KeyNumber, KnownAnswer, KnownCommand, Link, NewRequest,
    ObjectRow, PlaceNumber, Purchase, RecordKey, RequestNumber, Seen, Settled, Spender, Store,
    StoreError, Taken,
};

impl PostgresStore {
    pub(super) fn ask(
        &mut self,
        sql: &'static str,
        parameters: Vec<Parameter>,
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        self.connection()?.ask(&Question::new(sql, parameters))
    }

    /// Asks about rows that may have been changed in this transaction.
    pub(super) fn ask_all_sent(
        &mut self,
        sql: &'static str,
        parameters: Vec<Parameter>,
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        self.flush()?;
        self.ask(sql, parameters)
    }
}

impl PostgresStore {
    fn keep_signed_heads(&mut self, seq: u64, line: &str) -> Result<(), StoreError> {
        self.pending.rare.push(rare(
            "INSERT INTO signed_heads (number, seq, line)
             SELECT coalesce(max(number), 0) + 1, $1::bigint, $2::text FROM signed_heads",
            parameters![seq.cast_signed(), line.to_owned()],
            Some(1),
        ));
        Ok(())
    }
}

impl Store for PostgresStore {
    const MAY_RETRY: bool = true;

    fn begin(&mut self, ahead: &Ahead<'_>) -> Result<Begun, StoreError> {
        self.begin_turn(ahead)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.commit_turn()
    }

    fn rollback(&mut self) {
        self.rollback_turn();
    }

    fn settle(&mut self) -> Result<Settled, StoreError> {
        self.settle_doubt()
    }

    fn chain_head(&mut self) -> Result<ChainHead, StoreError> {
        Ok(self.head())
    }

    fn add_event(&mut self, head: &ChainHead, body: &[u8]) -> Result<(), StoreError> {
        self.pending.events.push((
            head.seq.cast_signed(),
            head.hash.as_bytes().to_vec(),
            body.to_vec(),
        ));
        Ok(())
    }

    fn set_chain_head(&mut self, head: &ChainHead) -> Result<(), StoreError> {
        self.set_head(head)
    }

    fn add_signed_heads(&mut self, seq: u64, line: &str) -> Result<(), StoreError> {
        self.keep_signed_heads(seq, line)
    }

    fn last_signed_heads(&mut self) -> Result<Option<String>, StoreError> {
        self.flush()?;
        pieces::last_signed_heads(self.connection()?)
    }

    fn event_hash(&mut self, seq: u64) -> Result<Option<Digest>, StoreError> {
        let rows = self.ask_all_sent(
            "SELECT hash FROM events WHERE seq = $1",
            parameters![seq.cast_signed()],
        )?;
        rows.first().map(|row| digest(row, 0)).transpose()
    }

    fn event(&mut self, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.ask_all_sent(
            "SELECT body FROM events WHERE seq = $1",
            parameters![seq.cast_signed()],
        )?;
        rows.first().map(|row| get(row, 0)).transpose()
    }

    fn set_resolution(
        &mut self,
        number: RequestNumber,
        event: u64,
        object: Option<&str>,
        charge: Option<&str>,
    ) -> Result<(), StoreError> {
        self.set_resolution(number, event, object, charge)
    }

    fn seen(&mut self, id: CommandId) -> Result<Seen, StoreError> {
        self.seen(id)
    }

    fn command(&mut self, id: CommandId) -> Result<Option<KnownCommand>, StoreError> {
        self.command(id)
    }

    fn add_command(
        &mut self,
        id: CommandId,
        digest: &Digest,
        at: i64,
        answer: &[u8],
    ) -> Result<(), StoreError> {
        self.add_command(id, digest, at, answer)
    }

    fn prune_commands(&mut self, walk: u32, before: i64) -> Result<(), StoreError> {
        self.prune_commands(walk, before)
    }

    fn place(
        &mut self,
        vendor: &str,
        credential: &str,
        account: Option<&str>,
    ) -> Result<PlaceNumber, StoreError> {
        self.place(vendor, credential, account)
    }

    fn next_request(&mut self) -> Result<RequestNumber, StoreError> {
        self.next_request()
    }

    fn add_request(&mut self, request: &NewRequest<'_>) -> Result<(), StoreError> {
        self.add_request(request)
    }

    fn link(
        &mut self,
        key: KeyNumber,
        request: RequestNumber,
        admission: Admission,
    ) -> Result<Link, StoreError> {
        self.link(key, request, admission)
    }

    fn hold_by_id(&mut self, id: CommandId) -> Result<Option<HoldRow>, StoreError> {
        self.hold_by_id(id)
    }

    fn hold(&mut self, number: RequestNumber) -> Result<Option<HoldRow>, StoreError> {
        self.hold(number)
    }

    fn change_hold(
        &mut self,
        number: RequestNumber,
        change: &HoldChange<'_>,
    ) -> Result<(), StoreError> {
        self.change_hold(number, change)
    }

    fn set_shadow(
        &mut self,
        number: RequestNumber,
        shadow: RequestNumber,
    ) -> Result<(), StoreError> {
        self.set_shadow(number, shadow)
    }

    fn add_alarm(&mut self, number: RequestNumber, alarm: &str) -> Result<(), StoreError> {
        self.add_alarm(number, alarm)
    }

    fn later_attempts(&mut self, number: RequestNumber) -> Result<Vec<AttemptRow>, StoreError> {
        self.later_attempts(number)
    }

    fn attempt_by_reserve(
        &mut self,
        reserve: CommandId,
    ) -> Result<Option<(RequestNumber, u32)>, StoreError> {
        self.attempt_by_reserve(reserve)
    }

    fn add_attempt(
        &mut self,
        number: RequestNumber,
        attempt: u32,
        reserve: CommandId,
        deadline: i64,
    ) -> Result<(), StoreError> {
        self.add_attempt(number, attempt, reserve, deadline)
    }

    fn end_attempt(
        &mut self,
        number: RequestNumber,
        attempt: u32,
        state: AttemptState,
    ) -> Result<(), StoreError> {
        self.end_attempt(number, attempt, state)
    }

    fn due(&mut self, now: i64, most: u32) -> Result<Vec<Due>, StoreError> {
        self.due(now, most)
    }

    fn open_attempts(&mut self) -> Result<u64, StoreError> {
        self.open_attempts()
    }

    fn record(&mut self, key: &RecordKey) -> Result<Option<RequestNumber>, StoreError> {
        self.record(key)
    }

    fn set_record(&mut self, key: &RecordKey, number: RequestNumber) -> Result<(), StoreError> {
        self.set_record(key, number)
    }

    fn add_mention(&mut self, mention: i64, number: RequestNumber) -> Result<(), StoreError> {
        self.add_mention(mention, number)
    }

    fn object(
        &mut self,
        place: PlaceNumber,
        object: &str,
        payments: &[String],
    ) -> Result<Option<ObjectRow>, StoreError> {
        self.object(place, object, payments)
    }

    fn open_holds(&mut self, place: PlaceNumber, object: &str) -> Result<Vec<HoldRow>, StoreError> {
        self.open_holds(place, object)
    }

    fn settled_on(&mut self, place: PlaceNumber, object: &str) -> Result<Micros, StoreError> {
        self.settled_on(place, object)
    }

    fn add_answer(
        &mut self,
        number: RequestNumber,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError> {
        self.add_answer(number, answer)
    }

    fn answer(&mut self, number: RequestNumber) -> Result<Option<KnownAnswer>, StoreError> {
        self.answer(number)
    }

    fn count_replay(&mut self, number: RequestNumber) -> Result<(), StoreError> {
        self.count_replay(number)
    }

    fn answers_to_retire(
        &mut self,
        before: i64,
        most: u32,
    ) -> Result<Vec<(RequestNumber, StoredAnswer)>, StoreError> {
        self.answers_to_retire(before, most)
    }

    fn retire_answer(
        &mut self,
        number: RequestNumber,
        summary: &StoredAnswer,
    ) -> Result<(), StoreError> {
        self.retire_answer(number, summary)
    }

    fn take(&mut self, key: KeyNumber, window: i64, amount: Micros) -> Result<Taken, StoreError> {
        self.take(key, window, amount)
    }

    fn move_parts(
        &mut self,
        key: KeyNumber,
        window: i64,
        movement: Movement,
    ) -> Result<Option<Parts>, StoreError> {
        self.move_parts(key, window, movement)
    }

    fn balance(&mut self, key: KeyNumber, window: i64) -> Result<Option<Parts>, StoreError> {
        self.balance(key, window)
    }

    fn put_balance(&mut self, key: KeyNumber, window: i64, parts: Parts) -> Result<(), StoreError> {
        self.put_balance(key, window, parts)
    }

    fn remove_balance(&mut self, key: KeyNumber, window: i64) -> Result<(), StoreError> {
        self.remove_balance(key, window)
    }

    fn remove_balances(
        &mut self,
        subject: KeyNumber,
        from: i64,
        before: i64,
    ) -> Result<Parts, StoreError> {
        self.remove_balances(subject, from, before)
    }

    fn spent_since(
        &mut self,
        spender: Spender,
        since: i64,
        cap: Micros,
    ) -> Result<Parts, StoreError> {
        self.spent_since(spender, since, cap)
    }

    fn spent_in_steps(
        &mut self,
        spender: Spender,
        since: i64,
        step_ms: i64,
    ) -> Result<Vec<(i64, Parts)>, StoreError> {
        self.spent_in_steps(spender, since, step_ms)
    }

    fn key_by_digest(&mut self, digest: &Digest) -> Result<Option<FullKey>, StoreError> {
        self.key_by_digest(digest)
    }

    fn key_by_id(&mut self, key_id: &str) -> Result<Option<FullKey>, StoreError> {
        self.key_by_id(key_id)
    }

    fn workspace(&mut self, key: KeyNumber) -> Result<Option<String>, StoreError> {
        self.workspace(key)
    }

    fn unrevoked_by_label_prefix(&mut self, prefix: &str) -> Result<Vec<FullKey>, StoreError> {
        self.unrevoked_by_label_prefix(prefix)
    }

    fn unrevoked_by_budget(&mut self, budget: BudgetNumber) -> Result<Vec<FullKey>, StoreError> {
        self.unrevoked_by_budget(budget)
    }

    fn add_key(
        &mut self,
        key: &Key,
        budget: Option<BudgetNumber>,
    ) -> Result<KeyNumber, StoreError> {
        self.add_key(key, budget)
    }

    fn change_key(&mut self, key: &FullKey) -> Result<(), StoreError> {
        self.change_key(key)
    }

    fn count_keys(&mut self) -> Result<u64, StoreError> {
        self.count_keys()
    }

    fn budget(&mut self, number: BudgetNumber) -> Result<Option<FullBudget>, StoreError> {
        self.budget(number)
    }

    fn budget_by_name(&mut self, name: &str) -> Result<Option<FullBudget>, StoreError> {
        self.budget_by_name(name)
    }

    fn add_budget(
        &mut self,
        budget: &Budget,
        parent: Option<BudgetNumber>,
    ) -> Result<BudgetNumber, StoreError> {
        self.add_budget(budget, parent)
    }

    fn change_budget(&mut self, number: BudgetNumber, budget: &Budget) -> Result<(), StoreError> {
        self.change_budget(number, budget)
    }

    fn note_refusal(
        &mut self,
        budget: BudgetNumber,
        request: RequestNumber,
        at: i64,
        since: i64,
    ) -> Result<u64, StoreError> {
        self.note_refusal(budget, request, at, since)
    }

    fn forget_refusals(&mut self, budget: BudgetNumber) -> Result<(), StoreError> {
        self.forget_refusals(budget)
    }

    fn purchase(
        &mut self,
        subject: KeyNumber,
        digest: &Digest,
    ) -> Result<Option<Purchase>, StoreError> {
        self.purchase(subject, digest)
    }

    fn set_purchase(
        &mut self,
        subject: KeyNumber,
        digest: &Digest,
        purchase: Purchase,
        until: i64,
    ) -> Result<(), StoreError> {
        self.set_purchase(subject, digest, purchase, until)
    }

    fn prune_purchases(&mut self, now: i64, most: u32) -> Result<u32, StoreError> {
        self.prune_purchases(now, most)
    }
}
