//! Matrices as base64 of their raw bytes, read in the memory the text lies in.
//!
//! Invariants: no vector is made before the text has the bytes for it; while it is decoded, text and numbers together
//! stay below 1.55 times the text (of <f4 the numbers alone are 1.5 times).

use std::fmt;
use std::ops::Range;

use base64_simd::{AsOut as _, STANDARD};
use bytes::Bytes;
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::super::{Matrix, Order};
use super::JsonError;
use super::read::Value;

/// Characters after which the text shrinks, at least: three f64 are 32, and a step is a multiple.
const STEP: usize = 1 << 20;
/// Steps of a large text, so that at most a 64th of it lies there converted and still as text.
const STEPS: usize = 64;
/// Bytes encoded at a time, a multiple of 3.
const PIECE: usize = 3 << 10;

/// The numbers as they are in the bytes, named as NumPy does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
pub(super) enum Dtype {
    #[serde(rename = "<f8")]
    F8,
    #[serde(rename = "<f4")]
    F4,
}

impl Dtype {
    fn bytes(self) -> usize {
        match self {
            Dtype::F8 => 8,
            Dtype::F4 => 4,
        }
    }
}

/// The order in memory, named as NumPy does.
#[derive(Clone, Copy, Default, Debug, serde::Deserialize)]
pub(super) enum Layout {
    #[default]
    C,
    F,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Vector(usize),
    Matrix(usize, usize),
}

impl Shape {
    fn rows_cols(self) -> (usize, usize) {
        match self {
            Shape::Vector(length) => (length, 1),
            Shape::Matrix(rows, cols) => (rows, cols),
        }
    }
}

/// A matrix whose base64 lies in the text still.
pub(super) struct Packed {
    pub pointer: &'static str,
    pub shape: Shape,
    pub dtype: Dtype,
    pub layout: Layout,
    /// The characters, in the text.
    pub data: Range<usize>,
}

impl Packed {
    fn error(&self, reason: impl Into<String>) -> JsonError {
        JsonError { field: Some(format!("{}/data", self.pointer)), reason: reason.into() }
    }

    fn not_base64(&self) -> JsonError {
        self.error("not base64: A-Z, a-z, 0-9, + and /, padded with =, and no whitespace")
    }

    /// The numbers it must have, if the characters are as many as they need.
    fn check_len(&self, text: &[u8]) -> Result<usize, JsonError> {
        let (rows, cols) = self.shape.rows_cols();
        let count = rows.checked_mul(cols);
        let expected = count.and_then(|count| count.checked_mul(self.dtype.bytes()));
        let data = &text[self.data.clone()];
        let padding = data.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
        match (count, expected) {
            _ if !data.len().is_multiple_of(4) => {
                Err(self.error(format!("{} characters are not base64: they come in fours, padded with =", data.len())))
            }
            (Some(count), Some(expected)) if data.len() / 4 * 3 - padding == expected => Ok(count),
            _ => {
                let (found, each) = (data.len() / 4 * 3 - padding, self.dtype.bytes());
                Err(self.error(format!("{found} bytes are not {rows} x {cols} numbers of {each} bytes each")))
            }
        }
    }

    /// Some encoders of JSON write `\/` for `/`: takes out the backslashes. The data may end before they did.
    fn unescape(&mut self, text: &mut [u8]) -> Result<(), JsonError> {
        let data = &mut text[self.data.clone()];
        // Looks at many bytes at a time, which `position` does not.
        if !data.contains(&b'\\') {
            return Ok(());
        }
        let (mut from, mut to) = (0, 0);
        while from < data.len() {
            if data[from] == b'\\' {
                from += 1;
                if data.get(from) != Some(&b'/') {
                    return Err(self.not_base64());
                }
            }
            data[to] = data[from];
            (from, to) = (from + 1, to + 1);
        }
        self.data.end = self.data.start + to;
        Ok(())
    }

    /// Where its f64 lie in the text, once it is decoded.
    fn decode_in_place(&self, text: &mut [u8]) -> Result<Range<usize>, JsonError> {
        let data = self.data.clone();
        let decoded = STANDARD.decode_inplace(&mut text[data.clone()]);
        let len = decoded.map_err(|_| self.not_base64())?.len();
        if len / self.dtype.bytes() != self.count() {
            return Err(self.not_base64());
        }
        // Back to a multiple of 8, over the `"data":"` before it, which is done with.
        let start = data.start.saturating_sub(text[data.start..].as_ptr().addr() % 8);
        text.copy_within(data.start..data.start + len, start);
        Ok(start..start + len)
    }

    fn count(&self) -> usize {
        let (rows, cols) = self.shape.rows_cols();
        rows.saturating_mul(cols)
    }

    /// Decodes from the end, and gives back the text as it goes: f4 become f64 that are half as long again as their text.
    fn decode_shrinking(&self, text: &mut Vec<u8>, count: usize) -> Result<Vec<f64>, JsonError> {
        let (data, size) = (self.data.clone(), self.dtype.bytes());
        let step = (data.len() / STEPS).next_multiple_of(32).max(STEP);
        let mut numbers = vec![0.0; count];
        text.truncate(data.end);
        while text.len() > data.start {
            let from = data.start + (text.len() - data.start - 1) / step * step;
            let decoded = STANDARD.decode_inplace(&mut text[from..]).map_err(|_| self.not_base64())?;
            let end = numbers.len();
            let at = (from - data.start) / 4 * 3 / size;
            let slots = &mut numbers[at..end.min(at + step / 4 * 3 / size)];
            // Padding in the middle.
            if decoded.len() != slots.len() * size {
                return Err(self.not_base64());
            }
            match self.dtype {
                Dtype::F8 => bytemuck::cast_slice_mut(slots).copy_from_slice(decoded),
                Dtype::F4 => {
                    let singles = decoded.as_chunks().0.iter().map(|raw| f32::from_le_bytes(*raw));
                    slots.iter_mut().zip(singles).for_each(|(slot, single)| *slot = f64::from(single));
                }
            }
            text.truncate(from);
            text.shrink_to_fit();
        }
        Ok(numbers)
    }

    /// The matrix at the beginning of `numbers`, behind which may be those of another.
    fn matrix(&self, numbers: Bytes) -> Result<Matrix, JsonError> {
        let order = match self.layout {
            Layout::C => Order::RowMajor,
            Layout::F => Order::ColMajor,
        };
        let (rows, cols) = self.shape.rows_cols();
        let matrix = Matrix::from_front(rows, cols, order, numbers);
        let matrix = match self.shape {
            Shape::Vector(_) => matrix.and_then(Matrix::into_vector),
            Shape::Matrix(..) => matrix,
        };
        matrix.map_err(|error| self.error(error.to_string()))
    }
}

/// The matrices of a text, with their base64 decoded in it.
pub(super) fn unpack<const N: usize>(values: [Value; N], text: Bytes) -> Result<[Matrix; N], JsonError> {
    let mut packed = Vec::new();
    let mut index = 0;
    let mut matrices = values.map(|value| {
        index += 1;
        match value {
            Value::Numbers(matrix) => Some(matrix),
            Value::Packed(found) => {
                packed.push((index - 1, found));
                None
            }
        }
    });
    if !packed.is_empty() {
        // No copy, unless somebody else holds the text as well.
        let mut text = Vec::from(text);
        // From the last: where they are taken out, the text ends behind the next.
        packed.sort_by_key(|(_, packed)| std::cmp::Reverse(packed.data.start));
        for (_, packed) in &mut packed {
            packed.unescape(&mut text)?;
            packed.check_len(&text)?;
        }
        if packed.iter().all(|(_, packed)| packed.dtype == Dtype::F8) {
            let decode = |(index, packed): (usize, Packed)| Ok((index, packed.decode_in_place(&mut text)?, packed));
            let mut decoded: Vec<_> = packed.into_iter().map(decode).collect::<Result<_, JsonError>>()?;
            // The first in the text is the last here. All in one run and no text behind it: a payload in one piece, that
            // keeps no more memory than it needs.
            let mut end = decoded.last().map_or(0, |(_, first, _)| first.start);
            for (_, place, _) in decoded.iter_mut().rev() {
                text.copy_within(place.clone(), end);
                *place = end..end + place.len();
                end = place.end;
            }
            text.truncate(end);
            text.shrink_to_fit();
            let text = Bytes::from(text);
            for (index, place, packed) in decoded {
                matrices[index] = Some(packed.matrix(text.slice(place.start..))?);
            }
        } else {
            for (index, packed) in packed {
                let numbers = packed.decode_shrinking(&mut text, packed.count())?;
                matrices[index] = Some(packed.matrix(crate::task::numbers_into_bytes(numbers))?);
            }
        }
    }
    Ok(matrices.map(|matrix| matrix.expect("every value was a matrix or became one")))
}

/// A matrix to be written as an object with the base64 of its raw bytes, in the order they lie in: half as long
/// as digits in full, and three to five times as fast both ways.
#[derive(Clone, Copy, Debug)]
pub struct Base64<'a>(pub &'a Matrix);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let matrix = self.0;
        let mut object = serializer.serialize_struct("Matrix", 4)?;
        match matrix.is_vector() {
            true => object.serialize_field("shape", &[matrix.rows()])?,
            false => object.serialize_field("shape", &[matrix.rows(), matrix.cols()])?,
        }
        object.serialize_field("dtype", "<f8")?;
        let by_columns = matrix.order() == Order::ColMajor && !matrix.is_vector();
        object.serialize_field("order", if by_columns { "F" } else { "C" })?;
        object.serialize_field("data", &Data(bytemuck::cast_slice(matrix.as_slice())))?;
        object.end()
    }
}

/// Base64 as it is written, so that it never lies there as a whole beside what it is written into.
struct Data<'a>(&'a [u8]);

impl fmt::Display for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; PIECE / 3 * 4];
        self.0.chunks(PIECE).try_for_each(|piece| f.write_str(STANDARD.encode_as_str(piece, buffer[..].as_out())))
    }
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
