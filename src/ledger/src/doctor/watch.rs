//! The gate as a condition of readiness: canaries from time to time, for a ledger that was told where its gates are.

use std::time::Duration;

use tokio::sync::watch;

use super::State;
use super::canary::Target;
use super::examine::round;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(10);

/// What the last round found.
#[derive(Debug, Clone)]
pub struct GateWatch {
    faults: watch::Receiver<Vec<String>>,
}

impl GateWatch {
    /// Why a gate does not count as working; empty: every one was proven in the last round.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.faults.borrow().clone()
    }
}

/// Watches these gates until the handle is gone.
#[must_use]
pub fn watch(targets: Vec<Target>) -> GateWatch {
    let unproven: Vec<String> = targets
        .iter()
        .map(|target| format!("the gate at {target} is not proven yet"))
        .collect();
    let (sender, faults) = watch::channel(unproven);
    tokio::spawn(async move {
        loop {
            let found = faults_of(&targets).await;
            for fault in &found {
                if !sender.borrow().contains(fault) {
                    tracing::error!(%fault, "a gate does not work");
                }
            }
            if sender.send(found).is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = sender.closed() => return,
            }
        }
    });
    GateWatch { faults }
}

async fn faults_of(targets: &[Target]) -> Vec<String> {
    let mut faults = Vec::new();
    for target in targets {
        for finding in round(target).await {
            if finding.state == State::Fault {
                faults.push(format!("{}: {}", finding.checked, finding.detail));
            }
        }
    }
    faults
}
