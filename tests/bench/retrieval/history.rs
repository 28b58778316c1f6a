//! What the selector learns: the same queries again after 1, 5, 10 and 20 successes a tool, told to it as the executor
//! does, and with one credit in five given to a wrong tool. Several agents succeed; another one asks.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use proto::selector::v1::Outcome;
use serde::Serialize;
use tests::retrieval::{
    Stand,
    data::{Collection, Query},
    score::Quality,
};

use crate::{
    progress::Progress,
    quality::{AGENT, ask},
};

/// Successes a tool before each measurement.
const LEVELS: [usize; 5] = [0, 1, 5, 10, 20];
/// Agents that take turns to succeed; none of them asks.
const TEACHERS: usize = 4;
/// One credit in so many goes to a wrong tool.
const WRONG: usize = 5;
/// Selections at once.
const AT_ONCE: usize = 4;

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub set: &'static str,
    /// Successes of each tool so far, where there are as many.
    pub successes: usize,
    /// Share of the credits that went to a wrong tool.
    pub wrong: f64,
    pub quality: Quality,
}

/// Rows for the catalog's first set, with right and with some wrong credits.
pub async fn measure(stand: &Stand, collection: &Collection, most: usize, progress: &Progress) -> Vec<Row> {
    let mut rows = Vec::new();
    for (team, every) in [("history", None), ("history with wrong credits", Some(WRONG))] {
        progress.begin(format!("{team}: vectors"), 0);
        stand.add(team, &collection.tools);
        stand.ready(team, collection.tools.len()).await;
        let mut class = Class { stand, team, every, collection, asked: 0 };
        let mut before = 0;
        for level in LEVELS.into_iter().filter(|level| *level <= most) {
            class.learn(before, level, progress).await;
            before = level;
            let set = &collection.sets[0];
            progress.begin(format!("{team}: {} after {level}", set.name), set.queries.len());
            let queries: Vec<&Query> = set.queries.iter().collect();
            let answers = ask(stand, team, &queries, |_| AGENT.to_owned(), progress).await;
            class.asked += queries.len();
            let each = queries.iter().zip(&answers);
            let quality = Quality::mean(each.map(|(query, got)| Quality::of(&query.relevant, &got.ranked)));
            let wrong = every.map_or(0.0, |every| 1.0 / every as f64);
            rows.push(Row { set: set.name, successes: level, wrong, quality });
        }
    }
    rows
}

/// A team that learns.
struct Class<'a> {
    stand: &'a Stand,
    team: &'a str,
    /// Every so-manyth credit is wrong.
    every: Option<usize>,
    collection: &'a Collection,
    /// Selections of the team so far.
    asked: usize,
}

impl Class<'_> {
    /// Makes each tool succeed with its tasks from the first number up to the second.
    async fn learn(&mut self, from: usize, to: usize, progress: &Progress) {
        let mut tasks: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
        for (task, tool) in &self.collection.history {
            tasks.entry(tool).or_default().push(task);
        }
        let pairs: Vec<(&String, &String)> = tasks
            .iter()
            .flat_map(|(tool, tasks)| tasks.iter().take(to).skip(from).map(|task| (*task, *tool)))
            .collect();
        progress.begin(format!("{}: successes {from} to {to}", self.team), pairs.len());
        let class = &*self;
        let selected = pairs.iter().enumerate().map(|(index, &(task, tool))| async move {
            let agent = format!("teacher {}", index % TEACHERS);
            let answer = class.stand.select(class.team, &agent, task).await;
            progress.step();
            class.outcome(index, agent, tool, answer.response.selection_id)
        });
        let outcomes: Vec<Outcome> = stream::iter(selected).buffered(AT_ONCE).collect().await;
        self.asked += outcomes.len();
        self.stand.written(self.team, i64::try_from(self.asked).unwrap()).await;
        self.stand.record(&outcomes).await;
    }

    fn outcome(&self, index: usize, agent_id: String, tool: &str, selection_id: String) -> Outcome {
        let tools = &self.collection.tools;
        let is_wrong = self.every.is_some_and(|every| index % every == every - 1);
        let credited = if is_wrong {
            let own = tools.iter().position(|other| other.name == tool).expect("a tool of the catalog");
            // Any but its own, and not always its neighbour.
            &tools[(own + 1 + index * 7_919 % (tools.len() - 1)) % tools.len()].name
        } else {
            tool
        };
        Outcome {
            event_id: types::new_id().to_string(),
            team_id: self.team.to_owned(),
            agent_id,
            tool_name: credited.to_owned(),
            execution_id: types::new_id().to_string(),
            selection_id,
            succeeded: true,
            duration_ms: 100.0,
            time: Some(std::time::SystemTime::now().into()),
            ..Outcome::default()
        }
    }
}
