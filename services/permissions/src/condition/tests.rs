//! What meets a condition, at each boundary; what is missing or of another type never does.

use serde_json::json;
use wire::{ArgumentCondition, NumberRange, TextSet};

use super::*;

fn texts(values: &[&str]) -> TextSet {
    TextSet { values: values.iter().map(|value| (*value).to_owned()).collect() }
}

fn wire(pointer: &str, test: WireTest) -> ArgumentCondition {
    ArgumentCondition { pointer: pointer.into(), test: Some(test) }
}

fn condition(pointer: &str, test: WireTest) -> Vec<Condition> {
    parse("c", vec![wire(pointer, test)]).unwrap()
}

fn meets(pointer: &str, test: WireTest, arguments: &Value) -> bool {
    let conditions = condition(pointer, test);
    // What is stored tests the same.
    let stored = serde_json::to_value(&conditions).unwrap();
    let read: Vec<Condition> = serde_json::from_value(stored).unwrap();
    assert_eq!(read, conditions);
    let lines = unmet(&read, Some(arguments));
    assert_eq!(lines, unmet(&conditions, Some(arguments)));
    lines.is_empty()
}

fn range(min: Option<f64>, max: Option<f64>) -> WireTest {
    WireTest::Range(NumberRange { min, max })
}

/// A test of each kind and a value that meets it.
fn each_kind() -> Vec<(WireTest, Value)> {
    vec![
        (WireTest::OneOf(texts(&["a", "b"])), json!("b")),
        (range(Some(1.0), Some(2.0)), json!(2)),
        (WireTest::Within(texts(&["/reports"])), json!("/reports/q1.csv")),
        (WireTest::UrlHost(texts(&["a.example"])), json!("https://a.example/x")),
        (WireTest::Matches("[a-z]+".into()), json!("abc")),
        (WireTest::Is(true), json!(true)),
        (WireTest::Is(false), json!(false)),
        (WireTest::MaxLength(3), json!("abc")),
        (WireTest::MaxLength(3), json!([1, 2, 3])),
    ]
}

#[test]
fn what_is_missing_or_of_another_type_never_meets() {
    let others =
        [json!(null), json!(true), json!(false), json!(7), json!("zzzz"), json!([]), json!({}), json!(["a"])];
    for (test, right) in each_kind() {
        assert!(meets("/x", test.clone(), &json!({"x": right})), "{test:?}");
        for missing in [json!({}), json!({"X": right}), json!({"y": {"x": right}}), json!({"x ": right})] {
            assert!(!meets("/x", test.clone(), &missing), "{test:?} {missing}");
        }
        for whole in [json!([right]), json!("x"), json!(null), json!(1)] {
            assert!(!meets("/x", test.clone(), &whole), "{test:?} {whole}");
            assert!(!unmet(&condition("/x", test.clone()), None).is_empty());
        }
        let of_type = |value: &Value| std::mem::discriminant(value) == std::mem::discriminant(&right);
        let is_length = matches!(test, WireTest::MaxLength(_));
        for wrong in others.iter().filter(|other| !of_type(other) && (!is_length || other.is_object())) {
            assert!(!meets("/x", test.clone(), &json!({"x": wrong})), "{test:?} {wrong}");
        }
        for nested in [json!({"x": {"x": right}}), json!({"x": null})] {
            assert!(!meets("/x", test.clone(), &nested), "{test:?} {nested}");
        }
        // Nothing to test is not enough, and one bad element is too many.
        for none in [json!({"x": []}), json!({"x": {}}), json!({"x": right}), json!({})] {
            assert!(!meets("/x/*", test.clone(), &none) || right.is_array(), "{test:?} {none}");
        }
        assert!(meets("/x/*", test.clone(), &json!({"x": [right, right]})), "{test:?}");
        assert!(meets("/x/*", test.clone(), &json!({"x": {"a": right, "b": right}})), "{test:?}");
        assert!(!meets("/x/*", test.clone(), &json!({"x": [right, null]})), "{test:?}");
        assert!(!meets("/x/*/y", test.clone(), &json!({"x": [{"y": right}, {}]})), "{test:?}");
    }
    for length in [json!(null), json!(true), json!(1), json!({})] {
        assert!(!meets("/x", WireTest::MaxLength(9), &json!({"x": length})), "{length}");
    }
}

#[test]
fn numbers_are_compared_exactly_at_each_bound() {
    let exact = 9_007_199_254_740_992.0;
    let table = [
        (Some(1.0), None, json!(0), false),
        (Some(1.0), None, json!(1), true),
        (Some(1.0), None, json!(2), true),
        (Some(1.0), None, json!(0.999_999_999), false),
        (None, Some(5.0), json!(5), true),
        (None, Some(5.0), json!(6), false),
        (None, Some(5.0), json!(5.000_000_1), false),
        (Some(-1.5), Some(1.5), json!(-1), true),
        (Some(-1.5), Some(1.5), json!(-2), false),
        (Some(-1.5), Some(1.5), json!(2), false),
        (Some(0.0), Some(0.0), json!(-0.0), true),
        (None, Some(exact), json!(9_007_199_254_740_992_u64), true),
        (None, Some(exact), json!(9_007_199_254_740_993_u64), false),
        (Some(-exact), None, json!(-9_007_199_254_740_993_i64), false),
        (None, Some(1e300), json!(u64::MAX), true),
        (Some(1e300), None, json!(u64::MAX), false),
        (Some(1.0), None, json!("1"), false),
        (Some(1.0), None, json!([1]), false),
    ];
    for (min, max, value, expected) in table {
        assert_eq!(meets("/n", range(min, max), &json!({"n": value})), expected, "{min:?} {max:?} {value}");
    }
}

#[test]
fn texts_lengths_and_flags_are_what_they_are() {
    let one_of = || WireTest::OneOf(texts(&["eu", ""]));
    for (value, expected) in [("eu", true), ("", true), ("EU", false), ("eu ", false), ("e", false)] {
        assert_eq!(meets("/r", one_of(), &json!({"r": value})), expected, "{value:?}");
    }
    // Characters, not bytes.
    for (value, expected) in [(json!("äöü"), true), (json!("äöüß"), false), (json!([1, 2, 3, 4]), false)]
    {
        assert_eq!(meets("/r", WireTest::MaxLength(3), &json!({"r": value})), expected, "{value}");
    }
    assert!(meets("/r", WireTest::MaxLength(0), &json!({"r": ""})));
    assert!(!meets("/r", WireTest::Is(true), &json!({"r": "true"})));
    let absent = || WireTest::Absent(wire::Absent {});
    for (pointer, expected) in [("/a", false), ("/b", true), ("/a/c", true), ("/n", false), ("/b/*", false)] {
        assert_eq!(meets(pointer, absent(), &json!({"a": 1, "n": null})), expected, "{pointer}");
    }
    assert!(!unmet(&condition("/a", absent()), None).is_empty());
}

#[test]
fn a_pointer_leads_as_rfc_6901_has_it() {
    let arguments = json!({"a/b": {"m~n": [10, {"*": 1}]}, "": 3, "list": [[1, 2], [3]]});
    let is_number = || range(Some(0.0), None);
    for (pointer, expected) in [
        ("/a~1b/m~0n/0", true),
        ("/a~1b/m~0n/1", false),
        ("/a~1b/m~0n/00", false),
        ("/a~1b/m~0n/+0", false),
        ("/a~1b/m~0n/-", false),
        ("/a~1b/m~0n/2", false),
        ("/a~1b/m~0n/1/*", true),
        ("/", true),
        ("/list/*/*", true),
        ("/list/*", false),
        ("/a/b", false),
    ] {
        assert_eq!(meets(pointer, is_number(), &arguments), expected, "{pointer}");
    }
}

#[test]
fn a_pattern_matches_the_whole_text_and_cannot_break_out() {
    for (pattern, value, expected) in [
        ("a|b", "a", true),
        ("a|b", "ab", false),
        ("a|b", "xa", false),
        ("[a-z]+", "abc\n", false),
        ("(?m)^a$", "a\nb", false),
        ("(?i)ok", "OK", true),
        ("", "", true),
        ("", "x", false),
        (r"\w{1,50}", "grüße", true),
    ] {
        assert_eq!(
            meets("/t", WireTest::Matches(pattern.into()), &json!({"t": value})),
            expected,
            "{pattern}"
        );
    }
    let long = "a".repeat(1_025);
    for wrong in ["(", "a)|(?:b", "(?x) a # b", "[", r"\1", "(?=a)", "a{1000}{1000}{1000}", &long] {
        let refused = parse("c", vec![wire("/t", WireTest::Matches(wrong.into()))]);
        assert!(
            matches!(refused, Err(Error::Invalid { ref field, .. }) if field == "c[0].matches"),
            "{wrong}"
        );
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_its_name() {
    let many = vec!["a".to_owned(); 101];
    let long = "a".repeat(1_025);
    let table = [
        (ArgumentCondition { pointer: "/a".into(), test: None }, "c[0]"),
        (wire("", WireTest::Is(true)), "c[0].pointer"),
        (wire("a", WireTest::Is(true)), "c[0].pointer"),
        (wire("/a~", WireTest::Is(true)), "c[0].pointer"),
        (wire("/a~2b", WireTest::Is(true)), "c[0].pointer"),
        (wire("/a\n", WireTest::Is(true)), "c[0].pointer"),
        (wire(&format!("/{}", "a".repeat(512)), WireTest::Is(true)), "c[0].pointer"),
        (wire("/a", WireTest::OneOf(texts(&[]))), "c[0].one_of.values"),
        (wire("/a", WireTest::OneOf(TextSet { values: many })), "c[0].one_of.values"),
        (wire("/a", WireTest::OneOf(texts(&["x", &long]))), "c[0].one_of.values[1]"),
        (wire("/a", range(None, None)), "c[0].range"),
        (wire("/a", range(Some(f64::NAN), None)), "c[0].range.min"),
        (wire("/a", range(None, Some(f64::INFINITY))), "c[0].range.max"),
        (wire("/a", range(Some(2.0), Some(1.0))), "c[0].range.min"),
        (wire("/a", WireTest::Within(texts(&["/a", "/../b"]))), "c[0].within.values[1]"),
        (wire("/a", WireTest::Within(texts(&[""]))), "c[0].within.values[0]"),
        (wire("/a", WireTest::UrlHost(texts(&["https://a.example"]))), "c[0].url_host.values[0]"),
        (wire("/a", WireTest::UrlHost(texts(&["a.example:80"]))), "c[0].url_host.values[0]"),
        (wire("/a", WireTest::UrlHost(texts(&["A.example"]))), "c[0].url_host.values[0]"),
        (wire("/a", WireTest::UrlHost(texts(&["bücher.example"]))), "c[0].url_host.values[0]"),
        (wire("/a", WireTest::UrlHost(texts(&["a.example."]))), "c[0].url_host.values[0]"),
        (wire("/a", WireTest::UrlHost(texts(&["*"]))), "c[0].url_host.values[0]"),
        (wire("/a", WireTest::UrlHost(texts(&["*.127.0.0.1"]))), "c[0].url_host.values[0]"),
        (wire("/a", WireTest::UrlHost(texts(&["0x7f.1"]))), "c[0].url_host.values[0]"),
        (wire("/a", WireTest::UrlHost(texts(&["a.*.example"]))), "c[0].url_host.values[0]"),
        (wire("/a", WireTest::MaxLength(-1)), "c[0].max_length"),
    ];
    for (wrong, expected) in table {
        match parse("c", vec![wrong.clone()]) {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, expected, "{wrong:?}"),
            other => panic!("{wrong:?}: {other:?}"),
        }
    }
    let second = parse("c", vec![wire("/a", WireTest::Is(true)), ArgumentCondition::default()]);
    assert!(matches!(second, Err(Error::Invalid { ref field, .. }) if field == "c[1].pointer"));
    let many = vec![wire("/a", WireTest::Is(true)); 33];
    assert!(matches!(parse("c", many), Err(Error::Invalid { ref field, .. }) if field == "c"));
}

#[test]
fn what_is_taken_is_told_again_and_no_value_of_an_argument_is() {
    let mut asked: Vec<_> = each_kind().into_iter().map(|(test, _)| wire("/x", test)).collect();
    asked.push(wire("/x", WireTest::Absent(wire::Absent {})));
    let taken = parse("c", asked.clone()).unwrap();
    assert_eq!(to_wire(&taken), asked);
    let lines = unmet(&taken, Some(&json!({"x": "s3cret-value"})));
    assert_eq!(lines.len(), 10);
    assert!(lines.iter().all(|line| line.starts_with("/x must") && !line.contains("s3cret")), "{lines:?}");
}

#[test]
fn only_exact_hosts_pass() {
    let test = || {
        WireTest::UrlHost(texts(&["a.example", "*.b.example", "127.0.0.1", "[::1]", "xn--bcher-kva.example"]))
    };
    for right in [
        "http://a.example",
        "https://a.example/x?y#z",
        "HTTPS://A.Example:8443/",
        "https://a.example:443/",
        "http://x.b.example/",
        "http://x.y.b.example/",
        "http://127.0.0.1:80/",
        "http://[::1]/",
        "https://xn--bcher-kva.example/",
        "https://a.example?next=https://evil.example",
        "https://a.example/@evil.example",
    ] {
        assert!(meets("/u", test(), &json!({"u": right})), "{right}");
    }
    for wrong in [
        "https://evil.example",
        "https://a.example.evil.example",
        "https://b.example",
        "https://.b.example",
        "https://xb.example",
        "https://a.example@evil.example/",
        "https://a.example:80@evil.example/",
        "https://user@a.example/",
        "https://user:pass@a.example/",
        "https://@a.example/",
        "https://:@a.example/",
        "https://evil.example#@a.example",
        "https://evil.example\\@a.example",
        "https:\\\\a.example\\",
        "https:/a.example/",
        "https:a.example",
        "https:///a.example/",
        "//a.example/",
        "a.example",
        "ftp://a.example/",
        "file://a.example/x",
        "javascript://a.example/%0aalert(1)",
        " https://a.example/",
        "https://a.example/ ",
        "https://a.exa\tmple/",
        "https://a.example\n/",
        "https://a.example./",
        "https://a%2eexample/",
        "https://a。example/",
        "https://ａ.example/",
        "https://a.example\u{ad}/",
        "https://bücher.example/",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.0.1./",
        "https://[0:0::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://a.example:99999/",
        "https://a.example:",
        "https://a.example:/",
        "https://b.example.:80/",
        "",
    ] {
        assert!(!meets("/u", test(), &json!({"u": wrong})), "{wrong:?}");
    }
}

/// Two dots, as some reader spells them.
const DOTS: &[&str] = &[
    "..",
    "%2e%2e",
    "%2E.",
    ".%2e",
    "%252e%252e",
    "%c0%ae%c0%ae",
    "%uff0e%uff0e",
    "．．",
    "．.",
    "․․",
    "‥",
    "…",
    "﹒﹒",
    "..\u{0}",
    "..%00",
    ". .",
    ".. ",
    " ..",
    "..;",
    "..;x=1",
    "..\u{200b}",
    ".\u{200d}.",
    "..\u{feff}",
    ".\u{ad}.",
    "...",
    "....",
    "..\t",
    "..\r",
    "..\u{7f}",
    "\\..",
    "..\u{a0}",
    "..\u{3000}",
    "\u{2025}",
    "..%",
    "..\u{202e}",
    "..\u{fffd}",
    "..\u{fe0f}",
];
/// A step's end, as some reader spells it.
const SEPARATORS: &[&str] = &[
    "/",
    "//",
    "/./",
    "\\",
    "\\/",
    "%2f",
    "%2F",
    "%5c",
    "%252f",
    "%c0%af",
    "／",
    "＼",
    "⁄",
    "∕",
    "⧸",
    "﹨",
    "\u{0}/",
    "/\u{200b}",
];
/// Others that lie outside.
const PLAIN: &[&str] = &[
    "/etc/passwd",
    "/",
    "",
    ".",
    "..",
    "/..",
    "../..",
    "/reportsx",
    "/reports.",
    "/Reports/x",
    "/reports /x",
    "~/reports/x",
    "~root/reports",
    "/~/x",
    "file:///reports/x",
    "FILE:/reports/x",
    "/file:///reports/x",
    "c:/reports/x",
    "C:\\reports",
    "\\\\reports\\x",
    "//server/share",
    "http://reports/x",
    "data:,x",
    "/reports/\u{0}",
    "/reports/a\nb",
    "/reports/$HOME",
    "/reports/${x}",
    "/reports/`id`",
    "/reports/a%20b",
    "/reports/x/..",
    "/reports/../reports/../etc",
    "/./reports/./../etc",
    "/reports/a/../../b",
    "/x/reports/y",
];

/// Ways to leave /reports for /etc that some reader of paths understands, put together from their parts: dots and
/// separators in every spelling, with what readers drop between them.
fn ways_out() -> Vec<String> {
    let mut ways = Vec::new();
    for dot in DOTS {
        for separator in SEPARATORS {
            for (begin, depth) in [("/reports", 1), ("/reports/2026", 2), ("reports", 3)] {
                ways.push(format!(
                    "{begin}{}{separator}etc/passwd",
                    format!("{separator}{dot}").repeat(depth)
                ));
            }
        }
    }
    // Those of the list that come back are no way out; they are tested as such elsewhere.
    ways.extend(PLAIN.iter().filter(|way| **way != "/reports/x/..").map(ToString::to_string));
    ways
}

#[test]
fn no_way_out_of_a_folder_lies_within_it() {
    let ways = ways_out();
    assert!(ways.len() >= 500, "{}", ways.len());
    for way in ways {
        let within = || WireTest::Within(texts(&["/reports"]));
        assert!(!meets("/p", within(), &json!({"p": way})), "{way:?} is {:?}", canonical(&way));
    }
}

#[test]
fn what_lies_in_a_folder_is_within_however_it_is_plainly_written() {
    let within = || WireTest::Within(texts(&["/reports", "data/eu/"]));
    for right in [
        "/reports",
        "/reports/",
        "reports/q1.csv",
        "./reports/q1.csv",
        "//reports//q1.csv",
        "/reports/./2026/../q1.csv",
        "/x/../reports/a",
        "/reports/x/..",
        "/data/eu/a",
        "data/eu",
        "/reports/.hidden",
        "/reports/a..b",
        "/reports/a b",
        "/reports/für Öl.csv",
        "/reports/日本.csv",
        "/reports/12:30.log",
        "/reports/a~",
        "/reports/(1)+2=3,4;5.csv",
    ] {
        assert!(meets("/p", within(), &json!({"p": right})), "{right:?} is {:?}", canonical(right));
    }
    for wrong in ["/data/e", "/data", "/data/euro", "/dataeu", "/report", "/reports2"] {
        assert!(!meets("/p", within(), &json!({"p": wrong})), "{wrong:?}");
    }
    let everywhere = WireTest::Within(texts(&["/"]));
    assert!(meets("/p", everywhere.clone(), &json!({"p": "/etc/passwd"})));
    assert!(!meets("/p", everywhere, &json!({"p": "/../etc/passwd"})));
}
