//! Answers that many calls have in common, for the OpenAPI document.
#![allow(dead_code)]

use utoipa::IntoResponses;

use super::super::problem::Problem;

/// What any call with a body may say no with.
#[derive(IntoResponses)]
pub(super) enum Refused {
    /// The request can't be read
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// No token, or a wrong one
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// The body came too slowly
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(Problem),
    /// The body, or the task, is too large
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// This form of body is not read
    #[response(status = 415, content_type = "application/problem+json")]
    Unsupported(Problem),
    /// The task is wrong, or its A is singular
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// A defect
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(Problem),
    /// There is no room at the moment: ask again after `Retry-After` seconds
    #[response(status = 503, content_type = "application/problem+json")]
    Busy(Problem),
}

/// The answer has forms.
#[derive(IntoResponses)]
pub(super) enum Formed {
    /// No such form of answer
    #[response(status = 406, content_type = "application/problem+json")]
    NotAcceptable(Problem),
}

/// The task goes into the spool.
#[derive(IntoResponses)]
pub(super) enum Spooled {
    /// The spool of detached tasks is full
    #[response(status = 507, content_type = "application/problem+json")]
    Full(Problem),
}

/// Why there is no result in the form that was asked for.
#[derive(IntoResponses)]
pub(super) enum NoResult {
    /// The task was too large for its worker
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The task is wrong, or its A is singular
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// A defect
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(Problem),
    /// There is no room at the moment: ask again after `Retry-After` seconds
    #[response(status = 503, content_type = "application/problem+json")]
    Busy(Problem),
}

/// The answer takes memory.
#[derive(IntoResponses)]
pub(super) enum NoRoom {
    /// It takes more memory than the bridge has
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// There is no room at the moment: ask again after `Retry-After` seconds
    #[response(status = 503, content_type = "application/problem+json")]
    Busy(Problem),
}

/// What a task may fail with.
#[derive(IntoResponses)]
pub(super) enum TaskFailed {
    /// The task was cancelled
    #[response(status = 409, content_type = "application/problem+json")]
    Cancelled(Problem),
    /// The task was lost with its workers, or the broker does not take it
    #[response(status = 502, content_type = "application/problem+json")]
    Lost(Problem),
    /// The deadline has passed
    #[response(status = 504, content_type = "application/problem+json")]
    Late(Problem),
}

/// What a call without a body may say no with.
#[derive(IntoResponses)]
pub(super) enum Denied {
    /// The request can't be read
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// No token, or a wrong one
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
}

/// There is no such task.
#[derive(IntoResponses)]
pub(super) enum Missing {
    /// There is no such task: it was never here, or its result was read or has expired
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
}

/// There is no such picture.
#[derive(IntoResponses)]
pub(super) enum NoPicture {
    /// There is no such picture: it was never here, was deleted or has expired, or the bridge was restarted
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
}

/// The broker does not answer.
#[derive(IntoResponses)]
pub(super) enum NoBroker {
    /// The broker refuses what was asked
    #[response(status = 502, content_type = "application/problem+json")]
    Refuses(Problem),
    /// No connection to the broker at the moment
    #[response(status = 503, content_type = "application/problem+json")]
    Lost(Problem),
}

/// The lease is not there.
#[derive(IntoResponses)]
pub(super) enum NoLease {
    /// There is no such lease
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// An answer to it is being looked at
    #[response(status = 409, content_type = "application/problem+json")]
    Answering(Problem),
    /// It is over
    #[response(status = 410, content_type = "application/problem+json")]
    Ended(Problem),
}
