//! What makes two requests the same, and the idempotency key that is computed from a request.

use keybrake_contract::digest::Digest;
use keybrake_contract::wire::Cost;

use crate::read::{Fields, Kind, Reading};

/// Changes when the parts do: fingerprints are kept for good.
const WHOLE: &[u8] = b"keybrake fingerprint 1";
const PURCHASE: &[u8] = b"keybrake purchase 1";
const EQUAL: &[u8] = b"keybrake equal purchase 1";
/// What every derived key begins with.
const DERIVED_PREFIX: &str = "kb1_";

/// Digest over method, canonical path, account and the decoded parameters in canonical order. Encoding, order, body
/// type and API version do not count (DESIGN.md §4.3).
pub(crate) fn whole(reading: &Reading, account_headers: &[String]) -> Digest {
    let count = 3_usize
        .saturating_add(account_headers.len())
        .saturating_add(reading.fields.len().saturating_mul(3));
    let mut parts: Vec<&[u8]> = Vec::with_capacity(count);
    parts.extend([
        WHOLE,
        reading.method().as_bytes(),
        reading.path().as_bytes(),
    ]);
    // Each account header has its place, so that one cannot stand for the other.
    for name in account_headers {
        let value = reading
            .forward_headers
            .iter()
            .find(|(have, _)| have == name)
            .map_or(&b""[..], |(_, value)| value.as_slice());
        parts.push(value);
    }
    push_fields(&mut parts, &reading.fields);
    Digest::of_parts(parts)
}

fn push_fields<'a>(parts: &mut Vec<&'a [u8]>, fields: &'a Fields) {
    for field in fields.iter() {
        parts.push(match field.kind {
            Kind::Text => b"t",
            Kind::Number => b"n",
            Kind::Literal => b"l",
        });
        parts.push(field.name.as_bytes());
        parts.push(field.value.as_bytes());
    }
}

/// Digest of what makes a purchase: endpoint, account, scope and the chosen fields. `Err` names the first field that is
/// not there.
pub(crate) fn purchase<'a>(
    reading: &Reading,
    scope: &str,
    from: &'a [String],
) -> Result<Digest, &'a str> {
    let mut names: Vec<&str> = from.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let account = reading.facts.vendor_account.as_deref().unwrap_or_default();
    let mut parts: Vec<&[u8]> = vec![
        PURCHASE,
        reading.method().as_bytes(),
        reading.path().as_bytes(),
        account.as_bytes(),
        scope.as_bytes(),
    ];
    for name in names {
        let field = reading
            .fields
            .get(name)
            .filter(|field| !field.value.is_empty())
            .ok_or(name)?;
        parts.push(name.as_bytes());
        parts.push(field.value.as_bytes());
    }
    Ok(Digest::of_parts(parts))
}

/// Digest of what must be equal for another request to look like the same purchase: endpoint, account, the object acted
/// on and these fields. A field that is not there cannot tell two purchases apart, so then it takes the whole request.
pub(crate) fn equal_purchase(reading: &Reading, names: &[String], whole: Digest) -> Digest {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let object = match &reading.cost {
        Cost::OfObject(named) => named.object.as_str(),
        Cost::Nothing | Cost::Amount(_) | Cost::AtLeast(_) | Cost::Unknown => "",
    };
    let account = reading.facts.vendor_account.as_deref().unwrap_or_default();
    let mut parts: Vec<&[u8]> = vec![
        EQUAL,
        reading.method().as_bytes(),
        reading.path().as_bytes(),
        account.as_bytes(),
        object.as_bytes(),
    ];
    for name in names {
        match reading.fields.get(name) {
            Some(field) => parts.extend([name.as_bytes(), field.value.as_bytes()]),
            None => return whole,
        }
    }
    Digest::of_parts(parts)
}

/// The key that stands for a purchase.
pub(crate) fn derived_key(purchase: Digest) -> String {
    format!("{DERIVED_PREFIX}{purchase}")
}
