//! `solve` over HTTP: a and b in, x and its certificate out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::form::{Field, Fields, Wishes};
use super::super::leases::Offer;
use super::super::problem::Problem;
use super::{AnswerForm, GivenAnswer, KindForm};
use crate::files;
use crate::task::{Blob, Encoded, Format, Kind, Priority, Task, TaskError};
use crate::tasks::solve::{Certificate, Choice, How, JsonError, Order, Solution, SolveHandler, System};

pub(super) struct Solve;

impl KindForm for Solve {
    fn kind(&self) -> Kind {
        System::KIND
    }

    fn read_json(&self, text: Vec<u8>) -> Result<(Encoded, Wishes), Problem> {
        let (system, wished) = System::from_json(text).map_err(|error| not_json("system", error))?;
        let deadline = wished.deadline_ms.map(Duration::from_millis);
        let wishes = Wishes { priority: wished.priority.unwrap_or_default(), deadline };
        Ok((system.encode(Format::Binary)?, wishes))
    }

    fn read_fields(&self, fields: Fields) -> Result<(Encoded, Wishes), Problem> {
        let (mut a, mut b) = (None, None);
        let (mut how, mut wishes) = (How::default(), Wishes::default());
        let mut seen = Vec::new();
        for field in &fields.fields {
            let name = field.name.as_str();
            if seen.contains(&name) {
                return Err(Problem::bad_request(format!("the part {name:?} comes twice")).at(name));
            }
            match name {
                "a" => a = Some(field.place.clone()),
                "b" => b = Some(field.place.clone()),
                "method" => how.method = word(&fields, field)?,
                "reproducible" => how.reproducible = flag(&fields, field)?,
                "priority" => wishes.priority = word(&fields, field)?,
                "deadline_ms" => wishes.deadline = Some(milliseconds(&fields, field)?),
                _ => {
                    let known = "a, b, method, reproducible, priority and deadline_ms are known";
                    return Err(Problem::bad_request(format!("an unknown part {name:?}; {known}")).at(name));
                }
            }
            seen.push(name);
        }
        let missing = |name: &str| {
            Problem::bad_request(format!("there is no part {name:?}; send it as a file, {name}.npy")).at(name)
        };
        let files = [a.ok_or_else(|| missing("a"))?, b.ok_or_else(|| missing("b"))?];
        let [a, b] = files::npy::pair(fields.buffer, files).map_err(|(place, reason)| {
            let name = ["a", "b"][place];
            Problem::invalid(format!("the part {name:?} {reason}")).at(name)
        })?;
        let system = System { a, b, how };
        Ok((system.encode(Format::Binary)?, wishes))
    }

    fn read_raw(&self, blob: Blob) -> Result<Encoded, Problem> {
        Ok(System::from_blob(blob)?.encode(Format::Binary)?)
    }

    fn task_json(&self, task: Blob) -> Result<Vec<Bytes>, TaskError> {
        match task.format {
            Format::Json => Ok(task.payload),
            Format::Binary => Ok(System::from_blob(task)?.encode(Format::Json)?.blob.payload),
        }
    }

    fn task_binary(&self, task: Blob) -> Result<Blob, TaskError> {
        match task.format {
            Format::Json => Ok(System::from_blob(task)?.encode(Format::Binary)?.blob),
            Format::Binary => Ok(task),
        }
    }

    fn answer(&self, task: &Blob, answer: GivenAnswer) -> Result<Blob, Problem> {
        let params = match task.format {
            Format::Json => System::from_blob(task.clone())?.to_params(),
            Format::Binary => task.params.clone(),
        };
        let solution = match answer {
            GivenAnswer::Raw(answer) if task.format == Format::Binary => return Ok(answer),
            GivenAnswer::Raw(answer) => System::decode_answer(&params, answer)?,
            GivenAnswer::Json(text) => Solution::from_json(text).map_err(|error| not_json("solution", error))?,
        };
        Ok(solution.to_blob(&params, task.format)?)
    }

    fn offer(&self) -> Offer {
        // It plans and computes nothing: there is nothing to time.
        Offer::new::<System>(Arc::new(SolveHandler::uncalibrated(usize::MAX)))
    }

    fn decode(&self, task_params: &[u8], answer: Blob) -> Result<Box<dyn AnswerForm>, TaskError> {
        Ok(Box::new(System::decode_answer(task_params, answer)?))
    }
}

fn not_json(what: &str, JsonError { field, reason }: JsonError) -> Problem {
    let problem = Problem::bad_request(format!("not the JSON form of a {what}: {reason}"));
    match field {
        Some(field) => problem.at(field),
        None => problem,
    }
}

/// A word of an enum as JSON has it.
fn word<'de, T: Deserialize<'de>>(fields: &'de Fields, field: &Field) -> Result<T, Problem> {
    let text: StrDeserializer<'_, ValueError> = fields.text(field)?.into_deserializer();
    T::deserialize(text)
        .map_err(|error| Problem::bad_request(format!("the part {:?}: {error}", field.name)).at(&*field.name))
}

fn flag(fields: &Fields, field: &Field) -> Result<bool, Problem> {
    match fields.text(field)? {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Problem::bad_request(format!("{} is true or false, not {other:?}", field.name)).at(&*field.name)),
    }
}

fn milliseconds(fields: &Fields, field: &Field) -> Result<Duration, Problem> {
    let text = fields.text(field)?;
    let number = text.parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    number.ok_or_else(|| {
        Problem::bad_request(format!("{} is a number above 0, not {text:?}", field.name)).at(&*field.name)
    })
}

impl AnswerForm for Solution {
    fn json(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Problem> {
        let text =
            |text: Result<Vec<u8>, serde_json::Error>| text.map_err(|error| Problem::internal(error.to_string()));
        let x = text(serde_json::to_vec(&self.x))?;
        Ok(vec![("x", x), ("certificate", text(serde_json::to_vec(&self.certificate))?)])
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let x = &self.x;
        let shape = if x.is_vector() { x.rows().to_string() } else { format!("{},{}", x.rows(), x.cols()) };
        let order = match x.order() {
            Order::ColMajor if !x.is_vector() => "F",
            _ => "C",
        };
        // Numbers and words: nothing in it can fail.
        let certificate = serde_json::to_string(&self.certificate).unwrap_or_default();
        vec![("rabbitry-shape", shape), ("rabbitry-order", order.into()), ("rabbitry-certificate", certificate)]
    }

    fn into_npy(self: Box<Self>) -> Result<Vec<Bytes>, Problem> {
        let header = files::npy::header(&self.x).map_err(|error| Problem::internal(error.to_string()))?;
        Ok(vec![header.into(), self.x.into_bytes()])
    }

    fn into_raw(self: Box<Self>) -> Vec<Bytes> {
        vec![self.x.into_bytes()]
    }
}

/// A matrix in JSON: a list of rows, a list of numbers for a vector, or an object with the base64 of its raw bytes.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code)]
pub(in super::super) enum MatrixForm {
    /// Rows.
    Rows(Vec<Vec<f64>>),
    /// A vector.
    Vector(Vec<f64>),
    /// Raw little-endian numbers.
    Base64(Base64Form),
}

/// A matrix as the base64 of its raw bytes.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(in super::super) struct Base64Form {
    /// Rows and columns, or the length of a vector.
    #[schema(example = json!([2, 2]), min_items = 1, max_items = 2)]
    shape: Vec<u64>,
    /// `<f8` or `<f4`.
    #[schema(example = "<f8", pattern = "^<f[48]$")]
    dtype: String,
    /// C for rows one after another, F for columns.
    #[schema(example = "C", default = "C", pattern = "^[CF]$", required = false)]
    order: String,
    /// Standard base64 with padding, no line breaks.
    data: String,
}

/// A system A X = B.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"a": [[4.0, 1.0], [2.0, 3.0]], "b": [1.0, 2.0]}))]
#[allow(dead_code)]
pub(in super::super) struct SystemForm {
    /// A, square unless the method is lstsq.
    a: MatrixForm,
    /// B, a vector or a matrix of as many rows as A.
    b: MatrixForm,
    #[schema(required = false)]
    method: Choice,
    /// The same bits from every worker of the same version.
    #[schema(required = false)]
    reproducible: bool,
    #[schema(required = false)]
    priority: Priority,
    /// Milliseconds from now after which nobody wants the answer.
    #[schema(required = false, minimum = 1)]
    deadline_ms: u64,
}

/// A system A X = B, in parts.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(in super::super) struct PartsForm {
    /// `a.npy`, as `numpy.save` writes it.
    #[schema(value_type = String, format = Binary, content_media_type = "application/x-npy")]
    a: Vec<u8>,
    /// `b.npy`.
    #[schema(value_type = String, format = Binary, content_media_type = "application/x-npy")]
    b: Vec<u8>,
    #[schema(required = false)]
    method: Choice,
    #[schema(required = false)]
    reproducible: bool,
    #[schema(required = false)]
    priority: Priority,
    #[schema(required = false, minimum = 1)]
    deadline_ms: u64,
}

/// A solution.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)]
pub(in super::super) struct SolutionForm {
    /// X, in the shape of B.
    x: MatrixForm,
    certificate: Certificate,
    /// Who computed it.
    worker: Option<String>,
    /// The task's id.
    #[schema(example = "00112233445566778899aabbccddeeff")]
    task: Option<String>,
}
