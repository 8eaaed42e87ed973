//! Metrics. No key, no customer, no idempotency key in any name.
//!
//! Names carry their labels as `.label.value` pairs, which Envoy's `stats_tags` take apart. Counters are gathered and
//! told to the host once per callback of the root, not once per request.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use keybrake_policy::life::effect::Verdict;
use keybrake_policy::life::outbox::LedgerFailure;
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

thread_local! {
    /// What all roots of this VM have told the gauge of open requests.
    static OPEN_OF_VM: Cell<i64> = const { Cell::new(0) };
    /// That gauge, once it is defined.
    static OPEN_GAUGE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// A VM that panics takes its requests with it: with its last breath it takes them off the gauge, too, which all VMs
/// share and which outlives them. Otherwise every drain after a trap would wait for requests that nobody will end.
/// (A trap that is no panic, such as memory exhausted, leaves them counted until Envoy is started again.)
#[cfg(target_arch = "wasm32")]
pub(crate) fn count_none_open_after_a_panic() {
    let log = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(id) = OPEN_GAUGE.get() {
            let told = OPEN_OF_VM.replace(0);
            let _ = hostcalls::increment_metric(id, told.saturating_neg());
        }
        log(panic);
    }));
}

const FAILURES: [(LedgerFailure, &str); 6] = [
    (LedgerFailure::Late, "late"),
    (LedgerFailure::NotSent, "not_sent"),
    (LedgerFailure::NotTheLedger, "not_the_ledger"),
    (LedgerFailure::NothingExecuted, "nothing_executed"),
    (LedgerFailure::Unreadable, "unreadable"),
    (LedgerFailure::CommandRejected, "command_rejected"),
];

/// The metrics of one worker.
pub(crate) struct Metrics {
    open: Option<u32>,
    callout_ms: Option<u32>,
    verdicts: BTreeMap<Verdict, u32>,
    failures: BTreeMap<&'static str, u32>,
    /// What the gauge says of this worker. All workers share one gauge, so that it is moved, never set.
    told_open: Cell<i64>,
    waiting: RefCell<BTreeMap<u32, i64>>,
}

impl Metrics {
    /// Defines them with the host.
    pub(crate) fn define() -> Self {
        let define = |kind, name: &str| hostcalls::define_metric(kind, name).ok();
        let verdicts = Verdict::ALL.into_iter().filter_map(|verdict| {
            let name = format!("keybrake_requests.verdict.{}", verdict.as_str());
            Some((verdict, define(MetricType::Counter, &name)?))
        });
        let failures = FAILURES.into_iter().filter_map(|(_, reason)| {
            let name = format!("keybrake_ledger_failures.reason.{reason}");
            Some((reason, define(MetricType::Counter, &name)?))
        });
        let open = define(MetricType::Gauge, "keybrake_open_requests");
        OPEN_GAUGE.set(open);
        Self {
            open,
            callout_ms: define(MetricType::Histogram, "keybrake_ledger_callout_ms"),
            verdicts: verdicts.collect(),
            failures: failures.collect(),
            told_open: Cell::new(0),
            waiting: RefCell::default(),
        }
    }

    /// A request was answered or let on.
    pub(crate) fn verdict(&self, verdict: Verdict) {
        self.count(self.verdicts.get(&verdict).copied());
    }

    /// A batch came to nothing, or a command to no good.
    pub(crate) fn ledger_failure(&self, failure: LedgerFailure) {
        let reason = FAILURES.iter().find(|(known, _)| *known == failure);
        let id = reason.and_then(|(_, reason)| self.failures.get(reason));
        self.count(id.copied());
    }

    fn count(&self, id: Option<u32>) {
        if let Some(id) = id {
            let mut waiting = self.waiting.borrow_mut();
            let count = waiting.entry(id).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// A batch was answered after so long.
    pub(crate) fn callout(&self, elapsed_ms: u64) {
        if let Some(id) = self.callout_ms {
            let _ = hostcalls::record_metric(id, elapsed_ms);
        }
    }

    /// Tells the host what has gathered, and how many requests are open.
    pub(crate) fn flush(&self, open: usize) {
        for (id, count) in std::mem::take(&mut *self.waiting.borrow_mut()) {
            let _ = hostcalls::increment_metric(id, count);
        }
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        let moved = open.saturating_sub(self.told_open.replace(open));
        if let Some(id) = self.open
            && moved != 0
        {
            OPEN_OF_VM.set(OPEN_OF_VM.get().saturating_add(moved));
            let _ = hostcalls::increment_metric(id, moved);
        }
    }
}
