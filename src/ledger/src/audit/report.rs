//! What a verification found.

use super::heads::PublicKey;

/// What `keybrake audit verify` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The chain's id.
    pub chain: String,
    /// Events that were read and found right, from the first.
    pub events: u64,
    /// The last one found right: its number and hash (64 hexadecimal digits; of the chain's start when there is none).
    pub head: (u64, String),
    /// The newest signed head that was met and found right.
    pub signed: Option<SignedUpTo>,
    /// How many heads that were kept elsewhere were met and found right.
    pub kept_heads: u64,
    /// Entries that agree with their events. `None`: there were only events to look at.
    pub entries: Option<u64>,
    /// The first thing that is not as it was written; `None`: all is whole.
    pub broken: Option<Broken>,
}

/// A signed head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedUpTo {
    /// The event that it stands at.
    pub seq: u64,
    /// When it was signed, in milliseconds since 1970.
    pub at: i64,
    /// By whom.
    pub public_key: PublicKey,
}

/// Where and how a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The event does not hash to what is stored with it, or does not follow from the one before.
    #[error("event {seq} was edited or moved")]
    Altered {
        /// Its number.
        seq: u64,
    },
    /// An event is missing in the middle.
    #[error("event {seq} is missing")]
    Missing {
        /// Its number.
        seq: u64,
    },
    /// An event stands twice, or after a later one.
    #[error("event {seq} stands twice or out of its place")]
    Repeated {
        /// Its number.
        seq: u64,
    },
    /// Events at the end are missing: the head that the database keeps is further on.
    #[error("the chain was cut off after event {last}: the head is event {head}")]
    CutOff {
        /// Last event that is there.
        last: u64,
        /// The event that the head names.
        head: u64,
    },
    /// The last event is there, but is not the one the head names.
    #[error("event {seq} is not the head that was recorded")]
    NotTheHead {
        /// Its number.
        seq: u64,
    },
    /// The chain fits together, but is not the one that was signed.
    #[error("event {from} or a later one up to event {to} is not the one that was signed")]
    NotAsSigned {
        /// The first event that no right head covers.
        from: u64,
        /// The event whose head was signed.
        to: u64,
    },
    /// A head further on was signed.
    #[error(
        "event {missing} is missing: the chain ends before it, and the head of event {signed} was signed (its tail was cut off, \
         or an older database was put back)"
    )]
    BehindSigned {
        /// The first event that is not there.
        missing: u64,
        /// The event whose head was signed.
        signed: u64,
    },
    /// A signed head that is none, or that another chain's or key's.
    #[error("the signed head after event {after} is worth nothing: {why}")]
    WorthlessHead {
        /// The event before it.
        after: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No head is signed by a key that is relied on.
    #[error("event {from} and those after it are not signed")]
    NotSigned {
        /// The first event without a signature.
        from: u64,
    },
    /// The kept heads are of other chains.
    #[error("the kept heads are of another chain: {chain}")]
    OtherChain {
        /// One that they name.
        chain: String,
    },
    /// An entry is not what its events say.
    #[error("the entry of request {id} (event {event}) does not agree with its events: {what}")]
    Entry {
        /// Its id.
        id: String,
        /// The event that it was decided in.
        event: u64,
        /// What differs.
        what: &'static str,
    },
    /// There is an event of a request, but no entry.
    #[error("the entry of request {id} (event {event}) is missing")]
    NoEntry {
        /// Its id.
        id: String,
        /// The event that it was decided in.
        event: u64,
    },
    /// A key is not what its events say.
    #[error("the key {key_id} does not agree with its events: {what}")]
    Key {
        /// Its handle.
        key_id: String,
        /// What differs.
        what: &'static str,
    },
    /// A budget is not what its events say.
    #[error("the budget {name} does not agree with its events: {what}")]
    Budget {
        /// Its name.
        name: String,
        /// What differs.
        what: &'static str,
    },
    /// A balance is not the sum of its entries, or not of the cap that was set.
    #[error("the balance of {of} in window {window} does not agree with its entries: {what}")]
    Balance {
        /// Of which key or budget.
        of: String,
        /// Its window.
        window: String,
        /// What differs.
        what: &'static str,
    },
}
