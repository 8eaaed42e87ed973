//! The stages of a request: what each holds, and how it goes over into the next.
//!
//! Each transition consumes its stage, so that nothing can be done twice. Whoever the client is told a no that only
//! the ledger can make final is told after the ledger has it.

use std::rc::Rc;

use keybrake_contract::grant::Grant;
use keybrake_contract::ids::CommandId;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::{
    Admitted, AttemptOutcome, Command, Forward, Outcome, Release, ReleaseCause, Replay, Reserve,
};

use super::Millis;
use super::effect::{
    Effect, Hold, HostEffect, Marks, ReadAnswer, ReadPass, Turn, VendorCall, VendorFailure, Verdict,
};
use super::request::{Line, Stage};
use crate::authorize::{Denied, Permit, authorize};
use crate::config::Vendor;
use crate::outcome::{self, Judgement, VendorAnswer};
use crate::pack::Pack;
use crate::read::{self, Turned};
use crate::refusal::{self, Answer, NoAnswer, OutcomeKnown, RefusalView, RetryHint, Settlement};

/// How often the ledger may answer with yet another grant before the request is given up.
const MAX_GRANTS: u32 = 4;
/// First pause of a parked request.
const FIRST_PARK_MS: Millis = 50;
/// Longest pause of a parked request.
const LONGEST_PARK_MS: Millis = 1_000;
/// Envoy ends a call by itself at `forward_timeout_ms`. Should that not be heard, it is called ended so much later.
const FORWARD_GRACE_MS: Millis = 5_000;

/// What the ledger said to a command.
#[derive(Debug)]
pub(super) enum Ledger {
    Admitted(Admitted),
    Grant(Rc<Grant>),
    Refused(Refusal),
    Replay(Box<Replay>),
    InFlight,
    Cancelled,
    Recorded,
    Released,
    /// It could not or would not take the command.
    NotExecuted,
    /// Nothing, by the deadline.
    Silent,
}

/// The bytes of the request are coming in.
#[derive(Debug)]
pub(super) struct Reading;

/// The first reserve, without a grant version, is on its way: its answer is the grant.
#[derive(Debug)]
pub(super) struct Asking {
    pub id: CommandId,
    reading: Box<read::Reading>,
}

/// A reserve is on its way.
#[derive(Debug)]
pub(super) struct Reserving {
    pub id: CommandId,
    permit: Permit,
    sent_at: Millis,
    patience: Patience,
}

/// An equal request is in flight: this one asks again in a moment.
#[derive(Debug)]
pub(super) struct Parked {
    permit: Permit,
    patience: Patience,
}

/// How long a request goes on asking.
#[derive(Debug, Clone, Copy)]
struct Patience {
    grants: u32,
    park_until: Option<Millis>,
    next_pause: Millis,
}

impl Patience {
    const FRESH: Self = Self {
        grants: 0,
        park_until: None,
        next_pause: FIRST_PARK_MS,
    };

    fn one_more_grant(self) -> Self {
        Self {
            grants: self.grants.saturating_add(1),
            ..self
        }
    }
}

/// A refusal is on its way to the record.
#[derive(Debug)]
pub(super) struct Recording {
    pub id: CommandId,
    no: No,
}

#[derive(Debug)]
enum No {
    Turned(Box<Turned>),
    Denied(Box<Denied>, Patience),
}

/// The detached call is out.
#[derive(Debug)]
pub(super) struct Forwarding {
    permit: Rc<Permit>,
    hold: Hold,
    reserve: CommandId,
    begun_at: Millis,
}

/// A read goes through the router.
#[derive(Debug)]
pub(super) struct Streaming {
    pub vendor: usize,
    hold: Hold,
    begun_at: Millis,
    answer: Option<ReadAnswer>,
}

/// An outcome is on its way to the record.
#[derive(Debug)]
pub(super) struct Settling {
    pub id: CommandId,
    vendor: usize,
    marks: Marks,
    answer: ToClient,
}

/// What the client gets after a forward.
#[derive(Debug)]
enum ToClient {
    /// What the vendor answered.
    Vendors(Answer, OutcomeKnown),
    /// What we say in its place.
    Ours(Answer),
}

/// A last command is on its way.
#[derive(Debug)]
pub(super) struct Telling {
    pub id: CommandId,
}

impl Reading {
    pub fn read(
        self,
        reading: Box<read::Reading>,
        grant: Option<Rc<Grant>>,
        line: &mut Line,
        turn: &mut Turn<'_>,
    ) -> Stage {
        line.key_digest = Some(reading.key_digest);
        match grant {
            Some(grant) => check(*reading, &grant, Patience::FRESH, line, turn),
            None => {
                let id = turn.ids.draw();
                let parts = reading.reserve_parts();
                let reserve = parts.into_reserve(id, turn.config.forward_timeout_ms);
                turn.send(Command::Reserve(Box::new(reserve)));
                Stage::Asking(Asking { id, reading })
            }
        }
    }

    pub fn turned(self, turned: Box<Turned>, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        line.key_digest = turned.known.as_ref().map(|known| known.key_digest);
        let id = turn.ids.draw();
        match turned.refused(id) {
            Some(refused) => {
                turn.send(Command::Refused(Box::new(refused)));
                let no = No::Turned(turned);
                Stage::Recording(Recording { id, no })
            }
            None => {
                let count = Effect::Count(turned.counted, turned.vendor);
                turn.effects.push(count);
                No::Turned(turned).tell(line, turn)
            }
        }
    }
}

/// Checks against a grant: on to the reserve, or on to the record of the refusal.
fn check(
    reading: read::Reading,
    grant: &Grant,
    patience: Patience,
    line: &mut Line,
    turn: &mut Turn<'_>,
) -> Stage {
    if line.client.is_none() {
        // Nobody waits for it, and nothing has been forwarded.
        return Stage::Done;
    }
    match authorize(turn.config, grant, reading) {
        Ok(permit) => reserve(permit, patience, turn),
        Err(denied) => {
            let id = turn.ids.draw();
            turn.send(Command::Refused(Box::new(denied.refused(id))));
            let no = No::Denied(denied, patience);
            Stage::Recording(Recording { id, no })
        }
    }
}

fn reserve(permit: Permit, patience: Patience, turn: &mut Turn<'_>) -> Stage {
    let id = turn.ids.draw();
    let reserve: Reserve = permit
        .reserve_parts()
        .into_reserve(id, turn.config.forward_timeout_ms);
    turn.send(Command::Reserve(Box::new(reserve)));
    Stage::Reserving(Reserving {
        id,
        permit,
        sent_at: turn.now,
        patience,
    })
}

impl Asking {
    pub fn heard(self, said: Ledger, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        let vendor = self.reading.vendor;
        match said {
            Ledger::Grant(grant) => {
                turn.keep(line, &grant);
                let patience = Patience::FRESH.one_more_grant();
                check(*self.reading, &grant, patience, line, turn)
            }
            Ledger::Refused(refusal) => refused(&refusal, vendor, line, turn),
            // A reserve without a version is never admitted. Should it have been, it is given back.
            Ledger::Admitted(_) => {
                unavailable(vendor, line, turn);
                release(self.id, ReleaseCause::NotForwarded, turn)
            }
            Ledger::Replay(_)
            | Ledger::InFlight
            | Ledger::Cancelled
            | Ledger::Recorded
            | Ledger::Released
            | Ledger::NotExecuted
            | Ledger::Silent => {
                unavailable(vendor, line, turn);
                Stage::Done
            }
        }
    }
}

impl Reserving {
    pub fn heard(self, said: Ledger, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        let vendor = self.permit.vendor();
        match said {
            Ledger::Admitted(admitted) => self.admitted(admitted, line, turn),
            Ledger::Grant(grant) => {
                turn.keep(line, &grant);
                if self.patience.grants >= MAX_GRANTS {
                    unavailable(vendor, line, turn);
                    return Stage::Done;
                }
                let patience = self.patience.one_more_grant();
                check(self.permit.into_reading(), &grant, patience, line, turn)
            }
            Ledger::Refused(refusal) => refused(&refusal, vendor, line, turn),
            Ledger::Replay(replay) => {
                let pack = turn.pack(vendor);
                if let Some(pack) = pack {
                    let answer = refusal::replay_answer(pack, &replay, &line.request_id);
                    let marks = Marks {
                        hold: Some(replay.hold),
                        vendor_request_id: replay.answer.vendor_request_id.clone(),
                        ..Marks::plain(Verdict::Replayed)
                    };
                    turn.reply(line, marks, answer);
                }
                Stage::Done
            }
            Ledger::InFlight => self.park(line, turn),
            Ledger::Cancelled | Ledger::NotExecuted => {
                unavailable(vendor, line, turn);
                Stage::Done
            }
            Ledger::Silent | Ledger::Recorded | Ledger::Released => {
                unavailable(vendor, line, turn);
                release(self.id, ReleaseCause::NoAnswer, turn)
            }
        }
    }

    fn admitted(self, admitted: Admitted, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        let age = turn.now.saturating_sub(self.sent_at);
        if age > Millis::from(admitted.forward_within_ms) {
            unavailable(self.permit.vendor(), line, turn);
            return release(self.id, ReleaseCause::AnswerTooOld, turn);
        }
        let hold = Hold::admitted(admitted);
        let permit = Rc::new(self.permit);
        match permit.forward() {
            Forward::Detached => {
                let call = VendorCall {
                    permit: Rc::clone(&permit),
                    hold,
                };
                turn.host(HostEffect::CallVendor(line.number, call));
                let longest = Millis::from(turn.config.forward_timeout_ms);
                line.wake_at = Some(
                    turn.now
                        .saturating_add(longest)
                        .saturating_add(FORWARD_GRACE_MS),
                );
                Stage::Forwarding(Forwarding {
                    permit,
                    hold,
                    reserve: self.id,
                    begun_at: turn.now,
                })
            }
            Forward::Read => {
                // `client` is there: without it this stage is left at once.
                let Some(client) = line.client else {
                    return release(self.id, ReleaseCause::ClientGone, turn);
                };
                let marks = Marks {
                    hold: Some(hold.id()),
                    ..Marks::plain(Verdict::Admitted)
                };
                let vendor = permit.vendor();
                let pass = ReadPass { permit, hold };
                turn.host(HostEffect::ResumeRead(client, marks, pass));
                Stage::Streaming(Streaming {
                    vendor,
                    hold,
                    begun_at: turn.now,
                    answer: None,
                })
            }
        }
    }

    fn park(self, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        let longest = Millis::from(turn.config.in_flight_patience_ms);
        let until = self
            .patience
            .park_until
            .unwrap_or_else(|| turn.now.saturating_add(longest));
        let pause = self.patience.next_pause;
        let patience = Patience {
            park_until: Some(until),
            next_pause: pause.saturating_mul(2).min(LONGEST_PARK_MS),
            ..self.patience
        };
        line.wake_at = Some(turn.now.saturating_add(pause).min(until));
        let parked = Parked {
            permit: self.permit,
            patience,
        };
        if turn.now >= until {
            return parked.due(line, turn);
        }
        Stage::Parked(parked)
    }

    /// The answer may be under way: whatever it is, the hold is given back.
    pub fn client_gone(self, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        line.client = None;
        release(self.id, ReleaseCause::ClientGone, turn)
    }
}

impl Parked {
    pub fn due(self, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        line.wake_at = None;
        let over = self
            .patience
            .park_until
            .is_none_or(|until| turn.now >= until);
        if !over {
            return reserve(self.permit, self.patience, turn);
        }
        let code = RefusalCode::IdempotencyKeyInUse;
        let view = RefusalView::plain(code, &line.request_id);
        let answer = refusal::answer(turn.pack(self.permit.vendor()), &view);
        let marks = Marks {
            outcome: Some(code.as_str()),
            ..Marks::plain(Verdict::InUse)
        };
        turn.reply(line, marks, answer);
        Stage::Done
    }
}

impl Recording {
    pub fn heard(self, said: Ledger, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        let vendor = self.no.vendor();
        match (said, self.no) {
            (Ledger::Recorded, no) => no.tell(line, turn),
            (Ledger::Refused(refusal), no) => match vendor {
                Some(vendor) => refused(&refusal, vendor, line, turn),
                None => no.tell(line, turn),
            },
            (Ledger::Grant(grant), No::Denied(denied, patience))
                if patience.grants < MAX_GRANTS =>
            {
                turn.keep(line, &grant);
                let reading = denied.into_reading();
                check(reading, &grant, patience.one_more_grant(), line, turn)
            }
            _ => {
                tell_unavailable(vendor, line, turn);
                Stage::Done
            }
        }
    }
}

impl No {
    fn vendor(&self) -> Option<usize> {
        match self {
            Self::Turned(turned) => turned.vendor,
            Self::Denied(denied, _) => Some(denied.vendor()),
        }
    }

    fn tell(self, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        let pack = self.vendor().and_then(|vendor| turn.pack(vendor));
        let (code, view) = match &self {
            Self::Turned(turned) => (
                turned.code,
                RefusalView::of_turned(turned, &line.request_id),
            ),
            Self::Denied(denied, _) => (
                denied.code,
                RefusalView::of_denied(denied, &line.request_id),
            ),
        };
        let answer = refusal::answer(pack, &view);
        let marks = Marks {
            outcome: Some(code.as_str()),
            ..Marks::plain(Verdict::Refused)
        };
        turn.reply(line, marks, answer);
        Stage::Done
    }
}

impl Forwarding {
    pub fn answered(
        self,
        answer: &VendorAnswer<'_>,
        line: &mut Line,
        turn: &mut Turn<'_>,
    ) -> Stage {
        let vendor = self.permit.vendor();
        let Some(pack) = turn.pack(vendor) else {
            return self.failed(VendorFailure::Broken, line, turn);
        };
        let Judgement {
            outcome,
            vendor_object_id,
            charge_id,
            vendor_request_id,
            replayed_by_vendor,
            stored,
            client,
        } = outcome::judge(pack, self.permit.endpoint(), answer);
        let known = match outcome {
            AttemptOutcome::Indeterminate => OutcomeKnown::Unknown(self.retry_hint(pack)),
            _ => OutcomeKnown::Known,
        };
        let marks = Marks {
            upstream_status: Some(answer.status),
            vendor_request_id: vendor_request_id.clone(),
            ..self.marks(&outcome)
        };
        let told = Outcome {
            status: Some(answer.status),
            vendor_request_id,
            vendor_object_id,
            charge_id,
            replayed_by_vendor,
            answer: stored,
            ..blank_outcome(turn, self.hold, outcome, self.begun_at)
        };
        settle(
            told,
            vendor,
            marks,
            ToClient::Vendors(client, known),
            line,
            turn,
        )
    }

    pub fn failed(self, failure: VendorFailure, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        line.wake_at = None;
        let vendor = self.permit.vendor();
        let request_id = line.request_id.as_str();
        let (outcome, no_answer) = match failure {
            VendorFailure::NotCalled | VendorFailure::NotSent => {
                (AttemptOutcome::NotExecuted, None)
            }
            VendorFailure::TimedOut => (AttemptOutcome::Indeterminate, Some(NoAnswer::TimedOut)),
            VendorFailure::Broken => (AttemptOutcome::Indeterminate, Some(NoAnswer::Failed)),
        };
        let Some(pack) = turn.pack(vendor) else {
            return release(self.reserve, ReleaseCause::NotForwarded, turn);
        };
        let answer = match no_answer {
            None => refusal::not_sent(pack, request_id),
            Some(how) => refusal::no_vendor_answer(pack, how, self.retry_hint(pack), request_id),
        };
        let marks = self.marks(&outcome);
        if failure == VendorFailure::NotCalled {
            turn.reply(line, marks, answer);
            return release(self.reserve, ReleaseCause::NotForwarded, turn);
        }
        let told = blank_outcome(turn, self.hold, outcome, self.begun_at);
        settle(told, vendor, marks, ToClient::Ours(answer), line, turn)
    }

    /// A retry is safe only under the same key, with a vendor that knows keys. (A key that we made up for a request
    /// without one is unknown to the caller.)
    fn retry_hint(&self, pack: &Pack) -> RetryHint {
        let repeatable =
            pack.idempotency().window_ms.is_some() && self.permit.idempotency_key().is_some();
        if repeatable {
            RetryHint::Retry
        } else {
            RetryHint::DoNotRetry
        }
    }

    fn marks(&self, outcome: &AttemptOutcome) -> Marks {
        Marks {
            outcome: Some(outcome_name(outcome)),
            hold: Some(self.hold.id()),
            ..Marks::plain(Verdict::Admitted)
        }
    }
}

fn settle(
    told: Outcome,
    vendor: usize,
    marks: Marks,
    answer: ToClient,
    line: &mut Line,
    turn: &mut Turn<'_>,
) -> Stage {
    let id = told.id;
    turn.send(Command::Outcome(Box::new(told)));
    line.wake_at = line.client.map(|_| {
        turn.now
            .saturating_add(Millis::from(turn.config.settle_wait_ms))
    });
    Stage::Settling(Settling {
        id,
        vendor,
        marks,
        answer,
    })
}

impl Settling {
    /// Anything but `recorded` means that it is not on record: the client must know.
    pub fn heard(self, said: &Ledger, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        line.wake_at = None;
        let settlement = match said {
            Ledger::Recorded => Settlement::Recorded,
            _ => Settlement::Pending,
        };
        self.tell(settlement, line, turn);
        Stage::Done
    }

    /// The client has waited long enough; the outcome goes on being told.
    pub fn waited_enough(self, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        let id = self.id;
        self.tell(Settlement::Pending, line, turn);
        Stage::Telling(Telling { id })
    }

    fn tell(self, settlement: Settlement, line: &mut Line, turn: &mut Turn<'_>) {
        let Some(pack) = turn.pack(self.vendor) else {
            return;
        };
        let answer = match self.answer {
            ToClient::Vendors(answer, known) => {
                refusal::vendor_answer(pack, answer, &line.request_id, settlement, known)
            }
            ToClient::Ours(answer) => {
                let known = OutcomeKnown::Known;
                match settlement {
                    Settlement::Recorded => answer,
                    Settlement::Pending => {
                        refusal::vendor_answer(pack, answer, &line.request_id, settlement, known)
                    }
                }
            }
        };
        turn.reply(line, self.marks, answer);
    }
}

impl Streaming {
    pub fn answered(self, answer: ReadAnswer) -> Stage {
        Stage::Streaming(Self {
            answer: Some(answer),
            ..self
        })
    }

    pub fn ended(self, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        let outcome = outcome::judge_read(self.answer.as_ref().map(|answer| answer.status));
        self.over(outcome, line, turn)
    }

    pub fn abandoned(self, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        self.over(AttemptOutcome::Abandoned, line, turn)
    }

    fn over(self, outcome: AttemptOutcome, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
        line.client = None;
        let (status, vendor_request_id) = match self.answer {
            Some(answer) => (Some(answer.status), answer.vendor_request_id),
            None => (None, None),
        };
        let told = Outcome {
            status,
            vendor_request_id,
            ..blank_outcome(turn, self.hold, outcome, self.begun_at)
        };
        let id = told.id;
        turn.send(Command::Outcome(Box::new(told)));
        Stage::Telling(Telling { id })
    }
}

fn blank_outcome(
    turn: &mut Turn<'_>,
    hold: Hold,
    outcome: AttemptOutcome,
    begun_at: Millis,
) -> Outcome {
    let latency = turn.now.saturating_sub(begun_at);
    Outcome {
        id: turn.ids.draw(),
        hold: hold.id(),
        attempt: hold.attempt(),
        outcome,
        status: None,
        vendor_request_id: None,
        vendor_object_id: None,
        charge_id: None,
        replayed_by_vendor: false,
        answer: None,
        latency_ms: u32::try_from(latency).unwrap_or(u32::MAX),
    }
}

fn release(reserve: CommandId, cause: ReleaseCause, turn: &mut Turn<'_>) -> Stage {
    let id = turn.ids.draw();
    turn.send(Command::Release(Release { id, reserve, cause }));
    Stage::Telling(Telling { id })
}

/// The ledger's no, which it has on record.
fn refused(refusal: &Refusal, vendor: usize, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
    if let (true, Some(digest)) = (ends_the_key(refusal.code), line.key_digest) {
        turn.effects.push(Effect::ForgetGrant(digest));
    }
    let view = RefusalView::of_ledger(refusal, &line.request_id);
    let answer = refusal::answer(turn.pack(vendor), &view);
    let marks = Marks {
        outcome: Some(refusal.code.as_str()),
        ..Marks::plain(Verdict::Refused)
    };
    turn.reply(line, marks, answer);
    Stage::Done
}

fn unavailable(vendor: usize, line: &mut Line, turn: &mut Turn<'_>) {
    tell_unavailable(Some(vendor), line, turn);
}

/// 503: nothing was sent.
pub(super) fn tell_unavailable(vendor: Option<usize>, line: &mut Line, turn: &mut Turn<'_>) {
    let code = RefusalCode::GovernanceUnavailable;
    let pack = vendor.and_then(|vendor| turn.pack(vendor));
    let answer = refusal::answer(pack, &RefusalView::plain(code, &line.request_id));
    let marks = Marks {
        outcome: Some(code.as_str()),
        ..Marks::plain(Verdict::Unavailable)
    };
    turn.reply(line, marks, answer);
}

/// Whether the key is of no use any more.
const fn ends_the_key(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::VaultKeyInvalid | RefusalCode::VaultKeyExpired | RefusalCode::VaultKeyRevoked
    )
}

const fn outcome_name(outcome: &AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Executed(_) => "executed",
        AttemptOutcome::DeclinedFinal => "declined_final",
        AttemptOutcome::NotExecuted => "not_executed",
        AttemptOutcome::Indeterminate => "indeterminate",
        AttemptOutcome::Abandoned => "abandoned",
    }
}

impl Marks {
    const fn plain(verdict: Verdict) -> Self {
        Self {
            verdict,
            outcome: None,
            upstream_status: None,
            vendor_request_id: None,
            hold: None,
        }
    }
}

impl<'a> Turn<'a> {
    fn send(&mut self, command: Command) {
        self.effects.push(Effect::Send(command));
    }

    fn host(&mut self, effect: HostEffect) {
        self.effects.push(Effect::Host(effect));
    }

    fn keep(&mut self, line: &Line, grant: &Rc<Grant>) {
        if let Some(digest) = line.key_digest {
            self.effects
                .push(Effect::KeepGrant(digest, Rc::clone(grant)));
        }
    }

    fn pack(&self, vendor: usize) -> Option<&'a Pack> {
        let config: &'a crate::config::PluginConfig = self.config;
        config.vendors.get(vendor).map(|Vendor { pack, .. }| pack)
    }

    /// Answers the client, if it is still there. It never gets a second answer.
    fn reply(&mut self, line: &mut Line, marks: Marks, answer: Answer) {
        if let Some(client) = line.client.take() {
            self.host(HostEffect::Reply(client, marks, answer));
        }
    }
}
