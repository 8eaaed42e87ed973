//! Random steps on the real ledger and on the model: answers, balances and the record must be the same after each.
//!
//! `KEYBRAKE_MODEL_CASES` says how many sequences, `KEYBRAKE_MODEL_SEED` repeats a run (64 hexadecimal digits), `random` draws one.

use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::bench::*;
use super::place::{CASES, CHORES_EVERY_MS};
use crate::book::{Evidence, Finding};
use crate::engine::tests::model::cells::{Cells, answered};
use crate::engine::tests::model::steps::{From, Step, Which, Wish, beginning, cases, seed, steps};
use crate::engine::tests::model::wire;
use crate::engine::tests::model::{
    Ask, BudgetEdit, Id, KeyEdit, Model, Op, Parts, Said, Subject, Verdict,
};
use crate::engine::{ChangeError, LedgerOptions};
use crate::model::{AuditQuery, Balance, IssuedKey};

/// So many sequences must reach every cell.
const ALL_REACHED_FROM: u32 = 90;
/// Most steps of a sequence.
const STEPS: usize = 40;

/// The model and the ledger, side by side.
struct Pair {
    bench: Bench,
    model: Model,
    keys: Vec<IssuedKey>,
    /// Every command that was made, sent or not.
    made: Vec<(Id, Op)>,
    cells: &'static Cells,
    /// What was done, for people.
    told: Vec<String>,
}

/// What is not as the model says.
type Differs = String;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, ledger: &T, model: &T) -> Result<(), Differs> {
    if ledger == model {
        return Ok(());
    }
    Err(format!("{what}\n  ledger: {ledger:?}\n  model:  {model:?}"))
}

impl Pair {
    async fn new(model: Model, cells: &'static Cells) -> Self {
        let bench = Bench::in_folder(Folder::in_memory(), |options: &mut LedgerOptions| {
            options.chores_every_ms = CHORES_EVERY_MS;
            options.commands_kept_ms = i64::MAX;
        });
        for (number, budget) in model.budgets.iter().enumerate() {
            let new = wire::new_budget(number, budget);
            bench.ledger.create_budget(new).await.unwrap();
        }
        let keys = model.keys.iter().map(wire::new_key).collect();
        let keys = bench.ledger.issue(keys).await.unwrap();
        Self {
            bench,
            model,
            keys,
            made: Vec::new(),
            cells,
            told: Vec::new(),
        }
    }

    /// Does one step on both sides and compares.
    async fn step(mut self, step: &Step) -> Result<Self, Differs> {
        match step {
            Step::Restart => self.bench = self.bench.reopened().await,
            Step::Wait(ms) => self.wait(*ms).await,
            Step::ChangeKey(key, edit) => self.change_key(key.index(self.keys.len()), edit).await?,
            Step::Issue(key) => self.issue(key.index(self.keys.len())).await,
            Step::ChangeBudget(budget, edit) => self.change_budget(*budget, edit).await?,
            Step::Resolve(index, verdict) => self.resolve(index, *verdict).await?,
            Step::ReleaseFirst(wish) => {
                let reserve = self.make(Op::Reserve(self.ask(wish)));
                let release = self.make(Op::Release(reserve));
                self.send(release).await?;
            }
            Step::Misuse(id, other) => {
                if !self.made.is_empty() {
                    let id = self.made[id.index(self.made.len())].0;
                    let op = self.made[other.index(self.made.len())].1.clone();
                    self.execute(id, &op).await?;
                }
            }
            _ => {
                if let Some(id) = self.command_of(step) {
                    self.send(id).await?;
                }
            }
        }
        self.compare().await?;
        Ok(self)
    }

    /// The command that a step is, made but not sent.
    fn command_of(&mut self, step: &Step) -> Option<Id> {
        let op = match step {
            Step::Reserve(wish) => Op::Reserve(self.ask(wish)),
            Step::Retry(index) => Op::Reserve(self.model.asked(self.hold(index)?)?),
            Step::Outcome(which, verdict, object) => {
                let (hold, attempt, _) = self.attempt(which)?;
                Op::Outcome(Said {
                    hold,
                    attempt,
                    verdict: *verdict,
                    object: *object,
                })
            }
            Step::Stray(index, verdict) => {
                let attempts = self.model.attempts(From::Any);
                let hold = attempts.get(index.index(attempts.len() + 1));
                Op::Outcome(Said {
                    hold: hold.map_or(u64::MAX, |(hold, _, _)| *hold),
                    attempt: 9,
                    verdict: *verdict,
                    object: None,
                })
            }
            Step::Release(which) => Op::Release(self.attempt(which)?.2),
            Step::Again(index) => {
                let index = (!self.made.is_empty()).then(|| index.index(self.made.len()));
                return index.map(|index| self.made[index].0);
            }
            other => unreachable!("{other:?} is not a command"),
        };
        Some(self.make(op))
    }

    fn make(&mut self, op: Op) -> Id {
        let id = Id::try_from(self.made.len()).unwrap() + 1;
        self.made.push((id, op));
        id
    }

    /// Hold, number and reserve of an attempt.
    fn attempt(&self, which: &Which) -> Option<(Id, u32, Id)> {
        let mut attempts = self.model.attempts(which.from);
        if attempts.is_empty() {
            attempts = self.model.attempts(From::Any);
        }
        let index = (!attempts.is_empty()).then(|| which.index.index(attempts.len()));
        index.map(|index| attempts[index])
    }

    fn ask(&self, wish: &Wish) -> Ask {
        let key = wish.key.index(self.keys.len());
        let version = self.model.version(key);
        let ask = Ask {
            key,
            version: match wish.is_stale {
                true => version.checked_sub(2),
                false => Some(version),
            },
            is_read: wish.is_read,
            cost: wish.cost,
            idempotency: wish.idempotency,
            fingerprint: wish.fingerprint,
            full_fingerprint: wish.full_fingerprint,
            purchase: Some(wish.purchase),
        };
        let purchase = ask.purchase;
        Ask {
            purchase: purchase.filter(|_| ask.is_purchase() && self.model.is_ruled(key)),
            ..ask
        }
    }

    /// A hold that is unknown, if there is one; else any.
    fn hold(&self, index: &Index) -> Option<Id> {
        let mut holds = self.model.unknown_holds();
        if holds.is_empty() {
            let all = self.model.attempts(From::Any).into_iter();
            holds = all.map(|(hold, _, _)| hold).collect();
        }
        (!holds.is_empty()).then(|| holds[index.index(holds.len())])
    }

    /// Sends a command that was made.
    async fn send(&mut self, id: Id) -> Result<(), Differs> {
        let index = usize::try_from(id).unwrap() - 1;
        let op = self.made[index].1.clone();
        self.execute(id, &op).await
    }

    async fn execute(&mut self, id: Id, op: &Op) -> Result<(), Differs> {
        if let Some(cell) = self.model.cell(id, op) {
            self.cells.reached(cell);
        }
        let tripped = self.model.tripped();
        let along = self.model.open_object_holds();
        if self.model.tells_of_what_is_settled(op) {
            self.cells
                .reached("a part of a total is settled already".to_owned());
        }
        let expected = self.model.execute(id, op);
        if self.model.tripped() > tripped {
            self.cells.reached("a budget trips".to_owned());
        }
        if matches!(op, Op::Outcome(_)) && self.model.open_object_holds() < along {
            self.cells
                .reached("a hold of an object is decided along".to_owned());
        }
        self.cells.reached(answered(&expected));
        self.told.push(format!("{id}: {op:?} → {expected:?}"));
        let digests: Vec<_> = self.keys.iter().map(|key| key.key.digest).collect();
        let result = self.bench.send(wire::command(id, op, &digests)).await;
        same(&format!("{id}: {op:?}"), &wire::answer(result), &expected)
    }

    async fn wait(&mut self, ms: i64) {
        let before = self.model.open_attempts();
        self.model.wait(ms);
        self.told.push(format!("{ms} ms pass"));
        let open = self.model.open_attempts();
        if open < before {
            self.cells.reached("an attempt is swept".to_owned());
        }
        self.bench.hand.advance_ms(ms);
        let ledger = &self.bench.ledger;
        self.bench
            .eventually("what is overdue is swept", || async {
                ledger.figures().await.open_attempts <= open as u64
            })
            .await;
    }

    async fn change_key(&mut self, key: usize, edit: &KeyEdit) -> Result<(), Differs> {
        let is_done = self.model.change_key(key, edit);
        self.told.push(format!("key {key}: {edit:?}, {is_done}"));
        let key_id = &self.keys[key].key.key_id;
        let Some(change) = wire::key_change(edit, self.model.now) else {
            self.bench.ledger.revoke(key_id).await.unwrap();
            return Ok(());
        };
        let done = self.bench.ledger.change(key_id, change).await;
        if let Err(error) = &done {
            assert!(matches!(
                error,
                ChangeError::Revoked | ChangeError::Budget(_)
            ));
        }
        same("a key is changed", &done.is_ok(), &is_done)
    }

    /// A key like this one, as it was first, in the present.
    async fn issue(&mut self, like: usize) {
        let mut key = self.model.keys[like].clone();
        key.is_revoked = false;
        key.version = 1;
        key.expires_at = self.model.now + 80 * 24 * HOUR;
        let open = |budget: &usize| self.model.budgets[*budget].is_closed();
        key.budget = key.budget.filter(|budget| !open(budget));
        let issued = self.bench.ledger.issue(vec![wire::new_key(&key)]).await;
        self.told.push(format!("issued: {key:?}"));
        self.keys.extend(issued.unwrap());
        self.model.keys.push(key);
    }

    async fn change_budget(&mut self, budget: usize, edit: &BudgetEdit) -> Result<(), Differs> {
        let is_done = self.model.change_budget(budget, edit);
        self.told
            .push(format!("budget {budget}: {edit:?}, {is_done}"));
        let (name, change) = (wire::budget_name(budget), wire::budget_change(edit));
        let done = self.bench.ledger.change_budget(&name, change).await;
        same("a budget is changed", &done.is_ok(), &is_done)
    }

    async fn resolve(&mut self, index: &Index, verdict: Verdict) -> Result<(), Differs> {
        let Some(hold) = self.hold(index) else {
            return Ok(());
        };
        let is_held = self.model.is_open(hold);
        let is_done = self.model.resolve(hold, verdict);
        self.cells.reached(format!("resolved, {is_done}"));
        if is_held && is_done {
            self.cells.reached("what is held is resolved".to_owned());
        }
        self.told.push(format!("{hold} is {verdict:?}, {is_done}"));
        let finding = match wire::executed(verdict, None) {
            Some(executed) => Finding::Executed {
                executed,
                object: None,
                charge: None,
            },
            None => Finding::NotExecuted,
        };
        let evidence = Evidence::Operator {
            reason: "seen".to_owned(),
            who: "model".to_owned(),
        };
        let ledger = &self.bench.ledger;
        let done = ledger.resolve(wire::id(hold), finding, evidence).await;
        same("a request is resolved", &done.is_ok(), &is_done)
    }

    /// Compares every balance, version and state.
    async fn compare(&self) -> Result<(), Differs> {
        let ledger = &self.bench.ledger;
        for (number, key) in self.keys.iter().enumerate() {
            let (key, balances) = ledger.key(&key.key.key_id).await.unwrap().unwrap();
            let model = &self.model.keys[number];
            let what = format!("key {number}");
            same(&what, &key.revoked_at.is_some(), &model.is_revoked)?;
            if !model.is_revoked {
                same(&what, &key.grant.version, &model.version)?;
            }
            let subject = Subject::Key(number);
            same(&what, &all_parts(&balances), &self.model.balances(subject))?;
        }
        for (number, model) in self.model.budgets.iter().enumerate() {
            let name = wire::budget_name(number);
            let (budget, balances) = ledger.budget(&name).await.unwrap().unwrap();
            same(&name, &budget.state, &wire::budget_state(model.state))?;
            let subject = Subject::Budget(number);
            same(&name, &all_parts(&balances), &self.model.balances(subject))?;
        }
        Ok(())
    }

    /// Compares what is on record: every request's end, and statements that add up.
    async fn compare_records(&self) -> Result<(), Differs> {
        for entry in self.bench.entries(AuditQuery::default()).await {
            let Ok(number) = entry.request_id.parse() else {
                continue;
            };
            if let Some((outcome, cost, attempts)) = self.model.ended(number) {
                let what = format!("entry {number}");
                same(&what, &entry.outcome, &Some(outcome))?;
                same(&what, &entry.attempts, &attempts)?;
                let cost = cost.map(|cost| format!("{}.{:02}0000", cost / 100, cost % 100));
                same(&what, &entry.cost_usd, &cost)?;
            }
        }
        let ledger = &self.bench.ledger;
        let open = ledger.figures().await.open_attempts;
        same("open attempts", &open, &(self.model.open_attempts() as u64))?;
        let mut all = Vec::new();
        for key in &self.keys {
            let stated = ledger.key_statement(&key.key.key_id, None).await.unwrap();
            all.extend(stated.unwrap().1);
        }
        for number in 0..self.model.budgets.len() {
            let name = wire::budget_name(number);
            let stated = ledger.budget_statement(&name, None).await.unwrap();
            all.extend(stated.unwrap().1);
        }
        for statement in all {
            if !statement.adds_up() {
                return Err(format!("does not add up: {statement:?}"));
            }
        }
        Ok(())
    }
}

fn all_parts(balances: &[Balance]) -> Vec<Parts> {
    balances.iter().map(wire::parts).collect()
}

/// One sequence, from its beginning to the audit's verification.
async fn play(model: Model, steps: Vec<Step>, cells: &'static Cells) -> Result<(), String> {
    let mut pair = Pair::new(model, cells).await;
    for step in &steps {
        let told = pair.told.clone();
        pair = match pair.step(step).await {
            Ok(pair) => pair,
            Err(why) => return Err(format!("{why}\nafter\n  {}", told.join("\n  "))),
        };
    }
    pair.compare_records().await?;
    let report = verified(pair.bench.place.database());
    same("the audit is whole", &report.broken, &None)
}

#[test]
fn the_ledger_does_what_the_model_does() {
    static CELLS: Cells = Cells::new();
    let cases = cases(CASES);
    let seed = seed();
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let begun = std::time::Instant::now();
    let sequences = (steps(STEPS), beginning(NOON));
    let run = runner.run(&sequences, |(steps, model)| {
        let played = runtime.block_on(play(model, steps, &CELLS));
        played.map_err(TestCaseError::fail)
    });
    let seed = hex::encode(seed);
    match run {
        Ok(()) => {}
        Err(TestError::Abort(why)) => panic!("KEYBRAKE_MODEL_SEED={seed}\n{why}"),
        Err(TestError::Fail(why, (steps, model))) => {
            let steps: Vec<_> = steps.iter().map(|step| format!("  {step:?}")).collect();
            let steps = steps.join("\n");
            panic!("KEYBRAKE_MODEL_SEED={seed}\n{why}\nminimal: {model:?}\n{steps}");
        }
    }
    println!("{cases} sequences in {:?}, seed {seed}", begun.elapsed());
    println!("the rarest: {:?}", CELLS.rarest());
    let missing = CELLS.missing();
    assert!(
        missing.is_empty() || cases < ALL_REACHED_FROM,
        "never reached, KEYBRAKE_MODEL_SEED={seed}: {missing:#?}"
    );
}
