//! What a vendor's answer says about the attempt, by the pack's table.

use keybrake_contract::money::{Currency, Minor};
use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::{AttemptOutcome, Executed, ExecutedMoney, StoredAnswer};
use serde_json::Value;

use crate::pack::{AnswerRules, Endpoint, MoneyState, Pack, RuledOutcome};
use crate::refusal::{Answer, REASON, Shape};
use keybrake_text::bytes::Text;
use keybrake_text::json::{Members, text_of};

/// A vendor's answer as Envoy gives it.
#[derive(Clone, Copy)]
pub struct VendorAnswer<'a> {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case. Pseudo headers are passed over.
    pub headers: &'a [(Vec<u8>, Vec<u8>)],
    /// The whole body.
    pub body: &'a [u8],
}

/// The judgement about an attempt that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// For the ledger.
    pub outcome: AttemptOutcome,
    /// The vendor's id of what was made or changed.
    pub vendor_object_id: Option<String>,
    /// The charge behind it.
    pub charge_id: Option<String>,
    /// The vendor's id of this request.
    pub vendor_request_id: Option<String>,
    /// The vendor marked its answer as a replay.
    pub replayed_by_vendor: bool,
    /// To be given again to a repeat; only for [`AttemptOutcome::Executed`].
    pub stored: Option<StoredAnswer>,
    /// What the caller gets: the vendor's own answer, or a vendor-shaped error when it cannot be read. Without our
    /// own headers: `refusal::vendor_answer` adds them.
    pub client: Answer,
}

/// Most bytes of vendor headers that are looked at.
const MAX_HEADER_BYTES: usize = 60 * 1024;
/// Most bytes of an answer that is kept for replay; a longer one is kept as a summary.
const MAX_STORED_BYTES: usize = 1024 * 1024;
/// Members of a summary (DESIGN.md §5).
const SUMMARY: [&str; 5] = ["id", "object", "amount", "currency", "status"];

/// Judges an answer. (No answer at all is [`AttemptOutcome::Indeterminate`], unless nothing was sent.)
#[must_use]
pub fn judge(pack: &Pack, endpoint: &Endpoint, answer: &VendorAnswer<'_>) -> Judgement {
    let text = readable(answer);
    let members = text.and_then(Members::parse);
    let error = members.as_ref().and_then(|members| error_of(pack, members));
    let mut judgement = Judgement {
        outcome: AttemptOutcome::Indeterminate,
        vendor_object_id: None,
        charge_id: None,
        vendor_request_id: pack
            .answer_headers
            .request_id
            .as_ref()
            .and_then(|name| header(answer, name))
            .and_then(audit_text),
        replayed_by_vendor: pack
            .answer_headers
            .replayed
            .as_ref()
            .is_some_and(|(name, value)| header(answer, name) == Some(value)),
        stored: None,
        client: Answer {
            status: answer.status,
            headers: Vec::new(),
            body: Vec::new(),
        },
    };
    let success = (200..300).contains(&answer.status);
    let client = match (text, members) {
        (Some(text), Some(members)) if success && error.is_none() => {
            executed(endpoint, answer, text, &members, &mut judgement)
        }
        (Some(_), _) if !success => {
            judgement.outcome = by_table(pack, answer.status, error.as_ref());
            match error {
                Some(_) if answer.status >= 400 => Client::Own,
                _ => Client::Shaped,
            }
        }
        _ => Client::Shaped,
    };
    judgement.client = match client {
        Client::Own => own(answer),
        Client::Shaped => shaped(pack, answer.status, &judgement.outcome),
    };
    judgement
}

/// Judges the answer to a read, which changes nothing at the vendor. `None`: no answer came.
#[must_use]
pub fn judge_read(status: Option<u16>) -> AttemptOutcome {
    match status {
        Some(200..=399) => AttemptOutcome::Executed(Executed {
            money: ExecutedMoney::Moved,
            amount: None,
            is_total: false,
        }),
        _ => AttemptOutcome::NotExecuted,
    }
}

/// What the caller gets.
enum Client {
    /// The vendor's own answer.
    Own,
    /// An error in the vendor's shape: the vendor's answer could be taken for something else.
    Shaped,
}

/// Fills in an execution. An answer of a money endpoint without an id is not one.
fn executed(
    endpoint: &Endpoint,
    answer: &VendorAnswer<'_>,
    text: &str,
    members: &Members<'_>,
    judgement: &mut Judgement,
) -> Client {
    let rules = endpoint.answer.as_deref();
    let id_at = rules.map_or("id", |rules| rules.id.as_str());
    judgement.vendor_object_id = members.at(id_at).and_then(object_id);
    if rules.is_some() && judgement.vendor_object_id.is_none() {
        return Client::Shaped;
    }
    let whole = rules
        .and_then(|rules| rules.part_of.as_ref())
        .and_then(|name| members.at(name))
        .and_then(object_id);
    if whole.is_some() {
        judgement.vendor_object_id = whole;
    }
    judgement.charge_id = rules
        .and_then(|rules| rules.charge.as_ref())
        .and_then(|name| members.at(name))
        .and_then(object_id);
    let money = rules.map_or(ExecutedMoney::Moved, |rules| money_state(rules, members));
    let amount = rules.and_then(|rules| amount(rules, money, members));
    judgement.outcome = AttemptOutcome::Executed(Executed {
        money,
        amount,
        is_total: amount.is_some() && rules.is_some_and(|rules| rules.is_total),
    });
    judgement.stored = Some(StoredAnswer {
        status: answer.status,
        content_type: header(answer, "content-type")
            .and_then(audit_text)
            .unwrap_or_else(|| "application/json".to_owned()),
        body: if text.len() <= MAX_STORED_BYTES {
            text.to_owned()
        } else {
            summary(members)
        },
        vendor_request_id: judgement.vendor_request_id.clone(),
    });
    Client::Own
}

fn money_state(rules: &AnswerRules, members: &Members<'_>) -> ExecutedMoney {
    let found = rules.states.iter().find(|rule| {
        rule.when
            .iter()
            .all(|(name, wanted)| members.get(name).is_some_and(|raw| says(raw, wanted)))
    });
    match found.map(|rule| rule.money) {
        Some(MoneyState::Settled) => ExecutedMoney::Moved,
        Some(MoneyState::Cancelled) => ExecutedMoney::Cancelled,
        Some(MoneyState::Open) | None => ExecutedMoney::Open,
    }
}

/// Whether a value that is not read yet is the wanted one.
fn says(raw: &str, wanted: &Value) -> bool {
    match wanted {
        Value::String(wanted) => text_of(raw).is_some_and(|text| text == wanted.as_str()),
        Value::Bool(true) => raw == "true",
        Value::Bool(false) => raw == "false",
        Value::Null => raw == "null",
        _ => serde_json::from_str::<Value>(raw).is_ok_and(|value| value == *wanted),
    }
}

/// Amount and currency; `None`, as long as one of the two cannot be read: then what was held counts.
fn amount(rules: &AnswerRules, money: ExecutedMoney, members: &Members<'_>) -> Option<Minor> {
    let names = match money {
        ExecutedMoney::Moved => &rules.amount_moved,
        ExecutedMoney::Open => &rules.amount_open,
        ExecutedMoney::Cancelled => return None,
    };
    let amount = names
        .iter()
        .find_map(|name| members.at(name)?.parse().ok())?;
    let currency = text_of(members.at(rules.currency.as_deref()?)?)?;
    Some(Minor {
        amount,
        currency: Currency::parse(&currency).ok()?,
    })
}

/// An id, or the id of an object that stands in its place (`expand[]=latest_charge`).
fn object_id(raw: &str) -> Option<String> {
    let id = if raw.starts_with('{') {
        text_of(Members::parse(raw)?.get("id")?)?
    } else {
        text_of(raw)?
    };
    let fine = !id.is_empty()
        && id.len() <= 255
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    fine.then(|| id.into_owned())
}

/// What an error says of itself.
struct VendorError {
    kind: Option<String>,
    code: Option<String>,
}

/// The error in an answer, if it has the mark that every error of this vendor has.
fn error_of(pack: &Pack, members: &Members<'_>) -> Option<VendorError> {
    let shape = &pack.refusal;
    let first = shape.mark.trim_start_matches('/').split('/').next()?;
    let raw = members.get(first)?;
    let inner: Value = serde_json::from_str(raw).ok()?;
    let mut whole = serde_json::Map::new();
    whole.insert(first.to_owned(), inner);
    let whole = Value::Object(whole);
    whole.pointer(&shape.mark).filter(|mark| !mark.is_null())?;
    let text = |at: &str| whole.pointer(at).and_then(Value::as_str).map(str::to_owned);
    Some(VendorError {
        kind: text(&shape.type_at),
        code: text(&shape.code_at),
    })
}

/// The first line of the pack's table that fits; none: cannot be told.
fn by_table(pack: &Pack, status: u16, error: Option<&VendorError>) -> AttemptOutcome {
    let fits = |wanted: &Option<String>, have: Option<&String>| match wanted {
        None => true,
        Some(wanted) => have == Some(wanted),
    };
    let rule = pack.outcomes.iter().find(|rule| {
        rule.statuses.contains(&status)
            && fits(&rule.kind, error.and_then(|error| error.kind.as_ref()))
            && fits(&rule.code, error.and_then(|error| error.code.as_ref()))
    });
    match rule.map(|rule| rule.outcome) {
        Some(RuledOutcome::DeclinedFinal) => AttemptOutcome::DeclinedFinal,
        Some(RuledOutcome::NotExecuted) => AttemptOutcome::NotExecuted,
        Some(RuledOutcome::Indeterminate) | None => AttemptOutcome::Indeterminate,
    }
}

/// The body as text, if headers and body are fit to be read at all.
fn readable<'a>(answer: &VendorAnswer<'a>) -> Option<&'a str> {
    let mut bytes = 0_usize;
    for (name, value) in answer.headers {
        bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
        for bytes in [name, value] {
            if Text::of(bytes) == Text::NotAscii {
                std::str::from_utf8(bytes).ok()?;
            }
        }
        if name == b"content-encoding" && !value.eq_ignore_ascii_case(b"identity") {
            return None;
        }
    }
    if bytes > MAX_HEADER_BYTES {
        return None;
    }
    std::str::from_utf8(answer.body).ok()
}

fn summary(members: &Members<'_>) -> String {
    let mut kept = serde_json::Map::new();
    for name in SUMMARY {
        if let Some(value) = members
            .get(name)
            .and_then(|raw| serde_json::from_str(raw).ok())
        {
            kept.insert(name.to_owned(), value);
        }
    }
    Value::Object(kept).to_string()
}

fn header<'a>(answer: &VendorAnswer<'a>, name: &str) -> Option<&'a str> {
    answer
        .headers
        .iter()
        .find(|(have, _)| have == name.as_bytes())
        .and_then(|(_, value)| std::str::from_utf8(value).ok())
}

/// A vendor's text as it may stand in the audit: 1 to 255 printable ASCII characters without quotes and backslashes.
fn audit_text(text: &str) -> Option<String> {
    let fine = !text.is_empty()
        && text.len() <= 255
        && text
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
    fine.then(|| text.to_owned())
}

/// The vendor's answer without what belongs to the connection, to Envoy or to us.
fn own(answer: &VendorAnswer<'_>) -> Answer {
    let mut headers = Vec::with_capacity(answer.headers.len());
    for (name, value) in answer.headers {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            continue;
        };
        let control = match Text::of(value.as_bytes()) {
            Text::Printable => false,
            Text::Control => true,
            Text::NotAscii => value.chars().any(char::is_control),
        };
        if !control && goes_on(name) {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    Answer {
        status: answer.status,
        headers,
        body: answer.body.to_vec(),
    }
}

/// Whether a header belongs to the answer itself, and not to the connection, to Envoy or to us.
fn goes_on(name: &str) -> bool {
    !(name.starts_with(':')
        || name.starts_with("x-envoy-")
        || name.starts_with("keybrake-")
        || matches!(
            name,
            "connection"
                | "keep-alive"
                | "proxy-connection"
                | "transfer-encoding"
                | "content-length"
                | "trailer"
                | "upgrade"
                | "te"
                | "server"
        ))
}

/// An error in the vendor's shape in place of an answer that a client could take for a success.
fn shaped(pack: &Pack, status: u16, outcome: &AttemptOutcome) -> Answer {
    let (status, code, message) = match outcome {
        AttemptOutcome::NotExecuted if status >= 400 => (
            status,
            "vendor_error",
            "the vendor refused the request; its answer was not in its usual form",
        ),
        _ => (
            502,
            RefusalCode::OutcomeUnknown.as_str(),
            "the vendor's answer cannot be read; it may have executed the request",
        ),
    };
    let shape = Shape {
        status,
        kind: Some("api_error"),
        code,
        refusal: None,
        message,
        param: None,
        details: serde_json::Map::new(),
    };
    let mut answer = shape.answer(Some(pack));
    answer.headers.push((REASON.to_owned(), code.to_owned()));
    answer
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
