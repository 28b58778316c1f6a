//! Reads which tools stand in for a tool, and whether each may be called.

use std::collections::HashMap;

use ::store::Database;

use crate::{
    Error,
    get::{self, Key},
    settings::Fallback,
    store,
};

/// The fallbacks of one tool.
#[derive(Debug)]
pub(crate) struct Fallbacks {
    /// In the order in which they are tried, each with its tool's status; `None`: it is not there any more.
    pub resolved: Vec<(Fallback, Option<String>)>,
    pub etag: String,
}

/// The fallbacks of a tool.
pub(crate) async fn fallbacks(database: &Database, team: &str, name: &str) -> Result<Fallbacks, Error> {
    let tool = get::get(database, team, Key::Name(name.to_owned(), None)).await?;
    let (fallbacks, etag) = (tool.settings().fallbacks, tool.etag());
    let names: Vec<String> = fallbacks.iter().map(|fallback| fallback.tool.clone()).collect();
    let statuses: HashMap<_, _> =
        store::tool_statuses(database.pool()?, team, &names).await?.into_iter().collect();
    let resolved = fallbacks.into_iter().map(|fallback| {
        let status = statuses.get(&fallback.tool).cloned();
        (fallback, status)
    });
    Ok(Fallbacks { resolved: resolved.collect(), etag })
}
