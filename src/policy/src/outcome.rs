//! What a vendor's answer says about the attempt, by the pack's table.

use keybrake_contract::wire::{AttemptOutcome, StoredAnswer};

use crate::pack::{Endpoint, Pack};
use crate::refusal::Answer;

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

/// Judges an answer. (No answer at all is [`AttemptOutcome::Indeterminate`], unless nothing was sent.)
#[must_use]
pub fn judge(pack: &Pack, endpoint: &Endpoint, answer: &VendorAnswer<'_>) -> Judgement {
    let _ = (pack, endpoint);
    Judgement {
        outcome: AttemptOutcome::Indeterminate,
        vendor_object_id: None,
        charge_id: None,
        vendor_request_id: None,
        replayed_by_vendor: false,
        stored: None,
        client: Answer {
            status: answer.status,
            headers: Vec::new(),
            body: Vec::new(),
        },
    }
}

/// Judges the answer to a read, which changes nothing at the vendor. `None`: no answer came.
#[must_use]
pub fn judge_read(status: Option<u16>) -> AttemptOutcome {
    let _ = status;
    AttemptOutcome::Indeterminate
}
