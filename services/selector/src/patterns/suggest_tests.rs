//! Each suggestion with its evidence, and none without it.

use std::sync::Arc;

use chrono::DateTime;
use proto::registry::v1::{
    Binding, BuiltinBinding, CacheSettings, Fallback, HttpBinding, ToolDefinition, ToolSettings,
};

use super::*;

fn definition(name: &str) -> ToolDefinition {
    ToolDefinition {
        name: name.into(),
        effect: wire::Effect::ReadOnly.into(),
        category: wire::Category::WebSearch.into(),
        capabilities: vec!["Search".into()],
        timeout_ms: 30_000,
        binding: Some(Binding { kind: Some(BindingKind::Http(HttpBinding::default())) }),
        ..ToolDefinition::default()
    }
}

fn tool_of(definition: ToolDefinition, settings: ToolSettings) -> Tool {
    Tool {
        status: ToolStatus::Active.into(),
        definition: Some(definition),
        settings: Some(settings),
        ..Tool::default()
    }
}

fn tools(tools: Vec<Tool>) -> TeamTools {
    tools.into_iter().map(|tool| (tool.definition.clone().unwrap().name, Arc::new(tool))).collect()
}

/// Calls that took so long: successes, failures, and failures that were cut off.
fn used(successes: &[(i64, f64)], failures: &[(i64, f64)], cut_off: &[(i64, f64)]) -> ToolUse {
    let mut used = ToolUse::default();
    for (calls, duration_ms) in successes {
        used.succeeded[bucket(*duration_ms)] += calls;
        (used.calls, used.successes) = (used.calls + calls, used.successes + calls);
    }
    for (calls, duration_ms) in failures.iter().chain(cut_off) {
        used.failed[bucket(*duration_ms)] += calls;
        used.calls += calls;
    }
    for (calls, duration_ms) in cut_off {
        used.timed_out[bucket(*duration_ms)] += calls;
    }
    used
}

fn repeating(cacheable: i64, repeated: i64, cached: i64) -> ToolUse {
    ToolUse { cacheable, repeated, cached, ..used(&[(cacheable, 50.0)], &[], &[]) }
}

/// What is suggested of a tool alone.
fn alone(tool: Tool, used: ToolUse) -> Vec<Suggestion> {
    let name = tool.definition.as_ref().unwrap().name.clone();
    suggestions(&[(name, used)].into(), &tools(vec![tool]), &[])
}

fn plain() -> Tool {
    tool_of(definition("tool"), ToolSettings::default())
}

#[test]
fn equal_calls_of_a_tool_that_changes_nothing_are_worth_a_cache() {
    let found = alone(plain(), repeating(20, 6, 0));
    assert_eq!((found.len(), found[0].kind, found[0].calls), (1, Kind::CacheThis, 6));
    assert!(found[0].text.contains("6 of 20 calls"), "{found:?}");
    assert!(
        found[0].text.ends_with("toolcrib tools set tool cache.enabled=true cache.ttl_s=86400"),
        "{found:?}"
    );
}

#[test]
fn a_cache_is_not_suggested_without_its_evidence_nor_where_none_would_be_kept() {
    assert!(alone(plain(), repeating(19, 19, 0)).is_empty(), "too few calls");
    assert!(alone(plain(), repeating(100, 29, 0)).is_empty(), "too few repeats");
    assert!(alone(plain(), repeating(100, 50, 30)).is_empty(), "a cache answered most of them");
    let cache = Some(CacheSettings { enabled: true, ..CacheSettings::default() });
    let kept = tool_of(definition("tool"), ToolSettings { cache, ..ToolSettings::default() });
    assert!(alone(kept, repeating(100, 90, 0)).is_empty(), "it has one");
    let changes = [
        ToolDefinition { effect: wire::Effect::Idempotent.into(), ..definition("tool") },
        ToolDefinition { effect: wire::Effect::Unspecified.into(), ..definition("tool") },
        ToolDefinition { sensitivity: wire::Sensitivity::Restricted.into(), ..definition("tool") },
        ToolDefinition {
            binding: Some(Binding { kind: Some(BindingKind::Builtin(BuiltinBinding::default())) }),
            ..definition("tool")
        },
    ];
    for changed in changes {
        let found = alone(tool_of(changed.clone(), ToolSettings::default()), repeating(100, 90, 0));
        assert!(found.is_empty(), "{changed:?}: {found:?}");
    }
}

#[test]
fn calls_that_wait_long_after_any_answer_could_come_should_fail_sooner() {
    let found = alone(plain(), used(&[(100, 900.0)], &[], &[(3, 30_001.0)]));
    assert_eq!((found.len(), found[0].kind, found[0].calls), (1, Kind::LowerTimeout, 3));
    // 900 ms lie below 2^10 = 1,024 ms; three times that, in hundreds.
    assert_eq!(found[0].timeout_ms, 3_100);
    assert!(found[0].text.ends_with("toolcrib tools set tool timeout_ms=3100"), "{found:?}");
    let quick = alone(plain(), used(&[(100, 20.0)], &[(1, 29_000.0)], &[]));
    assert_eq!(quick[0].timeout_ms, 1_000, "the registry takes no less");
}

#[test]
fn a_timeout_is_not_lowered_without_a_call_that_waited_nor_where_it_is_not_long() {
    assert!(alone(plain(), used(&[(100, 900.0)], &[], &[])).is_empty(), "no one waited");
    assert!(alone(plain(), used(&[(100, 900.0)], &[(9, 100.0)], &[])).is_empty(), "they failed at once");
    assert!(alone(plain(), used(&[(19, 900.0)], &[], &[(3, 30_001.0)])).is_empty(), "too few calls");
    assert!(
        alone(plain(), used(&[(98, 900.0), (2, 7_000.0)], &[], &[(3, 30_001.0)])).is_empty(),
        "some take long"
    );
    let short = ToolSettings { timeout_ms: 1_500, ..ToolSettings::default() };
    let found = alone(tool_of(definition("tool"), short), used(&[(100, 100.0)], &[], &[(3, 1_501.0)]));
    assert_eq!(found[0].timeout_ms, 1_000, "the settings count, not the definition: {found:?}");
    let shortest = ToolSettings { timeout_ms: 1_000, ..ToolSettings::default() };
    assert!(
        alone(tool_of(definition("tool"), shortest), used(&[(100, 10.0)], &[], &[(3, 1_001.0)])).is_empty()
    );
}

#[test]
fn calls_that_are_cut_off_while_others_just_make_it_should_have_longer() {
    let found = alone(plain(), used(&[(60, 1_000.0), (20, 25_000.0)], &[], &[(10, 30_001.0)]));
    assert_eq!((found.len(), found[0].kind, found[0].calls), (1, Kind::RaiseTimeout, 10));
    assert_eq!(found[0].timeout_ms, 60_000);
    assert!(found[0].text.contains("10 of 90 calls were cut off"), "{found:?}");
}

#[test]
fn a_timeout_is_not_raised_without_calls_close_below_nor_beyond_what_may_be_set() {
    let far = used(&[(80, 10_000.0)], &[], &[(10, 30_001.0)]);
    assert!(alone(plain(), far).is_empty(), "none ended close below");
    let rare = used(&[(80, 25_000.0)], &[], &[(8, 30_001.0)]);
    assert!(alone(plain(), rare).is_empty(), "too few were cut off");
    let callers = used(&[(80, 25_000.0)], &[], &[(20, 2_000.0)]);
    assert!(alone(plain(), callers).is_empty(), "their callers gave them less time");
    let longest = ToolSettings { timeout_ms: 300_000, ..ToolSettings::default() };
    let slow = used(&[(80, 250_000.0)], &[], &[(20, 300_001.0)]);
    assert!(alone(tool_of(definition("tool"), longest), slow).is_empty(), "it cannot be longer");
}

/// What is suggested where `other` does well and `tool` fails with 30 %.
fn beside(tool: Tool, other: Tool, of_other: ToolUse) -> Vec<Suggestion> {
    let uses = [("tool".into(), used(&[(70, 50.0)], &[(30, 50.0)], &[])), ("other".into(), of_other)];
    suggestions(&uses.into(), &tools(vec![tool, other]), &[])
}

fn sound() -> ToolUse {
    used(&[(95, 50.0)], &[(5, 50.0)], &[])
}

fn other() -> Tool {
    tool_of(definition("other"), ToolSettings::default())
}

#[test]
fn a_tool_that_fails_should_have_one_that_does_the_same_and_does_not() {
    let found = beside(plain(), other(), sound());
    assert_eq!((found.len(), found[0].kind, found[0].calls), (1, Kind::AddFallback, 30));
    assert_eq!((found[0].tool_name.as_str(), found[0].fallback_tool.as_str()), ("tool", "other"));
    assert!(found[0].text.contains("toolcrib tools fallbacks tool --add other"), "{found:?}");
    assert!(found[0].text.contains("30 of 100 calls") && found[0].text.contains("95 %"), "{found:?}");
}

#[test]
fn no_fallback_is_suggested_without_need_nor_one_that_cannot_stand_in() {
    let fallbacks = vec![Fallback { tool: "third".into(), ..Fallback::default() }];
    let has_one = tool_of(definition("tool"), ToolSettings { fallbacks, ..ToolSettings::default() });
    assert!(beside(has_one, other(), sound()).is_empty(), "it has one");
    assert!(beside(plain(), other(), used(&[(19, 50.0)], &[], &[])).is_empty(), "too little is known");
    assert!(beside(plain(), other(), used(&[(85, 50.0)], &[(15, 50.0)], &[])).is_empty(), "it fails as well");
    let changes = [
        ToolDefinition { category: wire::Category::FileIo.into(), ..definition("other") },
        ToolDefinition { capabilities: vec!["retrieve".into()], ..definition("other") },
        ToolDefinition { effect: wire::Effect::SideEffect.into(), ..definition("other") },
        ToolDefinition { sensitivity: wire::Sensitivity::Public.into(), ..definition("other") },
    ];
    for changed in changes {
        let found = beside(plain(), tool_of(changed.clone(), ToolSettings::default()), sound());
        assert!(found.is_empty(), "{changed:?}: {found:?}");
    }
    let disabled = Tool { status: ToolStatus::Disabled.into(), ..other() };
    assert!(beside(plain(), disabled, sound()).is_empty());
    let uses = [("tool".into(), used(&[(80, 50.0)], &[(20, 50.0)], &[])), ("other".into(), sound())];
    assert!(suggestions(&uses.into(), &tools(vec![plain(), other()]), &[]).is_empty(), "80 % is enough");
}

#[test]
fn an_alarm_comes_first_and_says_what_it_knows() {
    let alarm = AlarmRow {
        tool_name: "other".into(),
        start_time: DateTime::UNIX_EPOCH,
        rate_before: 0.98,
        rate_since: 0.2,
        failure_reason: "UPSTREAM_AUTH".into(),
    };
    let uses = [("tool".into(), repeating(1_000, 900, 0))];
    let found = suggestions(&uses.into(), &tools(vec![plain(), other()]), std::slice::from_ref(&alarm));
    assert_eq!(found.iter().map(|it| it.kind).collect::<Vec<_>>(), [Kind::Investigate, Kind::CacheThis]);
    let text = &found[0].text;
    assert!(text.contains("20 % of its calls succeed, 98 % did before, mostly UPSTREAM_AUTH"), "{text}");
    assert!(text.ends_with("toolcrib metrics other"), "{text}");
}
