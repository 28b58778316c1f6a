//! A report as CSV (RFC 4180): lines end in CRLF, and a field with a comma, a quote or a line break stands in quotes. The
//! header stands in a line that begins with #. A text that a spreadsheet would take for a formula gets an apostrophe before
//! it, which makes it harmless.

use trail::report::Format;

use super::{form::Cell, head::Head};

/// What spreadsheets take for the begin of a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// The header, and the names of the columns.
pub(super) fn head(head: &Head, content: &mut Vec<u8>) {
    let line = format!("{}{}\r\n", Format::Csv.mark(), head.json());
    content.extend_from_slice(line.as_bytes());
    let names: Vec<&str> = head.columns.iter().map(|column| column.name).collect();
    content.extend_from_slice(names.join(",").as_bytes());
    content.extend_from_slice(b"\r\n");
}

/// A row.
pub(super) fn row(cells: &[Cell], content: &mut Vec<u8>) {
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            content.push(b',');
        }
        match cell {
            Cell::Number(number) => content.extend_from_slice(number.to_string().as_bytes()),
            Cell::Text(text) => content.extend_from_slice(field(text).as_bytes()),
        }
    }
    content.extend_from_slice(b"\r\n");
}

fn field(text: &str) -> String {
    let harmless = if text.starts_with(FORMULA) { format!("'{text}") } else { text.to_owned() };
    if harmless.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", harmless.replace('"', "\"\""))
    } else {
        harmless
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be_and_no_formula_stays_one() {
        let mut content = Vec::new();
        let texts =
            ["plain", "a,b", "say \"no\"", "two\r\nlines", "=1+1", "+1", "-1", "@SUM(A1)", "\tx", "=\"a\",b"];
        let mut cells: Vec<Cell> = texts.iter().map(|text| Cell::Text((*text).into())).collect();
        cells.push(Cell::Number(-7));
        row(&cells, &mut content);
        assert_eq!(
            String::from_utf8(content).unwrap(),
            "plain,\"a,b\",\"say \"\"no\"\"\",\"two\r\nlines\",'=1+1,'+1,'-1,'@SUM(A1),'\tx,\"'=\"\"a\"\",b\",-7\r\n"
        );
    }
}
