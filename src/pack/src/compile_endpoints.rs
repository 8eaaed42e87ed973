//! From the endpoints of a pack's JSON form to the compiled ones and their index.

use std::sync::Arc;

use keybrake_contract::endpoint::EndpointPattern;
use keybrake_contract::grant::AllowedEndpoint;
use keybrake_contract::wire::Draws;

use crate::compile::{Answers, MAX_DIGITS, Made, field_names, wrong};
use crate::dto::{AbsentDto, CostDto, EndpointDto};
use crate::index::Index;
use crate::mistakes::Mistakes;
use crate::stated::StatedLists;
use crate::{
    Absent, AmountAt, ByName, Class, CostRule, Endpoint, IntegerBounds, InvalidPack, ObjectAmount,
    ObjectAt, Sign,
};

/// Bounds of an amount whose name the pack gives none.
const AMOUNT: IntegerBounds = IntegerBounds {
    min: 1,
    max_digits: 8,
};

/// What endpoints refer to by name.
pub(crate) struct Tables<'a> {
    pub integers: &'a ByName<IntegerBounds>,
    pub stated: StatedLists,
    pub answers: Answers,
}

/// Why there is no cost rule: the part of the endpoint (`cost.amount`), and what is allowed there.
pub(crate) type Uncosted = (&'static str, &'static str);

pub(crate) fn compile_endpoints(
    dtos: Vec<EndpointDto>,
    tables: &Tables<'_>,
    mistakes: &mut Mistakes,
) -> (Vec<Arc<Endpoint>>, Index) {
    let mut index = Index::default();
    let mut operations = Vec::with_capacity(dtos.len());
    let mut endpoints = Vec::with_capacity(dtos.len());
    for (position, dto) in dtos.into_iter().enumerate() {
        let made = endpoint(position, dto, tables, &mut operations, &mut index);
        endpoints.extend(mistakes.keep(made).map(Arc::new));
    }
    (endpoints, index)
}

fn endpoint(
    position: usize,
    dto: EndpointDto,
    tables: &Tables<'_>,
    operations: &mut Vec<String>,
    index: &mut Index,
) -> Made<Endpoint> {
    let EndpointDto {
        operation,
        endpoint,
        class,
        cost,
        refuse,
        stated,
        answer,
    } = dto;
    let at = |part: &str| format!("endpoints[{position}].{part}");
    if !matches!(
        AllowedEndpoint::parse(&operation),
        Ok(AllowedEndpoint::Operation(_))
    ) {
        return wrong(
            at("operation"),
            "a name such as charges.create, of a-z, 0-9, _ and points",
        );
    }
    match operations.binary_search(&operation) {
        Ok(_) => return wrong(at("operation"), format!("{operation} stands twice")),
        Err(place) => operations.insert(place, operation.clone()),
    }
    let pattern = EndpointPattern::parse(&endpoint)
        .map_err(|error| InvalidPack::new(at("endpoint"), error.to_string()))?;
    if (class == Class::Read) != matches!(pattern.method(), "GET" | "HEAD")
        && class != Class::Forbidden
    {
        return wrong(at("class"), "read for GET, and for nothing else");
    }
    let path = endpoint.split_once(' ').map_or("", |(_, path)| path);
    if let Err(earlier) = index.insert(pattern.method(), path, position) {
        return wrong(
            at("endpoint"),
            format!("matches the same paths as endpoints[{earlier}]"),
        );
    }
    let answer = answer
        .map(|name| {
            tables.answers.get(&name).cloned().ok_or_else(|| {
                InvalidPack::new(at("answer"), format!("{name} is not one of `answers`"))
            })
        })
        .transpose()?;
    Ok(Endpoint {
        cost: cost_rule(class, cost, stated, path, tables)
            .map_err(|(part, problem)| InvalidPack::new(at(part), problem))?,
        operation,
        pattern,
        class,
        refuse: field_names(&at("refuse"), refuse)?,
        answer,
    })
}

/// The cost rule, as far as the class allows it.
fn cost_rule(
    class: Class,
    cost: Option<CostDto>,
    stated: Option<String>,
    path: &str,
    tables: &Tables<'_>,
) -> Result<CostRule, Uncosted> {
    match (class, cost, stated) {
        (Class::Read | Class::Free, None, None) => Ok(CostRule::Nothing),
        (Class::MoneyBlind | Class::Prepares | Class::Forbidden, None, None) => {
            Ok(CostRule::Unknown)
        }
        (Class::MoneyBlind | Class::Prepares, None, Some(name)) => tables
            .stated
            .get(&name)
            .map(|rules| CostRule::AtLeast(Arc::clone(rules)))
            .ok_or(("stated", "a name in `stated`")),
        (Class::Money | Class::MoneyOptional, Some(dto), None) => {
            money_rule(class, dto, path, tables)
        }
        (Class::Money | Class::MoneyOptional, None, None) => {
            Err(("cost", "wanted for money and money_optional"))
        }
        (_, _, Some(_)) => Err((
            "stated",
            "only for money_blind and prepares, and without cost",
        )),
        (_, Some(_), None) => Err(("cost", "only for money and money_optional")),
    }
}

fn money_rule(
    class: Class,
    dto: CostDto,
    path: &str,
    tables: &Tables<'_>,
) -> Result<CostRule, Uncosted> {
    let CostDto {
        amount,
        currency,
        object,
        anew,
        absent,
        priced,
        fixed_amount,
        max_digits,
        signed,
    } = dto;
    if absent.is_some() && (class == Class::Money || object.is_none() || amount.is_none()) {
        return Err((
            "cost.absent",
            "only for money_optional, beside object and amount",
        ));
    }
    if amount.is_none() && (max_digits.is_some() || signed) {
        return Err(("cost.amount", "wanted where max_digits or signed stands"));
    }
    if anew && (object.is_none() || fixed_amount.is_some()) {
        return Err(("cost.anew", "only beside object, and without fixed_amount"));
    }
    let amount = amount
        .map(|field| amount_at(field, max_digits, signed, tables.integers))
        .transpose()?;
    match (object, amount, currency, fixed_amount) {
        (None, None, None, None) if class == Class::Money && priced.is_some() => priced
            .map_or(Ok(CostRule::Nothing), |rule| {
                rule.compile().map(|rule| CostRule::Priced(Arc::new(rule)))
            }),
        _ if priced.is_some() => Err((
            "cost.priced",
            "only for money, and without anything else in cost",
        )),
        (None, Some(amount), Some(currency), None) => Ok(CostRule::Fields {
            amount,
            currency,
            absent: match class {
                Class::Money => Absent::Refused,
                _ => Absent::Unknown,
            },
        }),
        (Some(object), amount, None, fixed) => Ok(CostRule::Object {
            object: object_at(object, path)?,
            amount: match (amount, fixed) {
                (Some(field), None) if class == Class::Money => ObjectAmount::Required(field),
                (Some(field), None) => match absent {
                    Some(AbsentDto::Unknown) => ObjectAmount::FieldOrUnknown(field),
                    Some(AbsentDto::Whole) | None => ObjectAmount::Field(field),
                },
                (None, _) if class == Class::Money => {
                    return Err(("cost.amount", "wanted for money"));
                }
                (None, Some(fixed)) => ObjectAmount::Fixed(fixed),
                (None, None) => ObjectAmount::Whole,
                (Some(_), Some(_)) => {
                    return Err(("cost.fixed_amount", "amount or fixed_amount, not both"));
                }
            },
            draws: if anew { Draws::Anew } else { Draws::OnHold },
        }),
        _ => Err((
            "cost",
            "amount and currency; or object, with amount or fixed_amount or neither",
        )),
    }
}

/// An amount's bounds are those of its leaf name, unless the endpoint has its own.
fn amount_at(
    field: String,
    max_digits: Option<usize>,
    signed: bool,
    integers: &ByName<IntegerBounds>,
) -> Result<AmountAt, Uncosted> {
    if max_digits.is_some_and(|most| most == 0 || most > MAX_DIGITS) {
        return Err(("cost.max_digits", "1 to 18"));
    }
    let leaf = field
        .rsplit('[')
        .next()
        .unwrap_or_default()
        .trim_end_matches(']');
    let named = integers.get(leaf).copied().unwrap_or(AMOUNT);
    Ok(AmountAt {
        bounds: IntegerBounds {
            max_digits: max_digits.unwrap_or(named.max_digits),
            ..named
        },
        sign: if signed { Sign::Either } else { Sign::Never },
        field,
    })
}

fn object_at(object: Vec<String>, path: &str) -> Result<ObjectAt, Uncosted> {
    match object.as_slice() {
        [] => Err(("cost.object", "{name} of the path, or field names")),
        [one] if one.starts_with('{') => path
            .trim_start_matches('/')
            .split('/')
            .position(|segment| segment == one)
            .map(ObjectAt::Segment)
            .ok_or(("cost.object", "the path has no such {name}")),
        _ => Ok(ObjectAt::Fields(object)),
    }
}
