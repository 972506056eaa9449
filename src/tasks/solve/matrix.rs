//! A dense matrix of f64 in the order it came in, movable into a payload and out of one without a copy.
//!
//! Invariant: the numbers are exactly `rows * cols` and lie aligned to 8 bytes, so [`Matrix::as_slice`] can't fail.
//! Nothing here looks at the values: NaN is refused where a system is checked ([`super::System::check`]).

use std::fmt;

use bytes::Bytes;
use ndarray::{Array, Array1, Array2, ArrayView2, Dimension, ShapeBuilder};

use crate::task::{TaskError, numbers_from_bytes, numbers_into_bytes};

/// Which neighbours lie side by side in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// Rows are contiguous: C, NumPy's default. Code 0 on the wire.
    RowMajor,
    /// Columns are contiguous: Fortran, LAPACK. Code 1 on the wire.
    #[default]
    ColMajor,
}

impl Order {
    /// That of the transposed matrix, as it lies.
    pub(super) fn other(self) -> Order {
        match self {
            Order::RowMajor => Order::ColMajor,
            Order::ColMajor => Order::RowMajor,
        }
    }

    /// Row and column of the element at `position` in memory.
    pub(super) fn locate(self, rows: usize, cols: usize, position: usize) -> (usize, usize) {
        match self {
            Order::RowMajor => (position / cols, position % cols),
            Order::ColMajor => (position % rows, position / rows),
        }
    }
}

/// Numbers we own, or a piece of a payload.
#[derive(Clone)]
enum Numbers {
    Owned(Vec<f64>),
    Shared(Bytes),
    /// The first `len_bytes` of `whole`, which goes on with another matrix: a payload made in one piece stays in one.
    Front {
        whole: Bytes,
        len_bytes: usize,
    },
}

/// A matrix, or a vector (one column that remembers it was 1-D).
#[derive(Clone)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    order: Order,
    vector: bool,
    numbers: Numbers,
}

impl Matrix {
    /// A matrix from its numbers in `order`. No copy.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] if `numbers` is not `rows * cols` long.
    pub fn new(rows: usize, cols: usize, order: Order, numbers: Vec<f64>) -> Result<Self, TaskError> {
        check_len(rows, cols, numbers.len())?;
        Ok(Matrix { rows, cols, order, vector: false, numbers: Numbers::Owned(numbers) })
    }

    /// A vector: one column, and answered as a vector. No copy.
    pub fn vector(numbers: Vec<f64>) -> Self {
        let rows = numbers.len();
        Matrix { rows, cols: 1, order: Order::ColMajor, vector: true, numbers: Numbers::Owned(numbers) }
    }

    /// A matrix from raw little-endian bytes in `order`. No copy if they lie aligned to 8 bytes.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] if there are not `rows * cols * 8` bytes.
    pub fn from_bytes(rows: usize, cols: usize, order: Order, bytes: Bytes) -> Result<Self, TaskError> {
        let copied = match numbers_from_bytes(&bytes)? {
            std::borrow::Cow::Borrowed(numbers) => {
                check_len(rows, cols, numbers.len())?;
                None
            }
            std::borrow::Cow::Owned(numbers) => Some(numbers),
        };
        match copied {
            Some(numbers) => Matrix::new(rows, cols, order, numbers),
            None => Ok(Matrix { rows, cols, order, vector: false, numbers: Numbers::Shared(bytes) }),
        }
    }

    /// A matrix from the first bytes of `whole`, which goes on with another: both will be one payload again without a
    /// copy. Else as [`Matrix::from_bytes`].
    pub(crate) fn from_front(rows: usize, cols: usize, order: Order, whole: Bytes) -> Result<Self, TaskError> {
        let len_bytes = rows.saturating_mul(cols).saturating_mul(8).min(whole.len());
        let matrix = Matrix::from_bytes(rows, cols, order, whole.slice(..len_bytes))?;
        match matrix.numbers {
            Numbers::Shared(_) if len_bytes < whole.len() => {
                Ok(Matrix { numbers: Numbers::Front { whole, len_bytes }, ..matrix })
            }
            _ => Ok(matrix),
        }
    }

    /// The same numbers as a vector.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] if there is more than one column.
    pub fn into_vector(self) -> Result<Self, TaskError> {
        if self.cols == 1 {
            Ok(Matrix { vector: true, order: Order::ColMajor, ..self })
        } else {
            Err(TaskError::Invalid(format!("a vector has one column, not {}", self.cols)))
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns, 1 for a vector.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The order in memory.
    pub fn order(&self) -> Order {
        self.order
    }

    /// Whether it was given as a vector.
    pub fn is_vector(&self) -> bool {
        self.vector
    }

    /// The numbers in [`Matrix::order`].
    pub fn as_slice(&self) -> &[f64] {
        match &self.numbers {
            Numbers::Owned(numbers) => numbers,
            // Aligned and a multiple of 8 long: `from_bytes` checked, and `Bytes` does not move what it points to.
            Numbers::Shared(bytes) => bytemuck::cast_slice(bytes),
            Numbers::Front { whole, len_bytes } => bytemuck::cast_slice(&whole[..*len_bytes]),
        }
    }

    /// A view for ndarray. No copy.
    pub fn view(&self) -> ArrayView2<'_, f64> {
        let shape = (self.rows, self.cols).set_f(self.order == Order::ColMajor);
        ArrayView2::from_shape(shape, self.as_slice()).expect("rows * cols numbers, by the type's invariant")
    }

    /// The numbers in [`Matrix::order`]; copied only if they are part of a payload.
    pub fn into_vec(self) -> Vec<f64> {
        match self.numbers {
            Numbers::Owned(numbers) => numbers,
            Numbers::Shared(_) | Numbers::Front { .. } => self.as_slice().to_vec(),
        }
    }

    /// The numbers as raw little-endian bytes in [`Matrix::order`]. No copy.
    pub fn into_bytes(self) -> Bytes {
        match self.numbers {
            Numbers::Owned(numbers) => numbers_into_bytes(numbers),
            Numbers::Shared(bytes) => bytes,
            Numbers::Front { whole, len_bytes } => whole.slice(..len_bytes),
        }
    }

    /// The numbers as raw little-endian bytes in another order, or a copy of those there are.
    pub(super) fn bytes_in(&self, order: Order) -> Bytes {
        if self.order == order || self.rows <= 1 || self.cols <= 1 {
            return self.clone().into_bytes();
        }
        let view = self.view();
        numbers_into_bytes(match order {
            Order::RowMajor => view.iter().copied().collect(),
            Order::ColMajor => view.t().iter().copied().collect(),
        })
    }

    /// Two matrices, column-major, from one run of numbers: `rows * cols` of the first, the rest for the second.
    pub(super) fn pair(
        rows: usize,
        cols: usize,
        second_cols: usize,
        numbers: Vec<f64>,
    ) -> Result<[Self; 2], TaskError> {
        let count = rows.checked_mul(cols.saturating_add(second_cols));
        if count != Some(numbers.len()) {
            return Err(TaskError::Invalid(format!("{} numbers for {rows} rows", numbers.len())));
        }
        let whole = numbers_into_bytes(numbers);
        let len_bytes = rows * cols * 8;
        let second = Numbers::Shared(whole.slice(len_bytes..));
        let of = |cols, numbers| Matrix { rows, cols, order: Order::ColMajor, vector: false, numbers };
        Ok([of(cols, Numbers::Front { whole, len_bytes }), of(second_cols, second)])
    }

    /// The bytes of two matrices one after the other, in one piece if they lie so.
    pub(super) fn into_payload(self, next: Self) -> Vec<Bytes> {
        match (&self.numbers, &next.numbers) {
            (Numbers::Front { whole, len_bytes }, Numbers::Shared(rest))
                if rest.as_ptr() == whole[*len_bytes..].as_ptr() && rest.len() == whole.len() - len_bytes =>
            {
                vec![whole.clone()]
            }
            _ => vec![self.into_bytes(), next.into_bytes()],
        }
    }

    /// An ndarray of the same order; copied only if the numbers are part of a payload.
    pub fn into_array2(self) -> Array2<f64> {
        let shape = (self.rows, self.cols).set_f(self.order == Order::ColMajor);
        Array2::from_shape_vec(shape, self.into_vec()).expect("rows * cols numbers, by the type's invariant")
    }
}

fn check_len(rows: usize, cols: usize, len: usize) -> Result<(), TaskError> {
    // An empty matrix may not be too wide for ndarray either: it counts the axes that are not 0.
    let addressable = rows.max(1).checked_mul(cols.max(1)).is_some_and(|len| len <= isize::MAX as usize / 8);
    if addressable && rows.checked_mul(cols) == Some(len) {
        Ok(())
    } else {
        Err(TaskError::Invalid(format!("a {rows} x {cols} matrix is not {len} numbers")))
    }
}

impl From<Array2<f64>> for Matrix {
    /// No copy if the array is contiguous in C or Fortran order.
    fn from(array: Array2<f64>) -> Self {
        let (rows, cols) = array.dim();
        let (order, numbers) = if array.is_standard_layout() {
            (Order::RowMajor, take_raw(array))
        } else if array.t().is_standard_layout() {
            (Order::ColMajor, take_raw(array))
        } else {
            (Order::RowMajor, array.iter().copied().collect())
        };
        Matrix { rows, cols, order, vector: false, numbers: Numbers::Owned(numbers) }
    }
}

/// The vector behind a contiguous array, cut to the array where that is a part of it.
fn take_raw<D: Dimension>(array: Array<f64, D>) -> Vec<f64> {
    let len = array.len();
    let (mut raw, offset) = array.into_raw_vec_and_offset();
    raw.drain(..offset.unwrap_or(0));
    raw.truncate(len);
    raw
}

impl From<Array1<f64>> for Matrix {
    /// A vector. No copy if the array is contiguous.
    fn from(array: Array1<f64>) -> Self {
        Matrix::vector(if array.is_standard_layout() { take_raw(array) } else { array.to_vec() })
    }
}

impl PartialEq for Matrix {
    /// The same shape and the same numbers, in whatever order they lie.
    fn eq(&self, other: &Self) -> bool {
        self.vector == other.vector && self.view() == other.view()
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.vector { "vector" } else { "matrix" };
        write!(f, "{kind} {} x {} {:?}", self.rows, self.cols, self.order)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array, s};

    use super::*;

    #[test]
    fn arrays_of_any_layout_become_the_same_matrix() {
        let c = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let mut f = Array2::zeros((2, 3).f());
        f.assign(&c);
        let sliced = array![[9.0, 9.0, 9.0, 9.0], [9.0, 1.0, 2.0, 3.0], [9.0, 4.0, 5.0, 6.0]].slice_move(s![1.., 1..]);
        let rows = array![[9.0, 9.0, 9.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]].slice_move(s![1.., ..]);
        let mut reversed = array![[4.0, 5.0, 6.0], [1.0, 2.0, 3.0]];
        reversed.invert_axis(ndarray::Axis(0));
        for other in [f.clone(), sliced, rows, reversed] {
            assert_eq!(Matrix::from(other), Matrix::from(c.clone()));
        }
        assert_eq!(Matrix::from(f.clone()).order(), Order::ColMajor);
        assert_eq!(Matrix::from(f.clone()).into_array2(), f);
    }

    #[test]
    fn contiguous_arrays_are_moved_not_copied() {
        for array in [Array2::<f64>::zeros((20, 30)), Array2::zeros((20, 30).f())] {
            let at = array.as_ptr();
            let matrix = Matrix::from(array);
            assert_eq!(matrix.as_slice().as_ptr(), at);
            let bytes = matrix.into_bytes();
            let back = Matrix::from_bytes(20, 30, Order::RowMajor, bytes).unwrap();
            assert_eq!(back.as_slice().as_ptr(), at);
        }
    }

    #[test]
    fn misaligned_bytes_are_copied_and_wrong_lengths_refused() {
        let bytes = numbers_into_bytes(vec![1.0, 2.0, 3.0]);
        let mut shifted = vec![0_u8; 1];
        shifted.extend_from_slice(&bytes);
        let shifted = Bytes::from(shifted).slice(1..);
        assert_eq!(Matrix::from_bytes(3, 1, Order::ColMajor, shifted).unwrap().as_slice(), [1.0, 2.0, 3.0]);
        assert!(Matrix::from_bytes(2, 1, Order::ColMajor, bytes.clone()).is_err());
        assert!(Matrix::from_bytes(usize::MAX, 2, Order::ColMajor, bytes).is_err());
        assert!(Matrix::new(0, usize::MAX, Order::RowMajor, Vec::new()).is_err());
        assert!(Matrix::new(0, 5, Order::RowMajor, Vec::new()).unwrap().view().is_empty());
    }

    #[test]
    fn two_matrices_of_one_run_are_one_payload_again() {
        let run = numbers_into_bytes(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let a = Matrix::from_front(2, 2, Order::RowMajor, run.clone()).unwrap();
        let b = Matrix::from_bytes(2, 1, Order::ColMajor, run.slice(32..)).unwrap();
        assert_eq!((a.as_slice(), b.as_slice()), (&[1.0, 2.0, 3.0, 4.0][..], &[5.0, 6.0][..]));
        let elsewhere = Matrix::new(2, 1, Order::ColMajor, vec![5.0, 6.0]).unwrap();
        assert_eq!(a.clone().into_payload(elsewhere), [run.slice(..32), run.slice(32..)]);
        let whole = a.into_payload(b);
        assert_eq!((whole.len(), whole[0].as_ptr(), whole[0].len()), (1, run.as_ptr(), 48));
        assert!(Matrix::from_front(2, 4, Order::RowMajor, run).is_err(), "it is too short");
    }

    #[test]
    fn a_strided_vector_keeps_its_numbers() {
        let strided = array![1.0, 9.0, 2.0, 9.0, 3.0].slice_move(s![..;2]);
        let matrix = Matrix::from(strided);
        assert!(matrix.is_vector());
        assert_eq!(matrix.as_slice(), [1.0, 2.0, 3.0]);
    }
}
