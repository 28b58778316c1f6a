//! Tells which calls were accepted and whether they ended, so that the trail can be compared with it. Never says what
//! was asked or answered.

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    Error,
    outcome::Status,
    store::{self, IntentRow},
};

/// Intents in one answer when the caller does not say.
const DEFAULT_PAGE: usize = 1_000;
/// Most intents in one answer.
const MAX_PAGE: usize = 10_000;
/// Most executions that are asked for by id.
pub(crate) const MAX_IDS: usize = 1_000;
/// A call begins no attempt later than this after it began (`rpc`'s longest deadline), one attempt lasts 5 minutes at
/// most, and a process that died is missed within its lease: nothing runs longer by its own limits.
const LONGEST: TimeDelta = TimeDelta::minutes(15);

/// Which intents.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Empty: the teams are asked for.
    pub team: String,
    pub after: Option<Uuid>,
    /// From when on; `None`: from the first.
    pub from: Option<DateTime<Utc>>,
    pub to: DateTime<Utc>,
    /// Of these alone, where there are any.
    pub ids: Vec<Uuid>,
    pub page_size: i32,
}

/// What is told.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub intents: Vec<IntentRow>,
    pub more: bool,
    pub teams: Vec<String>,
}

/// The intents that were asked for.
pub(crate) async fn list(database: &Database, asked: &Asked) -> Result<Listed, Error> {
    let (pool, from) = (database.pool()?, asked.from.unwrap_or(DateTime::UNIX_EPOCH));
    if asked.team.is_empty() {
        return Ok(Listed {
            teams: store::intents_teams(pool, (from, asked.to)).await?,
            ..Listed::default()
        });
    }
    if !asked.ids.is_empty() {
        let intents = store::intents_get(pool, &asked.team, &asked.ids).await?;
        return Ok(Listed { intents, ..Listed::default() });
    }
    let page = match usize::try_from(asked.page_size) {
        Ok(0) | Err(_) => DEFAULT_PAGE,
        Ok(size) => size.min(MAX_PAGE),
    };
    let limit = i64::try_from(page + 1).unwrap_or(i64::MAX);
    let mut intents = store::intents_list(pool, &asked.team, asked.after, (from, asked.to), limit).await?;
    let more = intents.len() > page;
    intents.truncate(page);
    Ok(Listed { intents, more, teams: Vec::new() })
}

/// Whether an outcome is on record.
pub(crate) fn has_ended(intent: &IntentRow) -> bool {
    Status::is_terminal(&intent.status)
}

/// Until when a running call may go on; `None`: it waits, or has ended.
pub(crate) fn latest_end(intent: &IntentRow) -> Option<DateTime<Utc>> {
    let runs = intent.status == Status::Running.as_str();
    runs.then(|| intent.start_time.unwrap_or(intent.create_time) + LONGEST)
}
