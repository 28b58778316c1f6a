//! What the trail is told of tools, servers and credentials: by whom, with the change or not at all, and nothing that
//! a stranger may not read.

use prost::Message;
use proto::{
    audit::v1::{Action, Event, Result as Outcome},
    registry::v1::{
        ApproveDefinitionRequest, Fallback, FallbackCondition, RemoveServerRequest, SetFallbacksRequest,
        SetToolStatusRequest, ToolSettings, ToolStatus, UpdateToolRequest,
    },
};
use serde_json::{Value, json};

use super::{
    servers::{Program, listing, tool},
    *,
};

/// What waits for the audit service, in the order in which it was written.
pub(super) async fn written(database: &Database) -> Vec<Event> {
    let select = "SELECT payload FROM registry.outbox WHERE destination = 'audit' ORDER BY id";
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(select).fetch_all(database.pool().unwrap()).await.unwrap();
    rows.iter().map(|row| Event::decode(row.as_slice()).unwrap()).collect()
}

/// Forgets it.
async fn forget(database: &Database) {
    sqlx::query("DELETE FROM registry.outbox").execute(database.pool().unwrap()).await.unwrap();
}

/// Whom, which tool and version, and what.
fn told(event: &Event) -> (&str, &str, &str, &str) {
    (&event.agent_id, &event.tool_name, &event.tool_version, &event.message)
}

#[tokio::test]
async fn whatever_is_done_with_a_tool_is_told_with_who_did_it() {
    let database = database().await;
    let registry = registry(&config(), &database);
    let mut client = registry.client.clone();
    let register = |definition| registration(definition);
    client.register_tool(request!(registry, "team", register(definition("weather")))).await.unwrap();
    let needs = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
    let next = ToolDefinition { input_schema_json: needs.into(), ..definition("weather") };
    let next = client.register_tool(request!(registry, "team", register(next.clone()))).await.unwrap();
    let next = next.into_inner().tool.unwrap();
    // The same again, and what is refused, are no changes.
    let same = next.definition.clone().unwrap();
    client.register_tool(request!(registry, "team", register(same))).await.unwrap();
    let settings = Some(ToolSettings { timeout_ms: 7_000, ..ToolSettings::default() });
    let update =
        UpdateToolRequest { name: "weather".into(), settings, etag: "99".into(), ..Default::default() };
    client.update_tool(request!(registry, "team", update.clone())).await.unwrap_err();
    let update = UpdateToolRequest { etag: String::new(), ..update };
    client.update_tool(request!(registry, "team", update)).await.unwrap();
    client.register_tool(request!(registry, "team", register(definition("other")))).await.unwrap();
    let fallback = Fallback {
        tool: "other".into(),
        conditions: vec![FallbackCondition::Any.into()],
        ..Fallback::default()
    };
    let set = SetFallbacksRequest { name: "weather".into(), fallbacks: vec![fallback], ..Default::default() };
    client.set_fallbacks(request!(registry, "team", set)).await.unwrap();
    let set = SetToolStatusRequest { name: "weather".into(), status: ToolStatus::Disabled.into() };
    client.set_tool_status(request!(registry, "team", set)).await.unwrap();

    let events = written(&database).await;
    let major = "version 2.0.0 was registered, a major change: the arguments: city is required now (/input_schema/required)";
    let expected = [
        ("tester", "weather", "1.0.0", "version 1.0.0 was registered"),
        ("tester", "weather", "2.0.0", major),
        ("tester", "weather", "2.0.0", "its settings were changed: timeout_ms"),
        ("tester", "other", "1.0.0", "version 1.0.0 was registered"),
        ("tester", "weather", "2.0.0", "its settings were changed: fallbacks (other)"),
        ("tester", "weather", "2.0.0", "its status was set to disabled; it was active"),
    ];
    assert_eq!(events.iter().map(told).collect::<Vec<_>>(), expected);
    let is_whole = |event: &Event| {
        event.action() == Action::DefinitionChanged
            && event.result() == Outcome::Success
            && event.team_id == "team"
            && event.tool_digest.len() == 64
    };
    assert!(events.iter().all(is_whole), "{events:?}");
    assert!(events[1].tool_digest == next.digest && events[0].tool_digest != next.digest);
    assert!(events.windows(2).all(|two| two[0].id < two[1].id), "each has an id of its own");
    registry.stop().await;
}

/// A listing of one tool that says so of itself.
fn saying(description: &str) -> Value {
    let mut tool = tool("a");
    tool["description"] = description.into();
    json!({"tools": [tool]})
}

#[tokio::test]
async fn what_a_server_does_with_its_tools_is_told_of_the_suite_and_nothing_of_their_words() {
    let program = Program::new(&saying("Canary one."));
    let database = database().await;
    let registry = registry(&config(), &database);
    registry.add(program.request("srv")).await;
    program.write(&saying("Canary two."));
    registry.refresh("srv").await;
    registry.refresh("srv").await;
    let waits = registry.get("srv.a").await.unwrap().pending.unwrap();
    let decide = |digest: &str, reject| ApproveDefinitionRequest {
        name: "srv.a".into(),
        digest: digest.into(),
        reject,
        note: "looks right".into(),
    };
    let show = request!(registry, "team", decide("", false));
    registry.client.clone().approve_definition(show).await.unwrap();
    let approve = request!(registry, "team", decide(&waits.digest, false));
    registry.client.clone().approve_definition(approve).await.unwrap();
    program.write(&listing(&[]));
    registry.refresh("srv").await;
    program.write(&saying("Canary two."));
    registry.refresh("srv").await;
    program.write(&saying("Canary three."));
    registry.refresh("srv").await;
    let waits = registry.get("srv.a").await.unwrap().pending.unwrap();
    let reject = request!(registry, "team", decide(&waits.digest, true));
    registry.client.clone().approve_definition(reject).await.unwrap();
    let remove = request!(registry, "team", RemoveServerRequest { name: "srv".into() });
    registry.client.clone().remove_server(remove).await.unwrap();

    let events = written(&database).await;
    let patch = "version 1.0.1 of MCP server srv waits for approval, a patch change: the description is another \
                 (/description)";
    let third = patch.replace("1.0.1", "1.0.2");
    let expected = [
        ("tester", "", "", "MCP server srv was registered, at python3"),
        ("", "srv.a", "1.0.0", "version 1.0.0 of MCP server srv serves"),
        ("", "srv.a", "1.0.1", patch),
        ("tester", "srv.a", "1.0.1", "version 1.0.1 was approved: looks right"),
        ("", "srv.a", "1.0.1", "it was withdrawn: MCP server srv does not offer it"),
        ("", "srv.a", "1.0.1", "MCP server srv offers it again"),
        ("", "srv.a", "1.0.2", third.as_str()),
        ("tester", "srv.a", "1.0.2", "version 1.0.2 was rejected: looks right"),
        ("tester", "", "", "MCP server srv was removed"),
        ("tester", "srv.a", "1.0.1", "it was withdrawn: its MCP server srv was removed"),
    ];
    assert_eq!(events.iter().map(told).collect::<Vec<_>>(), expected);
    let of_tools = || events.iter().filter(|event| !event.tool_name.is_empty());
    assert!(of_tools().all(|event| event.tool_digest.len() == 64), "{events:?}");
    let whole = format!("{events:?}");
    for canary in ["Canary", "hush-hush-hush", "server.py"] {
        assert!(!whole.contains(canary), "{canary} is told: {whole}");
    }
    registry.stop().await;
}

#[tokio::test]
async fn a_long_discovery_tells_each_tool_once_and_all_in_its_one_transaction() {
    let names: Vec<String> = (0..209).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let program = Program::new(&listing(&names));
    let database = database().await;
    let strict = Config { trust_policy: TrustPolicy::ApproveEverything, ..config() };
    let registry = registry(&strict, &database);
    registry.add(program.request("srv")).await;
    let events = written(&database).await;
    let mut told: Vec<&str> = events.iter().map(|event| event.tool_name.as_str()).collect();
    told.sort_unstable();
    told.dedup();
    assert_eq!((events.len(), told.len()), (210, 210), "the server, and each tool once");
    assert!(events[1..].iter().all(|event| event.message.ends_with("waits for approval")), "{events:?}");
    let transactions: i64 = sqlx::query_scalar("SELECT count(DISTINCT xmin::text) FROM registry.outbox")
        .fetch_one(database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!(transactions, 2, "the registration, and the discovery");
    forget(&database).await;
    registry.refresh("srv").await;
    assert!(written(&database).await.is_empty(), "nothing changed, nothing is told");
    registry.stop().await;
}

#[tokio::test]
async fn what_cannot_be_told_is_not_done() {
    let database = database().await;
    let registry = registry(&config(), &database);
    let pool = database.pool().unwrap();
    sqlx::query("ALTER TABLE registry.outbox RENAME TO away").execute(pool).await.unwrap();
    let register = request!(registry, "team", registration(definition("weather")));
    registry.client.clone().register_tool(register).await.unwrap_err();
    sqlx::query("ALTER TABLE registry.away RENAME TO outbox").execute(pool).await.unwrap();
    assert!(registry.get("weather").await.is_none());
    assert!(written(&database).await.is_empty());
    registry.stop().await;
}
