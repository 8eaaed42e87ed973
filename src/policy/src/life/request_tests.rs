//! The whole table stage × event → stage and effects, in `request_table.txt`.
//!
//! Each pair stands in it, also those where nothing happens (`-`): a new stage or a new event fails here until somebody
//! has decided what it means. The stages are reached by events alone, as in life.

use keybrake_contract::grant::Grant;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::vault_key;
use keybrake_contract::wire::{Admitted, Command, Replay, StoredAnswer};

use super::super::effect::{Effect, HostEffect, ReadAnswer};
use super::super::outbox::Hurry;
use super::super::{Ids, StreamId};
use super::*;
use crate::config::PluginConfig;
use crate::outcome::VendorAnswer;
use crate::read::{self, RawRequest};

const TABLE: &str = include_str!("request_table.txt");

const STAGES: [&str; 10] = [
    "reading",
    "asking",
    "reserving",
    "parked",
    "recording",
    "forwarding",
    "streaming",
    "settling",
    "telling",
    "done",
];

const EVENTS: [&str; 30] = [
    "read, no grant known",
    "read, grant known",
    "read, grant forbids it",
    "turned, with a key",
    "turned, without a key",
    "admitted",
    "admitted too long ago",
    "grant",
    "grant forbids it",
    "refused",
    "key revoked",
    "replay",
    "in flight",
    "cancelled",
    "recorded",
    "released",
    "invalid command",
    "command id conflict",
    "given up",
    "answer to another command",
    "tick, nothing due",
    "tick, due",
    "vendor answered",
    "vendor not called",
    "nothing sent to the vendor",
    "vendor timed out",
    "vendor broke off",
    "read answered",
    "read ended",
    "client gone",
];

/// A new stage must get a name here, and with it a place in the table.
fn stage_name(stage: &Stage) -> &'static str {
    match stage {
        Stage::Reading(_) => "reading",
        Stage::Asking(_) => "asking",
        Stage::Reserving(_) => "reserving",
        Stage::Parked(_) => "parked",
        Stage::Recording(_) => "recording",
        Stage::Forwarding(_) => "forwarding",
        Stage::Streaming(_) => "streaming",
        Stage::Settling(_) => "settling",
        Stage::Telling(_) => "telling",
        Stage::Done => "done",
    }
}

/// A new event, or a new answer of the ledger, must get at least one line in the table.
fn event_is_known(event: &Event<'_>) {
    match event {
        Event::Read(..)
        | Event::Turned(_)
        | Event::GivenUp(_)
        | Event::Tick
        | Event::VendorAnswered(_)
        | Event::ReadAnswered(_)
        | Event::ReadEnded
        | Event::ClientGone => {}
        Event::VendorFailed(failure) => match failure {
            VendorFailure::NotCalled
            | VendorFailure::NotSent
            | VendorFailure::TimedOut
            | VendorFailure::Broken => {}
        },
        Event::Answered(_, result) => match result {
            CommandResult::Admitted(_)
            | CommandResult::Grant(_)
            | CommandResult::Refused(_)
            | CommandResult::Replay(_)
            | CommandResult::InFlight
            | CommandResult::Cancelled
            | CommandResult::Recorded
            | CommandResult::Released
            | CommandResult::InvalidCommand(_)
            | CommandResult::CommandIdConflict => {}
        },
    }
}

struct Bench {
    config: PluginConfig,
    ids: Ids,
    now: Millis,
    request: Request,
    last_sent: CommandId,
}

impl Bench {
    fn new() -> Self {
        let config = br#"{"commands_cluster": "c", "vendors": [{"pack": "stripe", "cluster": "s", "hosts": ["*"]}]}"#;
        let mut ids = Ids::new([1; 16]);
        Self {
            config: PluginConfig::parse(config).unwrap(),
            now: 1_000,
            request: Request::new(RequestNumber(1), StreamId(7), "req-1"),
            last_sent: ids.draw(),
            ids,
        }
    }

    /// Handles the event; says what it led to.
    fn on(&mut self, event: Event<'_>) -> String {
        event_is_known(&event);
        let before = stage_name(self.request.stage());
        let mut effects = Vec::new();
        let mut turn = Turn {
            config: &self.config,
            now: self.now,
            ids: &mut self.ids,
            effects: &mut effects,
        };
        self.request.on(event, &mut turn);
        let mut said: Vec<String> = effects.iter().map(|effect| self.say(effect)).collect();
        let after = stage_name(self.request.stage());
        if before != after || !said.is_empty() {
            said.insert(0, after.to_owned());
        }
        if said.is_empty() {
            "-".to_owned()
        } else {
            said.join(", ")
        }
    }

    fn say(&mut self, effect: &Effect) -> String {
        match effect {
            Effect::Send(hurry, command) => {
                self.last_sent = command.id();
                let later = if *hurry == Hurry::CanWait {
                    " later"
                } else {
                    ""
                };
                match command {
                    Command::Reserve(_) => "send reserve".to_owned(),
                    Command::Outcome(told) => {
                        let outcome = serde_json::to_value(&told.outcome).unwrap();
                        let name = outcome.as_object().and_then(|it| it.keys().next());
                        let name = name.map(String::as_str).or(outcome.as_str());
                        format!("send{later} outcome {}", name.unwrap())
                    }
                    Command::Release(told) => {
                        let cause = serde_json::to_value(told.cause).unwrap();
                        format!("send release {}", cause.as_str().unwrap())
                    }
                    Command::Refused(_) => "send refused".to_owned(),
                    Command::RefusalCount(_) => panic!("a request does not count"),
                }
            }
            Effect::KeepGrant(..) => "keep grant".to_owned(),
            Effect::ForgetGrant(_) => "forget grant".to_owned(),
            Effect::Count(..) => "count".to_owned(),
            Effect::Host(HostEffect::CallVendor(..)) => "call vendor".to_owned(),
            Effect::Host(HostEffect::ResumeRead(..)) => "resume".to_owned(),
            Effect::Host(HostEffect::Reply(_, _, answer)) => {
                let pending = answer
                    .headers
                    .iter()
                    .any(|(name, _)| name == "keybrake-settlement");
                let pending = if pending { " pending" } else { "" };
                format!("reply {}{pending}", answer.status)
            }
        }
    }

    fn answered(&mut self, result: CommandResult) -> String {
        self.on(Event::Answered(self.last_sent, result))
    }

    /// The event of this name, as it would come in the stage that the request is in.
    fn happens(&mut self, event: &str) -> String {
        let hold = self.last_sent;
        match event {
            "read, no grant known" => self.on(Event::Read(Box::new(charge()), None)),
            "read, grant known" => self.on(Event::Read(Box::new(charge()), Some(grant(1).into()))),
            "read, grant forbids it" => {
                self.on(Event::Read(Box::new(charge()), Some(forbidding(1).into())))
            }
            "turned, with a key" => self.on(Event::Turned(turned(&key()))),
            "turned, without a key" => self.on(Event::Turned(turned("nonsense"))),
            "admitted" => self.answered(admitted(hold)),
            "admitted too long ago" => {
                self.now = self.now.saturating_add(501);
                self.answered(admitted(hold))
            }
            "grant" => self.answered(CommandResult::Grant(Box::new(grant(2)))),
            "grant forbids it" => self.answered(CommandResult::Grant(Box::new(forbidding(2)))),
            "refused" => self.answered(CommandResult::Refused(Refusal::plain(
                RefusalCode::SpendCapExceeded,
            ))),
            "key revoked" => self.answered(CommandResult::Refused(Refusal::plain(
                RefusalCode::VaultKeyRevoked,
            ))),
            "replay" => self.answered(replay(hold)),
            "in flight" => self.answered(CommandResult::InFlight),
            "cancelled" => self.answered(CommandResult::Cancelled),
            "recorded" => self.answered(CommandResult::Recorded),
            "released" => self.answered(CommandResult::Released),
            "invalid command" => self.answered(CommandResult::InvalidCommand(String::new())),
            "command id conflict" => self.answered(CommandResult::CommandIdConflict),
            "given up" => self.on(Event::GivenUp(hold)),
            "answer to another command" => {
                let other = CommandId::new([9; 16], 9);
                let said = self.on(Event::GivenUp(other));
                assert_eq!(said, "-");
                self.on(Event::Answered(other, admitted(other)))
            }
            "tick, nothing due" => self.on(Event::Tick),
            "tick, due" => {
                self.now = self.request.wake_at().unwrap_or(self.now);
                self.on(Event::Tick)
            }
            "vendor answered" => self.on(Event::VendorAnswered(VendorAnswer {
                status: 200,
                headers: &[(b"content-type".to_vec(), b"application/json".to_vec())],
                body: br#"{"id":"ch_1","amount":299,"currency":"usd","status":"succeeded","captured":true}"#,
            })),
            "vendor not called" => self.on(Event::VendorFailed(VendorFailure::NotCalled)),
            "nothing sent to the vendor" => self.on(Event::VendorFailed(VendorFailure::NotSent)),
            "vendor timed out" => self.on(Event::VendorFailed(VendorFailure::TimedOut)),
            "vendor broke off" => self.on(Event::VendorFailed(VendorFailure::Broken)),
            "read answered" => self.on(Event::ReadAnswered(ReadAnswer {
                status: 200,
                vendor_request_id: None,
            })),
            "read ended" => self.on(Event::ReadEnded),
            "client gone" => self.on(Event::ClientGone),
            other => panic!("no such event: {other}"),
        }
    }

    /// A request in this stage, reached by events.
    fn in_stage(stage: &str) -> Self {
        let mut bench = Self::new();
        let way: &[&str] = match stage {
            "reading" => &[],
            "asking" => &["read, no grant known"],
            "reserving" => &["read, grant known"],
            "parked" => &["read, grant known", "in flight"],
            "recording" => &["read, grant forbids it"],
            "forwarding" => &["read, grant known", "admitted"],
            "streaming" => {
                bench.on(Event::Read(Box::new(retrieval()), Some(grant(1).into())));
                &["admitted"]
            }
            "settling" => &["read, grant known", "admitted", "vendor answered"],
            "telling" => &["read, grant known", "given up"],
            "done" => &["turned, without a key"],
            other => panic!("no way to {other}"),
        };
        for event in way {
            bench.happens(event);
        }
        assert_eq!(stage_name(bench.request.stage()), stage);
        bench
    }
}

fn admitted(hold: CommandId) -> CommandResult {
    CommandResult::Admitted(Admitted {
        hold,
        attempt: 1,
        forward_within_ms: 500,
    })
}

fn replay(hold: CommandId) -> CommandResult {
    CommandResult::Replay(Box::new(Replay {
        hold,
        answer: StoredAnswer {
            status: 200,
            content_type: "application/json".to_owned(),
            body: "{}".to_owned(),
            vendor_request_id: None,
        },
        summary: false,
        retrieved: false,
    }))
}

fn grant(version: u64) -> Grant {
    let json = format!(
        r#"{{"key_id":"vk_1","version":{version},"vendor":"stripe","idempotency":"required",
        "allowed_endpoints":["charges.create","charges.retrieve"]}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn forbidding(version: u64) -> Grant {
    let mut grant = grant(version);
    grant.allowed_endpoints.remove(0);
    grant
}

fn key() -> String {
    vault_key::compose([7; vault_key::RANDOM_BYTES])
}

fn raw(method: &str, path: &str, key: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let authorization = format!("Bearer {key}");
    let mut headers = vec![
        (":method", method),
        (":path", path),
        (":authority", "localhost"),
        (":scheme", "http"),
        ("authorization", &authorization),
    ];
    if method == "POST" {
        headers.push(("content-type", "application/x-www-form-urlencoded"));
        headers.push(("idempotency-key", "k-1"));
    }
    let bytes = |text: &str| text.as_bytes().to_vec();
    headers
        .iter()
        .map(|(name, value)| (bytes(name), bytes(value)))
        .collect()
}

fn reading(
    method: &str,
    path: &str,
    key: &str,
    body: &[u8],
) -> Result<read::Reading, Box<read::Turned>> {
    let headers = raw(method, path, key);
    let raw = RawRequest {
        headers: &headers,
        body,
        request_id: "req-1",
    };
    read::read(&Bench::new().config, &raw)
}

fn charge() -> read::Reading {
    reading("POST", "/v1/charges", &key(), b"amount=299&currency=usd").unwrap()
}

fn retrieval() -> read::Reading {
    reading("GET", "/v1/charges/ch_1", &key(), b"").unwrap()
}

fn turned(key: &str) -> Box<read::Turned> {
    reading("POST", "/v1/charges", key, b"amount=1&amount=2").unwrap_err()
}

#[test]
fn every_pair_of_stage_and_event_does_what_the_table_says() {
    let mut wrong = Vec::new();
    let mut decided = TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for event in EVENTS {
        for stage in STAGES {
            let led_to = Bench::in_stage(stage).happens(event);
            let line = format!("{event} | {stage} | {led_to}");
            if decided.next() != Some(&line) {
                wrong.push(line);
            }
        }
    }
    wrong.extend(decided.map(|line| format!("not a pair: {line}")));
    assert!(wrong.is_empty(), "not in the table:\n{}", wrong.join("\n"));
}

#[test]
fn without_its_client_a_request_goes_on_and_says_nothing_to_it() {
    for stage in ["asking", "recording", "forwarding", "settling", "telling"] {
        for event in EVENTS {
            let mut bench = Bench::in_stage(stage);
            bench.happens("client gone");
            let led_to = bench.happens(event);
            assert!(!led_to.contains("reply"), "{stage}, {event}: {led_to}");
            assert!(!led_to.contains("resume"), "{stage}, {event}: {led_to}");
            let forwards = stage == "asking" && led_to.contains("send reserve");
            assert!(
                !forwards,
                "a reserve for nobody: {stage}, {event}: {led_to}"
            );
        }
    }
}

#[test]
fn a_tick_changes_nothing_before_its_time() {
    let mut bench = Bench::in_stage("settling");
    let at = bench.request.wake_at().unwrap();
    bench.now = at.saturating_sub(1);
    assert_eq!(bench.happens("tick, nothing due"), "-");
    bench.now = at;
    assert_eq!(bench.on(Event::Tick), "telling, reply 200 pending");
    assert_eq!(bench.happens("recorded"), "done");
}
