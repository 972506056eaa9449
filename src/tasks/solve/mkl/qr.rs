//! QR of a stored matrix with at least as many rows as columns, LQ of any other, and least squares with either: LAPACK's
//! `gels` in two calls, so that many right-hand sides can go through in panels, and without its scaling of A, which would
//! stay in the triangle.

use std::ffi::{c_char, c_int};

use lapack_sys::{dgelqf_, dgeqrf_, dormlq_, dormqr_};

use super::super::kernel::{Broken, Factorisation, Op, Stage, Triangle};
use super::{Job, Kernel, int};

/// What belongs to the triangle that [`Kernel::qr`] leaves: with the rest of the matrix, the orthogonal factor.
pub(in crate::tasks::solve) struct Reflectors(Vec<f64>);

impl Kernel {
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
        assert_eq!(a.len(), rows * cols, "A is rows x cols");
        let (m, n, rank) = (int(rows), int(cols), rows.min(cols));
        let mut scalars = vec![0.0; rank];
        let routine = if rows >= cols { dgeqrf_ } else { dgelqf_ };
        let job = Job::begin(stage, Factorisation::Qr, rank);
        let info = with_work(|work, length| {
            let mut info = 0;
            // SAFETY: `a` is rows x cols, checked above, `scalars` has the lesser of the two, both exclusively borrowed;
            // `work` is `length` long, or one long for a query (-1), which touches nothing but its first place.
            unsafe {
                let (a, scalars) = (a.as_mut_ptr(), scalars.as_mut_ptr());
                routine(&m, &n, a, &m, scalars, work.as_mut_ptr(), &length, &mut info);
            }
            info
        });
        drop(job);
        stage.watch.check().map_err(Broken::Stopped)?;
        assert_eq!(info, 0, "geqrf or gelqf refused an argument");
        match (0..rank).position(|i| a[i * (rows + 1)] == 0.0) {
            Some(zero) => Err(Broken::At(zero as u64 + 1)),
            None => Ok(Reflectors(scalars)),
        }
    }

    /// Minimises ||b - op(S) x|| for the matrix S that [`Kernel::qr`] has factored to `a`, and of all such x takes the
    /// shortest. `b` holds max(rows, cols) numbers a column: B in the first ones, then X.
    pub(in crate::tasks::solve) fn qr_solve(
        &self,
        op: Op,
        (rows, cols): (usize, usize),
        a: &[f64],
        reflectors: &Reflectors,
        b: &mut [f64],
    ) {
        let (height, rank, tall) = (rows.max(cols), rows.min(cols), rows >= cols);
        let triangle = Triangle { upper: tall, n: rank, stride: rows };
        // Q' b, then the triangle; or, with fewer equations than unknowns, the triangle and then Q.
        if tall == (op == Op::Plain) {
            self.rotate(tall, (rows, cols), a, reflectors, b);
            self.substitute(triangle, op, a, b, height);
        } else {
            self.substitute(triangle, op, a, b, height);
            b.chunks_exact_mut(height).for_each(|column| column[rank..].fill(0.0));
            self.rotate(!tall, (rows, cols), a, reflectors, b);
        }
    }

    /// B := Q B, or Q' B if `transposed`, with the Q of QR or LQ.
    fn rotate(
        &self,
        transposed: bool,
        (rows, cols): (usize, usize),
        a: &[f64],
        Reflectors(scalars): &Reflectors,
        b: &mut [f64],
    ) {
        let (height, rank) = (rows.max(cols), rows.min(cols));
        assert!(a.len() == rows * cols && scalars.len() == rank, "the factors of a rows x cols matrix");
        assert!(b.len().is_multiple_of(height), "B max(rows, cols) x nrhs");
        let (lda, m, n, k) = (int(rows), int(height), int(b.len() / height), int(rank));
        let routine = if rows >= cols { dormqr_ } else { dormlq_ };
        let (left, trans) = (b'L' as c_char, if transposed { b'T' } else { b'N' } as c_char);
        let info = with_work(|work, length| {
            let (mut info, out) = (0, b.as_mut_ptr());
            // SAFETY: `a` and `scalars` are a factorisation of a rows x cols matrix and `b` has columns of the larger of the
            // two, checked above; `b` is exclusively borrowed, the others are only read; `work` is as in `qr`.
            unsafe {
                let (a, scalars, work) = (a.as_ptr(), scalars.as_ptr(), work.as_mut_ptr());
                routine(&left, &trans, &m, &n, &k, a, &lda, scalars, out, &m, work, &length, &mut info);
            }
            info
        });
        assert_eq!(info, 0, "ormqr or ormlq refused an argument");
    }
}

/// Calls a routine of LAPACK's twice: to ask how much work space it wants, and with it.
fn with_work(mut call: impl FnMut(&mut [f64], c_int) -> c_int) -> c_int {
    let mut best = [0.0];
    call(&mut best, -1);
    let mut work = vec![0.0; (best[0] as usize).max(1)];
    let length = int(work.len());
    call(&mut work, length)
}
