//! Matrix Market, dense (`array`): text, one number a line, column by column.
//!
//! Source: Boisvert, Pozo, Remington, "The Matrix Market Exchange Formats", NISTIR 5935. Sparse files are refused:
//! nothing here solves sparse systems, and filling one up unasked could take any amount of memory.

use std::io::{self, Write};
use std::str;

use crate::tasks::solve::{Matrix, Order};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Symmetry {
    General,
    Symmetric,
    Skew,
}

/// The matrix in the bytes of a file. One column makes no vector: a `.mtx` is always a matrix.
pub(super) fn parse(bytes: &[u8]) -> Result<Matrix, String> {
    let text = str::from_utf8(bytes).map_err(|_| "is not text, so not Matrix Market".to_owned())?;
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let symmetry = header(lines.next().map_or("", |(_, line)| line))?;
    let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('%'));
    let (size_line, size) = lines.next().ok_or("has no size line (rows and columns): it is truncated")?;
    let (rows, cols) = shape(size).map_err(|reason| format!("line {size_line}: {reason}"))?;
    if symmetry != Symmetry::General && rows != cols {
        return Err(format!("line {size_line}: a symmetric matrix is square, not {rows} x {cols}"));
    }
    // A stored number takes two bytes at least, so no header makes us reserve more than four times the file, and for the
    // whole of a triangle eight times more.
    let expected = stored(rows, cols, symmetry).filter(|&count| count <= text.len() as u64 / 2).ok_or_else(|| {
        format!("line {size_line}: {rows} x {cols} numbers can't be in a file of {} bytes: it is truncated", text.len())
    })?;
    let mut numbers = Vec::with_capacity(expected as usize);
    for (line, words) in lines {
        for word in words.split_whitespace() {
            let number: f64 = word.parse().map_err(|_| format!("line {line}: {} is not a number", shown(word)))?;
            if numbers.len() as u64 == expected {
                return Err(format!("line {line}: more numbers than the {expected} of the size line"));
            }
            numbers.push(number);
        }
    }
    if (numbers.len() as u64) < expected {
        return Err(format!("has {} numbers where the size line wants {expected}: it is truncated", numbers.len()));
    }
    let numbers = match symmetry {
        Symmetry::General => numbers,
        Symmetry::Symmetric | Symmetry::Skew => unfold(rows, &numbers, symmetry),
    };
    Matrix::new(rows, cols, Order::ColMajor, numbers).map_err(|error| error.to_string())
}

fn header(line: &str) -> Result<Symmetry, String> {
    let lower = line.to_ascii_lowercase();
    // One too many is enough to know: a line may be as long as the file.
    let words: Vec<&str> = lower.split_whitespace().take(6).collect();
    let [magic, object, format, field, symmetry] = words[..] else {
        return Err(format!("line 1: {} is not \"%%MatrixMarket matrix array real general\"", shown(line)));
    };
    if magic != "%%matrixmarket" || object != "matrix" {
        return Err(format!("line 1: {} does not begin with \"%%MatrixMarket matrix\"", shown(line)));
    }
    match format {
        "array" => {}
        "coordinate" => {
            return Err("line 1: the matrix is sparse (coordinate); write it dense (array), for instance with \
                        scipy.io.mmwrite(path, matrix.toarray())"
                .to_owned());
        }
        _ => return Err(format!("line 1: format {} is unknown; dense is \"array\"", shown(format))),
    }
    if !matches!(field, "real" | "integer" | "double") {
        return Err(format!("line 1: {} numbers; only real and integer ones are read", shown(field)));
    }
    match symmetry {
        "general" => Ok(Symmetry::General),
        "symmetric" => Ok(Symmetry::Symmetric),
        "skew-symmetric" => Ok(Symmetry::Skew),
        _ => Err(format!("line 1: symmetry {}; general, symmetric and skew-symmetric are read", shown(symmetry))),
    }
}

/// A word from a file, short enough for a message.
fn shown(word: &str) -> String {
    format!("{:?}", word.chars().take(60).collect::<String>())
}

fn shape(line: &str) -> Result<(usize, usize), String> {
    let words: Vec<&str> = line.split_whitespace().take(3).collect();
    match words[..] {
        [rows, cols] => match (rows.parse(), cols.parse()) {
            (Ok(rows), Ok(cols)) => Ok((rows, cols)),
            _ => Err(format!("{} are not rows and columns", shown(line))),
        },
        _ => Err(format!("{} should be two numbers, rows and columns", shown(line))),
    }
}

/// Numbers in the file: all, the lower triangle with the diagonal, or without it.
fn stored(rows: usize, cols: usize, symmetry: Symmetry) -> Option<u64> {
    let (n, cols) = (rows as u64, cols as u64);
    match symmetry {
        Symmetry::General => n.checked_mul(cols),
        Symmetry::Symmetric => n.checked_mul(n.checked_add(1)?).map(|twice| twice / 2),
        Symmetry::Skew => n.checked_mul(n.saturating_sub(1)).map(|twice| twice / 2),
    }
}

/// The whole matrix from its lower triangle by columns.
fn unfold(n: usize, triangle: &[f64], symmetry: Symmetry) -> Vec<f64> {
    let mut whole = vec![0.0; n * n];
    let mut numbers = triangle.iter();
    let (first, sign) = if symmetry == Symmetry::Skew { (1, -1.0) } else { (0, 1.0) };
    for column in 0..n {
        for (row, &number) in (column + first..n).zip(&mut numbers) {
            whole[column * n + row] = number;
            whole[row * n + column] = if row == column { number } else { sign * number };
        }
    }
    whole
}

/// Writes the shortest decimals that read back to the same bits.
pub(super) fn write(mut file: impl Write, matrix: &Matrix) -> io::Result<()> {
    writeln!(file, "%%MatrixMarket matrix array real general\n{} {}", matrix.rows(), matrix.cols())?;
    for number in matrix.view().t() {
        writeln!(file, "{number:e}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    fn read(head: &str, rest: &str) -> Result<Matrix, String> {
        parse(format!("%%MatrixMarket matrix {head}\n{rest}").as_bytes())
    }

    fn refusal(head: &str, rest: &str) -> String {
        read(head, rest).unwrap_err()
    }

    #[test]
    fn dense_matrices_of_each_symmetry_are_read_by_columns() {
        let general = read("array real general", "% a comment\n\n2 3\n1\n4\n2\n\n5\n3e0\n-6.5\n").unwrap();
        assert_eq!(general, array![[1.0, 2.0, 3.0], [4.0, 5.0, -6.5]].into());
        let symmetric = read("array integer symmetric", "3 3\n1\n2\n3\n4\n5\n6").unwrap();
        assert_eq!(symmetric, array![[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]].into());
        let skew = read("array real skew-symmetric", "3 3\n1\n2\n3").unwrap();
        assert_eq!(skew, array![[0.0, -1.0, -2.0], [1.0, 0.0, -3.0], [2.0, 3.0, 0.0]].into());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert!(refusal("coordinate real general", "2 2 1\n1 1 1").contains("toarray()"));
        assert!(refusal("array complex general", "1 1\n1 1").contains("complex"));
        assert!(refusal("array real hermitian", "1 1\n1").contains("hermitian"));
        assert!(refusal("array real", "1 1\n1").contains("line 1"));
        assert!(refusal("array real general", "").contains("no size line"));
        assert!(refusal("array real general", "% c\n2 x\n").contains("line 3"));
        assert!(refusal("array real general", "1 1 1\n").contains("two numbers"));
        assert!(refusal("array real general", "2 1\n1\nabc\n").contains("line 4: \"abc\" is not a number"));
        assert!(refusal("array real general", "2 1\n1\n").contains("has 1 numbers where the size line wants 2"));
        assert!(refusal("array real general", "1 1\n1\n2\n").contains("line 4: more numbers"));
        assert!(refusal("array real symmetric", "2 3\n1\n").contains("square"));
        assert!(refusal("array real general", "100000000 100000000\n1\n").contains("truncated"));
        assert!(refusal("array real general", "18446744073709551615 3\n1\n").contains("truncated"));
        assert!(refusal("array real general", "40 1\n1\n").contains("can't be in a file"), "a number is two bytes");
        assert!(refusal("array real skew-symmetric", "9999999999 9999999999\n").contains("truncated"));
        assert!(parse(b"\xff\xfe").unwrap_err().contains("not text"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_matrix_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_body_is_a_matrix_or_an_error(
            symmetry in "general|symmetric|skew-symmetric", body in "[0-9]{0,2} [0-9]{0,2}(\n[0-9.e+-]{0,5}){0,12}",
        ) {
            let _ = read(&format!("array real {symmetry}"), &body);
        }

        #[test]
        fn every_bit_comes_back(bits in proptest::collection::vec(any::<u64>(), 6), rows in 1_usize..4) {
            let number = |bits: &u64| Some(f64::from_bits(*bits)).filter(|v| v.is_finite()).unwrap_or(-0.0);
            let numbers: Vec<f64> = bits.iter().map(number).collect();
            let rows = if 6 % rows == 0 { rows } else { 6 };
            for order in [Order::RowMajor, Order::ColMajor] {
                let matrix = Matrix::new(rows, 6 / rows, order, numbers.clone()).unwrap();
                let mut text = Vec::new();
                write(&mut text, &matrix).unwrap();
                let read = parse(&text).unwrap();
                prop_assert!(read.view().iter().map(|v| v.to_bits()).eq(matrix.view().iter().map(|v| v.to_bits())));
            }
        }
    }
}
