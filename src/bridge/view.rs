//! A task as its URL shows it.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{self, Accept};
use super::app::App;
use super::blocking;
use super::budget::Reservation;
use super::kinds::AnswerForm;
use super::problem::Problem;
use super::tasks::{Answer, Ended, Entry, Phase};
use crate::task::TaskError;

/// Memory for an answer that is written as JSON, in lengths of its numbers: these and 20 digits for each.
const JSON_TIMES: u64 = 4;

/// The longest result that an event carries, in bytes of its numbers.
const EVENT_RESULT_BYTES: u64 = 256 << 10;

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
    let answer = ended.result.as_ref().map_err(|error| Problem::from(error.clone()).of(entry.id()))?;
    let bytes = answer.payload_bytes();
    let (answer, reservation) = read(app, entry, answer, accept).await?;
    if accept != Accept::Json {
        return binary(entry, ended, answer, accept, reservation);
    }
    let worker = ended.worker.as_ref().map(|worker| &worker.id);
    let said = [("worker", serde_json::json!(worker)), ("task", serde_json::json!(entry.id().to_string()))];
    let said = said.map(|(name, value)| (name, value.to_string().into_bytes()));
    let text = blocking::run(bytes, &reservation, move || {
        answer.json().map(|members| answer::object(members.into_iter().chain(said)))
    })
    .await?;
    Ok(answer::binary(accept, vec![text.into()], Vec::new(), reservation))
}

/// The task with its result, if it has one.
pub(super) async fn whole(app: &App, entry: &Entry, accept: Accept) -> Result<Response, Problem> {
    let ended = match entry.phase() {
        Phase::Ended(ended) => ended,
        _ if accept == Accept::Json => return Ok(answer::json_text(StatusCode::OK, text(entry)?)),
        // The result was asked for in a form that says nothing else, and is not there yet.
        _ => return Ok(answer::json_text(StatusCode::ACCEPTED, text(entry)?)),
    };
    let response = match &ended.result {
        Err(_) if accept == Accept::Json => answer::json_text(StatusCode::OK, text(entry)?),
        Err(error) => return Err(Problem::from(error.clone()).of(entry.id())),
        Ok(_) if accept == Accept::Json => {
            let (text, reservation) = with_result(app, entry, &ended).await?;
            answer::binary(accept, vec![text.into()], Vec::new(), reservation)
        }
        Ok(answer) => {
            let (answer, reservation) = read(app, entry, answer, accept).await?;
            binary(entry, &ended, answer, accept, reservation)?
        }
    };
    let _ = ended.read.set(Instant::now());
    Ok(response)
}

/// The last event of a task: with its result, if that is short.
pub(super) async fn last(app: &App, entry: &Entry) -> Result<String, Problem> {
    let Phase::Ended(ended) = entry.phase() else { return string(text(entry)?) };
    let short = ended.result.as_ref().is_ok_and(|answer| answer.payload_bytes() <= EVENT_RESULT_BYTES);
    if !short {
        return string(text(entry)?);
    }
    let (text, _reservation) = with_result(app, entry, &ended).await?;
    let _ = ended.read.set(Instant::now());
    string(text)
}

fn string(text: Vec<u8>) -> Result<String, Problem> {
    String::from_utf8(text).map_err(|error| Problem::internal(error.to_string()))
}

fn text(entry: &Entry) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(&TaskView::of(entry)).map_err(|error| Problem::internal(error.to_string()))
}

/// The task in JSON with its answer as the member `result`.
async fn with_result(app: &App, entry: &Entry, ended: &Ended) -> Result<(Vec<u8>, Arc<Reservation>), Problem> {
    let mut text = text(entry)?;
    let Ok(answer) = &ended.result else { return Err(Problem::internal("a result of a task that has none")) };
    let bytes = answer.payload_bytes();
    let (answer, reservation) = read(app, entry, answer, Accept::Json).await?;
    text.pop();
    text.extend_from_slice(b",\"result\":");
    text.extend(blocking::run(bytes, &reservation, move || answer.json().map(answer::object)).await?);
    text.push(b'}');
    Ok((text, reservation))
}

/// Reads an answer from where it is, with the memory that it takes until it is sent.
async fn read(
    app: &App,
    entry: &Entry,
    answer: &Answer,
    accept: Accept,
) -> Result<(Box<dyn AnswerForm>, Arc<Reservation>), Problem> {
    let times = if accept == Accept::Json { JSON_TIMES } else { 1 };
    let (blob, reservation) = app.tasks.answer(entry, answer, times).await?;
    let decoded = entry.birth.kind.decode(&entry.birth.params, blob);
    Ok((decoded.map_err(|error| Problem::from(error).of(entry.id()))?, reservation))
}

fn binary(
    entry: &Entry,
    ended: &Ended,
    answer: Box<dyn AnswerForm>,
    accept: Accept,
    reservation: Arc<Reservation>,
) -> Result<Response, Problem> {
    let mut said = answer.headers();
    said.push(("rabbitry-task", entry.id().to_string()));
    said.extend(ended.worker.as_ref().map(|worker| ("rabbitry-worker", worker.id.clone())));
    let pieces = if accept == Accept::Npy { answer.into_npy()? } else { answer.into_raw() };
    Ok(answer::binary(accept, pieces, said, reservation))
}
