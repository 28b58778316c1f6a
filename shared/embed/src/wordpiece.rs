//! Text to tokens as BERT's uncased tokenizer does it: clean, lower case, without accents, split at spaces and
//! punctuation, each word into the longest pieces of the vocabulary. Linear in the text, and done when enough tokens
//! are there. Must never take a mark such as `[SEP]` in a text for the token: a text cannot end itself.

use crate::unicode::{Category, is_chinese};
use std::collections::HashMap;
use unicode_normalization::UnicodeNormalization as _;

/// Longer words, in characters, are one unknown token.
const MAX_WORD: usize = 100;
const CONTINUES: &str = "##";

/// The vocabulary, and what is needed to clean a text.
#[derive(Debug)]
pub(crate) struct WordPiece {
    /// Pieces that begin a word, and those that continue one, without the mark.
    begins: HashMap<Box<str>, u32>,
    continues: HashMap<Box<str>, u32>,
    /// Characters of the longest piece: nothing longer needs to be looked up.
    longest: usize,
    count: usize,
    unknown: u32,
    start: u32,
    end: u32,
    other: Category,
    accent: Category,
    punctuation: Category,
}

impl WordPiece {
    /// From `vocab.txt`: a piece a line, the number of the line is its token.
    pub(crate) fn new(file: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(file).map_err(|_| "is not UTF-8".to_owned())?;
        let (mut begins, mut continues, mut longest, mut count) = (HashMap::new(), HashMap::new(), 0, 0_u32);
        for piece in text.lines() {
            let (map, piece) = match piece.strip_prefix(CONTINUES) {
                Some(rest) if !rest.is_empty() => (&mut continues, rest),
                _ => (&mut begins, piece),
            };
            longest = longest.max(piece.chars().count());
            if map.insert(Box::from(piece), count).is_some() {
                return Err(format!("has the piece {piece:?} twice"));
            }
            count += 1;
        }
        let special = |name: &str| begins.get(name).copied().ok_or_else(|| format!("has no {name}"));
        let (unknown, start, end) = (special("[UNK]")?, special("[CLS]")?, special("[SEP]")?);
        let [other, accent, punctuation] = ["C", "Mn", "P"].map(Category::new);
        let count = count as usize;
        Ok(Self { begins, continues, longest, count, unknown, start, end, other, accent, punctuation })
    }

    /// How many tokens there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The tokens of a text, at most `most`, without those that enclose it.
    pub(crate) fn encode(&self, text: &str, most: usize) -> Vec<u32> {
        let mut tokens = Vec::new();
        let mut word = String::new();
        for character in self.clean(text) {
            let alone = self.is_alone(character);
            if character == ' ' || alone {
                self.add(&mut word, &mut tokens);
            }
            if alone {
                word.push(character);
                self.add(&mut word, &mut tokens);
            } else if character != ' ' {
                word.push(character);
            }
            if tokens.len() >= most {
                break;
            }
        }
        self.add(&mut word, &mut tokens);
        tokens.truncate(most);
        tokens
    }

    /// With the tokens before and after that the model was trained with.
    pub(crate) fn enclose(&self, tokens: &[u32]) -> Vec<u32> {
        [&[self.start], tokens, &[self.end]].concat()
    }

    /// Lower case, without accents and control characters, every kind of space a plain one.
    fn clean<'a>(&'a self, text: &'a str) -> impl Iterator<Item = char> + 'a {
        let kept = |character: &char| {
            character.is_ascii_graphic()
                || *character == ' '
                || matches!(character, '\t' | '\n' | '\r')
                || (*character != '\u{FFFD}' && !self.other.has(*character))
        };
        text.chars()
            .filter(kept)
            .map(|character| if character.is_whitespace() { ' ' } else { character })
            .nfd()
            .filter(|character| character.is_ascii() || !self.accent.has(*character))
            .flat_map(char::to_lowercase)
    }

    /// Whether a character is a word by itself.
    fn is_alone(&self, character: char) -> bool {
        if character.is_ascii() {
            return character.is_ascii_punctuation();
        }
        is_chinese(character) || self.punctuation.has(character)
    }

    /// Adds the pieces of a word, and empties it.
    fn add(&self, word: &mut String, tokens: &mut Vec<u32>) {
        if !word.is_empty() {
            let before = tokens.len();
            if word.chars().nth(MAX_WORD).is_some() || !self.split(word, tokens) {
                tokens.truncate(before);
                tokens.push(self.unknown);
            }
            word.clear();
        }
    }

    /// The longest piece the word begins with, then the longest that goes on, to its end; false if one is missing.
    fn split(&self, word: &str, tokens: &mut Vec<u32>) -> bool {
        let (mut rest, mut pieces) = (word, &self.begins);
        while !rest.is_empty() {
            let ends =
                rest.char_indices().map(|(at, character)| at + character.len_utf8()).take(self.longest);
            let found = ends.filter_map(|end| Some((end, *pieces.get(&rest[..end])?))).last();
            let Some((end, token)) = found else { return false };
            tokens.push(token);
            (rest, pieces) = (&rest[end..], &self.continues);
        }
        true
    }
}
