//! Takes what an MCP server offers into the catalog: new tools, new versions of changed ones, tools that
//! are gone disabled. Settings stay, but for those that a changed tool cannot have any more. Nothing is written
//! when nothing changed.

use std::collections::HashMap;

use ::store::Database;
use uuid::Uuid;

use crate::{
    Error,
    normalise::{self, Offer},
    register,
    store::{self, KnownTool, NewSettings, NewVersion, ServerRow, SettingsRow, Write},
};

/// Most rejected tools that are told.
const MAX_REJECTED: usize = 20;

/// What is to be written.
#[derive(Debug, Default)]
struct Plan {
    versions: Vec<NewVersion>,
    /// Of tools that changed so that some of theirs had to be dropped.
    settings: Vec<NewSettings>,
    /// Withdrawn before, offered again, unchanged.
    restored: Vec<String>,
    /// Every tool that the server offers.
    offered: Vec<String>,
    /// Whether a tool is gone.
    has_gone: bool,
}

/// Takes the tools and gives those that could not be, each with the reason. `None`: the server was
/// removed, or another process discovers it now.
pub(crate) async fn take(
    database: &Database,
    owner: Uuid,
    server: &ServerRow,
    tools: Vec<mcp::Tool>,
) -> Result<Option<Vec<String>>, Error> {
    let (name, transport) = (server.name.clone(), server.transport.0.clone());
    let defaults = server.defaults.0.clone();
    let credentials = server.credentials.0.clone();
    let normalise = move || normalise::normalise(&name, &transport, &credentials, &defaults, tools);
    let mut offer = tokio::task::spawn_blocking(normalise).await??;
    let mut write = Write::begin(database.pool()?).await?;
    if !store::server_is_held(&mut write, &server.key(), owner).await? {
        return Ok(None);
    }
    let names: Vec<String> = offer.tools.iter().map(|(definition, _)| definition.name.clone()).collect();
    let known = store::tools_known(&mut write, &server.team_id, &names, &server.name).await?;
    let settings = store::settings_list(&mut write, &server.team_id, &names).await?;
    let plan = plan(server, &mut offer, known, settings)?;
    carry_out(write, server, plan).await?;
    Ok(Some(told(offer.rejected)))
}

async fn carry_out(mut write: Write, server: &ServerRow, plan: Plan) -> Result<(), Error> {
    if plan.versions.is_empty() && plan.restored.is_empty() && !plan.has_gone {
        return Ok(());
    }
    let team = &server.team_id;
    store::versions_insert(&mut write, team, &plan.versions).await?;
    store::tool_put(&mut write, team, Some(&server.name), &plan.versions).await?;
    store::settings_put(&mut write, team, &plan.settings).await?;
    store::tool_restore(&mut write, team, &plan.restored).await?;
    store::tool_withdraw(&mut write, team, &server.name, &plan.offered).await?;
    let made = plan.versions.len();
    write.commit().await?;
    tracing::info!(team, server.name, versions = made, "tools of an mcp server changed");
    Ok(())
}

fn plan(
    server: &ServerRow,
    offer: &mut Offer,
    known: Vec<KnownTool>,
    settings: Vec<SettingsRow>,
) -> Result<Plan, Error> {
    let (team, server) = (server.team_id.as_str(), server.name.as_str());
    let settings: HashMap<String, SettingsRow> =
        settings.into_iter().map(|row| (row.name.clone(), row)).collect();
    let mut known: HashMap<String, KnownTool> =
        known.into_iter().map(|tool| (tool.name.clone(), tool)).collect();
    let mut plan = Plan::default();
    for (mut definition, digests) in std::mem::take(&mut offer.tools) {
        let before = known.remove(&definition.name);
        match &before {
            Some(tool) if tool.server_name.as_deref() != Some(server) => {
                offer.reject(&definition.name, "a tool of this name was registered by hand");
                continue;
            }
            Some(tool) if tool.content_digest == digests.content => {
                if tool.withdrawn {
                    plan.restored.push(definition.name.clone());
                }
                plan.offered.push(definition.name);
                continue;
            }
            Some(tool) => definition.version = register::next_patch(&tool.version),
            None => definition.version = register::first(),
        }
        if let Some(current) = settings.get(&definition.name) {
            plan.settings.extend(register::fitted(team, current, &definition)?);
        }
        plan.versions.push(NewVersion::new(&definition, digests)?);
        plan.offered.push(definition.name);
    }
    plan.has_gone = known.values().any(|tool| tool.server_name.as_deref() == Some(server) && !tool.withdrawn);
    Ok(plan)
}

fn told(mut rejected: Vec<String>) -> Vec<String> {
    let more = rejected.len().saturating_sub(MAX_REJECTED - 1);
    if more > 1 {
        rejected.truncate(MAX_REJECTED - 1);
        rejected.push(format!("and {more} more"));
    }
    rejected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_told_than_fit_and_none_is_forgotten() {
        let rejected = |count| told((0..count).map(|n| n.to_string()).collect());
        assert_eq!(rejected(20).last().unwrap(), "19");
        assert_eq!((rejected(21).len(), rejected(21).last().unwrap().as_str()), (20, "and 2 more"));
    }
}
