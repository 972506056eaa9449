//! Intel MKL: the only file that names MKL or LAPACK, and the only one with `unsafe`.
//!
//! Invariants: every pointer passed comes from a slice whose length was checked against the dimensions just before;
//! dimensions fit LAPACK's 32-bit integers (lp64). The number of threads is set for the calling thread only, and put
//! back when the [`Kernel`] goes.
#![allow(unsafe_code, reason = "LAPACK and BLAS are foreign functions; each call states why it is sound")]

use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::marker::PhantomData;

// Nothing of it is named: it makes the linker take MKL.
use intel_mkl_src as _;
use lapack_sys::{dgetrs_, sgetrs_};
use ndarray_linalg::{Lapack, MatrixLayout};

use super::kernel::{Op, ZeroPivot};

/// Which kernel this build uses.
pub(in crate::tasks::solve) const NAME: &str = "mkl";

// Declared by hand: lapack-sys has LAPACK only, and MKL's service functions are in no Rust crate.
unsafe extern "C" {
    /// `mkl_service.h`: threads for the calling thread, 0 for the global setting; returns what was set before.
    #[link_name = "MKL_Set_Num_Threads_Local"]
    fn mkl_set_num_threads_local(threads: c_int) -> c_int;
    /// `omp.h` of libiomp5: how long the calling thread's team spins after a parallel region, in ms.
    fn kmp_set_blocktime(ms: c_int);
    fn dgemv_(
        trans: *const c_char,
        m: *const c_int,
        n: *const c_int,
        alpha: *const f64,
        a: *const f64,
        lda: *const c_int,
        x: *const f64,
        incx: *const c_int,
        beta: *const f64,
        y: *mut f64,
        incy: *const c_int,
    );
    fn dgemm_(
        transa: *const c_char,
        transb: *const c_char,
        m: *const c_int,
        n: *const c_int,
        k: *const c_int,
        alpha: *const f64,
        a: *const f64,
        lda: *const c_int,
        b: *const f64,
        ldb: *const c_int,
        beta: *const f64,
        c: *mut f64,
        ldc: *const c_int,
    );
}

/// MKL on the calling thread with a number of threads, until dropped.
pub(in crate::tasks::solve) struct Kernel {
    threads: usize,
    previous: c_int,
    /// The setting belongs to the thread that made it.
    not_send: PhantomData<*const ()>,
}

/// Row exchanges of a factorisation.
#[derive(Default)]
pub(in crate::tasks::solve) struct Pivots(Vec<c_int>);

impl Pivots {
    /// Bytes held.
    pub(in crate::tasks::solve) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<c_int>()
    }
}

/// `getrf` (through ndarray-linalg) and `getrs` in one precision. ndarray-linalg solves for one right-hand side at a time,
/// ten times slower than `getrs` for a few hundred, so that one is called straight.
pub(in crate::tasks::solve) trait Real: bytemuck::Pod + Lapack {
    #[doc(hidden)]
    #[allow(clippy::type_complexity, reason = "LAPACK's signature, written once")]
    const GETRS: unsafe extern "C" fn(
        *const c_char,
        *const c_int,
        *const c_int,
        *const Self,
        *const c_int,
        *const c_int,
        *mut Self,
        *const c_int,
        *mut c_int,
    );
}

impl Real for f32 {
    const GETRS: unsafe extern "C" fn(
        *const c_char,
        *const c_int,
        *const c_int,
        *const f32,
        *const c_int,
        *const c_int,
        *mut f32,
        *const c_int,
        *mut c_int,
    ) = sgetrs_;
}

impl Real for f64 {
    const GETRS: unsafe extern "C" fn(
        *const c_char,
        *const c_int,
        *const c_int,
        *const f64,
        *const c_int,
        *const c_int,
        *mut f64,
        *const c_int,
        *mut c_int,
    ) = dgetrs_;
}

thread_local! {
    static BLOCKTIME_SET: Cell<bool> = const { Cell::new(false) };
}

impl Kernel {
    /// MKL's calls on this thread use `threads` threads until the value is dropped.
    pub(in crate::tasks::solve) fn with_threads(threads: usize) -> Self {
        let threads = threads.max(1);
        if !BLOCKTIME_SET.replace(true) {
            // A team that spins for the default 200 ms after each call takes the cores from the transport.
            // SAFETY: takes a plain integer and changes only OpenMP's settings for this thread.
            unsafe { kmp_set_blocktime(0) };
        }
        let count = c_int::try_from(threads).unwrap_or(c_int::MAX);
        // SAFETY: takes and returns plain integers, and changes only MKL's setting for this thread.
        let previous = unsafe { mkl_set_num_threads_local(count) };
        Kernel { threads, previous, not_send: PhantomData }
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
        assert_eq!(a.len(), n * n, "A is n x n");
        match T::lu(MatrixLayout::F { col: int(n), lda: int(n) }, a) {
            Ok(exchanges) => {
                pivots.0 = exchanges;
                Ok(())
            }
            // The one way to fail with a square matrix of legal size. LAPACK's `info` is the first zero of U's diagonal.
            Err(_) => Err(ZeroPivot((0..n).position(|i| a[i * (n + 1)] == T::zero()).map_or(0, |i| i as u64 + 1))),
        }
    }

    /// Solves op(A) X = B with the factors of [`Kernel::factor`]; `b` holds B, n numbers a column, and then X.
    pub(in crate::tasks::solve) fn solve<T: Real>(&self, op: Op, n: usize, lu: &[T], pivots: &mut Pivots, b: &mut [T]) {
        assert!(lu.len() == n * n && pivots.0.len() >= n && b.len().is_multiple_of(n), "factors n x n, B n x nrhs");
        let (order, nrhs, mut info) = (int(n), int(b.len() / n), 0);
        // SAFETY: `lu` is n x n, `pivots` has n places that getrf filled with 1..=n, `b` is n x nrhs, checked above; `b`
        // is exclusively borrowed, the rest is only read.
        unsafe {
            (T::GETRS)(
                &trans(op),
                &order,
                &nrhs,
                lu.as_ptr(),
                &order,
                pivots.0.as_ptr(),
                b.as_mut_ptr(),
                &order,
                &mut info,
            );
        }
        assert_eq!(info, 0, "getrs refused an argument");
    }

    /// r -= op(A) x, all columns of x and r, n numbers each.
    pub(in crate::tasks::solve) fn residual(&self, op: Op, n: usize, a: &[f64], x: &[f64], r: &mut [f64]) {
        assert!(a.len() == n * n && x.len() == r.len() && r.len().is_multiple_of(n), "A n x n, X and R n x nrhs");
        let (order, nrhs, one) = (int(n), int(r.len() / n), 1);
        let (minus, plus) = (-1.0, 1.0);
        if nrhs == 1 {
            // SAFETY: `a` is n x n, `x` and `r` are n long with stride 1, checked above; `r` is exclusively borrowed.
            unsafe {
                dgemv_(
                    &trans(op),
                    &order,
                    &order,
                    &minus,
                    a.as_ptr(),
                    &order,
                    x.as_ptr(),
                    &one,
                    &plus,
                    r.as_mut_ptr(),
                    &one,
                );
            }
        } else {
            // SAFETY: `a` is n x n, `x` and `r` are n x nrhs, all with leading dimension n, checked above; `r` is
            // exclusively borrowed.
            unsafe {
                dgemm_(
                    &trans(op),
                    &trans(Op::Plain),
                    &order,
                    &nrhs,
                    &order,
                    &minus,
                    a.as_ptr(),
                    &order,
                    x.as_ptr(),
                    &order,
                    &plus,
                    r.as_mut_ptr(),
                    &order,
                );
            }
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: takes and returns plain integers, and changes only MKL's setting for this thread.
        unsafe { mkl_set_num_threads_local(self.previous) };
    }
}

fn int(value: usize) -> c_int {
    c_int::try_from(value).expect("the parameters were checked against LAPACK's 32-bit integers")
}

fn trans(op: Op) -> c_char {
    match op {
        Op::Plain => b'N' as c_char,
        Op::Transposed => b'T' as c_char,
    }
}
