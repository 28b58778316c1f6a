//! Takes what an MCP server offers into the catalog: new tools, changed ones as far as they are trusted, tools
//! that are gone disabled. Settings stay, but for those that a changed tool cannot have any more. Nothing is
//! written when nothing changed.

mod plan;

use std::collections::HashMap;

use ::store::Database;
use uuid::Uuid;

use crate::{
    Error,
    config::TrustPolicy,
    definition::{Definition, Digests},
    normalise::{self, Offer},
    register,
    rounds::Rounds,
    store::{self, KnownTool, PastVersion, ReviewState, ServerRow, SettingsRow, Write},
    trail,
    trust::{Standing, Verdict},
};

use plan::Plan;

/// Most rejected tools that are told.
const MAX_REJECTED: usize = 20;
/// Most names that a server has in the catalog, with those that it does not offer any more: none is ever deleted.
const MAX_NAMES: usize = 2 * mcp::MAX_TOOLS;
/// Most names that a server adds within a day, without those of its first discovery.
const MAX_NEW_A_DAY: usize = 1_000;

/// What the catalog holds of the tools that a server offers.
#[derive(Clone, PartialEq)]
struct Catalog {
    known: HashMap<String, KnownTool>,
    /// Of those that are not as they were: definition, settings and every version.
    settings: HashMap<String, SettingsRow>,
    past: HashMap<String, Vec<PastVersion>>,
    /// Names that the server added within the last day, without those of its first discovery; `None`: this is the
    /// first, or nothing is new.
    added: Option<usize>,
}

/// How many more names a server may add, and why not more.
#[derive(Debug)]
struct Room {
    left: usize,
    reason: String,
}

/// Takes the tools and gives those that could not be, each with the reason. `None`: the server was
/// removed, or another process discovers it now.
pub(crate) async fn take(
    database: &Database,
    owner: Uuid,
    policy: TrustPolicy,
    server: &ServerRow,
    tools: Vec<mcp::Tool>,
) -> Result<Option<Vec<String>>, Error> {
    let (name, transport) = (server.name.clone(), server.transport.0.clone());
    let defaults = server.defaults.0.clone();
    let credentials = server.credentials.0.clone();
    let normalise = move || normalise::normalise(&name, &transport, &credentials, &defaults, tools);
    let offer = tokio::task::spawn_blocking(normalise).await??;
    let make =
        move |server: &ServerRow, offer: &Offer, catalog| Planned::make(server, policy, offer, catalog);
    settle(database, owner, server, offer, make).await
}

/// Plans with `make`, and carries out what was planned for the catalog as it is.
async fn settle<M>(
    database: &Database,
    owner: Uuid,
    server: &ServerRow,
    mut offer: Offer,
    make: M,
) -> Result<Option<Vec<String>>, Error>
where
    M: Fn(&ServerRow, &Offer, Catalog) -> Result<Planned, Error> + Clone + Send + 'static,
{
    let (mut planned, mut rounds): (Option<Planned>, _) = (None, Rounds::default());
    loop {
        let mut write = Write::begin(database.pool()?).await?;
        if !store::server_is_held(&mut write, &server.key(), owner).await? {
            return Ok(None);
        }
        let catalog = catalog(&mut write, server, &offer).await?;
        if let Some(planned) = planned.take_if(|planned| planned.catalog == catalog) {
            carry_out(write, server, planned.plan).await?;
            return Ok(Some(told(planned.rejected)));
        }
        let kept = rounds.begin(write).await?;
        let (make, of) = (make.clone(), server.clone());
        let work = move || make(&of, &offer, catalog).map(|made| (offer, made));
        let (same, made) = tokio::task::spawn_blocking(work).await??;
        if let Some(write) = kept {
            carry_out(write, server, made.plan).await?;
            return Ok(Some(told(made.rejected)));
        }
        if made.plan.is_empty() {
            return Ok(Some(told(made.rejected)));
        }
        offer = same;
        planned = Some(made);
    }
}

/// A plan that holds as long as the catalog is what it was made for.
struct Planned {
    catalog: Catalog,
    plan: Plan,
    rejected: Vec<String>,
}

impl Planned {
    fn make(server: &ServerRow, policy: TrustPolicy, offer: &Offer, catalog: Catalog) -> Result<Self, Error> {
        let mut offer = offer.clone();
        let plan = plan(server, policy, &mut offer, catalog.clone())?;
        Ok(Self { catalog, plan, rejected: offer.rejected })
    }
}

async fn catalog(write: &mut Write, server: &ServerRow, offer: &Offer) -> Result<Catalog, Error> {
    let team = &server.team_id;
    let names: Vec<String> = offer.tools.iter().map(|(definition, _)| definition.name.clone()).collect();
    let known: HashMap<String, KnownTool> = store::tools_known(write, team, &names, &server.name)
        .await?
        .into_iter()
        .map(|tool| (tool.name.clone(), tool))
        .collect();
    let added = if names.iter().all(|name| known.contains_key(name)) {
        None
    } else {
        store::tools_added(write, team, &server.name).await?
    };
    let differs = |(definition, digests): &&(Definition, Digests)| {
        known.get(&definition.name).is_some_and(|tool| {
            tool.server_name.as_deref() == Some(&server.name)
                && (tool.content_digest != digests.content || !tool.approved)
        })
    };
    let changed: Vec<String> =
        offer.tools.iter().filter(differs).map(|(definition, _)| definition.name.clone()).collect();
    let settings = store::settings_list(write, team, &changed).await?;
    let mut past: HashMap<String, Vec<PastVersion>> = HashMap::new();
    for version in store::versions_past(write, team, &changed).await? {
        past.entry(version.name.clone()).or_default().push(version);
    }
    let settings = settings.into_iter().map(|row| (row.name.clone(), row)).collect();
    Ok(Catalog { known, settings, past, added })
}

async fn carry_out(mut write: Write, server: &ServerRow, plan: Plan) -> Result<(), Error> {
    if plan.is_empty() {
        return Ok(());
    }
    let (team, name) = (&server.team_id, Some(server.name.as_str()));
    store::versions_insert(&mut write, team, &plan.newest).await?;
    store::versions_insert(&mut write, team, &plan.held).await?;
    store::tool_put(&mut write, team, name, &plan.newest).await?;
    store::tool_put(&mut write, team, name, &plan.approved).await?;
    for version in &plan.approved {
        let (state, note) = (ReviewState::Approved, "approved by the trust policy");
        store::review_decide(&mut write, team, version.id(), state, "", note).await?;
    }
    store::reviews_put(&mut write, team, &plan.quarantined).await?;
    store::pending_clear(&mut write, team, &plan.cleared).await?;
    store::pending_set(&mut write, team, &plan.waiting).await?;
    store::settings_put(&mut write, team, &plan.settings).await?;
    store::tool_restore(&mut write, team, &plan.restored).await?;
    let gone = store::tool_withdraw(&mut write, team, &server.name, &plan.offered).await?;
    let own = trail::own(team);
    for tool in &gone {
        let told = format!("it was withdrawn: MCP server {} does not offer it", server.name);
        write.tell(trail::tool(&own, tool.named(), told));
    }
    plan.events.into_iter().for_each(|event| write.tell(event));
    let (versions, waiting) = (plan.newest.len(), plan.waiting.len() + plan.quarantined.len());
    write.commit().await?;
    tracing::info!(team, server.name, versions, waiting, "tools of an mcp server changed");
    Ok(())
}

fn plan(
    server: &ServerRow,
    policy: TrustPolicy,
    offer: &mut Offer,
    mut catalog: Catalog,
) -> Result<Plan, Error> {
    let name = server.name.as_str();
    let mut plan = Plan::default();
    let is_own = |tool: &KnownTool| tool.server_name.as_deref() == Some(name);
    let mut room = Room::of(catalog.known.values().filter(|tool| is_own(tool)).count(), catalog.added);
    for (mut definition, digests) in std::mem::take(&mut offer.tools) {
        let Some(tool) = catalog.known.remove(&definition.name) else {
            if room.left == 0 {
                offer.reject(&definition.name, &room.reason);
                continue;
            }
            room.left -= 1;
            definition.version = register::first();
            plan.offered.push(definition.name.clone());
            let serves = policy != TrustPolicy::ApproveEverything;
            plan.add(server, &definition, (digests, serves), "")?;
            continue;
        };
        if !is_own(&tool) {
            offer.reject(&tool.name, &taken(&tool, name));
            continue;
        }
        let (verdict, stays_elsewhere) = match catalog.settings.get(&tool.name) {
            None => (Verdict::Stands, false),
            Some(row) => {
                let stands: Definition = serde_json::from_str(&row.definition)?;
                let past = catalog.past.get(&tool.name).map(Vec::as_slice).unwrap_or_default();
                let standing = Standing { tool: &tool, definition: &stands, past };
                let verdict = standing.judge(policy, &definition, &digests)?;
                let stays_elsewhere = standing.stays_elsewhere(&verdict, &definition);
                (verdict, stays_elsewhere)
            }
        };
        if let Verdict::Refused { reason, .. } = &verdict {
            offer.reject(&tool.name, reason);
        }
        if stays_elsewhere {
            plan.has_gone |= !tool.withdrawn;
        } else {
            plan.offered.push(tool.name.clone());
            if tool.withdrawn {
                plan.restored.push(tool.name.clone());
            }
        }
        let (settings, told) = (catalog.settings.get(&tool.name), plan.events.len());
        plan.follow(server, &tool, settings, verdict, definition, digests)?;
        if tool.withdrawn && !stays_elsewhere && plan.events.len() == told {
            plan.tell(server, tool.named(), format!("MCP server {name} offers it again"));
        }
    }
    plan.has_gone |= catalog.known.values().any(|tool| is_own(tool) && !tool.withdrawn);
    Ok(plan)
}

/// Why a tool that somebody else provides is not touched.
fn taken(tool: &KnownTool, server: &str) -> String {
    let owner = match &tool.server_name {
        Some(other) => format!("MCP server {other} provides"),
        None if tool.provider.is_empty() => "was registered by hand".to_owned(),
        None => format!("was registered by hand, as provided by {}", tool.provider),
    };
    let verb = if tool.server_name.is_some() { " it already" } else { "" };
    format!("a tool of this name {owner}{verb}; MCP server {server} cannot provide it as well")
}

impl Room {
    fn of(names: usize, added: Option<usize>) -> Self {
        let in_all = Self {
            left: MAX_NAMES.saturating_sub(names),
            reason: format!(
                "its server had {MAX_NAMES} names of tools in all, and no more are taken; register it under another \
                 name"
            ),
        };
        let today = added.map(|added| Self {
            left: MAX_NEW_A_DAY.saturating_sub(added),
            reason: format!(
                "its server added {MAX_NEW_A_DAY} tools within a day, and no more are taken until later"
            ),
        });
        match today {
            Some(today) if today.left < in_all.left => today,
            _ => in_all,
        }
    }
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
mod tests;
