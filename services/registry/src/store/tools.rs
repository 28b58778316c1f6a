//! Reads tools and their versions.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgPool, types::Json};
use types::{Category, UnknownWord};
use uuid::Uuid;

use super::{Pending, search::looking_up};
use crate::{definition::Definition, settings::Settings};

/// Most bytes of definitions and settings in one page, but for a single larger row: a client takes 4 MiB in
/// all.
pub(super) const PAGE_BYTES: i64 = 3 * 1024 * 1024;

/// Whether a tool may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolStatus {
    Active,
    Deprecated,
    Disabled,
    /// Nobody has approved its definition yet.
    Quarantined,
}

impl ToolStatus {
    /// The word that is stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deprecated => "deprecated",
            Self::Disabled => "disabled",
            Self::Quarantined => "quarantined",
        }
    }
}

impl std::str::FromStr for ToolStatus {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        [Self::Active, Self::Deprecated, Self::Disabled, Self::Quarantined]
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| UnknownWord::new("tool status", word))
    }
}

/// One version of a tool as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct ToolRow {
    pub team_id: String,
    pub id: Uuid,
    pub name: String,
    pub digest: String,
    pub definition: String,
    /// Quarantined when nobody approved this version, and disabled when the tool is withdrawn, whatever people
    /// decided.
    pub status: String,
    pub revision: i64,
    pub create_time: DateTime<Utc>,
    /// `None`: the defaults.
    pub settings: Option<Json<Settings>>,
    /// The revision that last changed the settings; 0 for the defaults.
    pub settings_revision: i64,
    /// The MCP server whose discovery keeps it, and how that is.
    pub server_name: Option<String>,
    pub server_state: Option<String>,
    /// A changed definition that waits for approval.
    pub pending: Option<Json<Pending>>,
}

impl ToolRow {
    /// The definition, decoded.
    pub(crate) fn definition(&self) -> Result<Definition, serde_json::Error> {
        serde_json::from_str(&self.definition)
    }

    /// The settings, defaults filled in.
    pub(crate) fn settings(&self) -> Settings {
        self.settings.as_ref().map(|settings| settings.0.clone()).unwrap_or_default()
    }

    /// Bytes that it takes in an answer, nearly.
    pub(crate) fn bytes(&self) -> usize {
        let fallbacks = self.settings.iter().flat_map(|settings| &settings.fallbacks);
        self.definition.len() + fallbacks.map(|fallback| fallback.arguments.len() + 256).sum::<usize>()
    }

    /// Changes with the settings, and with nothing else.
    pub(crate) fn etag(&self) -> String {
        self.settings_revision.to_string()
    }
}

/// What a listing asks for; `None` matches all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub category: Option<Category>,
    pub capability: Option<String>,
    pub status: Option<ToolStatus>,
    pub provider: Option<String>,
    /// Only tools of which a definition waits, new or changed.
    pub pending: bool,
}

/// Where a watch stands: after this row, in order of revision.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    pub revision: i64,
    pub team_id: String,
    pub name: String,
}

/// The newest version of a tool.
pub(crate) async fn tool_find(pool: &PgPool, team: &str, name: &str) -> Result<Option<ToolRow>, Error> {
    let row = sqlx::query_as!(
        ToolRow,
        r#"SELECT v.team_id, v.id, v.name, v.digest, v.definition, t.revision, v.create_time,
                  s.settings AS "settings?: Json<Settings>",
                  coalesce(s.revision, 0) AS "settings_revision!",
                  t.effective_status AS "status!", t.server_name,
                  sv.state AS "server_state?",
                  registry.pending_definition(t.team_id, t.pending_id) AS "pending?: Json<Pending>"
           FROM registry.tool t JOIN registry.version v ON v.team_id = t.team_id AND v.id = t.newest_id
           LEFT JOIN registry.tool_settings s ON s.team_id = t.team_id AND s.name = t.name
           LEFT JOIN registry.server sv ON sv.team_id = t.team_id AND sv.name = t.server_name
           WHERE t.team_id = $1 AND t.name = $2"#,
        team,
        name,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// The newest versions of the tools with these names, in no order.
pub(crate) async fn tool_rows(pool: &PgPool, team: &str, names: &[String]) -> Result<Vec<ToolRow>, Error> {
    let rows = sqlx::query_as!(
        ToolRow,
        r#"SELECT v.team_id, v.id, v.name, v.digest, v.definition, t.revision, v.create_time,
                  s.settings AS "settings?: Json<Settings>",
                  coalesce(s.revision, 0) AS "settings_revision!",
                  t.effective_status AS "status!", t.server_name,
                  sv.state AS "server_state?",
                  registry.pending_definition(t.team_id, t.pending_id) AS "pending?: Json<Pending>"
           FROM registry.tool t JOIN registry.version v ON v.team_id = t.team_id AND v.id = t.newest_id
           LEFT JOIN registry.tool_settings s ON s.team_id = t.team_id AND s.name = t.name
           LEFT JOIN registry.server sv ON sv.team_id = t.team_id AND sv.name = t.server_name
           WHERE t.team_id = $1 AND t.name = ANY($2)"#,
        team,
        names,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// One version by its id.
pub(crate) async fn tool_find_by_id(pool: &PgPool, team: &str, id: Uuid) -> Result<Option<ToolRow>, Error> {
    let row = sqlx::query_as!(
        ToolRow,
        r#"SELECT v.team_id, v.id, v.name, v.digest, v.definition, t.revision, v.create_time,
                  s.settings AS "settings?: Json<Settings>",
                  coalesce(s.revision, 0) AS "settings_revision!",
                  CASE WHEN w.state <> 'approved' THEN 'quarantined' ELSE t.effective_status END AS "status!", t.server_name,
                  sv.state AS "server_state?",
                  registry.pending_definition(t.team_id, t.pending_id) AS "pending?: Json<Pending>"
           FROM registry.version v JOIN registry.tool t ON t.team_id = v.team_id AND t.name = v.name
           LEFT JOIN registry.tool_settings s ON s.team_id = t.team_id AND s.name = t.name
           LEFT JOIN registry.server sv ON sv.team_id = t.team_id AND sv.name = t.server_name
           LEFT JOIN registry.review w ON w.team_id = v.team_id AND w.version_id = v.id
           WHERE v.team_id = $1 AND v.id = $2"#,
        team,
        id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// One version by name and version.
pub(crate) async fn tool_find_version(
    pool: &PgPool,
    team: &str,
    name: &str,
    version: &str,
) -> Result<Option<ToolRow>, Error> {
    let row = sqlx::query_as!(
        ToolRow,
        r#"SELECT v.team_id, v.id, v.name, v.digest, v.definition, t.revision, v.create_time,
                  s.settings AS "settings?: Json<Settings>",
                  coalesce(s.revision, 0) AS "settings_revision!",
                  CASE WHEN w.state <> 'approved' THEN 'quarantined' ELSE t.effective_status END AS "status!", t.server_name,
                  sv.state AS "server_state?",
                  registry.pending_definition(t.team_id, t.pending_id) AS "pending?: Json<Pending>"
           FROM registry.version v JOIN registry.tool t ON t.team_id = v.team_id AND t.name = v.name
           LEFT JOIN registry.tool_settings s ON s.team_id = t.team_id AND s.name = t.name
           LEFT JOIN registry.server sv ON sv.team_id = t.team_id AND sv.name = t.server_name
           LEFT JOIN registry.review w ON w.team_id = v.team_id AND w.version_id = v.id
           WHERE v.team_id = $1 AND v.name = $2 AND v.version = $3"#,
        team,
        name,
        version,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// Names of the tools that may be called.
pub(crate) async fn tool_names(pool: &PgPool, team: &str) -> Result<Vec<String>, Error> {
    let names = sqlx::query_scalar!(
        "SELECT name FROM registry.tool
         WHERE team_id = $1 AND effective_status IN ('active', 'deprecated')",
        team,
    )
    .fetch_all(pool)
    .await?;
    Ok(names)
}

/// The newest version of each tool after a name, in order of name, and the bytes of the definitions up to
/// each: rows end with the first that does not fit a page.
pub(crate) async fn tool_list(
    pool: &PgPool,
    team: &str,
    filter: &Filter,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<(ToolRow, bool)>, Error> {
    let mut transaction = looking_up(pool).await?;
    let rows = sqlx::query!(
        r#"SELECT * FROM (
             SELECT v.team_id, v.id, v.name, v.digest, v.definition, t.revision, v.create_time,
                    s.settings AS "settings?: Json<Settings>",
                    coalesce(s.revision, 0) AS "settings_revision!",
                    t.effective_status AS "status!", t.server_name,
                  sv.state AS "server_state?",
                  registry.pending_definition(t.team_id, t.pending_id) AS "pending?: Json<Pending>",
                    sum(size.bytes) OVER (ORDER BY t.name) AS "bytes!", size.bytes AS "own_bytes!"
             FROM registry.tool t JOIN registry.version v ON v.team_id = t.team_id AND v.id = t.newest_id
             LEFT JOIN registry.tool_settings s ON s.team_id = t.team_id AND s.name = t.name
             LEFT JOIN registry.server sv ON sv.team_id = t.team_id AND sv.name = t.server_name
             CROSS JOIN LATERAL (
               SELECT octet_length(v.definition) + coalesce(octet_length(s.settings::text), 0) AS bytes) size
             WHERE t.team_id = $1
               AND t.name > coalesce($2, '')
               AND ($3::text IS NULL OR t.category = $3)
               AND ($4::text IS NULL OR t.capabilities @> ARRAY[$4])
               AND ($5::text IS NULL OR t.effective_status = $5)
               AND ($6::text IS NULL OR t.provider = $6)
               AND (NOT $9 OR t.pending_id IS NOT NULL OR NOT t.approved AND EXISTS (
                 SELECT FROM registry.review w
                 WHERE w.team_id = t.team_id AND w.version_id = t.newest_id AND w.state = 'pending'))
             ORDER BY t.name
             LIMIT $7) AS page
           WHERE "bytes!" - "own_bytes!" <= $8
           ORDER BY name"#,
        team,
        after,
        filter.category.map(Category::as_str),
        filter.capability,
        filter.status.map(ToolStatus::as_str),
        filter.provider,
        limit,
        PAGE_BYTES,
        filter.pending,
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let rows = rows.into_iter().map(|row| {
        let fits = row.bytes <= PAGE_BYTES;
        let tool = ToolRow {
            team_id: row.team_id,
            id: row.id,
            name: row.name,
            digest: row.digest,
            definition: row.definition,
            status: row.status,
            revision: row.revision,
            create_time: row.create_time,
            settings: row.settings,
            settings_revision: row.settings_revision,
            server_name: row.server_name,
            server_state: row.server_state,
            pending: row.pending,
        };
        (tool, fits)
    });
    Ok(rows.collect())
}

/// The tools that a server offers, in order of name.
pub(crate) async fn tool_list_of_server(
    pool: &PgPool,
    team: &str,
    server: &str,
    limit: i64,
) -> Result<Vec<ToolRow>, Error> {
    let rows = sqlx::query_as!(
        ToolRow,
        r#"SELECT v.team_id, v.id, v.name, v.digest, v.definition, t.revision, v.create_time,
                  s.settings AS "settings?: Json<Settings>",
                  coalesce(s.revision, 0) AS "settings_revision!", t.effective_status AS "status!", t.server_name,
                  sv.state AS "server_state?",
                  registry.pending_definition(t.team_id, t.pending_id) AS "pending?: Json<Pending>"
           FROM registry.tool t JOIN registry.version v ON v.team_id = t.team_id AND v.id = t.newest_id
           LEFT JOIN registry.tool_settings s ON s.team_id = t.team_id AND s.name = t.name
           LEFT JOIN registry.server sv ON sv.team_id = t.team_id AND sv.name = t.server_name
           WHERE t.team_id = $1 AND t.server_name = $2 AND NOT t.withdrawn
           ORDER BY t.name
           LIMIT $3"#,
        team,
        server,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// The versions of one tool, newest first.
pub(crate) async fn version_list(
    pool: &PgPool,
    team: &str,
    name: &str,
    limit: i64,
) -> Result<Vec<ToolRow>, Error> {
    let rows = sqlx::query_as!(
        ToolRow,
        r#"SELECT v.team_id, v.id, v.name, v.digest, v.definition, t.revision, v.create_time,
                  s.settings AS "settings?: Json<Settings>",
                  coalesce(s.revision, 0) AS "settings_revision!",
                  CASE WHEN w.state <> 'approved' THEN 'quarantined' ELSE t.effective_status END AS "status!", t.server_name,
                  sv.state AS "server_state?",
                  registry.pending_definition(t.team_id, t.pending_id) AS "pending?: Json<Pending>"
           FROM registry.version v JOIN registry.tool t ON t.team_id = v.team_id AND t.name = v.name
           LEFT JOIN registry.tool_settings s ON s.team_id = t.team_id AND s.name = t.name
           LEFT JOIN registry.server sv ON sv.team_id = t.team_id AND sv.name = t.server_name
           LEFT JOIN registry.review w ON w.team_id = v.team_id AND w.version_id = v.id
           WHERE v.team_id = $1 AND v.name = $2
           ORDER BY v.revision DESC, v.id DESC
           LIMIT $3"#,
        team,
        name,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// The newest versions after a place, of one team or of all, in order of revision.
pub(crate) async fn tools_after(
    pool: &PgPool,
    team: Option<&str>,
    cursor: &Cursor,
    limit: i64,
) -> Result<Vec<ToolRow>, Error> {
    let rows = sqlx::query_as!(
        ToolRow,
        r#"SELECT v.team_id, v.id, v.name, v.digest, v.definition, t.revision, v.create_time,
                  s.settings AS "settings?: Json<Settings>",
                  coalesce(s.revision, 0) AS "settings_revision!",
                  t.effective_status AS "status!", t.server_name,
                  sv.state AS "server_state?",
                  registry.pending_definition(t.team_id, t.pending_id) AS "pending?: Json<Pending>"
           FROM registry.tool t JOIN registry.version v ON v.team_id = t.team_id AND v.id = t.newest_id
           LEFT JOIN registry.tool_settings s ON s.team_id = t.team_id AND s.name = t.name
           LEFT JOIN registry.server sv ON sv.team_id = t.team_id AND sv.name = t.server_name
           WHERE (t.revision, t.team_id, t.name) > ($1, $2, $3) AND ($4::text IS NULL OR t.team_id = $4)
           ORDER BY t.revision, t.team_id, t.name
           LIMIT $5"#,
        cursor.revision,
        cursor.team_id,
        cursor.name,
        team,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}
