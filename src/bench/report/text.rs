//! A report as tables of plain text for a terminal.
//!
//! Pure: a report in, text out; no colours, no cursor.

use super::columns::{lay_out, wrap};
use super::format::plain;
use super::sheets;
use super::summary;
use crate::bench::model::Report;

/// Narrower than this a table is not laid out; it is broken by the terminal then.
const NARROWEST: usize = 80;

/// The whole report, no line longer than `width`, which is taken for at least 80.
pub fn table(report: &Report, width: usize) -> String {
    let width = width.max(NARROWEST);
    let mut text = String::new();
    if let Some(words) = summary::incomplete(report) {
        paragraph(&mut text, "", words, width);
        text.push('\n');
    }
    for (name, words) in summary::machine(report) {
        paragraph(&mut text, &format!("{name:<16}"), &words, width);
    }
    for section in sheets::sections(report) {
        for sheet in &section.sheets {
            text.push('\n');
            text.push_str(&lay_out(sheet, width));
        }
        if section.sheets.is_empty() {
            text.push('\n');
            text.push_str(section.title);
            text.push('\n');
        }
        for words in section.words.iter().chain(&section.details) {
            paragraph(&mut text, "", words, width);
        }
    }
    if !report.notes.is_empty() {
        text.push('\n');
    }
    for note in &report.notes {
        paragraph(&mut text, "note            ", &plain(note), width);
    }
    text
}

/// Words with a name before the first line, the other lines under the first.
fn paragraph(text: &mut String, name: &str, words: &str, width: usize) {
    let indent = name.chars().count();
    for (index, line) in wrap(words, width - indent).iter().enumerate() {
        let before = if index == 0 { name.to_owned() } else { " ".repeat(indent) };
        text.push_str(&before);
        text.push_str(line);
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn fits(report: &Report) {
        for width in [80, 81, 100, 120, 200] {
            let text = table(report, width);
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= width, "{longest} > {width}:\n{text}");
        }
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        fits(&sample::report());
        fits(&sample::empty());
        let mut report = sample::report();
        report.machine.host = "h".repeat(300);
        report.notes.push("n".repeat(300));
        report.compute[0].contestant = "c".repeat(300);
        report.compute[1].detail = "d".repeat(300);
        report.payload[10].missing = Some("an error of many words ".repeat(30));
        report.peers[8].missing = Some("e".repeat(300));
        report.pool[0].in_flight = usize::MAX;
        fits(&report);
    }

    #[test]
    fn an_incomplete_report_says_so_first() {
        let mut report = sample::report();
        assert!(!table(&report, 80).contains("INCOMPLETE"));
        report.complete = false;
        assert!(table(&report, 80).starts_with("INCOMPLETE: the run was interrupted"));
    }

    #[test]
    fn every_part_is_there_with_its_words() {
        let text = table(&sample::report(), 120);
        for part in
            ["Payload: one task", "where the round trip goes", "Compute: one", "Pool: workers", "Pool: tasks", "Peers:"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.contains("a stream of tasks pays from n = 510 on"), "{text}");
        assert!(text.ends_with("they differ by at most 0.2 ms.\n"), "{text}");
    }

    #[test]
    fn a_row_without_figures_says_why_beside_it() {
        let text = table(&sample::report(), 120);
        assert!(text.contains("5000  json     too large: 480 MB of text are above --window"), "{text}");
    }

    #[test]
    fn a_report_without_parts_says_why() {
        let text = table(&sample::empty(), 80);
        assert!(text.contains("\nPayload\nNot measured: not asked for, or a note says why.\n"), "{text}");
        assert!(text.contains("\nBreak-even\nNot worked out: nothing is sent away without --broker.\n"), "{text}");
    }
}
