//! What the sentence model alone would rank, without any other signal: what the fusion is held against. Knows nothing of
//! how the selector uses it.

use std::collections::HashMap;

use embed::{Embedder, Mode, Vector};
use proto::registry::v1::ToolDefinition;
use serde_json::Value;
use tests::retrieval::{
    data::{Collection, QuerySet},
    score::Quality,
};

use crate::{progress::Progress, quality::Row};

/// Texts embedded at once.
const BATCH: usize = 16;
/// Tools that are kept of a ranking.
const DEPTH: usize = 10;

/// Makes of a tool what is embedded.
type Text = fn(&ToolDefinition) -> String;

/// What is embedded of a tool.
const TEXTS: [(&str, Text); 2] =
    [("MiniLM alone, all fields", all_fields), ("MiniLM alone, name and description", name_and_description)];

/// A row for each set and each text; none where there is no model.
pub fn measure(collections: &[&Collection], progress: &Progress) -> Vec<Row> {
    let Ok(embedder) = Embedder::open(None, Mode::Full) else { return Vec::new() };
    let mut texts: Vec<String> = Vec::new();
    for collection in collections {
        let queries = collection.sets.iter().flat_map(|set| &set.queries);
        texts.extend(queries.map(|query| query.text.clone()));
        texts.extend(TEXTS.iter().flat_map(|(_, text)| collection.tools.iter().map(text)));
    }
    texts.sort_unstable();
    texts.dedup();
    progress.begin("the sentence model alone", texts.len());
    let vectors = tokio::task::block_in_place(|| embed(&embedder, texts, progress));
    let mut rows = Vec::new();
    for collection in collections {
        for (method, text) in TEXTS {
            let tools: Vec<_> =
                collection.tools.iter().map(|tool| (&tool.name, &vectors[&text(tool)])).collect();
            rows.extend(collection.sets.iter().map(|set| row(collection, set, method, &tools, &vectors)));
        }
    }
    rows
}

/// On two threads, as many cores as the figures are told for.
fn embed(embedder: &Embedder, texts: Vec<String>, progress: &Progress) -> HashMap<String, Vector> {
    let half = |texts: &[String]| -> Vec<Vector> {
        let batches = texts.chunks(BATCH).map(|batch| {
            let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
            let vectors = embedder.embed(&batch);
            for _ in &batch {
                progress.step();
            }
            vectors
        });
        batches.flatten().collect()
    };
    let (left, right) = texts.split_at(texts.len() / 2);
    let vectors = std::thread::scope(|scope| {
        let right = scope.spawn(|| half(right));
        [half(left), right.join().unwrap()].concat()
    });
    texts.into_iter().zip(vectors).collect()
}

fn row(
    collection: &Collection,
    set: &QuerySet,
    method: &'static str,
    tools: &[(&String, &Vector)],
    vectors: &HashMap<String, Vector>,
) -> Row {
    let queries = set.queries.iter().filter(|query| !query.relevant.is_empty());
    let qualities = queries.map(|query| {
        let task = &vectors[&query.text];
        let mut ranked: Vec<_> = tools.iter().map(|(name, vector)| (task.dot(vector), *name)).collect();
        ranked.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(right.1)));
        let names: Vec<String> = ranked.into_iter().take(DEPTH).map(|(_, name)| name.clone()).collect();
        Quality::of(&query.relevant, &names)
    });
    Row::new(collection, set, method, Quality::mean(qualities))
}

fn name_and_description(tool: &ToolDefinition) -> String {
    format!("{}: {}", tool.name, tool.description)
}

fn all_fields(tool: &ToolDefinition) -> String {
    let mut text = name_and_description(tool);
    if let Ok(schema) = serde_json::from_str::<Value>(&tool.input_schema_json) {
        for (name, parameter) in schema["properties"].as_object().into_iter().flatten() {
            text.extend([" ", name, " ", parameter["description"].as_str().unwrap_or_default()]);
        }
    }
    text
}
