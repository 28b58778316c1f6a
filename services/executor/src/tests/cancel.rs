//! Cancelling: what waits never begins, what runs is stopped wherever it runs, and every execution ends once.

use std::{collections::BTreeSet, path::Path, time::Duration};

use ::rpc::{ErrorReason, reason_of};
use proto::{
    audit::v1::Action,
    executor::v1::{CancelExecutionRequest, Execution, ExecutionStatus, Reached, StartExecutionRequest},
};
use tonic::{Code, Status};
use types::{Caller, Role};
use uuid::Uuid;

use super::{
    fakes::Fakes,
    house::{House, PATIENCE, agent, builtin, ended, execution, posting, request, until},
    ledger::intent,
    upstream::{Held, Raw, Step, Upstream, json},
    watch::{start, started},
};
use crate::store;

async fn cancel_as(house: &House, caller: &Caller, id: &str) -> Result<Execution, Status> {
    let request = house.asking(caller, CancelExecutionRequest { id: id.into() });
    let answer = house.client.clone().cancel_execution(request).await;
    answer.map(|answer| answer.into_inner().execution.unwrap())
}

async fn cancel(house: &House, id: &str) -> Result<Execution, Status> {
    cancel_as(house, &agent("agent"), id).await
}

async fn ids(house: &House) -> Vec<String> {
    house.texts("SELECT id::text FROM executor.execution ORDER BY id").await
}

/// The executions that have an end in the trail.
fn told(house: &House) -> Vec<String> {
    let mut told: Vec<_> = house.fakes.trail().into_iter().map(|event| event.execution_id).collect();
    told.sort();
    told
}

fn in_an_hour() -> StartExecutionRequest {
    let seconds = chrono::Utc::now().timestamp() + 3_600;
    StartExecutionRequest { not_before: Some(prost_types::Timestamp { seconds, nanos: 0 }), ..start("tool") }
}

fn not_cancellable(answer: Result<Execution, Status>) {
    let status = answer.unwrap_err();
    let expected = (Code::FailedPrecondition, Some(ErrorReason::NotCancellable));
    assert_eq!((status.code(), reason_of(&status)), expected, "{status:?}");
}

#[tokio::test]
async fn one_that_runs_elsewhere_is_stopped_and_its_tool_is_told() {
    let database = testkit::database(&[crate::schema()]).await;
    let here = House::on(&database, Fakes::default(), |_| {});
    let there = House::on(&database, here.fakes.clone(), |_| {});
    for other in [&here, &there] {
        let mut raw = Raw::new(|_| vec![Step::Hold]).await;
        here.add(posting("tool", &raw.url()));
        let call = here.spawn(PATIENCE, request("tool", "{}"));
        until(async || raw.connections() == 1).await;
        until(async || ids(&here).await.len() == 1).await;
        let id = ids(&here).await.remove(0);
        let answer = cancel(other, &id).await.unwrap();
        assert_eq!(answer.status(), ExecutionStatus::Cancelled);
        assert_eq!(answer.error.as_ref().unwrap().reached(), Reached::Maybe);
        raw.until_gone().await;
        let (code, _) = ended(call.await.unwrap(), ExecutionStatus::Cancelled);
        assert_eq!(code, "CANCELLED");
        assert_eq!(cancel(other, &id).await.unwrap(), answer);
        until(async || here.fakes.settled() == [(id.clone(), true)]).await;
        until(async || told(&here) == [id.clone()]).await;
        here.fakes.settled.lock().unwrap().clear();
        here.fakes.events.lock().unwrap().clear();
        here.run("DELETE FROM executor.execution").await;
    }
}

#[tokio::test]
async fn a_request_whose_news_was_lost_is_found_in_its_row() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    house.run("UPDATE executor.execution SET cancel_requested = true").await;
    ended(call.await.unwrap(), ExecutionStatus::Cancelled);
}

#[tokio::test]
async fn one_that_waits_never_begins_and_gives_its_place_back() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let waits = started(&house, in_an_hour()).await;
    let answer = cancel(&house, &waits.id).await.unwrap();
    assert_eq!((answer.status(), answer.cost_micro_usd), (ExecutionStatus::Cancelled, 0));
    assert_eq!(answer.error.as_ref().unwrap().reached(), Reached::No);
    assert_eq!(cancel(&house, &waits.id).await.unwrap(), answer);
    assert_eq!(house.number("SELECT count(*) FROM executor.job").await, 0);
    until(async || house.fakes.settled() == [(waits.id.clone(), false)]).await;
    until(async || told(&house) == [waits.id.clone()]).await;
    assert_eq!(house.fakes.trail()[0].action(), Action::ErrorOccurred);
    assert!(house.fakes.outcomes.lock().unwrap().is_empty(), "it says nothing of the tool");
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test]
async fn one_that_has_ended_stays_as_it_is() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let done = execution(house.execute(request("tool", "{}")).await);
    not_cancellable(cancel(&house, &done.id).await);
    assert_eq!(house.statuses().await, ["succeeded"]);
    let status = cancel(&house, &Uuid::nil().to_string()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn an_agent_cancels_its_own_an_operator_all_and_an_auditor_none() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let waits = started(&house, in_an_hour()).await;
    let of_another_team = Caller { team: "other".into(), role: Role::Admin, ..agent("agent") };
    for caller in [agent("another"), of_another_team] {
        let status = cancel_as(&house, &caller, &waits.id).await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status)), (Code::NotFound, Some(ErrorReason::NotFound)));
    }
    let auditor = Caller { role: Role::Auditor, ..agent("auditor") };
    let status = cancel_as(&house, &auditor, &waits.id).await.unwrap_err();
    let expected = (Code::PermissionDenied, Some(ErrorReason::RoleRequired));
    assert_eq!((status.code(), reason_of(&status)), expected);
    assert_eq!(house.statuses().await, ["queued"]);
    let operator = Caller { role: Role::Operator, ..agent("operator") };
    let answer = cancel_as(&house, &operator, &waits.id).await.unwrap();
    assert_eq!(answer.status(), ExecutionStatus::Cancelled);
}

#[tokio::test]
async fn one_that_no_living_process_runs_is_said_to_run_until_it_is_closed() {
    let house = House::new().await;
    let owner = Uuid::new_v4();
    // Its process is not dead yet, as far as anyone knows.
    sqlx::query("INSERT INTO executor.worker VALUES ($1, now() + interval '1 hour')")
        .bind(owner)
        .execute(house.database.pool().unwrap())
        .await
        .unwrap();
    let left = intent(owner, "");
    let mut transaction = store::begin(house.database.pool().unwrap(), true).await.unwrap();
    store::intents_insert(&mut transaction, &[&left]).await.unwrap();
    transaction.commit().await.unwrap();
    let answer = cancel(&house, &left.execution.id.to_string()).await.unwrap();
    assert_eq!(answer.status(), ExecutionStatus::Running);
    assert_eq!(house.number("SELECT count(*) FROM executor.execution WHERE cancel_requested").await, 1);
}

#[tokio::test]
async fn a_cancel_that_races_with_the_end_leaves_one_end() {
    let upstream = Upstream::new(|_| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        json(200, "{}")
    });
    let (house, upstream) = (House::new().await, upstream.await);
    house.add(posting("tool", &upstream.url));
    let calls: Vec<_> = (0..40).map(|_| house.spawn(PATIENCE, request("tool", "{}"))).collect();
    let mut cancelled = BTreeSet::new();
    while calls.iter().any(|call| !call.is_finished()) {
        for id in
            house.texts("SELECT id::text FROM executor.execution WHERE status = 'running' LIMIT 8").await
        {
            match cancel(&house, &id).await {
                Ok(answer) => {
                    assert_eq!(answer.status(), ExecutionStatus::Cancelled);
                    cancelled.insert(id);
                }
                refused => not_cancellable(refused),
            }
        }
        tokio::task::yield_now().await;
    }
    check_one_end_each(&house, 40).await;
    let rows = house.texts("SELECT id::text FROM executor.execution WHERE status = 'cancelled'").await;
    assert_eq!(rows.into_iter().collect::<BTreeSet<_>>(), cancelled);
}

#[tokio::test]
async fn a_cancel_that_races_with_the_beginning_leaves_one_end() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    for round in 0..20 {
        let waits = started(&house, start("tool")).await;
        tokio::time::sleep(Duration::from_millis(round)).await;
        match cancel(&house, &waits.id).await {
            Ok(answer) => assert_eq!(answer.status(), ExecutionStatus::Cancelled),
            refused => not_cancellable(refused),
        }
    }
    until(async || house.number("SELECT count(*) FROM executor.job").await == 0).await;
    check_one_end_each(&house, 20).await;
}

/// Each has ended, and was told and settled once.
async fn check_one_end_each(house: &House, count: usize) {
    let ended = async || {
        let statuses = house.statuses().await;
        statuses.len() == count
            && statuses.iter().all(|status| status == "succeeded" || status == "cancelled")
    };
    until(ended).await;
    let ids = ids(house).await;
    until(async || told(house).len() >= count && house.fakes.settled().len() >= count).await;
    let mut settled: Vec<_> = house.fakes.settled().into_iter().map(|(id, _)| id).collect();
    settled.sort();
    assert_eq!((told(house), settled), (ids.clone(), ids));
}

#[tokio::test]
async fn a_program_is_killed() {
    let Some(python) = testkit::installed("python/bin/python", "make setup") else { return };
    let folder = testkit::folder();
    let work_root = folder.path().to_owned();
    let house = House::with(|config| {
        config.sandbox.python = python;
        config.sandbox.work_root = work_root;
    })
    .await;
    house.add(builtin("python_sandbox"));
    let code = "import time\nopen('begun', 'w').close()\nwhile True:\n    time.sleep(0.1)\n";
    let arguments = serde_json::json!({ "code": code, "timeout_s": 60 }).to_string();
    let call = house.spawn(PATIENCE * 2, request("python_sandbox", &arguments));
    until(async || is_at_work(folder.path())).await;
    let id = ids(&house).await.remove(0);
    assert_eq!(cancel(&house, &id).await.unwrap().status(), ExecutionStatus::Cancelled);
    ended(call.await.unwrap(), ExecutionStatus::Cancelled);
    // Its folder goes when it is dead.
    until(async || !is_at_work(folder.path())).await;
    house.begin_stop().await;
}

/// Whether a program that has begun has its folder there.
fn is_at_work(root: &Path) -> bool {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let jobs = entries(root).flat_map(|instance| entries(&instance.path()).collect::<Vec<_>>());
    jobs.into_iter().any(|job| job.path().join("begun").exists())
}
