//! Permission and the tool are looked at again when a queued call begins.

use proto::{
    audit::v1::{Action, Result as AuditResult},
    executor::v1::{ExecutionStatus, ToolErrorCode},
    permissions::v1::{AuthorizeResponse, Quota},
    registry::v1::{Tool, ToolStatus},
};

use super::{
    fakes::{Fakes, Mood},
    house::{House, TEAM, posting, until},
    queue::{accepted, busy, get, later},
    upstream::Upstream,
};
use crate::events::timestamp;

fn denial(reason: &str, quota: Option<Quota>) -> AuthorizeResponse {
    AuthorizeResponse {
        reason: reason.into(),
        message: "the grant is gone".into(),
        quota,
        ..AuthorizeResponse::default()
    }
}

#[tokio::test]
async fn a_grant_revoked_in_the_meantime_ends_the_call_and_its_place_is_given_back() {
    let ((house, held), upstream) = (busy().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let queued = accepted(&house, later("tool", "{}")).await;
    house.fakes.deny_tool("tool", denial("NO_GRANT", None));
    held.go();
    until(async || get(&house, &queued.id).await.status() == ExecutionStatus::Failed).await;
    let error = get(&house, &queued.id).await.error.unwrap();
    assert_eq!(error.code(), ToolErrorCode::Denied);
    assert!(error.message.contains("NO_GRANT") && error.message.contains("the grant is gone"), "{error:?}");
    until(async || house.fakes.settled().len() == 2 && house.fakes.trail().len() == 2).await;
    assert!(house.fakes.settled().contains(&(queued.id.clone(), false)));
    let told = house.fakes.trail().into_iter().find(|event| event.execution_id == queued.id).unwrap();
    assert_eq!((told.action(), told.result()), (Action::PermissionChecked, AuditResult::Denied));
    // It says nothing of the tool.
    assert!(house.fakes.outcomes.lock().unwrap().iter().all(|outcome| outcome.execution_id != queued.id));
    assert_eq!((upstream.hits(), house.number("SELECT count(*) FROM executor.job").await), (0, 0));
}

#[tokio::test]
async fn a_denial_is_one_whatever_was_tried_at_earlier_deliveries() {
    let ((house, held), upstream) = (busy().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let queued = accepted(&house, later("tool", "{}")).await;
    // It was not reached, then it was held back; and so the call went back to the queue.
    let attempts = format!(
        r#"[{{"number":1,"kind":"FIRST","tool_name":"tool","tool_version":"1.0.0","start_time":"{0}","duration_ms":1.0,
             "backoff_ms":0.0,"error":{{"code":"UNREACHABLE","message":"refused","reached":"NO"}}}},
            {{"number":2,"kind":"RETRY","tool_name":"tool","tool_version":"1.0.0","start_time":"{0}","duration_ms":1.0,
             "backoff_ms":0.0,"error":{{"code":"RATE_LIMITED","message":"later","reached":"NO"}}}}]"#,
        chrono::Utc::now().to_rfc3339()
    );
    sqlx::query("UPDATE executor.execution SET attempts_json = $1 WHERE id = $2::uuid")
        .bind(attempts)
        .bind(&queued.id)
        .execute(house.database.pool().unwrap())
        .await
        .unwrap();
    house.fakes.deny_tool("tool", denial("NO_GRANT", None));
    held.go();
    until(async || get(&house, &queued.id).await.status() == ExecutionStatus::Failed).await;
    assert_eq!(get(&house, &queued.id).await.attempts.len(), 2, "they stay on record");
    // The slow call, the retry of the other, and its denial.
    until(async || house.fakes.settled().len() == 2 && house.fakes.trail().len() == 3).await;
    assert!(house.fakes.settled().contains(&(queued.id.clone(), false)));
    let told = house.fakes.trail().into_iter().filter(|event| event.execution_id == queued.id);
    let told: Vec<_> = told.map(|event| (event.action(), event.result())).collect();
    assert_eq!(told[0].0, Action::RetryAttempted);
    assert_eq!(told[1], (Action::PermissionChecked, AuditResult::Denied));
    assert!(house.fakes.outcomes.lock().unwrap().iter().all(|outcome| outcome.execution_id != queued.id));
}

#[tokio::test]
async fn a_tool_disabled_in_the_meantime_is_not_called() {
    let ((house, held), upstream) = (busy().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let queued = accepted(&house, later("tool", "{}")).await;
    house.catalog.upsert(Tool {
        id: types::new_id().to_string(),
        status: ToolStatus::Disabled.into(),
        revision: 2,
        team_id: TEAM.into(),
        definition: Some(posting("tool", &upstream.url)),
        digest: "d".repeat(64),
        ..Tool::default()
    });
    held.go();
    until(async || get(&house, &queued.id).await.status() == ExecutionStatus::Failed).await;
    let error = get(&house, &queued.id).await.error.unwrap();
    assert_eq!((error.code(), upstream.hits()), (ToolErrorCode::Denied, 0));
    until(async || house.fakes.settled().contains(&(queued.id.clone(), false))).await;
}

#[tokio::test]
async fn an_exhausted_quota_is_waited_for_until_it_is_filled_again() {
    let ((house, held), upstream) = (busy().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let queued = accepted(&house, later("tool", "{}")).await;
    let reset = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let quota = Quota { limit: 5, used: 5, reset_time: Some(timestamp(reset)), ..Quota::default() };
    house.fakes.deny_tool("tool", denial("QUOTA_EXHAUSTED", Some(quota)));
    held.go();
    let far = "SELECT count(*) FROM executor.job WHERE owner IS NULL AND not_before > now() + interval '59 minutes'";
    until(async || house.number(far).await == 1).await;
    let waiting = get(&house, &queued.id).await;
    assert_eq!((waiting.status(), waiting.deliveries), (ExecutionStatus::Queued, 0));
    assert!(waiting.start_time.is_none() && waiting.error.is_none());
    // The hour is over.
    house.fakes.denied_tools.lock().unwrap().clear();
    house.run("UPDATE executor.job SET not_before = now()").await;
    house.until_all("succeeded").await;
    assert_eq!((get(&house, &queued.id).await.deliveries, upstream.hits()), (1, 1));
    until(async || house.fakes.settled().contains(&(queued.id.clone(), true))).await;
    assert_eq!(house.fakes.settled().iter().filter(|(id, _)| *id == queued.id).count(), 1);
}

#[tokio::test]
async fn while_permissions_cannot_be_reached_the_call_waits() {
    let ((house, held), upstream) = (busy().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let queued = accepted(&house, later("tool", "{}")).await;
    Fakes::set(&house.fakes.permissions, Mood::Down);
    held.go();
    let back = "SELECT count(*) FROM executor.execution e JOIN executor.job j USING (team_id, id)
                WHERE e.lease_epoch > 0 AND e.status = 'queued' AND e.deliveries = 0 AND j.not_before > e.create_time";
    until(async || house.number(back).await == 1).await;
    assert_eq!(upstream.hits(), 0);
    Fakes::set(&house.fakes.permissions, Mood::Well);
    house.until_all("succeeded").await;
    assert_eq!((get(&house, &queued.id).await.deliveries, upstream.hits()), (1, 1));
}

/// A call that is taken and waits for its permission, and that a caller cancels then.
async fn cancelled_while_prepared() -> (House, Upstream, String) {
    let database = testkit::database(&[crate::schema()]).await;
    let (house, upstream) = (House::on(&database, Fakes::hesitant(), |_| {}), Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    house.fakes.gate.add_permits(1);
    let queued = accepted(&house, later("tool", "{}")).await;
    until(async || house.statuses().await == ["running"]).await;
    house.run("UPDATE executor.execution SET cancel_requested = true").await;
    (house, upstream, queued.id)
}

#[tokio::test]
async fn a_call_cancelled_before_it_begins_is_not_made() {
    let (house, upstream, id) = cancelled_while_prepared().await;
    house.fakes.gate.close();
    house.until_all("cancelled").await;
    until(async || house.fakes.settled() == [(id.clone(), false)]).await;
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test]
async fn a_cancelled_call_does_not_go_back_to_the_queue() {
    let (house, upstream, id) = cancelled_while_prepared().await;
    Fakes::set(&house.fakes.permissions, Mood::Down);
    house.fakes.gate.close();
    house.until_all("cancelled").await;
    Fakes::set(&house.fakes.permissions, Mood::Well);
    until(async || house.fakes.settled() == [(id.clone(), false)]).await;
    assert_eq!((upstream.hits(), house.number("SELECT count(*) FROM executor.job").await), (0, 0));
}
