//! A report as JSON Lines: a header, then an object a row with its columns in their order.

use super::{form::Cell, head::Head};

/// The first line.
pub(super) fn head(head: &Head, content: &mut Vec<u8>) {
    content.extend_from_slice(head.json().as_bytes());
    content.push(b'\n');
}

/// A row.
pub(super) fn row(head: &Head, cells: &[Cell], content: &mut Vec<u8>) {
    let mut separator = b'{';
    for (column, cell) in head.columns.iter().zip(cells) {
        content.push(separator);
        separator = b',';
        write(column.name, content);
        content.push(b':');
        match cell {
            Cell::Text(text) => write(text, content),
            Cell::Number(number) => content.extend_from_slice(number.to_string().as_bytes()),
        }
    }
    content.extend_from_slice(b"}\n");
}

fn write(text: &str, content: &mut Vec<u8>) {
    serde_json::to_writer(content, text).expect("a text is serializable");
}
