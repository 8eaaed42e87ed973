//! SHA-256 digests as values: of vault keys, of requests (fingerprints), of commands.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::hexadecimal;

/// About so many bytes of parts are hashed at once.
const GATHERED: usize = 1_024;

/// A SHA-256 digest. On the wire 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a list of parts, each preceded by its length, so that no two lists have the same bytes.
    #[must_use]
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        // Gathered first: the hasher takes one long piece in half the time of many short ones.
        let mut gathered = Vec::with_capacity(GATHERED);
        for part in parts {
            gathered
                .extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            if part.len() <= GATHERED {
                gathered.extend_from_slice(part);
            }
            if gathered.len() >= GATHERED || part.len() > GATHERED {
                hasher.update(&gathered);
                gathered.clear();
            }
            if part.len() > GATHERED {
                hasher.update(part);
            }
        }
        hasher.update(&gathered);
        Self(hasher.finalize().into())
    }

    /// From the 32 bytes themselves.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal::write(&self.0, formatter)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({self})")
    }
}

impl TryFrom<&str> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: &str) -> Result<Self, Self::Error> {
        hexadecimal::parse(text).map(Self).ok_or(InvalidDigest)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        hexadecimal::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hexadecimal::deserialize(deserializer).map(Self)
    }
}

/// A text that is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidDigest;

impl fmt::Display for InvalidDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not 64 lower-case hexadecimal digits")
    }
}

impl std::error::Error for InvalidDigest {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        let joined = |parts: &[&str]| Digest::of_parts(parts.iter().map(|part| part.as_bytes()));
        assert_ne!(joined(&["ab", "c"]), joined(&["a", "bc"]));
        assert_ne!(joined(&["ab"]), joined(&["ab", ""]));
    }

    #[test]
    fn parts_of_any_length_are_hashed_with_their_lengths() {
        let part = |length: usize| vec![b'x'; length];
        for lengths in [
            vec![],
            vec![0, 0],
            vec![3, 1_015, 1],
            vec![1_015, 1_016, 1_017],
            vec![1_023, 1_024, 1_025, 5, 70_000, 0, 9],
        ] {
            let parts: Vec<Vec<u8>> = lengths.iter().map(|length| part(*length)).collect();
            let mut whole = Vec::new();
            for part in &parts {
                whole.extend_from_slice(&(part.len() as u64).to_be_bytes());
                whole.extend_from_slice(part);
            }
            let found = Digest::of_parts(parts.iter().map(Vec::as_slice));
            assert_eq!(found, Digest::of(&whole), "{lengths:?}");
        }
    }

    #[test]
    fn text_form_is_lower_case_hex_and_nothing_else() {
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(Digest::try_from(text), Ok(digest));
        for wrong in [
            text.to_uppercase(),
            text[1..].to_owned(),
            format!("{text}0"),
            "z".repeat(64),
        ] {
            assert_eq!(Digest::try_from(wrong.as_str()), Err(InvalidDigest));
        }
    }
}
