//! Right-hand sides, some columns at a time, column-major whatever the order of B and X.
//!
//! Working memory is a few panels of n x [`PANEL_COLUMNS`], however many right-hand sides there are.

use super::matrix::Order;
use super::method::Problem;
use crate::task::{TaskError, Watch};

/// Columns solved at once: enough for the matrix products to run at full speed, few enough to stay small beside A.
pub(super) const PANEL_COLUMNS: usize = 128;
/// Rows transposed together: one cache line of the column-major side.
const TILE_ROWS: usize = 8;

/// Columns of the widest panel.
pub(super) fn columns(problem: &Problem<'_>) -> usize {
    problem.nrhs.min(PANEL_COLUMNS)
}

/// Whether B and X lie in columns already: no copies needed.
fn in_columns(problem: &Problem<'_>) -> bool {
    problem.nrhs == 1 || problem.b_order == Order::ColMajor
}

/// Numbers of working memory that [`for_each`] needs for itself.
pub(super) fn copies_len(problem: &Problem<'_>) -> usize {
    if in_columns(problem) { 0 } else { 2 * problem.rows * columns(problem) }
}

/// Calls `solve` with each panel of B, and of X to be filled in, n numbers a column. For a square A. The watch is asked
/// before each.
pub(super) fn for_each(
    problem: &Problem<'_>,
    watch: &Watch,
    x: &mut [f64],
    copies: &mut [f64],
    mut solve: impl FnMut(&[f64], &mut [f64]) -> Result<(), TaskError>,
) -> Result<(), TaskError> {
    let (n, nrhs) = (problem.rows, problem.nrhs);
    let factored = problem.stage(watch).whole;
    let mut solve = |first: usize, b: &[f64], x: &mut [f64]| {
        watch.advance(factored + (1.0 - factored) * first as f64 / nrhs as f64);
        watch.check()?;
        solve(b, x)
    };
    if in_columns(problem) {
        let panel = n * PANEL_COLUMNS;
        let mut panels = problem.b.chunks(panel).zip(x.chunks_mut(panel)).enumerate();
        return panels.try_for_each(|(index, (b, x))| solve(index * PANEL_COLUMNS, b, x));
    }
    let (b_panel, x_panel) = copies.split_at_mut(n * columns(problem));
    for first in (0..nrhs).step_by(PANEL_COLUMNS) {
        let columns = PANEL_COLUMNS.min(nrhs - first);
        let (b_panel, x_panel) = (&mut b_panel[..n * columns], &mut x_panel[..n * columns]);
        for_each_place(n, nrhs, first, columns, |in_panel, in_rows| b_panel[in_panel] = problem.b[in_rows]);
        solve(first, b_panel, x_panel)?;
        for_each_place(n, nrhs, first, columns, |in_panel, in_rows| x[in_rows] = x_panel[in_panel]);
    }
    Ok(())
}

/// Each element of a panel: its index in the column-major panel, and in the row-major whole. In tiles, so that neither
/// side is read or written a number per cache line.
fn for_each_place(n: usize, nrhs: usize, first: usize, columns: usize, mut place: impl FnMut(usize, usize)) {
    for tile in (0..n).step_by(TILE_ROWS) {
        for column in 0..columns {
            for row in tile..n.min(tile + TILE_ROWS) {
                place(column * n + row, row * nrhs + first + column);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_of_either_order_cover_every_column_once() {
        let (n, nrhs) = (13, 2 * PANEL_COLUMNS + 5);
        let value = |row: usize, column: usize| (row * 1000 + column) as f64;
        let by_rows: Vec<f64> = (0..n * nrhs).map(|at| value(at / nrhs, at % nrhs)).collect();
        let by_columns: Vec<f64> = (0..n * nrhs).map(|at| value(at % n, at / n)).collect();
        for (b, b_order) in [(&by_rows, Order::RowMajor), (&by_columns, Order::ColMajor)] {
            let a_order = Order::ColMajor;
            let problem = Problem { rows: n, cols: n, nrhs, a: &[], a_order, b, b_order };
            let mut copies = vec![0.0; copies_len(&problem)];
            let mut x = vec![0.0; n * nrhs];
            let mut seen = 0;
            for_each(&problem, &Watch::default(), &mut x, &mut copies, |b, x| {
                for (at, (b, x)) in b.iter().zip(x).enumerate() {
                    assert_eq!(*b, value(at % n, seen + at / n));
                    *x = -b;
                }
                seen += b.len() / n;
                Ok(())
            })
            .unwrap();
            assert!(x.iter().zip(b.iter()).all(|(x, b)| *x == -b));
        }
    }
}
