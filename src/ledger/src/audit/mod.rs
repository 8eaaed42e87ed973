//! The audit chain: what an event looks like, how it is chained, how a chain is checked.
//!
//! Here: canonical events and their hashes. Not here: where they are kept (`store`), when one is written (`engine`), the public
//! entries (`model::Entry`).

mod chain;
mod event;
mod verify;

pub use chain::{next, start};
pub use event::{
    Alarm, BalanceAfter, CapRefused, Counted, Decided, Ended, Judged, Orphan, Replayed, Tombstone,
    canonical,
};
pub use verify::verify;
