//! Definitions that need approval, each within a `Write`: which versions a tool has, which of them waits, and
//! what became of the others. Decides nothing, and never changes a definition.

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, types::Json};
use types::UnknownWord;
use uuid::Uuid;

use super::Write;

/// What became of a definition that needs approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReviewState {
    Pending,
    Approved,
    Rejected,
    /// Its server offered another one before anybody decided.
    Superseded,
}

impl ReviewState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
        }
    }
}

impl std::str::FromStr for ReviewState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        [Self::Pending, Self::Approved, Self::Rejected, Self::Superseded]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| UnknownWord::new("review state", word))
    }
}

impl From<String> for ReviewState {
    /// A word that a newer version wrote is no approval.
    fn from(word: String) -> Self {
        word.parse().unwrap_or(Self::Superseded)
    }
}

/// What is told of a definition that waits for approval.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pending {
    pub id: Uuid,
    pub version: String,
    pub digest: String,
    pub create_time: DateTime<Utc>,
}

/// A version that a tool has or had.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PastVersion {
    pub id: Uuid,
    pub name: String,
    pub version: String,
    pub content_digest: String,
    /// `None`: it needed no approval.
    pub review: Option<ReviewState>,
    /// Whether it was added within the last day.
    pub is_recent: bool,
}

/// A tool, and the definition on which somebody is to decide.
#[derive(Debug, Clone)]
pub(crate) struct ToReview {
    pub name: String,
    pub server_name: Option<String>,
    pub withdrawn: bool,
    /// The one that serves; the one to decide on itself where none does.
    pub newest_definition: String,
    pub approved: bool,
    /// The one to decide on, and its published digest.
    pub id: Uuid,
    pub digest: String,
    pub definition: String,
    pub review: ReviewState,
}

/// Every version of the tools with these names, in the order in which they were made.
pub(crate) async fn versions_past(
    write: &mut Write,
    team: &str,
    names: &[String],
) -> Result<Vec<PastVersion>, Error> {
    let rows = sqlx::query!(
        r#"SELECT v.id AS "id!", v.name AS "name!", v.version AS "version!", v.content_digest AS "content_digest!",
                  w.state AS "review?",
                  v.create_time > now() - interval '1 day' AS "is_recent!"
           FROM registry.version v
           LEFT JOIN registry.review w ON w.team_id = v.team_id AND w.version_id = v.id
           WHERE v.team_id = $1 AND v.name = ANY($2)"#,
        team,
        names,
    )
    .fetch_all(&mut *write.transaction)
    .await?;
    let each = rows.into_iter().map(|row| PastVersion {
        id: row.id,
        name: row.name,
        version: row.version,
        content_digest: row.content_digest,
        review: row.review.map(ReviewState::from),
        is_recent: row.is_recent,
    });
    // What is read twice and did not change must be the same.
    let mut past: Vec<PastVersion> = each.collect();
    past.sort_unstable_by_key(|past| past.id);
    Ok(past)
}

/// Whether any version of a tool has this content.
pub(crate) async fn content_exists(
    pool: &PgPool,
    team: &str,
    name: &str,
    content_digest: &str,
) -> Result<bool, Error> {
    let exists = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM registry.version
                          WHERE team_id = $1 AND name = $2 AND content_digest = $3) AS "exists!""#,
        team,
        name,
        content_digest,
    )
    .fetch_one(pool)
    .await?;
    Ok(exists)
}

/// The tool and the definition that waits; where a digest is given, else a rejected one of that digest that is
/// newer than the one that serves. `None`: there is no such tool, or nothing to decide.
pub(crate) async fn review_find(
    write: &mut Write,
    team: &str,
    name: &str,
    digest: &str,
) -> Result<Option<ToReview>, Error> {
    let row = sqlx::query_as!(
        ToReview,
        r#"SELECT t.name, t.server_name, t.withdrawn, n.definition AS newest_definition, t.approved,
                  v.id, v.digest, v.definition, w.state AS review
           FROM registry.tool t
           JOIN registry.version n ON n.team_id = t.team_id AND n.id = t.newest_id
           JOIN registry.version v ON v.team_id = t.team_id AND v.name = t.name
           JOIN registry.review w ON w.team_id = v.team_id AND w.version_id = v.id
           WHERE t.team_id = $1 AND t.name = $2
             AND (w.state = 'pending'
               OR w.state = 'rejected' AND v.digest = $3
                  AND (v.revision >= n.revision AND v.id <> n.id OR v.id = n.id AND NOT t.approved))
           ORDER BY w.state = 'pending' AND ($3 = '' OR v.digest = $3) DESC, v.digest = $3 DESC, v.revision DESC,
                    v.id DESC
           LIMIT 1"#,
        team,
        name,
        digest,
    )
    .fetch_optional(&mut *write.transaction)
    .await?;
    Ok(row)
}

/// Has these versions wait for approval.
pub(crate) async fn reviews_put(write: &mut Write, team: &str, versions: &[Uuid]) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO registry.review (team_id, version_id, state)
         SELECT $1, id, 'pending' FROM unnest($2::uuid[]) AS id
         ON CONFLICT (team_id, version_id) DO UPDATE
         SET state = 'pending', reviewer = '', note = '', review_time = NULL",
        team,
        versions,
    )
    .execute(&mut *write.transaction)
    .await?;
    Ok(())
}

/// Notes who decided what on a version, and why.
pub(crate) async fn review_decide(
    write: &mut Write,
    team: &str,
    version: Uuid,
    state: ReviewState,
    reviewer: &str,
    note: &str,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE registry.review SET state = $3, reviewer = $4, note = $5, review_time = now()
         WHERE team_id = $1 AND version_id = $2",
        team,
        version,
        state.as_str(),
        reviewer,
        note,
    )
    .execute(&mut *write.transaction)
    .await?;
    Ok(())
}

#[derive(Serialize)]
struct Waiting<'a> {
    name: &'a str,
    id: Uuid,
}

/// Has changed definitions of tools that go on serving wait; what waited before is superseded.
pub(crate) async fn pending_set(
    write: &mut Write,
    team: &str,
    waiting: &[(String, Uuid)],
) -> Result<(), Error> {
    let rows: Vec<Waiting> = waiting.iter().map(|(name, id)| Waiting { name, id: *id }).collect();
    sqlx::query!(
        "WITH superseded AS (
           UPDATE registry.review w SET state = 'superseded'
           FROM registry.tool t JOIN json_to_recordset($2::json) AS r (name text, id uuid) ON r.name = t.name
           WHERE t.team_id = $1 AND w.team_id = $1 AND w.version_id = t.pending_id AND w.version_id <> r.id
             AND w.state = 'pending')
         UPDATE registry.tool t SET pending_id = r.id, withdrawn = false, revision = $3
         FROM json_to_recordset($2::json) AS r (name text, id uuid)
         WHERE t.team_id = $1 AND t.name = r.name",
        team,
        Json(rows) as _,
        write.revision,
    )
    .execute(&mut *write.transaction)
    .await?;
    let ids: Vec<Uuid> = waiting.iter().map(|(_, id)| *id).collect();
    reviews_put(write, team, &ids).await
}

/// Has nothing wait any more of these tools: superseded, unless somebody decided.
pub(crate) async fn pending_clear(write: &mut Write, team: &str, names: &[String]) -> Result<(), Error> {
    sqlx::query!(
        "WITH superseded AS (
           UPDATE registry.review w SET state = 'superseded'
           FROM registry.tool t
           WHERE t.team_id = $1 AND t.name = ANY($2) AND w.team_id = $1 AND w.version_id = t.pending_id
             AND w.state = 'pending')
         UPDATE registry.tool SET pending_id = NULL, revision = $3 WHERE team_id = $1 AND name = ANY($2)",
        team,
        names,
        write.revision,
    )
    .execute(&mut *write.transaction)
    .await?;
    Ok(())
}
