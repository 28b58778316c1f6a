//! Records what became of executions: each outcome once, however often it is delivered.

use super::Ledger;
use crate::{Error, selections::Selections, store::OutcomeRow};

/// Most outcomes in one request.
const MAX_OUTCOMES: usize = 1_000;

/// Records what is new, in one transaction, and gives its number.
pub(crate) async fn record(
    (ledger, selections): (&Ledger, &Selections),
    outcomes: Vec<OutcomeRow>,
) -> Result<i64, Error> {
    if outcomes.len() > MAX_OUTCOMES {
        let description = format!("has {} outcomes; at most {MAX_OUTCOMES} are taken", outcomes.len());
        return Err(Error::invalid("outcomes", description));
    }
    if outcomes.is_empty() {
        return Ok(0);
    }
    if outcomes.iter().any(|outcome| outcome.selection_id.is_some()) {
        selections.written().await;
    }
    Ok(ledger.record(outcomes).await?)
}
