//! How each kind of task is read from a request and its answer written into a response. One file and one line each.

mod solve;

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

pub(super) use solve::{PartsForm, SolutionForm, SystemForm};

use super::form::{Fields, Wishes};
use super::leases::Offer;
use super::problem::Problem;
use crate::task::{Blob, Encoded, Kind, TaskError};

/// The names of the kinds, for the OpenAPI document.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code)]
pub(super) enum KindName {
    Solve,
}

/// A kind over HTTP.
pub(super) trait KindForm: Send + Sync + 'static {
    /// The kind.
    fn kind(&self) -> Kind;

    /// A task from a JSON document. It is computed in binary.
    fn read_json(&self, text: Vec<u8>) -> Result<(Encoded, Wishes), Problem>;

    /// A task from the parts of a multipart body.
    fn read_fields(&self, fields: Fields) -> Result<(Encoded, Wishes), Problem>;

    /// A task as it travels: parameters and payload. Checked as any other.
    fn read_raw(&self, blob: Blob) -> Result<Encoded, Problem>;

    /// A task's JSON form, in pieces.
    fn task_json(&self, task: Blob) -> Result<Vec<Bytes>, TaskError>;

    /// A task's binary form.
    fn task_binary(&self, task: Blob) -> Result<Blob, TaskError>;

    /// An answer to this task, in the form that the task has.
    fn answer(&self, task: &Blob, answer: GivenAnswer) -> Result<Blob, Problem>;

    /// Leases of this kind's tasks.
    fn offer(&self) -> Offer;

    /// Reads an answer to the task that had these parameters.
    fn decode(&self, task_params: &[u8], answer: Blob) -> Result<Box<dyn AnswerForm>, TaskError>;
}

/// An answer as a worker outside gives it.
pub(super) enum GivenAnswer {
    /// A JSON text.
    Json(Vec<u8>),
    /// Parameters and raw numbers.
    Raw(Blob),
}

impl GivenAnswer {
    /// How long it is.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            GivenAnswer::Json(text) => text.len() as u64,
            GivenAnswer::Raw(blob) => blob.payload_bytes(),
        }
    }
}

/// An answer, to be written in the form that the client wants.
pub(super) trait AnswerForm: Send {
    /// The members of its JSON object, each a JSON text.
    fn json(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Problem>;

    /// What goes into headers beside a binary body.
    fn headers(&self) -> Vec<(&'static str, String)>;

    /// As a `.npy` file.
    fn into_npy(self: Box<Self>) -> Result<Vec<Bytes>, Problem>;

    /// The bare numbers, little-endian.
    fn into_raw(self: Box<Self>) -> Vec<Bytes>;
}

/// All there are.
static KINDS: &[&dyn KindForm] = &[&solve::Solve];

/// The kind of that name.
pub(super) fn find(name: &str) -> Result<&'static dyn KindForm, Problem> {
    KINDS.iter().find(|kind| kind.kind().as_str() == name).copied().ok_or_else(|| {
        Problem::bad_request(format!("there is no kind {name:?}; this bridge knows {}", names().join(", "))).at("kind")
    })
}

/// The kind that `/v1/solve` is about.
pub(super) fn solve() -> &'static dyn KindForm {
    &solve::Solve
}

/// Leases of all kinds.
pub(super) fn offers() -> Vec<Offer> {
    KINDS.iter().map(|kind| kind.offer()).collect()
}

/// Their names.
pub(super) fn names() -> Vec<String> {
    KINDS.iter().map(|kind| kind.kind().to_string()).collect()
}
