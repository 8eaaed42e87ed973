//! What the engine's tests stand on: a ledger in a folder of its own, a clock in hand, commands by name.

#![allow(dead_code, reason = "not every store's tests use all of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keybrake_contract::digest::Digest;
use keybrake_contract::grant::{AllowedEndpoint, Grant, IdempotencyRule};
use keybrake_contract::ids::{CommandId, HoldId};
use keybrake_contract::money::{Currency, Micros, Minor};
use keybrake_contract::wire::*;
use keybrake_pack::{Pack, builtin};
use serde_json::value::to_raw_value;
use tempfile::TempDir;

use super::place::Place;
use crate::clock::{Clock, Hand, timestamp};
use crate::engine::terms::{Terms, VendorTerms, payments_of};
use crate::engine::{
    Ledger, LedgerOptions, OpenError, Received, Trust, Unavailable, VerifyReport, verify,
};
use crate::model::{AuditQuery, Balance, BudgetChange, Caps, Entry, IssuedKey, NewBudget, NewKey};
use crate::store::Database;

/// 2026-11-23T12:00:00Z.
pub const NOON: i64 = 1_795_435_200_000;
pub const HOUR: i64 = 3_600_000;

static COUNTER: AtomicU64 = AtomicU64::new(1);

/// An id that no other command of this test run has.
pub fn fresh() -> CommandId {
    CommandId::new([9; 16], COUNTER.fetch_add(1, Ordering::Relaxed))
}

pub struct Bench {
    pub ledger: Ledger,
    pub hand: Hand,
    pub folder: Folder,
    pub place: Place,
    options: LedgerOptions,
    clock: Clock,
}

/// A folder with a database that must be whole, with entries as its events say, when the test is over.
pub struct Folder(Option<TempDir>);

impl Folder {
    pub fn new() -> Self {
        Self(Some(tempfile::tempdir().unwrap()))
    }

    /// In memory where that can be had: for tests of many commits that are not about disks.
    pub fn in_memory() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self(Some(folder.unwrap()))
    }

    pub fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }

    /// The folder, for a test that will damage what is in it.
    pub fn for_damage(mut self) -> TempDir {
        self.0.take().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take()
            && !std::thread::panicking()
        {
            let file = folder.path().join("k.db");
            if file.exists() {
                assert_eq!(verified(&file).broken, None);
            }
        }
    }
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut LedgerOptions)) -> Self {
        Self::in_folder(Folder::new(), change)
    }

    pub fn in_folder(folder: Folder, change: impl FnOnce(&mut LedgerOptions)) -> Self {
        let place = Place::new(folder.path());
        Self::opened(place, folder, change)
    }

    /// On this place.
    pub fn at(place: Place, folder: Folder) -> Self {
        Self::opened(place, folder, |_| {})
    }

    fn opened(place: Place, folder: Folder, change: impl FnOnce(&mut LedgerOptions)) -> Self {
        let (clock, hand) = Clock::manual(NOON);
        let mut options = place.options(folder.path());
        change(&mut options);
        let ledger = open(options.clone(), &clock).unwrap();
        Self {
            ledger,
            hand,
            folder,
            place,
            options,
            clock,
        }
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("k.db")
    }

    /// Another ledger on the same database and clock.
    pub fn another(&self) -> Ledger {
        open(self.options.clone(), &self.clock).unwrap()
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Closes the ledger and opens its database again.
    pub async fn reopened(self) -> Self {
        self.reopened_with(|_| {}).await
    }

    /// The same with other options.
    pub async fn reopened_with(self, change: impl FnOnce(&mut LedgerOptions)) -> Self {
        let Self {
            ledger,
            hand,
            folder,
            place,
            mut options,
            clock,
        } = self;
        ledger.close().await;
        change(&mut options);
        let ledger = open(options.clone(), &clock).unwrap();
        Self {
            ledger,
            hand,
            folder,
            place,
            options,
            clock,
        }
    }

    pub async fn key(&self, caps: Caps) -> IssuedKey {
        self.key_like(caps, |_| {}).await
    }

    pub async fn key_like(&self, caps: Caps, change: impl FnOnce(&mut NewKey)) -> IssuedKey {
        let mut key = new_key(caps, self.clock.now_ms());
        change(&mut key);
        self.ledger.issue(vec![key]).await.unwrap().remove(0)
    }

    /// Makes a budget.
    pub async fn budget(&self, name: &str, parent: Option<&str>, caps: Caps) {
        self.budget_like(name, parent, caps, |_| {}).await;
    }

    pub async fn budget_like(
        &self,
        name: &str,
        parent: Option<&str>,
        caps: Caps,
        change: impl FnOnce(&mut NewBudget),
    ) {
        let mut budget = new_budget(name, parent, caps);
        change(&mut budget);
        self.ledger.create_budget(budget).await.unwrap();
    }

    pub async fn budget_change(&self, name: &str, change: BudgetChange) {
        self.ledger.change_budget(name, change).await.unwrap();
    }

    /// Free, held, settled, unknown of each balance of a budget, in whole cents.
    pub async fn all_budget_parts(&self, name: &str) -> Vec<[i64; 4]> {
        let (_, balances) = self.ledger.budget(name).await.unwrap().unwrap();
        balances.iter().map(in_cents).collect()
    }

    /// The same of the first.
    pub async fn budget_parts(&self, name: &str) -> [i64; 4] {
        self.all_budget_parts(name).await[0]
    }

    /// Every event on the chain.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let database = self.place.database();
        let mut reads = aside(|| database.open_reads().unwrap());
        let mut events = Vec::new();
        aside(|| {
            reads
                .chain(&mut |event| {
                    events.push(serde_json::from_slice(&event.body).unwrap());
                    std::ops::ControlFlow::Continue(())
                })
                .unwrap()
        });
        events
    }

    /// Sends one command and gives its result.
    pub async fn send(&self, command: Command) -> CommandResult {
        self.try_send(command).await.unwrap()
    }

    pub async fn try_send(&self, command: Command) -> Result<CommandResult, Unavailable> {
        let answers = self.ledger.execute(vec![received(&command)]).await?;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].id, Some(command.id()));
        Ok(answers[0].result.clone())
    }

    pub async fn reserve(&self, reserve: Reserve) -> CommandResult {
        self.send(Command::Reserve(Box::new(reserve))).await
    }

    /// Reserves and expects to be admitted.
    pub async fn admitted(&self, reserve: Reserve) -> Admitted {
        match self.reserve(reserve).await {
            CommandResult::Admitted(admitted) => admitted,
            other => panic!("not admitted: {other:?}"),
        }
    }

    pub async fn outcome(&self, outcome: Outcome) {
        let result = self.send(Command::Outcome(Box::new(outcome))).await;
        assert_eq!(result, CommandResult::Recorded);
    }

    pub async fn release(&self, reserve: CommandId) -> CommandResult {
        self.send(Command::Release(Release {
            id: fresh(),
            reserve,
            cause: ReleaseCause::NoAnswer,
        }))
        .await
    }

    pub async fn balances(&self, key: &IssuedKey) -> Vec<Balance> {
        let (_, balances) = self.ledger.key(&key.key.key_id).await.unwrap().unwrap();
        for balance in &balances {
            let sum = [balance.held, balance.settled, balance.unknown]
                .into_iter()
                .fold(balance.free, |sum, part| sum.checked_add(part).unwrap());
            assert_eq!(sum, balance.cap, "the parts add up to the cap");
        }
        balances
    }

    /// Free, held, settled, unknown of the first balance, in whole cents.
    pub async fn parts(&self, key: &IssuedKey) -> [i64; 4] {
        in_cents(&self.balances(key).await.remove(0))
    }

    pub async fn entries(&self, query: AuditQuery) -> Vec<Entry> {
        let query = AuditQuery {
            limit: 1000,
            ..query
        };
        self.ledger.audit(query).await.unwrap().items
    }

    pub async fn entry(&self, hold: HoldId) -> Entry {
        let all = self.entries(AuditQuery::default()).await;
        all.into_iter()
            .find(|entry| entry.id == hold.to_string())
            .unwrap()
    }

    /// Waits until this comes true.
    pub async fn eventually<F>(&self, what: &str, mut condition: impl FnMut() -> F)
    where
        F: Future<Output = bool>,
    {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !condition().await {
            assert!(std::time::Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

fn in_cents(balance: &Balance) -> [i64; 4] {
    let parts = [balance.free, balance.held, balance.settled, balance.unknown];
    let sum: i64 = parts.iter().map(|part| part.get()).sum();
    assert_eq!(sum, balance.cap.get(), "the parts add up to the cap");
    parts.map(|micros| micros.get() / 10_000)
}

pub fn new_budget(name: &str, parent: Option<&str>, caps: Caps) -> NewBudget {
    NewBudget {
        name: name.to_owned(),
        parent: parent.map(str::to_owned),
        caps,
        time_zone: "UTC".to_owned(),
        trip_on: None,
        duplicates: None,
        metadata: None,
    }
}

pub fn open(options: LedgerOptions, clock: &Clock) -> Result<Ledger, OpenError> {
    let rates = options.rates.as_ref();
    let stripe = Pack::parse(&builtin("stripe").unwrap()).unwrap();
    let terms = |memory_ms| VendorTerms {
        memory_ms,
        rates: rates.map(|table| table.at(&stripe)).unwrap_or_default(),
        payments: payments_of(&stripe),
    };
    let terms = Terms::from([
        ("stripe".to_owned(), terms(Some(23 * HOUR))),
        ("twilio".to_owned(), terms(None)),
    ]);
    aside(|| Ledger::open_with(options, clock.clone(), terms))
}

pub fn open_at(database: &Path, clock: &Clock) -> Result<Ledger, OpenError> {
    open(LedgerOptions::new(database), clock)
}

/// On a thread of its own, since it blocks and tests are asynchronous.
fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// The report on a database, with nothing but itself to rely on.
pub fn verified(database: impl Into<Database>) -> VerifyReport {
    let database = database.into();
    aside(|| verify(&database, &Trust::default()).unwrap())
}

pub fn received(command: &Command) -> Received {
    Received::read(&to_raw_value(command).unwrap())
}

pub fn usd(cents: i64) -> Micros {
    Micros::from_cents(cents).unwrap()
}

pub fn cents(amount: u64) -> Minor {
    Minor {
        amount,
        currency: Currency::USD,
    }
}

pub fn daily(cap_cents: i64) -> Caps {
    Caps {
        daily: Some(usd(cap_cents)),
        ..Caps::default()
    }
}

pub fn new_key(caps: Caps, now: i64) -> NewKey {
    NewKey {
        label: "pipeline".to_owned(),
        workspace: "default".to_owned(),
        grant: Grant {
            key_id: String::new(),
            version: 0,
            vendor: "stripe".to_owned(),
            allowed_endpoints: vec![AllowedEndpoint::Operation("charges.create".to_owned())],
            constraints: BTreeMap::new(),
            vendor_accounts: Vec::new(),
            idempotency: IdempotencyRule::Required,
            duplicate_fields: Vec::new(),
        },
        caps,
        worst_case: None,
        expires_at: timestamp(now + 90 * 24 * HOUR),
        metadata: None,
        budget: None,
        duplicates: None,
    }
}

pub fn facts(operation: &str) -> RequestFacts {
    RequestFacts {
        vendor: "stripe".to_owned(),
        credential: "stripe".to_owned(),
        operation: operation.to_owned(),
        method: "POST".to_owned(),
        path: "/v1/charges".to_owned(),
        vendor_account: None,
        request_id: "req-1".to_owned(),
        run_id: None,
        traceparent: None,
        params: BTreeMap::from([("customer".to_owned(), "cus_1".to_owned())]),
    }
}

/// A charge of so many cents under this idempotency key.
pub fn charge(key: &IssuedKey, amount: u64, idempotency_key: &str) -> Reserve {
    Reserve {
        id: fresh(),
        key_digest: key.key.digest,
        grant_version: Some(key.key.grant.version),
        request: Arc::new(facts("charges.create")),
        forward: Forward::Detached,
        cost: Cost::Amount(cents(amount)),
        idempotency: Some(Idempotency {
            key: idempotency_key.to_owned(),
            fingerprint: Digest::of(amount.to_string().as_bytes()),
            full_fingerprint: None,
            client_key: None,
        }),
        purchases: Vec::new(),
        forward_timeout_ms: 90_000,
    }
}

/// A read.
pub fn read(key: &IssuedKey) -> Reserve {
    Reserve {
        request: Arc::new(RequestFacts {
            method: "GET".to_owned(),
            path: "/v1/charges/ch_1".to_owned(),
            ..facts("charges.retrieve")
        }),
        forward: Forward::Read,
        cost: Cost::Nothing,
        idempotency: None,
        ..charge(key, 0, "k")
    }
}

/// An outcome of this kind, with nothing said.
pub fn outcome_of(admitted: &Admitted, outcome: AttemptOutcome) -> Outcome {
    Outcome {
        id: fresh(),
        hold: admitted.hold,
        attempt: admitted.attempt,
        outcome,
        status: None,
        vendor_request_id: None,
        vendor_object_id: None,
        charge_id: None,
        replayed_by_vendor: false,
        answer: None,
        latency_ms: 120,
    }
}

pub fn executed(money: ExecutedMoney, amount: Option<u64>) -> AttemptOutcome {
    AttemptOutcome::Executed(Executed {
        money,
        amount: amount.map(cents),
        is_total: false,
    })
}

/// The vendor made this object, and the money moved.
pub fn charged(admitted: &Admitted, object: &str, amount: u64) -> Outcome {
    Outcome {
        status: Some(200),
        vendor_request_id: Some(format!("req_{object}")),
        vendor_object_id: Some(object.to_owned()),
        charge_id: Some(object.to_owned()),
        answer: Some(answer(object, amount)),
        ..outcome_of(admitted, executed(ExecutedMoney::Moved, Some(amount)))
    }
}

pub fn answer(object: &str, amount: u64) -> StoredAnswer {
    StoredAnswer {
        status: 200,
        content_type: "application/json".to_owned(),
        body: format!(
            r#"{{"id":"{object}","object":"charge","amount":{amount},"currency":"usd","status":"succeeded","x":1}}"#
        ),
        vendor_request_id: Some(format!("req_{object}")),
    }
}
