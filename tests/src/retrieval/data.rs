//! Catalogs of tools, and tasks whose right tools are known: the project's own, and the public ones of the data folder
//! where that is at hand. Must never hand a past success to whoever asks for a cold start: those stand apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proto::registry::v1::ToolDefinition;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// The project's own set, in the repository.
const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/retrieval/own");
/// Where the data folder is, when `TOOLCRIB_DATA` does not say: beside the checkout.
const BESIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
/// The public sets' place in the data folder.
const PUBLIC: &str = "tool-retrieval";

/// A task and the names of the tools that do it.
#[derive(Debug, Clone)]
pub struct Query {
    /// Unique in its set.
    pub id: String,
    /// The task in words.
    pub text: String,
    /// Empty: no tool of the catalog does it.
    pub relevant: BTreeSet<String>,
    /// The kind of task within its set.
    pub split: String,
}

/// Tasks that are scored together.
#[derive(Debug, Clone)]
pub struct QuerySet {
    /// As the table calls it.
    pub name: &'static str,
    /// The tasks.
    pub queries: Vec<Query>,
}

/// Tools, and the tasks asked of them.
#[derive(Debug, Clone)]
pub struct Collection {
    /// As the table calls it; also the team that has the tools.
    pub name: &'static str,
    /// Every tool, by a name of its own.
    pub tools: Vec<ToolDefinition>,
    /// One or more sets over these tools.
    pub sets: Vec<QuerySet>,
    /// Tasks that a tool once succeeded with, and its name; no task of the sets is among them.
    pub history: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct ToolLine {
    id: String,
    name: String,
    description: String,
    input_schema: Option<Value>,
}

#[derive(Deserialize)]
struct QueryLine {
    id: String,
    query: String,
    relevant: Vec<String>,
    #[serde(default)]
    split: String,
}

#[derive(Deserialize)]
struct HistoryLine {
    query: String,
    tool: String,
}

/// The project's own set.
pub fn own() -> Collection {
    read(Path::new(OWN), "own", &[("own", "queries.jsonl")])
}

/// The public sets, or nothing, after saying so, where they are not at hand. In CI that is a failure.
#[allow(clippy::disallowed_methods, clippy::print_stderr, reason = "what is skipped has to say so")]
pub fn public() -> Vec<Collection> {
    let folder = std::env::var("TOOLCRIB_DATA").ok().filter(|folder| !folder.is_empty());
    let folder = folder.map_or_else(|| PathBuf::from(BESIDE), PathBuf::from).join(PUBLIC);
    if !folder.join("metatool/tools.jsonl").exists() {
        let advice =
            "the public sets are not at hand; TOOLCRIB_DATA names the folder that holds tool-retrieval/";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
        eprintln!("skipped: {advice}");
        return Vec::new();
    }
    let metatool = [("metatool", "queries.jsonl"), ("two-tool", "queries_multi.jsonl")];
    vec![
        read(&folder.join("metatool"), "metatool", &metatool),
        read(&folder.join("bfcl"), "bfcl", &[("bfcl", "queries.jsonl")]),
    ]
}

/// All tools in one catalog. Of two tools with one name, the later gets another.
pub fn merged(collections: &[Collection]) -> Collection {
    let mut merged = Collection { name: "merged", tools: Vec::new(), sets: Vec::new(), history: Vec::new() };
    let mut taken = BTreeSet::new();
    for collection in collections {
        let mut renamed = BTreeMap::new();
        for tool in &collection.tools {
            let mut name = tool.name.clone();
            while !taken.insert(name.clone()) {
                name.push_str("_2");
            }
            renamed.insert(tool.name.clone(), name.clone());
            merged.tools.push(ToolDefinition { name, ..tool.clone() });
        }
        merged.sets.extend(collection.sets.iter().map(|set| QuerySet {
            name: set.name,
            queries: set.queries.iter().map(|query| query.renamed(&renamed)).collect(),
        }));
    }
    merged
}

impl Query {
    fn renamed(&self, names: &BTreeMap<String, String>) -> Self {
        Self { relevant: self.relevant.iter().map(|name| names[name].clone()).collect(), ..self.clone() }
    }
}

impl QuerySet {
    /// At most so many of its queries, evenly spread over it: always the same ones.
    #[must_use]
    pub fn sample(&self, most: usize) -> Self {
        let step = self.queries.len().div_ceil(most.max(1)).max(1);
        Self { name: self.name, queries: self.queries.iter().step_by(step).cloned().collect() }
    }
}

impl Collection {
    /// The same tools with at most so many queries a set.
    #[must_use]
    pub fn sample(&self, most: usize) -> Self {
        Self { sets: self.sets.iter().map(|set| set.sample(most)).collect(), ..self.clone() }
    }

    /// The same queries with no other tools than theirs, and at most so many besides, evenly spread.
    #[must_use]
    pub fn narrowed(&self, besides: usize) -> Self {
        let queries = self.sets.iter().flat_map(|set| &set.queries);
        let needed: BTreeSet<&String> = queries.flat_map(|query| &query.relevant).collect();
        let (mut tools, others): (Vec<_>, Vec<_>) =
            self.tools.iter().cloned().partition(|tool| needed.contains(&tool.name));
        let step = others.len().div_ceil(besides.max(1)).max(1);
        tools.extend(others.into_iter().step_by(step));
        Self { tools, ..self.clone() }
    }
}

fn read(folder: &Path, name: &'static str, sets: &[(&'static str, &str)]) -> Collection {
    let lines: Vec<ToolLine> = lines(&folder.join("tools.jsonl"));
    let names: BTreeMap<_, _> = lines.iter().map(|tool| (tool.id.clone(), tool.name.clone())).collect();
    let query = |line: QueryLine| Query {
        id: line.id,
        text: line.query,
        relevant: line.relevant.iter().map(|id| names[id].clone()).collect(),
        split: line.split,
    };
    let set = |(name, file): &(&'static str, &str)| QuerySet {
        name,
        queries: self::lines(&folder.join(file)).into_iter().map(query).collect(),
    };
    let history = Some(folder.join("history.jsonl")).filter(|path| path.exists());
    let history: Vec<HistoryLine> = history.map(|path| self::lines(&path)).unwrap_or_default();
    Collection {
        name,
        sets: sets.iter().map(set).collect(),
        history: history.into_iter().map(|line| (line.query, names[&line.tool].clone())).collect(),
        tools: lines.into_iter().map(definition).collect(),
    }
}

fn definition(line: ToolLine) -> ToolDefinition {
    ToolDefinition {
        name: line.name,
        description: line.description,
        input_schema_json: line.input_schema.map_or_else(|| "{}".to_owned(), |schema| schema.to_string()),
        ..ToolDefinition::default()
    }
}

fn lines<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), number + 1))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_set_is_what_its_readme_says() {
        let own = own();
        let of = |split: &str| own.sets[0].queries.iter().filter(|query| query.split == split).count();
        assert_eq!(own.tools.len(), 99);
        assert_eq!([of("easy"), of("paraphrase"), of("two"), of("none")], [99, 99, 48, 48]);
        let names: BTreeSet<&str> = own.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names.len(), own.tools.len(), "every tool has a name of its own");
        for query in &own.sets[0].queries {
            let expected = match query.split.as_str() {
                "two" => 2,
                "none" => 0,
                _ => 1,
            };
            assert_eq!(query.relevant.len(), expected, "{}", query.id);
            assert!(query.relevant.iter().all(|name| names.contains(name.as_str())), "{}", query.id);
        }
        let texts: BTreeSet<&str> = own.sets[0].queries.iter().map(|query| query.text.as_str()).collect();
        assert_eq!(texts.len(), own.sets[0].queries.len(), "no task is there twice");
    }

    #[test]
    fn two_tools_of_one_name_are_told_apart_in_one_catalog() {
        let own = own();
        let both = merged(&[own.clone(), own.clone()]);
        assert_eq!(both.tools.len(), 2 * own.tools.len());
        let relevant = |set: usize| both.sets[set].queries[0].relevant.first().unwrap().clone();
        assert_eq!(relevant(1), format!("{}_2", relevant(0)));
    }

    #[test]
    fn a_narrowed_catalog_keeps_every_tool_that_is_asked_for() {
        let narrowed = own().sample(10).narrowed(5);
        let names: BTreeSet<&String> = narrowed.tools.iter().map(|tool| &tool.name).collect();
        let asked: BTreeSet<_> = narrowed.sets[0].queries.iter().flat_map(|query| &query.relevant).collect();
        assert!(
            asked.is_subset(&names) && names.len() <= asked.len() + 5,
            "{} of {}",
            names.len(),
            asked.len()
        );
        assert!(narrowed.sets[0].queries.len() <= 10);
    }
}
