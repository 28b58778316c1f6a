//! Intents as the trail is compared with them. Nothing of what was asked or answered is read here.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// That a call was accepted, and whether it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IntentRow {
    pub id: Uuid,
    pub status: String,
    pub create_time: DateTime<Utc>,
    pub start_time: Option<DateTime<Utc>>,
    pub end_time: Option<DateTime<Utc>>,
}

/// Intents of a team after an id, in order of ids, whose id was made within this time. Ids begin with their time, so
/// that no intent of the time comes late into it.
pub(crate) async fn intents_list(
    pool: &PgPool,
    team: &str,
    after: Option<Uuid>,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    limit: i64,
) -> Result<Vec<IntentRow>, Error> {
    let rows = sqlx::query_as!(
        IntentRow,
        "SELECT id, status, create_time, start_time, end_time FROM executor.execution
         WHERE team_id = $1 AND id >= executor.uuid_floor($3) AND id < executor.uuid_floor($4)
           AND ($2::uuid IS NULL OR id > $2)
         ORDER BY id LIMIT $5",
        team,
        after,
        from,
        to,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Those of these executions of a team that are on record, in order of ids.
pub(crate) async fn intents_get(pool: &PgPool, team: &str, ids: &[Uuid]) -> Result<Vec<IntentRow>, Error> {
    let rows = sqlx::query_as!(
        IntentRow,
        "SELECT id, status, create_time, start_time, end_time FROM executor.execution
         WHERE team_id = $1 AND id = ANY ($2) ORDER BY id",
        team,
        ids,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// The teams that have executions whose id was made within this time: one look into the index for each.
pub(crate) async fn intents_teams(
    pool: &PgPool,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Vec<String>, Error> {
    let teams = sqlx::query_scalar!(
        "WITH RECURSIVE team AS (
             (SELECT team_id FROM executor.execution ORDER BY team_id LIMIT 1)
             UNION ALL
             SELECT (SELECT e.team_id FROM executor.execution e WHERE e.team_id > t.team_id
                     ORDER BY e.team_id LIMIT 1)
             FROM team t WHERE t.team_id IS NOT NULL
         )
         SELECT t.team_id AS \"team_id!\" FROM team t
         WHERE t.team_id IS NOT NULL AND EXISTS (
             SELECT FROM executor.execution e
             WHERE e.team_id = t.team_id AND e.id >= executor.uuid_floor($1) AND e.id < executor.uuid_floor($2))",
        from,
        to,
    )
    .fetch_all(pool)
    .await?;
    Ok(teams)
}
