//! Which letters are seen. Hidden ones carry words to models past the people who approve them.

/// Whether a character is never seen by itself: `Default_Ignorable_Code_Point` of Unicode's derived core properties,
/// which holds tags, marks of direction and of zero width, and the annotation marks. Not among them: the two
/// variation selectors that emoji are written with (U+FE0E, U+FE0F). Control characters are not told here.
pub fn is_hidden(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0d}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_hidden_and_nothing_else() {
        for hidden in ['\u{e0041}', '\u{202e}', '\u{200b}', '\u{2066}', '\u{feff}', '\u{e0100}', '\u{3164}'] {
            assert!(is_hidden(hidden), "{hidden:?}");
        }
        for seen in ['a', ' ', '\u{a0}', 'é', '工', '🦀', '\u{fe0f}', '…', '\u{301}'] {
            assert!(!is_hidden(seen), "{seen:?}");
        }
    }
}
