//! What the root context and the streams of one worker share, and the way from effects to host calls.
//!
//! Nothing is borrowed across a host call: answering or resuming a stream may call back into this module.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use keybrake_contract::{COMMANDS_PATH, LEDGER_HEADER, LEDGER_HEADER_VALUE};
use keybrake_policy::config::PluginConfig;
use keybrake_policy::life::effect::{HostEffect, Marks, ReadPass, VendorCall, VendorFailure};
use keybrake_policy::life::gate::Gate;
use keybrake_policy::life::outbox::{BatchNumber, BatchOut, BatchReply, LedgerFailure};
use keybrake_policy::life::{Ids, Millis, RequestNumber, StreamId};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

use crate::metrics::Metrics;
use crate::vendor::{self, Ended};
use crate::{host, nonce};

/// One worker's share of the gate.
pub(crate) struct Worker {
    pub(crate) gate: RefCell<Gate>,
    pub(crate) config: Rc<PluginConfig>,
    queue: Option<u32>,
    /// A wake-up is on its way to the root.
    woken: Cell<bool>,
    tick_period_ms: Cell<u32>,
    calls: RefCell<BTreeMap<u32, CallOut>>,
    metrics: Metrics,
    #[cfg(feature = "fail_points")]
    pub(crate) root_traps: Cell<bool>,
}

/// A call-out that has not been answered.
#[derive(Clone, Copy)]
enum CallOut {
    Batch(BatchNumber, Millis),
    Vendor(RequestNumber),
}

impl Worker {
    /// Sets up one worker. Only in the root's `on_configure`.
    pub(crate) fn new(config: PluginConfig) -> Self {
        let config = Rc::new(config);
        let nonce = nonce::draw();
        let queue_name = format!("keybrake-{}", nonce::text(nonce));
        Self {
            gate: RefCell::new(Gate::new(Rc::clone(&config), Ids::new(nonce))),
            config,
            queue: hostcalls::register_shared_queue(&queue_name).ok(),
            woken: Cell::new(false),
            tick_period_ms: Cell::new(0),
            calls: RefCell::default(),
            metrics: Metrics::define(),
            #[cfg(feature = "fail_points")]
            root_traps: Cell::new(false),
        }
    }

    /// Ends a stream's callback: answers that stream if that is due, and wakes the root if it has something to send.
    pub(crate) fn after_stream(&self, now: Millis, stream: StreamId) {
        let (replies, root_has_work) = {
            let mut gate = self.gate.borrow_mut();
            let replies = gate.take_replies_to(stream);
            // Without a tick nobody else would look after what is left to count.
            let unseen = self.tick_period_ms.get() == 0 && gate.tick_period_ms() != 0;
            (replies, unseen || gate.could_send(now))
        };
        if root_has_work && !self.woken.replace(true) {
            self.wake_root();
        }
        for (marks, answer) in replies {
            self.metrics.verdict(marks.verdict);
            host::mark(&marks);
            host::reply(&answer);
        }
    }

    fn wake_root(&self) {
        let woken = self
            .queue
            .is_some_and(|queue| hostcalls::enqueue_shared_queue(queue, Some(b"1")).is_ok());
        if !woken {
            // The tick finds it, and says nothing of having been woken.
            self.woken.set(false);
            self.set_tick_period(1);
        }
    }

    /// The root was woken.
    pub(crate) fn queue_ready(&self, queue: u32) {
        let _ = hostcalls::dequeue_shared_queue(queue);
        self.woken.set(false);
    }

    /// Ends a root's callback: calls first, then whatever may call back into streams.
    pub(crate) fn after_root(&self, now: Millis) {
        let to_streams = self.make_calls(now);
        self.send_batches(now);
        let (period, open, failures) = {
            let mut gate = self.gate.borrow_mut();
            let failures = gate.take_ledger_failures();
            (gate.tick_period_ms(), gate.open_requests(), failures)
        };
        self.tell_failures(&failures);
        self.set_tick_period(period);
        for effect in &to_streams {
            if let HostEffect::Reply(_, marks, _) | HostEffect::ResumeRead(_, marks, _) = effect {
                self.metrics.verdict(marks.verdict);
            }
        }
        self.metrics.flush(open);
        for effect in to_streams {
            match effect {
                HostEffect::Reply(stream, marks, answer) => {
                    if host::act_on(stream).is_ok() {
                        host::mark(&marks);
                        host::reply(&answer);
                    }
                }
                HostEffect::ResumeRead(stream, marks, pass) => resume_read(stream, &marks, &pass),
                HostEffect::CallVendor(..) => {}
            }
        }
    }

    /// Makes the vendor calls that are due, and hands back the effects on streams.
    fn make_calls(&self, now: Millis) -> Vec<HostEffect> {
        let mut to_streams = Vec::new();
        loop {
            let effects = self.gate.borrow_mut().take_host_effects();
            if effects.is_empty() {
                return to_streams;
            }
            for effect in effects {
                match effect {
                    HostEffect::CallVendor(number, call) => self.call_vendor(now, number, &call),
                    other => to_streams.push(other),
                }
            }
        }
    }

    fn call_vendor(&self, now: Millis, number: RequestNumber, call: &VendorCall) {
        let vendor = self.config.vendors.get(call.permit().vendor());
        let token = vendor.and_then(|vendor| {
            let made = vendor::Made::of(call);
            let headers = made.headers(vendor, call)?;
            let timeout = u64::from(self.config.forward_timeout_ms);
            host::call(&vendor.cluster, headers, call.permit().body(), timeout).ok()
        });
        match token {
            Some(token) => {
                self.calls
                    .borrow_mut()
                    .insert(token, CallOut::Vendor(number));
            }
            None => {
                let failure = VendorFailure::NotCalled;
                self.gate.borrow_mut().vendor_failed(now, number, failure);
            }
        }
    }

    fn send_batches(&self, now: Millis) {
        loop {
            let batch = self.gate.borrow_mut().next_batch(now);
            let Some(BatchOut { number, body }) = batch else {
                return;
            };
            let headers = vec![
                (":method", "POST"),
                (":path", COMMANDS_PATH),
                (":authority", "keybrake"),
                ("content-type", "application/json"),
            ];
            // Longer than a batch is waited for: a late answer still counts for commands that wait.
            let timeout = u64::from(self.config.ledger_timeout_ms).saturating_mul(2);
            match host::call(&self.config.commands_cluster, headers, &body, timeout) {
                Ok(token) => {
                    self.calls
                        .borrow_mut()
                        .insert(token, CallOut::Batch(number, now));
                }
                Err(host::HostError) => {
                    let mut gate = self.gate.borrow_mut();
                    gate.batch_replied(now, number, BatchReply::NotSent);
                }
            }
        }
    }

    /// A call-out has ended.
    pub(crate) fn call_ended(&self, now: Millis, token: u32, num_headers: usize, body_size: usize) {
        let Some(call) = self.calls.borrow_mut().remove(&token) else {
            return;
        };
        let kind = MapType::HttpCallResponseHeaders;
        let body = host::buffer(BufferType::HttpCallResponseBody, body_size);
        match call {
            CallOut::Batch(number, sent_at) => {
                self.metrics.callout(now.saturating_sub(sent_at));
                // An answer that broke off has no header map at all, which must not be asked for.
                let header = |name| match num_headers {
                    0 => None,
                    _ => host::header(kind, name),
                };
                let reply = BatchReply::Answer {
                    status: header(":status")
                        .and_then(|text| text.parse().ok())
                        .unwrap_or_default(),
                    marked: header(LEDGER_HEADER).is_some_and(|text| text == LEDGER_HEADER_VALUE),
                    body: &body,
                };
                self.gate.borrow_mut().batch_replied(now, number, reply);
            }
            CallOut::Vendor(number) => {
                let headers = match num_headers {
                    0 => Vec::new(),
                    _ => host::headers(kind),
                };
                let mut gate = self.gate.borrow_mut();
                match vendor::ended(&headers, &body) {
                    Ended::Answered(answer) => gate.vendor_answered(now, number, answer),
                    Ended::Failed(failure) => gate.vendor_failed(now, number, failure),
                }
            }
        }
    }

    fn tell_failures(&self, failures: &[LedgerFailure]) {
        for failure in failures {
            self.metrics.ledger_failure(*failure);
            if *failure == LedgerFailure::CommandRejected {
                log::error!(
                    "the ledger does not take a command of this filter: are their versions far apart?"
                );
            }
        }
    }

    fn set_tick_period(&self, period_ms: u32) {
        if self.tick_period_ms.replace(period_ms) != period_ms {
            let period = std::time::Duration::from_millis(u64::from(period_ms));
            let _ = hostcalls::set_tick_period(period);
        }
    }

    /// Whether nothing is open, on its way, or awaited.
    pub(crate) fn is_idle(&self) -> bool {
        self.gate.borrow().is_idle() && self.calls.borrow().is_empty()
    }
}

/// Headers that a request needs on its way through the router, besides those that the vendor may see. (Without
/// `x-forwarded-proto`, which is Envoy's own, no route is found. The vendor's cluster takes it off.)
const ROUTED: [&str; 6] = [
    ":method",
    ":path",
    ":authority",
    ":scheme",
    "x-forwarded-proto",
    "x-request-id",
];

fn resume_read(stream: StreamId, marks: &Marks, pass: &ReadPass) {
    if host::act_on(stream).is_err() {
        return;
    }
    host::mark(marks);
    let had = host::headers(MapType::HttpRequestHeaders);
    let mut headers: Vec<(&str, &[u8])> = Vec::new();
    for (name, value) in &had {
        let name = std::str::from_utf8(name).unwrap_or_default();
        if ROUTED.contains(&name) {
            headers.push((name, value));
        }
    }
    for (name, value) in pass.permit().forward_headers() {
        headers.push((name, value));
    }
    host::pass_on(headers);
}
