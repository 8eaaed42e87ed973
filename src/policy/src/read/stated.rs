//! The least that a request can cost, from the lines that show a price.

use keybrake_contract::money::{Currency, Minor};
use keybrake_contract::wire::Cost;

use crate::pack::{ParameterRules, StatedRule};

use super::fields::{Field, Fields, Unreadable, components, plain_integer};

/// Decimal places that are read; a number is counted in units of ten to the minus this.
const PLACES: usize = 12;
/// 10^PLACES.
const ONE: u128 = 1_000_000_000_000;
/// A price times a quantity is counted in units of one to this.
const ONE_SQUARED: u128 = 1_000_000_000_000_000_000_000_000;
/// Most digits before the point.
const MAX_WHOLE: usize = 12;

/// Adds up what the lines say, each rounded up. Lines below zero add nothing. A line that does not name its currency is in that
/// of the others; where none does, nobody knows it, and it counts as dollars.
pub(super) fn read(
    rules: &[StatedRule],
    parameters: &ParameterRules,
    fields: &Fields,
) -> Result<Cost, Unreadable> {
    let mut amount = 0_u64;
    let mut named: Option<Currency> = None;
    for (rule, unit, line) in priced_lines(rules, parameters, fields) {
        if let Some(currency) = fields.get(&rule.currency.full_name(line)) {
            let code = Currency::parse(&currency.value).map_err(|_| {
                Unreadable::field(&currency.name, "is not a three-letter currency code")
            })?;
            if named.is_some_and(|named| named != code) {
                return Err(Unreadable::field(
                    &currency.name,
                    "is another currency than in another line",
                ));
            }
            named = Some(code);
        }
        amount = amount
            .checked_add(line_amount(rule, unit, line, fields)?)
            .ok_or_else(|| too_large(unit))?;
    }
    let currency = named.unwrap_or(Currency::USD);
    Ok(if amount > 0 {
        Cost::AtLeast(Minor { amount, currency })
    } else {
        Cost::Unknown
    })
}

/// Each field that is a line's price, with its rule and its line. What is below a free map is the caller's own text.
fn priced_lines<'a>(
    rules: &'a [StatedRule],
    parameters: &'a ParameterRules,
    fields: &'a Fields,
) -> impl Iterator<Item = (&'a StatedRule, &'a Field, &'a str)> {
    let own_text = |line: &str| {
        components(line).any(|part| parameters.free_maps.iter().any(|map| map == part))
    };
    rules.iter().flat_map(move |rule| {
        fields.iter().filter_map(move |field| {
            let line = rule.line_of(&field.name)?;
            (!field.value.is_empty() && !own_text(line)).then_some((rule, field, line))
        })
    })
}

fn line_amount(
    rule: &StatedRule,
    unit: &Field,
    line: &str,
    fields: &Fields,
) -> Result<u64, Unreadable> {
    let (sign, price) = decimal(unit)?;
    let mut quantities = rule.quantity.iter().filter_map(|name| {
        let field = fields.get(&name.full_name(line))?;
        (!field.value.is_empty()).then_some(field)
    });
    let quantity = match quantities.next() {
        None => ONE,
        Some(field) => match decimal(field)? {
            (Sign::Plus, quantity) => quantity,
            (Sign::Minus, _) => return Err(Unreadable::field(&field.name, "must not be negative")),
        },
    };
    if sign == Sign::Minus {
        return Ok(0);
    }
    let exact = price.checked_mul(quantity).ok_or_else(|| too_large(unit))?;
    u64::try_from(exact.div_ceil(ONE_SQUARED)).map_err(|_| too_large(unit))
}

fn too_large(field: &Field) -> Unreadable {
    Unreadable::field(&field.name, "is more than can be counted")
}

#[derive(PartialEq, Eq)]
enum Sign {
    Plus,
    Minus,
}

/// A plain decimal number, in units of 1/[`ONE`].
fn decimal(field: &Field) -> Result<(Sign, u128), Unreadable> {
    let (sign, text) = match field.value.strip_prefix('-') {
        None => (Sign::Plus, field.value.as_str()),
        Some(text) => (Sign::Minus, text),
    };
    magnitude(text)
        .map(|magnitude| (sign, magnitude))
        .ok_or_else(|| {
            Unreadable::field(
                &field.name,
                "must be a plain decimal number of at most 12 digits before and after the point",
            )
        })
}

fn magnitude(text: &str) -> Option<u128> {
    let (whole, places) = match text.split_once('.') {
        None => (text, ""),
        Some((_, "")) => return None,
        Some(parts) => parts,
    };
    let digits = places.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() > MAX_WHOLE || places.len() > PLACES || !digits {
        return None;
    }
    let whole = u128::from(plain_integer(whole)?);
    let below: u128 = format!("{places:0<PLACES$}").parse().ok()?;
    whole.checked_mul(ONE)?.checked_add(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_or_not_at_all() {
        let cases = [
            ("0", Some(0)),
            ("1", Some(ONE)),
            ("0.000000000001", Some(1)),
            ("999999999999.999999999999", Some(ONE * ONE - 1)),
            ("0.5", Some(ONE / 2)),
            ("1.", None),
            (".5", None),
            ("01", None),
            ("1.0000000000001", None),
            ("1000000000000", None),
            ("1e3", None),
            ("+1", None),
            ("1.-5", None),
            ("", None),
            ("1.2.3", None),
            ("١", None),
        ];
        for (text, expected) in cases {
            assert_eq!(magnitude(text), expected, "{text:?}");
        }
    }
}
