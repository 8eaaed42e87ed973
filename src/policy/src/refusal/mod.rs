//! How a no, a replay, and a vendor's answer look to the caller (DESIGN.md §7).

mod shape;

use keybrake_contract::refusal::{CapLeft, Refusal, RefusalCode};
use keybrake_contract::wire::{Replay, StoredAnswer};
use serde_json::{Map, Value};

use crate::authorize::Denied;
use crate::pack::Pack;
use crate::read::Turned;
pub(crate) use shape::Shape;

/// An HTTP answer. Header names are lower case; no pseudo headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// A refusal and what the caller is told about it.
#[derive(Debug, Clone, Copy)]
pub struct RefusalView<'a> {
    /// Why.
    pub code: RefusalCode,
    /// For people; empty: the code's own sentence.
    pub message: &'a str,
    /// The request field that was to blame.
    pub param: Option<&'a str>,
    /// `METHOD /path` that was asked for.
    pub attempted: Option<&'a str>,
    /// What the grant allows.
    pub allowed_endpoints: &'a [String],
    /// The cap that would be passed.
    pub cap: Option<&'a CapLeft>,
    /// The budget that said no; `None`: the key itself.
    pub budget: Option<&'a str>,
    /// Request id of the earlier purchase that this one equals.
    pub earlier_request_id: Option<&'a str>,
    /// Ours.
    pub request_id: &'a str,
}

impl<'a> RefusalView<'a> {
    /// A refusal with nothing but its code.
    #[must_use]
    pub const fn plain(code: RefusalCode, request_id: &'a str) -> Self {
        Self {
            code,
            message: "",
            param: None,
            attempted: None,
            allowed_endpoints: &[],
            cap: None,
            budget: None,
            earlier_request_id: None,
            request_id,
        }
    }

    /// Of the ledger.
    #[must_use]
    pub fn of_ledger(refusal: &'a Refusal, request_id: &'a str) -> Self {
        Self {
            cap: refusal.cap.as_ref(),
            budget: refusal.budget.as_deref(),
            earlier_request_id: refusal.earlier_request_id.as_deref(),
            ..Self::plain(refusal.code, request_id)
        }
    }

    /// Of the reader.
    #[must_use]
    pub fn of_turned(turned: &'a Turned, request_id: &'a str) -> Self {
        Self {
            message: &turned.message,
            param: turned.param.as_deref(),
            ..Self::plain(turned.code, request_id)
        }
    }

    /// Of the check against the grant.
    #[must_use]
    pub fn of_denied(denied: &'a Denied, request_id: &'a str) -> Self {
        Self {
            message: &denied.message,
            param: denied.param.as_deref(),
            attempted: denied.attempted.as_deref(),
            allowed_endpoints: &denied.allowed_endpoints,
            ..Self::plain(denied.code, request_id)
        }
    }
}

/// Whether a client of ours should send the same request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryHint {
    /// It may.
    Retry,
    /// It must not.
    DoNotRetry,
}

/// How a forward ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// The time was over: 504.
    TimedOut,
    /// The connection broke, or the answer was cut: 502.
    Failed,
}

/// Whether the outcome was on disk when the caller got the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It was.
    Recorded,
    /// Not yet: `keybrake-settlement: pending`.
    Pending,
}

/// Whether it is known what the vendor did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeKnown {
    /// Yes.
    Known,
    /// No: `keybrake-outcome: unknown`, with advice about a retry.
    Unknown(RetryHint),
}

/// The answer to a refusal, in the vendor's shape. Without a pack in a shape that Stripe's SDKs read, too.
#[must_use]
pub fn answer(pack: Option<&Pack>, refusal: &RefusalView<'_>) -> Answer {
    let RefusalView {
        code,
        message,
        param,
        attempted,
        allowed_endpoints,
        cap,
        budget,
        earlier_request_id,
        request_id,
    } = *refusal;
    let (status, sentence, retry) = row(code);
    let told = sentence_with(sentence, cap, budget, earlier_request_id);
    let message = if message.is_empty() { &told } else { message };
    let mut details = Map::new();
    if let Some(attempted) = attempted {
        details.insert("attempted".to_owned(), attempted.into());
        details.insert("allowed_endpoints".to_owned(), allowed_endpoints.into());
    }
    let mut headers = Vec::new();
    if let Some(cap) = cap {
        describe_cap(cap, &mut details, &mut headers);
    }
    let named = [
        ("budget", budget),
        ("earlier_request_id", earlier_request_id),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            headers.push((
                format!("keybrake-{}", name.replace('_', "-")),
                header_text(value),
            ));
            details.insert(name.to_owned(), value.into());
        }
    }
    let shape = Shape {
        status,
        kind: None,
        code: code.as_str(),
        refusal: Some(code),
        message,
        param,
        details,
    };
    let mut answer = shape.answer(pack);
    answer.headers.append(&mut headers);
    answer
        .headers
        .push((REASON.to_owned(), code.as_str().to_owned()));
    advise(pack, &mut answer, retry);
    name_request(&mut answer, request_id);
    answer
}

/// Stands on every error that we wrote, and on none of the vendor's.
pub(crate) const REASON: &str = "keybrake-reason";

/// A code's sentence, with what a person needs to look further.
fn sentence_with(
    sentence: &str,
    cap: Option<&CapLeft>,
    budget: Option<&str>,
    earlier: Option<&str>,
) -> String {
    let mut told = cap.map_or_else(|| sentence.to_owned(), passed_cap);
    if let Some(earlier) = earlier {
        told.push_str("; the earlier request is ");
        told.push_str(earlier);
    }
    if let Some(budget) = budget {
        told.push_str("; budget ");
        told.push_str(budget);
    }
    told
}

/// Which cap, and by how much.
fn passed_cap(cap: &CapLeft) -> String {
    let CapLeft {
        limit,
        asked,
        left,
        resets_at,
    } = cap;
    let mut told = format!("this call would pass the cap {limit}");
    let figures = [
        asked.map(|asked| format!("{asked} USD asked")),
        left.map(|left| format!("{left} USD left")),
        resets_at.as_ref().map(|end| format!("it resets at {end}")),
    ];
    for (figure, mark) in figures.into_iter().flatten().zip([": ", ", ", ", "]) {
        told.push_str(mark);
        told.push_str(&figure);
    }
    told.push_str("; nothing was sent");
    told
}

/// Status, sentence and advice of each code: the table of DESIGN.md §7.
fn row(code: RefusalCode) -> (u16, &'static str, RetryHint) {
    use RefusalCode as Code;
    let (status, sentence) = match code {
        Code::VaultKeyInvalid => (401, "the vault key is not valid"),
        Code::VaultKeyExpired => (401, "the vault key has expired"),
        Code::VaultKeyRevoked => (401, "the vault key was revoked"),
        Code::VendorNotAllowed => (403, "this key is for another vendor"),
        Code::EndpointNotAllowed => (403, "this key does not allow this endpoint"),
        Code::AccountNotAllowed => (403, "this key does not allow this account"),
        Code::ParameterNotAllowed => (403, "a parameter is outside what this key allows"),
        Code::SpendCapExceeded => (402, "this call would pass a cap; nothing was sent"),
        Code::AmountUnknown => (
            403,
            "what this call costs cannot be known: its amount is in a currency without a rate, or cannot be read and the key \
             gives no worst case",
        ),
        Code::BudgetFrozen => (403, "the budget is closed, or frozen until it is opened"),
        Code::BudgetTripped => (403, "the budget's brake has tripped"),
        Code::HostNotAllowed => (421, "no configured vendor has this host or path"),
        Code::RequestTooLarge => (413, "the request is too large"),
        Code::RequestNotInspectable => (400, "the request cannot be read in exactly one way"),
        Code::EncodingNotAccepted => (415, "this body type or encoding is not accepted"),
        Code::IdempotencyKeyRequired => (400, "this key wants an idempotency key on every write"),
        Code::IdempotencyError => (400, "this idempotency key was used with other parameters"),
        Code::PossibleDuplicate => (
            409,
            "an equal purchase was made a moment ago under another idempotency key",
        ),
        Code::IdempotencyKeyInUse => (409, "a request with this idempotency key is still running"),
        Code::OutcomeUnknown => (
            409,
            "an earlier request with this idempotency key has no known outcome; reconcile it first",
        ),
        Code::GovernanceUnavailable => (
            503,
            "spend governance is not available; nothing was sent to the vendor",
        ),
    };
    let retry = match code {
        Code::IdempotencyKeyInUse | Code::GovernanceUnavailable => RetryHint::Retry,
        _ => RetryHint::DoNotRetry,
    };
    (status, sentence, retry)
}

fn describe_cap(
    cap: &CapLeft,
    details: &mut Map<String, Value>,
    headers: &mut Vec<(String, String)>,
) {
    let CapLeft {
        limit,
        asked,
        left,
        resets_at,
    } = cap;
    let members = [
        ("limit", Some(limit.clone())),
        ("asked", asked.map(|micros| micros.to_string())),
        ("left", left.map(|micros| micros.to_string())),
        ("resets_at", resets_at.clone()),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            headers.push((
                format!("keybrake-cap-{}", name.replace('_', "-")),
                header_text(&value),
            ));
            details.insert(name.to_owned(), value.into());
        }
    }
}

/// A stored answer, given again.
#[must_use]
pub fn replay_answer(pack: &Pack, replay: &Replay, request_id: &str) -> Answer {
    let Replay {
        hold: _,
        answer: stored,
        summary,
        retrieved,
    } = replay;
    let StoredAnswer {
        status,
        content_type,
        body,
        vendor_request_id,
    } = stored;
    let mut headers = vec![("content-type".to_owned(), header_text(content_type))];
    if let (Some(name), Some(id)) = (&pack.answer_headers.request_id, vendor_request_id) {
        headers.push((name.clone(), header_text(id)));
    }
    headers.push(("idempotent-replayed".to_owned(), "true".to_owned()));
    let mark = match (summary, retrieved) {
        (true, _) => Some("summary"),
        (false, true) => Some("retrieved"),
        (false, false) => None,
    };
    if let Some(mark) = mark {
        headers.push(("keybrake-replay".to_owned(), mark.to_owned()));
    }
    let mut answer = Answer {
        status: *status,
        headers,
        body: body.clone().into_bytes(),
    };
    name_request(&mut answer, request_id);
    answer
}

/// The vendor's answer (`Judgement::client`) with what we have to say about it.
#[must_use]
pub fn vendor_answer(
    pack: &Pack,
    client: Answer,
    request_id: &str,
    settlement: Settlement,
    outcome: OutcomeKnown,
) -> Answer {
    let mut answer = client;
    if settlement == Settlement::Pending {
        answer
            .headers
            .push(("keybrake-settlement".to_owned(), "pending".to_owned()));
    }
    if let OutcomeKnown::Unknown(retry) = outcome {
        answer
            .headers
            .push(("keybrake-outcome".to_owned(), "unknown".to_owned()));
        advise(Some(pack), &mut answer, retry);
    }
    name_request(&mut answer, request_id);
    answer
}

/// The answer when it was forwarded and the vendor did not answer.
#[must_use]
pub fn no_vendor_answer(pack: &Pack, how: NoAnswer, retry: RetryHint, request_id: &str) -> Answer {
    let (status, message) = match how {
        NoAnswer::TimedOut => (
            504,
            "the vendor did not answer in time; it may have executed the request",
        ),
        NoAnswer::Failed => (
            502,
            "the vendor's answer did not arrive; it may have executed the request",
        ),
    };
    let shape = Shape {
        status,
        kind: None,
        code: RefusalCode::OutcomeUnknown.as_str(),
        refusal: Some(RefusalCode::OutcomeUnknown),
        message,
        param: None,
        details: Map::new(),
    };
    let mut answer = shape.answer(Some(pack));
    answer.headers.push((
        REASON.to_owned(),
        RefusalCode::OutcomeUnknown.as_str().to_owned(),
    ));
    vendor_answer(
        pack,
        answer,
        request_id,
        Settlement::Recorded,
        OutcomeKnown::Unknown(retry),
    )
}

/// The answer when Envoy did not take the forward: nothing was sent.
#[must_use]
pub fn not_sent(pack: &Pack, request_id: &str) -> Answer {
    let refusal = RefusalView {
        message: "the vendor could not be reached; nothing was sent to it",
        ..RefusalView::plain(RefusalCode::GovernanceUnavailable, request_id)
    };
    answer(Some(pack), &refusal)
}

/// Sets the retry hint, in place of one that the vendor gave.
fn advise(pack: Option<&Pack>, answer: &mut Answer, retry: RetryHint) {
    let name = match pack {
        None => "stripe-should-retry",
        Some(pack) => match &pack.answer_headers.retry_hint {
            None => return,
            Some(name) => name,
        },
    };
    answer.headers.retain(|(have, _)| have != name);
    let value = match retry {
        RetryHint::Retry => "true",
        RetryHint::DoNotRetry => "false",
    };
    answer.headers.push((name.to_owned(), value.to_owned()));
}

fn name_request(answer: &mut Answer, request_id: &str) {
    answer
        .headers
        .push(("keybrake-request-id".to_owned(), header_text(request_id)));
}

/// Printable ASCII, at most 256 characters: what may stand in a header of ours.
fn header_text(text: &str) -> String {
    text.chars()
        .filter(|letter| matches!(letter, ' '..='~'))
        .take(256)
        .collect()
}

#[cfg(test)]
mod tests;
