//! Lists tools in order of name, page by page, and the versions of one.

use ::rpc::PageKey;
use ::store::Database;

use crate::{
    Error, get,
    store::{self, Filter, ToolRow},
};

/// Most versions that are listed.
const MAX_VERSIONS: i64 = 1_000;

/// One page of tools and the token of the next. A page ends early where it would become too large.
pub(crate) async fn list(
    database: &Database,
    pages: &PageKey,
    team: &str,
    filter: &Filter,
    page: (i32, &str),
) -> Result<(Vec<ToolRow>, String), Error> {
    let mut page = pages.page(page.0, page.1, format!("tools|{team}|{filter:?}"))?;
    let after = page.cursor.as_deref();
    let rows = store::tool_list(database.pool()?, team, filter, after, page.size + 1).await?;
    let fitting = rows.iter().take_while(|(_, fits)| *fits).count().max(1);
    page.size = page.size.min(i64::try_from(fitting).unwrap_or(i64::MAX));
    let mut rows: Vec<ToolRow> = rows.into_iter().map(|(row, _)| row).collect();
    let next = pages.next(&page, &mut rows, |row| row.name.clone());
    Ok((rows, next))
}

/// The versions of a tool, newest first.
pub(crate) async fn versions(database: &Database, team: &str, name: &str) -> Result<Vec<ToolRow>, Error> {
    let rows = store::version_list(database.pool()?, team, name, MAX_VERSIONS).await?;
    if rows.is_empty() {
        return Err(get::not_found(database, team, name.to_owned()).await);
    }
    Ok(rows)
}
