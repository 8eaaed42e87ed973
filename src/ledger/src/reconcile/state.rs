//! What the reconciler shows of itself, and how it is asked for a pass.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Serialize, Serializer};
use tokio::sync::Notify;

use super::report::Report;

/// Counts since the ledger was started. For metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passes in which all that was asked for was read.
    pub whole: u64,
    /// Passes in which something failed.
    pub failed: u64,
    /// Requests found executed.
    pub executed: u64,
    /// Requests found not executed.
    pub not_executed: u64,
    /// Reads of a vendor, or words to the ledger, that came to nothing.
    pub failures: u64,
}

/// How far a pass has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Its number.
    pub pass: u64,
    /// Pages of events read so far.
    pub pages: u64,
    /// Events in them.
    pub events: u64,
    /// Requests decided so far.
    pub decided: u64,
}

/// What is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The pass that is being made.
    pub running: Option<Progress>,
    /// The last one that ended.
    #[serde(serialize_with = "shared")]
    pub last: Option<Arc<Report>>,
}

fn shared<S: Serializer>(report: &Option<Arc<Report>>, serializer: S) -> Result<S::Ok, S::Error> {
    report.as_deref().serialize(serializer)
}

#[derive(Debug, Default)]
struct State {
    /// How many passes were begun.
    begun: u64,
    /// The newest pass that somebody asked for.
    asked: u64,
    running: Option<Progress>,
    last: Option<Arc<Report>>,
    counts: Counts,
}

/// A handle of the reconciler. Cheap to clone; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Reconciler {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    wake: Notify,
}

/// Who wants a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its time has come: what is of no use any more is not looked for again.
    Time,
    /// Somebody asked: everything is looked for.
    Asked,
}

impl Reconciler {
    /// Asks for a pass. Answers the number of one that begins after this; one pass is made at a time.
    #[must_use]
    pub fn ask(&self) -> u64 {
        let mut state = self.state();
        state.asked = state.begun.saturating_add(1);
        let asked = state.asked;
        drop(state);
        self.inner.wake.notify_one();
        asked
    }

    /// What it is doing and what came of its last pass.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let state = self.state();
        Shown {
            running: state.running,
            last: state.last.clone(),
        }
    }

    /// Counts for metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Resolves when somebody has asked for a pass that was not begun.
    pub(super) async fn asked(&self) {
        loop {
            {
                let state = self.state();
                if state.asked > state.begun {
                    return;
                }
            }
            self.inner.wake.notified().await;
        }
    }

    /// A pass begins: its number, and who wants it.
    pub(super) fn begin(&self) -> (u64, Cause) {
        let mut state = self.state();
        let is_asked = state.asked > state.begun;
        state.begun = state.begun.saturating_add(1);
        state.running = Some(Progress {
            pass: state.begun,
            ..Progress::default()
        });
        let cause = if is_asked { Cause::Asked } else { Cause::Time };
        (state.begun, cause)
    }

    /// The pass has come further.
    pub(super) fn progress(&self, change: impl FnOnce(&mut Progress)) {
        if let Some(running) = &mut self.state().running {
            change(running);
        }
    }

    /// The pass is over.
    pub(super) fn end(&self, report: Report) {
        let mut state = self.state();
        state.running = None;
        let counts = &mut state.counts;
        if report.failures.is_empty() {
            counts.whole = counts.whole.saturating_add(1);
        } else {
            counts.failed = counts.failed.saturating_add(1);
        }
        let failures = u64::try_from(report.failures.len()).unwrap_or(u64::MAX);
        counts.failures = counts.failures.saturating_add(failures);
        state.last = Some(Arc::new(report));
    }

    /// A request was decided.
    pub(super) fn decided(&self, finding: &crate::book::Finding) {
        let mut state = self.state();
        let counts = &mut state.counts;
        let count = match finding {
            crate::book::Finding::Executed { .. } => &mut counts.executed,
            crate::book::Finding::NotExecuted => &mut counts.not_executed,
        };
        *count = count.saturating_add(1);
        if let Some(running) = &mut state.running {
            running.decided = running.decided.saturating_add(1);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
