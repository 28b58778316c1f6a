//! Text to words: what a task and a tool's definition are compared by.
//!
//! The same rules for both sides, or nothing would match.

use crate::stem::stem;

/// Words that say nothing about which tool is meant. Words that a tool could be about, such as "get",
/// stay: how common they are in the catalog weighs them.
const STOP: &[&str] = &[
    "a", "about", "after", "again", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been",
    "before", "being", "both", "but", "by", "can", "could", "did", "do", "does", "done", "each", "etc",
    "ever", "every", "few", "for", "from", "had", "has", "have", "having", "he", "help", "her", "here",
    "hers", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "let", "like", "may",
    "me", "might", "more", "most", "my", "need", "no", "nor", "not", "of", "off", "on", "once", "only", "or",
    "other", "our", "out", "over", "own", "please", "same", "shall", "she", "should", "so", "some", "such",
    "than", "thank", "thanks", "that", "the", "their", "them", "then", "there", "these", "they", "this",
    "those", "through", "to", "too", "tool", "tools", "under", "until", "up", "us", "use", "used", "uses",
    "using", "very", "want", "was", "we", "were", "what", "when", "where", "which", "while", "who", "whom",
    "whose", "why", "will", "with", "within", "would", "you", "your",
];

/// A word as it was written, in lower case, and its stem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub text: String,
    pub stem: String,
}

/// The words of a text, in order, without stop words. Splits at everything that is neither letter nor
/// digit and where camelCase begins a new word: `getHTTPResponse_code` has four.
pub(crate) fn words(text: &str) -> impl Iterator<Item = Word> {
    split(text).into_iter().map(str::to_lowercase).filter(|word| !is_stop(word)).map(|text| {
        let stem = stem(&text);
        Word { text, stem }
    })
}

fn is_stop(word: &str) -> bool {
    // A single ASCII letter is a list mark or what an apostrophe left over.
    (word.len() == 1 && !word.as_bytes()[0].is_ascii_digit()) || STOP.binary_search(&word).is_ok()
}

/// The pieces of a text: `getHTTPResponse_code` has four, stop words stay.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = None;
    let mut characters = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, character)) = characters.next() {
        let after = characters.peek().map_or(' ', |(_, after)| *after);
        let ends = !character.is_alphanumeric() || begins_word(before, character, after);
        if let Some(from) = start.filter(|_| ends) {
            pieces.push(&text[from..at]);
            start = None;
        }
        if character.is_alphanumeric() && start.is_none() {
            start = Some(at);
        }
        before = character;
    }
    pieces.extend(start.map(|from| &text[from..]));
    pieces
}

/// Whether a capital begins a word inside camelCase: `fooBar`, and the last capital of `HTTPServer`.
fn begins_word(before: char, character: char, after: char) -> bool {
    character.is_uppercase() && (before.is_lowercase() || (before.is_uppercase() && after.is_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        words(text).map(|word| word.text).collect()
    }

    #[test]
    fn names_of_every_style_are_split() {
        assert_eq!(texts("brave_web-search.run"), ["brave", "web", "search", "run"]);
        assert_eq!(texts("getHTTPResponseCode"), ["get", "http", "response", "code"]);
        assert_eq!(texts("s3 sha256 CSV"), ["s3", "sha256", "csv"]);
    }

    #[test]
    fn stop_words_go_and_every_other_language_stays_whole() {
        assert_eq!(texts("What's the weather in Zürich?"), ["weather", "zürich"]);
        assert_eq!(texts("Größe 日本"), ["größe", "日本"]);
        assert!(texts("please do it for me").is_empty());
    }

    #[test]
    fn the_list_of_stop_words_is_sorted() {
        assert!(STOP.is_sorted());
    }
}
