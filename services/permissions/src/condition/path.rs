//! Paths as texts: what folders one lies in, whatever file system it is for. Never asks one. A text that some reader
//! could take for another path than is meant here is none.

use unicode_normalization::UnicodeNormalization;

/// Most bytes of a path: more than Linux takes.
const MAX_PATH: usize = 8_192;

/// The steps of a path from its root, "." and ".." taken out. `None` where it leads out of its root, or could be read
/// in another way than it is here: as the contract says of `within`.
pub(crate) fn canonical(text: &str) -> Option<Vec<String>> {
    if text.is_empty() || text.len() > MAX_PATH || has_scheme(text) || !text.chars().all(is_plain) {
        return None;
    }
    let mut steps: Vec<String> = Vec::new();
    for step in text.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()?),
            step if is_ambiguous(step) => return None,
            step => steps.push(step.to_owned()),
        }
    }
    Some(steps)
}

/// Whether a path is a folder, or lies in it.
pub(super) fn is_within(path: &[String], folder: &str) -> bool {
    canonical(folder).is_some_and(|folder| path.starts_with(&folder))
}

/// Whether it begins as a URL or with the letter of a drive (RFC 3986, section 3.1).
fn has_scheme(text: &str) -> bool {
    let Some((scheme, _)) = text.trim_start_matches('/').split_once(':') else { return false };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(known)
}

/// Whether a character is itself to every reader: it is no separator or escape of another system, is not dropped by
/// any, and does not become a part of the syntax when it is normalised.
fn is_plain(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control() && !b"\\%$`".contains(&(character as u8));
    }
    let becomes_syntax = || {
        let mut normal = std::iter::once(character).nfkc();
        normal.any(|part| part.is_ascii() && !part.is_ascii_alphanumeric())
    };
    !(character.is_control() || is_dropped(character) || is_lookalike(character) || becomes_syntax())
}

/// Formatting that readers may leave out (the Unicode property Default_Ignorable_Code_Point, and what stands for
/// bytes that could not be read).
fn is_dropped(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{ffff}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Slashes and backslashes that only "best fit" tables of older encodings make into those of a path.
fn is_lookalike(character: char) -> bool {
    matches!(
        character,
        '\u{2044}'
            | '\u{2215}'
            | '\u{2216}'
            | '\u{29f5}'
            | '\u{29f8}'
            | '\u{29f9}'
            | '\u{2571}'
            | '\u{2572}'
            | '\u{338}'
            | '\u{337}'
            | '\u{3033}'
            | '\u{3035}'
            | '\u{27cb}'
            | '\u{27cd}'
            | '\u{20e5}'
    )
}

/// Steps that some systems take for "." or "..", or for a home.
fn is_ambiguous(step: &str) -> bool {
    let ends = step.ends_with(|last: char| last == '.' || last.is_whitespace());
    let begins = step.starts_with("..") || step.starts_with(".;") || step.starts_with('~');
    ends || begins || step.starts_with(char::is_whitespace)
}
