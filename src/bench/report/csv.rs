//! The figures as one long table for a spreadsheet or pandas: a line for each figure, RFC 4180.
//!
//! Pure: a report in, text out.

use super::figures::{self, Figure, Value};
use crate::bench::model::Report;

/// The header. Scripts rely on it.
pub const COLUMNS: [&str; 18] = [
    "part",
    "n",
    "contestant",
    "payload",
    "threads",
    "workers",
    "slots",
    "in_flight",
    "prefetch",
    "figure",
    "unit",
    "median",
    "lower",
    "upper",
    "min",
    "max",
    "count",
    "missing",
];

/// All figures of a report.
///
/// # Errors
/// In words, if the text can't be put together.
pub fn text(report: &Report) -> Result<String, String> {
    let failed = |error: csv::Error| format!("the CSV can't be put together: {error}");
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).map_err(failed)?;
    for figure in figures::all(report) {
        writer.write_record(record(&figure)).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| format!("the CSV can't be put together: {error}"))?;
    String::from_utf8(bytes).map_err(|error| format!("the CSV can't be put together: {error}"))
}

fn record(figure: &Figure) -> [String; 18] {
    fn cell<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(String::new, |value| value.to_string())
    }
    let key = &figure.key;
    let (numbers, count, missing) = match &figure.value {
        Value::Spread(spread) => {
            let numbers = [spread.median, spread.lower, spread.upper, spread.min, spread.max].map(Some);
            (numbers, Some(spread.count), None)
        }
        Value::Single(number) => ([Some(*number), None, None, None, None], None, None),
        Value::Missing(why) => ([None; 5], None, Some(why)),
    };
    let [median, lower, upper, min, max] = numbers.map(cell);
    [
        key.part.to_owned(),
        cell(key.n),
        cell(key.contestant.as_deref()),
        cell(key.payload),
        cell(key.threads),
        cell(key.workers),
        cell(key.slots),
        cell(key.in_flight),
        cell(key.prefetch),
        key.figure.to_owned(),
        figure.unit.to_owned(),
        median,
        lower,
        upper,
        min,
        max,
        cell(count),
        cell(missing),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn lines(report: &Report) -> Vec<csv::StringRecord> {
        let text = text(report).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap(), COLUMNS.as_slice());
        // The reader refuses a line with another number of columns.
        reader.records().map(Result::unwrap).collect()
    }

    #[test]
    fn every_line_has_the_same_columns() {
        let mut report = sample::report();
        report.compute[0].contestant = "a,\"b\"\nc".to_owned();
        let lines = lines(&report);
        assert_eq!(lines.len(), figures::all(&report).len());
        assert!(lines.iter().any(|line| &line[2] == "a,\"b\"\nc"));
    }

    #[test]
    fn a_report_without_parts_is_the_header() {
        assert!(lines(&sample::empty()).is_empty());
    }

    #[test]
    fn a_stage_has_its_median_only() {
        let lines = lines(&sample::report());
        let stage = lines.iter().find(|line| &line[9] == "stage_compute").unwrap();
        assert!(stage[11].parse::<f64>().unwrap() > 0.0);
        assert!((12..18).all(|column| stage[column].is_empty()));
    }

    #[test]
    fn a_line_without_figures_says_why() {
        let lines = lines(&sample::report());
        let missing = lines.iter().find(|line| &line[0] == "peers" && !line[17].is_empty()).unwrap();
        assert!(missing[17].contains("celery did not start"));
        assert!((11..17).all(|column| missing[column].is_empty()));
    }

    #[test]
    fn a_number_reads_back_as_the_same_bits() {
        let report = sample::report();
        let expected = report.payload[0].round_trip_seconds.clone().unwrap().median;
        let lines = lines(&report);
        let line = lines.iter().find(|line| &line[9] == "round_trip").unwrap();
        assert_eq!(line[11].parse::<f64>().unwrap().to_bits(), expected.to_bits());
    }
}
