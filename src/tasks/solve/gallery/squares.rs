//! Least squares: tall, wide and square, in both orders.

use ndarray::Array2;

use super::exact::{self, Dd};
use super::matrices::{integers, orthogonal, random};
use super::*;

/// Singular values that fall geometrically from 1 to 1 / condition.
fn of_condition(rows: usize, cols: usize, condition: f64) -> Array2<f64> {
    let rank = rows.min(cols);
    let value = |k: usize| condition.powf(-(k as f64) / (rank.max(2) - 1) as f64);
    let (left, right) = (orthogonal(rows, 1), orthogonal(cols, 5));
    let left = Array2::from_shape_fn((rows, rank), |(i, j)| left[[i, j]] * value(j));
    left.dot(&right.slice(ndarray::s![..rank, ..]))
}

fn transposed(a: &exact::Exact) -> exact::Exact {
    a.t().to_owned()
}

fn norm(a: &Array2<f64>) -> f64 {
    exact::norm(&exact::exact(a))
}

/// The certificate's backward error by its definition, worst column.
fn backward_error(a: &Array2<f64>, x: &Array2<f64>, b: &Array2<f64>) -> f64 {
    let r = exact::residual(a, x, b);
    let (rows, cols) = a.dim();
    let gradient = exact::product(&transposed(&exact::exact(a)), &r).mapv(Dd::to_f64);
    let (norm_a, norm_t) = (norm(a), norm(&a.t().to_owned()));
    let error = |j: usize| {
        let [x, b, gradient] = [x, b, &gradient].map(|matrix| max_abs(matrix.column(j)));
        let r = max_abs(&r.column(j).mapv(Dd::to_f64));
        let error = if rows > cols { gradient / norm_t } else { r };
        if r == 0.0 { 0.0 } else { error / (norm_a * x + b) }
    };
    (0..x.ncols()).map(error).fold(0.0, f64::max)
}

/// That of the triangular factor: the Cholesky factor of A'A or AA', or its transpose, as the order has it.
fn reciprocal_condition(a: &Array2<f64>, order: Order) -> f64 {
    let (rows, cols) = a.dim();
    let stored = if order == Order::ColMajor { exact::exact(a) } else { transposed(&exact::exact(a)) };
    let other = transposed(&stored);
    let upper = stored.nrows() >= stored.ncols();
    let gram = if upper { exact::product(&other, &stored) } else { exact::product(&stored, &other) };
    assert_eq!(gram.nrows(), rows.min(cols));
    let l = exact::cholesky(&gram);
    exact::reciprocal_condition(&if upper { transposed(&l) } else { l })
}

/// Solves A `scale` X = B `scale` in all orders, and holds answer and certificate against the truth, which no scale
/// changes.
fn check(name: &str, a: &Array2<f64>, b: &Array2<f64>, scale: f64) {
    let (rows, cols) = a.dim();
    let truth = exact::least_squares(a, b);
    for (a_order, b_order) in ORDERS.iter().flat_map(|a| ORDERS.map(|b| (*a, b))) {
        let name = format!("{name}, {rows} x {cols}, scale {scale:e}, {a_order:?} {b_order:?}");
        let system = System::new(in_order(&(a * scale), a_order), in_order(&(b * scale), b_order));
        let Solution { x, certificate } =
            solve(&system, Choice::Lstsq).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((x.rows(), x.cols(), x.order()), (cols, b.ncols(), b_order), "{name}");
        assert_eq!((certificate.method, &certificate.tried[..], certificate.iterations), (Method::Lstsq, &[][..], 0));
        let x = x.into_array2();
        let (claimed, found) = (certificate.backward_error, backward_error(a, &x, b));
        // Rounding of the residual, and of its product with A'.
        let rounding = (rows + cols + 4) as f64 * U;
        assert!((claimed - found).abs() <= rounding, "{name}: backward error {claimed:e} claimed, {found:e} found");
        let (rcond, truth_of_it) = (certificate.rcond, reciprocal_condition(a, a_order));
        let noise = (rows * cols) as f64 * U / truth_of_it;
        let range = truth_of_it * (1.0 - noise)..=10.0 * truth_of_it * (1.0 + noise);
        assert!(range.contains(&rcond), "{name}: rcond {rcond:e} estimated, {truth_of_it:e} true");
        let error = (0..x.ncols()).map(|j| {
            let error = |i: usize| (Dd::from(x[[i, j]]) - truth[[i, j]]).to_f64();
            max_abs(&(0..cols).map(error).collect::<Vec<_>>()) / max_abs(x.column(j))
        });
        let (error, bound) = (error.fold(0.0, f64::max), certificate.forward_error_bound.unwrap());
        assert!(error <= bound, "{name}: off by {error:e}, {:.2} bounds: {certificate:?}", error / bound);
        assert!(truth_of_it < 1e-4 || certificate.warning().is_none(), "{name}: {:?}", certificate.warning());
    }
}

/// Any B; one that A can reach exactly; and one that it nearly can.
fn right_sides(a: &Array2<f64>) -> Vec<Array2<f64>> {
    let any = integers(a.nrows(), 2, 9, 5);
    let zero = Array2::zeros((a.nrows(), 2));
    let reached = exact::residual(a, &integers(a.ncols(), 2, 9, 6), &zero).mapv(Dd::to_f64);
    let near = &reached + &(&any * 1e-6);
    vec![any, reached, near]
}

const SHAPES: [(usize, usize); 12] =
    [(1, 1), (2, 1), (1, 2), (5, 3), (3, 5), (20, 20), (33, 32), (32, 33), (40, 7), (7, 40), (50, 30), (30, 50)];

#[test]
fn the_least_squares_and_the_shortest_solutions_are_found() {
    for (rows, cols) in SHAPES {
        for condition in [1.0, 1e2, 1e5, 1e9] {
            let a = of_condition(rows, cols, condition);
            for (kind, b) in right_sides(&a).iter().enumerate() {
                check(&format!("condition {condition:e}, right side {kind}"), &a, b, 1.0);
            }
        }
        let a = random(rows, cols, 9);
        for scale in [2.0_f64.powi(-900), 2.0_f64.powi(-530), 2.0_f64.powi(530), 2.0_f64.powi(900)] {
            right_sides(&a).iter().for_each(|b| check("random", &a, b, scale));
        }
    }
}

#[test]
fn as_many_right_hand_sides_as_there_may_be_in_a_panel_and_one_more() {
    for (rows, cols) in [(9, 4), (4, 9), (6, 6)] {
        for nrhs in [panel::PANEL_COLUMNS - 1, panel::PANEL_COLUMNS, panel::PANEL_COLUMNS + 1] {
            check("panels", &random(rows, cols, 2), &integers(rows, nrhs, 9, 4), 1.0);
        }
    }
}

#[test]
fn rank_that_is_not_there_is_named_or_shows_in_the_condition() {
    for (rows, cols) in SHAPES.into_iter().filter(|(rows, cols)| rows.min(cols) > &1) {
        let short = rows.min(cols);
        for order in ORDERS {
            let answer = |a: &Array2<f64>| {
                let b = Matrix::vector(vec![1.0; a.nrows()]);
                solve(&System::new(in_order(a, order), b), Choice::Lstsq)
            };
            for zero in [0, short / 2, short - 1] {
                let mut a = random(rows.max(cols), short, 3);
                a.column_mut(zero).fill(0.0);
                let a = if rows >= cols { a } else { a.t().to_owned() };
                match answer(&a) {
                    // The factorisation of what is stored meets the zero line as one of its rows, and rounds.
                    Ok(Solution { certificate, .. }) if rows == cols && order == Order::RowMajor => {
                        let noise = (rows * cols) as f64 * f64::EPSILON;
                        assert!(certificate.rcond <= noise && certificate.warning().is_some(), "{certificate:?}");
                    }
                    answer => {
                        let singular = Err(TaskError::Singular { pivot: zero as u64 + 1 });
                        assert_eq!(answer, singular, "{rows} x {cols} {order:?}");
                    }
                }
            }
            let a = integers(rows, short - 1, 9, 4).dot(&integers(short - 1, cols, 9, 5));
            match answer(&a) {
                Err(error) => assert!(matches!(error, TaskError::Singular { .. }), "{error}"),
                Ok(Solution { certificate, .. }) => {
                    let noise = (rows * cols) as f64 * f64::EPSILON;
                    assert!(certificate.rcond <= noise && certificate.warning().is_some(), "{certificate:?}");
                }
            }
        }
    }
}
