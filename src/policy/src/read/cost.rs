//! What a request says that it costs, by the endpoint's rule.

use std::collections::BTreeMap;

use keybrake_contract::money::{Currency, Minor};
use keybrake_contract::wire::{Cost, OfObject};

use crate::pack::{BodyEncoding, CostRule, IntegerBounds, ObjectAmount, ObjectAt, Pack};
use crate::text::Text;

use super::fields::{self, Field, Fields, Unreadable};

/// Bounds of an amount whose name the pack gives none.
const AMOUNT: IntegerBounds = IntegerBounds {
    min: 1,
    max_digits: 8,
};
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
        CostRule::Fields { amount, currency } => {
            let amount = amount_of(pack, amount, fields, encoding)?
                .ok_or_else(|| Unreadable::field(amount, "is missing"))?;
            let text = fields
                .get(currency)
                .ok_or_else(|| Unreadable::field(currency, "is missing"))?;
            let currency = Currency::parse(&text.value)
                .map_err(|_| Unreadable::field(currency, "is not a three-letter currency code"))?;
            Ok(Cost::Amount(Minor { amount, currency }))
        }
        CostRule::Object { object, amount } => Ok(Cost::OfObject(OfObject {
            object: object_of(object, path, fields)?,
            amount: match amount {
                ObjectAmount::Required(name) => Some(
                    amount_of(pack, name, fields, encoding)?
                        .ok_or_else(|| Unreadable::field(name, "is missing"))?,
                ),
                ObjectAmount::Field(name) => amount_of(pack, name, fields, encoding)?,
                ObjectAmount::Fixed(fixed) => Some(*fixed),
                ObjectAmount::Whole => None,
            },
            currency: None,
        })),
    }
}

fn amount_of(
    pack: &Pack,
    name: &str,
    fields: &Fields,
    encoding: BodyEncoding,
) -> Result<Option<u64>, Unreadable> {
    let leaf = name
        .rsplit('[')
        .next()
        .unwrap_or(name)
        .trim_end_matches(']');
    let bounds = pack
        .parameters
        .integers
        .get(leaf)
        .copied()
        .unwrap_or(AMOUNT);
    fields
        .get(name)
        .map(|field| fields::integer(field, bounds, encoding))
        .transpose()
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
            format!("exactly one of {}", names.join(", ")),
        )),
        (None, _) => Err(Unreadable::field(
            names.first().map_or("", String::as_str),
            format!("is missing; exactly one of {}", names.join(", ")),
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
