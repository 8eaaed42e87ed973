//! Evidence on requests whose outcome nobody knows: it decides those and nothing else, and is on record.

use keybrake_contract::ids::HoldId;
use keybrake_contract::wire::*;
use serde_json::{Value, json};

use super::bench::*;
use crate::book::{Evidence, Finding, Undecided};
use crate::engine::ResolveError;
use crate::model::{EntryOutcome, IssuedKey, UnknownQuery};

fn operator() -> Evidence {
    Evidence::Operator {
        reason: "seen in the dashboard".to_owned(),
        who: "ana".to_owned(),
    }
}

fn done(amount: u64, object: Option<&str>) -> Finding {
    Finding::Executed {
        executed: Executed {
            money: ExecutedMoney::Moved,
            amount: Some(cents(amount)),
            is_total: false,
        },
        object: object.map(str::to_owned),
        charge: object.map(str::to_owned),
    }
}

/// A charge of 100 cents that was forwarded and of which nobody knows.
async fn unknown(bench: &Bench, key: &IssuedKey, idempotency_key: &str) -> Admitted {
    let admitted = bench.admitted(charge(key, 100, idempotency_key)).await;
    bench
        .outcome(outcome_of(&admitted, AttemptOutcome::Indeterminate))
        .await;
    admitted
}

fn last_event(bench: &Bench) -> Value {
    bench.events().pop().unwrap()
}

#[tokio::test]
async fn an_operators_word_settles_an_unknown_for_the_amount_it_names() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    let admitted = unknown(&bench, &key, "k-1").await;
    assert_eq!(bench.parts(&key).await, [900, 0, 0, 100]);
    let entry = bench
        .ledger
        .resolve(admitted.hold, done(70, Some("ch_1")), operator())
        .await
        .unwrap();
    assert_eq!(entry.outcome, Some(EntryOutcome::Settled));
    assert_eq!(entry.stripe_charge_id.as_deref(), Some("ch_1"));
    assert_eq!(entry.amount, Some(70));
    let said = json!({"operator": {"reason": "seen in the dashboard", "who": "ana"}});
    assert_eq!(entry.resolution.as_ref().unwrap().evidence, said);
    assert_eq!(bench.entry(admitted.hold).await, entry);
    assert_eq!(bench.parts(&key).await, [930, 0, 70, 0]);
    let event = last_event(&bench);
    assert_eq!(
        (&event["event"], &event["evidence"]),
        (&json!("resolved"), &said)
    );
    assert_eq!(event["outcome"], "executed");
    // A repeat gets what is known, and is not forwarded.
    let CommandResult::Replay(replay) = bench.reserve(charge(&key, 100, "k-1")).await else {
        panic!("not replayed")
    };
    assert!(replay.summary && replay.answer.body.contains("\"id\":\"ch_1\""));
    // The vendor's late answer to the same attempt changes nothing and alarms nobody.
    bench.outcome(charged(&admitted, "ch_1", 70)).await;
    assert_eq!(bench.parts(&key).await, [930, 0, 70, 0]);
    assert!(bench.ledger.figures().await.alarms.is_empty());
}

#[tokio::test]
async fn an_operators_word_gives_money_back_whatever_the_attempts_were() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    let first = unknown(&bench, &key, "k-1").await;
    for attempt in 2..=3 {
        let again = bench.admitted(charge(&key, 100, "k-1")).await;
        assert_eq!((again.hold, again.attempt), (first.hold, attempt));
        bench
            .outcome(outcome_of(&again, AttemptOutcome::Indeterminate))
            .await;
    }
    let resolved = bench
        .ledger
        .resolve(first.hold, Finding::NotExecuted, operator())
        .await
        .unwrap();
    assert_eq!(resolved.outcome, Some(EntryOutcome::Released));
    assert_eq!(resolved.attempts, 3);
    assert_eq!(bench.parts(&key).await, [1_000, 0, 0, 0]);
    let states = "SELECT first_attempt FROM requests UNION ALL SELECT state FROM attempts";
    assert_eq!(bench.place.sql(states), "3\n3\n3", "each was not executed");
    let next = bench.admitted(charge(&key, 100, "k-1")).await;
    assert_ne!(next.hold, first.hold, "the key may be used afresh");
    assert_eq!(next.attempt, 1);
}

#[tokio::test]
async fn a_word_that_turns_out_wrong_is_debited_in_full_and_alarmed() {
    let bench = Bench::new();
    let key = bench.key(daily(100)).await;
    let admitted = unknown(&bench, &key, "k-1").await;
    let word = bench
        .ledger
        .resolve(admitted.hold, Finding::NotExecuted, operator());
    word.await.unwrap();
    bench.outcome(charged(&admitted, "ch_1", 100)).await;
    assert_eq!(bench.parts(&key).await, [0, 0, 100, 0]);
    let alarms = bench.ledger.figures().await.alarms;
    assert_eq!(alarms.get("executed_after_release"), Some(&1));
}

#[tokio::test]
async fn more_than_was_held_is_debited_in_full_and_alarmed() {
    let bench = Bench::new();
    let key = bench.key(daily(100)).await;
    let admitted = unknown(&bench, &key, "k-1").await;
    let word = bench
        .ledger
        .resolve(admitted.hold, done(150, None), operator());
    let entry = word.await.unwrap();
    assert_eq!(bench.parts(&key).await, [-50, 0, 150, 0]);
    assert_eq!(entry.alarms, ["amount_above_hold", "cap_overrun"]);
}

#[tokio::test]
async fn nothing_but_an_unknown_is_decided_and_nothing_is_changed() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    let settled = bench.admitted(charge(&key, 100, "k-1")).await;
    bench.outcome(charged(&settled, "ch_1", 100)).await;
    let in_flight = bench.admitted(charge(&key, 100, "k-2")).await;
    let again = unknown(&bench, &key, "k-3").await;
    bench.admitted(charge(&key, 100, "k-3")).await;
    let released = bench.admitted(charge(&key, 100, "k-4")).await;
    bench.release(released.hold).await;
    let refused = charge(&key, 90_000, "k-5");
    let refused_id = refused.id;
    bench.reserve(refused).await;
    let looked = bench.admitted(read(&key)).await;
    let known = ResolveError::Undecided(Undecided::NotUnknown);
    let running = ResolveError::Undecided(Undecided::InFlight);
    let before = (bench.parts(&key).await, bench.ledger.figures().await.events);
    let rows: [(HoldId, ResolveError); 7] = [
        (settled.hold, known),
        (in_flight.hold, running),
        (again.hold, running),
        (released.hold, known),
        (refused_id, ResolveError::NotFound),
        (looked.hold, ResolveError::NotFound),
        (fresh(), ResolveError::NotFound),
    ];
    for (hold, expected) in rows {
        for finding in [done(1, None), Finding::NotExecuted] {
            let resolved = bench.ledger.resolve(hold, finding, operator()).await;
            assert_eq!(resolved, Err(expected));
        }
    }
    let last = unknown(&bench, &key, "k-6").await;
    let absence = Evidence::Absence { reads: 3 };
    let resolved = bench
        .ledger
        .resolve(last.hold, done(1, None), absence)
        .await;
    let nothing = ResolveError::Undecided(Undecided::ShowsNothing);
    assert_eq!(resolved, Err(nothing));
    assert_eq!(
        bench.parts(&key).await,
        [before.0[0] - 100, before.0[1], 100, before.0[3] + 100]
    );
    let events = bench.ledger.figures().await.events;
    assert_eq!(events, before.1 + 2, "those of the last charge");
}

#[tokio::test]
async fn which_evidence_decided_is_in_the_audit() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    let text = |text: &str| text.to_owned();
    let rows = [
        (
            Evidence::VendorEvent {
                event_id: text("evt_1"),
            },
            done(100, Some("ch_1")),
            json!({"vendor_event": {"event_id": "evt_1"}}),
        ),
        (
            Evidence::VendorList {
                object_id: text("ch_2"),
            },
            done(100, Some("ch_2")),
            json!({"vendor_list": {"object_id": "ch_2"}}),
        ),
        (
            Evidence::Absence { reads: 3 },
            Finding::NotExecuted,
            json!({"absence": {"reads": 3}}),
        ),
    ];
    for (number, (evidence, finding, expected)) in rows.into_iter().enumerate() {
        let admitted = unknown(&bench, &key, &format!("k-{number}")).await;
        let entry = bench.ledger.resolve(admitted.hold, finding, evidence).await;
        assert_eq!(entry.unwrap().resolution.unwrap().evidence, expected);
        assert_eq!(last_event(&bench)["evidence"], expected);
    }
    // The vendor's own replay on a client's retry.
    unknown(&bench, &key, "k-9").await;
    let again = bench.admitted(charge(&key, 100, "k-9")).await;
    bench
        .outcome(Outcome {
            replayed_by_vendor: true,
            ..charged(&again, "ch_9", 100)
        })
        .await;
    assert_eq!(last_event(&bench)["evidence"], "vendor_replay");
}

#[tokio::test]
async fn unknowns_are_listed_by_age_and_counted_per_key() {
    let bench = Bench::new();
    let first = bench.key(daily(1_000)).await;
    let second = bench.key(daily(1_000)).await;
    let mut holds = Vec::new();
    for (number, key) in [&first, &second, &first].into_iter().enumerate() {
        let admitted = unknown(&bench, key, &format!("k-{number}")).await;
        holds.push(admitted.hold.to_string());
        bench.hand.advance_ms(60_000);
    }
    let listed = async |query: UnknownQuery| {
        let page = bench.ledger.unknown_requests(query).await.unwrap();
        let of = |one: &crate::model::UnknownRequest| (one.entry.id.clone(), one.age_ms);
        let items: Vec<_> = page.items.iter().map(of).collect();
        (items, page.next_cursor)
    };
    let all = UnknownQuery {
        limit: 2,
        ..UnknownQuery::default()
    };
    let (items, cursor) = listed(all.clone()).await;
    let expected = [(holds[0].clone(), 180_000), (holds[1].clone(), 120_000)];
    assert_eq!(items, expected);
    let (rest, end) = listed(UnknownQuery {
        cursor,
        ..all.clone()
    })
    .await;
    assert_eq!((rest, end), (vec![(holds[2].clone(), 60_000)], None));
    let of_key = UnknownQuery {
        key_id: Some(second.key.key_id.clone()),
        ..all.clone()
    };
    assert_eq!(listed(of_key).await.0, [(holds[1].clone(), 120_000)]);
    let strange = UnknownQuery {
        cursor: Some("x".to_owned()),
        ..all
    };
    assert!(bench.ledger.unknown_requests(strange).await.is_err());
    let of_first = bench.ledger.unknown_of(&first.key.key_id).await.unwrap();
    assert_eq!((of_first.count, of_first.amount), (2, usd(200)));
    assert_eq!(of_first.oldest_age_ms, Some(180_000));
    let nobody = bench.ledger.unknown_of("vk_none").await.unwrap();
    assert_eq!((nobody.count, nobody.oldest_age_ms), (0, None));
    let figures = bench.ledger.figures().await.unknown.unwrap();
    assert_eq!((figures.count, figures.oldest_age_ms), (3, Some(180_000)));
}

#[tokio::test]
async fn an_edited_resolution_disagrees_with_its_event() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    let admitted = unknown(&bench, &key, "k-1").await;
    let word = bench
        .ledger
        .resolve(admitted.hold, done(70, Some("ch_1")), operator());
    word.await.unwrap();
    let Bench {
        ledger,
        folder,
        mut place,
        ..
    } = bench;
    ledger.close().await;
    let folder = folder.for_damage();
    assert_eq!(verified(place.database()).broken, None);
    place.will_be_damaged();
    for (edit, what) in [
        ("resolution = NULL", "which evidence decided it"),
        ("resolution = 4, object = 'ch_2'", "the vendor's object"),
    ] {
        let sql = format!("UPDATE requests SET {edit} WHERE number = 1");
        place.sql(&sql);
        let broken = verified(place.database()).broken.unwrap().to_string();
        assert!(broken.contains(what), "{broken}");
    }
    drop(folder);
}

#[tokio::test]
async fn an_operators_word_ends_what_is_held_for_an_object_that_ended_elsewhere() {
    let bench = Bench::new();
    let key = bench.key(daily(1_000)).await;
    let authorised = async |object: &str, idempotency_key: &str| {
        let admitted = bench.admitted(charge(&key, 300, idempotency_key)).await;
        let opened = Outcome {
            outcome: executed(ExecutedMoney::Open, Some(300)),
            charge_id: None,
            ..charged(&admitted, object, 300)
        };
        bench.outcome(opened).await;
        admitted
    };
    let lapsed = authorised("pi_1", "k-1").await;
    let paid = authorised("pi_2", "k-2").await;
    let more = authorised("pi_3", "k-3").await;
    assert_eq!(bench.parts(&key).await, [100, 900, 0, 0]);
    let resolve = |one: &Admitted, finding| bench.ledger.resolve(one.hold, finding, operator());
    // What the vendor's events say of the request does not end what it made.
    let event = Evidence::VendorEvent {
        event_id: "evt_1".to_owned(),
    };
    let known = ResolveError::Undecided(Undecided::NotUnknown);
    let told = bench
        .ledger
        .resolve(lapsed.hold, Finding::NotExecuted, event);
    assert_eq!(told.await.unwrap_err(), known);
    let entry = resolve(&lapsed, Finding::NotExecuted).await.unwrap();
    assert_eq!(entry.outcome, Some(EntryOutcome::Released));
    assert_eq!(entry.vendor_object_id.as_deref(), Some("pi_1"));
    assert!(entry.resolution.is_some());
    assert_eq!(bench.parts(&key).await, [400, 600, 0, 0]);
    let entry = resolve(&paid, done(250, None)).await.unwrap();
    assert_eq!(entry.outcome, Some(EntryOutcome::Settled));
    assert_eq!(entry.cost_usd.as_deref(), Some("2.500000"));
    assert_eq!(bench.parts(&key).await, [450, 300, 250, 0]);
    // More than was held is debited in full, and alarmed.
    let entry = resolve(&more, done(320, None)).await.unwrap();
    assert!(!entry.alarms.is_empty());
    assert_eq!(bench.parts(&key).await, [430, 0, 570, 0]);
    // The vendor made it, so a repeat is replayed as before.
    let again = bench.reserve(charge(&key, 300, "k-1")).await;
    assert!(matches!(again, CommandResult::Replay(_)), "{again:?}");
    // Once is enough, and money that moved is not given back.
    for one in [&lapsed, &paid, &more] {
        let told = resolve(one, Finding::NotExecuted).await;
        assert_eq!(told.unwrap_err(), known);
    }
}
