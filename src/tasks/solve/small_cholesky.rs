//! Cholesky of small matrices, on one thread: up to [`max_size`] faster than MKL's, which goes column by column there.
//!
//! The result is LAPACK's (`dpotrf`, lower), with a leading dimension of [`leading`], so that `dpotrs` takes it. Sums are
//! fused and ordered differently: the factors agree to rounding, not to the bit. The same numbers give the same bits on
//! the same kind of CPU wherever they lie in memory.
//!
//! Left-looking, in panels as wide as the widest vector. A tile of a panel stays in registers from its first product with
//! the columns before to its last step of substitution; a panel's first tile has the diagonal in its first rows. Above the
//! diagonal and outside the matrix tiles compute nonsense: that costs less than leaving it out, and never reaches a number
//! of L, since a lane is a row of its own and the multipliers are rows of L. As in [`super::small`] there are no closures,
//! and `inline(always)` is what makes a function use the instructions that `pulp` picks.
//!
//! Limits: f64, elements below 2^1022; one above may cost two bits.
#![allow(clippy::needless_range_loop, reason = "tiles of registers are written with their indices")]

use pulp::{Arch, Simd, WithSimd};

use super::kernel::Broken;
use super::small::{PANEL, leading, load, storage, store};

/// The largest n for which [`cholesky`] is clearly faster than MKL's `dpotrf` with AVX-512. Measured on one core of a
/// Sapphire Rapids with `cargo test --release --locked --lib small_cholesky -- --ignored --nocapture`: 0.5 of MKL's time at
/// n = 50, 0.4 at 100, 0.55 at 200, 0.7 at 300, 0.8 at 400, 0.9 at 500.
const MAX_AVX512: usize = 400;

/// The same on narrower vectors: both with AVX2, 0.8 at n = 50, 0.9 at 100, as long at 150. Not measured with NEON.
const MAX_NARROW: usize = 150;

/// The largest n for which [`cholesky`] is worth calling on this CPU.
pub(super) fn max_size() -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Arch::V4(_) = Arch::new() {
        return MAX_AVX512;
    }
    MAX_NARROW
}

/// Copies the symmetric n x n matrix `a`, both of its triangles, into `out`, laid out as [`storage`] says.
/// Returns its infinity norm: NaN or infinite if an element is, or if the sum of a row overflows.
pub(super) fn copy(n: usize, a: &[f64], out: &mut [f64]) -> f64 {
    assert!(a.len() == n * n && out.len() == storage(n), "A n x n, a storage for it");
    Arch::new().dispatch(Copy { n, a, out })
}

struct Copy<'a> {
    n: usize,
    a: &'a [f64],
    out: &'a mut [f64],
}

impl WithSimd for Copy<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let Copy { n, a, out } = self;
        let mut norm = 0.0;
        for (column, out) in a.chunks_exact(n).zip(out.chunks_exact_mut(leading(n))) {
            let mut sums = simd.splat_f64s(0.0);
            let (vectors, rest) = S::as_simd_f64s(column);
            let (out, _) = S::as_mut_simd_f64s(out);
            for (out, vector) in out.iter_mut().zip(vectors) {
                sums = simd.add_f64s(sums, simd.abs_f64s(*vector));
                *out = *vector;
            }
            if !rest.is_empty() {
                let vector = simd.partial_load_f64s(rest);
                sums = simd.add_f64s(sums, simd.abs_f64s(vector));
                out[vectors.len()] = vector;
            }
            let sum = simd.reduce_sum_f64s(sums);
            if sum > norm || sum.is_nan() {
                norm = sum;
            }
        }
        norm
    }
}

/// Cholesky factorisation L L' of the symmetric n x n matrix whose lower triangle is in `a`, in place; `a` is laid out as
/// [`storage`] says. What lies outside the triangle may be anything, is not looked at, and may change.
///
/// # Errors
/// [`Broken::At`]: the leading minor of that order is not positive.
pub(super) fn cholesky(n: usize, a: &mut [f64]) -> Result<(), Broken> {
    assert_eq!(a.len(), storage(n), "A in its storage");
    Arch::new().dispatch(Cholesky { n, a })
}

struct Cholesky<'a> {
    n: usize,
    a: &'a mut [f64],
}

impl WithSimd for Cholesky<'_> {
    type Output = Result<(), Broken>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        if const { S::F64_LANES == PANEL } { self.factor::<S, 8>(simd) } else { self.factor::<S, 4>(simd) }
    }
}

impl Cholesky<'_> {
    /// Panels of C columns, tiles of up to three vectors of rows: with 8 columns their sums fill the registers of AVX-512,
    /// with 4 those of AVX2. The first tile has to hold the diagonal, whence four where a vector is a single number.
    #[inline(always)]
    fn factor<S: Simd, const C: usize>(self, simd: S) -> Result<(), Broken> {
        let Cholesky { n, a } = self;
        let (ld, bottom) = (leading(n), n.next_multiple_of(PANEL));
        let most = if const { S::F64_LANES * 3 >= C } { 3 } else { 4 };
        for first in (0..n).step_by(C) {
            let (left, rest) = a.split_at_mut(first * ld);
            let columns = &mut rest[..C * ld];
            let mut panel = Panel { simd, n, ld, first, left, columns, inverses: [0.0; C] };
            let mut top = first;
            while top < bottom {
                let height = ((bottom - top) / S::F64_LANES).min(most);
                match height {
                    1 => panel.tile::<1>(top)?,
                    2 => panel.tile::<2>(top)?,
                    3 => panel.tile::<3>(top)?,
                    _ => panel.tile::<4>(top)?,
                }
                top += height * S::F64_LANES;
            }
        }
        Ok(())
    }
}

/// Calls a macro with each column of a panel and the columns after it. Literals: what a loop counts would not become the
/// constants that tiles need to stay in registers.
macro_rules! triangle {
    ($step:ident) => {
        $step!(0: 1 2 3 4 5 6 7);
        $step!(1: 2 3 4 5 6 7);
        $step!(2: 3 4 5 6 7);
        $step!(3: 4 5 6 7);
        $step!(4: 5 6 7);
        $step!(5: 6 7);
        $step!(6: 7);
        $step!(7:);
    };
}

/// C columns, of which `first` is the first one's number, and all factored ones left of them.
struct Panel<'a, S: Simd, const C: usize> {
    simd: S,
    n: usize,
    ld: usize,
    first: usize,
    left: &'a [f64],
    columns: &'a mut [f64],
    /// Of L's diagonal, once the first tile is done.
    inverses: [f64; C],
}

/// R vectors of rows of C columns.
type Tile<S, const R: usize, const C: usize> = [[<S as Simd>::f64s; R]; C];

impl<S: Simd, const C: usize> Panel<'_, S, C> {
    /// Makes R vectors of rows L's.
    #[inline(always)]
    fn tile<const R: usize>(&mut self, top: usize) -> Result<(), Broken> {
        let mut x = self.product::<R>(top);
        if top == self.first {
            self.factor(&mut x)?;
        } else {
            self.substitute(&mut x);
        }
        for c in 0..C {
            for r in 0..R {
                store::<S>(self.columns, c * self.ld + top + r * S::F64_LANES, x[c][r]);
            }
        }
        Ok(())
    }

    /// The rows less their products with the panel's first ones, over all columns left of it.
    #[inline(always)]
    fn product<const R: usize>(&self, top: usize) -> Tile<S, R, C> {
        let (simd, ld) = (self.simd, self.ld);
        let mut x = [[simd.splat_f64s(0.0); R]; C];
        for c in 0..C {
            for r in 0..R {
                x[c][r] = load::<S>(self.columns, c * ld + top + r * S::F64_LANES);
            }
        }
        for column in self.left.chunks_exact(ld) {
            let l = S::as_simd_f64s(&column[top..][..R * S::F64_LANES]).0;
            let u = &column[self.first..][..C];
            for c in 0..C {
                let u = simd.splat_f64s(u[c]);
                for r in 0..R {
                    x[c][r] = simd.negate_mul_add_e_f64s(l[r], u, x[c][r]);
                }
            }
        }
        x
    }

    /// The first tile: Cholesky's steps, one column after the other. Each waits for the last one's pivot, so the products
    /// are taken with the column divided by the pivot, and the square root has time: a third less for n = 50.
    #[inline(always)]
    #[allow(unused_variables, unused_assignments, reason = "after the last column there is none to take a product off")]
    fn factor<const R: usize>(&mut self, x: &mut Tile<S, R, C>) -> Result<(), Broken> {
        let simd = self.simd;
        macro_rules! step {
            ($k:literal: $($c:literal)*) => {
                if $k < C && self.first + $k < self.n {
                    let pivot = number::<S, R, $k>(&x[$k]);
                    if pivot.is_nan() || pivot <= 0.0 {
                        return Err(Broken::At((self.first + $k) as u64 + 1));
                    }
                    let mut inverse = 1.0 / pivot.sqrt();
                    self.inverses[$k] = inverse;
                    let mut reciprocal = 1.0 / pivot;
                    if pivot < f64::MIN_POSITIVE {
                        // That one may have overflowed; the root's does not.
                        scale(simd, &mut x[$k], inverse);
                        (inverse, reciprocal) = (1.0, 1.0);
                    }
                    $(
                        if $c < C {
                            let u = simd.splat_f64s(number::<S, R, $c>(&x[$k]) * reciprocal);
                            for r in 0..R {
                                x[$c][r] = simd.negate_mul_add_e_f64s(x[$k][r], u, x[$c][r]);
                            }
                        }
                    )*
                    scale(simd, &mut x[$k], inverse);
                }
            };
        }
        triangle!(step);
        Ok(())
    }

    /// The tiles below: times the inverse of the first tile's triangle, transposed.
    #[inline(always)]
    #[allow(unused_variables, reason = "after the last column there is none to take a product off")]
    fn substitute<const R: usize>(&self, x: &mut Tile<S, R, C>) {
        let simd = self.simd;
        macro_rules! step {
            ($k:literal: $($c:literal)*) => {
                if $k < C {
                    let l = &self.columns[$k * self.ld + self.first..][..C];
                    scale(simd, &mut x[$k], self.inverses[$k]);
                    $(
                        if $c < C {
                            let l = simd.splat_f64s(l[$c]);
                            for r in 0..R {
                                x[$c][r] = simd.negate_mul_add_e_f64s(x[$k][r], l, x[$c][r]);
                            }
                        }
                    )*
                }
            };
        }
        triangle!(step);
    }
}

#[inline(always)]
fn scale<S: Simd, const R: usize>(simd: S, x: &mut [S::f64s; R], by: f64) {
    for r in 0..R {
        x[r] = simd.mul_f64s(x[r], simd.splat_f64s(by));
    }
}

/// Row K. A copy is looked into, so that the tile need not be in memory.
#[inline(always)]
fn number<S: Simd, const R: usize, const K: usize>(x: &[S::f64s; R]) -> f64 {
    let vector = x[K / S::F64_LANES];
    bytemuck::cast_slice::<S::f64s, f64>(std::slice::from_ref(&vector))[K % S::F64_LANES]
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::tasks::solve::System;
    use crate::tasks::solve::kernel::{Kernel, Stage};
    use crate::tasks::solve::matrix::Order;
    use crate::tasks::solve::scan;

    /// G G' / n of a random G, column-major: as ill-conditioned as n^2.
    fn positive(n: usize, seed: u64) -> Vec<f64> {
        let g = System::random(n, 1, seed).a.as_slice().to_vec();
        let mut a = vec![0.0; n * n];
        for column in g.chunks_exact(n) {
            for j in 0..n {
                a[j * n..][..n].iter_mut().zip(column).for_each(|(a, g)| *a += g * column[j] / n as f64);
            }
        }
        a
    }

    /// The lower triangle, and NaN wherever nobody may look.
    fn padded(n: usize, a: &[f64]) -> Vec<f64> {
        let mut padded = vec![f64::NAN; storage(n)];
        for j in 0..n {
            padded[j * leading(n)..][j..n].copy_from_slice(&a[j * n..][j..n]);
        }
        padded
    }

    /// With these instructions and with those of older machines.
    fn factor_by_all(n: usize, a: &[f64]) -> Vec<Result<Vec<f64>, Broken>> {
        fn by(n: usize, a: &[f64], run: impl FnOnce(Cholesky<'_>) -> Result<(), Broken>) -> Result<Vec<f64>, Broken> {
            let mut l = padded(n, a);
            run(Cholesky { n, a: &mut l }).map(|()| l)
        }
        let mut all = vec![
            by(n, a, |Cholesky { n, a }| cholesky(n, a)),
            by(n, a, |task| Simd::vectorize(pulp::Scalar::new(), task)),
        ];
        #[cfg(target_arch = "x86_64")]
        all.extend(pulp::x86::V3::try_new().map(|v3| by(n, a, |task| Simd::vectorize(v3, task))));
        all
    }

    /// L L' = A up to n eps times the diagonal, in which L's rows are bounded.
    fn check(n: usize, a: &[f64]) {
        for l in factor_by_all(n, a) {
            let (l, ld) = (l.unwrap(), leading(n));
            for j in 0..n {
                for i in j..n {
                    let product: f64 = (0..=j).map(|k| l[k * ld + i] * l[k * ld + j]).sum();
                    let (error, scale) = ((product - a[j * n + i]).abs(), a[i * n + i].sqrt() * a[j * n + j].sqrt());
                    assert!(
                        error <= (n + 3) as f64 * (f64::EPSILON * scale + 5e-324),
                        "n = {n}, [{i}, {j}]: {error:e}"
                    );
                }
                assert!(l[j * ld + j] > 0.0);
            }
        }
    }

    #[test]
    fn matrices_of_every_size_are_factored_on_every_instruction_set() {
        for n in (1..=130).chain([159, 160, 161, 200, 257, max_size()]) {
            check(n, &positive(n, n as u64));
        }
    }

    #[test]
    fn factors_are_the_kernels() {
        let kernel = Kernel::with_threads(1);
        for n in 1..=100 {
            let mut a = positive(n, 1000 + n as u64);
            (0..n).for_each(|i| a[i * (n + 1)] += 1.0);
            let mut ours = padded(n, &a);
            cholesky(n, &mut ours).unwrap();
            kernel.cholesky(n, &mut a, Stage::unwatched()).unwrap();
            for j in 0..n {
                let (ours, theirs) = (&ours[j * leading(n)..][j..n], &a[j * n..][j..n]);
                assert!(ours.iter().zip(theirs).all(|(ours, theirs)| (ours - theirs).abs() <= 1e-13), "n = {n}");
            }
        }
    }

    #[test]
    fn the_first_pivot_that_is_not_positive_is_named() {
        for n in 1..=40 {
            for bad in 0..n {
                for value in [0.0, -0.0, -1.0, -f64::MAX, f64::NAN, f64::NEG_INFINITY] {
                    let mut a = positive(n, 3);
                    (0..n).for_each(|i| a[i * (n + 1)] += 1.0);
                    a[bad * (n + 1)] = value;
                    for l in factor_by_all(n, &a) {
                        assert_eq!(l.unwrap_err(), Broken::At(bad as u64 + 1), "n = {n}, {value}");
                    }
                }
                // Zero only after the elimination: the products of whole numbers are exact. Row i of L is 1 up to i.
                let a: Vec<f64> = (0..n * n).map(|k| (k % n).min(k / n).min(n - 1 - bad) as f64 + 1.0).collect();
                let expected = (n - bad < n).then(|| Broken::At((n - bad) as u64 + 1));
                assert!(factor_by_all(n, &a).into_iter().all(|l| l.err() == expected), "n = {n}, {bad}");
            }
        }
    }

    #[test]
    fn graded_tiny_and_huge_matrices_are_factored_as_well() {
        for n in [1, 7, 8, 30, 65, 100] {
            let mut a = positive(n, 5);
            (0..n).for_each(|i| a[i * (n + 1)] += 1.0);
            for scale in [1e300, 1e-300, 1e-310] {
                check(n, &a.iter().map(|v| v * scale).collect::<Vec<_>>());
            }
            // Pivots below the smallest normal number beside those of 1.
            for base in [0.05_f64, 1e-15, 1e-78] {
                let grade = |i: usize| base.powi((i % 3) as i32);
                check(n, &a.iter().enumerate().map(|(k, v)| v * grade(k % n) * grade(k / n)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_place_in_memory_and_what_lies_around_do_not_change_a_bit() {
        let n = 61;
        let a = positive(n, 8);
        let mut expected = padded(n, &a);
        cholesky(n, &mut expected).unwrap();
        for offset in 0..8 {
            let mut buffer = [vec![0.0; offset], padded(n, &a)].concat();
            buffer.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = offset as f64);
            cholesky(n, &mut buffer[offset..]).unwrap();
            for (j, column) in buffer[offset..].chunks_exact(leading(n)).enumerate().take(n) {
                let expected = &expected[j * leading(n)..][j..n];
                assert!(column[j..n].iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }

    #[test]
    fn a_copy_has_the_norm_and_shows_what_is_not_finite() {
        for n in 1..=70 {
            let mut a = positive(n, 9);
            let mut out = vec![f64::NAN; storage(n)];
            let (norm, expected) = (copy(n, &a, &mut out), scan::norm(n, n, Order::ColMajor, &a));
            assert!((norm - expected).abs() <= 1e-14 * norm, "n = {n}");
            for j in 0..n {
                assert!(out[j * leading(n)..].iter().zip(&a[j * n..][..n]).all(|(out, a)| out == a));
            }
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                a[n * n / 2] = bad;
                assert!(!copy(n, &a, &mut out).is_finite());
            }
        }
        assert_eq!(copy(2, &[1e308; 4], &mut [0.0; storage(2)]), f64::INFINITY);
    }

    /// The fastest of many runs, paired with the kernel's.
    #[test]
    #[ignore = "prints times; for a release build on a quiet machine"]
    fn small_cholesky_times() {
        let kernel = Kernel::with_threads(1);
        for n in [8, 16, 24, 32, 50, 64, 99, 100, 128, 150, 200, 256, 300, 350, 400, 500] {
            let (a, mut buffer) = (positive(n, 1), vec![0.0; storage(n) + PANEL]);
            let (source, aligned) = (padded(n, &a), buffer.as_ptr().align_offset(64));
            let ours = &mut buffer[aligned..][..source.len()];
            let mut theirs = a.clone();
            let mut best = [f64::MAX; 3];
            for _ in 0..200_000 / n {
                ours.copy_from_slice(&source);
                theirs.copy_from_slice(&a);
                let start = Instant::now();
                cholesky(n, ours).unwrap();
                let mut times = [start.elapsed(); 3];
                let start = Instant::now();
                kernel.cholesky(n, &mut theirs, Stage::unwatched()).unwrap();
                times[1] = start.elapsed();
                #[cfg(target_arch = "x86_64")]
                if let Some(v3) = pulp::x86::V3::try_new() {
                    ours.copy_from_slice(&source);
                    let start = Instant::now();
                    Simd::vectorize(v3, Cholesky { n, a: ours }).unwrap();
                    times[2] = start.elapsed();
                }
                best = std::array::from_fn(|i| best[i].min(times[i].as_secs_f64() * 1e6));
            }
            let [ours, kernel, narrow] = best;
            let share = ours / kernel;
            println!("{n:4}: {ours:8.2} us, kernel {kernel:8.2} us, {share:.2} of it; AVX2 {narrow:8.2} us");
        }
    }
}
