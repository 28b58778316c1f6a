//! Which operations of a document are taken. A filter that fits nothing is a mistake, and is told. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use ::rpc::FieldViolation;

use super::operation::Operation;
use crate::Error;

/// Most names that an error tells.
const MAX_TOLD: usize = 10;
/// Least likeness of a name that is told, 0 to 1.
const MIN_LIKENESS: f64 = 0.6;

/// What is asked for; empty lists match all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// By id, or as "GET /path".
    pub operations: Vec<String>,
    pub tags: Vec<String>,
    pub methods: Vec<String>,
}

impl Selection {
    /// Whether everything is asked for.
    pub(super) fn is_all(&self) -> bool {
        self.operations.is_empty() && self.tags.is_empty() && self.methods.is_empty()
    }

    /// The places of the operations that are asked for.
    pub(super) fn choose(&self, operations: &[Operation<'_>]) -> Result<BTreeSet<usize>, Error> {
        let mut wrong = Vec::new();
        let mut add = |field: String, description: String| wrong.push(FieldViolation { field, description });
        let mut keys: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let (mut tags, mut methods) = (BTreeSet::<&str>::new(), BTreeSet::<&str>::new());
        for (index, operation) in operations.iter().enumerate() {
            if !operation.id().is_empty() {
                keys.entry(operation.id().to_owned()).or_default().push(index);
            }
            keys.entry(operation.source()).or_default().push(index);
            tags.extend(operation.tags());
            methods.insert(operation.method.as_str());
        }
        let mut named: BTreeSet<usize> = BTreeSet::new();
        for (index, name) in self.operations.iter().enumerate() {
            match keys.get(name.as_str()).or_else(|| keys.get(&spelled(name))) {
                Some(places) => named.extend(places),
                None => add(format!("operations[{index}]"), unknown(name, keys.keys().map(String::as_str))),
            }
        }
        for (index, tag) in self.tags.iter().enumerate().filter(|(_, tag)| !tags.contains(tag.as_str())) {
            add(format!("tags[{index}]"), unknown(tag, tags.iter().copied()));
        }
        let wanted: Vec<String> = self.methods.iter().map(|method| method.to_ascii_uppercase()).collect();
        for (index, method) in wanted.iter().enumerate().filter(|(_, m)| !methods.contains(m.as_str())) {
            add(format!("methods[{index}]"), unknown(method, methods.iter().copied()));
        }
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong));
        }
        let chosen: BTreeSet<usize> = operations
            .iter()
            .enumerate()
            .filter(|(index, operation)| {
                (self.operations.is_empty() || named.contains(index))
                    && (self.tags.is_empty()
                        || operation.tags().iter().any(|tag| self.tags.iter().any(|wanted| wanted == tag)))
                    && (wanted.is_empty() || wanted.contains(&operation.method))
            })
            .map(|(index, _)| index)
            .collect();
        if chosen.is_empty() && !self.is_all() {
            return Err(Error::invalid(
                "operations",
                "no operation fits operations, tags and methods together",
            ));
        }
        Ok(chosen)
    }
}

/// "get /path" as the document has it.
fn spelled(name: &str) -> String {
    match name.trim().split_once(char::is_whitespace) {
        Some((method, path)) => format!("{} {}", method.to_ascii_uppercase(), path.trim()),
        None => name.to_owned(),
    }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let shown: String = name.chars().take(100).collect();
    let mut near: Vec<(f64, &str)> = known
        .map(|known| (strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(likeness, _)| *likeness >= MIN_LIKENESS)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<&str> = near.into_iter().take(MAX_TOLD).map(|(_, name)| name).collect();
    let hint = if near.is_empty() { String::new() } else { format!("; near it are: {}", near.join(", ")) };
    format!("{shown:?} is not in the document{hint}")
}
