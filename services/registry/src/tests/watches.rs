//! No change escapes a watch, whoever makes it.

use std::collections::BTreeMap;

use ::rpc::ErrorReason;
use futures_util::{Stream, StreamExt};
use proto::registry::v1::{
    Heartbeat, SetFallbacksRequest, SetToolStatusRequest, ToolSettings, ToolStatus, UpdateToolRequest,
    WatchToolsRequest, WatchToolsResponse, watch_tools_response::Event,
};

use tonic::Code;

use super::*;

async fn watch(
    registry: &Registry,
    team: Option<&str>,
) -> impl Stream<Item = WatchToolsResponse> + Unpin + use<> {
    watch_from(registry, team, 0).await
}

async fn watch_from(
    registry: &Registry,
    team: Option<&str>,
    from_revision: i64,
) -> impl Stream<Item = WatchToolsResponse> + Unpin + use<> {
    let message = WatchToolsRequest { from_revision };
    let request = match team {
        Some(team) => request!(registry, team, message),
        None => registry.outgoing.own_request(Duration::from_mins(1), message),
    };
    let events = registry.client.clone().watch_tools(request).await.unwrap().into_inner();
    events.map(|event| event.expect("the watch goes on"))
}

async fn next(events: &mut (impl Stream<Item = WatchToolsResponse> + Unpin)) -> Option<WatchToolsResponse> {
    tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect("an event in time")
}

/// Names of the tools until everything up to a revision is known, and what is known then.
async fn until(
    events: &mut (impl Stream<Item = WatchToolsResponse> + Unpin),
    revision: i64,
) -> (Vec<String>, i64) {
    let mut names = Vec::new();
    let mut known = 0;
    let started = tokio::time::Instant::now();
    while known < revision {
        assert!(started.elapsed() < Duration::from_secs(20), "revision {revision} is not reached");
        let response = next(events).await.expect("the watch goes on");
        assert!(response.revision >= known, "revisions never fall");
        known = response.revision;
        if let Some(Event::Upserted(tool)) = response.event {
            names.push(format!("{}/{}", tool.team_id, tool.definition.unwrap().name));
        }
    }
    (names, known)
}

/// Number of tools in the snapshot, and its revision.
async fn snapshot(events: &mut (impl Stream<Item = WatchToolsResponse> + Unpin)) -> (usize, i64) {
    let mut tools = 0;
    loop {
        let response = next(events).await.expect("the watch goes on");
        match response.event.unwrap() {
            Event::Upserted(_) => tools += 1,
            Event::SnapshotEnd(end) => {
                assert_eq!(usize::try_from(end.tool_count).unwrap(), tools);
                return (tools, response.revision);
            }
            Event::Heartbeat(_) => panic!("a snapshot is not silent"),
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
    assert_eq!(snapshot(&mut own).await, (150, 151));
    assert_eq!(snapshot(&mut all).await, (151, 151));

    let changed = register(&registry, "team", "t7", "changed").await;
    assert_eq!(until(&mut own, changed).await, (vec!["team/t7".into()], changed));
    let message = SetToolStatusRequest { name: "t8".into(), status: ToolStatus::Disabled.into() };
    let set = registry.client.clone().set_tool_status(request!(registry, "team", message)).await.unwrap();
    let set = set.into_inner().tool.unwrap();
    assert_eq!(until(&mut own, set.revision).await, (vec!["team/t8".into()], changed + 1));

    let theirs = register(&registry, "other", "y", "").await;
    assert_eq!(until(&mut own, theirs).await.0, Vec::<String>::new(), "another team's change is not seen");
    assert_eq!(until(&mut all, theirs).await.0, ["team/t7", "team/t8", "other/y"]);
    let silence = next(&mut all).await.unwrap();
    assert_eq!((silence.event, silence.revision), (Some(Event::Heartbeat(Heartbeat {})), theirs));

    registry.stop.cancel();
    while next(&mut own).await.is_some() {}
    registry.stop().await;
}

#[tokio::test]
async fn changes_of_another_process_arrive_and_none_is_missed_under_load() {
    let database = database().await;
    let (writer, reader) = (registry(&config(), &database), registry(&config(), &database));
    let mut events = watch(&reader, None).await;
    snapshot(&mut events).await;
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
    assert_eq!(until(&mut events, 80).await.1, 80, "the last known revision is the last there is");
    writer.stop().await;
    reader.stop().await;
}

#[tokio::test]
async fn a_change_of_settings_reaches_the_watchers_of_another_process() {
    let database = database().await;
    let (writer, reader) = (registry(&config(), &database), registry(&config(), &database));
    register(&writer, "team", "t", "").await;
    register(&writer, "other", "t", "").await;
    let (mut all, mut theirs) = (watch(&reader, None).await, watch(&reader, Some("other")).await);
    snapshot(&mut all).await;
    snapshot(&mut theirs).await;
    let started = tokio::time::Instant::now();
    for timeout_ms in [1_000, 2_000, 3_000, 4_000, 5_000] {
        let message = UpdateToolRequest {
            name: "t".into(),
            settings: Some(ToolSettings { timeout_ms, ..ToolSettings::default() }),
            ..UpdateToolRequest::default()
        };
        let updated = writer.client.clone().update_tool(request!(writer, "team", message)).await.unwrap();
        let updated = updated.into_inner().tool.unwrap();
        let Some(Event::Upserted(seen)) = next(&mut all).await.unwrap().event else { panic!("not a tool") };
        assert_eq!(seen, updated);
    }
    // Looking from time to time alone would take longer.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let unchanged = SetFallbacksRequest { name: "t".into(), ..SetFallbacksRequest::default() };
    let same = writer.client.clone().set_fallbacks(request!(writer, "team", unchanged)).await.unwrap();
    assert_eq!(same.into_inner().tool.unwrap().revision, 7);
    assert_eq!(until(&mut theirs, 7).await, (vec![], 7), "another team sees nothing of it");
    writer.stop().await;
    reader.stop().await;
}

#[tokio::test]
async fn lost_news_loses_no_change() {
    let database = database().await;
    let registry = registry(&config(), &database);
    let mut events = watch(&registry, None).await;
    snapshot(&mut events).await;
    let before = register(&registry, "team", "t", "").await;
    assert_eq!(until(&mut events, before).await.0, ["team/t"]);
    // A change that nobody is told of is found all the same.
    let silently = "WITH next AS (UPDATE registry.revision SET value = value + 1 RETURNING value)
                    UPDATE registry.tool SET revision = next.value FROM next";
    sqlx::query(silently).execute(database.pool().unwrap()).await.unwrap();
    assert_eq!(until(&mut events, before + 1).await.0, ["team/t"]);
    // So is one that was made while no one listened.
    let killed: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND query ILIKE 'LISTEN%'",
    )
    .fetch_all(database.pool().unwrap())
    .await
    .unwrap();
    assert_eq!(killed, [true], "the one listener is found");
    sqlx::query(silently).execute(database.pool().unwrap()).await.unwrap();
    assert_eq!(until(&mut events, before + 2).await.0, ["team/t"]);
    // Then the news flows again: looking from time to time alone would take longer.
    let started = tokio::time::Instant::now();
    for title in ["a", "b", "c", "d", "e"] {
        let after = register(&registry, "team", "t", title).await;
        assert_eq!(until(&mut events, after).await.0, ["team/t"]);
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    registry.stop().await;
}

#[tokio::test]
async fn a_watch_that_is_taken_up_again_gives_what_changed_since() {
    let registry = registry(&config(), &database().await);
    for n in 0..100 {
        register(&registry, "team", &format!("t{n}"), "").await;
    }
    let known = {
        let mut events = watch(&registry, Some("team")).await;
        snapshot(&mut events).await.1
    };
    assert_eq!(
        snapshot(&mut watch_from(&registry, Some("team"), known).await).await,
        (0, known),
        "nothing new"
    );
    register(&registry, "team", "t3", "changed").await;
    register(&registry, "other", "theirs", "").await;
    let last = register(&registry, "team", "t100", "").await;
    let mut resumed = watch_from(&registry, Some("team"), known).await;
    assert_eq!(until(&mut resumed, last).await.0, ["team/t3", "team/t100"]);
    assert_eq!(snapshot(&mut watch_from(&registry, None, known).await).await, (3, last));
    assert_eq!(
        snapshot(&mut watch_from(&registry, None, last - 1).await).await,
        (1, last),
        "not what is known"
    );

    // A later revision than there is is of another history: everything is sent, up to where this one is.
    assert_eq!(snapshot(&mut watch_from(&registry, Some("team"), last + 50).await).await, (101, last));
    let wrong = request!(registry, "team", WatchToolsRequest { from_revision: -1 });
    let status = registry.client.clone().watch_tools(wrong).await.unwrap_err();
    assert_eq!(::rpc::reason_of(&status), Some(::rpc::ErrorReason::InvalidRequest));
    assert!(status.message().contains("from_revision"), "{}", status.message());
    registry.stop().await;
}

#[tokio::test]
async fn a_team_has_so_many_watches_those_that_end_make_room_and_the_suite_needs_none() {
    let config = Config { max_watches: 3, max_watches_per_team: 2, ..config() };
    let registry = registry(&config, &database().await);
    let refused = async |team: &str| {
        let request = request!(registry, team, WatchToolsRequest { from_revision: 0 });
        let refusal = registry.client.clone().watch_tools(request).await.err()?;
        let told = (refusal.code(), ::rpc::reason_of(&refusal));
        assert_eq!(told, (Code::ResourceExhausted, Some(ErrorReason::Overloaded)), "{refusal:?}");
        let details = tonic_types::StatusExt::get_error_details(&refusal);
        assert!(details.retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{refusal:?}");
        Some(refusal.message().to_owned())
    };
    let (first, _second) = (watch(&registry, Some("team")).await, watch(&registry, Some("team")).await);
    assert!(refused("team").await.unwrap().starts_with("this team has 2 watches open"));
    let mut third = watch(&registry, Some("other")).await;
    assert!(refused("another").await.unwrap().starts_with("this process has 3 watches open"));
    // The copies that services keep of the catalog are of no team, and are never refused.
    let mut own = Vec::new();
    for _ in 0..5 {
        own.push(watch(&registry, None).await);
    }
    snapshot(&mut own[4]).await;
    snapshot(&mut third).await;
    drop(first);
    assert_eq!(refused("team").await, None);
    registry.stop().await;
}
