//! Webhooks, and what waits to be sent to them. Times of deliveries are the database's: processes need not agree on theirs.

use std::time::Duration;

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// A webhook as it is listed; never its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebhookRow {
    pub name: String,
    pub url: String,
    pub create_time: DateTime<Utc>,
    pub last_success_time: Option<DateTime<Utc>>,
    pub last_error: String,
    pub given_up: i64,
    pub waiting: i64,
}

/// A webhook to write.
pub(crate) struct NewWebhook<'a> {
    pub name: &'a str,
    pub url: &'a str,
    /// Sealed.
    pub secret: &'a [u8],
}

/// Which webhook.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WebhookKey {
    pub team: String,
    pub name: String,
}

/// A message that this process is to send now.
#[derive(Clone)]
pub(crate) struct Claimed {
    pub key: WebhookKey,
    pub delivery_id: Uuid,
    pub body: String,
    /// This one included.
    pub attempts: i32,
    pub url: String,
    /// Sealed.
    pub secret: Vec<u8>,
}

/// Writes a webhook in the place of the one of its name, and gives how many the team has then. What waits goes to the
/// new address.
pub(crate) async fn webhook_put(
    connection: &mut PgConnection,
    team: &str,
    new: NewWebhook<'_>,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    // One at a time, so that the count is right.
    sqlx::query!("SELECT 1 AS there FROM permissions.team WHERE team_id = $1 FOR UPDATE", team)
        .fetch_optional(&mut *connection)
        .await?;
    sqlx::query!(
        "INSERT INTO permissions.webhook (team_id, name, url, secret, create_time)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (team_id, name) DO UPDATE
         SET url = $3, secret = $4, last_error = '', disable_time = NULL",
        team,
        new.name,
        new.url,
        new.secret,
        now,
    )
    .execute(&mut *connection)
    .await?;
    let count = sqlx::query_scalar!(
        "SELECT count(*) AS \"count!\" FROM permissions.webhook WHERE team_id = $1",
        team
    );
    Ok(count.fetch_one(connection).await?)
}

/// Every webhook of the team, by name.
pub(crate) async fn webhook_list(pool: &PgPool, team: &str) -> Result<Vec<WebhookRow>, Error> {
    let rows = sqlx::query_as!(
        WebhookRow,
        "SELECT name, url, create_time, last_success_time, last_error, given_up,
                (SELECT count(*) FROM permissions.delivery d
                 WHERE d.team_id = w.team_id AND d.webhook = w.name) AS \"waiting!\"
         FROM permissions.webhook w WHERE team_id = $1 ORDER BY name",
        team,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Removes a webhook and what waits for it; tells whether it was there.
pub(crate) async fn webhook_remove(
    connection: &mut PgConnection,
    team: &str,
    name: &str,
) -> Result<bool, Error> {
    let removed =
        sqlx::query!("DELETE FROM permissions.webhook WHERE team_id = $1 AND name = $2", team, name)
            .execute(connection)
            .await?;
    Ok(removed.rows_affected() > 0)
}

/// Sends nothing to a webhook any more, and gives up what waits for it.
pub(crate) async fn webhook_disable(pool: &PgPool, team: &str, name: &str, why: &str) -> Result<(), Error> {
    sqlx::query!(
        "WITH disabled AS (
             SELECT team_id, name FROM permissions.webhook WHERE team_id = $1 AND name = $2 FOR UPDATE
         ), dropped AS (
             DELETE FROM permissions.delivery d USING disabled
             WHERE d.team_id = disabled.team_id AND d.webhook = disabled.name RETURNING 1
         )
         UPDATE permissions.webhook w
         SET disable_time = now(), last_error = $3, given_up = given_up + (SELECT count(*) FROM dropped)
         FROM disabled WHERE w.team_id = disabled.team_id AND w.name = disabled.name",
        team,
        name,
        why,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Writes a message for every webhook of the team that takes any.
pub(crate) async fn deliveries_insert(
    connection: &mut PgConnection,
    team: &str,
    body: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    // The lock waits for one that is just being disabled, and so nothing is left that nobody sends.
    let names = sqlx::query_scalar!(
        "SELECT name FROM permissions.webhook WHERE team_id = $1 AND disable_time IS NULL
         ORDER BY name FOR SHARE",
        team,
    )
    .fetch_all(&mut *connection)
    .await?;
    if names.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = names.iter().map(|_| types::new_id()).collect();
    sqlx::query!(
        "INSERT INTO permissions.delivery (team_id, delivery_id, webhook, body, due_time, create_time)
         SELECT $1, id, name, $4, now(), $5 FROM unnest($2::uuid[], $3::text[]) AS new (id, name)",
        team,
        &ids,
        &names,
        body,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes what is due, oldest first: `most.0` of each webhook and `most.1` in all, and nothing of those that have
/// enough. What is neither taken nor failed within `lease` is due again.
pub(crate) async fn deliveries_claim(
    pool: &PgPool,
    without: &[&WebhookKey],
    most: (usize, usize),
    lease: Duration,
) -> Result<Vec<Claimed>, Error> {
    let (teams, names): (Vec<String>, Vec<String>) =
        without.iter().map(|key| (key.team.clone(), key.name.clone())).unzip();
    let bigint = |most: usize| i64::try_from(most).unwrap_or(i64::MAX);
    let rows = sqlx::query!(
        "WITH asked AS (
             SELECT DISTINCT team_id, webhook FROM permissions.delivery WHERE due_time <= now()
             EXCEPT SELECT * FROM unnest($1::text[], $2::text[])
         ), due AS (
             SELECT d.team_id, d.delivery_id FROM asked
             CROSS JOIN LATERAL (
                 SELECT team_id, delivery_id, due_time FROM permissions.delivery d
                 WHERE d.team_id = asked.team_id AND d.webhook = asked.webhook AND d.due_time <= now()
                 ORDER BY due_time LIMIT $3 FOR UPDATE SKIP LOCKED
             ) d
             ORDER BY d.due_time LIMIT $4
         )
         UPDATE permissions.delivery d
         SET attempts = d.attempts + 1, due_time = now() + make_interval(secs => $5)
         FROM due, permissions.webhook w
         WHERE d.team_id = due.team_id AND d.delivery_id = due.delivery_id
           AND w.team_id = d.team_id AND w.name = d.webhook
         RETURNING d.team_id, d.webhook, d.delivery_id, d.body, d.attempts, w.url, w.secret",
        &teams,
        &names,
        bigint(most.0),
        bigint(most.1),
        lease.as_secs_f64(),
    )
    .fetch_all(pool)
    .await?;
    let claimed = rows.into_iter().map(|row| Claimed {
        key: WebhookKey { team: row.team_id, name: row.webhook },
        delivery_id: row.delivery_id,
        body: row.body,
        attempts: row.attempts,
        url: row.url,
        secret: row.secret,
    });
    Ok(claimed.collect())
}

/// A message was taken: it is gone.
pub(crate) async fn delivery_taken(pool: &PgPool, claimed: &Claimed) -> Result<(), Error> {
    sqlx::query!(
        "WITH taken AS (
             DELETE FROM permissions.delivery WHERE team_id = $1 AND delivery_id = $2
         )
         UPDATE permissions.webhook SET last_success_time = now(), last_error = ''
         WHERE team_id = $1 AND name = $3",
        claimed.key.team,
        claimed.delivery_id,
        claimed.key.name,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// An attempt failed: the message is due again after a while, or given up where there is none. Whoever took it since
/// is not disturbed.
pub(crate) async fn delivery_failed(
    pool: &PgPool,
    claimed: &Claimed,
    why: &str,
    again: Option<Duration>,
) -> Result<(), Error> {
    sqlx::query!(
        "WITH given_up AS (
             DELETE FROM permissions.delivery
             WHERE team_id = $1 AND delivery_id = $2 AND attempts = $4 AND $6::float8 IS NULL RETURNING 1
         ), waits AS (
             UPDATE permissions.delivery SET due_time = now() + make_interval(secs => $6::float8)
             WHERE team_id = $1 AND delivery_id = $2 AND attempts = $4 AND $6::float8 IS NOT NULL
         )
         UPDATE permissions.webhook
         SET last_error = $5, given_up = given_up + (SELECT count(*) FROM given_up)
         WHERE team_id = $1 AND name = $3",
        claimed.key.team,
        claimed.delivery_id,
        claimed.key.name,
        claimed.attempts,
        why,
        again.map(|again| again.as_secs_f64()),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Gives up at most so many messages that were made before a time, of every webhook, and tells how many there were. One
/// process does at a time; for another there is nothing to do.
pub(crate) async fn deliveries_purge(pool: &PgPool, before: DateTime<Utc>, limit: i64) -> Result<i64, Error> {
    let mut transaction = pool.begin().await?;
    let alone = sqlx::query_scalar!(
        "SELECT pg_try_advisory_xact_lock(hashtext('permissions.deliveries_purge')) AS \"alone!\""
    )
    .fetch_one(&mut *transaction)
    .await?;
    if !alone {
        return Ok(0);
    }
    let purged = sqlx::query_scalar!(
        "WITH past AS (
             SELECT team_id, delivery_id FROM permissions.delivery WHERE create_time < $1
             ORDER BY create_time LIMIT $2
             FOR UPDATE SKIP LOCKED
         ), gone AS (
             DELETE FROM permissions.delivery d USING past p
             WHERE d.team_id = p.team_id AND d.delivery_id = p.delivery_id
             RETURNING d.team_id, d.webhook
         ), counted AS (
             UPDATE permissions.webhook w SET given_up = w.given_up + g.messages
             FROM (SELECT team_id, webhook, count(*) AS messages FROM gone GROUP BY 1, 2) g
             WHERE w.team_id = g.team_id AND w.name = g.webhook
         )
         SELECT count(*) AS \"purged!\" FROM gone",
        before,
        limit,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(purged)
}
