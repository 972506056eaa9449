//! Single passes over numbers: are they finite, how large are the rows, narrow them. Memory-bound, so each pass does all
//! that is wanted of the numbers while they are in the cache, on several threads where it is given some.

use std::thread;

use super::matrix::Order;

/// Lanes of the sums: enough that the adds of one never wait for those of the last.
const LANES: usize = 16;

/// Whether no number is NaN or infinite.
pub(super) fn all_finite(numbers: &[f64]) -> bool {
    // x * 0 is 0, or NaN for NaN and the infinities: multiplies and adds only, which every x86-64 vectorises.
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    let mut lanes = [0.0_f64; LANES];
    for chunk in chunks {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane += number * 0.0;
        }
    }
    lanes.iter().chain(rest).map(|number| number * 0.0).sum::<f64>() == 0.0
}

/// Index of the first NaN or infinity.
pub(super) fn first_non_finite(numbers: &[f64]) -> Option<usize> {
    numbers.iter().position(|number| !number.is_finite())
}

/// The largest absolute value; NaN if there is one.
pub(super) fn max_abs(numbers: &[f64]) -> f64 {
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    let mut lanes = [0.0_f64; LANES];
    for chunk in chunks {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane = nan_max(*lane, number.abs());
        }
    }
    lanes.iter().chain(rest).fold(0.0, |max, number| nan_max(max, number.abs()))
}

/// The larger one, NaN if either is.
fn nan_max(max: f64, value: f64) -> f64 {
    if value > max || value.is_nan() { value } else { max }
}

/// What a matrix is copied into for its factorisation.
pub(super) trait Narrow: Copy + Send {
    /// Rounds to this precision.
    fn narrow(value: f64) -> Self;
}

impl Narrow for f64 {
    fn narrow(value: f64) -> f64 {
        value
    }
}

impl Narrow for f32 {
    fn narrow(value: f64) -> f32 {
        value as f32
    }
}

/// Copies the n x n matrix `a`, times `scale`, into `out` as it lies and returns its infinity norm (without `scale`):
/// NaN or infinite if an element is, or if the sum of a row overflows.
pub(super) fn load<T: Narrow>(n: usize, order: Order, a: &[f64], scale: f64, out: &mut [T], threads: usize) -> f64 {
    // Below a million numbers starting a thread costs more than it saves.
    let threads = threads.min(a.len() >> 20).max(1);
    let lines = n.div_ceil(threads) * n;
    let part = |a: &[f64], out: &mut [T]| match order {
        Order::RowMajor => vec![load_rows(n, a, scale, out)],
        Order::ColMajor => load_columns(n, a, scale, out),
    };
    let parts: Vec<Vec<f64>> = if threads == 1 {
        vec![part(a, out)]
    } else {
        let part = &part;
        thread::scope(|scope| {
            let pieces = a.chunks(lines).zip(out.chunks_mut(lines));
            let running: Vec<_> = pieces.map(|(a, out)| scope.spawn(move || part(a, out))).collect();
            running.into_iter().map(|one| one.join().expect("loading numbers does not panic")).collect()
        })
    };
    // Row-major parts hold the largest of their own rows; column-major ones a share of every row's sum.
    match order {
        Order::RowMajor => parts.iter().map(|part| part[0]).fold(0.0, nan_max),
        Order::ColMajor => (0..n).map(|row| parts.iter().map(|part| part[row]).sum()).fold(0.0, nan_max),
    }
}

/// The infinity norm of a rows x cols matrix: NaN or infinite if an element is, or if the sum of a row overflows.
pub(super) fn norm(rows: usize, cols: usize, order: Order, a: &[f64]) -> f64 {
    match order {
        Order::RowMajor => a.chunks_exact(cols).map(sum_abs).fold(0.0, nan_max),
        Order::ColMajor => {
            let mut sums = vec![0.0; rows];
            for column in a.chunks_exact(rows) {
                sums.iter_mut().zip(column).for_each(|(sum, number)| *sum += number.abs());
            }
            sums.into_iter().fold(0.0, nan_max)
        }
    }
}

fn sum_abs(numbers: &[f64]) -> f64 {
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    let mut lanes = [0.0_f64; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, number)| *lane += number.abs());
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|number| number.abs()).sum::<f64>()
}

/// As [`load`] for a symmetric matrix, of which only the lower triangle is read and written.
pub(super) fn load_lower<T: Narrow>(n: usize, a: &[f64], scale: f64, out: &mut [T], threads: usize) -> f64 {
    let threads = threads.min(a.len() >> 20).max(1);
    let part = |first: usize, a: &[f64], out: &mut [T]| {
        let mut sums = vec![0.0; n];
        let columns = a.chunks_exact(n).zip(out.chunks_exact_mut(n));
        for (column, (numbers, out)) in (first..).zip(columns) {
            let below = &mut sums[column..];
            for ((number, out), sum) in numbers[column..].iter().zip(&mut out[column..]).zip(&mut *below) {
                *sum += number.abs();
                *out = T::narrow(number * scale);
            }
            // The column below the diagonal is also the row right of it.
            let mirrored = sum_abs(&numbers[column + 1..]);
            below[0] += mirrored;
        }
        sums
    };
    let parts: Vec<Vec<f64>> = if threads == 1 {
        vec![part(0, a, out)]
    } else {
        let lines = n.div_ceil(threads);
        let part = &part;
        thread::scope(|scope| {
            let pieces = a.chunks(lines * n).zip(out.chunks_mut(lines * n)).enumerate();
            let running: Vec<_> = pieces.map(|(k, (a, out))| scope.spawn(move || part(k * lines, a, out))).collect();
            running.into_iter().map(|one| one.join().expect("loading numbers does not panic")).collect()
        })
    };
    (0..n).map(|row| parts.iter().map(|part| part[row]).sum()).fold(0.0, nan_max)
}

fn load_rows<T: Narrow>(n: usize, a: &[f64], scale: f64, out: &mut [T]) -> f64 {
    let mut norm = 0.0;
    for (row, out) in a.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        let (chunks, rest) = row.as_chunks::<LANES>();
        let (out_chunks, out_rest) = out.as_chunks_mut::<LANES>();
        let mut lanes = [0.0_f64; LANES];
        for (chunk, out) in chunks.iter().zip(out_chunks) {
            for lane in 0..LANES {
                lanes[lane] += chunk[lane].abs();
                out[lane] = T::narrow(chunk[lane] * scale);
            }
        }
        let mut sum: f64 = lanes.iter().sum();
        for (value, out) in rest.iter().zip(out_rest) {
            sum += value.abs();
            *out = T::narrow(value * scale);
        }
        norm = nan_max(norm, sum);
    }
    norm
}

fn load_columns<T: Narrow>(n: usize, a: &[f64], scale: f64, out: &mut [T]) -> Vec<f64> {
    let mut sums = vec![0.0; n];
    for (column, out) in a.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        for ((value, out), sum) in column.iter().zip(out).zip(&mut sums) {
            *sum += value.abs();
            *out = T::narrow(value * scale);
        }
    }
    sums
}

/// The power of two that brings `norm` near 1 (1 for zero), itself always a normal number.
pub(super) fn power_of_two_scale(norm: f64) -> f64 {
    if norm < f64::MIN_POSITIVE {
        return if norm == 0.0 { 1.0 } else { f64::from_bits(2045 << 52) };
    }
    let exponent = norm.to_bits() >> 52 & 0x7ff;
    // 2^(1023 - exponent) has the biased exponent 2046 - exponent, kept within the normal numbers.
    f64::from_bits((2046 - exponent.min(2045)) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_number_anywhere_is_seen() {
        for len in [1, 7, 16, 17, 100] {
            let mut numbers = vec![1e308; len];
            assert!(all_finite(&numbers));
            for at in 0..len {
                for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                    let good = std::mem::replace(&mut numbers[at], bad);
                    assert!(!all_finite(&numbers));
                    assert!(!max_abs(&numbers).is_finite());
                    assert_eq!(first_non_finite(&numbers), Some(at));
                    numbers[at] = good;
                }
            }
        }
        assert!(all_finite(&[]));
    }

    #[test]
    fn the_norm_is_the_largest_row_sum_in_either_order_and_on_any_threads() {
        let n = 1100;
        let numbers: Vec<f64> = (0..n * n).map(|k| ((k * 7919) % 1000) as f64 - 500.0).collect();
        let row = |i: usize| numbers[i * n..][..n].iter().map(|v| v.abs()).sum::<f64>();
        let column = |j: usize| (0..n).map(|i| numbers[i * n + j].abs()).sum::<f64>();
        let by_row = (0..n).map(row).fold(0.0, f64::max);
        let by_column = (0..n).map(column).fold(0.0, f64::max);
        for threads in [1, 2, 3] {
            let mut out = vec![0.0_f32; n * n];
            assert_eq!(load(n, Order::RowMajor, &numbers, 1.0, &mut out, threads), by_row);
            assert_eq!(load(n, Order::ColMajor, &numbers, 0.5, &mut out, threads), by_column);
            assert!(out.iter().zip(&numbers).all(|(out, v)| f64::from(*out) == v * 0.5));
        }
    }

    #[test]
    fn nan_and_overflow_show_in_the_norm() {
        for order in [Order::RowMajor, Order::ColMajor] {
            let mut out = [0.0_f64; 4];
            assert!(load(2, order, &[1.0, f64::NAN, 2.0, 3.0], 1.0, &mut out, 1).is_nan());
            assert_eq!(load(2, order, &[1e308; 4], 1.0, &mut out, 1), f64::INFINITY);
        }
    }

    #[test]
    fn scales_are_powers_of_two_and_bring_norms_near_one() {
        for norm in [1.0, 1.5, 3e-300, 4e305, 1e150, f64::MAX, f64::MIN_POSITIVE] {
            let scale = power_of_two_scale(norm);
            assert!(scale.is_normal() && (0.5..4.0).contains(&(norm * scale)), "{norm} {scale}");
            assert_eq!(scale.to_bits() << 12, 0);
        }
        assert_eq!(power_of_two_scale(0.0), 1.0);
        assert!(power_of_two_scale(5e-324).is_normal());
    }
}
