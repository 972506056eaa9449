//! Lays a table out in columns of plain text, never wider than it is told.
//!
//! Widths are counted in characters; text comes here without control characters.

use super::sheets::{Row, Sheet};

const GAP: usize = 2;

/// A reason gets a line of its own if there is less room than this beside the row.
const NOTE_BESIDE: usize = 30;

/// The table with its caption, each line ending in a line feed.
pub fn lay_out(sheet: &Sheet, width: usize) -> String {
    let widths = widths(sheet, width);
    let head: Vec<_> = sheet.columns.iter().map(|column| column.head.to_owned()).collect();
    let mut lines = wrap(&sheet.caption, width);
    lines.extend(cells(sheet, &head, &widths));
    lines.push("-".repeat((widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)).min(width)));
    for row in &sheet.rows {
        lines.extend(row_lines(sheet, row, &widths, width));
    }
    lines.iter().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

fn row_lines(sheet: &Sheet, row: &Row, widths: &[usize], width: usize) -> Vec<String> {
    let mut lines = cells(sheet, &row.cells, widths);
    let Some(note) = &row.note else { return lines };
    let taken: usize = widths.iter().take(row.cells.len()).map(|width| width + GAP).sum();
    let short = row.cells.len() < widths.len();
    if !short || taken + NOTE_BESIDE > width {
        lines.extend(wrap(note, width.saturating_sub(4)).iter().map(|line| format!("    {line}")));
        return lines;
    }
    for (index, part) in wrap(note, width - taken).iter().enumerate() {
        if index >= lines.len() {
            lines.push(String::new());
        }
        let line = &mut lines[index];
        let padding = taken.saturating_sub(length(line));
        line.push_str(&" ".repeat(padding));
        line.push_str(part);
    }
    lines
}

/// The lines of one row, as many as its highest cell has.
fn cells(sheet: &Sheet, cells: &[String], widths: &[usize]) -> Vec<String> {
    let wrapped: Vec<_> = cells.iter().zip(widths).map(|(cell, &width)| wrap(cell, width)).collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or_default();
    let line = |index: usize| {
        let parts = wrapped.iter().zip(widths).zip(&sheet.columns).map(|((lines, &width), column)| {
            let part = lines.get(index).map_or("", String::as_str);
            if column.right { format!("{part:>width$}") } else { format!("{part:<width$}") }
        });
        parts.collect::<Vec<_>>().join(&" ".repeat(GAP))
    };
    (0..height).map(line).collect()
}

/// How wide each column is: as wide as its cells, or narrower if that does not fit.
fn widths(sheet: &Sheet, width: usize) -> Vec<usize> {
    let measured = |index: usize, measure: fn(&str) -> usize| {
        let cells = sheet.rows.iter().filter_map(|row| row.cells.get(index)).map(|cell| measure(cell));
        cells.chain([measure(sheet.columns[index].head)]).max().unwrap_or_default().max(1)
    };
    let count = sheet.columns.len();
    let mut widths: Vec<_> = (0..count).map(|index| measured(index, length)).collect();
    let words: Vec<_> = (0..count).map(|index| measured(index, longest_word)).collect();
    let room = width.saturating_sub(GAP * count.saturating_sub(1)).max(count);
    while widths.iter().sum::<usize>() > room {
        // The column with most to spare beyond its words gives way; when none has any, words are broken.
        let spare = |index: usize| widths[index].saturating_sub(words[index]);
        let widest = (0..count).max_by_key(|&index| (spare(index), widths[index]));
        match widest {
            Some(index) if widths[index] > 1 => widths[index] -= 1,
            _ => break,
        }
    }
    widths
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn longest_word(text: &str) -> usize {
    text.split(' ').map(length).max().unwrap_or_default()
}

/// Breaks text between words, and within those that are longer than a line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let needed = length(word);
        if used > 0 && used + 1 + needed > width {
            lines.push(String::new());
            used = 0;
        }
        let last = lines.len() - 1;
        if used > 0 {
            lines[last].push(' ');
            used += 1;
        }
        for letter in word.chars() {
            if used == width {
                lines.push(String::new());
                used = 0;
            }
            let last = lines.len() - 1;
            lines[last].push(letter);
            used += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::sheets::Column;
    use super::*;

    fn sheet(cells: &[&str], note: Option<&str>) -> Sheet {
        let columns = vec![Column { head: "n", right: true }, Column { head: "what it is", right: false }];
        let cells = cells.iter().map(|&cell| cell.to_owned()).collect();
        let row = Row { cells, note: note.map(ToOwned::to_owned) };
        Sheet { caption: "Caption".to_owned(), columns, rows: vec![row] }
    }

    #[test]
    fn numbers_stand_right_and_words_left() {
        let text = lay_out(&sheet(&["1000", "a"], None), 80);
        assert_eq!(text, "Caption\n   n  what it is\n----------------\n1000  a\n");
    }

    #[test]
    fn a_cell_that_does_not_fit_is_wrapped() {
        let text = lay_out(&sheet(&["1000", "one two three four five six seven"], None), 20);
        assert!(text.contains("1000  one two three\n      four five six\n      seven\n"), "{text}");
    }

    #[test]
    fn a_reason_stands_beside_its_row() {
        let text = lay_out(&sheet(&["10"], Some("it was too large for the memory of this machine")), 40);
        assert!(text.contains("10  it was too large for the memory of\n    this machine\n"), "{text}");
    }

    #[test]
    fn a_word_longer_than_a_line_is_broken() {
        assert_eq!(wrap("ab abcdefgh", 3), ["ab", "abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""]);
    }
}
