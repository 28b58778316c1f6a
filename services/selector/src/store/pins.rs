//! Pins of tools, and the mark by which the copies in memory know that a team's changed.

use std::collections::BTreeMap;

use ::store::Error;
use sqlx::PgPool;
use types::Category;
use uuid::Uuid;

use crate::pins::Pin;

/// A row of a query as the domain has it; each query has a row type of its own.
macro_rules! pin {
    ($row:ident) => {
        Pin {
            id: $row.id,
            tool_name: $row.tool_name,
            agent_id: $row.agent_id,
            category: $row.category.parse::<Category>().ok(),
            note: $row.note,
            create_agent_id: $row.create_agent_id,
            create_time: $row.create_time,
        }
    };
}

/// What came of a pin.
#[derive(Debug)]
pub(crate) enum Pinned {
    /// It is kept.
    Done(Box<Pin>),
    /// There are as many as there may be.
    TooMany,
}

/// A team's pins, by tool.
pub(crate) async fn pins_list(pool: &PgPool, team: &str) -> Result<Vec<Pin>, Error> {
    let rows = sqlx::query!(
        "SELECT id, tool_name, agent_id, category, note, create_agent_id, create_time FROM selector.pin
         WHERE team_id = $1 ORDER BY tool_name, agent_id, category, id",
        team,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| pin!(row)).collect())
}

/// The pins of every team in which something changed since a horizon, and the horizon to ask from next.
pub(crate) async fn pins_changed(
    pool: &PgPool,
    since: i64,
) -> Result<(i64, BTreeMap<String, Vec<Pin>>), Error> {
    let horizon =
        sqlx::query_scalar!(r#"SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS "horizon!""#)
            .fetch_one(pool)
            .await?;
    let teams = sqlx::query_scalar!("SELECT team_id FROM selector.team WHERE changed_in >= $1", since)
        .fetch_all(pool)
        .await?;
    let rows = sqlx::query!(
        "SELECT team_id, id, tool_name, agent_id, category, note, create_agent_id, create_time
         FROM selector.pin WHERE team_id = ANY($1) ORDER BY tool_name, agent_id, category, id",
        &teams,
    )
    .fetch_all(pool)
    .await?;
    let mut pins: BTreeMap<String, Vec<Pin>> = teams.into_iter().map(|team| (team, Vec::new())).collect();
    for row in rows {
        pins.entry(row.team_id).or_default().push(pin!(row));
    }
    Ok((horizon, pins))
}

/// Keeps a pin; of one that is there already, the note is changed.
pub(crate) async fn pin_put(pool: &PgPool, team: &str, pin: &Pin, most: i64) -> Result<Pinned, Error> {
    let mut transaction = pool.begin().await?;
    // Locks the team: two at once may not both be the last that there is room for.
    sqlx::query!(
        "INSERT INTO selector.team (team_id, changed_in) VALUES ($1, pg_current_xact_id()::text::bigint)
         ON CONFLICT (team_id) DO UPDATE SET changed_in = excluded.changed_in",
        team,
    )
    .execute(&mut *transaction)
    .await?;
    let row = sqlx::query!(
        "INSERT INTO selector.pin (
             team_id, id, tool_name, agent_id, category, note, create_agent_id, create_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (team_id, tool_name, agent_id, category) DO UPDATE SET note = excluded.note
         RETURNING id, tool_name, agent_id, category, note, create_agent_id, create_time",
        team,
        pin.id,
        pin.tool_name,
        pin.agent_id,
        pin.category.map_or("", Category::as_str),
        pin.note,
        pin.create_agent_id,
        pin.create_time,
    )
    .fetch_one(&mut *transaction)
    .await?;
    let count =
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM selector.pin WHERE team_id = $1"#, team)
            .fetch_one(&mut *transaction)
            .await?;
    if count > most {
        transaction.rollback().await?;
        return Ok(Pinned::TooMany);
    }
    transaction.commit().await?;
    Ok(Pinned::Done(Box::new(pin!(row))))
}

/// Deletes a pin; whether there was one.
pub(crate) async fn pin_delete(pool: &PgPool, team: &str, id: Uuid) -> Result<bool, Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query!(
        "INSERT INTO selector.team (team_id, changed_in) VALUES ($1, pg_current_xact_id()::text::bigint)
         ON CONFLICT (team_id) DO UPDATE SET changed_in = excluded.changed_in",
        team,
    )
    .execute(&mut *transaction)
    .await?;
    let deleted = sqlx::query!("DELETE FROM selector.pin WHERE team_id = $1 AND id = $2", team, id)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    transaction.commit().await?;
    Ok(deleted > 0)
}
