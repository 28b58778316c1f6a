//! Many calls in one request: each is a call of its own, in its place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::rpc::{ErrorReason, reason_of};
use prost::Message;
use proto::{
    executor::v1::{
        BatchExecuteRequest, BatchExecuteResponse, BatchItem, CallError, ExecuteRequest, Execution,
        ExecutionStatus, GetExecutionRequest, Source, batch_item::Outcome,
    },
    permissions::v1::AuthorizeResponse,
    registry::v1::{CacheSettings, ToolDefinition},
};
use tokio::sync::Semaphore;
use tonic::{Code, Response, Status};

use super::{
    cache::{hearing, keeping, read_only},
    house::{House, PATIENCE, agent, posting, request, until},
    upstream::{Held, Upstream, json},
};

fn of(calls: Vec<ExecuteRequest>) -> BatchExecuteRequest {
    BatchExecuteRequest { calls, ..BatchExecuteRequest::default() }
}

async fn batch(house: &House, asked: BatchExecuteRequest) -> Result<BatchExecuteResponse, Status> {
    let asked = house.asking(&agent("agent"), asked);
    house.client.clone().batch_execute(asked).await.map(Response::into_inner)
}

fn answered(item: &BatchItem) -> &Execution {
    match item.outcome.as_ref().unwrap() {
        Outcome::Response(response) => response.execution.as_ref().unwrap(),
        Outcome::Error(error) => panic!("{error:?}"),
    }
}

fn refused(item: &BatchItem) -> &CallError {
    match item.outcome.as_ref().unwrap() {
        Outcome::Response(response) => panic!("{response:?}"),
        Outcome::Error(error) => error,
    }
}

/// A server that answers with what it got, when it may, and knows how many were there at once.
async fn echo(may: &Arc<Semaphore>) -> (Upstream, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (at_once, highest, may) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(may));
    let upstream = Upstream::new(move |seen| {
        let (at_once, highest, may) = (Arc::clone(&at_once), Arc::clone(&highest), Arc::clone(&may));
        async move {
            highest.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            may.acquire().await.unwrap().forget();
            at_once.fetch_sub(1, Ordering::SeqCst);
            json(200, &seen.body)
        }
    });
    (upstream.await, now, most)
}

#[tokio::test]
async fn answers_come_in_order_and_no_more_run_at_once_than_asked_for() {
    for (parallelism, at_once) in [(3, 3), (0, 5), (20, 12)] {
        let (house, may) = (House::new().await, Arc::new(Semaphore::new(0)));
        let (upstream, now, most) = echo(&may).await;
        house.add(posting("tool", &upstream.url));
        let calls = (0..12).map(|n| request("tool", &format!(r#"{{"n":{n}}}"#))).collect();
        let answer = async {
            let asked = BatchExecuteRequest { parallelism, ..of(calls) };
            batch(&house, asked).await.unwrap()
        };
        let driver = async {
            until(async || now.load(Ordering::SeqCst) == at_once).await;
            may.add_permits(12);
        };
        let (answer, ()) = tokio::join!(answer, driver);
        let results: Vec<_> = answer.items.iter().map(|item| answered(item).result_json.clone()).collect();
        assert_eq!(results, (0..12).map(|n| format!(r#"{{"n":{n}}}"#)).collect::<Vec<_>>());
        assert_eq!((answer.succeeded, most.load(Ordering::SeqCst)), (12, at_once));
        assert_eq!(
            house.number("SELECT count(*) FROM executor.execution WHERE status = 'succeeded'").await,
            12
        );
        until(async || house.fakes.settled().len() == 12).await;
    }
}

/// The error of an item, and the Status that Execute gives for the same call.
fn assert_same(error: &CallError, status: &Status) {
    use tonic_types::StatusExt;
    let reason = reason_of(status).unwrap().as_str_name().replace("ERROR_REASON_", "");
    assert_eq!((error.code, &error.reason), (i32::from(status.code()), &reason), "{error:?}");
    assert_eq!(error.message, status.message());
    let details = status.get_error_details();
    let fields: Vec<_> = details
        .bad_request()
        .map(|bad| {
            bad.field_violations.iter().map(|each| (each.field.clone(), each.description.clone())).collect()
        })
        .unwrap_or_default();
    let told: Vec<_> =
        error.violations.iter().map(|each| (each.pointer.clone(), each.message.clone())).collect();
    assert_eq!(told, fields);
    let has_retry = details.retry_info().is_some_and(|retry| retry.retry_delay.is_some());
    assert_eq!(error.retry_after_ms > 0, has_retry, "{error:?}");
}

#[tokio::test]
async fn a_faulty_call_is_refused_as_execute_would_and_spoils_no_other() {
    let (house, well) = (House::new().await, Upstream::well().await);
    let ill = Upstream::new(|_| async { json(404, "{}") }).await;
    let input_schema_json = r#"{"type":"object","required":["q"],"properties":{"n":{"type":"integer"}}}"#;
    house.add(ToolDefinition { input_schema_json: input_schema_json.into(), ..posting("strict", &well.url) });
    house.add(posting("well", &well.url));
    house.add(posting("ill", &ill.url));
    house.add(posting("forbidden", &well.url));
    house.add(ToolDefinition { rate_limit_per_minute: 1, ..posting("rare", &well.url) });
    let denial = AuthorizeResponse {
        reason: "NO_GRANT".into(),
        message: "no grant".into(),
        ..AuthorizeResponse::default()
    };
    house.fakes.deny_tool("forbidden", denial);
    assert!(house.execute(request("rare", "{}")).await.is_ok());
    let faulty = [
        request("strict", r#"{"n":"x"}"#),
        request("strict", "[]"),
        request("nowhere", "{}"),
        ExecuteRequest { task_id: "../etc".into(), timeout_ms: -1, ..request("well", "{}") },
        request("forbidden", "{}"),
        request("rare", "{}"),
    ];
    let mut calls: Vec<_> = faulty.iter().cloned().flat_map(|call| [request("well", "{}"), call]).collect();
    calls.push(request("ill", "{}"));
    let answer = batch(&house, of(calls)).await.unwrap();
    assert_eq!((answer.items.len(), answer.succeeded), (13, 6));
    for (n, call) in faulty.into_iter().enumerate() {
        assert_eq!(answered(&answer.items[2 * n]).status(), ExecutionStatus::Succeeded);
        let mut status = house.execute(call).await.unwrap_err();
        if reason_of(&status) == Some(ErrorReason::RateLimited) {
            // How long to wait is told anew each time.
            status = Status::with_details(
                status.code(),
                refused(&answer.items[2 * n + 1]).message.clone(),
                status.details().to_vec().into(),
            );
        }
        assert_same(refused(&answer.items[2 * n + 1]), &status);
    }
    assert_eq!(
        answered(&answer.items[12]).status(),
        ExecutionStatus::Failed,
        "a tool's own failure is an answer"
    );
}

#[tokio::test]
async fn its_bounds_are_kept() {
    let house = House::new().await;
    let calls = |n| (0..n).map(|_| request("nowhere", "{}")).collect::<Vec<_>>();
    for (n, parallelism) in [(0, 1), (101, 1), (1, 21), (1, -1)] {
        let status = batch(&house, BatchExecuteRequest { parallelism, ..of(calls(n)) }).await.unwrap_err();
        let told = (status.code(), reason_of(&status));
        assert_eq!(told, (Code::InvalidArgument, Some(ErrorReason::InvalidRequest)), "{n} {parallelism}");
    }
    assert_eq!(batch(&house, of(calls(100))).await.unwrap().items.len(), 100);
}

#[tokio::test]
async fn request_ids_and_the_cache_hold_within_and_between_batches() {
    let (house, upstream) = (hearing(House::new().await).await, Upstream::well().await);
    house.add(posting("acts", &upstream.url));
    house.add_with(read_only(posting("reads", &upstream.url)), keeping(CacheSettings::default()));
    let once = ExecuteRequest { request_id: "once".into(), ..request("acts", "{}") };
    let reused = ExecuteRequest { request_id: "once".into(), ..request("acts", r#"{"other":1}"#) };
    let asked = BatchExecuteRequest { parallelism: 1, ..of(vec![once.clone(), once.clone(), reused]) };
    let answer = batch(&house, asked).await.unwrap();
    assert_eq!(answered(&answer.items[0]).id, answered(&answer.items[1]).id);
    let replayed = |item: &BatchItem| matches!(&item.outcome, Some(Outcome::Response(r)) if r.replayed);
    assert_eq!((replayed(&answer.items[0]), replayed(&answer.items[1])), (false, true));
    assert_eq!(refused(&answer.items[2]).reason, "REQUEST_ID_REUSED");
    assert_eq!(upstream.hits(), 1);
    let reads = of(vec![request("reads", "{}"); 8]);
    batch(&house, reads.clone()).await.unwrap();
    until(async || {
        let answer = batch(&house, reads.clone()).await.unwrap();
        answer.items.iter().all(|item| answered(item).source() == Source::Cache)
    })
    .await;
}

#[tokio::test]
async fn results_that_do_not_fit_into_one_message_are_left_to_get_execution() {
    let house = House::new().await;
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(60_000));
    let body = large.clone();
    let upstream = Upstream::new(move |_| {
        let body = body.clone();
        async move { json(200, &body) }
    })
    .await;
    house.add(posting("tool", &upstream.url));
    let calls = vec![request("tool", "{}"); 100];
    let answer = batch(&house, BatchExecuteRequest { parallelism: 20, ..of(calls) }).await.unwrap();
    assert!(answer.encoded_len() <= 4 << 20, "{}", answer.encoded_len());
    let whole = answer.items.iter().filter(|item| matches!(item.outcome, Some(Outcome::Response(_)))).count();
    assert!((60..70).contains(&whole), "{whole}");
    assert_eq!(answer.succeeded, 100, "those that are left out as well");
    let left_out = refused(answer.items.last().unwrap());
    assert_eq!(
        (left_out.code, left_out.reason.as_str()),
        (Code::ResourceExhausted.into(), "MESSAGE_TOO_LARGE")
    );
    let ids = house.texts("SELECT id::text FROM executor.execution WHERE status = 'succeeded'").await;
    assert_eq!(ids.len(), 100);
    let id = ids.into_iter().find(|id| left_out.message.contains(id)).expect("it names the execution");
    let found = house.client.clone().get_execution(house.as_agent(GetExecutionRequest { id })).await.unwrap();
    assert_eq!(found.into_inner().execution.unwrap().result_json, large);
}

#[tokio::test]
async fn it_stops_at_a_failure_when_asked_to_and_tells_at_which() {
    let (house, well) = (House::new().await, Upstream::well().await);
    house.add(posting("well", &well.url));
    let calls =
        vec![request("well", "{}"), request("nowhere", "{}"), request("well", "{}"), request("well", "{}")];
    let asked = BatchExecuteRequest { parallelism: 1, stop_on_failure: true, ..of(calls.clone()) };
    let answer = batch(&house, asked).await.unwrap();
    assert_eq!((answer.succeeded, well.hits()), (1, 1));
    assert_eq!(refused(&answer.items[1]).reason, "TOOL_NOT_FOUND");
    for item in &answer.items[2..] {
        let error = refused(item);
        assert_eq!((error.code, error.reason.as_str()), (Code::FailedPrecondition.into(), "NOT_BEGUN"));
        assert!(
            error.message.ends_with("left out: call 2 of the batch did not succeed"),
            "{}",
            error.message
        );
    }
    let answer = batch(&house, BatchExecuteRequest { parallelism: 1, ..of(calls) }).await.unwrap();
    assert_eq!((answer.succeeded, well.hits()), (3, 4), "otherwise it goes on");
}

#[tokio::test]
async fn at_the_deadline_what_runs_goes_on_and_what_has_not_begun_never_does() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let calls = vec![request("tool", "{}"); 4];
    let asked = BatchExecuteRequest { parallelism: 2, ..of(calls) };
    let mut asked = house.asking(&agent("agent"), asked);
    asked.set_timeout(Duration::from_secs(2));
    let answer = house.client.clone().batch_execute(asked).await.unwrap().into_inner();
    let reasons: Vec<_> = answer.items.iter().map(|item| refused(item).reason.as_str()).collect();
    assert_eq!(reasons, ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "NOT_BEGUN", "NOT_BEGUN"]);
    let ids = house.texts("SELECT id::text FROM executor.execution ORDER BY id").await;
    assert_eq!(ids.len(), 2);
    for (item, id) in answer.items.iter().zip(&ids) {
        assert!(refused(item).message.contains(id), "{item:?}");
    }
    held.go();
    held.go();
    tokio::time::timeout(PATIENCE, house.until_all("succeeded")).await.unwrap();
}
