//! Texts as vectors whose cosine tells how alike they are in words and spelling. Must give the same on every
//! machine.
//!
//! Words and character n-grams are hashed into a fixed number of dimensions with a sign (Weinberger et al.,
//! "Feature Hashing for Large Scale Multitask Learning", ICML 2009), so that no vocabulary is kept.

use super::text::{is_filler, stem};

/// Dimensions of a vector.
const DIMENSIONS: usize = 1024;
/// Lengths of character n-grams.
const NGRAMS: std::ops::RangeInclusive<usize> = 3..=5;
/// Weight of a word and of an n-gram; there are about three n-grams a character, and so 15 to 20 a word.
const WORD: f32 = 1.0;
const NGRAM: f32 = 0.25;
/// Share of its weight that a filler word has: "what", "please".
const FILLER: f32 = 0.2;

/// A vector of length 1.
#[derive(Clone, Debug)]
pub(crate) struct Vector(Box<[f32; DIMENSIONS]>);

impl Vector {
    /// The vector of these words in this order; the zero vector when there are none.
    pub(crate) fn of(words: &[String]) -> Self {
        let mut vector = Self(Box::new([0.0; DIMENSIONS]));
        for word in words {
            let (word, share) = if is_filler(word) { (word.as_str(), FILLER) } else { (stem(word), 1.0) };
            vector.add(b'w', word.as_bytes(), WORD * share);
            vector.add_ngrams(word, NGRAM * share);
        }
        vector.normalise();
        vector
    }

    /// The n-grams of a word with its ends marked.
    fn add_ngrams(&mut self, word: &str, weight: f32) {
        let marked = format!(" {word} ");
        let starts: Vec<usize> =
            marked.char_indices().map(|(start, _)| start).chain([marked.len()]).collect();
        for length in NGRAMS {
            for window in starts.windows(length + 1) {
                self.add(b'n', &marked.as_bytes()[window[0]..window[length]], weight);
            }
        }
    }

    fn add(&mut self, family: u8, feature: &[u8], weight: f32) {
        let hash = hash(family, feature);
        // The sign comes from a bit that the place does not use.
        let place = usize::try_from(hash % DIMENSIONS as u64).unwrap_or(0);
        self.0[place] += if hash >> 63 == 0 { weight } else { -weight };
    }

    fn normalise(&mut self) {
        let length = self.0.iter().map(|value| value * value).sum::<f32>().sqrt();
        if length > 0.0 {
            self.0.iter_mut().for_each(|value| *value /= length);
        }
    }

    /// Cosine of the angle between two vectors, from -1 to 1.
    pub(crate) fn similarity(&self, other: &Self) -> f64 {
        let product: f32 = self.0.iter().zip(other.0.iter()).map(|(one, other)| one * other).sum();
        f64::from(product)
    }
}

/// FNV-1a with 64 bits (Fowler, Noll and Vo), finished as in MurmurHash3 (Appleby), so that all of the text
/// counts in every bit.
fn hash(family: u8, feature: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = [family].iter().chain(feature).fold(0xcbf2_9ce4_8422_2325, step);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(words: &str) -> Vector {
        Vector::of(&words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn similarity_is_that_of_words_and_spelling() {
        let one = vector("weather paris");
        assert!((one.similarity(&one) - 1.0).abs() < 1e-5);
        assert!((one.similarity(&vector("paris weather")) - 1.0).abs() < 1e-5);
        let misspelt = one.similarity(&vector("weathr paris"));
        let unrelated = one.similarity(&vector("quarterly revenue"));
        assert!(misspelt > 0.5 && misspelt < 0.99, "{misspelt}");
        assert!(unrelated.abs() < 0.2, "{unrelated}");
    }

    #[test]
    fn hashes_are_the_same_everywhere() {
        assert_eq!(hash(b'w', b"paris"), hash(b'w', b"paris"));
        assert_ne!(hash(b'w', b"paris"), hash(b'n', b"paris"));
        let places: std::collections::HashSet<_> =
            (0..2_000_u32).map(|number| hash(b'w', &number.to_be_bytes()) % 1024).collect();
        assert!(places.len() > 820, "2,000 features fill about 86 % of 1,024 places: {}", places.len());
    }
}
