//! An executor is frozen in the middle of its calls until it is taken for dead, and comes back: whatever it still
//! writes touches no row, and it makes no further attempt.

use std::collections::HashMap;

use proto::{
    executor::v1::{ExecuteResponse, Execution, StartExecutionRequest},
    permissions::v1::Grant,
    types::v1::Effect,
};
use serde_json::json;
use tokio::task::JoinHandle;
use tonic::Status;

use super::{
    Crew, Plan, Report,
    turns::{Reply, Turns},
};
use crate::{Client, HttpTool, eventually, request};

/// A call that waits for an answer; to be closed.
const WAITING: &str = "waiting";
/// A call that will be told to come again; to be closed, and never made again.
const BUSY: &str = "busy";
/// A queued call that must not be made twice; to be closed.
const QUEUED: &str = "queued";
/// A queued call that may; the other process makes it again.
const REPEATABLE: &str = "repeatable";
/// All of them, with the effect of each.
const TOOLS: [(&str, Effect); 4] = [
    (WAITING, Effect::SideEffect),
    (BUSY, Effect::SideEffect),
    (QUEUED, Effect::SideEffect),
    (REPEATABLE, Effect::Idempotent),
];
/// What the executor logs of a write that touched nothing.
const FENCED: &str = "outcome touched no row";

/// Runs it with two executors; the second one starts when the first is frozen.
pub async fn frozen_executor_is_fenced() -> Report {
    let mut report = Report::of("a frozen executor is fenced");
    let crew = Crew::start_with_one(&Plan { executors: 2, ..Plan::default() }).await;
    let turns = Turns::start().await;
    for (name, effect) in TOOLS {
        let mut tool = HttpTool::new(name, turns.url(name));
        tool.definition.effect = effect.into();
        crew.admin.register(tool).await;
    }
    let tools = TOOLS.map(|(name, _)| name);
    let client = crew.agent("caller", &tools, &Grant::default()).await.remove(0);
    let waiting = [WAITING, BUSY].map(|tool| execute(&client, tool));
    for tool in [QUEUED, REPEATABLE] {
        start(&client, tool).await;
    }
    for tool in tools {
        turns.wait_for(tool, 1).await;
    }

    let [old, new] = &crew.executors[..] else { unreachable!("two executors") };
    old.freeze();
    new.start();
    report.kills = 1;
    report.calls = TOOLS.len();
    for tool in [WAITING, BUSY, QUEUED] {
        eventually(&format!("{tool} is closed"), async || {
            (field(&crew, tool, "status").await == "unknown_outcome").then_some(())
        })
        .await;
    }
    turns.wait_for(REPEATABLE, 2).await;
    let mut before = HashMap::new();
    for tool in tools {
        before.insert(tool, row(&crew, tool).await);
    }

    // The answers to the old process are there when it comes back; that to the new one is not.
    for tool in [WAITING, QUEUED, REPEATABLE] {
        turns.give(tool, 1, Reply::Done);
    }
    turns.give(BUSY, 1, Reply::Busy);
    old.thaw();
    for tool in tools {
        let id = field(&crew, tool, "id").await;
        eventually(&format!("the late write of {tool} is fenced off"), async || {
            let fenced = old.log().lines().any(|line| line.contains(FENCED) && line.contains(&id));
            // One that is not will never say so: what was written instead is told below.
            let went_on = turns.arrived(tool) > most(tool) || row(&crew, tool).await != before[tool];
            (fenced || went_on).then_some(())
        })
        .await;
    }
    check_untouched(&crew, &turns, &before, &mut report).await;
    // An attempt that should not be ends all the same.
    turns.give(BUSY, 2, Reply::Done);
    for call in waiting {
        let answer = call.await.unwrap();
        report.check(answer.is_err(), format!("the old process gave an answer of its own: {answer:?}"));
    }

    turns.give(REPEATABLE, 2, Reply::Done);
    eventually("the call made again has ended", async || {
        (field(&crew, REPEATABLE, "status").await == "succeeded").then_some(())
    })
    .await;
    let result = field(&crew, REPEATABLE, "result_json").await;
    report.check(result == r#"{"turn":2}"#, format!("it is not the new process's answer: {result}"));
    report
}

async fn check_untouched(crew: &Crew, turns: &Turns, before: &HashMap<&str, String>, report: &mut Report) {
    for (tool, before) in before {
        let after = row(crew, tool).await;
        report.lost += usize::from(after != *before);
        report.check(after == *before, format!("{tool} was written to:\n{before}\n{after}"));
        let attempts = turns.arrived(tool);
        report.twice += usize::from(attempts > most(tool));
        report.check(attempts == most(tool), format!("{tool}: {attempts} attempts"));
    }
}

/// Attempts of all processes together.
fn most(tool: &str) -> usize {
    if tool == REPEATABLE { 2 } else { 1 }
}

fn execute(client: &Client, tool: &'static str) -> JoinHandle<Result<ExecuteResponse, Status>> {
    let client = client.clone();
    tokio::spawn(async move { client.execute(request(tool, json!({}))).await })
}

async fn start(client: &Client, tool: &str) -> Execution {
    let start = StartExecutionRequest { call: Some(request(tool, json!({}))), ..Default::default() };
    client.executor().start_execution(start).await.unwrap().into_inner().execution.unwrap()
}

/// A column of the one execution of a tool.
async fn field(crew: &Crew, tool: &str, column: &str) -> String {
    let query = format!("SELECT {column}::text FROM executor.execution WHERE tool_name = '{tool}'");
    crew.texts(&query).await.pop().unwrap_or_default()
}

/// The whole row.
async fn row(crew: &Crew, tool: &str) -> String {
    let query = format!("SELECT to_jsonb(e)::text FROM executor.execution e WHERE tool_name = '{tool}'");
    crew.texts(&query).await.pop().unwrap_or_default()
}
