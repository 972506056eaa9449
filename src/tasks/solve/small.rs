//! LU with partial pivoting of small matrices, on one thread: up to [`max_size`] faster than MKL's, whose fixed
//! costs and narrow updates weigh most there.
//!
//! The result is LAPACK's (`dgetrf`), with a leading dimension of [`leading`]: L with its unit diagonal left out, U, and
//! the row exchanges counted from 1, so that `dgetrs` takes it. Sums are fused and ordered differently: the factors agree
//! to rounding, not to the bit. The same numbers give the same bits on the same kind of CPU wherever they lie in memory.
//!
//! Left-looking on two levels: a block of [`BLOCK`] columns gets all exchanges and products of the columns before it, then
//! its panels of [`PANEL`] columns those of the panels before them in the block. So every exchange of the columns left of
//! a block is one pass over them, and the sums of the products stay in registers. `pulp` picks the instructions when the
//! program runs; `inline(always)` is what makes a function use them, which is why there are no closures here: those are
//! compiled for the baseline.
//!
//! Limits: f64; what overflows is infinite or NaN.
#![allow(clippy::needless_range_loop, reason = "tiles of registers are written with their indices")]

use pulp::{Arch, Simd, WithSimd};

use super::kernel::Broken;

/// The largest n for which [`lu`] is clearly faster than MKL's `dgetrf` with AVX-512. Measured on one core of a Sapphire
/// Rapids with `cargo test --release --locked --lib small -- --ignored --nocapture`: 0.5 of MKL's time at n = 50, 0.6 at
/// 100, 0.75 at 200, 0.95 at 256 (where MKL's is at its best), 0.9 at 350, as long from 400 to 500.
const MAX_AVX512: usize = 350;

/// The same on narrower vectors: both with AVX2, 0.8 at n = 100, 0.9 at 150, 1.05 at 200. Not measured with NEON.
const MAX_NARROW: usize = 150;

/// Columns that are factored together: what the widest vector holds, and the granule of the storage.
pub(super) const PANEL: usize = 8;

/// Columns after which the columns before them are exchanged: 24 to 48 are equally fast, 64 is slower from n = 150 on.
const BLOCK: usize = 32;

/// No row: beyond every matrix, and a whole number as the rows are.
const NONE: f64 = (1_u64 << 51) as f64;

/// The lanes of a vector.
const LANES: [f64; PANEL] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];

/// Leading dimension of the storage of an n x n matrix: whole vectors, and an odd number of cache lines so that a row does
/// not fall into a few sets of the cache.
pub(super) const fn leading(n: usize) -> usize {
    (n.div_ceil(PANEL) | 1) * PANEL
}

/// Numbers in the storage of an n x n matrix: whole panels of columns, [`leading`] apart. What is not of the matrix is 0.
pub(super) const fn storage(n: usize) -> usize {
    leading(n) * n.next_multiple_of(PANEL)
}

/// The largest n for which [`lu`] is worth calling on this CPU.
pub(super) fn max_size() -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Arch::V4(_) = Arch::new() {
        return MAX_AVX512;
    }
    MAX_NARROW
}

/// LU with partial pivoting of the n x n matrix in `a`, in place; `a` is laid out as [`storage`] says, and 5 to 10 %
/// faster from n = 100 on if it starts at a multiple of 64 bytes. `pivots` has n places.
///
/// # Errors
/// [`Broken::At`]: U is exactly singular. The columns after that one are not factored.
pub(super) fn lu(n: usize, a: &mut [f64], pivots: &mut [i32]) -> Result<(), Broken> {
    assert!(a.len() == storage(n) && pivots.len() == n, "A in its storage, a pivot for each column");
    Arch::new().dispatch(Lu { n, a, pivots })
}

struct Lu<'a> {
    n: usize,
    a: &'a mut [f64],
    pivots: &'a mut [i32],
}

impl WithSimd for Lu<'_> {
    type Output = Result<(), Broken>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let Lu { n, a, pivots } = self;
        let ld = leading(n);
        for first in (0..n).step_by(BLOCK) {
            let end = n.min(first + BLOCK);
            let (left, rest) = a.split_at_mut(first * ld);
            let block = &mut rest[..(end - first).next_multiple_of(PANEL) * ld];
            for panel in block.chunks_exact_mut(PANEL * ld) {
                exchange(ld, panel, 0, &pivots[..first]);
                Factored { ld, first: 0, end: first, columns: left }.apply(simd, panel);
            }
            for j in (first..end).step_by(PANEL) {
                let (before, rest) = block.split_at_mut((j - first) * ld);
                let (panel, after) = rest.split_at_mut(PANEL * ld);
                Factored { ld, first, end: j, columns: before }.apply(simd, panel);
                let pivots = &mut pivots[j..n.min(j + PANEL)];
                Panel { simd, n, ld, columns: panel, first: j }.factor(pivots)?;
                exchange(ld, before, j, pivots);
                exchange(ld, after, j, pivots);
            }
            exchange(ld, left, first, &pivots[first..end]);
        }
        Ok(())
    }
}

/// Exchanges row `first` of the columns for the row that the first pivot names, and so on. The number of columns is a
/// multiple of 4: that many at once share the reading and checking of the pivots.
#[inline(always)]
fn exchange(ld: usize, columns: &mut [f64], first: usize, pivots: &[i32]) {
    for group in columns.chunks_exact_mut(4 * ld) {
        let (one, rest) = group.split_at_mut(ld);
        let (two, rest) = rest.split_at_mut(ld);
        let (three, rest) = rest.split_at_mut(ld);
        let four = &mut rest[..ld];
        for (row, &pivot) in (first..).zip(pivots) {
            let with = pivot as usize - 1;
            // Said here, it is checked once.
            assert!(row < ld && with < ld, "a pivot is a row");
            one.swap(row, with);
            two.swap(row, with);
            three.swap(row, with);
            four.swap(row, with);
        }
    }
}

#[inline(always)]
pub(super) fn load<S: Simd>(x: &[f64], at: usize) -> S::f64s {
    S::as_simd_f64s(&x[at..at + S::F64_LANES]).0[0]
}

#[inline(always)]
pub(super) fn store<S: Simd>(x: &mut [f64], at: usize, vector: S::f64s) {
    S::as_mut_simd_f64s(&mut x[at..at + S::F64_LANES]).0[0] = vector;
}

/// One lane.
#[inline(always)]
fn only<S: Simd>(simd: S, lane: usize) -> S::m64s {
    simd.equal_f64s(load::<S>(&LANES, 0), simd.splat_f64s(lane as f64))
}

/// Columns first..end, factored, their rows in the final order so far.
#[derive(Clone, Copy)]
struct Factored<'a> {
    ld: usize,
    first: usize,
    end: usize,
    columns: &'a [f64],
}

impl Factored<'_> {
    /// Makes rows first..end of a panel U's and takes their products with L off the rows below. Tiles of three vectors of
    /// rows: with 8 columns their sums fill the registers of AVX-512.
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, panel: &mut [f64]) {
        let Factored { ld, first, end, .. } = self;
        let mut top = first;
        while top < end {
            let bottom = (top + 3 * S::F64_LANES).min(end);
            self.tile(simd, panel, top, bottom, [first, top]);
            for row in (top..bottom).step_by(S::F64_LANES) {
                self.substitute(simd, panel, row);
                self.tile(simd, panel, row + S::F64_LANES, bottom, [row, row + S::F64_LANES]);
            }
            top = bottom;
        }
        while first < end && top < ld {
            let bottom = (top + 3 * S::F64_LANES).min(ld);
            self.tile(simd, panel, top, bottom, [first, end]);
            top = bottom;
        }
    }

    /// Rows top..bottom of the panel, at most three vectors, less their columns k[0]..k[1] times those rows of the
    /// panel.
    #[inline(always)]
    fn tile<S: Simd>(self, simd: S, panel: &mut [f64], top: usize, bottom: usize, k: [usize; 2]) {
        match (bottom - top) / S::F64_LANES {
            0 => (),
            1 => self.product::<S, 1>(simd, panel, top, k),
            2 => self.product::<S, 2>(simd, panel, top, k),
            _ => self.product::<S, 3>(simd, panel, top, k),
        }
    }

    #[inline(always)]
    fn product<S: Simd, const R: usize>(self, simd: S, panel: &mut [f64], top: usize, k: [usize; 2]) {
        if const { S::REGISTER_COUNT >= 32 } {
            self.product_of::<S, R, 8>(simd, panel, top, k);
        } else {
            let (one, two) = panel.split_at_mut(4 * self.ld);
            self.product_of::<S, R, 4>(simd, one, top, k);
            self.product_of::<S, R, 4>(simd, two, top, k);
        }
    }

    /// R vectors of rows and C columns.
    #[inline(always)]
    fn product_of<S: Simd, const R: usize, const C: usize>(
        self,
        simd: S,
        panel: &mut [f64],
        top: usize,
        k: [usize; 2],
    ) {
        let (ld, [from, to], height) = (self.ld, k, R * S::F64_LANES);
        let depth = to - from;
        let mut sums = [[simd.splat_f64s(0.0); R]; C];
        let mut u: [&[f64]; C] = [&[]; C];
        for c in 0..C {
            for r in 0..R {
                sums[c][r] = load::<S>(panel, c * ld + top + r * S::F64_LANES);
            }
            u[c] = &panel[c * ld + from..][..depth];
        }
        let left = &self.columns[(from - self.first) * ld + top..];
        for k in 0..depth {
            let l = S::as_simd_f64s(&left[k * ld..][..height]).0;
            for c in 0..C {
                let u = simd.splat_f64s(u[c][k]);
                for r in 0..R {
                    sums[c][r] = simd.negate_mul_add_e_f64s(l[r], u, sums[c][r]);
                }
            }
        }
        for c in 0..C {
            for r in 0..R {
                store::<S>(panel, c * ld + top + r * S::F64_LANES, sums[c][r]);
            }
        }
    }

    /// Forward substitution in one vector of rows, all columns of the panel side by side.
    #[inline(always)]
    fn substitute<S: Simd>(self, simd: S, panel: &mut [f64], row: usize) {
        let ld = self.ld;
        let zero = simd.splat_f64s(0.0);
        let mut x = [zero; PANEL];
        for c in 0..PANEL {
            x[c] = load::<S>(panel, c * ld + row);
        }
        macro_rules! steps {
            ($($lane:literal)*) => {$(
                if const { $lane + 1 < S::F64_LANES } {
                    // Above the diagonal there is U.
                    let column = load::<S>(self.columns, (row - self.first + $lane) * ld + row);
                    let below = simd.greater_than_f64s(load::<S>(&LANES, 0), simd.splat_f64s($lane as f64));
                    let l = simd.select_f64s(below, column, zero);
                    for x in &mut x {
                        // The lane is a literal, for this to become a shuffle and not a way through memory.
                        let known = bytemuck::cast_slice::<S::f64s, f64>(std::slice::from_ref(x))[$lane];
                        *x = simd.negate_mul_add_e_f64s(l, simd.splat_f64s(known), *x);
                    }
                }
            )*};
        }
        steps!(0 1 2 3 4 5 6);
        for c in 0..PANEL {
            store::<S>(panel, c * ld + row, x[c]);
        }
    }
}

/// The largest magnitudes of a column, lane by lane, and their rows, the first of each. Rows are whole numbers in f64, so
/// that the search needs no branch that would be mispredicted.
struct Largest<S: Simd> {
    size: S::f64s,
    row: S::f64s,
}

impl<S: Simd> Largest<S> {
    #[inline(always)]
    fn none(simd: S) -> Self {
        Largest { size: simd.splat_f64s(0.0), row: simd.splat_f64s(NONE) }
    }

    /// Looks at the vector of rows from `row` on. NaN is never larger.
    #[inline(always)]
    fn see(&mut self, simd: S, values: S::f64s, row: usize) {
        let size = simd.and_f64s(values, simd.splat_f64s(f64::from_bits(i64::MAX as u64)));
        let larger = simd.greater_than_f64s(size, self.size);
        let rows = simd.add_f64s(load::<S>(&LANES, 0), simd.splat_f64s(row as f64));
        self.row = simd.select_f64s(larger, rows, self.row);
        self.size = simd.select_f64s(larger, size, self.size);
    }

    /// The largest magnitude and the first row that has it; past every row if all are zero or NaN.
    #[inline(always)]
    fn found(&self, simd: S) -> (f64, usize) {
        let size = simd.reduce_max_f64s(self.size);
        let is = simd.equal_f64s(self.size, simd.splat_f64s(size));
        let row = simd.reduce_min_f64s(simd.select_f64s(is, self.row, simd.splat_f64s(NONE)));
        // The whole number as the last bits of a float: a conversion would first check its range.
        const SHIFT: u64 = 1 << 52;
        (size, ((row + SHIFT as f64).to_bits() & (SHIFT - 1)) as usize)
    }
}

/// A panel to be factored: its columns, of which `first` is the first one's number.
struct Panel<'a, S: Simd> {
    simd: S,
    n: usize,
    ld: usize,
    columns: &'a mut [f64],
    first: usize,
}

impl<S: Simd> Panel<'_, S> {
    /// Right-looking, one column after the other; a pivot for each that is in the matrix.
    #[inline(always)]
    fn factor(mut self, pivots: &mut [i32]) -> Result<(), Broken> {
        let mut largest = Largest::none(self.simd);
        for row in (self.first..self.n).step_by(S::F64_LANES) {
            largest.see(self.simd, load::<S>(self.columns, row), row);
        }
        macro_rules! steps {
            ($($k:literal)*) => {$(
                if let Some(pivot) = pivots.get_mut($k) {
                    let row = self.first + $k;
                    let (size, with) = largest.found(self.simd);
                    // Begun before the row is known.
                    let inverse = 1.0 / size;
                    let with = self.choose(with, $k);
                    let value = self.columns[$k * self.ld + with];
                    *pivot = with as i32 + 1;
                    if value == 0.0 {
                        return Err(Broken::At(row as u64 + 1));
                    }
                    self.exchange(row, with);
                    let factor = self.factor_of($k, value, inverse);
                    largest = self.eliminate::<$k, { PANEL - 1 - $k }>(factor);
                }
            )*};
        }
        steps!(0 1 2 3 4 5 6 7);
        let _ = largest;
        Ok(())
    }

    /// The row to exchange for the diagonal's in column k, given the one with the largest magnitude. If that is none, the
    /// first NaN, so that an overflow is not taken for a singular matrix, or the diagonal.
    #[inline(always)]
    fn choose(&self, row: usize, k: usize) -> usize {
        if row < self.n {
            return row;
        }
        let diagonal = self.first + k;
        let column = &self.columns[k * self.ld..][diagonal..self.n];
        diagonal + column.iter().position(|value| value.is_nan()).unwrap_or(0)
    }

    /// Exchanges two rows. Whole vectors are written: the next step reads whole vectors, and would have to wait until
    /// single numbers had left the store buffer.
    #[inline(always)]
    fn exchange(&mut self, row: usize, with: usize) {
        let (simd, lanes) = (self.simd, S::F64_LANES);
        let (row_start, with_start) = (row / lanes * lanes, with / lanes * lanes);
        let (row_lane, with_lane) = (only(simd, row % lanes), only(simd, with % lanes));
        for column in self.columns.chunks_exact_mut(self.ld) {
            let (x, y) = (simd.splat_f64s(column[row]), simd.splat_f64s(column[with]));
            let vector = load::<S>(column, row_start);
            store::<S>(column, row_start, simd.select_f64s(row_lane, y, vector));
            let vector = load::<S>(column, with_start);
            store::<S>(column, with_start, simd.select_f64s(with_lane, x, vector));
        }
    }

    /// What column k is multiplied by to be L's, given the reciprocal of the pivot's magnitude. As in LAPACK that one with
    /// the pivot's sign, or where it may overflow 1, after dividing the column.
    #[inline(always)]
    fn factor_of(&mut self, k: usize, pivot: f64, inverse: f64) -> f64 {
        if pivot.abs() >= f64::MIN_POSITIVE {
            return inverse.copysign(pivot);
        }
        for value in &mut self.columns[k * self.ld..][self.first + k + 1..self.n] {
            *value /= pivot;
        }
        1.0
    }

    /// Scales column K below the diagonal and takes its products off the REST columns after it. Returns the largest of
    /// the next one.
    #[inline(always)]
    fn eliminate<const K: usize, const REST: usize>(&mut self, factor: f64) -> Largest<S> {
        let (simd, ld, lanes, row) = (self.simd, self.ld, S::F64_LANES, self.first + K);
        let (left, right) = self.columns.split_at_mut((K + 1) * ld);
        let l = &mut left[K * ld..];
        let zero = simd.splat_f64s(0.0);
        let factor = simd.splat_f64s(factor);
        let mut u = [zero; REST];
        for c in 0..REST {
            u[c] = simd.splat_f64s(right[c * ld + row]);
        }
        let mut largest = Largest::none(simd);
        // The first vector may hold rows of U too.
        let start = (row + 1) / lanes * lanes;
        let first_lane = simd.splat_f64s(((row + 1) % lanes) as f64);
        let mut below = simd.greater_than_or_equal_f64s(load::<S>(&LANES, 0), first_lane);
        for start in (start..self.n).step_by(lanes) {
            let old = load::<S>(l, start);
            let scaled = simd.mul_f64s(old, factor);
            store::<S>(l, start, simd.select_f64s(below, scaled, old));
            let scaled = simd.select_f64s(below, scaled, zero);
            for c in 0..REST {
                let x = simd.negate_mul_add_e_f64s(scaled, u[c], load::<S>(right, c * ld + start));
                store::<S>(right, c * ld + start, x);
                if c == 0 {
                    largest.see(simd, simd.select_f64s(below, x, zero), start);
                }
            }
            below = simd.equal_f64s(zero, zero);
        }
        largest
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::tasks::solve::System;
    use crate::tasks::solve::kernel::{Kernel, Pivots, Stage};

    fn random(n: usize, seed: u64) -> Vec<f64> {
        System::random(n, 1, seed).a.as_slice().to_vec()
    }

    fn padded(n: usize, a: &[f64]) -> Vec<f64> {
        let mut padded = vec![0.0; storage(n)];
        for (column, out) in a.chunks_exact(n).zip(padded.chunks_exact_mut(leading(n))) {
            out[..n].copy_from_slice(column);
        }
        padded
    }

    type Factors = (Vec<f64>, Vec<i32>);

    fn factor_by(n: usize, a: &[f64], run: impl FnOnce(Lu<'_>) -> Result<(), Broken>) -> Result<Factors, Broken> {
        let (mut factors, mut pivots) = (padded(n, a), vec![0; n]);
        run(Lu { n, a: &mut factors, pivots: &mut pivots }).map(|()| (factors, pivots))
    }

    fn factor(n: usize, a: &[f64]) -> Result<Factors, Broken> {
        factor_by(n, a, |Lu { n, a, pivots }| lu(n, a, pivots))
    }

    /// With these and with the instructions of older machines.
    fn factor_by_all(n: usize, a: &[f64]) -> Vec<Factors> {
        let mut all = vec![factor(n, a), factor_by(n, a, |lu| Simd::vectorize(pulp::Scalar::new(), lu))];
        #[cfg(target_arch = "x86_64")]
        all.extend(pulp::x86::V3::try_new().map(|v3| factor_by(n, a, |lu| Simd::vectorize(v3, lu))));
        all.into_iter().map(|factors| factors.unwrap()).collect()
    }

    /// P A = L U up to n eps times the largest number met, |L| is at most 1, and the padding is untouched.
    fn check(n: usize, a: &[f64], (factors, pivots): &Factors) {
        let ld = leading(n);
        let mut rows: Vec<usize> = (0..n).collect();
        for (k, &pivot) in pivots.iter().enumerate() {
            assert!(pivot as usize > k && pivot as usize <= n, "pivot {pivot} of column {k}");
            rows.swap(k, pivot as usize - 1);
        }
        let scale = factors.iter().chain(a).fold(0.0, |max: f64, value| max.max(value.abs()));
        for j in 0..n {
            for (i, &row) in rows.iter().enumerate() {
                let l = |k: usize| if k == i { 1.0 } else { factors[k * ld + i] };
                let product: f64 = (0..=i.min(j)).map(|k| l(k) * factors[j * ld + k]).sum();
                let error = (product - a[j * n + row]).abs();
                assert!(
                    error <= n as f64 * (f64::EPSILON * scale + 5e-324),
                    "n = {n}, [{i}, {j}]: {error:e} of {scale:e}"
                );
                assert!(i <= j || factors[j * ld + i].abs() <= 1.0, "L[{i}, {j}]");
            }
        }
        let padding = (0..storage(n)).filter(|at| at % ld >= n || at / ld >= n);
        assert!(padding.into_iter().all(|at| factors[at] == 0.0), "n = {n}: padding");
    }

    #[test]
    fn random_matrices_of_every_size_are_factored_on_every_instruction_set() {
        for n in (1..=130).chain([159, 160, 161, 200, 257, max_size()]) {
            let a = random(n, n as u64);
            let all = factor_by_all(n, &a);
            for one in &all {
                check(n, &a, one);
                assert_eq!(one.1, all[0].1, "n = {n}");
            }
        }
    }

    #[test]
    fn factors_and_so_pivots_are_the_kernels() {
        let kernel = Kernel::with_threads(1);
        for n in 1..=130 {
            let mut theirs = random(n, 1000 + n as u64);
            let (ours, pivots) = factor(n, &theirs).unwrap();
            kernel.factor(n, &mut theirs, &mut Pivots::default(), Stage::unwatched()).unwrap();
            let close = ours.iter().zip(padded(n, &theirs)).all(|(ours, theirs)| (ours - theirs).abs() <= 1e-10);
            assert!(close, "n = {n}, pivots {pivots:?}");
        }
    }

    #[test]
    fn the_first_zero_pivot_is_named() {
        for n in 1..=40 {
            assert_eq!(factor(n, &vec![0.0; n * n]).unwrap_err(), Broken::At(1));
            for zero in 0..n {
                // A column of zeros, and the last that is zero only after the elimination: whole numbers stay exact.
                let mut a: Vec<f64> = (0..n * n).map(|k| f64::from(u8::from(k % n <= k / n))).collect();
                a[zero * n..][..n].fill(0.0);
                assert_eq!(factor(n, &a).unwrap_err(), Broken::At(zero as u64 + 1));
            }
        }
        assert_eq!(factor(3, &[1.0, 2.0, 4.0, 2.0, 1.0, 1.0, 1.0, 2.0, 4.0]).unwrap_err(), Broken::At(3));
    }

    #[test]
    fn the_first_of_equals_is_the_pivot_and_permutations_are_exact() {
        let (_, pivots) = factor(3, &[1.0, -1.0, 1.0, 0.0, 2.0, 3.0, 0.0, 1.0, -1.0]).unwrap();
        assert_eq!(pivots[..1], [1]);
        for n in 1..=70 {
            // Row i * 3 + 1 modulo n of each column, or the anti-diagonal where that is no permutation.
            let row = |j: usize| if n % 3 == 0 { n - 1 - j } else { (j * 3 + 1) % n };
            let mut a = vec![0.0; n * n];
            (0..n).for_each(|j| a[j * n + row(j)] = 1.0);
            let factors = factor(n, &a).unwrap();
            check(n, &a, &factors);
            let identity =
                (0..storage(n)).map(|at| f64::from(u8::from(at % (leading(n) + 1) == 0 && at / leading(n) < n)));
            assert!(factors.0.iter().copied().eq(identity), "n = {n}");
        }
    }

    #[test]
    fn graded_tiny_and_huge_matrices_are_factored_as_well() {
        for n in [1, 7, 8, 30, 65, 100] {
            let a = random(n, 5);
            for scale in [1e300, 1e-300, 1e-310] {
                let a: Vec<f64> = a.iter().map(|v| v * scale).collect();
                check(n, &a, &factor(n, &a).unwrap());
            }
            let grade = |k: usize| 0.05_f64.powi((k % n + k / n) as i32);
            let graded: Vec<f64> = a.iter().enumerate().map(|(k, v)| v * grade(k)).collect();
            check(n, &graded, &factor(n, &graded).unwrap());
            // Below the smallest normal number the column is divided, not multiplied by a reciprocal.
            let a: Vec<f64> = a.iter().enumerate().map(|(k, v)| if k < n { v * 1e-312 } else { *v }).collect();
            check(n, &a, &factor(n, &a).unwrap());
        }
    }

    #[test]
    fn overflow_is_no_panic_and_not_singular() {
        for n in 2..=70 {
            let a: Vec<f64> = random(n, 6).iter().map(|v| v.signum() * f64::MAX).collect();
            let overflows = |factors: Factors| factors.0.iter().any(|v| !v.is_finite());
            assert!(factor(n, &a).is_ok_and(overflows) || n < 8, "n = {n}");
        }
    }

    #[test]
    fn the_place_in_memory_does_not_change_a_bit() {
        let (n, mut pivots) = (61, vec![0; 61]);
        let (expected, _) = factor(n, &random(n, 8)).unwrap();
        for offset in 0..8 {
            let mut buffer = [vec![0.0; offset], padded(n, &random(n, 8))].concat();
            lu(n, &mut buffer[offset..], &mut pivots).unwrap();
            assert!(buffer[offset..].iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }

    /// The fastest of many runs, paired with the kernel's.
    #[test]
    #[ignore = "prints times; for a release build on a quiet machine"]
    fn small_times() {
        let kernel = Kernel::with_threads(1);
        for n in [8, 16, 24, 32, 50, 64, 99, 100, 128, 150, 200, 256, 300, 350, 400, 500] {
            let (a, mut buffer) = (random(n, 1), vec![0.0; storage(n) + PANEL]);
            let (source, aligned) = (padded(n, &a), buffer.as_ptr().align_offset(64));
            let ours = &mut buffer[aligned..][..source.len()];
            let (mut theirs, mut exchanges, mut pivots) = (a.clone(), Pivots::default(), vec![0; n]);
            let mut best = [f64::MAX; 2];
            for _ in 0..200_000 / n {
                ours.copy_from_slice(&source);
                theirs.copy_from_slice(&a);
                let start = Instant::now();
                lu(n, ours, &mut pivots).unwrap();
                let between = Instant::now();
                kernel.factor(n, &mut theirs, &mut exchanges, Stage::unwatched()).unwrap();
                let times = [between - start, between.elapsed()].map(|time| time.as_secs_f64() * 1e6);
                best = [best[0].min(times[0]), best[1].min(times[1])];
            }
            println!("{n:4}: {:8.2} us, kernel {:8.2} us, {:.2} of it", best[0], best[1], best[0] / best[1]);
        }
    }
}
