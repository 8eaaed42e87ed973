//! A host for the filter: the proxy-wasm imports, defined natively, and the SDK's own dispatcher driven by hand.
//!
//! Here: a world of one worker in which a test is the client, the ledger, the vendor and the clock. The real filter
//! runs in it, with the real policy. Whatever a test is about, [`guard`] watches over what must always hold. Not here:
//! anything that takes an Envoy to know.

mod abi;
mod client;
mod guard;
mod ledger;
mod state;
mod vm;

use std::collections::BTreeSet;

use keybrake_contract::wire::{Batch, Command, CommandAnswer, CommandResult, Results};
use serde_json::{Value, json};

pub use ledger::{COMMANDS, grant, usual_answer};
use state::HOST;
pub use state::{Call, Headers, Reply};

/// Cluster of the only vendor.
pub const VENDOR: &str = "stripe";
/// The body of the usual charge.
pub const CHARGE: &[u8] = b"amount=299&currency=usd&customer=cus_aaa";
/// The vendor's answer to the usual charge.
pub const CHARGED: &[u8] = br#"{"id":"ch_1","object":"charge","amount":299,"amount_captured":299,"currency":"usd","status":"succeeded","captured":true,"paid":true}"#;

/// One worker with one client side, one ledger and one vendor, all in a test's hand.
pub struct World {
    root: u32,
    next_context: u32,
    now: u64,
    next_tick: Option<u64>,
    /// Replies of streams that have been carried to the client.
    told: BTreeSet<u32>,
}

impl World {
    /// With the configuration as shipped.
    pub fn new() -> Self {
        Self::with(json!({}))
    }

    /// With other values of the plugin configuration.
    pub fn with(changes: Value) -> Self {
        let mut plugin = json!({
            "commands_cluster": COMMANDS,
            "vendors": [{"pack": "stripe", "cluster": VENDOR, "prefix": "/stripe", "hosts": ["api.stripe.com"]}],
        });
        for (name, value) in changes.as_object().expect("an object") {
            plugin[name] = value.clone();
        }
        let configuration = serde_json::to_vec(&plugin).expect("JSON");
        Self::configured(&configuration).expect("the filter takes its configuration")
    }

    /// With this plugin configuration. `Err`: what the filter logged when it did not take it.
    pub fn configured(configuration: &[u8]) -> Result<Self, String> {
        vm::start();
        let root = vm::next_root();
        HOST.with_borrow_mut(|host| {
            *host = state::Host::default();
            host.root = root;
            host.commands_cluster = COMMANDS.to_owned();
            host.configuration = configuration.to_vec();
        });
        let mut world = Self {
            root,
            next_context: root + 1,
            now: 0,
            next_tick: None,
            told: BTreeSet::new(),
        };
        world.set_now(1_000_000);
        vm::create_context(root, 0);
        if vm::configure(root, configuration.len()) {
            Ok(world)
        } else {
            let log = HOST.with_borrow(|host| host.log.clone());
            Err(log.into_iter().map(|(_, line)| line).collect())
        }
    }

    fn set_now(&mut self, now: u64) {
        self.now = now;
        keybrake_filter::set_clock(now);
    }

    /// Whether the stream is over.
    pub fn is_over(&self, stream: u32) -> bool {
        HOST.with_borrow(|host| host.streams.get(&stream).is_none_or(|state| state.done))
    }

    /// What the client got.
    pub fn reply(&self, stream: u32) -> Option<Reply> {
        HOST.with_borrow(|host| host.streams.get(&stream)?.reply.clone())
    }

    /// The status that the client got.
    pub fn status(&self, stream: u32) -> Option<u32> {
        self.reply(stream).map(|reply| reply.status)
    }

    /// Whether the stream was let on through the router.
    pub fn resumed(&self, stream: u32) -> bool {
        HOST.with_borrow(|host| host.streams.get(&stream).is_some_and(|state| state.resumed))
    }

    /// The headers that a resumed stream goes on with.
    pub fn headers_of(&self, stream: u32) -> Headers {
        HOST.with_borrow(|host| host.streams.get(&stream).expect("a stream").headers.clone())
    }

    /// What the filter put into a stream's filter state.
    pub fn mark(&self, stream: u32, name: &str) -> Option<String> {
        HOST.with_borrow(|host| host.streams.get(&stream)?.properties.get(name).cloned())
    }

    /// The root hears of wake-ups; replies reach their clients.
    fn after(&mut self) {
        loop {
            self.carry_replies();
            let queue = HOST.with_borrow_mut(|host| host.wake_ups.pop_front());
            let Some(queue) = queue else { break };
            vm::queue_ready(self.root, queue);
        }
        assert_eq!(
            HOST.with_borrow(|host| host.queued()),
            0,
            "wake-ups pile up"
        );
        let period = HOST.with_borrow(|host| host.tick_period_ms);
        self.next_tick = match (period, self.next_tick) {
            (0, _) => None,
            (_, Some(at)) => Some(at),
            (period, None) => Some(self.now + period),
        };
    }

    /// Our own replies pass the response callbacks and end their streams.
    fn carry_replies(&mut self) {
        loop {
            let answered = HOST.with_borrow(|host| {
                let mut replied = host.streams.iter().filter(|(id, state)| {
                    state.reply.is_some() && !state.done && !self.told.contains(id)
                });
                replied.next().map(|(id, _)| *id)
            });
            let Some(stream) = answered else { return };
            self.told.insert(stream);
            vm::response_headers(stream, 1, false);
            vm::response_body(stream, 1, true);
            vm::end_stream(stream);
            HOST.with_borrow_mut(|host| {
                host.streams.get_mut(&stream).expect("a stream").done = true;
            });
        }
    }

    /// Time passes, with ticks.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.next_tick.filter(|at| *at <= end) {
            self.set_now(at);
            self.next_tick = None;
            vm::tick(self.root);
            self.after();
        }
        self.set_now(end);
    }

    /// Time passes, and the worker is too busy to tick.
    pub fn stall(&mut self, ms: u64) {
        self.set_now(self.now + ms);
    }

    /// The filter wants ticks.
    pub fn ticks(&self) -> bool {
        self.next_tick.is_some()
    }

    /// Batches that have not been answered.
    pub fn batches(&self) -> Vec<Call> {
        self.calls_to(COMMANDS)
    }

    /// Vendor calls that have not been answered.
    pub fn vendor_calls(&self) -> Vec<Call> {
        self.calls_to(VENDOR)
    }

    fn calls_to(&self, cluster: &str) -> Vec<Call> {
        HOST.with_borrow(|host| {
            let calls = host.calls.values();
            calls
                .filter(|call| call.cluster == cluster)
                .cloned()
                .collect()
        })
    }

    /// How many forwards there were.
    pub fn forwards(&self) -> usize {
        HOST.with_borrow(|host| host.guard.forwards)
    }

    /// The next call to this cluster will not be taken.
    pub fn refuse_call(&mut self, cluster: &str) {
        HOST.with_borrow_mut(|host| host.refuses_calls.push_back(cluster.to_owned()));
    }

    /// Wake-ups are lost from now on.
    pub fn break_queues(&mut self) {
        HOST.with_borrow_mut(|host| host.queues_broken = true);
    }

    /// Something comes back for a call-out.
    pub fn respond(&mut self, call: &Call, headers: Headers, body: &[u8]) {
        let count = headers.len();
        let known = HOST.with_borrow_mut(|host| {
            host.answered_headers = headers;
            host.answered_body = body.to_vec();
            host.calls.remove(&call.token).is_some()
        });
        assert!(known, "the call has ended already");
        vm::call_response(self.root, call.token, count, body.len());
        self.after();
    }

    /// The ledger answers a batch with these results, whatever they are for.
    pub fn ledger_says(&mut self, call: &Call, results: Vec<CommandAnswer>) {
        HOST.with_borrow_mut(|host| {
            for answer in &results {
                if let Some(id) = answer.id {
                    host.guard.answered(id, &answer.result);
                }
            }
        });
        let body = serde_json::to_vec(&Results { results }).expect("JSON");
        self.respond(call, ledger::headers("200"), &body);
    }

    /// The ledger answers a batch: each command with what `decide` says, or not at all.
    pub fn ledger(
        &mut self,
        call: &Call,
        mut decide: impl FnMut(&Command) -> Option<CommandResult>,
    ) {
        let batch: Batch = serde_json::from_slice(&call.body).expect("a batch");
        let answers = batch.commands.iter().filter_map(|command| {
            let id = Some(command.id());
            decide(command).map(|result| CommandAnswer { id, result })
        });
        let results = answers.collect();
        self.ledger_says(call, results);
    }

    /// Answers batches as usual until there are none.
    pub fn settle_ledger(&mut self) {
        while let Some(call) = self.batches().first().cloned() {
            self.ledger(&call, |command| Some(usual_answer(command)));
        }
    }

    /// Answers the only batch with the same result for each of its commands.
    pub fn answer(&mut self, result: CommandResult) {
        let batches = self.batches();
        assert_eq!(batches.len(), 1, "one batch is in flight");
        self.ledger(&batches[0], |_| Some(result.clone()));
    }

    /// The commands of the only batch in flight.
    pub fn commands(&self) -> Vec<Command> {
        let batches = self.batches();
        assert_eq!(batches.len(), 1, "one batch is in flight");
        let batch: Batch = serde_json::from_slice(&batches[0].body).expect("a batch");
        batch.commands
    }

    /// The commands of a batch.
    pub fn commands_of(&self, call: &Call) -> Vec<Command> {
        let batch: Batch = serde_json::from_slice(&call.body).expect("a batch");
        batch.commands
    }

    /// The host forgets what is over. Only when nothing is open.
    pub fn forget(&mut self) {
        assert!(self.batches().is_empty() && self.vendor_calls().is_empty());
        self.told.clear();
        HOST.with_borrow_mut(|host| {
            host.streams.retain(|_, state| !state.done);
            assert!(host.streams.is_empty(), "a stream is open");
            host.guard.forget();
            host.log.clear();
            (host.answered_headers, host.answered_body) = (Vec::new(), Vec::new());
        });
    }

    /// The vendor answers a call.
    pub fn vendor(&mut self, call: &Call, status: &str, body: &[u8]) {
        let headers = [
            (":status", status),
            ("content-type", "application/json"),
            ("request-id", "req_vendor"),
            ("keybrake-upstream", "1"),
        ];
        self.respond(call, text_headers(&headers), body);
    }

    /// Envoy ends a call by itself.
    pub fn envoy_fails(&mut self, call: &Call, status: &str, body: &str) {
        let headers = [(":status", status), ("content-type", "text/plain")];
        self.respond(call, text_headers(&headers), body.as_bytes());
    }

    /// Envoy ends a call without headers: a cut answer.
    pub fn envoy_cuts(&mut self, call: &Call) {
        self.respond(call, Vec::new(), b"");
    }

    /// A charge whose grant is not known yet, up to the point where its reserve is in flight.
    pub fn charge_to_reserve(&mut self, key: &str) -> u32 {
        let stream = self.charge(key);
        self.answer(CommandResult::Grant(Box::new(grant(1))));
        stream
    }

    /// A charge, up to the point where the vendor is being called.
    pub fn charge_to_vendor(&mut self, key: &str) -> (u32, Call) {
        let stream = self.charge(key);
        self.settle_ledger();
        let calls = self.vendor_calls();
        (stream, calls.last().expect("the vendor is called").clone())
    }

    /// The host takes the configuration away. Whether the root is done at once.
    pub fn remove_root(&mut self) -> bool {
        vm::done(self.root)
    }

    /// Whether the root has said that it is done.
    pub fn root_done(&self) -> bool {
        HOST.with_borrow(|host| host.root_done)
    }

    /// A metric's value.
    pub fn metric(&self, name: &str) -> i64 {
        HOST.with_borrow(|host| {
            let found = host.metrics.iter().find(|(have, _)| have == name);
            found.unwrap_or_else(|| panic!("no metric {name}")).1
        })
    }
}

impl Drop for World {
    /// Ends what is left, so that the SDK's dispatcher does not do it after this thread's host is gone.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let left: Vec<u32> = HOST.with_borrow(|host| {
            let streams = host.streams.iter();
            streams
                .filter(|(_, state)| !state.done)
                .map(|(id, _)| *id)
                .collect()
        });
        for stream in left {
            vm::end_stream(stream);
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// Headers from text.
pub fn text_headers(headers: &[(&str, &str)]) -> Headers {
    headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect()
}
