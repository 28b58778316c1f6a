//! What a selection was made of: the signals behind the semantic scores, what was left out, and how sure it is.

use proto::{
    selector::v1::{Mode, ModelHelp, SelectToolsResponse},
    types::v1::Category,
};

use crate::cli::{
    human,
    output::View,
    table::{Table, cell, details, number},
    words::word,
};

/// The signals, in the order in which they are shown; others that a newer server may send come after them.
const SIGNALS: [&str; 6] = ["lexical", "name", "embedding", "clauses", "history", "model"];

/// Signals, what was left out, and the facts.
pub(super) fn page(answer: &SelectToolsResponse, view: View) -> String {
    let mut parts = Vec::new();
    if answer.primary.is_some() {
        parts.push(signals(answer, view));
    }
    if !answer.excluded.is_empty() {
        parts.push(left_out(answer, view));
    }
    parts.push(facts(answer, view));
    // One empty line before, after and between.
    format!("\n{}\n", parts.join("\n\n"))
}

/// One bar a signal, for those that some tool has.
fn signals(answer: &SelectToolsResponse, view: View) -> String {
    let tools: Vec<_> = answer.primary.iter().chain(&answer.alternatives).chain(&answer.pinned).collect();
    let is_there = |signal: &str| tools.iter().any(|tool| tool.signals.contains_key(signal));
    let mut shown: Vec<&str> = SIGNALS.into_iter().filter(|signal| is_there(signal)).collect();
    let mut others: Vec<&str> =
        tools.iter().flat_map(|tool| tool.signals.keys()).map(String::as_str).collect();
    others.retain(|signal| !SIGNALS.contains(signal));
    others.sort_unstable();
    others.dedup();
    shown.extend(others);
    let names: Vec<String> = shown.iter().map(|signal| human::visible(&signal.to_uppercase())).collect();
    let mut headings = vec!["TOOL"];
    headings.extend(names.iter().flat_map(|name| [name.as_str(), ""]));
    let bars: Vec<usize> = (0..=shown.len()).map(|nth| (2 * nth).saturating_sub(1)).collect();
    let mut table = Table::new(&headings).whole(&bars);
    for tool in tools {
        let mut cells = vec![cell(&tool.name)];
        for signal in &shown {
            let score = tool.signals.get(*signal);
            cells.push(cell(score.map(|score| human::bar(*score, 6)).unwrap_or_default()));
            cells.push(number(score.map(|score| format!("{score:.2}")).unwrap_or_default()));
        }
        table.row(cells);
    }
    table.render(view, "no signals")
}

fn left_out(answer: &SelectToolsResponse, view: View) -> String {
    let mut counts: Vec<_> = answer.excluded.iter().collect();
    counts.sort_by(|left, right| right.1.cmp(left.1).then(left.0.cmp(right.0)));
    let mut table = Table::new(&["LEFT OUT BY", "TOOLS"]).whole(&[0]);
    for (reason, count) in counts {
        table.row(vec![cell(reason), number(count.to_string())]);
    }
    table.render(view, "")
}

fn facts(answer: &SelectToolsResponse, view: View) -> String {
    let next: Vec<String> = answer
        .next_tools
        .iter()
        .map(|tool| format!("{} {} ({} seen)", tool.name, percent(tool.probability), tool.count))
        .collect();
    let sure = if answer.primary.is_some() { percent(answer.confidence) } else { String::new() };
    let waiting = match answer.vectors_pending {
        0 => String::new(),
        1 => "1 tool is matched by its words alone until its vector is made".to_owned(),
        many => format!("{many} tools are matched by their words alone until their vectors are made"),
    };
    let weights = match answer.policy_version {
        0 => "built-in".to_owned(),
        version => format!("version {version}"),
    };
    let rows = [
        ("considered", answer.candidate_count.to_string()),
        ("confidence", sure),
        ("mode", mode(answer.mode)),
        ("taken for", word::<Category>(answer.task_category)),
        ("implied", answer.implied_capabilities.join(", ")),
        ("weights", weights),
        ("model", answer.model_help.as_ref().map(model).unwrap_or_default()),
        ("waiting", waiting),
        ("next tools", next.join(", ")),
    ];
    details(&rows, view)
}

fn model(help: &ModelHelp) -> String {
    let mut told = if help.used { format!("helped with {}", help.r#for.join(", ")) } else { String::new() };
    if !help.skipped.is_empty() {
        let before = if told.is_empty() { "did not help: " } else { "; not with all: " };
        told = format!("{told}{before}{}", help.skipped);
    }
    told
}

/// The mode in words.
pub(super) fn mode(number: i32) -> String {
    word::<Mode>(number)
}

/// A share in whole percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
