//! What is taken can be used, what is not is told with its place, and nothing is ever fetched.

mod generated;

use std::{io::ErrorKind, net::TcpListener};

use super::*;

#[test]
fn good_schemas_are_read() {
    for good in [
        r#"{"type":"object"}"#,
        r##"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object",
             "definitions":{"a":{"type":"string"}},"properties":{"a":{"$ref":"#/definitions/a"}}}"##,
        r##"{"type":"object","properties":{"child":{"$ref":"#"},"at":{"type":"string","format":"date-time","pattern":"^(?=a)a"}}}"##,
        r#"{"type":"object","properties":{"$ref":{"type":"string"},"a/b":{"enum":[{"$ref":"x"}]}}}"#,
    ] {
        read_object(good).unwrap_or_else(|fault| panic!("{good}: {fault}"));
    }
    assert!(read("true").is_ok());
}

#[test]
fn bad_schemas_say_what_is_wrong_and_where() {
    let nested = |levels: usize| format!("{}{{}}{}", r#"{"not":"#.repeat(levels), "}".repeat(levels));
    let deep = format!(r#"{{"type":"object","properties":{{"a/b":{}}}}}"#, nested(62));
    let deep_at = format!("/properties/a~1b{}", "/not".repeat(62));
    let list = format!(r#"{{"type":"object","enum":[1,{}1{}]}}"#, "[".repeat(70), "]".repeat(70));
    let list_at = format!("/enum/1{}", "/0".repeat(62));
    let hopeless = nested(5_000);
    let hopeless_at = "/not".repeat(64);
    let large = format!(r#"{{"type":"object","description":"{}"}}"#, "x".repeat(MAX_BYTES));
    for (bad, at, says) in [
        ("", "", "not JSON"),
        ("{\"type\":\"object\"", "", "line 1 column 16"),
        ("{} {}", "", "not JSON"),
        ("[]", "", "an object"),
        (r#"{"type":"objekt"}"#, "/type", "can be used"),
        (r#"{"properties":{"a":{"minimum":"1"}}}"#, "/properties/a/minimum", "can be used"),
        (r#"{"properties":{"a":{"pattern":"("}}}"#, "/properties/a/pattern", "pattern"),
        (r#"{"properties":{"a":{"pattern":"(\\w{1000}){1000}"}}}"#, "/properties/a/pattern", "pattern"),
        (r#"{"type":"object","required":"city"}"#, "/required", "can be used"),
        (r##"{"$ref":"#/$defs/none"}"##, "/$ref", "leads nowhere"),
        (r##"{"anyOf":[true,{"$ref":"#none"}]}"##, "/anyOf/1/$ref", "leads nowhere"),
        (
            r##"{"items":{"$ref":"#/$defs/a%20b"},"enum":[{"$ref":"#/$defs/a%20b"}]}"##,
            "/items/$ref",
            "leads nowhere",
        ),
        (r#"{"$schema":"https://example.com/draft"}"#, "/$schema", "example.com"),
        (r#"{"type":"string"}"#, "/type", r#""type": "object""#),
        (r#"{"properties":{}}"#, "", r#""type": "object""#),
        (&deep, &deep_at, "64 levels"),
        (&list, &list_at, "64 levels"),
        (&hopeless, &hopeless_at, "64 levels"),
        (&large, "", "262144"),
    ] {
        let fault = read_object(bad).expect_err(&bad[..bad.len().min(80)]);
        assert_eq!(fault.pointer, at, "{fault}");
        assert!(fault.to_string().contains(says), "{fault}");
        assert!(fault.to_string().len() < 1_000);
    }
    assert!(read_object(&format!(r#"{{"type":"object","not":{}}}"#, nested(62))).is_ok());
}

#[test]
fn references_that_branch_without_end_are_refused_and_circles_taken() {
    let level = |n: usize| {
        let next = format!(r##"{{"$ref":"#/$defs/l{}"}}"##, n + 1);
        format!(r#""l{n}":{{"allOf":[{next},{next}]}}"#)
    };
    let levels: Vec<String> = (0..60).map(level).collect();
    let defs = levels.join(",");
    let branching = format!(
        r##"{{"type":"object","properties":{{"a":{{"$ref":"#/$defs/l0"}}}},"$defs":{{{defs},"l60":{{}}}}}}"##
    );
    let fault = read_object(&branching).unwrap_err();
    assert!(fault.message.contains("would not end") && !fault.pointer.is_empty(), "{fault}");
    read_object(r##"{"type":"object","$ref":"#"}"##).unwrap();
}

#[test]
fn what_is_elsewhere_is_refused_and_nobody_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let host = listener.local_addr().unwrap();
    for elsewhere in [
        format!("http://{host}/s.json"),
        format!("http://{host}/s.json#/$defs/a"),
        format!("HTTP://{host}/"),
        format!("//{host}/s.json"),
        "https://example.com/s.json".to_owned(),
        "file:///etc/passwd".to_owned(),
        "other.json".to_owned(),
        "../other.json#/a".to_owned(),
        "urn:example:none".to_owned(),
    ] {
        for (schema, pointer) in [
            (serde_json::json!({"type": "object", "$ref": elsewhere}), "/$ref"),
            (
                serde_json::json!({"properties": {"a": {"items": {"$ref": elsewhere}}}}),
                "/properties/a/items/$ref",
            ),
            (serde_json::json!({"anyOf": [{}, {"$dynamicRef": elsewhere}]}), "/anyOf/1/$dynamicRef"),
        ] {
            let fault = read(&schema.to_string()).expect_err(&elsewhere);
            assert_eq!(fault.pointer, pointer, "{fault}");
            assert!(fault.message.contains("nothing is fetched"), "{fault}");
        }
    }
    for id in [format!("http://{host}/s.json"), format!("http://{host}/")] {
        let schema = serde_json::json!({"$id": id, "type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {}}});
        read(&schema.to_string()).unwrap_or_else(|fault| panic!("{schema}: {fault}"));
        let schema = serde_json::json!({"$id": id, "properties": {"a": {"$ref": "next.json"}}});
        assert_eq!(read(&schema.to_string()).unwrap_err().pointer, "/properties/a/$ref");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody connected");
}
