//! Systems and solutions to text.

use serde::Serialize;
use serde::ser::{SerializeSeq as _, Serializer};

use super::super::{Certificate, Choice, How, Matrix, Order, Solution, System};
use crate::task::TaskError;

/// An f64 in JSON is at most this long: sign, 17 digits, point, exponent, comma.
const NUMBER_BYTES: u64 = 26;
/// Rows of a matrix that lies by columns are put together so many at a time: a row has each of its numbers on a cache line
/// of its own, which has those of seven more rows.
const STRIP: usize = 16;
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
        let (numbers, cols) = (self.as_slice(), self.cols());
        let mut rows = serializer.serialize_seq(Some(self.rows()))?;
        if self.order() == Order::RowMajor {
            (0..self.rows()).try_for_each(|row| rows.serialize_element(&numbers[row * cols..][..cols]))?;
            return rows.end();
        }
        let mut strip = vec![0.0; STRIP * cols];
        for first in (0..self.rows()).step_by(STRIP) {
            let high = STRIP.min(self.rows() - first);
            for (column, from) in numbers.chunks(self.rows()).enumerate() {
                let from = &from[first..first + high];
                from.iter().enumerate().for_each(|(row, number)| strip[row * cols + column] = *number);
            }
            (0..high).try_for_each(|row| rows.serialize_element(&strip[row * cols..][..cols]))?;
        }
        rows.end()
    }
}
