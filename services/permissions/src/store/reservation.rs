//! Counters and the places taken in them. Each change is one statement that is whole or nothing, and is
//! not waited for until it reaches the disk (`synchronous_commit = off` for that statement alone): it
//! survives the death of any process of the suite, and the last fraction of a second is lost only when
//! the database itself crashes.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// A place to take.
#[derive(Debug, Clone)]
pub(crate) struct NewReservation {
    pub decision_id: Uuid,
    pub execution_id: Uuid,
    pub grant_id: Uuid,
    pub agent_id: String,
    pub window_start: DateTime<Utc>,
    pub tool_name: String,
    pub tool_digest: String,
    pub arguments_digest: String,
    pub quota_limit: i64,
    pub expire_time: DateTime<Utc>,
}

/// Takes a place if there is one, and gives the number of places taken, this one included. A conflict
/// means that the execution holds a place already; then nothing is taken.
pub(crate) async fn reservation_insert(
    pool: &PgPool,
    team: &str,
    new: &NewReservation,
) -> Result<Option<i64>, Error> {
    let taken = sqlx::query!(
        "WITH place AS (
             INSERT INTO permissions.counter AS c (team_id, grant_id, agent_id, window_start, used)
             VALUES ($1, $2, $3, $4, 1)
             ON CONFLICT (team_id, grant_id, agent_id, window_start)
             DO UPDATE SET used = c.used + 1 WHERE c.used < $5
             RETURNING used
         ), held AS (
             INSERT INTO permissions.reservation (
                 team_id, decision_id, execution_id, state, grant_id, agent_id, window_start, tool_name,
                 tool_digest, arguments_digest, used, quota_limit, expire_time)
             SELECT $1, $6, $7, 'reserved', $2, $3, $4, $8, $9, $10, place.used, $5, $11 FROM place
         )
         SELECT (SELECT used FROM place) AS used, set_config('synchronous_commit', 'off', true) AS relaxed",
        team,
        new.grant_id,
        new.agent_id,
        new.window_start,
        new.quota_limit,
        new.decision_id,
        new.execution_id,
        new.tool_name,
        new.tool_digest,
        new.arguments_digest,
        new.expire_time,
    )
    .fetch_one(pool)
    .await?;
    Ok(taken.used)
}

/// Ends a reservation that has not ended, and gives its place back unless the call was made. Tells
/// whether there is such a reservation at all.
pub(crate) async fn reservation_settle(
    pool: &PgPool,
    team: &str,
    decision: Uuid,
    committed: bool,
) -> Result<bool, Error> {
    let settled = sqlx::query!(
        "WITH settled AS (
             UPDATE permissions.reservation
             SET state = CASE WHEN $3 THEN 'committed' ELSE 'released' END
             WHERE team_id = $1 AND decision_id = $2 AND state = 'reserved'
             RETURNING grant_id, agent_id, window_start
         ), given_back AS (
             UPDATE permissions.counter c SET used = c.used - 1 FROM settled s
             WHERE NOT $3 AND c.team_id = $1 AND c.grant_id = s.grant_id AND c.agent_id = s.agent_id
               AND c.window_start = s.window_start AND c.used > 0
         )
         SELECT EXISTS (
             SELECT FROM permissions.reservation WHERE team_id = $1 AND decision_id = $2
         ) AS \"known!\", set_config('synchronous_commit', 'off', true) AS relaxed",
        team,
        decision,
        committed,
    )
    .fetch_one(pool)
    .await?;
    Ok(settled.known)
}

/// Ends at most `limit` reservations past their time, of every team, gives their places back, and tells
/// how many there were. One process sweeps at a time; for another there is nothing to do.
pub(crate) async fn reservations_expire(pool: &PgPool, now: DateTime<Utc>, limit: i64) -> Result<i64, Error> {
    let mut transaction = pool.begin().await?;
    let alone = sqlx::query_scalar!(
        "SELECT pg_try_advisory_xact_lock(hashtext('permissions.reservations_expire')) AS \"alone!\""
    )
    .fetch_one(&mut *transaction)
    .await?;
    if !alone {
        return Ok(0);
    }
    let expired = sqlx::query_scalar!(
        "WITH late AS (
             SELECT team_id, decision_id FROM permissions.reservation
             WHERE state = 'reserved' AND expire_time <= $1
             LIMIT $2 FOR UPDATE SKIP LOCKED
         ), expired AS (
             UPDATE permissions.reservation r SET state = 'expired' FROM late l
             WHERE r.team_id = l.team_id AND r.decision_id = l.decision_id
             RETURNING r.team_id, r.grant_id, r.agent_id, r.window_start
         ), counted AS (
             SELECT team_id, grant_id, agent_id, window_start, count(*) AS places
             FROM expired GROUP BY team_id, grant_id, agent_id, window_start
         ), given_back AS (
             UPDATE permissions.counter c SET used = greatest(c.used - n.places, 0) FROM counted n
             WHERE c.team_id = n.team_id AND c.grant_id = n.grant_id AND c.agent_id = n.agent_id
               AND c.window_start = n.window_start
         )
         SELECT count(*) AS \"expired!\" FROM expired",
        now,
        limit,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(expired)
}

/// Deletes reservations that ended and windows that began before a time, of every team.
pub(crate) async fn past_delete(pool: &PgPool, before: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM permissions.reservation r USING permissions.team t
         WHERE r.team_id = t.team_id AND r.decision_id < $1 AND r.state <> 'reserved'",
        first_id_of(before),
    )
    .execute(pool)
    .await?;
    sqlx::query!("DELETE FROM permissions.counter WHERE window_start < $1", before).execute(pool).await?;
    Ok(())
}

/// The smallest UUIDv7 of a time: its first 48 bits are milliseconds since 1970 (RFC 9562, section 5.7).
fn first_id_of(at: DateTime<Utc>) -> Uuid {
    let milliseconds = u64::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u64_pair(milliseconds << 16, 0)
}

/// Places taken in a window.
#[cfg(test)]
pub(crate) async fn counter_get(pool: &PgPool, team: &str, grant: Uuid, window: DateTime<Utc>) -> i64 {
    sqlx::query_scalar(
        "SELECT coalesce(sum(used), 0)::bigint FROM permissions.counter
         WHERE team_id = $1 AND grant_id = $2 AND window_start = $3",
    )
    .bind(team)
    .bind(grant)
    .bind(window)
    .fetch_one(pool)
    .await
    .unwrap()
}
