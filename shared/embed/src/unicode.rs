//! The three classes of characters that BERT's tokenizer tells apart, from Unicode's general categories.
//! Does no I/O.

use regex_syntax::hir::{Class, HirKind};

/// Characters of one general category, as sorted ranges.
#[derive(Debug)]
pub(crate) struct Category(Vec<(char, char)>);

impl Category {
    /// By the name a regular expression has for it, such as `Mn`. Must be a name there is.
    pub(crate) fn new(name: &str) -> Self {
        let hir = regex_syntax::parse(&format!(r"\p{{{name}}}")).expect("the name of a general category");
        let ranges = match hir.into_kind() {
            HirKind::Class(Class::Unicode(class)) => {
                class.ranges().iter().map(|range| (range.start(), range.end())).collect()
            }
            _ => Vec::new(),
        };
        Self(ranges)
    }

    pub(crate) fn has(&self, character: char) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= character);
        after > 0 && character <= self.0[after - 1].1
    }
}

/// Chinese characters, each of which is a word; the blocks that BERT's own tokenizer names.
pub(crate) fn is_chinese(character: char) -> bool {
    matches!(character,
        '\u{4E00}'..='\u{9FFF}' | '\u{3400}'..='\u{4DBF}' | '\u{20000}'..='\u{2A6DF}' | '\u{2A700}'..='\u{2B73F}'
        | '\u{2B740}'..='\u{2B81F}' | '\u{2B920}'..='\u{2CEAF}' | '\u{F900}'..='\u{FAFF}' | '\u{2F800}'..='\u{2FA1F}')
}
