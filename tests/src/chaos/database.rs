//! The database is killed under load, every process of it at once: what was acknowledged is there afterwards, calls
//! are refused meanwhile, and go on after.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use proto::permissions::v1::Grant;
use serde_json::json;
use tonic::Code;

use super::{
    Crew, Plan, Progress, Report,
    load::{self, ACT, Acknowledged, LOOK, Load},
    records::{self, Record},
};
use crate::{Client, Upstream, eventually};

/// A refusal must come within this time.
const PROMPTLY: Duration = Duration::from_secs(5);
/// PostgreSQL writes commits that nobody waits for within three of its `wal_writer_delay`s of 200 ms (its manual,
/// "Asynchronous Commit"); a busy machine takes longer.
const ASYNCHRONOUS: Duration = Duration::from_secs(3);

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Outages {
    /// How often the database is killed.
    pub kills: usize,
    /// How long it is away each time.
    pub away: Duration,
    /// How long calls are made before each kill.
    pub between: Duration,
}

/// Runs it with two executors.
pub async fn database_dies(outages: Outages, progress: Progress<'_>) -> Report {
    let mut report = Report::of("the database dies");
    let mut crew = Crew::start(&Plan { executors: 2, durable: true, ..Plan::default() }).await;
    let upstream = Upstream::start().await;
    for tool in [LOOK, ACT] {
        crew.admin.register(load::tool(tool, upstream.url("/slow"))).await;
    }
    let doors = crew.agent("caller", &[LOOK.0, ACT.0], &Grant::default()).await;
    let load = Load::new(doors.clone(), usize::MAX);
    let mut callers = load.start(24);
    let mut kills = Vec::new();
    for round in 0..outages.kills {
        let done = load.done();
        tokio::time::sleep(outages.between).await;
        eventually("calls go on", async || (load.done() > done).then_some(())).await;
        kills.push(Instant::now());
        crew.kill_database().await;
        let back = Instant::now() + outages.away;
        for door in &doors {
            check_refused(door, &mut report).await;
        }
        tokio::time::sleep_until(back.into()).await;
        crew.start_database().await;
        progress(round + 1, outages.kills + 1);
    }
    let done = load.done();
    eventually("calls go on after the last kill", async || (load.done() > done + 20).then_some(())).await;
    load.stop();
    while callers.join_next().await.is_some() {}

    report.kills = outages.kills;
    records::wait_until_settled(&crew, &mut report).await;
    let (records, mut tally) = (records::read(&crew).await, load.tally());
    check_outcomes(&records, &tally.acknowledged, &mut report);
    let total = tally.acknowledged.len();
    tally.acknowledged.retain(|call| !is_excusable(call, &records, &kills));
    let gone = total - tally.acknowledged.len();
    report
        .note(format!("{gone} answers of tools that only read, given just before a kill, are not on record"));
    records::check_acknowledged(&records, &tally, &mut report);
    report.calls = total;
    records::check_books(&crew, &records, &mut report).await;
    for (refusal, count) in &tally.refusals {
        report.note(format!("{count} refusals, asked again: {refusal}"));
    }
    for error in crew.errors() {
        report.note(format!("logged: {error}"));
    }
    // A call under way whose own record went down with the database cannot be told how it stands.
    let known = |refusal: &str| refusal.starts_with("Unavailable") || refusal == "Internal: internal error";
    let odd: Vec<_> = tally.refusals.keys().filter(|refusal| !known(refusal)).collect();
    report.check(odd.is_empty(), format!("not only UNAVAILABLE: {odd:?}"));
    report
}

/// While the database is away a call is refused, and soon.
async fn check_refused(door: &Client, report: &mut Report) {
    let answer = tokio::time::timeout(PROMPTLY, door.try_call(LOOK.0, json!({"key": "refused"}))).await;
    let code = answer.map(|answer| answer.map_or_else(|status| status.code(), |_| Code::Ok));
    report.check(code == Ok(Code::Unavailable), format!("while the database is away: {code:?}"));
}

/// A call of a tool that only reads is on record without waiting for the disk: it outlives the death of any process
/// of toolcrib, and not that of the database. A queued one waits.
fn is_excusable(call: &Acknowledged, records: &[Record], kills: &[Instant]) -> bool {
    let queued = call.execution.asynchronous;
    let just_before = |kill: &Instant| call.at <= *kill && *kill - call.at < ASYNCHRONOUS;
    call.execution.tool_name == LOOK.0
        && !queued
        && kills.iter().any(just_before)
        && !records.iter().any(|record| record.id == call.execution.id)
}

/// An answer that told of a side effect is still on record, word for word.
fn check_outcomes(records: &[Record], acknowledged: &[Acknowledged], report: &mut Report) {
    let by_id: HashMap<&str, &Record> = records.iter().map(|record| (record.id.as_str(), record)).collect();
    for call in acknowledged.iter().filter(|call| call.execution.tool_name == ACT.0) {
        let Some(record) = by_id.get(call.execution.id.as_str()) else { continue };
        let told =
            call.execution.status().as_str_name().trim_start_matches("EXECUTION_STATUS_").to_lowercase();
        let held = told == "queued" || told == "running" || told == record.status;
        report.lost += usize::from(!held);
        report.check(held, format!("it was told as {told}: {record:?}"));
    }
}
