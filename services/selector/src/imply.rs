//! The canonical capabilities that a task's words ask for, when the caller names none.
//!
//! A small table and nothing more: it may only help a tool that has the capability, never exclude one.

use std::sync::LazyLock;

use crate::{stem::stem, words::Word};

/// Capability and the words that ask for it. Only words that name the work and rarely mean anything else:
/// "get", "make" and "write" are asked of every kind of tool, "summary" and "post" are often its object.
const TABLE: &[(&str, &[&str])] = &[
    (
        "search",
        &[
            "search", "find", "google", "lookup", "discover", "news", "headline", "latest", "recent",
            "research", "weather",
        ],
    ),
    ("retrieve", &["retrieve", "fetch", "download", "read", "load", "list"]),
    (
        "analyze",
        &[
            "analyze",
            "analysis",
            "statistic",
            "correlate",
            "average",
            "median",
            "pivot",
            "aggregate",
            "compare",
            "distribution",
            "outlier",
            "chart",
            "plot",
        ],
    ),
    (
        "transform",
        &["transform", "convert", "translate", "reformat", "normalize", "parse", "merge", "resize"],
    ),
    ("generate", &["generate", "compose", "draft", "draw", "synthesize", "illustrate"]),
    (
        "execute",
        &["execute", "run", "compute", "calculate", "script", "code", "program", "python", "simulate"],
    ),
    ("integrate", &["integrate", "api", "webhook", "endpoint", "http", "synchronize"]),
];

/// The table by stem, in its order.
static STEMS: LazyLock<Vec<(&str, Vec<String>)>> = LazyLock::new(|| {
    TABLE
        .iter()
        .map(|(capability, words)| (*capability, words.iter().map(|word| stem(word)).collect()))
        .collect()
});

/// The capabilities that these words imply, in the table's order.
pub(crate) fn imply(words: &[Word]) -> Vec<String> {
    let asks = |stems: &[String]| words.iter().any(|word| stems.contains(&word.stem));
    STEMS.iter().filter(|(_, stems)| asks(stems)).map(|(capability, _)| (*capability).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn implied(task: &str) -> Vec<String> {
        imply(&crate::words::words(task).collect::<Vec<_>>())
    }

    #[test]
    fn words_in_any_form_imply_their_capability() {
        assert_eq!(implied("Searching for recent news"), ["search"]);
        assert_eq!(implied("run this and plot the averages"), ["analyze", "execute"]);
        assert_eq!(implied("order a pizza"), Vec::<String>::new());
    }

    #[test]
    fn every_canonical_capability_implies_itself() {
        for (capability, _) in TABLE {
            assert!(implied(capability).iter().any(|implied| implied == capability), "{capability}");
        }
    }
}
