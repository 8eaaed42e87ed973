//! However many streams a worker has seen, what it keeps of them is bounded: no byte more is allocated after the last
//! stream than after the first tenth of them, once nothing is open.
//!
//! `KEYBRAKE_STREAMS` says how many (10,000 unless given), `KEYBRAKE_SEED` which.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::vault_key;
use keybrake_contract::wire::{Command, CommandResult};
use keybrake_tests::dice::Dice;
use keybrake_tests::fake_host::{CHARGE, CHARGED, World, usual_answer};
use serde_json::json;

/// Streams between two looks at what is left.
const ROUND: u64 = 100;
/// What capacities of tables may differ by.
const SLACK_BYTES: i64 = 64 * 1024;
/// More than the cache of grants holds.
const VAULT_KEYS: usize = 500;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

/// The system's allocator, and how many bytes of it are in use.
struct Counting;

fn count(bytes: i64) {
    LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed);
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(at, layout) };
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Load {
    world: World,
    dice: Dice,
    open: Vec<u32>,
    number: u64,
}

impl Load {
    fn stream(&mut self) {
        self.number += 1;
        let who = self.dice.below(VAULT_KEYS) as u16;
        let mut random = [7; vault_key::RANDOM_BYTES];
        random[..2].copy_from_slice(&who.to_le_bytes());
        let bearer = format!("Bearer {}", vault_key::compose(random));
        let key = format!("k-{}", self.number);
        let (method, path, body) = match self.dice.below(8) {
            0 => ("GET", "/stripe/v1/charges/ch_1", &b""[..]),
            1 => ("POST", "/stripe/v1/refunds", &b"charge=ch_1"[..]),
            2 => ("POST", "/stripe/v1/charges", &b"amount=1&amount=2"[..]),
            _ => ("POST", "/stripe/v1/charges", CHARGE),
        };
        let mut extra = vec![("authorization", bearer.as_str())];
        if method == "POST" {
            extra.push(("idempotency-key", key.as_str()));
        }
        let headers = self.world.headers(method, path, &extra);
        let stream = self.world.begin(headers, body.is_empty());
        self.open.push(stream);
        match self.dice.below(12) {
            0 => self.world.hang_up(stream),
            1 if !body.is_empty() => self.world.envoy_answers(stream),
            2 if !body.is_empty() => {
                self.world.body(stream, body, false);
                self.world.trailers(stream, &[("x", "y")]);
            }
            _ if !body.is_empty() => self.world.body(stream, body, true),
            _ => {}
        }
        if self.dice.one_in(3) {
            self.work();
        }
    }

    /// Ledger and vendor answer what there is, now and then badly.
    fn work(&mut self) {
        for batch in self.world.batches() {
            match self.dice.below(20) {
                0 => self.world.envoy_fails(&batch, "503", "no"),
                1 => self.world.ledger(&batch, |command| match command {
                    Command::Reserve(_) => Some(CommandResult::Refused(Refusal::plain(
                        RefusalCode::SpendCapExceeded,
                    ))),
                    other => Some(usual_answer(other)),
                }),
                _ => self
                    .world
                    .ledger(&batch, |command| Some(usual_answer(command))),
            }
        }
        for call in self.world.vendor_calls() {
            match self.dice.below(20) {
                0 => self.world.envoy_cuts(&call),
                1 => self
                    .world
                    .envoy_fails(&call, "504", "upstream request timeout"),
                _ => self.world.vendor(&call, "200", CHARGED),
            }
        }
    }

    /// All is answered and recorded, and the fake host forgets it.
    fn rest(&mut self) {
        for _ in 0..200 {
            self.work();
            for stream in std::mem::take(&mut self.open) {
                if self.world.resumed(stream) && !self.world.is_over(stream) {
                    self.world.read_responds(stream, "200", true);
                    self.world.read_ends(stream);
                } else if !self.world.is_over(stream) {
                    self.open.push(stream);
                }
            }
            self.world.advance(100);
            let idle = self.open.is_empty() && !self.world.ticks();
            if idle && self.world.batches().is_empty() {
                assert_eq!(self.world.metric("keybrake_open_requests"), 0);
                return self.world.forget();
            }
        }
        panic!("{} streams stay open", self.open.len());
    }
}

fn number(name: &str, usual: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(usual, |value| value.parse().expect("a number"))
}

#[test]
fn memory_does_not_grow_with_the_number_of_streams() {
    let (streams, seed) = (
        number("KEYBRAKE_STREAMS", 10_000),
        number("KEYBRAKE_SEED", 1),
    );
    println!("seed {seed}");
    let changes =
        json!({"grant_cache": 100, "max_open_requests": 200, "forward_timeout_ms": 5_000});
    let mut load = Load {
        world: World::with(changes),
        dice: Dice::new(seed),
        open: Vec::new(),
        number: 0,
    };
    let tenth = (streams / 10 / ROUND).max(1) * ROUND;
    let mut first = None;
    while load.number < streams {
        for _ in 0..ROUND {
            load.stream();
        }
        load.rest();
        if load.number.is_multiple_of(tenth) {
            let live = LIVE_BYTES.load(Ordering::Relaxed);
            println!("{} streams, {live} bytes in use", load.number);
            let first = *first.get_or_insert(live);
            assert!(live <= first + SLACK_BYTES, "it was {first} bytes before");
        }
    }
    let forwards = load.world.forwards() as u64;
    assert!(
        forwards > streams / 3,
        "hardly anything was forwarded: {forwards}"
    );
}
