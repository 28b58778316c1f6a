//! News between processes: it survives the loss of its connection.

use std::time::Duration;

use proto::{
    executor::v1::{ExecutionStatus, Source},
    registry::v1::{CacheSettings, ToolDefinition, ToolSettings},
    types::v1::Effect,
};

use super::{
    house::{House, PATIENCE, ended, execution, posting, request, until},
    upstream::{Held, Upstream},
};

const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event = 'ClientRead'
      AND query LIKE 'SELECT id FROM executor.execution WHERE owner%'";

/// Cuts the connections over which news is heard.
async fn cut(house: &House) {
    until(async || {
        let cut: Vec<bool> = sqlx::query_scalar(CUT).fetch_all(house.database.pool().unwrap()).await.unwrap();
        !cut.is_empty()
    })
    .await;
}

fn cached(url: &str) -> (ToolDefinition, ToolSettings) {
    let definition = ToolDefinition { effect: Effect::ReadOnly.into(), ..posting("tool", url) };
    let cache = CacheSettings { enabled: true, ..CacheSettings::default() };
    (definition, ToolSettings { cache: Some(cache), ..ToolSettings::default() })
}

#[tokio::test]
async fn a_cache_that_may_have_missed_news_is_emptied() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    let (definition, settings) = cached(&upstream.url);
    house.add_with(definition, settings);
    let source = async || execution(house.execute(request("tool", "{}")).await).source();
    // The first answers may come while the process has not been heard of yet.
    until(async || source().await == Source::Cache).await;
    let hits = upstream.hits();
    cut(&house).await;
    until(async || source().await != Source::Cache).await;
    assert_eq!(upstream.hits(), hits + 1);
    until(async || source().await == Source::Cache).await;
}

#[tokio::test]
async fn a_request_made_while_the_connection_is_lost_is_heard_after_it() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    for _ in 0..3 {
        cut(&house).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    house.run("UPDATE executor.execution SET cancel_requested = true").await;
    ended(call.await.unwrap(), ExecutionStatus::Cancelled);
}
