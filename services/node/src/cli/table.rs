//! Tables and lists of details, without borders, in the width of the terminal.
//!
//! Every cell is made by a function here, so that no text of others reaches the terminal untouched.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, presets};

use super::{
    human,
    output::{Tone, View},
};

/// A cell of text; "-" when it is empty.
pub fn cell(text: impl AsRef<str>) -> Cell {
    toned(text, Tone::Plain)
}

/// A cell that is aligned to the right.
pub fn number(text: impl AsRef<str>) -> Cell {
    cell(text).set_alignment(CellAlignment::Right)
}

/// A cell in the colour of its tone.
pub fn toned(text: impl AsRef<str>, tone: Tone) -> Cell {
    let text = text.as_ref();
    let cell = Cell::new(if text.is_empty() { "-".into() } else { human::visible(text) });
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Warn => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
        Tone::Bold => cell.add_attribute(Attribute::Bold),
    }
}

/// A table under its headings.
pub struct Table {
    inner: comfy_table::Table,
}

impl Table {
    /// An empty table.
    pub fn new(headings: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        inner.set_header(headings.iter().map(|heading| Cell::new(heading).add_attribute(Attribute::Dim)));
        for column in inner.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self { inner }
    }

    /// Never wraps these columns: ids and names are there to be copied.
    pub fn whole(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            if let Some(column) = self.inner.column_mut(column) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.inner.add_row(cells);
    }

    /// The table as text, or `empty` when it has no rows.
    pub fn render(mut self, view: View, empty: &str) -> String {
        if self.inner.is_empty() {
            return view.style.paint(empty, Tone::Dim);
        }
        self.inner.force_no_tty();
        if let Some(width) = view.width {
            self.inner.set_width(width);
        }
        if view.style.colour {
            self.inner.enforce_styling();
        }
        self.inner.trim_fmt()
    }
}

/// Labels and values, aligned; rows without a value are left out.
pub fn details(rows: &[(&str, String)], view: View) -> String {
    let widest = rows.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for (label, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let value = human::visible(value).replace('\n', &format!("\n{:widest$}  ", ""));
        let label = view.style.paint(&format!("{label:widest$}"), Tone::Dim);
        lines.push(format!("{label}  {value}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::cli::output::Style;

    fn view(width: Option<u16>) -> View {
        View { style: Style { colour: false }, width, now: Utc::now() }
    }

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "WHAT", "N"]).whole(&[0]);
        table.row(vec![
            cell("a-rather-long-name"),
            cell("words that may be wrapped when needed"),
            number("1"),
        ]);
        table.row(vec![cell("b\x1b[2J"), cell(""), number("10")]);
        table
    }

    #[test]
    fn away_from_a_terminal_a_row_is_a_line() {
        let text = table().render(view(None), "none");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].starts_with("a-rather-long-name  words that may be wrapped when needed"), "{text}");
        assert!(lines[2].starts_with("b\u{fffd}[2J") && lines[2].contains("  -  "), "{text}");
    }

    #[test]
    fn on_a_terminal_it_fits_and_names_stay_whole() {
        let text = table().render(view(Some(40)), "none");
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("a-rather-long-name") && text.lines().count() > 3, "{text}");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&["NAME"]).render(view(None), "nothing yet"), "nothing yet");
    }

    #[test]
    fn details_are_aligned_and_leave_out_what_is_not_there() {
        let rows = [("name", "x".to_owned()), ("version", "1\n2".to_owned()), ("task", String::new())];
        assert_eq!(details(&rows, view(None)), "name     x\nversion  1\n         2");
    }
}
