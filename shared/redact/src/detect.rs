//! Secrets and personal data in a text, known by their form: keys, tokens, numbers, addresses, and values behind a
//! name that says secret. Must never change a text in which it finds nothing.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

use super::MARK;

/// What must hold for a matched text besides the match.
type Confirm = fn(&str) -> bool;

struct Detector {
    pattern: Regex,
    confirm: Confirm,
}

/// In the order in which they replace: a later one sees what an earlier one left.
fn table() -> [(&'static str, Confirm); 17] {
    let any: Confirm = |_| true;
    [
        // PEM, RFC 7468.
        (r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)", any),
        // JWT, RFC 7519: three base64url parts, the first an object.
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", any),
        // Keys by the prefixes that their issuers document: our own, AWS, GitHub, GitLab, Slack, Stripe,
        // OpenAI and Anthropic, Google, npm.
        (r"\btc_[a-z0-9]+_[A-Za-z0-9-]+_[A-Za-z0-9]{16,}_[0-9a-f]{8}\b", any),
        (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", any),
        (r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,})", any),
        (
            r"\b(?:xox[abprs]-[A-Za-z0-9-]{10,}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{30,})",
            any,
        ),
        (r"\b(?:sk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}|AIza[A-Za-z0-9_-]{35})", any),
        // An Authorization value (RFC 9110, section 11.4) and user-info in a URL (RFC 3986, section 3.2.1).
        (r"(?i)\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", any),
        (r"(?i)\b[a-z][a-z0-9+.-]*://[^\s/@]+@", any),
        // Payment card numbers, ISO/IEC 7812: 13 to 19 digits that pass Luhn; those of payment begin with 2 to 6.
        (r"\b[2-6](?:[ -]?\d){12,18}\b", luhn),
        // IBAN, ISO 13616. US social security number. Phone number with its country, ITU-T E.164.
        (r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", mod_97),
        (r"\b\d{3}-\d{2}-\d{4}\b", any),
        (r"\+\d{1,3}(?:[ ./-]?\(?\d{1,4}\)?){2,6}\b", phone),
        (r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b", any),
        // A name that says secret, and its value: in a header, a form, a query, a log line, a cut JSON text.
        (r#"(?i)(?P<keep>\bauthorization\\?["']?\s*[:=]\s*\\?["']?)[^\r\n"'\\\[]{4,}"#, any),
        (r#"(?P<keep>[?&](?:key|sig|signature|auth|pass)=)[^&\s"'#]{4,}"#, any),
        (
            r#"(?ix)(?P<keep> \b[a-z0-9_.-]*(?:password|passwd|passphrase|pwd|secret|token|credentials?|(?:api|access|secret|private)[_-]?key)
               \\?["']? \s*[:=]\s*)
               (?: "(?:[^"\\\r\n]|\\.)+" | '[^'\r\n]+' | \\["'][^"'\\\r\n]+\\["'] | [^\s"'&;,<>(){}\[\]\\]{4,} )"#,
            any,
        ),
    ]
}

/// The boundary of ASCII words: with that of Unicode a text beyond ASCII is searched many times slower.
fn ascii_bounded(pattern: &str) -> String {
    pattern.replace(r"\b", r"(?-u:\b)")
}

static DETECTORS: LazyLock<Vec<Detector>> = LazyLock::new(|| {
    let compile = |(pattern, confirm): (&str, Confirm)| Detector {
        pattern: Regex::new(&ascii_bounded(pattern)).expect("a constant pattern, compiled by the tests"),
        confirm,
    };
    table().into_iter().map(compile).collect()
});

/// All of them at once: most texts hold nothing, and then one search says so.
static ANY: LazyLock<RegexSet> = LazyLock::new(|| {
    let patterns = table().map(|(pattern, _)| ascii_bounded(pattern));
    RegexSet::new(patterns).expect("constant patterns, compiled by the tests")
});

/// Below so many bytes, letters and digits alone are no secret: an IBAN and a card number have more.
const SHORT: usize = 12;

/// Whether this text is stored as it is. Where this says no, `text` may still give it back unchanged: a number may
/// only look like that of a card.
pub(crate) fn is_clean(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b' ');
    let is_word = text.len() < SHORT && text.bytes().all(is_plain);
    is_word || !text.contains('\0') && !ANY.is_match(text)
}

/// A text as it may be stored. NUL, which `PostgreSQL` does not store, is replaced.
pub fn text(text: &str) -> String {
    if is_clean(text) { text.to_owned() } else { replaced(text) }
}

fn replaced(text: &str) -> String {
    let mut out = text.replace('\0', "\u{fffd}");
    for detector in DETECTORS.iter() {
        if detector.pattern.is_match(&out) {
            let replace = |found: &regex::Captures<'_>| match &found[0] {
                secret if (detector.confirm)(secret) => {
                    format!("{}{MARK}", found.name("keep").map_or("", |kept| kept.as_str()))
                }
                other => other.to_owned(),
            };
            out = detector.pattern.replace_all(&out, replace).into_owned();
        }
    }
    out
}

/// The check of ISO 7064, MOD 97-10: letters count from 10, the first four characters stand last.
fn mod_97(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (head, rest) = plain.split_at(4.min(plain.len()));
    let value = |rest: u32, c: char| match c.to_digit(36) {
        Some(digit) if digit < 10 => (rest * 10 + digit) % 97,
        Some(digit) => (rest * 100 + digit) % 97,
        None => rest,
    };
    (15..=34).contains(&plain.len()) && rest.chars().chain(head.chars()).fold(0, value) == 1
}

fn phone(text: &str) -> bool {
    (8..=15).contains(&text.chars().filter(char::is_ascii_digit).count())
}

/// The check of ISO/IEC 7812-1, annex B. A run of one digit passes it and is no card.
pub(crate) fn luhn(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits.iter().rev().enumerate().map(|(place, digit)| doubled(place, *digit)).sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| digit != &digits[0])
}

fn doubled(place: usize, digit: u32) -> u32 {
    match (place % 2, digit * 2) {
        (0, _) => digit,
        (_, twice) if twice > 9 => twice - 9,
        (_, twice) => twice,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    /// What the detectors look for, and what only looks like it.
    const PIECES: [&str; 46] = [
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "tc_live_0192-ab_abcdefgh12345678AB_0123abcd",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2a1B2",
        "glpat-abcdefghijklmnopqrstu",
        "xoxb-1234567890",
        "sk_live_abcdefghijklmnop",
        "npm_abcdefghijklmnopqrstuvwxyz0123",
        "sk-ant-abcdefghijklmnopqrstuvwxyz",
        "AIzaabcdefghijklmnopqrstuvwxyz012345678",
        "Bearer abcdefgh12345",
        "ba\u{17f}ic\u{2003}abcdefgh",
        "basic abcdefgh",
        "https://user:pa55word@example.com/x",
        "redis://:hunter2@host/0",
        "a://b@",
        "4111 1111 1111 1111",
        "4111111111111112",
        "4\u{661}11111111111111",
        "DE89 3704 0044 0532 0130 00",
        "DE89370400440532013000",
        "078-05-1120",
        "+49 (30) 1234-5678",
        "+1234",
        "jane.doe@example.com",
        "a@b.cc",
        "Authorization: Digest hunter2 x",
        "authorization\\\":\\\"abcd",
        "?key=hunter2&q=a",
        "&sig=abcd",
        "password=hunter2-x",
        "\"api_key\":\"hunter2 x\"",
        "\\\"client_secret\\\":\\\"hunter2\\\"",
        "pwd: 'x'",
        "to\u{212a}en=abcd",
        "secret =\u{a0}abcd",
        "tokens: 100, secretary: Jane, 2026-11-22, +1 -2, 1.5e10",
        "print(sum(range(10)))",
        "\0",
        "[redacted]",
        "\u{e9}\u{4e2d}\u{1f600}",
        "{\"a\":",
        "customer_name",
        "\n",
    ];

    /// Pieces, whole and cut, with anything between them.
    pub(crate) fn made_up(rng: &mut StdRng) -> String {
        let mut out = String::new();
        for _ in 0..rng.random_range(0..4) {
            let piece: Vec<char> = PIECES[rng.random_range(0..PIECES.len())].chars().collect();
            match rng.random_range(0..4) {
                0 => out.extend(&piece[rng.random_range(0..piece.len())..]),
                1 => out.extend(&piece[..rng.random_range(0..=piece.len())]),
                _ => out.extend(&piece),
            }
            let between = [" ", "", "x", "7", "_", "-", ".", "@", "=", ": ", "\"", "\u{301}"];
            out.push_str(between[rng.random_range(0..between.len())]);
        }
        for _ in 0..rng.random_range(0..9) {
            out.push(char::from(rng.random_range(b' '..=b'~')));
        }
        out
    }

    #[test]
    fn what_all_detectors_together_find_nothing_in_none_of_them_changes() {
        let mut rng = StdRng::seed_from_u64(17);
        for piece in PIECES {
            assert_eq!(text(piece), replaced(piece), "{piece:?}");
        }
        let mut clean = 0;
        for _ in 0..20_000 {
            let made = made_up(&mut rng);
            clean += u32::from(is_clean(&made));
            assert_eq!(text(&made), replaced(&made), "{made:?}");
        }
        assert!((2_000..18_000).contains(&clean), "{clean} of 20,000 are clean");
    }

    #[test]
    fn each_detector_finds_something_by_itself() {
        for (number, detector) in DETECTORS.iter().enumerate() {
            let found = PIECES.iter().filter(|piece| detector.pattern.is_match(piece));
            let found: Vec<_> = found.collect();
            assert!(!found.is_empty() && found.iter().all(|piece| !is_clean(piece)), "{number}: {found:?}");
        }
    }
}
