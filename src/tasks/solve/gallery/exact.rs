//! What the gallery measures with: double-double arithmetic (some 31 digits, of error-free sums and products),
//! elimination in it, and determinants of integer matrices without any rounding. Plain loops that share nothing with
//! the solver.

use std::ops::{Add, Div, Mul, Neg, Sub};

use ndarray::Array2;

/// The unevaluated sum of two f64, the second at most half a unit in the last place of the first.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Dd {
    hi: f64,
    lo: f64,
}

/// a + b = hi + lo exactly (Knuth).
fn two_sum(a: f64, b: f64) -> Dd {
    let hi = a + b;
    let part = hi - a;
    Dd { hi, lo: (a - (hi - part)) + (b - part) }
}

/// a * b = hi + lo exactly, unless lo underflows.
fn two_product(a: f64, b: f64) -> Dd {
    let hi = a * b;
    Dd { hi, lo: a.mul_add(b, -hi) }
}

impl Dd {
    pub(super) const ZERO: Dd = Dd { hi: 0.0, lo: 0.0 };
    pub(super) const ONE: Dd = Dd { hi: 1.0, lo: 0.0 };

    /// The nearest f64.
    pub(super) fn to_f64(self) -> f64 {
        self.hi
    }

    pub(super) fn is_exact(self) -> bool {
        self.lo == 0.0
    }

    pub(super) fn abs(self) -> Dd {
        if self.hi < 0.0 { -self } else { self }
    }

    pub(super) fn sqrt(self) -> Dd {
        let root = self.hi.sqrt();
        let rest = self - two_product(root, root);
        two_sum(root, rest.hi / (2.0 * root))
    }
}

impl From<f64> for Dd {
    fn from(hi: f64) -> Dd {
        Dd { hi, lo: 0.0 }
    }
}

impl Neg for Dd {
    type Output = Dd;
    fn neg(self) -> Dd {
        Dd { hi: -self.hi, lo: -self.lo }
    }
}

impl Add for Dd {
    type Output = Dd;
    fn add(self, other: Dd) -> Dd {
        let (hi, lo) = (two_sum(self.hi, other.hi), two_sum(self.lo, other.lo));
        let sum = two_sum(hi.hi, hi.lo + lo.hi);
        two_sum(sum.hi, sum.lo + lo.lo)
    }
}

impl Sub for Dd {
    type Output = Dd;
    fn sub(self, other: Dd) -> Dd {
        self + -other
    }
}

impl Mul for Dd {
    type Output = Dd;
    fn mul(self, other: Dd) -> Dd {
        let product = two_product(self.hi, other.hi);
        two_sum(product.hi, product.lo + (self.hi * other.lo + self.lo * other.hi))
    }
}

impl Div for Dd {
    type Output = Dd;
    fn div(self, other: Dd) -> Dd {
        let first = self.hi / other.hi;
        let rest = self - other * first.into();
        let second = rest.hi / other.hi;
        let rest = rest - other * second.into();
        two_sum(first, second) + (rest.hi / other.hi).into()
    }
}

/// A matrix in double-double.
pub(super) type Exact = Array2<Dd>;

pub(super) fn exact(a: &Array2<f64>) -> Exact {
    a.mapv(Dd::from)
}

/// A B.
pub(super) fn product(a: &Exact, b: &Exact) -> Exact {
    let b = b.t().as_standard_layout().into_owned();
    let a = a.as_standard_layout();
    Array2::from_shape_fn((a.nrows(), b.nrows()), |(i, j)| {
        a.row(i).iter().zip(b.row(j)).fold(Dd::ZERO, |sum, (a, b)| sum + *a * *b)
    })
}

/// b - A x. The terms are added into one double-double: good to 2^-100 of the largest of them.
pub(super) fn residual(a: &Array2<f64>, x: &Array2<f64>, b: &Array2<f64>) -> Exact {
    let (a, x) = (a.as_standard_layout(), x.t().as_standard_layout().into_owned());
    Array2::from_shape_fn(b.dim(), |(i, j)| {
        let terms = a.row(i).into_iter().zip(x.row(j));
        terms.fold(b[[i, j]].into(), |sum: Dd, (a, x)| {
            let term = two_product(-a, *x);
            let head = two_sum(sum.hi, term.hi);
            two_sum(head.hi, head.lo + (sum.lo + term.lo))
        })
    })
}

/// The infinity norm.
pub(super) fn norm(a: &Exact) -> f64 {
    let sums = a.rows().into_iter().map(|row| row.iter().fold(Dd::ZERO, |sum, value| sum + value.abs()).to_f64());
    sums.fold(0.0, f64::max)
}

/// X of A X = B by Gaussian elimination, the pivot of a column being the largest relative to its row.
pub(super) fn solve(a: &Exact, b: &Exact) -> Exact {
    let (n, width) = (a.nrows(), a.nrows() + b.ncols());
    let row = |i: usize| a.row(i).iter().chain(b.row(i)).copied().collect();
    let mut rows: Vec<Vec<Dd>> = (0..n).map(row).collect();
    let largest = |row: &[Dd]| row.iter().fold(0.0, |max: f64, value| max.max(value.abs().to_f64()));
    let mut scales: Vec<f64> = rows.iter().map(|row| largest(&row[..n])).collect();
    for k in 0..n {
        let relative = |i: usize| rows[i][k].abs().to_f64() / scales[i];
        let pivot = (k..n).max_by(|&i, &j| relative(i).total_cmp(&relative(j))).unwrap();
        rows.swap(k, pivot);
        scales.swap(k, pivot);
        let (above, below) = rows.split_at_mut(k + 1);
        let pivot = &above[k];
        for row in below.iter_mut().filter(|row| row[k] != Dd::ZERO) {
            let factor = row[k] / pivot[k];
            (k + 1..width).for_each(|j| row[j] = row[j] - factor * pivot[j]);
        }
    }
    for k in (0..n).rev() {
        let (above, below) = rows.split_at_mut(k + 1);
        let row = &mut above[k];
        for j in n..width {
            let rest = (k + 1..n).fold(row[j], |rest, i| rest - row[i] * below[i - k - 1][j]);
            row[j] = rest / row[k];
        }
    }
    Array2::from_shape_fn(b.dim(), |(i, j)| rows[i][n + j])
}

pub(super) fn inverse(a: &Exact) -> Exact {
    solve(a, &Array2::from_shape_fn(a.dim(), |(i, j)| if i == j { Dd::ONE } else { Dd::ZERO }))
}

/// 1 / (||A|| ||A^-1||) in the infinity norm.
pub(super) fn reciprocal_condition(a: &Exact) -> f64 {
    1.0 / norm(a) / norm(&inverse(a))
}

/// The lower triangle L of G = L L'.
pub(super) fn cholesky(g: &Exact) -> Exact {
    let n = g.nrows();
    let mut l = Array2::from_elem((n, n), Dd::ZERO);
    for j in 0..n {
        for i in j..n {
            let rest = (0..j).fold(g[[i, j]], |rest, k| rest - l[[i, k]] * l[[j, k]]);
            l[[i, j]] = if i == j { rest.sqrt() } else { rest / l[[j, j]] };
        }
    }
    l
}

/// The least squares solution of A X = B, or the shortest one, from the augmented system
/// [I, A; A', 0] [R; X] = [B; 0], or [I, A'; A, 0] [X; Y] = [0; B].
pub(super) fn least_squares(a: &Array2<f64>, b: &Array2<f64>) -> Exact {
    let tall = a.nrows() >= a.ncols();
    let upright = if tall { a.view() } else { a.t() };
    let (long, short) = upright.dim();
    let element = |(i, j): (usize, usize)| match (i < long, j < long) {
        (true, true) => f64::from(u8::from(i == j)),
        (true, false) => upright[[i, j - long]],
        (false, true) => upright[[j, i - long]],
        (false, false) => 0.0,
    };
    let augmented = Array2::from_shape_fn((long + short, long + short), element);
    let offset = if tall { 0 } else { long };
    let right = Array2::from_shape_fn((long + short, b.ncols()), |(i, j)| {
        let inside = i >= offset && i - offset < b.nrows();
        if inside { b[[i - offset, j]] } else { 0.0 }
    });
    let both = solve(&exact(&augmented), &exact(&right));
    let first = if tall { long } else { 0 };
    Array2::from_shape_fn((a.ncols(), b.ncols()), |(i, j)| both[[first + i, j]])
}

/// The determinant of an integer matrix, by fraction-free elimination (Bareiss).
pub(super) fn determinant(a: &Array2<i128>) -> i128 {
    let (n, mut a, mut sign, mut before) = (a.nrows(), a.clone(), 1, 1);
    for k in 0..n {
        let Some(pivot) = (k..n).find(|&i| a[[i, k]] != 0) else { return 0 };
        if pivot != k {
            (0..n).for_each(|j| a.swap([k, j], [pivot, j]));
            sign = -sign;
        }
        for i in k + 1..n {
            for j in k + 1..n {
                a[[i, j]] = (a[[i, j]] * a[[k, k]] - a[[i, k]] * a[[k, j]]) / before;
            }
        }
        before = a[[k, k]];
    }
    sign * before
}

#[test]
fn the_measures_are_right() {
    let third = Dd::ONE / Dd::from(3.0);
    assert!((third + third + third - Dd::ONE).abs().to_f64() < 1e-31 && !third.is_exact());
    assert!((Dd::from(2.0).sqrt() * Dd::from(2.0).sqrt() - Dd::from(2.0)).abs().to_f64() < 1e-30);
    // The inverse of the 12 x 12 matrix of binomials is one of integers; the condition of Hilbert's 10 x 10 is known.
    let mut pascal = Array2::from_elem((12, 12), 1.0);
    (1..12).for_each(|i| (1..12).for_each(|j| pascal[[i, j]] = pascal[[i - 1, j]] + pascal[[i, j - 1]]));
    assert!(inverse(&exact(&pascal)).iter().all(|value| (value.to_f64() - value.to_f64().round()).abs() < 1e-12));
    assert_eq!(determinant(&pascal.mapv(|value| value as i128)), 1);
    let hilbert = Array2::from_shape_fn((10, 10), |(i, j)| Dd::ONE / Dd::from((i + j + 1) as f64));
    assert!((1.0 / reciprocal_condition(&hilbert) / 35357439251992.0 - 1.0).abs() < 1e-12);
    let r = residual(&pascal, &Array2::from_elem((12, 1), 0.1), &Array2::zeros((12, 1)));
    let sum = pascal.row(11).sum();
    assert_eq!(r[[11, 0]].to_f64(), -sum * 0.1);
    let l = cholesky(&exact(&pascal));
    assert!(
        product(&l, &l.t().to_owned()).iter().zip(&pascal).all(|(g, a)| (*g - Dd::from(*a)).abs().to_f64() < 1e-20)
    );
}
