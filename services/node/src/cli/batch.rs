//! `toolcrib batch`: many calls from a file, one a line, and a table of what became of each.
//!
//! What has an answer is shown even when the connection breaks on the way: those calls were made.

use clap::Args;
use comfy_table::Cell;
use indicatif::{ProgressBar, ProgressStyle};
use proto::{
    executor::v1::{
        BatchExecuteRequest, BatchExecuteResponse, BatchItem, CallError, CallOptions, ExecuteRequest,
        Execution, ExecutionStatus, batch_item::Outcome, execute_request::Input,
    },
    types::v1::ErrorReason,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tonic::Code;

use super::{
    client::Client,
    error::Error,
    execution::{failed_with, took},
    files, human, json,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
    words::{execution_tone, word},
};

/// Most calls of one request, by the contract.
const MOST: usize = 100;
/// How many run at once where nothing is said: the server's own default.
const PARALLEL: usize = 5;

/// Columns of a terminal that has room for the results, too.
const WIDE: u16 = 130;

/// The calls.
#[derive(Debug, Args)]
#[command(after_help = "Each line is one call as JSON, such as
  {\"tool\": \"user_by_id\", \"arguments\": {\"id\": 7}, \"request_id\": \"import-7\"}
and may have task_id, timeout_ms, selection_id, justification and options, as ExecuteRequest has them.

Examples:
  toolcrib batch calls.jsonl --parallel 10
  jq -c '{tool: \"user_by_id\", arguments: {id: .}}' ids.json | toolcrib batch - --stop-on-failure

Exit code: 0 all succeeded, 1 any did not, 2 refused, 3 toolcrib cannot be reached.")]
pub struct BatchArgs {
    /// File with one call a line, or - for standard input
    file: String,
    /// How many run at once, 1 to 20 [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=20))]
    parallel: Option<i32>,
    /// Begin no further call once one has failed
    #[arg(long)]
    stop_on_failure: bool,
}

/// One line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    tool: String,
    /// As it was written: no digit is lost.
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(default)]
    request_id: String,
    #[serde(default)]
    task_id: String,
    #[serde(default)]
    selection_id: String,
    #[serde(default)]
    justification: String,
    #[serde(default)]
    timeout_ms: i64,
    options: Option<Value>,
}

/// Runs the command.
pub async fn run(args: BatchArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let calls = calls(&files::read(&args.file).map_err(Error::Usage)?).map_err(Error::Usage)?;
    let tools: Vec<_> = calls.iter().map(|call| call.tool.clone()).collect();
    let (answer, broken) = made(&args, calls, client).await;
    output.show(&answer, |view| table(&tools, &answer.items, view))?;
    if let Some(error) = broken {
        output.note(&format!("{} of {} calls have an answer", answer.items.len(), tools.len()))?;
        return Err(error);
    }
    if !output.is_json() {
        output.note(&format!("{} of {} succeeded", answer.succeeded, tools.len()))?;
    }
    if usize::try_from(answer.succeeded) == Ok(tools.len()) { Ok(()) } else { Err(Error::Failed) }
}

/// The calls of a file; every faulty line is named.
fn calls(text: &str) -> Result<Vec<ExecuteRequest>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = lines.map(|(nth, line)| call(line).map_err(|wrong| format!("line {}: {wrong}", nth + 1)));
    let (calls, wrong): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
    let wrong: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
    match (wrong.is_empty(), calls.is_empty()) {
        (false, _) => Err(wrong.join("\n")),
        (true, true) => Err("there is no call: give one a line".into()),
        (true, false) => Ok(calls.into_iter().flatten().collect()),
    }
}

fn call(line: &str) -> Result<ExecuteRequest, String> {
    let line: Line<'_> = serde_json::from_str(line)
        // Its own line number would be taken for that of the file.
        .map_err(|error| error.to_string().replace(" at line 1 column ", ", column "))?;
    let arguments = line.arguments.map_or("{}", RawValue::get);
    if !arguments.starts_with('{') {
        return Err("arguments: not an object".into());
    }
    let options = line.options.map(json::read::<CallOptions>).transpose();
    Ok(ExecuteRequest {
        tool: line.tool,
        input: Some(Input::ArgumentsJson(arguments.to_owned())),
        request_id: line.request_id,
        task_id: line.task_id,
        timeout_ms: line.timeout_ms,
        selection_id: line.selection_id,
        justification: line.justification,
        options: options.map_err(|error| format!("options: {error:#}"))?,
    })
}

/// Makes the calls, some at a time, and merges the answers. When one request fails, those before it count.
async fn made(
    args: &BatchArgs,
    calls: Vec<ExecuteRequest>,
    client: &Client,
) -> (BatchExecuteResponse, Option<Error>) {
    let parallel = usize::try_from(args.parallel.unwrap_or_default()).unwrap_or_default();
    // Small enough for the bar to move, large enough for all places to be used most of the time.
    let size = if parallel == 0 { PARALLEL * 4 } else { parallel * 4 }.min(MOST);
    let bar = bar(calls.len());
    let mut merged = BatchExecuteResponse::default();
    let mut failed = None;
    for chunk in calls.chunks(size) {
        let first = merged.items.len();
        if let Some(failed) = failed.filter(|_| args.stop_on_failure) {
            merged.items.extend(chunk.iter().map(|_| left_out(failed)));
            continue;
        }
        let request = BatchExecuteRequest {
            calls: chunk.to_vec(),
            parallelism: args.parallel.unwrap_or_default(),
            stop_on_failure: args.stop_on_failure,
        };
        match client.executor().batch_execute(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                failed = failed.or_else(|| answer.items.iter().position(has_failed).map(|nth| first + nth));
                merged.succeeded += answer.succeeded;
                merged.items.extend(answer.items);
                bar.inc(chunk.len() as u64);
            }
            Err(status) => {
                bar.finish_and_clear();
                return (merged, Some(status.into()));
            }
        }
    }
    bar.finish_and_clear();
    (merged, None)
}

/// Drawn on standard error, and only where that is a terminal.
fn bar(calls: usize) -> ProgressBar {
    let bar = ProgressBar::new(calls as u64);
    if let Ok(style) = ProgressStyle::with_template("  {bar:30} {pos} of {len}, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

fn has_failed(item: &BatchItem) -> bool {
    execution_of(item).is_none_or(|execution| execution.status != ExecutionStatus::Succeeded as i32)
}

fn execution_of(item: &BatchItem) -> Option<&Execution> {
    match item.outcome.as_ref()? {
        Outcome::Response(response) => response.execution.as_ref(),
        Outcome::Error(_) => None,
    }
}

/// What the server says of a call that it leaves out, for those that were not even sent.
fn left_out(failed: usize) -> BatchItem {
    let error = CallError {
        code: Code::FailedPrecondition.into(),
        reason: ErrorReason::NotBegun.as_str_name().trim_start_matches("ERROR_REASON_").to_owned(),
        message: format!(
            "the call was not begun: left out: call {} of the batch did not succeed",
            failed + 1
        ),
        ..CallError::default()
    };
    BatchItem { outcome: Some(Outcome::Error(error)) }
}

fn table(tools: &[String], items: &[BatchItem], view: View) -> String {
    let is_wide = view.width.is_none_or(|width| width >= WIDE);
    let headings = ["CALL", "TOOL", "STATUS", "TOOK", "COST", "ID", "WHAT"];
    let columns = if is_wide { headings.len() } else { headings.len() - 1 };
    let mut table = Table::new(&headings[..columns]).whole(&[1, 5]);
    let mut below = Vec::new();
    for (nth, (tool, item)) in tools.iter().zip(items).enumerate() {
        let (status, execution, what) = told(item);
        let mut cells = vec![
            number((nth + 1).to_string()),
            cell(tool),
            status,
            number(took(&execution)),
            number(if execution.id.is_empty() {
                String::new()
            } else {
                human::cost(execution.cost_micro_usd)
            }),
            cell(&execution.id),
        ];
        if is_wide {
            cells.push(cell(&what));
        } else if has_failed(item) {
            below.push(format!("call {}: {}", nth + 1, human::visible(&what)));
        }
        table.row(cells);
    }
    let table = table.render(view, "no calls");
    if below.is_empty() { table } else { format!("{table}\n\n{}", below.join("\n")) }
}

/// Status, execution and result or failure of a call.
fn told(item: &BatchItem) -> (Cell, Execution, String) {
    match &item.outcome {
        Some(Outcome::Response(response)) => {
            let execution = response.execution.clone().unwrap_or_default();
            let status = toned(word::<ExecutionStatus>(execution.status), execution_tone(execution.status));
            let gave = gave(&execution);
            (status, execution, gave)
        }
        Some(Outcome::Error(error)) => (toned("refused", Tone::Bad), Execution::default(), refusal(error)),
        None => (toned("not known", Tone::Warn), Execution::default(), String::new()),
    }
}

fn gave(execution: &Execution) -> String {
    match &execution.error {
        Some(error) => failed_with(error),
        None => human::clip(&execution.result_json, 60),
    }
}

fn refusal(error: &CallError) -> String {
    let mut text = format!("{}: {}", error.reason, error.message);
    for violation in &error.violations {
        text = format!("{text}; {}: {}", violation.pointer, violation.message);
    }
    if error.retry_after_ms > 0 {
        let after = f64::from(i32::try_from(error.retry_after_ms).unwrap_or(i32::MAX));
        text = format!("{text}; try again after {}", human::duration(after));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn a_line_is_a_call_and_loses_no_digit() {
        let text = "{\"tool\":\"a\",\"arguments\":{\"id\": 9007199254740993123}}\n\n\
                    {\"tool\":\"b\",\"request_id\":\"r\",\"options\":{\"skip_cache\":true,\"max_retries\":0}}\n";
        let calls = calls(text).unwrap();
        assert_eq!(calls[0].input, Some(Input::ArgumentsJson("{\"id\": 9007199254740993123}".into())));
        let options = CallOptions { max_retries: Some(0), skip_cache: true, ..CallOptions::default() };
        assert_eq!((calls[1].request_id.as_str(), calls[1].options), ("r", Some(options)));
        assert_eq!(calls[1].input, Some(Input::ArgumentsJson("{}".into())));
    }

    #[test]
    fn every_faulty_line_is_named_and_nothing_is_sent() {
        let text =
            "{\"tool\":\"a\"}\n{\"tool\":\"b\",\"argument\":{}}\n{\"tool\":\"c\",\"arguments\":[]}\nno";
        let wrong = calls(text).unwrap_err();
        for part in [
            "line 2: unknown field `argument`",
            "line 3: arguments: not an object",
            "line 4: expected ident, column 2",
        ] {
            assert!(wrong.contains(part), "{part} is missing in\n{wrong}");
        }
        assert!(!wrong.contains("line 1") && calls(" \n").is_err());
    }

    #[test]
    fn on_a_narrow_terminal_failures_are_told_below_the_table() {
        let items = [left_out(0)];
        let view = |width| View { style: Style { colour: false }, width, now: chrono::Utc::now() };
        let narrow = table(&["a".into()], &items, view(Some(80)));
        assert_eq!(narrow.lines().count(), 4, "{narrow}");
        assert!(
            narrow.ends_with(
                "call 1: NOT_BEGUN: the call was not begun: left out: call 1 of the batch did not succeed"
            ),
            "{narrow}"
        );
        let wide = table(&["a".into()], &items, view(None));
        assert!(wide.lines().count() == 2 && wide.contains("NOT_BEGUN"), "{wide}");
    }
}
