//! The 128 random bits that make the command ids of one VM unlike those of every other.

use std::hash::{BuildHasher, RandomState};

/// Draws a nonce. `RandomState` takes 128 bits from the host's `random_get`, anew in each VM, each worker and after
/// each reload; SipHash under that key spreads them over two words.
pub(crate) fn draw() -> [u8; 16] {
    let keyed = RandomState::new();
    let mut nonce = [0_u8; 16];
    let (head, tail) = nonce.split_at_mut(8);
    head.copy_from_slice(&keyed.hash_one(0_u8).to_be_bytes());
    tail.copy_from_slice(&keyed.hash_one(1_u8).to_be_bytes());
    nonce
}

/// The nonce as text, for names that must be unlike those of every other VM.
pub(crate) fn text(nonce: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(nonce))
}
