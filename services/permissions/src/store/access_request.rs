//! Access requests: asked for once while they are open, and decided once. Whoever changes one holds its team by
//! `team_hold` first, so that of two who decide at once one does.

mod ending;

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

use crate::condition::Condition;

pub(crate) use ending::{
    RevocationRow, access_request_revoke, access_requests_due, access_requests_expire, access_requests_purge,
    access_requests_use,
};

/// Conditions as the table keeps them.
pub(crate) type Conditions = Json<Vec<Condition>>;

/// One access request, with the words that the table has for its state, its scope and roles.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AccessRequestRow {
    pub team_id: String,
    pub request_id: Uuid,
    pub agent_id: String,
    /// The end user that the agent acts for; empty: none.
    pub end_user: String,
    pub tool_name: String,
    pub tool_digest: String,
    pub arguments_digest: String,
    /// Sanitised.
    pub arguments_json: String,
    pub justification: String,
    pub approver_role: String,
    /// Whether an approval allows the call by itself.
    pub is_grant: bool,
    pub execution_id: Option<Uuid>,
    pub state: String,
    pub create_time: DateTime<Utc>,
    pub expire_time: DateTime<Utc>,
    pub decided_by: Option<String>,
    pub decided_role: Option<String>,
    pub decide_time: Option<DateTime<Utc>>,
    pub decision_reason: String,
    pub scope: Option<String>,
    pub conditions: Conditions,
    pub revision: i64,
    pub revoked_by: Option<String>,
    pub revoke_time: Option<DateTime<Utc>>,
    pub revoke_reason: String,
}

/// A decision on one.
#[derive(Debug, Clone)]
pub(crate) struct DecisionRow {
    pub state: &'static str,
    pub decided_by: String,
    pub decided_role: &'static str,
    pub decide_time: DateTime<Utc>,
    pub reason: String,
    pub scope: Option<&'static str>,
    pub conditions: Vec<Condition>,
    /// When an approval ends; a denial leaves what was.
    pub expire_time: Option<DateTime<Utc>>,
    pub revision: i64,
}

/// What a listing asks for; `None` matches all.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccessRequestFilter {
    /// As it is at the time of the listing.
    pub state: Option<String>,
    pub agent_id: Option<String>,
    pub tool_name: Option<String>,
}

/// Reads one. It is used as soon as a call has taken its only place, which may still be given back.
pub(crate) async fn access_request_get(
    pool: &PgPool,
    team: &str,
    id: Uuid,
) -> Result<Option<AccessRequestRow>, Error> {
    let row = sqlx::query_as!(
        AccessRequestRow,
        "SELECT a.team_id, a.request_id, a.agent_id, a.end_user, a.tool_name, a.tool_digest, a.arguments_digest,
                a.arguments_json, a.justification, a.approver_role, a.is_grant, a.execution_id, CASE WHEN a.state = 'approved' AND a.scope = 'once' AND EXISTS (
                    SELECT FROM permissions.tally t
                    WHERE t.team_id = a.team_id AND t.counter_id = a.request_id AND t.agent_id = a.agent_id
                      AND t.used > 0
                ) THEN 'used' ELSE a.state END AS \"state!\",
                a.create_time, a.expire_time, a.decided_by, a.decided_role, a.decide_time, a.decision_reason, a.scope,
                a.conditions AS \"conditions: Json<Vec<Condition>>\", a.revision, a.revoked_by, a.revoke_time,
                a.revoke_reason
         FROM permissions.access_request a WHERE a.team_id = $1 AND a.request_id = $2",
        team,
        id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// Those of a team below an id, newest first.
pub(crate) async fn access_request_list(
    pool: &PgPool,
    team: &str,
    filter: &AccessRequestFilter,
    (before, limit): (Option<Uuid>, i64),
    now: DateTime<Utc>,
) -> Result<Vec<AccessRequestRow>, Error> {
    let rows = sqlx::query_as!(
        AccessRequestRow,
        "SELECT a.team_id, a.request_id, a.agent_id, a.end_user, a.tool_name, a.tool_digest, a.arguments_digest,
                a.arguments_json, a.justification, a.approver_role, a.is_grant, a.execution_id, CASE WHEN a.state = 'approved' AND a.scope = 'once' AND EXISTS (
                    SELECT FROM permissions.tally t
                    WHERE t.team_id = a.team_id AND t.counter_id = a.request_id AND t.agent_id = a.agent_id
                      AND t.used > 0
                ) THEN 'used' ELSE a.state END AS \"state!\",
                a.create_time, a.expire_time, a.decided_by, a.decided_role, a.decide_time, a.decision_reason, a.scope,
                a.conditions AS \"conditions: Json<Vec<Condition>>\", a.revision, a.revoked_by, a.revoke_time,
                a.revoke_reason
         FROM permissions.access_request a
         WHERE a.team_id = $1
           AND ($2::uuid IS NULL OR a.request_id < $2)
           AND ($3::text IS NULL OR a.agent_id = $3)
           AND ($4::text IS NULL OR a.tool_name = $4)
           AND ($5::text IS NULL OR $5 = CASE
                WHEN a.state = 'approved' AND a.scope = 'once' AND EXISTS (
                    SELECT FROM permissions.tally t
                    WHERE t.team_id = a.team_id AND t.counter_id = a.request_id AND t.agent_id = a.agent_id
                      AND t.used > 0
                ) THEN 'used'
                WHEN a.state IN ('pending', 'approved') AND a.expire_time <= $6 THEN 'expired'
                ELSE a.state END)
         ORDER BY a.request_id DESC LIMIT $7",
        team,
        before,
        filter.agent_id,
        filter.tool_name,
        filter.state,
        now,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// One that waits for a decision on the same call of the same agent and end user.
pub(crate) async fn access_request_find(
    connection: &mut PgConnection,
    wanted: &AccessRequestRow,
) -> Result<Option<AccessRequestRow>, Error> {
    let row = sqlx::query_as!(
        AccessRequestRow,
        "SELECT team_id, request_id, agent_id, end_user, tool_name, tool_digest, arguments_digest, arguments_json,
                justification, approver_role, is_grant, execution_id, state, create_time, expire_time, decided_by,
                decided_role, decide_time, decision_reason, scope,
                conditions AS \"conditions: Json<Vec<Condition>>\", revision, revoked_by, revoke_time, revoke_reason
         FROM permissions.access_request
         WHERE team_id = $1 AND agent_id = $2 AND md5(end_user) = md5($3) AND tool_name = $4 AND tool_digest = $5
           AND arguments_digest = $6 AND state = 'pending'",
        wanted.team_id,
        wanted.agent_id,
        wanted.end_user,
        wanted.tool_name,
        wanted.tool_digest,
        wanted.arguments_digest,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// How many wait of an agent, and of its whole team.
pub(crate) async fn access_requests_count(
    connection: &mut PgConnection,
    team: &str,
    agent: &str,
    now: DateTime<Utc>,
) -> Result<(i64, i64), Error> {
    let row = sqlx::query!(
        "SELECT count(*) FILTER (WHERE agent_id = $2) AS \"of_agent!\", count(*) AS \"of_team!\"
         FROM permissions.access_request WHERE team_id = $1 AND state = 'pending' AND expire_time > $3",
        team,
        agent,
        now,
    )
    .fetch_one(connection)
    .await?;
    Ok((row.of_agent, row.of_team))
}

/// Adds one.
pub(crate) async fn access_request_insert(
    connection: &mut PgConnection,
    new: &AccessRequestRow,
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO permissions.access_request (
             team_id, request_id, agent_id, end_user, tool_name, tool_digest, arguments_digest, arguments_json,
             justification, approver_role, is_grant, execution_id, state, create_time, expire_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        new.team_id,
        new.request_id,
        new.agent_id,
        new.end_user,
        new.tool_name,
        new.tool_digest,
        new.arguments_digest,
        new.arguments_json,
        new.justification,
        new.approver_role,
        new.is_grant,
        new.execution_id,
        new.state,
        new.create_time,
        new.expire_time,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds what an open one lacks that is asked for again: why, and for which execution. Gives it as it is then.
pub(crate) async fn access_request_complete(
    connection: &mut PgConnection,
    team: &str,
    id: Uuid,
    (justification, execution_id): (&str, Option<Uuid>),
) -> Result<AccessRequestRow, Error> {
    let row = sqlx::query_as!(
        AccessRequestRow,
        "UPDATE permissions.access_request
         SET justification = CASE WHEN justification = '' THEN $3 ELSE justification END,
             execution_id = coalesce(execution_id, $4)
         WHERE team_id = $1 AND request_id = $2
         RETURNING team_id, request_id, agent_id, end_user, tool_name, tool_digest, arguments_digest, arguments_json,
                justification, approver_role, is_grant, execution_id, state, create_time, expire_time, decided_by,
                decided_role, decide_time, decision_reason, scope,
                conditions AS \"conditions: Json<Vec<Condition>>\", revision, revoked_by, revoke_time, revoke_reason",
        team,
        id,
        justification,
        execution_id,
    )
    .fetch_one(connection)
    .await?;
    Ok(row)
}

/// Ends one that waited longer than it may.
pub(crate) async fn access_request_end(
    connection: &mut PgConnection,
    row: &AccessRequestRow,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE permissions.access_request SET state = 'expired'
         WHERE team_id = $1 AND request_id = $2 AND state = 'pending'",
        row.team_id,
        row.request_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Decides one, and gives it as it is then; `None` where there is none that waits at this time.
pub(crate) async fn access_request_decide(
    connection: &mut PgConnection,
    team: &str,
    id: Uuid,
    decision: &DecisionRow,
) -> Result<Option<AccessRequestRow>, Error> {
    let row = sqlx::query_as!(
        AccessRequestRow,
        "UPDATE permissions.access_request
         SET state = $3, decided_by = $4, decided_role = $5, decide_time = $6, decision_reason = $7, scope = $8,
             conditions = $9, expire_time = coalesce($10, expire_time), revision = $11
         WHERE team_id = $1 AND request_id = $2 AND state = 'pending' AND expire_time > $6
         RETURNING team_id, request_id, agent_id, end_user, tool_name, tool_digest, arguments_digest, arguments_json,
                justification, approver_role, is_grant, execution_id, state, create_time, expire_time, decided_by,
                decided_role, decide_time, decision_reason, scope,
                conditions AS \"conditions: Json<Vec<Condition>>\", revision, revoked_by, revoke_time, revoke_reason",
        team,
        id,
        decision.state,
        decision.decided_by,
        decision.decided_role,
        decision.decide_time,
        decision.reason,
        decision.scope,
        Json(&decision.conditions) as _,
        decision.expire_time,
        decision.revision,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// Requests of a team whose approval changed after a revision: what was approved, and what may not serve any more.
pub(crate) async fn approvals_since(
    connection: &mut PgConnection,
    team: &str,
    after: i64,
) -> Result<Vec<AccessRequestRow>, Error> {
    let rows = sqlx::query_as!(
        AccessRequestRow,
        "SELECT team_id, request_id, agent_id, end_user, tool_name, tool_digest, arguments_digest, arguments_json,
                justification, approver_role, is_grant, execution_id, state, create_time, expire_time, decided_by,
                decided_role, decide_time, decision_reason, scope,
                conditions AS \"conditions: Json<Vec<Condition>>\", revision, revoked_by, revoke_time, revoke_reason
         FROM permissions.access_request
         WHERE team_id = $1 AND revision > 0 AND revision > $2 AND scope IS NOT NULL
           AND ($2 >= 0 OR state = 'approved')",
        team,
        after,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}
