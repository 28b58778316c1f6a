//! Everything together, on values and texts as calls have them.

use std::sync::Arc;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{report::Report, value::MAX_NESTED_JSON, *};

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
fn words(rng: &mut StdRng) -> String {
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

fn is_clean(value: &Value) -> bool {
    value::is_clean(value, Rules::standard(), 0)
}

fn sanitised(value: Value, schema: Option<&Value>) -> Value {
    Rules::standard().sanitised(value, schema, &mut Report::silent())
}

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
        (r#"{"error":"bad","api_key":"hunter2 x","cut"#, r#"{"error":"bad","api_key":"[redacted]","cut"#),
        (r#"\"client_secret\":\"hunter2\""#, r#"\"client_secret\":\"[redacted]\""#),
        ("https://h/x?key=hunter2&q=a", "https://h/x?key=[redacted]&q=a"),
        ("Authorization: Digest hunter2 x", "Authorization: [redacted]"),
        ("redis://:hunter2@host/0", "redis://[redacted]@host/0"),
        (
            "call +49 (30) 1234-5678 or DE89 3704 0044 0532 0130 00, 536-90-4399",
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
        4 => Value::from(words(rng)),
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
        0 => words(rng),
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
        clean += u32::from(is_clean(&value));
        assert!(!is_clean(&value) || slowly(None) == value, "{value}");
        unmarked += u32::from(!may_mark(&schema));
        assert!(may_mark(&schema) || slowly(Some(&schema)) == slowly(None), "{value} {schema}");
    }
    let some = 2_000..18_000;
    assert!(some.contains(&clean) && some.contains(&unmarked), "{clean}, {unmarked} of 20,000");
}

#[test]
fn a_secret_across_the_cut_goes_whole() {
    let told = excerpt("the key is AKIAIOSFODNN7EXAMPLE, keep it", 20);
    assert!(!told.contains("AKIAIOSF") && told.starts_with("the key is"), "{told}");
}

#[test]
fn a_text_in_which_nothing_is_found_stays_and_what_is_found_at_all_is_taken_out() {
    let mut rng = StdRng::seed_from_u64(17);
    let (rules, mut clean) = (Rules::standard(), 0);
    for _ in 0..20_000 {
        let made = words(&mut rng);
        let is_clean = rules.is_text_clean(&made, 0);
        clean += u32::from(is_clean);
        assert_eq!(is_clean, text(&made) == made, "{made:?}");
        assert!(!is_clean || rules.replaced(&made, 0, &mut Report::silent()) == made, "{made:?}");
    }
    assert!((2_000..18_000).contains(&clean), "{clean} of 20,000 are clean");
}

/// Texts that are made to be slow: long runs of what begins something, and never is it.
#[allow(clippy::too_many_lines, reason = "a list")]
fn hostile(length: usize) -> Vec<String> {
    let units = [
        "1",
        "12 ",
        "1-",
        "4111 ",
        "+1",
        "+49 ",
        "@",
        "a@",
        "@a.",
        "a@b",
        "eyJ",
        "eyJa-",
        "eyJaaaaaaaa.",
        "eyJ/",
        ".",
        "aaaaaaaaaaaaaaaaaaaaaaaa.",
        "M1234567890123456789012345.",
        "sk-",
        "xoxb-a-",
        "key-",
        "ghp_",
        "AKIA",
        "tc_a_",
        "://",
        "a://",
        "://a",
        "a://b:",
        "token",
        "token=",
        "token=$",
        "token=\"",
        "token='$",
        "token=\\\"$",
        "token:",
        "token: a",
        "token =  ",
        "token%3D",
        "token%3D%26",
        "password: ",
        " --token ",
        " --",
        "token is ",
        " is ",
        "Bearer ",
        "Bearer a ",
        "basic ",
        "authorization: ",
        "authorization:",
        "authorization: a ",
        "cookie: ",
        "cookie:a=",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "-----",
        "AZDO",
        "Q~",
        "a1Q~",
        "-us1",
        ":AA",
        "1:AA",
        ".atlasv1.",
        "<token>",
        "<token",
        "<",
        ">",
        "\"",
        "\\\"",
        "{\"",
        "[\"",
        "[",
        "{\"a\":",
        "DE89",
        "DE89 ",
        "DE",
        "@tcp(",
        "a:b@tcp(",
        ":thin:a/",
        "accountkey=",
        "&key=",
        "W3s",
        "w3s-",
        "\u{e9}",
        "tel ",
        "phone 1",
        "ssn 1",
        "%3D",
        "\n",
        " ",
    ];
    let mut texts: Vec<String> = units.iter().map(|unit| unit.repeat(length / unit.len())).collect();
    for pair in units.windows(2) {
        texts.push(pair.concat().repeat(length / (pair[0].len() + pair[1].len())));
    }
    texts
}

/// Bytes looked at for each byte of a text, at most.
const MOST_WORK: usize = 96;

#[test]
fn the_work_is_in_proportion_to_the_text_whatever_it_is() {
    let rules = Rules::standard();
    let work = |text: &str| scan::Scan::work(text, rules);
    for (short, long) in hostile(4_000).iter().zip(hostile(16_000)) {
        let (least, most) = (work(short), work(&long));
        let told = long.chars().take(40).collect::<String>();
        assert!(most <= MOST_WORK * long.len(), "{told:?}: {} a byte", most / long.len());
        assert!(most <= 5 * least + 10_000, "{told:?}: {least}, and {most} for four times the text");
    }
    let mut rng = StdRng::seed_from_u64(37);
    for _ in 0..300 {
        let (one, other) = (words(&mut rng), words(&mut rng));
        let long = format!("{one}{other}").repeat(50);
        assert!(work(&long) <= MOST_WORK * long.len().max(100), "{long:.80}");
    }
}

#[test]
fn what_goes_too_deep_goes_whole() {
    let deep = format!("{}\"password is hunter2x\"{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(stored(&json!(deep)), json!(MARK).to_string());
    assert_eq!(stored(&json!("[1] see {this}")), json!("[1] see {this}").to_string());
}

#[test]
fn json_in_base64_goes_whole_where_it_holds_a_secret() {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };
    for (inner, is_secret) in [
        (json!({"password": "hunter2"}), true),
        (json!([{"user": "a"}, {"api_key": "b"}]), true),
        (json!({"colour": "green", "size": 12}), false),
    ] {
        for encoded in [STANDARD.encode(inner.to_string()), URL_SAFE_NO_PAD.encode(inner.to_string())] {
            for told in
                [encoded.clone(), format!("state={encoded}; next"), json!({"deep": encoded}).to_string()]
            {
                let clean = text_of(&told);
                assert_eq!(!clean.contains(&encoded), is_secret, "{inner} in {told}: {clean}");
            }
        }
    }
}

/// A text as a value of its own is stored.
fn text_of(text: &str) -> String {
    sanitised(json!(text), None).as_str().unwrap().to_owned()
}

fn rules(config: &str) -> Redaction {
    let config: Config = serde_json::from_str(config).unwrap();
    assert_eq!(config.validate(), [""; 0]);
    Redaction::new(&config)
}

#[test]
fn what_a_team_adds_and_leaves_out_holds_for_it_alone() {
    let redaction = rules(
        r#"{"keys": ["badge_no"], "teams": {"blue": {"off": ["email", "phone"], "keys": ["*pin"],
            "patterns": [{"name": "case_number", "pattern": "CASE-\\d{6}"}]}}}"#,
    );
    let value = json!({"badge-no": "b1", "door_pin": "p1", "note": "CASE-123456 of jane@example.com, +49 30 1234567",
        "key": format!("AKIA{}", "A2".repeat(8)), "phone": "030 1234567"});
    let blue: Value = serde_json::from_str(&redaction.team("blue").json(&value, None, 9_999)).unwrap();
    assert_eq!(
        blue,
        json!({"badge-no": MARK, "door_pin": MARK, "note": "[redacted] of jane@example.com, +49 30 1234567",
        "key": MARK, "phone": "030 1234567"})
    );
    let red: Value = serde_json::from_str(&redaction.team("red").json(&value, None, 9_999)).unwrap();
    assert_eq!(
        red,
        json!({"badge-no": MARK, "door_pin": "p1", "note": "CASE-123456 of [redacted], [redacted]", "key": MARK,
        "phone": MARK})
    );
    assert_eq!(
        redaction.team("blue").text("door pin: 4711, Badge-No = 12345"),
        "door pin: [redacted], Badge-No = [redacted]"
    );
}

#[test]
fn what_an_excerpt_may_have_cut_itself_is_not_shown() {
    // Two long secrets that go leave little of what was looked at; a third was cut where the looking ended.
    let key = |letter: &str, length: usize| format!("eyJ{0}.eyJ{0}.{0} ", letter.repeat(length));
    for length in [200, 500, 5_000] {
        for most in [100, 300, 1_000] {
            let whole = format!("{}{}", key("a", 150).repeat(4), key("Q", length).repeat(40));
            let shown = excerpt(&whole, most);
            assert!(!shown.contains('Q') && shown.starts_with(MARK), "{length} {most}: {shown}");
        }
    }
    let plain = "plain words ".repeat(1_000);
    assert_eq!(excerpt(&plain, 200), plain[..200]);
    assert_eq!(excerpt(&"é".repeat(9_000), 200), "é".repeat(200));
    assert_eq!(excerpt(&"x".repeat(9_000), 200), MARK);
    assert_eq!(excerpt(&"x".repeat(900), 200), "x".repeat(200));
}

#[test]
fn what_a_tool_adds_comes_on_top_and_what_cannot_be_used_stores_nothing() {
    let redaction = rules(r#"{"off": ["email"], "keys": ["badge"]}"#);
    let added = |pattern: &str| Added {
        keys: vec!["seat".into()],
        patterns: vec![Pattern { name: "seat".into(), pattern: pattern.into() }],
    };
    for _ in 0..2 {
        let tool = redaction.tool("blue", added(r"S\d{3}"));
        let stored = tool.json(&json!({"seat": 1, "badge": 2, "note": "in S123, a@b.com"}), None, 999);
        let stored: Value = serde_json::from_str(&stored).unwrap();
        assert_eq!(stored, json!({"badge": MARK, "note": "in [redacted], a@b.com", "seat": MARK}));
    }
    let broken = redaction.tool("blue", added("("));
    assert_eq!(
        (broken.json(&json!({"a": 1}), None, 999), broken.text("a")),
        (json!(MARK).to_string(), MARK.to_owned())
    );
    // What may match without end escaped the checks: it is not searched for, and nothing is stored.
    assert_eq!(redaction.tool("blue", added(r"S\d+")).text("a"), MARK);
    assert!(Arc::ptr_eq(&redaction.tool("blue", Added::default()), &redaction.team("blue")));
}

#[test]
fn a_report_tells_where_and_what_and_never_the_secret() {
    let schema = json!({"properties": {"pin": {"writeOnly": true}}});
    let inner = json!({"client_secret": "hunter2-inner"}).to_string();
    let value = json!({"pin": "hunter2-pin", "a/b": [{"password": "hunter2-pass"}], "text": "mail jane.doe@example.com now",
        "json": inner, "card": 4_111_111_111_111_111_u64, "jane.doe@example.com": {"token": "hunter2-token"}});
    let (stored, findings) = Rules::standard().examined(&value, Some(&schema));
    assert_eq!(stored.to_string(), json(&value, Some(&schema), 9_999));
    let mut told: Vec<(&str, &str, usize)> =
        findings.iter().map(|it| (it.pointer.as_str(), it.rule.as_str(), it.length)).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("", "email", 20),
            ("/[redacted]/token", "key_name", 13),
            ("/a~1b/0/password", "key_name", 12),
            ("/card", "card", 16),
            ("/json > /client_secret", "key_name", 13),
            ("/pin", "schema", 11),
            ("/text", "email", 20),
        ]
    );
    assert!(!format!("{findings:?}").contains("hunter2") && !format!("{findings:?}").contains("jane"));
}
