//! How often the right tool is found by a selector that has learned nothing: through `SelectTools`, mode by mode, set by
//! set, each catalog alone and all of them in one.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use proto::selector::v1::GetSelectorHealthResponse;
use serde::Serialize;
use tests::retrieval::{
    Answer, Stand,
    data::{Collection, Query, QuerySet},
    score::Quality,
};

use crate::progress::Progress;

/// Selections at once: enough that two cores have work while one waits.
const AT_ONCE: usize = 4;
/// Who asks; it has called nothing yet.
pub const AGENT: &str = "seeker";

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub catalog: &'static str,
    pub set: &'static str,
    pub tools: usize,
    /// A mode of the selector, or what ranked instead.
    pub method: &'static str,
    pub quality: Quality,
    /// Queries with a right tool for which none was offered.
    pub refused: usize,
    /// The same by kind of query, where the set has several.
    pub splits: BTreeMap<String, Quality>,
}

impl Row {
    pub fn new(collection: &Collection, set: &QuerySet, method: &'static str, quality: Quality) -> Self {
        let (catalog, tools) = (collection.name, collection.tools.len());
        Self { catalog, set: set.name, tools, method, quality, refused: 0, splits: BTreeMap::new() }
    }
}

/// Gives each catalog to a team of its name and waits until all can be found. Tells how the selector is then.
pub async fn ready(
    stand: &Stand,
    collections: &[&Collection],
    progress: &Progress,
) -> GetSelectorHealthResponse {
    let mut health = GetSelectorHealthResponse::default();
    for collection in collections {
        progress.begin(format!("{}: vectors of {} tools", collection.name, collection.tools.len()), 0);
        stand.add(collection.name, &collection.tools);
        health = stand.ready(collection.name, collection.tools.len()).await;
    }
    health
}

/// A row for each set of each catalog.
pub async fn measure(
    stand: &Stand,
    mode: &'static str,
    collections: &[&Collection],
    progress: &Progress,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for collection in collections {
        for set in &collection.sets {
            progress.begin(format!("{}: {}, {mode}", collection.name, set.name), set.queries.len());
            let queries = set.queries.iter().filter(|query| !query.relevant.is_empty());
            let queries: Vec<&Query> = queries.collect();
            let answers = ask(stand, collection.name, &queries, |_| AGENT.to_owned(), progress).await;
            let mut splits: BTreeMap<String, Vec<Quality>> = BTreeMap::new();
            for (query, answer) in queries.iter().zip(&answers) {
                let quality = Quality::of(&query.relevant, &answer.ranked);
                splits.entry(query.split.clone()).or_default().push(quality);
            }
            let quality = Quality::mean(splits.values().flatten().copied());
            let splits = splits.into_iter().map(|(split, each)| (split, Quality::mean(each))).collect();
            let refused = answers.iter().filter(|answer| answer.ranked.is_empty()).count();
            rows.push(Row { refused, splits, ..Row::new(collection, set, mode, quality) });
        }
    }
    rows
}

/// Asks them all, each as the agent it is given; answers in their order.
pub async fn ask(
    stand: &Stand,
    team: &str,
    queries: &[&Query],
    agent: impl Fn(&Query) -> String,
    progress: &Progress,
) -> Vec<Answer> {
    let asked = queries.iter().map(|query| {
        let agent = agent(query);
        async move {
            let answer = stand.select(team, &agent, &query.text).await;
            progress.step();
            answer
        }
    });
    stream::iter(asked).buffered(AT_ONCE).collect().await
}
