//! Finds the names of tools, by words or by part of the name, page by page. Whole rows are read by `tool_rows`.

use ::store::Error;
use sqlx::{PgPool, Postgres, Transaction};
use types::Category;

use super::{Filter, ToolStatus, tools::PAGE_BYTES};

/// A tool that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub name: String,
    /// How well it matches; 0 where nothing but filters was asked for.
    pub score: f32,
    /// Whether it and those before it fit an answer.
    pub fits: bool,
}

/// Words to find.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sought<'a> {
    /// Letters and digits only, lower case; at least one.
    pub words: &'a [String],
    /// Whether all of them must be found, or any.
    pub need_all: bool,
    /// The text as it was written: a tool of this name comes first.
    pub name: &'a str,
}

/// What else a tool must fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Narrow<'a> {
    pub filter: &'a Filter,
    /// Part of the name.
    pub part: Option<&'a str>,
    /// Only these.
    pub names: Option<&'a [String]>,
    /// Whether only tools that may be called are wanted.
    pub callable: bool,
}

/// A transaction whose plans are made for the very values and look rows up by index: one plan for every filter would
/// read all tools of all teams.
pub(super) async fn looking_up(pool: &PgPool) -> Result<Transaction<'static, Postgres>, Error> {
    let begin =
        "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_seqscan = off";
    Ok(pool.begin_with(begin).await?)
}

/// The tools that match best after a place, best first and in order of name where they match alike.
pub(crate) async fn tool_search(
    pool: &PgPool,
    team: &str,
    sought: Sought<'_>,
    narrow: Narrow<'_>,
    after: Option<(f32, &str)>,
    limit: i64,
) -> Result<Vec<Found>, Error> {
    let mut transaction = looking_up(pool).await?;
    let found = sqlx::query_as!(
        Found,
        r#"WITH hit AS (
             SELECT t.name, t.newest_id,
                    (ts_rank(t.search, registry.search_query($2, $3))
                     + CASE WHEN t.name = $4 THEN 1 ELSE 0 END)::real AS score
             FROM registry.tool t
             WHERE t.team_id = $1 AND t.search @@ registry.search_query($2, $3)
               AND ($5::text IS NULL OR strpos(t.name, $5) > 0)
               AND ($6::text IS NULL OR t.category = $6)
               AND ($7::text IS NULL OR t.capabilities @> ARRAY[$7])
               AND ($8::text IS NULL OR t.effective_status = $8)
               AND ($9::text IS NULL OR t.provider = $9)),
           page AS (
             SELECT * FROM hit
             WHERE $10::real IS NULL OR score < $10 OR (score = $10 AND name > $11)
             ORDER BY score DESC, name
             LIMIT $12)
           SELECT name AS "name!", score AS "score!",
                  sum(size.bytes) OVER (ORDER BY score DESC, page.name) <= $13 AS "fits!"
           FROM page
           CROSS JOIN LATERAL (
             SELECT octet_length(v.definition)
                    + coalesce((SELECT octet_length(s.settings::text) FROM registry.tool_settings s
                                WHERE s.team_id = $1 AND s.name = page.name), 0) AS bytes
             FROM registry.version v WHERE v.team_id = $1 AND v.id = page.newest_id) size
           ORDER BY score DESC, page.name"#,
        team,
        sought.words,
        sought.need_all,
        sought.name,
        narrow.part,
        narrow.filter.category.map(Category::as_str),
        narrow.filter.capability,
        narrow.filter.status.map(ToolStatus::as_str),
        narrow.filter.provider,
        after.map(|(score, _)| score),
        after.map(|(_, name)| name),
        limit,
        PAGE_BYTES,
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(found)
}

/// The tools after a name, in order of name.
pub(crate) async fn tool_names_page(
    pool: &PgPool,
    team: &str,
    narrow: Narrow<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<Found>, Error> {
    let mut transaction = looking_up(pool).await?;
    let found = sqlx::query_as!(
        Found,
        r#"WITH page AS (
             SELECT t.name, t.newest_id
             FROM registry.tool t
             WHERE t.team_id = $1 AND t.name > $2
               AND ($3::text IS NULL OR strpos(t.name, $3) > 0)
               AND ($4::text IS NULL OR t.category = $4)
               AND ($5::text IS NULL OR t.capabilities @> ARRAY[$5])
               AND ($6::text IS NULL OR t.effective_status = $6)
               AND ($7::text IS NULL OR t.provider = $7)
               AND ($8::text[] IS NULL OR t.name = ANY($8))
               AND (NOT $9 OR t.effective_status IN ('active', 'deprecated'))
             ORDER BY t.name
             LIMIT $10)
           SELECT name AS "name!", 0::real AS "score!",
                  sum(size.bytes) OVER (ORDER BY page.name) <= $11 AS "fits!"
           FROM page
           CROSS JOIN LATERAL (
             SELECT octet_length(v.definition)
                    + coalesce((SELECT octet_length(s.settings::text) FROM registry.tool_settings s
                                WHERE s.team_id = $1 AND s.name = page.name), 0) AS bytes
             FROM registry.version v WHERE v.team_id = $1 AND v.id = page.newest_id) size
           ORDER BY page.name"#,
        team,
        after,
        narrow.part,
        narrow.filter.category.map(Category::as_str),
        narrow.filter.capability,
        narrow.filter.status.map(ToolStatus::as_str),
        narrow.filter.provider,
        narrow.names,
        narrow.callable,
        limit,
        PAGE_BYTES,
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(found)
}
