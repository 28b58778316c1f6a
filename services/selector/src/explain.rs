//! Says in words, made from the scores, what put a tool where it stands. Invents nothing: every figure
//! is one that decided.

use crate::rank::{Basis, Ranked};

/// Most words of the task that are named.
const NAMED_WORDS: usize = 4;
/// A difference that no one would see in two decimals of a score.
const EQUAL: f64 = 1e-9;

/// Why the tool at this place stands there.
pub(crate) fn explain(basis: &Basis, ranked: &[Ranked], place: usize) -> String {
    let tool = &ranked[place];
    let mut parts = vec![standing(basis, ranked, place)];
    parts.extend(words(basis, tool));
    parts.extend(capabilities(basis, tool));
    parts.push(history(tool));
    if tool.entry.is_deprecated() {
        parts.push("deprecated, which halves its suitability".to_owned());
    }
    parts.join("; ")
}

/// The first against the second, every other against the first.
fn standing(basis: &Basis, ranked: &[Ranked], place: usize) -> String {
    let first = place == 0;
    let Some(other) = ranked.get(usize::from(first)) else {
        return "the only tool left after the filters".to_owned();
    };
    let tool = &ranked[place];
    let (ahead, word) = if first { (tool, "ahead of") } else { (other, "behind") };
    let behind = if first { other } else { tool };
    let weights = basis.weights;
    let (up, down) = (&ahead.scores, &behind.scores);
    let differences = [
        ("fit of words", weights.matching * weights.text, up.text, down.text),
        ("capabilities", weights.matching * weights.capability, up.capability, down.capability),
        ("history", weights.suitability, up.suitability, down.suitability),
    ];
    let gain = |(_, weight, up, down): &(&str, f64, f64, f64)| weight * (up - down);
    let decisive = differences.into_iter().max_by(|left, right| gain(left).total_cmp(&gain(right)));
    let name = &other.entry.name;
    match decisive.filter(|difference| gain(difference) > EQUAL) {
        Some((what, _, up, down)) if first => format!("{word} {name} by {what} ({up:.2} against {down:.2})"),
        Some((what, _, up, down)) => format!("{word} {name} by {what} ({down:.2} against {up:.2})"),
        None if first => format!("scores as {name} does and comes first by name"),
        None => format!("scores as {name} does and comes after it by name"),
    }
}

fn words(basis: &Basis, tool: &Ranked) -> Option<String> {
    if basis.query.0.is_empty() {
        return None;
    }
    let matched = basis.index.matched(basis.query, tool.entry);
    if matched.is_empty() {
        return Some("no word of the task occurs in its definition".to_owned());
    }
    let named: Vec<_> = matched.iter().take(NAMED_WORDS).map(|word| format!("\"{word}\"")).collect();
    Some(format!("matches {}", named.join(", ")))
}

fn capabilities(basis: &Basis, tool: &Ranked) -> Option<String> {
    let (has, lacks): (Vec<&str>, Vec<&str>) =
        basis.capabilities.iter().map(String::as_str).partition(|capability| tool.entry.has(capability));
    let why = if basis.asked { "asked for" } else { "implied by the task" };
    match (has.as_slice(), lacks.as_slice()) {
        ([], []) => None,
        (has, []) => Some(format!("has {}, {why}", has.join(", "))),
        ([], lacks) => Some(format!("lacks {}, {why}", lacks.join(", "))),
        (has, lacks) => Some(format!("has {} and lacks {}, {why}", has.join(", "), lacks.join(", "))),
    }
}

fn history(tool: &Ranked) -> String {
    match &tool.history {
        None => "no history yet".to_owned(),
        Some(counts) => format!(
            "{} executions, {:.0} % succeeded lately, {:.0} ms on average",
            counts.executions,
            100.0 * counts.success_rate(),
            counts.average_ms(),
        ),
    }
}
