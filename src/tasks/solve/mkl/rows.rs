//! LU of the transpose of what is stored, on one thread: faster than `getrf` where [`Blas::PAYS`] says so.
//!
//! `getrf` exchanges rows, which lie strided in a column-major matrix: a tenth of its time, most of it cache misses. What
//! the transpose exchanges are columns of the stored matrix S, each in one piece. S' = P L U gives S = U' L' P': in the
//! place of S stand U' below and on its diagonal, and L' above it, whose own diagonal of ones is not stored. A step
//! takes some rows of S over all columns that are left, halves them again and again, and factors a [`LEAF`] of them as
//! the tall matrix that they are when transposed; all the rest is `trsm` and `gemm`. Pivots are chosen as by `getrf` of
//! S', so the factors are as stable.
//!
//! Invariants: the bits depend on S and n only; every call reads and writes inside S or the panel, which [`Rows`] checks
//! from ranges; no call does more than about [`PIECE`] flops, after which the watch is asked.

use std::ffi::{c_char, c_int};
use std::ops::Range;

use lapack_sys::{dgetrf_, sgetrf_};

use super::super::kernel::{Broken, Factorisation, Op, Stage};
use super::ffi::{
    Gemm, Getrf, Omatcopy, Trsm, Trsv, dgemm_, dtrsm_, dtrsv_, mkl_domatcopy, mkl_somatcopy, sgemm_, strsm_, strsv_,
};
use super::{LOWER, UPPER, int, trans};

/// Rows that are transposed and factored at once. With fewer the products are too flat, with more the strided exchanges
/// within them tell.
const LEAF: usize = 32;
/// Rows of a step: 256 and 384 are slower below n = 2500 and no faster up to 5000.
const STEP: usize = 128;
/// Flops after which the watch is asked: 0.1 s at 40 GFLOP/s, which is f64 on a core with AVX2.
const PIECE: usize = 4_000_000_000;

/// What one precision calls, and where it pays.
pub(in crate::tasks::solve) trait Blas: bytemuck::Pod {
    #[doc(hidden)]
    const GEMM: Gemm<Self>;
    #[doc(hidden)]
    const TRSM: Trsm<Self>;
    #[doc(hidden)]
    const TRSV: Trsv<Self>;
    #[doc(hidden)]
    const GETRF: Getrf<Self>;
    #[doc(hidden)]
    const OMATCOPY: Omatcopy<Self>;
    #[doc(hidden)]
    const ONE: Self;
    #[doc(hidden)]
    const MINUS: Self;
    /// The n for which this is at least 3 % faster than `getrf`, on one AVX-512 core (Sapphire Rapids), leaving out what
    /// is over in a tenth of a millisecond:
    /// `cargo test --release --locked --lib lu_by_rows_against -- --ignored --nocapture`.
    #[doc(hidden)]
    const PAYS: Range<usize>;
}

impl Blas for f32 {
    const GEMM: Gemm<f32> = sgemm_;
    const TRSM: Trsm<f32> = strsm_;
    const TRSV: Trsv<f32> = strsv_;
    const GETRF: Getrf<f32> = sgetrf_;
    const OMATCOPY: Omatcopy<f32> = mkl_somatcopy;
    const ONE: f32 = 1.0;
    const MINUS: f32 = -1.0;
    const PAYS: Range<usize> = 160..usize::MAX;
}

impl Blas for f64 {
    const GEMM: Gemm<f64> = dgemm_;
    const TRSM: Trsm<f64> = dtrsm_;
    const TRSV: Trsv<f64> = dtrsv_;
    const GETRF: Getrf<f64> = dgetrf_;
    const OMATCOPY: Omatcopy<f64> = mkl_domatcopy;
    const ONE: f64 = 1.0;
    const MINUS: f64 = -1.0;
    const PAYS: Range<usize> = 160..520;
}

/// Numbers of the panel that [`factor`] wants.
pub(super) fn panel_len(n: usize) -> usize {
    n * LEAF.min(n)
}

/// Factors the transpose of the n x n matrix `s` in place, as the module says. `exchanges` gets, from 1, the column of S
/// that each one was exchanged with.
///
/// # Errors
/// [`Broken::At`] with 0: a pivot is zero, but its number is that of the transpose. [`Broken::Stopped`].
pub(super) fn factor<T: Blas>(
    n: usize,
    s: &mut [T],
    exchanges: &mut [c_int],
    panel: &mut [T],
    stage: Stage<'_>,
) -> Result<(), Broken> {
    factor_in_pieces(n, s, exchanges, panel, stage, PIECE)
}

fn factor_in_pieces<T: Blas>(
    n: usize,
    s: &mut [T],
    exchanges: &mut [c_int],
    panel: &mut [T],
    stage: Stage<'_>,
    piece: usize,
) -> Result<(), Broken> {
    assert!(s.len() == n * n && exchanges.len() == n && panel.len() >= panel_len(n), "S n x n, n exchanges, the panel");
    let mut matrix = Rows { n, s, exchanges, panel };
    report(stage, 0.0)?;
    let mut start = 0;
    while start < n {
        // A short last step would be all overhead.
        let done = start..if n - start <= STEP + STEP / 2 { n } else { start + STEP };
        let rest = done.end..n;
        matrix.factor_rows(done.clone())?;
        matrix.exchange(done.clone(), 0..start);
        matrix.exchange(done.clone(), rest.clone());
        for rows in pieces(rest.clone(), piece / (STEP * STEP)) {
            matrix.substitute(done.clone(), rows);
            stage.watch.check().map_err(Broken::Stopped)?;
        }
        for columns in pieces(rest.clone(), piece / (2 * STEP * rest.len().max(1))) {
            let of_it = (columns.end - rest.start) as f64 / rest.len() as f64;
            matrix.update(rest.clone(), done.clone(), columns);
            report(stage, (start as f64 + STEP as f64 * of_it) / n as f64)?;
        }
        start = rest.start;
    }
    report(stage, 1.0)
}

/// Tells the watch which share of the columns is done, and asks it.
fn report(stage: Stage<'_>, columns: f64) -> Result<(), Broken> {
    stage.watch.advance(stage.whole * Factorisation::Lu.share(columns));
    stage.watch.check().map_err(Broken::Stopped)
}

/// The range in parts of `len`, or of as few as a product is still fast with.
fn pieces(range: Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> {
    let (len, end) = (len.max(16), range.end);
    range.step_by(len).map(move |start| start..(start + len).min(end))
}

/// S under way.
struct Rows<'a, T> {
    n: usize,
    s: &'a mut [T],
    exchanges: &'a mut [c_int],
    panel: &'a mut [T],
}

impl<T: Blas> Rows<'_, T> {
    /// Factors these rows over all columns from theirs on, with the exchanges in these rows only.
    fn factor_rows(&mut self, rows: Range<usize>) -> Result<(), Broken> {
        if rows.len() <= LEAF {
            return self.factor_leaf(rows);
        }
        let middle = rows.start + (rows.len() / 2).next_multiple_of(LEAF);
        let (first, second) = (rows.start..middle, middle..rows.end);
        self.factor_rows(first.clone())?;
        self.exchange(first.clone(), second.clone());
        self.substitute(first.clone(), second.clone());
        self.update(second.clone(), first.clone(), middle..self.n);
        self.factor_rows(second.clone())?;
        self.exchange(second, first);
        Ok(())
    }

    fn factor_leaf(&mut self, rows: Range<usize>) -> Result<(), Broken> {
        let (n, width, height) = (self.n, rows.len(), self.n - rows.start);
        assert!(rows.end <= n && self.panel.len() >= width * height, "rows of S and room for them");
        let corner = rows.start * (n + 1);
        let exchanges = &mut self.exchanges[rows.clone()];
        let panel = self.panel.as_mut_ptr();
        let mut info = 0;
        // SAFETY: from `corner` on S has `height` columns of at least `width` numbers, n apart; the panel has as many, and
        // `exchanges` is `width` long and `width` <= `height`. All are exclusively borrowed, and none is another.
        unsafe {
            let s = self.s[corner..].as_mut_ptr();
            (T::OMATCOPY)(COLUMNS, trans(Op::Transposed), width, height, T::ONE, s, n, panel, height);
            (T::GETRF)(&int(height), &int(width), panel, &int(height), exchanges.as_mut_ptr(), &mut info);
            (T::OMATCOPY)(COLUMNS, trans(Op::Transposed), height, width, T::ONE, panel, height, s, n);
        }
        assert!(info >= 0, "getrf refused an argument");
        exchanges.iter_mut().for_each(|with| *with += int(rows.start));
        if info > 0 { Err(Broken::At(0)) } else { Ok(()) }
    }

    /// What the exchanges of the columns `of` mean for these rows.
    fn exchange(&mut self, of: Range<usize>, rows: Range<usize>) {
        if rows.is_empty() {
            return;
        }
        for column in of {
            let with = self.exchanges[column] as usize - 1;
            if with != column {
                let (left, right) = self.s.split_at_mut(with * self.n);
                left[column * self.n..][rows.clone()].swap_with_slice(&mut right[rows.clone()]);
            }
        }
    }

    /// The rows, in the columns `of`, times the inverse of L', which stands in the rows `of`: another part of U'.
    fn substitute(&mut self, of: Range<usize>, rows: Range<usize>) {
        let n = self.n;
        assert!(of.end <= rows.start && rows.end <= n && self.s.len() == n * n, "rows of S below those");
        let s = self.s.as_mut_ptr();
        // SAFETY: both parts lie within S, which is exclusively borrowed and has columns of n numbers, and they have no row
        // in common.
        unsafe {
            (T::TRSM)(
                &RIGHT,
                &UPPER,
                &trans(Op::Plain),
                &UNIT,
                &int(rows.len()),
                &int(of.len()),
                &T::ONE,
                s.add(of.start * n + of.start),
                &int(n),
                s.add(of.start * n + rows.start),
                &int(n),
            );
        }
    }

    /// S(rows, columns) -= S(rows, inner) S(inner, columns).
    fn update(&mut self, rows: Range<usize>, inner: Range<usize>, columns: Range<usize>) {
        let n = self.n;
        let apart = inner.end <= rows.start && inner.end <= columns.start;
        assert!(apart && rows.end <= n && columns.end <= n && self.s.len() == n * n, "parts of S, apart");
        let s = self.s.as_mut_ptr();
        // SAFETY: the three parts lie within S, which is exclusively borrowed and has columns of n numbers; the one that
        // is written has no column in common with the first, and no row with the second.
        unsafe {
            (T::GEMM)(
                &trans(Op::Plain),
                &trans(Op::Plain),
                &int(rows.len()),
                &int(columns.len()),
                &int(inner.len()),
                &T::MINUS,
                s.add(inner.start * n + rows.start),
                &int(n),
                s.add(columns.start * n + inner.start),
                &int(n),
                &T::ONE,
                s.add(columns.start * n + rows.start),
                &int(n),
            );
        }
    }
}

/// Solves op(S) X = B with the factors of [`factor`]; `b` holds B, n numbers a column, and then X.
pub(super) fn solve<T: Blas>(op: Op, n: usize, s: &[T], exchanges: &[c_int], b: &mut [T]) {
    assert!(s.len() == n * n && exchanges.len() == n && b.len().is_multiple_of(n), "factors n x n, B n x nrhs");
    match op {
        Op::Plain => {
            substitute_all((LOWER, NOT_UNIT), op, n, s, b);
            substitute_all((UPPER, UNIT), op, n, s, b);
            for column in b.chunks_exact_mut(n) {
                exchanges.iter().enumerate().rev().for_each(|(i, with)| column.swap(i, *with as usize - 1));
            }
        }
        Op::Transposed => {
            for column in b.chunks_exact_mut(n) {
                exchanges.iter().enumerate().for_each(|(i, with)| column.swap(i, *with as usize - 1));
            }
            substitute_all((UPPER, UNIT), op, n, s, b);
            substitute_all((LOWER, NOT_UNIT), op, n, s, b);
        }
    }
}

/// Solves op(T) X = B for one triangle of `s`.
fn substitute_all<T: Blas>((triangle, unit): (c_char, c_char), op: Op, n: usize, s: &[T], b: &mut [T]) {
    let (order, nrhs, trans, one) = (int(n), int(b.len() / n), trans(op), 1);
    assert!(s.len() == n * n && b.len().is_multiple_of(n), "S n x n, B n x nrhs");
    let (s, b) = (s.as_ptr(), b.as_mut_ptr());
    // SAFETY: `s` is n x n and `b` n x nrhs, checked above; `b` is exclusively borrowed, `s` is only read.
    unsafe {
        if nrhs == 1 {
            (T::TRSV)(&triangle, &trans, &unit, &order, s, &order, b, &one);
        } else {
            (T::TRSM)(&LEFT, &triangle, &trans, &unit, &order, &nrhs, &T::ONE, s, &order, b, &order);
        }
    }
}

const LEFT: c_char = b'L' as c_char;
const RIGHT: c_char = b'R' as c_char;
const UNIT: c_char = b'U' as c_char;
const NOT_UNIT: c_char = b'N' as c_char;
/// `omatcopy`'s column-major.
const COLUMNS: c_char = b'C' as c_char;

#[cfg(test)]
mod tests {
    use super::super::super::System;
    use super::*;
    use crate::task::{TaskError, Watch};

    /// Around every boundary: the leaf, the halving of a step, the step.
    const SIZES: [usize; 20] = [1, 2, 31, 32, 33, 63, 64, 65, 95, 97, 127, 128, 129, 159, 161, 193, 255, 257, 300, 385];

    struct Factors<T> {
        s: Vec<T>,
        exchanges: Vec<c_int>,
    }

    fn factors<T: Blas>(n: usize, mut s: Vec<T>, piece: usize) -> Result<Factors<T>, Broken> {
        let (mut exchanges, mut panel) = (vec![0; n], vec![T::zeroed(); panel_len(n)]);
        let watch = Watch::default();
        let stage = Stage { watch: &watch, whole: 0.5 };
        factor_in_pieces(n, &mut s, &mut exchanges, &mut panel, stage, piece)?;
        assert_eq!(watch.share(), 0.5);
        Ok(Factors { s, exchanges })
    }

    /// U' L' P', by plain loops.
    fn product(n: usize, factors: &Factors<f64>) -> Vec<f64> {
        let mut s = vec![0.0; n * n];
        for (j, column) in s.chunks_exact_mut(n).enumerate() {
            for k in 0..=j {
                let l = if k == j { 1.0 } else { factors.s[j * n + k] };
                assert!(l.abs() <= 1.0 + 1e-6, "no pivot was the largest in its row");
                (k..n).for_each(|i| column[i] += factors.s[k * n + i] * l);
            }
        }
        for (j, with) in factors.exchanges.iter().enumerate().rev() {
            (0..n).for_each(|i| s.swap(j * n + i, (*with as usize - 1) * n + i));
        }
        s
    }

    /// What textbook elimination of the transpose exchanges.
    fn textbook(n: usize, s: &[f64]) -> Vec<c_int> {
        let mut s = s.to_vec();
        let exchange = |k: usize| {
            let with = (k..n).fold(k, |best, j| if s[j * n + k].abs() > s[best * n + k].abs() { j } else { best });
            (0..n).for_each(|i| s.swap(k * n + i, with * n + i));
            for j in k + 1..n {
                let l = s[j * n + k] / s[k * n + k];
                (k + 1..n).for_each(|i| s[j * n + i] -= l * s[k * n + i]);
            }
            int(with + 1)
        };
        (0..n).map(exchange).collect()
    }

    #[test]
    fn the_factors_are_those_of_the_stored_matrix_around_every_boundary() {
        for n in SIZES {
            let s = System::random(n, 1, n as u64).a.into_vec();
            let near = |product: &[f64], unit: f64| {
                let off = product.iter().zip(&s).map(|(found, s)| (found - s).abs()).fold(0.0, f64::max);
                assert!(off <= n as f64 * unit, "{n}: {off:e}");
            };
            // In one piece, and in the smallest ones.
            for piece in [PIECE, 1] {
                let double = factors(n, s.clone(), piece).unwrap();
                assert_eq!(double.exchanges, textbook(n, &s), "{n}");
                near(&product(n, &double), f64::EPSILON);
                let single = factors(n, s.iter().map(|v| *v as f32).collect(), piece).unwrap();
                let s = single.s.iter().map(|v| f64::from(*v)).collect();
                near(&product(n, &Factors { s, exchanges: single.exchanges }), f64::from(f32::EPSILON));
            }
        }
    }

    #[test]
    fn a_zero_pivot_anywhere_ends_it() {
        for n in [1, 31, 33, 150, 300] {
            for at in [0, n / 3, n - 1] {
                let s = System::random(n, 1, 7).a.into_vec();
                let (mut row, mut column) = (s.clone(), s);
                (0..n).for_each(|j| row[j * n + at] = 0.0);
                column[at * n..][..n].fill(0.0);
                for s in [row, column, vec![0.0; n * n]] {
                    assert_eq!(factors(n, s, PIECE).err(), Some(Broken::At(0)), "{n} {at}");
                }
            }
        }
    }

    #[test]
    fn the_address_changes_no_bit() {
        let n = 333;
        let s: Vec<f32> = System::random(n, 1, 3).a.into_vec().iter().map(|v| *v as f32).collect();
        let expected = factors(n, s.clone(), PIECE).unwrap();
        for shift in [1, 3, 8] {
            let (mut moved, mut panel) = (vec![0.0; n * n + shift], vec![0.0; panel_len(n) + shift]);
            let mut exchanges = vec![0; n];
            moved[shift..].copy_from_slice(&s);
            let stage = Stage { watch: &Watch::default(), whole: 1.0 };
            factor(n, &mut moved[shift..], &mut exchanges, &mut panel[shift..], stage).unwrap();
            assert!(moved[shift..].iter().zip(&expected.s).all(|(a, b)| a.to_bits() == b.to_bits()), "{shift}");
            assert_eq!(exchanges, expected.exchanges);
        }
    }

    #[test]
    fn it_stops_when_the_watch_says_so() {
        let n = 300;
        let watch = Watch::default();
        watch.cancel();
        let stage = Stage { watch: &watch, whole: 1.0 };
        let mut s = System::random(n, 1, 3).a.into_vec();
        let stopped = factor(n, &mut s, &mut vec![0; n], &mut vec![0.0; panel_len(n)], stage);
        assert_eq!(stopped, Err(Broken::Stopped(TaskError::Cancelled)));
    }

    #[test]
    fn pieces_are_the_range() {
        for (range, len) in [(5..5, 1), (5..6, 1), (3..100, 16), (3..100, 97), (0..100, 1000)] {
            let all: Vec<usize> = pieces(range.clone(), len).flatten().collect();
            assert_eq!(all, range.collect::<Vec<_>>());
        }
    }
}
