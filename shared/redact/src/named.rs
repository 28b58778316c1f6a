//! A name that says secret, and what a text gives it: in code, settings, forms, queries, headers, logs, XML and command
//! lines, also where a text was cut. Must never take a type, a placeholder or a call of a function for a secret.

use crate::{
    look::{ALNUM, Class, WORD},
    names,
    scan::Scan,
};

static NAME: Class = Class::of(b"A-Za-z0-9_.-");
static LOWER: Class = Class::of(b"a-z");
static TEMPLATE: Class = Class::of(b"$<{[%*");
static SPACE: Class = Class::of(b" \t");
static QUOTE: Class = Class::of(b"\"'`\\");
/// What ends a value that is not in quotes.
static BARE: Class = Class::but(b" \t\r\n\0\"'`&;,<>(){}[]\\|");
const MAX_NAME: usize = 64;
const MAX_SPACES: usize = 16;
/// The same within a URL that is itself encoded.
static UNENCODED: Class = Class::but(b" \t\r\n\0\"'`&;,<>(){}[]\\|%");
static LINE_END: Class = Class::of(b"\r\n");
/// What ends a value there: `&`, a space, quotes, a line.
const ENCODED_ENDS: [&str; 5] = ["%26", "%20", "%22", "%0a", "%0d"];
/// Bytes of a value that are looked at before it is known to be one.
const GLANCE: usize = 128;
/// The same where it begins as what only stands for one.
const SHORT_GLANCE: usize = 24;
/// Shortest value without quotes, in bytes.
const SHORTEST: usize = 4;
/// Longest value that is searched for its closing quote before all of it goes, in bytes.
const LONGEST: usize = 1 << 16;

/// The last word of names of two words, and what may stand before it.
const PAIRS: [&str; 8] =
    ["api", "access", "secret", "private", "signing", "encryption", "session", "license"];

/// Words that stand where a secret would, and are none.
const WORDS: [&str; 75] = [
    "true",
    "false",
    "null",
    "none",
    "nil",
    "undefined",
    "required",
    "optional",
    "string",
    "str",
    "bool",
    "boolean",
    "int",
    "integer",
    "number",
    "bytes",
    "char",
    "text",
    "varchar",
    "object",
    "unknown",
    "any",
    "array",
    "list",
    "missing",
    "invalid",
    "expired",
    "incorrect",
    "wrong",
    "valid",
    "empty",
    "changed",
    "reset",
    "must",
    "should",
    "has",
    "have",
    "not",
    "the",
    "this",
    "that",
    "with",
    "from",
    "your",
    "field",
    "value",
    "input",
    "await",
    "self",
    "return",
    "default",
    "header",
    "bearer",
    "basic",
    "password",
    "token",
    "secret",
    "auto",
    "enabled",
    "disabled",
    "unsafe",
    "extern",
    "static",
    "const",
    "async",
    "function",
    "new",
    "secretstr",
    "secretstring",
    "present",
    "absent",
    "hidden",
    "masked",
    "redacted",
    "unset",
];

/// `NAME = VALUE` and `NAME: VALUE`, in any of the usual spellings.
pub(crate) fn assigned(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let (is_colon, before, after) = (look.bytes[begins] == b':', look.before(begins), look.at(ends));
    // Comparisons, paths of Rust and C++, addresses.
    if matches!(before, b'=' | b'!' | b'<' | b'>' | b'~' | b':')
        || after == b'=' && !is_colon
        || is_colon && after == b':'
    {
        return;
    }
    if is_colon && after == b'/' && look.at(ends + 1) == b'/' {
        return;
    }
    let Some((name, start)) = name_before(scan, begins) else { return };
    let is_query = !is_colon && is_query_name(scan, name, start);
    if !is_query && !scan.rules.names.is_secret_in_text(name) && !is_pair(scan, name, start) {
        return;
    }
    // `:=` and `=>`.
    let ends = if is_colon && after == b'=' || !is_colon && after == b'>' { ends + 1 } else { ends };
    let is_password = names::is_password(name) || is_query;
    value(scan, ends, Told { is_colon, is_password, name });
}

/// The same in a URL within a URL: `NAME%3DVALUE`.
pub(crate) fn encoded(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let Some((name, _)) = name_before(scan, begins) else { return };
    if !scan.rules.names.is_secret_in_text(name) {
        return;
    }
    let look = &scan.look;
    let mut end = look.run(ends, &UNENCODED, LONGEST);
    while end - ends < LONGEST
        && look.at(end) == b'%'
        && !ENCODED_ENDS.iter().any(|ended| look.says(end, ended))
    {
        end = look.run(end + 1, &UNENCODED, LONGEST);
    }
    if end - ends >= SHORTEST {
        scan.found(ends, end, "named_secret");
    }
}

/// `<NAME>VALUE</NAME>`.
pub(crate) fn element(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let look = &scan.look;
    let start = look.back(begins, &NAME, MAX_NAME);
    if start == begins
        || look.before(start) != b'<'
        || !scan.rules.names.is_secret_in_text(&scan.text[start..begins])
    {
        return;
    }
    let end = look.run(ends, &Class::but(b"<>\r\n"), LONGEST);
    if look.at(end) == b'<' && !is_template(&scan.text[ends..end]) {
        scan.found(ends, end, "named_secret");
    }
}

/// ` --NAME VALUE` of a command line.
pub(crate) fn flag(scan: &mut Scan<'_>, _: usize, ends: usize) {
    let look = &scan.look;
    let end = look.run(ends, &NAME, MAX_NAME);
    let value_at = look.run(end, &SPACE, MAX_SPACES);
    let name = &scan.text[ends..end];
    if value_at == end || look.at(value_at) == b'-' || !scan.rules.names.is_secret_in_text(name) {
        return;
    }
    // `use --password or --token to log in`
    let word = look.run(value_at, &LOWER, 16);
    let is_sentence = word > value_at && look.at(word) == b' ' && LOWER.has(look.at(word + 1));
    if !is_sentence {
        value(scan, value_at, Told { is_colon: true, is_password: true, name });
    }
}

/// `the NAME is VALUE`: what looks like a word is one.
pub(crate) fn told(scan: &mut Scan<'_>, begins: usize, ends: usize) {
    let Some((name, start)) = name_before(scan, begins) else { return };
    if !scan.rules.names.is_secret_in_text(name) && !is_pair(scan, name, start) {
        return;
    }
    let look = &scan.look;
    let quoted = usize::from(QUOTE.has(look.at(ends)));
    let end = trimmed(scan, ends + quoted, glanced(scan, look.run(ends + quoted, &BARE, LONGEST)));
    let value = &scan.text[ends + quoted..end];
    look.worked(value.len());
    let has = |is: fn(&u8) -> bool| value.bytes().take(256).any(|byte| is(&byte));
    let is_odd = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
        || value.contains(['!', '#', '$', '%', '^', '*']);
    if value.len() >= 6 && is_odd && !is_template(value) {
        scan.found(ends + quoted, end, "named_secret");
    }
}

/// The name that ends before a place, without quotes around it, and where it begins.
fn name_before<'a>(scan: &Scan<'a>, place: usize) -> Option<(&'a str, usize)> {
    let look = &scan.look;
    let spaced = look.back(place, &SPACE, 4);
    let bracket = spaced - usize::from(look.before(spaced) == b']');
    let end = look.back(bracket, &QUOTE, 4);
    let start = look.back(end, &NAME, MAX_NAME);
    // The rest of an escape, `\nsecret`, is no part of it.
    let is_escaped =
        look.before(start) == b'\\' && end - start > 1 && matches!(look.bytes[start], b'n' | b'r' | b't');
    let start = start + usize::from(is_escaped);
    (start < end).then(|| (&scan.text[start..end], start))
}

/// `API key`, and whatever else is a name of two words.
fn is_pair(scan: &Scan<'_>, name: &str, start: usize) -> bool {
    let look = &scan.look;
    if !name.eq_ignore_ascii_case("key") && !name.eq_ignore_ascii_case("number") || look.before(start) != b' '
    {
        return false;
    }
    let word = look.back(start - 1, &ALNUM, 12);
    let before = &scan.text[word..start - 1];
    let is_key = name.eq_ignore_ascii_case("key");
    if is_key {
        PAIRS.iter().any(|pair| before.eq_ignore_ascii_case(pair))
    } else {
        before.eq_ignore_ascii_case("security")
    }
}

/// Parameters of a query whose names say nothing elsewhere.
fn is_query_name(scan: &Scan<'_>, name: &str, start: usize) -> bool {
    let known = ["key", "sig", "signature", "auth", "pass", "code", "x-amz-signature", "x-goog-signature"];
    matches!(scan.look.before(start), b'?' | b'&' | b';')
        && known.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// What stands in quotes where a secret would, and is none.
const TYPES: [&str; 6] = ["bearer", "basic", "string", "number", "boolean", "object"];

/// How a value was told.
#[derive(Clone, Copy)]
struct Told<'a> {
    is_colon: bool,
    /// Its name is no word of the language.
    is_password: bool,
    name: &'a str,
}

/// Finds the value that begins here, or after some spaces.
fn value(scan: &mut Scan<'_>, from: usize, told: Told<'_>) {
    let look = &scan.look;
    let start = look.run(from, &SPACE, MAX_SPACES);
    let opened = look.run(start, &QUOTE, 4);
    if opened > start {
        let quote = &scan.text[start..opened];
        if let Some(end) = quoted(scan, quote, opened) {
            scan.found(opened, end, "named_secret");
        }
        return;
    }
    let most = if TEMPLATE.has(look.at(start)) { SHORT_GLANCE } else { GLANCE };
    let glance = glanced(scan, look.run(start, &BARE, most));
    let text = &scan.text[start..trimmed(scan, start, glance)];
    if text.len() >= SHORTEST && !is_code(scan, text, start + text.len(), start > from, told) {
        let end = trimmed(scan, start, glanced(scan, look.run(glance, &BARE, LONGEST)));
        scan.found(start, end, "named_secret");
    }
}

/// A place before which no character is cut in two.
fn glanced(scan: &Scan<'_>, place: usize) -> usize {
    (0..4).map(|back| place - back).find(|place| scan.text.is_char_boundary(*place)).unwrap_or(place)
}

/// Where a value in quotes ends, the quotes not counted; `None`: it is empty, or stands for one.
fn quoted(scan: &Scan<'_>, quote: &str, opened: usize) -> Option<usize> {
    // `""` and `''`: it is empty.
    let mark = quote.bytes().find(|byte| *byte != b'\\')?;
    if quote.bytes().filter(|byte| *byte == mark).count() > 1 && quote.len() != 3 {
        return None;
    }
    let is_escaped = quote.starts_with('\\');
    let bytes = &scan.look.bytes[opened..];
    let mut at = 0;
    while at < bytes.len().min(LONGEST) && !LINE_END.has(bytes[at]) {
        match bytes[at] {
            b'\\' if is_escaped && bytes.get(at + 1) == Some(&mark) => break,
            b'\\' if !is_escaped => at += 1,
            byte if byte == mark => break,
            _ => {}
        }
        at += 1;
    }
    scan.look.worked(at);
    let end = glanced(scan, opened + at.min(bytes.len()));
    let text = &scan.text[opened..end];
    // One letter is what a key of the keyboard is called.
    let is_value =
        text.len() > 1 && !TYPES.iter().any(|word| text.eq_ignore_ascii_case(word)) && !is_template(text);
    is_value.then_some(end)
}

/// Without what ends a sentence.
fn trimmed(scan: &Scan<'_>, start: usize, end: usize) -> usize {
    let text = scan.text[start..end].trim_end_matches(['.', ':', '!', '?']);
    if text.len() < SHORTEST { end } else { start + text.len() }
}

/// Whether a text only stands for a value: `${NAME}`, `<name>`, `%s`, `****`, `...`.
fn is_template(text: &str) -> bool {
    let first = text.bytes().next().unwrap_or(b' ');
    let is_one = text.bytes().take(64).all(|byte| byte == first);
    matches!(first, b'$' | b'<' | b'{' | b'[')
        && !text.contains(|c: char| c.is_ascii_digit() && first == b'$')
        || text.starts_with('%') && text.len() <= 3
        || is_one && !first.is_ascii_digit()
        || text.starts_with("***")
        || text.eq_ignore_ascii_case("[redacted]")
}

/// Whether a value without quotes is code, a type, or a word of a sentence.
fn is_code(scan: &Scan<'_>, text: &str, end: usize, is_spaced: bool, told: Told<'_>) -> bool {
    let is_word = |text: &str| WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_template(text) || is_word(text) || told.name.eq_ignore_ascii_case("pwd") && text.starts_with('/') {
        return true;
    }
    scan.look.worked(text.len().min(256));
    let glance: Vec<u8> = text.bytes().take(256).collect();
    let is_identifier =
        glance.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.' | b':' | b'?'));
    let next = scan.look.at(end);
    let is_path = text.contains("::") && glance.iter().all(|byte| WORD.has(*byte) || *byte == b':');
    let is_pointer = text.starts_with("*mut") || text.starts_with("*const");
    let is_called = is_path
        || is_pointer
        || matches!(next, b'(' | b'[')
            && glance.iter().all(|byte| WORD.has(*byte) || matches!(byte, b'.' | b':'));
    let is_field = is_identifier && text.contains('.') && matches!(next, b')' | b',');
    if is_called || is_field || is_identifier && next == b'<' || text.starts_with(':') {
        return true;
    }
    if !is_identifier || !is_spaced && !told.is_colon {
        return false;
    }
    let has_parts = text.contains(['.', '_']);
    let is_sentence = next == b' ' && scan.look.at(end + 1).is_ascii_alphabetic();
    if told.is_password {
        has_parts
    } else {
        has_parts || is_sentence || is_spaced && !told.is_colon || text.len() < 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_no_values() {
        for template in ["${PASSWORD}", "<password>", "{{ token }}", "%s", "****", "xxxx", "[redacted]"] {
            assert!(is_template(template), "{template}");
        }
        for value in ["hunter2", "deadbeef", "$2b$12$abcdef", "%41bc", "0000"] {
            assert!(!is_template(value), "{value}");
        }
    }
}
