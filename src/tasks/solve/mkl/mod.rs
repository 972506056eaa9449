//! Intel MKL: the only folder that names MKL or LAPACK, and the only one with `unsafe`.
//!
//! Invariants: every pointer passed comes from a slice whose length was checked against the dimensions just before;
//! dimensions fit LAPACK's 32-bit integers (lp64). The number of threads is set for the calling thread only, and put
//! back when the [`Kernel`] goes. A factorisation stops for its own watch and for no other, whatever threads it runs on.
#![allow(unsafe_code, reason = "LAPACK and BLAS are foreign functions; each call states why it is sound")]

#[cfg(test)]
mod bench;
mod ffi;
mod qr;
mod rows;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

// Nothing of it is named: it makes the linker take MKL.
use intel_mkl_src as _;
use lapack_sys::{dgetrs_, dpotrs_, sgetrs_, spotrs_};
use ndarray_linalg::{Lapack, MatrixLayout, UPLO};

use self::ffi::{
    Getrs, Potrs, dgemm_, dgemv_, dsymv_, dtrsm_, dtrsv_, kmp_set_blocktime, mkl_cbwr_get_auto_branch, mkl_cbwr_set,
    mkl_get_version_string, mkl_set_num_threads_local, mkl_set_progress, omp_get_default_device,
    omp_set_default_device,
};
use super::kernel::{Broken, Factorisation, Op, Stage, Triangle};
use super::scratch::grown;
use crate::task::Watch;

/// Which kernel this build uses.
pub(in crate::tasks::solve) const NAME: &str = "mkl";

/// What it is, as it says itself.
pub(in crate::tasks::solve) fn version() -> String {
    let mut text: [c_char; 200] = [0; 200];
    // SAFETY: the buffer is as long as MKL is told, and lives through the call.
    unsafe { mkl_get_version_string(text.as_mut_ptr(), int(text.len())) };
    let bytes: Vec<u8> = text.iter().map(|&c| c as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// MKL on the calling thread with a number of threads, until dropped.
pub(in crate::tasks::solve) struct Kernel {
    threads: usize,
    previous: c_int,
    /// The setting belongs to the thread that made it.
    not_send: PhantomData<*const ()>,
}

/// Exchanges of a factorisation, and what it worked with.
#[derive(Default)]
pub(in crate::tasks::solve) struct Pivots {
    exchanges: Vec<c_int>,
    /// The factors are those of [`rows`]: the exchanges are of columns.
    by_rows: bool,
    /// Kept for the next one, as a [`super::scratch::Scratch`] is.
    panel: Vec<f64>,
}

impl Pivots {
    /// Places for LAPACK's row exchanges of n rows, counted from 1. To be followed by [`Pivots::adopt`].
    pub(in crate::tasks::solve) fn exchanges(&mut self, n: usize) -> &mut [i32] {
        self.by_rows = false;
        self.exchanges.resize(n, 0);
        &mut self.exchanges
    }

    /// Takes what was written to [`Pivots::exchanges`].
    ///
    /// # Panics
    /// If one is no row.
    pub(in crate::tasks::solve) fn adopt(&mut self) {
        let n = int(self.exchanges.len());
        assert!(self.exchanges.iter().all(|row| (1..=n).contains(row)), "exchanges of rows 1 to {n}");
    }

    /// Bytes held.
    pub(in crate::tasks::solve) fn bytes(&self) -> usize {
        self.exchanges.capacity() * size_of::<c_int>() + self.panel.capacity() * size_of::<f64>()
    }
}

/// One precision: `getrf` and `potrf` through ndarray-linalg. That solves for one right-hand side at a time, ten times
/// slower than `getrs` for a few hundred, so `getrs` and `potrs` are called straight.
pub(in crate::tasks::solve) trait Real: rows::Blas + Lapack {
    #[doc(hidden)]
    const GETRS: Getrs<Self>;
    #[doc(hidden)]
    const POTRS: Potrs<Self>;
}

impl Real for f32 {
    const GETRS: Getrs<f32> = sgetrs_;
    const POTRS: Potrs<f32> = spotrs_;
}

impl Real for f64 {
    const GETRS: Getrs<f64> = dgetrs_;
    const POTRS: Potrs<f64> = dpotrs_;
}

thread_local! {
    static BLOCKTIME_SET: Cell<bool> = const { Cell::new(false) };
}

static STARTED: Once = Once::new();

/// Process-wide settings, before MKL's first computation.
fn start() {
    STARTED.call_once(|| {
        // SAFETY: `hook` has the signature that MKL documents and does not unwind; the other takes and returns a plain
        // integer. Both only change MKL's settings.
        unsafe {
            mkl_set_progress(hook);
            // The same bits from run to run for the same CPU family and number of threads, whatever the addresses.
            // Measured on one thread: no slower. It can only fail if some other part of the process has used MKL before.
            mkl_cbwr_set(CBWR_AUTO);
        }
    });
}

const CBWR_AUTO: c_int = 2;

/// Under what the same bits come out of the same task: the code path, which is that of the CPU.
pub(in crate::tasks::solve) fn setting() -> String {
    start();
    // SAFETY: takes nothing, returns a plain integer.
    let branch = unsafe { mkl_cbwr_get_auto_branch() };
    let name = match branch {
        3 => "compatible".to_owned(),
        4 => "sse2".to_owned(),
        8 => "sse4.2".to_owned(),
        10 => "avx2".to_owned(),
        12 => "avx512".to_owned(),
        14 => "avx512-e1".to_owned(),
        15 => "avx10".to_owned(),
        other => other.to_string(),
    };
    format!("mkl cbwr {name}")
}

/// A factorisation that runs under a watch.
struct Running {
    watch: Watch,
    whole: f64,
    kind: Factorisation,
    columns: f64,
}

static RUNNING: Mutex<BTreeMap<c_int, Running>> = Mutex::new(BTreeMap::new());
static NEXT_JOB: AtomicI32 = AtomicI32::new(0);
/// Far above any number of devices.
const FIRST_JOB: c_int = 1 << 20;

fn running() -> MutexGuard<'static, BTreeMap<c_int, Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the calling thread's factorisations known to [`hook`] until dropped.
///
/// The hook is one for the process, and MKL calls it on whichever thread of its OpenMP team comes by, so a thread-local of
/// the caller would not be seen. What a team does inherit from the thread that starts it are OpenMP's internal control
/// variables (5.2, section 2.3): the number of the job travels in the one that nothing on a CPU reads, the default device.
struct Job {
    id: c_int,
    previous: c_int,
}

impl Job {
    fn begin(stage: Stage<'_>, kind: Factorisation, columns: usize) -> Self {
        let id = FIRST_JOB + (NEXT_JOB.fetch_add(1, Relaxed) & 0x3fff_ffff);
        running().insert(id, Running { watch: stage.watch.clone(), whole: stage.whole, kind, columns: columns as f64 });
        // SAFETY: takes and returns plain integers, and changes only a setting of the calling thread.
        let previous = unsafe {
            let previous = omp_get_default_device();
            omp_set_default_device(id);
            previous
        };
        Job { id, previous }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // SAFETY: as in `begin`.
        unsafe { omp_set_default_device(self.previous) };
        running().remove(&self.id);
    }
}

/// Called by MKL in the middle of a factorisation with the columns done so far; stops it by returning other than 0.
extern "C" fn hook(_thread: *const c_int, step: *const c_int, _stage: *const c_char, _length: c_int) -> c_int {
    // SAFETY: takes nothing, returns a plain integer.
    let id = unsafe { omp_get_default_device() };
    if id < FIRST_JOB || step.is_null() {
        return 0;
    }
    // SAFETY: not null, and MKL documents it as a pointer to an integer that is valid during the call.
    let step = unsafe { *step };
    let running = running();
    let Some(job) = running.get(&id) else { return 0 };
    job.watch.advance(job.whole * job.kind.share((f64::from(step) / job.columns).clamp(0.0, 1.0)));
    c_int::from(job.watch.check().is_err())
}

impl Kernel {
    /// MKL's calls on this thread use `threads` threads until the value is dropped.
    pub(in crate::tasks::solve) fn with_threads(threads: usize) -> Self {
        start();
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

    /// LU with partial pivoting of the n x n matrix `a`, in place: by its columns or, where that is faster, by its rows.
    ///
    /// # Errors
    /// [`Broken`]: U is exactly singular, or the watch said to stop. By rows there is no column to name: it is 0, and
    /// [`Kernel::factor_by_columns`] of the same matrix knows it.
    pub(in crate::tasks::solve) fn factor<T: Real>(
        &self,
        n: usize,
        a: &mut [T],
        pivots: &mut Pivots,
        stage: Stage<'_>,
    ) -> Result<(), Broken> {
        // With more threads `getrf` works on the next columns while it still updates the rest.
        if self.threads == 1 && T::PAYS.contains(&n) {
            self.factor_by_rows(n, a, pivots, stage)
        } else {
            self.factor_by_columns(n, a, pivots, stage)
        }
    }

    fn factor_by_rows<T: Real>(
        &self,
        n: usize,
        a: &mut [T],
        pivots: &mut Pivots,
        stage: Stage<'_>,
    ) -> Result<(), Broken> {
        let Pivots { exchanges, by_rows, panel } = pivots;
        *by_rows = true;
        exchanges.resize(n, 0);
        let len = rows::panel_len(n);
        let panel = grown(panel, (len * size_of::<T>()).div_ceil(size_of::<f64>()));
        rows::factor(n, a, exchanges, bytemuck::cast_slice_mut(panel), stage)
    }

    /// LU with partial pivoting of the n x n matrix `a`, in place, by LAPACK's `getrf`.
    ///
    /// # Errors
    /// [`Broken`]: U is exactly singular, or the watch said to stop.
    pub(in crate::tasks::solve) fn factor_by_columns<T: Real>(
        &self,
        n: usize,
        a: &mut [T],
        pivots: &mut Pivots,
        stage: Stage<'_>,
    ) -> Result<(), Broken> {
        assert_eq!(a.len(), n * n, "A is n x n");
        let layout = MatrixLayout::F { col: int(n), lda: int(n) };
        match watched(stage, Factorisation::Lu, n, || T::lu(layout, a)) {
            Ok(exchanges) => {
                (pivots.exchanges, pivots.by_rows) = (exchanges, false);
                Ok(())
            }
            Err(_) => {
                stage.watch.check().map_err(Broken::Stopped)?;
                // The one other way to fail with a square matrix of legal size. LAPACK's `info` is the first zero of U's
                // diagonal.
                Err(Broken::At((0..n).position(|i| a[i * (n + 1)] == T::zero()).map_or(0, |i| i as u64 + 1)))
            }
        }
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
        assert!(stride >= n && lu.len() >= stride * (n - 1) + n, "factors n x n");
        let exchanges = &pivots.exchanges;
        assert!(exchanges.len() == n && b.len().is_multiple_of(n), "n exchanges, B n x nrhs");
        if pivots.by_rows {
            assert_eq!(stride, n, "by rows the factors lie close");
            return rows::solve(op, n, lu, exchanges, b);
        }
        let (order, lda, nrhs, mut info) = (int(n), int(stride), int(b.len() / n), 0);
        // SAFETY: `lu` holds n columns of n numbers, `stride` apart, `exchanges` has n places of 1..=n, from getrf or checked when
        // they were adopted, `b` is n x nrhs, checked above; `b` is exclusively borrowed, the rest is only read.
        unsafe {
            (T::GETRS)(
                &trans(op),
                &order,
                &nrhs,
                lu.as_ptr(),
                &lda,
                exchanges.as_ptr(),
                b.as_mut_ptr(),
                &order,
                &mut info,
            );
        }
        assert_eq!(info, 0, "getrs refused an argument");
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
        assert_eq!(a.len(), n * n, "A is n x n");
        let layout = MatrixLayout::F { col: int(n), lda: int(n) };
        watched(stage, Factorisation::Cholesky, n, || T::cholesky(layout, UPLO::Lower, a)).map_err(|_| {
            let stopped = stage.watch.check().map_err(Broken::Stopped);
            // Where it broke down is of no use to anybody: LU is next.
            stopped.err().unwrap_or(Broken::At(0))
        })
    }

    /// Solves A X = B with the factor of [`Kernel::cholesky`]; `b` holds B, n numbers a column, and then X.
    /// The factor's columns are `stride` numbers apart.
    pub(in crate::tasks::solve) fn cholesky_solve<T: Real>(&self, (n, stride): (usize, usize), l: &[T], b: &mut [T]) {
        assert!(
            stride >= n && l.len() >= stride * (n - 1) + n && b.len().is_multiple_of(n),
            "factor n x n, B n x nrhs"
        );
        let (order, lda, nrhs, mut info) = (int(n), int(stride), int(b.len() / n), 0);
        // SAFETY: `l` holds n columns of n numbers, `stride` apart, `b` is n x nrhs, checked above; `b` is exclusively
        // borrowed, the rest is only read.
        unsafe {
            (T::POTRS)(&LOWER, &order, &nrhs, l.as_ptr(), &lda, b.as_mut_ptr(), &order, &mut info);
        }
        assert_eq!(info, 0, "potrs refused an argument");
    }

    /// Solves op(T) X = B for a triangle of `a`; `b` holds B, n numbers a column, and then X. Nothing is checked: a zero on
    /// the diagonal gives infinities.
    pub(in crate::tasks::solve) fn triangular_solve(&self, triangle: Triangle, op: Op, a: &[f64], b: &mut [f64]) {
        self.substitute(triangle, op, a, b, triangle.n);
    }

    /// As [`Kernel::triangular_solve`] in the first rows of `b`, whose columns are `height` numbers long.
    fn substitute(&self, Triangle { upper, n, stride }: Triangle, op: Op, a: &[f64], b: &mut [f64], height: usize) {
        assert!(stride >= n && a.len() >= stride * (n - 1) + n, "A n x n");
        assert!(height >= n && b.len().is_multiple_of(height), "B of at least n rows");
        let (uplo, order, lda, ldb) = (if upper { UPPER } else { LOWER }, int(n), int(stride), int(height));
        let (nrhs, one) = (int(b.len() / height), 1);
        let (left, not_unit) = (b'L' as c_char, b'N' as c_char);
        // SAFETY: `a` holds n columns of n numbers, `stride` apart, `b` nrhs columns of n numbers, `height` apart, checked
        // above; `b` is exclusively borrowed, the rest is only read.
        unsafe {
            if nrhs == 1 {
                dtrsv_(&uplo, &trans(op), &not_unit, &order, a.as_ptr(), &lda, b.as_mut_ptr(), &one);
            } else {
                dtrsm_(
                    &left,
                    &uplo,
                    &trans(op),
                    &not_unit,
                    &order,
                    &nrhs,
                    &1.0,
                    a.as_ptr(),
                    &lda,
                    b.as_mut_ptr(),
                    &ldb,
                );
            }
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
        assert!(
            a.len() == rows * cols && x.len() == nrhs * width && r.len() == nrhs * height,
            "A X and R of one shape"
        );
        let (m, n, out, inner, nrhs, one) = (int(rows), int(cols), int(height), int(width), int(nrhs), 1);
        let (minus, plus) = (-1.0, 1.0);
        // SAFETY: `a` is rows x cols with leading dimension rows, `x` and `r` have nrhs columns of as many numbers as op(S)
        // has columns and rows, checked above; `r` is exclusively borrowed.
        unsafe {
            if nrhs == 1 {
                let (a, x, r) = (a.as_ptr(), x.as_ptr(), r.as_mut_ptr());
                dgemv_(&trans(op), &m, &n, &minus, a, &m, x, &one, &plus, r, &one);
            } else {
                dgemm_(
                    &trans(op),
                    &trans(Op::Plain),
                    &out,
                    &nrhs,
                    &inner,
                    &minus,
                    a.as_ptr(),
                    &m,
                    x.as_ptr(),
                    &inner,
                    &plus,
                    r.as_mut_ptr(),
                    &out,
                );
            }
        }
    }

    /// R -= A X for the symmetric n x n matrix `a`. With one column only its lower triangle is read, half of the memory
    /// that the other residual would have to see.
    pub(in crate::tasks::solve) fn symmetric_residual(&self, n: usize, a: &[f64], x: &[f64], r: &mut [f64]) {
        if r.len() != n {
            return self.residual(Op::Plain, (n, n), a, x, r);
        }
        assert!(a.len() == n * n && x.len() == n, "A n x n, X and R n");
        let (order, one, minus, plus) = (int(n), 1, -1.0, 1.0);
        // SAFETY: `a` is n x n, `x` and `r` are n long with stride 1, checked above; `r` is exclusively borrowed.
        unsafe {
            dsymv_(&LOWER, &order, &minus, a.as_ptr(), &order, x.as_ptr(), &one, &plus, r.as_mut_ptr(), &one);
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: takes and returns plain integers, and changes only MKL's setting for this thread.
        unsafe { mkl_set_num_threads_local(self.previous) };
    }
}

const LOWER: c_char = b'L' as c_char;
const UPPER: c_char = b'U' as c_char;

/// Factorisations below this size are over before anybody could ask how far they are.
const WATCHED_FROM: usize = 500;

/// Runs a factorisation under the watch.
fn watched<T>(stage: Stage<'_>, kind: Factorisation, n: usize, factor: impl FnOnce() -> T) -> T {
    let _job = (n >= WATCHED_FROM).then(|| Job::begin(stage, kind, n));
    factor()
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
