//! From a request that can be read to its admission, or to its refusal.
//!
//! Here: the stages in which nothing has been forwarded. A no that only the ledger can make final is told to the client
//! after the ledger has it.

use std::rc::Rc;

use keybrake_contract::grant::Grant;
use keybrake_contract::ids::CommandId;
use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::{Admitted, Command, ReleaseCause, Reserve};

use super::super::Millis;
use super::super::effect::{Effect, Hold, Marks, Turn, Verdict};
use super::super::request::{Line, Stage};
use super::{Ledger, forward, refused, release, tell_unavailable, unavailable};
use crate::authorize::{Denied, Permit, authorize};
use crate::read::{self, Turned};
use crate::refusal::{self, RefusalView};

/// How often the ledger may answer with yet another grant before the request is given up.
const MAX_GRANTS: u32 = 4;

/// First pause of a parked request.
const FIRST_PARK_MS: Millis = 50;

/// Longest pause of a parked request.
const LONGEST_PARK_MS: Millis = 1_000;

/// The bytes of the request are coming in.
#[derive(Debug)]
pub(in super::super) struct Reading;

/// The first reserve, without a grant version, is on its way: its answer is the grant.
#[derive(Debug)]
pub(in super::super) struct Asking {
    pub id: CommandId,
    reading: Box<read::Reading>,
}

/// A reserve is on its way.
#[derive(Debug)]
pub(in super::super) struct Reserving {
    pub id: CommandId,
    permit: Permit,
    sent_at: Millis,
    patience: Patience,
}

/// An equal request is in flight: this one asks again in a moment.
#[derive(Debug)]
pub(in super::super) struct Parked {
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
pub(in super::super) struct Recording {
    pub id: CommandId,
    no: No,
}

#[derive(Debug)]
enum No {
    Turned(Box<Turned>),
    Denied(Box<Denied>, Patience),
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
        forward::begin(self.permit, Hold::admitted(admitted), self.id, line, turn)
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
