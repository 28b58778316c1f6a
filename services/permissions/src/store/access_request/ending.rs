//! How access requests and approvals end: by time, by the call that they were for, by whoever takes them back, and for
//! good once they ended long ago.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

use super::{AccessRequestRow, Condition};

/// The teams that have requests or approvals past their time, or an approval that has served its call.
pub(crate) async fn access_requests_due(pool: &PgPool, now: DateTime<Utc>) -> Result<Vec<String>, Error> {
    let teams = sqlx::query_scalar!(
        "SELECT team_id AS \"team_id!\" FROM permissions.access_request
         WHERE state IN ('pending', 'approved') AND expire_time <= $1
         UNION
         SELECT a.team_id FROM permissions.access_request a
         WHERE a.state = 'approved' AND a.scope = 'once' AND EXISTS (
             SELECT FROM permissions.reservation r
             WHERE r.team_id = a.team_id AND r.approval_id = a.request_id AND r.state = 'committed')",
        now,
    )
    .fetch_all(pool)
    .await?;
    Ok(teams)
}

/// Ends what is past its time in a team, approvals as of a revision, and gives it as it was before.
pub(crate) async fn access_requests_expire(
    connection: &mut PgConnection,
    team: &str,
    (now, revision, limit): (DateTime<Utc>, i64, i64),
) -> Result<Vec<AccessRequestRow>, Error> {
    let rows = sqlx::query_as!(
        AccessRequestRow,
        "WITH due AS (
             SELECT * FROM permissions.access_request
             WHERE team_id = $1 AND state IN ('pending', 'approved') AND expire_time <= $2
             ORDER BY request_id LIMIT $3
             FOR UPDATE
         ), ended AS (
             UPDATE permissions.access_request r
             SET state = 'expired', revision = CASE d.state WHEN 'approved' THEN $4 ELSE r.revision END
             FROM due d WHERE r.team_id = d.team_id AND r.request_id = d.request_id
         )
         SELECT team_id, request_id, agent_id, end_user, tool_name, tool_digest, arguments_digest, arguments_json,
                justification, approver_role, is_grant, execution_id, state, create_time, expire_time, decided_by,
                decided_role, decide_time, decision_reason, scope,
                conditions AS \"conditions: Json<Vec<Condition>>\", revision, revoked_by, revoke_time, revoke_reason
         FROM due ORDER BY request_id",
        team,
        now,
        limit,
        revision,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Notes that approvals of one call have served it, and which: the execution that was made. Gives them as they are then.
pub(crate) async fn access_requests_use(
    connection: &mut PgConnection,
    team: &str,
    (revision, limit): (i64, i64),
) -> Result<Vec<AccessRequestRow>, Error> {
    let rows = sqlx::query_as!(
        AccessRequestRow,
        "WITH served AS (
             SELECT s.request_id, r.execution_id FROM permissions.access_request s
             JOIN permissions.reservation r ON r.team_id = s.team_id AND r.approval_id = s.request_id
             WHERE s.team_id = $1 AND s.state = 'approved' AND s.scope = 'once' AND r.state = 'committed'
             ORDER BY s.request_id LIMIT $3
         )
         UPDATE permissions.access_request a
         SET state = 'used', execution_id = s.execution_id, revision = $2
         FROM served s WHERE a.team_id = $1 AND a.request_id = s.request_id
         RETURNING a.team_id, a.request_id, a.agent_id, a.end_user, a.tool_name, a.tool_digest, a.arguments_digest,
                a.arguments_json, a.justification, a.approver_role, a.is_grant, a.execution_id, a.state, a.create_time,
                a.expire_time, a.decided_by, a.decided_role, a.decide_time, a.decision_reason, a.scope,
                a.conditions AS \"conditions: Json<Vec<Condition>>\", a.revision, a.revoked_by, a.revoke_time,
                a.revoke_reason",
        team,
        revision,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Who takes an approval back.
#[derive(Debug, Clone)]
pub(crate) struct RevocationRow {
    pub revoked_by: String,
    pub revoke_time: DateTime<Utc>,
    pub reason: String,
    pub revision: i64,
}

/// Takes an approval back, and gives it as it is then; `None` where there is none in force at this time. One for one call
/// is in force until it is surely used: a call that has taken it may not have begun.
pub(crate) async fn access_request_revoke(
    connection: &mut PgConnection,
    team: &str,
    id: Uuid,
    revocation: &RevocationRow,
) -> Result<Option<AccessRequestRow>, Error> {
    let row = sqlx::query_as!(
        AccessRequestRow,
        "UPDATE permissions.access_request a
         SET state = 'revoked', revoked_by = $3, revoke_time = $4, revoke_reason = $5, revision = $6
         WHERE team_id = $1 AND request_id = $2 AND state = 'approved' AND expire_time > $4
           AND (scope <> 'once' OR NOT EXISTS (
               SELECT FROM permissions.reservation r
               WHERE r.team_id = $1 AND r.approval_id = $2 AND r.state = 'committed'))
         RETURNING a.team_id, a.request_id, a.agent_id, a.end_user, a.tool_name, a.tool_digest, a.arguments_digest,
                a.arguments_json, a.justification, a.approver_role, a.is_grant, a.execution_id, a.state, a.create_time,
                a.expire_time, a.decided_by, a.decided_role, a.decide_time, a.decision_reason, a.scope,
                a.conditions AS \"conditions: Json<Vec<Condition>>\", a.revision, a.revoked_by, a.revoke_time,
                a.revoke_reason",
        team,
        id,
        revocation.revoked_by,
        revocation.revoke_time,
        revocation.reason,
        revocation.revision,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// Deletes at most so many of every team that ended before a time, with what counted their use, and tells how many there
/// were. One process deletes at a time; for another there is nothing to do.
pub(crate) async fn access_requests_purge(
    pool: &PgPool,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<i64, Error> {
    let mut transaction = pool.begin().await?;
    let alone = sqlx::query_scalar!(
        "SELECT pg_try_advisory_xact_lock(hashtext('permissions.access_requests_purge')) AS \"alone!\""
    )
    .fetch_one(&mut *transaction)
    .await?;
    if !alone {
        return Ok(0);
    }
    let purged = sqlx::query_scalar!(
        "WITH past AS (
             SELECT team_id, request_id FROM permissions.access_request
             WHERE state IN ('denied', 'expired', 'used', 'revoked') AND expire_time < $1
             ORDER BY expire_time LIMIT $2
         ), gone AS (
             DELETE FROM permissions.access_request a USING past p
             WHERE a.team_id = p.team_id AND a.request_id = p.request_id
             RETURNING a.team_id, a.request_id, a.agent_id
         ), uncounted AS (
             DELETE FROM permissions.tally t USING gone g
             WHERE t.team_id = g.team_id AND t.counter_id = g.request_id AND t.agent_id = g.agent_id
         )
         SELECT count(*) AS \"purged!\" FROM gone",
        before,
        limit,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(purged)
}
