//! Signed heads: who holds one knows every event up to it, and knows later whether one of them was changed or is gone.
//!
//! Here: what is signed and how a signature is checked. Not here: the key's file and the file of kept heads (`signing`), when
//! heads are signed (`engine`).

use std::fmt;

use keybrake_contract::digest::Digest;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// What stands before the signed text, so that a signature of ours can never be taken for one of something else.
const DOMAIN: &[u8] = b"keybrake heads 1\n";

/// The last event of a chain at some time. Its hash stands for all events before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Names the chain.
    pub chain: String,
    /// The event's hash.
    pub hash: Digest,
    /// The event's number, from 1.
    pub seq: u64,
}

/// The heads of all chains at some time, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHeads {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// One for each chain that has an event.
    pub heads: Vec<Head>,
    /// The key that its signature is checked with.
    pub public_key: PublicKey,
    /// Ed25519 over [`signed_text`].
    pub signature: Signature,
}

/// An Ed25519 public key: 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// An Ed25519 signature: 128 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; 64]);

/// A text that is not so many lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {0} lower-case hexadecimal digits")]
pub struct NotHex(usize);

macro_rules! hexadecimal {
    ($kind:ident, $digits:literal) => {
        impl fmt::Display for $kind {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $kind {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($kind), "({})"), self)
            }
        }

        impl TryFrom<String> for $kind {
            type Error = NotHex;
            fn try_from(text: String) -> Result<Self, NotHex> {
                text.parse()
            }
        }

        impl std::str::FromStr for $kind {
            type Err = NotHex;
            fn from_str(text: &str) -> Result<Self, NotHex> {
                let mut bytes = [0_u8; $digits / 2];
                if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(NotHex($digits));
                }
                hex::decode_to_slice(text, &mut bytes).map_err(|_| NotHex($digits))?;
                Ok(Self(bytes))
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    };
}

hexadecimal!(PublicKey, 64);
hexadecimal!(Signature, 128);

/// The private key. It can sign, and nothing shows it.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// Not an Ed25519 private key in PKCS#8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 private key")]
pub struct NotASigningKey;

impl SigningKey {
    /// From PKCS#8, as `openssl genpkey -algorithm ed25519` writes it (in DER).
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, NotASigningKey> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| NotASigningKey)?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map(PublicKey).map_err(|_| NotASigningKey)?;
        Ok(Self { pair, public })
    }

    /// What a signature is checked with.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs heads.
    ///
    /// # Errors
    /// Never for heads: their text is always JSON.
    pub fn sign(&self, at: i64, heads: Vec<Head>) -> Result<SignedHeads, serde_json::Error> {
        let text = signed_text(at, &heads, self.public)?;
        let mut signature = [0_u8; 64];
        for (to, from) in signature.iter_mut().zip(self.pair.sign(&text).as_ref()) {
            *to = *from;
        }
        Ok(SignedHeads {
            at,
            heads,
            public_key: self.public,
            signature: Signature(signature),
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey")
    }
}

impl SignedHeads {
    /// Reads one line of kept heads, and checks its signature with the key it names.
    ///
    /// # Errors
    /// [`InvalidHeads`].
    pub fn parse(line: &str) -> Result<Self, InvalidHeads> {
        let read: Self = serde_json::from_str(line).map_err(|_| InvalidHeads::Unreadable)?;
        let text = signed_text(read.at, &read.heads, read.public_key)
            .map_err(|_| InvalidHeads::Unreadable)?;
        UnparsedPublicKey::new(&ED25519, read.public_key.0)
            .verify(&text, &read.signature.0)
            .map_err(|_| InvalidHeads::Forged)?;
        Ok(read)
    }

    /// One line of JSON, members sorted by name.
    ///
    /// # Errors
    /// Never for heads.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// Why signed heads are worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeads {
    /// Not JSON of this form.
    #[error("not signed heads")]
    Unreadable,
    /// The signature is not of this text and key.
    #[error("the signature is wrong")]
    Forged,
}

/// `keybrake heads 1`, a line feed, then the members other than the signature as JSON, sorted by name.
fn signed_text(
    at: i64,
    heads: &[Head],
    public_key: PublicKey,
) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Signed<'a> {
        at: i64,
        heads: &'a [Head],
        public_key: PublicKey,
    }
    let mut text = DOMAIN.to_vec();
    let signed = Signed {
        at,
        heads,
        public_key,
    };
    serde_json::to_writer(&mut text, &signed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 1: a published key, nobody's secret.
    const PUBLISHED: &str = "302e020100300506032b6570042204209d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

    fn key() -> SigningKey {
        SigningKey::from_pkcs8(&hex::decode(PUBLISHED).unwrap()).unwrap()
    }

    fn signed() -> SignedHeads {
        let head = Head {
            chain: "c".to_owned(),
            hash: Digest::of(b"x"),
            seq: 7,
        };
        key().sign(5, vec![head]).unwrap()
    }

    #[test]
    fn what_was_signed_is_read_again_and_a_changed_text_is_not() {
        let line = signed().to_line().unwrap();
        assert_eq!(SignedHeads::parse(&line), Ok(signed()));
        for (from, to) in [
            ("\"seq\":7", "\"seq\":8"),
            ("\"at\":5", "\"at\":6"),
            ("\"chain\":\"c\"", "\"chain\":\"d\""),
        ] {
            let changed = line.replace(from, to);
            assert_ne!(changed, line);
            assert_eq!(
                SignedHeads::parse(&changed),
                Err(InvalidHeads::Forged),
                "{to}"
            );
        }
        let other = line.replace("\"at\"", "\"when\"");
        assert_eq!(SignedHeads::parse(&other), Err(InvalidHeads::Unreadable));
    }

    #[test]
    fn a_line_is_canonical_and_names_the_public_key() {
        let line = signed().to_line().unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), line);
        assert_eq!(value["public_key"], key().public().to_string());
        assert_eq!(format!("{:?}", key()), "SigningKey");
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        assert_eq!(SigningKey::from_pkcs8(b"0").err(), Some(NotASigningKey));
        assert_eq!("ab".parse::<PublicKey>(), Err(NotHex(64)));
        assert_eq!("AB".repeat(32).parse::<PublicKey>(), Err(NotHex(64)));
    }
}
