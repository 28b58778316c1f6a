//! What the copy takes from a watch, and what it keeps.

use proto::registry::v1::{Heartbeat, SnapshotEnd, ToolDefinition};

use super::*;

fn tool(name: &str, revision: i64) -> Tool {
    let definition = ToolDefinition { name: name.into(), ..ToolDefinition::default() };
    Tool {
        id: format!("{name}-{revision}"),
        team_id: "team".into(),
        definition: Some(definition),
        revision,
        ..Tool::default()
    }
}

fn catalog() -> (Catalog, watch::Sender<bool>) {
    let (sender, loaded) = watch::channel(false);
    (Catalog { teams: Arc::default(), loaded, ttl: Duration::from_hours(1) }, sender)
}

/// One watch from where the copy stands: these tools, the snapshot's end at a revision, then these.
fn watched(
    (catalog, loaded): &(Catalog, watch::Sender<bool>),
    position: &mut Position,
    tools: &[(&str, i64)],
    end: i64,
    later: &[(&str, i64)],
) -> i64 {
    let from = position.from(Instant::now());
    let mut snapshot = Some(Snapshot::new(from, position.revision));
    let upsert = |(name, revision): &(&str, i64)| (Event::Upserted(tool(name, *revision)), *revision);
    let end = (Event::SnapshotEnd(SnapshotEnd { tool_count: 0 }), end);
    for (event, revision) in tools.iter().map(upsert).chain([end]).chain(later.iter().map(upsert)) {
        let response = WatchToolsResponse { event: Some(event), revision };
        catalog.apply(response, &mut snapshot, position, loaded);
    }
    from
}

fn ids(catalog: &Catalog) -> Vec<String> {
    catalog.team("team").values().map(|tool| tool.id.clone()).collect()
}

#[test]
fn a_watch_goes_on_where_the_one_before_ended() {
    let (copy, mut position) = (catalog(), Position::default());
    assert_eq!(watched(&copy, &mut position, &[("a", 1), ("b", 2)], 2, &[("c", 3)]), 0);
    assert!(*copy.1.borrow());
    assert_eq!(watched(&copy, &mut position, &[("b", 5)], 5, &[]), 3, "asked from what is known");
    assert_eq!(ids(&copy.0), ["a-1", "b-5", "c-3"], "what did not change stays");
    let heartbeat = WatchToolsResponse { event: Some(Event::Heartbeat(Heartbeat {})), revision: 9 };
    copy.0.apply(heartbeat, &mut None, &mut position, &copy.1);
    assert_eq!(position.from(Instant::now()), 9);
}

#[test]
fn a_watch_that_ends_within_its_snapshot_is_begun_again_from_the_same_place() {
    let (copy, mut position) = (catalog(), Position::default());
    watched(&copy, &mut position, &[("a", 1)], 1, &[]);
    let mut cut_short = Some(Snapshot::new(1, 1));
    let upserted = WatchToolsResponse { event: Some(Event::Upserted(tool("z", 7))), revision: 7 };
    copy.0.apply(upserted, &mut cut_short, &mut position, &copy.1);
    assert_eq!((position.from(Instant::now()), ids(&copy.0)), (1, vec!["a-1".to_owned()]));
}

#[test]
fn an_older_history_stands_in_the_place_of_all_that_was_known() {
    let (copy, mut position) = (catalog(), Position::default());
    watched(&copy, &mut position, &[("a", 7), ("gone", 8)], 8, &[]);
    assert_eq!(watched(&copy, &mut position, &[("a", 3)], 4, &[]), 8);
    assert_eq!((ids(&copy.0), position.revision), (vec!["a-3".to_owned()], 4));
}

#[tokio::test(start_paused = true)]
async fn everything_is_read_again_when_it_is_old_and_nothing_newer_is_lost() {
    let (copy, mut position) = (catalog(), Position::default());
    watched(&copy, &mut position, &[("a", 1), ("wrong", 2)], 2, &[]);
    tokio::time::timeout(Duration::from_mins(59), position.is_old()).await.unwrap_err();
    tokio::time::timeout(Duration::from_mins(2), position.is_old()).await.unwrap();
    copy.0.upsert(tool("new", 9));
    assert_eq!(watched(&copy, &mut position, &[("a", 1)], 5, &[]), 0);
    assert_eq!(ids(&copy.0), ["a-1", "new-9"], "what was asked for meanwhile stays, what is not there goes");
}
