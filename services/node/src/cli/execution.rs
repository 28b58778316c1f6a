//! One execution as people read it: its page, its attempts, its failure, where its answer comes from.
//!
//! Texts of a tool or its caller reach the terminal only through functions that show control characters.

use proto::{
    executor::v1::{
        Attempt, AttemptKind, Execution, ExecutionStatus, Reached, SchemaViolation, Source, ToolError,
        ToolErrorCode,
    },
    types::v1::Effect,
};

use super::{
    human, json,
    output::{Style, Tone, View},
    table::{Table, cell, details, number, toned},
    words::word,
};

/// How long it ran; empty while it does.
pub fn took(execution: &Execution) -> String {
    if execution.end_time.is_none() { String::new() } else { human::duration(execution.duration_ms) }
}

/// Where its answer comes from, and how old that was; empty when the tool itself gave it.
pub fn source(execution: &Execution) -> String {
    let source = word::<Source>(execution.source);
    match i32::try_from(execution.cache_age_ms).unwrap_or(i32::MAX) {
        0 => source,
        age => format!("{source}, {} old", human::duration(f64::from(age))),
    }
}

/// Everything that is known of it.
pub fn page(execution: &Execution, view: View) -> String {
    let mut rows = vec![
        ("id", execution.id.clone()),
        ("tool", format!("{} {}", execution.tool_name, execution.tool_version)),
        ("status", word::<ExecutionStatus>(execution.status)),
        ("began", human::moment_in_full(execution.create_time.as_ref(), view.now)),
        ("took", took(execution)),
        ("cost", human::cost(execution.cost_micro_usd)),
        ("tokens", tokens(execution)),
        ("source", source(execution)),
        ("effect", word::<Effect>(execution.effect)),
        ("agent", execution.agent_id.clone()),
        ("task", execution.task_id.clone()),
        ("request", execution.request_id.clone()),
        ("selection", execution.selection_id.clone()),
        ("decision", execution.decision_id.clone()),
        ("access request", execution.access_request_id.clone()),
        ("trace", execution.trace_id.clone()),
        ("tool digest", execution.tool_digest.clone()),
    ];
    rows.extend(turn(execution, view));
    rows.push(("arguments", json::pretty(&execution.arguments_json)));
    rows.push(("result", json::pretty(&execution.result_json)));
    let mut parts = vec![details(&rows, view)];
    if !execution.warnings.is_empty() {
        let lines = violations(&execution.warnings, view.style).join("\n");
        let head = view.style.paint("the result breaks its schema:", Tone::Warn);
        parts.push(human::visible_but_colours(&format!("{head}\n{lines}")));
    }
    if let Some(error) = &execution.error {
        parts.push(human::visible_but_colours(&error_text(error, view.style)));
    }
    if !execution.attempts.is_empty() {
        parts.push(format!("\n{}", attempts(&execution.attempts, view)));
    }
    parts.join("\n")
}

/// What only a call has that was to run later.
fn turn(execution: &Execution, view: View) -> Vec<(&'static str, String)> {
    if !execution.asynchronous {
        return Vec::new();
    }
    let moment = |time: Option<&prost_types::Timestamp>| {
        time.map_or_else(String::new, |time| human::moment_in_full(Some(time), view.now))
    };
    vec![
        ("priority", execution.priority.to_string()),
        ("not before", moment(execution.not_before.as_ref())),
        ("ran from", moment(execution.start_time.as_ref())),
        ("deliveries", execution.deliveries.to_string()),
    ]
}

fn tokens(execution: &Execution) -> String {
    let Some(tokens) = execution.tokens.as_ref() else { return String::new() };
    if tokens.input_tokens + tokens.output_tokens == 0 {
        return String::new();
    }
    format!("{} in, {} out", tokens.input_tokens, tokens.output_tokens)
}

fn attempts(attempts: &[Attempt], view: View) -> String {
    let mut table =
        Table::new(&["TRY", "KIND", "TOOL", "AFTER", "TOOK", "FAILED WITH", "REACHED"]).whole(&[2]);
    for attempt in attempts {
        let backoff =
            if attempt.backoff_ms > 0.0 { human::duration(attempt.backoff_ms) } else { String::new() };
        let (failed, reached) = match &attempt.error {
            None => (toned("succeeded", Tone::Good), String::new()),
            Some(error) => (toned(failed_with(error), Tone::Bad), word::<Reached>(error.reached)),
        };
        table.row(vec![
            number(attempt.number.to_string()),
            cell(word::<AttemptKind>(attempt.kind)),
            cell(format!("{} {}", attempt.tool_name, attempt.tool_version)),
            number(backoff),
            number(human::duration(attempt.duration_ms)),
            failed,
            cell(reached),
        ]);
    }
    table.render(view, "no attempts")
}

/// A failure on one line.
pub fn failed_with(error: &ToolError) -> String {
    format!("{}: {}", word::<ToolErrorCode>(error.code), human::clip(&error.message, 120))
}

fn violations(violations: &[SchemaViolation], style: Style) -> Vec<String> {
    let line = |violation: &SchemaViolation| {
        let place = if violation.pointer.is_empty() { "the whole" } else { &violation.pointer };
        let rule = style.paint(&format!("({})", violation.schema_pointer), Tone::Dim);
        format!("  {place}: {} {rule}", violation.message)
    };
    violations.iter().map(line).collect()
}

/// A tool's failure with every violation.
pub fn error_text(error: &ToolError, style: Style) -> String {
    let head = style.paint(&format!("{}:", word::<ToolErrorCode>(error.code)), Tone::Bad);
    let mut lines = vec![format!("{head} {}", error.message)];
    lines.extend(violations(&error.violations, style));
    if error.retryable {
        let after = f64::from(i32::try_from(error.retry_after_ms).unwrap_or(i32::MAX));
        let when = if error.retry_after_ms > 0 { human::duration(after) } else { "a while".into() };
        lines.push(style.paint(&format!("  trying again after {when} may help"), Tone::Dim));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use proto::executor::v1::TokenUsage;

    use super::*;

    fn view() -> View {
        View { style: Style { colour: false }, width: None, now: chrono::Utc::now() }
    }

    fn failure() -> ToolError {
        let violation = SchemaViolation {
            pointer: "/rows/0".into(),
            message: "is no number".into(),
            schema_pointer: "/properties/rows/items/type".into(),
        };
        ToolError {
            code: ToolErrorCode::InvalidResult as i32,
            message: "the result breaks the schema".into(),
            violations: vec![violation],
            retryable: true,
            retry_after_ms: 1_500,
            reached: Reached::Maybe as i32,
        }
    }

    #[test]
    fn a_failure_tells_code_message_violations_and_when_to_retry() {
        let failed = Execution {
            id: "e-1".into(),
            tool_name: "adder".into(),
            status: ExecutionStatus::Failed as i32,
            arguments_json: "{\"id\":9007199254740993}".into(),
            error: Some(failure()),
            ..Execution::default()
        };
        let text = page(&failed, view());
        for part in [
            "invalid_result: the result breaks the schema",
            "/rows/0: is no number (/properties/rows/items/type)",
            "after 1.5s may help",
            "\"id\": 9007199254740993",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("priority") && !text.contains("tokens") && !text.contains("source"), "{text}");
    }

    #[test]
    fn attempts_are_a_table_and_the_answer_tells_where_it_comes_from() {
        let attempt = |number, kind: AttemptKind, backoff_ms, error| Attempt {
            number,
            kind: kind as i32,
            tool_name: "adder".into(),
            tool_version: "1.0.0".into(),
            start_time: None,
            duration_ms: 12.0,
            backoff_ms,
            error,
        };
        let execution = Execution {
            attempts: vec![
                attempt(1, AttemptKind::First, 0.0, Some(failure())),
                attempt(2, AttemptKind::Retry, 250.0, None),
            ],
            tokens: Some(TokenUsage { input_tokens: 7, output_tokens: 2 }),
            warnings: failure().violations,
            asynchronous: true,
            priority: -3,
            source: Source::StaleCache as i32,
            cache_age_ms: 90_000,
            ..Execution::default()
        };
        let text = page(&execution, view());
        let squeezed: Vec<_> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "1 first adder 1.0.0 - 12ms invalid_result: the result breaks the schema maybe",
            "2 retry adder 1.0.0 250ms 12ms succeeded -",
            "tokens 7 in, 2 out",
            "source stale_cache, 1m30s old",
            "priority -3",
            "/rows/0: is no number (/properties/rows/items/type)",
        ] {
            assert!(squeezed.iter().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
