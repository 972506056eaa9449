//! How much of an error in A or B reaches X: the condition of A in the infinity norm, from factors at hand, and the bound of
//! the forward error that follows from it.
//!
//! The estimate is Higham's (SIAM J. Sci. Stat. Comput. 9, 1988; LAPACK's `lacn2` behind `gecon` and `pocon`): a few
//! solutions with A and its transpose instead of an inverse. It never exceeds the norm of the inverse, and is rarely below
//! a third of it. LAPACK's own drivers solve with scaled substitution, one vector at a time: at n = 300 MKL's `dgecon`
//! takes as long as `dgetrf`, this a tenth of it.

/// Rounds of the estimate, at most. Two are usual.
const ROUNDS: usize = 5;

/// Estimates 1 / (||A|| ||A^-1||) in the infinity norm, given ||A||; 0 if A is singular to working precision. `solve`
/// replaces columns of n numbers by their solutions, with A's transpose if told so.
pub(super) fn reciprocal<E>(
    n: usize,
    norm: f64,
    solve: impl FnMut(bool, &mut [f64]) -> Result<(), E>,
) -> Result<f64, E> {
    Ok(reciprocal_and_row(n, norm, solve)?.0)
}

/// As [`reciprocal`], with the row of A^-1 that the search for the largest one ended at.
pub(super) fn reciprocal_and_row<E>(
    n: usize,
    norm: f64,
    solve: impl FnMut(bool, &mut [f64]) -> Result<(), E>,
) -> Result<(f64, usize), E> {
    let (inverse, row) = inverse_norm(n, solve)?;
    let reciprocal = 1.0 / inverse / norm;
    // A NaN is one of an infinity and a zero, which no well-conditioned matrix gives.
    Ok((if reciprocal.is_finite() { reciprocal.min(1.0) } else { 0.0 }, row))
}

/// ||A^-1|| in the infinity norm, which is the 1-norm of the transposed inverse, and its largest row found; infinite if a
/// solution is.
fn inverse_norm<E>(n: usize, mut solve: impl FnMut(bool, &mut [f64]) -> Result<(), E>) -> Result<(f64, usize), E> {
    // The first vector, and one of alternating signs that unmasks matrices made to fool the rest, in one pass.
    let mut pair = vec![1.0 / n as f64; 2 * n];
    let alternating = |i: usize| {
        let size = 1.0 + i as f64 / (n.max(2) - 1) as f64;
        if i.is_multiple_of(2) { size } else { -size }
    };
    (0..n).for_each(|i| pair[n + i] = alternating(i));
    solve(true, &mut pair)?;
    let (x, other) = pair.split_at_mut(n);
    let mut estimate = sum_abs(x);
    let unmasked = 2.0 * sum_abs(other) / (3 * n) as f64;
    if n == 1 || !estimate.is_finite() || !unmasked.is_finite() {
        return Ok((if n == 1 { estimate } else { f64::INFINITY }, 0));
    }
    let mut signs: Vec<f64> = x.iter().map(|x| 1.0_f64.copysign(*x)).collect();
    let mut last = None;
    for _ in 1..ROUNDS {
        x.copy_from_slice(&signs);
        solve(false, x)?;
        let steepest = largest(x);
        if last.is_some_and(|last: usize| x[last].abs() >= x[steepest].abs()) {
            break;
        }
        last = Some(steepest);
        x.fill(0.0);
        x[steepest] = 1.0;
        solve(true, x)?;
        let sum = sum_abs(x);
        if !sum.is_finite() {
            return Ok((f64::INFINITY, steepest));
        }
        let unchanged = x.iter().zip(&signs).all(|(x, sign)| 1.0_f64.copysign(*x) == *sign);
        if unchanged || sum <= estimate {
            estimate = estimate.max(sum);
            break;
        }
        estimate = sum;
        signs.iter_mut().zip(&*x).for_each(|(sign, x)| *sign = 1.0_f64.copysign(*x));
    }
    Ok((estimate.max(unmasked), last.unwrap_or(0)))
}

pub(super) fn sum_abs(x: &[f64]) -> f64 {
    x.iter().map(|x| x.abs()).sum()
}

fn largest(x: &[f64]) -> usize {
    let mut at = 0;
    for (i, value) in x.iter().enumerate() {
        if value.abs() > x[at].abs() {
            at = i;
        }
    }
    at
}

/// What the residual's own rounding may hide of a backward error: sqrt(terms) units. Sums of `terms` products err by more
/// with negligible probability (Higham and Mary, SIAM J. Sci. Comput. 41, 2019); the certain bound, `terms` units, would
/// cry wolf over every large system.
pub(super) fn rounding(terms: usize) -> f64 {
    f64::EPSILON / 2.0 * (terms as f64).sqrt()
}

/// Bound of ||x - exact|| / ||x|| from a backward error and a reciprocal condition; `None` if A is singular to working
/// precision. From x - exact = A^-1 r, and ||b|| <= ||A|| ||x|| + ||r||.
pub(super) fn forward_error_bound(terms: usize, backward_error: f64, rcond: f64) -> Option<f64> {
    unless_singular(rcond, 2.0 * (backward_error + rounding(terms)) / rcond)
}

/// A bound that takes the estimate at its word: not below the rounding of the factors that it comes from.
pub(super) fn unless_singular(rcond: f64, bound: f64) -> Option<f64> {
    (rcond >= f64::EPSILON && bound.is_finite()).then_some(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Column-major inverse given: solving is multiplying by it.
    fn by_inverse(n: usize, inverse: &[f64]) -> impl FnMut(bool, &mut [f64]) -> Result<(), ()> {
        move |transposed, b| {
            for column in b.chunks_exact_mut(n) {
                let at = |i: usize, j: usize| if transposed { inverse[j + i * n] } else { inverse[i + j * n] };
                let x: Vec<f64> = (0..n).map(|i| (0..n).map(|j| at(i, j) * column[j]).sum()).collect();
                column.copy_from_slice(&x);
            }
            Ok(())
        }
    }

    #[test]
    fn the_estimate_is_a_lower_bound_within_a_factor_of_three() {
        use crate::tasks::solve::System;
        for n in [1, 2, 3, 5, 10, 40] {
            for seed in 0..50 {
                let inverse = System::random(n, 1, seed).a.into_vec();
                let row = |i: usize| (0..n).map(|j| inverse[i + j * n].abs()).sum::<f64>();
                let truth = (0..n).map(row).fold(0.0, f64::max);
                let estimate = inverse_norm(n, by_inverse(n, &inverse)).unwrap().0;
                assert!(estimate <= truth * (1.0 + 1e-12) && estimate >= truth / 3.0, "{n} {seed}: {estimate} {truth}");
            }
        }
    }

    #[test]
    fn what_overflows_is_singular_to_working_precision() {
        assert_eq!(reciprocal(2, 1.0, by_inverse(2, &[f64::INFINITY, 0.0, 0.0, 1.0])), Ok(0.0));
        assert_eq!(reciprocal(1, 1e300, by_inverse(1, &[1e300])), Ok(0.0));
        assert_eq!(reciprocal(1, 4.0, by_inverse(1, &[0.25])), Ok(1.0));
        assert_eq!(forward_error_bound(1, 0.0, 0.0), None);
        assert_eq!(reciprocal(2, 1.0, |_, _: &mut [f64]| Err("stopped")), Err("stopped"));
    }
}
