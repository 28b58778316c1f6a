//! Executors are killed at random while they work: nothing accepted is lost, and nothing is done twice.

use std::time::{Duration, Instant};

use proto::permissions::v1::{Grant, SetBudgetRequest};

use super::{
    Crew, Plan, Progress, Report,
    crew::random,
    load::{self, ACT, LOOK, Load},
    records,
};
use crate::Upstream;

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Calls that are made.
    pub calls: usize,
    /// Callers at once.
    pub callers: usize,
    /// Pause between two kills.
    pub pause: Duration,
    /// Whether commits reach the disk.
    pub durable: bool,
}

/// Runs it with three executors.
pub async fn executors_die(size: Size, progress: Progress<'_>) -> Report {
    let mut report = Report::of("executors die");
    let crew = Crew::start(&Plan { executors: 3, durable: size.durable, ..Plan::default() }).await;
    let upstream = Upstream::start().await;
    for tool in [LOOK, ACT] {
        crew.admin.register(load::tool(tool, upstream.url("/slow"))).await;
    }
    let budget = SetBudgetRequest { daily_micro_usd: 1_000_000_000 };
    crew.admin.permissions().set_budget(budget).await.unwrap();
    let limits = Grant { max_per_hour: 10_000_000, ..Grant::default() };
    let doors = crew.agent("caller", &[LOOK.0, ACT.0], &limits).await;

    let load = Load::new(doors, size.calls);
    let mut callers = load.start(size.callers);
    let work = async { while callers.join_next().await.is_some() {} };
    tokio::pin!(work);
    loop {
        tokio::select! {
            () = &mut work => break,
            killed = kill_one(&crew, size.pause) => report.kills += usize::from(killed),
        }
        progress(load.done(), size.calls);
    }
    for executor in &crew.executors {
        executor.wait_until_serving().await;
    }

    records::wait_until_settled(&crew, &mut report).await;
    let (records, tally) = (records::read(&crew).await, load.tally());
    records::check_acknowledged(&records, &tally, &mut report);
    records::check_effects(&records, &upstream, &mut report);
    records::check_books(&crew, &records, &mut report).await;
    records::check_quota(&crew, &records, &mut report).await;
    for (refusal, count) in tally.refusals {
        report.note(format!("{count} refusals, asked again: {refusal}"));
    }
    for error in crew.errors() {
        report.note(format!("logged: {error}"));
    }
    report
}

/// Kills one executor that serves, and starts it again; `false` where less than two did.
async fn kill_one(crew: &Crew, pause: Duration) -> bool {
    let due = Instant::now() + pause;
    tokio::time::sleep_until(due.into()).await;
    let mut serving = Vec::new();
    for executor in &crew.executors {
        if executor.serves().await {
            serving.push(executor);
        }
    }
    if serving.len() < 2 {
        return false;
    }
    let victim = serving[random(serving.len())];
    victim.kill();
    victim.start();
    true
}
