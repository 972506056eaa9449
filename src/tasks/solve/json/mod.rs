//! The JSON form of a system and of its solution, for clients that have no binary arrays.
//!
//! Task: `{"a": [[row], [row], ...], "b": [..]}`, or `b` as rows like `a`; if wanted `"method"` ("auto", "lu", "mixed",
//! "cholesky", "triangular" or "lstsq") and `"reproducible"` (true or false); over HTTP also `"priority"` ("low",
//! "normal" or "high") and `"deadline_ms"` ([`Wishes`]). Answer: `{"x": [..] or [[..], ..], "certificate": {..}}` with
//! the fields of [`Certificate`]. A matrix may also be `{"shape": [rows, columns], "dtype": "<f8" or "<f4", "order": "C"
//! or "F", "data": base64 of its raw little-endian bytes}`, a vector likewise with `[length]`; the order is C unless it
//! is said.
//!
//! Every bit of a finite f64 survives; NaN and infinity do not exist in JSON. Unknown fields and fields that are there
//! twice are errors: a misspelt option must not be ignored. Memory grows with what is really there.
//!
//! Lists are read by `jiter`, the fastest that keeps every bit, and written by `serde_json`, which nothing beats once it
//! writes into memory that is there.

mod base64;
mod read;
#[cfg(test)]
mod tests;
mod write;

use bytes::Bytes;

pub use self::base64::Base64;
pub(super) use self::write::{answer as write_answer, answer_bytes, task as write_task};
use super::{Solution, System};
use crate::task::{Priority, TaskError};

/// Why a text is not the JSON form of what it should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}{}{reason}", field.as_deref().unwrap_or_default(), if field.is_some() { ": " } else { "" })]
pub struct JsonError {
    /// The offending place as a JSON pointer: `/a/3/7`, `/method`, `/a/data`. None if it is the text as a whole.
    pub field: Option<String>,
    /// What is wrong and what to do, with line and column (in bytes, from 1) where they are known.
    pub reason: String,
}

/// What a system in JSON says that is not the task's, but of the message it travels in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    /// Which tasks it goes before.
    pub priority: Option<Priority>,
    /// Milliseconds from now after which nobody wants the answer, at least 1.
    pub deadline_ms: Option<u64>,
}

impl System {
    /// Reads the JSON form. Takes the text, because base64 is decoded in it; while it reads, text and numbers together
    /// are as long as the text (`<f8`), 1.4 times (lists of digits in full) or 1.55 times (`<f4`, whose f64 alone are 1.5
    /// times). Lists of short numbers take more: 8 bytes for each. Shapes and finite numbers are for [`System::check`].
    ///
    /// # Errors
    /// [`JsonError`], with the place.
    pub fn from_json(text: Vec<u8>) -> Result<(System, Wishes), JsonError> {
        read_system(text.into())
    }
}

impl Solution {
    /// Reads the JSON form, as [`System::from_json`]. Whether it answers a task is for [`Solution::to_blob`].
    ///
    /// # Errors
    /// [`JsonError`], with the place.
    pub fn from_json(text: Vec<u8>) -> Result<Solution, JsonError> {
        read_solution(text.into())
    }
}

fn read_system(text: Bytes) -> Result<(System, Wishes), JsonError> {
    let read::SystemForm { a, b, how, wishes } = read::system(&text)?;
    let [a, b] = base64::unpack([a, b], text)?;
    Ok((System { a, b, how }, wishes))
}

fn read_solution(text: Bytes) -> Result<Solution, JsonError> {
    let read::SolutionForm { x, certificate } = read::solution(&text)?;
    let [x] = base64::unpack([x], text)?;
    Ok(Solution { x, certificate })
}

/// Reads a system that came in a message; shapes are for [`System::check`].
pub(super) fn read_task(text: Bytes) -> Result<System, TaskError> {
    let (system, Wishes { priority, deadline_ms }) = read_system(text).map_err(|error| invalid("system", &error))?;
    let refused = |field: &str, property: &str| {
        let reason = format!("this is a property of the message, not of the task: {property}");
        Err(invalid("system", &JsonError { field: Some(format!("/{field}")), reason }))
    };
    if priority.is_some() {
        refused("priority", "set the property priority of AMQP (1 low, 3 normal, 5 high)")
    } else if deadline_ms.is_some() {
        refused("deadline_ms", "send a head with deadline_unix_ms")
    } else {
        Ok(system)
    }
}

/// Reads a solution that came in a message.
pub(super) fn read_answer(text: Bytes) -> Result<Solution, TaskError> {
    read_solution(text).map_err(|error| invalid("solution", &error))
}

fn invalid(what: &str, error: &JsonError) -> TaskError {
    TaskError::Invalid(format!("not the JSON form of a {what}: {error}"))
}
