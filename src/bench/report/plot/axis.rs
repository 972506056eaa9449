//! Where an axis begins and ends, and where its ticks are.
//!
//! Positions are linear for the drawing: a logarithmic axis hands out logarithms. No range is ever empty and no position
//! is ever NaN, whatever the figures are.

/// An axis.
#[derive(Clone, PartialEq, Debug)]
pub struct Axis {
    /// What is shown, and in what unit.
    pub name: String,
    /// From which position
    pub low: f64,
    /// to which.
    pub high: f64,
    /// Positions and their labels.
    pub ticks: Vec<(f64, String)>,
    scale: Scale,
}

#[derive(Clone, PartialEq, Debug)]
enum Scale {
    Linear,
    Log,
    /// The values, each as far from the next.
    Places(Vec<f64>),
}

impl Axis {
    /// From 0 to a little above the largest value. `label` writes a tick.
    pub fn linear(name: &str, values: impl Iterator<Item = f64>, label: impl Fn(f64) -> String) -> Self {
        let largest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let largest = if largest > 0.0 { largest.clamp(1e-30, 1e30) } else { 1.0 };
        let step = round_up(largest / 5.0);
        let steps = (largest / step - 1e-9).ceil().max(1.0);
        let ticks = (0..=steps as usize).map(|index| index as f64 * step);
        let ticks = ticks.map(|value| (value, label(value))).collect();
        Axis { name: name.to_owned(), low: 0.0, high: steps * step, ticks, scale: Scale::Linear }
    }

    /// Powers of ten, and 2 and 5 between them where there is room, around the positive values.
    pub fn log(name: &str, values: impl Iterator<Item = f64>, label: impl Fn(f64) -> String) -> Self {
        let (low, high) = positive_range(values);
        let (low, high) = (round_down(low), round_up(high));
        let decades = (high / low).log10();
        let every = (decades / 7.0).ceil().max(1.0) as i32;
        let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let mantissas: &[f64] = match decades {
            decades if decades <= 2.5 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let first = *exponents.start();
        let ticks = exponents.filter(|exponent| (exponent - first) % every == 0).flat_map(|exponent| {
            let power = 10f64.powi(exponent);
            mantissas.iter().map(move |mantissa| mantissa * power)
        });
        let within = |value: &f64| *value >= low * 0.999 && *value <= high * 1.001;
        let ticks = ticks.filter(within).map(|value| (value.log10(), label(value))).collect();
        Axis { name: name.to_owned(), low: low.log10(), high: high.log10(), ticks, scale: Scale::Log }
    }

    /// A logarithmic axis whose ticks are the values themselves, powers of the base before others, and none that would
    /// run into another.
    pub fn log_at(name: &str, values: &[f64], base: f64) -> Self {
        let (low, high) = positive_range(values.iter().copied());
        let (low, high) = (low.log10(), high.log10());
        let margin = ((high - low) * 0.05).max(0.05);
        let (low, high) = (low - margin, high + margin);
        let mut values: Vec<_> = values.iter().copied().filter(|value| *value > 0.0 && value.is_finite()).collect();
        let exponent = |value: f64| value.ln() / base.ln();
        let power = |value: f64| (exponent(value) - exponent(value).round()).abs() < 1e-9;
        values.sort_by_key(|value| !power(*value));
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for value in values {
            let (position, label) = (value.log10(), value.to_string());
            let room = |other: &str| 0.009 * (high - low) * (label.len() + other.len() + 4) as f64;
            if ticks.iter().all(|(at, other)| (position - at).abs() > room(other)) {
                ticks.push((position, label));
            }
        }
        ticks.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Axis { name: name.to_owned(), low, high, ticks, scale: Scale::Log }
    }

    /// The values in order, each as far from the next.
    pub fn places(name: &str, values: &[f64]) -> Self {
        let mut places = values.to_vec();
        places.retain(|value| value.is_finite());
        places.sort_by(f64::total_cmp);
        places.dedup();
        let every = places.len().div_ceil(12).max(1);
        let ticks = places.iter().enumerate().step_by(every);
        let ticks = ticks.map(|(place, value)| (place as f64, format!("{value}"))).collect();
        let high = places.len().max(1) as f64 - 0.5;
        Axis { name: name.to_owned(), low: -0.5, high, ticks, scale: Scale::Places(places) }
    }

    /// Where a value is; none if it has no place on this axis.
    pub fn place(&self, value: f64) -> Option<f64> {
        match &self.scale {
            _ if !value.is_finite() => None,
            Scale::Linear => Some(value.clamp(self.low, self.high)),
            Scale::Log => (value > 0.0).then(|| value.log10().clamp(self.low, self.high)),
            Scale::Places(places) => places.iter().position(|place| *place == value).map(|place| place as f64),
        }
    }
}

fn positive_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let range = values.filter(|value| *value > 0.0 && value.is_finite());
    let (low, high) =
        range.fold((f64::INFINITY, 0.0), |(low, high), value| (f64::min(low, value), f64::max(high, value)));
    // No figure of a benchmark is beyond these, and within them no power of ten is beyond the numbers there are.
    if high > 0.0 { (low.clamp(1e-30, 1e30), high.clamp(1e-30, 1e30)) } else { (1.0, 10.0) }
}

/// The least of 1, 2, 5, 10 ... that is not below.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let fits = |mantissa: &&f64| **mantissa * power >= value * 0.999_999;
    [1.0, 2.0, 5.0].iter().find(fits).map_or(10.0 * power, |mantissa| mantissa * power)
}

/// The greatest of 1, 2, 5, 10 ... that is clearly below, so that no mark sits on the axis.
fn round_down(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let fits = |mantissa: &&f64| **mantissa * power < value * 0.97;
    [5.0, 2.0, 1.0].iter().find(fits).map_or(0.5 * power, |mantissa| mantissa * power)
}

#[cfg(test)]
mod tests {
    use super::super::super::format::number;
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    fn whole(axis: &Axis) {
        assert!(axis.low.is_finite() && axis.high.is_finite() && axis.low < axis.high, "{axis:?}");
        assert!(!axis.ticks.is_empty(), "{axis:?}");
        let distance = axis.high - axis.low;
        for (position, _) in &axis.ticks {
            assert!(*position >= axis.low - 0.01 * distance && *position <= axis.high + 0.01 * distance, "{axis:?}");
        }
    }

    #[test]
    fn no_axis_is_empty() {
        let cases: [&[f64]; 10] = [
            &[],
            &[0.0],
            &[5.0],
            &[1.0, 1.0],
            &[f64::NAN, f64::INFINITY, -1.0],
            &[1e-300, 1e300],
            &[1e-5, 2e-5],
            &[0.1, 0.3],
            &[5e-324],
            &[f64::MAX],
        ];
        for values in cases {
            whole(&Axis::linear("", values.iter().copied(), number));
            whole(&Axis::log("", values.iter().copied(), number));
            let axis = Axis::log_at("", values, 10.0);
            assert!(axis.low < axis.high, "{axis:?}");
            let axis = Axis::places("", values);
            assert!(axis.low < axis.high, "{axis:?}");
        }
    }

    #[test]
    fn a_short_logarithmic_axis_has_ticks_between_the_powers() {
        let axis = Axis::log("", [11.0, 480.0].into_iter(), |value| format!("{value}"));
        assert_eq!(labels(&axis), ["10", "20", "50", "100", "200", "500"]);
        let axis = Axis::log("", [1.1e-6, 9.0].into_iter(), |value| format!("{value:e}"));
        assert_eq!(labels(&axis), ["1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "1e-1", "1e0", "1e1"]);
    }

    #[test]
    fn labels_that_would_overlap_are_left_out() {
        let axis = Axis::log_at("", &[50.0, 99.0, 100.0, 1000.0, 5000.0], 10.0);
        assert_eq!(labels(&axis), ["50", "100", "1000", "5000"]);
        let all: Vec<_> = (1..=64).map(f64::from).collect();
        let axis = Axis::log_at("", &all, 2.0);
        let powers = ["1", "2", "4", "8", "16", "32", "64"];
        assert!(powers.iter().all(|power| labels(&axis).contains(power)) && axis.ticks.len() < 16, "{axis:?}");
    }

    #[test]
    fn a_value_without_a_place_is_not_drawn() {
        assert_eq!(Axis::log("", [1.0].into_iter(), number).place(0.0), None);
        assert_eq!(Axis::places("", &[4.0, 1.0, 4.0]).place(4.0), Some(1.0));
        assert_eq!(Axis::places("", &[1.0]).place(2.0), None);
    }
}
