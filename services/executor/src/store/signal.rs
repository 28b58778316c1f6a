//! What processes of the executor tell each other: news over one channel of the database, and requests to
//! cancel. News may be lost with the connection; requests stand in their rows.

use ::store::Error;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Postgres, Transaction, postgres::PgListener};
use uuid::Uuid;

use super::Execution;

/// Channel of the news.
const CHANNEL: &str = "executor";

/// News for the other processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "signal", rename_all = "snake_case")]
pub(crate) enum Signal {
    /// An execution is to be stopped.
    Cancel { team: String, id: Uuid },
    /// Cached answers of a tool no longer count: of one set of arguments, or all of them.
    Invalidate { team: String, tool: String, digest: Option<String> },
    /// No cached answer of a team counts any more, and none is to be kept in memory.
    InvalidateTeam { team: String },
    /// Files of erased users are to be deleted.
    Erased,
    /// There is work in the queue.
    Job,
}

/// News and the process that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub from: Uuid,
    #[serde(flatten)]
    pub signal: Signal,
}

impl Note {
    /// Compact JSON; a struct of texts always has it. `PostgreSQL` takes 8,000 bytes.
    fn payload(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A connection that listens, and is asked now and then so that its loss is noticed.
pub(crate) struct Listener(PgListener);

impl Listener {
    /// Takes a connection of the pool for as long as it lives.
    pub(crate) async fn connect(pool: &PgPool) -> Result<Self, Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Self(listener))
    }

    /// Waits for news; `None`: something of no meaning to this version. May be dropped while it waits without
    /// losing any. A lost connection is an error: what came in between is not known.
    pub(crate) async fn next(&mut self) -> Result<Option<Note>, Error> {
        let note = self.0.try_recv().await?.ok_or(Error::Unavailable(None))?;
        Ok(serde_json::from_str(note.payload()).ok())
    }

    /// Running executions of a process whose cancelling was requested. All news sent before this was asked is
    /// heard by the time it is answered, since it comes over the same connection.
    pub(crate) async fn cancelled(&mut self, owner: Uuid) -> Result<Vec<Uuid>, Error> {
        let ids = sqlx::query_scalar!(
            "SELECT id FROM executor.execution WHERE owner = $1 AND status = 'running' AND cancel_requested",
            owner,
        )
        .fetch_all(&mut self.0)
        .await?;
        Ok(ids)
    }
}

/// Tells the other processes.
pub(crate) async fn signal_send(pool: &PgPool, note: &Note) -> Result<(), Error> {
    sqlx::query!("SELECT pg_notify($1, $2)", CHANNEL, note.payload()).execute(pool).await?;
    Ok(())
}

/// Requests that a running execution be cancelled, and tells whoever runs it; `false` when it does not run.
pub(crate) async fn cancel_request(pool: &PgPool, team: &str, id: Uuid, from: Uuid) -> Result<bool, Error> {
    let note = Note { from, signal: Signal::Cancel { team: team.to_owned(), id } };
    let asked = sqlx::query!(
        "WITH asked AS (
             UPDATE executor.execution SET cancel_requested = true
             WHERE team_id = $1 AND id = $2 AND status = 'running'
             RETURNING id
         )
         SELECT pg_notify($3, $4) FROM asked",
        team,
        id,
        CHANNEL,
        note.payload(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(asked.is_some())
}

/// Takes a waiting execution out of the reach of the workers, to end it within the same transaction; `None`
/// when it does not wait any more: a worker that takes it at this moment has it.
pub(crate) async fn queued_take_in_txn(
    transaction: &mut Transaction<'static, Postgres>,
    team: &str,
    id: Uuid,
) -> Result<Option<Execution>, Error> {
    let row = sqlx::query_as!(
        Execution,
        "UPDATE executor.execution SET status = 'running', cancel_requested = true
         WHERE team_id = $1 AND id = $2 AND status IN ('queued', 'waiting_for_approval')
         RETURNING team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity, agent_id, task_id, request_id,
                selection_id, trace_id, decision_id, arguments_json, arguments_digest, status, result_json, result_digest,
                error_json, cost_micro_usd, create_time, end_time, owner, lease_epoch, attempts_json, retries, source,
                cache_age_ms, warnings_json, input_tokens, output_tokens, asynchronous, priority, not_before,
                start_time, deliveries, max_deliveries, reserved, access_request_id, user_id, erased",
        team,
        id,
    )
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_is_read_as_it_was_written() {
        let (team, id, from) = ("team".to_owned(), Uuid::max(), Uuid::nil());
        let digest = Some("d".repeat(64));
        for signal in [
            Signal::Cancel { team: team.clone(), id },
            Signal::Invalidate { team: team.clone(), tool: "tool".into(), digest },
            Signal::Invalidate { team: team.clone(), tool: "tool".into(), digest: None },
            Signal::InvalidateTeam { team },
            Signal::Erased,
            Signal::Job,
        ] {
            let note = Note { from, signal };
            assert_eq!(serde_json::from_str::<Note>(&note.payload()).unwrap(), note);
        }
    }
}
