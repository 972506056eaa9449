//! A request as a task: the forms of body, and the options that come with them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};

use super::blocking;
use super::body::{Incoming, Unread};
use super::budget::{Budget, Reservation};
use super::kinds::KindForm;
use super::problem::Problem;
use crate::task::{Blob, Encoded, Format, MAX_PARAMS, Priority};

/// Memory for a binary body, in eighths of it: the numbers stay where they were read, and the answer is beside them.
const BINARY_EIGHTHS: u64 = 10;

/// For a JSON body: its text and the numbers in it, for a moment.
const JSON_EIGHTHS: u64 = 12;

/// The header with the parameters of a raw payload, base64 of the bytes that docs/protocol.md describes.
pub(super) const PARAMS_HEADER: &str = "rabbitry-params";

/// The longest of the small text fields of a multipart body.
const TEXT_FIELD_BYTES: usize = 256;

/// The parts of a multipart body, at most.
const FIELDS_MAX: usize = 16;

/// That of a `.npy` file's numbers within it.
const ALIGNMENT: usize = 64;

/// What is asked of the pool, beside the task itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Wishes {
    pub priority: Priority,
    pub deadline: Option<Duration>,
}

/// A task that was read from a request.
pub(super) struct Submission {
    pub kind: &'static dyn KindForm,
    pub encoded: Encoded,
    pub wishes: Wishes,
    /// The memory it takes.
    pub reservation: Arc<Reservation>,
}

/// The forms of body that are read.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Form {
    Json,
    /// With its boundary.
    Multipart(String),
    Raw,
}

/// The fields of a multipart body, one after another in one buffer: the numbers of several can become one payload in it.
pub(super) struct Fields {
    pub buffer: Vec<u8>,
    pub fields: Vec<Field>,
}

/// One field.
#[derive(Clone)]
pub(super) struct Field {
    pub name: String,
    /// Its bytes in the buffer, from a multiple of [`ALIGNMENT`] on.
    pub place: Range<usize>,
}

impl Fields {
    /// A small field as text.
    pub(super) fn text(&self, field: &Field) -> Result<&str, Problem> {
        let text = std::str::from_utf8(&self.buffer[field.place.clone()]).ok();
        text.filter(|text| text.len() <= TEXT_FIELD_BYTES).map(str::trim).ok_or_else(|| {
            Problem::bad_request(format!("the part {:?} is no text of up to {TEXT_FIELD_BYTES} bytes", field.name))
                .at(&*field.name)
        })
    }
}

fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    let known = "application/json, multipart/form-data and application/x-rabbitry are read";
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return Err(Problem::unsupported(format!("the request has no Content-Type; {known}")).at("Content-Type"));
    };
    let text = content_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Ok(Form::Json),
        "application/x-rabbitry" => Ok(Form::Raw),
        "multipart/form-data" => multer::parse_boundary(text).map(Form::Multipart).map_err(|error| {
            Problem::bad_request(format!("the Content-Type is no multipart: {error}")).at("Content-Type")
        }),
        _ => Err(Problem::unsupported(format!("a body of type {text:?} is not read; {known}")).at("Content-Type")),
    }
}

/// Reads the body of a request as a task of `kind`.
pub(super) async fn read(
    kind: &'static dyn KindForm,
    headers: &HeaderMap,
    body: Body,
    max_bytes: u64,
    budget: &Budget,
) -> Result<Submission, Problem> {
    let form = form(headers);
    let eighths = if form == Ok(Form::Json) { JSON_EIGHTHS } else { BINARY_EIGHTHS };
    let incoming = Incoming::new(headers, body, max_bytes, budget, eighths)?;
    let (encoded, wishes, reservation) = match form {
        Err(problem) => return Err(problem),
        Ok(Form::Json) => {
            let (text, reservation) = incoming.whole().await?;
            let (encoded, wishes) =
                blocking::run(text.len() as u64, &reservation, move || kind.read_json(text)).await?;
            (encoded, wishes, reservation)
        }
        Ok(Form::Raw) => {
            let params = raw_params(headers)?;
            let (payload, reservation) = incoming.whole().await?;
            let blob = Blob { format: Format::Binary, params, payload: vec![payload.into()] };
            let encoded = blocking::run(blob.payload_bytes(), &reservation, move || kind.read_raw(blob)).await?;
            (encoded, Wishes::default(), reservation)
        }
        Ok(Form::Multipart(boundary)) => {
            let (fields, reservation) = multipart(incoming, boundary).await?;
            let bytes = fields.buffer.len() as u64;
            let (encoded, wishes) = blocking::run(bytes, &reservation, move || kind.read_fields(fields)).await?;
            (encoded, wishes, reservation)
        }
    };
    let bytes = encoded.blob.payload_bytes().saturating_add(encoded.answer_bytes);
    reservation.shrink_to(bytes);
    reservation.grow_to(bytes).map_err(super::body::no_room)?;
    Ok(Submission { kind, encoded, wishes, reservation })
}

/// The parameters of a raw payload.
pub(super) fn raw_params(headers: &HeaderMap) -> Result<Vec<u8>, Problem> {
    let wrong = |detail: &str| Problem::bad_request(detail).at(PARAMS_HEADER);
    let Some(text) = headers.get(PARAMS_HEADER) else {
        return Err(wrong("application/x-rabbitry needs the header Rabbitry-Params: the parameters in base64"));
    };
    let text = text.as_bytes();
    let params = base64_simd::STANDARD.decode_to_vec(text).ok().filter(|params| params.len() <= MAX_PARAMS);
    params.ok_or_else(|| wrong("Rabbitry-Params is no base64 of up to 1024 bytes"))
}

async fn multipart(incoming: Incoming, boundary: String) -> Result<(Fields, Arc<Reservation>), Problem> {
    let mut buffer = incoming.buffer();
    let (stream, reservation) = incoming.into_stream();
    let mut parts = multer::Multipart::new(stream, boundary);
    let mut fields = Vec::new();
    while let Some(mut part) = parts.next_field().await.map_err(unread)? {
        if fields.len() == FIELDS_MAX {
            return Err(Problem::bad_request(format!("more than {FIELDS_MAX} parts")));
        }
        let name = part.name().unwrap_or_default().to_owned();
        // No longer than the boundary before it, as a rule: the buffer is long enough.
        buffer.resize(buffer.len().next_multiple_of(ALIGNMENT), 0);
        let start = buffer.len();
        while let Some(chunk) = part.chunk().await.map_err(unread)? {
            buffer.extend_from_slice(&chunk);
        }
        fields.push(Field { name, place: start..buffer.len() });
    }
    Ok((Fields { buffer, fields }, reservation))
}

fn unread(error: multer::Error) -> Problem {
    if let multer::Error::StreamReadFailed(source) = &error
        && let Some(unread) =
            source.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref()?.downcast_ref::<Unread>())
    {
        return unread.0.clone();
    }
    Problem::bad_request(format!("the multipart body is damaged: {error}"))
}
