//! Records what became of executions: each outcome once, however often it is delivered.

use ::store::Database;

use crate::{
    Error,
    history::History,
    store::{self, OutcomeRow},
};

/// Most outcomes in one request.
const MAX_OUTCOMES: usize = 1_000;

/// Records what is new, in one transaction, and gives its number.
pub(crate) async fn record(
    database: &Database,
    history: &History,
    mut outcomes: Vec<OutcomeRow>,
) -> Result<i64, Error> {
    if outcomes.len() > MAX_OUTCOMES {
        let description = format!("has {} outcomes; at most {MAX_OUTCOMES} are taken", outcomes.len());
        return Err(Error::invalid("outcomes", description));
    }
    if outcomes.is_empty() {
        return Ok(0);
    }
    // In one order for all, so that two requests with the same outcomes do not wait for each other.
    outcomes.sort_by(|left, right| (&left.team_id, left.event_id).cmp(&(&right.team_id, right.event_id)));
    outcomes.dedup_by(|left, right| (&left.team_id, left.event_id) == (&right.team_id, right.event_id));
    let (recorded, rows) = store::outcomes_insert(database.pool()?, &outcomes).await?;
    history.put(rows);
    Ok(recorded)
}
