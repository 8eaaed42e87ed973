//! What a request asks of its surroundings, and what they tell it.

use std::rc::Rc;

use keybrake_contract::digest::Digest;
use keybrake_contract::grant::Grant;
use keybrake_contract::ids::{CommandId, HoldId};
use keybrake_contract::wire::{Admitted, Command, CommandResult, CountedReason};

use super::outbox::Hurry;
use super::{Millis, RequestNumber, StreamId};
use crate::authorize::Permit;
use crate::outcome::VendorAnswer;
use crate::read::{Reading, Turned};
use crate::refusal::Answer;

/// Something that happened to a request. (No `Debug`: it may hold a body.)
pub enum Event<'a> {
    /// It was read. With the grant of its key, if that is known.
    Read(Box<Reading>, Option<Rc<Grant>>),
    /// It could not be read, or not allowed to be.
    Turned(Box<Turned>),
    /// The ledger answered one of its commands.
    Answered(CommandId, CommandResult),
    /// One of its commands got no answer in time.
    GivenUp(CommandId),
    /// Time has passed.
    Tick,
    /// The vendor answered the detached call.
    VendorAnswered(VendorAnswer<'a>),
    /// The detached call ended without an answer of the vendor.
    VendorFailed(VendorFailure),
    /// The vendor's response headers to a read are here.
    ReadAnswered(ReadAnswer),
    /// The response to a read is complete.
    ReadEnded,
    /// The client's stream is over.
    ClientGone,
}

/// How a detached call ended without an answer of the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VendorFailure {
    /// Envoy did not take the call.
    NotCalled,
    /// Envoy took it, and for certain no byte was sent.
    NotSent,
    /// The time was over.
    TimedOut,
    /// Anything else: it may have been executed.
    Broken,
}

/// What the vendor's response headers to a read say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAnswer {
    /// HTTP status.
    pub status: u16,
    /// The vendor's id of the request.
    pub vendor_request_id: Option<String>,
}

impl ReadAnswer {
    /// From response headers, pseudo headers included. `None`: there is no status in them.
    #[must_use]
    pub fn of_headers(headers: &[(Vec<u8>, Vec<u8>)], id_header: Option<&str>) -> Option<Self> {
        let value = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| name == wanted.as_bytes())
                .and_then(|(_, value)| std::str::from_utf8(value).ok())
        };
        // What cannot be printed safely is left out.
        let printable =
            |text: &&str| text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic());
        Some(Self {
            status: value(":status")?.parse().ok()?,
            vendor_request_id: id_header
                .and_then(value)
                .filter(printable)
                .map(str::to_owned),
        })
    }
}

/// The right to one forward. It comes only from the ledger's yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    id: HoldId,
    attempt: u32,
}

impl Hold {
    pub(super) const fn admitted(admitted: Admitted) -> Self {
        let Admitted {
            hold,
            attempt,
            forward_within_ms: _,
        } = admitted;
        Self { id: hold, attempt }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> HoldId {
        self.id
    }

    /// The number of the attempt.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// A call to the vendor, to be made by the root context.
#[derive(Debug, Clone)]
pub struct VendorCall {
    pub(super) permit: Rc<Permit>,
    pub(super) hold: Hold,
}

impl VendorCall {
    /// What is to be sent.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The right to send it.
    #[must_use]
    pub const fn hold(&self) -> &Hold {
        &self.hold
    }
}

/// A read that may go on through the router.
#[derive(Debug, Clone)]
pub struct ReadPass {
    pub(super) permit: Rc<Permit>,
    pub(super) hold: Hold,
}

impl ReadPass {
    /// What may go on.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The right to it.
    #[must_use]
    pub const fn hold(&self) -> &Hold {
        &self.hold
    }
}

/// How a request ended for its client. For access log and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It was forwarded.
    Admitted,
    /// It was refused.
    Refused,
    /// It got the stored answer.
    Replayed,
    /// It waited for an earlier one with its key in vain.
    InUse,
    /// It could not be decided, and was not forwarded.
    Unavailable,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 5] = [
        Self::Admitted,
        Self::Refused,
        Self::Replayed,
        Self::InUse,
        Self::Unavailable,
    ];

    /// As it stands in access log and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::Replayed => "replayed",
            Self::InUse => "in_use",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What the access log shall say about a request. Nothing of it comes from the request itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// How it ended.
    pub verdict: Verdict,
    /// What came of the forward; with a refusal its code.
    pub outcome: Option<&'static str>,
    /// The vendor's status.
    pub upstream_status: Option<u16>,
    /// The vendor's id of the request.
    pub vendor_request_id: Option<String>,
    /// Its hold.
    pub hold: Option<HoldId>,
}

/// What a request asks of its surroundings.
#[derive(Debug)]
pub enum Effect {
    /// Put this into the outbox.
    Send(Hurry, Command),
    /// Keep the grant of this key.
    KeepGrant(Digest, Rc<Grant>),
    /// Forget the grant of this key.
    ForgetGrant(Digest),
    /// Count a refusal without a valid key that came in by this vendor entry.
    Count(CountedReason, Option<usize>),
    /// Something for the host.
    Host(HostEffect),
}

/// What is done by host calls.
#[derive(Debug)]
pub enum HostEffect {
    /// Call the vendor from the root context, and tell the request what came of it.
    CallVendor(RequestNumber, VendorCall),
    /// Let the client's request go on through the router, as admitted.
    ResumeRead(StreamId, Marks, ReadPass),
    /// Answer the client. At most one per stream.
    Reply(StreamId, Marks, Answer),
}

/// What a request can see while it handles an event.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The plugin configuration.
    pub config: &'a crate::config::PluginConfig,
    /// Now.
    pub now: Millis,
    /// Where command ids come from.
    pub ids: &'a mut super::Ids,
    /// What is asked for, in order.
    pub effects: &'a mut Vec<Effect>,
}
