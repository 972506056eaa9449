//! What went wrong, as RFC 9457 problem documents (`application/problem+json`).
//!
//! The one place where errors of the pool become statuses. Wrong input is 4xx and says what to do; 5xx is for what the
//! caller can't mend.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::broker;
use crate::task::{TaskError, TaskId};

/// The media type of a problem.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// The longest detail: some repeat what came, and that may be anything.
const DETAIL_BYTES_MAX: usize = 2000;

/// The longest name of a field.
const FIELD_BYTES_MAX: usize = 200;

fn shortened(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str(" ...");
    }
    text
}

/// A problem document (RFC 9457).
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct Problem {
    /// `urn:rabbitry:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:rabbitry:problem:singular")]
    kind: Box<str>,
    /// A short name of it, for scripts.
    #[schema(example = "singular")]
    code: &'static str,
    /// The same in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong here, and what to do about it.
    detail: String,
    /// JSON pointer of the field at fault, or the name of the query parameter, header or part.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    field: Option<Box<str>>,
    /// The task it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    task: Option<Box<str>>,
    /// Seconds after which to ask again.
    #[serde(skip)]
    retry_after: Option<u32>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Problem {
            kind: format!("urn:rabbitry:problem:{code}").into(),
            code,
            title,
            status: status.as_u16(),
            detail: shortened(detail.into(), DETAIL_BYTES_MAX),
            field: None,
            task: None,
            retry_after: None,
        }
    }

    /// The request itself can't be understood.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", "The request can't be read", detail)
    }

    /// The request is understood, and the task in it is wrong.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The task is wrong in form", detail)
    }

    pub(super) fn unsupported(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "unsupported_media_type", "This form of body is not read", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such thing", detail)
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body or the task is too large", detail)
    }

    /// Not now; again in `seconds`.
    pub(super) fn busy(seconds: u32, detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem { retry_after: Some(seconds), ..Self::new(status, "busy", "There is no room at the moment", detail) }
    }

    pub(super) fn stopping() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let detail = "the bridge is being stopped; ask again when it is back";
        Problem { retry_after: Some(5), ..Self::new(status, "stopping", "The bridge is stopping", detail) }
    }

    pub(super) fn internal(detail: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "internal", "Something broke inside the bridge", detail)
    }

    pub(super) fn at(self, field: impl Into<Box<str>>) -> Self {
        Problem { field: Some(shortened(field.into().into(), FIELD_BYTES_MAX).into()), ..self }
    }

    /// The same in other words.
    pub(super) fn saying(self, detail: String) -> Self {
        Problem { detail: shortened(detail, DETAIL_BYTES_MAX), ..self }
    }

    pub(super) fn of(self, task: TaskId) -> Self {
        Problem { task: Some(task.to_string().into()), ..self }
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<TaskError> for Problem {
    fn from(error: TaskError) -> Self {
        let (status, title) = match &error {
            TaskError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "The task is wrong in form"),
            TaskError::Singular { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "A is singular"),
            TaskError::UnknownKind { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "No worker computes this kind"),
            TaskError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "The task is too large for the worker"),
            TaskError::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "The deadline has passed"),
            TaskError::TooManyAttempts { .. } => (StatusCode::BAD_GATEWAY, "The task was lost with its workers"),
            TaskError::Panicked(_) => (StatusCode::INTERNAL_SERVER_ERROR, "The worker broke on the task"),
            TaskError::Shutdown => (StatusCode::SERVICE_UNAVAILABLE, "The pool was shut down"),
            TaskError::Refused(_) => (StatusCode::BAD_GATEWAY, "The broker does not take the task"),
            TaskError::Cancelled => (StatusCode::CONFLICT, "The task was cancelled"),
        };
        let retry_after = matches!(error, TaskError::Shutdown).then_some(5);
        Problem { retry_after, ..Self::new(status, error.code(), title, error.to_string()) }
    }
}

impl From<broker::Error> for Problem {
    fn from(error: broker::Error) -> Self {
        let status = if error.is_transient() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_GATEWAY };
        let retry_after = error.is_transient().then_some(2);
        Problem {
            retry_after,
            ..Self::new(status, "broker", "The broker does not answer as it should", error.to_string())
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Strings and numbers: nothing in it can fail.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
