//! What A looks like, by passes that stop at the first number that speaks against it: a dense matrix without structure
//! costs nothing here.

use super::method::Problem;

/// Rows and columns of a tile: both of a mirrored pair stay in the first-level cache.
const TILE: usize = 32;
/// Rows and columns of a block of a tile, which are compared all at once.
const BLOCK: usize = 8;

/// Which triangle of the *stored* column-major matrix holds all that is not zero. A diagonal matrix is upper.
pub(super) fn triangular(n: usize, a: &[f64]) -> Option<bool> {
    [true, false].into_iter().find(|upper| triangle_counter_example(n, a, *upper).is_none())
}

/// The first stored (row, column) outside the triangle that is not zero.
pub(super) fn triangle_counter_example(n: usize, a: &[f64], upper: bool) -> Option<(usize, usize)> {
    a.chunks_exact(n).enumerate().find_map(|(column, numbers)| {
        let (first, outside) = if upper { (column + 1, &numbers[column + 1..]) } else { (0, &numbers[..column]) };
        // NaN is not zero, either.
        outside.iter().position(|number| *number != 0.0).map(|at| (first + at, column))
    })
}

/// A stored (row, column) below the diagonal whose number is not that of its mirror image. A NaN may pass for its own
/// image: no check of a norm lets it through.
pub(super) fn symmetry_counter_example(n: usize, a: &[f64]) -> Option<(usize, usize)> {
    for left in (0..n).step_by(TILE) {
        for top in (left..n).step_by(TILE) {
            for left in (left..n.min(left + TILE)).step_by(BLOCK) {
                for top in (top.max(left)..n.min(top + TILE)).step_by(BLOCK) {
                    let found = asymmetric(n, a, left, top);
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
    }
    None
}

/// As [`symmetry_counter_example`], in one block of a tile.
fn asymmetric(n: usize, a: &[f64], left: usize, top: usize) -> Option<(usize, usize)> {
    let (right, bottom) = (n.min(left + BLOCK), n.min(top + BLOCK));
    if right - left == BLOCK && bottom - top == BLOCK && same_bits(n, a, left, top) {
        return None;
    }
    let mut places = (left..right).flat_map(|column| (top.max(column + 1)..bottom).map(move |row| (row, column)));
    places.find(|(row, column)| a[column * n + row] != a[row * n + column])
}

/// Whether a whole block has the bits of its mirror image: without a branch and a check of the index for each number, in
/// 0.4 of the time.
#[allow(clippy::needless_range_loop, reason = "one index, of three arrays")]
fn same_bits(n: usize, a: &[f64], left: usize, top: usize) -> bool {
    let strips = |first: usize, from: usize| -> [&[f64]; BLOCK] {
        std::array::from_fn(|k| &a[(first + k) * n + from..][..BLOCK])
    };
    let (columns, rows) = (strips(left, top), strips(top, left));
    let mut different = [0; BLOCK];
    for (c, column) in columns.iter().enumerate() {
        for r in 0..BLOCK {
            different[r] |= column[r].to_bits() ^ rows[r][c].to_bits();
        }
    }
    different == [0; BLOCK]
}

/// The first index whose diagonal element is not positive.
pub(super) fn not_positive(n: usize, a: &[f64]) -> Option<usize> {
    (0..n).find(|i| {
        let element = a[i * (n + 1)];
        element.is_nan() || element <= 0.0
    })
}

/// Whether a Cholesky factorisation is worth a try.
pub(super) fn may_be_positive_definite(problem: &Problem<'_>) -> bool {
    let Problem { rows: n, a, .. } = *problem;
    not_positive(n, a).is_none() && symmetry_counter_example(n, a).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_speaks_against_a_structure() {
        for n in [1, 2, 5, 31, 32, 33, 70, 100] {
            let symmetric: Vec<f64> = (0..n * n).map(|at| (1 + at / n + at % n) as f64).collect();
            assert_eq!(symmetry_counter_example(n, &symmetric), None);
            let triangle = |upper: bool| -> Vec<f64> {
                let inside = |row: usize, column: usize| if upper { row <= column } else { row >= column };
                (0..n * n).map(|at| f64::from(u8::from(inside(at % n, at / n)))).collect()
            };
            assert_eq!(triangular(n, &triangle(true)), Some(true));
            assert_eq!(triangular(n, &triangle(false)), Some(n == 1));
            for (row, column) in [(0, n - 1), (n / 2, n / 3), (n - 1, n / 2)] {
                if row == column {
                    continue;
                }
                let (low, high) = (row.max(column), row.min(column));
                for bad in [f64::NAN, 0.5] {
                    let mut a = symmetric.clone();
                    a[column * n + row] = bad;
                    assert_eq!(symmetry_counter_example(n, &a), Some((low, high)));
                    let mut a = triangle(row > column);
                    a[column * n + row] = bad;
                    assert_eq!(triangle_counter_example(n, &a, row > column), Some((row, column)));
                }
            }
            for bad in [f64::NAN, 0.0, -1.0] {
                let mut a = symmetric.clone();
                a[(n / 2) * (n + 1)] = bad;
                assert_eq!(not_positive(n, &a), Some(n / 2));
            }
        }
    }
}
