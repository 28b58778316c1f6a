//! Reads executions, and finds the one of a request id.

use ::store::Error;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Execution, Filter};

/// The execution and body digest of a request id.
pub(crate) async fn request_get(
    pool: &PgPool,
    team: &str,
    request_id: &str,
) -> Result<Option<(Uuid, String)>, Error> {
    let row = sqlx::query!(
        "SELECT execution_id, body_digest FROM executor.request WHERE team_id = $1 AND request_id = $2",
        team,
        request_id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| (row.execution_id, row.body_digest)))
}

/// One execution.
pub(crate) async fn execution_get(pool: &PgPool, team: &str, id: Uuid) -> Result<Option<Execution>, Error> {
    let row = sqlx::query_as!(
        Execution,
        "SELECT team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity, agent_id, task_id, request_id,
                selection_id, trace_id, decision_id, arguments_json, arguments_digest, status, result_json, result_digest,
                error_json, cost_micro_usd, create_time, end_time, owner, lease_epoch, attempts_json, retries, source,
                cache_age_ms, warnings_json, input_tokens, output_tokens, asynchronous, priority, not_before,
                start_time, deliveries, max_deliveries, reserved, access_request_id, user_id, erased
         FROM executor.execution WHERE team_id = $1 AND id = $2",
        team,
        id
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// Executions of a team below an id, newest first, without their results.
pub(crate) async fn execution_list(
    pool: &PgPool,
    team: &str,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Execution>, Error> {
    let rows = sqlx::query_as!(
        Execution,
        "SELECT team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity, agent_id, task_id, request_id,
                selection_id, trace_id, decision_id, arguments_json, arguments_digest, status, '' AS \"result_json!\", result_digest,
                error_json, cost_micro_usd, create_time, end_time, owner, lease_epoch, attempts_json, retries, source,
                cache_age_ms, warnings_json, input_tokens, output_tokens, asynchronous, priority, not_before,
                start_time, deliveries, max_deliveries, reserved, access_request_id, user_id, erased
         FROM executor.execution
         WHERE team_id = $1
           AND ($2::uuid IS NULL OR id < $2)
           AND ($3::text IS NULL OR tool_name = $3)
           AND ($4::text IS NULL OR agent_id = $4)
           AND ($5::text IS NULL OR task_id = $5)
           AND ($6::text IS NULL OR status = $6)
           AND ($7::text IS NULL OR error_code = $7)
           AND ($8::text IS NULL OR request_id = $8)
           AND ($9::timestamptz IS NULL OR create_time >= $9)
           AND ($10::timestamptz IS NULL OR create_time < $10)
           AND ($9::timestamptz IS NULL OR id >= executor.uuid_floor($9 - interval '1 minute'))
           AND ($10::timestamptz IS NULL OR id < executor.uuid_floor($10 + interval '1 minute'))
         ORDER BY id DESC
         LIMIT $11",
        team,
        before,
        filter.tool_name,
        filter.agent_id,
        filter.task_id,
        filter.status,
        filter.error_code,
        filter.request_id,
        filter.created_after,
        filter.created_before,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}
