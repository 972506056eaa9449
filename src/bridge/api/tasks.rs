//! Detached tasks: submit, look, wait, read, cancel.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::answer::Accept;
use super::super::app::{App, Shared};
use super::super::kinds::{PartsForm, SystemForm};
use super::super::problem::Problem;
use super::super::tasks::Entry;
use super::super::view::{self, State as TaskState, TaskView};
use super::super::{form, kinds};
use super::{Asked, Named, common, wait};
use crate::task::TaskId;

/// The longest key of a submission.
const KEY_BYTES_MAX: usize = 255;

/// Between looks at the progress of a task.
const LOOK: Duration = Duration::from_millis(250);

/// Tasks on a page, at most.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Submitted {
    /// What kind of task the body is.
    #[param(inline, value_type = kinds::KindName)]
    kind: String,
}

/// Submits a task of any kind, to be asked for later.
///
/// It survives a restart of the bridge and of the broker. Its result is kept until it was read (and a minute longer), or
/// until `--result-ttl`. The same request with the same `Idempotency-Key` is the same task.
#[utoipa::path(post, path = "/v1/tasks", tag = "tasks", params(
    Submitted,
    ("idempotency-key" = Option<String>, Header, description = "1 to 255 visible ASCII characters of the client's choice",
        pattern = "^[!-~]{1,255}$"),
), request_body(content(
    (SystemForm = "application/json"), (PartsForm = "multipart/form-data"), (Vec<u8> = "application/x-rabbitry"),
)), responses(
    (status = 202, description = "It is in the spool", body = TaskView, headers(("location" = String, description = "The task's URL"))),
    (status = 409, description = "The first request with this key is still on its way", body = Problem, content_type = "application/problem+json"),
    common::Refused,
    common::Spooled,
))]
pub(super) async fn submit(
    State(app): State<Shared>,
    Asked(submitted): Asked<Submitted>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let kind = kinds::find(&submitted.kind)?;
    let key = headers.get("idempotency-key").map(key).transpose()?;
    let task = form::read(kind, &headers, body, app.options.max_body_bytes, &app.budget).await?;
    let (entry, _) = app.tasks.detach(task, key).await?;
    Ok(accepted(&entry))
}

fn key(value: &HeaderValue) -> Result<String, Problem> {
    let legal =
        |key: &&str| (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    value.to_str().ok().filter(legal).map(str::to_owned).ok_or_else(|| {
        Problem::bad_request("an Idempotency-Key is 1 to 255 visible ASCII characters").at("Idempotency-Key")
    })
}

/// 202, and where the task is.
pub(super) fn accepted(entry: &Entry) -> Response {
    let location = [(header::LOCATION, format!("/v1/tasks/{}", entry.id()))];
    (StatusCode::ACCEPTED, location, Json(TaskView::of(entry))).into_response()
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Patience {
    /// Seconds to wait for the outcome, at most 600.
    #[serde(default)]
    #[param(minimum = 0, maximum = 600, default = 0)]
    wait: f64,
    /// False for the task alone, in JSON: its result stays unread.
    #[serde(default = "yes")]
    #[param(default = true)]
    result: bool,
}

fn yes() -> bool {
    true
}

fn find(app: &App, id: &str) -> Result<Arc<Entry>, Problem> {
    let id: TaskId =
        id.parse().map_err(|error: crate::task::TaskError| Problem::bad_request(error.to_string()).at("id"))?;
    app.tasks.find(id).ok_or_else(|| {
        let detail =
            format!("there is no task {id} here: it was never submitted, or its result was read or has expired");
        Problem::not_found(detail).of(id)
    })
}

/// A task, and its result once it is done.
///
/// In JSON the result is a member of the task. A binary result comes alone; 202 says that it is not there yet.
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "tasks", params(
    ("id" = String, Path, description = "The task's id", pattern = "^[0-9a-fA-F]{32}$"), Patience,
), responses(
    (status = 200, description = "The task, or its result", content(
        (TaskWithResult = "application/json"), (Vec<u8> = "application/x-npy"), (Vec<u8> = "application/octet-stream"),
    )),
    (status = 202, description = "The result is not there yet", body = TaskView),
    common::Missing,
    common::Denied,
    common::Formed,
    common::NoResult,
    common::TaskFailed,
))]
pub(super) async fn look(
    State(app): State<Shared>,
    Named(id): Named,
    Asked(patience): Asked<Patience>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let time = wait(patience.wait)?;
    let accept = Accept::of(&headers)?;
    let entry = find(&app, &id)?;
    tokio::select! {
        _ = entry.ended() => {}
        () = tokio::time::sleep(time) => {}
        () = app.stop.cancelled() => {}
    }
    if !patience.result {
        return Ok(Json(TaskView::of(&entry)).into_response());
    }
    view::whole(&app, &entry, accept).await
}

/// A task with its result.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)]
pub(super) struct TaskWithResult {
    #[schema(inline)]
    #[serde(flatten)]
    task: TaskView,
    /// Once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<kinds::SolutionForm>,
}

/// Cancels a task; one that has ended is deleted, with its result.
#[utoipa::path(delete, path = "/v1/tasks/{id}", tag = "tasks", params(("id" = String, Path, description = "The task's id", pattern = "^[0-9a-fA-F]{32}$")), responses(
    (status = 200, description = "The task as it is now", body = TaskView),
    common::Missing,
    common::Denied,
))]
pub(super) async fn cancel(State(app): State<Shared>, Named(id): Named) -> Result<Json<TaskView>, Problem> {
    let entry = find(&app, &id)?;
    let cancelled = app.tasks.cancel(&entry).await;
    // It has its outcome, or is about to.
    if app.stop.run_until_cancelled(entry.ended()).await.is_some() && !cancelled {
        app.tasks.remove(&entry).await;
    }
    Ok(Json(TaskView::of(&entry)))
}

/// One of these events.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(super) struct StateEvent {
    #[schema(pattern = "^state$")]
    event: String,
    /// The task as JSON text; with its result in the last one, up to 256 KiB of numbers.
    data: String,
}

/// The states of a task as server-sent events: one at once, one at each change, the last one with its outcome, and with
/// its result up to 256 KiB.
#[utoipa::path(get, path = "/v1/tasks/{id}/events", tag = "tasks", params(("id" = String, Path, description = "The task's id", pattern = "^[0-9a-fA-F]{32}$")), responses(
    (status = 200, description = "Events `state`, each a task in JSON", body = StateEvent, content_type = "text/event-stream"),
    common::Missing,
    common::Denied,
))]
pub(super) async fn events(
    State(app): State<Shared>,
    Named(id): Named,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let entry = find(&app, &id)?;
    let states = stream::unfold((app, entry, None::<TaskView>, false), |(app, entry, last, over)| async move {
        if over {
            return None;
        }
        let view = change(&app, &entry, last).await?;
        let over = !matches!(view.state(), TaskState::Queued | TaskState::Running);
        let event = Event::default().event("state");
        let last = if over { view::last(&app, &entry).await.ok() } else { None };
        let event = match last {
            Some(text) => event.data(text),
            None => event.json_data(&view).unwrap_or_default(),
        };
        Some((Ok(event), (app, entry, Some(view), over)))
    });
    Ok(Sse::new(states).keep_alive(KeepAlive::default()))
}

/// The next state that differs from the last one; `None` if the bridge stops.
async fn change(app: &App, entry: &Entry, last: Option<TaskView>) -> Option<TaskView> {
    let mut phases = entry.phases();
    loop {
        phases.mark_unchanged();
        let view = TaskView::of(entry);
        if last.as_ref() != Some(&view) {
            return Some(view);
        }
        tokio::select! {
            _ = phases.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
            () = app.stop.cancelled() => return None,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Tasks on the page, at most 1000.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<usize>,
    /// As `next` of the page before.
    #[param(minimum = 0)]
    before: Option<i64>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<TaskState>,
}

/// A page of tasks.
#[derive(Serialize, ToSchema)]
pub(super) struct Tasks {
    /// The newest first.
    tasks: Vec<TaskView>,
    /// `before` of the next page, if there is one.
    next: Option<u64>,
}

/// The tasks that the bridge knows, without their results.
#[utoipa::path(get, path = "/v1/tasks", tag = "tasks", params(Page), responses(
    (status = 200, body = Tasks),
    common::Denied,
))]
pub(super) async fn recent(State(app): State<Shared>, Asked(page): Asked<Page>) -> Result<Json<Tasks>, Problem> {
    let limit = page.limit.unwrap_or(50);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is 1 to {PAGE_MAX}, not {limit}")).at("limit"));
    }
    let before = page.before.map(u64::try_from).transpose().map_err(|_| {
        Problem::bad_request("before is the `next` of the page before, a number from 0 on").at("before")
    })?;
    let wanted = |entry: &Entry| page.state.is_none_or(|wanted| view::state(&entry.phase()).0 == wanted);
    let mut entries = app.tasks.recent(before, limit + 1, wanted);
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| more).map(|entry| entry.number);
    Ok(Json(Tasks { tasks: entries.iter().map(|entry| TaskView::of(entry)).collect(), next }))
}
