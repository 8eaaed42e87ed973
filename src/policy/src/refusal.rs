//! How a no, a replay, and a vendor's answer look to the caller (DESIGN.md §7).

use keybrake_contract::refusal::{CapLeft, Refusal, RefusalCode};
use keybrake_contract::wire::Replay;

use crate::authorize::Denied;
use crate::pack::Pack;
use crate::read::Turned;

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
            request_id,
        }
    }

    /// Of the ledger.
    #[must_use]
    pub fn of_ledger(refusal: &'a Refusal, request_id: &'a str) -> Self {
        Self {
            cap: refusal.cap.as_ref(),
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
    let _ = (pack, refusal);
    Answer {
        status: 403,
        headers: Vec::new(),
        body: Vec::new(),
    }
}

/// A stored answer, given again.
#[must_use]
pub fn replay_answer(pack: &Pack, replay: &Replay, request_id: &str) -> Answer {
    let _ = (pack, replay, request_id);
    Answer {
        status: 200,
        headers: Vec::new(),
        body: Vec::new(),
    }
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
    let _ = (pack, request_id, settlement, outcome);
    client
}

/// The answer when it was forwarded and the vendor did not answer.
#[must_use]
pub fn no_vendor_answer(pack: &Pack, how: NoAnswer, retry: RetryHint, request_id: &str) -> Answer {
    let _ = (pack, how, retry, request_id);
    Answer {
        status: 502,
        headers: Vec::new(),
        body: Vec::new(),
    }
}

/// The answer when Envoy did not take the forward: nothing was sent.
#[must_use]
pub fn not_sent(pack: &Pack, request_id: &str) -> Answer {
    answer(
        Some(pack),
        &RefusalView::plain(RefusalCode::GovernanceUnavailable, request_id),
    )
}
