//! Takes secrets and personal data out of what is stored. Runs before anything is written: arguments,
//! results and messages of tools reach the database, the trail and the logs only through here.
//!
//! In this order: the schema's marks, key names at any depth, detectors in every text, JSON inside texts.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// What stands where something was taken out.
const MARK: &str = "[redacted]";
/// Levels of JSON inside JSON texts that are looked into; deeper texts go as a whole.
const MAX_NESTED_JSON: usize = 3;

/// Key names whose values are always secret; compared in lower case without `_`, `-` and spaces.
const SECRET_KEYS: [&str; 22] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "clientsecret",
    "token",
    "accesstoken",
    "refreshtoken",
    "idtoken",
    "authtoken",
    "apikey",
    "xapikey",
    "authorization",
    "proxyauthorization",
    "cookie",
    "setcookie",
    "privatekey",
    "credential",
    "credentials",
    "sessionkey",
    "signingkey",
    "subscriptiontoken",
];

/// What must hold for a matched text besides the match.
type Confirm = fn(&str) -> bool;

struct Detector {
    pattern: Regex,
    confirm: Confirm,
}

static DETECTORS: LazyLock<Vec<Detector>> = LazyLock::new(|| {
    let any: Confirm = |_| true;
    let table: [(&str, Confirm); 11] = [
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
        (r"(?i)\b[a-z][a-z0-9+.-]*://[^\s/@:]+:[^\s/@]+@", any),
        // Payment card numbers, ISO/IEC 7812: 13 to 19 digits that pass Luhn.
        (r"\b\d(?:[ -]?\d){12,18}\b", luhn),
        (r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b", any),
    ];
    let compile = |(pattern, confirm): (&str, Confirm)| Detector {
        pattern: Regex::new(pattern).expect("a constant pattern, compiled by the tests"),
        confirm,
    };
    table.into_iter().map(compile).collect()
});

/// A value as it may be stored, as JSON text: sanitised, and dropped as a whole above `max_bytes`.
pub(crate) fn json(value: &Value, schema: Option<&Value>, max_bytes: usize) -> String {
    let mut value = value.clone();
    if let Some(schema) = schema {
        schema_marks(&mut value, schema);
    }
    scrub(&mut value, 0);
    let text = value.to_string();
    if text.len() <= max_bytes {
        return text;
    }
    serde_json::json!({ "redacted": "too large to store", "bytes": text.len() }).to_string()
}

/// A text as it may be stored. NUL, which PostgreSQL does not store, is replaced.
pub(crate) fn text(text: &str) -> String {
    let mut out = text.replace('\0', "\u{fffd}");
    for detector in DETECTORS.iter() {
        if detector.pattern.is_match(&out) {
            let replace = |found: &regex::Captures<'_>| match &found[0] {
                secret if (detector.confirm)(secret) => MARK.to_owned(),
                other => other.to_owned(),
            };
            out = detector.pattern.replace_all(&out, replace).into_owned();
        }
    }
    out
}

/// What the tool's own schema calls secret: `writeOnly`, `format: password`, `x-sensitivity`.
fn schema_marks(value: &mut Value, schema: &Value) {
    let secret = schema.get("writeOnly") == Some(&Value::Bool(true))
        || schema.get("format").and_then(Value::as_str) == Some("password")
        || matches!(
            schema.get("x-sensitivity").and_then(Value::as_str),
            Some("confidential" | "restricted" | "secret")
        );
    if secret {
        *value = Value::from(MARK);
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if let Some(schema) = schema.pointer("/properties").and_then(|all| all.get(name)) {
                    schema_marks(field, schema);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                if let Some(schema) = schema.get("items") {
                    schema_marks(item, schema);
                }
            }
        }
        _ => {}
    }
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

fn is_secret_key(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).collect::<String>().to_lowercase();
    SECRET_KEYS.contains(&plain.as_str())
}

fn luhn_of_number(number: &serde_json::Number) -> bool {
    number.as_u64().is_some_and(|number| (1e12..1e19).contains(&(number as f64)) && luhn(&number.to_string()))
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
            "big": 9_007_199_254_740_993_u64,
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
}
