//! The SQL of checkpoints that are kept, of what has arrived at second places, and of how those places are.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgPool, Postgres, Transaction};

use super::NewTree;

/// A checkpoint that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub checkpoint: String,
    pub sign_time: DateTime<Utc>,
}

/// A checkpoint that a place does not have yet.
#[derive(Debug, Clone)]
pub(crate) struct Uncopied {
    pub team: String,
    pub size: i64,
    pub checkpoint: String,
}

/// How a place is, and what of one team has arrived there.
#[derive(Debug, Clone)]
pub(crate) struct PlaceRow {
    pub place: String,
    pub ok_time: Option<DateTime<Utc>>,
    pub check_time: DateTime<Utc>,
    pub failure: String,
    pub copied_size: Option<i64>,
    pub copy_time: Option<DateTime<Utc>>,
}

/// How the one that sequences is, by the clock of the database.
#[derive(Debug, Clone)]
pub(crate) struct Pulse {
    pub now: DateTime<Utc>,
    pub beat_time: DateTime<Utc>,
    /// Teams for which nothing is signed.
    pub halted: i64,
}

/// Keeps the checkpoints of new trees, where a minute has passed since the last one that was kept.
pub(crate) async fn checkpoints_keep_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    trees: &[NewTree],
) -> Result<(), Error> {
    let teams: Vec<&str> = trees.iter().map(|tree| tree.team.as_str()).collect();
    let sizes: Vec<i64> = trees.iter().map(|tree| tree.size).collect();
    let checkpoints: Vec<&str> = trees.iter().map(|tree| tree.checkpoint.as_str()).collect();
    sqlx::query!(
        "INSERT INTO audit.checkpoint (team_id, size, checkpoint, sign_time)
         SELECT n.team_id, n.size, n.checkpoint, clock_timestamp()
         FROM unnest($1::text[], $2::bigint[], $3::text[]) AS n (team_id, size, checkpoint)
         WHERE NOT EXISTS (
             SELECT FROM (
                 SELECT c.sign_time FROM audit.checkpoint c WHERE c.team_id = n.team_id ORDER BY c.size DESC LIMIT 1
             ) newest WHERE newest.sign_time > clock_timestamp() - interval '1 minute'
         )",
        &teams as _,
        &sizes,
        &checkpoints as _,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// The kept checkpoint of a size.
pub(crate) async fn checkpoint_get(pool: &PgPool, team: &str, size: i64) -> Result<Option<Kept>, Error> {
    let row = sqlx::query_as!(
        Kept,
        "SELECT checkpoint, sign_time FROM audit.checkpoint WHERE team_id = $1 AND size = $2",
        team,
        size,
    );
    Ok(row.fetch_optional(pool).await?)
}

/// The newest size that was kept of a team; 0: none.
pub(crate) async fn checkpoint_newest(pool: &PgPool, team: &str) -> Result<i64, Error> {
    let newest = sqlx::query_scalar!("SELECT max(size) FROM audit.checkpoint WHERE team_id = $1", team);
    Ok(newest.fetch_one(pool).await?.unwrap_or(0))
}

/// Newest checkpoints that a place does not have, the oldest first. Those of halted teams are left out: what is wrong
/// must not be spread.
pub(crate) async fn checkpoints_uncopied(
    pool: &PgPool,
    place: &str,
    limit: i64,
) -> Result<Vec<Uncopied>, Error> {
    let rows = sqlx::query_as!(
        Uncopied,
        "SELECT t.team_id AS team, t.size, t.checkpoint
         FROM audit.tree t
         LEFT JOIN audit.checkpoint_copy c ON c.place = $1 AND c.team_id = t.team_id
         WHERE c.size IS DISTINCT FROM t.size
           AND NOT EXISTS (SELECT FROM audit.halt h WHERE h.team_id = t.team_id)
         ORDER BY c.copy_time NULLS FIRST, t.team_id LIMIT $2",
        place,
        limit,
    );
    Ok(rows.fetch_all(pool).await?)
}

/// Says what has arrived at a place.
pub(crate) async fn copies_put(pool: &PgPool, place: &str, copied: &[Uncopied]) -> Result<(), Error> {
    let teams: Vec<&str> = copied.iter().map(|copy| copy.team.as_str()).collect();
    let sizes: Vec<i64> = copied.iter().map(|copy| copy.size).collect();
    sqlx::query!(
        "INSERT INTO audit.checkpoint_copy (place, team_id, size, copy_time)
         SELECT $1, n.team_id, n.size, now() FROM unnest($2::text[], $3::bigint[]) AS n (team_id, size)
         ON CONFLICT (place, team_id) DO UPDATE SET size = excluded.size, copy_time = excluded.copy_time",
        place,
        &teams as _,
        &sizes,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Says how a place is.
pub(crate) async fn place_put(pool: &PgPool, place: &str, failure: &str) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO audit.place AS p (place, ok_time, check_time, failure)
         VALUES ($1, CASE WHEN $2 = '' THEN now() END, now(), $2)
         ON CONFLICT (place) DO UPDATE
         SET ok_time = coalesce(excluded.ok_time, p.ok_time), check_time = now(), failure = excluded.failure",
        place,
        failure,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// How these places are, and what of a team they have.
pub(crate) async fn place_list(pool: &PgPool, team: &str, places: &[String]) -> Result<Vec<PlaceRow>, Error> {
    let rows = sqlx::query_as!(
        PlaceRow,
        r#"SELECT p.place, p.ok_time, p.check_time, p.failure,
                c.size AS "copied_size?", c.copy_time AS "copy_time?"
         FROM audit.place p
         LEFT JOIN audit.checkpoint_copy c ON c.place = p.place AND c.team_id = $1
         WHERE p.place = ANY($2)"#,
        team,
        places,
    );
    Ok(rows.fetch_all(pool).await?)
}

/// Whether somebody sequences.
pub(crate) async fn pulse_get(pool: &PgPool) -> Result<Pulse, Error> {
    let row = sqlx::query_as!(
        Pulse,
        r#"SELECT now() AS "now!", beat_time, (SELECT count(*) FROM audit.halt) AS "halted!" FROM audit.sequencer"#,
    );
    Ok(row.fetch_one(pool).await?)
}

/// Why nothing is signed for a team, if so.
pub(crate) async fn halt_get(pool: &PgPool, team: &str) -> Result<Option<String>, Error> {
    let reason = sqlx::query_scalar!("SELECT reason FROM audit.halt WHERE team_id = $1", team);
    Ok(reason.fetch_optional(pool).await?)
}
