//! What is erased with a data subject: the user's name and every text that tells of them.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// Whose texts, and of requests made before when.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub team: String,
    pub user: String,
    pub before: DateTime<Utc>,
    /// Under which it is counted.
    pub erasure: Uuid,
}

/// An access request that ended with its data subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErasedRequest {
    pub request_id: Uuid,
    pub agent_id: String,
    pub tool_name: String,
    /// As it was before.
    pub was_open: bool,
}

/// What an erasure came to so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Erased {
    pub access_requests: i64,
    pub deliveries: i64,
    pub quiet_time: DateTime<Utc>,
}

/// Empties at most so many access requests of the user, of a team that is held: those that wait, and approvals in force,
/// end, as of a revision. Their limits, and what they were about, stay. Messages to webhooks that tell of them go,
/// whenever they were made.
pub(crate) async fn user_requests_erase(
    connection: &mut PgConnection,
    subject: &Subject,
    revision: i64,
    limit: i64,
) -> Result<Vec<ErasedRequest>, Error> {
    let rows = sqlx::query_as!(
        ErasedRequest,
        "WITH found AS (
             SELECT team_id, request_id, state FROM permissions.access_request
             WHERE team_id = $1 AND md5(end_user) = md5($2) AND end_user = $2 AND end_user <> ''
               AND create_time < $3
             ORDER BY request_id LIMIT $5
             FOR UPDATE
         ), emptied AS (
             UPDATE permissions.access_request a
             SET state = CASE WHEN f.state IN ('pending', 'approved') THEN 'expired' ELSE f.state END,
                 revision = CASE f.state WHEN 'approved' THEN $4 ELSE a.revision END,
                 end_user = '', arguments_json = '{}', arguments_digest = '', justification = '',
                 decision_reason = '', revoke_reason = '', conditions = '[]'
             FROM found f WHERE a.team_id = f.team_id AND a.request_id = f.request_id
             RETURNING a.request_id, a.agent_id, a.tool_name, f.state
         ), gone AS (
             DELETE FROM permissions.delivery d USING found f
             WHERE d.team_id = f.team_id AND nullif(d.body, '')::jsonb #>> '{data,id}' = f.request_id::text
             RETURNING 1
         ), counted AS (
             INSERT INTO permissions.erasure AS e (team_id, id, access_requests, deliveries)
             SELECT $1, $6, (SELECT count(*) FROM emptied), (SELECT count(*) FROM gone)
             ON CONFLICT (team_id, id) DO UPDATE
             SET access_requests = e.access_requests + excluded.access_requests,
                 deliveries = e.deliveries + excluded.deliveries
         )
         SELECT request_id, agent_id, tool_name, state IN ('pending', 'approved') AS \"was_open!\" FROM emptied",
        subject.team,
        subject.user,
        subject.before,
        revision,
        limit,
        subject.erasure,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Drops messages to webhooks that name the user, and notes when that was first done; what was sent is with its
/// receiver. Gives what the erasure came to.
pub(crate) async fn user_deliveries_erase(
    connection: &mut PgConnection,
    subject: &Subject,
) -> Result<Erased, Error> {
    let erased = sqlx::query_as!(
        Erased,
        "WITH gone AS (
             DELETE FROM permissions.delivery
             WHERE team_id = $1 AND create_time < $3 AND nullif(body, '')::jsonb #>> '{data,user}' = $2
             RETURNING 1
         )
         INSERT INTO permissions.erasure AS e (team_id, id, deliveries, quiet_time)
         SELECT $1, $4, count(*), now() FROM gone
         ON CONFLICT (team_id, id) DO UPDATE
         SET deliveries = e.deliveries + excluded.deliveries, quiet_time = coalesce(e.quiet_time, now())
         RETURNING access_requests, deliveries, quiet_time AS \"quiet_time!\"",
        subject.team,
        subject.user,
        subject.before,
        subject.erasure,
    )
    .fetch_one(connection)
    .await?;
    Ok(erased)
}

/// Whether an event that holds each of two fields, as they are encoded, still waits since before everything else was
/// gone.
pub(crate) async fn is_in_outbox(
    connection: &mut PgConnection,
    (team, user): (&[u8], &[u8]),
    before: DateTime<Utc>,
) -> Result<bool, Error> {
    let waits = sqlx::query_scalar!(
        "SELECT EXISTS (
             SELECT FROM permissions.outbox
             WHERE create_time <= $1 AND position($2 IN payload) > 0 AND position($3 IN payload) > 0
         ) AS \"waits!\"",
        before,
        team,
        user,
    )
    .fetch_one(connection)
    .await?;
    Ok(waits)
}
