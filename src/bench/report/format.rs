//! Numbers as people read them: three significant digits, a unit, and what a spread says in a few characters.
//!
//! Pure: knows no table and no page. What is not finite is shown as a dash, since figures may come from a damaged file.

use crate::bench::model::Spread;

/// Shown where there is no figure.
pub const NONE: &str = "-";

/// As many outliers as a [`Spread`] lists; there may have been more.
const OUTLIERS_LISTED: usize = 20;

/// What a figure counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Time, shown in ns to s.
    Seconds,
    /// Things a second, in thousands and millions where they are many; the header says what.
    Rate,
    /// A share of one, shown in percent; the header says so.
    Share,
}

impl Unit {
    /// What a figure is multiplied with to be shown, and what is written behind it.
    fn scale(self, figure: f64) -> (f64, &'static str) {
        match self {
            Unit::Rate if figure >= 9.995e6 => (1e-6, " M"),
            Unit::Rate if figure >= 9.995e3 => (1e-3, " k"),
            Unit::Rate => (1.0, ""),
            Unit::Share => (100.0, ""),
            Unit::Seconds => seconds_scale(figure),
        }
    }
}

/// The factor and the name of the unit in which a time is a number between 1 and 1000.
pub fn seconds_scale(seconds: f64) -> (f64, &'static str) {
    match seconds.abs() {
        time if time >= 0.9995 || time == 0.0 => (1.0, " s"),
        time if time >= 0.9995e-3 => (1e3, " ms"),
        time if time >= 0.9995e-6 => (1e6, " µs"),
        _ => (1e9, " ns"),
    }
}

/// A number with three significant digits.
pub fn number(number: f64) -> String {
    let size = number.abs();
    if !number.is_finite() {
        NONE.to_owned()
    } else if number != 0.0 && !(1e-3..1e7).contains(&size) {
        format!("{number:.2e}")
    } else {
        format!("{number:.*}", decimals(number))
    }
}

/// Decimals with which a number has three significant digits.
fn decimals(number: f64) -> usize {
    match number.abs() {
        0.0 => 0,
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        size if size >= 0.09995 => 3,
        size if size >= 0.009995 => 4,
        _ => 5,
    }
}

/// One figure with its unit.
pub fn figure(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let (factor, name) = unit.scale(value);
    format!("{}{name}", number(value * factor))
}

/// A time.
pub fn seconds(seconds: f64) -> String {
    figure(seconds, Unit::Seconds)
}

/// The middle, the quartiles in the same unit, and how many lie far outside: `1.23 ms (1.20-1.31) +3 out`.
pub fn spread(spread: &Spread, unit: Unit) -> String {
    let middle = figure(spread.median, unit);
    if spread.count == 1 {
        return format!("{middle} (once)");
    }
    let (factor, _) = unit.scale(spread.median);
    let quartile = |value: f64| {
        let value = value * factor;
        let decimals = decimals(spread.median * factor);
        // Where the middle needs an exponent the quartiles do, too.
        if number(spread.median * factor).contains('e') { number(value) } else { format!("{value:.decimals$}") }
    };
    let outliers = match spread.outliers.len() {
        0 => String::new(),
        count if count >= OUTLIERS_LISTED => format!(" +{count} or more out"),
        count => format!(" +{count} out"),
    };
    if !spread.lower.is_finite() || !spread.upper.is_finite() || !spread.median.is_finite() {
        return middle;
    }
    format!("{middle} ({}-{}){outliers}", quartile(spread.lower), quartile(spread.upper))
}

/// A spread that may be absent.
pub fn optional(value: Option<&Spread>, unit: Unit) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| spread(value, unit))
}

/// An amount of memory, in powers of ten.
pub fn bytes(bytes: u64) -> String {
    let amount = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..999_500 => format!("{} kB", number(amount / 1e3)),
        999_500..999_500_000 => format!("{} MB", number(amount / 1e6)),
        999_500_000..999_500_000_000 => format!("{} GB", number(amount / 1e9)),
        _ => format!("{} TB", number(amount / 1e12)),
    }
}

/// A relative error: its order is what counts.
pub fn error(error: Option<f64>) -> String {
    error.filter(|error| error.is_finite()).map_or_else(|| NONE.to_owned(), |error| format!("{error:.1e}"))
}

/// `a / b`, where that says something.
pub fn ratio(a: f64, b: f64) -> Option<f64> {
    let ratio = a / b;
    (a > 0.0 && b > 0.0 && ratio.is_finite()).then_some(ratio)
}

/// A ratio as `1.23x`.
pub fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| NONE.to_owned(), |ratio| format!("{}x", number(ratio)))
}

/// `2 tasks`, `1 task`.
pub fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Text from outside on one line and without the characters that steer a terminal.
pub fn plain(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Text as it may stand in an element or an attribute of a page.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::sample::{once, spread as sample};
    use super::*;

    #[test]
    fn a_number_has_three_significant_digits() {
        let shown: Vec<_> =
            [0.0, 1.0, 9.996, 99.96, 1234.4, 0.12345, 0.0012345, 1e-9, 2e9].map(number).into_iter().collect();
        assert_eq!(shown, ["0", "1.00", "10.0", "100", "1234", "0.123", "0.00123", "1.00e-9", "2.00e9"]);
    }

    #[test]
    fn a_time_has_the_unit_that_fits() {
        let shown: Vec<_> = [0.0, 2.5, 0.99999, 1.5e-3, 0.9e-6, 3e-11].map(seconds).into_iter().collect();
        assert_eq!(shown, ["0 s", "2.50 s", "1.00 s", "1.50 ms", "900 ns", "0.0300 ns"]);
    }

    #[test]
    fn a_spread_shows_quartiles_and_outliers() {
        let mut spread_of = sample(1.23e-3);
        spread_of.lower = 1.2e-3;
        spread_of.upper = 1.31e-3;
        spread_of.outliers = vec![1.0; 3];
        assert_eq!(spread(&spread_of, Unit::Seconds), "1.23 ms (1.20-1.31) +3 out");
        spread_of.outliers = vec![1.0; 20];
        assert_eq!(spread(&spread_of, Unit::Seconds), "1.23 ms (1.20-1.31) +20 or more out");
    }

    #[test]
    fn many_a_second_are_thousands() {
        assert_eq!(spread(&sample(40_000.0), Unit::Rate), "40.0 k (38.0-42.0) +1 out");
        assert_eq!(figure(9994.0, Unit::Rate), "9994");
    }

    #[test]
    fn one_sample_has_no_quartiles() {
        assert_eq!(spread(&once(0.5), Unit::Share), "50.0 (once)");
    }

    #[test]
    fn what_is_not_finite_is_a_dash() {
        assert_eq!(seconds(f64::NAN), NONE);
        let mut broken = sample(f64::INFINITY);
        assert_eq!(spread(&broken, Unit::Seconds), NONE);
        broken = sample(1.0);
        broken.upper = f64::NAN;
        assert_eq!(spread(&broken, Unit::Seconds), "1.00 s");
    }

    #[test]
    fn a_ratio_of_nothing_is_none() {
        assert_eq!(ratio(0.0, 0.0), None);
        assert_eq!(ratio(1.0, 0.0), None);
        assert_eq!(ratio(3.0, 2.0), Some(1.5));
    }

    #[test]
    fn text_from_outside_cannot_steer_a_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\n\tc"), "a\u{fffd}[31mb c");
    }

    #[test]
    fn no_character_of_markup_is_left() {
        assert_eq!(escape("<a b=\"c\" d='e'>&"), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
    }
}
