//! Many calls with one request id at once, over every process: one effect, and one answer for all.

use proto::{executor::v1::ExecuteRequest, permissions::v1::Grant};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Crew, Plan, Progress, Report, load};
use crate::{Upstream, request};

/// Calls of one id at once.
const CALLS: usize = 100;

/// Runs it with three executors, with so many ids.
pub async fn one_request_id(rounds: usize, progress: Progress<'_>) -> Report {
    let mut report = Report::of("one request id");
    let crew = Crew::start(&Plan { executors: 3, ..Plan::default() }).await;
    let upstream = Upstream::start().await;
    crew.admin.register(load::tool(load::ACT, upstream.url("/slow"))).await;
    let limits = Grant { max_per_hour: 1_000_000, ..Grant::default() };
    let doors = crew.agent("caller", &[load::ACT.0], &limits).await;
    for round in 0..rounds {
        let mut calls = JoinSet::new();
        for number in 0..CALLS {
            let (door, id) = (doors[number % doors.len()].clone(), format!("round-{round}"));
            let call = ExecuteRequest { request_id: id, ..request(load::ACT.0, json!({"key": round})) };
            calls.spawn(async move { door.execute(call).await });
        }
        let answers = calls.join_all().await;
        report.calls += answers.len();
        let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        report.check(refused.is_empty(), format!("{} are refused: {:?}", refused.len(), refused.first()));
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        let replayed = answers.iter().filter(|answer| answer.replayed).count();
        report.check(replayed + 1 == CALLS, format!("{replayed} are replayed or joined"));
        let first = answers.first().and_then(|answer| answer.execution.clone());
        let other = answers.iter().find(|answer| answer.execution != first);
        report.check(other.is_none(), format!("two answers:\n{first:?}\n{other:?}"));
        let effects = upstream.hits().len();
        report.twice += effects.saturating_sub(round + 1);
        report.check(effects == round + 1, format!("{effects} effects in {} rounds", round + 1));
        progress(round + 1, rounds);
    }
    let rows = crew.number("SELECT count(*) FROM executor.execution").await;
    report.check(usize::try_from(rows) == Ok(rounds), format!("{rows} executions in {rounds} rounds"));
    let taken = "SELECT count(*) FROM permissions.reservation WHERE state IN ('reserved', 'committed')";
    let settled = crate::eventually("every place but one is given back", async || {
        let taken = crew.number(taken).await;
        (taken <= rows).then_some(taken)
    })
    .await;
    report.check(settled == rows, format!("{settled} places for {rows} executions"));
    report
}
