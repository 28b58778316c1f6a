//! Many queued calls: each has its effect once over several processes, and no tool takes every place.

use std::collections::HashSet;

use proto::{executor::v1::ExecutionStatus, registry::v1::ToolSettings};

use super::{
    fakes::Fakes,
    house::{House, posting, retries, until},
    queue::{accepted, get, later},
    upstream::{Held, Upstream},
};

#[tokio::test]
async fn two_hundred_over_three_processes_take_effect_once_each() {
    let database = testkit::database(&[crate::schema()]).await;
    let (fakes, upstream) = (Fakes::default(), Upstream::well().await);
    let houses: Vec<_> = (0..3).map(|_| House::on(&database, fakes.clone(), |_| {})).collect();
    for house in &houses {
        house.add(posting("tool", &upstream.url));
    }
    let calls = (0..200).map(|n| {
        let house = &houses[n % 3];
        async move { accepted(house, later("tool", &format!(r#"{{"n":{n}}}"#))).await.id }
    });
    let ids = futures_util::future::join_all(calls).await;
    houses[0].until_all("succeeded").await;
    assert_eq!(houses[0].number("SELECT count(*) FROM executor.execution").await, 200);
    let bodies: HashSet<_> = upstream.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!((upstream.hits(), bodies.len()), (200, 200));
    assert!(houses[0].number("SELECT count(DISTINCT owner) FROM executor.execution").await >= 2);
    assert_eq!(houses[0].number("SELECT count(*) FROM executor.job").await, 0);
    until(async || fakes.settled().len() == 200 && fakes.trail().len() == 200).await;
    let settled: HashSet<_> = fakes.settled().into_iter().collect();
    assert_eq!(settled, ids.into_iter().map(|id| (id, true)).collect());
}

#[tokio::test]
async fn a_slow_tool_has_half_of_the_places_and_the_others_go_on() {
    let (house, held) = (House::with(|config| config.worker_pool = 4).await, Held::new().await);
    let upstream = Upstream::well().await;
    house.add(posting("slow", &held.upstream.url));
    house.add(posting("quick", &upstream.url));
    for _ in 0..5 {
        accepted(&house, later("slow", "{}")).await;
    }
    held.reached().await;
    held.reached().await;
    let mut quick = Vec::new();
    for _ in 0..5 {
        quick.push(accepted(&house, later("quick", "{}")).await.id);
    }
    for id in &quick {
        until(async || get(&house, id).await.status() == ExecutionStatus::Succeeded).await;
    }
    assert_eq!((held.upstream.hits(), upstream.hits()), (2, 5));
    (0..5).for_each(|_| held.go());
    house.until_all("succeeded").await;
    assert_eq!(held.upstream.hits(), 5);
}

#[tokio::test]
async fn a_tool_above_its_rate_waits_and_runs_and_no_delivery_counts_for_waiting() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    let settings =
        ToolSettings { rate_limit_per_minute: 12, retry: Some(retries(0)), ..ToolSettings::default() };
    house.add_with(posting("tool", &upstream.url), settings);
    let calls = (0..13).map(|_| accepted(&house, later("tool", "{}")));
    futures_util::future::join_all(calls).await;
    house.until_all("succeeded").await;
    assert_eq!(upstream.hits(), 13);
    assert_eq!(house.number("SELECT count(*) FROM executor.execution WHERE deliveries <> 1").await, 0);
    assert!(
        house.number("SELECT max(lease_epoch)::bigint FROM executor.execution").await > 1,
        "some were put back"
    );
    until(async || house.fakes.settled().len() == 13).await;
}
