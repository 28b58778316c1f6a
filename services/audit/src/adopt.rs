//! Moves events that older processes wrote in the clear into sealed records, with the positions that they have. Runs in
//! the process that sequences, at the start of each of its turns, until nothing is left. Must never leave a position
//! out: an event whose id stands in the trail already, since two versions were sent it, gets an id of its own.

use std::collections::HashSet;

use ::rpc::ServiceError as _;
use trail::Payload;
use uuid::Uuid;

use crate::{
    Error,
    payload::{Draft, micros},
    store::{self, Connection, OldEventRow, RecordRow},
    subjects::Subjects,
};

/// Events of one transaction.
const BATCH: i64 = 1_000;
/// Teams of one turn.
const TEAMS: i64 = 16;

/// Moves some events, the oldest of each team first; gives how many.
pub(crate) async fn adopt_some(connection: &mut Connection, subjects: &Subjects) -> Result<usize, Error> {
    let mut moved = 0;
    for team in store::old_teams(connection, TEAMS).await? {
        match adopt_of(connection, subjects, &team).await {
            Ok(of_team) => moved += of_team,
            // One team's key keeps nobody else's events back.
            Err(error) if error.kind() == types::Kind::Internal => {
                tracing::warn!(team, %error, "events of an older version cannot be moved over");
            }
            Err(error) => return Err(error),
        }
    }
    if moved > 0 && store::old_events_clear(connection).await? {
        tracing::info!("every event of an older version is in the trail as a sealed record");
    }
    Ok(moved)
}

/// Moves the next of a team in one transaction.
async fn adopt_of(connection: &mut Connection, subjects: &Subjects, team: &str) -> Result<usize, Error> {
    let mut transaction = store::begin(connection).await?;
    let old = store::old_events_take_in_txn(&mut transaction, team, BATCH).await?;
    let drafts: Vec<Draft> = old.into_iter().map(draft).collect();
    if drafts.is_empty() {
        return Ok(0);
    }
    let resolved = subjects.resolve(&drafts).await?;
    let sealed =
        drafts.iter().map(|draft| Ok(resolved.seal(draft)?.record)).collect::<Result<Vec<_>, Error>>()?;
    let all: Vec<&RecordRow> = sealed.iter().collect();
    let known = store::records_known_in_txn(&mut transaction, &all).await?;
    let known: HashSet<Uuid> = known.into_iter().map(|(_, id)| id).collect();
    let sealed = if known.is_empty() { sealed } else { again(&resolved, drafts, &known)? };
    store::records_adopt_in_txn(&mut transaction, &sealed).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    tracing::debug!(team, moved = sealed.len(), "events of an older version moved over");
    Ok(sealed.len())
}

/// Seals once more, with new ids for those that are known.
fn again(
    resolved: &crate::subjects::Resolved,
    drafts: Vec<Draft>,
    known: &HashSet<Uuid>,
) -> Result<Vec<RecordRow>, Error> {
    let renamed = drafts.into_iter().map(|mut draft| {
        if known.contains(&draft.record.id) {
            draft.record.id = of_the_same_time(draft.record.id);
        }
        Ok(resolved.seal(&draft)?.record)
    });
    renamed.collect()
}

/// An id that is new and of the same time: the first 48 bits of a UUIDv7 (RFC 9562, 5.7).
fn of_the_same_time(id: Uuid) -> Uuid {
    let mut bytes = *types::new_id().as_bytes();
    bytes[..6].copy_from_slice(&id.as_bytes()[..6]);
    Uuid::from_bytes(bytes)
}

/// An old event, taken as it is: without user and intent.
fn draft(old: OldEventRow) -> Draft {
    let record = RecordRow {
        team_id: old.team_id,
        id: old.id,
        classification: old.sensitivity,
        sequence: old.sequence,
        event_time: micros(old.event_time),
        action: old.action,
        result: old.result,
        agent_id: old.agent_id,
        tool_name: old.tool_name,
        tool_version: old.tool_version,
        tool_digest: old.tool_digest,
        execution_id: old.execution_id,
        task_id: old.task_id,
        trace_id: old.trace_id,
        reason: old.reason,
        duration_us: duration_us(old.duration_ms),
        cost_micro_usd: old.cost_micro_usd,
        decision_id: old.decision_id,
        ..RecordRow::default()
    };
    let payload = Payload {
        message: old.message,
        arguments_json: old.arguments_json,
        arguments_digest: old.arguments_digest,
        result_digest: old.result_digest,
        ..Payload::default()
    };
    Draft { record, payload }
}

/// Milliseconds as whole microseconds; what is no duration is 0.
#[allow(clippy::cast_possible_truncation, reason = "whole and bounded")]
pub(crate) fn duration_us(ms: f64) -> i64 {
    let us = (ms * 1_000.0).round();
    // Far below 2^53, so that it is exact in JSON, too; and centuries.
    if us.is_finite() { us.clamp(0.0, 9e15) as i64 } else { 0 }
}
