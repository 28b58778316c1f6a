//! The SQL of the trees: who sequences, what waits, tiles, and the newest root of each team. Every write is made under
//! the epoch of whoever sequences, held until the transaction ends.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgPool, Postgres, Transaction};
use trail::{Hash, TileId};

use super::{Connection, RecordRow};

/// A connection of whoever sequences that is silent for so long is ended by the server, and with it the place: a frozen
/// process does not hold up the others.
const SILENCE: &str = "5s";

/// A team that has records which are in no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub team: String,
    /// Position of its newest record.
    pub head: i64,
    /// Its tree.
    pub size: i64,
    /// Empty where there is no tree.
    pub root: Vec<u8>,
}

/// The newest tree of a team.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub size: i64,
    pub root: Vec<u8>,
    pub checkpoint: String,
    pub sign_time: DateTime<Utc>,
}

/// What a team's tree becomes.
#[derive(Debug)]
pub(crate) struct NewTree {
    pub team: String,
    pub old_size: i64,
    pub size: i64,
    pub root: Hash,
    pub checkpoint: String,
    pub tiles: Vec<(TileId, Vec<Hash>)>,
}

/// Takes the one place of whoever sequences, for as long as the connection lasts. `None`: another has it. Gives the epoch
/// that writes are made under.
pub(crate) async fn sequencer_take(connection: &mut Connection) -> Result<Option<i64>, Error> {
    let alone = sqlx::query_scalar!(
        "SELECT pg_try_advisory_lock(hashtextextended('toolcrib audit.sequencer', 0)) AS \"alone!\""
    )
    .fetch_one(&mut *connection)
    .await?;
    if !alone {
        return Ok(None);
    }
    sqlx::query!(
        "SELECT set_config('idle_session_timeout', $1, false) AS silent,
                set_config('idle_in_transaction_session_timeout', $1, false) AS silent_in_txn",
        SILENCE,
    )
    .fetch_one(&mut *connection)
    .await?;
    let epoch = sqlx::query_scalar!(
        "UPDATE audit.sequencer SET epoch = epoch + 1, beat_time = now() RETURNING epoch"
    )
    .fetch_one(connection)
    .await?;
    Ok(Some(epoch))
}

/// Gives a sign of life. `false`: another has taken the place.
pub(crate) async fn sequencer_beat(connection: &mut Connection, epoch: i64) -> Result<bool, Error> {
    let done = sqlx::query!("UPDATE audit.sequencer SET beat_time = now() WHERE epoch = $1", epoch)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Holds the epoch until the transaction ends: nobody takes the place meanwhile. `false`: another has it.
pub(crate) async fn epoch_hold_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    epoch: i64,
) -> Result<bool, Error> {
    let held = sqlx::query!("SELECT epoch FROM audit.sequencer WHERE epoch = $1 FOR SHARE", epoch)
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(held.is_some())
}

/// Teams with records that are in no tree, those first whose tree has not grown for longest, without those named.
pub(crate) async fn teams_waiting(
    connection: &mut Connection,
    left_out: &[String],
    limit: i64,
) -> Result<Vec<Waiting>, Error> {
    let rows = sqlx::query!(
        r#"SELECT h.team_id, h.sequence, coalesce(t.size, 0) AS "size!", coalesce(t.root, '') AS "root!"
         FROM audit.head h LEFT JOIN audit.tree t ON t.team_id = h.team_id
         WHERE h.sequence > coalesce(t.size, 0) AND h.team_id <> ALL($2)
         ORDER BY t.sign_time NULLS FIRST, h.team_id LIMIT $1"#,
        limit,
        left_out,
    )
    .fetch_all(connection)
    .await?;
    let waiting = rows.into_iter().map(|row| Waiting {
        team: row.team_id,
        head: row.sequence,
        size: row.size,
        root: row.root,
    });
    Ok(waiting.collect())
}

/// The records of each team that come after its tree, at most so many of each, in order of team and position; without
/// payloads, which no leaf holds.
pub(crate) async fn records_after_trees(
    pool: &PgPool,
    waiting: &[Waiting],
    each: i64,
) -> Result<Vec<RecordRow>, Error> {
    let teams: Vec<&str> = waiting.iter().map(|team| team.team.as_str()).collect();
    let after: Vec<i64> = waiting.iter().map(|team| team.size).collect();
    let rows = sqlx::query_as!(
        RecordRow,
        r#"SELECT r.team_id, r.id, r.classification, r.sequence, r.event_time, r.action, r.result, r.agent_id,
                r.tool_name, r.tool_version, r.tool_digest, r.execution_id, r.task_id, r.trace_id, r.reason,
                r.duration_us, r.cost_micro_usd, r.decision_id, r.intent_time, r.subject_id, r.payload_hmac,
                NULL::bytea AS payload
         FROM unnest($1::text[], $2::bigint[]) AS a (team_id, after)
         CROSS JOIN LATERAL (
             SELECT * FROM audit.record n
             WHERE n.team_id = a.team_id AND n.sequence > a.after AND n.sequence <= a.after + $3
         ) r
         ORDER BY r.team_id, r.sequence"#,
        &teams as _,
        &after,
        each,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Whether the event at this position waits in the old table, to be moved over.
pub(crate) async fn event_is_to_move(pool: &PgPool, team: &str, sequence: i64) -> Result<bool, Error> {
    let there = sqlx::query_scalar!(
        "SELECT EXISTS (SELECT FROM audit.event WHERE team_id = $1 AND sequence = $2) AS \"there!\"",
        team,
        sequence,
    );
    Ok(there.fetch_one(pool).await?)
}

/// Tiles that are there, of many teams.
pub(crate) async fn tiles_of(
    pool: &PgPool,
    wanted: &[(&str, TileId)],
) -> Result<Vec<(String, TileId, Vec<Hash>)>, Error> {
    let teams: Vec<&str> = wanted.iter().map(|(team, _)| *team).collect();
    let levels: Vec<i16> = wanted.iter().map(|(_, tile)| i16::from(tile.level)).collect();
    let indexes: Vec<i64> =
        wanted.iter().map(|(_, tile)| i64::try_from(tile.index).unwrap_or(i64::MAX)).collect();
    let rows = sqlx::query!(
        r#"SELECT t.team_id AS "team_id!", t.level AS "level!", t.tile_index AS "tile_index!", t.hashes AS "hashes!"
         FROM unnest($1::text[], $2::smallint[], $3::bigint[]) AS a (team_id, level, tile_index)
         JOIN audit.tile t ON t.team_id = a.team_id AND t.level = a.level AND t.tile_index = a.tile_index"#,
        &teams as _,
        &levels,
        &indexes,
    )
    .fetch_all(pool)
    .await?;
    let tile = |level: i16, index: i64| TileId {
        level: u8::try_from(level).unwrap_or(u8::MAX),
        index: u64::try_from(index).unwrap_or(u64::MAX),
    };
    Ok(rows
        .into_iter()
        .map(|row| (row.team_id, tile(row.level, row.tile_index), hashes(&row.hashes)))
        .collect())
}

/// The tiles of one team, of which each that is wanted may be there.
pub(crate) async fn team_tiles(
    pool: &PgPool,
    team: &str,
    wanted: &[TileId],
) -> Result<Vec<(TileId, Vec<Hash>)>, Error> {
    let wanted: Vec<(&str, TileId)> = wanted.iter().map(|tile| (team, *tile)).collect();
    Ok(tiles_of(pool, &wanted).await?.into_iter().map(|(_, id, hashes)| (id, hashes)).collect())
}

/// Puts the changed tiles in the place of what they were.
pub(crate) async fn tiles_put_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    trees: &[NewTree],
) -> Result<(), Error> {
    let (mut teams, mut levels, mut indexes, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for tree in trees {
        for (tile, hashes) in &tree.tiles {
            teams.push(tree.team.as_str());
            levels.push(i16::from(tile.level));
            indexes.push(i64::try_from(tile.index).unwrap_or(i64::MAX));
            bytes.push(hashes.iter().flat_map(Hash::as_bytes).copied().collect::<Vec<u8>>());
        }
    }
    sqlx::query!(
        "INSERT INTO audit.tile (team_id, level, tile_index, hashes)
         SELECT * FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::bytea[])
         ON CONFLICT (team_id, level, tile_index) DO UPDATE SET hashes = excluded.hashes",
        &teams as _,
        &levels,
        &indexes,
        &bytes,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Puts the new trees in the place of the old ones, each only where it still is what it has grown from, and where nothing
/// larger was ever signed; gives how many were put.
pub(crate) async fn trees_put_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    epoch: i64,
    trees: &[NewTree],
) -> Result<u64, Error> {
    let teams: Vec<&str> = trees.iter().map(|tree| tree.team.as_str()).collect();
    let old: Vec<i64> = trees.iter().map(|tree| tree.old_size).collect();
    let sizes: Vec<i64> = trees.iter().map(|tree| tree.size).collect();
    let roots: Vec<&[u8]> = trees.iter().map(|tree| tree.root.as_bytes().as_slice()).collect();
    let checkpoints: Vec<&str> = trees.iter().map(|tree| tree.checkpoint.as_str()).collect();
    let done = sqlx::query!(
        "INSERT INTO audit.tree AS t (team_id, size, root, checkpoint, epoch, sign_time)
         SELECT n.team_id, n.size, n.root, n.checkpoint, $6, clock_timestamp()
         FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[], $5::text[])
             AS n (team_id, old_size, size, root, checkpoint)
         WHERE NOT EXISTS (SELECT FROM audit.checkpoint c WHERE c.team_id = n.team_id AND c.size > n.size)
           AND n.old_size = coalesce((SELECT k.size FROM audit.tree k WHERE k.team_id = n.team_id), 0)
         ON CONFLICT (team_id) DO UPDATE
         SET size = excluded.size, root = excluded.root, checkpoint = excluded.checkpoint,
             epoch = excluded.epoch, sign_time = excluded.sign_time
         WHERE t.size < excluded.size AND t.epoch <= excluded.epoch",
        &teams as _,
        &old,
        &sizes,
        &roots as _,
        &checkpoints as _,
        epoch,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected())
}

/// The newest tree of a team.
pub(crate) async fn tree_get(pool: &PgPool, team: &str) -> Result<Option<Tree>, Error> {
    let row = sqlx::query_as!(
        Tree,
        "SELECT size, root, checkpoint, sign_time FROM audit.tree WHERE team_id = $1",
        team,
    );
    Ok(row.fetch_optional(pool).await?)
}

/// Position of a team's newest event; 0: it has none.
pub(crate) async fn head_get(pool: &PgPool, team: &str) -> Result<i64, Error> {
    let head = sqlx::query_scalar!("SELECT sequence FROM audit.head WHERE team_id = $1", team);
    Ok(head.fetch_optional(pool).await?.unwrap_or(0))
}

/// The record of an event.
pub(crate) async fn record_by_id(
    pool: &PgPool,
    team: &str,
    id: uuid::Uuid,
) -> Result<Option<RecordRow>, Error> {
    let row = sqlx::query_as!(
        RecordRow,
        r#"SELECT team_id, id, classification, sequence, event_time, action, result, agent_id, tool_name, tool_version,
                tool_digest, execution_id, task_id, trace_id, reason, duration_us, cost_micro_usd, decision_id,
                intent_time, subject_id, payload_hmac, NULL::bytea AS payload
         FROM audit.record WHERE team_id = $1 AND id = $2"#,
        team,
        id,
    );
    Ok(row.fetch_optional(pool).await?)
}

/// Whether an event stands in the old table, from where it will be moved.
pub(crate) async fn event_is_old(pool: &PgPool, team: &str, id: uuid::Uuid) -> Result<bool, Error> {
    let there = sqlx::query_scalar!(
        "SELECT EXISTS (SELECT FROM audit.event WHERE team_id = $1 AND id = $2) AS \"there!\"",
        team,
        id,
    );
    Ok(there.fetch_one(pool).await?)
}

/// Says that nothing is signed for a team, and why; gives whether that is news.
pub(crate) async fn halt_put(pool: &PgPool, team: &str, reason: &str) -> Result<bool, Error> {
    let done = sqlx::query!(
        "INSERT INTO audit.halt AS h (team_id, reason) VALUES ($1, $2)
         ON CONFLICT (team_id) DO UPDATE SET reason = excluded.reason WHERE h.reason <> excluded.reason",
        team,
        reason,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes halts back: these teams are signed for again.
pub(crate) async fn halts_end(pool: &PgPool, teams: &[&str]) -> Result<u64, Error> {
    let done =
        sqlx::query!("DELETE FROM audit.halt WHERE team_id = ANY($1)", teams as _).execute(pool).await?;
    Ok(done.rows_affected())
}

/// The hashes of a tile's bytes.
fn hashes(bytes: &[u8]) -> Vec<Hash> {
    bytes.as_chunks::<32>().0.iter().map(|chunk| Hash(*chunk)).collect()
}

/// Every team that has a tree.
pub(crate) async fn teams_with_trees(pool: &PgPool) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!("SELECT team_id FROM audit.tree ORDER BY team_id").fetch_all(pool).await?)
}
