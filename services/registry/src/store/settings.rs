//! Settings of tools: one row a tool whose settings are not all defaults. Written within a `Write` only, and
//! the tool with them, so that its watchers see the change.

use ::store::Error;
use serde::Serialize;
use sqlx::{PgPool, types::Json};

use super::Write;
use crate::{settings::Settings, trail::Named};

/// The settings of a tool as they stand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SettingsRow {
    pub name: String,
    /// The newest version of the tool, and its digest as it is published.
    pub version: String,
    pub digest: String,
    /// The definition of that version, encoded.
    pub definition: String,
    /// `None`: the defaults.
    pub settings: Option<Json<Settings>>,
    /// 0 for the defaults; its text is the etag.
    pub revision: i64,
}

impl SettingsRow {
    /// The settings, defaults filled in.
    pub(crate) fn settings(&self) -> Settings {
        self.settings.as_ref().map(|settings| settings.0.clone()).unwrap_or_default()
    }

    /// How the trail names the tool.
    pub(crate) fn named(&self) -> Named<'_> {
        Named { name: &self.name, version: &self.version, digest: &self.digest }
    }
}

/// The settings of the tools with these names, and each one's newest definition.
pub(crate) async fn settings_list(
    write: &mut Write,
    team: &str,
    names: &[String],
) -> Result<Vec<SettingsRow>, Error> {
    let rows = sqlx::query_as!(
        SettingsRow,
        r#"SELECT t.name, v.version, v.digest, v.definition, s.settings AS "settings?: Json<Settings>",
                  coalesce(s.revision, 0) AS "revision!"
           FROM registry.tool t
           JOIN registry.version v ON v.team_id = t.team_id AND v.id = t.newest_id
           LEFT JOIN registry.tool_settings s ON s.team_id = t.team_id AND s.name = t.name
           WHERE t.team_id = $1 AND t.name = ANY($2)"#,
        team,
        names,
    )
    .fetch_all(&mut *write.transaction)
    .await?;
    Ok(rows)
}

/// The settings of one tool; `None` when there is no such tool.
pub(crate) async fn settings_find(
    write: &mut Write,
    team: &str,
    name: &str,
) -> Result<Option<SettingsRow>, Error> {
    Ok(settings_list(write, team, &[name.to_owned()]).await?.pop())
}

/// Settings to keep.
#[derive(Debug, Serialize)]
pub(crate) struct NewSettings {
    pub name: String,
    pub settings: Settings,
}

/// Keeps settings of tools that there are.
pub(crate) async fn settings_put(write: &mut Write, team: &str, new: &[NewSettings]) -> Result<(), Error> {
    sqlx::query!(
        "WITH kept AS (
           INSERT INTO registry.tool_settings (team_id, name, settings, revision)
           SELECT $1, r.name, r.settings, $2 FROM jsonb_to_recordset($3) AS r (name text, settings jsonb)
           ON CONFLICT (team_id, name) DO UPDATE SET settings = EXCLUDED.settings, revision = EXCLUDED.revision
           RETURNING name)
         UPDATE registry.tool SET revision = $2 WHERE team_id = $1 AND name IN (SELECT name FROM kept)",
        team,
        write.revision,
        Json(new) as _,
    )
    .execute(&mut *write.transaction)
    .await?;
    Ok(())
}

/// Which tools stand in for which, over a whole team.
pub(crate) async fn fallback_list(
    write: &mut Write,
    team: &str,
) -> Result<Vec<(String, Vec<String>)>, Error> {
    let rows = sqlx::query!(
        r#"SELECT name, ARRAY(SELECT f ->> 'tool' FROM jsonb_array_elements(settings -> 'fallbacks') f) AS "tools!"
           FROM registry.tool_settings
           WHERE team_id = $1 AND settings -> 'fallbacks' <> '[]'"#,
        team,
    )
    .fetch_all(&mut *write.transaction)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.tools)).collect())
}

/// Name and status of the tools with these names that there are.
pub(crate) async fn tool_statuses(
    pool: &PgPool,
    team: &str,
    names: &[String],
) -> Result<Vec<(String, String)>, Error> {
    let rows = sqlx::query!(
        r#"SELECT name, effective_status AS "status!" FROM registry.tool WHERE team_id = $1 AND name = ANY($2)"#,
        team,
        names,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.status)).collect())
}
