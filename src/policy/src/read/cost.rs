//! What a request says that it costs, by the endpoint's rule.

use std::collections::BTreeMap;

use keybrake_contract::money::{Currency, Minor};
use keybrake_contract::wire::{Cost, OfObject};

use crate::pack::{Absent, AmountAt, BodyEncoding, CostRule, ObjectAmount, ObjectAt, Pack, Sign};
use keybrake_text::bytes::Text;

use super::fields::{self, Field, Fields, Unreadable};
use super::{priced, stated};

/// Most characters that the audit keeps of a field.
const MAX_AUDITED: usize = 256;

/// Reads the cost. The currency of a cost that depends on an object is completed from the grant.
pub(super) fn read(
    pack: &Pack,
    rule: &CostRule,
    path: &str,
    fields: &Fields,
    encoding: BodyEncoding,
) -> Result<Cost, Unreadable> {
    match rule {
        CostRule::Nothing => Ok(Cost::Nothing),
        CostRule::Unknown => Ok(Cost::Unknown),
        CostRule::AtLeast(rules) => stated::read(rules, &pack.parameters, fields),
        CostRule::Priced(rule) => priced::read(rule, fields),
        CostRule::Fields {
            amount,
            currency,
            absent,
        } => {
            let amount = match (amount_of(amount, fields, encoding)?, absent) {
                (Some(amount), _) => amount,
                (None, Absent::Unknown) => return Ok(Cost::Unknown),
                (None, Absent::Refused) => {
                    return Err(Unreadable::field(&amount.field, "is missing"));
                }
            };
            let text = fields
                .get(currency)
                .ok_or_else(|| Unreadable::field(currency, "is missing"))?;
            let currency = Currency::parse(&text.value)
                .map_err(|_| Unreadable::field(currency, "is not a three-letter currency code"))?;
            Ok(Cost::Amount(Minor { amount, currency }))
        }
        CostRule::Object {
            object,
            amount,
            draws,
        } => Ok(Cost::OfObject(OfObject {
            object: object_of(object, path, fields)?,
            amount: match amount {
                ObjectAmount::Required(at) => Some(
                    amount_of(at, fields, encoding)?
                        .ok_or_else(|| Unreadable::field(&at.field, "is missing"))?,
                ),
                ObjectAmount::Field(at) => amount_of(at, fields, encoding)?,
                ObjectAmount::FieldOrUnknown(at) => match amount_of(at, fields, encoding)? {
                    Some(amount) => Some(amount),
                    None => return Ok(Cost::Unknown),
                },
                ObjectAmount::Fixed(fixed) => Some(*fixed),
                ObjectAmount::Whole => None,
            },
            currency: None,
            draws: *draws,
        })),
    }
}

/// The amount, or its magnitude where it has a sign.
fn amount_of(
    at: &AmountAt,
    fields: &Fields,
    encoding: BodyEncoding,
) -> Result<Option<u64>, Unreadable> {
    let Some(field) = fields.get(&at.field) else {
        // `amount[currency]` alone, or `amount` as a group.
        return match fields.group(&at.field).next() {
            None => Ok(None),
            Some(inner) => Err(Unreadable::field(
                &inner.name,
                format!("stands where a single {} is wanted", at.field),
            )),
        };
    };
    match (at.sign, field.value.strip_prefix('-')) {
        (Sign::Either, Some(magnitude)) => {
            let magnitude = Field {
                value: magnitude.to_owned(),
                ..field.clone()
            };
            fields::integer(&magnitude, at.bounds, encoding).map(Some)
        }
        _ => fields::integer(field, at.bounds, encoding).map(Some),
    }
}

fn object_of(at: &ObjectAt, path: &str, fields: &Fields) -> Result<String, Unreadable> {
    let names = match at {
        ObjectAt::Segment(position) => {
            let segment = path
                .trim_start_matches('/')
                .split('/')
                .nth(*position)
                .unwrap_or_default();
            return object_id("path", segment);
        }
        ObjectAt::Fields(names) => names,
    };
    let mut found = names.iter().filter_map(|name| fields.get(name));
    match (found.next(), found.next()) {
        (Some(field), None) => object_id(&field.name, &field.value),
        (Some(_), Some(second)) => Err(Unreadable::field(
            &second.name,
            format!("must not be there: exactly one of {}", names.join(", ")),
        )),
        (None, _) => Err(Unreadable::field(
            names.first().map_or("", String::as_str),
            format!("is missing: exactly one of {}", names.join(", ")),
        )),
    }
}

fn object_id(name: &str, text: &str) -> Result<String, Unreadable> {
    let fine = !text.is_empty()
        && text.len() <= 255
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if fine {
        Ok(text.to_owned())
    } else {
        Err(Unreadable::field(name, "is not an object's id"))
    }
}

/// The fields that the audit keeps. One that is not short printable text is left out.
pub(super) fn audited(pack: &Pack, fields: &Fields) -> BTreeMap<String, String> {
    let mut audited = BTreeMap::new();
    for field in pack.audit_params.iter().filter_map(|name| fields.get(name)) {
        let Field { name, value, .. } = field;
        let short = !value.is_empty() && value.len() <= MAX_AUDITED;
        if short && Text::of(value.as_bytes()) == Text::Printable {
            audited.insert(name.clone(), value.clone());
        }
    }
    audited
}
