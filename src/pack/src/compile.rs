//! From the JSON form of a pack to the compiled one. Every rule that a pack must keep is checked here, once.

use std::ops::RangeInclusive;
use std::sync::Arc;

use keybrake_contract::money::Currency;
use keybrake_contract::refusal::RefusalCode;

use crate::compile_endpoints::{Tables, compile_endpoints};
use crate::dto::{
    AnswerDto, AnswerHeadersDto, CredentialDto, IdempotencyDto, OutcomeDto, PackDto, ParametersDto,
    PathDto, RefusalDto, StateDto,
};
use crate::mistakes::Mistakes;
use crate::stated;
use crate::{
    AnswerHeaders, AnswerRules, ByName, CredentialPlace, CredentialRules, HeaderNames,
    HeaderPlaces, InvalidPack, OutcomeRule, Pack, PackIdempotency, ParameterRules, PathRules,
    Prefixes, RefusalShape, StateRule,
};
use keybrake_text::document::Named;

/// Most characters of an idempotency key that the ledger takes.
const MAX_KEY_LENGTH: usize = 255;
/// Most decimals of a currency.
const MAX_CURRENCY_DECIMALS: u8 = 3;
/// Digits that always fit into 64 bits.
pub(crate) const MAX_DIGITS: usize = 18;

pub(crate) type Made<T> = Result<T, InvalidPack>;
pub(crate) type Answers = Named<Arc<AnswerRules>>;

/// All mistakes, by section and by endpoint: in each the first.
pub(crate) fn compile(dto: PackDto) -> Result<Pack, Vec<InvalidPack>> {
    let PackDto {
        vendor,
        hosts,
        credential,
        path,
        account_headers,
        forward_headers,
        idempotency,
        parameters,
        currency_decimals,
        stated: stated_dtos,
        audit_params,
        refusal,
        answer_headers,
        outcomes,
        evidence,
        answers: answer_dtos,
        endpoints,
    } = dto;
    let mut mistakes = Mistakes::default();
    let vendor = mistakes.or_blank(vendor_name(vendor));
    let hosts = mistakes.or_blank(host_names(hosts));
    let answers = answer_dtos.map(|name, dto| Arc::new(mistakes.or_blank(answer(name, dto))));
    let parameters = mistakes.keep(compile_parameters(parameters));
    let none = ByName::from_iter([]);
    let tables = Tables {
        integers: parameters.as_ref().map_or(&none, |rules| &rules.integers),
        stated: stated::compile(stated_dtos, &mut mistakes),
        answers,
    };
    let (endpoints, index) = compile_endpoints(endpoints, &tables, &mut mistakes);
    let credential = mistakes.keep(compile_credential(credential));
    let path = mistakes.keep(compile_path(path));
    let account_headers = mistakes.or_blank(header_names("account_headers", account_headers));
    let forward_headers = mistakes.or_blank(forwardable("forward_headers", forward_headers));
    let idempotency = mistakes.keep(compile_idempotency(idempotency));
    let currency_decimals = mistakes.or_blank(compile_currency_decimals(currency_decimals));
    let audit_params = mistakes.or_blank(field_names("audit_params", audit_params));
    let refusal = mistakes.keep(compile_refusal(refusal));
    let answer_headers = mistakes.keep(compile_answer_headers(answer_headers));
    let lines = outcomes.into_iter().enumerate();
    let outcomes = lines
        .filter_map(|(position, dto)| mistakes.keep(outcome(position, dto)))
        .collect();
    // Evidence is about endpoints: with mistakes in those it would look wrong too.
    let evidence = match (evidence, &credential) {
        (Some(rules), Some(credential)) if mistakes.is_empty() => {
            let find = |name: &str| {
                let mut all = endpoints.iter().map(Arc::as_ref);
                all.find(|endpoint| endpoint.operation == name)
            };
            let takes_bearer = credential.places.contains(&CredentialPlace::Bearer);
            mistakes.keep(rules.compile(find, takes_bearer))
        }
        _ => None,
    };
    let (
        Some(credential),
        Some(path),
        Some(idempotency),
        Some(parameters),
        Some(refusal),
        Some(answer_headers),
        true,
    ) = (
        credential,
        path,
        idempotency,
        parameters,
        refusal,
        answer_headers,
        mistakes.is_empty(),
    )
    else {
        return Err(mistakes.all());
    };
    Ok(Pack {
        vendor,
        hosts,
        credential,
        path,
        headers: header_places(&account_headers, &forward_headers, &idempotency.header),
        account_headers,
        idempotency,
        currency_decimals,
        parameters,
        audit_params,
        refusal,
        answer_headers,
        outcomes,
        evidence,
        endpoints,
        index,
    })
}

fn vendor_name(vendor: String) -> Made<String> {
    let fine = !vendor.is_empty()
        && vendor.len() <= 64
        && vendor
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if fine {
        Ok(vendor)
    } else {
        wrong("vendor", "1 to 64 of a-z, 0-9 and _")
    }
}

fn host_names(hosts: Vec<String>) -> Made<Vec<String>> {
    if hosts.is_empty() {
        return wrong("hosts", "at least one host name");
    }
    match hosts.iter().position(|host| !is_host(host)) {
        None => Ok(hosts),
        Some(position) => wrong(
            format!("hosts[{position}]"),
            "a host name in lower case, without port",
        ),
    }
}

fn compile_currency_decimals(given: Named<u8>) -> Made<Vec<(Currency, u8)>> {
    let mut compiled: Vec<(Currency, u8)> = Vec::new();
    for (name, decimals) in given {
        let place = || format!("currency_decimals.{name}");
        let currency = Currency::parse(&name)
            .map_err(|_| InvalidPack::new(place(), "a three-letter currency code"))?;
        if decimals > MAX_CURRENCY_DECIMALS {
            return wrong(place(), "0 to 3 decimals");
        }
        if compiled.iter().any(|(have, _)| *have == currency) {
            return wrong(place(), "each currency once");
        }
        compiled.push((currency, decimals));
    }
    Ok(compiled)
}

fn compile_credential(dto: CredentialDto) -> Made<CredentialRules> {
    let CredentialDto {
        places,
        real_prefixes,
    } = dto;
    if places.is_empty() {
        return wrong(
            "credential.places",
            "at least one of bearer, basic_user, basic_password",
        );
    }
    if real_prefixes
        .iter()
        .any(|prefix| prefix.len() < 3 || !prefix.is_ascii())
    {
        return wrong(
            "credential.real_prefixes",
            "ASCII texts of at least 3 characters",
        );
    }
    Ok(CredentialRules {
        places,
        real_prefixes: Prefixes::new(real_prefixes),
    })
}

fn compile_path(dto: PathDto) -> Made<PathRules> {
    let PathDto {
        roots,
        segment_extra,
    } = dto;
    if !segment_extra
        .bytes()
        .all(|byte| matches!(byte, b'_' | b'-' | b'.' | b'@' | b':'))
    {
        return wrong("path.segment_extra", "none but _ - . @ :");
    }
    let fine = |root: &str| {
        !root.is_empty()
            && root.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || segment_extra.as_bytes().contains(&byte)
            })
    };
    if roots.is_empty() || !roots.iter().all(|(root, _)| fine(root)) {
        return wrong(
            "path.roots",
            "first path segment → form or json, at least one",
        );
    }
    Ok(PathRules {
        roots,
        segment_extra: segment_extra.into_bytes(),
    })
}

fn compile_idempotency(dto: IdempotencyDto) -> Made<PackIdempotency> {
    let IdempotencyDto {
        header,
        window_ms,
        margin_ms,
        max_key_length,
        default_rule,
    } = dto;
    if window_ms.is_some_and(|window| margin_ms >= window) {
        return wrong("idempotency.margin_ms", "less than window_ms");
    }
    if max_key_length == 0 || max_key_length > MAX_KEY_LENGTH {
        return wrong("idempotency.max_key_length", "1 to 255");
    }
    Ok(PackIdempotency {
        header: header_name("idempotency.header", header)?,
        window_ms,
        margin_ms,
        max_key_length,
        default_rule,
    })
}

fn compile_parameters(dto: ParametersDto) -> Made<ParameterRules> {
    let ParametersDto {
        integers,
        free_maps,
        conflicting,
    } = dto;
    for (name, bounds) in integers.iter() {
        if bounds.max_digits == 0 || bounds.max_digits > MAX_DIGITS {
            return wrong(format!("parameters.integers.{name}.max_digits"), "1 to 18");
        }
    }
    Ok(ParameterRules {
        integers: integers.into_iter().collect(),
        free_maps: field_names("parameters.free_maps", free_maps)?,
        conflicting,
    })
}

fn compile_refusal(dto: RefusalDto) -> Made<RefusalShape> {
    let RefusalDto {
        body,
        default_type,
        types,
        mark,
        type_at,
        code_at,
    } = dto;
    if !body.is_object() {
        return wrong("refusal.body", "an object");
    }
    for (name, pointer) in [
        ("mark", &mark),
        ("type_at", &type_at),
        ("code_at", &code_at),
    ] {
        if !pointer.starts_with('/') {
            return wrong(format!("refusal.{name}"), "a JSON pointer, /error");
        }
    }
    let mut compiled = Vec::new();
    for (code, kind) in types {
        let mut known = RefusalCode::ALL.into_iter();
        let Some(have) = known.find(|have| have.as_str() == code) else {
            return wrong(format!("refusal.types.{code}"), "a refusal code");
        };
        compiled.push((have, kind));
    }
    Ok(RefusalShape {
        body,
        default_type,
        types: compiled,
        mark,
        type_at,
        code_at,
    })
}

fn compile_answer_headers(dto: AnswerHeadersDto) -> Made<AnswerHeaders> {
    let AnswerHeadersDto {
        request_id,
        replayed,
        retry_hint,
    } = dto;
    let named = |at: &str, name: Option<String>| name.map(|name| header_name(at, name)).transpose();
    Ok(AnswerHeaders {
        request_id: named("answer_headers.request_id", request_id)?,
        replayed: replayed
            .map(|(name, value)| {
                header_name("answer_headers.replayed", name).map(|name| (name, value))
            })
            .transpose()?,
        retry_hint: named("answer_headers.retry_hint", retry_hint)?,
    })
}

fn outcome(position: usize, dto: OutcomeDto) -> Made<OutcomeRule> {
    let OutcomeDto {
        status,
        kind,
        code,
        outcome,
    } = dto;
    let statuses = statuses(&status).ok_or_else(|| {
        InvalidPack::new(
            format!("outcomes[{position}].status"),
            "\"402\" or \"500-599\", from 300 to 599",
        )
    })?;
    Ok(OutcomeRule {
        statuses,
        kind,
        code,
        outcome,
    })
}

fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let from: u16 = from.parse().ok()?;
    let to: u16 = to.parse().ok()?;
    (300 <= from && from <= to && to <= 599).then_some(from..=to)
}

fn answer(name: &str, dto: AnswerDto) -> Made<AnswerRules> {
    let AnswerDto {
        id,
        part_of,
        charge,
        amount_settled,
        amount_open,
        currency,
        total,
        states,
    } = dto;
    if currency.is_none() && !(amount_settled.is_empty() && amount_open.is_empty()) {
        return wrong(
            format!("answers.{name}.currency"),
            "wanted where amounts are read",
        );
    }
    let states = states
        .into_iter()
        .map(|StateDto { when, money }| {
            if when.is_empty() {
                return wrong(
                    format!("answers.{name}.states"),
                    "at least one member in `when`",
                );
            }
            Ok(StateRule { when, money })
        })
        .collect::<Made<_>>()?;
    Ok(AnswerRules {
        id,
        part_of,
        charge,
        amount_moved: amount_settled,
        amount_open,
        currency,
        is_total: total,
        states,
    })
}

pub(crate) fn field_names(at: &str, names: Vec<String>) -> Made<Vec<String>> {
    if names.iter().any(String::is_empty) {
        return wrong(at, "no empty names");
    }
    Ok(names)
}

fn header_names(at: &str, names: Vec<String>) -> Made<Vec<String>> {
    names
        .into_iter()
        .map(|name| header_name(at, name))
        .collect()
}

/// One table of every request header that is looked at.
fn header_places(account: &[String], forward: &[String], idempotency: &str) -> HeaderPlaces {
    let mut names = HeaderNames::common();
    HeaderPlaces {
        account: account.iter().map(|name| names.place_for(name)).collect(),
        forward: forward.iter().map(|name| names.place_for(name)).collect(),
        idempotency: names.place_for(idempotency),
        names,
    }
}

fn header_name(at: &str, name: String) -> Made<String> {
    let fine = !name.is_empty()
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if fine {
        Ok(name)
    } else {
        wrong(at, format!("{name:?} is not a header name in lower case"))
    }
}

/// Headers that may go on: never a credential, a cookie, framing, or one that Envoy or we give a meaning.
fn forwardable(at: &str, names: Vec<String>) -> Made<Vec<String>> {
    const NEVER: [&str; 9] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "upgrade",
    ];
    const NEVER_PREFIX: [&str; 3] = ["x-envoy-", "x-forwarded-", "keybrake-"];
    let names = header_names(at, names)?;
    for name in &names {
        if NEVER.contains(&name.as_str())
            || NEVER_PREFIX.iter().any(|prefix| name.starts_with(prefix))
        {
            return wrong(at, format!("{name} must never be forwarded"));
        }
    }
    Ok(names)
}

/// A host name in lower case without port.
pub fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'))
}

pub(crate) fn wrong<T>(at: impl Into<String>, problem: impl Into<String>) -> Made<T> {
    Err(InvalidPack::new(at, problem))
}
