//! The colours of the plots, for light and dark pages.
//!
//! Those of data are by Okabe and Ito, told apart by most colour-blind people; in the dark some of them are lighter. An SVG
//! has the light ones in its attributes, and [`dark_css`] overrides them.

use plotters::style::RGBColor;

/// A colour on a light page and on a dark one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Colour {
    light: u32,
    dark: u32,
}

impl Colour {
    /// As the attributes of the SVG have it.
    pub fn rgb(self) -> RGBColor {
        let [_, red, green, blue] = self.light.to_be_bytes();
        RGBColor(red, green, blue)
    }
}

/// Words and axes.
pub const INK: Colour = Colour { light: 0x003A_3F45, dark: 0x00C9_CED6 };
/// Lines behind the data.
pub const GRID: Colour = Colour { light: 0x00DF_E2E6, dark: 0x0036_3B43 };
/// Published figures.
pub const GREY: Colour = Colour { light: 0x0076_7B82, dark: 0x009A_A1AB };

const BLUE: Colour = Colour { light: 0x0000_72B2, dark: 0x003F_97DC };
const ORANGE: Colour = Colour { light: 0x00E6_9F00, dark: 0x00F0_AE1F };
const GREEN: Colour = Colour { light: 0x0000_9E73, dark: 0x0020_B88B };
const PINK: Colour = Colour { light: 0x00CC_79A7, dark: 0x00D9_8ABA };
const RED: Colour = Colour { light: 0x00D5_5E00, dark: 0x00F0_7A24 };
const SKY: Colour = Colour { light: 0x0056_B4E9, dark: 0x008F_D0F5 };
const YELLOW: Colour = Colour { light: 0x00E8_D93A, dark: 0x00F0_E442 };
const SILVER: Colour = Colour { light: 0x00A6_ABB2, dark: 0x007D_848E };

/// Colours of lines, in the order in which they are given out.
pub const LINES: [Colour; 6] = [BLUE, ORANGE, GREEN, PINK, RED, SKY];

/// Colours of the stages, in the order of the stages. Waiting is grey.
pub const STAGES: [Colour; 7] = [ORANGE, SKY, SILVER, GREEN, YELLOW, BLUE, PINK];

/// The rules that turn a plot dark, for within `@media (prefers-color-scheme: dark)`.
pub fn dark_css() -> String {
    let all = [INK, GRID, GREY, BLUE, ORANGE, GREEN, PINK, RED, SKY, YELLOW, SILVER];
    let rule = |Colour { light, dark }: Colour| {
        format!(
            "svg [fill=\"#{light:06X}\"] {{ fill: #{dark:06X}; }}\nsvg [stroke=\"#{light:06X}\"] {{ stroke: #{dark:06X}; }}\n"
        )
    };
    all.into_iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_has_its_own_dark_one() {
        let css = dark_css();
        let rules: std::collections::HashSet<_> = css.lines().map(|line| line.split('{').next().unwrap()).collect();
        assert_eq!(rules.len(), css.lines().count());
        assert!(LINES.iter().chain(&STAGES).all(|colour| css.contains(&format!("{:06X}", colour.light))));
    }

    #[test]
    fn the_bytes_are_in_order() {
        assert_eq!(BLUE.rgb(), RGBColor(0x00, 0x72, 0xB2));
    }
}
