//! Faults that a test asks for: which requests they meet, how often, and what they do.
//!
//! `fault_words` reads the control API's words; `vendor` and `exchange` act on the typed [`Fault`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::arrival::Arrival;
use crate::fault_words::{FaultWords, InvalidFault};

/// Which requests a fault meets. What is absent meets all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Exact method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Exact path without query; a `*` at the end matches any rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Exact idempotency key; a `*` at the end matches any rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// A part of the raw body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
}

impl Match {
    fn meets(&self, arrival: &Arrival) -> bool {
        self.method.as_ref().is_none_or(|m| *m == arrival.method)
            && self.path.as_ref().is_none_or(|p| fits(p, &arrival.path))
            && self
                .idempotency_key
                .as_ref()
                .is_none_or(|k| arrival.key.as_deref().is_some_and(|key| fits(k, key)))
            && self
                .body_contains
                .as_ref()
                .is_none_or(|part| String::from_utf8_lossy(&arrival.body).contains(part.as_str()))
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => pattern == text,
    }
}

/// `POST /faults`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOrder {
    /// Which requests.
    #[serde(rename = "match", default)]
    pub matching: Match,
    /// How often; `null` for ever.
    #[serde(default = "once")]
    pub times: Option<u64>,
    /// What happens.
    pub fault: FaultWords,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's own type")]
fn once() -> Option<u64> {
    Some(1)
}

/// Before or after the execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// The key is in flight meanwhile.
    Before,
    /// The answer is stored already.
    After,
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Waits this long before or after the execution.
    pub delay: Option<(When, Duration)>,
    /// What the vendor does.
    pub act: Act,
    /// What happens to the answer on its way.
    pub twist: Twist,
}

/// What the vendor does with the request.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// What it always does.
    Execute,
    /// Never sees the request: no execution, no record, no idempotency check.
    Skip,
    /// In the place of an answer of its own, this one.
    Instead {
        /// The answer.
        canned: Canned,
        /// Whether the request executes all the same.
        executes: Executes,
        /// Whether the canned answer is stored under the key.
        stored: Stored,
    },
}

/// Whether a canned answer stands beside an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Executes {
    Yes,
    No,
}

/// Whether a canned answer is stored under the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Stored {
    Yes,
    No,
}

/// An answer made up by a fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Canned {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
    /// Headers beside the usual ones.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// What happens to the answer on its way.
#[derive(Debug, Clone, PartialEq)]
pub enum Twist {
    /// Nothing.
    None,
    /// TCP RST, no byte of answer.
    Reset,
    /// TCP FIN, no byte of answer.
    Close,
    /// No answer until the client closes.
    Hang,
    /// Whole `content-length`, this many bytes of body, then RST.
    Cut(usize),
    /// These headers in addition.
    Headers(Vec<(String, Vec<u8>)>),
    /// One more header of this length.
    HugeHeader(usize),
    /// A body of this length: the JSON and then spaces.
    HugeBody(usize),
    /// `content-encoding: gzip` on a body that is none.
    Gzip,
    /// 200 with a page that is not JSON.
    NotJson,
    /// These raw bytes on the connection right before the answer (HTTP/1.1).
    RawBefore(Vec<u8>),
}

/// A fault in waiting.
#[derive(Debug, Clone, Serialize)]
pub struct Waiting {
    /// Its id.
    pub id: u64,
    #[serde(flatten)]
    order: FaultOrder,
    /// Requests it met.
    pub hits: u64,
    #[serde(skip)]
    fault: Fault,
}

/// All faults, oldest first. A request meets the first that fits.
#[derive(Debug, Default)]
pub struct Faults {
    waiting: Vec<Waiting>,
    last_id: u64,
}

impl Faults {
    /// Adds a fault.
    ///
    /// # Errors
    /// When its words make no sense.
    pub fn add(&mut self, order: FaultOrder) -> Result<u64, InvalidFault> {
        let fault = Fault::try_from(&order.fault)?;
        self.last_id = self.last_id.saturating_add(1);
        self.waiting.push(Waiting {
            id: self.last_id,
            order,
            hits: 0,
            fault,
        });
        Ok(self.last_id)
    }

    /// The fault that this request meets, used up by one.
    pub fn pick(&mut self, arrival: &Arrival) -> Option<Fault> {
        let met = self
            .waiting
            .iter_mut()
            .find(|w| w.order.times != Some(0) && w.order.matching.meets(arrival))?;
        met.hits = met.hits.saturating_add(1);
        met.order.times = met.order.times.map(|n| n.saturating_sub(1));
        Some(met.fault.clone())
    }

    /// All faults, used-up ones too, with what remains of `times`.
    #[must_use]
    pub fn all(&self) -> &[Waiting] {
        &self.waiting
    }

    /// Forgets all faults.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}
