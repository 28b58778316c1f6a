//! `toolcrib cache`: what the result cache does, and dropping answers from it.

use clap::{Args, Subcommand};
use proto::executor::v1::{
    CacheStats, GetCacheStatsRequest, GetCacheStatsResponse, InvalidateCacheRequest, InvalidateCacheResponse,
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
};

/// What to do with the cache.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell what the cache did, in the process that answers and since it started
    Stats {
        /// Only for this tool
        tool: Option<String>,
    },
    /// Drop cached answers of a tool, in every process within a second
    Clear(ClearArgs),
}

/// Which answers to drop.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib cache clear user_by_id
  toolcrib cache clear user_by_id --arguments '{\"id\": 7}'")]
pub struct ClearArgs {
    /// Name of the tool
    tool: String,
    /// Only the answer to these arguments
    #[arg(long, value_name = "JSON", value_parser = object)]
    arguments: Option<String>,
}

/// JSON text of an object, as it was written. An empty text would drop everything.
fn object(text: &str) -> Result<String, String> {
    let object: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(text);
    object.map(|_| text.to_owned()).map_err(|error| format!("not a JSON object: {error}"))
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Stats { tool } => stats(tool.unwrap_or_default(), client, output).await,
        Command::Clear(args) => clear(args, client, output).await,
    }
}

async fn stats(tool_name: String, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = GetCacheStatsRequest { tool_name };
    let answer: GetCacheStatsResponse = client.executor().get_cache_stats(request).await?.into_inner();
    output.show(&answer, |view| {
        let variant = format!("cache: {}", human::visible(&answer.variant));
        format!("{}\n\n{}", table(&answer.stats, view), view.style.paint(&variant, Tone::Dim))
    })
}

async fn clear(args: ClearArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let what = if args.arguments.is_some() { "the answer to these arguments" } else { "every answer" };
    let done = format!("dropped {what} of {}", human::visible(&args.tool));
    let request =
        InvalidateCacheRequest { tool_name: args.tool, arguments_json: args.arguments.unwrap_or_default() };
    let answer: InvalidateCacheResponse = client.executor().invalidate_cache(request).await?.into_inner();
    output.show(&answer, |_| done)
}

fn table(stats: &[CacheStats], view: View) -> String {
    let headings = [
        "TOOL",
        "RATIO",
        "HITS",
        "MISSES",
        "SHARED",
        "STALE",
        "REFUSALS",
        "SIMILAR",
        "KEPT",
        "DROPPED",
        "SIMILAR TEXT",
    ];
    let mut table = Table::new(&headings).whole(&[0]);
    for each in stats {
        let mut cells = vec![cell(&each.tool_name), number(format!("{:.1} %", each.hit_ratio * 100.0))];
        let counts = [
            each.hits,
            each.misses,
            each.coalesced,
            each.stale_hits,
            each.negative_hits,
            each.semantic_hits,
            each.puts,
            each.invalidations,
        ];
        cells.extend(counts.map(|count| number(count.to_string())));
        let tone = match each.semantic_state.as_str() {
            "serving" => Tone::Good,
            "switched off" => Tone::Warn,
            _ => Tone::Dim,
        };
        cells.push(toned(&each.semantic_state, tone));
        table.row(cells);
    }
    table.render(
        view,
        "the cache was not asked yet; switch it on with: toolcrib tools set TOOL cache.enabled=true",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_says_which_answer_to_drop() {
        assert_eq!(object("{\"id\": 7.0}"), Ok("{\"id\": 7.0}".into()));
        for text in ["", " ", "[]", "7", "{"] {
            assert!(object(text).is_err(), "{text:?} would drop everything");
        }
    }
}
