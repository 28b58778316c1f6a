//! The tools that come with toolcrib are given to a team once, and its operators' changes stay.

use proto::registry::v1::ListToolsRequest;

use super::*;

#[tokio::test]
async fn seeding_is_done_once_and_overrides_nobody() {
    let database = database().await;
    assert_eq!(crate::seed(&database, "team").await.unwrap(), crate::BUILTINS.len());
    assert_eq!(crate::seed(&database, "team").await.unwrap(), 0);
    assert_eq!(crate::seed(&database, "other").await.unwrap(), crate::BUILTINS.len());
    let registry = registry(&config(), &database);
    let request = request!(registry, "team", ListToolsRequest::default());
    let tools = registry.client.clone().list_tools(request).await.unwrap().into_inner().tools;
    let mut names: Vec<_> = tools.iter().map(|tool| tool.definition.clone().unwrap().name).collect();
    let mut expected = crate::BUILTINS.map(str::to_owned).to_vec();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);

    let theirs = ToolDefinition { timeout_ms: 7_000, ..tools[0].definition.clone().unwrap() };
    let theirs = ToolDefinition { version: String::new(), ..theirs };
    let request = request!(registry, "team", registration(theirs.clone()));
    assert!(registry.client.clone().register_tool(request).await.unwrap().into_inner().created);
    assert_eq!(crate::seed(&database, "team").await.unwrap(), 0);
    let kept = registry.get(&theirs.name).await.unwrap().definition.unwrap();
    assert_eq!((kept.timeout_ms, kept.version.as_str()), (7_000, "1.0.1"));
    registry.stop().await;
}
