//! How well tools have done, with all that is known of them. Reads; nothing is ranked here. Below an auditor, nobody is
//! told of a tool that it may not call, nor of another agent's calls.

use ::rpc::{Call, PageKey};
use ::store::Database;
use chrono::{DateTime, Utc};
use types::{Caller, Category, Role};

use super::{
    Alarm, Counts, Learned, ToolLearned, Trend, View,
    lately::lately,
    standing::{Typical, stand},
    statistics::wilson,
};
use crate::{
    Error,
    index::Indexes,
    permit::{MAX_TOOLS, Permissions},
    policy::Weights,
};

/// Which tools are asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Wanted {
    /// Empty: every tool with history.
    pub tool: String,
    /// Empty: the team.
    pub agent: String,
    pub category: Option<Category>,
}

/// How well one tool has done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Effectiveness {
    pub tool: String,
    /// As of now.
    pub counts: Counts,
    /// The interval of its success rate.
    pub interval: (f64, f64),
    pub p95_ms: f64,
    pub suitability: f64,
    pub trend: Trend,
    pub alarm: Option<Alarm>,
    pub categories: Vec<OfCategory>,
}

/// The same in one category of task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OfCategory {
    pub category: Category,
    pub counts: Counts,
    pub suitability: f64,
}

/// One page of tools, in order of their names, and the token of the next.
pub(crate) async fn effectiveness(
    (database, learned, pages): (&Database, &Learned, &PageKey),
    callable: (&Indexes, &Permissions),
    call: &Call,
    wanted: &Wanted,
    weights: Weights,
    page: (i32, &str),
) -> Result<(Vec<Effectiveness>, String), Error> {
    let caller = &call.caller;
    only_own(caller, wanted)?;
    let wrong = |error: ::rpc::PageError| Error::invalid(error.field(), error.to_string());
    let page =
        pages.page(page.0, page.1, format!("effectiveness|{}|{wanted:?}", caller.team)).map_err(wrong)?;
    let team = learned.team(&caller.team);
    let after = page.cursor.as_deref();
    let fits = |name: &str, tool: &ToolLearned| {
        let known = of(tool, wanted);
        (known.executions > 0 || known.feedbacks > 0) && after.is_none_or(|after| name > after)
    };
    let mut names: Vec<&String> =
        team.iter().filter(|(name, tool)| fits(name, tool)).map(|(name, _)| name).collect();
    names.retain(|name| wanted.tool.is_empty() || **name == wanted.tool);
    names.sort_unstable();
    if caller.role < Role::Auditor {
        names = permitted(callable, call, names, page.size).await?;
    }
    let next = pages.next(&page, &mut names, |name| (*name).clone());
    let now = Utc::now();
    // Nobody is told by comparison of tools that it may not call.
    let others: Vec<&ToolLearned> = if caller.role < Role::Auditor {
        names.iter().filter_map(|name| team.get(*name)).map(AsRef::as_ref).collect()
    } else {
        team.values().map(AsRef::as_ref).collect()
    };
    let standing = Standings { others, weights, now };
    let typical = standing.typical(wanted.category);
    let tell = |name: &String| Some(tell(name, team.get(name)?, wanted, &standing, typical));
    let mut told: Vec<Effectiveness> = names.into_iter().filter_map(tell).collect();
    if !wanted.agent.is_empty() {
        of_agent(database, &caller.team, &wanted.agent, &mut told).await?;
    }
    Ok((told, next))
}

fn only_own(caller: &Caller, wanted: &Wanted) -> Result<(), Error> {
    if caller.role >= Role::Auditor || wanted.agent.is_empty() || wanted.agent == caller.agent {
        return Ok(());
    }
    Err(Error::invalid("agent_id", "only an auditor may read how another agent's calls went"))
}

/// Fewest tools that permission is asked for at once.
const FEWEST: usize = 256;

/// The first of these tools, in their order, that the caller may call: more than a page of so many has, if there are.
async fn permitted<'a>(
    (indexes, permissions): (&Indexes, &Permissions),
    call: &Call,
    names: Vec<&'a String>,
    page_size: i64,
) -> Result<Vec<&'a String>, Error> {
    let index = indexes.of(call).await?;
    let known = names.into_iter().filter_map(|name| Some((name, index.entry(index.find(name)?)?)));
    let known: Vec<_> = known.collect();
    let enough = usize::try_from(page_size).unwrap_or(0);
    let mut permitted = Vec::new();
    for some in known.chunks(enough.clamp(FEWEST, MAX_TOOLS)) {
        let refusals = permissions.permit(call, some.iter().map(|(_, entry)| *entry)).await?;
        let allowed = some.iter().zip(refusals).filter(|(_, refusal)| refusal.is_none());
        permitted.extend(allowed.map(|((name, _), _)| *name));
        if permitted.len() > enough {
            break;
        }
    }
    Ok(permitted)
}

/// What is asked for of a tool's calls.
fn of(tool: &ToolLearned, wanted: &Wanted) -> Counts {
    let agent = Some(wanted.agent.as_str()).filter(|agent| !agent.is_empty());
    match wanted.category {
        Some(category) => tool.of_category(category, agent),
        None => tool.of_agent(agent),
    }
}

fn tell(
    name: &str,
    tool: &ToolLearned,
    wanted: &Wanted,
    standing: &Standings,
    typical: Typical,
) -> Effectiveness {
    let counts = of(tool, wanted).as_of(standing.now);
    let categories = if wanted.tool.is_empty() { Vec::new() } else { tool.categories() };
    let categories = categories.into_iter().map(|category| {
        let of_it = Wanted { category: Some(category), ..wanted.clone() };
        let suitability = standing.of(tool, &of_it, standing.typical(of_it.category));
        OfCategory { category, counts: of(tool, &of_it).as_of(standing.now), suitability }
    });
    Effectiveness {
        tool: name.to_owned(),
        interval: wilson(counts.success_weight, counts.weight),
        p95_ms: tool.lately.p95_ms.unwrap_or_default(),
        suitability: standing.of(tool, wanted, typical),
        trend: tool.lately.trend,
        alarm: tool.alarm.clone(),
        categories: categories.filter(|of| of.counts.executions > 0 || of.counts.feedbacks > 0).collect(),
        counts,
    }
}

/// What a tool's suitability is held against: all tools of the team, or those of the page that the caller may call.
struct Standings<'a> {
    others: Vec<&'a ToolLearned>,
    weights: Weights,
    now: DateTime<Utc>,
}

impl Standings<'_> {
    fn typical(&self, category: Option<Category>) -> Typical {
        Typical::of(self.others.iter().copied(), category)
    }

    fn of(&self, tool: &ToolLearned, wanted: &Wanted, typical: Typical) -> f64 {
        let view = View { agent: &wanted.agent, category: wanted.category, now: self.now };
        stand(tool, view, typical).suitability(&self.weights)
    }
}

/// The trend and the percentile of one agent's calls alone: they are kept in memory for the team only.
async fn of_agent(
    database: &Database,
    team: &str,
    agent: &str,
    told: &mut [Effectiveness],
) -> Result<(), Error> {
    let keys: Vec<_> = told.iter().map(|tool| (team.to_owned(), tool.tool.clone())).collect();
    let read = lately(database, &keys, Some(agent)).await?;
    for (tool, (_, own, _)) in told.iter_mut().zip(read) {
        (tool.trend, tool.p95_ms) = (own.trend, own.p95_ms.unwrap_or_default());
    }
    Ok(())
}
