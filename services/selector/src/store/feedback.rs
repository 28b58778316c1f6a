//! Feedback on selections.

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, types::Json};
use uuid::Uuid;

use super::Connection;

/// Most requests that are remembered of one feedback.
const REQUESTS: i32 = 16;

/// What feedback needs to know of a selection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SelectionBrief {
    pub agent_id: String,
    pub category: String,
    pub followed_tool: Option<String>,
    /// Names, best first.
    pub offered: Vec<String>,
}

/// One feedback.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FeedbackRow {
    pub team_id: String,
    pub id: Uuid,
    pub selection_id: Uuid,
    pub tool_name: String,
    pub agent_id: String,
    pub by_person: bool,
    pub request_id: String,
    pub quality: Option<f64>,
    pub followed: Option<bool>,
    /// Redacted.
    pub comment: String,
    /// The end user for whom it was given; empty: none.
    pub user_id: String,
    pub update_time: DateTime<Utc>,
    /// Of the record that its quality is in; empty: written by an older version.
    pub category: String,
}

/// A request that gave feedback, as it was sent; without words, so that nothing of an end user outlives its erasure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SentRow {
    pub id: String,
    /// Empty: left to be found.
    pub tool_name: String,
    pub quality: Option<f64>,
    pub followed: Option<bool>,
}

/// A row of a query as the domain has it; each query has a row type of its own.
macro_rules! feedback_row {
    ($row:ident) => {
        FeedbackRow {
            team_id: $row.team_id,
            id: $row.id,
            selection_id: $row.selection_id,
            tool_name: $row.tool_name,
            agent_id: $row.agent_id,
            by_person: $row.by_person,
            request_id: $row.request_id,
            quality: $row.quality,
            followed: $row.followed,
            comment: $row.comment,
            user_id: $row.user_id,
            update_time: $row.update_time,
            category: $row.category,
        }
    };
}

/// A selection of the team; `None`: it has none of this id.
pub(crate) async fn selection_brief(
    connection: &mut Connection,
    team: &str,
    id: Uuid,
) -> Result<Option<SelectionBrief>, Error> {
    let row = sqlx::query!(
        r#"SELECT agent_id, task_category, followed_tool,
             ARRAY(SELECT tool ->> 'name' FROM jsonb_array_elements(ranked) WITH ORDINALITY AS t (tool, place)
                 WHERE tool ->> 'name' IS NOT NULL ORDER BY place) AS "offered!"
         FROM selector.selection WHERE team_id = $1 AND id = $2"#,
        team,
        id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| SelectionBrief {
        agent_id: row.agent_id,
        category: row.task_category,
        followed_tool: row.followed_tool,
        offered: row.offered,
    }))
}

/// Notes that a tool was called after a selection that no call is known to have followed.
pub(crate) async fn selection_follow(
    connection: &mut Connection,
    team: &str,
    id: Uuid,
    tool: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE selector.selection SET followed_tool = $3
         WHERE team_id = $1 AND id = $2 AND follow_time IS NULL",
        team,
        id,
        tool,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What an agent gave with this request id, and what it sent then; other feedback of the same giver may have come after
/// it.
pub(crate) async fn feedback_of_request(
    connection: &mut Connection,
    team: &str,
    agent: &str,
    request_id: &str,
) -> Result<Option<(FeedbackRow, SentRow)>, Error> {
    if request_id.is_empty() {
        return Ok(None);
    }
    let row = sqlx::query!(
        r#"SELECT id, team_id, selection_id, tool_name, agent_id, by_person, request_id, quality, followed, comment,
             user_id, update_time, category, sent AS "sent!: Json<SentRow>"
         FROM selector.feedback
         CROSS JOIN LATERAL (SELECT sent FROM jsonb_array_elements(requests) AS sent WHERE sent ->> 'id' = $3) AS sent
         WHERE team_id = $1 AND agent_id = $2
             AND requests @> jsonb_build_array(jsonb_build_object('id', $3::text))"#,
        team,
        agent,
        request_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (feedback_row!(row), row.sent.0)))
}

/// What the same giver said of the same tool of the same selection.
pub(crate) async fn feedback_earlier(
    connection: &mut Connection,
    like: &FeedbackRow,
) -> Result<Option<FeedbackRow>, Error> {
    let row = sqlx::query!(
        "SELECT id, team_id, selection_id, tool_name, agent_id, by_person, request_id, quality, followed, comment, user_id,
             update_time, category
         FROM selector.feedback
         WHERE team_id = $1 AND selection_id = $2 AND tool_name = $3 AND agent_id = $4 AND by_person = $5",
        like.team_id,
        like.selection_id,
        like.tool_name,
        like.agent_id,
        like.by_person,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| feedback_row!(row)))
}

/// Writes a feedback, in the place of the earlier one of this id, and remembers the request that gave it, if it had an
/// id.
pub(crate) async fn feedback_put(
    connection: &mut Connection,
    row: &FeedbackRow,
    sent: &SentRow,
) -> Result<(), Error> {
    let sent = if sent.id.is_empty() { Vec::new() } else { vec![sent] };
    sqlx::query!(
        "INSERT INTO selector.feedback AS f (
             team_id, id, selection_id, tool_name, agent_id, by_person, request_id, quality, followed, comment,
             create_time, update_time, user_id, category, requests)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13, $14)
         ON CONFLICT (team_id, id) DO UPDATE SET
             request_id = excluded.request_id, quality = excluded.quality, followed = excluded.followed,
             comment = excluded.comment, update_time = excluded.update_time, user_id = excluded.user_id,
             category = excluded.category,
             requests = CASE WHEN jsonb_array_length(f.requests || excluded.requests) > $15
                 THEN f.requests - 0 ELSE f.requests END || excluded.requests",
        row.team_id,
        row.id,
        row.selection_id,
        row.tool_name,
        row.agent_id,
        row.by_person,
        row.request_id,
        row.quality,
        row.followed,
        row.comment,
        row.update_time,
        row.user_id,
        row.category,
        Json(sent) as _,
        REQUESTS,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// All feedback on some selections, in order of time.
pub(crate) async fn feedback_list(
    pool: &PgPool,
    team: &str,
    selections: &[Uuid],
) -> Result<Vec<FeedbackRow>, Error> {
    let rows = sqlx::query!(
        "SELECT id, team_id, selection_id, tool_name, agent_id, by_person, request_id, quality, followed, comment, user_id,
             update_time, category
         FROM selector.feedback WHERE team_id = $1 AND selection_id = ANY($2)
         ORDER BY update_time, id",
        team,
        selections,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| feedback_row!(row)).collect())
}

/// Deletes feedback that was given while its selection went: no erasure of its user would find it.
pub(super) async fn feedback_delete_orphaned(pool: &PgPool) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM selector.feedback f WHERE NOT EXISTS (
             SELECT FROM selector.selection s WHERE s.team_id = f.team_id AND s.id = f.selection_id)"
    )
    .execute(pool)
    .await?;
    Ok(())
}
