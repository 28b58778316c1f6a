//! What the use of tools looks like: which follows which, when they are used, what fails together, and what could be
//! done about it. Tells; must never change how a tool is run or ranked.

mod clusters;
mod sequences;
mod steps;
mod suggest;
mod usage;

use std::collections::HashMap;

use ::store::Error;

pub(crate) use clusters::{Cluster, Failures};
pub(crate) use sequences::{Made, Sequences, TeamSequences};
pub(crate) use suggest::{Kind as SuggestionKind, Suggestion};
pub(crate) use usage::{Asked, HourlyUse, Transition, usage};

use crate::store::{
    Connection, OutcomeRow,
    patterns::{self as table, TransitionRow},
};

/// Writes what these outcomes, none of which came before, say of patterns, in the transaction that they are written in.
/// Gives the transitions as they are now, for [`Sequences::put`] once that is committed.
pub(crate) async fn write(
    connection: &mut Connection,
    outcomes: &[&OutcomeRow],
) -> Result<Vec<TransitionRow>, Error> {
    table::repeats_add(connection, outcomes).await?;
    let tasks = steps::tasks(outcomes);
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let traces = table::traces_lock(connection, &tasks).await?;
    let mut known: HashMap<_, _> = traces.into_iter().map(|trace| (trace.task.clone(), trace)).collect();
    let steps = steps::follow(&mut known, outcomes);
    let mut traces: Vec<_> = known.into_values().collect();
    traces.sort_unstable_by(|left, right| left.task.cmp(&right.task));
    table::traces_put(connection, &traces).await?;
    table::transitions_add(connection, &steps).await
}
