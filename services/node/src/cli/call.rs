//! `toolcrib call`: runs one tool and shows what it gave.

use clap::Args;
use proto::executor::v1::{
    ExecuteRequest, ExecuteResponse, Execution, ExecutionStatus, Source, StartExecutionRequest,
};
use serde_json::{Map, Value};

use super::{
    client::Client, error::Error, execution, human, invocation::Invocation, json, output::Output, watch,
    words::word,
};

/// Seconds to wait when --timeout is not given: the longest run of a tool and a little more.
pub const TIMEOUT_S: u64 = 310;

/// The call.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib call file_operations operation=write path=notes.txt content=@notes.txt
  toolcrib call python_sandbox code=@script.py
  toolcrib call time.get_current_time timezone=Europe/Athens
  toolcrib call user_by_id --json '{\"id\": 9007199254740993}' --no-cache
  echo '{\"id\": 7}' | toolcrib call user_by_id @- --retries 0

Exit code: 0 succeeded, 1 the tool failed, 2 refused, 3 toolcrib cannot be reached.")]
pub struct CallArgs {
    /// Where the call needs an approval, wait for it as long as it may take; it goes on if this command is stopped
    #[arg(long)]
    wait_for_approval: bool,
    // Last, or its heading would be that of the option above, too.
    #[command(flatten)]
    call: Invocation,
}

/// Runs the command.
pub async fn run(args: CallArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = args.call.request(client).await?;
    if args.wait_for_approval {
        return wait(request, client, output).await;
    }
    let answer: ExecuteResponse = client.executor().execute(request).await?.into_inner();
    let Some(execution) = &answer.execution else { return Err(Error::incomplete("execution")) };
    if output.is_json() {
        output.json(&json::of(&answer)?)?;
    } else {
        tell(execution, answer.replayed, output)?;
    }
    if execution.status == ExecutionStatus::Succeeded as i32 { Ok(()) } else { Err(Error::Failed) }
}

/// Hands the call over, so that nothing undoes it while it waits, and follows it to its end.
async fn wait(call: ExecuteRequest, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = StartExecutionRequest {
        call: Some(call),
        wait_for_approval: true,
        ..StartExecutionRequest::default()
    };
    let answer = client.executor().start_execution(request).await?.into_inner();
    let Some(execution) = answer.execution else { return Err(Error::incomplete("execution")) };
    if !execution.access_request_id.is_empty() && !output.is_json() {
        let (id, request) = (&execution.id, &execution.access_request_id);
        output.note(&format!("{id} waits for somebody to decide access request {request}"))?;
    }
    watch::follow((execution.id, 0), client, output).await
}

/// Shows what an ended execution gave.
pub fn tell(execution: &Execution, replayed: bool, output: &mut Output) -> Result<(), Error> {
    let told = told(&execution.result_json);
    if !told.out.is_empty() {
        output.untrusted(&told.out)?;
        output.flush()?;
    }
    for beside in [&told.err, &told.rest].into_iter().filter(|text| !text.is_empty()) {
        output.note(beside.trim_end_matches('\n'))?;
    }
    if let Some(error) = &execution.error {
        output.aside(|style| execution::error_text(error, style))?;
    }
    output.note(&closing(execution, replayed))
}

/// A result in the parts that people read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    out: String,
    err: String,
    rest: String,
}

fn told(result_json: &str) -> Told {
    let out = json::pretty(result_json);
    match serde_json::from_str(result_json) {
        Err(_) | Ok(Value::Null) => Told::default(),
        Ok(Value::String(text)) => Told { out: text, ..Told::default() },
        Ok(Value::Object(mut fields)) => match (printed(&mut fields), texts(&fields)) {
            (Some(told), _) => told,
            (None, Some(texts)) => Told { out: texts, ..Told::default() },
            (None, None) => Told { out, ..Told::default() },
        },
        Ok(_) => Told { out, ..Told::default() },
    }
}

/// What a program printed, and beside it all else that says something.
fn printed(fields: &mut Map<String, Value>) -> Option<Told> {
    let out = fields.get("stdout")?.as_str()?.to_owned();
    let err = fields.get("stderr").and_then(Value::as_str).unwrap_or_default().to_owned();
    fields.retain(|key, value| key != "stdout" && key != "stderr" && says_something(value));
    let rest = if fields.is_empty() {
        String::new()
    } else {
        json::pretty(&Value::Object(fields.clone()).to_string())
    };
    Some(Told { out, err, rest })
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The text of an MCP result that is nothing but text.
fn texts(fields: &Map<String, Value>) -> Option<String> {
    let is_only_content = fields.iter().all(|(key, value)| key == "content" || !says_something(value));
    let items = fields.get("content")?.as_array().filter(|items| is_only_content && !items.is_empty())?;
    let texts: Option<Vec<&str>> = items.iter().map(|item| item["text"].as_str()).collect();
    Some(texts?.join("\n"))
}

/// One line on how it ended.
fn closing(execution: &Execution, replayed: bool) -> String {
    let mut parts = vec![
        word::<ExecutionStatus>(execution.status),
        human::duration(execution.duration_ms),
        human::cost(execution.cost_micro_usd),
        execution.id.clone(),
    ];
    if execution.source != Source::Unspecified as i32 {
        parts.push(execution::source(execution));
    }
    if !execution.warnings.is_empty() {
        parts.push("the result breaks its schema: see toolcrib executions show".into());
    }
    if replayed {
        parts.push("the recorded answer of an earlier call".into());
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_printed_is_shown_as_it_printed_it() {
        let told =
            told(r#"{"stdout":"42\n","stderr":"warn\n","exit_code":0,"files":["a.png"],"value":null}"#);
        assert_eq!((told.out.as_str(), told.err.as_str()), ("42\n", "warn\n"));
        assert_eq!(told.rest, "{\n  \"files\": [\n    \"a.png\"\n  ]\n}");
    }

    #[test]
    fn texts_are_shown_as_text_and_all_else_as_json_without_losing_a_digit() {
        assert_eq!(told(r#"{"content":[{"type":"text","text":"hi"}],"isError":false}"#).out, "hi");
        let structured = r#"{"content":[{"text":"hi"}],"structured":{"id":1}}"#;
        assert_eq!(told(structured).out, json::pretty(structured));
        assert_eq!(told(r#""plain""#).out, "plain");
        assert_eq!(told(r#"{"n":900719925474099312345}"#).out, "{\n  \"n\": 900719925474099312345\n}");
        assert_eq!(told(""), Told::default());
    }

    #[test]
    fn the_closing_line_tells_status_duration_cost_and_id() {
        let execution = Execution {
            id: "e-1".into(),
            status: ExecutionStatus::TimedOut as i32,
            duration_ms: 1_240.0,
            cost_micro_usd: 500,
            ..Execution::default()
        };
        assert_eq!(closing(&execution, false), "timed_out · 1.2s · $0.0005 · e-1");
        assert!(closing(&execution, true).ends_with("earlier call"));
        let source = Source::StaleCache as i32;
        let stale = Execution { source, cache_age_ms: 61_000, ..execution };
        assert!(closing(&stale, false).ends_with(" · stale_cache, 1m01s old"));
    }
}
