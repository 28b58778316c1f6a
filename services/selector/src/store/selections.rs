//! The log of selections: what was answered to which question, and what became of it.

use std::{collections::BTreeMap, time::Duration};

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, types::Json};
use types::{Caller, Category};
use uuid::Uuid;

use crate::{answer::Choice, select::Selection, wanted::Wanted};

/// Days that a selection is kept to learn from.
const SELECTION_DAYS: i32 = 30;
/// Bytes that listed feedback takes, generously, beside its comment.
const FEEDBACK_BYTES: i32 = 512;
/// What a score was that an older version did not log.
const NEUTRAL: f64 = 0.5;

/// One tool that was offered, with the scores of then. Success is what the record said, not what an exploration drew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Offered {
    pub name: String,
    #[serde(rename = "match")]
    pub matching: f64,
    pub suitability: f64,
    pub combined: f64,
    pub capability: f64,
    pub text: f64,
    pub semantic: f64,
    pub success: f64,
    pub latency: f64,
    pub cost: f64,
    pub quality: f64,
    /// By name.
    pub signals: BTreeMap<String, f64>,
    pub pinned: bool,
}

impl Default for Offered {
    fn default() -> Self {
        Self {
            name: String::new(),
            matching: NEUTRAL,
            suitability: NEUTRAL,
            combined: NEUTRAL,
            capability: NEUTRAL,
            text: NEUTRAL,
            semantic: NEUTRAL,
            success: NEUTRAL,
            latency: NEUTRAL,
            cost: NEUTRAL,
            quality: NEUTRAL,
            signals: BTreeMap::new(),
            pinned: false,
        }
    }
}

impl Offered {
    fn new(choice: &Choice) -> Self {
        let scores = &choice.scores;
        Self {
            name: choice.name.clone(),
            matching: scores.matching,
            suitability: scores.suitability,
            combined: scores.combined,
            capability: scores.capability,
            text: scores.text,
            semantic: scores.semantic,
            success: scores.expected,
            latency: scores.latency,
            cost: scores.cost,
            quality: scores.quality,
            signals: choice.signals(),
            pinned: choice.is_pinned,
        }
    }
}

/// One selection, to be written. The task is not in it: only its digest, length and vector.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SelectionRow {
    team_id: String,
    id: Uuid,
    agent_id: String,
    /// Empty: none.
    user_id: String,
    task_id: String,
    task_digest: String,
    task_length: i32,
    task_category: &'static str,
    candidate_count: i32,
    ranked: Vec<Offered>,
    create_time: DateTime<Utc>,
    confidence: f64,
    mode: &'static str,
    policy_version: i32,
    explored: bool,
    propensity: f64,
    model_id: String,
    /// In hex.
    task_vector: Option<String>,
}

impl SelectionRow {
    pub(crate) fn new(caller: &Caller, wanted: &Wanted, selection: &Selection, now: DateTime<Utc>) -> Self {
        let (model_id, task_vector) = selection.task_vector.clone().unzip();
        Self {
            team_id: caller.team.clone(),
            id: selection.id,
            agent_id: caller.agent.clone(),
            user_id: caller.user.clone(),
            task_id: wanted.task_id.clone(),
            task_digest: types::digest_bytes(wanted.task.as_bytes()),
            task_length: i32::try_from(wanted.task.len()).unwrap_or(i32::MAX),
            task_category: selection.task_category.map_or("", Category::as_str),
            candidate_count: i32::try_from(selection.candidate_count).unwrap_or(i32::MAX),
            ranked: selection.choices.iter().map(Offered::new).collect(),
            create_time: now,
            confidence: selection.confidence,
            mode: selection.mode.as_str(),
            policy_version: selection.policy_version,
            explored: wanted.explore,
            propensity: selection.propensity,
            model_id: model_id.unwrap_or_default(),
            task_vector: task_vector.map(hex::encode),
        }
    }
}

/// Which selections.
#[derive(Debug, Clone, Default)]
pub(crate) struct SelectionFilter {
    pub agent_id: Option<String>,
    /// Offered, or called.
    pub tool_name: Option<String>,
    pub task_id: Option<String>,
    pub followed: Option<bool>,
    pub start_time: Option<DateTime<Utc>>,
    pub end_time: Option<DateTime<Utc>>,
}

/// One selection as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct LoggedRow {
    pub id: Uuid,
    pub agent_id: String,
    pub task_id: String,
    pub task_digest: String,
    pub task_length: i32,
    /// Empty: none.
    pub task_category: String,
    pub candidate_count: i32,
    pub ranked: Json<Vec<Offered>>,
    pub create_time: DateTime<Utc>,
    pub confidence: f64,
    pub mode: String,
    pub policy_version: i32,
    pub explored: bool,
    pub followed_tool: Option<String>,
    pub execution_id: Option<Uuid>,
    pub succeeded: Option<bool>,
    /// Of all feedback on it, when it is listed.
    pub feedback_bytes: i64,
}

/// Adds selections without waiting for the disk: one lost in a crash is no one's loss. Those of end users that are older
/// than a time are left out. Gives how many were added.
pub(crate) async fn selections_insert(
    pool: &PgPool,
    selections: &[SelectionRow],
    write_timeout: Duration,
) -> Result<usize, Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("SELECT set_config('synchronous_commit', 'off', true)").fetch_one(&mut *transaction).await?;
    let added = sqlx::query!(
        "INSERT INTO selector.selection (
             team_id, id, agent_id, user_id, task_id, task_digest, task_length, candidate_count, ranked, create_time,
             task_category, confidence, mode, policy_version, explored, propensity, model_id, task_vector)
         SELECT team_id, id, agent_id, user_id, task_id, task_digest, task_length, candidate_count, ranked,
             create_time, task_category, confidence, mode, policy_version, explored, propensity, model_id,
             decode(task_vector, 'hex')
         FROM jsonb_to_recordset($1::jsonb) AS r (
             team_id text, id uuid, agent_id text, user_id text, task_id text, task_digest text, task_length integer,
             candidate_count integer, ranked jsonb, create_time timestamptz, task_category text,
             confidence double precision, mode text, policy_version integer, explored boolean,
             propensity double precision, model_id text, task_vector text)
         WHERE user_id = '' OR create_time > now() - make_interval(secs => $2)",
        Json(selections) as _,
        write_timeout.as_secs_f64(),
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(usize::try_from(added.rows_affected()).unwrap_or(usize::MAX))
}

/// Selections of a team that are older than a place, newest first. Planned for the very filter: one plan for every
/// filter would read the log of the whole team for that of one agent or task.
pub(crate) async fn selections_list(
    pool: &PgPool,
    team: &str,
    filter: &SelectionFilter,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<LoggedRow>, Error> {
    let (before_time, before_id) = before.unzip();
    let offers = filter.tool_name.as_ref().map(|name| serde_json::json!([{ "name": name }]));
    let begin = "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan";
    let mut transaction = pool.begin_with(begin).await?;
    let rows = sqlx::query_as!(
        LoggedRow,
        r#"SELECT id, agent_id, task_id, task_digest, task_length, task_category, candidate_count,
             ranked AS "ranked: Json<Vec<Offered>>", create_time, confidence, mode, policy_version, explored,
             followed_tool, execution_id, succeeded,
             (SELECT coalesce(sum($12 + octet_length(f.comment)), 0)::bigint FROM selector.feedback f
                 WHERE f.team_id = s.team_id AND f.selection_id = s.id) AS "feedback_bytes!"
         FROM selector.selection s
         WHERE team_id = $1
             AND ($2::timestamptz IS NULL OR (create_time, id) < ($2, $3::uuid))
             AND ($4::text IS NULL OR agent_id = $4)
             AND ($5::text IS NULL OR task_id = $5)
             AND ($6::boolean IS NULL OR (followed_tool IS NOT NULL) = $6)
             AND ($7::timestamptz IS NULL OR create_time >= $7)
             AND ($8::timestamptz IS NULL OR create_time < $8)
             AND ($9::text IS NULL OR followed_tool = $9 OR ranked @> $10::jsonb)
         ORDER BY create_time DESC, id DESC LIMIT $11"#,
        team,
        before_time,
        before_id,
        filter.agent_id,
        filter.task_id,
        filter.followed,
        filter.start_time,
        filter.end_time,
        filter.tool_name,
        offers,
        limit,
        FEEDBACK_BYTES,
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(rows)
}

/// Deletes selections past their time, with all feedback on them.
pub(crate) async fn selections_delete_expired(pool: &PgPool) -> Result<(), Error> {
    sqlx::query!(
        "WITH gone AS (
             DELETE FROM selector.selection WHERE create_time < now() - make_interval(days => $1)
             RETURNING team_id, id
         )
         DELETE FROM selector.feedback f USING gone WHERE f.team_id = gone.team_id AND f.selection_id = gone.id",
        SELECTION_DAYS
    )
    .execute(pool)
    .await?;
    Ok(())
}
