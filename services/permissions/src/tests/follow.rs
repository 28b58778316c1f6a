//! What a process knows follows the changes that others make.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{access_requests::Decisions, authorize::Quota, follow::follow};

/// A process that hears of changes, until the token is cancelled.
async fn following(database: &Database) -> (Desk, CancellationToken) {
    let (desk, stop) = (desk(database), CancellationToken::new());
    tokio::spawn(follow(Arc::clone(&desk.teams), Decisions::default(), database.clone(), stop.clone()));
    until(|| async { desk.teams.is_trusted() }).await;
    (desk, stop)
}

/// Waits until something holds; what never does fails the test.
async fn until<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), waited).await.unwrap();
}

async fn reason_of(desk: &Desk, call: &Asked) -> Option<ErrorReason> {
    desk.authorize(call, noon()).await.unwrap().reason
}

#[tokio::test]
async fn what_another_process_grants_revokes_or_disables_is_soon_known() {
    let database = team().await;
    let (desk, stop) = following(&database).await;
    let (scout, second) = (asked("scout"), asked("second"));
    assert_eq!(reason_of(&desk, &scout).await, Some(ErrorReason::NoGrant));
    let granted = grant(&database, to_agent("scout"), 0).await;
    until(|| async { reason_of(&desk, &scout).await.is_none() }).await;
    revoke_permission(&database, "t", granted.grant.grant_id, noon()).await.unwrap();
    until(|| async { reason_of(&desk, &scout).await == Some(ErrorReason::NoGrant) }).await;
    grant(&database, to_researchers(), 0).await;
    until(|| async { reason_of(&desk, &second).await.is_none() }).await;
    disable(&database, "second").await;
    until(|| async { reason_of(&desk, &second).await == Some(ErrorReason::AgentDisabled) }).await;
    assert_eq!(reason_of(&desk, &scout).await, None);
    stop.cancel();
}

#[tokio::test]
async fn a_change_that_nobody_told_of_is_found_by_asking() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 0).await;
    let (desk, stop) = following(&database).await;
    let call = asked("scout");
    assert_eq!(reason_of(&desk, &call).await, None);
    let silent = "WITH t AS (UPDATE permissions.team SET revision = revision + 1 RETURNING revision)
                  UPDATE permissions.tool_grant g SET revoke_time = now(), revision = t.revision FROM t
                  WHERE grant_id = $1";
    let pool = database.pool().unwrap();
    sqlx::query(silent).bind(granted.grant.grant_id).execute(pool).await.unwrap();
    until(|| async { reason_of(&desk, &call).await == Some(ErrorReason::NoGrant) }).await;
    stop.cancel();
}

#[tokio::test]
async fn its_own_changes_a_process_knows_at_once() {
    let database = team().await;
    let (desk, stop) = following(&database).await;
    let (root, call) = (caller("root", Role::Admin), asked("scout"));
    for _ in 0..20 {
        let new = new_grant(to_agent("scout"), 0);
        let made = grant_with(&database, &desk.teams, &root, new, noon()).await;
        assert_eq!(reason_of(&desk, &call).await, None);
        let id = made.unwrap().grant.grant_id;
        let revoked =
            crate::grant_permission::revoke_permission(&database, &desk.teams, &root, id, noon()).await;
        assert_eq!(reason_of(&desk, &call).await, Some(ErrorReason::NoGrant));
        revoked.unwrap();
    }
    let late = ("late", "Researcher", Role::Agent);
    grant(&database, to_researchers(), 0).await;
    create_agent(&database, &desk.teams, &root, late, noon()).await.unwrap();
    assert_eq!(reason_of(&desk, &asked("late")).await, None);
    stop.cancel();
}

#[tokio::test]
async fn without_news_each_decision_reads_the_database_and_without_it_none_is_made() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 0).await;
    let (desk, stop) = following(&database).await;
    let call = asked("scout");
    assert_eq!(reason_of(&desk, &call).await, None);
    stop.cancel();
    until(|| async { !desk.teams.is_trusted() }).await;
    assert_eq!(reason_of(&desk, &call).await, None);
    revoke_permission(&database, "t", granted.grant.grant_id, noon()).await.unwrap();
    assert_eq!(reason_of(&desk, &call).await, Some(ErrorReason::NoGrant));
    grant(&database, to_agent("scout"), 0).await;
    assert_eq!(reason_of(&desk, &call).await, None);
    database.close().await;
    let refused = desk.authorize(&call, noon()).await;
    assert!(matches!(refused, Err(Error::Store(::store::Error::Unavailable(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again() {
    let database = team().await;
    let (desk, stop) = following(&database).await;
    let pool = database.pool().unwrap();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let closed: i64 = sqlx::query_scalar(cut).fetch_one(pool).await.unwrap();
    assert!(closed > 0);
    // What the pool had open a moment ago fails once.
    let root = caller("root", Role::Admin);
    until(|| async {
        let new = new_grant(to_agent("scout"), 0);
        grant_permission(&database, &root, new, noon()).await.is_ok()
    })
    .await;
    let call = asked("scout");
    until(|| async {
        matches!(desk.authorize(&call, noon()).await, Ok(decision) if decision.reason.is_none())
    })
    .await;
    until(|| async { desk.teams.is_trusted() }).await;
    stop.cancel();
}

#[tokio::test]
async fn a_call_without_limits_writes_nothing() {
    let database = team().await;
    grant(&database, to_agent("scout"), 0).await;
    let (desk, stop) = following(&database).await;
    let call = asked("scout");
    let decision = desk.authorize(&call, noon()).await.unwrap();
    assert_eq!((decision.reason, decision.reserved), (None, false));
    assert_eq!((decision.quota(), decision.budget), (None::<Quota>, None));
    let rows: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM permissions.reservation) + (SELECT count(*) FROM permissions.counter)
              + (SELECT count(*) FROM permissions.spend)",
    )
    .fetch_one(database.pool().unwrap())
    .await
    .unwrap();
    assert_eq!(rows, 0);
    let unknown = settle(&database, "t", decision.id, true).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
    stop.cancel();
}
