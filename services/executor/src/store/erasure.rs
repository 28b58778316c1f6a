//! What is erased with a data subject. Every statement leaves what is left to do findable: the user's name goes out of
//! a row last, when nothing else of it is there and no one can write a text again.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// Whose texts, and of executions made before when.
#[derive(Debug, Clone)]
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
    pub executions: i64,
    pub cached: i64,
    pub artifacts: i64,
    /// When no call was left that could write a text.
    pub quiet_time: Option<DateTime<Utc>>,
}

/// Executions that may have kept their result as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "the names of the columns")]
pub(crate) struct KeptFile {
    pub team_id: String,
    pub execution_id: Uuid,
    pub task_id: String,
    pub erase_time: DateTime<Utc>,
}

/// Begins an erasure; `false`: it was begun before.
pub(crate) async fn erasure_begin(pool: &PgPool, subject: &Subject) -> Result<bool, Error> {
    let begun = sqlx::query!(
        "INSERT INTO executor.erasure (team_id, id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        subject.team,
        subject.erasure,
    )
    .execute(pool)
    .await?;
    Ok(begun.rows_affected() > 0)
}

/// What it came to so far.
pub(crate) async fn erasure_get(pool: &PgPool, subject: &Subject) -> Result<Erased, Error> {
    let erased = sqlx::query_as!(
        Erased,
        "SELECT executions, cached, artifacts, quiet_time FROM executor.erasure WHERE team_id = $1 AND id = $2",
        subject.team,
        subject.erasure,
    )
    .fetch_optional(pool)
    .await?;
    Ok(erased.unwrap_or_default())
}

/// Whether a margin has passed since the erasure was begun and since its end time, by the clock of the database: calls
/// that were stamped before it are in their rows by now.
pub(crate) async fn erasure_is_settled(
    pool: &PgPool,
    subject: &Subject,
    margin: std::time::Duration,
) -> Result<bool, Error> {
    let settled = sqlx::query_scalar!(
        "SELECT now() >= greatest(begin_time, $3) + make_interval(secs => $4) AS \"settled!\"
         FROM executor.erasure WHERE team_id = $1 AND id = $2",
        subject.team,
        subject.erasure,
        subject.before,
        margin.as_secs_f64(),
    )
    .fetch_one(pool)
    .await?;
    Ok(settled)
}

/// Counts cached answers that went.
pub(crate) async fn erasure_count_cached(pool: &PgPool, subject: &Subject, cached: i64) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE executor.erasure SET cached = cached + $3 WHERE team_id = $1 AND id = $2",
        subject.team,
        subject.erasure,
        cached,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Notes that no call is left that could write a text, and gives when that was first so.
pub(crate) async fn erasure_quiet(pool: &PgPool, subject: &Subject) -> Result<DateTime<Utc>, Error> {
    let quiet = sqlx::query_scalar!(
        "UPDATE executor.erasure SET quiet_time = coalesce(quiet_time, now()) WHERE team_id = $1 AND id = $2
         RETURNING quiet_time AS \"quiet_time!\"",
        subject.team,
        subject.erasure,
    )
    .fetch_one(pool)
    .await?;
    Ok(quiet)
}

/// Calls of the user that wait for their turn or for an approval.
pub(crate) async fn user_waiting(pool: &PgPool, subject: &Subject, limit: i64) -> Result<Vec<Uuid>, Error> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM executor.execution
         WHERE team_id = $1 AND user_id = $2 AND user_id <> '' AND create_time < $3
           AND status IN ('queued', 'waiting_for_approval')
         ORDER BY id LIMIT $4",
        subject.team,
        subject.user,
        subject.before,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids)
}

/// Takes the texts of running calls out of their rows, and what would run them again out of the queue; tells how many
/// run. Their outcomes are written without a text.
pub(crate) async fn user_running_erase(pool: &PgPool, subject: &Subject) -> Result<i64, Error> {
    let running = sqlx::query_scalar!(
        "WITH running AS (
             SELECT team_id, id, erased FROM executor.execution
             WHERE team_id = $1 AND user_id = $2 AND user_id <> '' AND create_time < $3 AND end_time IS NULL
             ORDER BY id FOR UPDATE
         ), emptied AS (
             UPDATE executor.execution e
             SET erased = true, arguments_json = '', arguments_digest = '', attempts_json = ''
             FROM running r WHERE e.team_id = r.team_id AND e.id = r.id AND NOT r.erased
         ), unqueued AS (
             DELETE FROM executor.job j USING running r WHERE j.team_id = r.team_id AND j.id = r.id
         ), unheard AS (
             DELETE FROM executor.progress p USING running r
             WHERE p.team_id = r.team_id AND p.execution_id = r.id
         )
         SELECT count(*) AS \"count!\" FROM running",
        subject.team,
        subject.user,
        subject.before,
    )
    .fetch_one(pool)
    .await?;
    Ok(running)
}

/// Takes every text of at most so many ended calls, and notes which files are to go; tells how many calls there were.
/// What is left says what ran when, for whom in the suite, and how it ended.
pub(crate) async fn user_ended_erase(pool: &PgPool, subject: &Subject, limit: i64) -> Result<i64, Error> {
    let erased = sqlx::query_scalar!(
        "WITH ended AS (
             SELECT team_id, id, task_id, request_id, error_json,
                    result_json LIKE '{\"artifact\":{%' OR status <> 'succeeded' AS may_have_file
             FROM executor.execution
             WHERE team_id = $1 AND user_id = $2 AND user_id <> '' AND create_time < $3 AND end_time IS NOT NULL
             ORDER BY id LIMIT $5
             FOR UPDATE
         ), unheard AS (
             DELETE FROM executor.progress p USING ended e
             WHERE p.team_id = e.team_id AND p.execution_id = e.id
         ), unqueued AS (
             DELETE FROM executor.job j USING ended e WHERE j.team_id = e.team_id AND j.id = e.id
         ), unawaited AS (
             DELETE FROM executor.awaiting a USING ended e WHERE a.team_id = e.team_id AND a.id = e.id
         ), unknown AS (
             UPDATE executor.request r SET body_digest = '' FROM ended e
             WHERE e.request_id <> '' AND r.team_id = e.team_id AND r.request_id = e.request_id
               AND r.execution_id = e.id
         ), files AS (
             INSERT INTO executor.file_erasure (team_id, execution_id, task_id, erasure_id)
             SELECT team_id, id, task_id, $4 FROM ended WHERE may_have_file
             ON CONFLICT DO NOTHING
         ), emptied AS (
             UPDATE executor.execution x
             SET erased = true, user_id = '', arguments_json = '', arguments_digest = '', result_json = '',
                 result_digest = '', attempts_json = '', warnings_json = '', selection_id = '',
                 error_json = CASE WHEN e.error_json = '' THEN '' ELSE jsonb_build_object(
                     'code', e.error_json::jsonb -> 'code', 'reached', e.error_json::jsonb -> 'reached',
                     'message', 'erased with its data subject')::text END
             FROM ended e WHERE x.team_id = e.team_id AND x.id = e.id
             RETURNING x.id
         ), counted AS (
             UPDATE executor.erasure SET executions = executions + (SELECT count(*) FROM emptied)
             WHERE team_id = $1 AND id = $4
         )
         SELECT count(*) AS \"count!\" FROM emptied",
        subject.team,
        subject.user,
        subject.before,
        subject.erasure,
        limit,
    )
    .fetch_one(pool)
    .await?;
    Ok(erased)
}

/// Whether an event for a destination that holds each of two fields, as they are encoded, still waits since before the
/// calls fell silent.
pub(crate) async fn is_in_outbox(
    pool: &PgPool,
    destination: &str,
    (team, user): (&[u8], &[u8]),
    before: DateTime<Utc>,
) -> Result<bool, Error> {
    let waits = sqlx::query_scalar!(
        "SELECT EXISTS (
             SELECT FROM executor.outbox
             WHERE destination = $1 AND create_time <= $2
               AND position($3 IN payload) > 0 AND position($4 IN payload) > 0
         ) AS \"waits!\"",
        destination,
        before,
        team,
        user,
    )
    .fetch_one(pool)
    .await?;
    Ok(waits)
}

/// Whether a living process has files of the erasure still to delete.
pub(crate) async fn files_are_left(
    pool: &PgPool,
    subject: &Subject,
    lease: std::time::Duration,
) -> Result<bool, Error> {
    let left = sqlx::query_scalar!(
        "SELECT EXISTS (
             SELECT FROM executor.file_erasure f
             JOIN executor.worker w ON w.last_seen > now() - make_interval(secs => $3)
             WHERE f.team_id = $1 AND f.erasure_id = $2 AND w.owner <> ALL (f.done_by)
         ) AS \"left!\"",
        subject.team,
        subject.erasure,
        lease.as_secs_f64(),
    )
    .fetch_one(pool)
    .await?;
    Ok(left)
}

/// At most so many of the files that a process has not deleted, noted at or after this time, and after this file.
pub(crate) async fn files_to_erase(
    pool: &PgPool,
    owner: Uuid,
    since: DateTime<Utc>,
    last: Option<&KeptFile>,
    limit: i64,
) -> Result<Vec<KeptFile>, Error> {
    let (since, team, id) = last
        .map_or((since, "", Uuid::nil()), |file| (file.erase_time, file.team_id.as_str(), file.execution_id));
    let files = sqlx::query_as!(
        KeptFile,
        "SELECT team_id, execution_id, task_id, erase_time FROM executor.file_erasure
         WHERE (erase_time, team_id, execution_id) > ($2, $3, $4) AND $1 <> ALL (done_by)
         ORDER BY erase_time, team_id, execution_id LIMIT $5",
        owner,
        since,
        team,
        id,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(files)
}

/// Notes that a process has deleted what it had of these, and counts what there was.
pub(crate) async fn files_erased(
    pool: &PgPool,
    owner: Uuid,
    files: &[KeptFile],
    deleted: &[bool],
) -> Result<(), Error> {
    let teams: Vec<String> = files.iter().map(|file| file.team_id.clone()).collect();
    let ids: Vec<Uuid> = files.iter().map(|file| file.execution_id).collect();
    sqlx::query!(
        "WITH done AS (
             UPDATE executor.file_erasure f SET done_by = f.done_by || $1::uuid
             FROM unnest($2::text[], $3::uuid[], $4::boolean[]) AS d (team_id, execution_id, deleted)
             WHERE f.team_id = d.team_id AND f.execution_id = d.execution_id AND $1::uuid <> ALL (f.done_by)
             RETURNING f.team_id, f.erasure_id, d.deleted
         ), counted AS (
             SELECT team_id, erasure_id, count(*) FILTER (WHERE deleted) AS files FROM done GROUP BY 1, 2
         )
         UPDATE executor.erasure e SET artifacts = e.artifacts + c.files
         FROM counted c WHERE e.team_id = c.team_id AND e.id = c.erasure_id",
        owner,
        &teams,
        &ids,
        deleted,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Forgets which files were deleted a month ago: a process that was away for longer begins with an empty workspace, or
/// its operator empties it.
pub(crate) async fn files_forget(pool: &PgPool, limit: i64) -> Result<u64, Error> {
    let forgotten = sqlx::query!(
        "DELETE FROM executor.file_erasure f USING (
             SELECT team_id, execution_id FROM executor.file_erasure
             WHERE erase_time < now() - interval '30 days' LIMIT $1) old
         WHERE f.team_id = old.team_id AND f.execution_id = old.execution_id",
        limit,
    )
    .execute(pool)
    .await?;
    Ok(forgotten.rows_affected())
}
