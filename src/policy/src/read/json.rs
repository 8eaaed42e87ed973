//! JSON bodies, strictly: one object, no name twice, no number that two readers could round differently.

use std::collections::BTreeSet;

use keybrake_text::json::{Members, elements, text_of};

use super::fields::{Field, Fields, Kind, MAX_DEPTH, MAX_FIELDS, Unreadable};

/// Largest integer that every reader keeps exactly: 2^53.
const MAX_EXACT: u64 = 9_007_199_254_740_992;
/// Most digits of a decimal number that every reader keeps exactly.
const MAX_DECIMAL_DIGITS: usize = 15;

/// Reads a body. Empty input has no fields.
pub(crate) fn parse(bytes: &[u8]) -> Result<Fields, Unreadable> {
    if bytes.is_empty() {
        return Ok(Fields::default());
    }
    let text =
        std::str::from_utf8(bytes).map_err(|_| Unreadable::whole("bytes that are not UTF-8"))?;
    let members =
        Members::parse(text).ok_or_else(|| Unreadable::whole("the body is not one JSON object"))?;
    let mut fields = Vec::new();
    add_members(&mut fields, None, &members, 1)?;
    Fields::collect(fields)
}

fn add_members(
    fields: &mut Vec<Field>,
    above: Option<&str>,
    members: &Members<'_>,
    depth: usize,
) -> Result<(), Unreadable> {
    refuse_repeated(above, members)?;
    for (name, value) in members.iter() {
        if name.is_empty()
            || name.contains(['[', ']'])
            || name.chars().any(char::is_control)
            || name.trim() != name
        {
            return Err(Unreadable::field(
                name,
                "is not a member name that can be read in only one way",
            ));
        }
        let full = below(above, name);
        add(fields, full, value, depth)?;
    }
    Ok(())
}

/// A group that stands twice is one group to some readers, and only its last part to others.
fn refuse_repeated(above: Option<&str>, members: &Members<'_>) -> Result<(), Unreadable> {
    let mut seen = BTreeSet::new();
    match members.iter().find(|(name, _)| !seen.insert(*name)) {
        None => Ok(()),
        Some((name, _)) => Err(Unreadable::field(
            &below(above, name),
            "stands more than once",
        )),
    }
}

/// A member's name as a form would spell it.
fn below(above: Option<&str>, name: &str) -> String {
    match above {
        None => name.to_owned(),
        Some(above) => format!("{above}[{name}]"),
    }
}

/// Each level is scanned once more than the level above it; the depth is bounded, so the time is linear.
fn add(fields: &mut Vec<Field>, name: String, text: &str, depth: usize) -> Result<(), Unreadable> {
    let unreadable = || Unreadable::field(&name, "is not valid JSON");
    let (value, kind) = match text.as_bytes().first() {
        Some(b'{' | b'[') if depth >= MAX_DEPTH => {
            return Err(Unreadable::field(&name, "is nested more than 8 deep"));
        }
        Some(b'{') => {
            let members = Members::parse(text).ok_or_else(unreadable)?;
            if members.iter().len() > 0 {
                return add_members(fields, Some(&name), &members, depth.saturating_add(1));
            }
            ("{}".to_owned(), Kind::Literal)
        }
        Some(b'[') => {
            let elements = elements(text).ok_or_else(unreadable)?;
            if !elements.is_empty() {
                for (position, element) in elements.into_iter().enumerate() {
                    add(
                        fields,
                        format!("{name}[{position}]"),
                        element,
                        depth.saturating_add(1),
                    )?;
                }
                return Ok(());
            }
            ("[]".to_owned(), Kind::Literal)
        }
        Some(b'"') => {
            let decoded = text_of(text).ok_or_else(unreadable)?.into_owned();
            if decoded.contains('\0') {
                return Err(Unreadable::field(&name, "has a NUL character"));
            }
            (decoded, Kind::Text)
        }
        Some(b'-' | b'0'..=b'9') => {
            if !is_exact(text) {
                return Err(Unreadable::field(
                    &name,
                    "is a number that not every reader keeps exactly",
                ));
            }
            (text.to_owned(), Kind::Number)
        }
        _ => (text.to_owned(), Kind::Literal),
    };
    if fields.len() >= MAX_FIELDS {
        return Err(Unreadable::whole("more than 1000 parameters"));
    }
    fields.push(Field { name, value, kind });
    Ok(())
}

/// No exponent; an integer within 2^53 or a decimal of at most 15 digits. Not minus zero, whose sign many readers lose.
fn is_exact(text: &str) -> bool {
    let magnitude = text.strip_prefix('-').unwrap_or(text);
    let minus_zero =
        magnitude.len() < text.len() && !magnitude.contains(|digit| matches!(digit, '1'..='9'));
    if minus_zero || magnitude.contains(['e', 'E']) {
        return false;
    }
    if magnitude.contains('.') {
        return magnitude.len() <= MAX_DECIMAL_DIGITS.saturating_add(1);
    }
    magnitude
        .parse::<u64>()
        .is_ok_and(|number| number <= MAX_EXACT)
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
