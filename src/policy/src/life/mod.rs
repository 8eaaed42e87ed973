//! The life of a request, from values alone: events in, effects out.
//!
//! Here: the state machine of one request ([`request`]), the outbox of commands ([`outbox`]), the grants a worker
//! knows ([`grants`]), the counts of refusals without a key ([`counts`]), and [`gate`], which holds them together for
//! one worker. Not here: host calls, and how a request is read, checked, judged or answered. Time is a number of
//! milliseconds of the caller's monotonic clock.

pub mod counts;
pub mod effect;
pub mod gate;
pub mod grants;
pub mod outbox;
pub mod request;
mod stage;

use keybrake_contract::ids::CommandId;

/// Milliseconds of the worker's monotonic clock, or a span of them.
pub type Millis = u64;

/// Names a request within one worker. Never used twice: a request outlives its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNumber(pub u64);

/// Names the stream of a client within one worker, as the host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// Draws command ids: the nonce of the VM, then a counter.
#[derive(Debug)]
pub struct Ids {
    nonce: [u8; 16],
    counter: u64,
}

impl Ids {
    /// Ids with this nonce, which must be random and used by nobody else.
    #[must_use]
    pub const fn new(nonce: [u8; 16]) -> Self {
        Self { nonce, counter: 0 }
    }

    /// One that was never drawn before.
    pub fn draw(&mut self) -> CommandId {
        self.counter = self.counter.saturating_add(1);
        CommandId::new(self.nonce, self.counter)
    }
}
