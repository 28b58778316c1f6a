//! What health tells of the comparison, from the database: any process can say it.

use std::time::Duration;

use ::store::Database;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::{
    Error,
    store::{self, FindingRow},
};

/// Findings that health shows.
const SHOWN: i64 = 100;
/// How long the executor may be away before it is said.
const PATIENCE: TimeDelta = TimeDelta::minutes(5);

/// How far it is, and what was found.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Executions made before this time were compared; `None`: none yet.
    pub until_time: Option<DateTime<Utc>>,
    /// So many.
    pub executions: i64,
    /// Open findings, newest first.
    pub findings: Vec<FindingRow>,
    /// How many there are.
    pub open: i64,
    /// What needs somebody, a sentence each.
    pub faults: Vec<String>,
}

/// How the comparison of a team stands, where a turn comes every `interval`.
pub(crate) async fn standing(
    database: &Database,
    team: &str,
    interval: Duration,
    now: DateTime<Utc>,
) -> Result<Standing, Error> {
    let pool = database.pool()?;
    let (findings, open) = store::findings_list(pool, team, SHOWN).await?;
    let own = store::watermark_get(pool, team).await?;
    let mut faults = Vec::new();
    if open > 0 {
        faults.push(format!(
            "executions and trail do not agree in {open} places: see the findings, and `toolcrib audit reconcile`"
        ));
    }
    let patience = PATIENCE + TimeDelta::from_std(interval).unwrap_or_default();
    let late = store::watermark_get(pool, "").await?.filter(|turn| now - turn.reconcile_time > patience);
    if let Some(turn) = late {
        let (at, why) = (turn.reconcile_time.to_rfc3339_opts(SecondsFormat::Secs, true), turn.failure);
        let why = if why.is_empty() { "the turn since then has not come to its end".to_owned() } else { why };
        faults.push(format!("executions were last compared with the trail at {at}: {why}"));
    }
    Ok(Standing {
        until_time: own.as_ref().map(|own| own.until_time),
        executions: own.map_or(0, |own| own.executions),
        findings,
        open,
        faults,
    })
}
