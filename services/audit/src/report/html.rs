//! A report as one page for people, to read or to print: sums, charts, the tools and agents with most records, and the
//! first rows. It has no script and asks for nothing from outside. Whatever stands in a record is escaped: tools, agents
//! and messages are written by others.

use std::{collections::BTreeMap, fmt::Write as _};

use chrono::NaiveDate;
use trail::report::Format;

use super::{Ground, charts, form::Cell, head::Head};
use crate::store::RecordRow;

/// Rows that are shown.
const ROWS: usize = 100;
/// Tools and agents that are shown.
const TOP: usize = 10;
/// Tools and agents that are told apart.
const MOST: usize = 10_000;
/// Longest text of a cell, in characters.
const LONGEST: usize = 300;
/// In the order that they are shown in; each is a class of the style.
const RESULTS: [&str; 4] = ["success", "failure", "denied", "unknown"];

const STYLE: &str = include_str!("page.css");

/// What a page sums up.
#[derive(Debug, Default)]
pub(super) struct Tally {
    records: i64,
    calls: BTreeMap<NaiveDate, i64>,
    refusals: BTreeMap<NaiveDate, i64>,
    cost: BTreeMap<NaiveDate, i64>,
    sensitive: BTreeMap<NaiveDate, i64>,
    results: BTreeMap<String, i64>,
    tools: BTreeMap<String, Sums>,
    agents: BTreeMap<String, Sums>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    records: i64,
    failures: i64,
    cost: i64,
}

impl Tally {
    /// Adds a record.
    pub(super) fn record(&mut self, record: &RecordRow) {
        self.records += 1;
        let day = record.event_time.date_naive();
        let add = |to: &mut BTreeMap<NaiveDate, i64>, value: i64| {
            if value != 0 {
                *to.entry(day).or_default() += value;
            }
        };
        add(&mut self.calls, ["tool_invoked", "cache_hit"].contains(&record.action.as_str()).into());
        add(&mut self.refusals, (record.result == "denied").into());
        add(&mut self.cost, record.cost_micro_usd);
        add(
            &mut self.sensitive,
            ["confidential", "restricted"].contains(&record.classification.as_str()).into(),
        );
        *self.results.entry(record.result.clone()).or_default() += 1;
        for (sums, name) in [(&mut self.tools, &record.tool_name), (&mut self.agents, &record.agent_id)] {
            if name.is_empty() {
                continue;
            }
            let name = if sums.len() < MOST || sums.contains_key(name) { name.as_str() } else { "(others)" };
            let of = sums.entry(name.to_owned()).or_default();
            of.records += 1;
            of.failures += i64::from(record.result != "success");
            of.cost += record.cost_micro_usd;
        }
    }

    /// Adds a row; the first ones are shown.
    pub(super) fn row(&mut self, cells: &[Cell]) {
        if self.rows.len() < ROWS {
            self.rows.push(cells.to_vec());
        }
    }
}

/// The page without its end.
pub(super) fn page(head: &Head, ground: &Ground, tally: &Tally) -> String {
    let mut page = format!(
        "{}<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{} \u{2013} {}</title><style>{STYLE}</style></head>\n<body><main>\n",
        Format::Html.mark(),
        escaped(head.title),
        escaped(&head.team_id)
    );
    let _ = write!(page, "<h1>{}</h1>\n<p>{}</p>\n", escaped(head.title), escaped(head.citation));
    about(&mut page, head, ground, tally);
    let days = (ground.asked.start.date_naive(), ground.asked.end.date_naive());
    page += "<h2>Over time</h2>\n";
    for (title, values) in [
        ("Calls", &tally.calls),
        ("Refusals", &tally.refusals),
        ("Cost in millionths of a US dollar", &tally.cost),
        ("Records of confidential or restricted data", &tally.sensitive),
    ] {
        let total: i64 = values.values().sum();
        let chart = charts::bars(values, days, title);
        let _ = writeln!(page, "<figure><figcaption>{title}: {total}</figcaption>{chart}</figure>");
    }
    outcomes(&mut page, tally);
    top(&mut page, "Tools", &tally.tools);
    top(&mut page, "Agents", &tally.agents);
    rows(&mut page, head, ground, tally);
    evidence(&mut page, head, ground);
    page + "</main></body></html>\n"
}

fn about(page: &mut String, head: &Head, ground: &Ground, tally: &Tally) {
    let query = &head.query;
    let mut facts = vec![
        ("Team", head.team_id.clone()),
        ("Period", format!("{} to before {}", query.start_time, query.end_time)),
        ("Made", format!("{} by {}", head.generate_time, head.generator)),
        ("Rows", ground.rows.to_string()),
        ("Records", tally.records.to_string()),
    ];
    facts.extend(query.user.clone().map(|user| ("End user", user)));
    facts.extend(head.available_start_time.clone().map(|since| ("All records kept since", since)));
    page.push_str("<dl>");
    for (name, value) in facts {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
    }
    page.push_str("</dl>\n");
    for note in &head.notes {
        let _ = writeln!(page, "<p class=\"note\">{}</p>", escaped(note));
    }
}

fn outcomes(page: &mut String, tally: &Tally) {
    let parts = RESULTS.map(|result| (result, tally.results.get(result).copied().unwrap_or(0)));
    let _ = write!(page, "<h2>Outcomes</h2>\n<figure>{}<figcaption>", charts::shares(&parts, "Outcomes"));
    for (result, count) in parts {
        let _ = write!(page, "<span class=\"key {result}\"></span>{result} {count} ");
    }
    page.push_str("</figcaption></figure>\n");
}

fn top(page: &mut String, title: &str, sums: &BTreeMap<String, Sums>) {
    let mut ordered: Vec<_> = sums.iter().collect();
    ordered.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.records));
    let _ = write!(
        page,
        "<h2>{title}</h2>\n<table><thead><tr><th>Name</th><th class=\"n\">Records</th><th class=\"n\">Not \
         successful</th><th class=\"n\">Cost (\u{b5}$)</th></tr></thead><tbody>"
    );
    for (name, Sums { records, failures, cost }) in ordered.into_iter().take(TOP) {
        let name = escaped(&cut(name));
        let _ = write!(
            page,
            "<tr><td>{name}</td><td class=\"n\">{records}</td><td class=\"n\">{failures}</td><td class=\"n\">{cost}</td></tr>"
        );
    }
    page.push_str("</tbody></table>\n");
}

fn rows(page: &mut String, head: &Head, ground: &Ground, tally: &Tally) {
    let shown = tally.rows.len();
    let _ = write!(
        page,
        "<h2>Rows</h2>\n<p>{shown} of {}; all of them are in the same report as JSON Lines or CSV.</p>\n\
         <div class=\"wide\"><table><thead><tr>",
        ground.rows
    );
    for column in &head.columns {
        let _ = write!(page, "<th title=\"{}\">{}</th>", escaped(column.meaning), escaped(column.name));
    }
    page.push_str("</tr></thead><tbody>");
    for row in &tally.rows {
        page.push_str("<tr>");
        for cell in row {
            let _ = match cell {
                Cell::Number(number) => write!(page, "<td class=\"n\">{number}</td>"),
                Cell::Text(text) => write!(page, "<td>{}</td>", escaped(&cut(text))),
            };
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>\n");
}

fn evidence(page: &mut String, head: &Head, ground: &Ground) {
    let _ = write!(
        page,
        "<h2>Evidence</h2>\n<p>Made from the records {} to before {} of the trail {}, under this signed checkpoint:</p>\n\
         <pre>{}</pre>\n<p>Key that verifies it: <code>{}</code></p>\n<p>The last line of this file, a comment, is its \
         signature; check it with: <code>toolcrib audit verify FILE --key KEY</code></p>\n",
        ground.leaves.0,
        ground.leaves.1,
        escaped(&head.origin),
        escaped(&ground.tree.checkpoint),
        escaped(&head.verifier_key)
    );
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}\u{2026}", &text[..at]),
        None => text.to_owned(),
    }
}

/// A text within an element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // What would turn the direction of a line, or not show at all.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.push('\u{fffd}'),
            control if control.is_control() && !"\n\t".contains(control) => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays_text() {
        let hostile = "\"><script>alert('x')</script>&\u{202e}\u{7}";
        assert_eq!(
            escaped(hostile),
            "&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;\u{fffd}\u{fffd}"
        );
        assert_eq!(cut(&"\u{e4}".repeat(301)).chars().count(), 301);
    }
}
