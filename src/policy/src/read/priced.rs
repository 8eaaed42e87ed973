//! What a request costs by the pack's own rates: units times a rate, rounded up to a whole cent for each request.

use keybrake_contract::money::{Currency, Minor};
use keybrake_contract::wire::Cost;

use crate::pack::{PricedRule, Rate, Units};

use super::fields::{Fields, Kind, Unreadable};

const MICROS_PER_CENT: u64 = 10_000;
/// Letters of GSM 03.38 that fill one place, besides those of [`is_basic_ascii`].
const BASIC: &str = "£¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà";
/// Its letters that fill two.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

pub(super) fn read(rule: &PricedRule, fields: &Fields) -> Result<Cost, Unreadable> {
    let (units, at) = units(&rule.units, fields)?;
    let micros = match &rule.micros {
        Rate::Flat(micros) => *micros,
        Rate::ByNumber(rates) => {
            let field = fields
                .get(&rates.field)
                .ok_or_else(|| Unreadable::field(&rates.field, "is missing"))?;
            if !is_number(&field.value) {
                return Err(Unreadable::field(
                    &rates.field,
                    "is not + and 7 to 15 digits",
                ));
            }
            rates
                .rate(&field.value)
                .ok_or_else(|| Unreadable::field(&rates.field, "has no rate in the vendor pack"))?
        }
    };
    let amount = units
        .checked_mul(micros)
        .map(|micros| micros.div_ceil(MICROS_PER_CENT))
        .ok_or_else(|| Unreadable::field(at, "is more than can be counted"))?;
    Ok(Cost::Amount(Minor {
        amount,
        currency: Currency::USD,
    }))
}

/// How many, at least one, and the field that says so.
fn units<'a>(units: &'a Units, fields: &Fields) -> Result<(u64, &'a str), Unreadable> {
    match units {
        Units::SegmentsOf(name) => {
            let field = fields
                .get(name)
                .filter(|field| !field.value.is_empty() && field.kind == Kind::Text)
                .ok_or_else(|| Unreadable::field(name, "is missing"))?;
            Ok((segments(&field.value), name))
        }
        Units::MembersOf(names) => {
            let mut count = 0_u64;
            for name in names {
                for member in fields.get(name).into_iter().chain(fields.group(name)) {
                    // `null`, and an array of nothing.
                    if member.kind == Kind::Text {
                        let commas = member.value.bytes().filter(|byte| *byte == b',').count();
                        let commas = u64::try_from(commas).unwrap_or(u64::MAX);
                        count = count.saturating_add(commas).saturating_add(1);
                    }
                }
            }
            let first = names.first().map_or("", String::as_str);
            if count == 0 {
                return Err(Unreadable::field(first, "is missing"));
            }
            Ok((count, first))
        }
    }
}

fn is_number(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

/// How many SMS a text becomes: 160 places in one or 153 in each of several, if all its letters are of GSM 03.38; else 70 or 67
/// units of UTF-16. What fills two places is not divided.
fn segments(text: &str) -> u64 {
    let gsm: Option<Vec<u64>> = text.chars().map(gsm_places).collect();
    match gsm {
        Some(places) => packed(&places, 160, 153),
        None => {
            let units = |letter: char| if letter.len_utf16() == 2 { 2 } else { 1 };
            packed(&text.chars().map(units).collect::<Vec<u64>>(), 70, 67)
        }
    }
}

fn gsm_places(letter: char) -> Option<u64> {
    if is_basic_ascii(letter) || BASIC.contains(letter) {
        Some(1)
    } else if EXTENSION.contains(letter) {
        Some(2)
    } else {
        None
    }
}

const fn is_basic_ascii(letter: char) -> bool {
    matches!(letter, '\n' | '\r' | ' '..='Z' | '_' | 'a'..='z')
}

fn packed(places: &[u64], alone: u64, each: u64) -> u64 {
    let all: u64 = places.iter().fold(0, |sum, next| sum.saturating_add(*next));
    if all <= alone {
        return 1;
    }
    let (mut count, mut filled) = (1_u64, 0_u64);
    for next in places {
        if filled.saturating_add(*next) > each {
            count = count.saturating_add(1);
            filled = 0;
        }
        filled = filled.saturating_add(*next);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_as_networks_do() {
        let cases: Vec<(String, u64)> = vec![
            ("a".to_owned(), 1),
            ("a".repeat(160), 1),
            ("a".repeat(161), 2),
            ("a".repeat(306), 2),
            ("a".repeat(307), 3),
            ("@£$ñ\n".to_owned(), 1),
            ("€".repeat(80), 1),
            ("€".repeat(81), 2),
            // 153 is odd: a two-place letter does not fit into the last one.
            ("€".repeat(152), 2),
            ("€".repeat(153), 3),
            ("ж".repeat(70), 1),
            ("ж".repeat(71), 2),
            ("ж".repeat(134), 2),
            ("ж".repeat(135), 3),
            ("😀".repeat(35), 1),
            ("😀".repeat(66), 2),
            ("😀".repeat(67), 3),
            (format!("{}`", "a".repeat(69)), 1),
            (format!("{}`", "a".repeat(70)), 2),
            (format!("{}ç", "a".repeat(70)), 2),
        ];
        for (text, expected) in cases {
            assert_eq!(segments(&text), expected, "{text}");
        }
    }
}
