//! Counting and latency of one run.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What one client or one run measured.
#[derive(Default)]
pub struct Figures {
    latencies_us: Vec<u32>,
    failures: u64,
    elapsed: Duration,
    first_failure: Option<String>,
}

impl Figures {
    /// Notes one answered request.
    pub fn answered(&mut self, since: Instant) {
        self.latencies_us
            .push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX));
    }

    /// Notes one that was not answered as it should be.
    pub fn failed(&mut self, why: String) {
        self.failures += 1;
        self.first_failure.get_or_insert(why);
    }

    /// Puts the figures of parallel clients together.
    pub fn merge(parts: impl IntoIterator<Item = Self>, elapsed: Duration) -> Self {
        let mut whole = Self {
            elapsed,
            ..Self::default()
        };
        for part in parts {
            whole.latencies_us.extend(part.latencies_us);
            whole.failures += part.failures;
            whole.first_failure = whole.first_failure.or(part.first_failure);
        }
        whole.latencies_us.sort_unstable();
        whole
    }

    /// How many requests were answered as they should be.
    pub fn count(&self) -> usize {
        self.latencies_us.len()
    }

    fn percentile(&self, hundredth: usize) -> u32 {
        let last = self.latencies_us.len().saturating_sub(1);
        self.latencies_us
            .get((last * hundredth) / 100)
            .copied()
            .unwrap_or_default()
    }

    /// `{"count", "failures", "first_failure", "seconds", "per_second", "p50_us", "p99_us"}`.
    pub fn to_json(&self) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        json!({
            "count": self.latencies_us.len(),
            "failures": self.failures,
            "first_failure": self.first_failure,
            "seconds": seconds,
            "per_second": self.latencies_us.len() as f64 / seconds.max(1e-9),
            "p50_us": self.percentile(50),
            "p99_us": self.percentile(99),
        })
    }
}
