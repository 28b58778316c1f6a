//! Relative paths as callers write them. Must never let one through that some reader could take for a way up or out:
//! `..` in any spelling, an absolute path, a separator or NUL in disguise. What opens a path holds it in as well.

use crate::outcome::{Reached, ToolError, ToolErrorCode};

/// Longest path, in bytes.
const MAX_BYTES: usize = 4_096;
/// How often a text may be percent-encoded over itself.
const MAX_ENCODINGS: usize = 4;

/// The segments of a relative path; none for the folder that it starts from.
pub(crate) fn segments(argument: &str, path: &str) -> Result<Vec<String>, ToolError> {
    if path.len() > MAX_BYTES {
        return Err(wrong(argument, "is too long"));
    }
    if path.starts_with('/') {
        return Err(wrong(argument, "must be relative: without a slash at its start"));
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if matches!(path, "" | ".") {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for segment in path.split('/') {
        if segment == "." && found.is_empty() {
            continue;
        }
        check(argument, segment)?;
        let plain = decoded(segment).ok_or_else(|| undecodable(argument))?;
        if plain.is_empty() || segment == "." {
            return Err(wrong(argument, "must not hold an empty segment or '.'"));
        }
        if look(&plain).contains('/') {
            return Err(wrong(argument, "must not hold a separator in disguise, or a backslash"));
        }
        found.push(segment.to_owned());
    }
    Ok(found)
}

/// Refuses a segment that leads up, or holds control characters, in any spelling. A separator in it is taken for one.
pub(crate) fn check(argument: &str, segment: &str) -> Result<(), ToolError> {
    let plain = decoded(segment).ok_or_else(|| undecodable(argument))?;
    if plain.chars().any(char::is_control) {
        return Err(wrong(argument, "must not hold control characters"));
    }
    // Some systems drop spaces around a name, and what stands after a semicolon.
    let leads_up = |part: &str| part.split(';').next().is_some_and(|name| name.trim() == "..");
    if look(&plain).split('/').any(leads_up) {
        return Err(wrong(argument, "must not hold '..'"));
    }
    Ok(())
}

/// Without percent-encoding, however often it was applied; `None` where it hides something that is no text.
fn decoded(segment: &str) -> Option<String> {
    let mut text = segment.to_owned();
    for _ in 0..MAX_ENCODINGS {
        let next = decode_once(&text)?;
        if next == text {
            return Some(text);
        }
        text = next;
    }
    None
}

fn decode_once(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        // IIS once took %uXXXX for a character.
        let is_wide = matches!(after.first(), Some(b'u' | b'U')) && after.get(1..5).is_some_and(is_hex);
        if *first == b'%' && is_wide {
            return None;
        }
        rest = after;
        if let Some(digits) = after.get(..2).filter(|digits| *first == b'%' && is_hex(digits)) {
            bytes.extend(hex::decode(digits).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

fn is_hex(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_hexdigit)
}

/// The text as it looks: characters that some systems turn into dots and separators are those.
fn look(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{2024}' | '\u{fe52}' | '\u{ff0e}' => seen.push('.'),
            '\u{2025}' => seen.push_str(".."),
            '\\' | '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{fe68}'
            | '\u{ff0f}' | '\u{ff3c}' => seen.push('/'),
            // Invisible: dropped by some, and then `.x.` is `..`.
            '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => {}
            other => seen.push(other),
        }
    }
    seen
}

fn undecodable(argument: &str) -> ToolError {
    wrong(argument, "must be plain UTF-8, and not percent-encoded over and over")
}

pub(crate) fn wrong(argument: &str, what: impl std::fmt::Display) -> ToolError {
    ToolError::new(ToolErrorCode::ToolFailed, format!("{argument} {what}")).having(Reached::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_taken_as_they_are() {
        for (path, expected) in [
            (".", vec![]),
            ("", vec![]),
            ("./a", vec!["a"]),
            ("a/b.txt", vec!["a", "b.txt"]),
            ("a/", vec!["a"]),
            ("src/...", vec!["src", "..."]),
            ("a..b/..c/d..", vec!["a..b", "..c", "d.."]),
            ("100%/50%25", vec!["100%", "50%25"]),
            (".github/workflows/ci.yml", vec![".github", "workflows", "ci.yml"]),
            ("Übung/file name.txt", vec!["Übung", "file name.txt"]),
        ] {
            assert_eq!(segments("path", path).unwrap(), expected, "{path}");
        }
    }
}
