//! The ledger is slow, gone, or says strange things.

use keybrake_contract::wire::{Admitted, Command, CommandResult, ReleaseCause};
use keybrake_tests::fake_host::{CHARGED, COMMANDS, World, usual_answer};

fn releases(world: &World) -> Vec<(keybrake_contract::ids::CommandId, ReleaseCause)> {
    let commands = world.commands();
    let found = commands.iter().filter_map(|command| match command {
        Command::Release(release) => Some((release.reserve, release.cause)),
        _ => None,
    });
    found.collect()
}

fn reserve_id(world: &World) -> keybrake_contract::ids::CommandId {
    world.commands()[0].id()
}

#[test]
fn a_silent_ledger_is_a_503_and_a_release() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    let reserve = reserve_id(&world);
    world.advance(1_990);
    assert_eq!(world.status(stream), None);
    world.advance(60);
    assert_eq!(world.status(stream), Some(503));
    let all = world.batches();
    assert!(all.len() <= 2, "at most two batches are in flight");
    // The call-out times out in Envoy; the next batch carries the release.
    world.envoy_fails(&all[0], "504", "upstream request timeout");
    world.advance(200);
    let last = world.batches().pop().unwrap();
    let text = String::from_utf8(last.body).unwrap();
    assert!(
        text.contains("release") && text.contains(&reserve.to_string()),
        "{text}"
    );
    assert_eq!(world.forwards(), 0);
    assert_eq!(world.metric("keybrake_open_requests"), 1);
    world.settle_ledger();
    assert_eq!(world.metric("keybrake_open_requests"), 0);
}

#[test]
fn an_answer_that_breaks_off_is_no_answer_and_the_batch_is_sent_again() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    let reserve = reserve_id(&world);
    let batch = world.batches().remove(0);
    world.envoy_cuts(&batch);
    assert_eq!(world.status(stream), None);
    world.advance(100);
    assert_eq!(reserve_id(&world), reserve);
    world.settle_ledger();
    assert_eq!(world.vendor_calls().len(), 1);
}

#[test]
fn a_yes_that_comes_too_late_is_released() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    let reserve = reserve_id(&world);
    world.stall(501);
    world.answer(CommandResult::Admitted(Admitted {
        hold: reserve,
        attempt: 1,
        forward_within_ms: 500,
    }));
    assert_eq!(world.status(stream), Some(503));
    assert_eq!(releases(&world), [(reserve, ReleaseCause::AnswerTooOld)]);
    assert_eq!(world.forwards(), 0);
    world.settle_ledger();
    assert_eq!(world.metric("keybrake_open_requests"), 0);
}

#[test]
fn a_yes_after_the_deadline_is_no_yes_even_before_a_tick() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    let reserve = reserve_id(&world);
    world.stall(2_001);
    world.answer(CommandResult::Admitted(Admitted {
        hold: reserve,
        attempt: 1,
        forward_within_ms: 5_000,
    }));
    assert_eq!((world.status(stream), world.forwards()), (Some(503), 0));
    assert_eq!(releases(&world), [(reserve, ReleaseCause::NoAnswer)]);
}

#[test]
fn a_failed_batch_is_sent_again_byte_for_byte() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    let first = world.batches().remove(0);
    for status in ["503", "401", "200"] {
        // No marker: it is not the ledger that answers, whatever the status.
        let now = world.batches().remove(0);
        assert_eq!(now.body, first.body);
        world.envoy_fails(&now, status, "no");
        world.advance(200);
    }
    let now = world.batches().remove(0);
    assert_eq!(now.body, first.body);
    world.envoy_cuts(&now);
    world.advance(500);
    world.settle_ledger();
    assert_eq!(world.vendor_calls().len(), 1);
    assert_eq!(world.status(stream), None);
    assert_eq!(
        world.metric("keybrake_ledger_failures.reason.not_the_ledger"),
        4
    );
}

#[test]
fn a_call_out_that_envoy_does_not_take_is_tried_again() {
    let mut world = World::new();
    world.refuse_call(COMMANDS);
    world.charge("k-1");
    assert!(world.batches().is_empty());
    world.advance(50);
    world.settle_ledger();
    assert_eq!(world.vendor_calls().len(), 1);
    assert_eq!(world.metric("keybrake_ledger_failures.reason.not_sent"), 1);
}

#[test]
fn a_late_answer_still_counts_for_those_that_wait() {
    let mut world = World::new();
    world.charge_to_reserve("k-1");
    let first = world.batches().remove(0);
    world.advance(1_100);
    assert_eq!(
        world.batches().len(),
        2,
        "a late batch does not block the next"
    );
    world.ledger(&first, |command| Some(usual_answer(command)));
    assert_eq!(world.vendor_calls().len(), 1);
    world.settle_ledger();
    assert_eq!((world.vendor_calls().len(), world.forwards()), (1, 1));
}

#[test]
fn wake_ups_that_are_lost_are_made_up_for_by_ticks() {
    let mut world = World::new();
    world.break_queues();
    world.charge("k-1");
    assert!(world.batches().is_empty());
    world.advance(50);
    world.settle_ledger();
    assert_eq!(world.vendor_calls().len(), 1);
}

#[test]
fn an_outcome_is_told_until_it_is_on_record_and_the_client_waits_only_so_long() {
    let mut world = World::new();
    let (stream, call) = world.charge_to_vendor("k-1");
    world.vendor(&call, "200", CHARGED);
    let outcome = world.batches().remove(0);
    world.envoy_fails(&outcome, "503", "no");
    world.advance(1_900);
    assert_eq!(world.status(stream), None);
    world.advance(200);
    let reply = world.reply(stream).unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (200, CHARGED));
    assert_eq!(reply.header("keybrake-settlement"), Some("pending"));
    for _ in 0..100 {
        world.advance(60_000);
        for batch in world.batches() {
            assert_eq!(batch.body, outcome.body);
            world.envoy_fails(&batch, "503", "no");
        }
    }
    assert_eq!(
        world.metric("keybrake_open_requests"),
        1,
        "the slot is kept"
    );
    world.advance(2_000);
    world.settle_ledger();
    world.advance(100);
    assert_eq!(world.metric("keybrake_open_requests"), 0);
    assert!(!world.ticks());
}

#[test]
fn an_outcome_that_the_ledger_rejects_is_answered_as_pending_and_not_repeated() {
    for result in [
        CommandResult::InvalidCommand("no".to_owned()),
        CommandResult::CommandIdConflict,
    ] {
        let mut world = World::new();
        let (stream, call) = world.charge_to_vendor("k-1");
        world.vendor(&call, "200", CHARGED);
        world.answer(result);
        let reply = world.reply(stream).unwrap();
        assert_eq!(reply.header("keybrake-settlement"), Some("pending"));
        world.advance(5_000);
        assert!(world.batches().is_empty());
        assert_eq!(
            world.metric("keybrake_ledger_failures.reason.command_rejected"),
            1
        );
    }
}

#[test]
fn answers_that_make_no_sense_never_forward_anything() {
    for result in [
        CommandResult::Recorded,
        CommandResult::Released,
        CommandResult::Cancelled,
        CommandResult::InvalidCommand("no".to_owned()),
        CommandResult::CommandIdConflict,
    ] {
        let mut world = World::new();
        let stream = world.charge("k-0");
        world.answer(result.clone());
        assert_eq!(world.status(stream), Some(503), "{result:?}");
        let stream = world.charge_to_reserve("k-1");
        world.answer(result.clone());
        assert_eq!(world.status(stream), Some(503), "{result:?}");
        assert_eq!(world.forwards(), 0);
        world.settle_ledger();
        assert_eq!(world.metric("keybrake_open_requests"), 0, "{result:?}");
    }
}

#[test]
fn a_yes_to_a_question_without_a_version_is_given_back() {
    let mut world = World::new();
    let stream = world.charge("k-1");
    let reserve = reserve_id(&world);
    world.answer(CommandResult::Admitted(Admitted {
        hold: reserve,
        attempt: 1,
        forward_within_ms: 5_000,
    }));
    assert_eq!((world.status(stream), world.forwards()), (Some(503), 0));
    assert_eq!(releases(&world), [(reserve, ReleaseCause::NotForwarded)]);
}

#[test]
fn many_requests_share_a_batch() {
    let mut world = World::new();
    world.charge_to_reserve("k-0");
    for number in 1..=300 {
        world.charge(&format!("k-{number}"));
    }
    assert_eq!(world.batches().len(), 1);
    let first = world.batches().remove(0);
    world.ledger(&first, |command| Some(usual_answer(command)));
    assert_eq!(world.commands().len(), 256);
    world.settle_ledger();
    assert_eq!(world.vendor_calls().len(), 301);
}

#[test]
fn a_root_stays_until_nothing_is_in_flight() {
    let mut world = World::new();
    let (stream, call) = world.charge_to_vendor("k-1");
    world.hang_up(stream);
    assert!(!world.remove_root());
    world.vendor(&call, "200", CHARGED);
    assert!(!world.root_done());
    world.settle_ledger();
    assert!(world.root_done());
    let mut idle = World::new();
    assert!(idle.remove_root());
}
