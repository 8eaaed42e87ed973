//! `application/x-www-form-urlencoded`, strictly: accepted is only what Rack, PHP-like and Python readers all take for
//! the same parameters. The vendors' SDKs write nothing else.

use std::collections::BTreeMap;

use super::fields::{Field, Fields, Kind, MAX_DEPTH, MAX_FIELDS, Unreadable};

/// Reads a body or a query. Empty input has no fields.
pub(crate) fn parse(bytes: &[u8]) -> Result<Fields, Unreadable> {
    if bytes.is_empty() {
        return Ok(Fields::default());
    }
    if bytes
        .split(|byte| *byte == b'&')
        .take(MAX_FIELDS.saturating_add(1))
        .count()
        > MAX_FIELDS
    {
        return Err(Unreadable::whole("more than 1000 parameters"));
    }
    let mut fields = Vec::new();
    // Name of an unindexed array → how many elements it has so far.
    let mut arrays: BTreeMap<String, usize> = BTreeMap::new();
    for pair in bytes.split(|byte| *byte == b'&') {
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
    // Older readers split at `;`, too. Control characters and spaces are never written plainly.
    if pair
        .iter()
        .any(|byte| matches!(byte, b';' | 0..=b' ' | 0x7f))
    {
        return Err(Unreadable::whole(
            "a character that must be percent-encoded",
        ));
    }
    let at = pair
        .iter()
        .position(|byte| *byte == b'=')
        .ok_or_else(|| Unreadable::whole("a parameter without `=`"))?;
    let name = decode(pair.get(..at).unwrap_or_default())?;
    let value = decode(pair.get(at.saturating_add(1)..).unwrap_or_default())?;
    Ok((name, value))
}

fn decode(bytes: &[u8]) -> Result<String, Unreadable> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().copied(), rest.next().copied()];
                match digits.map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16))) {
                    [Some(high), Some(low)] => u8::try_from(high << 4 | low).unwrap_or_default(),
                    _ => {
                        return Err(Unreadable::whole(
                            "a percent sign without two hexadecimal digits",
                        ));
                    }
                }
            }
            other => *other,
        });
    }
    if decoded.contains(&0) {
        return Err(Unreadable::whole("a NUL character"));
    }
    String::from_utf8(decoded).map_err(|_| Unreadable::whole("bytes that are not UTF-8"))
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
    let (base, mut rest) = name
        .find('[')
        .and_then(|position| name.split_at_checked(position))
        .unwrap_or((name, ""));
    if base.is_empty()
        || !base
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return Err(wrong());
    }
    let mut depth = 1_usize;
    while !rest.is_empty() {
        let (key, after) = rest
            .strip_prefix('[')
            .and_then(|inner| inner.split_once(']'))
            .ok_or_else(wrong)?;
        let unindexed = key.is_empty();
        if (unindexed && !after.is_empty())
            || key.contains('[')
            || key.trim() != key
            || key.chars().any(char::is_control)
        {
            return Err(wrong());
        }
        depth = depth.saturating_add(1);
        if depth > MAX_DEPTH {
            return Err(Unreadable::field(name, "is nested more than 8 deep"));
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
