//! Repeated measurements in a few figures. Pure.

use super::model::Spread;

/// An interquartile range below this share of the median is narrow.
const NARROW: f64 = 0.1;
/// Outliers listed at most.
const OUTLIERS_MAX: usize = 20;
/// How far from the quartiles an outlier is, in interquartile ranges: Tukey's rule.
const FENCE: f64 = 1.5;

impl Spread {
    /// Of finite measurements; those that are not finite are left out. `None` of none.
    pub fn of(measured: &[f64]) -> Option<Spread> {
        let mut sorted: Vec<f64> = measured.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let [lower, median, upper] = [0.25, 0.5, 0.75].map(|share| quantile(&sorted, share));
        let reach = FENCE * (upper - lower);
        let mut outliers: Vec<f64> =
            sorted.iter().copied().filter(|value| *value < lower - reach || *value > upper + reach).collect();
        outliers.sort_by(|a, b| (b - median).abs().total_cmp(&(a - median).abs()));
        outliers.truncate(OUTLIERS_MAX);
        Some(Spread { median, lower, upper, min, max, count: sorted.len(), outliers })
    }

    /// Whether another round would say little more.
    pub fn is_narrow(&self) -> bool {
        self.upper - self.lower <= NARROW * self.median.abs()
    }
}

/// Of sorted values, at least one; between two of them by their distance.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, rest) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + rest * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_values_and_outliers_are_shown() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0, 100.0]).unwrap();
        assert_eq!((spread.min, spread.lower, spread.median, spread.upper, spread.max), (1.0, 2.0, 3.0, 4.0, 100.0));
        assert_eq!((spread.count, spread.outliers.as_slice()), (5, [100.0].as_slice()));
        assert!(!spread.is_narrow());
    }

    #[test]
    fn one_value_is_all_of_it_and_none_is_nothing() {
        let spread = Spread::of(&[7.0, f64::NAN, f64::INFINITY]).unwrap();
        assert_eq!((spread.lower, spread.median, spread.upper, spread.count), (7.0, 7.0, 7.0, 1));
        assert!(spread.is_narrow());
        assert_eq!(Spread::of(&[f64::NAN]), None);
        assert_eq!(Spread::of(&[]), None);
    }
}
