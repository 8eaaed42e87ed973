//! Random steps: what workloads, vendors, admins and time may do, in small numbers so that they meet.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{
    Budget, BudgetEdit, BudgetIs, Cents, Cost, HOUR, Key, KeyEdit, Limits, MINUTE, Model, SECOND,
    Verdict,
};

/// How long a rule about equal purchases looks back.
const RULE: i64 = 10 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A request that somebody wants to make.
#[derive(Debug, Clone)]
pub struct Wish {
    pub key: Index,
    pub is_read: bool,
    pub cost: Cost,
    pub idempotency: Option<u8>,
    pub fingerprint: u8,
    pub full_fingerprint: Option<u8>,
    pub purchase: u8,
    /// Made on a grant that was changed since.
    pub is_stale: bool,
}

/// Which attempts a word may be about; if there is none, any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Those that wait for their outcome.
    Open,
    /// Those of a request that was forwarded again and is not decided.
    Again,
    Any,
}

/// Which attempt a word is about.
#[derive(Debug, Clone)]
pub struct Which {
    pub from: From,
    pub index: Index,
}

/// Seed of a run that names none.
const SEED: &str = "6b65796272616b65206b65796272616b65206b65796272616b65206b65796272";

/// `KEYBRAKE_MODEL_CASES`, or so many.
pub fn cases(usual: u32) -> u32 {
    let wanted = std::env::var("KEYBRAKE_MODEL_CASES");
    wanted.map_or(usual, |wanted| wanted.parse().unwrap())
}

/// `KEYBRAKE_MODEL_SEED`: 64 hexadecimal digits, or `random`.
pub fn seed() -> [u8; 32] {
    let wanted = std::env::var("KEYBRAKE_MODEL_SEED").unwrap_or_else(|_| SEED.to_owned());
    let mut seed = [0_u8; 32];
    if wanted == "random" {
        getrandom::fill(&mut seed).unwrap();
    } else {
        hex::decode_to_slice(wanted, &mut seed).expect("KEYBRAKE_MODEL_SEED: 64 digits");
    }
    seed
}

/// One step.
#[derive(Debug, Clone)]
pub enum Step {
    Reserve(Wish),
    /// Asks once more for what was admitted and came to nothing known, if there is such; else for anything admitted.
    Retry(Index),
    /// A release that comes before its reserve, which is sent by a later [`Step::Again`].
    ReleaseFirst(Wish),
    Outcome(Which, Verdict, Option<u8>),
    /// About an attempt that was never made.
    Stray(Index, Verdict),
    Release(Which),
    /// The same command once more.
    Again(Index),
    /// Its id for another command.
    Misuse(Index, Index),
    Wait(i64),
    ChangeKey(Index, KeyEdit),
    /// A new key in place of one, as a resumed run brings it.
    Issue(Index),
    ChangeBudget(usize, BudgetEdit),
    Resolve(Index, Verdict),
    Restart,
}

fn amount() -> impl Strategy<Value = Cents> {
    select(vec![1, 7, 30, 50, 51, 100, 130])
}

fn cap() -> impl Strategy<Value = Option<Cents>> {
    prop_oneof![5 => Just(None), 4 => select(vec![50, 100, 130, 200, 400]).prop_map(Some)]
}

fn limits(most_requests: bool) -> impl Strategy<Value = Limits> {
    let rolling = prop_oneof![2 => Just(None), 1 => (select(vec![60, 150, 300]), select(vec![1, 6])).prop_map(Some)];
    let most = of(3_usize..9).prop_map(move |most| most.filter(|_| most_requests));
    let per_request = prop_oneof![4 => Just(None), 1 => select(vec![50, 100]).prop_map(Some)];
    (per_request, cap(), cap(), rolling, cap(), most).prop_map(
        |(per_request, daily, monthly, rolling, lifetime, max_requests)| Limits {
            per_request,
            daily,
            monthly,
            rolling,
            lifetime,
            max_requests,
        },
    )
}

fn key(budget: Option<usize>, now: i64) -> impl Strategy<Value = Key> {
    let rule = prop_oneof![4 => Just(None), 1 => Just(Some(RULE))];
    (limits(true), of(amount()), 0_u8..6, rule).prop_map(
        move |(limits, worst_case, workspace, rule)| Key {
            limits,
            worst_case,
            budget,
            workspace: workspace / 5,
            expires_at: now + 80 * DAY,
            is_revoked: false,
            rule,
            version: 1,
        },
    )
}

fn brake() -> impl Strategy<Value = Option<(usize, i64)>> {
    prop_oneof![3 => Just(None), 1 => (2_usize..4, select(vec![30 * SECOND, 2 * HOUR])).prop_map(Some)]
}

fn budget(parent: Option<usize>, zone: &'static str) -> impl Strategy<Value = Budget> {
    let rule = prop_oneof![5 => Just(None), 1 => Just(Some(RULE))];
    (limits(false), brake(), rule).prop_map(move |(limits, brake, rule)| Budget {
        parent,
        limits,
        zone,
        state: BudgetIs::Open,
        brake,
        refusals: Vec::new(),
        rule,
        rule_changes: 0,
    })
}

/// A ledger at its beginning: three budgets in a line, and keys at its end, in its middle and outside.
pub fn beginning(now: i64) -> impl Strategy<Value = Model> {
    let budgets = (
        budget(None, "UTC"),
        budget(Some(0), "UTC"),
        budget(Some(1), "Europe/Berlin"),
    );
    let keys = (key(Some(2), now), key(Some(1), now), key(None, now));
    (keys, budgets).prop_map(move |((one, two, three), (root, middle, leaf))| {
        Model::new(now, vec![one, two, three], vec![root, middle, leaf])
    })
}

fn cost() -> impl Strategy<Value = Cost> {
    prop_oneof![
        1 => Just(Cost::Nothing),
        9 => amount().prop_map(Cost::Amount),
        1 => Just(Cost::Unknown),
        4 => (0_u8..2, of(amount())).prop_map(|(object, part)| Cost::OfObject(object, part)),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let idempotency = prop_oneof![1 => Just(None), 9 => (0_u8..4).prop_map(Some)];
    let fingerprint = prop_oneof![8 => Just(0_u8), 1 => Just(1)];
    let full = prop_oneof![8 => Just(None), 1 => Just(Some(1_u8))];
    (
        any::<Index>(),
        prop::bool::weighted(0.06),
        cost(),
        idempotency,
        fingerprint,
        full,
        0_u8..3,
        prop::bool::weighted(0.03),
    )
        .prop_map(
            |(
                key,
                is_read,
                cost,
                idempotency,
                fingerprint,
                full_fingerprint,
                purchase,
                is_stale,
            )| {
                Wish {
                    key,
                    is_read,
                    cost: if is_read { Cost::Nothing } else { cost },
                    idempotency: idempotency.filter(|_| !is_read),
                    fingerprint,
                    full_fingerprint,
                    purchase,
                    is_stale,
                }
            },
        )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => of(amount()).prop_map(Verdict::Moved),
        3 => of(amount()).prop_map(Verdict::Open),
        3 => Just(Verdict::Cancelled),
        3 => Just(Verdict::Declined),
        3 => Just(Verdict::NotExecuted),
        4 => Just(Verdict::Indeterminate),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    let from = prop_oneof![5 => Just(From::Open), 2 => Just(From::Again), 6 => Just(From::Any)];
    (from, any::<Index>()).prop_map(|(from, index)| Which { from, index })
}

fn key_edit() -> impl Strategy<Value = KeyEdit> {
    prop_oneof![
        4 => limits(true).prop_map(KeyEdit::Limits),
        2 => of(0_usize..3).prop_map(KeyEdit::Budget),
        1 => of(Just(RULE)).prop_map(KeyEdit::Rule),
        2 => select(vec![MINUTE, 2 * DAY]).prop_map(KeyEdit::EndsIn),
        2 => Just(KeyEdit::Revoke),
    ]
}

fn budget_edit() -> impl Strategy<Value = BudgetEdit> {
    prop_oneof![
        4 => limits(false).prop_map(BudgetEdit::Limits),
        5 => Just(BudgetEdit::State(BudgetIs::Open)),
        2 => Just(BudgetEdit::State(BudgetIs::Frozen)),
        1 => Just(BudgetEdit::State(BudgetIs::Closed)),
        2 => brake().prop_map(BudgetEdit::Brake),
        1 => of(Just(RULE)).prop_map(BudgetEdit::Rule),
    ]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => select(vec![SECOND, 61 * SECOND, 126 * SECOND]),
        2 => select(vec![30 * MINUTE, HOUR, HOUR + MINUTE]),
        2 => select(vec![5 * HOUR, 13 * HOUR, 23 * HOUR, DAY]),
        2 => select(vec![9 * DAY, 31 * DAY]),
    ]
}

/// One step.
pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => wish().prop_map(Step::Reserve),
        10 => any::<Index>().prop_map(Step::Retry),
        5 => wish().prop_map(Step::ReleaseFirst),
        26 => (which(), verdict(), of(0_u8..2)).prop_map(|(which, verdict, object)| {
            Step::Outcome(which, verdict, object.filter(|_| verdict.is_executed()))
        }),
        1 => (any::<Index>(), verdict()).prop_map(|(index, verdict)| Step::Stray(index, verdict)),
        5 => which().prop_map(Step::Release),
        6 => any::<Index>().prop_map(Step::Again),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(id, other)| Step::Misuse(id, other)),
        12 => time().prop_map(Step::Wait),
        4 => (any::<Index>(), key_edit()).prop_map(|(key, edit)| Step::ChangeKey(key, edit)),
        1 => any::<Index>().prop_map(Step::Issue),
        4 => (0_usize..3, budget_edit()).prop_map(|(budget, edit)| Step::ChangeBudget(budget, edit)),
        2 => (any::<Index>(), prop_oneof![amount().prop_map(|amount| Verdict::Moved(Some(amount))), Just(Verdict::NotExecuted)])
            .prop_map(|(index, verdict)| Step::Resolve(index, verdict)),
        1 => Just(Step::Restart),
    ]
}

/// A request that is forwarded again and again, and what is heard of its attempts.
fn doubt() -> impl Strategy<Value = Vec<Step>> {
    let nobody_knows = any::<Index>().prop_map(|index| {
        let from = From::Open;
        Step::Outcome(Which { from, index }, Verdict::Indeterminate, None)
    });
    let not_done = prop_oneof![
        4 => Just(Verdict::NotExecuted),
        4 => Just(Verdict::Indeterminate),
        1 => verdict(),
    ];
    let word = (any::<Index>(), not_done).prop_map(|(index, verdict)| {
        let from = From::Again;
        Step::Outcome(Which { from, index }, verdict, None)
    });
    let retry = any::<Index>().prop_map(Step::Retry);
    let later = prop_oneof![2 => word, 1 => retry.clone()];
    (wish(), nobody_knows, retry, vec(later, 1..6)).prop_map(|(wish, unknown, retry, later)| {
        let first = Step::Reserve(wish);
        [first, unknown, retry].into_iter().chain(later).collect()
    })
}

/// Two requests on one object of which the vendor tells totals.
fn twice() -> impl Strategy<Value = Vec<Step>> {
    let told = (any::<Index>(), amount(), any::<bool>()).prop_map(|(index, amount, is_moved)| {
        let from = From::Open;
        let verdict = if is_moved {
            Verdict::Moved
        } else {
            Verdict::Open
        };
        Step::Outcome(Which { from, index }, verdict(Some(amount)), Some(0))
    });
    vec((wish().prop_map(Step::Reserve), told), 2..4).prop_map(|pairs| {
        pairs
            .into_iter()
            .flat_map(|(asked, told)| [asked, told])
            .collect()
    })
}

/// Several steps.
pub fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let some = prop_oneof![
        18 => step().prop_map(|step| vec![step]),
        2 => doubt(),
        1 => twice(),
    ];
    vec(some, most / 2..=most).prop_map(|steps| steps.into_iter().flatten().collect())
}
