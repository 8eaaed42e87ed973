//! Random histories of one cap: the four parts always add up, and equal what a tiny model says.

use keybrake_contract::lifecycle::{
    HoldState, OtherAttempts, RecordState, State, Verdict, WhichAttempt, on_object, on_outcome,
};
use keybrake_contract::money::Micros;
use keybrake_contract::wire::ExecutedMoney;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Reserve(i64),
    Outcome {
        hold: usize,
        verdict: Verdict,
        taken: Option<i64>,
        which: WhichAttempt,
        others: OtherAttempts,
    },
    Capture {
        by: usize,
        of: usize,
        taken: Option<i64>,
        verdict: Verdict,
    },
    Recap(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop::sample::select(Verdict::ALL.to_vec());
    let which = prop::sample::select(vec![WhichAttempt::Latest, WhichAttempt::Earlier]);
    let others = prop::sample::select(vec![OtherAttempts::NoneExecuted, OtherAttempts::Doubtful]);
    let taken = prop::option::of(0..2_000_i64);
    prop_oneof![
        4 => (0..1_000_i64).prop_map(Step::Reserve),
        6 => (0..12_usize, verdict.clone(), taken.clone(), which, others).prop_map(
            |(hold, verdict, taken, which, others)| Step::Outcome { hold, verdict, taken, which, others }
        ),
        2 => (0..12_usize, 0..12_usize, taken, verdict)
            .prop_map(|(by, of, taken, verdict)| Step::Capture { by, of, taken, verdict }),
        1 => (0..5_000_i64).prop_map(Step::Recap),
    ]
}

/// A hold as the book's callers keep it.
#[derive(Debug, Clone, Copy)]
struct Hold {
    state: State,
    cost: Micros,
}

const fn money_of(verdict: Verdict) -> Option<ExecutedMoney> {
    match verdict {
        Verdict::ExecutedMoved => Some(ExecutedMoney::Moved),
        Verdict::ExecutedOpen => Some(ExecutedMoney::Open),
        Verdict::ExecutedCancelled => Some(ExecutedMoney::Cancelled),
        Verdict::DeclinedFinal | Verdict::NotExecuted | Verdict::Indeterminate => None,
    }
}

struct Book {
    parts: Parts,
    holds: Vec<Hold>,
}

impl Book {
    fn change(&mut self, index: usize, after: Hold) {
        let before = self.holds[index];
        let movement = Movement::between(
            (before.state.hold, before.cost),
            (after.state.hold, after.cost),
        )
        .unwrap();
        self.parts = self.parts.after(movement).unwrap();
        self.holds[index] = after;
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Reserve(cost) => {
                let cost = Micros::new(cost);
                if self.parts.free >= cost {
                    self.holds.push(Hold {
                        state: State::ADMITTED,
                        cost: Micros::ZERO,
                    });
                    let after = Hold {
                        state: State::ADMITTED,
                        cost,
                    };
                    self.change(self.holds.len() - 1, after);
                }
            }
            Step::Outcome {
                hold,
                verdict,
                taken,
                which,
                others,
            } => self.conclude(hold, None, verdict, taken, which, others),
            Step::Capture {
                by,
                of,
                taken,
                verdict,
            } if by != of => {
                let (latest, alone) = (WhichAttempt::Latest, OtherAttempts::NoneExecuted);
                self.conclude(by, Some(of), verdict, taken, latest, alone);
            }
            Step::Capture { .. } => {}
            Step::Recap(cap) => self.parts = self.parts.recapped(Micros::new(cap)).unwrap(),
        }
    }

    fn conclude(
        &mut self,
        index: usize,
        of: Option<usize>,
        verdict: Verdict,
        taken: Option<i64>,
        which: WhichAttempt,
        others: OtherAttempts,
    ) {
        let Some(hold) = self.holds.get(index).copied() else {
            return;
        };
        let state = on_outcome(hold.state, verdict, which, others).state;
        let is_open = |hold: &Hold| {
            (hold.state.record, hold.state.hold) == (RecordState::Answered, HoldState::Held)
        };
        let open: Vec<usize> = of
            .filter(|of| self.holds.get(*of).is_some_and(is_open))
            .into_iter()
            .collect();
        let decided_now =
            state.record == RecordState::Answered && hold.state.record != RecordState::Answered;
        let settlement = money_of(verdict).filter(|_| decided_now).map(|money| {
            let parts: Vec<_> = open
                .iter()
                .map(|index| OpenPart {
                    cost: self.holds[*index].cost,
                })
                .collect();
            settle(money, Some(hold.cost), taken.map(Micros::new), &parts)
        });
        let cost = settlement
            .as_ref()
            .map_or(hold.cost, |settlement| settlement.own.unwrap());
        self.change(index, Hold { state, cost });
        if let Some(settlement) = settlement {
            for (index, cost) in open.into_iter().zip(settlement.open) {
                let state = on_object(self.holds[index].state, verdict);
                self.change(index, Hold { state, cost });
            }
        }
    }

    /// The same balance, from the holds alone.
    fn model(&self) -> Parts {
        let sum = |state: HoldState| {
            let of_state = self.holds.iter().filter(|hold| hold.state.hold == state);
            of_state.fold(Micros::ZERO, |sum, hold| {
                sum.checked_add(hold.cost).unwrap()
            })
        };
        Parts::with_spent(
            self.parts.cap,
            sum(HoldState::Held),
            sum(HoldState::Settled),
            sum(HoldState::Unknown),
        )
        .unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_history_adds_up_and_equals_the_model(cap in 0..5_000_i64, steps in prop::collection::vec(step(), 0..60)) {
        let mut book = Book { parts: Parts::untouched(Micros::new(cap)), holds: Vec::new() };
        for step in &steps {
            let before = book.holds.clone();
            book.apply(step);
            prop_assert!(book.parts.adds_up(), "{:?} after {step:?}", book.parts);
            prop_assert_eq!(book.parts, book.model());
            for (before, after) in before.iter().zip(&book.holds) {
                if before.state.hold == HoldState::Settled {
                    prop_assert_eq!(after.state.hold, HoldState::Settled, "settled is final");
                    prop_assert_eq!(after.cost, before.cost);
                }
            }
        }
    }

    #[test]
    fn nothing_taken_beyond_the_ask_keeps_free_at_or_above_zero(
        cap in 0..5_000_i64,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut book = Book { parts: Parts::untouched(Micros::new(cap)), holds: Vec::new() };
        for step in steps {
            // Vendors that take no more than was asked, and nothing after it was given back.
            let step = match step {
                Step::Recap(_) | Step::Capture { .. } => continue,
                Step::Outcome { hold, verdict, which, others, .. } => {
                    let released = book.holds.get(hold).is_some_and(|hold| hold.state.hold == HoldState::Released);
                    if released && money_of(verdict).is_some() {
                        continue;
                    }
                    Step::Outcome { hold, verdict, taken: None, which, others }
                }
                reserve => reserve,
            };
            book.apply(&step);
            prop_assert!(book.parts.free >= Micros::ZERO);
        }
    }
}
