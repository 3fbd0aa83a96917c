//! Tables of text whose cells may have several lines.

/// A table that is filled row by row.
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<Vec<String>>>,
}

/// Between two columns.
const GAP: &str = "  ";

impl Table {
    /// An empty table.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { headings: headings.iter().map(|heading| (*heading).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row: for each column the lines of its cell.
    pub(crate) fn row(&mut self, cells: Vec<Vec<String>>) {
        self.rows.push(cells);
    }

    /// The lines of the table; nothing if it has no rows.
    pub(crate) fn render(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let widths: Vec<usize> = (0..self.headings.len()).map(|column| self.width(column)).collect();
        let rule = "-".repeat(widths.iter().sum::<usize>() + GAP.len() * (widths.len() - 1));
        let mut lines = vec![aligned(&self.headings, &widths), rule.clone()];
        for row in &self.rows {
            let height = row.iter().map(Vec::len).max().unwrap_or_default();
            for at in 0..height {
                let line: Vec<String> = row.iter().map(|cell| cell.get(at).cloned().unwrap_or_default()).collect();
                lines.push(aligned(&line, &widths));
            }
        }
        lines.push(rule);
        lines.join("\n")
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).flatten();
        let widths = cells.chain([&self.headings[column]]).map(|text| text.chars().count());
        widths.max().unwrap_or_default()
    }
}

fn aligned(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    padded.join(GAP).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_may_be_high() {
        let mut table = Table::new(&["ID", "Paths", "Size"]);
        assert_eq!(table.render(), "");
        let cell = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        table.row(vec![cell(&["ab"]), cell(&["/a", "/long"]), cell(&["3 B"])]);
        table.row(vec![cell(&["c"]), cell(&["/\u{e4}"]), cell(&[])]);
        let expected = "ID  Paths  Size\n---------------\nab  /a     3 B\n    /long\nc   /\u{e4}\n---------------";
        assert_eq!(table.render(), expected);
    }
}
