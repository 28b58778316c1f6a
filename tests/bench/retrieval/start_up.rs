//! How long a selector takes until it finds ten thousand tools by all it has, cold and with their vectors persisted, and
//! what that weighs in memory.

use std::{fs, time::Instant};

use serde::Serialize;
use tests::retrieval::Stand;

use crate::{crowd, progress::Progress};

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct StartUp {
    pub tools: usize,
    /// Every vector made.
    pub cold_s: f64,
    /// Every vector read back from the database.
    pub persisted_s: f64,
    /// Until the first selection is answered, by words alone if need be, from the start with vectors persisted.
    pub first_answer_s: f64,
    /// What the service says its index and vectors take.
    pub index_mib: f64,
    /// Resident memory of this process, before anything and at the end.
    pub before_mib: f64,
    pub after_mib: f64,
}

/// The team that has a crowd of this size.
pub fn team(tools: usize) -> String {
    format!("crowd of {tools}")
}

/// Starts twice on a database of its own, and leaves the second selector running.
pub async fn measure(tools: usize, progress: &Progress) -> (StartUp, Stand) {
    let before_mib = resident_mib();
    let database = testkit::database(&[selector::schema()]).await;
    let (team, crowd) = (team(tools), crowd::tools(tools));
    progress.begin(format!("{tools} tools, cold"), tools);
    let begun = Instant::now();
    let stand = Stand::start(&database, "full").await;
    stand.add(&team, &crowd);
    watch(&stand, &team, tools, progress).await;
    let cold_s = begun.elapsed().as_secs_f64();
    stand.stop().await;
    progress.begin(format!("{tools} tools, vectors persisted"), tools);
    let begun = Instant::now();
    let stand = Stand::start(&database, "full").await;
    stand.add(&team, &crowd);
    stand.select(&team, "first", "approve an invoice").await;
    let first_answer_s = begun.elapsed().as_secs_f64();
    let health = watch(&stand, &team, tools, progress).await;
    let persisted_s = begun.elapsed().as_secs_f64();
    let index_mib = health as f64 / (1_024.0 * 1_024.0);
    let after_mib = resident_mib();
    (StartUp { tools, cold_s, persisted_s, first_answer_s, index_mib, before_mib, after_mib }, stand)
}

/// Waits until every vector is there; gives the bytes of the index.
async fn watch(stand: &Stand, team: &str, tools: usize, progress: &Progress) -> i64 {
    let tell = async {
        loop {
            let health = stand.health(team).await;
            progress.at(usize::try_from(health.vectors).unwrap_or_default());
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        health = stand.ready(team, tools) => health.index_bytes,
        () = tell => unreachable!("it never ends"),
    }
}

/// `VmRSS` of this process (proc(5)), in MiB.
fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1_024.0
}
