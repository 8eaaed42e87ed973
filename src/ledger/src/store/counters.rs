//! Ids of commands as nonce and counter, so that a store can tell an id that is above all it knows without looking.

use keybrake_contract::ids::CommandId;

/// The lowest and the highest id with this nonce.
pub fn range(nonce: [u8; 16]) -> (CommandId, CommandId) {
    (CommandId::new(nonce, 0), CommandId::new(nonce, u64::MAX))
}

/// Nonce and counter of an id.
pub fn split(id: CommandId) -> ([u8; 16], u64) {
    let (mut nonce, mut counter) = ([0_u8; 16], [0_u8; 8]);
    let (head, tail) = id.as_bytes().split_at(16);
    nonce.copy_from_slice(head);
    counter.copy_from_slice(tail);
    (nonce, u64::from_be_bytes(counter))
}
