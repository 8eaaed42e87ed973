//! The search rules as tables, by the pack that comes with the program.

use keybrake_contract::ids::{CommandId, HoldId};
use keybrake_contract::money::{Currency, Minor};
use keybrake_contract::wire::{Executed, ExecutedMoney};
use keybrake_pack::{EvidenceRules, Pack, builtin};
use serde_json::{Value, json};

use super::absence::{Memory, Nothing};
use super::judge::judged;
use super::page::{self, Event};
use super::report::Why;
use super::search::{Sighting, Sightings, Stretch, Wanted, joined, sighting};
use crate::book::Finding;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// When the requests of these tests were reserved.
const T: i64 = 1_795_435_200_000;
const LONGEST: i64 = 60 * MINUTE + 5_000;

fn stripe() -> Pack {
    Pack::parse(&builtin("stripe").unwrap()).unwrap()
}

fn rules(pack: &Pack) -> &EvidenceRules {
    pack.evidence().unwrap()
}

fn id(number: u64) -> HoldId {
    CommandId::new([1; 16], number)
}

fn charge(key: &str) -> Wanted {
    Wanted {
        id: id(1),
        operation: "charges.create".to_owned(),
        idempotency_key: key.to_owned(),
        credential: "stripe".to_owned(),
        reserved_at: T,
        attempts: 1,
        age_ms: 0,
    }
}

fn stretch(wanted: &Wanted) -> Stretch {
    Stretch::of(wanted, T + MINUTE, rules(&stripe()))
}

fn event(id: &str, at_ms: i64, key: &str, kind: &str, object: &str) -> Event {
    Event {
        id: id.to_owned(),
        at_s: at_ms / 1_000,
        idempotency_key: Some(key.to_owned()),
        request_id: Some("req_1".to_owned()),
        object_kind: Some(kind.to_owned()),
        object_id: Some(object.to_owned()),
    }
}

#[test]
fn a_stretch_holds_all_that_the_vendor_may_do_and_joined_ones_are_read_once() {
    let one = stretch(&charge("k"));
    assert_eq!(one.from_s, (T - 5 * MINUTE) / 1_000);
    // Made within a minute, done within 15, and clocks may differ by 5.
    assert_eq!(one.to_s, (T + 21 * MINUTE) / 1_000);
    let of = |from_s, to_s| Stretch { from_s, to_s };
    for (given, expected) in [
        (vec![], vec![]),
        (vec![of(5, 9), of(1, 3)], vec![of(1, 3), of(5, 9)]),
        (vec![of(1, 4), of(5, 9)], vec![of(1, 9)]),
        (vec![of(1, 9), of(2, 3), of(9, 12)], vec![of(1, 12)]),
    ] {
        assert_eq!(joined(given.clone()), expected, "{given:?}");
    }
}

/// What is seen, and event and object that it comes to.
type Row<'a> = (&'a str, Vec<Event>, Option<(String, String)>);

#[test]
fn events_decide_only_when_they_say_one_thing() {
    let pack = stripe();
    let inside = T + 10_000;
    let ch = |id: &str, at, object: &str| event(id, at, "k", "charge", object);
    let found = |event_id: &str, object_id: &str| Some((event_id.to_owned(), object_id.to_owned()));
    let nameless = Event {
        object_id: None,
        ..ch("evt_0", inside, "")
    };
    let rows: Vec<Row<'_>> = vec![
        (
            "one",
            vec![ch("evt_1", inside, "ch_1")],
            found("evt_1", "ch_1"),
        ),
        (
            "the oldest of several names it",
            vec![
                ch("evt_2", inside + 2_000, "ch_1"),
                ch("evt_1", inside, "ch_1"),
            ],
            found("evt_1", "ch_1"),
        ),
        (
            "other objects beside it do not matter",
            vec![
                event("evt_0", inside, "k", "customer", "cus_1"),
                ch("evt_1", inside, "ch_1"),
            ],
            found("evt_1", "ch_1"),
        ),
        (
            "two objects",
            vec![ch("evt_1", inside, "ch_1"), ch("evt_2", inside, "ch_2")],
            None,
        ),
        (
            "other objects only",
            vec![event("evt_1", inside, "k", "refund", "re_1")],
            None,
        ),
        (
            "before its time",
            vec![ch("evt_1", T - 6 * MINUTE, "ch_1")],
            None,
        ),
        (
            "one in its time and one after it",
            vec![
                ch("evt_1", inside, "ch_1"),
                ch("evt_2", T + 22 * MINUTE, "ch_1"),
            ],
            None,
        ),
        ("no object", vec![nameless.clone()], None),
        (
            "one with and one without",
            vec![ch("evt_1", inside, "ch_1"), nameless],
            None,
        ),
        ("too many", vec![ch("evt_1", inside, "ch_1"); 65], None),
    ];
    let wanted = charge("k");
    for (what, events, expected) in rows {
        let mut sightings = Sightings::of([&wanted].into_iter());
        events.into_iter().for_each(|event| sightings.take(event));
        match (
            sighting(&wanted, stretch(&wanted), &sightings, rules(&pack)),
            expected,
        ) {
            (
                Sighting::Object {
                    event_id,
                    object_id,
                    ..
                },
                Some(expected),
            ) => {
                assert_eq!((event_id, object_id), expected, "{what}");
            }
            (Sighting::Odd(_), None) => {}
            (seen, _) => panic!("{what}: {seen:?}"),
        }
    }
}

#[test]
fn only_no_event_at_all_is_nothing_and_a_key_of_two_requests_is_odd() {
    let pack = stripe();
    let (wanted, other) = (charge("k"), charge("K"));
    let mut sightings = Sightings::of([&wanted].into_iter());
    sightings.take(event("evt_1", T, "K", "charge", "ch_1"));
    let without = Event {
        idempotency_key: None,
        ..event("evt_2", T, "", "charge", "ch_1")
    };
    sightings.take(without);
    let seen = sighting(&wanted, stretch(&wanted), &sightings, rules(&pack));
    assert_eq!(seen, Sighting::Nothing);
    let seen = sighting(&other, stretch(&other), &sightings, rules(&pack));
    assert!(matches!(seen, Sighting::Odd(_)), "it was never looked for");
    let again = Wanted {
        id: id(2),
        ..wanted.clone()
    };
    let sightings = Sightings::of([&wanted, &again].into_iter());
    let seen = sighting(&wanted, stretch(&wanted), &sightings, rules(&pack));
    assert!(matches!(seen, Sighting::Odd(_)));
}

fn listed(events: &[Value], more: bool) -> Value {
    json!({"object": "list", "data": events, "has_more": more})
}

fn told(id: &str, at_ms: i64) -> Value {
    json!({"id": id, "created": at_ms / 1_000, "request": {"id": "req_1", "idempotency_key": "k"},
           "data": {"object": {"id": "ch_1", "object": "charge"}}})
}

#[test]
fn a_page_is_read_whole_or_not_at_all() {
    let pack = stripe();
    let rules = &rules(&pack).events;
    let at = stretch(&charge("k"));
    let read = |page: &Value, after| page::read(rules, at, after, page.to_string().as_bytes());
    let page = read(&listed(&[told("evt_2", T), told("evt_1", T)], true), None).unwrap();
    assert_eq!(page.events[0], event("evt_2", T, "k", "charge", "ch_1"));
    assert_eq!(page.next.as_deref(), Some("evt_1"));
    let last = read(&listed(&[told("evt_0", T)], false), Some("evt_1")).unwrap();
    assert_eq!(last.next, None);
    assert_eq!(read(&listed(&[], false), None).unwrap().events, []);
    let bare = json!({"id": "evt_1", "created": T / 1_000, "request": null});
    assert_eq!(
        read(&listed(&[bare], false), None).unwrap().events[0].object_id,
        None
    );

    let mut number = told("evt_1", T);
    number["request"]["idempotency_key"] = json!(7);
    let mut nameless = told("evt_1", T);
    nameless["id"] = Value::Null;
    let mut timeless = told("evt_1", T);
    timeless["created"] = json!("now");
    for (what, page, after) in [
        ("no list", json!({"has_more": false}), None),
        ("an error", json!({"error": {"type": "api_error"}}), None),
        ("no word on more", json!({"data": []}), None),
        ("more after nothing", listed(&[], true), None),
        ("a key that is no text", listed(&[number], false), None),
        ("no id", listed(&[nameless], false), None),
        ("no time", listed(&[timeless], false), None),
        (
            "another time",
            listed(&[told("evt_1", T - DAY)], false),
            None,
        ),
        (
            "the page before",
            listed(&[told("evt_1", T)], true),
            Some("evt_1"),
        ),
    ] {
        assert!(read(&page, after).is_err(), "{what}");
    }
    let whole = listed(&[told("evt_1", T)], false).to_string();
    for end in [0, 1, whole.len() / 2, whole.len() - 1] {
        let cut = page::read(rules, at, None, &whole.as_bytes()[..end]);
        assert!(cut.is_err(), "cut at {end}");
    }
}

#[test]
fn a_query_names_time_size_and_place() {
    let pack = stripe();
    let at = Stretch { from_s: 5, to_s: 9 };
    let first = page::query(&rules(&pack).events, at, None);
    assert_eq!(first, "created%5Bgte%5D=5&created%5Blte%5D=9&limit=100");
    let next = page::query(&rules(&pack).events, at, Some("evt_1"));
    assert_eq!(next, format!("{first}&starting_after=evt_1"));
}

/// Lines of reads that found nothing: minutes after the request was seen unknown, and what they mean.
#[test]
fn nothing_found_means_nothing_done_after_time_and_two_reads_apart() {
    let pack = stripe();
    let early = Nothing::Stays(Why::TooEarly {
        ready_at: T + 17 * MINUTE,
    });
    let once = Nothing::Stays(Why::ReadOnce);
    let mut memory = Memory::default();
    let wanted = charge("k");
    let made_by = memory.see(&wanted, T + 2 * MINUTE, LONGEST);
    assert_eq!(made_by, T + 2 * MINUTE);
    let at = Stretch::of(&wanted, made_by, rules(&pack));
    for (read_at, expected) in [
        (T + 2 * MINUTE, early),
        (T + 16 * MINUTE, early),
        (T + 17 * MINUTE - 1, early),
        (T + 17 * MINUTE, once),
        (T + 18 * MINUTE - 1, once),
        (T + 16 * MINUTE, early),
        (T + 18 * MINUTE, Nothing::NotExecuted),
    ] {
        assert_eq!(memory.see(&wanted, read_at, LONGEST), made_by);
        let meant = memory.nothing(&wanted, at, rules(&pack), read_at);
        assert_eq!(meant, expected, "{}", (read_at - T) / MINUTE);
    }
}

#[test]
fn another_attempt_or_something_found_starts_the_reads_anew() {
    let pack = stripe();
    let once = Nothing::Stays(Why::ReadOnce);
    let mut memory = Memory::default();
    let first = charge("k");
    let at = Stretch::of(&first, memory.see(&first, T, LONGEST), rules(&pack));
    let read = |memory: &mut Memory, wanted: &Wanted, minute: i64| {
        memory.nothing(wanted, at, rules(&pack), T + minute * MINUTE)
    };
    assert_eq!(read(&mut memory, &first, 20), once);
    let second = Wanted {
        attempts: 2,
        ..first.clone()
    };
    let seen_at = T + 22 * MINUTE;
    assert_eq!(memory.see(&second, seen_at, LONGEST), seen_at);
    let early = Why::TooEarly {
        ready_at: T + 37 * MINUTE,
    };
    assert_eq!(read(&mut memory, &second, 24), Nothing::Stays(early));
    assert_eq!(read(&mut memory, &second, 40), once);
    memory.found(second.id);
    assert_eq!(read(&mut memory, &second, 42), once);
    assert_eq!(read(&mut memory, &second, 44), Nothing::NotExecuted);
    // A ledger that was started anew counts anew, from when a first attempt can have been made at the latest.
    let mut memory = Memory::default();
    assert_eq!(memory.see(&second, T + DAY, LONGEST), T + DAY);
    let mut memory = Memory::default();
    assert_eq!(memory.see(&first, T + DAY, LONGEST), T + LONGEST);
}

#[test]
fn where_nothing_shows_nothing_it_is_said_and_not_looked_for_again() {
    let pack = stripe();
    for (operation, read_at, why) in [
        ("refunds.create", T + DAY, Why::NotComplete),
        ("payment_intents.capture", T + DAY, Why::NotComplete),
        ("charges.create", T + 30 * DAY, Why::TooOld),
    ] {
        let mut memory = Memory::default();
        let wanted = Wanted {
            operation: operation.to_owned(),
            ..charge("k")
        };
        let at = Stretch::of(&wanted, memory.see(&wanted, T, LONGEST), rules(&pack));
        for minutes in 0..3 {
            let read_at = read_at + minutes * MINUTE;
            let meant = memory.nothing(&wanted, at, rules(&pack), read_at);
            assert_eq!(meant, Nothing::Stays(why), "{operation}");
        }
        assert_eq!(memory.given_up(wanted.id), Some(why));
        let again = Wanted {
            attempts: 2,
            ..wanted
        };
        memory.see(&again, read_at, LONGEST);
        assert_eq!(memory.given_up(again.id), None, "it may be there now");
        memory.keep(&std::collections::HashSet::new());
        assert_eq!(memory.given_up(again.id), None);
    }
}

fn object(members: Value) -> Vec<u8> {
    let mut object = json!({"id": "ch_1", "object": "charge", "amount": 299, "currency": "usd",
                            "status": "succeeded", "captured": true});
    for (name, value) in members.as_object().unwrap() {
        object[name] = value.clone();
    }
    object.to_string().into_bytes()
}

#[test]
fn a_retrieved_object_is_judged_by_the_packs_own_rules() {
    let pack = stripe();
    let judge = |body: &[u8]| judged(&pack, "charges.create", "ch_1", Some("req_1"), body);
    let executed = |money, amount: Option<u64>| Finding::Executed {
        executed: Executed {
            money,
            amount: amount.map(|amount| Minor {
                amount,
                currency: Currency::USD,
            }),
            is_total: amount.is_some(),
        },
        object: Some("ch_1".to_owned()),
        charge: Some("ch_1".to_owned()),
    };
    let whole = judge(&object(json!({}))).unwrap();
    assert_eq!(whole.finding, executed(ExecutedMoney::Moved, Some(299)));
    let answer = whole.answer.unwrap();
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (200, "application/json")
    );
    assert_eq!(answer.vendor_request_id.as_deref(), Some("req_1"));
    assert_eq!(answer.body.into_bytes(), object(json!({})));
    let open = judge(&object(json!({"captured": false}))).unwrap();
    assert_eq!(open.finding, executed(ExecutedMoney::Open, Some(299)));
    // A declined card: the vendor kept a refusal, not a success, so there is nothing to replay.
    let declined = judge(&object(json!({"status": "failed", "captured": false}))).unwrap();
    assert_eq!(
        (declined.finding, declined.answer),
        (Finding::NotExecuted, None)
    );
    for (what, members) in [
        ("another object", json!({"id": "ch_2"})),
        ("no id", json!({"id": null})),
        ("another kind", json!({"object": "refund"})),
        ("no amount", json!({"amount": null})),
        ("no currency", json!({"currency": null})),
        ("an error", json!({"error": {"type": "api_error"}})),
    ] {
        assert!(judge(&object(members)).is_err(), "{what}");
    }
    assert!(judge(b"").is_err() && judge(b"[]").is_err() && judge(b"<html>").is_err());
    let intent = json!({"id": "pi_1", "object": "payment_intent", "amount": 299, "amount_received": 0,
                        "currency": "usd", "status": "canceled"});
    let body = intent.to_string().into_bytes();
    let cancelled = judged(&pack, "payment_intents.create", "pi_1", None, &body).unwrap();
    assert!(matches!(
        cancelled.finding,
        Finding::Executed { executed, .. } if executed.money == ExecutedMoney::Cancelled
    ));
    assert!(judged(&pack, "customers.delete", "cus_1", None, &body).is_err());
}
