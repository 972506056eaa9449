//! The linear algebra library behind the solver, chosen here and nowhere else: MKL, or faer without it.
//!
//! Both offer the same three calls on a [`Kernel`], which also holds the number of threads for as long as it lives:
//! `factor` (LU with partial pivoting in place), `solve` (all right-hand sides at once) and `residual` (r -= op(A) x).
//! Matrices are column-major here; a row-major A is handed over as it lies and used with [`Op::Transposed`].

#[cfg(all(feature = "faer", not(feature = "mkl")))]
pub(super) use super::faer::{Kernel, NAME, Pivots};
#[cfg(feature = "mkl")]
pub(super) use super::mkl::{Kernel, NAME, Pivots};

#[cfg(not(any(feature = "mkl", feature = "faer")))]
compile_error!(
    "rabbitry needs a kernel: build with the default feature `mkl` (x86-64; `make setup` fetches MKL) or with \
     `--no-default-features --features faer` (any platform)"
);

/// Which matrix a factorisation or a product means, given the stored column-major one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    /// The stored matrix.
    Plain,
    /// Its transpose: what is stored column by column are A's rows.
    Transposed,
}

/// Column `pivot` (from 1) of the stored matrix had no non-zero pivot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ZeroPivot(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_runs_on_the_kernel_the_features_ask_for() {
        assert_eq!(NAME, if cfg!(feature = "mkl") { "mkl" } else { "faer" });
    }

    #[test]
    fn both_precisions_solve_with_the_matrix_and_its_transpose() {
        // Column-major [[1, 3], [2, 4]] stored as 1 2 3 4.
        let kernel = Kernel::with_threads(1);
        let a = [1.0_f64, 2.0, 3.0, 4.0];
        let mut pivots = Pivots::default();
        let mut lu = a;
        kernel.factor(2, &mut lu, &mut pivots).unwrap();
        for (op, b) in [(Op::Plain, [7.0, 10.0, 4.0, 6.0]), (Op::Transposed, [5.0, 11.0, 3.0, 7.0])] {
            let mut x: [f64; 4] = b;
            kernel.solve(op, 2, &lu, &mut pivots, &mut x);
            let close = x.iter().zip([1.0, 2.0, 1.0, 1.0]).all(|(x, expected)| (x - expected).abs() < 1e-14);
            assert!(close, "{op:?}: {x:?}");
            let mut r = b;
            kernel.residual(op, 2, &a, &[1.0, 2.0, 1.0, 1.0], &mut r);
            assert_eq!(r, [0.0; 4]);
        }
        let mut lu = a.map(|v| v as f32);
        kernel.factor(2, &mut lu, &mut pivots).unwrap();
        let mut x = [7.0_f32, 10.0];
        kernel.solve(Op::Plain, 2, &lu, &mut pivots, &mut x);
        assert!((x[0] - 1.0).abs() < 1e-5 && (x[1] - 2.0).abs() < 1e-5);
    }

    #[test]
    fn the_first_zero_pivot_is_named() {
        let kernel = Kernel::with_threads(1);
        let mut rank_two = [1.0_f64, 2.0, 4.0, 2.0, 1.0, 1.0, 1.0, 2.0, 4.0];
        let mut zero = [0.0_f64; 9];
        assert_eq!(kernel.factor(3, &mut rank_two, &mut Pivots::default()), Err(ZeroPivot(3)));
        assert_eq!(kernel.factor(3, &mut zero, &mut Pivots::default()), Err(ZeroPivot(1)));
    }
}
