//! The gallery: matrices that are hard in every way known, by every method that takes them, in both orders. Each answer
//! is held against the truth, and each figure of its certificate against its own definition, both computed here in
//! double-double by code that shares nothing with the solver.
//!
//! No tolerance is fitted: what rounding may do is counted in units of it, and what the certificate promises is taken
//! at its word.

mod exact;
mod matrices;
mod squares;

use ndarray::Array2;
use proptest::prelude::*;

use self::exact::Dd;
use self::matrices::{identity, integers, random, symmetrised};
use super::*;
use crate::task::Watch;

const ORDERS: [Order; 2] = [Order::RowMajor, Order::ColMajor];
/// Half a unit in the last place of 1.
const U: f64 = f64::EPSILON / 2.0;
const UNREFINED: [Method; 4] = [Method::Lu, Method::Cholesky, Method::Triangular, Method::Lstsq];

fn in_order(a: &Array2<f64>, order: Order) -> Matrix {
    let numbers = match order {
        Order::RowMajor => a.iter().copied().collect(),
        Order::ColMajor => a.t().iter().copied().collect(),
    };
    Matrix::new(a.nrows(), a.ncols(), order, numbers).unwrap()
}

fn max_abs<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().fold(0.0, |max, value| max.max(value.abs()))
}

fn solve(system: &System, choice: Choice) -> Result<Solution, TaskError> {
    SolveHandler::uncalibrated(usize::MAX).solve(&system.clone().by(choice), 1, &Watch::default())
}

fn invalid(system: &System, choice: Choice) -> String {
    match solve(system, choice) {
        Err(TaskError::Invalid(reason)) => reason,
        other => panic!("{choice:?} gave {other:?}"),
    }
}

/// What can be known of A X = B without the solver.
struct Truth {
    a: Array2<f64>,
    b: Array2<f64>,
    x: exact::Exact,
    /// Of A, unless computing it takes too long.
    rcond: Option<f64>,
    norm: f64,
    /// Elimination is stable, or the backward error may be anything.
    stable: bool,
}

impl Truth {
    /// Of `a` and a B made of columns of small integers X: X itself where B is exact, else computed.
    fn new(a: &Array2<f64>, nrhs: usize) -> Truth {
        let n = a.nrows();
        let x = integers(n, nrhs, 30, 77);
        let b = -exact::residual(a, &x, &Array2::zeros((n, nrhs)));
        let known = b.iter().all(|value| value.is_exact());
        let b = b.mapv(Dd::to_f64);
        let a_exact = exact::exact(a);
        let x = if known { exact::exact(&x) } else { exact::solve(&a_exact, &exact::exact(&b)) };
        let rcond = (n <= 60).then(|| exact::reciprocal_condition(&a_exact));
        Truth { a: a.clone(), b, x, rcond, norm: exact::norm(&a_exact), stable: true }
    }

    fn system(&self, a_order: Order, b_order: Order) -> System {
        System::new(in_order(&self.a, a_order), in_order(&self.b, b_order))
    }

    /// max over the columns of ||x - truth|| / ||x||.
    fn forward_error(&self, x: &Array2<f64>) -> f64 {
        let columns = x.columns().into_iter().zip(self.x.columns());
        let error = |(x, truth): (ndarray::ArrayView1<'_, f64>, ndarray::ArrayView1<'_, Dd>)| {
            let error =
                x.iter().zip(truth).map(|(x, truth)| (Dd::from(*x) - *truth).to_f64().abs()).fold(0.0, f64::max);
            if error == 0.0 { 0.0 } else { error / max_abs(x) }
        };
        columns.map(error).fold(0.0, f64::max)
    }

    /// max over the columns of ||b - A x|| / (||A|| ||x|| + ||b||).
    fn backward_error(&self, x: &Array2<f64>) -> f64 {
        let r = exact::residual(&self.a, x, &self.b).mapv(Dd::to_f64);
        let error = |j: usize| {
            let [r, x, b] = [&r, x, &self.b].map(|matrix| max_abs(matrix.column(j)));
            if r == 0.0 { 0.0 } else { r / self.norm / (x + b / self.norm) }
        };
        (0..x.ncols()).map(error).fold(0.0, f64::max)
    }

    fn symmetric(&self) -> bool {
        self.a == self.a.t()
    }

    fn triangular(&self) -> bool {
        let zero = |upper| self.a.indexed_iter().all(|((i, j), a)| *a == 0.0 || if upper { i <= j } else { i >= j });
        zero(true) || zero(false)
    }

    /// The choices that take A.
    fn choices(&self) -> Vec<Choice> {
        let mut choices = vec![Choice::Auto, Choice::Lu, Choice::Mixed];
        choices.extend(self.symmetric().then_some(Choice::Cholesky));
        choices.extend(self.triangular().then_some(Choice::Triangular));
        choices
    }

    /// The methods that a choice stands for, as its documentation has it.
    fn chain(&self, choice: Choice, nrhs: usize) -> Vec<Method> {
        let hopeful = self.symmetric() && self.a.diag().iter().all(|value| *value > 0.0);
        match choice {
            Choice::Lu => vec![Method::Lu],
            Choice::Mixed => vec![Method::Mixed, Method::Lu],
            Choice::Cholesky => vec![Method::Cholesky, Method::Lu],
            Choice::Triangular => vec![Method::Triangular],
            Choice::Lstsq => vec![Method::Lstsq],
            Choice::Auto if self.triangular() => vec![Method::Triangular],
            Choice::Auto => match (hopeful, self.a.nrows() >= 300 && nrhs * 24 <= self.a.nrows()) {
                (true, true) => vec![Method::MixedCholesky, Method::Cholesky, Method::Mixed, Method::Lu],
                (true, false) => vec![Method::Cholesky, Method::Lu],
                (false, true) => vec![Method::Mixed, Method::Lu],
                (false, false) => vec![Method::Lu],
            },
        }
    }

    /// Solves in the given orders, holds answer and certificate against the truth, and returns them.
    fn check(&self, name: &str, choice: Choice, a_order: Order, b_order: Order) -> Solution {
        self.check_system(name, choice, &self.system(a_order, b_order))
    }

    fn check_system(&self, name: &str, choice: Choice, system: &System) -> Solution {
        let name = format!("{name} by {choice:?}, A {:?}, B {:?}", system.a.order(), system.b);
        let solution = solve(system, choice).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (x, b) = (&solution.x, &system.b);
        assert_eq!((x.rows(), x.cols()), (self.a.ncols(), b.cols()), "{name}");
        assert_eq!((x.is_vector(), x.order()), (b.is_vector(), b.order()), "{name}");
        let certificate = &solution.certificate;
        self.check_way(&name, choice, b.cols(), certificate);
        let x = x.clone().into_array2();
        let (n, found) = (self.a.nrows() as f64, self.backward_error(&x));
        let claimed = certificate.backward_error;
        // The solver's residual is one of n + 1 terms rounded at most n + 1 times, the rest a few operations.
        let rounding = (n + 3.0) * U;
        assert!((claimed - found).abs() <= rounding, "{name}: backward error {claimed:e} claimed, {found:e} found");
        assert!(!self.stable || found <= 4.0 * n * f64::EPSILON, "{name}: backward error {found:e}");
        self.check_rcond(&name, certificate);
        let error = self.forward_error(&x);
        match certificate.forward_error_bound {
            Some(bound) => {
                assert!(error <= bound, "{name}: off by {error:e}, {:.2} bounds: {certificate:?}", error / bound)
            }
            None => assert!(certificate.rcond < f64::EPSILON, "{name}: {certificate:?}"),
        }
        solution
    }

    /// Whether the certificate's account of itself is one that the choice allows.
    fn check_way(&self, name: &str, choice: Choice, nrhs: usize, certificate: &Certificate) {
        let Certificate { method, tried, iterations, threads, .. } = certificate;
        let way: Vec<Method> = tried.iter().chain([method]).copied().collect();
        assert!(self.chain(choice, nrhs).starts_with(&way), "{name}: {certificate:?}");
        let refined = way.iter().filter(|method| !UNREFINED.contains(method)).count() as u32;
        // LU in f64 takes a step or two where its elements grow.
        let growth = if self.stable { 0 } else { 2 };
        assert!(*iterations <= 12 * refined + growth, "{name}: {certificate:?}");
        assert_eq!((*threads, &certificate.reproducible), (1, &None), "{name}");
        assert!(certificate.factor_seconds >= 0.0 && certificate.solve_seconds >= 0.0, "{name}");
        if !UNREFINED.contains(method) {
            // The rule of dsgesv, which ends the refinement.
            assert!(certificate.backward_error <= U * (self.a.nrows() as f64).sqrt(), "{name}: {certificate:?}");
        }
    }

    /// The estimate is not below the truth, but for the rounding of the factors, and at most ten times as large.
    fn check_rcond(&self, name: &str, certificate: &Certificate) {
        assert!((0.0..=1.0).contains(&certificate.rcond), "{name}: {certificate:?}");
        let Some(truth) = self.rcond else { return };
        let rcond = certificate.rcond;
        let n = self.a.nrows() as f64;
        let unit = if UNREFINED.contains(&certificate.method) { U } else { f64::from(f32::EPSILON) / 2.0 };
        // A solution is that of A + E, with E of 3 n + 1 units (Higham, theorems 9.4 and 10.4), and then come the sums
        // of the two norms: so much of the inverse is noise.
        let noise = (4.0 * n + 4.0) * unit / truth;
        if noise < 0.5 {
            assert!(rcond >= truth * (1.0 - noise), "{name}: rcond {rcond:e} estimated, {truth:e} true");
        }
        assert!(rcond <= 10.0 * truth * (1.0 + noise), "{name}: rcond {rcond:e} estimated, {truth:e} true");
        let warning = certificate.warning();
        // A bound of 1e-6 is where warnings begin.
        assert!(truth > 1e-12 || warning.is_some(), "{name}: no warning, and rcond {truth:e} is true");
        assert!(truth < 1e-6 || warning.is_none(), "{name}: {warning:?}, and rcond {truth:e} is true");
    }

    /// By every choice that takes it, in every order, as a matrix and as vectors.
    fn check_all(&self, name: &str) -> Vec<Solution> {
        let mut solutions = Vec::new();
        for choice in self.choices() {
            for (a_order, b_order) in ORDERS.iter().flat_map(|a| ORDERS.map(|b| (*a, b))) {
                solutions.push(self.check(name, choice, a_order, b_order));
            }
        }
        solutions
    }

    /// Of the first column alone.
    fn first(&self) -> Truth {
        let column = |j: usize| ndarray::s![.., j..j + 1];
        Truth {
            a: self.a.clone(),
            b: self.b.slice(column(0)).to_owned(),
            x: self.x.slice(column(0)).to_owned(),
            rcond: self.rcond,
            norm: self.norm,
            stable: self.stable,
        }
    }

    fn check_vector(&self, name: &str) {
        for (choice, order) in self.choices().into_iter().flat_map(|choice| ORDERS.map(|order| (choice, order))) {
            let system = self.system(order, Order::ColMajor);
            let system = System { b: system.b.into_vector().unwrap(), ..system };
            self.check_system(name, choice, &system);
        }
    }
}

#[test]
fn every_matrix_of_the_gallery_is_solved_as_its_certificate_says_by_every_method_that_takes_it() {
    for case in matrices::small() {
        let truth = Truth::new(&case.a, 3);
        for solution in truth.check_all(&case.name) {
            let Certificate { method, tried, .. } = &solution.certificate;
            assert!(!case.positive || !tried.contains(&Method::Cholesky), "{}: {tried:?}, then {method:?}", case.name);
        }
        truth.first().check_vector(&case.name);
    }
}

#[test]
fn sizes_around_every_boundary_are_solved() {
    let boundaries = [16, 32, 64, 128, 256, method::MIXED_FROM, 500, 512];
    for n in [1, 2, 3].into_iter().chain(boundaries.iter().flat_map(|n| [n - 1, *n, n + 1])) {
        let general = Truth::new(&random(n, n, n as u64), 1);
        let positive = Truth::new(&matrices::positive(n, 1), 1);
        let triangle = Truth::new(&matrices::triangle(n, n % 2 == 0, true, 2), 1);
        for truth in [general, positive, triangle] {
            truth.check_vector(&format!("n = {n}"));
        }
    }
}

#[test]
fn every_column_of_every_panel_is_solved() {
    let edge = panel::PANEL_COLUMNS;
    for n in [1, 5, 33] {
        for nrhs in [31, 32, 33, 64, 65, edge - 1, edge, edge + 1, 2 * edge + 1] {
            Truth::new(&random(n, n, 3), nrhs).check_all("panels");
            Truth::new(&matrices::positive(n, 3), nrhs).check_all("panels, positive");
            Truth::new(&matrices::triangle(n, true, true, 3), nrhs).check_all("panels, triangular");
        }
    }
    let n = method::MIXED_FROM;
    for a in [random(n, n, 4), matrices::positive(n, 4), matrices::triangle(n, false, true, 4)] {
        let truth = Truth::new(&a, edge + 1);
        let structured = if truth.symmetric() { Choice::Cholesky } else { Choice::Auto };
        for (choice, order) in
            [Choice::Auto, Choice::Mixed, structured].into_iter().flat_map(|by| ORDERS.map(|o| (by, o)))
        {
            truth.check("panels", choice, order, order);
        }
    }
}

#[test]
fn what_one_method_gives_up_the_next_one_answers() {
    let n = method::MIXED_FROM;
    let way = |a: &Array2<f64>, choice| {
        let Certificate { tried, method, .. } =
            Truth::new(a, 1).check("way", choice, Order::RowMajor, Order::RowMajor).certificate;
        (tried, method)
    };
    let (mixed, lu, cholesky, mixed_cholesky) = (Method::Mixed, Method::Lu, Method::Cholesky, Method::MixedCholesky);
    for small in [2, 40, n - 1] {
        assert_eq!(way(&matrices::positive(small, 1), Choice::Auto), (vec![], cholesky));
        assert_eq!(way(&matrices::indefinite(small, 1), Choice::Auto), (vec![cholesky], lu));
        assert_eq!(way(&matrices::indefinite(small, 1), Choice::Cholesky), (vec![cholesky], lu));
        assert_eq!(way(&-matrices::positive(small, 1), Choice::Auto), (vec![], lu));
        assert_eq!(way(&matrices::triangle(small, true, true, 1), Choice::Auto), (vec![], Method::Triangular));
    }
    for large in [n, n + 1] {
        assert_eq!(way(&random(large, large, 1), Choice::Auto), (vec![], mixed));
        assert_eq!(way(&matrices::positive(large, 1), Choice::Auto), (vec![], mixed_cholesky));
        assert_eq!(way(&matrices::indefinite(large, 1), Choice::Auto), (vec![mixed_cholesky, cholesky], mixed));
        assert_eq!(way(&-matrices::positive(large, 1), Choice::Auto), (vec![], mixed));
    }
    // Beyond f32, within f64.
    assert_eq!(way(&matrices::of_condition(n, 1e10, true), Choice::Auto), (vec![mixed_cholesky], cholesky));
    assert_eq!(way(&matrices::of_condition(n, 1e10, false), Choice::Auto), (vec![mixed], lu));
    assert_eq!(way(&matrices::of_condition(60, 1e10, false), Choice::Mixed), (vec![mixed], lu));
    assert_eq!(way(&matrices::of_condition(n, 1e4, false), Choice::Auto), (vec![], mixed));
}

/// The Laplacian of a graph with random weights: its rows add up to nothing, so it is singular but for rounding. All
/// other singular values are large, and B is in its range: refinement in f32 sees nothing amiss.
#[test]
fn one_tiny_singular_value_is_not_hidden_by_the_rounding_to_f32() {
    for n in [20, 60, method::MIXED_FROM, 400] {
        let mut a = -symmetrised(random(n, n, 5).mapv(f64::abs));
        for i in 0..n {
            a[[i, i]] = 0.0;
            a[[i, i]] = -a.row(i).sum();
        }
        let b = -exact::residual(&a, &integers(n, 1, 30, 77), &Array2::zeros((n, 1)));
        let system = System::new(a, in_order(&b.mapv(Dd::to_f64), Order::ColMajor));
        for choice in [Choice::Auto, Choice::Mixed, Choice::Lu, Choice::Cholesky, Choice::Lstsq] {
            match solve(&system, choice) {
                Err(error) => assert!(matches!(error, TaskError::Singular { .. }), "{n} {choice:?}: {error}"),
                Ok(Solution { certificate, .. }) => {
                    assert!(certificate.rcond <= n as f64 * f64::EPSILON, "{n} {choice:?}: {certificate:?}");
                    assert!(certificate.warning().is_some(), "{n} {choice:?}: {certificate:?}");
                }
            }
        }
    }
}

/// Elimination of the columns makes numbers of 2^(n - 1): a step of refinement makes it good, until at n = 100 nothing is
/// left to refine with and the certificate has to say so. The elimination of the rows makes none.
#[test]
fn growth_is_refined_away_or_the_certificate_knows() {
    for (n, order) in [10, 40, 60, 100].into_iter().flat_map(|n| ORDERS.map(|order| (n, order))) {
        // With the estimate of the condition as poor as the factors.
        let truth = Truth { rcond: None, stable: false, ..Truth::new(&(matrices::wilkinson(n) * 0.7), 2) };
        for choice in [Choice::Auto, Choice::Lu, Choice::Mixed] {
            let certificate = truth.check("wilkinson", choice, order, order).certificate;
            let grown = order == Order::ColMajor;
            assert!(choice == Choice::Mixed || grown == (certificate.iterations > 0), "{n}: {certificate:?}");
            let poor = n == 100 && order == Order::ColMajor;
            assert_eq!(certificate.backward_error > 1e-8, poor, "{n}: {certificate:?}");
            assert_eq!(certificate.warning().is_some(), poor, "{n}: {certificate:?}");
        }
    }
}

#[test]
fn scales_at_the_ends_of_f64_change_nothing() {
    for n in [1, 2, 8, 30] {
        for scale in [1e-150, 1e150, 2.0_f64.powi(-1000), 2.0_f64.powi(-970), 2.0_f64.powi(1000)] {
            for (kind, a) in
                [matrices::orthogonal(n, 1), random(n, n, 2), identity(n), matrices::positive(n, 3)].iter().enumerate()
            {
                // Multiples of the least number wanted: else B would not be what it is taken for.
                let a = a.mapv(|value| (value * 2.0_f64.powi(31)).round() / 2.0_f64.powi(31) * scale);
                let truth = Truth::new(&a, 2);
                for solution in truth.check_all(&format!("scale {scale:e} of {kind}, {n}")) {
                    assert!(
                        !solution.certificate.tried.contains(&Method::Mixed),
                        "{scale:e} {:?}",
                        solution.certificate
                    );
                }
            }
        }
    }
}

/// Not every kernel's LU takes pivots whose reciprocal is beyond f64. What it makes of them is refused, or called what
/// it is.
#[test]
fn subnormal_numbers_are_solved_or_refused() {
    for n in [1, 2, 5, 20] {
        for (kind, a) in [identity(n), integers(n, n, 9, 3) + identity(n), matrices::positive(n, 3)].iter().enumerate()
        {
            // In two factors: `powi` of -1040 is 0 where it is not computed by the compiler, as 1 / 2^1040.
            let step = 2.0_f64.powi(-520) * 2.0_f64.powi(-520) * 2.0_f64.powi(if kind == 2 { 0 } else { -34 });
            let truth = Truth { rcond: None, ..Truth::new(&(a * step), 2) };
            for choice in truth.choices() {
                let system = truth.system(Order::ColMajor, Order::ColMajor);
                match solve(&system, choice) {
                    Ok(Solution { x, certificate }) => {
                        let (error, bound) = (truth.forward_error(&x.into_array2()), certificate.forward_error_bound);
                        let warned = certificate.warning().is_some();
                        assert!(warned || error <= bound.unwrap(), "{n} {kind} {choice:?}: {error:e} {certificate:?}");
                    }
                    // faer divides by multiplying with the reciprocal everywhere, and its QR takes a column so small for 0.
                    Err(error) if kernel::NAME == "faer" => {
                        let singular = matches!(error, TaskError::Singular { .. });
                        let said = error.to_string().contains("the range of f64");
                        assert!(said || singular, "{n} {kind} {choice:?}: {error}");
                    }
                    Err(error) => {
                        let lu = matches!(choice, Choice::Auto | Choice::Lu | Choice::Mixed);
                        assert!(lu, "{n} {kind} {choice:?}: {error}");
                        assert!(error.to_string().contains("the range of f64"), "{n} {kind} {choice:?}: {error}");
                    }
                }
            }
        }
    }
}

/// The last row adds to 1 what is lost in rounding every time, and always in the same direction: the one way known to be
/// further off than a certificate says that counts on errors of both signs (1.4 times at n = 1000, with MKL). Even then
/// the answer is within the bound that counts on nothing, of n units instead of sqrt(n).
#[test]
fn errors_all_of_one_sign_stay_within_the_certain_bound() {
    for n in [30, 300, 1000] {
        let mut a = identity(n);
        (0..n - 1).for_each(|j| a[[n - 1, j]] = 0.9 * U);
        // x = 1 everywhere, but for the rounding of the last element of B.
        let last = Dd::from(1.0) + Dd::from((n - 1) as f64) * Dd::from(0.9 * U);
        let mut b = vec![1.0; n];
        b[n - 1] = last.to_f64();
        let truth = Dd::from(1.0) + (Dd::from(b[n - 1]) - last);
        for (order, choice) in ORDERS.iter().flat_map(|o| [Choice::Auto, Choice::Lu, Choice::Mixed].map(|c| (*o, c))) {
            let system = System::new(in_order(&a, order), Matrix::vector(b.clone()));
            let Solution { x, certificate } = solve(&system, choice).unwrap();
            assert!(x.as_slice()[..n - 1].iter().all(|x| *x == 1.0), "{n} {order:?} {choice:?}");
            let error = (Dd::from(x.as_slice()[n - 1]) - truth).abs().to_f64();
            let bound = 2.0 * (certificate.backward_error + (n + 1) as f64 * U) / certificate.rcond;
            assert!(error <= bound, "{n} {order:?} {choice:?}: off by {error:e}, bound {bound:e}");
        }
    }
}

#[test]
fn what_is_exactly_singular_is_named() {
    let b = |n: usize| in_order(&integers(n, 2, 9, 1), Order::RowMajor);
    let singular = |a: &Array2<f64>, order, choice| match solve(&System::new(in_order(a, order), b(a.nrows())), choice)
    {
        Err(TaskError::Singular { pivot }) => pivot as usize,
        other => panic!("{order:?} {choice:?}: {other:?}"),
    };
    for n in [1, 3, 7, 33, 130, 301] {
        for zero in [0, n / 2, n - 1] {
            for (order, choice) in
                ORDERS.iter().flat_map(|o| [Choice::Auto, Choice::Lu, Choice::Mixed].map(|c| (*o, c)))
            {
                let mut a = random(n, n, 1);
                a.column_mut(zero).fill(0.0);
                // The line that is stored in one piece is the one that finds no pivot.
                let expected = if order == Order::ColMajor || n == 1 { zero + 1 } else { n };
                assert_eq!(singular(&a, order, choice), expected);
                let transposed = a.t().to_owned();
                let expected = if order == Order::RowMajor || n == 1 { zero + 1 } else { n };
                assert_eq!(singular(&transposed, order, choice), expected);
                for upper in [true, false] {
                    let mut a = matrices::triangle(n, upper, true, 1);
                    a[[zero, zero]] = 0.0;
                    assert_eq!(singular(&a, order, Choice::Triangular), zero + 1);
                    assert_eq!(singular(&a, order, Choice::Auto), zero + 1);
                }
            }
        }
        assert_eq!(singular(&Array2::zeros((n, n)), Order::ColMajor, Choice::Auto), 1);
        assert_eq!(singular(&Array2::zeros((n, n)), Order::ColMajor, Choice::Cholesky), 1);
    }
}

#[test]
fn a_structure_that_is_not_there_is_refused_with_the_place() {
    let b = Matrix::vector(vec![1.0; 40]);
    for order in ORDERS {
        let refusal = |a: &Array2<f64>, choice| invalid(&System::new(in_order(a, order), b.clone()), choice);
        let mut a = matrices::positive(40, 1);
        (a[[37, 3]], a[[3, 37]]) = (5.25, 5.5);
        let reason = refusal(&a, Choice::Cholesky);
        assert!(reason.contains("A[37, 3] is 5.25") && reason.contains("A[3, 37] is 5.5"), "{reason}");
        let mut a = matrices::triangle(40, true, true, 1);
        (a[[0, 1]], a[[39, 20]]) = (8.25, 7.5);
        let reason = refusal(&a, Choice::Triangular);
        assert!(reason.contains("A[39, 20] is 7.5") && reason.contains("A[0, 1] is 8.25"), "{reason}");
        for choice in [Choice::Auto, Choice::Lu, Choice::Mixed, Choice::Cholesky, Choice::Triangular] {
            let reason = refusal(&random(40, 39, 1), choice);
            assert!(reason.contains("40 x 39; it must be square"), "{reason}");
        }
    }
}

proptest! {
    #[test]
    fn any_method_agrees_with_lu_within_both_bounds(
        n in 2_usize..40,
        digits in 0.0..16.0,
        symmetric in any::<bool>(),
        seed in any::<u64>(),
        row_major in any::<bool>(),
    ) {
        let a = matrices::of_condition(n, 10.0_f64.powf(digits), symmetric);
        let order = if row_major { Order::RowMajor } else { Order::ColMajor };
        let system = System::new(in_order(&a, order), in_order(&random(n, 2, seed), order));
        let reach = |solution: &Solution, column: usize| {
            let bound = solution.certificate.forward_error_bound.unwrap_or(f64::INFINITY);
            bound * max_abs(solution.x.view().column(column))
        };
        let lu = solve(&system, Choice::Lu).unwrap();
        for choice in [Choice::Auto, Choice::Mixed, Choice::Cholesky, Choice::Lstsq] {
            if choice == Choice::Cholesky && !symmetric {
                continue;
            }
            let other = solve(&system, choice).unwrap();
            for column in 0..2 {
                let between = max_abs(&(&lu.x.view().column(column) - &other.x.view().column(column)));
                let bounds = reach(&lu, column) + reach(&other, column);
                prop_assert!(between <= bounds, "{choice:?}: {between:e}, bounds {bounds:e}");
            }
        }
    }

    #[test]
    fn whether_a_matrix_of_integers_is_singular_is_told_as_its_determinant_says(
        n in 1_usize..8, rank in 1_usize..8, seed in any::<u32>(), row_major in any::<bool>(),
    ) {
        let seed = u64::from(seed);
        let a = match rank < n {
            true => integers(n, rank, 2, seed).dot(&integers(rank, n, 2, seed + 1)),
            false => integers(n, n, 3, seed),
        };
        let b = integers(n, 1, 9, seed + 2);
        let whole = a.mapv(|value| value as i128);
        let determinant = exact::determinant(&whole);
        let order = if row_major { Order::RowMajor } else { Order::ColMajor };
        let system = System::new(in_order(&a, order), in_order(&b, order));
        for choice in [Choice::Auto, Choice::Lu, Choice::Mixed, Choice::Lstsq] {
            match solve(&system, choice) {
                Err(TaskError::Singular { pivot }) => {
                    prop_assert_eq!(determinant, 0, "{:?} {}", choice, pivot);
                    prop_assert!((1..=n as u64).contains(&pivot), "{choice:?} {pivot}");
                }
                Err(error) => prop_assert!(false, "{choice:?}: {error}"),
                Ok(Solution { certificate, .. }) if determinant == 0 => {
                    prop_assert!(certificate.rcond <= 10.0 * n as f64 * f64::EPSILON, "{choice:?} {certificate:?}");
                    prop_assert!(certificate.warning().is_some(), "{choice:?} {certificate:?}");
                }
                Ok(Solution { x, certificate }) => {
                    let bound = certificate.forward_error_bound.unwrap() * max_abs(x.as_slice());
                    for (i, x) in x.as_slice().iter().enumerate() {
                        // Cramer's rule, in integers.
                        let mut replaced = whole.clone();
                        (0..n).for_each(|k| replaced[[k, i]] = b[[k, 0]] as i128);
                        let exact = exact::determinant(&replaced) as f64 / determinant as f64;
                        let near = (x - exact).abs() <= bound + U * exact.abs();
                        prop_assert!(near, "{choice:?}: {x}, not {exact}: {certificate:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_element_out_of_place_is_found(n in 2_usize..70, at in any::<(u32, u32)>(), row_major in any::<bool>()) {
        let (i, j) = (at.0 as usize % n, at.1 as usize % n);
        prop_assume!(i != j);
        let order = if row_major { Order::RowMajor } else { Order::ColMajor };
        let mut a = matrices::positive(n, 1);
        a[[i, j]] += 1.0;
        let reason = invalid(&System::new(in_order(&a, order), Matrix::vector(vec![1.0; n])), Choice::Cholesky);
        for (i, j) in [(i, j), (j, i)] {
            let place = format!("A[{i}, {j}] is {} ", a[[i, j]]);
            prop_assert!(format!("{reason} ").contains(&place), "{reason}, not {place}");
        }
        let mut a = matrices::triangle(n, i < j, true, 1);
        a[[j, i]] = 2.5;
        let reason = invalid(&System::new(in_order(&a, order), Matrix::vector(vec![1.0; n])), Choice::Triangular);
        prop_assert!(n == 2 || reason.contains(&format!("A[{j}, {i}] is 2.5 ")), "{reason}");
    }
}
