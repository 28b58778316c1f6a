//! `toolcrib executions watch`: what happens to an execution, line by line, until it has ended.
//!
//! Every line is handed on at once, and a stream that breaks says where to go on.

use std::time::{Duration, Instant};

use clap::Args;
use proto::executor::v1::{
    Execution, ExecutionStatus, WatchExecutionRequest, WatchExecutionResponse,
    watch_execution_response::Event,
};
use tonic::Code;

use super::{
    call,
    client::Client,
    error::Error,
    execution, human, json,
    output::{Output, Style, Tone},
    words::{execution_tone, word},
};

/// A stream that ended sooner is not taken up again.
const SHORTEST: Duration = Duration::from_secs(1);

/// What to watch.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 succeeded, 1 it ended in any other way, 2 refused, 3 toolcrib cannot be reached."
)]
pub struct WatchArgs {
    /// Its id
    id: String,
    /// Tell only what came after this sequence number
    #[arg(long, value_name = "N", default_value_t, hide_default_value = true,
        value_parser = clap::value_parser!(i64).range(0..))]
    after: i64,
}

/// Runs the command.
pub async fn run(args: WatchArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    follow((args.id, args.after), client, output).await
}

/// Follows an execution, from after a sequence number to its end.
pub async fn follow((id, after): (String, i64), client: &Client, output: &mut Output) -> Result<(), Error> {
    let watch = async |after_sequence| {
        let request = WatchExecutionRequest { id: id.clone(), after_sequence };
        client
            .executor()
            .watch_execution(request)
            .await
            .map(|response| (response.into_inner(), Instant::now()))
    };
    let (mut stream, mut begun) = watch(after).await?;
    let (mut first, mut last, mut ended) = (after, after, None);
    loop {
        match stream.message().await {
            Ok(Some(event)) => {
                last = last.max(event.sequence);
                tell(&event, output)?;
                ended = end(event).or(ended);
            }
            Ok(None) => break,
            // A stream lasts so long and no longer; one that ended at once, without news, would do so again.
            Err(status)
                if status.code() == Code::DeadlineExceeded
                    && (last > first || begun.elapsed() >= SHORTEST) =>
            {
                (stream, begun) = watch(last).await?;
                first = last;
            }
            Err(status) => {
                output.note(&format!("go on with: toolcrib executions watch {id} --after {last}"))?;
                return Err(status.into());
            }
        }
    }
    let Some(execution) = ended else { return Err(Error::incomplete("end of the execution")) };
    if !output.is_json() {
        call::tell(&execution, false, output)?;
    }
    if execution.status == ExecutionStatus::Succeeded as i32 { Ok(()) } else { Err(Error::Failed) }
}

/// The execution once it has ended.
fn end(event: WatchExecutionResponse) -> Option<Execution> {
    match event.event? {
        Event::Status(execution) if has_ended(execution.status) => Some(execution),
        _ => None,
    }
}

fn has_ended(status: i32) -> bool {
    !matches!(
        ExecutionStatus::try_from(status),
        Ok(ExecutionStatus::Unspecified
            | ExecutionStatus::WaitingForApproval
            | ExecutionStatus::Queued
            | ExecutionStatus::Running)
    )
}

fn tell(event: &WatchExecutionResponse, output: &mut Output) -> Result<(), Error> {
    if output.is_json() {
        output.text(&json::of(event)?.to_string())?;
    } else if let Some((kind, tone, text)) = parts(event) {
        output.view(|view| line(event, (kind, tone, &text), view.style))?;
    }
    output.flush()
}

/// Kind, tone and text of an event; `None` for one that says nothing.
fn parts(event: &WatchExecutionResponse) -> Option<(&'static str, Tone, String)> {
    Some(match event.event.as_ref()? {
        Event::Heartbeat(_) => return None,
        Event::Progress(progress) => {
            let share = progress.progress / progress.total;
            let far = if progress.total > 0.0 {
                format!("{} {:.0} %", human::bar(share, 10), share * 100.0)
            } else {
                progress.progress.to_string()
            };
            ("progress", Tone::Plain, format!("{far} {}", progress.message).trim_end().to_owned())
        }
        Event::Log(log) => {
            let logger = if log.logger.is_empty() { String::new() } else { format!("{}: ", log.logger) };
            ("log", log_tone(&log.level), format!("{} {logger}{}", log.level, log.text))
        }
        Event::Attempt(attempt) => {
            let why = attempt.error.as_ref().map(execution::failed_with).unwrap_or_default();
            ("attempt", Tone::Warn, format!("{} of {} failed, {why}", attempt.number, attempt.tool_name))
        }
        Event::Status(execution) => {
            ("status", execution_tone(execution.status), word::<ExecutionStatus>(execution.status))
        }
    })
}

fn log_tone(level: &str) -> Tone {
    match level {
        "debug" => Tone::Dim,
        "warning" => Tone::Warn,
        "error" | "critical" | "alert" | "emergency" => Tone::Bad,
        _ => Tone::Plain,
    }
}

fn line(event: &WatchExecutionResponse, (kind, tone, text): (&str, Tone, &str), style: Style) -> String {
    let time = event.time.as_ref().and_then(human::from_wire).map_or_else(String::new, |time| {
        time.with_timezone(&chrono::Local).format("%H:%M:%S%.3f").to_string()
    });
    let text = human::visible(text).replace('\n', "\n                        ");
    format!("{}  {kind:<8}  {}", style.paint(&time, Tone::Dim), style.paint(&text, tone))
}

#[cfg(test)]
mod tests {
    use proto::executor::v1::{Attempt, Heartbeat, LogLine, Progress, ToolError, ToolErrorCode};

    use super::*;

    fn event(event: Event) -> WatchExecutionResponse {
        WatchExecutionResponse { sequence: 3, event: Some(event), ..WatchExecutionResponse::default() }
    }

    fn told(what: Event) -> Option<(&'static str, String)> {
        parts(&event(what)).map(|(kind, _, text)| (kind, text))
    }

    #[test]
    fn each_event_is_a_line_and_a_heartbeat_none() {
        let progress = Progress { progress: 2.0, total: 5.0, message: "rows".into() };
        assert_eq!(told(Event::Progress(progress)), Some(("progress", "████······ 40 % rows".into())));
        let unknown = Progress { progress: 2.5, total: 0.0, message: String::new() };
        assert_eq!(told(Event::Progress(unknown)), Some(("progress", "2.5".into())));
        let log = LogLine { level: "warning".into(), logger: "db".into(), text: "slow".into() };
        assert_eq!(told(Event::Log(log)), Some(("log", "warning db: slow".into())));
        let code = ToolErrorCode::Unreachable as i32;
        let error = Some(ToolError { code, message: "refused".into(), ..ToolError::default() });
        let attempt = Attempt { number: 1, tool_name: "t".into(), error, ..Attempt::default() };
        let expected = ("attempt", "1 of t failed, unreachable: refused".to_owned());
        assert_eq!(told(Event::Attempt(attempt)), Some(expected));
        assert_eq!(told(Event::Heartbeat(Heartbeat {})), None);
    }

    #[test]
    fn it_ends_with_the_execution_and_not_before() {
        for (status, ends) in [
            (ExecutionStatus::WaitingForApproval, false),
            (ExecutionStatus::Queued, false),
            (ExecutionStatus::Running, false),
            (ExecutionStatus::Succeeded, true),
            (ExecutionStatus::DeadLetter, true),
        ] {
            let execution = Execution { status: status as i32, ..Execution::default() };
            assert_eq!(end(event(Event::Status(execution))).is_some(), ends, "{status:?}");
        }
    }

    #[test]
    fn what_a_tool_says_does_not_steer_the_terminal() {
        let log = LogLine { level: "info".into(), logger: String::new(), text: "a\x1b[2J\nb".into() };
        let event = event(Event::Log(log));
        let (kind, tone, text) = parts(&event).unwrap();
        let line = line(&event, (kind, tone, &text), Style { colour: false });
        assert!(!line.contains('\x1b'), "{line:?}");
    }
}
