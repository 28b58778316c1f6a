//! The words of a tool: title, description, labels, from those of its operation. They steer models: what is invisible
//! in them goes. No I/O.

use std::collections::BTreeMap;

use super::{document::Document, operation::Operation};

const MAX_TITLE: usize = 200;
const MAX_DESCRIPTION: usize = 8_192;
const MAX_LABEL: usize = 256;

/// A short title: the summary, or the operation itself.
pub(super) fn title(operation: &Operation<'_>) -> String {
    let summary = one_line(operation.node.text("summary"));
    let title = if summary.is_empty() { operation.source() } else { summary };
    cut(&title, MAX_TITLE)
}

/// Summary and description, or what can be said without them.
pub(super) fn description(operation: &Operation<'_>, document: &Document) -> String {
    let (summary, description) =
        (one_line(operation.node.text("summary")), clean(operation.node.text("description")));
    let mut text = match (summary.as_str(), description.as_str()) {
        ("", "") => {
            let title = document.root().get("info").map(|info| one_line(info.text("title")));
            let of = title.filter(|title| !title.is_empty()).unwrap_or_else(|| "the API".to_owned());
            format!("{} of {of}.", operation.source())
        }
        (summary, "") => summary.to_owned(),
        ("", description) => description.to_owned(),
        (summary, description) if description.to_lowercase().starts_with(&summary.to_lowercase()) => {
            description.to_owned()
        }
        (summary, description) => {
            let stop = if summary.ends_with(['.', '!', '?', ':']) { "" } else { "." };
            format!("{summary}{stop}\n\n{description}")
        }
    };
    if operation.node.is("deprecated") && !text.to_lowercase().contains("deprecated") {
        text = format!("Deprecated. {text}");
    }
    cut(&text, MAX_DESCRIPTION)
}

/// Where the tool comes from; steers no model.
pub(super) fn labels(operation: &Operation<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut add = |key: &str, value: &str| {
        let value = one_line(value);
        if !value.is_empty() {
            labels.insert(format!("openapi.{key}"), cut(&value, MAX_LABEL));
        }
    };
    add("operation", &operation.source());
    add("operation_id", operation.id());
    add("tags", &operation.tags().join(", "));
    labels
}

/// Without control characters and blanks at the end of lines, and with at most one empty line in a row.
fn clean(text: &str) -> String {
    let visible: String = text
        .replace("\r\n", "\n")
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| is_shown(*c))
        .collect();
    let mut lines: Vec<&str> = Vec::new();
    for line in visible.lines().map(str::trim_end) {
        if !(line.is_empty() && lines.last().is_none_or(|last| last.is_empty())) {
            lines.push(line);
        }
    }
    lines.join("\n").trim().to_owned()
}

/// Control characters, and those that format text without being seen, hide words from people that models read.
fn is_shown(letter: char) -> bool {
    letter == '\n' || !(letter.is_control() || types::is_hidden(letter))
}

fn one_line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text, or as much of it as fits with an ellipsis.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let start: String = text.chars().take(most - 1).collect();
    format!("{}…", start.trim_end())
}
