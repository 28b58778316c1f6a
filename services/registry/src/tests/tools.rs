//! Tools are registered, found, listed and switched off; versions never change.

use std::collections::BTreeMap;

use ::rpc::{ErrorReason, reason_of};
use prost_types::{Struct, Value, value};
use proto::{
    registry::v1::{
        ChangeKind, GetToolRequest, HttpBinding, ListToolVersionsRequest, ListToolsRequest, McpBinding,
        RegisterToolRequest, RegisterToolResponse, SetToolStatusRequest, ToolStatus, binding::Kind,
        get_tool_request::Key,
    },
    types::v1::{Effect, Sensitivity},
};

use super::*;

async fn register(registry: &Registry, team: &str, definition: ToolDefinition) -> RegisterToolResponse {
    let request = request!(registry, team, registration(definition));
    registry.client.clone().register_tool(request).await.unwrap().into_inner()
}

async fn refuse(registry: &Registry, request: RegisterToolRequest) -> (Option<ErrorReason>, String) {
    let request = request!(registry, "team", request);
    let status = registry.client.clone().register_tool(request).await.unwrap_err();
    (reason_of(&status), status.message().to_owned())
}

fn version(response: &RegisterToolResponse) -> &str {
    &response.tool.as_ref().unwrap().definition.as_ref().unwrap().version
}

#[tokio::test]
async fn a_version_never_changes_and_the_same_again_is_the_same() {
    let registry = registry(&config(), &database().await);
    let first = register(&registry, "team", definition("weather")).await;
    assert!(first.created);
    assert_eq!(version(&first), "1.0.0");
    let tool = first.tool.clone().unwrap();
    assert_eq!((tool.status(), tool.team_id.as_str()), (ToolStatus::Active, "team"));
    let stored = tool.definition.clone().unwrap();
    assert_eq!((stored.effect(), stored.sensitivity()), (Effect::SideEffect, Sensitivity::Internal));
    assert_eq!((stored.timeout_ms, stored.rate_limit_per_minute), (30_000, 60));

    let spelled = ToolDefinition {
        input_schema_json: r#"{ "properties": {"city": {"type": "string"}}, "type": "object" }"#.into(),
        ..definition("weather")
    };
    for again in [definition("weather"), stored, spelled] {
        let again = register(&registry, "team", again).await;
        assert!(!again.created);
        assert_eq!(again.tool.unwrap().id, tool.id);
    }

    let changed = ToolDefinition { description: "Tells the weather!".into(), ..definition("weather") };
    let second = register(&registry, "team", changed.clone()).await;
    assert!(second.created);
    assert_eq!(version(&second), "1.0.1");
    assert_eq!(second.changes.len(), 1, "{:?}", second.changes);
    assert_eq!(
        (second.changes[0].kind(), second.changes[0].path.as_str()),
        (ChangeKind::Patch, "/description")
    );
    assert_ne!(second.tool.as_ref().unwrap().digest, tool.digest);
    let limits = ToolDefinition { timeout_ms: 5_000, ..changed.clone() };
    let third = register(&registry, "team", limits).await;
    assert_eq!((third.created, version(&third)), (true, "1.0.2"));
    assert_eq!(third.tool.unwrap().digest, second.tool.unwrap().digest, "a limit steers nobody");

    let taken = ToolDefinition { version: "1.0.0".into(), ..changed.clone() };
    let (reason, message) = refuse(&registry, registration(taken)).await;
    assert_eq!(reason, Some(ErrorReason::AlreadyExists));
    assert!(message.contains("the definition of a version never changes"), "{message}");
    let old = ToolDefinition { version: "1.0.1-rc.1".into(), ..changed.clone() };
    let (reason, message) = refuse(&registry, registration(old)).await;
    assert_eq!(reason, Some(ErrorReason::InvalidRequest));
    assert!(message.contains("definition.version") && message.contains("1.0.2"), "{message}");
    let jump = ToolDefinition { version: "3.0.0-rc.1".into(), ..changed };
    assert_eq!(version(&register(&registry, "team", jump).await), "3.0.0-rc.1");

    let request = request!(registry, "team", ListToolVersionsRequest { name: "weather".into() });
    let versions = registry.client.clone().list_tool_versions(request).await.unwrap().into_inner().tools;
    let versions: Vec<_> = versions.into_iter().map(|tool| tool.definition.unwrap().version).collect();
    assert_eq!(versions, ["3.0.0-rc.1", "1.0.2", "1.0.1", "1.0.0"]);
    registry.stop().await;
}

#[tokio::test]
async fn the_kind_of_change_decides_the_next_version() {
    let registry = registry(&config(), &database().await);
    register(&registry, "team", definition("weather")).await;
    let with = |schema: &str| ToolDefinition { input_schema_json: schema.into(), ..definition("weather") };
    let wider = r#"{"type":"object","properties":{"city":{"type":"string"},"unit":{"type":"string"}}}"#;
    let added = register(&registry, "team", with(wider)).await;
    assert_eq!((version(&added), added.changes[0].kind()), ("1.1.0", ChangeKind::Addition));
    assert_eq!(added.changes[0].path, "/input_schema/properties/unit");
    let narrower = with(
        r#"{"type":"object","properties":{"city":{"type":"string"},"unit":{"type":"string"}},"required":["city"]}"#,
    );
    let small = ToolDefinition { version: "1.9.0".into(), ..narrower.clone() };
    let (reason, message) = refuse(&registry, registration(small)).await;
    assert_eq!(reason, Some(ErrorReason::InvalidRequest));
    for says in ["definition.version", "city is required now", "/input_schema/required", "2.0.0"] {
        assert!(message.contains(says), "{says} in {message}");
    }
    let broken = register(&registry, "team", narrower).await;
    assert_eq!((version(&broken), broken.changes[0].kind()), ("2.0.0", ChangeKind::Breaking));
    assert_eq!(broken.changes[0].after_json, "\"city\"");
    registry.stop().await;
}

#[tokio::test]
async fn every_violation_is_told_at_once_and_nothing_is_kept() {
    let database = database().await;
    let registry = registry(&config(), &database);
    let wrong = ToolDefinition {
        description: String::new(),
        input_schema_json: r#"{"type":"object","$ref":"https://example.com/x"}"#.into(),
        timeout_ms: 1,
        binding: Some(Binding {
            kind: Some(Kind::Http(HttpBinding {
                method: "FETCH".into(),
                url: "ftp://x".into(),
                ..HttpBinding::default()
            })),
        }),
        ..definition("Weather!")
    };
    let (reason, message) = refuse(&registry, registration(wrong)).await;
    assert_eq!(reason, Some(ErrorReason::InvalidRequest));
    for field in
        ["name", "description", "input_schema_json", "timeout_ms", "binding.http.method", "binding.http.url"]
    {
        assert!(message.contains(&format!("definition.{field}")), "{field} in {message}");
    }
    let mcp = Binding { kind: Some(Kind::Mcp(McpBinding::default())) };
    let (_, message) =
        refuse(&registry, registration(ToolDefinition { binding: Some(mcp), ..definition("a") })).await;
    assert!(message.contains("definition.binding.mcp"), "{message}");
    let unknown = ToolDefinition { effect: 99, sensitivity: 99, ..definition("a") };
    let (_, message) = refuse(&registry, registration(unknown)).await;
    assert!(message.contains("definition.effect") && message.contains("definition.sensitivity"), "{message}");
    assert_eq!(crate::store::revision(database.pool().unwrap()).await.unwrap(), 0);
    registry.stop().await;
}

#[tokio::test]
async fn people_may_write_schemas_as_structs() {
    let registry = registry(&config(), &database().await);
    let text = |text: &str| Value { kind: Some(value::Kind::StringValue(text.into())) };
    let number = |number| Value { kind: Some(value::Kind::NumberValue(number)) };
    let schema = |fields: BTreeMap<String, Value>| Struct { fields };
    let input = schema([("type".into(), text("object")), ("minProperties".into(), number(1.0))].into());
    let request = RegisterToolRequest {
        definition: Some(ToolDefinition { input_schema_json: String::new(), ..definition("weather") }),
        input_schema: Some(input.clone()),
        output_schema: Some(schema([("maximum".into(), number(0.5))].into())),
        ..RegisterToolRequest::default()
    };
    let both = RegisterToolRequest { definition: Some(definition("weather")), ..request.clone() };
    let request = request!(registry, "team", request);
    let made = registry.client.clone().register_tool(request).await.unwrap().into_inner();
    let stored = made.tool.unwrap().definition.unwrap();
    let stored_input: serde_json::Value = serde_json::from_str(&stored.input_schema_json).unwrap();
    assert_eq!(stored_input, serde_json::json!({"type": "object", "minProperties": 1}));
    assert_eq!(stored.output_schema_json, r#"{"maximum":0.5}"#);
    let (_, message) = refuse(&registry, both).await;
    assert!(message.contains("input_schema cannot be given together"), "{message}");
    registry.stop().await;
}

#[tokio::test]
async fn a_tool_is_found_by_id_name_and_version_in_its_team_only() {
    let registry = registry(&config(), &database().await);
    let first = register(&registry, "team", definition("weather_report")).await.tool.unwrap();
    let changed = ToolDefinition { title: "Weather".into(), ..definition("weather_report") };
    let second = register(&registry, "team", changed).await.tool.unwrap();
    let get = |team: &'static str, key: Key, version: &str| {
        let request = request!(registry, team, GetToolRequest { key: Some(key), version: version.into() });
        let mut client = registry.client.clone();
        async move { client.get_tool(request).await.map(|found| found.into_inner().tool.unwrap().id) }
    };
    let name = || Key::Name("weather_report".into());
    assert_eq!(get("team", name(), "").await.unwrap(), second.id);
    assert_eq!(get("team", name(), "1.0.0").await.unwrap(), first.id);
    assert_eq!(get("team", Key::Id(first.id.clone()), "").await.unwrap(), first.id);
    for (team, key, version, says) in [
        ("other", name(), "", "no tool"),
        ("other", Key::Id(first.id.clone()), "", "no tool"),
        ("team", name(), "9.9.9", "newest is 1.0.1"),
        ("team", Key::Name("weather_reprot".into()), "", "did you mean weather_report?"),
    ] {
        let status = get(team, key, version).await.unwrap_err();
        assert_eq!(reason_of(&status), Some(ErrorReason::ToolNotFound));
        assert!(status.message().contains(says), "{}", status.message());
    }
    let status = get("team", Key::Id("x".into()), "").await.unwrap_err();
    assert_eq!(reason_of(&status), Some(ErrorReason::InvalidRequest));
    let status = get("", name(), "").await.unwrap_err();
    assert_eq!(reason_of(&status), Some(ErrorReason::InvalidRequest), "a service must name a team");
    registry.stop().await;
}

#[tokio::test]
async fn a_status_holds_for_every_version_and_for_later_ones() {
    let registry = registry(&config(), &database().await);
    let before = register(&registry, "team", definition("weather")).await.tool.unwrap();
    let set = |name: &str, status: ToolStatus| {
        let message = SetToolStatusRequest { name: name.into(), status: status.into() };
        let request = request!(registry, "team", message);
        let mut client = registry.client.clone();
        async move { client.set_tool_status(request).await.map(|set| set.into_inner().tool.unwrap()) }
    };
    let disabled = set("weather", ToolStatus::Disabled).await.unwrap();
    assert_eq!((disabled.status(), disabled.id.as_str()), (ToolStatus::Disabled, before.id.as_str()));
    assert!(disabled.revision > before.revision);
    let later = ToolDefinition { title: "x".into(), ..definition("weather") };
    assert_eq!(register(&registry, "team", later).await.tool.unwrap().status(), ToolStatus::Disabled);
    assert_eq!(set("weather", ToolStatus::Deprecated).await.unwrap().status(), ToolStatus::Deprecated);
    for (name, status, reason) in [
        ("weather", ToolStatus::Quarantined, ErrorReason::InvalidRequest),
        ("weather", ToolStatus::Unspecified, ErrorReason::InvalidRequest),
        ("nothing", ToolStatus::Active, ErrorReason::ToolNotFound),
    ] {
        assert_eq!(reason_of(&set(name, status).await.unwrap_err()), Some(reason));
    }
    registry.stop().await;
}

async fn names(registry: &Registry, team: &str, mut request: ListToolsRequest) -> (Vec<Vec<String>>, usize) {
    let (mut pages, mut bytes) = (Vec::new(), 0);
    loop {
        let asked = request!(registry, team, request.clone());
        let page = registry.client.clone().list_tools(asked).await.unwrap().into_inner();
        let definitions: Vec<_> = page.tools.into_iter().map(|tool| tool.definition.unwrap()).collect();
        bytes = bytes.max(definitions.iter().map(|definition| definition.input_schema_json.len()).sum());
        pages.push(definitions.into_iter().map(|definition| definition.name).collect());
        if page.next_page_token.is_empty() {
            return (pages, bytes);
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn listings_are_filtered_and_paged_by_number_and_by_size() {
    let registry = registry(&config(), &database().await);
    for name in ["a", "b", "c"] {
        register(&registry, "team", definition(name)).await;
    }
    let special = ToolDefinition {
        category: Category::Custom.into(),
        capabilities: vec!["search".into(), "analyze".into()],
        provider: "mine".into(),
        ..definition("d")
    };
    register(&registry, "team", special).await;
    register(&registry, "other", definition("a")).await;
    let message = SetToolStatusRequest { name: "c".into(), status: ToolStatus::Disabled.into() };
    registry.client.clone().set_tool_status(request!(registry, "team", message)).await.unwrap();
    let all = ListToolsRequest { page_size: 3, ..ListToolsRequest::default() };
    assert_eq!(names(&registry, "team", all).await.0, [vec!["a", "b", "c"], vec!["d"]]);
    for (filter, expected) in [
        (ListToolsRequest { category: Category::Custom.into(), ..ListToolsRequest::default() }, vec!["d"]),
        (ListToolsRequest { capability: "analyze".into(), ..ListToolsRequest::default() }, vec!["d"]),
        (
            ListToolsRequest { provider: "toolcrib".into(), ..ListToolsRequest::default() },
            vec!["a", "b", "c"],
        ),
        (ListToolsRequest { status: ToolStatus::Disabled.into(), ..ListToolsRequest::default() }, vec!["c"]),
        (ListToolsRequest { capability: "none".into(), ..ListToolsRequest::default() }, vec![]),
    ] {
        assert_eq!(names(&registry, "team", filter).await.0, [expected]);
    }
    let wrong = ListToolsRequest { page_token: "x".into(), ..ListToolsRequest::default() };
    let status = registry.client.clone().list_tools(request!(registry, "team", wrong)).await.unwrap_err();
    assert_eq!(reason_of(&status), Some(ErrorReason::InvalidRequest));

    let large = format!(r#"{{"type":"object","description":"{}"}}"#, "x".repeat(250_000));
    for n in 10..40 {
        let definition = ToolDefinition { input_schema_json: large.clone(), ..definition(&format!("t{n}")) };
        register(&registry, "large", definition).await;
    }
    let (pages, bytes) = names(&registry, "large", ListToolsRequest::default()).await;
    let expected: Vec<String> = (10..40).map(|n| format!("t{n}")).collect();
    assert_eq!(pages.concat(), expected);
    assert!(pages.len() == 3 && bytes < 4_000_000, "{} pages, {bytes} bytes", pages.len());
    registry.stop().await;
}

#[tokio::test]
async fn two_who_register_at_once_make_one_version_each_or_the_same() {
    let database = database().await;
    let registry = registry(&config(), &database);
    let ask = |title: String| {
        let message = registration(ToolDefinition { title, ..definition("weather") });
        let request = request!(registry, "team", message);
        let mut client = registry.client.clone();
        tokio::spawn(async move { client.register_tool(request).await.unwrap().into_inner() })
    };
    let same: Vec<_> = (0..6).map(|_| ask("same".into())).collect();
    let mut created = 0;
    for task in same {
        created += i32::from(task.await.unwrap().created);
    }
    assert_eq!(created, 1);
    let different: Vec<_> = (0..6).map(|n| ask(n.to_string())).collect();
    let mut versions = Vec::new();
    for task in different {
        versions.push(version(&task.await.unwrap()).to_owned());
    }
    versions.sort_unstable();
    assert_eq!(versions, ["1.0.1", "1.0.2", "1.0.3", "1.0.4", "1.0.5", "1.0.6"]);
    registry.stop().await;
}
