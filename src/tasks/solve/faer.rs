//! faer: the kernel without MKL, for every other platform. The only file that names faer.
//!
//! Limits: threads come from rayon's global pool, so more than its size are not used.

use dyn_stack::{MemBuffer, MemStack};
use faer::linalg::lu::partial_pivoting::{factor, solve};
use faer::linalg::matmul::matmul;
use faer::perm::PermRef;
use faer::{Accum, MatMut, MatRef, Par, Spec, dyn_stack};

use super::kernel::{Op, ZeroPivot};

/// Which kernel this build uses.
pub(in crate::tasks::solve) const NAME: &str = "faer";

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
}

impl Pivots {
    /// Bytes held.
    pub(in crate::tasks::solve) fn bytes(&self) -> usize {
        (self.forward.capacity() + self.inverse.capacity()) * size_of::<u32>()
    }
}

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
    /// [`ZeroPivot`]: U is exactly singular and must not be used.
    pub(in crate::tasks::solve) fn factor<T: Real>(
        &self,
        n: usize,
        a: &mut [T],
        pivots: &mut Pivots,
    ) -> Result<(), ZeroPivot> {
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
        // faer goes on after a zero pivot: what follows is not a number, what comes before is right.
        match (0..n).find(|&k| a[k * n + k] == T::zero_impl()) {
            Some(k) => Err(ZeroPivot(k as u64 + 1)),
            None => Ok(()),
        }
    }

    /// Solves op(A) X = B with the factors of [`Kernel::factor`]; `b` holds B, n numbers a column, and then X.
    pub(in crate::tasks::solve) fn solve<T: Real>(&self, op: Op, n: usize, lu: &[T], pivots: &mut Pivots, b: &mut [T]) {
        let nrhs = b.len() / n;
        let lu = MatRef::from_column_major_slice(lu, n, n);
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

    /// r -= op(A) x, all columns of x and r, n numbers each.
    pub(in crate::tasks::solve) fn residual(&self, op: Op, n: usize, a: &[f64], x: &[f64], r: &mut [f64]) {
        let nrhs = r.len() / n;
        let a = MatRef::from_column_major_slice(a, n, n);
        let a = if op == Op::Plain { a } else { a.transpose() };
        let a = a.as_dyn_stride();
        let x = MatRef::from_column_major_slice(x, n, nrhs);
        let r = MatMut::from_column_major_slice_mut(r, n, nrhs);
        matmul(r, Accum::Add, a, x, -1.0, self.par);
    }
}
