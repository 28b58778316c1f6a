//! Patterns that were added to what always goes. Must never do more than a bounded number of steps a byte, nor keep
//! more than a bounded number of finds, whatever the pattern: what one may match is bounded (`config::compiled`), and a
//! text in which too much is found goes whole.

use regex::Regex;

use crate::{
    config::{self, Pattern},
    scan::{Rule, Span},
};

/// Most matches in one text. After each the search begins anew, up to `config::MAX_MATCH` bytes further back.
const MAX_FOUND: usize = 10_000;

/// Some patterns, in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patterns(Vec<(String, Regex)>);

impl Patterns {
    /// Adds a pattern.
    pub(crate) fn add(&mut self, pattern: &Pattern) -> Result<(), String> {
        self.0.push((pattern.name.clone(), config::compiled(&pattern.pattern)?));
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a pattern is called.
    pub(crate) fn name(&self, number: usize) -> &str {
        self.0.get(number).map_or("", |(name, _)| name)
    }

    /// Whether any of them is in a text.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.0.iter().any(|(_, pattern)| pattern.is_match(text))
    }

    /// Everything that they match, or all of the text where that is too much.
    pub(crate) fn find(&self, text: &str, spans: &mut Vec<Span>) {
        let (before, mut left) = (spans.len(), MAX_FOUND);
        for (number, (_, pattern)) in self.0.iter().enumerate() {
            let rule = Rule::Added(number);
            for found in pattern.find_iter(text) {
                if left == 0 {
                    spans.truncate(before);
                    spans.push(Span { start: 0, end: text.len(), rule });
                    return;
                }
                left -= 1;
                let (start, end) = (found.start(), found.end());
                match spans[before..].last_mut() {
                    _ if start == end => {}
                    Some(last) if last.rule == rule && last.end == start => last.end = end,
                    _ => spans.push(Span { start, end, rule }),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> Vec<(usize, usize)> {
        let mut patterns = Patterns::default();
        patterns.add(&Pattern { name: "badge".into(), pattern: pattern.into() }).unwrap();
        let mut spans = Vec::new();
        patterns.find(text, &mut spans);
        spans.iter().map(|span| (span.start, span.end)).collect()
    }

    #[test]
    fn matches_are_found_whole_wherever_they_stand_and_ends_are_those_of_the_text() {
        let text = format!("{}B-{} {}", "x".repeat(7_900), "1".repeat(1_000), "x".repeat(30_000));
        assert_eq!(found("B-[0-9]{6,1000}", &text), [(7_900, 8_902)]);
        assert_eq!(found(r"\A.|^.|.$", &text), [(0, 1), (text.len() - 1, text.len())]);
        assert_eq!(found(r"\bx", &text), [(0, 1), (8_903, 8_904)]);
        assert_eq!(found("x", ""), []);
    }

    #[test]
    fn finds_that_meet_are_one_and_too_many_take_the_whole_text() {
        assert_eq!(found("[0-9]", "a123b4"), [(1, 4), (5, 6)]);
        let most = "1 ".repeat(MAX_FOUND);
        assert_eq!(found("1", &most).len(), MAX_FOUND);
        assert_eq!(found("1", &format!("a{most}1")), [(0, most.len() + 2)]);
        assert_eq!(found(".", &"é".repeat(1 << 20)), [(0, 2 << 20)]);
    }
}
