//! A queued call is answered at once, runs in its turn, and ends once.

use ::rpc::ErrorReason;
use proto::executor::v1::{
    ExecuteRequest, Execution, ExecutionStatus, GetExecutionRequest, StartExecutionRequest,
    StartExecutionResponse,
};
use tonic::{Code, Response, Status};

use super::{
    fakes::Fakes,
    house::{House, LEASE, posting, refused, request, until},
    upstream::{Held, Upstream},
};
use crate::events::timestamp;

/// A call for the queue.
pub(crate) fn later(tool: &str, arguments: &str) -> StartExecutionRequest {
    StartExecutionRequest { call: Some(request(tool, arguments)), ..StartExecutionRequest::default() }
}

pub(crate) async fn start(
    house: &House,
    request: StartExecutionRequest,
) -> Result<StartExecutionResponse, Status> {
    house.client.clone().start_execution(house.as_agent(request)).await.map(Response::into_inner)
}

/// The execution of a call that is accepted.
pub(crate) async fn accepted(house: &House, request: StartExecutionRequest) -> Execution {
    let execution = start(house, request).await.unwrap().execution.unwrap();
    assert_eq!(execution.status(), ExecutionStatus::Queued);
    execution
}

pub(crate) async fn get(house: &House, id: &str) -> Execution {
    let request = house.as_agent(GetExecutionRequest { id: id.to_owned() });
    house.client.clone().get_execution(request).await.unwrap().into_inner().execution.unwrap()
}

/// With one place, and a call in it: what is queued after it waits until it may go.
pub(crate) async fn busy() -> (House, Held) {
    let (house, held) = (House::with(|config| config.worker_pool = 1).await, Held::new().await);
    house.add(posting("slow", &held.upstream.url));
    accepted(&house, later("slow", r#"{"n":"first"}"#)).await;
    held.reached().await;
    (house, held)
}

#[tokio::test]
async fn it_is_answered_at_once_and_recorded_as_any_other() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let queued = accepted(&house, later("tool", r#"{"n":1}"#)).await;
    assert!(queued.asynchronous && queued.start_time.is_none() && queued.deliveries == 0);
    held.reached().await;
    let running = get(&house, &queued.id).await;
    assert_eq!((running.status(), running.deliveries), (ExecutionStatus::Running, 1));
    assert!(running.start_time.is_some());
    held.go();
    house.until_all("succeeded").await;
    let ended = get(&house, &queued.id).await;
    assert_eq!((ended.result_json.as_str(), ended.decision_id), (r#"{"ok":true}"#, queued.id.clone()));
    until(async || house.fakes.settled().len() == 1 && house.fakes.trail().len() == 1).await;
    assert_eq!(house.fakes.settled(), [(queued.id, true)]);
    assert_eq!(house.number("SELECT count(*) FROM executor.job").await, 0);
}

#[tokio::test]
async fn higher_priorities_begin_first_and_equals_in_their_order() {
    let (house, held) = busy().await;
    for (n, priority) in [(1, -5), (2, 7), (3, 0), (4, 7)] {
        accepted(&house, StartExecutionRequest { priority, ..later("slow", &format!(r#"{{"n":{n}}}"#)) })
            .await;
    }
    (0..5).for_each(|_| held.go());
    house.until_all("succeeded").await;
    let order: Vec<_> = held.upstream.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(order[1..], [r#"{"n":2}"#, r#"{"n":4}"#, r#"{"n":3}"#, r#"{"n":1}"#]);
}

#[tokio::test]
async fn it_does_not_begin_before_its_time() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let at = chrono::Utc::now() + chrono::TimeDelta::milliseconds(700);
    let not_before = Some(timestamp(at));
    accepted(&house, StartExecutionRequest { not_before, priority: 9, ..later("tool", r#"{"n":"later"}"#) })
        .await;
    accepted(&house, later("tool", r#"{"n":"now"}"#)).await;
    house.until_all("succeeded").await;
    let order: Vec<_> = upstream.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(order, [r#"{"n":"now"}"#, r#"{"n":"later"}"#]);
    assert_eq!(
        house.number("SELECT count(*) FROM executor.execution WHERE start_time < not_before").await,
        0
    );
}

#[tokio::test]
async fn the_same_request_is_accepted_once_and_another_body_is_refused() {
    let (house, held) = busy().await;
    let named = |arguments: &str, priority| StartExecutionRequest {
        call: Some(ExecuteRequest { request_id: "r".into(), ..request("slow", arguments) }),
        priority,
        ..StartExecutionRequest::default()
    };
    let at_once = futures_util::future::join_all((0..8).map(|_| start(&house, named("{}", 0)))).await;
    let answers: Vec<_> = at_once.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    let mut ids: Vec<_> = answers.into_iter().map(|answer| answer.execution.unwrap().id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let reused = (Code::FailedPrecondition, ErrorReason::RequestIdReused);
    for other in [named(r#"{"a":1}"#, 0), named("{}", 1)] {
        let status = start(&house, other).await.unwrap_err();
        assert_eq!((status.code(), ::rpc::reason_of(&status)), (reused.0, Some(reused.1)));
    }
    let at_once = ExecuteRequest { request_id: "r".into(), ..request("slow", "{}") };
    refused(house.execute(at_once).await, reused.0, reused.1);
    (0..2).for_each(|_| held.go());
    house.until_all("succeeded").await;
    let again = start(&house, named("{}", 0)).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.execution.unwrap().status(), ExecutionStatus::Succeeded);
    assert_eq!(held.upstream.hits(), 2);
    assert_eq!(house.number("SELECT count(*) FROM executor.job").await, 0);
    // The places that the others had reserved are given back.
    until(async || house.fakes.settled().iter().filter(|(_, committed)| *committed).count() == 2).await;
}

#[tokio::test]
async fn what_waits_is_unreadable_in_the_database_and_damaged_it_ends_with_a_reason() {
    let (house, held) = busy().await;
    let secret = r#"{"note":"hunter2-plain"}"#;
    let queued = accepted(&house, later("slow", secret)).await;
    let pool = house.database.pool().unwrap();
    let sealed: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT payload FROM executor.job").fetch_all(pool).await.unwrap();
    assert_eq!(sealed.len(), 2);
    for payload in sealed {
        let text = String::from_utf8_lossy(&payload).into_owned();
        assert!(!text.contains("hunter2") && !text.contains("agent") && !text.contains("first"), "{text}");
    }
    house.run(r"UPDATE executor.job SET payload = set_byte(payload, 30, get_byte(payload, 30) # 1)").await;
    held.go();
    until(async || get(&house, &queued.id).await.status() == ExecutionStatus::Failed).await;
    let error = get(&house, &queued.id).await.error.unwrap();
    assert_eq!(error.code().as_str_name(), "TOOL_ERROR_CODE_NOT_CONFIGURED");
    assert!(error.message.contains("caller_token_key"), "{}", error.message);
    until(async || house.fakes.settled().contains(&(queued.id.clone(), false))).await;
    assert_eq!((held.upstream.hits(), house.number("SELECT count(*) FROM executor.job").await), (1, 0));
}

#[tokio::test]
async fn a_stop_puts_back_what_has_not_begun_and_another_process_runs_it() {
    let fakes = Fakes::hesitant();
    let database = testkit::database(&[crate::schema()]).await;
    let (house, upstream) = (House::on(&database, fakes.clone(), |_| {}), Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    fakes.gate.add_permits(1);
    accepted(&house, later("tool", "{}")).await;
    // Taken, and waiting for its permission.
    until(async || house.statuses().await == ["running"]).await;
    let stopped = tokio::spawn(house.begin_stop());
    // Long enough for the reaper, which must not take it for left alone, and too short for permissions to be given up.
    tokio::time::sleep(LEASE * 3 / 2).await;
    assert!(!stopped.is_finished());
    fakes.gate.close();
    stopped.await.unwrap();
    assert_eq!((house.statuses().await, upstream.hits()), (vec!["queued".to_owned()], 0));
    assert_eq!(house.number("SELECT count(*) FROM executor.job WHERE owner IS NULL").await, 1);
    let next = House::on(&database, fakes.clone(), |_| {});
    next.add(posting("tool", &upstream.url));
    next.until_all("succeeded").await;
    assert_eq!(next.number("SELECT deliveries::bigint FROM executor.execution").await, 1);
    until(async || fakes.settled().len() == 1).await;
    assert_eq!(upstream.hits(), 1);
}
