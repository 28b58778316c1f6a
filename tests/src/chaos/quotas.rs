//! A limit on calls over three processes of permissions, each with an executor and an edge of its own, on one database
//! and one Redis: far more callers at once than it lets through, and not one more gets through.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proto::{
    executor::v1::{ExecutionStatus, Reached},
    permissions::v1::{Grant, ListGrantsRequest},
};
use rpc::{ErrorReason, reason_of};
use serde_json::json;
use testkit::RedisServer;
use tokio::task::JoinSet;
use tonic::Request;

use super::{Crew, Plan, Report};
use crate::{Client, HttpTool, Upstream, request};

/// The tool.
const TOOL: &str = "scarce";
/// The agent.
const AGENT: &str = "caller";
/// Processes of each kind.
const PROCESSES: usize = 3;
/// Within this time a call is answered or asked again.
const ASK_AGAIN: Duration = Duration::from_secs(20);
/// After this time a call is given up, which none may be.
const GIVE_UP: Duration = Duration::from_mins(3);
/// Longest pause before a call is asked again; callers take turns in it.
const PAUSE: Duration = Duration::from_secs(1);

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Rush {
    /// Callers at once, of one call each.
    pub callers: usize,
    /// Calls that the limit lets through.
    pub limit: usize,
    /// Whether Redis is restarted, empty, and an executor is killed while they call.
    pub with_deaths: bool,
}

/// What callers were told.
#[derive(Debug, Default)]
struct Told {
    ended: BTreeMap<&'static str, usize>,
    again: BTreeMap<String, usize>,
}

/// Runs it.
pub async fn quotas_are_exact(rush: Rush) -> Report {
    let mut report = Report::of("quotas are exact");
    let redis: RedisServer = testkit::redis().await;
    let plan = Plan {
        executors: PROCESSES,
        // A thousand callers are no neighbours for other scenarios.
        durable: true,
        redis: vec![redis.url()],
        permissions_everywhere: true,
        lease: Some(Duration::from_secs(15)),
    };
    let crew = Crew::start(&plan).await;
    let upstream = Upstream::start().await;
    let mut tool = HttpTool::new(TOOL, upstream.url("/echo"));
    tool.definition.rate_limit_per_minute = 1_000_000;
    crew.admin.register(tool).await;
    let limits = Grant { max_total: i64::try_from(rush.limit).unwrap(), ..Grant::default() };
    let doors = crew.agent(AGENT, &[TOOL], &limits).await;

    let told = Arc::<Mutex<Told>>::default();
    let mut callers = JoinSet::new();
    for number in 0..rush.callers {
        let (doors, told) = (doors.clone(), Arc::clone(&told));
        callers.spawn(async move { call_on(number, &doors, &told).await });
    }
    if rush.with_deaths {
        // In the middle: some have passed, and not all.
        while upstream.count() < rush.limit / 4 && !callers.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        crew.executors[0].kill();
        redis.kill();
        crew.executors[0].start();
        redis.restart().await;
        report.kills = 2;
    }
    while callers.join_next().await.is_some() {}

    let told = std::mem::take(&mut *told.lock().unwrap());
    check(rush, &crew, &upstream, &told, &mut report).await;
    for door in &doors {
        let answer = door.try_call(TOOL, json!({})).await;
        let reason = answer.as_ref().map_err(reason_of);
        report.check(
            reason.as_ref().is_err_and(|reason| *reason == Some(ErrorReason::QuotaExhausted)),
            format!("a call after all of them: {answer:?}"),
        );
    }
    for (refusal, count) in told.again {
        report.note(format!("{count} refusals, asked again: {refusal}"));
    }
    report
}

/// One call, under one request id, until it is made or the limit refuses it.
async fn call_on(number: usize, doors: &[Client], told: &Mutex<Told>) {
    let (began, mut door) = (Instant::now(), number);
    let word = loop {
        let call = request(TOOL, json!({ "number": number }));
        let mut call = Request::new(proto::executor::v1::ExecuteRequest {
            request_id: format!("call-{number}"),
            ..call
        });
        call.set_timeout(ASK_AGAIN);
        match doors[door % doors.len()].executor().execute(call).await {
            Ok(answer) => {
                let execution = answer.into_inner().execution.unwrap();
                break match execution.status() {
                    ExecutionStatus::Succeeded => "succeeded",
                    ExecutionStatus::UnknownOutcome => "unknown",
                    // Held back by an executor that took itself for dead: its place was given back.
                    ExecutionStatus::Failed
                        if execution.error.as_ref().is_some_and(|error| error.reached() == Reached::No) =>
                    {
                        "not begun"
                    }
                    other => {
                        again(told, format!("ended as {other:?}: {:?}", execution.error));
                        "ended otherwise"
                    }
                };
            }
            Err(status) if reason_of(&status) == Some(ErrorReason::QuotaExhausted) => break "refused",
            Err(status) => again(told, format!("{:?}: {}", status.code(), status.message())),
        }
        if began.elapsed() > GIVE_UP {
            break "given up";
        }
        door += 1;
        let turn = u32::try_from(number % 10).unwrap() + 1;
        tokio::time::sleep(PAUSE * turn / 10).await;
    };
    *told.lock().unwrap().ended.entry(word).or_default() += 1;
}

fn again(told: &Mutex<Told>, why: String) {
    *told.lock().unwrap().again.entry(why).or_default() += 1;
}

async fn check(rush: Rush, crew: &Crew, upstream: &Upstream, told: &Told, report: &mut Report) {
    let ended = |word: &str| told.ended.get(word).copied().unwrap_or_default();
    let (passed, hits) = (ended("succeeded"), upstream.count());
    report.calls = passed;
    let filter = ListGrantsRequest { agent_id: AGENT.into(), ..ListGrantsRequest::default() };
    let grants = crew.admin.permissions().list_grants(filter).await.unwrap().into_inner().grants;
    let used = grants.iter().map(|grant| grant.used_total).sum::<i64>();
    report.check(used == i64::try_from(rush.limit).unwrap(), format!("{used} places are taken: {told:?}"));
    report.check(hits <= rush.limit, format!("{hits} calls reached the tool"));
    report.twice = hits.saturating_sub(rush.limit);
    report.check(ended("given up") == 0, format!("calls without an answer: {told:?}"));
    report.check(ended("ended otherwise") == 0, format!("calls with another end: {told:?}"));
    let all: usize = told.ended.values().sum();
    report.check(all == rush.callers, format!("{all} of {} callers came back", rush.callers));
    if rush.with_deaths {
        // A place of which nobody knows whether it was used stays taken: a call that was cut off, or one that was
        // decided and not begun.
        let unknown = ended("unknown");
        report.check(passed + unknown <= rush.limit, format!("more than the limit: {told:?}"));
        report.check(hits >= passed, format!("{passed} succeeded, {hits} reached the tool"));
        report.note(format!("{passed} succeeded, {unknown} are not known, {hits} reached the tool"));
    } else {
        report.check((passed, hits) == (rush.limit, rush.limit), format!("{hits} hits: {told:?}"));
        let others = ended("refused") + ended("not begun");
        report.check(others == rush.callers - rush.limit, format!("{told:?}"));
    }
}
