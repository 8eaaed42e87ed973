//! Statements add up, by hand and after random histories.

use keybrake_contract::ids::CommandId;
use keybrake_contract::wire::*;

use super::bench::*;
use super::dice::Dice;
use crate::book::{Parts, Window};
use crate::model::{BudgetChange, Caps, IssuedKey, KeyChange, Line, Rolling, Statement};

fn line(count: u64, cents: i64) -> Line {
    Line {
        count,
        amount: usd(cents),
    }
}

async fn of_key(bench: &Bench, key: &IssuedKey, window: Option<Window>) -> Vec<Statement> {
    let found = bench.ledger.key_statement(&key.key.key_id, window).await;
    found.unwrap().unwrap().1
}

async fn of_budget(bench: &Bench, name: &str) -> Vec<Statement> {
    let found = bench.ledger.budget_statement(name, None).await;
    found.unwrap().unwrap().1
}

#[tokio::test]
async fn a_statement_says_what_became_of_everything_that_was_taken() {
    let bench = Bench::new();
    let caps = Caps {
        daily: Some(usd(10_000)),
        lifetime: Some(usd(20_000)),
        ..Caps::default()
    };
    let key = bench.key(caps).await;
    let old = bench.admitted(charge(&key, 5_000, "k-0")).await;
    bench.hand.advance_ms(24 * HOUR);
    bench.outcome(charged(&old, "ch_0", 5_000)).await;
    let settled = bench.admitted(charge(&key, 100, "k-1")).await;
    bench.outcome(charged(&settled, "ch_1", 100)).await;
    let partly = bench.admitted(charge(&key, 200, "k-2")).await;
    bench.outcome(charged(&partly, "ch_2", 150)).await;
    let beyond = bench.admitted(charge(&key, 300, "k-3")).await;
    bench.outcome(charged(&beyond, "ch_3", 310)).await;
    let lost = bench.admitted(charge(&key, 400, "k-4")).await;
    bench
        .outcome(outcome_of(&lost, AttemptOutcome::Indeterminate))
        .await;
    let given_back = charge(&key, 500, "k-5");
    bench.admitted(given_back.clone()).await;
    bench.release(given_back.id).await;
    bench.admitted(charge(&key, 600, "k-6")).await;
    bench.admitted(read(&key)).await;
    let [day, life] = &of_key(&bench, &key, None).await[..] else {
        panic!("two caps")
    };
    assert_eq!(
        (day.limit, day.window.as_str()),
        ("daily_usd_cap", "day:2026-11-24")
    );
    assert_eq!(day.begins_at.unwrap().to_string(), "2026-11-24T00:00:00Z");
    assert_eq!(day.ends_at.unwrap().to_string(), "2026-11-25T00:00:00Z");
    assert_eq!(day.opening, Parts::untouched(usd(10_000)));
    assert_eq!(day.tally.holds, line(6, 2_100));
    assert_eq!(day.tally.beyond, line(1, 10));
    assert_eq!(day.tally.held, line(1, 600));
    assert_eq!(day.tally.settlements, line(3, 560));
    assert_eq!(day.tally.unknowns, line(1, 400));
    assert_eq!(day.tally.releases, line(2, 550));
    assert_eq!(day.closing.free, usd(10_000 - 600 - 560 - 400));
    assert!(day.adds_up() && life.adds_up());
    assert_eq!(life.tally.holds, line(7, 7_100));
    assert_eq!((life.begins_at, life.ends_at), (None, None));
    let before = of_key(&bench, &key, Window::parse("day:2026-11-23")).await;
    assert_eq!(
        before[0].tally.settlements,
        line(1, 5_000),
        "the window it was reserved in"
    );
    assert!(before[0].adds_up());
    let never = of_key(&bench, &key, Window::parse("day:2026-11-20")).await;
    assert!(never.is_empty(), "no balance was kept");
    assert!(
        of_key(&bench, &key, Window::parse("month:2026-11"))
            .await
            .is_empty()
    );
    assert!(
        bench
            .ledger
            .key_statement("vk_none", None)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        bench
            .ledger
            .budget_statement("none", None)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_balance_that_was_tampered_with_does_not_add_up() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    bench.admitted(charge(&key, 100, "k-1")).await;
    assert!(of_key(&bench, &key, None).await[0].adds_up());
    bench
        .place
        .sql("UPDATE balances SET free = free + 10000, held = held - 10000");
    let statement = of_key(&bench, &key, None).await.remove(0);
    assert!(!statement.adds_up(), "{statement:?}");
    bench
        .place
        .sql("UPDATE balances SET free = free - 10000, held = held + 10000");
}

/// A reserve that was admitted, as the random history remembers it.
struct Made {
    reserve: CommandId,
    admitted: Admitted,
    amount: u64,
}

struct History {
    bench: Bench,
    keys: Vec<IssuedKey>,
    made: Vec<Made>,
    dice: Dice,
    counter: u64,
}

const BUDGETS: [&str; 3] = ["root", "left", "right"];

fn caps(dice: &mut Dice) -> Caps {
    let mut some = |share: u64| {
        let cents = i64::try_from(dice.below(4_000)).unwrap() + 200;
        (dice.below(100) < share).then(|| usd(cents))
    };
    Caps {
        daily: some(60),
        monthly: some(40),
        lifetime: some(60),
        rolling: some(60).map(|cap| Rolling {
            cap,
            hours: u16::try_from(dice.below(30)).unwrap() + 1,
        }),
        ..Caps::default()
    }
}

impl History {
    async fn new(seed: u64) -> Self {
        let bench = Bench::new();
        let mut dice = Dice::new(seed);
        for (name, parent, zone) in [
            ("root", None, "Pacific/Auckland"),
            ("left", Some("root"), "UTC"),
            ("right", Some("root"), "America/New_York"),
        ] {
            let caps = caps(&mut dice);
            bench
                .budget_like(name, parent, caps, |budget| {
                    budget.time_zone = zone.to_owned()
                })
                .await;
        }
        let mut keys = Vec::new();
        for budget in [
            None,
            Some("root"),
            Some("left"),
            Some("right"),
            Some("left"),
        ] {
            let caps = caps(&mut dice);
            let drawing = |key: &mut crate::model::NewKey| key.budget = budget.map(str::to_owned);
            keys.push(bench.key_like(caps, drawing).await);
        }
        Self {
            bench,
            keys,
            made: Vec::new(),
            dice,
            counter: 0,
        }
    }

    async fn step(&mut self) {
        match self.dice.below(100) {
            0..45 => self.reserve().await,
            45..70 => self.outcome().await,
            70..76 => {
                if !self.made.is_empty() {
                    let reserve = self.dice.pick(&self.made).reserve;
                    self.bench.release(reserve).await;
                }
            }
            76..90 => {
                let step = *self.dice.pick(&[1_000, 60_000, HOUR, 7 * HOUR, 24 * HOUR]);
                self.bench.hand.advance_ms(step);
            }
            90..94 => self.change_budget().await,
            94..97 => self.change_key().await,
            _ => self.capture().await,
        }
    }

    fn name(&mut self) -> String {
        self.counter += 1;
        format!("k-{}", self.counter)
    }

    async fn reserve(&mut self) {
        let amount = self.dice.below(300);
        let name = self.name();
        let reserve = charge(self.dice.pick(&self.keys), amount, &name);
        let id = reserve.id;
        if let CommandResult::Admitted(admitted) = self.bench.reserve(reserve).await {
            self.made.push(Made {
                reserve: id,
                admitted,
                amount,
            });
        }
    }

    async fn outcome(&mut self) {
        if self.made.is_empty() {
            return;
        }
        let made = self.dice.pick(&self.made);
        let taken = *self
            .dice
            .pick(&[made.amount, made.amount / 2, made.amount + 7]);
        let object = format!("pi_{}", made.reserve);
        let outcome = match self.dice.below(6) {
            0 | 1 => charged(&made.admitted, &object, taken),
            2 => Outcome {
                vendor_object_id: Some(object),
                ..outcome_of(
                    &made.admitted,
                    executed(ExecutedMoney::Open, Some(made.amount)),
                )
            },
            3 => outcome_of(&made.admitted, AttemptOutcome::DeclinedFinal),
            4 => outcome_of(&made.admitted, AttemptOutcome::NotExecuted),
            _ => outcome_of(&made.admitted, AttemptOutcome::Indeterminate),
        };
        self.bench.outcome(outcome).await;
    }

    /// Captures part of something that may be authorised, with any key.
    async fn capture(&mut self) {
        if self.made.is_empty() {
            return;
        }
        let made = self.dice.pick(&self.made);
        let (object, amount) = (format!("pi_{}", made.reserve), made.amount / 2 + 1);
        let name = self.name();
        let reserve = Reserve {
            cost: Cost::OfObject(OfObject {
                object: object.clone(),
                amount: Some(amount),
                currency: Some(keybrake_contract::money::Currency::USD),
                draws: Draws::OnHold,
            }),
            ..charge(self.dice.pick(&self.keys), 0, &name)
        };
        if let CommandResult::Admitted(admitted) = self.bench.reserve(reserve).await {
            self.bench
                .outcome(charged(&admitted, &object, amount))
                .await;
        }
    }

    async fn change_budget(&mut self) {
        let name = *self.dice.pick(&BUDGETS);
        let change = BudgetChange {
            caps: Some(caps(&mut self.dice)),
            ..BudgetChange::default()
        };
        self.bench.budget_change(name, change).await;
    }

    async fn change_key(&mut self) {
        let index = usize::try_from(self.dice.below(5)).unwrap();
        let budget = self
            .dice
            .pick(&[None, Some("root"), Some("left"), Some("right")]);
        let change = KeyChange {
            caps: Some(caps(&mut self.dice)),
            budget: Some(budget.map(str::to_owned)),
            ..KeyChange::default()
        };
        let key_id = self.keys[index].key.key_id.clone();
        let (key, _) = self.bench.ledger.change(&key_id, change).await.unwrap();
        self.keys[index].key = key;
    }

    async fn check(&self, at: &str) {
        self.rolling_balances_are_the_sum_of_their_minutes(at);
        for name in BUDGETS {
            for statement in of_budget(&self.bench, name).await {
                assert!(statement.adds_up(), "{at}, budget {name}: {statement:#?}");
                assert!(statement.closing.adds_up());
            }
        }
        for key in &self.keys {
            for statement in of_key(&self.bench, key, None).await {
                assert!(
                    statement.adds_up(),
                    "{at}, {}: {statement:#?}",
                    key.key.key_id
                );
            }
        }
    }
}

impl History {
    fn rolling_balances_are_the_sum_of_their_minutes(&self, at: &str) {
        let sql = "SELECT count(*) FROM balances t WHERE t.\"window\" = 3000000000 AND
                   (t.held, t.settled, t.unknown) <>
                   (SELECT coalesce(sum(held), 0), coalesce(sum(settled), 0), coalesce(sum(unknown), 0)
                    FROM balances m WHERE m.subject = t.subject AND m.\"window\" >= 4000000000)";
        assert_eq!(self.bench.place.sql(sql), "0", "{at}");
    }
}

#[tokio::test]
async fn statements_add_up_after_any_history() {
    for seed in 1..=12_u64 {
        let mut history = History::new(seed).await;
        for step in 0..150 {
            history.step().await;
            if step % 10 == 0 {
                history.check(&format!("seed {seed}, step {step}")).await;
            }
        }
        history.check(&format!("seed {seed}, end")).await;
        let report = verified(history.bench.place.database());
        assert_eq!(
            report.broken, None,
            "seed {seed}: what is read is what was told"
        );
        history.bench = history.bench.reopened().await;
        history
            .check(&format!("seed {seed}, after a restart"))
            .await;
        assert!(
            history.made.len() > 10,
            "seed {seed}: {}",
            history.made.len()
        );
    }
}
