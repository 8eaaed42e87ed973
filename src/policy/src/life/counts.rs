//! Refusals of requests without a valid key: counted here, told to the ledger about once a minute.

use std::collections::BTreeMap;

use keybrake_contract::wire::CountedReason;

use super::Millis;

/// At most one telling in this time.
const INTERVAL_MS: Millis = 60_000;

/// Counts by reason and listener. Bounded: listeners come from the plugin configuration.
#[derive(Debug, Default)]
pub struct RefusalCounts {
    counts: BTreeMap<(CountedReason, String), u64>,
    told_at: Option<Millis>,
}

impl RefusalCounts {
    /// One more.
    pub fn add(&mut self, reason: CountedReason, listener: &str) {
        let count = self
            .counts
            .entry((reason, listener.to_owned()))
            .or_default();
        *count = count.saturating_add(1);
    }

    /// Takes all counts if it is time to tell them. The first after a quiet time is told at once, so that an alarm
    /// that hangs on it does not wait.
    pub fn take_due(&mut self, now: Millis) -> BTreeMap<(CountedReason, String), u64> {
        let waits = self
            .told_at
            .is_some_and(|told_at| now.saturating_sub(told_at) < INTERVAL_MS);
        if self.counts.is_empty() || waits {
            return BTreeMap::new();
        }
        self.told_at = Some(now);
        std::mem::take(&mut self.counts)
    }

    /// Whether there is something to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_count_is_told_at_once_and_the_rest_once_a_minute() {
        let mut counts = RefusalCounts::default();
        assert!(counts.take_due(5).is_empty());
        counts.add(CountedReason::VaultKeyInvalid, "stripe");
        assert_eq!(counts.take_due(5).len(), 1);
        for _ in 0..1_000 {
            counts.add(CountedReason::VaultKeyInvalid, "stripe");
        }
        counts.add(CountedReason::RealCredential, "");
        assert!(counts.take_due(60_004).is_empty());
        let told = counts.take_due(60_005);
        let invalid = (CountedReason::VaultKeyInvalid, "stripe".to_owned());
        assert_eq!(told.get(&invalid), Some(&1_000));
        assert_eq!(told.len(), 2);
        assert!(counts.is_empty());
    }
}
