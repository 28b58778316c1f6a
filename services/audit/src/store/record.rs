//! The SQL of the trail's records: `audit.record`, `audit.head`, and what older processes wrote to `audit.event`.
//! What a leaf's hash covers is never changed here.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::Connection;
#[cfg(test)]
use super::Filter;

/// One event of the trail, with its payload sealed.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RecordRow {
    pub team_id: String,
    pub id: Uuid,
    pub classification: String,
    /// Position in the team's trail, from 1; 0: not yet in it.
    pub sequence: i64,
    /// With microseconds, as the leaf has it.
    pub event_time: DateTime<Utc>,
    pub action: String,
    pub result: String,
    pub agent_id: String,
    pub tool_name: String,
    pub tool_version: String,
    pub tool_digest: String,
    pub execution_id: Option<Uuid>,
    pub task_id: String,
    pub trace_id: String,
    pub reason: String,
    pub duration_us: i64,
    pub cost_micro_usd: i64,
    pub decision_id: Option<Uuid>,
    pub intent_time: Option<DateTime<Utc>>,
    /// Pseudonym of the end user; `None`: there is none.
    pub subject_id: Option<Uuid>,
    /// Commitment to the payload.
    pub payload_hmac: Vec<u8>,
    /// Sealed salt and payload; `None`: erased.
    pub payload: Option<Vec<u8>>,
}

/// A key of `audit.subject`: team and pseudonym.
pub(crate) type SubjectKey<'a> = (&'a str, Uuid);

/// What records are sealed under, which must be there when they are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct SealedUnder<'a> {
    /// Keys of teams. Nobody erases them.
    pub teams: Vec<SubjectKey<'a>>,
    /// Keys of end users: kept from erasure until the records are committed.
    pub users: Vec<SubjectKey<'a>>,
}

/// A record on its way into the trail.
struct Placed<'a> {
    row: &'a RecordRow,
    /// Records of its team that come after it in the same statement.
    later: i64,
}

/// Adds records that differ in id, in order of team and id, or none of them: a conflict means that the trail has one
/// already. `false`: nothing was written, since a key is erased that one is sealed under, or since older processes
/// left events that must be looked through first (unless told that they were). Moving a team's head locks it, in
/// order of team and over all processes, until the transaction ends; so positions are contiguous. Nothing is read but
/// by the constraints that are kept, so no statistics can make it slow.
pub(crate) async fn records_insert(
    connection: &mut Connection,
    records: &[&RecordRow],
    under: &SealedUnder<'_>,
    was_looked_through: bool,
) -> Result<bool, Error> {
    let (placed, teams, added) = ordered(records);
    let texts = |of: fn(&RecordRow) -> &str| placed.iter().map(|each| of(each.row)).collect::<Vec<_>>();
    let numbers = |of: fn(&Placed) -> i64| placed.iter().map(of).collect::<Vec<_>>();
    let ids = |of: fn(&RecordRow) -> Option<Uuid>| placed.iter().map(|each| of(each.row)).collect::<Vec<_>>();
    let times = |of: fn(&RecordRow) -> Option<DateTime<Utc>>| {
        placed.iter().map(|each| of(each.row)).collect::<Vec<_>>()
    };
    let hmacs: Vec<&[u8]> = placed.iter().map(|each| each.row.payload_hmac.as_slice()).collect();
    let payloads: Vec<Option<&[u8]>> = placed.iter().map(|each| each.row.payload.as_deref()).collect();
    let (key_teams, team_keys): (Vec<&str>, Vec<Uuid>) = under.teams.iter().copied().unzip();
    let (user_teams, user_keys): (Vec<&str>, Vec<Uuid>) = under.users.iter().copied().unzip();
    let done = sqlx::query_file!(
        "src/store/records_insert.sql",
        &texts(|row| &row.team_id) as _,
        &ids(|row| Some(row.id)) as _,
        &numbers(|placed| placed.later),
        &texts(|row| &row.classification) as _,
        &times(|row| Some(row.event_time)) as _,
        &texts(|row| &row.action) as _,
        &texts(|row| &row.result) as _,
        &texts(|row| &row.agent_id) as _,
        &texts(|row| &row.tool_name) as _,
        &texts(|row| &row.tool_version) as _,
        &texts(|row| &row.tool_digest) as _,
        &ids(|row| row.execution_id) as _,
        &texts(|row| &row.task_id) as _,
        &texts(|row| &row.trace_id) as _,
        &texts(|row| &row.reason) as _,
        &numbers(|placed| placed.row.duration_us),
        &numbers(|placed| placed.row.cost_micro_usd),
        &ids(|row| row.decision_id) as _,
        &times(|row| row.intent_time) as _,
        &ids(|row| row.subject_id) as _,
        &hmacs as _,
        &teams as _,
        &added,
        &key_teams as _,
        &team_keys,
        &user_teams as _,
        &user_keys,
        was_looked_through,
        &payloads as _,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Records in order of team and id, with what comes after each; and the teams with their numbers of records.
fn ordered<'a>(records: &[&'a RecordRow]) -> (Vec<Placed<'a>>, Vec<&'a str>, Vec<i64>) {
    let mut placed: Vec<_> = records.iter().map(|&row| Placed { row, later: 0 }).collect();
    placed.sort_unstable_by_key(|each| (each.row.team_id.as_str(), each.row.id));
    let (mut teams, mut added) = (Vec::new(), Vec::new());
    for team in placed.chunk_by_mut(|left, right| left.row.team_id == right.row.team_id) {
        let mut later = 0;
        for each in team.iter_mut().rev() {
            each.later = later;
            later += 1;
        }
        teams.extend(team.first().map(|each| each.row.team_id.as_str()));
        added.push(later);
    }
    (placed, teams, added)
}

/// Locks the heads of teams, in order of team, until the transaction ends: none of their events is added
/// by another in the meantime. And has its statements planned anew, for the tables as they are.
pub(crate) async fn heads_lock_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    teams: &[&str],
) -> Result<(), Error> {
    sqlx::query!(
        "WITH locked AS (
             INSERT INTO audit.head AS h (team_id)
             SELECT DISTINCT t.team_id FROM unnest($1::text[]) AS t (team_id) ORDER BY t.team_id
             ON CONFLICT (team_id) DO UPDATE SET sequence = h.sequence
         )
         SELECT set_config('plan_cache_mode', 'force_custom_plan', true) AS planned",
        teams as _,
    )
    .fetch_one(&mut **transaction)
    .await?;
    Ok(())
}

/// Which of these records the trail has, under whatever classification and in the old table, too. Looked up by the
/// primary key, one by one: `LIMIT` keeps the planner from joining whole partitions, and a plan for the partition as
/// it is from another index.
pub(crate) async fn records_known_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    records: &[&RecordRow],
) -> Result<Vec<(String, Uuid)>, Error> {
    let (teams, ids): (Vec<&str>, Vec<Uuid>) =
        records.iter().map(|record| (record.team_id.as_str(), record.id)).unzip();
    let rows = sqlx::query!(
        r#"SELECT a.team_id AS "team_id!", a.id AS "id!"
         FROM unnest($1::text[], $2::uuid[]) AS a (team_id, id)
         CROSS JOIN LATERAL (
             (SELECT FROM audit.record e WHERE e.team_id = a.team_id AND e.id = a.id LIMIT 1)
             UNION ALL
             (SELECT FROM audit.event e WHERE e.team_id = a.team_id AND e.id = a.id LIMIT 1)
         ) known"#,
        &teams as _,
        &ids,
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(rows.into_iter().map(|row| (row.team_id, row.id)).collect())
}

/// Records of a team below a position, newest first.
#[cfg(test)]
pub(crate) async fn record_list(
    pool: &sqlx::PgPool,
    team: &str,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<RecordRow>, Error> {
    let rows = sqlx::query_as!(
        RecordRow,
        "SELECT team_id, id, classification, sequence, event_time, action, result, agent_id, tool_name,
                tool_version, tool_digest, execution_id, task_id, trace_id, reason, duration_us,
                cost_micro_usd, decision_id, intent_time, subject_id, payload_hmac, payload
         FROM audit.record
         WHERE team_id = $1
           AND ($2::bigint IS NULL OR sequence < $2)
           AND ($3::text IS NULL OR agent_id = $3)
           AND ($4::text IS NULL OR tool_name = $4)
           AND ($5::text IS NULL OR task_id = $5)
           AND ($6::uuid IS NULL OR execution_id = $6)
           AND ($7::text IS NULL OR action = $7)
           AND ($8::text IS NULL OR result = $8)
           AND ($9::timestamptz IS NULL OR event_time >= $9)
           AND ($10::timestamptz IS NULL OR event_time < $10)
         ORDER BY sequence DESC
         LIMIT $11",
        team,
        before,
        filter.agent_id,
        filter.tool_name,
        filter.task_id,
        filter.execution_id,
        filter.action,
        filter.result,
        filter.start_time,
        filter.end_time,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}
