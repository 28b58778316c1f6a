//! Takes secrets and personal data out of what is stored. Runs before anything is written: arguments,
//! results and messages of tools reach the database, the trail and the logs only through here.
//!
//! In this order: the schema's marks, key names at any depth, detectors in every text, JSON inside texts.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

/// What stands where something was taken out.
const MARK: &str = "[redacted]";
/// Levels of JSON inside JSON texts that are looked into; deeper texts go as a whole.
const MAX_NESTED_JSON: usize = 3;

/// Key names whose values are always secret; compared in lower case without `_`, `-`, `.` and spaces.
const SECRET_KEYS: [&str; 6] = ["auth", "pass", "pwd", "cookies", "secrets", "setcookie"];

/// Ends of such names: `db_password`, `X-Api-Key`, `aws_secret_access_key`.
const SECRET_ENDS: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "sessionkey",
    "signingkey",
    "encryptionkey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
];

/// Ends of names that sound like it and only say where a listing goes on.
const CURSOR_ENDS: [&str; 3] = ["pagetoken", "nexttoken", "continuationtoken"];

/// Steps through a schema and a value together that are taken before the rest of the value goes as a whole.
const MAX_STEPS: usize = 1_000_000;
/// References and alternatives of a schema that are followed at one place of the value.
const MAX_HOPS: usize = 8;

/// What must hold for a matched text besides the match.
type Confirm = fn(&str) -> bool;

struct Detector {
    pattern: Regex,
    confirm: Confirm,
}

static DETECTORS: LazyLock<Vec<Detector>> = LazyLock::new(|| {
    let any: Confirm = |_| true;
    let table: [(&str, Confirm); 17] = [
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
    ];
    let compile = |(pattern, confirm): (&str, Confirm)| Detector {
        // The boundary of ASCII words: with that of Unicode a text beyond ASCII is searched many times slower.
        pattern: Regex::new(&pattern.replace(r"\b", r"(?-u:\b)"))
            .expect("a constant pattern, compiled by the tests"),
        confirm,
    };
    table.into_iter().map(compile).collect()
});

/// A value as it may be stored, as JSON text: sanitised, and dropped as a whole above `max_bytes`.
pub(crate) fn json(value: &Value, schema: Option<&Value>, max_bytes: usize) -> String {
    let mut value = value.clone();
    if let Some(schema) = schema {
        Marks { root: schema, steps: 0 }.apply(&mut value, schema, 0);
    }
    scrub(&mut value, 0);
    let text = value.to_string();
    if text.len() <= max_bytes {
        return text;
    }
    serde_json::json!({ "redacted": "too large to store", "bytes": text.len() }).to_string()
}

/// The first characters of a text as they may be stored. Cut after it is sanitised: half a secret is not known as
/// one any more. What stands far behind the cut is not looked at.
pub(crate) fn excerpt(whole: &str, most: usize) -> String {
    let ahead: String = whole.chars().take(most.saturating_mul(4)).collect();
    text(&ahead).chars().take(most).collect()
}

/// A text as it may be stored. NUL, which PostgreSQL does not store, is replaced.
pub(crate) fn text(text: &str) -> String {
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

/// What the tool's own schema calls secret, found through references and alternatives.
struct Marks<'a> {
    root: &'a Value,
    steps: usize,
}

impl<'a> Marks<'a> {
    fn apply(&mut self, value: &mut Value, schema: &'a Value, hops: usize) {
        self.steps += 1;
        if self.steps > MAX_STEPS || is_marked(schema) {
            *value = Value::from(MARK);
            return;
        }
        if hops < MAX_HOPS {
            for other in self.others(schema) {
                self.apply(value, other, hops + 1);
            }
        }
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    if let Some(schema) = property(schema, name) {
                        self.apply(field, schema, 0);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    if let Some(schema) =
                        schema.pointer(&format!("/prefixItems/{index}")).or(schema.get("items"))
                    {
                        self.apply(item, schema, 0);
                    }
                }
            }
            _ => {}
        }
    }

    /// The schemas that hold at the same place: the one referred to, and every alternative.
    fn others(&self, schema: &'a Value) -> Vec<&'a Value> {
        let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix('#'));
        let referred = pointer.and_then(|pointer| self.root.pointer(pointer));
        let lists = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|name| schema.get(name)?.as_array());
        let branches = ["then", "else"].into_iter().filter_map(|name| schema.get(name));
        referred.into_iter().chain(lists.flatten()).chain(branches).collect()
    }
}

/// `writeOnly`, `format: password`, `x-sensitivity`.
fn is_marked(schema: &Value) -> bool {
    let word = |name: &str| schema.get(name).and_then(Value::as_str);
    schema.get("writeOnly") == Some(&Value::Bool(true))
        || word("format") == Some("password")
        || matches!(word("x-sensitivity"), Some("confidential" | "restricted" | "secret"))
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let named = schema.get("properties").and_then(|all| all.get(name));
    named.or_else(|| schema.get("additionalProperties").filter(|schema| schema.is_object()))
}

fn scrub(value: &mut Value, nested: usize) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if is_secret_key(name) && !field.is_null() && !field.is_boolean() {
                    *field = Value::from(MARK);
                } else {
                    scrub(field, nested);
                }
            }
            scrub_names(fields);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| scrub(item, nested)),
        Value::String(content) => *content = scrub_text(content, nested),
        Value::Number(number) if luhn_of_number(number) => *value = Value::from(MARK),
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// A text that is JSON itself is looked into; any other runs through the detectors.
fn scrub_text(content: &str, nested: usize) -> String {
    let trimmed = content.trim_start();
    if (trimmed.starts_with('{') || trimmed.starts_with('['))
        && let Ok(mut inner) = serde_json::from_str::<Value>(trimmed)
    {
        if nested >= MAX_NESTED_JSON {
            return MARK.to_owned();
        }
        let before = inner.clone();
        scrub(&mut inner, nested + 1);
        return if inner == before { content.to_owned() } else { inner.to_string() };
    }
    text(content)
}

/// Names are texts too: a map may have an address or a key for its keys.
fn scrub_names(fields: &mut Map<String, Value>) {
    if fields.keys().any(|name| text(name) != *name) {
        *fields = std::mem::take(fields).into_iter().map(|(name, field)| (text(&name), field)).collect();
    }
}

fn is_secret_key(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| !matches!(c, '_' | '-' | '.' | ' ')).collect::<String>().to_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| plain.ends_with(end));
    SECRET_KEYS.contains(&plain.as_str()) || ends(&SECRET_ENDS) && !ends(&CURSOR_ENDS)
}

fn luhn_of_number(number: &serde_json::Number) -> bool {
    let card = |number: u64| (1e12..1e19).contains(&(number as f64)) && luhn(&number.to_string());
    number
        .as_u64()
        .is_some_and(|number| card(number) && number.to_string().starts_with(['2', '3', '4', '5', '6']))
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
fn luhn(text: &str) -> bool {
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
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(value: &Value) -> String {
        json(value, None, 1 << 20)
    }

    #[test]
    fn secrets_go_wherever_they_stand() {
        let github = format!("ghp_{}", "a1B2".repeat(9));
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N";
        let inside = json!({"api_key": "inner-secret", "note": github}).to_string();
        let value = json!({
            "headers": {"Authorization": "Bearer abcdefgh12345", "X-Api-Key": "plain-secret"},
            "deep": [[{"password": "hunter2"}]],
            "text": format!("use {github} or {jwt} at https://user:pa55word@example.com/x"),
            "json": inside,
            "card": "4111 1111 1111 1111",
            "number": 4_111_111_111_111_111_u64,
            "mail": "write to jane.doe@example.com",
        });
        let out = stored(&value);
        for secret in [
            "abcdefgh12345",
            "plain-secret",
            "hunter2",
            &github,
            jwt,
            "pa55word",
            "inner-secret",
            "4111",
            "jane.doe",
        ] {
            assert!(!out.contains(secret), "{secret} stands in {out}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        let value = json!({
            "code": "print(sum(range(10)))", "max_tokens": 100, "tokens": ["a", "b"], "order": "4111111111111112",
            "zeros": "0000000000000000", "url": "https://example.com/a?b=c", "json": "{\"a\": 1}", "token": null,
            "big": 9_007_199_254_740_993_u64, "time_ms": 1_763_800_000_004_u64, "nextPageToken": "abcd",
            "note": "tokens: 100, secretary: Jane, 2026-11-22, +1 -2, 1.5e10", "passed": true,
        });
        assert_eq!(serde_json::from_str::<Value>(&stored(&value)).unwrap(), value);
    }

    #[test]
    fn the_schema_marks_fields_of_any_name() {
        let schema =
            json!({"properties": {"pin": {"writeOnly": true}, "list": {"items": {"format": "password"}}}});
        let out = json(&json!({"pin": 1234, "list": ["x1", "x2"]}), Some(&schema), 1 << 20);
        assert!(!out.contains("1234") && !out.contains("x1"), "{out}");
    }

    #[test]
    fn the_schema_marks_through_references_and_alternatives() {
        let schema = json!({
            "$defs": {"Key": {"format": "password"}, "Node": {"properties": {
                "key": {"anyOf": [{"$ref": "#/$defs/Key"}, {"type": "null"}]}, "next": {"$ref": "#/$defs/Node"},
            }}},
            "allOf": [{"properties": {"tree": {"$ref": "#/$defs/Node"}}}],
            "properties": {"tree": {}},
            "additionalProperties": {"writeOnly": true},
        });
        let tree = json!({"key": "k1-value", "next": {"next": {"key": "k2-value", "open": "stays"}}});
        let value = json!({"tree": tree, "x": "k3-value"});
        let out = json(&value, Some(&schema), 1 << 20);
        assert!(!out.contains("-value") && out.contains("stays"), "{out}");
        let circle = json!({"$ref": "#", "anyOf": [{"$ref": "#"}, {"$ref": "#"}]});
        assert_eq!(json(&json!({"a": 1}), Some(&circle), 100), r#"{"a":1}"#);
    }

    #[test]
    fn names_that_end_like_a_secret_hide_their_values() {
        let value = json!({
            "db_password": "v1-hidden", "aws.secret-access-key": "v2-hidden", "stripeApiKey": "v3-hidden",
            "auth": {"user": "v4-hidden"}, "session_token": "v5-hidden", "jane.doe@example.com": "known",
        });
        let out = stored(&value);
        assert!(!out.contains("hidden") && !out.contains("jane.doe") && out.contains("known"), "{out}");
    }

    #[test]
    fn a_text_that_names_a_secret_keeps_the_name_and_loses_the_value() {
        for (told, kept) in [
            ("login failed: password=hunter2-x for bob", "login failed: password=[redacted] for bob"),
            (r#"{"error":"bad","api_key":"hunter2 x","cut"#, r#"{"error":"bad","api_key":[redacted],"cut"#),
            (r#"\"client_secret\":\"hunter2\""#, r#"\"client_secret\":[redacted]"#),
            ("https://h/x?key=hunter2&q=a", "https://h/x?key=[redacted]&q=a"),
            ("Authorization: Digest hunter2 x", "Authorization: [redacted]"),
            ("redis://:hunter2@host/0", "[redacted]host/0"),
            (
                "call +49 (30) 1234-5678 or DE89 3704 0044 0532 0130 00, 078-05-1120",
                "call [redacted] or [redacted], [redacted]",
            ),
        ] {
            assert_eq!(text(told), kept);
        }
    }

    #[test]
    fn a_value_too_large_goes_as_a_whole_and_nul_is_replaced() {
        assert!(json(&json!("x".repeat(100)), None, 50).contains("too large"));
        assert_eq!(text("a\0b"), "a\u{fffd}b");
    }

    #[test]
    fn json_in_json_without_end_is_not_followed() {
        let mut nested = json!({"password": "hunter2"}).to_string();
        for _ in 0..6 {
            nested = json!({ "inner": nested }).to_string();
        }
        assert!(!stored(&json!(nested)).contains("hunter2"));
    }

    #[test]
    fn a_secret_across_the_cut_goes_whole() {
        let told = excerpt("the key is AKIAIOSFODNN7EXAMPLE, keep it", 20);
        assert!(!told.contains("AKIAIOSF") && told.starts_with("the key is"), "{told}");
    }
}
