//! What the result cache did, and dropping answers from it: here at once, in every other process within a second.

use cache::{Cache, Mode, Stats};
use types::Caller;

use crate::{Error, Executor, invoke::digest, settings::Settings, signals, validate};

/// What the cache did for the tools of a team, in order of name; for one tool when it is named.
pub(crate) async fn stats(executor: &Executor, caller: &Caller, tool: &str) -> Vec<(Stats, &'static str)> {
    let mut stats = executor.cache.stats(&caller.team, (!tool.is_empty()).then_some(tool)).await;
    stats.sort_by(|a, b| a.tool.cmp(&b.tool));
    let with_state = |stats: Stats| {
        let state = semantic_state(executor, &caller.team, &stats.tool);
        (stats, state)
    };
    stats.into_iter().map(with_state).collect()
}

/// Where semantic matching of a tool stands: off unless its settings ask for it.
fn semantic_state(executor: &Executor, team: &str, tool: &str) -> &'static str {
    let Some(found) = executor.resolver.catalog.find(team, tool) else { return "off" };
    let asked = Settings::of(&found).cache.is_some_and(|cache| cache.semantic.is_some());
    if !asked {
        return "off";
    }
    match executor.matcher.standing(team, tool, &found.digest).map(|standing| standing.mode) {
        None | Some(Mode::Learning) => "learning",
        Some(Mode::Serving) => "serving",
        Some(Mode::Off) => "switched off",
    }
}

/// The name of the variant in use.
pub(crate) fn variant(executor: &Executor) -> &'static str {
    match &executor.cache {
        Cache::Off => "off",
        Cache::Memory(_) => "memory",
        Cache::Redis(_) => "redis",
    }
}

/// Drops the answers of a tool; of these arguments alone when they are given, as JSON text.
pub(crate) async fn invalidate(
    executor: &Executor,
    caller: &Caller,
    tool: &str,
    arguments_json: &str,
) -> Result<(), Error> {
    if tool.is_empty() || tool.len() > 200 || tool.contains(char::is_control) {
        return Err(Error::invalid("tool_name", "name a tool, in at most 200 characters"));
    }
    if arguments_json.is_empty() {
        return signals::invalidate(executor, &caller.team, tool, None).await;
    }
    let arguments = validate::parse_object(arguments_json)
        .map_err(|_| Error::invalid("arguments_json", "is not the JSON text of an object"))?;
    signals::invalidate(executor, &caller.team, tool, Some(&digest(&arguments)?)).await
}
