//! The matrices of the gallery. What is symmetric is so to the bit; random ones come from [`System::random`], whose
//! numbers are multiples of 2^-31, so that their products with small integers are exact.

use ndarray::Array2;

use super::super::System;

pub(super) struct Case {
    pub name: String,
    /// Symmetric positive definite with a good margin: Cholesky has to answer.
    pub positive: bool,
    pub a: Array2<f64>,
}

/// Uniform numbers in [-1, 1), multiples of 2^-31.
pub(super) fn random(rows: usize, cols: usize, seed: u64) -> Array2<f64> {
    let n = rows.max(cols);
    let square = System::random(n, 1, seed).a.into_array2();
    square.slice(ndarray::s![..rows, ..cols]).to_owned()
}

/// Integers from -`largest` to `largest`.
pub(super) fn integers(rows: usize, cols: usize, largest: i32, seed: u64) -> Array2<f64> {
    random(rows, cols, seed)
        .mapv(|value| ((value + 1.0) / 2.0 * f64::from(2 * largest + 1)).floor() - f64::from(largest))
}

pub(super) fn identity(n: usize) -> Array2<f64> {
    Array2::eye(n)
}

/// I - 2 v v' / v'v.
fn reflector(n: usize, seed: u64) -> Array2<f64> {
    let v = random(n, n, seed).column(0).to_owned();
    let square = v.dot(&v);
    Array2::from_shape_fn((n, n), |(i, j)| f64::from(u8::from(i == j)) - 2.0 / square * v[i] * v[j])
}

/// Orthogonal to rounding.
pub(super) fn orthogonal(n: usize, seed: u64) -> Array2<f64> {
    reflector(n, seed).dot(&reflector(n, seed + 1))
}

/// With singular values (if `symmetric`, eigenvalues) that fall geometrically from 1 to 1 / condition.
pub(super) fn of_condition(n: usize, condition: f64, symmetric: bool) -> Array2<f64> {
    let (left, right) = (reflector(n, 21), reflector(n, if symmetric { 21 } else { 22 }));
    let value = |k: usize| condition.powf(-(k as f64) / (n.max(2) - 1) as f64);
    let scaled = Array2::from_shape_fn((n, n), |(i, j)| left[[i, j]] * value(j));
    let a = scaled.dot(&right);
    if symmetric { symmetrised(a) } else { a }
}

/// The lower triangle, mirrored.
pub(super) fn symmetrised(mut a: Array2<f64>) -> Array2<f64> {
    for i in 0..a.nrows() {
        (i + 1..a.nrows()).for_each(|j| a[[i, j]] = a[[j, i]]);
    }
    a
}

/// Symmetric and dominated by its diagonal: positive definite, condition below 10.
pub(super) fn positive(n: usize, seed: u64) -> Array2<f64> {
    symmetrised(random(n, n, seed)) + identity(n) * n as f64
}

/// Symmetric with a positive diagonal and eigenvalues of both signs.
pub(super) fn indefinite(n: usize, seed: u64) -> Array2<f64> {
    let mut a = symmetrised(random(n, n, seed));
    (0..n).for_each(|i| a[[i, i]] = 0.25 + a[[i, i]].abs());
    // A leading minor of 2 x 2 that is negative.
    (a[[1, 0]], a[[0, 1]]) = (2.0, 2.0);
    a
}

pub(super) fn hilbert(n: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, n), |(i, j)| 1.0 / (i + j + 1) as f64)
}

pub(super) fn vandermonde(n: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, n), |(i, j)| ((i + 1) as f64 / n as f64).powi(j as i32))
}

/// Kahan's triangle, whose condition grows although no diagonal element is small.
pub(super) fn kahan(n: usize) -> Array2<f64> {
    let (sin, cos) = 1.2_f64.sin_cos();
    Array2::from_shape_fn((n, n), |(i, j)| {
        let row = sin.powi(i as i32);
        if i == j {
            row
        } else if i < j {
            -cos * row
        } else {
            0.0
        }
    })
}

/// Wilkinson's matrix, of condition n, whose elimination makes elements of 2^(n - 1).
pub(super) fn wilkinson(n: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, n), |(i, j)| {
        if j + 1 == n || i == j {
            1.0
        } else if i > j {
            -1.0
        } else {
            0.0
        }
    })
}

/// Rows or columns that fall from 1 by `step` binary orders each.
pub(super) fn graded(n: usize, step: i32, by_rows: bool, seed: u64) -> Array2<f64> {
    let mut a = random(n, n, seed);
    a.indexed_iter_mut()
        .for_each(|((i, j), value)| *value *= 2.0_f64.powi(-step * (if by_rows { i } else { j }) as i32));
    a
}

/// A triangle of random numbers, the diagonal dominant or (condition growing as 2^n or so) not.
pub(super) fn triangle(n: usize, upper: bool, dominant: bool, seed: u64) -> Array2<f64> {
    let mut a = random(n, n, seed);
    a.indexed_iter_mut().filter(|((i, j), _)| if upper { i > j } else { i < j }).for_each(|(_, value)| *value = 0.0);
    (0..n).for_each(|i| a[[i, i]] = if dominant { n as f64 } else { 0.5 + a[[i, i]].abs() / 2.0 });
    a
}

pub(super) fn permutation(n: usize) -> Array2<f64> {
    // Multiples of 7 get a cycle.
    let step = if n.is_multiple_of(7) { 1 } else { 7 };
    Array2::from_shape_fn((n, n), |(i, j)| f64::from(u8::from((i * step + 1) % n == j)))
}

/// All with n <= 60, most of them badly behaved.
pub(super) fn small() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, positive, a: Array2<f64>| {
        cases.push(Case { name: format!("{name} {}", a.nrows()), positive, a });
    };
    for n in [2, 3, 5, 8, 13, 21, 33, 60] {
        add("random", false, random(n, n, n as u64));
        add("integers", false, integers(n, n, 9, n as u64) + identity(n) * 0.5);
        add("positive", true, positive(n, 3));
        add("indefinite", false, indefinite(n, 4));
        add("negative", false, -positive(n, 3));
        add("orthogonal", false, orthogonal(n, 5));
        add("permutation", false, permutation(n));
        add("identity", false, identity(n));
        add("graded rows", false, graded(n, 1, true, 6));
        add("graded columns", false, graded(n, 1, false, 7));
        for (upper, dominant) in [(true, true), (true, false), (false, true), (false, false)] {
            add(&format!("triangle, {upper} {dominant}"), false, triangle(n, upper, dominant, 8));
        }
        add("kahan", false, kahan(n));
        for condition in [1e3, 1e7, 1e10, 1e13] {
            add(&format!("condition {condition:e}"), false, of_condition(n, condition, false));
            add(&format!("spectrum {condition:e}"), condition < 1e12, of_condition(n, condition, true));
        }
        for rcond in [1e-14, 1e-15, 1e-16, 1e-17] {
            add(&format!("near-singular {rcond:e}"), false, of_condition(n, 1.0 / rcond, false));
        }
    }
    for n in [3, 6, 9, 11, 13, 16] {
        add("hilbert", n < 12, hilbert(n));
        add("vandermonde", false, vandermonde(n));
    }
    for n in [4, 20] {
        add("steeper rows", false, graded(n, 4, true, 6));
        add("steeper columns", false, graded(n, 4, false, 7));
    }
    add("one", false, Array2::from_elem((1, 1), -3.0));
    cases
}
