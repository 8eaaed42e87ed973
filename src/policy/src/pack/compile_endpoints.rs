//! From the endpoints of a pack's JSON form to the compiled ones and their index.

use std::collections::BTreeSet;
use std::sync::Arc;

use keybrake_contract::endpoint::EndpointPattern;
use keybrake_contract::grant::AllowedEndpoint;

use super::compile::{Answers, Made, field_names, wrong};
use super::dto::{CostDto, EndpointDto};
use super::index::Index;
use super::{Class, CostRule, Endpoint, InvalidPack, ObjectAmount, ObjectAt};

pub(super) fn compile_endpoints(
    dtos: Vec<EndpointDto>,
    answers: &Answers,
) -> Made<(Vec<Arc<Endpoint>>, Index)> {
    let mut index = Index::default();
    let mut operations = BTreeSet::new();
    let mut endpoints = Vec::with_capacity(dtos.len());
    for (position, dto) in dtos.into_iter().enumerate() {
        let EndpointDto {
            operation,
            endpoint,
            class,
            cost,
            refuse,
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
        if !operations.insert(operation.clone()) {
            return wrong(at("operation"), format!("{operation} stands twice"));
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
                answers.get(&name).cloned().ok_or_else(|| {
                    InvalidPack::new(at("answer"), format!("{name} is not one of `answers`"))
                })
            })
            .transpose()?;
        endpoints.push(Arc::new(Endpoint {
            cost: cost_rule(class, cost, path)
                .map_err(|problem| InvalidPack::new(at("cost"), problem))?,
            operation,
            pattern,
            class,
            refuse: field_names(&at("refuse"), refuse)?,
            answer,
        }));
    }
    Ok((endpoints, index))
}

/// The cost rule, as far as the class allows it.
fn cost_rule(class: Class, dto: Option<CostDto>, path: &str) -> Result<CostRule, &'static str> {
    match (class, dto) {
        (Class::Read | Class::Free, None) => Ok(CostRule::Nothing),
        (Class::MoneyBlind | Class::Prepares | Class::Forbidden, None) => Ok(CostRule::Unknown),
        (Class::Money | Class::MoneyOptional, Some(dto)) => money_rule(class, dto, path),
        (Class::Money | Class::MoneyOptional, None) => Err("wanted for money and money_optional"),
        _ => Err("only for money and money_optional"),
    }
}

fn money_rule(class: Class, dto: CostDto, path: &str) -> Result<CostRule, &'static str> {
    let CostDto {
        amount,
        currency,
        object,
        fixed_amount,
    } = dto;
    match (object, amount, currency, fixed_amount) {
        (None, Some(amount), Some(currency), None) if class == Class::Money => {
            Ok(CostRule::Fields { amount, currency })
        }
        (Some(object), amount, None, fixed) => Ok(CostRule::Object {
            object: object_at(object, path)?,
            amount: match (amount, fixed) {
                (Some(field), None) if class == Class::Money => ObjectAmount::Required(field),
                (Some(field), None) => ObjectAmount::Field(field),
                (None, _) if class == Class::Money => return Err("for money an amount"),
                (None, Some(fixed)) => ObjectAmount::Fixed(fixed),
                (None, None) => ObjectAmount::Whole,
                (Some(_), Some(_)) => return Err("amount or fixed_amount, not both"),
            },
        }),
        _ => Err(
            "for money amount and currency; else object, with amount or fixed_amount or neither",
        ),
    }
}

fn object_at(object: Vec<String>, path: &str) -> Result<ObjectAt, &'static str> {
    match object.as_slice() {
        [] => Err("object: {name} of the path, or field names"),
        [one] if one.starts_with('{') => path
            .trim_start_matches('/')
            .split('/')
            .position(|segment| segment == one)
            .map(ObjectAt::Segment)
            .ok_or("object: the path has no such {name}"),
        _ => Ok(ObjectAt::Fields(object)),
    }
}
