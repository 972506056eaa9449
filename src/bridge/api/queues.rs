//! The queues and the figures.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::app::{App, Shared};
use super::super::problem::Problem;
use super::super::{kinds, metrics};
use super::common;
use crate::broker;

/// The broker has so long to say how it is: a lost one says nothing.
const BROKER_PATIENCE: Duration = Duration::from_secs(2);

/// The work queue of one kind.
#[derive(Serialize, ToSchema)]
pub(super) struct Queue {
    /// The kind.
    #[schema(example = "solve")]
    kind: String,
    /// Its name at the broker.
    #[schema(example = "rabbitry.work.solve")]
    name: String,
    /// Messages that wait for a worker. Small tasks are sent several in one.
    ready: u64,
    /// Workers that take from it.
    consumers: u64,
}

/// What waits, and how fast it goes.
#[derive(Serialize, ToSchema)]
pub(super) struct Queues {
    queues: Vec<Queue>,
    /// Messages that nobody could compute, in `rabbitry.dead`.
    dead: u64,
    /// Detached tasks that wait on this bridge's disk.
    spooled: usize,
    /// Tasks a second that this bridge accepted, in the last minute.
    submitted_per_second: f64,
    /// Tasks a second that ended here, in the last minute.
    ended_per_second: f64,
}

/// Depths and rates.
#[utoipa::path(get, path = "/v1/queues", tag = "workers", responses(
    (status = 200, body = Queues),
    common::Denied,
    common::NoBroker,
))]
pub(super) async fn queues(State(app): State<Shared>) -> Result<Json<Queues>, Problem> {
    let look = tokio::time::timeout(BROKER_PATIENCE, look(&app)).await;
    look.map_err(|_| broker::Error::Lost("it has not answered for 2 s".into()))?
}

async fn look(app: &App) -> Result<Json<Queues>, Problem> {
    let mut queues = Vec::new();
    for kind in kinds::names() {
        let (name, status) = app.boss.work_queue(&kind).await?;
        let (ready, consumers) = status.map_or((0, 0), |status| (status.ready, status.consumers));
        queues.push(Queue { kind, name, ready, consumers });
    }
    let dead = app.boss.dead_letters().await?;
    let now = Instant::now();
    let (submitted_per_second, ended_per_second) = app.metrics.rates(now);
    Ok(Json(Queues { queues, dead, spooled: app.tasks.waiting(), submitted_per_second, ended_per_second }))
}

/// Figures for Prometheus, in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "OpenMetrics", body = String, content_type = "application/openmetrics-text"),
    common::Denied,
))]
pub(super) async fn metrics(State(app): State<Shared>) -> Response {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let text = app.metrics.text(|gauges| {
        let nodes = app.boss.nodes();
        let sum = |of: fn(&crate::directory::Node) -> u32| nodes.iter().map(|node| u64::from(of(node))).sum();
        gauges.tasks.set(count(app.tasks.count() as u64));
        gauges.memory_bytes.set(count(app.budget.used_bytes()));
        gauges.memory_limit_bytes.set(count(app.budget.limit_bytes()));
        gauges.spool_bytes.set(count(app.tasks.spool_bytes()));
        gauges.workers.set(count(nodes.len() as u64));
        gauges.slots.set(count(sum(|node| node.slots)));
        gauges.slots_busy.set(count(sum(|node| node.busy)));
        gauges.connected.set(i64::from(app.boss.is_connected()));
    });
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}
