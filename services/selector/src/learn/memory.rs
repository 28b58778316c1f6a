//! What was learned, in memory: put in by this process as it writes, and read again for what other replicas wrote. A
//! selection asks nothing but this copy.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};
use types::Category;

use super::{
    centroid::{Centroid, Mean, mean},
    counts::Counts,
    pool::{ByCategory, pool},
    trend::Trend,
};

/// An alarm that is on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alarm {
    pub start_time: DateTime<Utc>,
    pub rate_before: f64,
    pub rate_since: f64,
    pub failure_reason: String,
}

/// What an agent's calls of a tool came to, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RecordRow {
    pub team_id: String,
    pub tool_name: String,
    pub agent_id: String,
    pub category: Category,
    pub counts: Counts,
    /// The transaction that wrote it: of one team, a later one has a higher number.
    pub changed_in: i64,
}

/// The tasks an agent succeeded with, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CentroidRow {
    pub team_id: String,
    pub tool_name: String,
    pub agent_id: String,
    pub model_id: String,
    pub centroid: Centroid,
    pub changed_in: i64,
}

/// An alarm, on or over, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlarmRow {
    pub team_id: String,
    pub tool_name: String,
    pub alarm: Alarm,
    pub is_over: bool,
    pub changed_in: i64,
}

/// Everything that one transaction wrote, or one reading found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub records: Vec<RecordRow>,
    pub centroids: Vec<CentroidRow>,
    pub alarms: Vec<AlarmRow>,
}

/// One agent's calls of a tool.
#[derive(Debug, Clone, Default)]
pub(crate) struct AgentLearned {
    pub categories: ByCategory,
    /// Of every category.
    pub all: Counts,
}

/// What is known of one tool in a team.
#[derive(Debug, Clone, Default)]
pub(crate) struct ToolLearned {
    agents: HashMap<String, AgentLearned>,
    /// Of all agents, as it was; nothing is ranked by it.
    pub team: Counts,
    /// The same as it counts for the ranking, by category of task.
    pools: HashMap<Category, Counts>,
    /// For a category that nobody has called it for, and for tasks of no category.
    unseen: Counts,
    any: Counts,
    /// By model and agent.
    centroids: HashMap<String, HashMap<String, Centroid>>,
    /// By model: as anyone sees them, and as agents do of whom more counts for themselves.
    means: HashMap<String, (Option<Mean>, HashMap<String, Mean>)>,
    pub alarm: Option<Alarm>,
    pub trend: Trend,
    /// 95th percentile of the durations in milliseconds; `None` without calls in the window.
    pub p95_ms: Option<f64>,
    /// What was put last of each kind, by its key.
    versions: HashMap<(u8, String, String), i64>,
}

impl ToolLearned {
    /// One agent's calls.
    pub(crate) fn agent(&self, agent: &str) -> Option<&AgentLearned> {
        self.agents.get(agent)
    }

    /// What the team's calls are worth for a kind of task.
    pub(crate) fn pool(&self, category: Option<Category>) -> &Counts {
        match category {
            None => &self.any,
            Some(category) => self.pools.get(&category).unwrap_or(&self.unseen),
        }
    }

    /// All calls for one category, of all agents or one.
    pub(crate) fn of_category(&self, category: Category, agent: Option<&str>) -> Counts {
        self.sum(agent, |calls| calls.categories.get(&category))
    }

    /// All calls, of all agents or one.
    pub(crate) fn of_agent(&self, agent: Option<&str>) -> Counts {
        self.sum(agent, |calls| Some(&calls.all))
    }

    fn sum<'a>(
        &'a self,
        agent: Option<&str>,
        part: impl Fn(&'a AgentLearned) -> Option<&'a Counts>,
    ) -> Counts {
        let now = self.team.decay_time;
        let some = self.agents.iter().filter(|(name, _)| agent.is_none_or(|agent| agent == *name));
        let mut sum = Counts { decay_time: now, ..Counts::default() };
        some.filter_map(|(_, calls)| part(calls)).for_each(|counts| sum.add(&counts.as_of(now)));
        sum
    }

    /// The categories of task it was called for, in order.
    pub(crate) fn categories(&self) -> Vec<Category> {
        let mut all: Vec<Category> = self.pools.keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// The direction of the tasks it succeeded with, as an agent sees it; only vectors of this model.
    pub(crate) fn mean(&self, agent: &str, model_id: &str) -> Option<&Mean> {
        let (anyone, own) = self.means.get(model_id)?;
        own.get(agent).or(anyone.as_ref())
    }

    /// Whether this is not older than what is there; a copy read before this process's own write must not undo it.
    fn is_newer(&mut self, kind: u8, key: (&str, &str), changed_in: i64) -> bool {
        let last = self.versions.entry((kind, key.0.to_owned(), key.1.to_owned())).or_insert(i64::MIN);
        let newer = *last <= changed_in;
        *last = changed_in.max(*last);
        newer
    }

    fn put_record(&mut self, row: RecordRow) {
        if !self.is_newer(0, (&row.agent_id, row.category.as_str()), row.changed_in) {
            return;
        }
        let agent = self.agents.entry(row.agent_id).or_default();
        agent.categories.insert(row.category, row.counts);
        let newest = newest(agent.categories.values());
        agent.all = Counts { decay_time: newest, ..Counts::default() };
        agent.categories.values().for_each(|counts| agent.all.add(&counts.as_of(newest)));
    }

    /// Sums the agents anew: after records were put.
    fn settle(&mut self) {
        let now = newest(self.agents.values().map(|agent| &agent.all));
        self.team = Counts { decay_time: now, ..Counts::default() };
        self.agents.values().for_each(|agent| self.team.add(&agent.all.as_of(now)));
        let faded: Vec<ByCategory> =
            self.agents.values().map(|agent| as_of(&agent.categories, now)).collect();
        let of = |category| Counts { decay_time: now, ..pool(faded.iter(), category) };
        let there: HashSet<Category> = faded.iter().flat_map(|calls| calls.keys().copied()).collect();
        self.pools = there.iter().map(|category| (*category, of(Some(*category)))).collect();
        let absent = Category::ALL.iter().find(|category| !there.contains(category));
        self.unseen = absent.map(|category| of(Some(*category))).unwrap_or_default();
        self.any = of(None);
    }

    fn put_centroid(&mut self, row: CentroidRow) {
        if !self.is_newer(1, (&row.agent_id, &row.model_id), row.changed_in) {
            return;
        }
        let now = row.centroid.decay_time;
        let of_model = self.centroids.entry(row.model_id.clone()).or_default();
        of_model.insert(row.agent_id, row.centroid);
        let means =
            |viewer: Option<&str>| mean(of_model.iter().map(|(name, it)| (name.as_str(), it)), viewer, now);
        let anyone = means(None);
        let own = of_model.keys().filter_map(|agent| {
            let own = means(Some(agent)).filter(|own| anyone.as_ref().is_none_or(|any| any != own))?;
            Some((agent.clone(), own))
        });
        let own = own.collect();
        self.means.insert(row.model_id, (anyone, own));
    }

    fn put_alarm(&mut self, row: AlarmRow) {
        if !self.is_newer(2, ("", ""), row.changed_in) {
            return;
        }
        if !row.is_over {
            self.alarm = Some(row.alarm);
        } else if self.alarm.as_ref().is_some_and(|on| on.start_time == row.alarm.start_time) {
            self.alarm = None;
        }
    }
}

fn newest<'a>(counts: impl Iterator<Item = &'a Counts>) -> DateTime<Utc> {
    counts.map(|counts| counts.decay_time).max().unwrap_or_default()
}

fn as_of(calls: &ByCategory, now: DateTime<Utc>) -> ByCategory {
    calls.iter().map(|(category, counts)| (*category, counts.as_of(now))).collect()
}

/// What is known in one team, by tool.
pub(crate) type TeamLearned = HashMap<String, Arc<ToolLearned>>;

/// A tool of a team.
pub(crate) type ToolKey = (String, String);

/// What is known in every team. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Learned {
    teams: Arc<RwLock<HashMap<String, Arc<TeamLearned>>>>,
    /// Tools whose trend and percentile are older than their last outcome.
    stale: Arc<Mutex<HashSet<ToolKey>>>,
}

impl Learned {
    pub(crate) fn team(&self, team: &str) -> Arc<TeamLearned> {
        let teams = self.teams.read().unwrap_or_else(PoisonError::into_inner);
        teams.get(team).cloned().unwrap_or_default()
    }

    /// Takes what was written.
    pub(crate) fn put(&self, changes: Changes) {
        let mut touched: HashSet<ToolKey> = HashSet::new();
        {
            let mut teams = self.teams.write().unwrap_or_else(PoisonError::into_inner);
            for row in changes.records {
                touched.insert((row.team_id.clone(), row.tool_name.clone()));
                with(&mut teams, (&row.team_id, &row.tool_name), |tool| tool.put_record(row.clone()));
            }
            for (team, name) in &touched {
                with(&mut teams, (team, name), ToolLearned::settle);
            }
            for row in changes.centroids {
                with(&mut teams, (&row.team_id, &row.tool_name), |tool| tool.put_centroid(row.clone()));
            }
            for row in changes.alarms {
                with(&mut teams, (&row.team_id, &row.tool_name), |tool| tool.put_alarm(row.clone()));
            }
        }
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).extend(touched);
    }

    /// Some tools whose trend is out of date; they are taken as being brought up to date.
    pub(crate) fn take_stale(&self, most: usize, may: impl Fn(&ToolKey) -> bool) -> Vec<ToolKey> {
        let mut stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<ToolKey> = stale.iter().filter(|key| may(key)).take(most).cloned().collect();
        for key in &taken {
            stale.remove(key);
        }
        taken
    }

    /// Gives back what could not be brought up to date.
    pub(crate) fn give_back(&self, keys: Vec<ToolKey>) {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
    }

    /// Takes the trend and the 95th percentile of a tool.
    pub(crate) fn put_trend(&self, key: &ToolKey, trend: Trend, p95_ms: Option<f64>) {
        let mut teams = self.teams.write().unwrap_or_else(PoisonError::into_inner);
        with(&mut teams, (&key.0, &key.1), |tool| (tool.trend, tool.p95_ms) = (trend, p95_ms));
    }

    /// Tools with an alarm that is on, over all teams.
    pub(crate) fn alarms(&self) -> usize {
        let teams = self.teams.read().unwrap_or_else(PoisonError::into_inner);
        teams.values().flat_map(|team| team.values()).filter(|tool| tool.alarm.is_some()).count()
    }
}

fn with(
    teams: &mut HashMap<String, Arc<TeamLearned>>,
    (team, tool): (&str, &str),
    change: impl FnOnce(&mut ToolLearned),
) {
    let team = match teams.get_mut(team) {
        Some(team) => team,
        None => teams.entry(team.to_owned()).or_default(),
    };
    change(Arc::make_mut(Arc::make_mut(team).entry(tool.to_owned()).or_default()));
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn row(agent: &str, weight: f64, time: DateTime<Utc>, changed_in: i64) -> RecordRow {
        let counts = Counts { executions: 1, weight, decay_time: time, ..Counts::default() };
        RecordRow {
            team_id: "t".into(),
            tool_name: "x".into(),
            agent_id: agent.into(),
            category: Category::Custom,
            counts,
            changed_in,
        }
    }

    fn records(records: Vec<RecordRow>) -> Changes {
        Changes { records, ..Changes::default() }
    }

    #[test]
    fn the_team_sums_its_agents_and_an_old_copy_undoes_nothing() {
        let (learned, week) = (Learned::default(), DateTime::UNIX_EPOCH + TimeDelta::days(7));
        learned.put(records(vec![row("a", 4.0, DateTime::UNIX_EPOCH, 7), row("b", 1.0, week, 8)]));
        learned.put(records(vec![row("a", 3.0, week, 6)]));
        let tool = learned.team("t")["x"].clone();
        assert_eq!(tool.team.executions, 2);
        assert!((tool.team.weight - 3.0).abs() < 1e-9, "4 halved, and 1: {:?}", tool.team);
        assert!((tool.pool(Some(Category::Custom)).weight - 3.0).abs() < 1e-9);
        assert!(learned.team("other").is_empty());
        assert_eq!(learned.take_stale(9, |_| true), [("t".to_owned(), "x".to_owned())]);
        assert!(learned.take_stale(9, |_| true).is_empty());
    }

    #[test]
    fn an_alarm_that_is_over_ends_its_own_alone() {
        let alarm = |minute: i64, is_over: bool, changed_in: i64| AlarmRow {
            team_id: "t".into(),
            tool_name: "x".into(),
            alarm: Alarm {
                start_time: DateTime::UNIX_EPOCH + TimeDelta::minutes(minute),
                rate_before: 0.9,
                rate_since: 0.1,
                failure_reason: "TIMEOUT".into(),
            },
            is_over,
            changed_in,
        };
        let learned = Learned::default();
        let put = |row: AlarmRow| learned.put(Changes { alarms: vec![row], ..Changes::default() });
        put(alarm(1, false, 5));
        assert_eq!(learned.alarms(), 1);
        put(alarm(0, true, 5));
        assert_eq!(learned.alarms(), 1);
        put(alarm(1, true, 6));
        put(alarm(1, false, 5));
        assert_eq!(learned.alarms(), 0);
    }
}
