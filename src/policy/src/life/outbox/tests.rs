//! Tests of the outbox: time moves by hand, the ledger's answers are written by hand.

use keybrake_contract::ids::CommandId;
use keybrake_contract::wire::{Batch, Release, ReleaseCause, Results};

use super::*;

const LIMITS: OutboxLimits = OutboxLimits {
    batch_max_commands: 4,
    batch_max_bytes: 4096,
    ledger_timeout_ms: 1_000,
    ask_deadline_ms: 2_000,
};

fn id(number: u64) -> CommandId {
    CommandId::new([1; 16], number)
}

fn release(number: u64) -> Command {
    Command::Release(Release {
        id: id(number),
        reserve: id(1_000),
        cause: ReleaseCause::NoAnswer,
    })
}

fn reserve(number: u64) -> Command {
    let json = format!(
        r#"{{"reserve":{{"id":"{}","key_digest":"{}","request":{{"vendor":"stripe","credential":"stripe",
        "operation":"charges.create","method":"POST","path":"/v1/charges","request_id":"r"}},"forward":"detached",
        "cost":"nothing","forward_timeout_ms":1}}}}"#,
        id(number),
        "0".repeat(64)
    );
    serde_json::from_str(&json).unwrap()
}

fn owner(number: u64) -> Option<RequestNumber> {
    Some(RequestNumber(number))
}

fn results(pairs: &[(u64, CommandResult)]) -> Vec<u8> {
    let results = pairs
        .iter()
        .map(|(number, result)| CommandAnswer {
            id: Some(id(*number)),
            result: result.clone(),
        })
        .collect();
    serde_json::to_vec(&Results { results }).unwrap()
}

fn ids_in(batch: &BatchOut) -> Vec<CommandId> {
    let parsed: Batch = serde_json::from_slice(&batch.body).unwrap();
    parsed.commands.iter().map(Command::id).collect()
}

struct Bench {
    outbox: Outbox,
    delivered: Vec<Delivery>,
}

impl Bench {
    fn new() -> Self {
        Self {
            outbox: Outbox::new(LIMITS),
            delivered: Vec::new(),
        }
    }
    fn ok(&mut self, now: Millis, batch: &BatchOut, body: &[u8]) {
        let reply = BatchReply::Answer {
            status: 200,
            marked: true,
            body,
        };
        self.outbox
            .batch_replied(now, batch.number, reply, &mut self.delivered);
    }
    fn fail(&mut self, now: Millis, batch: &BatchOut, status: u16, marked: bool) {
        let reply = BatchReply::Answer {
            status,
            marked,
            body: b"",
        };
        self.outbox
            .batch_replied(now, batch.number, reply, &mut self.delivered);
    }
    fn fates(&mut self) -> Vec<(CommandId, Fate)> {
        self.delivered.drain(..).map(|d| (d.id, d.fate)).collect()
    }
}

#[test]
fn the_first_command_goes_at_once_and_the_rest_gather_behind_it() {
    let mut bench = Bench::new();
    bench.outbox.enqueue(0, owner(1), Hurry::AtOnce, reserve(1));
    let first = bench.outbox.next_batch(0).unwrap();
    assert_eq!(ids_in(&first), [id(1)]);
    for number in 2..=6 {
        bench.outbox.enqueue(
            1,
            owner(number),
            Hurry::AtOnce,
            if number == 4 {
                release(4)
            } else {
                reserve(number)
            },
        );
        assert!(bench.outbox.next_batch(1).is_none());
    }
    bench.ok(2, &first, &results(&[(1, CommandResult::InFlight)]));
    assert_eq!(
        bench.fates(),
        [(id(1), Fate::Answered(CommandResult::InFlight))]
    );
    let second = bench.outbox.next_batch(2).unwrap();
    assert_eq!(ids_in(&second), [id(2), id(3), id(4), id(5)]);
    assert!(bench.outbox.next_batch(2).is_none());
}

#[test]
fn a_failed_batch_is_sent_again_with_the_same_bytes_after_a_pause_that_doubles() {
    let mut bench = Bench::new();
    bench.outbox.enqueue(0, None, Hurry::AtOnce, release(1));
    let mut now = 0;
    let mut pauses = Vec::new();
    let first = bench.outbox.next_batch(now).unwrap();
    let mut last = BatchOut {
        number: first.number,
        body: first.body.clone(),
    };
    for (status, marked) in [
        (503, false),
        (200, false),
        (503, true),
        (401, true),
        (504, false),
        (500, true),
        (503, true),
        (503, true),
    ] {
        bench.fail(now, &last, status, marked);
        let failed_at = now;
        while !bench.outbox.could_send(now) {
            now += 1;
        }
        pauses.push(now - failed_at);
        last = bench.outbox.next_batch(now).unwrap();
        assert_eq!(last.body, first.body);
    }
    assert_eq!(pauses, [25, 50, 100, 200, 400, 800, 1_000, 1_000]);
    bench.ok(now, &last, &results(&[(1, CommandResult::Released)]));
    assert!(bench.outbox.is_idle());
    assert_eq!(bench.fates().len(), 1);
}

#[test]
fn a_call_out_that_cannot_be_made_is_a_failed_batch() {
    let mut bench = Bench::new();
    bench.outbox.enqueue(0, None, Hurry::AtOnce, release(1));
    let batch = bench.outbox.next_batch(0).unwrap();
    bench
        .outbox
        .batch_replied(0, batch.number, BatchReply::NotSent, &mut bench.delivered);
    assert!(bench.outbox.next_batch(24).is_none());
    assert_eq!(ids_in(&bench.outbox.next_batch(25).unwrap()), [id(1)]);
    assert_eq!(bench.outbox.take_failures(), [LedgerFailure::NotSent]);
}

#[test]
fn a_late_batch_does_not_block_the_next_but_two_late_ones_do() {
    let mut bench = Bench::new();
    bench.outbox.enqueue(0, owner(1), Hurry::AtOnce, release(1));
    let first = bench.outbox.next_batch(0).unwrap();
    bench
        .outbox
        .enqueue(10, owner(2), Hurry::AtOnce, release(2));
    bench.outbox.tick(999, &mut bench.delivered);
    assert!(bench.outbox.next_batch(999).is_none());
    bench.outbox.tick(1_000, &mut bench.delivered);
    let second = bench.outbox.next_batch(1_025).unwrap();
    assert_eq!(ids_in(&second), [id(1), id(2)]);
    bench.outbox.tick(2_025, &mut bench.delivered);
    assert!(bench.outbox.next_batch(10_000).is_none());
    // The late answer is used for what still waits, the second one's for the rest.
    bench.ok(10_001, &first, &results(&[(1, CommandResult::Released)]));
    let third = bench.outbox.next_batch(10_001).unwrap();
    assert_eq!(ids_in(&third), [id(2)]);
    let both = results(&[(1, CommandResult::Released), (2, CommandResult::Released)]);
    bench.ok(10_002, &second, &both);
    bench.ok(10_003, &third, &results(&[(2, CommandResult::Released)]));
    assert_eq!(bench.fates().len(), 2);
    assert!(bench.outbox.is_idle());
}

#[test]
fn a_late_batch_that_fails_in_the_end_changes_nothing_more() {
    let mut bench = Bench::new();
    bench.outbox.enqueue(0, owner(1), Hurry::AtOnce, release(1));
    let first = bench.outbox.next_batch(0).unwrap();
    bench.outbox.tick(1_000, &mut bench.delivered);
    let second = bench.outbox.next_batch(1_025).unwrap();
    bench.fail(1_030, &first, 504, false);
    assert!(bench.outbox.next_batch(1_030).is_none());
    bench.ok(1_031, &second, &results(&[(1, CommandResult::Released)]));
    assert!(bench.outbox.is_idle());
    assert_eq!(bench.outbox.take_failures(), [LedgerFailure::Late]);
}

#[test]
fn questions_are_given_up_at_their_deadline_and_statements_never() {
    let mut bench = Bench::new();
    bench.outbox.enqueue(0, owner(1), Hurry::AtOnce, reserve(1));
    bench.outbox.enqueue(0, owner(2), Hurry::AtOnce, release(2));
    let mut batch = bench.outbox.next_batch(0).unwrap();
    bench.fail(0, &batch, 503, true);
    bench.outbox.tick(2_000, &mut bench.delivered);
    assert!(bench.fates().is_empty());
    bench.outbox.tick(2_001, &mut bench.delivered);
    assert_eq!(bench.fates(), [(id(1), Fate::GivenUp)]);
    for round in 1..100 {
        let now = round * 10_000;
        bench.outbox.tick(now, &mut bench.delivered);
        batch = bench.outbox.next_batch(now).unwrap();
        assert_eq!(ids_in(&batch), [id(2)]);
        bench.fail(now, &batch, 503, false);
    }
    assert!(bench.fates().is_empty());
}

#[test]
fn an_answer_after_the_deadline_is_none_even_when_no_tick_came_first() {
    let mut bench = Bench::new();
    bench.outbox.enqueue(0, owner(1), Hurry::AtOnce, reserve(1));
    let batch = bench.outbox.next_batch(0).unwrap();
    bench.ok(2_001, &batch, &results(&[(1, CommandResult::InFlight)]));
    assert_eq!(bench.fates(), [(id(1), Fate::GivenUp)]);
}

#[test]
fn a_result_that_cannot_be_read_does_not_cost_the_others_theirs() {
    let mut bench = Bench::new();
    bench.outbox.enqueue(0, owner(1), Hurry::AtOnce, release(1));
    bench.outbox.enqueue(0, owner(2), Hurry::AtOnce, release(2));
    let batch = bench.outbox.next_batch(0).unwrap();
    let body = format!(
        r#"{{"results":[{{"id":"{}","result":"from_the_future"}},{{"id":"{}","result":"released"}}]}}"#,
        id(1),
        id(2)
    );
    bench.ok(0, &batch, body.as_bytes());
    assert_eq!(
        bench.fates(),
        [(id(2), Fate::Answered(CommandResult::Released))]
    );
    assert_eq!(bench.outbox.take_failures(), [LedgerFailure::Unreadable]);
    assert_eq!(ids_in(&bench.outbox.next_batch(25).unwrap()), [id(1)]);
}

#[test]
fn a_batch_called_too_large_is_halved_until_it_fits() {
    let mut bench = Bench::new();
    for number in 1..=4 {
        bench
            .outbox
            .enqueue(0, owner(number), Hurry::AtOnce, release(number));
    }
    let four = bench.outbox.next_batch(0).unwrap();
    assert_eq!(ids_in(&four).len(), 4);
    bench.fail(0, &four, 413, true);
    let two = bench.outbox.next_batch(0).unwrap();
    assert_eq!(ids_in(&two), [id(1), id(2)]);
    bench.fail(0, &two, 413, true);
    let one = bench.outbox.next_batch(0).unwrap();
    assert_eq!(ids_in(&one), [id(1)]);
    bench.fail(0, &one, 413, true);
    assert!(matches!(
        bench.fates().as_slice(),
        [(_, Fate::Answered(CommandResult::InvalidCommand(_)))]
    ));
    let next = bench.outbox.next_batch(0).unwrap();
    assert_eq!(ids_in(&next), [id(2)]);
    bench.ok(0, &next, &results(&[(2, CommandResult::Released)]));
    assert_eq!(ids_in(&bench.outbox.next_batch(0).unwrap()).len(), 2);
}

#[test]
fn a_batch_keeps_to_the_limit_of_bytes() {
    let mut bench = Bench::new();
    bench.outbox.limits.batch_max_bytes = 500;
    for number in 1..=4 {
        bench
            .outbox
            .enqueue(0, owner(number), Hurry::AtOnce, release(number));
    }
    let batch = bench.outbox.next_batch(0).unwrap();
    assert!(batch.body.len() <= 500 && ids_in(&batch).len() > 1);
}

#[test]
fn an_answer_too_large_to_store_is_left_out_of_its_outcome() {
    let mut bench = Bench::new();
    let json = format!(
        r#"{{"outcome":{{"id":"{0}","hold":"{0}","attempt":1,"outcome":"declined_final","latency_ms":1,
        "answer":{{"status":200,"content_type":"application/json","body":"{1}"}}}}}}"#,
        id(1),
        "x".repeat(5_000)
    );
    let outcome: Command = serde_json::from_str(&json).unwrap();
    bench.outbox.enqueue(0, owner(1), Hurry::AtOnce, outcome);
    let batch = bench.outbox.next_batch(0).unwrap();
    let parsed: Batch = serde_json::from_slice(&batch.body).unwrap();
    assert!(
        matches!(parsed.commands.as_slice(), [Command::Outcome(outcome)] if outcome.answer.is_none())
    );
}

#[test]
fn what_nobody_waits_for_rides_along_or_goes_a_moment_later() {
    let mut bench = Bench::new();
    bench
        .outbox
        .enqueue(0, owner(1), Hurry::CanWait, release(1));
    assert!(!bench.outbox.could_send(19));
    bench
        .outbox
        .enqueue(10, owner(2), Hurry::AtOnce, reserve(2));
    let both = bench.outbox.next_batch(10).unwrap();
    assert_eq!(ids_in(&both), [id(1), id(2)]);
    bench.fail(10, &both, 503, true);
    assert!(
        bench.outbox.could_send(35),
        "a failed batch waits for nobody"
    );
    let mut alone = Bench::new();
    alone
        .outbox
        .enqueue(0, owner(1), Hurry::CanWait, release(1));
    assert!(alone.outbox.could_send(20));
}
