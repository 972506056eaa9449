//! Figures into lines, and lines into a verdict.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

/// All figures.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

/// One line.
#[derive(Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    median: f64,
    lower: f64,
    upper: f64,
    /// What it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passes: Option<bool>,
}

/// What a figure has to keep to.
#[derive(Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    Below(f64),
}

impl Report {
    /// Figures without a target.
    pub fn row(&mut self, what: impl Into<String>, unit: &'static str, figures: &[f64]) {
        self.push(what.into(), unit, figures, None);
    }

    /// Figures whose median has a target.
    pub fn judge(&mut self, what: impl Into<String>, unit: &'static str, figures: &[f64], target: Target) {
        self.push(what.into(), unit, figures, Some(target));
    }

    /// What could not be measured.
    pub fn note(&self, text: &str) {
        println!("{text}");
    }

    fn push(&mut self, what: String, unit: &'static str, figures: &[f64], target: Option<Target>) {
        let [lower, median, upper] = [0.25, 0.5, 0.75].map(|share| at(figures, share));
        let (passes, target) = match target {
            None => (None, None),
            Some(Target::AtLeast(bound)) => (Some(median >= bound), Some(format!(">= {bound}"))),
            Some(Target::Below(bound)) => (Some(median < bound), Some(format!("< {bound}"))),
        };
        if self.rows.is_empty() {
            println!("{:<58} {:>9} {:>9} {:>9}", "", "median", "lower", "upper");
        }
        print!("{:<58} {median:>9.4} {lower:>9.4} {upper:>9.4}", format!("{what}, {unit}"));
        match (passes, &target) {
            (Some(passes), Some(target)) => {
                println!("  {target:<8} {}", if passes { "passes" } else { "FALLS SHORT" });
            }
            _ => println!(),
        }
        self.rows.push(Row { what, unit, median, lower, upper, target, passes });
    }

    /// Writes the file, and fails if something falls short.
    pub fn finish(self, path: Option<&Path>) -> ExitCode {
        if let Some(path) = path {
            let text = format!("{:#}\n", serde_json::json!({ "rows": self.rows }));
            if let Err(error) = std::fs::write(path, text) {
                eprintln!("bridge: {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
        let short: Vec<&Row> = self.rows.iter().filter(|row| row.passes == Some(false)).collect();
        let judged = self.rows.iter().filter(|row| row.passes.is_some()).count();
        println!("\n{} of {judged} targets are met", judged - short.len());
        short.iter().for_each(|row| println!("falls short: {}", row.what));
        if short.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The number a share of the way up the sorted ones; NaN of none.
pub fn at(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    sorted[(last as f64 * share).round() as usize]
}
