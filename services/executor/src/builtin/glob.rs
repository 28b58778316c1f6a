//! Patterns of file names, as shells write them. Matching takes time linear in the name, whatever the pattern.

use regex::{Regex, RegexBuilder};

use super::path::wrong;
use crate::outcome::ToolError;

/// Longest pattern, in bytes.
const MAX_BYTES: usize = 256;
/// Largest program that a pattern may become, in bytes.
const MAX_PROGRAM: usize = 1 << 20;

/// A pattern. Without a slash it is for the last segment of a path, else for all of it.
#[derive(Debug)]
pub(crate) struct Glob {
    regex: Regex,
    of_name: bool,
    /// How many segments it reaches down; `None` without end.
    pub depth: Option<usize>,
}

impl Glob {
    /// `*` and `?` stand for anything but a slash, `**/` for any folders, `[a-z]` and `[!a-z]` for one character,
    /// `{a,b}` for either.
    pub(crate) fn new(pattern: &str) -> Result<Self, ToolError> {
        if pattern.len() > MAX_BYTES {
            return Err(wrong("pattern", format!("is longer than {MAX_BYTES} bytes")));
        }
        let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
        let translated =
            translated(pattern).ok_or_else(|| wrong("pattern", "has a bracket without its end"))?;
        let regex = RegexBuilder::new(&translated).size_limit(MAX_PROGRAM).build();
        let regex = regex.map_err(|_| wrong("pattern", "is no pattern of file names"))?;
        let depth = (!pattern.contains("**")).then(|| pattern.matches('/').count() + 1);
        Ok(Self { regex, of_name: !pattern.contains('/'), depth })
    }

    /// Whether a path, relative to the folder that is listed, is meant.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.regex.is_match(if self.of_name { name } else { path })
    }
}

fn translated(pattern: &str) -> Option<String> {
    let mut regex = String::from(r"(?s)\A");
    let (mut rest, mut open) = (pattern, 0_usize);
    while let Some(character) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**/") {
            regex.push_str("(?:[^/]+/)*");
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix("**") {
            regex.push_str(".*");
            rest = after;
            continue;
        }
        rest = &rest[character.len_utf8()..];
        match character {
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '[' => {
                let (class, after) = class(rest)?;
                regex.push_str(&class);
                rest = after;
            }
            '{' => {
                regex.push_str("(?:");
                open += 1;
            }
            '}' if open > 0 => {
                regex.push(')');
                open -= 1;
            }
            ',' if open > 0 => regex.push('|'),
            other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push_str(r"\z");
    (open == 0).then_some(regex)
}

/// A class of characters after its opening bracket, and what follows it.
fn class(text: &str) -> Option<(String, &str)> {
    let (negated, text) = match text.strip_prefix(['!', '^']) {
        Some(after) => (true, after),
        None => (false, text),
    };
    // A bracket that stands first is one of the characters.
    let end = text.char_indices().skip(1).find(|(_, character)| *character == ']')?.0;
    let mut class = String::from(if negated { "[^/" } else { "[" });
    for character in text[..end].chars() {
        match character {
            '-' => class.push('-'),
            other => class.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    class.push(']');
    Some((class, &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_a_shell() {
        let cases = [
            ("*.rs", "src/a.rs", true),
            ("*.rs", "src/a.rsx", false),
            ("src/*.rs", "src/a.rs", true),
            ("src/*.rs", "src/b/a.rs", false),
            ("src/**/*.rs", "src/a.rs", true),
            ("src/**/*.rs", "src/b/c/a.rs", true),
            ("**/*.rs", "a.rs", true),
            ("src/**", "src/b/c", true),
            ("?.txt", "a.txt", true),
            ("?.txt", "ab.txt", false),
            ("[a-c]*", "beta", true),
            ("[!a-c]*", "beta", false),
            ("*.{rs,toml}", "Cargo.toml", true),
            ("*.{rs,toml}", "a.json", false),
            ("a.c", "abc", false),
            ("(a+)+$", "aaaa", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(Glob::new(pattern).unwrap().matches(path), expected, "{pattern} {path}");
        }
        assert!(Glob::new("[a").is_err() && Glob::new("{a").is_err() && Glob::new(&"*".repeat(257)).is_err());
        assert_eq!(Glob::new("src/*.rs").unwrap().depth, Some(2));
        assert_eq!(Glob::new("**/*.rs").unwrap().depth, None);
    }
}
