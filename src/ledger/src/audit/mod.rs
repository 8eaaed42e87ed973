//! The audit chain: what an event looks like, how it is chained and signed, how a chain is checked.
//!
//! Here: canonical events and their hashes, signed heads, what a verification finds. Not here: where they are kept (`store`),
//! when one is written or signed (`engine`), the files of key and heads (`signing`), the public entries (`model::Entry`).

mod balances;
mod chain;
mod event;
mod export;
mod facts;
mod heads;
mod projection;
mod report;
mod verify;

pub use chain::{next, start};
pub use event::{
    Alarm, BalanceAfter, CapRefused, Counted, Decided, Ended, Judged, Orphan, Replayed,
    SigningKeyChanged, Tombstone, Tripped, canonical,
};
pub use export::{ExportError, export, verify_export};
pub use facts::{budget_facts, key_facts};
pub use heads::{Head, InvalidHeads, NotHex, PublicKey, Signature, SignedHeads, SigningKey};
pub use report::{Broken, SignedUpTo, VerifyReport};
pub use verify::{Tail, Trust, Verifier, verify};
