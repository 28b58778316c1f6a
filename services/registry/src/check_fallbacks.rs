//! Checks which tools stand in for a tool: that each can, and that none stands in for itself in a circle.
//! No I/O.

use std::collections::{HashMap, HashSet};

use crate::{check_settings::Found, expression, settings::Fallback};

/// Most fallbacks of one tool.
const MAX_FALLBACKS: usize = 10;

/// Notes what is wrong with the fallbacks of a tool as far as they tell by themselves.
pub(crate) fn check(name: &str, fallbacks: &[Fallback], found: &mut Found) {
    if fallbacks.len() > MAX_FALLBACKS {
        found.add("fallbacks", format!("has {}; at most {MAX_FALLBACKS} are taken", fallbacks.len()));
    }
    for (index, fallback) in fallbacks.iter().enumerate().take(MAX_FALLBACKS) {
        if fallback.tool == name {
            found.add(format!("fallbacks[{index}].tool"), "is the tool itself");
        }
        if fallback.conditions.is_empty() {
            let wanted = "is empty: say after which failures it is tried, FALLBACK_CONDITION_ANY for all";
            found.add(format!("fallbacks[{index}].conditions"), wanted);
        }
        if !fallback.arguments.is_empty()
            && let Err(wrong) = expression::check(&fallback.arguments)
        {
            found.add(format!("fallbacks[{index}].arguments"), wrong);
        }
    }
}

/// Notes fallbacks that do not exist, or of which one leads back to the tool. `known`: the names that there
/// are among them. `others`: which tools stand in for which, over the team.
pub(crate) fn check_among(
    name: &str,
    fallbacks: &[Fallback],
    known: &HashSet<String>,
    others: &HashMap<String, Vec<String>>,
    found: &mut Found,
) {
    for (index, fallback) in fallbacks.iter().enumerate().take(MAX_FALLBACKS) {
        // That it is the tool itself is told already.
        if fallback.tool == name {
            continue;
        }
        let field = format!("fallbacks[{index}].tool");
        if !known.contains(&fallback.tool) {
            found.add(field, format!("there is no tool {:?}", fallback.tool));
        } else if let Some(way) = way(&fallback.tool, name, others) {
            found.add(field, format!("stands in for itself in a circle: {name} -> {}", way.join(" -> ")));
        }
    }
}

/// The shortest way over fallbacks from one tool to another, both ends included.
fn way<'a>(from: &'a str, to: &str, others: &'a HashMap<String, Vec<String>>) -> Option<Vec<&'a str>> {
    let mut came_from: HashMap<&str, &str> = HashMap::new();
    let mut front = vec![from];
    while !front.is_empty() {
        let mut next = Vec::new();
        for at in front {
            for tool in others.get(at).into_iter().flatten() {
                if tool == from || came_from.contains_key(tool.as_str()) {
                    continue;
                }
                came_from.insert(tool, at);
                if tool == to {
                    return Some(trace(tool, &came_from));
                }
                next.push(tool.as_str());
            }
        }
        front = next;
    }
    None
}

fn trace<'a>(end: &'a str, came_from: &HashMap<&'a str, &'a str>) -> Vec<&'a str> {
    let mut way = vec![end];
    while let Some(before) = way.last().and_then(|at| came_from.get(at)) {
        way.push(before);
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Condition;

    fn fallback(tool: &str) -> Fallback {
        Fallback {
            tool: tool.into(),
            conditions: vec![Condition::Any],
            arguments: String::new(),
            priority: 0,
        }
    }

    fn told(found: Found) -> Vec<String> {
        found.0.into_iter().map(|v| format!("{} {}", v.field, v.description)).collect()
    }

    fn among(name: &str, tools: &[&str], edges: &[(&str, &[&str])]) -> Vec<String> {
        let fallbacks: Vec<_> = tools.iter().map(|tool| fallback(tool)).collect();
        let known = ["a", "b", "c", "d"].map(str::to_owned).into();
        let owned = |(from, to): &(&str, &[&str])| {
            ((*from).to_owned(), to.iter().map(|tool| (*tool).to_owned()).collect())
        };
        let others = edges.iter().map(owned).collect();
        let mut found = Found::default();
        check_among(name, &fallbacks, &known, &others, &mut found);
        told(found)
    }

    #[test]
    fn a_circle_is_found_at_any_length_and_named() {
        assert_eq!(
            among("a", &["b"], &[("b", &["a"])]),
            ["fallbacks[0].tool stands in for itself in a circle: a -> b -> a"]
        );
        assert_eq!(
            among("a", &["d", "b"], &[("b", &["d", "c"]), ("c", &["a"])]),
            ["fallbacks[1].tool stands in for itself in a circle: a -> b -> c -> a"]
        );
        // Two ways to one tool are no circle, and a circle of others is not of this tool's making.
        assert!(among("a", &["b", "c"], &[("b", &["d"]), ("c", &["d"])]).is_empty());
        assert!(among("a", &["b"], &[("b", &["c"]), ("c", &["b"])]).is_empty());
        // What the tool had before does not count.
        assert!(among("a", &["b"], &[("a", &["c"]), ("c", &["b"])]).is_empty());
    }

    #[test]
    fn a_fallback_is_another_tool_that_there_is() {
        assert_eq!(among("a", &["b", "x"], &[]), ["fallbacks[1].tool there is no tool \"x\""]);
        let wrong = Fallback { conditions: vec![], arguments: "{".into(), ..fallback("a") };
        let mut found = Found::default();
        check("a", &[fallback("b"), wrong], &mut found);
        let fields: Vec<_> = found.0.into_iter().map(|violation| violation.field).collect();
        assert_eq!(fields, ["fallbacks[1].tool", "fallbacks[1].conditions", "fallbacks[1].arguments"]);
    }

    #[test]
    fn ten_are_taken_and_no_more_are_looked_at() {
        let mut found = Found::default();
        check("a", &vec![fallback("b"); 10], &mut found);
        assert!(found.0.is_empty());
        check("a", &vec![fallback("a"); 1_000], &mut found);
        assert_eq!(found.0.len(), 11);
        assert_eq!(found.0[0].field, "fallbacks");
    }
}
