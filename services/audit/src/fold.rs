//! Folds records into the sums of use and costs, in the transaction that makes them leaves: each counts once. Must never
//! be given a record twice.
//!
//! A call is an execution that came to an end: of a tool (TOOL_INVOKED), of the cache (CACHE_HIT), or before its tool
//! (ERROR_OCCURRED with an execution). What was refused before there was an execution is no call: a refusal of
//! permission counts as a denial, and a request that was wrong as nothing. Retries and fallbacks belong to their call.

use std::collections::{HashMap, hash_map::Entry};

use ::store::Error;
use chrono::{DateTime, NaiveDate, Utc};

use crate::store::{self, Connection, Counts, DayUse, RecordRow, TaskUse};

/// Adds records of a team, with a statement for days and one for tasks.
pub(crate) async fn fold(
    connection: &mut Connection,
    team: &str,
    records: &[RecordRow],
) -> Result<(), Error> {
    let days = by_day(records);
    if !days.is_empty() {
        store::usage_add(connection, team, &days).await?;
    }
    let tasks = by_task(records);
    if !tasks.is_empty() {
        store::task_costs_add(connection, team, &tasks).await?;
    }
    Ok(())
}

/// What a record counts as; `None`: nothing.
fn counts(record: &RecordRow) -> Option<Counts> {
    let is_execution = record.execution_id.is_some();
    match record.action.as_str() {
        "tool_invoked" => Some(call(record)),
        "error_occurred" if is_execution => Some(call(record)),
        "cache_hit" => Some(Counts { cache_hits: 1, ..call(record) }),
        "cache_miss" => Some(Counts { cache_misses: 1, ..Counts::default() }),
        "permission_checked" if record.result == "denied" => Some(Counts { denials: 1, ..Counts::default() }),
        _ => None,
    }
}

fn call(record: &RecordRow) -> Counts {
    let is = |word: &str| i64::from(record.result == word);
    let (successes, unknown) = (is("success"), is("unknown"));
    Counts {
        calls: 1,
        successes,
        unknown,
        failures: 1 - successes - unknown,
        duration_us: record.duration_us,
        cost_micro_usd: record.cost_micro_usd,
        ..Counts::default()
    }
}

impl Counts {
    fn add(&mut self, more: &Self) {
        self.calls += more.calls;
        self.successes += more.successes;
        self.failures += more.failures;
        self.unknown += more.unknown;
        self.denials += more.denials;
        self.cache_hits += more.cache_hits;
        self.cache_misses += more.cache_misses;
        self.duration_us = self.duration_us.saturating_add(more.duration_us);
        self.cost_micro_usd = self.cost_micro_usd.saturating_add(more.cost_micro_usd);
    }
}

fn by_day(records: &[RecordRow]) -> Vec<DayUse> {
    let mut days: HashMap<(NaiveDate, &str, &str, &str), DayUse> = HashMap::new();
    for (record, counts) in records.iter().filter_map(|record| Some((record, counts(record)?))) {
        let (day, at) = (record.event_time.date_naive(), record.event_time);
        match days.entry((day, &record.tool_name, &record.agent_id, &record.classification)) {
            Entry::Occupied(mut there) => {
                let there = there.get_mut();
                there.counts.add(&counts);
                widen((&mut there.first_time, &mut there.last_time), at);
            }
            Entry::Vacant(new) => {
                new.insert(DayUse {
                    day,
                    tool_name: record.tool_name.clone(),
                    agent_id: record.agent_id.clone(),
                    classification: record.classification.clone(),
                    counts,
                    first_time: at,
                    last_time: at,
                });
            }
        }
    }
    days.into_values().collect()
}

fn by_task(records: &[RecordRow]) -> Vec<TaskUse> {
    let mut tasks: HashMap<(&str, &str), TaskUse> = HashMap::new();
    for (record, counts) in records.iter().filter_map(|record| Some((record, counts(record)?))) {
        if record.task_id.is_empty() || counts.calls == 0 {
            continue;
        }
        let at = record.event_time;
        let task = tasks.entry((&record.task_id, &record.agent_id)).or_insert_with(|| TaskUse {
            task_id: record.task_id.clone(),
            agent_id: record.agent_id.clone(),
            calls: 0,
            failures: 0,
            cost_micro_usd: 0,
            first_time: at,
            last_time: at,
        });
        task.calls += counts.calls;
        task.failures += counts.failures;
        task.cost_micro_usd = task.cost_micro_usd.saturating_add(counts.cost_micro_usd);
        widen((&mut task.first_time, &mut task.last_time), at);
    }
    tasks.into_values().collect()
}

fn widen((first, last): (&mut DateTime<Utc>, &mut DateTime<Utc>), at: DateTime<Utc>) {
    *first = at.min(*first);
    *last = at.max(*last);
}
