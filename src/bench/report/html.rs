//! A report as one page that needs nothing else: no scripts, no fonts, no style sheets from elsewhere.
//!
//! Host names, errors and details come from outside; every string goes through `escape` on its way into the page.

use std::fmt::Write;

use super::format::{escape, plain};
use super::plot::{self, Figure};
use super::sheets::{self, Row, Section, Sheet};
use super::summary;
use crate::bench::model::{Part, Report};

/// The page.
///
/// # Errors
/// In words, if a plot can't be drawn.
pub fn page(report: &Report) -> Result<String, String> {
    let title = escape(&plain(&format!("Benchmark of rabbitry on {}, {}", report.machine.host, report.started)));
    let mut body = String::new();
    head(&mut body, report);
    for section in sheets::sections(report) {
        part(&mut body, &section, report)?;
    }
    let style = format!(
        "{}@media (prefers-color-scheme: dark) {{\n{}}}\n",
        include_str!("style.css"),
        plot::palette::dark_css()
    );
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    ))
}

/// What is put together here cannot fail: a `String` takes everything.
fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(text);
}

fn head(page: &mut String, report: &Report) {
    page.push_str("<h1>Benchmark of rabbitry</h1>\n");
    if let Some(words) = summary::incomplete(report) {
        put(page, format_args!("<p class=\"warn\">{}</p>\n", escape(words)));
    }
    page.push_str("<dl>\n");
    for (name, words) in summary::machine(report) {
        put(page, format_args!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(&words)));
    }
    page.push_str("</dl>\n");
    list(page, &summary::facts(report));
    if !report.notes.is_empty() {
        page.push_str("<p>Notes:</p>\n");
        list(page, &report.notes);
    }
}

fn list(page: &mut String, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    page.push_str("<ul>\n");
    for line in lines {
        put(page, format_args!("<li>{}</li>\n", escape(&plain(line))));
    }
    page.push_str("</ul>\n");
}

fn part(page: &mut String, section: &Section, report: &Report) -> Result<(), String> {
    put(page, format_args!("<section>\n<h2>{}</h2>\n", escape(section.title)));
    for words in &section.words {
        put(page, format_args!("<p>{}</p>\n", escape(words)));
    }
    let drawn = match section.part {
        Part::Payload => plot::stages(report)?,
        Part::Compute => plot::compute(report)?,
        Part::Pool => plot::pool(report)?,
        Part::BreakEven => report.break_even.as_ref().map(plot::break_even).transpose()?.flatten(),
        Part::Peers => None,
    };
    match &drawn {
        Some(drawn) => figure(page, drawn),
        None if section.part == Part::BreakEven && report.break_even.is_some() => {
            page.push_str("<p>No curve: sending away never pays within what was measured.</p>\n");
        }
        None => {}
    }
    for sheet in &section.sheets {
        table(page, sheet);
    }
    list(page, &section.details);
    page.push_str("</section>\n");
    Ok(())
}

fn figure(page: &mut String, figure: &Figure) {
    put(page, format_args!("<figure>\n<figcaption>{}</figcaption>\n<ul class=\"legend\">\n", escape(&figure.caption)));
    for (key, name) in &figure.legend {
        put(page, format_args!("<li>{key}<span>{}</span></li>\n", escape(name)));
    }
    page.push_str("</ul>\n<div class=\"panels\">\n");
    for (heading, drawing) in &figure.panels {
        put(page, format_args!("<div class=\"panel\">\n<h3>{}</h3>\n{drawing}</div>\n", escape(heading)));
    }
    page.push_str("</div>\n</figure>\n");
}

fn table(page: &mut String, sheet: &Sheet) {
    let caption = escape(&sheet.caption);
    put(page, format_args!("<div class=\"scroll\"><table>\n<caption>{caption}</caption>\n<thead><tr>"));
    for column in &sheet.columns {
        let class = if column.right { " class=\"number\"" } else { "" };
        put(page, format_args!("<th scope=\"col\"{class}>{}</th>", escape(column.head)));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in &sheet.rows {
        put(page, format_args!("<tr>{}</tr>\n", cells(sheet, row)));
    }
    page.push_str("</tbody>\n</table></div>\n");
}

fn cells(sheet: &Sheet, row: &Row) -> String {
    let mut text = String::new();
    for (cell, column) in row.cells.iter().zip(&sheet.columns) {
        let class = match cell.chars().count() {
            _ if column.right => " class=\"number\"",
            length if length > 40 => " class=\"long\"",
            _ => "",
        };
        put(&mut text, format_args!("<td{class}>{}</td>", escape(cell)));
    }
    let columns = sheet.columns.len();
    match (&row.note, columns.saturating_sub(row.cells.len())) {
        (Some(note), 0) => {
            put(&mut text, format_args!("</tr>\n<tr><td class=\"why\" colspan=\"{columns}\">{}</td>", escape(note)));
        }
        (Some(note), left) => {
            put(&mut text, format_args!("<td class=\"why\" colspan=\"{left}\">{}</td>", escape(note)));
        }
        (None, 0) => {}
        (None, left) => put(&mut text, format_args!("<td colspan=\"{left}\"></td>")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    const EVIL: &str = "<script>alert(\"1\")</script>&'";

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let mut report = sample::report();
        report.machine.host = EVIL.to_owned();
        report.machine.cpu = EVIL.to_owned();
        report.machine.workers = vec![EVIL.to_owned()];
        report.started = EVIL.to_owned();
        report.settings.broker = EVIL.to_owned();
        report.notes = vec![EVIL.to_owned()];
        report.payload[10].missing = Some(EVIL.to_owned());
        for row in &mut report.compute {
            (row.contestant, row.detail) = (EVIL.to_owned(), EVIL.to_owned());
        }
        report.peers[1].peer = EVIL.to_owned();
        report.break_even.as_mut().unwrap().sentences = vec![EVIL.to_owned()];
        let page = page(&report).unwrap();
        assert!(!page.contains("<script") && !page.contains("alert(\"1\")"));
        assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;"));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = page(&sample::report()).unwrap().replace("http://www.w3.org/2000/svg", "");
        for outside in ["http:", "https:", "<script", "<link", "@import", "url(", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn every_table_has_a_caption_and_every_plot_a_title() {
        let page = page(&sample::report()).unwrap();
        assert_eq!(page.matches("<table>").count(), page.matches("<caption>").count());
        assert_eq!(page.matches("role=\"img\"").count(), page.matches("</title>").count() - 1);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn the_summary_comes_before_the_tables() {
        let page = page(&sample::report()).unwrap();
        let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is missing"));
        assert!(place("AMD EPYC") < place("of the best peer, celery"));
        assert!(place("of the best peer, celery") < place("Clocks of the workers"));
        assert!(place("Clocks of the workers") < place("<table>"));
    }

    #[test]
    fn a_report_without_parts_is_a_page_that_says_why() {
        let page = page(&sample::empty()).unwrap();
        assert!(page.contains("nothing is sent away without --broker"));
        assert!(!page.contains("<table>") && !page.contains("<svg"));
    }

    #[test]
    fn an_incomplete_report_says_so() {
        let mut report = sample::report();
        report.complete = false;
        assert!(page(&report).unwrap().contains("<p class=\"warn\">INCOMPLETE"));
    }

    #[test]
    fn a_row_without_figures_says_why_across_its_columns() {
        let page = page(&sample::report()).unwrap();
        assert!(page.contains("<td class=\"why\" colspan=\"2\">too large: 480 MB"));
    }
}
