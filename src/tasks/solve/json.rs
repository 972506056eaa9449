//! The JSON form of a system and of its solution, for clients that have no binary arrays.
//!
//! Task: `{"a": [[row], [row], ...], "b": [..]}`, or `b` as rows like `a`; if wanted `"method"` ("auto", "lu", "mixed",
//! "cholesky", "triangular" or "lstsq") and `"reproducible"` (true or false). Answer: `{"x": [..] or [[..], ..],
//! "certificate": {..}}` with the fields of [`Certificate`]. Every bit of a finite f64 survives; NaN and infinity do not
//! exist in JSON.
//! Unknown fields are errors: a misspelt option must not be ignored. Memory grows with what is really there.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use super::{Certificate, Choice, How, Matrix, Order, Solution, System};
use crate::task::TaskError;

/// An f64 in JSON is at most this long: sign, 17 digits, point, exponent, comma.
const NUMBER_BYTES: u64 = 26;
/// Longest reason quoted from the parser.
const MESSAGE_CHARS: usize = 300;

/// Upper bound of the answer's length.
pub(super) fn answer_bytes(n: usize, nrhs: usize) -> u64 {
    let (n, nrhs) = (n as u64, nrhs as u64);
    n.saturating_mul(nrhs).saturating_mul(NUMBER_BYTES).saturating_add(n.saturating_mul(3)).saturating_add(1024)
}

/// The JSON form of a system.
pub(super) fn write_task(system: &System) -> Result<Vec<u8>, TaskError> {
    #[derive(Serialize)]
    struct Form<'a> {
        a: Rows<'a>,
        b: Rows<'a>,
        #[serde(skip_serializing_if = "is_default")]
        method: Choice,
        #[serde(skip_serializing_if = "is_default")]
        reproducible: bool,
    }
    let How { method, reproducible } = system.how;
    write(&Form { a: Rows(&system.a), b: Rows(&system.b), method, reproducible })
}

/// The JSON form of a solution.
pub(super) fn write_answer(solution: &Solution) -> Result<Vec<u8>, TaskError> {
    #[derive(Serialize)]
    struct Form<'a> {
        x: Rows<'a>,
        certificate: &'a Certificate,
    }
    write(&Form { x: Rows(&solution.x), certificate: &solution.certificate })
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn write(form: &impl Serialize) -> Result<Vec<u8>, TaskError> {
    serde_json::to_vec(form).map_err(|error| TaskError::Invalid(format!("can't be written as JSON: {error}")))
}

/// Reads a system; shapes are for [`System::check`].
pub(super) fn read_task(bytes: &[u8]) -> Result<System, TaskError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Form {
        #[serde(deserialize_with = "matrix_a")]
        a: Matrix,
        #[serde(deserialize_with = "matrix_b")]
        b: Matrix,
        #[serde(default)]
        method: Choice,
        #[serde(default)]
        reproducible: bool,
    }
    let Form { a, b, method, reproducible } = read("system {\"a\": [[..], ..], \"b\": [..]}", bytes)?;
    Ok(System { a, b, how: How { method, reproducible } })
}

/// Reads a solution.
pub(super) fn read_answer(bytes: &[u8]) -> Result<Solution, TaskError> {
    #[derive(Deserialize)]
    struct Form {
        #[serde(deserialize_with = "matrix_x")]
        x: Matrix,
        certificate: Certificate,
    }
    let Form { x, certificate } = read("solution", bytes)?;
    Ok(Solution { x, certificate })
}

fn read<'de, T: Deserialize<'de>>(what: &str, bytes: &'de [u8]) -> Result<T, TaskError> {
    serde_json::from_slice(bytes).map_err(|error| {
        // It may quote a string of any length.
        let mut reason = error.to_string();
        if let Some((end, _)) = reason.char_indices().nth(MESSAGE_CHARS) {
            reason.replace_range(end.., &format!("... (line {}, column {})", error.line(), error.column()));
        }
        TaskError::Invalid(format!("not the JSON form of a {what}: {reason}"))
    })
}

/// A matrix as an array of rows, a vector as an array of numbers.
struct Rows<'a>(&'a Matrix);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let matrix = self.0;
        if matrix.is_vector() {
            return serializer.collect_seq(matrix.as_slice());
        }
        let view = matrix.view();
        let mut rows = serializer.serialize_seq(Some(matrix.rows()))?;
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

fn matrix_a<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Matrix, D::Error> {
    let matrix = deserializer.deserialize_seq(MatrixVisitor { name: "a" })?;
    if matrix.is_vector() && matrix.rows() > 0 {
        return Err(D::Error::custom("\"a\" is a list of numbers; it must be a list of rows"));
    }
    Ok(matrix)
}

fn matrix_b<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Matrix, D::Error> {
    deserializer.deserialize_seq(MatrixVisitor { name: "b" })
}

fn matrix_x<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Matrix, D::Error> {
    deserializer.deserialize_seq(MatrixVisitor { name: "x" })
}

/// Reads rows or numbers, into one flat row-major vector.
struct MatrixVisitor {
    name: &'static str,
}

impl<'de> Visitor<'de> for MatrixVisitor {
    type Value = Matrix;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" as a list of rows or of numbers", self.name)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Matrix, A::Error> {
        let name = self.name;
        let mut numbers = Vec::new();
        let (mut lines, mut width) = (0, None);
        while let Some(line) = seq.next_element_seed(Line { name, row: lines, numbers: &mut numbers })? {
            if *width.get_or_insert(line) != line {
                let (first, this) = (width.unwrap_or_default(), line);
                return Err(A::Error::custom(format!("\"{name}\" row {lines} is {this}, row 0 is {first} (from 0)")));
            }
            lines += 1;
        }
        match width {
            Some(Width::Row(width)) => Matrix::new(lines, width, Order::RowMajor, numbers).map_err(A::Error::custom),
            Some(Width::Number) | None => Ok(Matrix::vector(numbers)),
        }
    }
}

/// What one element of the outer list was.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Width {
    #[default]
    Number,
    Row(usize),
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Width::Number => f.write_str("a number"),
            Width::Row(width) => write!(f, "a row of {width}"),
        }
    }
}

/// One element of the outer list: a number, or a row of them.
struct Line<'a> {
    name: &'static str,
    row: usize,
    numbers: &'a mut Vec<f64>,
}

/// One number, which knows its place for the message of an error.
struct Number {
    name: &'static str,
    row: usize,
    column: usize,
}

macro_rules! visit_numbers {
    (|$self:ident, $number:ident| $store:expr) => {
        fn visit_f64<E: serde::de::Error>($self, $number: f64) -> Result<Self::Value, E> {
            Ok($store)
        }
        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
            self.visit_f64(number as f64)
        }
        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
            self.visit_f64(number as f64)
        }
    };
}

impl<'de> Visitor<'de> for Line<'_> {
    type Value = Width;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number or a row of numbers at row {} of \"{}\" (from 0)", self.row, self.name)
    }

    visit_numbers!(|self, number| {
        self.numbers.push(number);
        Width::Number
    });

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Width, A::Error> {
        let mut width = 0;
        while let Some(number) = seq.next_element_seed(Number { name: self.name, row: self.row, column: width })? {
            self.numbers.push(number);
            width += 1;
        }
        Ok(Width::Row(width))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Width, A::Error> {
        Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self))
    }
}

impl<'de> DeserializeSeed<'de> for Line<'_> {
    type Value = Width;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Width, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Number {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number at row {}, column {} of \"{}\" (from 0)", self.row, self.column, self.name)
    }

    visit_numbers!(|self, number| number);
}

impl<'de> DeserializeSeed<'de> for Number {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_f64(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Method;
    use super::*;

    fn refusal(json: &str) -> String {
        read_task(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_system_is_read_as_people_write_it() {
        let system = read_task(br#"{"b": [3, 4.5], "a": [[1, -2], [0.5, 1e300]]}"#).unwrap();
        assert_eq!(system.a, ndarray::array![[1.0, -2.0], [0.5, 1e300]].into());
        assert_eq!(system.b, Matrix::vector(vec![3.0, 4.5]));
        let several = read_task(br#"{"a": [[1]], "b": [[3, 4, 5]]}"#).unwrap();
        assert_eq!((several.b.rows(), several.b.cols(), several.b.is_vector()), (1, 3, false));
    }

    #[test]
    fn errors_say_where() {
        assert!(refusal(r#"{"a": [[1, 2], [3]], "b": [1, 2]}"#).contains("row 1 is a row of 1, row 0 is a row of 2"));
        assert!(refusal(r#"{"a": [[1, 2], [3, null]], "b": [1, 2]}"#).contains("row 1, column 1 of \"a\""));
        assert!(refusal(r#"{"a": [[1, 2], [3, "4"]], "b": [1, 2]}"#).contains("row 1, column 1 of \"a\""));
        assert!(refusal(r#"{"a": [[1]], "b": [true]}"#).contains("row 0 of \"b\""));
        assert!(refusal(r#"{"a": [[1]], "b": [{}]}"#).contains("row 0 of \"b\""));
        assert!(refusal(r#"{"a": [[1]], "b": [1, [2]]}"#).contains("row 1 is a row of 1, row 0 is a number"));
        assert!(refusal(r#"{"a": [1], "b": [1]}"#).contains("list of rows"));
        assert!(refusal(r#"{"a": [[1]], "b": [1], "methd": 1}"#).contains("methd"));
        assert!(refusal(r#"{"a": [[1]], "b": [1], "method": "qr"}"#).contains("lstsq"));
        assert!(refusal(r#"{"a": [[NaN]], "b": [1]}"#).contains("line 1"));
        assert!(refusal(r#"{"a": [[1e999]], "b": [1]}"#).contains("out of range"));
        assert!(refusal(r#"{"a": [[1]]}"#).contains("missing field `b`"));
        assert!(refusal("").contains("EOF"));
        let long = refusal(&format!(r#"{{"a": [["{}"]], "b": [1]}}"#, "é".repeat(9999)));
        assert!(long.len() < 1000 && long.contains("line 1, column"), "{long}");
        assert!(refusal(&"[".repeat(100_000)).contains("JSON"));
    }

    proptest! {
        #[test]
        fn every_bit_of_a_number_survives(bits in any::<u64>(), other in any::<u64>()) {
            let number = |bits: u64| Some(f64::from_bits(bits)).filter(|v| v.is_finite()).unwrap_or(-0.0);
            let numbers = vec![number(bits), number(other), 0.1, -0.0, 5e-324, f64::MAX];
            let certificate = Certificate {
                method: Method::MixedCholesky,
                tried: vec![Method::Mixed, Method::Lu],
                backward_error: 1e-17,
                rcond: 1e-3,
                forward_error_bound: None,
                iterations: 3,
                threads: 2,
                factor_seconds: 0.1,
                solve_seconds: 0.2,
                reproducible: Some("mkl".into()),
            };
            for order in [Order::RowMajor, Order::ColMajor] {
                let x = Matrix::new(2, 3, order, numbers.clone()).unwrap();
                let solution = Solution { x: x.clone(), certificate: certificate.clone() };
                let text = write_answer(&solution).unwrap();
                prop_assert!(text.len() as u64 <= answer_bytes(2, 3));
                let back = read_answer(&text).unwrap();
                prop_assert_eq!(&back.certificate, &certificate);
                for (a, b) in back.x.view().iter().zip(x.view()) {
                    prop_assert_eq!(a.to_bits(), b.to_bits());
                }
            }
            let a = Matrix::new(1, 6, Order::RowMajor, numbers.clone()).unwrap();
            let how = How { method: Choice::Lstsq, reproducible: true };
            let system = System { a, b: Matrix::vector(numbers), how };
            prop_assert_eq!(read_task(&write_task(&system).unwrap()).unwrap(), system);
        }

        #[test]
        fn any_bytes_are_a_system_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_task(&bytes);
            let _ = read_answer(&bytes);
        }

        #[test]
        fn any_near_json_is_a_system_or_an_error(text in r#"\{"a":\[[\[\]0-9,.e\-nul]{0,30}\],"b":[\[\]0-9,.]{0,12}\}"#) {
            if let Ok(system) = read_task(text.as_bytes()) {
                let _ = system.check();
            }
        }
    }
}
