//! The stem of an English word, so that "analyzing", "analyzed" and "analyzes" are one word.
//!
//! M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, with the three changes its
//! author made later (bli, logi, words of two letters). Never shown to people: a stem is often no word.

/// The stem of a lower-case word. A word with other letters than a to z is left as it is.
pub(crate) fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(from, _)| *from == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 || !word.bytes().all(|letter| letter.is_ascii_lowercase()) {
        return word.to_owned();
    }
    let mut stem = Stem(word.to_owned());
    stem.plural();
    stem.past_and_progressive();
    stem.final_y();
    stem.replace(STEP_2, 0);
    stem.replace(STEP_3, 0);
    stem.drop_suffix();
    stem.final_e();
    stem.0
}

/// Words of this field whose forms the rules would tell apart.
const IRREGULAR: &[(&str, &str)] = &[
    ("analyses", "analyz"),
    ("analysis", "analyz"),
    ("analyse", "analyz"),
    ("analysed", "analyz"),
    ("analysing", "analyz"),
    ("analytics", "analyz"),
    ("analyzer", "analyz"),
    ("children", "child"),
    ("indices", "index"),
    ("written", "write"),
    ("wrote", "write"),
];

const STEP_2: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("logi", "log"),
];

const STEP_3: &[(&str, &str)] = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

/// Longer endings before those they end with.
const STEP_4: &[&str] = &[
    "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ion", "ism", "ate", "iti", "ous", "ive",
    "ize", "al", "er", "ic", "ou",
];

struct Stem(String);

impl Stem {
    /// What stands before a suffix, if the word ends with it.
    fn before(&self, suffix: &str) -> Option<usize> {
        self.0.ends_with(suffix).then(|| self.0.len() - suffix.len())
    }

    fn plural(&mut self) {
        if self.before("sses").is_some() || self.before("ies").is_some() {
            self.0.truncate(self.0.len() - 2);
        } else if self.before("s").is_some() && self.before("ss").is_none() {
            self.0.pop();
        }
    }

    fn past_and_progressive(&mut self) {
        if let Some(end) = self.before("eed") {
            if measure(&self.0[..end]) > 0 {
                self.0.pop();
            }
            return;
        }
        let Some(end) = self.before("ed").or_else(|| self.before("ing")) else { return };
        if !has_vowel(&self.0[..end]) {
            return;
        }
        self.0.truncate(end);
        let doubled = ends_doubled(&self.0) && !self.0.ends_with(['l', 's', 'z']);
        if doubled {
            self.0.pop();
        } else if ["at", "bl", "iz"].iter().any(|suffix| self.0.ends_with(suffix))
            || (measure(&self.0) == 1 && ends_short(&self.0))
        {
            self.0.push('e');
        }
    }

    fn final_y(&mut self) {
        if let Some(end) = self.before("y").filter(|&end| has_vowel(&self.0[..end])) {
            self.0.replace_range(end.., "i");
        }
    }

    /// Replaces the first suffix that matches, if what stands before it measures more than `least`.
    fn replace(&mut self, rules: &[(&str, &str)], least: usize) {
        let matching = rules.iter().find_map(|(suffix, by)| Some((self.before(suffix)?, by)));
        if let Some((end, by)) = matching.filter(|(end, _)| measure(&self.0[..*end]) > least) {
            self.0.replace_range(end.., by);
        }
    }

    fn drop_suffix(&mut self) {
        let Some(end) = STEP_4.iter().find_map(|suffix| self.before(suffix)) else { return };
        let kept = &self.0[..end];
        let ion = &self.0[end..] == "ion";
        if measure(kept) > 1 && (!ion || kept.ends_with(['s', 't'])) {
            self.0.truncate(end);
        }
    }

    fn final_e(&mut self) {
        if let Some(end) = self.before("e") {
            let kept = &self.0[..end];
            if measure(kept) > 1 || (measure(kept) == 1 && !ends_short(kept)) {
                self.0.truncate(end);
            }
        }
        if self.0.ends_with("ll") && measure(&self.0) > 1 {
            self.0.pop();
        }
    }
}

/// Whether each letter is a vowel; `y` is one after a consonant.
fn vowels(text: &str) -> impl Iterator<Item = bool> {
    let mut before = true;
    text.bytes().map(move |letter| {
        let vowel = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => true,
            b'y' => !before,
            _ => false,
        };
        before = vowel;
        vowel
    })
}

fn has_vowel(text: &str) -> bool {
    vowels(text).any(|vowel| vowel)
}

/// How often a vowel is followed by a consonant: Porter's `m`.
fn measure(text: &str) -> usize {
    let mut before = false;
    vowels(text).filter(|&vowel| std::mem::replace(&mut before, vowel) && !vowel).count()
}

fn ends_doubled(text: &str) -> bool {
    let bytes = text.as_bytes();
    let last_is_vowel = vowels(text).last().unwrap_or(true);
    bytes.len() >= 2 && bytes[bytes.len() - 1] == bytes[bytes.len() - 2] && !last_is_vowel
}

/// Consonant, vowel, consonant other than w, x and y: Porter's `*o`.
fn ends_short(text: &str) -> bool {
    let shape: Vec<bool> = vowels(text).collect();
    shape.ends_with(&[false, true, false]) && !text.ends_with(['w', 'x', 'y'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_paper_hold() {
        let examples = [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("cats", "cat"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("bled", "bled"),
            ("motoring", "motor"),
            ("sing", "sing"),
            ("conflated", "conflat"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("relational", "relat"),
            ("rational", "ration"),
            ("digitizer", "digit"),
            ("electricity", "electr"),
            ("hopefulness", "hope"),
            ("goodness", "good"),
            ("replacement", "replac"),
            ("adoption", "adopt"),
            ("probate", "probat"),
            ("rate", "rate"),
            ("controlling", "control"),
            ("generalizations", "gener"),
            ("oscillators", "oscil"),
        ];
        for (word, expected) in examples {
            assert_eq!(stem(word), expected, "{word}");
        }
    }

    #[test]
    fn the_forms_of_a_word_share_a_stem() {
        for forms in [
            vec!["search", "searches", "searching", "searched"],
            vec!["analyze", "analysis", "analyzing", "analyse", "analyzer"],
            vec!["calculate", "calculation", "calculator", "calculating"],
            vec!["file", "files"],
            vec!["query", "queries"],
        ] {
            let stems: Vec<_> = forms.iter().map(|form| stem(form)).collect();
            assert!(stems.iter().all(|one| *one == stems[0]), "{forms:?} became {stems:?}");
        }
    }

    #[test]
    fn what_is_not_plain_english_stays() {
        for word in ["is", "größe", "s3", "日本", ""] {
            assert_eq!(stem(word), word);
        }
    }
}
