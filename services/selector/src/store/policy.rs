//! Versions of a team's weights, and the log that they are fitted to.

use ::store::Error;
use sqlx::{PgPool, types::Json};

use super::Connection;
use crate::policy::{
    Evaluation, Policy, State, Weights,
    log::{Offer, Sample},
};

/// What ranks for a team since a change.
#[derive(Debug, Clone)]
pub(crate) struct ActiveRow {
    pub team_id: String,
    /// `None`: the built-in weights.
    pub active: Option<(i32, Weights)>,
}

/// A version that is to be kept.
#[derive(Debug, Clone)]
pub(crate) struct NewPolicy<'a> {
    pub state: State,
    pub weights: Weights,
    pub evaluation: Evaluation,
    pub agent: &'a str,
}

/// What came of an activation.
#[derive(Debug)]
pub(crate) enum Activated {
    /// The built-in weights rank.
    BuiltIn,
    /// This version does.
    Version(Box<Policy>),
    /// It was refused when it was judged; nothing changed.
    Refused(Box<Policy>),
    /// There is none; the newest is this, 0 where there is none at all.
    Unknown {
        /// The newest version.
        newest: i32,
    },
}

/// A row of a query as the domain has it; each query has a row type of its own.
macro_rules! policy {
    ($row:ident) => {
        Policy {
            version: $row.version,
            state: State::named(&$row.state),
            weights: $row.weights.0,
            evaluation: Some($row.evaluation.0),
            create_agent_id: $row.create_agent_id,
            create_time: Some($row.create_time),
            activate_time: $row.activate_time,
        }
    };
}

/// Notes that something of a team has changed, for the copies in memory; from here on every other change of the
/// team's waits until this transaction has ended.
pub(crate) async fn team_touch(connection: &mut Connection, team: &str) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO selector.team (team_id, changed_in) VALUES ($1, pg_current_xact_id()::text::bigint)
         ON CONFLICT (team_id) DO UPDATE SET changed_in = excluded.changed_in",
        team,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What ranks for each team that changed since a horizon, and the horizon to ask from next, as for the history.
pub(crate) async fn policies_changed(pool: &PgPool, since: i64) -> Result<(i64, Vec<ActiveRow>), Error> {
    let horizon =
        sqlx::query_scalar!(r#"SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS "horizon!""#)
            .fetch_one(pool)
            .await?;
    let rows = sqlx::query!(
        r#"SELECT t.team_id, p.version AS "version?", p.weights AS "weights?: Json<Weights>"
         FROM selector.team t
         LEFT JOIN selector.policy p ON p.team_id = t.team_id AND p.state = 'active'
         WHERE t.changed_in >= $1"#,
        since,
    )
    .fetch_all(pool)
    .await?;
    let active = rows.into_iter().map(|row| ActiveRow {
        team_id: row.team_id,
        active: row.version.zip(row.weights.map(|weights| weights.0)),
    });
    Ok((horizon, active.collect()))
}

/// The version that ranks; `None`: the built-in weights.
pub(crate) async fn policy_active(pool: &PgPool, team: &str) -> Result<Option<i32>, Error> {
    let version = sqlx::query_scalar!(
        "SELECT version FROM selector.policy WHERE team_id = $1 AND state = 'active'",
        team
    );
    Ok(version.fetch_optional(pool).await?)
}

/// The newest versions, newest first.
pub(crate) async fn policies_list(pool: &PgPool, team: &str, limit: i64) -> Result<Vec<Policy>, Error> {
    let rows = sqlx::query!(
        r#"SELECT version, state, weights AS "weights: Json<Weights>", evaluation AS "evaluation: Json<Evaluation>",
             create_agent_id, create_time, activate_time
         FROM selector.policy WHERE team_id = $1 ORDER BY version DESC LIMIT $2"#,
        team,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| policy!(row)).collect())
}

/// Keeps a version, numbered after the newest.
pub(crate) async fn policy_insert(pool: &PgPool, team: &str, new: NewPolicy<'_>) -> Result<Policy, Error> {
    let mut transaction = pool.begin().await?;
    // Two at once have two numbers: the second waits for the first.
    team_touch(&mut transaction, team).await?;
    let row = sqlx::query!(
        r#"INSERT INTO selector.policy (
             team_id, version, state, weights, evaluation, create_agent_id, create_time)
         SELECT $1, coalesce(max(version), 0) + 1, $2, $3, $4, $5, now()
         FROM selector.policy WHERE team_id = $1
         RETURNING version, state, weights AS "weights: Json<Weights>",
             evaluation AS "evaluation: Json<Evaluation>", create_agent_id, create_time, activate_time"#,
        team,
        new.state.as_str(),
        Json(new.weights) as _,
        Json(new.evaluation) as _,
        new.agent,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(policy!(row))
}

/// Makes a version rank; 0: the built-in one.
pub(crate) async fn policy_activate(pool: &PgPool, team: &str, version: i32) -> Result<Activated, Error> {
    let mut transaction = pool.begin().await?;
    team_touch(&mut transaction, team).await?;
    if version > 0
        && let Some(hindrance) = hindrance(&mut transaction, team, version).await?
    {
        return Ok(hindrance);
    }
    sqlx::query!(
        "UPDATE selector.policy SET state = 'retired' WHERE team_id = $1 AND state = 'active' AND version <> $2",
        team,
        version,
    )
    .execute(&mut *transaction)
    .await?;
    let row = sqlx::query!(
        r#"UPDATE selector.policy SET state = 'active',
             activate_time = CASE state WHEN 'active' THEN activate_time ELSE now() END
         WHERE team_id = $1 AND version = $2
         RETURNING version, state, weights AS "weights: Json<Weights>",
             evaluation AS "evaluation: Json<Evaluation>", create_agent_id, create_time, activate_time"#,
        team,
        version,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(row.map_or(Activated::BuiltIn, |row| Activated::Version(Box::new(policy!(row)))))
}

/// Why a version cannot rank; `None`: it can.
async fn hindrance(
    connection: &mut Connection,
    team: &str,
    version: i32,
) -> Result<Option<Activated>, Error> {
    let row = sqlx::query!(
        r#"SELECT version, state, weights AS "weights: Json<Weights>", evaluation AS "evaluation: Json<Evaluation>",
             create_agent_id, create_time, activate_time
         FROM selector.policy WHERE team_id = $1 AND version = $2"#,
        team,
        version,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = row {
        let policy = policy!(row);
        return Ok((policy.state == State::Refused).then(|| Activated::Refused(Box::new(policy))));
    }
    let newest = sqlx::query_scalar!(
        r#"SELECT coalesce(max(version), 0) AS "newest!" FROM selector.policy WHERE team_id = $1"#,
        team
    );
    Ok(Some(Activated::Unknown { newest: newest.fetch_one(connection).await? }))
}

/// Selections that an offered tool was called after, at most so many: the newest of each agent, as many of the one as
/// of the other while they have that many.
pub(crate) async fn samples_read(pool: &PgPool, team: &str, most: i64) -> Result<Vec<Sample>, Error> {
    let samples = sqlx::query!(
        r#"WITH of_agent AS (
             SELECT id, create_time,
                 row_number() OVER (PARTITION BY agent_id ORDER BY create_time DESC, id DESC) AS place
             FROM selector.selection
             WHERE team_id = $1 AND followed_tool IS NOT NULL AND succeeded IS NOT NULL
         ), chosen AS (
             SELECT id FROM of_agent ORDER BY place, create_time DESC, id DESC LIMIT $2
         )
         SELECT agent_id, create_time, ranked,
             followed_tool AS "followed_tool!", succeeded AS "succeeded!", propensity
         FROM selector.selection
         WHERE team_id = $1 AND id IN (SELECT id FROM chosen)
         ORDER BY create_time DESC, id DESC"#,
        team,
        most,
    )
    // Row by row, as they come: as JSON they would take twenty times the memory.
    .map(|row| {
        let call = (row.agent_id, row.create_time);
        // One that cannot be read is no reason to read none.
        let offers: Vec<Offer> = serde_json::from_value(row.ranked).ok()?;
        Sample::new(call, offers, (&row.followed_tool, row.succeeded), row.propensity)
    })
    .fetch_all(pool)
    .await?;
    Ok(samples.into_iter().flatten().collect())
}
