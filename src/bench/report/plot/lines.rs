//! A panel of lines: axes, grid, and for each series its points, the quartiles and the lines between them.
//!
//! Draws what it is told; which figures those are is said in `parts.rs`.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::palette::{Colour, GRID, INK};
use super::{Area, Failed, words_style};

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

/// What marks a point, so that colour is not all that tells lines apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Marker {
    /// A disc.
    Disc,
    /// A square.
    Square,
    /// A triangle.
    Triangle,
    /// A cross.
    Cross,
}

/// How a series looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// Its colour.
    pub colour: Colour,
    /// What marks its points.
    pub marker: Marker,
    /// Whether its line is broken.
    pub dashed: bool,
}

/// A point with its quartiles, which are the same where there are none.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// Along.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// First quartile
    pub lower: f64,
    /// and third.
    pub upper: f64,
}

/// A line. `None` is a gap in it.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// How it looks.
    pub look: Look,
    /// From left to right.
    pub points: Vec<Option<Point>>,
}

/// Draws a panel.
pub fn draw(area: &Area<'_>, x: &Axis, y: &Axis, series: &[Series]) -> Result<(), Failed> {
    let mut builder = ChartBuilder::on(area);
    builder.margin_top(14).margin_right(18).margin_left(6).x_label_area_size(62).y_label_area_size(98);
    let mut chart = builder.build_cartesian_2d(x.low..x.high, y.low..y.high)?;
    frame(area, &chart, x, y)?;
    for line in series {
        let points: Vec<_> = line.points.iter().map(|point| point.and_then(|point| placed(point, x, y))).collect();
        quartiles(&mut chart, &points, line.look)?;
        for run in points.split(Option::is_none) {
            let run: Vec<_> = run.iter().flatten().map(|point| (point.x, point.y)).collect();
            stroke(&mut chart, run, line.look)?;
        }
        for point in points.iter().flatten() {
            mark(chart.plotting_area(), (point.x, point.y), line.look)?;
        }
    }
    Ok(())
}

/// The line and the mark of a series, for a legend.
pub fn draw_key(area: &Area<'_>, look: Look) -> Result<(), Failed> {
    let mut chart = ChartBuilder::on(area).build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
    stroke(&mut chart, vec![(0.0, 0.5), (1.0, 0.5)], look)?;
    mark(chart.plotting_area(), (0.5, 0.5), look)
}

fn placed(point: Point, x: &Axis, y: &Axis) -> Option<Point> {
    let middle = y.place(point.y)?;
    let quartile = |value: f64| y.place(value).unwrap_or(middle);
    Some(Point { x: x.place(point.x)?, y: middle, lower: quartile(point.lower), upper: quartile(point.upper) })
}

/// The grid at the ticks, the labels and the names. Drawn by hand: the mesh of the library chooses ticks of its own.
fn frame(area: &Area<'_>, chart: &Chart<'_, '_>, x: &Axis, y: &Axis) -> Result<(), Failed> {
    let plotting = chart.plotting_area();
    let line = |from: (f64, f64), to: (f64, f64), colour: Colour| {
        plotting.draw(&PathElement::new(vec![from, to], colour.rgb().stroke_width(1)))
    };
    let (columns, rows) = plotting.get_pixel_range();
    let words = |text: &str, at: (i32, i32), h: HPos, v: VPos| {
        area.draw_text(text, &words_style(16).pos(Pos::new(h, v)), shifted(area, at))
    };
    for (position, label) in &y.ticks {
        line((x.low, *position), (x.high, *position), GRID)?;
        let (_, row) = plotting.map_coordinate(&(x.low, *position));
        words(label, (columns.start - 8, row), HPos::Right, VPos::Center)?;
    }
    for (position, label) in &x.ticks {
        line((*position, y.low), (*position, y.high), GRID)?;
        let (column, _) = plotting.map_coordinate(&(*position, y.low));
        words(label, (column, rows.end + 8), HPos::Center, VPos::Top)?;
    }
    line((x.low, y.low), (x.high, y.low), INK)?;
    line((x.low, y.low), (x.low, y.high), INK)?;
    let middle = i32::midpoint(columns.start, columns.end);
    words(&x.name, (middle, rows.end + 36), HPos::Center, VPos::Top)?;
    let upright = words_style(16).transform(FontTransform::Rotate270).pos(Pos::new(HPos::Center, VPos::Center));
    let middle = i32::midpoint(rows.start, rows.end);
    area.draw_text(&y.name, &upright, shifted(area, (16, middle)))?;
    Ok(())
}

/// A position of the whole picture within an area that may begin elsewhere.
fn shifted(area: &DrawingArea<SVGBackend<'_>, Shift>, (column, row): (i32, i32)) -> (i32, i32) {
    let (columns, rows) = area.get_pixel_range();
    (column - columns.start, row - rows.start)
}

fn quartiles(chart: &mut Chart<'_, '_>, points: &[Option<Point>], look: Look) -> Result<(), Failed> {
    for point in points.iter().flatten().filter(|point| point.upper > point.lower) {
        let ends = vec![(point.x, point.lower), (point.x, point.upper)];
        chart.plotting_area().draw(&PathElement::new(ends, look.colour.rgb().stroke_width(1)))?;
    }
    Ok(())
}

fn stroke(chart: &mut Chart<'_, '_>, run: Vec<(f64, f64)>, look: Look) -> Result<(), Failed> {
    // Of a line through one point nothing would be seen, and its dashes have no direction.
    if run.len() < 2 {
        return Ok(());
    }
    let style = look.colour.rgb().stroke_width(2);
    if look.dashed {
        chart.draw_series(DashedLineSeries::new(run, 7, 5, style))?;
    } else {
        chart.draw_series(LineSeries::new(run, style))?;
    }
    Ok(())
}

fn mark(
    area: &DrawingArea<
        SVGBackend<'_>,
        Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
    >,
    at: (f64, f64),
    look: Look,
) -> Result<(), Failed> {
    let style = look.colour.rgb().filled();
    match look.marker {
        Marker::Disc => area.draw(&Circle::new(at, 4, style))?,
        Marker::Triangle => area.draw(&TriangleMarker::new(at, 6, style))?,
        Marker::Cross => area.draw(&Cross::new(at, 4, look.colour.rgb().stroke_width(2)))?,
        Marker::Square => area.draw(&(EmptyElement::at(at) + Rectangle::new([(-4, -4), (4, 4)], style)))?,
    }
    Ok(())
}
