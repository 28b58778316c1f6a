//! The figures of tools: a materialized view, and when it was last made.

use std::time::Duration;

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// The figures of one tool over the last 7 days; durations in milliseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ToolFigures {
    pub tool_name: String,
    pub executions: i64,
    pub successes: i64,
    pub failures: i64,
    pub timeouts: i64,
    pub average_ms: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub cost_micro_usd: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub retries: i64,
    pub fallbacks: i64,
    pub cache_hits: i64,
    pub last_use: Option<DateTime<Utc>>,
}

/// The figures of one tool.
pub(crate) async fn figures_get(pool: &PgPool, team: &str, tool: &str) -> Result<Option<ToolFigures>, Error> {
    let row = sqlx::query_as!(
        ToolFigures,
        "SELECT tool_name AS \"tool_name!\", executions AS \"executions!\", successes AS \"successes!\",
                failures AS \"failures!\", timeouts AS \"timeouts!\", average_ms AS \"average_ms!\",
                p50_ms AS \"p50_ms!\", p95_ms AS \"p95_ms!\", p99_ms AS \"p99_ms!\",
                cost_micro_usd AS \"cost_micro_usd!\", input_tokens AS \"input_tokens!\",
                output_tokens AS \"output_tokens!\", retries AS \"retries!\", fallbacks AS \"fallbacks!\",
                cache_hits AS \"cache_hits!\", last_use
         FROM executor.tool_metrics WHERE team_id = $1 AND tool_name = $2",
        team,
        tool,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// The figures of a team's tools after a name, in order of name.
pub(crate) async fn figures_list(
    pool: &PgPool,
    team: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<ToolFigures>, Error> {
    let rows = sqlx::query_as!(
        ToolFigures,
        "SELECT tool_name AS \"tool_name!\", executions AS \"executions!\", successes AS \"successes!\",
                failures AS \"failures!\", timeouts AS \"timeouts!\", average_ms AS \"average_ms!\",
                p50_ms AS \"p50_ms!\", p95_ms AS \"p95_ms!\", p99_ms AS \"p99_ms!\",
                cost_micro_usd AS \"cost_micro_usd!\", input_tokens AS \"input_tokens!\",
                output_tokens AS \"output_tokens!\", retries AS \"retries!\", fallbacks AS \"fallbacks!\",
                cache_hits AS \"cache_hits!\", last_use
         FROM executor.tool_metrics WHERE team_id = $1 AND tool_name > $2
         ORDER BY tool_name LIMIT $3",
        team,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// When the figures were last made.
pub(crate) async fn figures_as_of(pool: &PgPool) -> Result<DateTime<Utc>, Error> {
    Ok(sqlx::query_scalar!("SELECT as_of FROM executor.tool_metrics_refresh").fetch_one(pool).await?)
}

/// Makes the figures anew unless they are younger than this, or than ten times what it took to make them: so it
/// never takes more than a tenth of the time, whoever asks. Tells whether they were made. Readers go on reading the
/// old ones meanwhile; a second process waits its turn, and then finds them young.
pub(crate) async fn figures_refresh(pool: &PgPool, age: Duration) -> Result<bool, Error> {
    let mut transaction = pool.begin().await?;
    // The row is the lock, and takes the time at which the figures begin to be made.
    let taken = sqlx::query!(
        "UPDATE executor.tool_metrics_refresh SET as_of = clock_timestamp()
         WHERE as_of <= clock_timestamp() - greatest(make_interval(secs => $1), 10 * took)",
        age.as_secs_f64(),
    )
    .execute(&mut *transaction)
    .await?;
    if taken.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!("REFRESH MATERIALIZED VIEW CONCURRENTLY executor.tool_metrics")
        .execute(&mut *transaction)
        .await?;
    sqlx::query!("UPDATE executor.tool_metrics_refresh SET took = clock_timestamp() - as_of")
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}
