//! What is erased with a data subject: the selections made for them, all feedback on those, and their name and words in
//! other feedback. Each statement counts under the erasure what it took, so none counts anything twice.

use std::time::Duration;

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::Connection;

/// Days that it is kept what an erasure came to.
const ERASURE_DAYS: i32 = 90;

/// Whose data, of what was made before when. No `Debug`, so that no log line ever has it.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "names a person")]
pub(crate) struct Subject {
    pub team: String,
    pub user: String,
    pub before: DateTime<Utc>,
    /// Under which it is counted.
    pub erasure: Uuid,
}

/// What an erasure came to so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Erased {
    pub selections: i64,
    pub feedback: i64,
}

/// Whether more than a time has passed since the end of what is to be erased.
pub(crate) async fn erasure_is_settled(
    pool: &PgPool,
    subject: &Subject,
    margin: Duration,
) -> Result<bool, Error> {
    let settled = sqlx::query_scalar!(
        r#"SELECT now() > $1::timestamptz + make_interval(secs => $2) AS "settled!""#,
        subject.before,
        margin.as_secs_f64(),
    )
    .fetch_one(pool)
    .await?;
    Ok(settled)
}

/// Deletes at most so many selections of the user, with all feedback on them, and says how many. The team must be
/// locked: no feedback is then given on a selection that goes.
pub(crate) async fn user_selections_erase(
    connection: &mut Connection,
    subject: &Subject,
    limit: i64,
) -> Result<i64, Error> {
    let gone = sqlx::query_scalar!(
        r#"WITH found AS (
             SELECT id FROM selector.selection
             WHERE team_id = $1 AND user_id = $2 AND user_id <> '' AND create_time < $3
             LIMIT $5
         ), gone AS (
             DELETE FROM selector.selection WHERE team_id = $1 AND id IN (SELECT id FROM found)
             RETURNING 1
         ), said AS (
             DELETE FROM selector.feedback WHERE team_id = $1 AND selection_id IN (SELECT id FROM found)
             RETURNING 1
         ), counted AS (
             INSERT INTO selector.erasure AS e (team_id, erasure_id, selections, feedback)
             SELECT $1, $4, (SELECT count(*) FROM gone), (SELECT count(*) FROM said)
             ON CONFLICT (team_id, erasure_id) DO UPDATE
             SET selections = e.selections + excluded.selections, feedback = e.feedback + excluded.feedback
         )
         SELECT count(*) AS "gone!" FROM gone"#,
        subject.team,
        subject.user,
        subject.before,
        subject.erasure,
        limit,
    )
    .fetch_one(connection)
    .await?;
    Ok(gone)
}

/// Takes the user's name and words out of the feedback that was given for them on selections of others, which keep what
/// the agent thought of the tool.
pub(crate) async fn user_feedback_erase(connection: &mut Connection, subject: &Subject) -> Result<(), Error> {
    sqlx::query!(
        "WITH emptied AS (
             UPDATE selector.feedback SET user_id = '', comment = ''
             WHERE team_id = $1 AND user_id = $2 AND user_id <> '' AND update_time < $3
             RETURNING 1
         )
         INSERT INTO selector.erasure AS e (team_id, erasure_id, feedback)
         SELECT $1, $4, count(*) FROM emptied
         ON CONFLICT (team_id, erasure_id) DO UPDATE SET feedback = e.feedback + excluded.feedback",
        subject.team,
        subject.user,
        subject.before,
        subject.erasure,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What it came to so far.
pub(crate) async fn erasure_get(pool: &PgPool, subject: &Subject) -> Result<Erased, Error> {
    let erased = sqlx::query_as!(
        Erased,
        "SELECT selections, feedback FROM selector.erasure WHERE team_id = $1 AND erasure_id = $2",
        subject.team,
        subject.erasure,
    )
    .fetch_optional(pool)
    .await?;
    Ok(erased.unwrap_or_default())
}

/// Forgets what erasures came to whose time is over: they were done long ago.
pub(super) async fn erasures_delete_expired(pool: &PgPool) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM selector.erasure WHERE create_time < now() - make_interval(days => $1)",
        ERASURE_DAYS
    )
    .execute(pool)
    .await?;
    Ok(())
}
