//! The plots of a report as SVG elements to be put into a page, with their legends.
//!
//! No scripts and no fonts of their own: the page says which font, and turns the colours dark with
//! [`palette::dark_css`]. `parts.rs` chooses what is shown, `lines.rs` and `bars.rs` draw it.

mod axis;
mod bars;
mod lines;
pub mod palette;
mod parts;

use plotters::coord::Shift;
use plotters::prelude::*;

use self::palette::INK;
pub use self::parts::{Figure, break_even, compute, pool, stages};
use super::format::escape;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failed = DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>;

/// A square of a legend.
fn swatch(colour: palette::Colour) -> Result<String, String> {
    svg((14, 14), None, |area| area.draw(&Rectangle::new([(0, 0), (14, 14)], colour.rgb().filled())))
}

/// Words in a plot. The library's size is 1.24 times that of the SVG.
fn words_style(size: u32) -> TextStyle<'static> {
    ("sans-serif", f64::from(size) * 1.24).into_font().color(&INK.rgb())
}

/// Draws an SVG element. With a name it is an image to those who can't see it; without one it is an ornament.
fn svg(
    size: (u32, u32),
    name: Option<&str>,
    draw: impl FnOnce(&Area<'_>) -> Result<(), Failed>,
) -> Result<String, String> {
    let failed = |error: Failed| format!("the plot {} can't be drawn: {error}", name.unwrap_or("of a legend"));
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area).map_err(failed)?;
        area.present().map_err(failed)?;
    }
    // The library writes no title; what begins with `<svg ` and ends with the first `>` is its opening tag.
    let (opening, rest) = text.split_once('>').ok_or_else(|| "a plot came out empty".to_owned())?;
    let opening = opening.trim_start_matches("<svg ");
    Ok(match name.map(escape) {
        Some(name) => format!("<svg role=\"img\" aria-label=\"{name}\" {opening}><title>{name}</title>{rest}"),
        None => format!("<svg aria-hidden=\"true\" {opening}>{rest}"),
    })
}
