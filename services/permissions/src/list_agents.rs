//! Lists the agents of a team by name, page by page.

use ::rpc::PageKey;
use ::store::Database;
use types::Caller;

use crate::{
    Error,
    store::{self, AgentRow},
};

/// One page of agents, of one specialization where one is given, and the token of the next.
pub(crate) async fn list_agents(
    database: &Database,
    pages: &PageKey,
    caller: &Caller,
    specialization: &str,
    page: (i32, &str),
) -> Result<(Vec<AgentRow>, String), Error> {
    let only = (!specialization.is_empty()).then_some(specialization);
    let page = pages.page(page.0, page.1, format!("{}|agents|{specialization}", caller.team))?;
    let (pool, behind) = (database.pool()?, page.cursor.as_deref());
    let mut agents = store::agent_list(pool, &caller.team, only, behind, page.size + 1).await?;
    let next = pages.next(&page, &mut agents, |agent| agent.agent_id.clone());
    Ok((agents, next))
}
