//! The text form of a vault key: `vault_key_`, 48 hexadecimal digits of randomness, 8 of checksum.
//!
//! The checksum lets the filter turn away texts that never were a vault key without asking anybody.

use crate::digest::Digest;

/// What every vault key begins with.
pub const PREFIX: &str = "vault_key_";

/// Random bytes in a key (192 bits).
pub const RANDOM_BYTES: usize = 24;

const CHECKSUM_BYTES: usize = 4;

/// The text of the vault key with these random bytes. The caller shows it once and forgets it.
#[must_use]
pub fn compose(random: [u8; RANDOM_BYTES]) -> String {
    let body = hex::encode(random);
    format!("{PREFIX}{body}{}", checksum(&body))
}

/// The digest of a presented vault key, if its form and checksum are right. This is all that is kept of it.
///
/// # Errors
/// [`Malformed`] when it cannot be a vault key.
pub fn digest(presented: &[u8]) -> Result<Digest, Malformed> {
    let text = std::str::from_utf8(presented).map_err(|_| Malformed)?;
    let rest = text.strip_prefix(PREFIX).ok_or(Malformed)?;
    let (body, sum) = rest
        .split_at_checked(RANDOM_BYTES.saturating_mul(2))
        .ok_or(Malformed)?;
    let is_hex = body
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex || checksum(body) != sum {
        return Err(Malformed);
    }
    Ok(Digest::of(presented))
}

fn checksum(body: &str) -> String {
    let digest = Digest::of_parts([PREFIX.as_bytes(), body.as_bytes()]);
    hex::encode(digest.as_bytes().get(..CHECKSUM_BYTES).unwrap_or_default())
}

/// What was presented is not a vault key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_character_off_is_malformed() {
        let key = compose([9; RANDOM_BYTES]);
        assert_eq!(key.len(), PREFIX.len() + 56);
        assert_eq!(digest(key.as_bytes()), Ok(Digest::of(key.as_bytes())));
        for position in 0..key.len() {
            let mut wrong = key.clone().into_bytes();
            wrong[position] ^= 1;
            assert_eq!(digest(&wrong), Err(Malformed), "position {position}");
        }
        for wrong in [
            "",
            "vault_key_",
            "sk_live_fake",
            &key[1..],
            &format!("{key}0"),
            &key.to_uppercase(),
        ] {
            assert_eq!(digest(wrong.as_bytes()), Err(Malformed), "{wrong:?}");
        }
    }
}
