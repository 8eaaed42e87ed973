//! The stages of a request: what each holds, and how it goes over into the next.
//!
//! Each transition consumes its stage, so that nothing can be done twice. Here: what the stages share. Before a forward:
//! [`admission`]; after it: [`forward`].

mod admission;
mod forward;

use std::rc::Rc;

use keybrake_contract::grant::Grant;
use keybrake_contract::ids::CommandId;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::{Admitted, Command, Release, ReleaseCause, Replay};

use super::effect::{Effect, HostEffect, Marks, Turn, Verdict};
use super::outbox::Hurry;
use super::request::{Line, Stage};
use crate::config::Vendor;
use crate::pack::Pack;
use crate::refusal::{self, Answer, RefusalView};

pub(super) use admission::{Asking, Parked, Reading, Recording, Reserving};
pub(super) use forward::{Forwarding, Settling, Streaming};

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

/// A last command is on its way.
#[derive(Debug)]
pub(super) struct Telling {
    pub id: CommandId,
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
        self.effects.push(Effect::Send(Hurry::AtOnce, command));
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
