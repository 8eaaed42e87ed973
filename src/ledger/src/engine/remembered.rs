//! Answers of commands as they are remembered: one letter, then what cannot be told from elsewhere.

use keybrake_contract::grant::Grant;
use keybrake_contract::ids::HoldId;

use crate::store::RequestNumber;

/// What is remembered of a command that is no request of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Remembered {
    /// `recorded`.
    Recorded,
    /// `released`.
    Released,
    /// A release came for it before it came itself; nothing of it is known.
    Tombstone,
    /// `in_flight`.
    InFlight,
    /// `admitted` as a later attempt.
    Attempt {
        /// Of this hold.
        hold: HoldId,
        /// Its number.
        attempt: u32,
    },
    /// `replay` of the answer of this request.
    Replay(RequestNumber),
    /// `grant`.
    Grant(Box<Grant>),
}

impl Remembered {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Recorded => b"R".to_vec(),
            Self::Released => b"L".to_vec(),
            Self::Tombstone => b"T".to_vec(),
            Self::InFlight => b"F".to_vec(),
            Self::Attempt { hold, attempt } => {
                let mut bytes = b"A".to_vec();
                bytes.extend_from_slice(&attempt.to_be_bytes());
                bytes.extend_from_slice(hold.as_bytes());
                bytes
            }
            Self::Replay(number) => {
                let mut bytes = b"P".to_vec();
                bytes.extend_from_slice(&number.to_be_bytes());
                bytes
            }
            Self::Grant(grant) => {
                let mut bytes = b"G".to_vec();
                bytes.extend(serde_json::to_vec(grant).unwrap_or_default());
                bytes
            }
        }
    }

    /// From bytes; `None` when they are none of ours.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (letter, rest) = bytes.split_first()?;
        Some(match (letter, rest) {
            (b'R', []) => Self::Recorded,
            (b'L', []) => Self::Released,
            (b'T', []) => Self::Tombstone,
            (b'F', []) => Self::InFlight,
            (b'A', rest) => {
                let (attempt, hold) = rest.split_first_chunk::<4>()?;
                Self::Attempt {
                    hold: HoldId::from_bytes(hold.try_into().ok()?),
                    attempt: u32::from_be_bytes(*attempt),
                }
            }
            (b'P', rest) => Self::Replay(i64::from_be_bytes(rest.try_into().ok()?)),
            (b'G', rest) => Self::Grant(serde_json::from_slice(rest).ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use keybrake_contract::grant::{AllowedEndpoint, IdempotencyRule};

    use super::*;

    #[test]
    fn every_answer_comes_back_as_it_was() {
        let grant = Grant {
            key_id: "vk_1".to_owned(),
            version: 3,
            vendor: "stripe".to_owned(),
            allowed_endpoints: vec![AllowedEndpoint::Operation("charges.create".to_owned())],
            constraints: std::collections::BTreeMap::new(),
            vendor_accounts: Vec::new(),
            idempotency: IdempotencyRule::Required,
            duplicate_fields: Vec::new(),
        };
        for remembered in [
            Remembered::Recorded,
            Remembered::Released,
            Remembered::Tombstone,
            Remembered::InFlight,
            Remembered::Attempt {
                hold: HoldId::new([7; 16], 9),
                attempt: 2,
            },
            Remembered::Replay(i64::MAX),
            Remembered::Grant(Box::new(grant)),
        ] {
            assert_eq!(
                Remembered::from_bytes(&remembered.to_bytes()),
                Some(remembered)
            );
        }
        for strange in [&b""[..], b"X", b"RR", b"A123", b"P1", b"G{"] {
            assert_eq!(Remembered::from_bytes(strange), None);
        }
    }
}
