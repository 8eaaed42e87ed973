//! The part of the suite that is about budgets: the tree, what is summed over it, purchases, periods.

use keybrake_contract::digest::Digest;
use keybrake_contract::lifecycle::{HoldState, RecordState, State};

use super::{Backend, NOON, OPEN, SETTLED, begun, changed, id, key, put, usd};
use crate::book::Parts;
use crate::clock::timestamp;
use crate::model::{
    Budget, BudgetFilter, BudgetState, Caps, DuplicateRule, Line, Rolling, Tally, TripOn,
};
use crate::store::{
    Ahead, AttemptState, BudgetNumber, FullBudget, FullKey, HoldChange, ListError, Period,
    Purchase, Reads as _, RequestNumber, Spender, Store,
};

fn budget(name: &str, parent: Option<&str>) -> Budget {
    Budget {
        name: name.to_owned(),
        parent: parent.map(str::to_owned),
        caps: Caps {
            daily: Some(usd(5)),
            rolling: Some(Rolling {
                cap: usd(7),
                hours: 24,
            }),
            ..Caps::default()
        },
        time_zone: "Europe/Berlin".to_owned(),
        state: BudgetState::Open,
        trip_on: Some(TripOn {
            refusals: 5,
            within_seconds: 60,
        }),
        duplicates: Some(DuplicateRule {
            fields: vec!["customer".to_owned()],
            window_seconds: 9,
        }),
        rule_version: 1,
        version: 2,
        created_at: timestamp(NOON),
        tripped_at: None,
        metadata: Some(serde_json::json!({"a": [1]})),
    }
}

/// A root, a budget below it, and one below that.
fn tree<S: Store>(store: &mut S) -> [BudgetNumber; 3] {
    let root = store.add_budget(&budget("root", None), None).unwrap();
    let mid = store
        .add_budget(&budget("mid", Some("root")), Some(root))
        .unwrap();
    let leaf = store
        .add_budget(&budget("leaf", Some("mid")), Some(mid))
        .unwrap();
    [root, mid, leaf]
}

/// Puts a write on record that draws from this budget.
fn draw<S: Store>(
    store: &mut S,
    key: i64,
    budget: Option<BudgetNumber>,
    (counter, at): (u64, i64),
    amount: u64,
) -> RequestNumber {
    super::put_drawing(store, (key, budget), counter, at, amount)
}

pub fn balances_are_removed_by_their_windows_once<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let other = store.add_key(&super::key("other"), None).unwrap();
    let spent = |held| Parts::with_spent(usd(0), usd(held), usd(1), usd(2)).unwrap();
    for (subject, window, held) in [
        (key, 9, 1),
        (key, 10, 10),
        (key, 11, 20),
        (key, 12, 30),
        (other, 10, 5),
    ] {
        store.put_balance(subject, window, spent(held)).unwrap();
    }
    let sum = store.remove_balances(key, 10, 12).unwrap();
    assert_eq!(
        sum,
        Parts::with_spent(usd(0), usd(30), usd(2), usd(4)).unwrap()
    );
    let nothing = Parts::untouched(usd(0));
    assert_eq!(store.remove_balances(key, 10, 12).unwrap(), nothing, "once");
    for (subject, window, is_there) in [
        (key, 9, true),
        (key, 10, false),
        (key, 11, false),
        (key, 12, true),
        (other, 10, true),
    ] {
        assert_eq!(
            store.balance(subject, window).unwrap().is_some(),
            is_there,
            "{window}"
        );
    }
    let movement =
        crate::book::Movement::between((HoldState::Held, usd(1)), (HoldState::Settled, usd(1)))
            .unwrap();
    assert_eq!(store.move_parts(key, 10, movement).unwrap(), None);
    store.put_balance(key, 10, spent(7)).unwrap();
    assert_eq!(
        store.balance(key, 10).unwrap(),
        Some(spent(7)),
        "it may come again"
    );
    store.commit().unwrap();
    let found = backend
        .reads()
        .balances(key, &[(9, 13), (0, 9), (10, 11)])
        .unwrap();
    let joined = Parts::with_spent(usd(0), usd(38), usd(3), usd(6)).unwrap();
    assert_eq!(
        found,
        [Some(joined), None, Some(spent(7))],
        "ranges are added up"
    );
}

pub fn what_was_spent_is_summed_by_step<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    put(&mut store, key, 1, NOON - 1, 1);
    put(&mut store, key, 2, NOON, 2);
    let settled = put(&mut store, key, 3, NOON + 59_999, 4);
    put(&mut store, key, 4, NOON + 60_000, 8);
    let change = changed(SETTLED, AttemptState::Executed, None);
    store.change_hold(settled, &change).unwrap();
    let minute = NOON / 60_000;
    let of = |held, settled| Parts::with_spent(usd(0), usd(held), usd(settled), usd(0)).unwrap();
    let steps = store
        .spent_in_steps(Spender::Key(key), NOON, 60_000)
        .unwrap();
    assert_eq!(steps, [(minute, of(2, 9)), (minute + 1, of(8, 0))]);
    store.commit().unwrap();
}

pub fn what_was_spent_below_a_budget_is_summed<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let [root, mid, leaf] = tree(&mut store);
    let cousin = store
        .add_budget(&budget("cousin", Some("root")), Some(root))
        .unwrap();
    let drawn = [
        (Some(root), 1),
        (Some(mid), 20),
        (Some(leaf), 300),
        (Some(cousin), 4_000),
        (None, 50_000),
    ];
    for (counter, (budget, amount)) in (1..).zip(drawn) {
        draw(&mut store, key, budget, (counter, NOON), amount);
    }
    draw(&mut store, key, Some(leaf), (9, NOON + 5), 600_000);
    let cap = usd(1_000_000);
    let held = |store: &mut B::Store, budget, since| {
        let parts = store
            .spent_since(Spender::Budget(budget), since, cap)
            .unwrap();
        assert!(parts.adds_up());
        parts.held
    };
    assert_eq!(held(&mut store, root, NOON), usd(604_321));
    assert_eq!(held(&mut store, mid, NOON), usd(600_320));
    assert_eq!(held(&mut store, leaf, NOON + 1), usd(600_000));
    assert_eq!(held(&mut store, cousin, NOON + 1), usd(0));
    let steps = store.spent_in_steps(Spender::Budget(mid), NOON, 5).unwrap();
    assert_eq!(
        steps
            .iter()
            .map(|(step, parts)| (step * 5 - NOON, parts.held))
            .collect::<Vec<_>>(),
        [(0, usd(320)), (5, usd(600_000))]
    );
    let row = store.hold_by_id(id(3)).unwrap().unwrap();
    assert_eq!(row.budget, Some(leaf));
    store.commit().unwrap();
    drop(store);
    let mut store = backend.store();
    assert_eq!(store.hold_by_id(id(3)).unwrap().unwrap().budget, Some(leaf));
}

pub fn budgets_come_back_as_they_were_put<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let [root, mid, _] = tree(&mut store);
    assert!(
        ![root, mid].contains(&key),
        "a budget is a subject among the keys"
    );
    assert_eq!(store.budget_by_name("none").unwrap(), None);
    assert_eq!(store.budget(key).unwrap(), None);
    let full = |number, parent, budget| {
        Some(FullBudget {
            number,
            parent,
            budget,
        })
    };
    let expected = full(mid, Some(root), budget("mid", Some("root")));
    assert_eq!(store.budget_by_name("mid").unwrap(), expected);
    assert_eq!(store.budget(mid).unwrap(), expected);
    assert_eq!(
        store.budget(root).unwrap(),
        full(root, None, budget("root", None))
    );
    let change = Budget {
        caps: Caps::default(),
        state: BudgetState::Tripped,
        trip_on: None,
        duplicates: None,
        rule_version: 7,
        version: 8,
        tripped_at: Some(timestamp(NOON + 1)),
        metadata: None,
        ..budget("mid", Some("root"))
    };
    store.change_budget(mid, &change).unwrap();
    assert_eq!(
        store.budget(mid).unwrap(),
        full(mid, Some(root), change.clone())
    );
    store.commit().unwrap();
    assert_eq!(
        backend.reads().budget("mid").unwrap(),
        full(mid, Some(root), change)
    );
}

pub fn budgets_are_listed_newest_first<B: Backend>() {
    let backend = B::new();
    let mut store = backend.store();
    store.begin(&Ahead::Chores).unwrap();
    let [root, ..] = tree(&mut store);
    let frozen = Budget {
        state: BudgetState::Frozen,
        ..budget("cold", Some("root"))
    };
    store.add_budget(&frozen, Some(root)).unwrap();
    store.commit().unwrap();
    let mut reads = backend.reads();
    let mut names = |filter: BudgetFilter| {
        let page = reads.budgets(&filter).unwrap();
        let names: Vec<String> = page.items.into_iter().map(|budget| budget.name).collect();
        (names, page.next_cursor)
    };
    let of = |limit, cursor| BudgetFilter {
        limit,
        cursor,
        ..BudgetFilter::default()
    };
    let (first, cursor) = names(of(3, None));
    assert_eq!(first, ["cold", "leaf", "mid"]);
    assert_eq!(names(of(3, cursor)), (vec!["root".to_owned()], None));
    let by_state = BudgetFilter {
        state: Some(BudgetState::Frozen),
        ..of(9, None)
    };
    assert_eq!(names(by_state).0, ["cold"]);
    let by_parent = BudgetFilter {
        parent: Some("root".to_owned()),
        ..of(9, None)
    };
    assert_eq!(names(by_parent).0, ["cold", "mid"]);
    let strange = reads.budgets(&of(9, Some("first".to_owned())));
    assert_eq!(strange.err(), Some(ListError::InvalidCursor));
}

pub fn keys_are_found_by_their_budget_and_those_above_it<B: Backend>() {
    let backend = B::new();
    let (mut store, _) = begun(&backend);
    let [root, mid, leaf] = tree(&mut store);
    let mut numbers = Vec::new();
    for (name, budget, label) in [
        ("root", root, "a"),
        ("leaf", leaf, "b"),
        ("leaf", leaf, "c"),
    ] {
        let drawing = crate::model::Key {
            budget: Some(name.to_owned()),
            duplicates: Some(DuplicateRule {
                fields: vec!["x".to_owned()],
                window_seconds: 1,
            }),
            ..key(label)
        };
        numbers.push(store.add_key(&drawing, Some(budget)).unwrap());
    }
    let labels = |store: &mut B::Store, budget| {
        let found = store.unrevoked_by_budget(budget).unwrap();
        let mut labels: Vec<_> = found.into_iter().map(|full| full.key.label).collect();
        labels.sort();
        labels
    };
    assert_eq!(labels(&mut store, root), ["a", "b", "c"]);
    assert_eq!(labels(&mut store, mid), ["b", "c"]);
    let mut full: FullKey = store.key_by_id("vk_b").unwrap().unwrap();
    assert_eq!((full.number, full.budget), (numbers[1], Some(leaf)));
    assert_eq!(full.key.budget.as_deref(), Some("leaf"));
    assert_eq!(full.key.duplicates.as_ref().unwrap().window_seconds, 1);
    full.budget = Some(root);
    full.key.duplicates = None;
    store.change_key(&full).unwrap();
    let full = store.key_by_id("vk_b").unwrap().unwrap();
    assert_eq!(full.key.budget.as_deref(), Some("root"));
    assert_eq!(full.key.duplicates, None);
    assert_eq!(labels(&mut store, leaf), ["c"]);
    let mut last = store.key_by_id("vk_c").unwrap().unwrap();
    last.key.revoked_at = Some(timestamp(NOON));
    store.change_key(&last).unwrap();
    assert!(labels(&mut store, leaf).is_empty());
    store.commit().unwrap();
}

pub fn refusals_are_counted_as_long_as_they_are_young<B: Backend>() {
    let backend = B::new();
    let (mut store, _) = begun(&backend);
    let [root, mid, _] = tree(&mut store);
    assert_eq!(store.note_refusal(root, 1, NOON, NOON - 10).unwrap(), 1);
    assert_eq!(
        store.note_refusal(root, 2, NOON, NOON - 10).unwrap(),
        2,
        "two at once are two"
    );
    assert_eq!(
        store.note_refusal(mid, 2, NOON, NOON - 10).unwrap(),
        1,
        "each for itself"
    );
    assert_eq!(store.note_refusal(root, 3, NOON + 9, NOON - 1).unwrap(), 3);
    assert_eq!(
        store.note_refusal(root, 4, NOON + 10, NOON).unwrap(),
        2,
        "too old at that instant"
    );
    store.forget_refusals(root).unwrap();
    assert_eq!(store.note_refusal(root, 5, NOON + 10, NOON).unwrap(), 1);
    assert_eq!(store.note_refusal(mid, 5, NOON + 1, NOON - 5).unwrap(), 2);
    store.commit().unwrap();
}

pub fn the_latest_purchase_is_known_until_it_is_pruned<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let [root, ..] = tree(&mut store);
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    let at = |request, at| Purchase { request, at };
    assert_eq!(store.purchase(key, &one).unwrap(), None);
    store
        .set_purchase(key, &one, at(1, NOON), NOON + 5)
        .unwrap();
    store
        .set_purchase(key, &one, at(2, NOON + 1), NOON + 6)
        .unwrap();
    store
        .set_purchase(key, &two, at(2, NOON + 1), NOON + 7)
        .unwrap();
    store
        .set_purchase(root, &one, at(3, NOON + 2), NOON + 8)
        .unwrap();
    assert_eq!(store.purchase(key, &one).unwrap(), Some(at(2, NOON + 1)));
    assert_eq!(store.purchase(root, &one).unwrap(), Some(at(3, NOON + 2)));
    assert_eq!(store.purchase(root, &two).unwrap(), None);
    assert_eq!(
        store.prune_purchases(NOON + 5, 9).unwrap(),
        0,
        "it was put off"
    );
    assert_eq!(
        store.prune_purchases(NOON + 7, 1).unwrap(),
        1,
        "the oldest first"
    );
    assert_eq!(store.purchase(key, &one).unwrap(), None);
    assert_eq!(store.prune_purchases(NOON + 7, 9).unwrap(), 1);
    assert_eq!(store.purchase(root, &one).unwrap(), Some(at(3, NOON + 2)));
    store.commit().unwrap();
}

pub fn periods_say_what_became_of_every_hold<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let [root, _, leaf] = tree(&mut store);
    let state = |record, hold| State { record, hold };
    let released = state(RecordState::Released, HoldState::Released);
    let unknown = state(RecordState::Unknown, HoldState::Unknown);
    // Reserved for, then cost, then state: what is beyond or not needed is seen from the two.
    let holds = [
        (9, 9, SETTLED),
        (20, 5, SETTLED),
        (20, 31, SETTLED),
        (40, 40, unknown),
        (50, 50, released),
        (60, 60, OPEN),
        (0, 0, OPEN),
    ];
    for (counter, (asked, cost, state)) in (1..).zip(holds) {
        let number = draw(&mut store, key, Some(leaf), (counter, NOON), asked);
        let change = HoldChange {
            cost: Some(usd(cost)),
            ..changed(state, AttemptState::Executed, None)
        };
        store.change_hold(number, &change).unwrap();
        store.change_hold(number, &change).unwrap();
    }
    draw(&mut store, key, Some(root), (20, NOON + 10), 700);
    draw(&mut store, key, Some(root), (21, NOON + 15), 5);
    store
        .put_balance(root, 5, Parts::untouched(usd(1_000)))
        .unwrap();
    store.commit().unwrap();
    let line = |count, amount| Line {
        count,
        amount: usd(amount),
    };
    let tally = Tally {
        holds: line(6, 199),
        beyond: line(1, 11),
        held: line(1, 60),
        settlements: line(3, 45),
        unknowns: line(1, 40),
        releases: line(2, 65),
    };
    let period = |times| Period {
        windows: (5, 6),
        times,
    };
    let asked = [
        period((NOON, NOON + 10)),
        period((NOON + 10, i64::MAX)),
        period((NOON + 11, i64::MAX)),
    ];
    let held = |count, amount| Tally {
        holds: line(count, amount),
        held: line(count, amount),
        ..Tally::default()
    };
    let mut reads = backend.reads();
    let found = reads.periods(Spender::Budget(root), &asked).unwrap();
    let balance = Some(Parts::untouched(usd(1_000)));
    assert_eq!(
        found,
        [
            (balance, tally),
            (balance, held(2, 705)),
            (balance, held(1, 5))
        ]
    );
    let found = reads.periods(Spender::Key(key), &asked[..1]).unwrap();
    assert_eq!(found, [(None, tally)], "all of it was this key's");
    let found = reads.periods(Spender::Budget(leaf), &asked[1..2]).unwrap();
    assert_eq!(
        found,
        [(None, Tally::default())],
        "not what was drawn above it"
    );
}
