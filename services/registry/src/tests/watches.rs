//! No change escapes a watch, whoever makes it.

use std::collections::BTreeMap;

use futures_util::{Stream, StreamExt};
use proto::registry::v1::{
    SetToolStatusRequest, ToolStatus, WatchToolsRequest, WatchToolsResponse, watch_tools_response::Event,
};

use super::*;

async fn watch(
    registry: &Registry,
    team: Option<&str>,
) -> impl Stream<Item = WatchToolsResponse> + Unpin + use<> {
    let request = match team {
        Some(team) => request!(registry, team, WatchToolsRequest {}),
        None => registry.outgoing.own_request(Duration::from_mins(1), WatchToolsRequest {}),
    };
    let events = registry.client.clone().watch_tools(request).await.unwrap().into_inner();
    events.map(|event| event.expect("the watch goes on"))
}

async fn next(events: &mut (impl Stream<Item = WatchToolsResponse> + Unpin)) -> Option<WatchToolsResponse> {
    tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect("an event in time")
}

/// Names of the tools up to the next end of a snapshot or heartbeat, and its revision.
async fn tools(events: &mut (impl Stream<Item = WatchToolsResponse> + Unpin)) -> (Vec<String>, i64) {
    let mut names = Vec::new();
    let mut known = 0;
    loop {
        let response = next(events).await.expect("the watch goes on");
        assert!(response.revision >= known, "revisions never fall");
        known = response.revision;
        match response.event.unwrap() {
            Event::Upserted(tool) => {
                names.push(format!("{}/{}", tool.team_id, tool.definition.unwrap().name));
            }
            Event::SnapshotEnd(end) => {
                assert_eq!(usize::try_from(end.tool_count).unwrap(), names.len());
                return (names, known);
            }
            Event::Heartbeat(_) => return (names, known),
        }
    }
}

async fn register(registry: &Registry, team: &str, name: &str, title: &str) -> i64 {
    let message = registration(ToolDefinition { title: title.into(), ..definition(name) });
    let request = request!(registry, team, message);
    registry.client.clone().register_tool(request).await.unwrap().into_inner().tool.unwrap().revision
}

#[tokio::test]
async fn a_watch_gives_a_snapshot_then_changes_then_heartbeats() {
    let registry = registry(&config(), &database().await);
    for n in 0..150 {
        register(&registry, "team", &format!("t{n}"), "").await;
    }
    register(&registry, "other", "x", "").await;
    let mut own = watch(&registry, Some("team")).await;
    let mut all = watch(&registry, None).await;
    let (seen, revision) = tools(&mut own).await;
    assert_eq!((seen.len(), revision), (150, 151));
    assert_eq!(tools(&mut all).await.0.len(), 151);

    let changed = register(&registry, "team", "t7", "changed").await;
    assert_eq!(tools(&mut own).await, (vec!["team/t7".into()], changed));
    let message = SetToolStatusRequest { name: "t8".into(), status: ToolStatus::Disabled.into() };
    registry.client.clone().set_tool_status(request!(registry, "team", message)).await.unwrap();
    let event = next(&mut own).await.unwrap();
    let Some(Event::Upserted(tool)) = event.event else { panic!("{event:?}") };
    assert_eq!(
        (tool.status(), tool.revision, event.revision),
        (ToolStatus::Disabled, changed + 1, changed + 1)
    );

    register(&registry, "other", "y", "").await;
    let (seen, revision) = tools(&mut own).await;
    assert_eq!((seen, revision), (vec![], changed + 2), "another team's change is not seen, but known of");
    assert_eq!(tools(&mut all).await.0, ["team/t7", "team/t8", "other/y"]);

    registry.stop.cancel();
    while next(&mut own).await.is_some() {}
    registry.stop().await;
}

#[tokio::test]
async fn changes_of_another_process_arrive_and_none_is_missed_under_load() {
    let database = database().await;
    let (writer, reader) = (registry(&config(), &database), registry(&config(), &database));
    let mut events = watch(&reader, None).await;
    tools(&mut events).await;
    let writers: Vec<_> = (0..4)
        .map(|task| {
            let (client, outgoing) = (writer.client.clone(), writer.outgoing.clone());
            tokio::spawn(async move {
                for n in 0..20 {
                    let message = registration(ToolDefinition {
                        title: n.to_string(),
                        ..definition(&format!("t{task}"))
                    });
                    let request = outgoing.request(&operator("team"), Duration::from_mins(1), message);
                    client.clone().register_tool(request).await.unwrap();
                }
            })
        })
        .collect();
    let mut titles = BTreeMap::new();
    while titles.values().filter(|title| *title == "19").count() < 4 {
        let response = next(&mut events).await.unwrap();
        if let Some(Event::Upserted(tool)) = response.event {
            let definition = tool.definition.unwrap();
            titles.insert(definition.name, definition.title);
        }
    }
    for task in writers {
        task.await.unwrap();
    }
    assert_eq!(tools(&mut events).await.1, 80, "the last known revision is the last there is");
    writer.stop().await;
    reader.stop().await;
}

#[tokio::test]
async fn a_lost_connection_loses_no_change() {
    let database = database().await;
    let registry = registry(&config(), &database);
    let mut events = watch(&registry, None).await;
    tools(&mut events).await;
    register(&registry, "team", "before", "").await;
    assert_eq!(tools(&mut events).await.0, ["team/before"]);
    // Every connection but the one that asks: the listener is among them.
    let killed: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ILIKE 'LISTEN%'",
    )
    .fetch_all(database.pool().unwrap())
    .await
    .unwrap();
    assert_eq!(killed, [true], "the one listener is found");
    register(&registry, "team", "after", "").await;
    let mut seen = Vec::new();
    while seen.is_empty() {
        seen = tools(&mut events).await.0;
    }
    assert_eq!(seen, ["team/after"]);
    registry.stop().await;
}
