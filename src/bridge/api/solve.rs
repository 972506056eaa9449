//! One system in, its solution out.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::answer::Accept;
use super::super::app::Shared;
use super::super::kinds::{PartsForm, SolutionForm, SystemForm};
use super::super::problem::Problem;
use super::super::tasks::{Entry, Keep};
use super::super::view::TaskView;
use super::super::{form, kinds, view};
use super::tasks::accepted;
use super::{Asked, common, wait};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Seconds to wait for the solution, at most 600; then the answer is 202 with the task's URL.
    #[serde(default = "patience")]
    #[param(minimum = 0, maximum = 600, default = 30)]
    wait: f64,
}

fn patience() -> f64 {
    30.0
}

/// Solves one system A X = B, and waits for it.
///
/// The answer has x in the shape of b, and the proof of how good it is. If it takes longer than `wait`, or the bridge is
/// stopped, the task goes on by itself: 202 says where it is.
#[utoipa::path(post, path = "/v1/solve", tag = "tasks", params(Wanted), request_body(content(
    (SystemForm = "application/json"), (PartsForm = "multipart/form-data"), (Vec<u8> = "application/x-rabbitry"),
)), responses(
    (status = 200, description = "The solution", headers(
        ("rabbitry-task" = String, description = "The task's id"),
        ("rabbitry-worker" = String, description = "Who computed it"),
        ("rabbitry-certificate" = String, description = "Binary answers: the certificate, as JSON"),
        ("rabbitry-shape" = String, description = "Binary answers: rows, or rows and columns with a comma"),
        ("rabbitry-order" = String, description = "Binary answers: C for row-major, F for column-major"),
    ), content(
        (SolutionForm = "application/json"), (Vec<u8> = "application/x-npy"), (Vec<u8> = "application/octet-stream"),
    )),
    (status = 202, description = "It takes longer", body = TaskView, headers(("location" = String, description = "The task's URL"))),
    common::Refused,
    common::Formed,
    common::Spooled,
    common::TaskFailed,
))]
pub(super) async fn solve(
    State(app): State<Shared>,
    Asked(wanted): Asked<Wanted>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let patience = wait(wanted.wait)?;
    let accept = Accept::of(&headers)?;
    let task = form::read(kinds::solve(), &headers, body, app.options.max_body_bytes, &app.budget).await?;
    let abandoned = Abandoned { entry: Some(app.tasks.attach(task).await), app: &app };
    let Some(entry) = abandoned.entry.clone() else { return Err(Problem::internal("no task")) };
    let ended = tokio::select! {
        ended = entry.ended() => Some(ended),
        () = tokio::time::sleep(patience) => None,
        () = app.stop.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => match app.tasks.keep(&entry).await? {
            Keep::Ended(ended) => ended,
            Keep::Kept => {
                abandoned.no_more();
                return Ok(accepted(&entry));
            }
        },
    };
    abandoned.no_more();
    app.tasks.remove(&entry).await;
    view::result(&app, &entry, &ended, accept).await
}

/// A task whose client may go away, which nobody would know then.
struct Abandoned<'a> {
    entry: Option<Arc<Entry>>,
    app: &'a Shared,
}

impl Abandoned<'_> {
    /// It has ended, or somebody knows it.
    fn no_more(mut self) {
        self.entry = None;
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.app.tasks.abandon(&entry);
        }
    }
}
