//! Systems and solutions in JSON, against serde_json's reading of the same text.

use rabbitry::task::{Blob, Format, Task};
use rabbitry::tasks::solve::{JsonError, Matrix, Order, Solution, System};
use serde_json::Value;

use super::memory::{Bound, within};
use super::says_enough;

/// A list has room for as many numbers as the text has commas; what is decoded from base64 is shorter than its text, or
/// half as long again beside it. An error shows up to 128 bytes of the text, each as `\u{7f}` at worst.
const TEXT: Bound = Bound { per_byte: 9, beside: 4096 };

/// A system.
pub fn task(text: &[u8]) {
    let owned = text.to_vec();
    let (system, wishes) = match within(TEXT, text.len(), || System::from_json(owned)) {
        Ok(read) => read,
        Err(error) => return refused(&error),
    };
    let tree = tree(text);
    same(&system.a, &tree["a"]);
    same(&system.b, &tree["b"]);
    assert_eq!(system.how.reproducible, tree.get("reproducible") == Some(&Value::Bool(true)));
    assert_eq!(wishes.deadline_ms, tree.get("deadline_ms").and_then(Value::as_u64));
    assert_eq!(wishes.priority.is_some(), tree.get("priority").is_some());
    if system.check().is_err() {
        return;
    }
    let blob = system.clone().encode(Format::Json).expect("a system that was checked").blob;
    let again = System::from_blob(blob).expect("a system that was written");
    assert!(alike(&system.a, &again.a) && alike(&system.b, &again.b) && system.how == again.how);
}

/// A solution.
pub fn answer(text: &[u8]) {
    let owned = text.to_vec();
    let solution = match within(TEXT, text.len(), || Solution::from_json(owned)) {
        Ok(solution) => solution,
        Err(error) => return refused(&error),
    };
    // A certificate may hold what is unknown, which nobody reads: it may be deeper than serde_json goes.
    let Ok(tree) = serde_json::from_slice::<Value>(text) else { return };
    same(&solution.x, &tree["x"]);
    let certificate = &tree["certificate"];
    assert_eq!(Some(solution.certificate.backward_error), certificate["backward_error"].as_f64());
    assert_eq!(Some(u64::from(solution.certificate.iterations)), certificate["iterations"].as_u64());
    let (rows, cols) = (solution.x.rows(), solution.x.cols());
    if rows == 0 || cols == 0 || rows > 64 || cols > 64 {
        return;
    }
    let b = Matrix::new(rows, cols, Order::RowMajor, vec![1.0; rows * cols]).expect("as long as it is");
    let b = if solution.x.is_vector() { b.into_vector().expect("one column") } else { b };
    let asked = System::new(Matrix::new(rows, rows, b.order(), vec![1.0; rows * rows]).expect("a square"), b);
    let task = asked.to_params();
    for format in [Format::Json, Format::Binary] {
        match solution.to_blob(&task, format) {
            Ok(blob) => {
                let again = System::decode_answer(&task, blob).expect("an answer that was written");
                assert!(alike(&solution.x, &again.x) && again.certificate == solution.certificate);
            }
            Err(error) => says_enough(&error.to_string()),
        }
    }
    let blob = Blob { format: Format::Json, params: Vec::new(), payload: vec![text.to_vec().into()] };
    let read = within(TEXT, text.len(), || System::decode_answer(&task, blob));
    assert!(read.is_ok() || solution.to_blob(&task, Format::Json).is_err(), "{read:?}");
}

/// What serde_json reads.
fn tree(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("serde_json refuses what was read: {error}"))
}

/// An error names the field, as a pointer, unless it is the text as a whole.
fn refused(error: &JsonError) {
    says_enough(&error.to_string());
    assert!(error.field.as_ref().is_none_or(|field| field.starts_with('/')), "{error:?}");
}

/// To the bit, and in shape.
fn alike(left: &Matrix, right: &Matrix) -> bool {
    let shape = |matrix: &Matrix| (matrix.rows(), matrix.cols(), matrix.is_vector());
    shape(left) == shape(right)
        && left.view().iter().zip(right.view()).all(|(left, right)| left.to_bits() == right.to_bits())
}

/// The numbers of a matrix are those that serde_json reads, to the bit.
fn same(matrix: &Matrix, tree: &Value) {
    let Value::Array(list) = tree else { return packed(matrix, tree) };
    let bits = |number: &Value| number.as_f64().unwrap_or_else(|| panic!("{number} is no number")).to_bits();
    let rows: Vec<Vec<u64>> = match list.first() {
        Some(Value::Array(_)) => {
            let row =
                |row: &Value| row.as_array().unwrap_or_else(|| panic!("{row} is no row")).iter().map(bits).collect();
            list.iter().map(row).collect()
        }
        _ => list.iter().map(|number| vec![bits(number)]).collect(),
    };
    assert_eq!(matrix.rows(), rows.len());
    assert!(rows.iter().all(|row| row.len() == matrix.cols()));
    let read = matrix.view();
    assert!(rows.iter().zip(read.rows()).all(|(row, read)| row.iter().zip(read).all(|(a, b)| *a == b.to_bits())));
}

/// Of base64, the number of characters and the shape.
fn packed(matrix: &Matrix, tree: &Value) {
    let shape: Vec<u64> = tree["shape"].as_array().expect("a shape").iter().filter_map(Value::as_u64).collect();
    let (rows, cols) = (matrix.rows() as u64, matrix.cols() as u64);
    assert_eq!(shape, if matrix.is_vector() { vec![rows] } else { vec![rows, cols] });
    let each = if tree["dtype"] == "<f4" { 4 } else { 8 };
    let data = tree["data"].as_str().expect("a text");
    assert_eq!((rows * cols * each).div_ceil(3) * 4, data.len() as u64);
}
