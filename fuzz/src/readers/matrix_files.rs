//! Matrices in files, against a reading of their numbers that is as plain as can be.

use bytes::Bytes;
use rabbitry::files::{self, Kind};
use rabbitry::tasks::solve::{Matrix, Order};

use super::memory::{Bound, within};
use super::says_enough;

/// Numbers of a byte become eight. The header is parsed into a tree, of up to 128 characters that are no spaces.
const NPY: Bound = Bound { per_byte: 10, beside: 128 << 10 };

/// A number takes two bytes of text and eight here; of a triangle, both copies are there at once.
const MTX: Bound = Bound { per_byte: 12, beside: 1024 };

/// A `.npy`.
pub fn npy(bytes: &[u8]) {
    let file = Bytes::copy_from_slice(bytes);
    let matrix = match within(NPY, bytes.len(), || files::parse(Kind::Npy, file)) {
        Ok(matrix) => matrix,
        Err(reason) => return says_enough(&reason),
    };
    let numbers = whole(&matrix);
    if numbers.is_empty() {
        return;
    }
    let (prefix, len) = match *bytes {
        [_, _, _, _, _, _, 1, _, low, high, ..] => (10, usize::from(u16::from_le_bytes([low, high]))),
        [_, _, _, _, _, _, _, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        _ => panic!("what was read is shorter than any header"),
    };
    let raw = &bytes[prefix + len..];
    assert!(raw.len().is_multiple_of(numbers.len()));
    assert!(READINGS.iter().any(|reading| is_reading(*reading, raw, numbers)), "{numbers:?} of {raw:?}");
}

/// Bytes of a number, and the number.
type Reading = (usize, fn(&[u8]) -> f64);

fn le<const N: usize>(raw: &[u8]) -> [u8; N] {
    raw.try_into().expect("as many bytes as the number has")
}

fn be<const N: usize>(raw: &[u8]) -> [u8; N] {
    let mut bytes = le::<N>(raw);
    bytes.reverse();
    bytes
}

/// Every way to read the bytes of numbers.
const READINGS: &[Reading] = &[
    (1, |raw| f64::from(raw[0])),
    (1, |raw| f64::from(raw[0] as i8)),
    (1, |raw| f64::from(u8::from(raw[0] != 0))),
    (2, |raw| f64::from(u16::from_le_bytes(le(raw)))),
    (2, |raw| f64::from(u16::from_le_bytes(be(raw)))),
    (2, |raw| f64::from(i16::from_le_bytes(le(raw)))),
    (2, |raw| f64::from(i16::from_le_bytes(be(raw)))),
    (4, |raw| f64::from(u32::from_le_bytes(le(raw)))),
    (4, |raw| f64::from(u32::from_le_bytes(be(raw)))),
    (4, |raw| f64::from(i32::from_le_bytes(le(raw)))),
    (4, |raw| f64::from(i32::from_le_bytes(be(raw)))),
    (4, |raw| f64::from(f32::from_le_bytes(le(raw)))),
    (4, |raw| f64::from(f32::from_le_bytes(be(raw)))),
    (8, |raw| u64::from_le_bytes(le(raw)) as f64),
    (8, |raw| u64::from_le_bytes(be(raw)) as f64),
    (8, |raw| i64::from_le_bytes(le(raw)) as f64),
    (8, |raw| i64::from_le_bytes(be(raw)) as f64),
    (8, |raw| f64::from_le_bytes(le(raw))),
    (8, |raw| f64::from_le_bytes(be(raw))),
];

fn is_reading((size, read): Reading, raw: &[u8], numbers: &[f64]) -> bool {
    raw.len() == numbers.len() * size
        && raw.chunks(size).zip(numbers).all(|(raw, number)| read(raw).to_bits() == number.to_bits())
}

/// A `.mtx`.
pub fn mtx(text: &[u8]) {
    let file = Bytes::copy_from_slice(text);
    let matrix = match within(MTX, text.len(), || files::parse(Kind::Mtx, file)) {
        Ok(matrix) => matrix,
        Err(reason) => return says_enough(&reason),
    };
    let numbers = whole(&matrix);
    assert_eq!(matrix.order(), Order::ColMajor);
    let text = std::str::from_utf8(text).expect("what was read is text");
    let header = text.lines().next().expect("what was read has a header").to_ascii_lowercase();
    let lines = text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('%')).skip(1);
    let words: Vec<u64> = lines
        .flat_map(str::split_whitespace)
        .map(|word| word.parse::<f64>().expect("what was read are numbers").to_bits())
        .collect();
    if header.contains("general") {
        assert!(numbers.iter().map(|number| number.to_bits()).eq(words));
    } else {
        let (n, view) = (matrix.rows(), matrix.view());
        let first = usize::from(header.contains("skew"));
        assert_eq!((n, words.len()), (matrix.cols(), (n * (n + 1) / 2) - first * n));
        let triangle = (0..n).flat_map(|col| (col + first..n).map(move |row| (row, col)));
        assert!(triangle.zip(words).all(|(at, bits)| view[at].to_bits() == bits));
        let mirror = (0..n).flat_map(|col| (col + 1..n).map(move |row| (row, col)));
        let sign = if first == 1 { -1.0 } else { 1.0 };
        assert!(mirror.clone().all(|(row, col)| {
            let (below, above) = (view[(row, col)], view[(col, row)]);
            below.is_nan() || below == sign * above
        }));
    }
}

/// The numbers, which are as many as the shape says.
fn whole(matrix: &Matrix) -> &[f64] {
    let numbers = matrix.as_slice();
    assert_eq!(numbers.len(), matrix.rows() * matrix.cols());
    assert_eq!(matrix.view().len(), numbers.len());
    numbers
}
