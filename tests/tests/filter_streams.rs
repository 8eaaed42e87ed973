//! Clients that go away, reads, and vendor calls that end badly.

use keybrake_contract::wire::{AttemptOutcome, Command, CommandResult, Outcome, ReleaseCause};
use keybrake_tests::fake_host::{CHARGE, CHARGED, VENDOR, World, usual_answer};

fn outcome(world: &World) -> Outcome {
    match world.commands().as_slice() {
        [Command::Outcome(outcome)] => (**outcome).clone(),
        other => panic!("an outcome and nothing else, not {other:?}"),
    }
}

fn is_idle(world: &mut World) -> bool {
    world.settle_ledger();
    world.advance(100);
    world.metric("keybrake_open_requests") == 0 && !world.ticks()
}

#[test]
fn a_client_that_goes_before_its_request_is_whole_leaves_nothing() {
    let mut world = World::new();
    let headers = world.headers("POST", "/stripe/v1/charges", &[("idempotency-key", "k-1")]);
    let stream = world.begin(headers, false);
    world.body(stream, &CHARGE[..5], false);
    world.hang_up(stream);
    assert!(world.batches().is_empty() && is_idle(&mut world));
}

#[test]
fn a_client_that_goes_while_the_grant_is_asked_for_reserves_nothing() {
    let mut world = World::new();
    let stream = world.charge("k-1");
    world.hang_up(stream);
    world.settle_ledger();
    assert_eq!(world.forwards(), 0);
    assert!(is_idle(&mut world));
}

#[test]
fn a_client_that_goes_during_the_reserve_gets_it_released() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    let reserve = world.commands()[0].id();
    let batch = world.batches().remove(0);
    world.hang_up(stream);
    world.ledger(&batch, |command| Some(usual_answer(command)));
    assert!(matches!(world.commands().as_slice(),
        [Command::Release(release)] if release.reserve == reserve && release.cause == ReleaseCause::ClientGone));
    assert!(is_idle(&mut world));
    assert_eq!(world.forwards(), 0);
}

#[test]
fn a_client_that_goes_while_parked_leaves_nothing() {
    let mut world = World::new();
    let stream = world.charge_to_reserve("k-1");
    world.answer(CommandResult::InFlight);
    world.hang_up(stream);
    world.advance(5_000);
    assert!(world.batches().is_empty() && is_idle(&mut world));
}

#[test]
fn a_client_that_goes_while_its_refusal_is_recorded_changes_nothing() {
    let mut world = World::new();
    let headers = world.headers("POST", "/stripe/v1/refunds", &[("idempotency-key", "k-1")]);
    let stream = world.send(headers, b"charge=ch_1");
    world.settle_ledger();
    let headers = world.headers("POST", "/stripe/v1/refunds", &[("idempotency-key", "k-2")]);
    let second = world.send(headers, b"charge=ch_1");
    world.hang_up(second);
    assert!(matches!(world.commands().as_slice(), [Command::Refused(_)]));
    assert!(is_idle(&mut world));
    assert_eq!(
        (world.status(stream), world.status(second)),
        (Some(403), None)
    );
}

#[test]
fn a_client_that_goes_while_the_vendor_is_called_changes_nothing() {
    let mut world = World::new();
    let (stream, call) = world.charge_to_vendor("k-1");
    world.hang_up(stream);
    assert!(world.batches().is_empty(), "nothing is released");
    world.vendor(&call, "200", CHARGED);
    assert!(matches!(
        outcome(&world).outcome,
        AttemptOutcome::Executed(_)
    ));
    assert!(is_idle(&mut world));
}

#[test]
fn a_client_that_goes_while_its_outcome_is_recorded_changes_nothing() {
    let mut world = World::new();
    let (stream, call) = world.charge_to_vendor("k-1");
    world.vendor(&call, "200", CHARGED);
    world.hang_up(stream);
    let batch = world.batches().remove(0);
    world.envoy_fails(&batch, "503", "no");
    world.advance(30_000);
    assert!(is_idle(&mut world));
}

#[test]
fn a_read_goes_on_with_clean_headers_and_is_recorded_after() {
    let mut world = World::new();
    let headers = world.headers(
        "GET",
        "/stripe/v1/charges/ch_1",
        &[
            ("x-forwarded-for", "1.2.3.4"),
            ("cookie", "c=1"),
            ("stripe-version", "2025-01-01"),
        ],
    );
    let stream = world.send(headers, b"");
    world.settle_ledger();
    assert!(world.resumed(stream) && world.vendor_calls().is_empty());
    let names: Vec<String> = world
        .headers_of(stream)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for gone in ["authorization", "x-forwarded-for", "cookie"] {
        assert!(!names.iter().any(|name| name == gone), "{gone} goes on");
    }
    for kept in [
        ":method",
        ":path",
        ":authority",
        ":scheme",
        "x-request-id",
        "stripe-version",
    ] {
        assert!(
            names.iter().any(|name| name == kept),
            "{kept} is lost: {names:?}"
        );
    }
    assert_eq!(
        world.mark(stream, "keybrake_admitted").as_deref(),
        Some("1")
    );
    world.read_responds(stream, "200", true);
    assert!(world.batches().is_empty());
    world.read_ends(stream);
    assert!(
        world.batches().is_empty(),
        "nobody waits for it: it waits for company"
    );
    world.advance(50);
    let told = outcome(&world);
    assert!(matches!(told.outcome, AttemptOutcome::Executed(_)));
    assert_eq!(
        (told.status, told.vendor_request_id.as_deref()),
        (Some(200), Some("req_vendor"))
    );
    assert!(is_idle(&mut world));
}

#[test]
fn a_read_whose_client_goes_is_abandoned() {
    let mut world = World::new();
    let stream = world.read();
    world.settle_ledger();
    world.read_responds(stream, "200", true);
    world.hang_up(stream);
    // It rides with the next request.
    world.charge("k-1");
    let told = world.commands();
    assert!(matches!(told.as_slice(),
        [Command::Outcome(told), Command::Reserve(_)] if told.outcome == AttemptOutcome::Abandoned));
    world.settle_ledger();
    let call = world.vendor_calls().remove(0);
    world.vendor(&call, "200", CHARGED);
    assert!(is_idle(&mut world));
}

#[test]
fn a_root_that_ends_does_not_wait_for_company() {
    let mut world = World::new();
    let stream = world.read();
    world.settle_ledger();
    world.read_responds(stream, "200", true);
    world.read_ends(stream);
    assert!(!world.remove_root());
    assert_eq!(outcome(&world).status, Some(200));
    world.settle_ledger();
    assert!(world.root_done());
}

#[test]
fn envoys_own_answer_to_a_read_is_not_the_vendors() {
    let mut world = World::new();
    let stream = world.read();
    world.settle_ledger();
    world.read_responds(stream, "503", false);
    world.read_ends(stream);
    world.advance(50);
    assert_eq!(outcome(&world).status, None);
    assert!(is_idle(&mut world));
}

#[test]
fn a_vendor_call_that_envoy_does_not_take_is_released() {
    let mut world = World::new();
    world.refuse_call(VENDOR);
    let stream = world.charge("k-1");
    world.answer(usual_answer(&world.commands()[0]));
    let reserve = world.commands()[0].id();
    world.answer(usual_answer(&world.commands()[0]));
    assert!(matches!(world.commands().as_slice(),
        [Command::Release(release)] if release.reserve == reserve && release.cause == ReleaseCause::NotForwarded));
    assert_eq!(world.status(stream), Some(503));
    assert!(is_idle(&mut world));
}

#[test]
fn what_envoys_end_of_a_vendor_call_means() {
    const NO_CONNECTION: &str = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    const NOT_IN_TIME: &str = "upstream connect error or disconnect/reset before headers. reset reason: connection timeout";
    const OVERFLOW: &str =
        "upstream connect error or disconnect/reset before headers. reset reason: overflow";
    const TERMINATED: &str = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
    let cases = [
        ("503", NO_CONNECTION, AttemptOutcome::NotExecuted, 503),
        ("503", NOT_IN_TIME, AttemptOutcome::NotExecuted, 503),
        ("503", OVERFLOW, AttemptOutcome::NotExecuted, 503),
        ("503", TERMINATED, AttemptOutcome::Indeterminate, 502),
        (
            "504",
            "upstream request timeout",
            AttemptOutcome::Indeterminate,
            504,
        ),
        ("200", CHARGED_TEXT, AttemptOutcome::Indeterminate, 502),
        ("500", NO_CONNECTION, AttemptOutcome::Indeterminate, 502),
        ("", "", AttemptOutcome::Indeterminate, 502),
    ];
    for (status, body, expected, answered) in cases {
        let mut world = World::new();
        let (stream, call) = world.charge_to_vendor("k-1");
        match status {
            "" => world.envoy_cuts(&call),
            _ => world.envoy_fails(&call, status, body),
        }
        assert_eq!(outcome(&world).outcome, expected, "{status} {body}");
        assert!(world.reply(stream).is_none());
        world.settle_ledger();
        assert_eq!(world.status(stream), Some(answered), "{status} {body}");
        assert!(is_idle(&mut world));
    }
}

const CHARGED_TEXT: &str =
    "{\"id\":\"ch_1\",\"amount\":299,\"currency\":\"usd\",\"status\":\"succeeded\"}";

#[test]
fn a_vendors_503_is_the_vendors() {
    let mut world = World::new();
    let (stream, call) = world.charge_to_vendor("k-1");
    world.vendor(&call, "503", b"{\"error\":{\"type\":\"api_error\"}}");
    assert_eq!(
        (outcome(&world).status, outcome(&world).outcome),
        (Some(503), AttemptOutcome::Indeterminate)
    );
    world.settle_ledger();
    let reply = world.reply(stream).unwrap();
    assert_eq!(reply.header("keybrake-outcome"), Some("unknown"));
}

#[test]
fn a_vendor_call_of_which_nothing_is_heard_ends_by_the_clock() {
    let mut world = World::new();
    let (stream, call) = world.charge_to_vendor("k-1");
    world.advance(94_000);
    assert!(world.batches().is_empty());
    world.advance(2_000);
    assert_eq!(outcome(&world).outcome, AttemptOutcome::Indeterminate);
    world.settle_ledger();
    assert_eq!(world.status(stream), Some(504));
    // Should it be heard after all, nothing is said twice.
    world.vendor(&call, "200", CHARGED);
    assert!(world.batches().is_empty());
}
