//! Bytes of a fixed number as lower-case hexadecimal digits: the text form of digests and ids.
//!
//! Each request has about ten of these, so that none of them takes a heap allocation.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Writes the digits.
pub(crate) fn write<const N: usize>(
    bytes: &[u8; N],
    formatter: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    with_digits(bytes, |digits| formatter.write_str(digits))
}

/// Serialises the digits as a string.
pub(crate) fn serialize<const N: usize, S: Serializer>(
    bytes: &[u8; N],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    with_digits(bytes, |digits| serializer.serialize_str(digits))
}

/// Reads a string of exactly so many digits.
pub(crate) fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    deserializer.deserialize_str(Digits::<N>)
}

/// The bytes that this text stands for. `None`: it is not exactly so many lower-case digits.
pub(crate) fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

fn with_digits<const N: usize, T>(bytes: &[u8; N], then: impl FnOnce(&str) -> T) -> T {
    let mut digits = [[0_u8; 2]; N];
    let digits = digits.as_flattened_mut();
    // The room is exactly as long as the digits, and they are ASCII: neither can fail.
    let text = match hex::encode_to_slice(bytes, digits) {
        Ok(()) => std::str::from_utf8(digits).unwrap_or_default(),
        Err(_) => "",
    };
    then(text)
}

struct Digits<const N: usize>;

impl<const N: usize> Visitor<'_> for Digits<N> {
    type Value = [u8; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} lower-case hexadecimal digits",
            N.saturating_mul(2)
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        parse(text).ok_or_else(|| {
            E::custom(format_args!(
                "not {} lower-case hexadecimal digits",
                N.saturating_mul(2)
            ))
        })
    }
}
