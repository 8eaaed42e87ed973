//! All requests of one worker, with the outbox they share.
//!
//! Here: slots, the way from an event to the request it is for, and the way of its effects. Not here: what a request
//! does with an event (that is [`super::request`]), and host calls.

use std::collections::BTreeMap;
use std::rc::Rc;

use keybrake_contract::wire::{Command, CountedReason, RefusalCount};

use super::counts::RefusalCounts;
use super::effect::{Effect, Event, HostEffect, Marks, ReadAnswer, Turn, VendorFailure};
use super::grants::GrantCache;
use super::outbox::{
    BatchNumber, BatchOut, BatchReply, Delivery, Fate, Hurry, LedgerFailure, Outbox, OutboxLimits,
};
use super::request::{Line, Request};
use super::stage::tell_unavailable;
use super::{Ids, Millis, RequestNumber, StreamId};
use crate::config::PluginConfig;
use crate::outcome::VendorAnswer;
use crate::read::{self, JudgedHeaders, RawRequest, Reading, Turned};
use crate::refusal::Answer;

/// Pause between two ticks while anything is open.
const BUSY_TICK_MS: u32 = 25;
/// Pause between two ticks while there is only something to count.
const COUNTING_TICK_MS: u32 = 1_000;

/// The gate of one worker.
#[derive(Debug)]
pub struct Gate {
    config: Rc<PluginConfig>,
    ids: Ids,
    outbox: Outbox,
    grants: GrantCache,
    counts: RefusalCounts,
    requests: BTreeMap<RequestNumber, Request>,
    next_number: u64,
    host_effects: Vec<HostEffect>,
    effects: Vec<Effect>,
    deliveries: Vec<Delivery>,
}

/// What is to be done about the body of a request.
#[derive(Debug)]
pub enum AfterHeaders {
    /// Wait for it, and keep what the headers said.
    WaitForBody(Box<JudgedHeaders>),
    /// Do not wait: the request is open, or it has been answered and nothing is left to do (`None`).
    Opened(Option<RequestNumber>),
}

impl Gate {
    /// A gate without requests.
    #[must_use]
    pub fn new(config: Rc<PluginConfig>, ids: Ids) -> Self {
        let limits = OutboxLimits {
            batch_max_commands: usize_from(config.batch_max_commands),
            batch_max_bytes: usize_from(config.batch_max_bytes),
            ledger_timeout_ms: Millis::from(config.ledger_timeout_ms),
            ask_deadline_ms: Millis::from(config.reserve_deadline_ms),
        };
        Self {
            grants: GrantCache::new(usize_from(config.grant_cache)),
            config,
            ids,
            outbox: Outbox::new(limits),
            counts: RefusalCounts::default(),
            requests: BTreeMap::new(),
            next_number: 0,
            host_effects: Vec::new(),
            effects: Vec::new(),
            deliveries: Vec::new(),
        }
    }

    /// The plugin configuration.
    #[must_use]
    pub fn config(&self) -> &Rc<PluginConfig> {
        &self.config
    }

    /// The headers of a request are here, its body is not.
    pub fn headers(&mut self, now: Millis, client: StreamId, raw: &RawRequest<'_>) -> AfterHeaders {
        match read::headers(&self.config, raw) {
            Ok(judged) => AfterHeaders::WaitForBody(Box::new(judged)),
            Err(turned) => AfterHeaders::Opened(self.turned(now, client, turned, raw.request_id)),
        }
    }

    /// A request without a body is here. `None`: it has been answered, and nothing is left to do.
    pub fn complete(
        &mut self,
        now: Millis,
        client: StreamId,
        raw: &RawRequest<'_>,
    ) -> Option<RequestNumber> {
        let read = read::read(&self.config, raw);
        self.read(now, client, read, raw.request_id)
    }

    /// The body of a request is here to its last byte. `None`: it has been answered, and nothing is left to do.
    pub fn body(
        &mut self,
        now: Millis,
        client: StreamId,
        judged: JudgedHeaders,
        body: &[u8],
        request_id: &str,
    ) -> Option<RequestNumber> {
        let read = judged.read(&self.config, body);
        self.read(now, client, read, request_id)
    }

    fn read(
        &mut self,
        now: Millis,
        client: StreamId,
        read: Result<Reading, Box<Turned>>,
        request_id: &str,
    ) -> Option<RequestNumber> {
        match read {
            Err(turned) => self.turned(now, client, turned, request_id),
            Ok(reading) => {
                let vendor = Some(reading.vendor);
                let grant = self.grants.get(&reading.key_digest);
                let event = Event::Read(Box::new(reading), grant);
                self.open(now, client, request_id, vendor, event)
            }
        }
    }

    fn turned(
        &mut self,
        now: Millis,
        client: StreamId,
        turned: Box<Turned>,
        request_id: &str,
    ) -> Option<RequestNumber> {
        let vendor = turned.vendor;
        self.open(now, client, request_id, vendor, Event::Turned(turned))
    }

    /// Takes a slot, or answers 503 when there is none.
    fn open(
        &mut self,
        now: Millis,
        client: StreamId,
        request_id: &str,
        vendor: Option<usize>,
        event: Event<'_>,
    ) -> Option<RequestNumber> {
        let number = RequestNumber(self.next_number);
        self.next_number = self.next_number.saturating_add(1);
        let mut request = Request::new(number, client, request_id);
        let needs_slot = match &event {
            Event::Turned(turned) => turned.known.is_some(),
            _ => true,
        };
        if needs_slot && self.requests.len() >= usize_from(self.config.max_open_requests) {
            self.no_slot(now, &mut request.line, vendor);
            return None;
        }
        self.handle(now, &mut request, event);
        if request.is_done() {
            return None;
        }
        self.requests.insert(number, request);
        Some(number)
    }

    fn no_slot(&mut self, now: Millis, line: &mut Line, vendor: Option<usize>) {
        let mut effects = std::mem::take(&mut self.effects);
        let mut turn = Turn {
            config: &self.config,
            now,
            ids: &mut self.ids,
            effects: &mut effects,
        };
        tell_unavailable(vendor, line, &mut turn);
        effects.push(Effect::Count(CountedReason::GovernanceUnavailable, vendor));
        self.carry_out(now, line.number, &mut effects);
        self.effects = effects;
    }

    /// The client's stream is over.
    pub fn client_gone(&mut self, now: Millis, number: RequestNumber) {
        self.on(now, number, Event::ClientGone);
    }

    /// The vendor's response headers to a read are here, pseudo headers included.
    pub fn read_answered(
        &mut self,
        now: Millis,
        number: RequestNumber,
        headers: &[(Vec<u8>, Vec<u8>)],
    ) {
        let id_header = self
            .requests
            .get(&number)
            .and_then(Request::vendor)
            .and_then(|vendor| self.config.vendors.get(vendor))
            .and_then(|vendor| vendor.pack.answer_headers.request_id.as_deref());
        if let Some(answer) = ReadAnswer::of_headers(headers, id_header) {
            self.on(now, number, Event::ReadAnswered(answer));
        }
    }

    /// Whether this request is a read on its way through the router.
    #[must_use]
    pub fn is_streaming(&self, number: RequestNumber) -> bool {
        self.requests
            .get(&number)
            .is_some_and(Request::is_streaming)
    }

    /// The response to a read is complete.
    pub fn read_ended(&mut self, now: Millis, number: RequestNumber) {
        self.on(now, number, Event::ReadEnded);
    }

    /// The vendor answered a detached call.
    pub fn vendor_answered(
        &mut self,
        now: Millis,
        number: RequestNumber,
        answer: VendorAnswer<'_>,
    ) {
        self.on(now, number, Event::VendorAnswered(answer));
    }

    /// A detached call ended without an answer of the vendor.
    pub fn vendor_failed(&mut self, now: Millis, number: RequestNumber, failure: VendorFailure) {
        self.on(now, number, Event::VendorFailed(failure));
    }

    /// What came back for a batch.
    pub fn batch_replied(&mut self, now: Millis, number: BatchNumber, reply: BatchReply<'_>) {
        let mut deliveries = std::mem::take(&mut self.deliveries);
        self.outbox
            .batch_replied(now, number, reply, &mut deliveries);
        self.deliver(now, &mut deliveries);
        self.deliveries = deliveries;
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Millis) {
        let mut deliveries = std::mem::take(&mut self.deliveries);
        self.outbox.tick(now, &mut deliveries);
        self.deliver(now, &mut deliveries);
        self.deliveries = deliveries;
        let due: Vec<RequestNumber> = self
            .requests
            .iter()
            .filter(|(_, request)| request.wake_at().is_some_and(|at| now >= at))
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            self.on(now, number, Event::Tick);
        }
        for ((reason, listener), count) in self.counts.take_due(now) {
            let told = RefusalCount {
                id: self.ids.draw(),
                reason,
                listener,
                count,
            };
            self.outbox
                .enqueue(now, None, Hurry::CanWait, Command::RefusalCount(told));
        }
    }

    fn deliver(&mut self, now: Millis, deliveries: &mut Vec<Delivery>) {
        for Delivery { owner, id, fate } in deliveries.drain(..) {
            let Some(owner) = owner else { continue };
            let event = match fate {
                Fate::Answered(result) => Event::Answered(id, result),
                Fate::GivenUp => Event::GivenUp(id),
            };
            self.on(now, owner, event);
        }
    }

    fn on(&mut self, now: Millis, number: RequestNumber, event: Event<'_>) {
        // Taken out while it acts; put back unless it is done.
        let Some(mut request) = self.requests.remove(&number) else {
            return;
        };
        self.handle(now, &mut request, event);
        if !request.is_done() {
            self.requests.insert(number, request);
        }
    }

    fn handle(&mut self, now: Millis, request: &mut Request, event: Event<'_>) {
        let mut effects = std::mem::take(&mut self.effects);
        let mut turn = Turn {
            config: &self.config,
            now,
            ids: &mut self.ids,
            effects: &mut effects,
        };
        request.on(event, &mut turn);
        self.carry_out(now, request.line.number, &mut effects);
        self.effects = effects;
    }

    fn carry_out(&mut self, now: Millis, number: RequestNumber, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Send(hurry, command) => {
                    self.outbox.enqueue(now, Some(number), hurry, command);
                }
                Effect::KeepGrant(digest, grant) => self.grants.put(digest, grant),
                Effect::ForgetGrant(digest) => self.grants.forget(&digest),
                Effect::Count(reason, vendor) => {
                    let listener = vendor
                        .and_then(|vendor| self.config.vendors.get(vendor))
                        .map_or("", |vendor| vendor.credential.as_str());
                    self.counts.add(reason, listener);
                }
                Effect::Host(effect) => self.host_effects.push(effect),
            }
        }
    }

    /// The answers to one client, which its own callback can give. The rest is for the root.
    pub fn take_replies_to(&mut self, client: StreamId) -> Vec<(Marks, Answer)> {
        let effects = std::mem::take(&mut self.host_effects);
        let mut replies = Vec::new();
        for effect in effects {
            match effect {
                HostEffect::Reply(stream, marks, answer) if stream == client => {
                    replies.push((marks, answer));
                }
                other => self.host_effects.push(other),
            }
        }
        replies
    }

    /// What the host is asked to do, in order.
    pub fn take_host_effects(&mut self) -> Vec<HostEffect> {
        std::mem::take(&mut self.host_effects)
    }

    /// The next batch, if one is to be sent now.
    pub fn next_batch(&mut self, now: Millis) -> Option<BatchOut> {
        self.outbox.next_batch(now)
    }

    /// The worker is about to end: nothing waits for company any more.
    pub fn hurry(&mut self) {
        self.outbox.hurry();
    }

    /// Whether a batch would be sent now.
    #[must_use]
    pub fn could_send(&self, now: Millis) -> bool {
        self.outbox.could_send(now)
    }

    /// How long the pause to the next tick may be; 0: no tick is needed.
    #[must_use]
    pub fn tick_period_ms(&self) -> u32 {
        if !self.is_idle() {
            BUSY_TICK_MS
        } else if !self.counts.is_empty() {
            COUNTING_TICK_MS
        } else {
            0
        }
    }

    /// How many requests hold a slot.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// Whether nothing is open and nothing is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.outbox.is_idle()
    }

    /// Takes the ledger's failures since the last time, for a metric.
    pub fn take_ledger_failures(&mut self) -> Vec<LedgerFailure> {
        self.outbox.take_failures()
    }
}

fn usize_from(figure: u32) -> usize {
    usize::try_from(figure).unwrap_or(usize::MAX)
}
