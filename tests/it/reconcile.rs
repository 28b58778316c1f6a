//! The comparison of executions with the trail in a whole suite: what somebody takes out of the trail, or puts into it,
//! is found, told once, and shown by health.

use node::config::Settings;
use proto::{
    audit::v1::{
        Action, Finding, GetTrailHealthRequest, GetTrailHealthResponse, QueryTrailRequest,
        ReconcileTrailRequest,
    },
    executor::v1::Execution,
};
use serde_json::json;
use sqlx::PgPool;
use tests::{HttpTool, Mode, Suite, Upstream, eventually};

tests::scenarios_alone! {
    what_is_taken_from_the_trail_or_put_into_it_is_found,
}

fn quickly(settings: &mut Settings) {
    settings.audit.reconcile_interval_s = 1;
    settings.audit.reconcile_grace_s = 1;
}

async fn health(suite: &Suite) -> GetTrailHealthResponse {
    suite.admin.audit().get_trail_health(GetTrailHealthRequest {}).await.unwrap().into_inner()
}

async fn run(pool: &PgPool, statement: &'static str, id: &str) {
    let id: uuid::Uuid = id.parse().unwrap();
    let done = sqlx::query(statement).bind(id).execute(pool).await.unwrap();
    assert!(done.rows_affected() > 0, "{statement}");
}

fn of<'a>(findings: &'a [Finding], execution: &str) -> Vec<&'a str> {
    let own = findings.iter().filter(|finding| finding.execution_id == execution);
    own.map(|finding| finding.kind.as_str()).collect()
}

async fn what_is_taken_from_the_trail_or_put_into_it_is_found(mode: Mode) {
    let suite = Suite::start_with(mode, quickly).await;
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("counted", upstream.url("/echo"))).await;
    let mut calls: Vec<Execution> = Vec::new();
    for _ in 0..5 {
        calls.push(agent.call("counted", json!({})).await);
    }
    suite.wait_until_delivered().await;
    let sound = eventually("all of it is compared", async || {
        let health = health(&suite).await;
        (health.reconciled_executions >= 5 && health.unsigned_events == 0).then_some(health)
    })
    .await;
    assert!(sound.healthy && sound.open_findings == 0, "{sound:?}");
    let asked = ReconcileTrailRequest::default();
    let agrees = suite.admin.audit().reconcile_trail(asked).await.unwrap().into_inner();
    assert!(agrees.executions >= 5 && agrees.events >= 5 && agrees.findings.is_empty(), "{agrees:?}");

    // By whoever has the database: an outcome goes, another tells of an execution that was never made.
    let database = suite.database();
    let pool = database.pool().unwrap();
    run(pool, "DELETE FROM audit.record WHERE execution_id = $1", &calls[0].id).await;
    let invented = types::new_id().to_string();
    let forge = "WITH head AS (
             UPDATE audit.head SET sequence = sequence + 1 WHERE team_id = 'crew' RETURNING sequence
         )
         INSERT INTO audit.record
         SELECT (made).* FROM (
             SELECT jsonb_populate_record(r, jsonb_build_object(
                 'id', gen_random_uuid(), 'execution_id', $1, 'sequence', h.sequence)) AS made
             FROM audit.record r, head h WHERE r.action = 'tool_invoked' LIMIT 1) m";
    run(pool, forge, &invented).await;
    // Beyond the watermark's reach, too: on demand everything is compared.
    let found = suite.admin.audit().reconcile_trail(asked).await.unwrap().into_inner().findings;
    assert_eq!(of(&found, &calls[0].id), ["OUTCOME_MISSING"], "{found:?}");
    assert_eq!(of(&found, &invented), ["INTENT_MISSING"], "{found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
    let health = health(&suite).await;
    assert!(!health.healthy && health.open_findings == 2 && !health.faults.is_empty(), "{health:?}");
    // Once, however often it is looked at.
    suite.admin.audit().reconcile_trail(asked).await.unwrap();
    let told =
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM audit.record WHERE action = 'discrepancy_found'");
    assert_eq!(told.fetch_one(pool).await.unwrap(), 2);
    let filter = QueryTrailRequest {
        action: Action::DiscrepancyFound.into(),
        execution_id: calls[0].id.clone(),
        ..QueryTrailRequest::default()
    };
    let events = suite.trail(filter).await;
    assert_eq!((events.len(), events[0].reason.as_str()), (1, "OUTCOME_MISSING"), "{events:?}");
    suite.stop().await;
}
