//! What changes beside the schemas, and what the version says of it.

use super::*;

#[test]
fn what_is_not_the_schemas() {
    type Edit = fn(&mut Definition);
    let edits: [(Kind, &str, Edit); 20] = [
        (B, "/name", |d| d.name.push('x')),
        (P, "/title", |d| d.title.push('x')),
        (P, "/description", |d| d.description.push('x')),
        (B, "/category", |d| d.category = Category::Custom),
        (A, "/capabilities", |d| d.capabilities.push("search".into())),
        (B, "/capabilities", |d| d.capabilities.clear()),
        (B, "/effect", |d| d.effect = Effect::SideEffect),
        (A, "/effect", |d| d.effect = Effect::ReadOnly),
        (B, "/sensitivity", |d| d.sensitivity = Sensitivity::Restricted),
        (A, "/sensitivity", |d| d.sensitivity = Sensitivity::Public),
        (P, "/provider", |d| d.provider.push('x')),
        (P, "/timeout_ms", |d| d.timeout_ms = 1_000),
        (P, "/rate_limit_per_minute", |d| d.rate_limit_per_minute = 1),
        (P, "/cost_micro_usd", |d| d.cost_micro_usd = 1),
        (P, "/labels", |d| drop(d.labels.insert("a".into(), "b".into()))),
        (P, "/examples/0", |d| {
            d.examples =
                vec![Example { description: "x".into(), arguments: "{}".into(), result: String::new() }];
        }),
        (B, "/binding", |d| d.binding = Binding::Builtin(Builtin { name: "echo".into() })),
        (B, "/binding/http/method", |d| d.binding = Binding::Http(Http::new("POST", "https://example.com/"))),
        (B, "/binding/http/url", |d| d.binding = Binding::Http(Http::new("GET", "https://evil.example/"))),
        (P, "/binding/http/credentials", |d| {
            let credential = CredentialUse { credential: "k".into(), place: None, prefix: String::new() };
            d.binding = Binding::Http(Http {
                credentials: vec![credential],
                ..Http::new("GET", "https://example.com/")
            });
        }),
    ];
    let before = Definition {
        effect: Effect::Idempotent,
        sensitivity: Sensitivity::Internal,
        binding: Binding::Http(Http::new("GET", "https://example.com/")),
        ..plain()
    };
    for (kind, path, edit) in edits {
        let mut after = before.clone();
        edit(&mut after);
        assert_eq!(told(&before, &after), (Some(kind), vec![path.to_owned()]));
    }
    let mcp = |tool: &str, url: &str| {
        let transport = mcp::Transport::Http { url: url.into(), headers: [].into() };
        let binding = Mcp { server: "s".into(), tool: tool.into(), transport, credentials: vec![] };
        Definition { binding: Binding::Mcp(binding), ..plain() }
    };
    let stands = mcp("t", "http://a/");
    assert_eq!(told(&stands, &mcp("u", "http://a/")), (Some(B), vec!["/binding/mcp/tool".into()]));
    assert_eq!(told(&stands, &mcp("t", "http://b/")), (Some(B), vec!["/binding/mcp/transport".into()]));
    let versioned = Definition { version: "9.0.0".into(), ..before.clone() };
    assert_eq!(told(&before, &versioned), (None, vec![]));
}

#[test]
fn versions_say_what_changed() {
    for (newest, highest, kind, next) in [
        ("1.4.2", "1.4.2", P, "1.4.3"),
        ("1.4.2", "1.4.2", A, "1.5.0"),
        ("1.4.2", "1.4.2", B, "2.0.0"),
        ("0.4.2", "0.4.2", B, "0.5.0"),
        ("0.4.2", "0.4.2", P, "0.4.3"),
        // One that waits or was rejected keeps its version.
        ("1.4.2", "2.0.0", P, "2.0.1"),
        ("1.4.2", "2.0.0", B, "2.0.1"),
        ("1.4.2", "1.4.9", A, "1.5.0"),
        ("2.0.0-rc.1", "2.0.0-rc.1", P, "2.0.1"),
        // One of before there was a limit.
        ("18446744073709551615.0.0", "18446744073709551615.0.0", B, "18446744073709551615.0.1"),
        ("1.18446744073709551615.0", "1.18446744073709551615.0", A, "1.18446744073709551615.1"),
    ] {
        assert_eq!(next_version(newest, highest, kind), next, "{newest}, {highest}, {kind:?}");
        assert!(says_enough(next, newest, kind));
    }
    assert!(!says_enough("1.9.0", "1.4.2", B) && says_enough("2.0.0-rc.1", "1.4.2", B));
    assert!(says_enough("0.4.3", "0.4.2", B), "nothing is promised below 1.0.0");
}
