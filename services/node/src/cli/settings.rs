//! `toolcrib tools settings`, `set` and `fallbacks`: how a tool is run, beyond its definition.
//!
//! The names of the settings are those of the contract, read from its descriptors: a setting that is new there is
//! known here. Nothing is checked but what it takes to write the request: the registry does that.

use clap::Args;
use prost_types::FieldMask;
use proto::registry::v1::{
    Fallback, FallbackCondition, GetFallbacksRequest, GetFallbacksResponse, SetFallbacksRequest,
    SetFallbacksResponse, Tool, ToolSettings, ToolStatus, UpdateToolRequest, UpdateToolResponse,
};

use super::{
    client::Client,
    error::Error,
    human, json,
    output::{Output, Tone, View},
    setting_names,
    table::{Table, cell, number, toned},
    tools,
    words::{parser, tool_tone, word},
};

/// Examples of `set`.
pub const SET_HELP: &str = "Examples:
  toolcrib tools set user_by_id retry.max_retries=5 retry.initial_backoff_ms=200
  toolcrib tools set user_by_id cache.enabled=true cache.ttl_s=600
  toolcrib tools set user_by_id output_mode=warn cache=default

KEY=default brings the default of one setting, or of all below it, back.";

/// Examples of `fallbacks`.
pub const FALLBACKS_HELP: &str = "Examples:
  toolcrib tools fallbacks brave_web_search
  toolcrib tools fallbacks brave_web_search --add google_web_search --on timeout,rate_limit
  toolcrib tools fallbacks user_by_id --add user_by_name --arguments '{\"name\": arguments.id}'
  toolcrib tools fallbacks user_by_id --clear";

/// `toolcrib tools set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Name of the tool
    name: String,
    /// What to set; `toolcrib tools settings NAME` lists the keys
    #[arg(required = true, value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Change nothing if the settings are not those with this etag any more
    #[arg(long, value_name = "ETAG", default_value_t, hide_default_value = true)]
    etag: String,
}

/// `toolcrib tools fallbacks`.
#[derive(Debug, Args)]
pub struct FallbacksArgs {
    /// Name of the tool
    name: String,
    /// Tool that is to stand in, after those there are
    #[arg(long, value_name = "TOOL", conflicts_with = "clear")]
    add: Option<String>,
    /// Failures after which it is tried, joined by commas
    #[arg(long, requires = "add", value_delimiter = ',', default_value = "any", value_parser = parser::<FallbackCondition>())]
    on: Vec<FallbackCondition>,
    /// CEL expression that gives its arguments from `arguments`, `error` and `tool` [default: the same arguments]
    #[arg(long, requires = "add", value_name = "CEL", default_value_t, hide_default_value = true)]
    arguments: String,
    /// Lower ones are tried first
    #[arg(long, requires = "add", value_name = "N", default_value_t, allow_negative_numbers = true)]
    priority: i32,
    /// Let no tool stand in any more
    #[arg(long)]
    clear: bool,
}

/// Shows the settings of a tool.
pub async fn show(name: &str, client: &Client, output: &mut Output) -> Result<(), Error> {
    let tool = tools::get(name, None, client).await?;
    let settings = tool.settings.clone().ok_or_else(|| Error::incomplete("settings"))?;
    let rows = rows(&settings)?;
    output.show(&settings, |view| {
        let etag = view.style.paint(&format!("etag {}", human::visible(&tool.etag)), Tone::Dim);
        format!("{}\n\n{etag}", table(&tool, &rows, view))
    })
}

/// Changes settings of a tool and shows those that were named.
pub async fn set(args: SetArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let (settings, paths) = setting_names::read(&args.settings).map_err(Error::Usage)?;
    let request = UpdateToolRequest {
        name: args.name,
        settings: Some(settings),
        update_mask: Some(FieldMask { paths: paths.clone() }),
        etag: args.etag,
    };
    let answer: UpdateToolResponse = client.registry().update_tool(request).await?.into_inner();
    let tool = answer.tool.clone().unwrap_or_default();
    let is_named = |row: &Row| paths.iter().any(|path| row.is_within(path));
    let rows: Vec<Row> =
        rows(&tool.settings.clone().unwrap_or_default())?.into_iter().filter(is_named).collect();
    output.show(&answer, |view| table(&tool, &rows, view))
}

/// Shows or changes the fallbacks of a tool.
pub async fn fallbacks(args: FallbacksArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = GetFallbacksRequest { name: args.name.clone() };
    let current: GetFallbacksResponse = client.registry().get_fallbacks(request).await?.into_inner();
    let Some(fallbacks) = changed(&args, &current) else {
        return output.show(&current, |view| fallback_table(&current, view));
    };
    // On the etag that was read: what another adds at the same moment is not lost.
    let request = SetFallbacksRequest { name: args.name.clone(), fallbacks, etag: current.etag };
    let answer: SetFallbacksResponse = client.registry().set_fallbacks(request).await?.into_inner();
    if output.is_json() {
        return output.json(&json::of(&answer)?);
    }
    let request = GetFallbacksRequest { name: args.name };
    let now = client.registry().get_fallbacks(request).await?.into_inner();
    output.view(|view| fallback_table(&now, view))
}

/// The fallbacks that are to be; `None` where they are only to be shown.
fn changed(args: &FallbacksArgs, current: &GetFallbacksResponse) -> Option<Vec<Fallback>> {
    if args.clear {
        return Some(Vec::new());
    }
    let tool = args.add.clone()?;
    let mut fallbacks: Vec<Fallback> =
        current.fallbacks.iter().filter_map(|resolved| resolved.fallback.clone()).collect();
    fallbacks.push(Fallback {
        tool,
        conditions: args.on.iter().map(|&condition| condition as i32).collect(),
        arguments: args.arguments.clone(),
        priority: args.priority,
    });
    Some(fallbacks)
}

/// One of the settings, ready to be told.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    key: String,
    value: String,
    default: String,
}

impl Row {
    /// Whether a path names it, or a group that it is in.
    fn is_within(&self, path: &str) -> bool {
        let below = |long: &str, short: &str| {
            long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        below(&self.key, path) || below(path, &self.key)
    }
}

fn rows(settings: &ToolSettings) -> Result<Vec<Row>, Error> {
    let values = setting_names::values(settings)?;
    let defaults = setting_names::values(&registry::default_settings())?;
    let default_of =
        |key: &str| defaults.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
    let row =
        |(key, value): (String, String)| Row { default: default_of(&key).unwrap_or_default(), key, value };
    Ok(values.into_iter().map(row).collect())
}

fn table(tool: &Tool, rows: &[Row], view: View) -> String {
    let mut table = Table::new(&["SETTING", "VALUE", "DEFAULT"]).whole(&[0, 1]);
    for row in rows {
        let value = told(tool, row);
        if row.value == row.default {
            table.row(vec![cell(&row.key), cell(value), toned("same", Tone::Dim)]);
        } else {
            let default = if row.default.is_empty() { "not set" } else { &row.default };
            table.row(vec![
                cell(&row.key),
                toned(value, Tone::Bold),
                toned(format!("* {default}"), Tone::Warn),
            ]);
        }
    }
    table.render(view, "no settings")
}

/// The value, and what it stands for where 0 leaves it to others.
fn told(tool: &Tool, row: &Row) -> String {
    let definition = tool.definition.clone().unwrap_or_default();
    match (row.key.as_str(), row.value.as_str()) {
        ("timeout_ms", "0") => format!("0 (the definition's {})", definition.timeout_ms),
        ("rate_limit_per_minute", "0") => {
            format!("0 (the definition's {})", definition.rate_limit_per_minute)
        }
        ("max_concurrent", "0") => "0 (the executor's own)".into(),
        (_, value) => value.into(),
    }
}

fn fallback_table(answer: &GetFallbacksResponse, view: View) -> String {
    let mut table = Table::new(&["PRIORITY", "TOOL", "STATUS", "ON", "ARGUMENTS"]).whole(&[1]);
    for resolved in &answer.fallbacks {
        let fallback = resolved.fallback.clone().unwrap_or_default();
        let on: Vec<_> =
            fallback.conditions.iter().map(|&number| word::<FallbackCondition>(number)).collect();
        let same = if fallback.arguments.is_empty() { "the same" } else { &fallback.arguments };
        table.row(vec![
            number(fallback.priority.to_string()),
            cell(&fallback.tool),
            toned(word::<ToolStatus>(resolved.status), tool_tone(resolved.status)),
            cell(on.join(", ")),
            cell(same),
        ]);
    }
    table.render(view, "no tool stands in for it; add one with: toolcrib tools fallbacks NAME --add TOOL")
}

#[cfg(test)]
mod tests {
    use proto::registry::v1::{ResolvedFallback, ToolDefinition};

    use super::*;
    use crate::cli::output::Style;

    fn view() -> View {
        View { style: Style { colour: false }, width: None, now: chrono::Utc::now() }
    }

    #[test]
    fn what_differs_from_the_defaults_is_marked() {
        let mut settings = registry::default_settings();
        settings.retry.as_mut().unwrap().max_retries = Some(7);
        let definition = ToolDefinition { timeout_ms: 12_000, ..ToolDefinition::default() };
        let tool = Tool { definition: Some(definition), ..Tool::default() };
        let table = table(&tool, &rows(&settings).unwrap(), view());
        let line = |key: &str| {
            let line = table.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap_or_default();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("retry.max_retries"), "retry.max_retries 7 * 3", "{table}");
        assert_eq!(line("retry.jitter"), "retry.jitter true same");
        assert_eq!(line("output_mode"), "output_mode strict same");
        assert_eq!(line("timeout_ms"), "timeout_ms 0 (the definition's 12000) same");
        assert_eq!(line("cache.semantic"), "cache.semantic off same");
        assert_eq!(table.matches('*').count(), 1, "{table}");
    }

    #[test]
    fn only_the_named_rows_are_shown_after_a_change() {
        let rows = rows(&registry::default_settings()).unwrap();
        let named = |path: &str| {
            rows.iter().filter(|row| row.is_within(path)).map(|row| row.key.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(named("retry.max_retries"), ["retry.max_retries"]);
        assert_eq!(named("retry").len(), 5);
        assert_eq!(named("cache.semantic.field"), ["cache.semantic"]);
        assert_eq!(named("timeout_ms"), ["timeout_ms"]);
    }

    #[test]
    fn fallbacks_are_added_behind_those_there_are() {
        let there = Fallback { tool: "b".into(), conditions: vec![5], ..Fallback::default() };
        let resolved = ResolvedFallback { fallback: Some(there.clone()), status: 3 };
        let current = GetFallbacksResponse { fallbacks: vec![resolved], etag: "4".into() };
        let mut args = FallbacksArgs {
            name: "a".into(),
            add: None,
            on: vec![FallbackCondition::Timeout],
            arguments: "arguments".into(),
            priority: -1,
            clear: false,
        };
        assert_eq!(changed(&args, &current), None);
        args.add = Some("c".into());
        let added =
            Fallback { tool: "c".into(), conditions: vec![1], arguments: "arguments".into(), priority: -1 };
        assert_eq!(changed(&args, &current), Some(vec![there, added]));
        args.clear = true;
        assert_eq!(changed(&args, &current), Some(vec![]));
        let table = fallback_table(&current, view());
        assert!(table.contains("disabled") && table.contains("any") && table.contains("the same"), "{table}");
    }
}
