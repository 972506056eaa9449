//! A panel of stacked bars, one for each payload: where the time of a round trip goes.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::palette::{Colour, GRID, INK};
use super::{Area, Failed, words_style};

/// A bar.
#[derive(Clone, PartialEq, Debug)]
pub struct Bar {
    /// At its left.
    pub name: String,
    /// At its right.
    pub total: String,
    /// Its pieces from left to right, in the unit of the axis.
    pub pieces: Vec<(Colour, f64)>,
}

/// Height of a panel with so many bars.
pub fn height(bars: usize) -> u32 {
    let bars = u32::try_from(bars).unwrap_or(100).clamp(1, 100);
    bars * ROW + ABOVE + BELOW
}

const ROW: u32 = 42;
const ABOVE: u32 = 8;
const BELOW: u32 = 62;
const NAMES: i32 = 76;
/// Room for the total behind the longest bar.
const TOTALS: i32 = 92;

/// Draws a panel.
pub fn draw(area: &Area<'_>, axis: &Axis, bars: &[Bar]) -> Result<(), Failed> {
    let (width, height) = area.dim_in_pixel();
    let (width, height) = (width as i32, height as i32);
    let (top, bottom) = (ABOVE as i32, height - BELOW as i32);
    let column = |value: f64| NAMES + (value / axis.high * f64::from(width - NAMES - TOTALS)).round() as i32;
    let words =
        |text: &str, at: (i32, i32), h: HPos, v: VPos| area.draw_text(text, &words_style(16).pos(Pos::new(h, v)), at);
    for (position, label) in &axis.ticks {
        let at = column(*position);
        area.draw(&PathElement::new(vec![(at, top), (at, bottom)], GRID.rgb().stroke_width(1)))?;
        words(label, (at, bottom + 8), HPos::Center, VPos::Top)?;
    }
    words(&axis.name, (i32::midpoint(NAMES, width - TOTALS), bottom + 34), HPos::Center, VPos::Top)?;
    for (index, bar) in bars.iter().enumerate() {
        let upper = top + index as i32 * ROW as i32 + 8;
        let lower = upper + ROW as i32 - 16;
        let mut sum = 0.0;
        for (colour, amount) in &bar.pieces {
            let from = column(sum);
            sum += amount.max(0.0);
            if column(sum) > from {
                area.draw(&Rectangle::new([(from, upper), (column(sum), lower)], colour.rgb().filled()))?;
            }
        }
        let middle = i32::midpoint(upper, lower);
        words(&bar.name, (NAMES - 8, middle), HPos::Right, VPos::Center)?;
        words(&bar.total, (column(sum) + 8, middle), HPos::Left, VPos::Center)?;
    }
    area.draw(&PathElement::new(vec![(NAMES, top), (NAMES, bottom)], INK.rgb().stroke_width(1)))?;
    Ok(())
}
