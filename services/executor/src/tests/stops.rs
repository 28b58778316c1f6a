//! A stop: runs under way end, are recorded and told; new ones are refused.

use std::os::unix::fs::PermissionsExt;

use ::rpc::ErrorReason;
use proto::executor::v1::ExecutionStatus;
use tonic::Code;

use super::{
    house::{House, PATIENCE, ended, posting, refused, request, until},
    upstream::Held,
};

const SHORT: std::time::Duration = std::time::Duration::from_millis(200);

#[tokio::test]
async fn a_stop_waits_for_runs_and_their_events_and_takes_no_new_ones() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    until(async || house.number("SELECT count(*) FROM executor.worker").await == 1).await;
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let stopped = tokio::spawn(house.begin_stop());
    // The stop may take a moment to be heard; a call that came before it runs, and is waited for.
    let refusal = || async { house.spawn(SHORT, request("tool", "{}")).await.unwrap().unwrap_err().code() };
    until(async || refusal().await == Code::Unavailable).await;
    refused(house.execute(request("tool", "{}")).await, Code::Unavailable, ErrorReason::ShuttingDown);
    assert!(!stopped.is_finished());
    let before = held.upstream.hits();
    (0..before).for_each(|_| held.go());
    ended(call.await.unwrap(), ExecutionStatus::Succeeded);
    stopped.await.unwrap();
    // All that ended is told, and the process is forgotten.
    assert_eq!(house.number("SELECT count(*) FROM executor.outbox").await, 0);
    assert_eq!(house.number("SELECT count(*) FROM executor.worker").await, 0);
    assert_eq!(house.fakes.trail().len(), before);
    assert_eq!(house.fakes.settled().len(), before);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_the_sandbox_to_warm_up() {
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python");
    std::fs::write(&python, "#!/bin/sh\ntouch \"$(dirname \"$0\")/begun\"\nexec sleep 20\n").unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let house = House::with(|config| {
        config.sandbox.python.clone_from(&python);
        config.sandbox.work_root = folder.path().join("work");
    })
    .await;
    until(async || folder.path().join("begun").exists()).await;
    let begun = std::time::Instant::now();
    house.begin_stop().await;
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_stop_waits_for_a_call_that_is_not_yet_a_run() {
    let fakes = super::fakes::Fakes::hesitant();
    let database = testkit::database(&[crate::schema()]).await;
    let (house, held) = (House::on(&database, fakes, |_| {}), Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    // It waits for its decision: admitted, not running.
    tokio::task::yield_now().await;
    let stopped = tokio::spawn(house.begin_stop());
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!stopped.is_finished());
    house.fakes.gate.close();
    held.reached().await;
    assert!(!stopped.is_finished());
    held.go();
    ended(call.await.unwrap(), ExecutionStatus::Succeeded);
    stopped.await.unwrap();
    assert_eq!((house.statuses().await, house.fakes.trail().len()), (vec!["succeeded".to_owned()], 1));
}
