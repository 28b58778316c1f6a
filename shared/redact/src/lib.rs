//! Takes secrets and personal data out of what is stored. Runs before anything is written: arguments,
//! results and messages of tools reach the database, the trail and the logs only through here.
//!
//! In this order: the schema's marks, key names at any depth, detectors in every text, JSON inside texts.

mod detect;
mod marks;

use serde_json::{Map, Value};

use self::marks::Marks;
pub use self::{
    detect::text,
    marks::{is_huge, may_mark},
};

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

/// A value as it may be stored, as JSON text: sanitised, without what its schema marks as secret, and dropped as a whole
/// above `max_bytes`.
pub fn json(value: &Value, schema: Option<&Value>, max_bytes: usize) -> String {
    let text = match schema {
        None if is_clean(value, 0) => value.to_string(),
        _ => sanitised(value.clone(), schema).to_string(),
    };
    if text.len() <= max_bytes {
        return text;
    }
    serde_json::json!({ "redacted": "too large to store", "bytes": text.len() }).to_string()
}

fn sanitised(mut value: Value, schema: Option<&Value>) -> Value {
    if let Some(schema) = schema {
        Marks::new(schema).apply(&mut value);
    }
    scrub(&mut value, 0);
    value
}

/// The first characters of a text as they may be stored. Cut after it is sanitised: half a secret is not known as
/// one any more. What stands far behind the cut is not looked at.
pub fn excerpt(whole: &str, most: usize) -> String {
    let ahead: String = whole.chars().take(most.saturating_mul(4)).collect();
    text(&ahead).chars().take(most).collect()
}

/// Whether `scrub` leaves this value as it is. What is no secret but looks like one is not clean, and is left as it
/// is nevertheless.
fn is_clean(value: &Value, nested: usize) -> bool {
    match value {
        Value::Object(fields) => fields.iter().all(|(name, field)| {
            let is_hidden = !field.is_null() && !field.is_boolean() && is_secret_key(name);
            !is_hidden && detect::is_clean(name) && is_clean(field, nested)
        }),
        Value::Array(items) => items.iter().all(|item| is_clean(item, nested)),
        Value::String(content) => match json_of(content) {
            Some(inner) => nested < MAX_NESTED_JSON && is_clean(&inner, nested + 1),
            None => detect::is_clean(content),
        },
        Value::Number(number) => !luhn_of_number(number),
        Value::Bool(_) | Value::Null => true,
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
    let Some(mut inner) = json_of(content) else { return text(content) };
    if nested >= MAX_NESTED_JSON {
        return MARK.to_owned();
    }
    let before = inner.clone();
    scrub(&mut inner, nested + 1);
    if inner == before { content.to_owned() } else { inner.to_string() }
}

/// The object or list that a text is.
fn json_of(content: &str) -> Option<Value> {
    let trimmed = content.trim_start();
    if trimmed.starts_with(['{', '[']) { serde_json::from_str(trimmed).ok() } else { None }
}

/// Names are texts too: a map may have an address or a key for its keys.
fn scrub_names(fields: &mut Map<String, Value>) {
    if fields.keys().any(|name| !detect::is_clean(name) && text(name) != *name) {
        *fields = std::mem::take(fields).into_iter().map(|(name, field)| (text(&name), field)).collect();
    }
}

fn is_secret_key(name: &str) -> bool {
    let is_filler = |c: char| matches!(c, '_' | '-' | '.' | ' ');
    let plain = |name: &str| -> String { name.chars().filter(|c| !is_filler(*c)).collect() };
    // Nearly every name is short and plain: it needs no text of its own.
    let mut room = [0; 64];
    if !name.is_ascii() || name.len() > room.len() {
        return says_secret(plain(name).to_lowercase().as_bytes());
    }
    let mut length = 0;
    for byte in name.bytes().filter(|byte| !is_filler(char::from(*byte))) {
        room[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    says_secret(&room[..length])
}

/// Whether a name in lower case, without what divides its words, is that of a secret.
fn says_secret(plain: &[u8]) -> bool {
    let ends = |ends: &[&str]| ends.iter().any(|end| plain.ends_with(end.as_bytes()));
    SECRET_KEYS.iter().any(|key| key.as_bytes() == plain) || ends(&SECRET_ENDS) && !ends(&CURSOR_ENDS)
}

fn luhn_of_number(number: &serde_json::Number) -> bool {
    let card = |number: u64| (1e12..1e19).contains(&(number as f64)) && detect::luhn(&number.to_string());
    number
        .as_u64()
        .is_some_and(|number| card(number) && number.to_string().starts_with(['2', '3', '4', '5', '6']))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
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
        // Nor where it holds nothing: no one has looked.
        let told = |levels: usize| {
            let inner = (0..levels).fold("[1]".to_owned(), |inner, _| json!([inner]).to_string());
            (stored(&json!(inner)), json!(inner).to_string())
        };
        let (within, beyond) = (told(MAX_NESTED_JSON - 1), told(MAX_NESTED_JSON));
        assert_eq!(within.0, within.1);
        assert!(beyond.0.contains(MARK), "{}", beyond.0);
    }

    /// Any value, of made-up names and texts.
    fn made_up(rng: &mut StdRng, depth: usize) -> Value {
        match rng.random_range(0..if depth < 4 { 9 } else { 6 }) {
            0 => Value::Null,
            1 => Value::from(rng.random::<bool>()),
            2 => Value::from([0, 12, 4_111_111_111_111_111_u64, u64::MAX][rng.random_range(0..4)]),
            3 => Value::from(rng.random::<f64>() * 1e18),
            4 => Value::from(detect::tests::made_up(rng)),
            5 => Value::from(made_up(rng, depth.max(2) + 1).to_string()),
            6 => (0..rng.random_range(0..4)).map(|_| made_up(rng, depth + 1)).collect(),
            _ => (0..rng.random_range(0..4)).map(|_| (name(rng), made_up(rng, depth + 1))).collect(),
        }
    }

    fn name(rng: &mut StdRng) -> String {
        let names = [
            "a",
            "b",
            "password",
            "X-Api-Key",
            "Db_Pass",
            "next page-token",
            "My To\u{212a}en",
            "tokens",
            "auth",
            "A.U.T.H",
            "\u{130}token",
            "max_tokens",
        ];
        match rng.random_range(0..8) {
            0 => detect::tests::made_up(rng),
            1 => "_".repeat(rng.random_range(50..80)) + "password",
            _ => names[rng.random_range(0..names.len())].to_owned(),
        }
    }

    /// Any schema, of the words that matter here; those with references and marks are few.
    fn made_up_schema(rng: &mut StdRng, depth: usize) -> Value {
        let mut schema = json!({"type": "object", "format": "date"});
        for _ in 0..rng.random_range(0..3) {
            let inner = if depth < 3 { made_up_schema(rng, depth + 1) } else { json!({}) };
            match rng.random_range(0..14) {
                0 => schema["writeOnly"] = json!(rng.random::<bool>()),
                1 => schema["format"] = json!("password"),
                2 => schema["x-sensitivity"] = json!("restricted"),
                3 => schema["anyOf"] = json!([inner]),
                4 => schema["$ref"] = json!("#"),
                5 => schema["then"] = inner,
                6 | 7 => schema["items"] = inner,
                8 => schema["prefixItems"] = json!([inner, {}]),
                9 => schema["additionalProperties"] = inner,
                _ => schema["properties"][name(rng)] = inner,
            }
        }
        schema
    }

    #[test]
    fn what_is_left_out_for_speed_changes_nothing() {
        let mut rng = StdRng::seed_from_u64(23);
        let (mut clean, mut unmarked) = (0, 0);
        for _ in 0..20_000 {
            let (value, schema) = (made_up(&mut rng, 0), made_up_schema(&mut rng, 0));
            let slowly = |schema| sanitised(value.clone(), schema);
            clean += u32::from(is_clean(&value, 0));
            assert!(!is_clean(&value, 0) || slowly(None) == value, "{value}");
            unmarked += u32::from(!may_mark(&schema));
            assert!(may_mark(&schema) || slowly(Some(&schema)) == slowly(None), "{value} {schema}");
        }
        let some = 2_000..18_000;
        assert!(some.contains(&clean) && some.contains(&unmarked), "{clean}, {unmarked} of 20,000");
    }

    #[test]
    fn a_name_is_known_without_a_copy_as_it_is_with_one() {
        let mut rng = StdRng::seed_from_u64(29);
        for _ in 0..20_000 {
            let name = name(&mut rng);
            let plain: String = name.chars().filter(|c| !"_-. ".contains(*c)).collect();
            assert_eq!(is_secret_key(&name), says_secret(plain.to_lowercase().as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn a_secret_across_the_cut_goes_whole() {
        let told = excerpt("the key is AKIAIOSFODNN7EXAMPLE, keep it", 20);
        assert!(!told.contains("AKIAIOSF") && told.starts_with("the key is"), "{told}");
    }
}
