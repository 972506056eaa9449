//! What Prometheus reads at `/metrics`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::rates::Rate;
use super::tasks::{Entry, Phase};
use crate::task::Kind;

/// The type of its text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OutcomeLabel {
    kind: String,
    /// `ok`, or the code of the error.
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RequestLabel {
    method: String,
    /// The route, not the path: ids are not labels.
    route: String,
    status: u16,
}

/// The figures of a bridge. Clones are the same.
#[derive(Clone)]
pub(super) struct Metrics {
    registry: Arc<Registry>,
    submitted: Family<KindLabel, Counter>,
    ended: Family<OutcomeLabel, Counter>,
    compute_seconds: Counter<f64, AtomicU64>,
    requests: Family<RequestLabel, Counter>,
    request_seconds: Histogram,
    gauges: Gauges,
    submitted_rate: Arc<Rate>,
    ended_rate: Arc<Rate>,
}

/// What is looked up when it is asked for.
#[derive(Clone, Default)]
pub(super) struct Gauges {
    pub tasks: Gauge,
    pub memory_bytes: Gauge,
    pub memory_limit_bytes: Gauge,
    pub spool_bytes: Gauge,
    pub workers: Gauge,
    pub slots: Gauge,
    pub slots_busy: Gauge,
    pub connected: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("rabbitry");
        let submitted = Family::default();
        let ended = Family::default();
        let compute_seconds = Counter::default();
        let requests = Family::default();
        // From a millisecond to a minute.
        let request_seconds = Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0]);
        let gauges = Gauges::default();
        registry.register("tasks_submitted", "Tasks that were accepted", submitted.clone());
        registry.register("tasks_ended", "Tasks that have their outcome", ended.clone());
        registry.register_with_unit(
            "compute",
            "Time in handlers, on the workers' clocks",
            Unit::Seconds,
            compute_seconds.clone(),
        );
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register_with_unit(
            "http_request",
            "From the head of a request to that of its answer",
            Unit::Seconds,
            request_seconds.clone(),
        );
        registry.register("tasks", "Tasks the bridge knows now", gauges.tasks.clone());
        registry.register_with_unit(
            "memory",
            "Memory taken by bodies, tasks and answers",
            Unit::Bytes,
            gauges.memory_bytes.clone(),
        );
        registry.register_with_unit("memory_limit", "The most of it", Unit::Bytes, gauges.memory_limit_bytes.clone());
        registry.register_with_unit(
            "spool",
            "Detached tasks and results on disk",
            Unit::Bytes,
            gauges.spool_bytes.clone(),
        );
        registry.register("workers", "Live workers", gauges.workers.clone());
        registry.register("slots", "Slots of the live workers", gauges.slots.clone());
        registry.register("slots_busy", "Of these in use", gauges.slots_busy.clone());
        registry.register("broker_connected", "1 while there is a connection to the broker", gauges.connected.clone());
        let rate = || Arc::new(Rate::new(Instant::now()));
        Metrics {
            registry: Arc::new(registry),
            submitted,
            ended,
            compute_seconds,
            requests,
            request_seconds,
            gauges,
            submitted_rate: rate(),
            ended_rate: rate(),
        }
    }

    pub(super) fn submitted(&self, kind: &Kind) {
        self.submitted_rate.count(Instant::now());
        self.submitted.get_or_create(&KindLabel { kind: kind.to_string() }).inc();
    }

    /// Counts a task that has its outcome.
    pub(super) fn ended(&self, entry: &Entry) {
        let Phase::Ended(ended) = entry.phase() else { return };
        let outcome = ended.result.as_ref().map_or_else(|error| error.code(), |_| "ok");
        self.ended_as(&entry.birth.kind.kind(), outcome);
        // Said by a worker: a negative one would be a panic.
        if ended.compute_seconds.is_finite() && ended.compute_seconds >= 0.0 {
            self.compute_seconds.inc_by(ended.compute_seconds);
        }
    }

    /// Counts something that has ended so.
    pub(super) fn ended_as(&self, kind: &Kind, outcome: &'static str) {
        self.ended_rate.count(Instant::now());
        self.ended.get_or_create(&OutcomeLabel { kind: kind.to_string(), outcome }).inc();
    }

    /// Tasks submitted and ended a second, in the last minute.
    pub(super) fn rates(&self, now: Instant) -> (f64, f64) {
        (self.submitted_rate.per_second(now), self.ended_rate.per_second(now))
    }

    pub(super) fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabel { method: method.into(), route: route.into(), status }).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// The text, after `look` has set the gauges.
    pub(super) fn text(&self, look: impl FnOnce(&Gauges)) -> String {
        look(&self.gauges);
        let mut text = String::new();
        // Writing into a string has no way to fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
