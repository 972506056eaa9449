//! Columns for people.

/// A table with a line for each row, its columns as wide as they need be.
pub(super) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> =
        std::iter::once(head.map(str::to_owned)).chain(rows).map(|row| row.map(plain)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Text from outside without what would command a terminal.
pub(super) fn plain(text: impl AsRef<str>) -> String {
    text.as_ref().chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_no_escape_sequence_comes_through() {
        let rows = [["1".to_owned(), "\u{1b}[2Jx\n".to_owned()], ["1000".to_owned(), String::new()]];
        assert_eq!(table(["A", "B"], rows), "A     B\n1     [2Jx\n1000\n");
    }
}
