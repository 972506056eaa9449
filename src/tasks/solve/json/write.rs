//! Systems and solutions to text.

use serde::Serialize;
use serde::ser::{SerializeSeq as _, Serializer};

use super::super::{Certificate, Choice, How, Matrix, Solution, System};
use crate::task::TaskError;

/// An f64 in JSON is at most this long: sign, 17 digits, point, exponent, comma.
const NUMBER_BYTES: u64 = 26;
/// All but the numbers and the brackets of rows: names, certificate.
const REST_BYTES: u64 = 1024;

/// Upper bound of the length of an `rows` x `cols` answer.
pub(in super::super) fn answer_bytes(rows: usize, cols: usize) -> u64 {
    let (rows, cols) = (rows as u64, cols as u64);
    let numbers = rows.saturating_mul(cols).saturating_mul(NUMBER_BYTES);
    numbers.saturating_add(rows.saturating_mul(3)).saturating_add(REST_BYTES)
}

/// The JSON form of a system.
pub(in super::super) fn task(system: &System) -> Result<Vec<u8>, TaskError> {
    #[derive(Serialize)]
    struct Form<'a> {
        a: &'a Matrix,
        b: &'a Matrix,
        #[serde(skip_serializing_if = "is_default")]
        method: Choice,
        #[serde(skip_serializing_if = "is_default")]
        reproducible: bool,
    }
    let (a, b, How { method, reproducible }) = (&system.a, &system.b, system.how);
    write(&Form { a, b, method, reproducible }, &[a, b])
}

/// The JSON form of a solution.
pub(in super::super) fn answer(solution: &Solution) -> Result<Vec<u8>, TaskError> {
    #[derive(Serialize)]
    struct Form<'a> {
        x: &'a Matrix,
        certificate: &'a Certificate,
    }
    let (x, certificate) = (&solution.x, &solution.certificate);
    write(&Form { x, certificate }, &[x])
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn write(form: &impl Serialize, matrices: &[&Matrix]) -> Result<Vec<u8>, TaskError> {
    let most = matrices.iter().map(|matrix| answer_bytes(matrix.rows(), matrix.cols())).fold(0, u64::saturating_add);
    let mut text = Vec::new();
    // A third faster up to some megabytes than a vector that doubles, and never twice there. Memory nobody touches costs
    // nothing; if there is none, the vector grows as it likes.
    let _ = text.try_reserve_exact(usize::try_from(most).unwrap_or(usize::MAX));
    serde_json::to_writer(&mut text, form)
        .map_err(|error| TaskError::Invalid(format!("can't be written as JSON: {error}")))?;
    text.shrink_to_fit();
    Ok(text)
}

impl Serialize for Matrix {
    /// A matrix as a list of rows, a vector as a list of numbers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_vector() {
            return serializer.collect_seq(self.as_slice());
        }
        let view = self.view();
        let mut rows = serializer.serialize_seq(Some(self.rows()))?;
        for row in view.rows() {
            rows.serialize_element(&Row(row))?;
        }
        rows.end()
    }
}

struct Row<'a>(ndarray::ArrayView1<'a, f64>);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}
