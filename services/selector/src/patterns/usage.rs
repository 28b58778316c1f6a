//! Puts together what a team's calls of a period look like.

use std::collections::{BTreeMap, HashMap};

use ::store::Database;
use catalog::Catalog;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use super::{
    TeamSequences,
    clusters::{CallsByHour, Cluster, clusters},
    suggest::{Suggestion, ToolUse, suggestions},
};
use crate::{
    Error, learn,
    store::patterns::{self as table, HourRow},
};

/// The reason of a call that was cut off at its timeout, as the executor says it.
const TIMEOUT: &str = "TIMEOUT";

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub team: String,
    /// Empty: all.
    pub tool_name: String,
    pub period: TimeDelta,
    /// Most entries of each list.
    pub limit: usize,
}

/// The patterns, the strongest first.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    pub transitions: Vec<Transition>,
    pub hourly: Vec<HourlyUse>,
    pub failures: Vec<Cluster>,
    pub suggestions: Vec<Suggestion>,
}

/// One tool after another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transition {
    pub from_tool: String,
    pub to_tool: String,
    pub count: i64,
    /// Of all that followed the first.
    pub probability: f64,
    /// How many times likelier than by chance.
    pub lift: f64,
}

/// Calls of a tool by the hour of the day, UTC.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct HourlyUse {
    pub tool_name: String,
    pub calls: [i64; 24],
    pub failures: [i64; 24],
}

/// The patterns of a team's calls.
pub(crate) async fn usage(
    database: &Database,
    catalog: &Catalog,
    sequences: &TeamSequences,
    asked: Asked,
) -> Result<Usage, Error> {
    let (pool, now) = (database.pool()?, Utc::now());
    let since = now - asked.period;
    // An hour counts whole.
    let since = since.duration_trunc(TimeDelta::hours(1)).unwrap_or(since);
    let hours = table::hours_read(pool, &asked.team, since).await?;
    let failures = table::failures_read(pool, &asked.team, since).await?;
    let mut uses = tool_uses(&hours);
    for duration in table::durations_read(pool, &asked.team, since).await? {
        if let Some(used) = uses.get_mut(&duration.tool_name) {
            add_duration(used, &duration);
        }
    }
    for repeat in table::repeats_read(pool, &asked.team, since.date_naive()).await? {
        let used = uses.entry(repeat.tool_name).or_default();
        (used.cacheable, used.repeated, used.cached) = (repeat.calls, repeat.repeated, repeat.cached);
    }
    let alarms = table::alarms_on(pool, &asked.team).await?;
    let is_asked = |tool: &str| asked.tool_name.is_empty() || asked.tool_name == tool;
    let mut suggestions = suggestions(&uses, &catalog.team(&asked.team), &alarms);
    suggestions.retain(|suggestion| is_asked(&suggestion.tool_name));
    let mut failures = clusters(failures, &calls_by_hour(&hours));
    failures.retain(|cluster| is_asked(&cluster.tool_name));
    let mut hourly = hourly(&hours);
    hourly.retain(|hourly| is_asked(&hourly.tool_name));
    let mut transitions = transitions(sequences, since, now);
    transitions.retain(|step| is_asked(&step.from_tool) || is_asked(&step.to_tool));
    suggestions.truncate(asked.limit);
    failures.truncate(asked.limit);
    hourly.truncate(asked.limit);
    transitions.truncate(asked.limit);
    Ok(Usage { transitions, hourly, failures, suggestions })
}

/// Calls that ran and say something of their tool, by tool.
fn tool_uses(hours: &[HourRow]) -> BTreeMap<String, ToolUse> {
    let mut uses: BTreeMap<String, ToolUse> = BTreeMap::new();
    for hour in hours {
        let used = uses.entry(hour.tool_name.clone()).or_default();
        let ran = hour.calls - hour.cached;
        if hour.failure_reason.is_empty() {
            used.calls += ran;
            used.successes += ran;
        } else if learn::counts_against(&hour.failure_reason) {
            used.calls += ran;
        }
    }
    uses
}

fn add_duration(used: &mut ToolUse, duration: &table::DurationRow) {
    let last = used.failed.len() - 1;
    let bucket = duration.bucket.min(last);
    if duration.failure_reason.is_empty() {
        used.succeeded[bucket] += duration.calls;
        return;
    }
    used.failed[bucket] += duration.calls;
    if duration.failure_reason == TIMEOUT {
        used.timed_out[bucket] += duration.calls;
    }
}

fn calls_by_hour(hours: &[HourRow]) -> CallsByHour {
    let mut calls = CallsByHour::new();
    for hour in hours {
        let of_tool = match calls.get_mut(&hour.tool_name) {
            Some(of_tool) => of_tool,
            None => calls.entry(hour.tool_name.clone()).or_default(),
        };
        *of_tool.entry(hour.hour).or_default() += hour.calls - hour.cached;
    }
    calls
}

/// The busiest first.
fn hourly(hours: &[HourRow]) -> Vec<HourlyUse> {
    use chrono::Timelike;
    let mut tools: BTreeMap<&str, HourlyUse> = BTreeMap::new();
    for hour in hours {
        let of_tool = tools.entry(&hour.tool_name).or_default();
        let place = hour.hour.hour() as usize;
        of_tool.calls[place] += hour.calls;
        if !hour.failure_reason.is_empty() {
            of_tool.failures[place] += hour.calls;
        }
    }
    let named = |(tool, of_tool): (&str, HourlyUse)| HourlyUse { tool_name: tool.to_owned(), ..of_tool };
    let mut found: Vec<HourlyUse> = tools.into_iter().map(named).collect();
    let all = |of_tool: &HourlyUse| of_tool.calls.iter().sum::<i64>();
    found
        .sort_by(|left, right| all(right).cmp(&all(left)).then_with(|| left.tool_name.cmp(&right.tool_name)));
    found
}

/// The steps that were seen since a time: those first that are both frequent and likelier than by chance, by weight
/// times the logarithm of the lift. Where there are several agents, none weighs more than all the others together.
fn transitions(sequences: &TeamSequences, since: DateTime<Utc>, now: DateTime<Utc>) -> Vec<Transition> {
    let mut by_agent: BTreeMap<&str, Vec<(&str, &str, i64, f64)>> = BTreeMap::new();
    for (from, agents) in sequences {
        for (agent, steps) in agents {
            let seen = steps.iter().filter(|(_, made)| made.decay_time >= since);
            let steps =
                seen.map(|(to, made)| (from.as_str(), to.as_str(), made.count, made.weight_as_of(now)));
            by_agent.entry(agent).or_default().extend(steps);
        }
    }
    let sum = |steps: &[(&str, &str, i64, f64)]| steps.iter().map(|step| step.3).sum::<f64>();
    let all: f64 = by_agent.values().map(|steps| sum(steps)).sum();
    let several = by_agent.values().filter(|steps| !steps.is_empty()).count() > 1;
    let mut pairs: BTreeMap<(&str, &str), (i64, f64)> = BTreeMap::new();
    for steps in by_agent.values() {
        let own = sum(steps);
        let factor = if several && own > all - own { (all - own) / own } else { 1.0 };
        for (from, to, count, weight) in steps {
            let pair = pairs.entry((*from, *to)).or_default();
            pair.0 += count;
            pair.1 += weight * factor;
        }
    }
    rank(&pairs)
}

fn rank(pairs: &BTreeMap<(&str, &str), (i64, f64)>) -> Vec<Transition> {
    let (mut begins, mut ends): (HashMap<&str, f64>, HashMap<&str, f64>) = (HashMap::new(), HashMap::new());
    for ((from, to), (_, weight)) in pairs {
        *begins.entry(from).or_default() += weight;
        *ends.entry(to).or_default() += weight;
    }
    let all: f64 = begins.values().sum();
    let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let mut found: Vec<(f64, Transition)> = pairs
        .iter()
        .map(|((from, to), (count, weight))| {
            let probability = ratio(*weight, begins[from]);
            let lift = ratio(probability, ratio(ends[to], all));
            let strength = if lift > 0.0 { weight * lift.ln() } else { 0.0 };
            let (from_tool, to_tool) = ((*from).to_owned(), (*to).to_owned());
            (strength, Transition { from_tool, to_tool, count: *count, probability, lift })
        })
        .collect();
    found.sort_by(|(left, left_step), (right, right_step)| {
        let by_strength = right.total_cmp(left).then(right_step.count.cmp(&left_step.count));
        by_strength.then_with(|| {
            (&left_step.from_tool, &left_step.to_tool).cmp(&(&right_step.from_tool, &right_step.to_tool))
        })
    });
    found.into_iter().map(|(_, step)| step).collect()
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
