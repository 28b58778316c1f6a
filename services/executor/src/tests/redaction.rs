//! What operators add to redaction, and what they leave out, holds for arguments, results, failures and refusals.

use proto::{
    executor::v1::ExecutionStatus,
    registry::v1::{
        Fallback, FallbackCondition as On, RedactionPattern, RedactionSettings, ToolDefinition, ToolSettings,
    },
};
use serde_json::json;

use super::{
    fakes::{Fakes, Mood},
    house::{House, TEAM, ended, execution, posting, request, retries},
    upstream::{Upstream, json as answer},
};

fn config() -> redact::Config {
    let text = json!({
        "keys": ["badge_no"],
        "teams": {TEAM: {"off": ["email"], "patterns": [{"name": "case", "pattern": r"CASE-\d{6}"}]}},
    });
    serde_json::from_value(text).unwrap()
}

fn adding(key: &str, pattern: &str) -> ToolSettings {
    let patterns = vec![RedactionPattern { name: "seat".into(), pattern: pattern.into() }];
    ToolSettings {
        redaction: Some(RedactionSettings { keys: vec![key.into()], patterns }),
        retry: Some(retries(0)),
        ..ToolSettings::default()
    }
}

#[tokio::test]
async fn a_teams_and_a_tools_rules_hold_for_arguments_results_and_failures() {
    let house = House::keeping_to(&config()).await;
    Fakes::set(&house.fakes.audit, Mood::Down);
    Fakes::set(&house.fakes.selector, Mood::Down);
    let told = json!({"badge_no": "b-hidden", "seat": "s-hidden", "note": "CASE-123456 in ROW-77, a@b.com"});
    let body = told.to_string();
    let server = Upstream::new(move |seen| {
        let body = body.clone();
        async move { if seen.body.contains("fail") { answer(400, &body) } else { answer(200, &body) } }
    })
    .await;
    house.add_with(posting("tool", &server.url), adding("seat", r"ROW-\d{1,6}"));
    let done = execution(house.execute(request("tool", &told.to_string())).await);
    let expected =
        json!({"badge_no": "[redacted]", "note": "[redacted] in [redacted], a@b.com", "seat": "[redacted]"});
    assert_eq!(serde_json::from_str::<serde_json::Value>(&done.arguments_json).unwrap(), expected);
    // Its caller has the result as it is.
    assert!(done.result_json.contains("CASE-123456"));
    let stored = house.texts("SELECT result_json::text FROM executor.execution").await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&stored[0]).unwrap(), expected);
    let (_, message) = ended(house.execute(request("tool", r#"{"fail":1}"#)).await, ExecutionStatus::Failed);
    for hidden in ["hidden", "CASE-1", "ROW-7"] {
        assert!(!message.contains(hidden), "{message}");
    }
    // Without the tool's own settings only the team's hold.
    let well = Upstream::well().await;
    house.add(posting("plain", &well.url));
    let done = execution(house.execute(request("plain", r#"{"note":"CASE-123456 in ROW-99"}"#)).await);
    assert_eq!(done.arguments_json, r#"{"note":"[redacted] in ROW-99"}"#);
    let strict = r#"{"type":"object","additionalProperties":false}"#;
    house.add_with(
        ToolDefinition { input_schema_json: strict.into(), ..posting("strict", &server.url) },
        adding("seat", r"ROW-\d{1,6}"),
    );
    house.execute(request("strict", &told.to_string())).await.unwrap_err();
    let events = house.texts("SELECT encode(payload, 'escape') FROM executor.outbox").await.join("\n");
    assert!(events.contains("strict") && events.contains("[redacted]"), "{events}");
    for hidden in ["hidden", "ROW-77", "CASE-1"] {
        assert!(!events.contains(hidden), "{events}");
    }
}

#[tokio::test]
async fn what_a_fallback_adds_holds_once_it_was_asked() {
    let house = House::keeping_to(&config()).await;
    let broken = Upstream::new(|_| async { answer(503, "away") }).await;
    let other = Upstream::new(|_| async { answer(200, r#"{"seat":"s-hidden","note":"ROW-77"}"#) }).await;
    let fallback = Fallback { tool: "other".into(), conditions: vec![On::Any.into()], ..Fallback::default() };
    let settings =
        ToolSettings { retry: Some(retries(0)), fallbacks: vec![fallback], ..ToolSettings::default() };
    house.add_with(super::cache::read_only(posting("tool", &broken.url)), settings);
    house.add_with(super::cache::read_only(posting("other", &other.url)), adding("seat", r"ROW-\d{1,6}"));
    let done = execution(house.execute(request("tool", "{}")).await);
    assert!(done.result_json.contains("ROW-77"), "{done:?}");
    let stored = house.texts("SELECT result_json::text FROM executor.execution").await;
    assert_eq!(stored.len(), 1);
    assert!(!stored[0].contains("hidden") && !stored[0].contains("ROW-77"), "{stored:?}");
}
