//! A text in its words, and what in it must be equal in another text for both to ask the same. Must err
//! towards "not the same": a hit that is missed costs a call, a wrong one costs trust.

use std::collections::BTreeSet;

use super::{
    vector::Vector,
    words::{DIRECTIONS, FILLERS, NEGATIONS, OPPOSITES, QUANTITIES},
};

/// Symbols that only part words.
const PUNCTUATION: &str = ".,;:!?'\"()[]{}…‘’“”«»„`´¿¡–—_/\\|-";

/// A normalised text: its vector, and its marks.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) vector: Vector,
    pub(crate) marks: Marks,
}

impl Text {
    /// `None` when the text has no word.
    pub(crate) fn of(raw: &str) -> Option<Self> {
        let (words, symbols) = split(&raw.to_lowercase());
        if words.is_empty() {
            return None;
        }
        Some(Self { vector: Vector::of(&words), marks: Marks::of(words, symbols) })
    }
}

/// What must be equal for two texts to ask the same.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    /// Numbers, dates and words of quantity, in order; and symbols such as %, $ and +.
    quantities: Vec<String>,
    symbols: Vec<char>,
    /// Negations and words with an opposite, sorted.
    turns: Vec<String>,
    has_direction: bool,
    /// All words, in order.
    words: Vec<String>,
    /// Those that are no fillers, without a plural's s.
    stems: BTreeSet<String>,
}

impl Marks {
    fn of(words: Vec<String>, symbols: Vec<char>) -> Self {
        let is_quantity = |word: &&String| word.chars().any(char::is_numeric) || QUANTITIES.contains(word);
        let is_turn = |word: &&String| NEGATIONS.contains(word) || OPPOSITES.contains(word);
        let mut turns: Vec<String> = words.iter().filter(is_turn).cloned().collect();
        turns.sort_unstable();
        Self {
            quantities: words.iter().filter(is_quantity).cloned().collect(),
            symbols,
            turns,
            has_direction: words.iter().any(|word| DIRECTIONS.contains(word)),
            stems: words.iter().filter(|word| !is_filler(word)).map(|word| stem(word).to_owned()).collect(),
            words,
        }
    }

    /// Whether nothing speaks against both texts asking the same.
    pub(crate) fn allow(&self, other: &Self) -> bool {
        self.quantities == other.quantities
            && self.symbols == other.symbols
            && self.turns == other.turns
            && !self.has_substitute(other)
            && (!(self.has_direction || other.has_direction) || self.same_order(other))
    }

    /// Whether each text has a word that the other lacks: Paris here, Prague there. In a long text one such word
    /// hardly changes the similarity.
    fn has_substitute(&self, other: &Self) -> bool {
        !self.stems.is_subset(&other.stems) && !other.stems.is_subset(&self.stems)
    }

    /// Whether the words that both have, fillers aside, come in the same order.
    fn same_order(&self, other: &Self) -> bool {
        let common = |one: &Self, other: &Self| -> Vec<String> {
            let counts = |word: &&String| !is_filler(word) && other.words.contains(word);
            one.words.iter().filter(counts).cloned().collect()
        };
        common(self, other) == common(other, self)
    }
}

/// A word without a plural's s.
pub(crate) fn stem(word: &str) -> &str {
    match word.strip_suffix('s') {
        Some(stem) if stem.len() > 2 && !stem.ends_with('s') => stem,
        _ => word,
    }
}

/// Whether a word adds nothing to a question.
pub(crate) fn is_filler(word: &str) -> bool {
    FILLERS.contains(word)
}

/// The words of a text in lower case, with numbers whole, and its symbols.
fn split(text: &str) -> (Vec<String>, Vec<char>) {
    let chars: Vec<char> = text.chars().collect();
    let (mut words, mut symbols, mut word) = (Vec::new(), Vec::new(), String::new());
    for (place, &char) in chars.iter().enumerate() {
        let before = place.checked_sub(1).map(|before| chars[before]);
        let after = chars.get(place + 1).copied();
        if char.is_alphanumeric() || joins(before, char, after) {
            word.push(char);
            continue;
        }
        end(&mut word, &mut words);
        if !char.is_whitespace() && !PUNCTUATION.contains(char) {
            symbols.push(char);
        }
    }
    end(&mut word, &mut words);
    (words, symbols)
}

/// Whether a sign belongs to the number or the word it is in: 1.5, 1,000, 12:30, 2024-01-02, -5, don't.
fn joins(before: Option<char>, char: char, after: Option<char>) -> bool {
    let digit = |side: Option<char>| side.is_some_and(char::is_numeric);
    let letter = |side: Option<char>| side.is_some_and(char::is_alphabetic);
    match char {
        '.' | ',' | ':' | '/' => digit(before) && digit(after),
        '-' | '−' => digit(after) && (digit(before) || before.is_none_or(char::is_whitespace)),
        '\'' | '’' => letter(before) && letter(after),
        _ => false,
    }
}

/// Ends a word: "don't" is "do not", "what's" is "what", possessives lose their s.
fn end(word: &mut String, words: &mut Vec<String>) {
    let ended = std::mem::take(word).replace('’', "'");
    match ended.as_str() {
        "" => {}
        "can't" | "cannot" => words.extend(["can".to_owned(), "not".to_owned()]),
        "won't" => words.extend(["will".to_owned(), "not".to_owned()]),
        _ => match ended.split_once('\'') {
            Some((stem, "t")) if stem.ends_with('n') => {
                words.extend([stem[..stem.len() - 1].to_owned(), "not".to_owned()]);
            }
            Some((stem, "s" | "re" | "m" | "ll" | "ve" | "d")) => words.push(stem.to_owned()),
            _ => words.push(ended.replace('\'', "")),
        },
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
