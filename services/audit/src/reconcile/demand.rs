//! The comparison on demand: of one team, from a time on, as far as the caller waits for it. Moves no watermark: the next
//! turn goes on where the last one ended.

use chrono::{DateTime, TimeDelta, Utc};

use super::{PAGE, Reconciler, floor_at};
use crate::{
    Error,
    peers::Range,
    store::{self, FindingRow},
};

/// Most findings that are told.
const MAX_FINDINGS: i64 = 1_000;
/// How much earlier than its event a record's id may seem, by clocks that differ.
const SKEW: TimeDelta = TimeDelta::minutes(10);

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Reconciled {
    /// Executions compared.
    pub executions: i64,
    /// Their events.
    pub events: i64,
    /// Findings that are open, newest first.
    pub findings: Vec<FindingRow>,
}

/// Compares now, page by page. What is younger than the grace is left to the next turn.
pub(crate) async fn reconcile(
    reconciler: &Reconciler,
    team: &str,
    start: Option<DateTime<Utc>>,
) -> Result<Reconciled, Error> {
    let pool = reconciler.database.pool()?;
    // Of earlier ones records are missing rightly.
    let kept = store::records_kept_since(pool, team).await?.unwrap_or(DateTime::UNIX_EPOCH);
    let from = start.unwrap_or(DateTime::UNIX_EPOCH).max(kept);
    let mut done = Reconciled::default();
    reconciler.explain(team).await?;
    let mut range = Range { after: None, from, to: Utc::now() - reconciler.grace };
    let mut more = from < range.to;
    while more {
        let (intents, rest) = reconciler.peers.intents(team, &range, PAGE).await?;
        let compared = reconciler.compare(team, &intents).await?;
        reconciler.note(team, &compared.found).await?;
        done.executions += i64::try_from(intents.len()).unwrap_or(0);
        done.events += compared.events;
        range.after = intents.last().map(|last| last.id);
        more = rest && range.after.is_some();
    }
    let first = store::position_before(pool, team, (from - SKEW).max(DateTime::UNIX_EPOCH)).await?;
    let mut at = first;
    while let Some(after) = at {
        at = reconciler.known(team, after).await?;
    }
    reconciler.tell().await?;
    let (findings, _) = store::findings_list(pool, team, MAX_FINDINGS).await?;
    let least = floor_at(from);
    done.findings = findings.into_iter().filter(|finding| finding.execution_id >= least).collect();
    Ok(done)
}
