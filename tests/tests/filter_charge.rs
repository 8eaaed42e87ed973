//! One charge, from the client's first byte to its answer.

use keybrake_contract::grant::Grant;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::{
    Admitted, AttemptOutcome, Command, CommandResult, Forward, Replay, Reserve, StoredAnswer,
};
use keybrake_tests::fake_host::{CHARGE, CHARGED, World, grant, usual_answer};
use serde_json::json;

fn reserve(world: &World) -> Reserve {
    match world.commands().as_slice() {
        [Command::Reserve(reserve)] => (**reserve).clone(),
        other => panic!("a reserve and nothing else, not {other:?}"),
    }
}

#[test]
fn a_charge_is_admitted_forwarded_recorded_and_answered_in_that_order() {
    let mut world = World::new();
    let stream = world.charge("k-1");
    assert_eq!(reserve(&world).grant_version, None);
    world.answer(CommandResult::Grant(Box::new(grant(1))));
    let asked = reserve(&world);
    assert_eq!(asked.grant_version, Some(1));
    assert_eq!(asked.forward, Forward::Detached);
    assert_eq!(asked.idempotency.as_ref().unwrap().key, "k-1");
    assert!(world.vendor_calls().is_empty());

    let batch = world.batches().remove(0);
    world.ledger(&batch, |command| Some(usual_answer(command)));
    let call = world.vendor_calls().remove(0);
    assert_eq!(call.header(":path"), Some("/v1/charges"));
    assert_eq!(call.header(":authority"), Some("api.stripe.com"));
    assert_eq!(call.header("idempotency-key"), Some("k-1"));
    assert_eq!((call.body.as_slice(), call.timeout_ms), (CHARGE, 90_000));
    assert!(world.reply(stream).is_none() && world.batches().is_empty());

    world.vendor(&call, "200", CHARGED);
    assert!(
        world.reply(stream).is_none(),
        "answered before the outcome was on record"
    );
    let told = world.commands();
    let [Command::Outcome(outcome)] = told.as_slice() else {
        panic!("an outcome");
    };
    assert_eq!((outcome.hold, outcome.attempt), (asked.id, 1));
    assert!(matches!(outcome.outcome, AttemptOutcome::Executed(_)));
    assert_eq!(outcome.answer.as_ref().unwrap().body.as_bytes(), CHARGED);

    world.answer(CommandResult::Recorded);
    let reply = world.reply(stream).unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (200, CHARGED));
    assert_eq!(reply.header("keybrake-settlement"), None);
    assert_eq!(reply.header("keybrake-upstream"), None);
    assert!(reply.header("keybrake-request-id").is_some());
    for (name, value) in [
        ("keybrake_verdict", "admitted"),
        ("keybrake_outcome", "executed"),
        ("keybrake_upstream_status", "200"),
        ("keybrake_vendor_request_id", "req_vendor"),
        ("keybrake_hold", &asked.id.to_string()),
    ] {
        assert_eq!(world.mark(stream, name).as_deref(), Some(value), "{name}");
    }
    world.advance(100);
    assert!(!world.ticks(), "an idle worker needs no ticks");
    assert_eq!(world.metric("keybrake_open_requests"), 0);
    assert_eq!(world.metric("keybrake_requests.verdict.admitted"), 1);
}

#[test]
fn a_known_grant_saves_the_first_question() {
    let mut world = World::new();
    let (_, call) = world.charge_to_vendor("k-1");
    world.vendor(&call, "200", CHARGED);
    world.settle_ledger();
    world.charge("k-2");
    assert_eq!(reserve(&world).grant_version, Some(1));
}

#[test]
fn a_grant_with_rules_about_equal_purchases_gets_a_digest_for_each() {
    let mut world = World::new();
    world.charge("k-1");
    assert!(reserve(&world).purchases.is_empty(), "no grant, no rules");
    let lists = [&["amount", "currency"][..], &["metadata[order]"]];
    let lists = lists.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    world.answer(CommandResult::Grant(Box::new(Grant {
        duplicate_fields: lists.to_vec(),
        ..grant(1)
    })));
    let purchases = reserve(&world).purchases;
    assert_eq!(purchases.len(), 2);
    assert_ne!(purchases.first(), purchases.last());
}

#[test]
fn a_changed_grant_is_checked_again_with_a_new_command_and_only_so_often() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    let mut ids = vec![reserve(&world).id];
    let mut version = 2;
    while world.reply(stream).is_none() {
        world.answer(CommandResult::Grant(Box::new(grant(version))));
        if let Some(call) = world.batches().first() {
            assert!(!call.body.is_empty());
            ids.push(reserve(&world).id);
            assert_eq!(reserve(&world).grant_version, Some(version));
        }
        version += 1;
        assert!(version < 10, "asked for ever");
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert_eq!(world.status(stream), Some(503));
    assert_eq!(world.forwards(), 0);
}

#[test]
fn a_grant_that_no_longer_allows_it_refuses_it_on_record() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    let mut narrower = grant(2);
    narrower.allowed_endpoints.remove(0);
    world.answer(CommandResult::Grant(Box::new(narrower)));
    assert!(matches!(world.commands().as_slice(),
        [Command::Refused(refused)] if refused.grant_version == Some(2)
            && refused.code == RefusalCode::EndpointNotAllowed));
    assert!(
        world.reply(stream).is_none(),
        "a refusal is told after it is on record"
    );
    world.answer(CommandResult::Recorded);
    assert_eq!(world.status(stream), Some(403));
}

#[test]
fn a_refusal_under_an_old_grant_is_checked_again() {
    let mut world = World::new();
    let headers = world.headers("POST", "/stripe/v1/refunds", &[("idempotency-key", "k-1")]);
    let stream = world.send(headers, b"charge=ch_1");
    world.answer(CommandResult::Grant(Box::new(grant(1))));
    let told = world.commands();
    let [Command::Refused(first)] = told.as_slice() else {
        panic!("a refusal");
    };
    world.answer(CommandResult::Grant(Box::new(grant(2))));
    let told = world.commands();
    let [Command::Refused(second)] = told.as_slice() else {
        panic!("a refusal");
    };
    assert!(first.id != second.id && second.grant_version == Some(2));
    // Meanwhile the key was revoked.
    world.answer(CommandResult::Refused(Refusal::plain(
        RefusalCode::VaultKeyRevoked,
    )));
    assert_eq!(world.status(stream), Some(401));
    // Its grant is forgotten: the next request asks again.
    world.charge("k-2");
    assert_eq!(reserve(&world).grant_version, None);
}

#[test]
fn a_refusal_that_cannot_be_recorded_is_a_503() {
    let mut world = World::new();
    let headers = world.headers("POST", "/stripe/v1/refunds", &[("idempotency-key", "k-1")]);
    let stream = world.send(headers, b"charge=ch_1");
    world.answer(CommandResult::Grant(Box::new(grant(1))));
    world.advance(2_100);
    assert_eq!(world.status(stream), Some(503));
}

#[test]
fn the_ledgers_no_is_the_answer() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    world.answer(CommandResult::Refused(Refusal::plain(
        RefusalCode::SpendCapExceeded,
    )));
    assert_eq!(world.status(stream), Some(402));
    assert_eq!(
        world.reply(stream).unwrap().header("keybrake-reason"),
        Some("spend_cap_exceeded")
    );
    assert_eq!(
        world.mark(stream, "keybrake_verdict").as_deref(),
        Some("refused")
    );
    assert!(world.batches().is_empty());
}

#[test]
fn a_replay_is_given_again_and_nothing_is_forwarded() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    let answer = StoredAnswer {
        status: 200,
        content_type: "application/json".to_owned(),
        body: "{\"id\":\"ch_0\"}".to_owned(),
        vendor_request_id: Some("req_0".to_owned()),
    };
    let hold = reserve(&world).id;
    world.answer(CommandResult::Replay(Box::new(Replay {
        hold,
        answer,
        summary: false,
        retrieved: false,
    })));
    let reply = world.reply(stream).unwrap();
    assert_eq!(
        (reply.status, reply.body.as_slice()),
        (200, b"{\"id\":\"ch_0\"}".as_slice())
    );
    assert_eq!(reply.header("idempotent-replayed"), Some("true"));
    assert_eq!(
        (world.forwards(), world.metric("keybrake_open_requests")),
        (0, 0)
    );
}

#[test]
fn a_request_in_flight_elsewhere_is_asked_again_with_growing_pauses_and_new_ids() {
    let mut world = World::with(json!({"in_flight_patience_ms": 3_000}));
    let stream = world.charge_to_reserve("k-1");
    let mut ids = vec![];
    let mut pauses = vec![];
    loop {
        ids.push(reserve(&world).id);
        world.answer(CommandResult::InFlight);
        let mut waited = 0;
        while world.batches().is_empty() && world.reply(stream).is_none() {
            world.advance(25);
            waited += 25;
        }
        pauses.push(waited);
        if world.reply(stream).is_some() {
            break;
        }
    }
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000, 450]);
    assert_eq!(world.status(stream), Some(409));
    let reply = world.reply(stream).unwrap();
    assert_eq!(
        reply.header("keybrake-reason"),
        Some("idempotency_key_in_use")
    );
    assert_eq!(reply.header("stripe-should-retry"), Some("true"));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), pauses.len());
    assert_eq!(world.forwards(), 0);
}

#[test]
fn a_parked_request_gets_the_replay_when_there_is_one() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    world.answer(CommandResult::InFlight);
    world.advance(60);
    let hold = reserve(&world).id;
    world.answer(CommandResult::Admitted(Admitted {
        hold,
        attempt: 2,
        forward_within_ms: 5_000,
    }));
    let call = world.vendor_calls().remove(0);
    world.vendor(&call, "200", CHARGED);
    world.settle_ledger();
    assert_eq!(world.status(stream), Some(200));
}

#[test]
fn trailers_end_a_request_like_any_other_end() {
    let mut world = World::new();
    let headers = world.headers("POST", "/stripe/v1/charges", &[("idempotency-key", "k-1")]);
    let stream = world.begin(headers, false);
    world.body(stream, &CHARGE[..10], false);
    world.body(stream, &CHARGE[10..], false);
    assert!(world.batches().is_empty());
    world.trailers(stream, &[("x-last", "1")]);
    world.settle_ledger();
    assert_eq!(world.vendor_calls()[0].body, CHARGE);
}

#[test]
fn a_header_that_is_not_utf_8_is_refused_and_the_worker_lives() {
    let mut world = World::new();
    let mut headers = world.headers("POST", "/stripe/v1/charges", &[("idempotency-key", "k-1")]);
    headers.push(("x-any".to_owned(), b"\xff\xfe".to_vec()));
    let stream = world.send(headers, CHARGE);
    world.settle_ledger();
    assert_eq!(world.status(stream), Some(400));
    assert_eq!(world.forwards(), 0);
    world.charge_to_vendor("k-2");
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_ends() {
    let mut world = World::with(json!({"max_request_bytes": 1_024}));
    let headers = world.headers("POST", "/stripe/v1/charges", &[("idempotency-key", "k-1")]);
    let stream = world.begin(headers, false);
    world.body(stream, &[b'a'; 1_000], false);
    assert!(world.batches().is_empty());
    world.body(stream, &[b'a'; 1_000], false);
    world.settle_ledger();
    assert_eq!(world.status(stream), Some(413));
}

#[test]
fn refusals_without_a_key_are_answered_at_once_and_counted() {
    let mut world = World::new();
    for _ in 0..3 {
        let headers = world.headers(
            "POST",
            "/stripe/v1/charges",
            &[("authorization", "Bearer nonsense")],
        );
        let stream = world.begin(headers, false);
        assert_eq!(world.status(stream), Some(401));
    }
    world.advance(1_100);
    assert!(
        matches!(world.commands().as_slice(), [Command::RefusalCount(count)] if count.count == 3)
    );
    world.settle_ledger();
    world.advance(2_000);
    assert_eq!(world.metric("keybrake_requests.verdict.refused"), 3);
    assert!(!world.ticks());
}

#[test]
fn without_a_free_slot_nothing_is_asked() {
    let mut world = World::with(json!({"max_open_requests": 2}));
    world.charge("k-1");
    world.charge("k-2");
    let third = world.charge("k-3");
    assert_eq!(world.status(third), Some(503));
    assert_eq!(
        world.reply(third).unwrap().header("stripe-should-retry"),
        Some("true")
    );
    world.settle_ledger();
    for call in world.vendor_calls() {
        world.vendor(&call, "200", CHARGED);
    }
    // The slots are kept until the outcomes are on record.
    let fourth = world.charge("k-4");
    assert_eq!(world.status(fourth), Some(503));
    world.settle_ledger();
    let fifth = world.charge("k-5");
    assert_eq!(world.status(fifth), None);
}

#[test]
fn a_configuration_that_cannot_be_read_is_named_and_not_taken() {
    let said = World::configured(br#"{"commands_cluster": "c", "vendors": [], "typo": 1}"#).err();
    assert!(said.unwrap().contains("typo"));
}
