//! A task as its URL shows it.

use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{self, Accept};
use super::app::App;
use super::problem::Problem;
use super::tasks::{Answer, Ended, Entry, Phase};
use crate::task::TaskError;

/// How far a task is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It waits for a worker. Small tasks stay so until they are done: they are too short to say more.
    Queued,
    /// A worker computes it.
    Running,
    /// Its result is there.
    Done,
    /// It has no result, and `error` says why.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

/// A task, without its result.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub(super) struct TaskView {
    /// Its id, 32 hexadecimal digits.
    #[schema(example = "00112233445566778899aabbccddeeff")]
    task: String,
    /// What kind of task it is.
    #[schema(example = "solve")]
    kind: String,
    state: State,
    /// What is done of it, in per cent.
    #[schema(minimum = 0, maximum = 100)]
    percent: f64,
    /// Whether it survives a restart of the bridge.
    detached: bool,
    /// Bytes of its payload.
    payload_bytes: u64,
    /// When it was submitted.
    created: Timestamp,
    /// When nobody wants it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Timestamp>,
    /// When it had its outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<Timestamp>,
    /// Who computed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// Seconds it took there.
    #[serde(skip_serializing_if = "Option::is_none")]
    compute_seconds: Option<f64>,
    /// Why there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

impl TaskView {
    pub(super) fn of(entry: &Entry) -> Self {
        let phase = entry.phase();
        let (state, share) = state(&phase);
        let birth = &entry.birth;
        let view = TaskView {
            task: birth.id.to_string(),
            kind: birth.kind.kind().to_string(),
            state,
            percent: (share * 1000.0).round() / 10.0,
            detached: entry.is_kept(),
            payload_bytes: birth.payload_bytes,
            created: birth.created,
            deadline: birth.deadline,
            finished: None,
            worker: None,
            compute_seconds: None,
            error: None,
        };
        let Phase::Ended(ended) = phase else { return view };
        TaskView {
            finished: Some(ended.at),
            worker: ended.worker.as_ref().map(|worker| worker.id.clone()),
            compute_seconds: ended.worker.is_some().then_some(ended.compute_seconds),
            error: ended.result.as_ref().err().map(|error| Problem::from(error.clone())),
            ..view
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }
}

/// The state of a phase, and what is done.
pub(super) fn state(phase: &Phase) -> (State, f64) {
    match phase {
        Phase::Waiting => (State::Queued, 0.0),
        Phase::Sent(handle) => match handle.progress() {
            0.0 => (State::Queued, 0.0),
            // It has just ended, and its outcome is being kept.
            share => (State::Running, share),
        },
        Phase::Ended(ended) => match &ended.result {
            Ok(_) => (State::Done, 1.0),
            Err(TaskError::Cancelled) => (State::Cancelled, 0.0),
            Err(_) => (State::Failed, 0.0),
        },
    }
}

/// The result of a task and nothing else, or why there is none.
pub(super) async fn result(app: &App, entry: &Entry, ended: &Ended, accept: Accept) -> Result<Response, Problem> {
    match &ended.result {
        Err(error) => Err(Problem::from(error.clone()).of(entry.id())),
        Ok(answer) => write(app, entry, ended, answer, accept, Vec::new()).await,
    }
}

/// The task with its result, if it has one.
pub(super) async fn whole(app: &App, entry: &Entry, accept: Accept) -> Result<Response, Problem> {
    let text = serde_json::to_vec(&TaskView::of(entry)).map_err(|error| Problem::internal(error.to_string()))?;
    let ended = match entry.phase() {
        Phase::Ended(ended) => ended,
        _ if accept == Accept::Json => return Ok(answer::json_text(StatusCode::OK, text)),
        // The result was asked for in a form that says nothing else, and is not there yet.
        _ => return Ok(answer::json_text(StatusCode::ACCEPTED, text)),
    };
    match &ended.result {
        Err(_) if accept == Accept::Json => {
            let _ = ended.read.set(std::time::Instant::now());
            Ok(answer::json_text(StatusCode::OK, text))
        }
        Err(error) => Err(Problem::from(error.clone()).of(entry.id())),
        Ok(answer) => {
            let response = write(app, entry, &ended, answer, accept, text).await?;
            let _ = ended.read.set(std::time::Instant::now());
            Ok(response)
        }
    }
}

/// Writes an answer; in JSON as the member `result` of `view`, if there is a view.
async fn write(
    app: &App,
    entry: &Entry,
    ended: &Ended,
    answer: &Answer,
    accept: Accept,
    view: Vec<u8>,
) -> Result<Response, Problem> {
    let (blob, reservation) = app.tasks.answer(entry, answer).await?;
    let decoded = entry.birth.kind.decode(&entry.birth.params, blob);
    let answer = decoded.map_err(|error| Problem::from(error).of(entry.id()))?;
    let worker = ended.worker.as_ref().map(|worker| worker.id.clone());
    if accept != Accept::Json {
        let mut said = answer.headers();
        said.push(("rabbitry-task", entry.id().to_string()));
        said.extend(worker.map(|worker| ("rabbitry-worker", worker)));
        let pieces = if accept == Accept::Npy { answer.into_npy()? } else { answer.into_raw() };
        return Ok(answer::binary(accept, pieces, said, reservation));
    }
    let members = answer.json()?;
    if view.is_empty() {
        let said = [("worker", serde_json::json!(worker)), ("task", serde_json::json!(entry.id().to_string()))];
        let said = said.map(|(name, value)| (name, value.to_string().into_bytes()));
        let text = answer::object(members.into_iter().chain(said));
        return Ok(answer::json_text(StatusCode::OK, text));
    }
    let mut text = view;
    text.pop();
    text.extend_from_slice(b",\"result\":");
    text.extend(answer::object(members));
    text.push(b'}');
    Ok(answer::json_text(StatusCode::OK, text))
}
