//! What a team may write, and what it is told of what it may not.

use super::*;

const HEAD: &str = r#"(principal, action == Action::"call", resource)"#;

fn parse(text: &str) -> Result<TeamPolicy, Vec<String>> {
    TeamPolicy::parse(schema().unwrap(), "p", text)
        .map_err(|fault| fault.complaints.iter().map(ToString::to_string).collect())
}

fn refused(text: &str) -> String {
    parse(text).map(drop).expect_err(text).join("\n")
}

#[test]
fn policies_over_everything_in_the_schema_are_taken() {
    for condition in [
        "context.now > 0",
        r#"context.time > datetime("2026-11-22T09:00:00Z")"#,
        r#"context.time.toTime() >= duration("9h")"#,
        r#"context.user == "ann@example.com""#,
        r#"context.grant.kind == "none""#,
        "context.hour.limited && context.hour.used > 5",
        "context.budget.cost > 1000",
        r#"principal == Agent::"t/scout""#,
        r#"principal.role == "agent" && principal.specialization == "Researcher""#,
        r#"resource.effect != "read_only" && resource.sensitivity >= 2"#,
        r#"resource.groups.contains("mail.*")"#,
        r#"context.arguments.texts.hasTag("/to") && !(context.arguments.texts.getTag("/to") like "*@example.com")"#,
        r#"context.arguments.numbers.hasTag("/n") && context.arguments.numbers.getTag("/n") > 10"#,
        r#"context.arguments.decimals.hasTag("/n") && context.arguments.decimals.getTag("/n").greaterThan(decimal("1.5"))"#,
        r#"context.arguments.flags.hasTag("/force") && context.arguments.flags.getTag("/force")"#,
        r#"context.arguments.textLists.hasTag("/to") && context.arguments.textLists.getTag("/to").contains("x")"#,
        r#"context.arguments.paths.hasTag("/p") && !(context.arguments.paths.getTag("/p") in Path::"/reports")"#,
        r#"context.arguments.pointers.contains("/bcc")"#,
    ] {
        for effect in ["forbid", "permit"] {
            let text = format!("{effect} {HEAD} when {{ {condition} }};");
            parse(&text).unwrap_or_else(|complaints| panic!("{text}\n{complaints:?}"));
        }
    }
    parse("forbid (principal, action, resource);").unwrap();
    parse(r#"@message("no.") @owner("ops") forbid (principal is Agent, action in [Action::"call"], resource is Tool);"#)
        .unwrap();
}

#[test]
fn every_fault_is_told_with_its_line_and_column_and_what_cedar_says() {
    let cases: [(&str, &[&str]); 14] = [
        ("", &["line 1, column 1: there is no policy"]),
        ("// nothing\n", &["there is no policy"]),
        ("forbid (principal, action, resource);\npermit (principal, action, resource);", &["2 policies"]),
        ("forbid (principal, action, resource)", &["line 1, column 37", "unexpected end"]),
        (
            "forbid (principal, action, resource)\nwhen { context.now > };",
            &["line 2, column 22", "unexpected token `}`"],
        ),
        (
            "forbid (principal, action, resource)\nwhen {\n  context.grnat.readOnly &&\n  context.now == \"1\"\n};",
            &["line 3, column 3", "grnat", "did you mean `grant`", "line 4, column 3"],
        ),
        ("forbid (principal == ?principal, action, resource);", &["line 1, column 22", "template"]),
        (r#"forbid (principal, action == Action::"read", resource);"#, &["not about calls", "column 30"]),
        (r#"@id("x") forbid (principal, action, resource);"#, &["line 1, column 1: @id is set"]),
        (r#"@reason("NO_GRANT") forbid (principal, action, resource);"#, &["@reason is the platform's"]),
        ("forbid (principal is Agnet, action, resource);", &["Agnet", "did you mean `Agent`"]),
        // What Cedar only warns of is refused too.
        ("forbid (principal, action, resource) when { false };", &["impossible"]),
        (
            "forbid (principal, action, resource) when { context.user == \"s\u{441}out\" };",
            &["mixed scripts"],
        ),
        // Not guarded: it would err, and the error would deny every call.
        (
            r#"forbid (principal, action, resource) when { context.arguments.texts.getTag("/to") == "x" };"#,
            &["column 45", "hasTag"],
        ),
    ];
    for (text, expected) in cases {
        let told = refused(text);
        for part in expected {
            assert!(told.contains(part), "{text}\n{part:?} is not in\n{told}");
        }
    }
}

#[test]
fn columns_count_characters_and_not_bytes() {
    let told = refused("// Öl\nforbid (principal, action, resource) when { \"ÖÖÖ\" == context.usr };");
    assert!(told.starts_with("line 2, column 54"), "{told}");
}

#[test]
fn a_message_is_one_line_of_plain_text() {
    let with = |message: &str| format!("@message(\"{message}\") forbid (principal, action, resource);");
    for right in ["Ask ops: it's the yearly audit.", &"x".repeat(300), "Grüße"] {
        parse(&with(right)).unwrap();
    }
    for wrong in ["", " ", &"x".repeat(301), r"a\nb", "<b>no</b>", "a\u{202e}b", "a\u{200b}b"] {
        assert!(refused(&with(wrong)).starts_with("line 1, column 1: @message"), "{wrong:?}");
    }
}

#[test]
fn texts_that_nest_without_end_are_refused_and_break_nothing() {
    let when = |body: String| format!("forbid (principal, action, resource) when {{ {body} }};");
    for body in [
        "(".repeat(16_000),
        "[".repeat(16_000),
        format!("{}1", "-".repeat(16_000)),
        "!".repeat(16_000),
        "if true then ".repeat(1_200),
        "true && ".repeat(2_000),
        format!("context{}", ".a".repeat(7_900)),
        format!("context has a{}", ".a".repeat(7_900)),
        "{a:".repeat(5_000),
    ] {
        assert!(!refused(&when(body)).is_empty());
    }
}

/// The largest that is taken parses, validates and evaluates on the stack of a task.
#[test]
fn the_largest_texts_are_handled_on_a_small_stack() {
    let texts = [
        vec!["context.now > 1"; 257].join(" && "),
        vec!["context.now > 1"; 257].join(" || "),
        format!("{}context.now > 1{}", "(".repeat(31), ")".repeat(31)),
        format!("{}1 > 0", "1 + ".repeat(256)),
        format!("{}true", "if context.now > 1 then true else ".repeat(256)),
        format!("[{}].contains(context.user)", vec![r#""12345678""#; 1_200].join(", ")),
    ];
    let handled = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for body in texts {
            let began = std::time::Instant::now();
            let policy = parse(&format!("forbid (principal, action, resource) when {{ {body} }};"));
            assert!(policy.is_ok(), "{policy:?}");
            assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
        }
    });
    handled.unwrap().join().unwrap();
}
