//! The loop: a pass when its time has come or somebody asks, one at a time, until the ledger stops.

use std::sync::Arc;
use std::time::Duration;

use keybrake_pack::Pack;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::absence::Memory;
use super::calls::Calls;
use super::keys::{Keys, revoke_earlier};
use super::pass::Pass;
use super::state::Reconciler;
use crate::clock::Clock;
use crate::engine::Ledger;
use crate::outbound::BaseUrl;

/// How the reconciler is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Envoy's listener for every vendor.
    pub base: BaseUrl,
    /// Between two passes.
    pub every: Duration,
    /// How long after its reserve a first attempt may be on its way to the vendor at most, in milliseconds.
    pub longest_ms: i64,
}

/// What the loop works with.
pub struct Task {
    pub(super) settings: Settings,
    pub(super) ledger: Ledger,
    pub(super) packs: Arc<Vec<Pack>>,
    pub(super) clock: Clock,
    pub(super) calls: Calls,
    pub(super) keys: Keys,
    pub(super) memory: Memory,
    pub(super) handle: Reconciler,
}

impl Task {
    /// A loop that was not begun yet.
    #[must_use]
    pub fn new(settings: Settings, ledger: Ledger, packs: Vec<Pack>, clock: Clock) -> Self {
        Self {
            calls: Calls::new(settings.base.clone()),
            settings,
            ledger,
            packs: Arc::new(packs),
            clock,
            keys: Keys::default(),
            memory: Memory::default(),
            handle: Reconciler::default(),
        }
    }

    /// Its handle.
    #[must_use]
    pub fn handle(&self) -> Reconciler {
        self.handle.clone()
    }

    /// Runs until it is told to stop. A pass that is being made then is given up: what it decided stands.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let stop = async move {
            // A sender that is gone wants it to stop as well.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        tokio::select! {
            biased;
            () = stop => {}
            () = self.work() => {}
        }
        self.keys.end(&self.ledger).await;
    }

    async fn work(&mut self) {
        self.start().await;
        let first = Instant::now().checked_add(self.settings.every);
        let mut ticks = interval_at(first.unwrap_or_else(Instant::now), self.settings.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let handle = self.handle.clone();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = handle.asked() => {}
            }
            Pass::make(self).await;
        }
    }

    /// Revokes what an earlier one left behind and issues keys, so that a pass finds all in place.
    async fn start(&mut self) {
        match revoke_earlier(&self.ledger).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "revoked keys of an earlier reconciler"),
            Err(error) => tracing::warn!(%error, "keys of an earlier reconciler were not revoked"),
        }
        let now = self.clock.now();
        let packs = Arc::clone(&self.packs);
        for pack in packs.iter() {
            let Some(rules) = pack.evidence() else {
                continue;
            };
            match self.keys.get(&self.ledger, pack, rules, now).await {
                Ok(key) => {
                    let key_id = &key.key.key_id;
                    tracing::info!(vendor = pack.vendor(), key_id, "the reconciler has its key");
                }
                Err(error) => {
                    tracing::warn!(vendor = pack.vendor(), %error, "the reconciler has no key yet");
                }
            }
        }
    }
}
