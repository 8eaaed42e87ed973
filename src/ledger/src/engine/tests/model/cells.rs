//! Which cells of DESIGN.md §5's tables a run has reached, so that it cannot degenerate unseen.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::decide::Likeness;
use super::{Answer, Ask, Hold, Id, Model, No, Op, Record, Verdict};

/// How often each cell was reached.
#[derive(Debug, Default)]
pub struct Cells(Mutex<BTreeMap<String, u64>>);

impl Cells {
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    pub fn reached(&self, cell: String) {
        *self.0.lock().unwrap().entry(cell).or_default() += 1;
    }

    /// Those of [`all`] that were never reached.
    pub fn missing(&self) -> Vec<String> {
        let reached = self.0.lock().unwrap();
        let mut all = all();
        all.retain(|cell| !reached.contains_key(cell));
        all
    }

    /// The rarest, for people.
    pub fn rarest(&self) -> Vec<(u64, String)> {
        let reached = self.0.lock().unwrap();
        let all = all();
        let mut counts: Vec<_> = all
            .into_iter()
            .map(|cell| (reached.get(&cell).copied().unwrap_or(0), cell))
            .collect();
        counts.sort();
        counts.truncate(12);
        counts
    }
}

impl Model {
    /// The cell that a command is about to be decided by.
    pub fn cell(&self, id: Id, op: &Op) -> Option<String> {
        if self.commands.contains_key(&id) {
            return None;
        }
        match op {
            Op::Reserve(ask) => self.reserve_cell(ask),
            Op::Outcome(said) => {
                let number = self.requests.iter().position(|one| one.id == said.hold)?;
                let attempt = usize::try_from(said.attempt).unwrap() - 1;
                self.outcome_cell(number, attempt, said.verdict)
            }
            Op::Release(_) => None,
        }
    }

    fn reserve_cell(&self, ask: &Ask) -> Option<String> {
        if self.unusable(ask.key).is_some() || ask.version != Some(self.version(ask.key)) {
            return None;
        }
        ask.idempotency.filter(|_| !ask.is_read)?;
        let Some((number, likeness)) = self.standing(ask) else {
            return Some("reserve, no record".to_owned());
        };
        let is_remembered = self.is_remembered(number);
        Some(reserved(
            self.requests[number].record,
            likeness,
            is_remembered,
        ))
    }

    fn outcome_cell(&self, number: usize, attempt: usize, verdict: Verdict) -> Option<String> {
        let request = &self.requests[number];
        if request.ask.is_read || attempt >= request.attempts.len() {
            return None;
        }
        let which = Standing {
            is_latest: attempt + 1 == request.attempts.len(),
            is_surely_none: self.are_others_not_executed(number, attempt),
        };
        Some(ended(request.record, request.hold, verdict, which))
    }
}

/// The cell of an answer.
pub fn answered(answer: &Answer) -> String {
    match answer {
        Answer::Refused(No {
            code,
            limit,
            budget,
            ..
        }) => {
            let whose = if budget.is_some() { "budget" } else { "key" };
            refused(code.as_str(), limit.as_deref(), whose)
        }
        Answer::Replay { answer, .. } => format!("replay, whole: {}", answer.is_some()),
        other => {
            let text = format!("{other:?}");
            let end = text.find([' ', '(']).unwrap_or(text.len());
            text[..end].to_owned()
        }
    }
}

fn refused(code: &str, limit: Option<&str>, whose: &str) -> String {
    format!("refused, {code} {} of a {whose}", limit.unwrap_or("-"))
}

fn reserved(record: Record, likeness: Likeness, is_remembered: bool) -> String {
    match (record, likeness) {
        // Whatever the fingerprint.
        (Record::Released, _) => "reserve, Released".to_owned(),
        (Record::Unknown, Likeness::Same) => {
            format!("reserve, Unknown Same, remembered: {is_remembered}")
        }
        _ => format!("reserve, {record:?} {likeness:?}"),
    }
}

/// How an attempt stands among the others of its hold.
#[derive(Clone, Copy)]
struct Standing {
    is_latest: bool,
    is_surely_none: bool,
}

fn ended(record: Record, hold: Hold, verdict: Verdict, standing: Standing) -> String {
    let verdict = match verdict {
        Verdict::Moved(_) => "Moved",
        Verdict::Open(_) => "Open",
        Verdict::Cancelled => "Cancelled",
        Verdict::Declined => "Declined",
        Verdict::NotExecuted => "NotExecuted",
        Verdict::Indeterminate => "Indeterminate",
    };
    let cell = format!("outcome, {record:?} {hold:?} {verdict}");
    let Standing {
        is_latest,
        is_surely_none,
    } = standing;
    // Elsewhere it makes no difference.
    let is_told_apart = matches!(
        (record, verdict),
        (
            Record::InFlight | Record::Unknown,
            "NotExecuted" | "Indeterminate"
        )
    );
    if is_told_apart {
        format!("{cell}, latest: {is_latest}, no other executed: {is_surely_none}")
    } else {
        cell
    }
}

/// Every cell that can be reached.
fn all() -> Vec<String> {
    let mut all: Vec<String> = [
        "Admitted",
        "Grant",
        "InFlight",
        "Cancelled",
        "Recorded",
        "Released",
        "Conflict",
        "replay, whole: true",
        "replay, whole: false",
        "reserve, no record",
        "reserve, Released",
        "reserve, Unknown Same, remembered: true",
        "reserve, Unknown Same, remembered: false",
        "resolved, true",
        "resolved, false",
        "what is held is resolved",
        "a budget trips",
        "an attempt is swept",
        "a hold of an object is decided along",
        "a part of a total is settled already",
    ]
    .map(str::to_owned)
    .into();
    for record in [Record::InFlight, Record::Answered, Record::Unknown] {
        for likeness in [Likeness::Same, Likeness::SamePurchase, Likeness::Other] {
            if (record, likeness) != (Record::Unknown, Likeness::Same) {
                all.push(reserved(record, likeness, true));
            }
        }
    }
    all.extend(every_refusal());
    all.extend(every_end());
    all
}

fn every_refusal() -> Vec<String> {
    let both = ["key", "budget"];
    let mut all = Vec::new();
    for whose in both {
        for limit in [
            "per_request_usd_cap",
            "daily_usd_cap",
            "monthly_usd_cap",
            "rolling_usd_cap",
            "lifetime_usd_cap",
        ] {
            all.push(refused("spend_cap_exceeded", Some(limit), whose));
        }
        all.push(refused("possible_duplicate", None, whose));
    }
    all.push(refused("spend_cap_exceeded", Some("max_requests"), "key"));
    for code in [
        "vault_key_revoked",
        "vault_key_expired",
        "idempotency_error",
        "outcome_unknown",
        "amount_unknown",
    ] {
        all.push(refused(code, None, "key"));
    }
    for code in ["budget_frozen", "budget_tripped"] {
        all.push(refused(code, None, "budget"));
    }
    all
}

/// Every state of record and hold, with every verdict.
fn every_end() -> Vec<String> {
    let states = [
        (Record::InFlight, Hold::Held),
        (Record::InFlight, Hold::Unknown),
        (Record::Unknown, Hold::Unknown),
        (Record::Answered, Hold::Settled),
        (Record::Answered, Hold::Held),
        (Record::Answered, Hold::Released),
        (Record::Released, Hold::Released),
    ];
    let verdicts = [
        Verdict::Moved(None),
        Verdict::Open(None),
        Verdict::Cancelled,
        Verdict::Declined,
        Verdict::NotExecuted,
        Verdict::Indeterminate,
    ];
    let mut all = Vec::new();
    for (record, hold) in states {
        for verdict in verdicts {
            for (is_latest, is_surely_none) in
                [(true, true), (true, false), (false, true), (false, false)]
            {
                let can_be = match (record, hold) {
                    // There is one attempt.
                    (Record::InFlight, Hold::Held) => is_latest && is_surely_none,
                    // The latest attempt is being made.
                    (Record::InFlight, _) => is_latest || !is_surely_none,
                    _ => true,
                };
                let standing = Standing {
                    is_latest,
                    is_surely_none,
                };
                if can_be {
                    all.push(ended(record, hold, verdict, standing));
                }
            }
        }
    }
    all.dedup();
    all
}
