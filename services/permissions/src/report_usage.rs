//! Tells how grants were used, and the least grants that would have covered what was called. A proposal for people:
//! nothing is granted here.

use std::collections::HashMap;

use ::store::Database;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use types::{Caller, Sensitivity};
use uuid::Uuid;

use crate::{
    Error, names,
    store::{self, GrantFilter, GrantRow, GrantUse, ListedGrant, ToolUse, Windows},
};

/// Days of a report that says none.
const DEFAULT_DAYS: i32 = 30;
/// The longest look back.
const MAX_DAYS: i32 = 90;
/// Most grants, and most proposals, of one report: more would not fit into one answer.
const MAX_ROWS: usize = 5_000;
/// Grants read in one go.
const PAGE: i64 = 1_000;

/// What was used of a team's grants.
#[derive(Debug)]
pub(crate) struct Report {
    pub start_time: DateTime<Utc>,
    pub counted_since: DateTime<Utc>,
    /// Grants in force, newest first, each with its use.
    pub grants: Vec<(ListedGrant, Option<GrantUse>)>,
    /// What would have covered the calls, by agent and tool.
    pub least: Vec<LeastGrant>,
}

/// The least grant that would have allowed an agent's calls of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LeastGrant {
    pub agent: String,
    pub tool: String,
    pub read_only: bool,
    pub max_sensitivity: Option<Sensitivity>,
    pub max_per_hour: i64,
    pub max_per_day: i64,
    /// The grant whose conditions on arguments and whose approver it would keep: the only one that was used.
    pub like: Option<GrantRow>,
    pub note: String,
}

/// The report over the last days, of one agent or of all.
pub(crate) async fn report_usage(
    database: &Database,
    caller: &Caller,
    days: i32,
    agent: &str,
    now: DateTime<Utc>,
) -> Result<Report, Error> {
    let (days, pool) = (checked(days)?, database.pool()?);
    let agent = (!agent.is_empty()).then_some(agent);
    if let Some(agent) = agent {
        names::name("agent_id", agent)?;
        store::agent_get(pool, &caller.team, agent).await?.ok_or_else(|| Error::no_agent(agent))?;
    }
    let start_time = start(now, days);
    let grants = in_force(database, &caller.team, agent, now).await?;
    let mut uses: HashMap<Uuid, GrantUse> = store::use_by_grant(pool, &caller.team, agent, start_time)
        .await?
        .into_iter()
        .map(|used| (used.grant_id, used))
        .collect();
    let most = i64::try_from(MAX_ROWS + 1).unwrap_or(i64::MAX);
    let tools = store::use_by_tool(pool, &caller.team, agent, start_time, most).await?;
    bounded("different tools were called by agents", tools.len())?;
    let known: HashMap<Uuid, &GrantRow> =
        grants.iter().map(|listed| (listed.grant.grant_id, &listed.grant)).collect();
    let least = tools.into_iter().map(|used| least(used, &known, days)).collect();
    let grants = grants.into_iter().map(|listed| {
        let used = uses.remove(&listed.grant.grant_id);
        (listed, used)
    });
    let grants = grants.collect();
    Ok(Report { start_time, counted_since: store::use_since(pool).await?, grants, least })
}

/// The grants that are in force, newest first.
async fn in_force(
    database: &Database,
    team: &str,
    agent: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Vec<ListedGrant>, Error> {
    let filter = GrantFilter { applies_to: agent.map(str::to_owned), ..GrantFilter::default() };
    let mut grants: Vec<ListedGrant> = Vec::new();
    loop {
        let before = grants.last().map(|listed| listed.grant.grant_id);
        let page = store::grant_list(database.pool()?, team, &filter, Windows::of(now), before, PAGE).await?;
        if page.is_empty() {
            break;
        }
        grants.extend(page);
        bounded("grants are in force", grants.len())?;
    }
    grants.retain(|listed| listed.grant.expire_time.is_none_or(|end| end > now));
    Ok(grants)
}

fn checked(days: i32) -> Result<i32, Error> {
    match days {
        0 => Ok(DEFAULT_DAYS),
        1..=MAX_DAYS => Ok(days),
        _ => Err(Error::invalid(
            "days",
            format!("is {days}; it must be 1 to {MAX_DAYS}, or 0 for {DEFAULT_DAYS}"),
        )),
    }
}

/// The first moment of the first day: today is the last of them.
fn start(now: DateTime<Utc>, days: i32) -> DateTime<Utc> {
    let today = now.duration_trunc(TimeDelta::days(1)).unwrap_or(now);
    today - TimeDelta::days(i64::from(days) - 1)
}

fn bounded(what: &str, rows: usize) -> Result<(), Error> {
    if rows <= MAX_ROWS {
        return Ok(());
    }
    let description = format!("is not set, and more than {MAX_ROWS} {what}: name an agent to report on");
    Err(Error::invalid("agent_id", description))
}

/// The lowest of 1, 2, 5, 10, 20, 50, ... that is not below a number: a limit that people would choose.
fn step(number: i64) -> i64 {
    let mut decade: i64 = 1;
    loop {
        for factor in [1, 2, 5] {
            let Some(step) = decade.checked_mul(factor) else { return i64::MAX };
            if step >= number {
                return step;
            }
        }
        let Some(next) = decade.checked_mul(10) else { return i64::MAX };
        decade = next;
    }
}

fn least(used: ToolUse, known: &HashMap<Uuid, &GrantRow>, days: i32) -> LeastGrant {
    let only = match used.grants[..] {
        [only] if used.by_grants_alone => known.get(&only).map(|&grant| grant.clone()),
        _ => None,
    };
    let times = if used.calls == 1 { "call" } else { "calls" };
    let span = if days == 1 { "day" } else { "days" };
    let note = format!(
        "{} {times} in the {days} {span} of the report, at most {} in an hour and {} on a day",
        used.calls, used.most_in_hour, used.most_in_day
    );
    let level = usize::try_from(used.sensitivity).unwrap_or(usize::MAX);
    LeastGrant {
        read_only: used.is_read_only,
        max_sensitivity: Sensitivity::ALL.get(level).copied(),
        max_per_hour: step(used.most_in_hour),
        max_per_day: step(used.most_in_day),
        like: only,
        agent: used.agent_id,
        tool: used.tool_name,
        note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_next_round_number() {
        let table =
            [(0, 1), (1, 1), (2, 2), (3, 5), (5, 5), (6, 10), (10, 10), (11, 20), (101, 200), (4_999, 5_000)];
        for (number, expected) in table {
            assert_eq!(step(number), expected, "{number}");
        }
        assert_eq!(step(i64::MAX), i64::MAX);
    }

    #[test]
    fn days_begin_at_midnight_and_end_today() {
        let now = "2026-11-22T12:30:00Z".parse().unwrap();
        assert_eq!(start(now, 1).to_rfc3339(), "2026-11-22T00:00:00+00:00");
        assert_eq!(start(now, 30).to_rfc3339(), "2026-10-24T00:00:00+00:00");
        assert_eq!(checked(0).unwrap(), 30);
        assert!(checked(-1).is_err() && checked(91).is_err() && checked(90).is_ok());
    }
}
