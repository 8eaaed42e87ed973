//! One link: `hash = SHA-256(chain id, number, hash before, canonical event)`.

use keybrake_contract::digest::Digest;

use crate::store::ChainHead;

/// What the first event follows.
#[must_use]
pub const fn start() -> Digest {
    Digest::from_bytes([0; 32])
}

/// The head after one more event.
#[must_use]
pub fn next(head: &ChainHead, at: i64, body: &[u8]) -> ChainHead {
    let seq = head.seq.saturating_add(1);
    ChainHead {
        chain: head.chain.clone(),
        seq,
        hash: Digest::of_parts([
            head.chain.as_bytes(),
            &seq.to_be_bytes(),
            head.hash.as_bytes(),
            body,
        ]),
        at,
    }
}
