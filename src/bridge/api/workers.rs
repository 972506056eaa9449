//! The node directory.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::app::Shared;
use super::super::problem::Problem;
use super::Asked;
use crate::directory::Node;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only those with a free slot (true), or only those without one (false).
    available: Option<bool>,
    /// Only those that compute this kind.
    #[param(example = "solve")]
    kind: Option<String>,
}

/// The live workers, with what each can do and does. One that falls silent leaves the list after 16 s.
#[utoipa::path(get, path = "/v1/workers", tag = "workers", params(Wanted), responses(
    (status = 200, body = Vec<Node>),
    (status = 400, description = "The query is wrong", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn workers(State(app): State<Shared>, Asked(wanted): Asked<Wanted>) -> Json<Vec<Node>> {
    let mut nodes = app.boss.nodes();
    nodes.retain(|node| {
        wanted.available.is_none_or(|available| available == (node.busy < node.slots))
            && wanted.kind.as_ref().is_none_or(|kind| node.kinds.contains(kind))
    });
    Json(nodes)
}
