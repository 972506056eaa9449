//! `.npy`: NumPy's format for one array, versions 1 to 3.
//!
//! The header is parsed by `ndarray-npy`, after checks that keep a hostile one from costing anything; the numbers are
//! taken from the bytes at hand, in their own order.

use std::io::{self, Write};
use std::ops::Range;

use bytes::Bytes;
use ndarray_npy::npy::header::{Header, Layout};

use crate::task::TaskError;
use crate::tasks::solve::{Matrix, Order};

/// Longer headers describe structured arrays, not numbers; their nesting would cost the parser its stack.
const MAX_HEADER: usize = 4096;
/// A plain header nests one tuple in one dictionary.
const MAX_NESTING: usize = 8;
/// A plain header has up to 95 characters that are no spaces, and any number of those: it is padded with them. Each of the
/// others may cost the parser 500 bytes.
const MAX_CHARACTERS: usize = 128;

/// What the header of a file says, found to be true of its length.
pub(crate) struct Head {
    rows: usize,
    cols: usize,
    order: Order,
    is_vector: bool,
    dtype: String,
    /// Where the numbers begin.
    start: usize,
}

/// The matrix or vector in the bytes of a file; f64 in native byte order are not copied.
///
/// # Errors
/// What is wrong with the bytes, and what to do.
pub(crate) fn parse(bytes: Bytes) -> Result<Matrix, String> {
    head(&bytes)?.matrix(bytes)
}

/// Reads the header of the file that these bytes are.
///
/// # Errors
/// What is wrong with the bytes, and what to do.
pub(crate) fn head(bytes: &[u8]) -> Result<Head, String> {
    let start = data_start(bytes)?;
    let header = Header::from_reader(&mut &bytes[..start])
        .map_err(|error| format!("its header is damaged ({}); save it again with numpy.save", first_words(&error)))?;
    let (rows, cols) = match header.shape[..] {
        [rows] => (rows, 1),
        [rows, cols] => (rows, cols),
        [] => return Err("holds a single number; a vector or a matrix is needed".to_owned()),
        ref shape => return Err(format!("holds a {}-dimensional array; a vector or a matrix is needed", shape.len())),
    };
    let dtype = header.type_descriptor.as_string().map(String::as_str).unwrap_or("structured");
    let size = element_bytes(dtype)?;
    let found = bytes.len() - start;
    let expected = rows.checked_mul(cols).and_then(|len| len.checked_mul(size));
    if expected != Some(found) {
        let expected = expected.map_or("more than there can be".to_owned(), |bytes| bytes.to_string());
        return Err(format!(
            "its header promises {rows} x {cols} numbers of {size} bytes ({expected} bytes), and {found} bytes follow; it is \
             truncated or damaged, save it again"
        ));
    }
    let order = match header.layout {
        Layout::Standard => Order::RowMajor,
        Layout::Fortran => Order::ColMajor,
    };
    Ok(Head { rows, cols, order, is_vector: header.shape.len() == 1, dtype: dtype.to_owned(), start })
}

impl Head {
    fn is_f64(&self) -> bool {
        self.dtype == "<f8"
    }

    /// The matrix in the file.
    pub(crate) fn matrix(&self, file: Bytes) -> Result<Matrix, String> {
        let data = file.slice(self.start..);
        let Head { rows, cols, order, .. } = *self;
        let matrix = match self.is_f64() {
            true => Matrix::from_bytes(rows, cols, order, data),
            false => Matrix::new(rows, cols, order, convert(&self.dtype, &data)),
        };
        self.shaped(matrix)
    }

    fn shaped(&self, matrix: Result<Matrix, TaskError>) -> Result<Matrix, String> {
        let matrix = if self.is_vector { matrix.and_then(Matrix::into_vector) } else { matrix };
        matrix.map_err(|error| error.to_string())
    }
}

/// The matrices of two files in one buffer. If the second lies behind the first, its numbers are moved up to those of the
/// first: the payload of a task is made of both, and one piece is not copied on its way.
///
/// # Errors
/// Which of them is wrong, and how.
pub(crate) fn pair(mut buffer: Vec<u8>, files: [Range<usize>; 2]) -> Result<[Matrix; 2], (usize, String)> {
    let [first, second] = files;
    let heads = [
        head(&buffer[first.clone()]).map_err(|reason| (0, reason))?,
        head(&buffer[second.clone()]).map_err(|reason| (1, reason))?,
    ];
    let at = |place: usize| move |reason| (place, reason);
    let [a, b] = &heads;
    if !(a.is_f64() && b.is_f64() && first.end <= second.start) {
        let buffer = Bytes::from(buffer);
        return Ok([a.matrix(buffer.slice(first)).map_err(at(0))?, b.matrix(buffer.slice(second)).map_err(at(1))?]);
    }
    let numbers = second.start + b.start..second.end;
    let end = first.end + numbers.len();
    buffer.copy_within(numbers, first.end);
    let both = Bytes::from(buffer).slice(first.start + a.start..end);
    let rest = both.slice(first.len() - a.start..);
    Ok([
        a.shaped(Matrix::from_front(a.rows, a.cols, a.order, both)).map_err(at(0))?,
        b.shaped(Matrix::from_bytes(b.rows, b.cols, b.order, rest)).map_err(at(1))?,
    ])
}

/// Where the numbers begin, after checks of what comes before.
fn data_start(bytes: &[u8]) -> Result<usize, String> {
    let not_npy = || "is not a .npy file: save it with numpy.save".to_owned();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(not_npy)?;
    let (prefix, len) = match *rest {
        [1, _, low, high, ..] => (10, usize::from(u16::from_le_bytes([low, high]))),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        [major, minor, ..] if major > 3 || major == 0 => {
            return Err(format!("is of .npy version {major}.{minor}; versions 1 to 3 are read"));
        }
        _ => return Err(not_npy()),
    };
    let start = prefix + len;
    let header = bytes.get(prefix..start).ok_or("ends within its header: it is truncated, save it again")?;
    let nesting = header.iter().filter(|byte| b"([{".contains(byte)).count();
    let characters = header.iter().filter(|byte| !byte.is_ascii_whitespace()).count();
    if len > MAX_HEADER || nesting > MAX_NESTING || characters > MAX_CHARACTERS {
        return Err(unsupported("structured"));
    }
    Ok(start)
}

fn unsupported(dtype: &str) -> String {
    let dtype = dtype.escape_debug();
    format!("holds numbers of type {dtype}; real floats and integers are read: convert it with array.astype(float)")
}

/// An error without the header, which the parser draws below it.
fn first_words(error: &impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(150).collect()
}

fn element_bytes(dtype: &str) -> Result<usize, String> {
    match dtype {
        "|b1" | "|i1" | "|u1" => Ok(1),
        "<i2" | "<u2" | ">i2" | ">u2" => Ok(2),
        "<f4" | "<i4" | "<u4" | ">f4" | ">i4" | ">u4" => Ok(4),
        "<f8" | "<i8" | "<u8" | ">f8" | ">i8" | ">u8" => Ok(8),
        _ => Err(unsupported(dtype)),
    }
}

/// The numbers as f64, rounded to nearest where an integer has more than 53 bits.
fn convert(dtype: &str, data: &[u8]) -> Vec<f64> {
    macro_rules! numbers {
        ($type:ty, $from:ident) => {
            data.as_chunks().0.iter().map(|bytes| <$type>::$from(*bytes) as f64).collect()
        };
    }
    match dtype {
        "|b1" => data.iter().map(|byte| f64::from(u8::from(*byte != 0))).collect(),
        "|i1" => numbers!(i8, from_le_bytes),
        "|u1" => numbers!(u8, from_le_bytes),
        "<i2" => numbers!(i16, from_le_bytes),
        "<u2" => numbers!(u16, from_le_bytes),
        "<i4" => numbers!(i32, from_le_bytes),
        "<u4" => numbers!(u32, from_le_bytes),
        "<i8" => numbers!(i64, from_le_bytes),
        "<u8" => numbers!(u64, from_le_bytes),
        "<f4" => numbers!(f32, from_le_bytes),
        ">i2" => numbers!(i16, from_be_bytes),
        ">u2" => numbers!(u16, from_be_bytes),
        ">i4" => numbers!(i32, from_be_bytes),
        ">u4" => numbers!(u32, from_be_bytes),
        ">i8" => numbers!(i64, from_be_bytes),
        ">u8" => numbers!(u64, from_be_bytes),
        ">f4" => numbers!(f32, from_be_bytes),
        ">f8" => numbers!(f64, from_be_bytes),
        _ => numbers!(f64, from_le_bytes),
    }
}

/// Writes f64 in the matrix's order; a vector as a 1-D array.
pub(super) fn write(mut file: impl Write, matrix: &Matrix) -> io::Result<()> {
    file.write_all(&header(matrix)?)?;
    file.write_all(bytemuck::cast_slice(matrix.as_slice()))
}

/// What comes before the bytes of the matrix.
///
/// # Errors
/// None that a matrix could cause.
pub(crate) fn header(matrix: &Matrix) -> io::Result<Vec<u8>> {
    let layout = match matrix.order() {
        Order::ColMajor if !matrix.is_vector() => Layout::Fortran,
        _ => Layout::Standard,
    };
    let shape = if matrix.is_vector() { vec![matrix.rows()] } else { vec![matrix.rows(), matrix.cols()] };
    let header = Header { type_descriptor: <f64 as ndarray_npy::WritableElement>::type_descriptor(), layout, shape };
    let mut bytes = Vec::with_capacity(128);
    header.write(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, Array3, ShapeBuilder, array};
    use ndarray_npy::WriteNpyExt;
    use proptest::prelude::*;

    use super::*;

    fn saved(array: &impl WriteNpyExt) -> Bytes {
        let mut bytes = Vec::new();
        array.write_npy(io::Cursor::new(&mut bytes)).unwrap();
        bytes.into()
    }

    fn with_header(dict: &str, data: &[u8]) -> Bytes {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((dict.len() as u16 + 1).to_le_bytes());
        bytes.extend(dict.bytes().chain([b'\n']).chain(data.iter().copied()));
        bytes.into()
    }

    fn refusal(bytes: impl Into<Bytes>) -> String {
        parse(bytes.into()).unwrap_err()
    }

    #[test]
    fn every_number_type_becomes_f64() {
        let expected = Matrix::from(array![[1.0, 0.0], [1.0, 1.0]]);
        macro_rules! same {
            ($($type:ty),*) => {
                $(assert_eq!(parse(saved(&array![[1 as $type, 0 as $type], [1 as $type, 1 as $type]])).unwrap(), expected);)*
            };
        }
        same!(i8, i16, i32, i64, u8, u16, u32, u64, f32, f64);
        assert_eq!(parse(saved(&array![[true, false], [true, true]])).unwrap(), expected);
        let big = with_header("{'descr': '>f8', 'fortran_order': False, 'shape': (1,)}", &1.5_f64.to_be_bytes());
        assert_eq!(parse(big).unwrap(), Matrix::vector(vec![1.5]));
        assert_eq!(parse(saved(&array![-1_i64, i64::MIN])).unwrap(), Matrix::vector(vec![-1.0, -(2_f64.powi(63))]));
    }

    #[test]
    fn f64_is_not_copied_and_its_order_is_kept() {
        let mut fortran = Array2::zeros((2, 3).f());
        fortran.assign(&array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        let bytes = saved(&fortran);
        let matrix = parse(bytes.clone()).unwrap();
        assert_eq!((matrix.order(), matrix.as_slice()), (Order::ColMajor, &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0][..]));
        assert_eq!(matrix.as_slice().as_ptr_range().end.cast(), bytes.as_ptr_range().end);
        assert_eq!(parse(saved(&array![[1.0, 2.0]])).unwrap().order(), Order::RowMajor);
    }

    #[test]
    fn two_files_in_one_buffer_are_one_payload() {
        use crate::task::{Format, Task};
        use crate::tasks::solve::System;

        let (a, b) = (array![[1.0, 2.0], [3.0, 5.0]], array![[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]);
        let system = System::new(a.clone(), b.clone());
        let of = |files: [&Bytes; 2]| {
            let buffer = [&b"before"[..], &[0; 58], files[0], b"between", files[1]].concat();
            let second = 64 + files[0].len() + 7;
            (buffer, [64..64 + files[0].len(), second..second + files[1].len()])
        };
        let pieces = |matrices: [Matrix; 2]| {
            let [a, b] = matrices;
            let again = System::new(a, b);
            assert_eq!(again, system);
            again.encode(Format::Binary).unwrap().blob.payload.len()
        };
        let (whole, single) = ([saved(&a), saved(&b)], [saved(&a.mapv(|x| x as f32)), saved(&b)]);
        let (buffer, places) = of([&whole[0], &whole[1]]);
        assert_eq!(pieces(pair(buffer, places).unwrap()), 1);
        let (buffer, places) = of([&single[0], &single[1]]);
        assert_eq!(pieces(pair(buffer, places).unwrap()), 2);
        let (buffer, [b_place, a_place]) = of([&whole[1], &whole[0]]);
        assert_eq!(pieces(pair(buffer, [a_place, b_place]).unwrap()), 2);
        let (buffer, places) = of([&whole[0], &whole[1].slice(..150)]);
        let (place, reason) = pair(buffer, places).unwrap_err();
        assert!(place == 1 && reason.contains("truncated"), "{place}: {reason}");
    }

    #[test]
    fn other_arrays_are_refused_with_what_to_do() {
        assert!(refusal(saved(&Array3::<f64>::zeros((1, 2, 3)))).contains("3-dimensional"));
        assert!(refusal(saved(&ndarray::arr0(1.0))).contains("single number"));
        let of =
            |descr: &str| with_header(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,)}}"), b"");
        for descr in ["'<c16'", "'<U5'", "'|S3'", "'|O'", "'<f2'", "'<M8[ns]'"] {
            assert!(refusal(of(descr)).contains("astype(float)"), "{descr}");
        }
        assert!(refusal(of("[('a', '<f8')]")).contains("type structured"));
        assert!(refusal(&b"PK\x03\x04"[..]).contains("not a .npy file"));
        assert!(refusal(&b"\x93NUMPY\x09\x00\x00\x00"[..]).contains("version 9.0"));
        assert!(refusal(of(&"[".repeat(60_000))).contains("structured"));
        assert!(refusal(of(&"(".repeat(100))).contains("structured"));
        assert!(refusal(of(&"1,".repeat(1000))).contains("structured"), "a header of a page costs no megabytes");
        assert!(refusal(of("'\\x1b[2J'")).contains("type \\u{1b}[2J;"), "{}", refusal(of("'\\x1b[2J'")));
        let padded = with_header(
            &format!("{{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }}{}", " ".repeat(4000)),
            &[0; 8],
        );
        assert_eq!(parse(padded).unwrap(), Matrix::vector(vec![0.0]));
        let reason = refusal(of("'a''b''c'"));
        assert!(reason.contains("damaged") && !reason.contains('\n') && reason.len() < 250, "{reason}");
    }

    #[test]
    fn a_header_that_claims_more_than_the_file_holds_is_refused() {
        let claims = |shape: &str| {
            with_header(&format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}"), &[0; 16])
        };
        assert!(refusal(claims("(3,)")).contains("truncated"));
        assert!(refusal(claims("(1,)")).contains("16 bytes follow"));
        assert!(refusal(claims("(1000000000, 1000000000)")).contains("truncated"));
        assert!(refusal(claims("(9223372036854775807, 4)")).contains("more than there can be"));
        assert!(refusal(claims("(99999999999999999999999,)")).contains("damaged"));
        assert!(refusal(&b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"[..]).contains("truncated"));
        let whole = saved(&Array1::<f64>::zeros(3));
        for len in 0..whole.len() {
            refusal(whole.slice(..len));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_matrix_or_an_error(
            header in prop_oneof![proptest::collection::vec(any::<u8>(), 0..150).boxed(),
                "\\{'descr': ?'[<>|][fiub][0-9]', 'fortran_order': (True|False), 'shape': \\([0-9]{0,3},[0-9]{0,3}\\)\\}".prop_map(String::into_bytes).boxed()],
            data in proptest::collection::vec(any::<u8>(), 0..64),
            version in 0_u8..5,
        ) {
            let mut bytes = b"\x93NUMPY".to_vec();
            bytes.extend([version, 0]);
            bytes.extend((header.len() as u16).to_le_bytes());
            bytes.extend(header.into_iter().chain(data));
            if let Ok(matrix) = parse(bytes.into()) {
                let mut again = Vec::new();
                write(&mut again, &matrix).unwrap();
                let again = parse(again.into()).unwrap();
                prop_assert!(matrix.as_slice().iter().map(|v| v.to_bits()).eq(again.as_slice().iter().map(|v| v.to_bits())));
            }
        }

        #[test]
        fn arrays_of_any_shape_and_type_come_back(
            (rows, cols) in (0_usize..6, 0_usize..6), fortran in any::<bool>(), seed in any::<u32>(),
        ) {
            let value = |(i, j): (usize, usize)| seed.wrapping_mul(2_654_435_761).rotate_left((i * 7 + j) as u32);
            let shape = (rows, cols).set_f(fortran);
            let f = Array2::from_shape_fn(shape, |at| f32::from_bits(value(at) & 0xbfff_ffff));
            let read = parse(saved(&f)).unwrap();
            prop_assert!(read.view().iter().zip(f.iter()).all(|(a, b)| *a == f64::from(*b)));
            let i = Array2::from_shape_fn(shape, |at| value(at) as i32);
            prop_assert!(parse(saved(&i)).unwrap().view().iter().zip(i.iter()).all(|(a, b)| *a == f64::from(*b)));
            let column = i.mapv(f64::from);
            let matrix = Matrix::from(column.clone());
            let mut bytes = Vec::new();
            write(&mut bytes, &matrix).unwrap();
            prop_assert_eq!(parse(bytes.into()).unwrap(), matrix);
        }
    }
}
