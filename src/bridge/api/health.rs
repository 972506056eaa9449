//! Whether the bridge is alive, and whether its tasks would be computed.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::app::Shared;
use super::super::problem::Problem;
use crate::broker;

/// How the bridge is.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    status: &'static str,
    /// Version of the program.
    version: &'static str,
}

/// That it is ready.
#[derive(Serialize, ToSchema)]
pub(super) struct Ready {
    /// Always `ok`.
    status: &'static str,
    /// Live workers. Without any, tasks wait.
    workers: usize,
}

/// The broker has so long to say whether it takes messages: one that is busy is not blocked.
const BROKER_PATIENCE: Duration = Duration::from_secs(1);

const FINE: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// The bridge answers.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(FINE)
}

/// The bridge is connected to its broker, and takes tasks.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, body = Ready),
    (status = 503, description = "Not now", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn readyz(State(app): State<Shared>) -> Result<Json<Ready>, Problem> {
    if app.stop.is_cancelled() {
        return Err(Problem::stopping());
    }
    if let Some(reason) = app.boss.ask_blocked(BROKER_PATIENCE).await {
        return Err(Problem::busy(5, format!("the broker takes no messages at the moment: {reason}")));
    }
    if !app.boss.is_connected() {
        return Err(broker::Error::Lost("the bridge is connecting again".into()).into());
    }
    Ok(Json(Ready { status: "ok", workers: app.boss.nodes().len() }))
}
