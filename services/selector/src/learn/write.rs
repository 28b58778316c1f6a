//! What a batch of outcomes changes: taken in the order of their times, so that a batch comes to what its outcomes come
//! to one by one. Pure; the ledger reads what was known before and writes what is known after.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use types::Category;
use uuid::Uuid;

use super::{
    blame::{Says, says},
    centroid::Centroid,
    counts::{Counts, Outcome},
    memory::ToolKey,
    trend::{BUCKETS, Hour, bucket},
    watch::{Change, Watch},
};
use crate::store::{AlarmPut, HourRow, OutcomeRow, ToolRow};

/// Team, tool, agent, category of task.
pub(crate) type RecordKey = (String, String, String, Category);

/// An outcome that is new.
#[derive(Debug, Clone)]
pub(crate) struct Fresh<'a> {
    pub row: &'a OutcomeRow,
    /// Of the task it was for.
    pub category: Category,
    /// The model and the vector of the task that it was selected for; `None` too where [`credit`] leaves none.
    pub task: Option<(String, Vec<f32>)>,
}

/// Leaves the task of each selection to the first call after it that the tool itself served: one selection teaches once,
/// whatever number of calls names it. Gives the selections that taught, for the table to know.
pub(crate) fn credit(fresh: &mut [Fresh]) -> Vec<(String, Uuid)> {
    let mut order: Vec<&mut Fresh> = fresh.iter_mut().filter(|fresh| fresh.task.is_some()).collect();
    order.sort_by_key(|fresh| (fresh.row.event_time, fresh.row.event_id));
    let mut taught = BTreeSet::new();
    for outcome in order {
        let selection =
            outcome.row.selection_id.filter(|_| outcome.row.succeeded && outcome.says() == Says::All);
        let is_first = selection.is_some_and(|id| taught.insert((outcome.row.team_id.clone(), id)));
        if !is_first {
            outcome.task = None;
        }
    }
    taught.into_iter().collect()
}

impl Fresh<'_> {
    pub(crate) fn record_key(&self) -> RecordKey {
        let row = self.row;
        (row.team_id.clone(), row.tool_name.clone(), row.agent_id.clone(), self.category)
    }

    pub(crate) fn tool_key(&self) -> ToolKey {
        (self.row.team_id.clone(), self.row.tool_name.clone())
    }

    /// Where its task's vector is added; `None`: it teaches none.
    pub(crate) fn centroid_key(&self) -> Option<[String; 4]> {
        let (model, _) = self.task.as_ref()?;
        let row = self.row;
        Some([row.team_id.clone(), row.tool_name.clone(), row.agent_id.clone(), model.clone()])
    }

    fn says(&self) -> Says {
        says(self.row.succeeded, &self.row.failure_reason, self.row.cached)
    }
}

/// What was known before the batch, and is after it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub records: HashMap<RecordKey, Counts>,
    pub watches: HashMap<ToolKey, Watch>,
    pub centroids: HashMap<[String; 4], Centroid>,
}

/// What is added to the tables besides.
#[derive(Debug, Default)]
pub(crate) struct Added {
    pub hours: Vec<HourRow>,
    pub tools: Vec<ToolRow>,
    /// Alarms that are on for tools of this batch, or ended with it.
    pub alarms: Vec<AlarmPut>,
}

impl Known {
    /// Takes the outcomes.
    pub(crate) fn learn(&mut self, fresh: &[Fresh], now: DateTime<Utc>) -> Added {
        let mut order: Vec<&Fresh> = fresh.iter().collect();
        order.sort_by_key(|fresh| (fresh.row.event_time, fresh.row.event_id));
        let (mut hours, mut tools) = (BTreeMap::new(), BTreeMap::new());
        let mut ended = Vec::new();
        for outcome in order {
            self.record(outcome, now);
            ended.extend(self.watch(outcome));
            add_hour(&mut hours, outcome.row);
            tools.insert(outcome.tool_key(), outcome.row);
        }
        let tools: Vec<ToolRow> = tools.into_iter().map(|(key, last)| self.tool(key, last)).collect();
        let on = tools.iter().filter_map(alarm_on);
        let alarms = ended.into_iter().chain(on).collect();
        Added { hours: hours.into_values().collect(), tools, alarms }
    }

    fn record(&mut self, outcome: &Fresh, now: DateTime<Utc>) {
        let row = outcome.row;
        #[allow(clippy::cast_precision_loss, reason = "no call costs 2^53 millionths of a dollar")]
        let cost_micro_usd = row.cost_micro_usd as f64;
        let ran = Outcome {
            says: outcome.says(),
            succeeded: row.succeeded,
            duration_ms: row.duration_ms,
            cost_micro_usd,
        };
        if ran.says != Says::Nothing {
            self.records.entry(outcome.record_key()).or_default().record(ran, now);
        }
        if let (Some(key), Some((_, vector))) = (outcome.centroid_key(), &outcome.task) {
            self.centroids.entry(key).or_default().add(vector, now);
        }
    }

    /// Watches one more outcome; gives the alarm that it ended.
    fn watch(&mut self, outcome: &Fresh) -> Option<AlarmPut> {
        let key = outcome.tool_key();
        let watch = self.watches.entry(key.clone()).or_default();
        if outcome.says() == Says::Nothing {
            return None;
        }
        let before = watch.clone();
        match watch.step(&outcome.row.agent_id, outcome.row.succeeded, outcome.row.event_time)? {
            Change::Raised(start) => {
                let (tool, usual) = (&key.1, watch.usual());
                tracing::warn!(
                    team = %key.0, %tool, since = %start, rate.before = usual, rate.since = watch.rate_since(),
                    "a tool has turned worse"
                );
                None
            }
            Change::Ended(start) => Some(AlarmPut {
                end_time: Some(outcome.row.event_time.max(start)),
                ..alarm(key, start, &before)
            }),
        }
    }

    fn tool(&self, key: ToolKey, last: &OutcomeRow) -> ToolRow {
        let watch = self.watches.get(&key).cloned().unwrap_or_default();
        ToolRow {
            team_id: key.0,
            tool_name: key.1,
            timeout_ms: last.timeout_ms,
            effect: last.effect.clone(),
            last_time: last.event_time,
            watch,
        }
    }
}

fn alarm_on(tool: &ToolRow) -> Option<AlarmPut> {
    let start = tool.watch.alarm_time?;
    Some(alarm((tool.team_id.clone(), tool.tool_name.clone()), start, &tool.watch))
}

fn alarm((team_id, tool_name): ToolKey, start_time: DateTime<Utc>, watch: &Watch) -> AlarmPut {
    let (rate_before, rate_since) = (watch.usual(), watch.rate_since());
    AlarmPut { team_id, tool_name, start_time, end_time: None, rate_before, rate_since }
}

/// The hour of an outcome: tool, agent, hour and how it ended, within a team.
type HourKey<'a> = (&'a str, &'a str, &'a str, DateTime<Utc>, &'a str);

fn add_hour<'a>(hours: &mut BTreeMap<HourKey<'a>, HourRow>, row: &'a OutcomeRow) {
    let time = row.event_time;
    let hour = time.duration_trunc(TimeDelta::hours(1)).unwrap_or(time);
    let key = (
        row.team_id.as_str(),
        row.tool_name.as_str(),
        row.agent_id.as_str(),
        hour,
        row.failure_reason.as_str(),
    );
    let of = hours.entry(key).or_insert_with(|| HourRow {
        team_id: row.team_id.clone(),
        tool_name: row.tool_name.clone(),
        agent_id: row.agent_id.clone(),
        hour: Hour {
            hour,
            failure_reason: row.failure_reason.clone(),
            calls: 0,
            cached: 0,
            fell_back: 0,
            log_ms: 0.0,
            log_ms_square: 0.0,
            cost_micro_usd: 0.0,
            durations: vec![0; BUCKETS],
            first_time: time,
            last_time: time,
        },
    });
    let of = &mut of.hour;
    of.calls += 1;
    of.cached += i64::from(row.cached);
    of.fell_back += i64::from(row.fell_back);
    (of.first_time, of.last_time) = (of.first_time.min(time), of.last_time.max(time));
    if says(row.succeeded, &row.failure_reason, row.cached) == Says::All {
        let log_ms = row.duration_ms.ln_1p();
        of.log_ms += log_ms;
        of.log_ms_square += log_ms * log_ms;
        of.cost_micro_usd += row.cost_micro_usd as f64;
        of.durations[bucket(row.duration_ms)] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(second: i64, succeeded: bool) -> OutcomeRow {
        OutcomeRow {
            event_id: Uuid::from_u128(u128::try_from(second).unwrap()),
            team_id: "t".into(),
            agent_id: "a".into(),
            tool_name: "x".into(),
            execution_id: None,
            selection_id: Some(Uuid::from_u128(u128::try_from(second).unwrap())),
            succeeded,
            duration_ms: 50.0,
            cost_micro_usd: 10,
            event_time: DateTime::UNIX_EPOCH + TimeDelta::seconds(second),
            task_id: String::new(),
            failure_reason: if succeeded { String::new() } else { "TIMEOUT".into() },
            cached: false,
            arguments_hash: String::new(),
            timeout_ms: 1_000,
            fell_back: false,
            effect: "read_only".into(),
        }
    }

    fn fresh(row: &OutcomeRow) -> Fresh<'_> {
        Fresh { row, category: Category::Custom, task: Some(("m".into(), vec![1.0, 0.0])) }
    }

    fn learn<'a>(known: &mut Known, rows: impl IntoIterator<Item = &'a OutcomeRow>) -> Added {
        let mut fresh: Vec<_> = rows.into_iter().map(fresh).collect();
        credit(&mut fresh);
        known.learn(&fresh, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_selection_teaches_once_by_the_first_call_that_the_tool_served() {
        let (first, second) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        let rows = [
            OutcomeRow { selection_id: first, ..row(1, false) },
            OutcomeRow { selection_id: first, cached: true, ..row(2, true) },
            OutcomeRow { selection_id: first, ..row(4, true) },
            OutcomeRow { selection_id: first, ..row(3, true) },
            OutcomeRow { selection_id: second, ..row(5, true) },
            OutcomeRow { selection_id: Some(Uuid::from_u128(3)), ..row(6, false) },
        ];
        let mut all: Vec<_> = rows.iter().map(fresh).collect();
        let taught: Vec<_> = credit(&mut all).into_iter().map(|(_, id)| Some(id)).collect();
        assert_eq!(taught, [first, second]);
        let by: Vec<_> =
            all.iter().filter(|fresh| fresh.task.is_some()).map(|it| it.row.event_time).collect();
        assert_eq!(by.iter().map(DateTime::timestamp).collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn a_batch_comes_to_what_its_outcomes_come_to_one_by_one() {
        let rows: Vec<OutcomeRow> = (0..200).map(|n| row(n, n < 60 || n % 7 == 0)).collect();
        let (mut batch, mut single) = (Known::default(), Known::default());
        // Whatever the order within the batch.
        learn(&mut batch, rows.iter().rev());
        let mut calls = 0;
        for row in &rows {
            calls += learn(&mut single, [row]).hours.iter().map(|hour| hour.hour.calls).sum::<i64>();
        }
        assert_eq!((&batch.records, &batch.watches), (&single.records, &single.watches));
        assert_eq!(batch.centroids, single.centroids);
        assert_eq!(calls, 200);
    }

    #[test]
    fn an_alarm_is_told_while_it_is_on_and_once_when_it_ends() {
        let mut known = Known::default();
        let good: Vec<_> = (0..50).map(|n| row(n, true)).collect();
        assert!(learn(&mut known, &good).alarms.is_empty());
        let bad: Vec<_> = (50..60).map(|n| row(n, false)).collect();
        let alarms = learn(&mut known, &bad).alarms;
        let [on] = &alarms[..] else { panic!("{alarms:?}") };
        assert_eq!((on.start_time.timestamp(), on.end_time), (50, None));
        assert!(on.rate_before > 0.8 && on.rate_since.abs() < 1e-9, "{on:?}");
        let again: Vec<_> = (60..80).map(|n| row(n, true)).collect();
        let alarms = learn(&mut known, &again).alarms;
        assert!(alarms.len() == 1 && alarms[0].end_time.is_some(), "{alarms:?}");
        assert!(learn(&mut known, &[row(80, true)]).alarms.is_empty());
    }

    #[test]
    fn what_says_nothing_of_the_tool_is_in_the_hours_alone() {
        let mut known = Known::default();
        let cached = OutcomeRow { cached: true, duration_ms: 0.0, ..row(1, true) };
        let refused = OutcomeRow { failure_reason: "RATE_LIMITED".into(), ..row(2, false) };
        let added = learn(&mut known, [&cached, &refused]);
        assert!(known.records.is_empty());
        assert_eq!(added.hours.len(), 2);
        assert_eq!(added.hours.iter().map(|hour| hour.hour.cached).sum::<i64>(), 1);
        assert!(added.hours.iter().all(|hour| hour.hour.durations.iter().sum::<i64>() == 0));
        assert!(known.centroids.is_empty());
    }
}
