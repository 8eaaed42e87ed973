//! From the admission to the outcome on record.
//!
//! Here: the stages in which something has been forwarded. None of them is ever left without telling the ledger what
//! came of it.

use std::rc::Rc;

use keybrake_contract::ids::CommandId;
use keybrake_contract::wire::{AttemptOutcome, Command, Forward, Outcome, ReleaseCause};

use super::super::Millis;
use super::super::effect::{
    Effect, Hold, HostEffect, Marks, ReadAnswer, ReadPass, Turn, VendorCall, VendorFailure, Verdict,
};
use super::super::outbox::Hurry;
use super::super::request::{Line, Stage};
use super::{Ledger, Telling, release};
use crate::authorize::Permit;
use crate::outcome::{self, Judgement, VendorAnswer};
use crate::pack::Pack;
use crate::refusal::{self, Answer, NoAnswer, OutcomeKnown, RetryHint, Settlement};

/// Envoy ends a call by itself at `forward_timeout_ms`. Should that not be heard, it is called ended so much later.
const FORWARD_GRACE_MS: Millis = 5_000;

/// The detached call is out.
#[derive(Debug)]
pub(in super::super) struct Forwarding {
    permit: Rc<Permit>,
    hold: Hold,
    reserve: CommandId,
    begun_at: Millis,
}

/// A read goes through the router.
#[derive(Debug)]
pub(in super::super) struct Streaming {
    pub vendor: usize,
    hold: Hold,
    begun_at: Millis,
    answer: Option<ReadAnswer>,
}

/// An outcome is on its way to the record.
#[derive(Debug)]
pub(in super::super) struct Settling {
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

/// Forwards what has been admitted. The hold is the right to it, and is used up here.
pub(super) fn begin(
    permit: Permit,
    hold: Hold,
    reserve: CommandId,
    line: &mut Line,
    turn: &mut Turn<'_>,
) -> Stage {
    let permit = Rc::new(permit);
    let begun_at = turn.now;
    match (permit.forward(), line.client) {
        (Forward::Detached, _) => {
            let call = VendorCall {
                permit: Rc::clone(&permit),
                hold,
            };
            turn.host(HostEffect::CallVendor(line.number, call));
            let longest = Millis::from(turn.config.forward_timeout_ms);
            let ends_at = begun_at.saturating_add(longest);
            line.wake_at = Some(ends_at.saturating_add(FORWARD_GRACE_MS));
            Stage::Forwarding(Forwarding {
                permit,
                hold,
                reserve,
                begun_at,
            })
        }
        (Forward::Read, Some(client)) => {
            let marks = Marks {
                hold: Some(hold.id()),
                ..Marks::plain(Verdict::Admitted)
            };
            let vendor = permit.vendor();
            turn.host(HostEffect::ResumeRead(
                client,
                marks,
                ReadPass { permit, hold },
            ));
            Stage::Streaming(Streaming {
                vendor,
                hold,
                begun_at,
                answer: None,
            })
        }
        // A reserve whose client goes is left at once; should one come here, nobody waits for the read.
        (Forward::Read, None) => release(reserve, ReleaseCause::ClientGone, turn),
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
        // The client has its answer: nobody waits for this.
        let command = Command::Outcome(Box::new(told));
        turn.effects.push(Effect::Send(Hurry::CanWait, command));
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

const fn outcome_name(outcome: &AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Executed(_) => "executed",
        AttemptOutcome::DeclinedFinal => "declined_final",
        AttemptOutcome::NotExecuted => "not_executed",
        AttemptOutcome::Indeterminate => "indeterminate",
        AttemptOutcome::Abandoned => "abandoned",
    }
}
