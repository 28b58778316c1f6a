//! Reads executions: one, or page by page, newest first. An agent sees its own; an operator all of the team.

use ::rpc::PageKey;
use ::store::Database;
use types::{Caller, Role};
use uuid::Uuid;

use crate::{
    Error,
    store::{self, Execution, Filter},
};

/// Bytes that all but the long texts of an execution take, generously.
const FIELD_BYTES: usize = 1_024;

/// One execution that the caller may see; any other does not exist for it.
pub(crate) async fn get(database: &Database, caller: &Caller, id: &str) -> Result<Execution, Error> {
    let missing = || Error::NotFound(id.to_owned());
    let key: Uuid = id.parse().map_err(|_| Error::invalid("id", "is not a UUID"))?;
    let execution = store::execution_get(database.pool()?, &caller.team, key).await?.ok_or_else(missing)?;
    let visible = caller.role >= Role::Auditor || execution.agent_id == caller.agent;
    if visible { Ok(execution) } else { Err(missing()) }
}

/// One page of executions and the token of the next.
pub(crate) async fn list(
    database: &Database,
    pages: &PageKey,
    caller: &Caller,
    mut filter: Filter,
    page: (i32, &str),
) -> Result<(Vec<Execution>, String), Error> {
    if caller.role < Role::Auditor
        && *filter.agent_id.get_or_insert_with(|| caller.agent.clone()) != caller.agent
    {
        return Err(Error::invalid("agent_id", "only an auditor may list the executions of another agent"));
    }
    let page = pages.page(page.0, page.1, format!("{}|{filter:?}", caller.team))?;
    let unreadable = |_| Error::invalid("page_token", "holds no position");
    let before = page.cursor.as_ref().map(|cursor| cursor.parse()).transpose().map_err(unreadable)?;
    let mut rows =
        store::execution_list(database.pool()?, &caller.team, &filter, before, page.size + 1).await?;
    let size = |row: &Execution| {
        let texts = [&row.arguments_json, &row.error_json, &row.attempts_json, &row.warnings_json];
        texts.iter().map(|text| text.len()).sum::<usize>() + FIELD_BYTES
    };
    let next = pages.next_sized(&page, &mut rows, size, |row| row.id.to_string());
    Ok((rows, next))
}
