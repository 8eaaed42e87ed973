//! Commands that overlap, on one hot key: what they answered must be what the model answers to them in some order, in which none
//! comes before one that was over when it began. With several ledgers where the store allows it.
//!
//! `KEYBRAKE_MODEL_CASES` says how many histories, `KEYBRAKE_MODEL_SEED` draws other ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

use super::bench::*;
use super::dice::Dice;
use super::place::{HISTORIES, LEDGERS};
use crate::engine::tests::model::linear::{Call, is_linearizable};
use crate::engine::tests::model::steps::{cases, seed};
use crate::engine::tests::model::{
    Answer, Ask, Budget, BudgetEdit, BudgetIs, Cost, Id, Key, Limits, Model, Op, Parts, Said,
    Subject, Verdict, wire,
};
use crate::engine::{BudgetError, Ledger, Unavailable};
use crate::model::IssuedKey;

/// At once.
const TASKS: usize = 4;
/// Operations of each.
const OPERATIONS: usize = 6;

/// An operation of a history.
#[derive(Debug, Clone)]
enum Act {
    Command(Id, Op),
    /// Freezes the budget, or opens it.
    Turn(BudgetIs),
    Look(Subject),
}

#[derive(Debug, Clone, PartialEq)]
enum Got {
    Answer(Answer),
    Done,
    Parts(Vec<Parts>),
}

fn apply(model: &mut Model, act: &Act) -> Got {
    match act {
        Act::Command(id, op) => Got::Answer(model.execute(*id, op)),
        Act::Turn(state) => {
            model.change_budget(0, &BudgetEdit::State(*state));
            Got::Done
        }
        Act::Look(subject) => Got::Parts(model.balances(*subject)),
    }
}

/// One key with a small cap, under a budget with another.
fn beginning() -> Model {
    let limits = Limits {
        daily: Some(100),
        lifetime: Some(130),
        ..Limits::default()
    };
    let key = Key {
        limits,
        worst_case: None,
        budget: Some(0),
        workspace: 0,
        expires_at: NOON + HOUR,
        is_revoked: false,
        rule: None,
        version: 1,
    };
    let budget = Budget {
        parent: None,
        limits: Limits {
            daily: Some(120),
            ..Limits::default()
        },
        zone: "UTC",
        state: BudgetIs::Open,
        brake: None,
        refusals: Vec::new(),
        rule: None,
        rule_changes: 0,
    };
    Model::new(NOON, vec![key], vec![budget])
}

/// What all tasks of a history know.
struct Shared {
    ledgers: Vec<Ledger>,
    key: IssuedKey,
    clock: AtomicU64,
    next: AtomicU64,
    /// Hold, attempt and reserve of what was admitted.
    admitted: Mutex<Vec<(Id, u32, Id)>>,
    sent: Mutex<Vec<(Id, Op)>>,
    history: Mutex<Vec<Call<Act, Got>>>,
}

impl Shared {
    fn next_act(&self, dice: &mut Dice) -> Act {
        let some = |dice: &mut Dice| {
            let admitted = self.admitted.lock().unwrap();
            (!admitted.is_empty()).then(|| *dice.pick(&admitted))
        };
        let op = match dice.below(20) {
            0 => return Act::Turn(*dice.pick(&[BudgetIs::Frozen, BudgetIs::Open])),
            1 => return Act::Turn(BudgetIs::Open),
            2..=4 => return Act::Look(*dice.pick(&[Subject::Key(0), Subject::Budget(0)])),
            5 | 6 => {
                let sent = self.sent.lock().unwrap();
                if !sent.is_empty() {
                    let (id, op) = dice.pick(&sent).clone();
                    return Act::Command(id, op);
                }
                None
            }
            7 => some(dice).map(|(_, _, reserve)| Op::Release(reserve)),
            8..=12 => some(dice).map(|(hold, attempt, _)| outcome(dice, hold, attempt)),
            _ => None,
        };
        let op = op.unwrap_or_else(|| reserve(dice));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.sent.lock().unwrap().push((id, op.clone()));
        Act::Command(id, op)
    }

    async fn ask(&self, ledger: &Ledger, act: &Act) -> Result<Got, Unavailable> {
        Ok(match act {
            Act::Command(id, op) => {
                let command = wire::command(*id, op, &[self.key.key.digest]);
                let answers = ledger.execute(vec![received(&command)]).await?;
                let result = answers.into_iter().next().unwrap().result;
                Got::Answer(wire::answer(result))
            }
            Act::Turn(state) => {
                let change = wire::budget_change(&BudgetEdit::State(*state));
                match ledger.change_budget(&wire::budget_name(0), change).await {
                    Ok(_) => Got::Done,
                    Err(BudgetError::Unavailable(why)) => return Err(why),
                    Err(other) => panic!("{other}"),
                }
            }
            Act::Look(Subject::Key(_)) => {
                let key = ledger.key(&self.key.key.key_id).await?.unwrap();
                Got::Parts(key.1.iter().map(wire::parts).collect())
            }
            Act::Look(Subject::Budget(budget)) => {
                let budget = ledger.budget(&wire::budget_name(*budget)).await?;
                Got::Parts(budget.unwrap().1.iter().map(wire::parts).collect())
            }
        })
    }

    async fn perform(&self, ledger: &Ledger, act: Act) {
        let called = self.clock.fetch_add(1, Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(60);
        let answer = loop {
            // As a filter does, the same command again until it is answered.
            match self.ask(ledger, &act).await {
                Ok(answer) => break answer,
                Err(why) => assert!(Instant::now() < deadline, "never answered: {why}"),
            }
        };
        let returned = self.clock.fetch_add(1, Ordering::SeqCst);
        if let (Got::Answer(Answer::Admitted { hold, attempt }), Act::Command(id, _)) =
            (&answer, &act)
        {
            self.admitted.lock().unwrap().push((*hold, *attempt, *id));
        }
        self.history.lock().unwrap().push(Call {
            op: act,
            answer,
            called,
            returned,
        });
    }
}

fn reserve(dice: &mut Dice) -> Op {
    Op::Reserve(Ask {
        key: 0,
        version: Some(1),
        is_read: false,
        cost: Cost::Amount(*dice.pick(&[40, 50])),
        idempotency: Some(*dice.pick(&[0, 1, 2])),
        fingerprint: u8::from(dice.below(8) == 0),
        full_fingerprint: None,
        purchase: None,
    })
}

fn outcome(dice: &mut Dice, hold: Id, attempt: u32) -> Op {
    let verdicts = [
        Verdict::Moved(None),
        Verdict::Moved(Some(30)),
        Verdict::Declined,
        Verdict::NotExecuted,
        Verdict::NotExecuted,
        Verdict::Indeterminate,
        Verdict::Indeterminate,
    ];
    Op::Outcome(Said {
        hold,
        attempt,
        verdict: *dice.pick(&verdicts),
        object: None,
    })
}

/// Makes one history on a new ledger, or on several.
async fn history(bench: &Bench, seed: u64) -> Vec<Call<Act, Got>> {
    let model = beginning();
    let budget = wire::new_budget(0, &model.budgets[0]);
    bench.ledger.create_budget(budget).await.unwrap();
    let key = wire::new_key(&model.keys[0]);
    let key = bench.ledger.issue(vec![key]).await.unwrap().remove(0);
    let mut ledgers = vec![bench.ledger.clone()];
    ledgers.extend((1..LEDGERS).map(|_| bench.another()));
    let shared = Arc::new(Shared {
        ledgers,
        key,
        clock: AtomicU64::new(0),
        next: AtomicU64::new(1),
        admitted: Mutex::default(),
        sent: Mutex::default(),
        history: Mutex::default(),
    });
    let start = Arc::new(Barrier::new(TASKS));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (shared, start) = (Arc::clone(&shared), Arc::clone(&start));
            let mut dice = Dice::new(seed * 31 + task as u64);
            tokio::spawn(async move {
                start.wait().await;
                let ledger = &shared.ledgers[task % shared.ledgers.len()];
                for _ in 0..OPERATIONS {
                    let act = shared.next_act(&mut dice);
                    shared.perform(ledger, act).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let shared = Arc::into_inner(shared).unwrap();
    for other in shared.ledgers.into_iter().skip(1) {
        other.close().await;
    }
    shared.history.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_overlaps_answers_as_if_it_came_one_after_the_other() {
    let first = u64::from_be_bytes(seed()[..8].try_into().unwrap()) >> 16;
    let (mut overlaps, mut admitted, mut replays) = (0, 0, 0);
    for number in 0..u64::from(cases(HISTORIES)) {
        let seed = first + number;
        let bench = Bench::in_folder(Folder::in_memory(), |_| {});
        let history = history(&bench, seed).await;
        if !is_linearizable(&beginning(), &history, &apply) {
            let mut calls = history;
            calls.sort_by_key(|call| call.called);
            let calls: Vec<_> = calls.iter().map(|call| format!("  {call:?}")).collect();
            panic!("cannot be told one after the other:\n{}", calls.join("\n"));
        }
        for call in &history {
            let others = history.iter();
            overlaps += others
                .filter(|other| other.called < call.called && call.called < other.returned)
                .count();
            match call.answer {
                Got::Answer(Answer::Admitted { .. }) => admitted += 1,
                Got::Answer(Answer::Replay { .. }) => replays += 1,
                _ => {}
            }
        }
    }
    println!("{overlaps} overlaps, {admitted} admitted, {replays} replays");
    assert!(overlaps > 0 && admitted > 0);
}
