//! faer: the kernel without MKL, for every other platform. The only file that names faer.
//!
//! Limits: threads come from rayon's global pool, so more than its size are not used. LU and Cholesky ask the watch before
//! and after, for faer has no hook; QR, whose blocks are put together here, at each of them.

use dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt;
use faer::linalg::householder;
use faer::linalg::lu::partial_pivoting::{factor, solve};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::qr::no_pivoting::solve as qr_solve;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::perm::PermRef;
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, Conj, Mat, MatMut, MatRef, Par, Spec, dyn_stack};

use super::kernel::{Broken, Factorisation, Op, Stage, Triangle};

/// Which kernel this build uses.
pub(in crate::tasks::solve) const NAME: &str = "faer";

/// What it is.
pub(in crate::tasks::solve) fn version() -> String {
    "faer 0.24".to_owned()
}

/// Under what the same bits come out of the same task: the code path, which faer takes by what the CPU can do. With AVX2
/// or AVX-512 nothing else tells; elsewhere faer also cuts its sums by the size of the caches.
pub(in crate::tasks::solve) fn setting() -> String {
    // As faer's products choose; all else in it stays at AVX2 on stable Rust.
    #[cfg(target_arch = "x86_64")]
    let level = match (is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx2")) {
        (true, _) => "avx512",
        (false, true) if is_x86_feature_detected!("fma") => "avx2",
        _ => "x86_64",
    };
    #[cfg(not(target_arch = "x86_64"))]
    let level = std::env::consts::ARCH;
    format!("faer 0.24 {level}")
}

/// faer with a number of threads.
pub(in crate::tasks::solve) struct Kernel {
    threads: usize,
    par: Par,
}

/// Row exchanges of a factorisation: a permutation and its inverse.
#[derive(Default)]
pub(in crate::tasks::solve) struct Pivots {
    forward: Vec<u32>,
    inverse: Vec<u32>,
    /// LAPACK's, of a factorisation that is not faer's.
    exchanges: Vec<i32>,
}

impl Pivots {
    /// Places for LAPACK's row exchanges of n rows, counted from 1. To be followed by [`Pivots::adopt`].
    pub(in crate::tasks::solve) fn exchanges(&mut self, n: usize) -> &mut [i32] {
        self.exchanges.resize(n, 0);
        &mut self.exchanges
    }

    /// Takes what was written to [`Pivots::exchanges`].
    ///
    /// # Panics
    /// If one is no row.
    pub(in crate::tasks::solve) fn adopt(&mut self) {
        let n = self.exchanges.len();
        self.forward.clear();
        self.forward.extend(0..n as u32);
        for (row, exchange) in self.exchanges.iter().enumerate() {
            self.forward.swap(row, usize::try_from(exchange - 1).expect("rows are counted from 1"));
        }
        self.inverse.resize(n, 0);
        for (row, from) in self.forward.iter().enumerate() {
            self.inverse[*from as usize] = row as u32;
        }
    }

    /// Bytes held.
    pub(in crate::tasks::solve) fn bytes(&self) -> usize {
        (self.forward.capacity() + self.inverse.capacity() + self.exchanges.capacity()) * size_of::<u32>()
    }
}

/// What belongs to the triangle that [`Kernel::qr`] leaves: the triangular factors of its blocks of reflectors.
pub(in crate::tasks::solve) struct Reflectors(Mat<f64>);

/// f32 or f64.
pub(in crate::tasks::solve) trait Real: faer::traits::RealField + bytemuck::Pod {}

impl Real for f32 {}
impl Real for f64 {}

impl Kernel {
    /// faer's calls through this value use `threads` threads.
    pub(in crate::tasks::solve) fn with_threads(threads: usize) -> Self {
        let threads = threads.max(1);
        Kernel { threads, par: if threads == 1 { Par::Seq } else { Par::rayon(threads) } }
    }

    /// The number of threads.
    pub(in crate::tasks::solve) fn threads(&self) -> usize {
        self.threads
    }

    /// LU with partial pivoting of the n x n matrix `a`, in place.
    ///
    /// # Errors
    /// [`Broken`]: U is exactly singular, or the watch said to stop.
    pub(in crate::tasks::solve) fn factor<T: Real>(
        &self,
        n: usize,
        a: &mut [T],
        pivots: &mut Pivots,
        stage: Stage<'_>,
    ) -> Result<(), Broken> {
        go_on(stage)?;
        pivots.forward.resize(n, 0);
        pivots.inverse.resize(n, 0);
        let mut memory = MemBuffer::new(factor::lu_in_place_scratch::<u32, T>(n, n, self.par, Spec::default()));
        factor::lu_in_place(
            MatMut::from_column_major_slice_mut(a, n, n),
            &mut pivots.forward,
            &mut pivots.inverse,
            self.par,
            MemStack::new(&mut memory),
            Spec::default(),
        );
        finished(stage)?;
        // faer goes on after a zero pivot: what follows is not a number, what comes before is right.
        first_zero(a, n, n)
    }

    /// As [`Kernel::factor`], which works by columns here.
    ///
    /// # Errors
    /// As [`Kernel::factor`].
    pub(in crate::tasks::solve) fn factor_by_columns<T: Real>(
        &self,
        n: usize,
        a: &mut [T],
        pivots: &mut Pivots,
        stage: Stage<'_>,
    ) -> Result<(), Broken> {
        self.factor(n, a, pivots, stage)
    }

    /// Solves op(A) X = B with the factors of [`Kernel::factor`], or of [`super::small::lu`], whose columns are `stride`
    /// numbers apart; `b` holds B, n numbers a column, and then X.
    pub(in crate::tasks::solve) fn solve<T: Real>(
        &self,
        op: Op,
        (n, stride): (usize, usize),
        lu: &[T],
        pivots: &mut Pivots,
        b: &mut [T],
    ) {
        let nrhs = b.len() / n;
        let lu = MatRef::from_column_major_slice_with_stride(&lu[..stride * (n - 1) + n], n, n, stride);
        let permutation = PermRef::new_checked(&pivots.forward, &pivots.inverse, n);
        let mut memory = MemBuffer::new(
            solve::solve_in_place_scratch::<u32, T>(n, nrhs, self.par)
                .or(solve::solve_transpose_in_place_scratch::<u32, T>(n, nrhs, self.par)),
        );
        let stack = MemStack::new(&mut memory);
        let b = MatMut::from_column_major_slice_mut(b, n, nrhs);
        match op {
            Op::Plain => solve::solve_in_place(lu, lu, permutation, b, self.par, stack),
            Op::Transposed => solve::solve_transpose_in_place(lu, lu, permutation, b, self.par, stack),
        }
    }

    /// Cholesky factorisation L L' of the symmetric n x n matrix whose lower triangle is in `a`, in place.
    ///
    /// # Errors
    /// [`Broken`]: a leading minor is not positive, or the watch said to stop.
    pub(in crate::tasks::solve) fn cholesky<T: Real>(
        &self,
        n: usize,
        a: &mut [T],
        stage: Stage<'_>,
    ) -> Result<(), Broken> {
        go_on(stage)?;
        let mut memory = MemBuffer::new(llt::factor::cholesky_in_place_scratch::<T>(n, self.par, Spec::default()));
        let factored = llt::factor::cholesky_in_place(
            MatMut::from_column_major_slice_mut(a, n, n),
            llt::factor::LltRegularization::default(),
            self.par,
            MemStack::new(&mut memory),
            Spec::default(),
        );
        finished(stage)?;
        factored.map(|_| ()).map_err(|llt::factor::LltError::NonPositivePivot { index }| Broken::At(index as u64 + 1))
    }

    /// Solves A X = B with the factor of [`Kernel::cholesky`]; `b` holds B, n numbers a column, and then X.
    /// The factor's columns are `stride` numbers apart.
    pub(in crate::tasks::solve) fn cholesky_solve<T: Real>(&self, (n, stride): (usize, usize), l: &[T], b: &mut [T]) {
        let nrhs = b.len() / n;
        let mut memory = MemBuffer::new(llt::solve::solve_in_place_scratch::<T>(n, nrhs, self.par));
        llt::solve::solve_in_place(
            MatRef::from_column_major_slice_with_stride(&l[..stride * (n - 1) + n], n, n, stride),
            MatMut::from_column_major_slice_mut(b, n, nrhs),
            self.par,
            MemStack::new(&mut memory),
        );
    }

    /// Factors the stored rows x cols matrix `a` of full rank in place. In it remains the triangle R (upper, if rows >=
    /// cols) or L (lower), and the reflectors beside it.
    ///
    /// # Errors
    /// [`Broken`]: the triangle has a zero on its diagonal, or the watch said to stop.
    pub(in crate::tasks::solve) fn qr(
        &self,
        (rows, cols): (usize, usize),
        a: &mut [f64],
        stage: Stage<'_>,
    ) -> Result<Reflectors, Broken> {
        let (tall, rank) = (rows >= cols, rows.min(cols));
        // Narrow blocks for few columns: the copy of one shall be small beside A.
        let mut factors = Mat::zeros(BLOCK.min(rank.div_ceil(8)), rank);
        let stored = MatMut::from_column_major_slice_mut(a, rows, cols);
        // LQ of a wide S is QR of its transpose.
        let mut qr = if tall { stored } else { stored.transpose_mut() };
        self.qr_in_place(qr.rb_mut(), factors.as_mut(), stage)?;
        first_zero(a, rows, rank)?;
        finished(stage)?;
        Ok(Reflectors(factors))
    }

    /// Minimises ||b - op(S) x|| for the matrix S that [`Kernel::qr`] has factored to `a`, and of all such x takes the
    /// shortest. `b` holds max(rows, cols) numbers a column: B in the first ones, then X.
    pub(in crate::tasks::solve) fn qr_solve(
        &self,
        op: Op,
        (rows, cols): (usize, usize),
        a: &[f64],
        Reflectors(factors): &Reflectors,
        b: &mut [f64],
    ) {
        let (tall, height, rank) = (rows >= cols, rows.max(cols), rows.min(cols));
        let nrhs = b.len() / height;
        let stored = MatRef::from_column_major_slice(a, rows, cols);
        let qr = if tall { stored } else { stored.transpose() };
        let (factors, r) = (factors.as_ref(), qr.get(..rank, ..));
        let mut b = MatMut::from_column_major_slice_mut(b, height, nrhs);
        let mut memory = MemBuffer::new(
            qr_solve::solve_lstsq_in_place_scratch::<f64>(height, rank, factors.nrows(), nrhs, self.par)
                .or(qr_solve::solve_transpose_in_place_scratch::<f64>(height, factors.nrows(), nrhs, self.par)),
        );
        let stack = MemStack::new(&mut memory);
        if tall == (op == Op::Plain) {
            qr_solve::solve_lstsq_in_place(qr, factors, r, b, self.par, stack);
        } else {
            // The shortest x with R' Q' x = b.
            let (mut x, mut rest) = b.rb_mut().split_at_row_mut(rank);
            solve_lower_triangular_in_place(r.transpose(), x.rb_mut(), self.par);
            rest.fill(0.0);
            householder::apply_block_householder_sequence_on_the_left_in_place_with_conj(
                qr,
                factors,
                Conj::No,
                b,
                self.par,
                stack,
            );
        }
    }

    /// QR of a matrix with at least as many rows as columns, of any strides, in place: R, and below it the reflectors,
    /// whose triangular factors go to `factors`, a block as wide as that is high after the other.
    ///
    /// faer's own skips a column that depends on those before it to within 16 m roundings and leaves no triangle: at a
    /// million rows that is a condition of 3e8, which answers well. Hence its pieces, put together as LAPACK does.
    fn qr_in_place(
        &self,
        mut a: MatMut<'_, f64>,
        mut factors: MatMut<'_, f64>,
        stage: Stage<'_>,
    ) -> Result<(), Broken> {
        let ((m, n), block) = (a.shape(), factors.nrows());
        // A's columns may be far apart or not contiguous; those of a copy are.
        let mut copy = vec![0.0; m * block];
        let mut memory = MemBuffer::new(householder::apply_block_householder_transpose_on_the_left_in_place_scratch::<
            f64,
        >(m, block, n));
        let stack = MemStack::new(&mut memory);
        for first in (0..n).step_by(block) {
            go_on(stage)?;
            let width = block.min(n - first);
            let (mut left, right) = a.rb_mut().get_mut(first.., first..).split_at_col_mut(width);
            let mut panel = MatMut::from_column_major_slice_mut(&mut copy[..(m - first) * width], m - first, width);
            let mut factor = factors.rb_mut().get_mut(..width, first..first + width);
            panel.copy_from(left.rb());
            reflect(panel.rb_mut(), factor.rb_mut(), stack);
            left.copy_from(panel.rb());
            householder::apply_block_householder_transpose_on_the_left_in_place_with_conj(
                panel.rb(),
                factor.rb(),
                Conj::No,
                right,
                self.par,
                stack,
            );
            let done = (first + width) as f64 / n as f64;
            stage.watch.advance(stage.whole * Factorisation::Qr.share(done));
        }
        Ok(())
    }

    /// Solves op(T) X = B for a triangle of `a`; `b` holds B, n numbers a column, and then X. Nothing is checked: a zero on
    /// the diagonal gives infinities or NaN.
    pub(in crate::tasks::solve) fn triangular_solve(&self, triangle: Triangle, op: Op, a: &[f64], b: &mut [f64]) {
        let Triangle { upper, n, stride } = triangle;
        let nrhs = b.len() / n;
        let b = MatMut::from_column_major_slice_mut(b, n, nrhs);
        let a = MatRef::from_column_major_slice_with_stride(a, n, n, stride);
        let a = if op == Op::Plain { a } else { a.transpose() };
        if upper == (op == Op::Plain) {
            solve_upper_triangular_in_place(a, b, self.par);
        } else {
            solve_lower_triangular_in_place(a, b, self.par);
        }
    }

    /// R -= op(S) X for the stored rows x cols matrix S = `a`, all columns of X and R.
    pub(in crate::tasks::solve) fn residual(
        &self,
        op: Op,
        (rows, cols): (usize, usize),
        a: &[f64],
        x: &[f64],
        r: &mut [f64],
    ) {
        let (height, width) = if op == Op::Plain { (rows, cols) } else { (cols, rows) };
        let nrhs = r.len() / height;
        let a = MatRef::from_column_major_slice(a, rows, cols);
        let a = if op == Op::Plain { a } else { a.transpose() };
        let x = MatRef::from_column_major_slice(x, width, nrhs);
        let r = MatMut::from_column_major_slice_mut(r, height, nrhs);
        matmul(r, Accum::Add, a, x, -1.0, self.par);
    }

    /// R -= A X for the symmetric n x n matrix `a`. faer has no product that reads half of it for one column.
    pub(in crate::tasks::solve) fn symmetric_residual(&self, n: usize, a: &[f64], x: &[f64], r: &mut [f64]) {
        self.residual(Op::Plain, (n, n), a, x, r);
    }
}

/// Columns of QR that are reflected together, as LAPACK's.
const BLOCK: usize = 32;

/// QR of a narrow matrix, column by column, in place, and the triangular factor of its reflectors.
fn reflect(mut a: MatMut<'_, f64>, mut factor: MatMut<'_, f64>, stack: &mut MemStack) {
    let width = a.ncols();
    for column in 0..width {
        let (mut this, right) = a.rb_mut().get_mut(column.., column..).split_at_col_mut(1);
        let (mut head, tail) = this.rb_mut().split_at_row_mut(1);
        factor[(column, column)] = householder::make_householder_in_place(&mut head[(0, 0)], tail.col_mut(0)).tau;
        householder::apply_block_householder_transpose_on_the_left_in_place_with_conj(
            this.rb(),
            factor.rb().submatrix(column, column, 1, 1),
            Conj::No,
            right,
            Par::Seq,
            stack,
        );
    }
    // Above its diagonal the factor is V' V, V being lower triangular with ones on the diagonal.
    use BlockStructure::{Rectangular, StrictTriangularUpper, UnitTriangularLower, UnitTriangularUpper};
    let (top, rest) = a.rb().split_at_row(width);
    triangular::matmul(
        factor.rb_mut(),
        StrictTriangularUpper,
        Accum::Replace,
        top.transpose(),
        UnitTriangularUpper,
        top,
        UnitTriangularLower,
        1.0,
        Par::Seq,
    );
    triangular::matmul(
        factor,
        StrictTriangularUpper,
        Accum::Add,
        rest.transpose(),
        Rectangular,
        rest,
        Rectangular,
        1.0,
        Par::Seq,
    );
}

/// Whether the watch lets a factorisation go on.
fn go_on(stage: Stage<'_>) -> Result<(), Broken> {
    stage.watch.check().map_err(Broken::Stopped)
}

/// A factorisation is through, unless it need not have been.
fn finished(stage: Stage<'_>) -> Result<(), Broken> {
    stage.watch.advance(stage.whole);
    go_on(stage)
}

/// The first zero among `count` numbers of the diagonal of a column-major matrix.
fn first_zero<T: Real>(a: &[T], stride: usize, count: usize) -> Result<(), Broken> {
    match (0..count).position(|i| a[i * (stride + 1)] == T::zero_impl()) {
        Some(zero) => Err(Broken::At(zero as u64 + 1)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::System;
    use super::*;
    use crate::task::{TaskError, Watch};

    fn least_squares(op: Op, shape: (usize, usize), a: &mut [f64], b: &mut [f64]) -> Result<(), Broken> {
        let kernel = Kernel::with_threads(2);
        let reflectors = kernel.qr(shape, a, Stage::unwatched())?;
        kernel.qr_solve(op, shape, a, &reflectors, b);
        Ok(())
    }

    fn largest(x: &[f64]) -> f64 {
        x.iter().fold(0.0, |largest, x| x.abs().max(largest))
    }

    #[test]
    fn the_blocks_of_qr_fit_together_for_every_shape() {
        let kernel = Kernel::with_threads(1);
        for (rows, cols) in [(1, 1), (5, 1), (40, 40), (33, 32), (300, 257), (600, 7), (257, 300), (7, 600)] {
            let a = &System::random(rows.max(cols), 1, 1).a.into_vec()[..rows * cols];
            for op in [Op::Plain, Op::Transposed] {
                let (height, width) = if op == Op::Plain { (rows, cols) } else { (cols, rows) };
                let b = System::random(rows.max(cols), 3, 2).b.into_vec();
                let (mut factor, mut x) = (a.to_vec(), b.clone());
                least_squares(op, (rows, cols), &mut factor, &mut x).unwrap();
                for (b, x) in b.chunks_exact(rows.max(cols)).zip(x.chunks_exact(rows.max(cols))) {
                    let mut r = b[..height].to_vec();
                    kernel.residual(op, (rows, cols), a, &x[..width], &mut r);
                    // With more rows than columns the residual is orthogonal to them, else there is none.
                    let mut orthogonal = vec![0.0; width];
                    kernel.residual(op.transposed(), (rows, cols), a, &r, &mut orthogonal);
                    let error = largest(if height > width { &orthogonal } else { &r });
                    assert!(error < 1e-9 * largest(x).max(1.0), "{rows} x {cols} {op:?}: {error:e}");
                    // The shortest x has no part that A maps to zero: x = A' y solves A A' y = b.
                    if height < width {
                        let mut y = x[..width].to_vec();
                        least_squares(op.transposed(), (rows, cols), &mut a.to_vec(), &mut y).unwrap();
                        let mut rest = x[..width].to_vec();
                        kernel.residual(op.transposed(), (rows, cols), a, &y[..height], &mut rest);
                        assert!(largest(&rest) < 1e-9 * largest(x).max(1.0), "{rows} x {cols} {op:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn nearly_dependent_columns_keep_their_place_in_the_triangle() {
        let (rows, cols) = (5000, 40);
        let mut a = System::random(rows, 1, 3).a.into_vec();
        a.truncate(rows * cols);
        // The second column is the first but for 1e-12, far below what faer's own QR keeps.
        let (first, others) = a.split_at_mut(rows);
        others[..rows].iter_mut().zip(first).for_each(|(second, first)| *second = *second * 1e-12 + *first);
        for op in [Op::Plain, Op::Transposed] {
            let stored = if op == Op::Plain { (rows, cols) } else { (cols, rows) };
            let mut factor = match op {
                Op::Plain => a.clone(),
                Op::Transposed => (0..rows * cols).map(|at| a[at % cols * rows + at / cols]).collect(),
            };
            let mut b: Vec<f64> = (0..rows).map(|row| a[row] + a[(cols - 1) * rows + row]).collect();
            least_squares(op, stored, &mut factor, &mut b).unwrap();
            let diagonal: Vec<f64> = (0..cols).map(|i| factor[i * (stored.0 + 1)].abs()).collect();
            assert!(diagonal[1] < 1e-9 && diagonal[2..].iter().all(|d| *d > 1.0), "{op:?}: {diagonal:?}");
            assert!((b[0] + b[1] - 1.0).abs() < 1e-12 && (b[cols - 1] - 1.0).abs() < 1e-12, "{:?}", &b[..cols]);
        }
    }

    #[test]
    fn qr_is_watched_on_its_way() {
        let n = 300;
        let watch = Watch::default();
        let mut a = System::random(n, 1, 1).a.into_vec();
        let kernel = Kernel::with_threads(1);
        kernel.qr((n, n), &mut a, Stage { watch: &watch, whole: 0.5 }).unwrap();
        assert_eq!(watch.share(), 0.5);
        watch.cancel();
        let stopped = kernel.qr((n, n), &mut a, Stage { watch: &watch, whole: 1.0 }).map(|_| ());
        assert_eq!(stopped, Err(Broken::Stopped(TaskError::Cancelled)));
        assert_eq!(watch.share(), 0.5);
    }
}
