//! Changes of tools, each within a `Write`. Versions are only ever added.

use ::store::Error;
use serde::Serialize;
use sqlx::types::Json;
use types::Category;
use uuid::Uuid;

use super::{ToolStatus, Write};
use crate::{
    definition::{Definition, Digests},
    trail::Named,
    words::Searched,
};

/// The newest version of a tool, as far as a writer must know it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KnownTool {
    pub name: String,
    pub id: Uuid,
    pub version: String,
    /// As it is published.
    pub digest: String,
    pub content_digest: String,
    pub server_name: Option<String>,
    pub provider: String,
    pub withdrawn: bool,
    /// Whether the newest version may serve.
    pub approved: bool,
    /// A changed definition that waits for approval.
    pub pending_id: Option<Uuid>,
}

/// A version to add.
#[derive(Debug, Serialize)]
pub(crate) struct NewVersion {
    id: Uuid,
    name: String,
    version: String,
    digest: String,
    content_digest: String,
    definition: String,
    category: Category,
    capabilities: Vec<String>,
    provider: String,
    #[serde(flatten)]
    searched: Searched,
    /// Whether it may serve.
    approved: bool,
    /// Whether its server does not offer it any more.
    withdrawn: bool,
}

impl NewVersion {
    /// Encodes a definition whose version is decided.
    pub(crate) fn new(definition: &Definition, digests: Digests) -> Result<Self, serde_json::Error> {
        Ok(Self {
            id: types::new_id(),
            name: definition.name.clone(),
            version: definition.version.clone(),
            digest: digests.published,
            content_digest: digests.content,
            definition: serde_json::to_string(definition)?,
            category: definition.category,
            capabilities: definition.capabilities.clone(),
            provider: definition.provider.clone(),
            searched: Searched::of(definition),
            approved: true,
            withdrawn: false,
        })
    }

    /// A version that is there already, to be made the newest of its tool.
    pub(crate) fn existing(
        id: Uuid,
        definition: &Definition,
        digests: Digests,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self { id, ..Self::new(definition, digests)? })
    }

    /// The same, which may not serve until somebody approves it.
    pub(crate) fn unapproved(self) -> Self {
        Self { approved: false, ..self }
    }

    /// The same, of a tool that its server offers, or does not any more.
    pub(crate) fn withdrawn(self, withdrawn: bool) -> Self {
        Self { withdrawn, ..self }
    }

    /// Bytes of its definition, which are nearly all of it.
    pub(crate) fn bytes(&self) -> usize {
        self.definition.len()
    }

    /// Its id.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// How the trail names it.
    pub(crate) fn named(&self) -> Named<'_> {
        Named { name: &self.name, version: &self.version, digest: &self.digest }
    }
}

impl KnownTool {
    /// How the trail names it.
    pub(crate) fn named(&self) -> Named<'_> {
        Named { name: &self.name, version: &self.version, digest: &self.digest }
    }
}

/// What a writer must know of one tool.
pub(crate) async fn tool_known(
    write: &mut Write,
    team: &str,
    name: &str,
) -> Result<Option<KnownTool>, Error> {
    Ok(tools_known(write, team, &[name.to_owned()], "").await?.pop())
}

/// What a writer must know of the tools with these names, and of those that a server keeps.
pub(crate) async fn tools_known(
    write: &mut Write,
    team: &str,
    names: &[String],
    server: &str,
) -> Result<Vec<KnownTool>, Error> {
    let known = sqlx::query_as!(
        KnownTool,
        "SELECT t.name, v.id, v.version, v.digest, v.content_digest, t.server_name, t.provider, t.withdrawn,
                t.approved, t.pending_id
         FROM registry.tool t JOIN registry.version v ON v.team_id = t.team_id AND v.id = t.newest_id
         WHERE t.team_id = $1 AND (t.name = ANY($2) OR t.server_name = $3)",
        team,
        names,
        server,
    )
    .fetch_all(&mut *write.transaction)
    .await?;
    Ok(known)
}

/// How many names a server has added within the last day, without those of the first discovery since it was
/// registered that added any; `None`: none has.
pub(crate) async fn tools_added(write: &mut Write, team: &str, server: &str) -> Result<Option<usize>, Error> {
    let row = sqlx::query!(
        r#"WITH added AS (
             SELECT min(v.revision) AS revision, min(v.create_time) AS create_time
             FROM registry.tool t JOIN registry.version v ON v.team_id = t.team_id AND v.name = t.name
             WHERE t.team_id = $1 AND t.server_name = $2
             GROUP BY t.name),
           since AS (
             SELECT a.revision, a.create_time, min(a.revision) OVER () AS first
             FROM added a JOIN registry.server s ON s.team_id = $1 AND s.name = $2
             WHERE a.create_time >= s.create_time)
           SELECT count(*) AS "all!",
                  count(*) FILTER (WHERE revision > first AND create_time > now() - interval '1 day') AS "new!"
           FROM since"#,
        team,
        server,
    )
    .fetch_one(&mut *write.transaction)
    .await?;
    Ok((row.all > 0).then(|| usize::try_from(row.new).unwrap_or(usize::MAX)))
}

/// Id and content of one version.
pub(crate) async fn version_content(
    write: &mut Write,
    team: &str,
    name: &str,
    version: &str,
) -> Result<Option<(Uuid, String)>, Error> {
    let row = sqlx::query!(
        "SELECT id, content_digest FROM registry.version WHERE team_id = $1 AND name = $2 AND version = $3",
        team,
        name,
        version,
    )
    .fetch_optional(&mut *write.transaction)
    .await?;
    Ok(row.map(|row| (row.id, row.content_digest)))
}

/// Adds versions.
pub(crate) async fn versions_insert(
    write: &mut Write,
    team: &str,
    versions: &[NewVersion],
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO registry.version (team_id, id, name, version, revision, digest, content_digest, definition)
         SELECT $1, r.id, r.name, r.version, $2, r.digest, r.content_digest, r.definition
         FROM json_to_recordset($3::json) AS r (
             id uuid, name text, version text, digest text, content_digest text, definition text)",
        team,
        write.revision,
        Json(versions) as _,
    )
    .execute(&mut *write.transaction)
    .await?;
    Ok(())
}

/// Makes these versions the newest of their tools, kept by this server or by people. The status stays; a tool
/// that was withdrawn is back; what else waited for approval is superseded.
pub(crate) async fn tool_put(
    write: &mut Write,
    team: &str,
    server: Option<&str>,
    versions: &[NewVersion],
) -> Result<(), Error> {
    sqlx::query!(
        "WITH superseded AS (
           UPDATE registry.review w SET state = 'superseded'
           FROM registry.tool t JOIN json_to_recordset($4::json) AS r (id uuid, name text) ON r.name = t.name
           WHERE t.team_id = $1 AND w.team_id = $1 AND w.version_id IN (t.pending_id, t.newest_id)
             AND w.version_id <> r.id AND w.state = 'pending')
         INSERT INTO registry.tool (team_id, name, newest_id, category, capabilities, provider, server_name,
                                    status, approved, withdrawn, revision, search)
         SELECT $1, r.name, r.id, r.category, ARRAY(SELECT json_array_elements_text(r.capabilities)),
                r.provider, $2, 'active', r.approved, r.withdrawn, $3,
                registry.search_vector(r.name_words, r.title_words, r.description_words, r.other_words)
         FROM json_to_recordset($4::json) AS r (
             id uuid, name text, category text, capabilities json, provider text, approved boolean,
             withdrawn boolean, name_words text, title_words text, description_words text, other_words text)
         ON CONFLICT (team_id, name) DO UPDATE SET newest_id = EXCLUDED.newest_id,
             category = EXCLUDED.category, capabilities = EXCLUDED.capabilities,
             provider = EXCLUDED.provider, server_name = EXCLUDED.server_name,
             approved = EXCLUDED.approved, withdrawn = EXCLUDED.withdrawn, pending_id = NULL,
             revision = EXCLUDED.revision, search = EXCLUDED.search",
        team,
        server,
        write.revision,
        Json(versions) as _,
    )
    .execute(&mut *write.transaction)
    .await?;
    Ok(())
}

/// A tool whose status was set.
#[derive(Debug)]
pub(crate) struct StatusSet {
    pub version: String,
    pub digest: String,
    /// The status that it had.
    pub before: String,
}

/// Sets what people decided; `None`: there is no such tool.
pub(crate) async fn tool_set_status(
    write: &mut Write,
    team: &str,
    name: &str,
    status: ToolStatus,
) -> Result<Option<StatusSet>, Error> {
    let set = sqlx::query_as!(
        StatusSet,
        r#"WITH before AS (
             SELECT t.status, v.version, v.digest
             FROM registry.tool t JOIN registry.version v ON v.team_id = t.team_id AND v.id = t.newest_id
             WHERE t.team_id = $1 AND t.name = $2),
           done AS (
             UPDATE registry.tool SET status = $3, withdrawn = false, revision = $4
             WHERE team_id = $1 AND name = $2 RETURNING name)
           SELECT b.version, b.digest, b.status AS before FROM before b CROSS JOIN done"#,
        team,
        name,
        status.as_str(),
        write.revision,
    )
    .fetch_optional(&mut *write.transaction)
    .await?;
    Ok(set)
}

/// A tool that its server does not offer any more.
#[derive(Debug)]
pub(crate) struct Withdrawn {
    pub name: String,
    pub version: String,
    pub digest: String,
    /// Whether it could be called until now.
    pub was_callable: bool,
}

impl Withdrawn {
    /// How the trail names it.
    pub(crate) fn named(&self) -> Named<'_> {
        Named { name: &self.name, version: &self.version, digest: &self.digest }
    }
}

/// Disables the tools of a server, but for these names, and gives them.
pub(crate) async fn tool_withdraw(
    write: &mut Write,
    team: &str,
    server: &str,
    still_offered: &[String],
) -> Result<Vec<Withdrawn>, Error> {
    let gone = sqlx::query_as!(
        Withdrawn,
        r#"WITH gone AS (
             UPDATE registry.tool SET withdrawn = true, revision = $4
             WHERE team_id = $1 AND server_name = $2 AND NOT withdrawn AND NOT name = ANY($3)
             RETURNING name, status, newest_id)
           SELECT g.name AS "name!", v.version AS "version!", v.digest AS "digest!",
                  g.status <> 'disabled' AS "was_callable!"
           FROM gone g JOIN registry.version v ON v.team_id = $1 AND v.id = g.newest_id
           ORDER BY g.name"#,
        team,
        server,
        still_offered,
        write.revision,
    )
    .fetch_all(&mut *write.transaction)
    .await?;
    Ok(gone)
}

/// Brings withdrawn tools back that are offered again, unchanged.
pub(crate) async fn tool_restore(write: &mut Write, team: &str, names: &[String]) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE registry.tool SET withdrawn = false, revision = $3 WHERE team_id = $1 AND name = ANY($2)",
        team,
        names,
        write.revision,
    )
    .execute(&mut *write.transaction)
    .await?;
    Ok(())
}
