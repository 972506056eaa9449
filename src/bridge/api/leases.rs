//! Tasks on lease, for workers in other languages.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::app::{App, Shared};
use super::super::blocking;
use super::super::body::Incoming;
use super::super::budget::Reservation;
use super::super::form::{PARAMS_HEADER, raw_params};
use super::super::kinds::{self, GivenAnswer, KindForm, SolutionForm, SystemForm};
use super::super::leases::{Ended, Lease, LeaseError, LeaseId, Leased, Minion};
use super::super::problem::Problem;
use super::super::server::Peer;
use super::{JsonBody, Named, common, wait};
use crate::task::{Blob, Format, TaskError};
use crate::worker::Claim;

/// The media type of raw numbers.
const RAW: &str = "application/x-rabbitry";

/// The longest name of a worker.
const NAME_CHARS_MAX: usize = 64;

/// An outside worker that wants a task.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The kinds it computes.
    #[schema(example = json!(["solve"]), min_items = 1, value_type = Vec<kinds::KindName>)]
    kinds: Vec<String>,
    /// Seconds to wait for a task.
    #[serde(default = "patience")]
    #[schema(minimum = 0, maximum = 600, default = 30)]
    wait: f64,
    worker: Who,
}

fn patience() -> f64 {
    30.0
}

/// Who it is: the same worker as long as name, host and pid are. It has one lease at a time.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Who {
    /// A name of its choice; the directory has it with a few digits behind it.
    #[schema(example = "minion", min_length = 1, max_length = 64)]
    name: String,
    /// Its host name.
    #[serde(default)]
    #[schema(required = false)]
    host: String,
    /// Its process.
    #[serde(default)]
    #[schema(required = false, format = "uint32")]
    pid: u32,
    /// Cores of its machine.
    #[serde(default)]
    #[schema(required = false, format = "uint32")]
    cores: u32,
    /// Of its program.
    #[serde(default)]
    #[schema(required = false)]
    version: String,
}

/// A task on lease, in JSON.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)]
pub(super) struct LeaseForm {
    /// The lease's id, 32 hexadecimal digits.
    lease: String,
    /// Seconds until it is over, unless it is renewed.
    expires_in: f64,
    /// The task's id.
    task: String,
    /// The task's kind.
    kind: String,
    /// How often a worker was lost with the task.
    attempt: u32,
    /// Seconds until nobody wants the answer.
    deadline_in: Option<f64>,
    /// The task.
    #[schema(value_type = SystemForm)]
    payload: (),
}

/// Leases the next task.
///
/// By `Accept` in JSON, or as raw numbers (`application/x-rabbitry`) with everything else in headers. The task goes back
/// to its queue, and counts an attempt, if the lease is not renewed in time.
#[utoipa::path(post, path = "/v1/leases", tag = "leases", request_body = Wanted, responses(
    (status = 200, description = "A task", headers(
        ("rabbitry-lease" = String, description = "The lease's id"),
        ("rabbitry-expires-in" = f64, description = "Seconds until it is over, unless it is renewed"),
        ("rabbitry-task" = String, description = "The task's id"),
        ("rabbitry-kind" = String, description = "Its kind"),
        ("rabbitry-attempt" = u32, description = "How often a worker was lost with it"),
        ("rabbitry-deadline-in" = f64, description = "Seconds until nobody wants the answer, if there is a deadline"),
        ("rabbitry-params" = String, description = "Its parameters, base64"),
    ), content((LeaseForm = "application/json"), (Vec<u8> = "application/x-rabbitry"))),
    (status = 204, description = "No task came"),
    (status = 409, description = "This worker has a lease, or has asked again", body = Problem, content_type = "application/problem+json"),
    common::Refused,
    common::Formed,
    common::NoBroker,
))]
pub(super) async fn lease(
    State(app): State<Shared>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    JsonBody(wanted): JsonBody<Wanted>,
) -> Result<Response, Problem> {
    let patience = wait(wanted.wait).map_err(|problem| problem.at("/wait"))?;
    let raw = wants_raw(&headers)?;
    let Who { name, host, pid, cores, version } = wanted.worker;
    if !(1..=NAME_CHARS_MAX).contains(&name.chars().count()) {
        let detail = format!("a worker's name has 1 to {NAME_CHARS_MAX} characters, not {}", name.chars().count());
        return Err(Problem::bad_request(detail).at("/worker/name"));
    }
    let claim = Claim { name, host, address: peer.ip().to_string(), pid, cores, version };
    let minion = Minion { claim, kinds: wanted.kinds };
    let Some(lease) = app.leases.next(&minion, patience).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let kind = kinds::find(lease.leased.kind.as_str())?;
    let response = if raw { raw_lease(kind, &lease) } else { json_lease(kind, &lease) };
    response.map_err(|error| {
        // It would be the same with every worker.
        let id = lease.id;
        tokio::spawn(async move { app.leases.fail(id, error).await });
        Problem::busy(0, "the task was wrong in form and is answered; ask for the next")
    })
}

/// Whether the client wants the raw numbers.
fn wants_raw(headers: &HeaderMap) -> Result<bool, Problem> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    let has = |types: &[&str]| {
        let names = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
        names.into_iter().any(|name| types.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)))
    };
    if has(&[RAW]) {
        Ok(true)
    } else if has(&["application/json", "application/*", "*/*"]) {
        Ok(false)
    } else {
        let detail = format!("leases are application/json or {RAW}, not {accept:?}");
        Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", "No such form of answer", detail).at("Accept"))
    }
}

fn deadline_in(leased: &Leased) -> Option<f64> {
    Some(leased.deadline?.saturating_duration_since(std::time::Instant::now()).as_secs_f64())
}

fn raw_lease(kind: &dyn KindForm, lease: &Lease) -> Result<Response, TaskError> {
    let Lease { id, expires_in, leased } = lease;
    let Blob { params, payload, .. } = kind.task_binary(leased.blob.clone())?;
    let mut response = in_pieces(payload);
    let said = [
        ("rabbitry-lease", id.to_string()),
        ("rabbitry-expires-in", expires_in.as_secs_f64().to_string()),
        ("rabbitry-task", leased.task.to_string()),
        ("rabbitry-kind", leased.kind.to_string()),
        ("rabbitry-attempt", leased.attempt.to_string()),
        (PARAMS_HEADER, base64_simd::STANDARD.encode_to_string(params)),
    ];
    let deadline = deadline_in(leased).map(|seconds| ("rabbitry-deadline-in", seconds.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(RAW));
    for (name, value) in said.into_iter().chain(deadline) {
        // Numbers and names of ours.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok(response)
}

fn json_lease(kind: &dyn KindForm, lease: &Lease) -> Result<Response, TaskError> {
    let Lease { id, expires_in, leased } = lease;
    let payload = kind.task_json(leased.blob.clone())?;
    let said = serde_json::json!({
        "lease": id.to_string(),
        "expires_in": expires_in.as_secs_f64(),
        "task": leased.task.to_string(),
        "kind": leased.kind.as_str(),
        "attempt": leased.attempt,
        "deadline_in": deadline_in(leased),
    });
    let mut head = said.to_string();
    head.pop();
    head += ",\"payload\":";
    let mut pieces = vec![Bytes::from(head)];
    pieces.extend(payload);
    pieces.push(Bytes::from_static(b"}"));
    let mut response = in_pieces(pieces);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// A body in pieces, which are not joined.
fn in_pieces(pieces: Vec<Bytes>) -> Response {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
    let mut response = Body::from_stream(futures_util::stream::iter(pieces)).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

/// How far the task is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Renewal {
    /// 0 to 1.
    #[serde(default)]
    #[schema(required = false, minimum = 0, maximum = 1)]
    progress: Option<f64>,
}

/// A renewed lease.
#[derive(Serialize, ToSchema)]
pub(super) struct RenewedForm {
    /// Seconds until it is over, unless it is renewed again.
    expires_in: f64,
    /// Why nobody wants the task any more: the lease is over, drop the task.
    stopped: Option<Problem>,
}

/// Renews a lease, and says how far the task is.
#[utoipa::path(patch, path = "/v1/leases/{lease}", tag = "leases", params(("lease" = String, Path, description = "The lease's id", pattern = "^[0-9a-fA-F]{32}$")),
    request_body = Renewal, responses(
    (status = 200, body = RenewedForm),
    common::NoLease,
    common::Refused,
))]
pub(super) async fn renew(
    State(app): State<Shared>,
    Named(lease): Named,
    JsonBody(renewal): JsonBody<Renewal>,
) -> Result<Json<RenewedForm>, Problem> {
    if let Some(progress) = renewal.progress.filter(|progress| !(0.0..=1.0).contains(progress)) {
        return Err(Problem::bad_request(format!("progress is 0 to 1, not {progress}")).at("/progress"));
    }
    let renewed = app.leases.renew(id(&lease)?, renewal.progress)?;
    let stopped = renewed.stopped.map(Problem::from);
    Ok(Json(RenewedForm { expires_in: renewed.expires_in.as_secs_f64(), stopped }))
}

/// Gives a task back: another worker gets it, and no attempt is counted.
#[utoipa::path(delete, path = "/v1/leases/{lease}", tag = "leases", params(("lease" = String, Path, description = "The lease's id", pattern = "^[0-9a-fA-F]{32}$")),
    responses(
    (status = 204, description = "It is back in its queue"),
    common::NoLease,
    common::Denied,
))]
pub(super) async fn give_back(State(app): State<Shared>, Named(lease): Named) -> Result<StatusCode, Problem> {
    app.leases.give_back(id(&lease)?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The answer to a leased task, in JSON or as raw numbers with its parameters in `Rabbitry-Params`.
#[utoipa::path(put, path = "/v1/leases/{lease}/result", tag = "leases", params(
    ("lease" = String, Path, description = "The lease's id", pattern = "^[0-9a-fA-F]{32}$"),
    ("rabbitry-params" = Option<String>, Header, description = "With raw numbers: the answer's parameters, base64"),
), request_body(content((SolutionForm = "application/json"), (Vec<u8> = "application/x-rabbitry"))), responses(
    (status = 204, description = "It is right in form, and on its way"),
    common::NoLease,
    common::Refused,
))]
pub(super) async fn result(
    State(app): State<Shared>,
    Named(lease): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let lease = id(&lease)?;
    let leased = app.leases.task(lease)?;
    let kind = kinds::find(leased.kind.as_str())?;
    let (given, reservation) = given(&app, &headers, body).await?;
    let bytes = given.bytes();
    let answer = blocking::run(bytes, &reservation, move || kind.answer(&leased.blob, given)).await?;
    app.leases.complete(lease, answer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads the answer, and the memory that it takes until it is on its way.
async fn given(app: &App, headers: &HeaderMap, body: Body) -> Result<(GivenAnswer, Arc<Reservation>), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let incoming = Incoming::new(headers, body, app.options.max_body_bytes, &app.budget, 12)?;
    match essence.as_str() {
        "application/json" => {
            let (text, reservation) = incoming.whole().await?;
            Ok((GivenAnswer::Json(text), reservation))
        }
        RAW => {
            let params = raw_params(headers)?;
            let (payload, reservation) = incoming.whole().await?;
            let blob = Blob { format: Format::Binary, params, payload: vec![payload.into()] };
            Ok((GivenAnswer::Raw(blob), reservation))
        }
        _ => {
            let detail = format!("an answer of type {content_type:?} is not read; send application/json or {RAW}");
            Err(Problem::unsupported(detail).at("Content-Type"))
        }
    }
}

/// Why a leased task has no answer.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "code", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Failure {
    /// A is singular.
    Singular {
        /// The first pivot that is zero, from 1.
        #[schema(minimum = 1)]
        pivot: u64,
    },
    /// The task is wrong in form.
    Invalid {
        /// What is wrong, and what to do.
        message: String,
    },
    /// The worker broke on it.
    Failed {
        /// How.
        message: String,
    },
}

/// Ends a leased task with an error, which goes to its caller.
#[utoipa::path(put, path = "/v1/leases/{lease}/error", tag = "leases", params(("lease" = String, Path, description = "The lease's id", pattern = "^[0-9a-fA-F]{32}$")),
    request_body = Failure, responses(
    (status = 204, description = "It is on its way"),
    common::NoLease,
    common::Refused,
))]
pub(super) async fn error(
    State(app): State<Shared>,
    Named(lease): Named,
    JsonBody(failure): JsonBody<Failure>,
) -> Result<StatusCode, Problem> {
    let error = match failure {
        Failure::Singular { pivot: 0 } => {
            return Err(Problem::bad_request("pivots are counted from 1").at("/pivot"));
        }
        Failure::Singular { pivot } => TaskError::Singular { pivot },
        Failure::Invalid { message } => TaskError::Invalid(message),
        Failure::Failed { message } => TaskError::Panicked(message),
    };
    app.leases.fail(id(&lease)?, error).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn id(text: &str) -> Result<LeaseId, Problem> {
    text.parse().map_err(|error: TaskError| Problem::bad_request(error.to_string()).at("lease"))
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        let detail = error.to_string();
        match error {
            LeaseError::Unknown(_) => Problem::not_found(detail),
            LeaseError::Ended { how, .. } => {
                let code = match how {
                    Ended::Stopped(error) => error.code(),
                    _ => "lease_ended",
                };
                Problem::new(StatusCode::GONE, code, "The lease is over", detail)
            }
            LeaseError::Kinds { .. } => Problem::bad_request(detail).at("/kinds"),
            LeaseError::Busy { .. } | LeaseError::Replaced | LeaseError::Answering(_) => {
                Problem::new(StatusCode::CONFLICT, "conflict", "One lease at a time", detail)
            }
            LeaseError::Refused(_) => {
                let title = "This is no answer to the task";
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, detail)
            }
            LeaseError::Full { .. } => Problem::busy(5, detail),
            LeaseError::Closing => Problem::stopping(),
            LeaseError::Broker(error) => Problem::from(error),
        }
    }
}
