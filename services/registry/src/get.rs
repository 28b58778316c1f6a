//! Finds one tool, or says which names come near.

use ::store::Database;
use uuid::Uuid;

use crate::{
    Error,
    store::{self, ToolRow},
};

/// Names that are told when one is not found.
const SUGGESTIONS: usize = 3;
/// How alike two names must be to be told, from 0 to 1 (Jaro-Winkler).
const LIKENESS: f64 = 0.75;

/// What a tool is asked for by.
#[derive(Debug, Clone)]
pub(crate) enum Key {
    /// The id of a version.
    Id(Uuid),
    /// A name, and a version where not the newest is wanted.
    Name(String, Option<String>),
}

/// The tool.
pub(crate) async fn get(database: &Database, team: &str, key: Key) -> Result<ToolRow, Error> {
    let pool = database.pool()?;
    let (name, version) = match key {
        Key::Id(id) => {
            let found = store::tool_find_by_id(pool, team, id).await?;
            return found.ok_or_else(|| Error::ToolNotFound { key: id.to_string(), nearest: vec![] });
        }
        Key::Name(name, None) => {
            return match store::tool_find(pool, team, &name).await? {
                Some(tool) => Ok(tool),
                None => Err(not_found(database, team, name).await),
            };
        }
        Key::Name(name, Some(version)) => (name, version),
    };
    if let Some(tool) = store::tool_find_version(pool, team, &name, &version).await? {
        return Ok(tool);
    }
    match store::tool_find(pool, team, &name).await? {
        Some(newest) => Err(Error::VersionNotFound { name, version, newest: newest.definition()?.version }),
        None => Err(not_found(database, team, name).await),
    }
}

/// The error for a name that is not there, with the nearest that are.
pub(crate) async fn not_found(database: &Database, team: &str, name: String) -> Error {
    let names = match database.pool() {
        Ok(pool) => store::tool_names(pool, team).await,
        Err(error) => Err(error),
    };
    match names {
        Ok(names) => Error::ToolNotFound { nearest: nearest(&name, names), key: name },
        Err(error) => error.into(),
    }
}

fn nearest(name: &str, names: Vec<String>) -> Vec<String> {
    let name = name.to_lowercase();
    let mut scored: Vec<(f64, String)> = names
        .into_iter()
        .map(|known| (likeness(&name, &known), known))
        .filter(|(score, _)| *score >= LIKENESS)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.into_iter().take(SUGGESTIONS).map(|(_, known)| known).collect()
}

/// A tool of a server is also known by the name it has there.
fn likeness(name: &str, known: &str) -> f64 {
    let own = known.split_once('.').map_or(0.0, |(_, own)| strsim::jaro_winkler(name, own));
    own.max(strsim::jaro_winkler(name, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_are_told_and_distant_ones_not() {
        let names = ["http_request", "file_operations", "time.convert_time", "brave_web_search"];
        let near = |name| nearest(name, names.map(str::to_owned).to_vec());
        assert_eq!(near("HTTP-Request"), ["http_request"]);
        assert_eq!(near("convert_tme")[0], "time.convert_time");
        assert_eq!(near("zzz"), Vec::<String>::new());
    }
}
