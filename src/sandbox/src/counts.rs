//! What the vendor received and executed, for tests to assert on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::arrival::{Arrival, Entry};
use crate::auth::{Credential, Judged};

/// The longest request log.
const LOG_ENTRIES: usize = 10_000;

/// Requests and executions of one idempotency key.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct KeyCount {
    /// Requests that came with it.
    pub requests: u64,
    /// What was executed under it.
    pub executions: u64,
}

/// Everything that is counted by request.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    /// Whole requests received, refused ones too.
    pub requests: u64,
    /// Executions, ever.
    pub executions_total: u64,
    /// Executions of requests without a key.
    pub unkeyed_executions: u64,
    /// Stored answers given again.
    pub replays: u64,
    /// Requests without any credential.
    pub missing_credentials: u64,
    /// By idempotency key, over all accounts.
    pub by_key: HashMap<Arc<str>, KeyCount>,
    /// By endpoint, accepted requests only.
    pub by_endpoint: BTreeMap<&'static str, u64>,
    #[serde(serialize_with = "rejected_list")]
    rejected_credentials: BTreeMap<Credential, u64>,
}

#[derive(Serialize)]
struct Rejected<'a> {
    #[serde(flatten)]
    seen: &'a Credential,
    count: u64,
}

fn rejected_list<S: serde::Serializer>(
    map: &BTreeMap<Credential, u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.iter().map(|(seen, count)| Rejected {
        seen,
        count: *count,
    }))
}

impl Counts {
    /// Counts a request.
    pub fn request(&mut self, arrival: &Arrival) {
        self.requests = self.requests.saturating_add(1);
        match &arrival.judged {
            Judged::Accepted(_) => {}
            Judged::Missing => {
                self.missing_credentials = self.missing_credentials.saturating_add(1)
            }
            Judged::Rejected(all) => {
                for seen in all {
                    let count = self.rejected_credentials.entry(seen.clone()).or_default();
                    *count = count.saturating_add(1);
                }
            }
        }
        if let Some(key) = &arrival.key {
            let count = self.by_key.entry(Arc::clone(key)).or_default();
            count.requests = count.requests.saturating_add(1);
        }
    }

    /// Counts a request of an endpoint.
    pub fn endpoint(&mut self, endpoint: &'static str) {
        let count = self.by_endpoint.entry(endpoint).or_default();
        *count = count.saturating_add(1);
    }

    /// Counts a replay.
    pub fn replay(&mut self) {
        self.replays = self.replays.saturating_add(1);
    }

    /// Counts executions.
    pub fn executed(&mut self, key: Option<&Arc<str>>, executions: u64) {
        if executions == 0 {
            return;
        }
        self.executions_total = self.executions_total.saturating_add(executions);
        match key {
            Some(key) => {
                let count = self.by_key.entry(Arc::clone(key)).or_default();
                count.executions = count.executions.saturating_add(executions);
            }
            None => self.unkeyed_executions = self.unkeyed_executions.saturating_add(executions),
        }
    }
}

/// The last requests.
#[derive(Debug, Default)]
pub struct RequestLog {
    entries: VecDeque<Entry>,
    last_number: u64,
}

impl RequestLog {
    /// Adds the entry made for the next number.
    pub fn push(&mut self, make: impl FnOnce(u64) -> Entry) -> u64 {
        self.last_number = self.last_number.saturating_add(1);
        if self.entries.len() >= LOG_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(make(self.last_number));
        self.last_number
    }

    /// Notes what was answered, if the request is still in the log.
    pub fn answered(&mut self, number: u64, status: u16, replayed: bool) {
        let first = self.entries.front().map_or(0, Entry::number);
        let Some(place) = number
            .checked_sub(first)
            .and_then(|n| usize::try_from(n).ok())
        else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(place) {
            entry.answered(status, replayed);
        }
    }

    /// The entries after this number.
    #[must_use]
    pub fn since(&self, number: u64) -> Vec<Value> {
        self.entries
            .iter()
            .filter(|entry| entry.number() > number)
            .map(Entry::show)
            .collect()
    }

    /// The newest number.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Forgets the entries; the numbers go on.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
