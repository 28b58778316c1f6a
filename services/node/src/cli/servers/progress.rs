//! A line for each server while something is done with all of them at once: drawn anew on a terminal, written once
//! at its end elsewhere. Must never hold up the work.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use proto::registry::v1::{Server, ServerState};
use tokio::task::JoinSet;
use tonic::Status;

use super::super::{error::Error, human, output::Output, words::word};

/// What became of one server.
#[derive(Debug)]
pub struct Done {
    /// The server, or why there is none.
    pub outcome: Result<Box<Server>, Status>,
}

/// Does all of it at once, with a line each; the answers are in the order of the names.
pub async fn all<F>(
    work: impl IntoIterator<Item = (String, F)>,
    output: &mut Output,
) -> Result<Vec<Done>, Error>
where
    F: Future<Output = Result<Server, Status>> + Send + 'static,
{
    let lines = MultiProgress::new();
    let mut names = Vec::new();
    let mut tasks = JoinSet::new();
    for (place, (name, work)) in work.into_iter().enumerate() {
        let line = line(&lines, &name);
        names.push(name);
        tasks.spawn(async move {
            let started = Instant::now();
            (place, line, work.await, started.elapsed())
        });
    }
    let mut done: Vec<Option<Done>> = names.iter().map(|_| None).collect();
    while let Some(ended) = tasks.join_next().await {
        let (place, line, outcome, took) = ended.map_err(anyhow::Error::from)?;
        let told = human::visible(&summary(&names[place], &outcome, took));
        line.finish_with_message(told.clone());
        if line.is_hidden() {
            output.note(&told)?;
        }
        done[place] = Some(Done { outcome: outcome.map(Box::new) });
    }
    Ok(done.into_iter().flatten().collect())
}

fn line(lines: &MultiProgress, name: &str) -> ProgressBar {
    let line = lines.add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed:.dim}") {
        line.set_style(style);
    }
    line.set_message(format!("{}: discovering", human::visible(name)));
    line.enable_steady_tick(Duration::from_millis(120));
    line
}

fn summary(name: &str, outcome: &Result<Server, Status>, took: Duration) -> String {
    let took = human::duration(took.as_secs_f64() * 1_000.0);
    match outcome {
        Ok(server) if server.state == ServerState::Unavailable as i32 => {
            format!("✗ {name}: unavailable: {} ({took})", human::clip(&server.last_error, 200))
        }
        Ok(server) => {
            let state = word::<ServerState>(server.state);
            let waiting = match server.pending_count {
                0 => String::new(),
                count => format!(", {count} wait for approval"),
            };
            format!("✓ {name}: {state}, {} tools{waiting} ({took})", server.tool_count)
        }
        Err(status) => format!("✗ {name}: {} ({took})", human::clip(status.message(), 300)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_became_of_the_server() {
        let took = Duration::from_millis(412);
        let server = |state: ServerState, pending_count| Server {
            state: state.into(),
            tool_count: 2,
            pending_count,
            last_error: "no route".into(),
            ..Server::default()
        };
        let line = |server| summary("time", &Ok(server), took);
        assert_eq!(line(server(ServerState::Healthy, 0)), "✓ time: healthy, 2 tools (412ms)");
        assert_eq!(
            line(server(ServerState::Degraded, 1)),
            "✓ time: degraded, 2 tools, 1 wait for approval (412ms)"
        );
        assert_eq!(line(server(ServerState::Unavailable, 0)), "✗ time: unavailable: no route (412ms)");
        let refused = summary("time", &Err(Status::permission_denied("not allowed")), took);
        assert_eq!(refused, "✗ time: not allowed (412ms)");
    }
}
