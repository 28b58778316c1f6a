//! Says in words, made from the scores, what put a tool where it stands. Invents nothing: every figure
//! is one that decided.

use proto::registry::v1::ServerState;

use crate::{
    fuse::NAMES,
    learn::Direction,
    rank::{Basis, Ranked, Scores},
};

/// Most words of the task that are named.
const NAMED_WORDS: usize = 4;
/// A difference that no one would see in two decimals of a score.
const EQUAL: f64 = 1e-9;

/// Why the tool at this place stands there.
pub(crate) fn explain(basis: &Basis, ranked: &[Ranked], place: usize) -> String {
    let tool = &ranked[place];
    let mut parts = vec![standing(basis, ranked, place)];
    parts.extend(words(basis, tool));
    parts.extend(facts(basis, tool));
    parts.join("; ")
}

/// What speaks for and against a pinned tool; it is offered whatever its place is.
pub(crate) fn explain_pinned(basis: &Basis, tool: &Ranked) -> String {
    let mut parts = vec!["pinned".to_owned()];
    parts.extend(words(basis, tool));
    parts.extend(facts(basis, tool));
    parts.join("; ")
}

fn facts(basis: &Basis, tool: &Ranked) -> Vec<String> {
    let mut parts: Vec<String> = capabilities(basis, tool).into_iter().collect();
    parts.push(history(tool));
    if tool.entry().is_deprecated() {
        parts.push("deprecated, which halves its suitability".to_owned());
    }
    if tool.entry().server == ServerState::Degraded {
        parts.push("its server is degraded".to_owned());
    }
    parts
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
    let name = &other.entry().name;
    let decisive = if ahead.candidate.contends && !behind.candidate.contends {
        Some((FIT, ahead.scores.semantic, behind.scores.semantic))
    } else {
        decisive(basis, &ahead.scores, &behind.scores)
    };
    match decisive {
        Some((what, up, down)) => {
            let what = if what == FIT { fit(ahead, behind) } else { what.to_owned() };
            let (own, others) = if first { (up, down) } else { (down, up) };
            format!("{word} {name} by {what} ({own:.2} against {others:.2})")
        }
        None if first => format!("scores as {name} does and comes first by name"),
        None => format!("scores as {name} does and comes after it by name"),
    }
}

/// How the fit of the task is called.
const FIT: &str = "fit";

/// The score that put one tool ahead of another, and both tools'.
fn decisive(basis: &Basis, up: &Scores, down: &Scores) -> Option<(&'static str, f64, f64)> {
    let pairs = [
        ("capabilities", up.capability, down.capability),
        (FIT, up.semantic, down.semantic),
        ("success", up.success, down.success),
        ("speed", up.latency, down.latency),
        ("cost", up.cost, down.cost),
        ("feedback", up.quality, down.quality),
    ];
    let gains = basis.weights.coefficients().into_iter().zip(pairs);
    gains
        .map(|(weight, (what, up, down))| (weight * (up - down), (what, up, down)))
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .filter(|(gain, _)| *gain > EQUAL)
        .map(|(_, told)| told)
}

/// The signal in which two tools' fit differs most, or the model's judgement, where that moved them further apart than
/// our signals had put them.
fn fit(ahead: &Ranked, behind: &Ranked) -> String {
    let own = ahead.candidate.fused.semantic - behind.candidate.fused.semantic;
    let judged = ahead.scores.semantic - behind.scores.semantic - own;
    if ahead.candidate.contends == behind.candidate.contends && judged > own {
        return format!("{FIT}, most of all the model's judgement");
    }
    let (up, down) = (&ahead.candidate.fused.parts, &behind.candidate.fused.parts);
    let widest = (0..NAMES.len())
        .max_by(|left, right| (up[*left] - down[*left]).total_cmp(&(up[*right] - down[*right])));
    match widest.filter(|at| up[*at] > down[*at]) {
        Some(at) => format!("{FIT}, most of all {}", said(NAMES[at])),
        None => FIT.to_owned(),
    }
}

/// A signal in words.
fn said(signal: &str) -> &'static str {
    match signal {
        "lexical" => "the words in common",
        "name_coverage" => "its name",
        "embedding" | "description" => "its meaning",
        "segment" => "the meaning of a clause",
        "history" => "tasks it succeeded with",
        _ => "its signals together",
    }
}

fn words(basis: &Basis, tool: &Ranked) -> Option<String> {
    if basis.query.0.is_empty() {
        return None;
    }
    let matched = basis.index.matched(basis.query, tool.entry(), basis.among);
    if matched.is_empty() {
        return Some("no word of the task occurs in its definition".to_owned());
    }
    let named: Vec<_> = matched.iter().take(NAMED_WORDS).map(|word| format!("\"{word}\"")).collect();
    Some(format!("matches {}", named.join(", ")))
}

fn capabilities(basis: &Basis, tool: &Ranked) -> Option<String> {
    let (has, lacks): (Vec<&str>, Vec<&str>) =
        basis.capabilities.iter().map(String::as_str).partition(|capability| tool.entry().has(capability));
    let why = if basis.asked { "asked for" } else { "implied by the task" };
    match (has.as_slice(), lacks.as_slice()) {
        ([], []) => None,
        (has, []) => Some(format!("has {}, {why}", has.join(", "))),
        ([], lacks) => Some(format!("lacks {}, {why}", lacks.join(", "))),
        (has, lacks) => Some(format!("has {} and lacks {}, {why}", has.join(", "), lacks.join(", "))),
    }
}

fn history(tool: &Ranked) -> String {
    let standing = &tool.candidate.standing;
    let quality =
        standing.quality.map(|quality| format!(", quality {quality:.2} by feedback")).unwrap_or_default();
    let Some(figures) = &standing.figures else { return format!("no history yet{quality}") };
    let trend = match standing.trend.direction {
        Direction::Improving => ", getting better",
        Direction::Degrading => ", getting worse",
        Direction::Stable | Direction::Unknown => "",
    };
    format!(
        "{} executions, {:.0} % succeeded lately, {:.0} ms on average{quality}{trend}",
        figures.executions,
        100.0 * figures.success_rate,
        figures.average_ms,
    )
}
