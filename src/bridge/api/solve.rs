//! One system in, its solution out.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::answer::{self, Accept};
use super::super::app::Shared;
use super::super::problem::Problem;
use super::super::tasks::{Answer, Ended, Entry};
use super::super::{form, kinds};
use super::{Asked, wait};

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

/// Solves one system A X = B and waits for it.
#[utoipa::path(post, path = "/v1/solve", tag = "tasks", params(Wanted), responses(
    (status = 200),
))]
pub(super) async fn solve(
    State(app): State<Shared>,
    Asked(wanted): Asked<Wanted>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let patience = wait(wanted.wait)?;
    let accept = Accept::of(&headers)?;
    let kind = kinds::solve();
    let task = form::read(kind, &headers, body, app.options.max_body_bytes, &app.budget).await?;
    let entry = app.tasks.attach(kind, task).await;
    tokio::select! {
        ended = entry.ended() => {
            app.tasks.forget(&entry);
            respond(&entry, &ended, accept)
        }
        () = tokio::time::sleep(patience) => Err(Problem::stopping()),
        () = app.stop.cancelled() => Err(Problem::stopping()),
    }
}

fn respond(entry: &Entry, ended: &Ended, accept: Accept) -> Result<Response, Problem> {
    let blob = match &ended.result {
        Ok(Answer::Here(blob, _)) => blob.clone(),
        Ok(Answer::Spooled { .. }) => return Err(Problem::stopping()),
        Err(error) => return Err(Problem::from(error.clone()).of(entry.id)),
    };
    let answer = entry.kind.decode(&entry.params, blob).map_err(|error| Problem::from(error).of(entry.id))?;
    if accept == Accept::Json {
        let mut members = answer.json()?;
        members.push(("worker", serde_json::to_vec(&ended.worker.as_ref().map(|w| &w.id)).unwrap_or_default()));
        members.push(("task", format!("\"{}\"", entry.id).into_bytes()));
        return Ok(answer::json(StatusCode::OK, members));
    }
    let mut said = answer.headers();
    said.push(("rabbitry-task", entry.id.to_string()));
    said.extend(ended.worker.as_ref().map(|worker| ("rabbitry-worker", worker.id.clone())));
    let pieces = if accept == Accept::Npy { answer.into_npy()? } else { answer.into_raw() };
    Ok(answer::binary(accept, pieces, said))
}
