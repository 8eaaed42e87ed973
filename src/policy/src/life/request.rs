//! The state machine of one request: which event leads where.
//!
//! Here: the enum of stages and the one function that matches on (stage, event). What a stage holds and how it goes
//! over into the next is in `stage`. A late or unknown answer is an explicit branch: it changes nothing.

use keybrake_contract::digest::Digest;
use keybrake_contract::ids::CommandId;
use keybrake_contract::wire::CommandResult;

use super::effect::{Event, Turn, VendorFailure};
use super::stage::{
    Asking, Forwarding, Ledger, Parked, Reading, Recording, Reserving, Settling, Streaming, Telling,
};
use super::{Millis, RequestNumber, StreamId};

/// One request, from the moment it can be read to the moment that the ledger knows all about it.
#[derive(Debug)]
pub struct Request {
    pub(super) line: Line,
    stage: Stage,
}

/// What stays the same through all stages.
#[derive(Debug)]
pub(super) struct Line {
    pub number: RequestNumber,
    /// `None` when the client is gone, or has been answered.
    pub client: Option<StreamId>,
    /// Ours, for answers.
    pub request_id: String,
    /// Of its vault key, once it is known to have one.
    pub key_digest: Option<Digest>,
    /// When time alone will move this request on.
    pub wake_at: Option<Millis>,
}

/// Where a request stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its bytes are coming in.
    Reading(Reading),
    /// Its key's grant is being asked for.
    Asking(Asking),
    /// Its reserve is on its way.
    Reserving(Reserving),
    /// The same request is in flight already: it asks again in a moment.
    Parked(Parked),
    /// It is refused; the refusal is on its way to the record.
    Recording(Recording),
    /// The detached call is out.
    Forwarding(Forwarding),
    /// It is a read that goes through the router.
    Streaming(Streaming),
    /// Its outcome is on its way to the record; the client waits for that.
    Settling(Settling),
    /// A last command is on its way; nobody waits for it but the slot.
    Telling(Telling),
    /// Nothing is left to do.
    Done,
}

impl Request {
    /// A request of this client.
    #[must_use]
    pub fn new(number: RequestNumber, client: StreamId, request_id: &str) -> Self {
        Self {
            line: Line {
                number,
                client: Some(client),
                request_id: request_id.to_owned(),
                key_digest: None,
                wake_at: None,
            },
            stage: Stage::Reading(Reading),
        }
    }

    /// Whether nothing is left to do: the slot can be given back.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Whether it is a read on its way through the router.
    #[must_use]
    pub const fn is_streaming(&self) -> bool {
        matches!(self.stage, Stage::Streaming(_))
    }

    /// The vendor of a read on its way through the router.
    pub(super) const fn vendor(&self) -> Option<usize> {
        match &self.stage {
            Stage::Streaming(stage) => Some(stage.vendor),
            _ => None,
        }
    }

    /// When a [`Event::Tick`] will change something.
    #[must_use]
    pub const fn wake_at(&self) -> Option<Millis> {
        self.line.wake_at
    }

    /// Handles one event.
    pub fn on(&mut self, event: Event<'_>, turn: &mut Turn<'_>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Done);
        self.stage = on(stage, event, &mut self.line, turn);
    }

    #[cfg(test)]
    pub(super) const fn stage(&self) -> &Stage {
        &self.stage
    }
}

/// (stage, event) → stage, and effects in `turn`.
fn on(stage: Stage, event: Event<'_>, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
    if let Event::Tick = event {
        let due = line.wake_at.is_some_and(|at| turn.now >= at);
        return if due {
            on_due(stage, line, turn)
        } else {
            stage
        };
    }
    match (stage, event) {
        (Stage::Reading(stage), Event::Read(reading, grant)) => {
            stage.read(reading, grant, line, turn)
        }
        (Stage::Reading(stage), Event::Turned(turned)) => stage.turned(turned, line, turn),
        (Stage::Reading(_), Event::ClientGone) => Stage::Done,

        (Stage::Asking(stage), event) => match ledger(stage.id, event) {
            Heard::Ledger(said) => stage.heard(said, line, turn),
            Heard::ClientGone => Stage::Asking(stage).without_client(line),
            Heard::Else => Stage::Asking(stage),
        },
        (Stage::Reserving(stage), event) => match ledger(stage.id, event) {
            Heard::Ledger(said) => stage.heard(said, line, turn),
            Heard::ClientGone => stage.client_gone(line, turn),
            Heard::Else => Stage::Reserving(stage),
        },
        (Stage::Recording(stage), event) => match ledger(stage.id, event) {
            Heard::Ledger(said) => stage.heard(said, line, turn),
            Heard::ClientGone => Stage::Recording(stage).without_client(line),
            Heard::Else => Stage::Recording(stage),
        },
        (Stage::Settling(stage), event) => match ledger(stage.id, event) {
            Heard::Ledger(said) => stage.heard(&said, line, turn),
            Heard::ClientGone => Stage::Settling(stage).without_client(line),
            Heard::Else => Stage::Settling(stage),
        },
        (Stage::Telling(stage), event) => match ledger(stage.id, event) {
            Heard::Ledger(_) => Stage::Done,
            Heard::ClientGone => Stage::Telling(stage).without_client(line),
            Heard::Else => Stage::Telling(stage),
        },

        (Stage::Parked(_), Event::ClientGone) => Stage::Done,

        (Stage::Forwarding(stage), Event::VendorAnswered(answer)) => {
            stage.answered(&answer, line, turn)
        }
        (Stage::Forwarding(stage), Event::VendorFailed(failure)) => {
            stage.failed(failure, line, turn)
        }
        (stage @ Stage::Forwarding(_), Event::ClientGone) => stage.without_client(line),

        (Stage::Streaming(stage), Event::ReadAnswered(answer)) => stage.answered(answer),
        (Stage::Streaming(stage), Event::ReadEnded) => stage.ended(line, turn),
        (Stage::Streaming(stage), Event::ClientGone) => stage.abandoned(line, turn),

        // Late, or of another stage: an answer to a command that this stage does not wait for, a vendor's answer
        // after the time was called, a response that is only our own reply on its way out.
        (stage, _) => stage,
    }
}

/// Time alone moves it on.
fn on_due(stage: Stage, line: &mut Line, turn: &mut Turn<'_>) -> Stage {
    line.wake_at = None;
    match stage {
        Stage::Parked(stage) => stage.due(line, turn),
        Stage::Forwarding(stage) => stage.failed(VendorFailure::TimedOut, line, turn),
        Stage::Settling(stage) => stage.waited_enough(line, turn),
        stage => stage,
    }
}

impl Stage {
    /// Goes on, for the record alone.
    fn without_client(self, line: &mut Line) -> Self {
        line.client = None;
        self
    }
}

/// An event, for a stage that waits for the answer to one command.
enum Heard {
    Ledger(Ledger),
    ClientGone,
    Else,
}

fn ledger(awaited: CommandId, event: Event<'_>) -> Heard {
    match event {
        Event::Answered(id, result) if id == awaited => Heard::Ledger(match result {
            CommandResult::Admitted(admitted) => Ledger::Admitted(admitted),
            CommandResult::Grant(grant) => Ledger::Grant((*grant).into()),
            CommandResult::Refused(refusal) => Ledger::Refused(refusal),
            CommandResult::Replay(replay) => Ledger::Replay(replay),
            CommandResult::InFlight => Ledger::InFlight,
            CommandResult::Cancelled => Ledger::Cancelled,
            CommandResult::Recorded => Ledger::Recorded,
            CommandResult::Released => Ledger::Released,
            CommandResult::InvalidCommand(_) | CommandResult::CommandIdConflict => {
                Ledger::NotExecuted
            }
        }),
        Event::GivenUp(id) if id == awaited => Heard::Ledger(Ledger::Silent),
        Event::ClientGone => Heard::ClientGone,
        _ => Heard::Else,
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
