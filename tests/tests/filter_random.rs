//! Callbacks in any order: clients, ledger, vendor, Envoy and clock do what they like, in whatever bytes. The fake host
//! watches over every step (no forward without an admission, no answer before the record, no second answer, no trap).
//! In the end nobody says a word any more, and every client has its answer when all deadlines are over; then the ledger
//! answers again, and nothing is left open.
//!
//! One seed is one run. `KEYBRAKE_SEED` repeats one, or is the first of `KEYBRAKE_SEEDS` many; a failure prints its own.

use keybrake_contract::grant::IdempotencyRule;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::{
    Admitted, Command, CommandAnswer, CommandResult, Replay, StoredAnswer,
};
use keybrake_tests::dice::Dice;
use keybrake_tests::fake_host::{
    CHARGE, CHARGED, COMMANDS, Call, Headers, VENDOR, World, grant, usual_answer,
};
use serde_json::json;

const SEEDS: u64 = 200;
const STEPS: usize = 400;
/// The longest way of a request: reserve, patience, reserve, forward, settle, each to its last moment, and some more.
const DEADLINES_MS: u64 = 30_000;

/// Mostly what a ledger says, sometimes anything else.
fn some_answer(random: &mut Dice, command: &Command) -> Option<CommandResult> {
    let hold = command.id();
    Some(match random.below(24) {
        0 => return None,
        1 => CommandResult::InFlight,
        2 => CommandResult::Cancelled,
        3 => CommandResult::Refused(Refusal::plain(RefusalCode::SpendCapExceeded)),
        4 => CommandResult::Refused(Refusal::plain(RefusalCode::VaultKeyRevoked)),
        5 => {
            let mut other = grant(1 + random.number() % 3);
            if random.below(2) == 0 {
                other.allowed_endpoints.remove(0);
            }
            other.idempotency = IdempotencyRule::Optional;
            CommandResult::Grant(Box::new(other))
        }
        6 => CommandResult::Replay(Box::new(Replay {
            hold,
            answer: StoredAnswer {
                status: 200,
                content_type: "application/json".to_owned(),
                body: "{}".to_owned(),
                vendor_request_id: None,
            },
            summary: false,
            retrieved: false,
        })),
        7 => CommandResult::Recorded,
        8 => CommandResult::Released,
        9 => CommandResult::InvalidCommand("no".to_owned()),
        10 => CommandResult::CommandIdConflict,
        11 => CommandResult::Admitted(Admitted {
            hold,
            attempt: 1,
            forward_within_ms: 1,
        }),
        _ => usual_answer(command),
    })
}

struct Run {
    world: World,
    random: Dice,
    streams: Vec<u32>,
    half: Vec<u32>,
    keys: u64,
    /// Commands of batches that were answered already, for answers that say something about them again.
    old: Vec<Command>,
}

impl Run {
    fn step(&mut self) {
        match self.random.below(26) {
            0..=3 => self.request(),
            4 | 5 => self.part_of_a_request(),
            6 => {
                if let Some(stream) = self.random.pick(&self.streams).copied() {
                    self.world.hang_up(stream);
                }
            }
            7..=13 => self.ledger(),
            14..=17 => self.vendor(),
            18 => self.read(),
            19 => {
                let ms = [1, 10, 30, 300, 1_500][self.random.below(5)];
                self.world.advance(ms);
            }
            20 => {
                let ms = [1, 100, 2_500][self.random.below(3)];
                self.world.stall(ms);
            }
            21 => {
                let cluster = [COMMANDS, VENDOR][self.random.below(2)];
                self.world.refuse_call(cluster);
            }
            22 => self.odd_request(),
            23 => self.odd_ledger(),
            24 => self.odd_vendor(),
            _ => self.envoy_ends_a_request(),
        }
    }

    fn request(&mut self) {
        self.keys += 1;
        let key = format!("k-{}", self.keys);
        let idempotency: &[(&str, &str)] = match self.random.below(5) {
            0 => &[],
            _ => &[("idempotency-key", &key)],
        };
        let (method, path) = [
            ("POST", "/stripe/v1/charges"),
            ("POST", "/stripe/v1/charges"),
            ("POST", "/stripe/v1/refunds"),
            ("GET", "/stripe/v1/charges/ch_1"),
            ("GET", "/nowhere"),
        ][self.random.below(5)];
        let idempotency = if method == "GET" { &[] } else { idempotency };
        let headers = self.world.headers(method, path, idempotency);
        let stream = self.world.begin(headers, method == "GET");
        self.streams.push(stream);
        if method == "POST" {
            self.half.push(stream);
        }
    }

    fn part_of_a_request(&mut self) {
        let Some(stream) = self.half.pop() else {
            return;
        };
        match self.random.below(5) {
            0 => self.world.body(stream, b"amount=&", true),
            2 => self.odd_body(stream),
            1 => {
                self.world.body(stream, CHARGE, false);
                self.world.trailers(stream, &[("x", "y")]);
            }
            _ => self.world.body(stream, CHARGE, true),
        }
    }

    fn ledger(&mut self) {
        let batches = self.world.batches();
        let Some(batch) = self.random.pick(&batches).cloned() else {
            return;
        };
        self.old.extend(self.world.commands_of(&batch));
        let Self { world, random, .. } = self;
        match random.below(10) {
            0 => world.envoy_fails(&batch, "503", "no"),
            1 => world.envoy_cuts(&batch),
            2 => world.respond(
                &batch,
                [(":status", "413"), ("keybrake-ledger", "1")]
                    .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
                    .to_vec(),
                b"",
            ),
            _ => world.ledger(&batch, |command| some_answer(random, command)),
        }
    }

    fn vendor(&mut self) {
        let calls = self.world.vendor_calls();
        let Some(call) = self.random.pick(&calls).cloned() else {
            return;
        };
        match self.random.below(6) {
            0 => self.world.envoy_cuts(&call),
            1 => self.world.envoy_fails(&call, "503", "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"),
            2 => self.world.envoy_fails(&call, "504", "upstream request timeout"),
            3 => self.world.vendor(&call, "402", br#"{"error":{"type":"card_error","code":"card_declined"}}"#),
            _ => self.world.vendor(&call, "200", CHARGED),
        }
    }

    /// Headers that no client in its right mind sends.
    fn odd_request(&mut self) {
        self.keys += 1;
        let key = format!("odd-{}", self.keys);
        let mut headers = self.world.headers(
            "POST",
            "/stripe/v1/charges",
            &[("idempotency-key", key.as_str())],
        );
        for _ in 0..self.random.below(4) {
            let names: [&str; 9] = [
                ":method",
                ":path",
                ":authority",
                "authorization",
                "content-length",
                "idempotency-key",
                "x-request-id",
                "x-note",
                "stripe-account",
            ];
            let name = names[self.random.below(names.len())];
            let value = self.random.bytes(70_000);
            match headers.iter_mut().find(|(have, _)| have == name) {
                // The host tells requests apart by it.
                Some(_) if name == "x-request-id" => {}
                Some((_, found)) if self.random.one_in(2) => *found = value,
                _ => headers.push((name.to_owned(), value)),
            }
        }
        if self.random.one_in(4) {
            headers.remove(self.random.below(headers.len()));
        }
        let whole = self.random.one_in(3);
        let stream = self.world.begin(headers, whole);
        self.streams.push(stream);
        if !whole {
            self.half.push(stream);
        }
    }

    /// Some of the body: any bytes, any number of them.
    fn odd_body(&mut self, stream: u32) {
        for _ in 0..self.random.below(4) {
            let part = self.random.bytes(5_000);
            self.world.body(stream, &part, false);
        }
        if self.random.one_in(2) {
            let part = self.random.bytes(100);
            self.world.body(stream, &part, true);
        } else {
            self.world.trailers(stream, &[("x", "y")]);
        }
    }

    fn odd_headers(&mut self, mark: &str) -> Headers {
        let mut headers: Headers = Vec::new();
        let statuses: [&[u8]; 8] = [
            b"200", b"200", b"", b"1000", b"abc", b"\xff", b"101", b"302",
        ];
        if !self.random.one_in(5) {
            let status = statuses[self.random.below(statuses.len())];
            headers.push((":status".to_owned(), status.to_vec()));
        }
        if !self.random.one_in(3) {
            headers.push((mark.to_owned(), b"1".to_vec()));
        }
        for name in ["content-type", "request-id", "content-encoding", "location"] {
            if self.random.one_in(3) {
                let value = self.random.bytes(70_000);
                headers.push((name.to_owned(), value));
            }
        }
        headers
    }

    fn some_call(&mut self, calls: &[Call]) -> Option<Call> {
        self.random.pick(calls).cloned()
    }

    /// An answer of the ledger that no ledger gives: other bytes, other commands, the same one twice.
    fn odd_ledger(&mut self) {
        let Some(batch) = self.some_call(&self.world.batches()) else {
            return;
        };
        if self.random.one_in(2) {
            let (headers, body) = (
                self.odd_headers("keybrake-ledger"),
                self.random.bytes(2_000),
            );
            return self.world.respond(&batch, headers, &body);
        }
        let mut about = self.world.commands_of(&batch);
        about.extend_from_within(..);
        about.extend((0..3).filter_map(|_| self.random.pick(&self.old).cloned()));
        let mut results = Vec::new();
        for command in &about {
            let about = self.random.pick(&about).unwrap_or(command).clone();
            let id = (!self.random.one_in(10)).then(|| command.id());
            let mut result = some_answer(&mut self.random, &about);
            if let Some(CommandResult::Admitted(admitted)) = &mut result {
                // The fake host tells by it whose hold it is.
                admitted.hold = command.id();
            }
            results.extend(result.map(|result| CommandAnswer { id, result }));
        }
        self.old.extend(self.world.commands_of(&batch));
        self.world.ledger_says(&batch, results);
    }

    /// An answer of the vendor that no vendor gives.
    fn odd_vendor(&mut self) {
        let Some(call) = self.some_call(&self.world.vendor_calls()) else {
            return;
        };
        let headers = self.odd_headers("keybrake-upstream");
        let body = match self.random.below(3) {
            0 => CHARGED.to_vec(),
            1 => CHARGED[..self.random.below(CHARGED.len())].to_vec(),
            _ => self.random.bytes(200_000),
        };
        self.world.respond(&call, headers, &body);
    }

    /// Envoy answers a request that is not whole, or a read, by itself.
    fn envoy_ends_a_request(&mut self) {
        let stream = match self.half.pop() {
            Some(stream) => stream,
            None => match self.random.pick(&self.streams) {
                Some(stream) if self.world.resumed(*stream) => *stream,
                _ => return,
            },
        };
        self.world.envoy_answers(stream);
    }

    fn read(&mut self) {
        let Some(stream) = self.random.pick(&self.streams).copied() else {
            return;
        };
        if self.world.resumed(stream) && !self.world.is_over(stream) {
            let via_upstream = self.random.below(3) > 0;
            self.world.read_responds(stream, "200", via_upstream);
            if self.random.below(2) == 0 {
                self.world.read_ends(stream);
            } else {
                self.world.hang_up(stream);
            }
        }
    }

    /// Nobody says a word: when all deadlines are over, no client waits. Envoy itself ends half a request.
    fn silence(&mut self) {
        for stream in std::mem::take(&mut self.half) {
            self.world.hang_up(stream);
        }
        self.world.advance(DEADLINES_MS);
        for stream in &self.streams {
            let over = self.world.is_over(*stream) || self.world.resumed(*stream);
            assert!(over, "stream {stream} waits for ever");
        }
    }

    /// Everybody behaves; then nothing may be left.
    fn end(&mut self) {
        for _ in 0..400 {
            self.world.settle_ledger();
            for call in self.world.vendor_calls() {
                self.world.vendor(&call, "200", CHARGED);
            }
            for stream in self.streams.clone() {
                if self.world.resumed(stream) || self.random.below(50) == 0 {
                    self.world.hang_up(stream);
                }
            }
            self.world.advance(500);
            let calls = self.world.batches().len() + self.world.vendor_calls().len();
            if calls == 0 && !self.world.ticks() {
                break;
            }
        }
        assert_eq!(
            self.world.metric("keybrake_open_requests"),
            0,
            "a slot is lost"
        );
        assert!(!self.world.ticks(), "something still wants ticks");
        assert!(self.world.batches().is_empty() && self.world.vendor_calls().is_empty());
    }
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

#[test]
fn nothing_breaks_whatever_the_order_of_events() {
    let first = number("KEYBRAKE_SEED");
    let many = number("KEYBRAKE_SEEDS").unwrap_or(first.map_or(SEEDS, |_| 1));
    let first = first.unwrap_or(0);
    let mut forwards = 0;
    for seed in first..first + many {
        // A failing assertion inside a host call ends the process: say which seed it was before.
        println!("seed {seed}");
        let changes = json!({
            "max_open_requests": 20,
            "in_flight_patience_ms": 3_000,
            "batch_max_commands": 5,
            "forward_timeout_ms": 5_000,
            "max_request_bytes": 4_096,
        });
        let mut run = Run {
            world: World::with(changes),
            random: Dice::new(seed),
            streams: Vec::new(),
            half: Vec::new(),
            keys: 0,
            old: Vec::new(),
        };
        if seed % 16 == 15 {
            run.world.break_queues();
        }
        for _ in 0..STEPS {
            run.step();
        }
        run.silence();
        run.end();
        forwards += run.world.forwards();
    }
    assert!(
        many < SEEDS || forwards as u64 > 2 * many,
        "hardly anything was forwarded: {forwards}"
    );
}
