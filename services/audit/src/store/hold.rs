//! The SQL of legal holds.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::Connection;

/// A legal hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HoldRow {
    pub id: Uuid,
    pub name: String,
    pub reason: String,
    /// `None`: every user.
    pub subject_id: Option<Uuid>,
    /// The user's name, sealed under the subject's key.
    pub sealed_user: Option<Vec<u8>>,
    /// Empty: every agent.
    pub agent_id: String,
    pub start_time: Option<DateTime<Utc>>,
    pub end_time: Option<DateTime<Utc>>,
    pub place_agent_id: String,
    pub place_time: DateTime<Utc>,
    /// `None`: it is in force.
    pub release_time: Option<DateTime<Utc>>,
}

/// Places a hold. A conflict means that one of its name is in force.
pub(crate) async fn hold_insert(
    connection: &mut Connection,
    team: &str,
    hold: &HoldRow,
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO audit.hold (team_id, id, name, reason, subject_id, sealed_user, agent_id, start_time, end_time,
                                 place_agent_id, place_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        team,
        hold.id,
        hold.name,
        hold.reason,
        hold.subject_id,
        hold.sealed_user,
        hold.agent_id,
        hold.start_time,
        hold.end_time,
        hold.place_agent_id,
        hold.place_time,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the hold of a name that is in force, if there is one, and gives it.
pub(crate) async fn hold_release(
    connection: &mut Connection,
    team: &str,
    name: &str,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<Option<HoldRow>, Error> {
    let row = sqlx::query_as!(
        HoldRow,
        "UPDATE audit.hold SET release_time = $4, release_reason = $3
         WHERE team_id = $1 AND name = $2 AND release_time IS NULL
         RETURNING id, name, reason, subject_id, sealed_user, agent_id, start_time, end_time, place_agent_id,
                   place_time, release_time",
        team,
        name,
        reason,
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// Holds of a team, newest first.
pub(crate) async fn hold_list(
    pool: &PgPool,
    team: &str,
    with_released: bool,
    limit: i64,
) -> Result<Vec<HoldRow>, Error> {
    let rows = sqlx::query_as!(
        HoldRow,
        "SELECT id, name, reason, subject_id, sealed_user, agent_id, start_time, end_time, place_agent_id,
                place_time, release_time
         FROM audit.hold WHERE team_id = $1 AND ($2 OR release_time IS NULL)
         ORDER BY place_time DESC, id DESC LIMIT $3",
        team,
        with_released,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// The oldest hold in force that keeps what is known of a subject: one of everything, of this user, or of any of their
/// records; `None`: a user of whom nothing is known. To be asked under `erasing_lock_in_txn`, so that none is placed
/// meanwhile.
pub(crate) async fn hold_of_subject(
    connection: &mut Connection,
    team: &str,
    subject: Option<Uuid>,
) -> Result<Option<String>, Error> {
    let name = sqlx::query_scalar!(
        "SELECT h.name FROM audit.hold h
         WHERE h.team_id = $1 AND h.release_time IS NULL AND (h.subject_id IS NULL OR h.subject_id = $2)
           AND (h.agent_id = '' AND h.start_time IS NULL AND h.end_time IS NULL OR EXISTS (
               SELECT FROM audit.record r
               WHERE r.team_id = $1 AND r.subject_id = $2
                 AND (h.agent_id = '' OR r.agent_id = h.agent_id)
                 AND (h.start_time IS NULL OR r.event_time >= h.start_time)
                 AND (h.end_time IS NULL OR r.event_time < h.end_time)))
         ORDER BY h.place_time, h.id LIMIT 1",
        team,
        subject,
    )
    .fetch_optional(connection)
    .await?;
    Ok(name)
}
