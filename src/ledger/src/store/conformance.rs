//! What every store must do, written once: each test is a plain function over the traits, and [`conformance`] makes it a test
//! of a backend. A backend gives a place ([`Backend`]) in which stores can be opened one after the other.

use std::ops::ControlFlow;

use keybrake_contract::digest::Digest;
use keybrake_contract::grant::{AllowedEndpoint, Grant, IdempotencyRule};
use keybrake_contract::ids::CommandId;
use keybrake_contract::lifecycle::{HoldState, RecordState, State};
use keybrake_contract::money::{Currency, Micros, Minor};
use keybrake_contract::wire::StoredAnswer;

mod budgets;

pub use budgets::*;

use super::*;
use crate::audit;
use crate::clock::timestamp;
use crate::model::{Caps, EntryOutcome};

#[path = "conformance_audit.rs"]
mod audit_tests;
pub use audit_tests::*;

/// A place for the stores of one test.
pub trait Backend {
    type Store: Store;
    type Reads: Reads;
    fn new() -> Self;
    fn store(&self) -> Self::Store;
    fn reads(&self) -> Self::Reads;
}

/// Makes every test of this suite a test of a backend.
macro_rules! conformance {
    ($backend:ty: $($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                $crate::store::conformance::$name::<$backend>();
            }
        )+
    };
}
pub(crate) use conformance;

/// The list of all tests, so that no backend leaves one out.
macro_rules! every_conformance_test {
    ($backend:ty) => {
        $crate::store::conformance::conformance!($backend:
            what_was_rolled_back_is_not_there,
            the_only_writer_is_told_that_others_are_silent,
            what_was_committed_is_there_after_reopening,
            a_balance_gives_no_more_than_it_has,
            money_moves_only_where_there_is_a_balance,
            admitted_requests_are_counted_up_to_the_most,
            a_request_comes_back_as_it_was_put,
            a_change_of_a_hold_leaves_the_rest,
            a_record_stands_for_one_request,
            later_attempts_are_found_by_their_reserve,
            overdue_attempts_come_oldest_first,
            objects_are_known_within_their_place,
            commands_are_pruned_by_age_and_nothing_else,
            an_id_that_may_be_known_is_never_called_new,
            answers_are_retired_from_the_oldest,
            what_was_spent_is_summed_by_state_and_time,
            keys_come_back_as_they_were_put,
            the_chain_is_read_in_order,
            signed_heads_are_kept_in_order,
            the_pieces_of_the_audit_come_in_their_order,
            a_resolution_names_its_event_and_perhaps_an_object,
            unknown_requests_come_oldest_first_and_are_summed_per_key,
            balances_are_removed_by_their_windows_once,
            what_was_spent_is_summed_by_step,
            what_was_spent_below_a_budget_is_summed,
            budgets_come_back_as_they_were_put,
            budgets_are_listed_newest_first,
            keys_are_found_by_their_budget_and_those_above_it,
            refusals_are_counted_as_long_as_they_are_young,
            the_latest_purchase_is_known_until_it_is_pruned,
            periods_say_what_became_of_every_hold,
        );
    };
}
pub(crate) use every_conformance_test;

const NOON: i64 = 1_795_435_200_000;

fn id(counter: u64) -> CommandId {
    CommandId::new([3; 16], counter)
}

fn usd(cents: i64) -> Micros {
    Micros::from_cents(cents).unwrap()
}

fn cents(amount: u64) -> Minor {
    Minor {
        amount,
        currency: Currency::USD,
    }
}

fn key(label: &str) -> Key {
    Key {
        key_id: format!("vk_{label}"),
        digest: Digest::of(label.as_bytes()),
        label: label.to_owned(),
        workspace: "default".to_owned(),
        grant: Grant {
            key_id: format!("vk_{label}"),
            version: 1,
            vendor: "stripe".to_owned(),
            allowed_endpoints: vec![AllowedEndpoint::Operation("charges.create".to_owned())],
            constraints: std::collections::BTreeMap::new(),
            vendor_accounts: vec!["acct_1".to_owned()],
            idempotency: IdempotencyRule::Optional,
            duplicate_fields: Vec::new(),
        },
        caps: Caps {
            daily: Some(usd(5)),
            ..Caps::default()
        },
        worst_case: Some(usd(7)),
        created_at: timestamp(NOON),
        expires_at: timestamp(NOON + 5),
        revoked_at: None,
        metadata: Some(serde_json::json!({"a": [1]})),
        budget: None,
        duplicates: None,
    }
}

/// A store inside a transaction, with one key.
fn begun<B: Backend>(backend: &B) -> (B::Store, KeyNumber) {
    let mut store = backend.store();
    store.begin(&Ahead::Chores).unwrap();
    let number = store.add_key(&key("k"), None).unwrap();
    (store, number)
}

/// Puts a write of this many cents on record, and gives its number.
fn put<S: Store>(
    store: &mut S,
    key: KeyNumber,
    counter: u64,
    at: i64,
    amount: u64,
) -> RequestNumber {
    put_drawing(store, (key, None), counter, at, amount)
}

/// The same of a key that draws from a budget.
fn put_drawing<S: Store>(
    store: &mut S,
    (key, budget): (KeyNumber, Option<BudgetNumber>),
    counter: u64,
    at: i64,
    amount: u64,
) -> RequestNumber {
    let number = store.next_request().unwrap();
    let admission = Admission::Admitted { most: None };
    let Link::Linked(previous) = store.link(key, number, admission).unwrap() else {
        panic!("full")
    };
    let place = store.place("stripe", "stripe", None).unwrap();
    let record_key = RecordKey::new("stripe", "stripe", None, &format!("k-{counter}"));
    store
        .add_request(&NewRequest {
            number,
            id: id(counter),
            digest: &Digest::of(b"command"),
            at,
            key,
            budget,
            previous,
            label: "k",
            run_id: Some("run"),
            place,
            operation: "charges.create",
            event: 1,
            kind: Kind::Write,
            reason: None,
            record_key: Some(&record_key),
            idempotency_key: Some("k"),
            client_key: None,
            fingerprint: Some(&Digest::of(b"print")),
            full_fingerprint: None,
            amount: Some(cents(amount)),
            rate: None,
            cost: Some(usd(i64::try_from(amount).unwrap())),
            deadline: Some(at + 100),
            forwarded_before: false,
        })
        .unwrap();
    number
}

fn changed(state: State, first_attempt: AttemptState, said: Option<Said<'_>>) -> HoldChange<'_> {
    HoldChange {
        state,
        outcome: outcome_of(state),
        cost: Some(usd(9)),
        amount: Some(cents(9)),
        attempts: 1,
        first_attempt,
        said,
    }
}

const SETTLED: State = State {
    record: RecordState::Answered,
    hold: HoldState::Settled,
};
const OPEN: State = State {
    record: RecordState::Answered,
    hold: HoldState::Held,
};

fn said(object: &str) -> Option<Said<'_>> {
    Some(Said {
        status: Some(200),
        object: Some(object),
        charge: Some("ch_1"),
        vendor_request_id: Some("req_1"),
        latency_ms: 7,
    })
}

pub fn what_was_rolled_back_is_not_there<B: Backend>() {
    let backend = B::new();
    let (mut store, number) = begun(&backend);
    store
        .put_balance(number, 0, Parts::untouched(usd(5)))
        .unwrap();
    let request = put(&mut store, number, 1, NOON, 5);
    store.rollback();
    store.rollback();
    store.begin(&Ahead::Chores).unwrap();
    assert!(store.key_by_id("vk_k").unwrap().is_none());
    assert_eq!(store.balance(number, 0).unwrap(), None);
    assert_eq!(store.hold(request).unwrap(), None);
    assert_eq!(store.hold_by_id(id(1)).unwrap(), None);
    let again = store.add_key(&key("k"), None).unwrap();
    assert_eq!(
        put(&mut store, again, 1, NOON, 5),
        request,
        "numbers have no gaps"
    );
    store.commit().unwrap();
}

pub fn the_only_writer_is_told_that_others_are_silent<B: Backend>() {
    let backend = B::new();
    let (mut store, number) = begun(&backend);
    put(&mut store, number, 1, NOON, 5);
    store.commit().unwrap();
    for _ in 0..2 {
        let begun = store.begin(&Ahead::Chores).unwrap();
        assert_eq!(begun.others, Others::Silent);
        store.commit().unwrap();
    }
}

pub fn what_was_committed_is_there_after_reopening<B: Backend>() {
    let backend = B::new();
    let (mut store, number) = begun(&backend);
    let request = put(&mut store, number, 1, NOON, 5);
    let name = store.chain_head().unwrap().chain;
    store.commit().unwrap();
    drop(store);
    let mut store = backend.store();
    assert_eq!(store.chain_head().unwrap().chain, name);
    store.begin(&Ahead::Chores).unwrap();
    assert_eq!(store.hold_by_id(id(1)).unwrap().unwrap().number, request);
    assert_eq!(store.next_request().unwrap(), request + 1);
    assert_eq!(store.open_attempts().unwrap(), 1);
    assert_eq!(store.count_keys().unwrap(), 1);
    store.commit().unwrap();
}

pub fn a_balance_gives_no_more_than_it_has<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    assert_eq!(store.take(key, 0, usd(1)).unwrap(), Taken::NoBalance);
    let full = Parts::untouched(usd(10));
    store.put_balance(key, 0, full).unwrap();
    let Taken::Taken(parts) = store.take(key, 0, usd(9)).unwrap() else {
        panic!("too little")
    };
    assert_eq!((parts.free, parts.held), (usd(1), usd(9)));
    let more = usd(1).checked_add(Micros::new(1)).unwrap();
    assert_eq!(store.take(key, 0, more).unwrap(), Taken::TooLittle(parts));
    assert_eq!(
        store.balance(key, 0).unwrap(),
        Some(parts),
        "nothing was done"
    );
    let Taken::Taken(parts) = store.take(key, 0, usd(1)).unwrap() else {
        panic!("exactly what is free can be taken")
    };
    assert_eq!(parts.free, Micros::ZERO);
    assert_eq!(store.take(key, 1, usd(1)).unwrap(), Taken::NoBalance);
    store.commit().unwrap();
}

pub fn money_moves_only_where_there_is_a_balance<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let settle =
        Movement::between((HoldState::Held, usd(3)), (HoldState::Settled, usd(4))).unwrap();
    for _ in 0..2 {
        assert_eq!(store.move_parts(key, 7, settle).unwrap(), None);
    }
    let before = Parts::with_spent(usd(10), usd(3), usd(0), usd(0)).unwrap();
    store.put_balance(key, 7, before).unwrap();
    let after = store.move_parts(key, 7, settle).unwrap().unwrap();
    assert_eq!(after, before.after(settle).unwrap());
    assert!(after.adds_up());
    store.put_balance(key, 7, before).unwrap();
    assert_eq!(store.balance(key, 7).unwrap(), Some(before));
    store.remove_balance(key, 7).unwrap();
    assert_eq!(store.move_parts(key, 7, settle).unwrap(), None);
    store.commit().unwrap();
}

pub fn admitted_requests_are_counted_up_to_the_most<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let two = Admission::Admitted { most: Some(2) };
    assert_eq!(store.link(key, 1, two).unwrap(), Link::Linked(None));
    assert_eq!(
        store.link(key, 2, Admission::Refused).unwrap(),
        Link::Linked(Some(1))
    );
    assert_eq!(store.link(key, 3, two).unwrap(), Link::Linked(Some(2)));
    assert_eq!(store.link(key, 4, two).unwrap(), Link::Full);
    assert_eq!(
        store.link(key, 4, Admission::Refused).unwrap(),
        Link::Linked(Some(3))
    );
    let any = Admission::Admitted { most: None };
    assert_eq!(store.link(key, 5, any).unwrap(), Link::Linked(Some(4)));
    store.commit().unwrap();
}

pub fn a_request_comes_back_as_it_was_put<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let number = put(&mut store, key, 1, NOON, 900_000_000_000);
    let fresh = store.hold_by_id(id(1)).unwrap().unwrap();
    store.commit().unwrap();
    drop(store);
    let mut store = backend.store();
    store.begin(&Ahead::Chores).unwrap();
    let row = store.hold(number).unwrap().unwrap();
    assert_eq!(row, fresh, "also when it was remembered");
    assert_eq!(store.hold_by_id(id(1)).unwrap(), Some(row.clone()));
    assert_eq!(row.state, State::ADMITTED);
    assert_eq!(row.amount, Some(cents(900_000_000_000)));
    assert_eq!((row.attempts, row.first_attempt), (1, AttemptState::Open));
    assert_eq!(row.fingerprint, Some(Digest::of(b"print")));
    assert_eq!(
        row.record_key,
        Some(RecordKey::new("stripe", "stripe", None, "k-1"))
    );
    assert_eq!(store.hold_by_id(id(2)).unwrap(), None);
    store.commit().unwrap();
}

pub fn a_change_of_a_hold_leaves_the_rest<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let number = put(&mut store, key, 1, NOON, 5);
    let before = store.hold(number).unwrap().unwrap();
    let change = changed(SETTLED, AttemptState::Executed, said("pi_1"));
    store.change_hold(number, &change).unwrap();
    let expected = HoldRow {
        state: SETTLED,
        cost: Some(usd(9)),
        amount: Some(cents(9)),
        first_attempt: AttemptState::Executed,
        status: Some(200),
        object: Some("pi_1".to_owned()),
        ..before
    };
    assert_eq!(store.hold(number).unwrap(), Some(expected.clone()));
    assert_eq!(store.hold_by_id(id(1)).unwrap(), Some(expected.clone()));
    // Without a word of the vendor, what it said before stays.
    store
        .change_hold(number, &changed(SETTLED, AttemptState::Executed, None))
        .unwrap();
    store.set_shadow(number, 77).unwrap();
    store.add_alarm(number, "one").unwrap();
    store.add_alarm(number, "two").unwrap();
    let row = store.hold_by_id(id(1)).unwrap().unwrap();
    assert_eq!(row.object.as_deref(), Some("pi_1"));
    assert_eq!(row.shadow, Some(77));
    assert_eq!(store.open_attempts().unwrap(), 0);
    store.commit().unwrap();
}

pub fn a_record_stands_for_one_request<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let record = RecordKey::new("stripe", "stripe", Some("acct"), "k");
    assert_eq!(store.record(&record).unwrap(), None);
    let first = put(&mut store, key, 1, NOON, 5);
    let second = put(&mut store, key, 2, NOON, 5);
    store.set_record(&record, first).unwrap();
    store.set_record(&record, second).unwrap();
    assert_eq!(store.record(&record).unwrap(), Some(second));
    for other in [
        RecordKey::new("stripe", "stripe", None, "k"),
        RecordKey::new("stripe", "stripe", Some("acct"), "K"),
        RecordKey::new("stripe", "other", Some("acct"), "k"),
        RecordKey::new("other", "stripe", Some("acct"), "k"),
    ] {
        assert_eq!(store.record(&other).unwrap(), None);
    }
    store.commit().unwrap();
}

pub fn later_attempts_are_found_by_their_reserve<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let number = put(&mut store, key, 1, NOON, 5);
    assert!(store.later_attempts(number).unwrap().is_empty());
    store.add_attempt(number, 2, id(5), NOON).unwrap();
    store.add_attempt(number, 3, id(6), NOON).unwrap();
    assert_eq!(store.attempt_by_reserve(id(6)).unwrap(), Some((number, 3)));
    assert_eq!(store.attempt_by_reserve(id(1)).unwrap(), None);
    assert_eq!(store.open_attempts().unwrap(), 3);
    store
        .end_attempt(number, 2, AttemptState::NotForwarded)
        .unwrap();
    let states: Vec<_> = store.later_attempts(number).unwrap();
    assert_eq!(
        states
            .iter()
            .map(|one| (one.attempt, one.state))
            .collect::<Vec<_>>(),
        [(2, AttemptState::NotForwarded), (3, AttemptState::Open)]
    );
    assert_eq!(store.open_attempts().unwrap(), 2);
    store.commit().unwrap();
}

pub fn overdue_attempts_come_oldest_first<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let first = put(&mut store, key, 1, NOON, 5);
    let second = put(&mut store, key, 2, NOON + 50, 5);
    let ended = put(&mut store, key, 3, NOON, 5);
    let change = changed(SETTLED, AttemptState::Executed, None);
    store.change_hold(ended, &change).unwrap();
    store.add_attempt(ended, 2, id(9), NOON + 120).unwrap();
    let due = |number, attempt| Due { number, attempt };
    assert_eq!(store.due(NOON + 99, 9).unwrap(), []);
    assert_eq!(store.due(NOON + 100, 9).unwrap(), [due(first, 1)]);
    let all = [due(first, 1), due(ended, 2), due(second, 1)];
    assert_eq!(store.due(NOON + 150, 9).unwrap(), all);
    assert_eq!(store.due(NOON + 150, 2).unwrap(), all[..2]);
    store.commit().unwrap();
}

pub fn objects_are_known_within_their_place<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let payments = ["charges.create".to_owned()];
    let place = store.place("stripe", "stripe", None).unwrap();
    let elsewhere = store.place("stripe", "stripe", Some("acct")).unwrap();
    assert_ne!(place, elsewhere);
    assert_eq!(store.place("stripe", "stripe", None).unwrap(), place);
    assert_eq!(store.object(place, "pi_1", &payments).unwrap(), None);
    let intent = put(&mut store, key, 1, NOON, 5);
    let change = changed(OPEN, AttemptState::Executed, said("pi_1"));
    store.change_hold(intent, &change).unwrap();
    for name in ["pi_1", "ch_1"] {
        let known = store.object(place, name, &payments).unwrap().unwrap();
        assert_eq!(known.amount, Some(cents(9)));
        assert_eq!(store.object(elsewhere, name, &payments).unwrap(), None);
    }
    // An operation that only mentions the charge says nothing of it.
    assert!(store.object(place, "pi_1", &[]).unwrap().is_some());
    assert_eq!(store.object(place, "ch_1", &[]).unwrap(), None);
    let open = store.open_holds(place, "pi_1").unwrap();
    assert_eq!(
        open.iter().map(|row| row.number).collect::<Vec<_>>(),
        [intent]
    );
    assert!(store.open_holds(elsewhere, "pi_1").unwrap().is_empty());
    assert_eq!(store.settled_on(place, "pi_1").unwrap(), Micros::ZERO);
    let change = changed(SETTLED, AttemptState::Executed, None);
    store.change_hold(intent, &change).unwrap();
    assert!(store.open_holds(place, "pi_1").unwrap().is_empty());
    let settled = store.settled_on(place, "pi_1").unwrap();
    assert_eq!(settled, change.cost.unwrap());
    assert_eq!(store.settled_on(elsewhere, "pi_1").unwrap(), Micros::ZERO);
    assert_eq!(store.settled_on(place, "ch_1").unwrap(), Micros::ZERO);
    assert!(store.object(place, "pi_1", &payments).unwrap().is_some());
    // The newest word counts, and one without an amount does not hide an older one.
    let later = put(&mut store, key, 2, NOON, 5);
    let change = HoldChange {
        amount: None,
        ..changed(SETTLED, AttemptState::Executed, said("pi_1"))
    };
    store.change_hold(later, &change).unwrap();
    assert_eq!(
        store
            .object(place, "pi_1", &payments)
            .unwrap()
            .unwrap()
            .amount,
        Some(cents(9))
    );
    store.commit().unwrap();
}

pub fn commands_are_pruned_by_age_and_nothing_else<B: Backend>() {
    let backend = B::new();
    let (mut store, _) = begun(&backend);
    let digest = Digest::of(b"x");
    for counter in 1..=10 {
        let at = i64::try_from(counter).unwrap();
        store.add_command(id(counter), &digest, at, b"R").unwrap();
    }
    let remembered = |store: &mut B::Store, counters: std::ops::RangeInclusive<u64>| {
        counters
            .filter(|counter| store.command(id(*counter)).unwrap().is_some())
            .count()
    };
    store.prune_commands(3, 6).unwrap();
    assert!(
        remembered(&mut store, 1..=5) >= 2,
        "no more than it may look at"
    );
    for _ in 0..8 {
        store.commit().unwrap();
        store.begin(&Ahead::Work(&Wanted::default)).unwrap();
        store.prune_commands(3, 6).unwrap();
    }
    for counter in 1..=10 {
        let known = store.command(id(counter)).unwrap();
        assert_eq!(known.is_some(), counter >= 6, "{counter}");
    }
    let known = store.command(id(10)).unwrap().unwrap();
    assert_eq!((known.digest, known.answer), (digest, b"R".to_vec()));
    store.commit().unwrap();
}

pub fn an_id_that_may_be_known_is_never_called_new<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    assert_eq!(store.seen(id(5)).unwrap(), Seen::Never);
    put(&mut store, key, 5, NOON, 5);
    assert_eq!(store.seen(id(5)).unwrap(), Seen::Perhaps);
    assert_eq!(
        store.seen(id(4)).unwrap(),
        Seen::Perhaps,
        "out of order: look it up"
    );
    assert_eq!(store.seen(id(6)).unwrap(), Seen::Never);
    store
        .add_command(id(8), &Digest::of(b"x"), NOON, b"T")
        .unwrap();
    assert_eq!(store.seen(id(8)).unwrap(), Seen::Perhaps);
    store.add_attempt(1, 2, id(11), NOON).unwrap();
    assert_eq!(store.seen(id(11)).unwrap(), Seen::Perhaps);
    assert_eq!(store.seen(id(12)).unwrap(), Seen::Never);
    let other = CommandId::new([4; 16], 0);
    assert_eq!(
        store.seen(other).unwrap(),
        Seen::Perhaps,
        "the lowest id is looked up"
    );
    store.commit().unwrap();
    drop(store);
    let mut store = backend.store();
    store.begin(&Ahead::Chores).unwrap();
    for (counter, expected) in [(5, Seen::Perhaps), (11, Seen::Perhaps), (12, Seen::Never)] {
        assert_eq!(store.seen(id(counter)).unwrap(), expected, "{counter}");
    }
    store.commit().unwrap();
}

pub fn answers_are_retired_from_the_oldest<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let answer = |body: &str| StoredAnswer {
        status: 200,
        content_type: "application/json".to_owned(),
        body: body.to_owned(),
        vendor_request_id: Some("req".to_owned()),
    };
    let numbers: Vec<_> = (1..=4_u64)
        .map(|counter| {
            let at = NOON + i64::try_from(counter).unwrap();
            let number = put(&mut store, key, counter, at, 5);
            store.add_answer(number, &answer("whole")).unwrap();
            number
        })
        .collect();
    store.add_answer(numbers[0], &answer("second")).unwrap();
    let known = store.answer(numbers[0]).unwrap().unwrap();
    assert_eq!(
        (known.answer, known.is_summary),
        (answer("whole"), false),
        "the first stays"
    );
    let due = |store: &mut B::Store, most| -> Vec<_> {
        let answers = store.answers_to_retire(NOON + 4, most).unwrap();
        answers.into_iter().map(|(number, _)| number).collect()
    };
    assert_eq!(due(&mut store, 9), numbers[..3]);
    assert_eq!(due(&mut store, 2), numbers[..2]);
    for number in &numbers[..2] {
        store.retire_answer(*number, &answer("short")).unwrap();
    }
    assert_eq!(due(&mut store, 9), numbers[2..3], "not again");
    let known = store.answer(numbers[1]).unwrap().unwrap();
    assert_eq!(
        (known.answer.body.as_str(), known.is_summary),
        ("short", true)
    );
    assert_eq!(store.answer(99).unwrap(), None);
    store.commit().unwrap();
}

pub fn what_was_spent_is_summed_by_state_and_time<B: Backend>() {
    let backend = B::new();
    let (mut store, key) = begun(&backend);
    let other = store.add_key(&self::key("other"), None).unwrap();
    put(&mut store, key, 1, NOON - 1, 1_000);
    let settled = put(&mut store, key, 2, NOON, 5);
    put(&mut store, other, 3, NOON, 5_000);
    put(&mut store, key, 4, NOON + 1, 70);
    let change = changed(SETTLED, AttemptState::Executed, None);
    store.change_hold(settled, &change).unwrap();
    let parts = store
        .spent_since(Spender::Key(key), NOON, usd(100))
        .unwrap();
    assert_eq!(
        parts,
        Parts::with_spent(usd(100), usd(70), usd(9), usd(0)).unwrap()
    );
    let ever = store
        .spent_since(Spender::Key(key), i64::MIN, usd(100))
        .unwrap();
    assert_eq!(ever.held, usd(1_070));
    assert_eq!(ever.free, usd(-979));
    let none = store
        .spent_since(Spender::Key(key), NOON + 2, usd(100))
        .unwrap();
    assert_eq!(none, Parts::untouched(usd(100)));
    store.commit().unwrap();
}

pub fn keys_come_back_as_they_were_put<B: Backend>() {
    let backend = B::new();
    let mut store = backend.store();
    store.begin(&Ahead::Chores).unwrap();
    let mut first = key("one");
    let number = store.add_key(&first, None).unwrap();
    store.add_key(&key("One"), None).unwrap();
    store.add_key(&key("one%"), None).unwrap();
    assert_ne!(store.add_key(&key("two"), None).unwrap(), number);
    let shown = |key: &Key| format!("{key:?}");
    let found = store.key_by_digest(&first.digest).unwrap().unwrap();
    assert_eq!((found.number, shown(&found.key)), (number, shown(&first)));
    assert!(store.key_by_digest(&Digest::of(b"?")).unwrap().is_none());
    assert!(store.key_by_id("vk_?").unwrap().is_none());
    assert_eq!(store.workspace(number).unwrap().as_deref(), Some("default"));
    assert_eq!(store.workspace(99).unwrap(), None);
    let labels = |store: &mut B::Store, prefix: &str| -> Vec<String> {
        let keys = store.unrevoked_by_label_prefix(prefix).unwrap();
        let mut labels: Vec<_> = keys.into_iter().map(|full| full.key.label).collect();
        labels.sort();
        labels
    };
    assert_eq!(labels(&mut store, "one"), ["one", "one%"]);
    assert_eq!(labels(&mut store, "one%"), ["one%"]);
    first.revoked_at = Some(timestamp(NOON + 1));
    first.label = "changed".to_owned();
    first.grant.version = 2;
    first.metadata = None;
    let full = FullKey {
        number,
        budget: None,
        key: first.clone(),
    };
    store.change_key(&full).unwrap();
    let found = store.key_by_id("vk_one").unwrap().unwrap();
    assert_eq!(shown(&found.key), shown(&first));
    assert_eq!(labels(&mut store, "one"), ["one%"]);
    assert!(labels(&mut store, "changed").is_empty());
    store.commit().unwrap();
    let mut reads = backend.reads();
    assert_eq!(
        shown(&reads.key("vk_one").unwrap().unwrap().key),
        shown(&first)
    );
}

pub fn the_chain_is_read_in_order<B: Backend>() {
    let backend = B::new();
    let mut store = backend.store();
    store.begin(&Ahead::Chores).unwrap();
    let mut head = store.chain_head().unwrap();
    assert_eq!((head.seq, head.hash), (0, audit::start()));
    for number in 1..=3_u8 {
        head = audit::next(&head, NOON, &[number]);
        store.add_event(&head, &[number]).unwrap();
    }
    store.set_chain_head(&head).unwrap();
    assert_eq!(store.event(2).unwrap(), Some(vec![2]));
    assert_eq!(store.event(4).unwrap(), None);
    let mut reads = backend.reads();
    assert_eq!(
        reads.chain_head().unwrap().seq,
        0,
        "not before it is committed"
    );
    store.commit().unwrap();
    assert_eq!(store.chain_head().unwrap(), head);
    let mut bodies = Vec::new();
    let read = reads
        .chain(&mut |event| {
            bodies.push(event.body);
            if event.seq == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!(read, head);
    assert_eq!(bodies, [[1], [2]]);
    assert_eq!(reads.unknown(NOON).unwrap().count, 0);
    let _ = EntryOutcome::Held;
}
