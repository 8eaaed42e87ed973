//! `application/x-www-form-urlencoded`, strictly: accepted is only what Rack, PHP-like and Python readers all take for
//! the same parameters. The vendors' SDKs write nothing else.

use std::collections::BTreeMap;

use keybrake_text::bytes::{self, Plain};

use super::fields::{Field, Fields, Kind, MAX_DEPTH, MAX_FIELDS, Unreadable, cut};

/// Reads a body or a query. Empty input has no fields.
pub(crate) fn parse(bytes: &[u8]) -> Result<Fields, Unreadable> {
    if bytes.is_empty() {
        return Ok(Fields::default());
    }
    let count = bytes.iter().filter(|byte| **byte == b'&').count();
    if count >= MAX_FIELDS {
        return Err(Unreadable::whole("more than 1000 parameters"));
    }
    // A letter of which one byte is encoded and the next one is not is decoded by some readers and not by others.
    std::str::from_utf8(bytes).map_err(|_| not_text())?;
    // Told of all pairs at once, so that only a body that is refused is looked through pair by pair.
    let plain = bytes::has_plain(bytes);
    let mut fields = Vec::with_capacity(count.saturating_add(1));
    // Name of an unindexed array → how many elements it has so far.
    let mut arrays: BTreeMap<String, usize> = BTreeMap::new();
    for pair in bytes.split(|byte| *byte == b'&') {
        // Older readers split at `;`, too. Control characters and spaces are never written plainly.
        if plain == Plain::Found && bytes::has_plain(pair) == Plain::Found {
            return Err(Unreadable::whole(
                "a character that must be percent-encoded",
            ));
        }
        let (name, value) = decode_pair(pair)?;
        check_name(&name)?;
        let name = match name.strip_suffix("[]") {
            None => name,
            Some(array) => {
                let next = arrays.entry(array.to_owned()).or_default();
                let element = format!("{array}[{next}]");
                *next = next.saturating_add(1);
                element
            }
        };
        fields.push(Field {
            name,
            value,
            kind: Kind::Text,
        });
    }
    let fields = Fields::collect(fields)?;
    for (array, count) in arrays {
        refuse_mixed_array(&fields, &array, count)?;
    }
    Ok(fields)
}

/// `a[]=1&a[x]=2`: some readers take `x` for a key, others drop it.
fn refuse_mixed_array(fields: &Fields, array: &str, count: usize) -> Result<(), Unreadable> {
    let members = fields.group(array).count();
    if members == count {
        Ok(())
    } else {
        Err(Unreadable::field(
            array,
            "mixes elements with and without an index",
        ))
    }
}

fn decode_pair(pair: &[u8]) -> Result<(String, String), Unreadable> {
    let at = pair.iter().position(|byte| *byte == b'=').ok_or_else(|| {
        Unreadable::whole("a parameter without `=`; a form is NAME=VALUE, joined by `&`")
    })?;
    let name = decode(pair.get(..at).unwrap_or_default())?;
    let value = decode(pair.get(at.saturating_add(1)..).unwrap_or_default())?;
    Ok((name, value))
}

fn decode(bytes: &[u8]) -> Result<String, Unreadable> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut nul = false;
    // What needs no decoding is copied in one piece.
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'+' | b'%')) {
        decoded.extend_from_slice(rest.get(..at).unwrap_or_default());
        rest = rest.get(at..).unwrap_or_default();
        let (byte, length) = match rest {
            [b'%', high, low, ..] => (hex_digit(*high)? << 4 | hex_digit(*low)?, 3),
            [b'%', ..] => return Err(cut_short()),
            _ => (b' ', 1),
        };
        nul |= byte == 0;
        decoded.push(byte);
        rest = rest.get(length..).unwrap_or_default();
    }
    decoded.extend_from_slice(rest);
    if nul {
        return Err(Unreadable::whole("a NUL character"));
    }
    String::from_utf8(decoded).map_err(|_| not_text())
}

#[cold]
fn not_text() -> Unreadable {
    Unreadable::whole("bytes that are not UTF-8")
}

fn hex_digit(digit: u8) -> Result<u8, Unreadable> {
    match digit {
        b'0'..=b'9' => Ok(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Ok(digit.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Ok(digit.wrapping_sub(b'A').wrapping_add(10)),
        _ => Err(cut_short()),
    }
}

#[cold]
fn cut_short() -> Unreadable {
    Unreadable::whole("a percent sign without two hexadecimal digits")
}

/// `name`, `name[key]`, `name[key][]`: a base of letters, digits and `_`, keys without brackets and control
/// characters, `[]` at the end only.
fn check_name(name: &str) -> Result<(), Unreadable> {
    let wrong = || {
        Unreadable::field(
            name,
            "is not a parameter name that can be read in only one way",
        )
    };
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let (base, mut rest) = match cut(name, b'[') {
        None => (name, None),
        Some((base, rest)) => (base, Some(rest)),
    };
    if base.is_empty() || !plain(base) {
        return Err(wrong());
    }
    let mut depth = 1_usize;
    // What follows an opening bracket.
    while let Some(inner) = rest {
        let (key, after) = cut(inner, b']').ok_or_else(wrong)?;
        let unindexed = key.is_empty();
        if (unindexed && !after.is_empty())
            || !(plain(key)
                || !(key.contains('[') || key.trim() != key || key.chars().any(char::is_control)))
        {
            return Err(wrong());
        }
        depth = depth.saturating_add(1);
        if depth > MAX_DEPTH {
            return Err(Unreadable::field(name, "is nested more than 8 deep"));
        }
        rest = match after {
            "" => None,
            after => Some(after.strip_prefix('[').ok_or_else(wrong)?),
        };
    }
    Ok(())
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
