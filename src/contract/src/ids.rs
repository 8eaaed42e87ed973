//! Identifiers that cross the wire.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hexadecimal;

/// Names one command of one filter instance: a 128-bit nonce drawn when the VM was configured and a 64-bit counter.
/// On the wire 48 lower-case hexadecimal digits. The id of a reserve names its hold as well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId([u8; 24]);

/// Names a hold: the id of the reserve that made it.
pub type HoldId = CommandId;

impl CommandId {
    /// The id with this nonce and counter.
    #[must_use]
    pub fn new(nonce: [u8; 16], counter: u64) -> Self {
        let mut bytes = [0_u8; 24];
        let (head, tail) = bytes.split_at_mut(16);
        head.copy_from_slice(&nonce);
        tail.copy_from_slice(&counter.to_be_bytes());
        Self(bytes)
    }

    /// From the 24 bytes themselves.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 24]) -> Self {
        Self(bytes)
    }

    /// The 24 bytes: nonce, then counter, big-endian, so that ids of one instance sort by age.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal::write(&self.0, formatter)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CommandId({self})")
    }
}

impl TryFrom<&str> for CommandId {
    type Error = InvalidId;
    fn try_from(text: &str) -> Result<Self, Self::Error> {
        hexadecimal::parse(text).map(Self).ok_or(InvalidId)
    }
}

impl Serialize for CommandId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        hexadecimal::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for CommandId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hexadecimal::deserialize(deserializer).map(Self)
    }
}

/// A text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not 48 lower-case hexadecimal digits")
    }
}

impl std::error::Error for InvalidId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_instance_sort_by_age() {
        let nonce = [7; 16];
        assert!(CommandId::new(nonce, 255) < CommandId::new(nonce, 256));
        let id = CommandId::new(nonce, 1);
        assert_eq!(id.to_string(), format!("{}{:016x}", "07".repeat(16), 1));
        assert_eq!(CommandId::try_from(id.to_string().as_str()), Ok(id));
        assert_eq!(CommandId::try_from("00"), Err(InvalidId));
    }
}
