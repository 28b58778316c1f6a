//! What was learned, in memory: put in by this process as it writes, and read again for what other replicas wrote. A
//! selection asks nothing but this copy.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};
use types::Category;

use super::{
    centroid::{Centroid, Mean, Means},
    counts::Counts,
    lately::Lately,
    pool::{ByCategory, pool},
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

impl Changes {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.centroids.is_empty() && self.alarms.is_empty()
    }

    fn by_tool(self) -> HashMap<ToolKey, Self> {
        let mut tools: HashMap<ToolKey, Self> = HashMap::new();
        for row in self.records {
            tools.entry((row.team_id.clone(), row.tool_name.clone())).or_default().records.push(row);
        }
        for row in self.centroids {
            tools.entry((row.team_id.clone(), row.tool_name.clone())).or_default().centroids.push(row);
        }
        for row in self.alarms {
            tools.entry((row.team_id.clone(), row.tool_name.clone())).or_default().alarms.push(row);
        }
        tools
    }
}

/// One agent's calls of a tool.
#[derive(Debug, Clone, Default)]
pub(crate) struct AgentLearned {
    pub categories: ByCategory,
    /// Of every category.
    pub all: Counts,
    /// The transaction that wrote each category.
    versions: HashMap<Category, i64>,
}

/// What is known of one tool in a team.
#[derive(Debug, Clone, Default)]
pub(crate) struct ToolLearned {
    agents: HashMap<String, Arc<AgentLearned>>,
    /// Of all agents, as it was; nothing is ranked by it.
    pub team: Counts,
    /// The same as it counts for the ranking, by category of task.
    pools: HashMap<Category, Counts>,
    /// For a category that nobody has called it for, and for tasks of no category.
    unseen: Counts,
    any: Counts,
    /// By model and agent, each with the transaction that wrote it.
    centroids: HashMap<String, HashMap<String, (i64, Arc<Centroid>)>>,
    /// By model.
    means: HashMap<String, Arc<Means>>,
    pub alarm: Option<Alarm>,
    /// The last transaction that wrote of alarms.
    alarm_version: i64,
    pub lately: Lately,
}

impl ToolLearned {
    /// One agent's calls.
    pub(crate) fn agent(&self, agent: &str) -> Option<&AgentLearned> {
        self.agents.get(agent).map(AsRef::as_ref)
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
        self.means.get(model_id)?.seen_by(agent)
    }

    /// What of this was written since. A copy read before this process's own write must not undo it, and one transaction
    /// writes a record or a centroid once: what is as old is the same.
    fn lacks(&self, mut changes: Changes) -> Changes {
        changes.records.retain(|row| self.lacks_record(row));
        changes.centroids.retain(|row| self.lacks_centroid(row));
        changes.alarms.retain(|row| row.changed_in >= self.alarm_version);
        changes
    }

    /// The same with what it lacks.
    fn with(&self, Changes { records, centroids, alarms }: Changes) -> Self {
        let mut next = self.clone();
        if !records.is_empty() {
            for row in records {
                next.put_record(row);
            }
            next.settle();
        }
        let models: HashSet<String> = centroids.iter().map(|row| row.model_id.clone()).collect();
        for row in centroids {
            next.put_centroid(row);
        }
        for model in models {
            next.settle_centroids(model);
        }
        for row in alarms {
            next.put_alarm(row);
        }
        next
    }

    fn lacks_record(&self, row: &RecordRow) -> bool {
        let known = self.agents.get(&row.agent_id).and_then(|agent| agent.versions.get(&row.category));
        known.is_none_or(|version| *version < row.changed_in)
    }

    fn lacks_centroid(&self, row: &CentroidRow) -> bool {
        let known = self.centroids.get(&row.model_id).and_then(|of_model| of_model.get(&row.agent_id));
        known.is_none_or(|(version, _)| *version < row.changed_in)
    }

    fn put_record(&mut self, row: RecordRow) {
        let agent = Arc::make_mut(self.agents.entry(row.agent_id).or_default());
        agent.versions.insert(row.category, row.changed_in);
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
        let of_model = self.centroids.entry(row.model_id).or_default();
        of_model.insert(row.agent_id, (row.changed_in, Arc::new(row.centroid)));
    }

    /// Takes the means of one model anew: after its centroids were put.
    fn settle_centroids(&mut self, model: String) {
        let of_model = self.centroids.get(&model).into_iter().flatten();
        let means = Means::of(of_model.map(|(agent, (_, centroid))| (agent.as_str(), centroid.as_ref())));
        self.means.insert(model, Arc::new(means));
    }

    /// One transaction may end an alarm and begin another.
    fn put_alarm(&mut self, row: AlarmRow) {
        if row.changed_in < self.alarm_version {
            return;
        }
        self.alarm_version = row.changed_in;
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
    /// Whoever changes tools is alone with it; selections do not wait for that.
    writing: Arc<Mutex<()>>,
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
        let mut touched = Vec::new();
        self.change(changes.by_tool(), |key, tool, changes| {
            let new = tool.lacks(changes);
            if !new.records.is_empty() {
                touched.push(key.clone());
            }
            (!new.is_empty()).then(|| tool.with(new))
        });
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).extend(touched);
    }

    /// Works out tools anew beside the copy that selections read, and puts their teams in its place.
    fn change<T>(
        &self,
        work: impl IntoIterator<Item = (ToolKey, T)>,
        mut change: impl FnMut(&ToolKey, &ToolLearned, T) -> Option<ToolLearned>,
    ) {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed: HashMap<String, Arc<TeamLearned>> = HashMap::new();
        for (key, what) in work {
            let team = changed.entry(key.0.clone()).or_insert_with(|| self.team(&key.0));
            let tool = team.get(&key.1).cloned().unwrap_or_default();
            if let Some(next) = change(&key, &tool, what) {
                Arc::make_mut(team).insert(key.1, Arc::new(next));
            }
        }
        let mut teams = self.teams.write().unwrap_or_else(PoisonError::into_inner);
        for (name, team) in &mut changed {
            std::mem::swap(teams.entry(name.clone()).or_default(), team);
        }
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
    pub(crate) fn give_back(&self, keys: impl IntoIterator<Item = ToolKey>) {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
    }

    /// Takes what was read of the outcomes by the hour.
    pub(crate) fn put_lately(&self, read: impl IntoIterator<Item = (ToolKey, Lately)>) {
        self.change(read, |_, tool, lately| Some(ToolLearned { lately, ..tool.clone() }));
    }

    /// Has what was read of the outcomes by the hour before a time, and says something, read again.
    pub(crate) fn outdate(&self, before: DateTime<Utc>) {
        let teams = self.teams.read().unwrap_or_else(PoisonError::into_inner).clone();
        let tools =
            teams.iter().flat_map(|(team, tools)| tools.iter().map(move |(name, tool)| (team, name, tool)));
        let old = tools.filter(|(.., tool)| tool.lately.is_known() && tool.lately.read_time < before);
        let old: Vec<ToolKey> = old.map(|(team, name, _)| (team.clone(), name.clone())).collect();
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).extend(old);
    }

    /// Tools with an alarm that is on, over all teams.
    pub(crate) fn alarms(&self) -> usize {
        let teams = self.teams.read().unwrap_or_else(PoisonError::into_inner);
        teams.values().flat_map(|team| team.values()).filter(|tool| tool.alarm.is_some()).count()
    }
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

    #[test]
    fn what_is_read_again_touches_nothing() {
        let learned = Learned::default();
        let rows = || records(vec![row("a", 4.0, DateTime::UNIX_EPOCH, 7)]);
        let centroid = Centroid { sum: vec![1.0, 0.0], weight: 1.0, ..Centroid::default() };
        let tasks = |agent: &str, changed_in: i64| CentroidRow {
            team_id: "t".into(),
            tool_name: "x".into(),
            agent_id: agent.into(),
            model_id: "m".into(),
            centroid: centroid.clone(),
            changed_in,
        };
        learned.put(Changes { centroids: vec![tasks("a", 7), tasks("b", 7)], ..rows() });
        assert_eq!(learned.take_stale(9, |_| true).len(), 1);
        let before = learned.team("t")["x"].clone();
        learned.put(Changes { centroids: vec![tasks("b", 7)], ..rows() });
        assert!(Arc::ptr_eq(&before, &learned.team("t")["x"]) && learned.take_stale(9, |_| true).is_empty());
        // Tasks alone do not make the trend old.
        learned.put(Changes { centroids: vec![tasks("b", 8)], ..rows() });
        assert!(!Arc::ptr_eq(&before, &learned.team("t")["x"]) && learned.take_stale(9, |_| true).is_empty());
        assert!((before.mean("a", "m").unwrap().successes - 2.0).abs() < 1e-9);
    }
}
