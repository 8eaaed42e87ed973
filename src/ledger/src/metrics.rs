//! Figures for Prometheus.
//!
//! Here: names, units and help of every metric, and the text format. Not here: the counting of what the engine does
//! (`engine::Figures`). No label ever holds a key, a label of a key, a customer or an idempotency key: the values of
//! labels are closed sets of words.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::engine::{Figures, Histogram, Readiness};
use crate::reconcile::Counts;

/// Media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Micros of a dollar, and microseconds of a second.
const MILLION: f64 = 1_000_000.0;
/// Milliseconds of a second.
const THOUSAND: f64 = 1_000.0;

type Labels = Vec<(&'static str, &'static str)>;
type Fraction = Gauge<f64, AtomicU64>;

/// Counts of HTTP answers, by status.
#[derive(Debug, Default)]
pub struct Requests {
    api: Mutex<BTreeMap<u16, u64>>,
    rejected: Mutex<BTreeMap<u16, u64>>,
}

impl Requests {
    /// The public API answered a request.
    pub fn answered(&self, status: StatusCode) {
        count(&self.api, status);
    }

    /// A batch was not executed.
    pub fn rejected_batches(&self, status: StatusCode) {
        count(&self.rejected, status);
    }
}

fn count(counts: &Mutex<BTreeMap<u16, u64>>, status: StatusCode) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = counts.entry(status.as_u16()).or_default();
    *slot = slot.saturating_add(1);
}

/// The text of all metrics.
#[must_use]
pub fn render(
    figures: &Figures,
    readiness: &Readiness,
    requests: &Requests,
    reconciled: Option<Counts>,
) -> String {
    let mut registry = Registry::with_prefix("keybrake");
    engine(&mut registry, figures);
    unknown(&mut registry, figures);
    api(&mut registry, requests);
    if let Some(counts) = reconciled {
        reconciler(&mut registry, counts);
    }
    let ready = i64::from(*readiness == Readiness::Ready);
    gauge(&mut registry, "ready", "1 when commands are taken", ready);
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        text.clear();
    }
    text
}

fn engine(registry: &mut Registry, figures: &Figures) {
    let pairs = figures.commands.iter().map(|((command, result), count)| {
        (vec![("command", *command), ("result", *result)], *count)
    });
    family(
        registry,
        "commands",
        "Commands executed, by kind and result",
        pairs,
    );
    let refusals = figures
        .refusals
        .iter()
        .map(|(reason, count)| (vec![("reason", *reason)], *count));
    family(
        registry,
        "refusals",
        "Requests refused, by reason",
        refusals,
    );
    let alarms = figures
        .alarms
        .iter()
        .map(|(kind, count)| (vec![("kind", *kind)], *count));
    family(registry, "alarms", "Alarms raised, by kind", alarms);
    counter(
        registry,
        "busy",
        "Batches and changes turned away because the queue was full",
        figures.busy,
    );
    counter(registry, "commits", "Durable commits", figures.commits);
    let help = "How long durable commits took, in seconds";
    registry.register(
        "commit_seconds",
        help,
        Buckets::of(&figures.commit_us, MILLION),
    );
    let help = "Commands in one durable commit";
    registry.register(
        "commit_commands",
        help,
        Buckets::of(&figures.commit_commands, 1.0),
    );
    gauge(
        registry,
        "open_attempts",
        "Attempts without an outcome yet",
        signed(figures.open_attempts),
    );
    gauge(
        registry,
        "keys",
        "Keys on record, whatever their status",
        signed(figures.keys),
    );
    gauge(
        registry,
        "audit_events",
        "Audit events on record",
        signed(figures.events),
    );
}

fn unknown(registry: &mut Registry, figures: &Figures) {
    let Some(unknown) = figures.unknown else {
        return;
    };
    gauge(
        registry,
        "unknown",
        "Writes whose outcome nobody knows",
        signed(unknown.count),
    );
    let amount: Fraction = Gauge::default();
    amount.set(as_float(unknown.amount.get()) / MILLION);
    registry.register("unknown_usd", "US dollars set aside for them", amount);
    let age: Fraction = Gauge::default();
    age.set(as_float(unknown.oldest_age_ms.unwrap_or(0)) / THOUSAND);
    registry.register(
        "unknown_oldest_age_seconds",
        "Age of the oldest of them; 0 when there is none",
        age,
    );
}

fn reconciler(registry: &mut Registry, counts: Counts) {
    let Counts {
        whole,
        failed,
        executed,
        not_executed,
        failures,
    } = counts;
    let one = |name, word, count| (vec![(name, word)], count);
    let passes = [
        one("result", "whole", whole),
        one("result", "failed", failed),
    ];
    let help = "Passes of the reconciler; failed: something could not be read or applied";
    family(registry, "reconcile_passes", help, passes.into_iter());
    let decided = [
        one("finding", "executed", executed),
        one("finding", "not_executed", not_executed),
    ];
    let help = "Unknown requests that the vendor's records decided, by what was found";
    family(registry, "reconcile_decided", help, decided.into_iter());
    let help =
        "Reads of a vendor's records, or evidence brought to the ledger, that came to nothing";
    counter(registry, "reconcile_failures", help, failures);
}

fn api(registry: &mut Registry, requests: &Requests) {
    for (name, help, counts) in [
        (
            "api_requests",
            "Requests of the public API, by status",
            &requests.api,
        ),
        (
            "rejected_batches",
            "Batches that were not executed, by status",
            &requests.rejected,
        ),
    ] {
        let metric: Family<Vec<(&'static str, u16)>, Counter> = Family::default();
        for (status, count) in counts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            metric
                .get_or_create(&vec![("status", *status)])
                .inc_by(*count);
        }
        registry.register(name, help, metric);
    }
}

fn family(
    registry: &mut Registry,
    name: &str,
    help: &str,
    counts: impl Iterator<Item = (Labels, u64)>,
) {
    let metric: Family<Labels, Counter> = Family::default();
    for (labels, count) in counts {
        metric.get_or_create(&labels).inc_by(count);
    }
    registry.register(name, help, metric);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let metric: Counter = Counter::default();
    metric.inc_by(value);
    registry.register(name, help, metric);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let metric: Gauge = Gauge::default();
    metric.set(value);
    registry.register(name, help, metric);
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// For display only: above 2^53 the last digits are lost.
#[expect(
    clippy::cast_precision_loss,
    reason = "a metric is a float; no decision rests on it"
)]
const fn as_float(value: i64) -> f64 {
    value as f64
}

/// A histogram that was counted elsewhere.
#[derive(Debug)]
struct Buckets {
    buckets: Vec<(f64, u64)>,
    sum: f64,
    count: u64,
}

impl Buckets {
    /// With bounds and sum divided by a unit.
    fn of(histogram: &Histogram, unit: f64) -> Self {
        let mut buckets: Vec<(f64, u64)> = histogram
            .buckets
            .iter()
            .map(|(bound, count)| (as_float(signed(*bound)) / unit, *count))
            .collect();
        buckets.push((f64::MAX, histogram.above));
        Self {
            buckets,
            sum: as_float(signed(histogram.sum)) / unit,
            count: histogram.count,
        }
    }
}

impl EncodeMetric for Buckets {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), Error> {
        encoder.encode_histogram::<NoLabelSet>(self.sum, self.count, &self.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::UnknownFigures;
    use keybrake_contract::money::Micros;

    #[test]
    fn every_figure_is_shown_under_its_unit() {
        let mut commit_us = Histogram::with_bounds(&[500, 1000]);
        for value in [400, 900, 5000] {
            commit_us.observe(value);
        }
        let figures = Figures {
            commands: BTreeMap::from([(("reserve", "admitted"), 3)]),
            refusals: BTreeMap::from([("spend_cap_exceeded", 2)]),
            alarms: BTreeMap::from([("cap_overrun", 1)]),
            busy: 4,
            commit_us,
            unknown: Some(UnknownFigures {
                count: 1,
                amount: Micros::new(10_990_000),
                oldest_age_ms: Some(1500),
            }),
            ..Figures::default()
        };
        let requests = Requests::default();
        requests.answered(StatusCode::OK);
        requests.rejected_batches(StatusCode::UNAUTHORIZED);
        let text = render(
            &figures,
            &Readiness::Ready,
            &requests,
            Some(Counts {
                whole: 5,
                executed: 6,
                failures: 7,
                ..Counts::default()
            }),
        );
        for line in [
            "keybrake_commands_total{command=\"reserve\",result=\"admitted\"} 3",
            "keybrake_refusals_total{reason=\"spend_cap_exceeded\"} 2",
            "keybrake_alarms_total{kind=\"cap_overrun\"} 1",
            "keybrake_busy_total 4",
            "keybrake_commit_seconds_bucket{le=\"0.0005\"} 1",
            "keybrake_commit_seconds_bucket{le=\"0.001\"} 2",
            "keybrake_commit_seconds_bucket{le=\"+Inf\"} 3",
            "keybrake_commit_seconds_sum 0.0063",
            "keybrake_unknown_usd 10.99",
            "keybrake_unknown_oldest_age_seconds 1.5",
            "keybrake_api_requests_total{status=\"200\"} 1",
            "keybrake_rejected_batches_total{status=\"401\"} 1",
            "keybrake_reconcile_passes_total{result=\"whole\"} 5",
            "keybrake_reconcile_passes_total{result=\"failed\"} 0",
            "keybrake_reconcile_decided_total{finding=\"executed\"} 6",
            "keybrake_reconcile_failures_total 7",
            "keybrake_ready 1",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "no line {line:?} in\n{text}"
            );
        }
    }
}
