//! The SQL of the executor service: what its tables hold, and how a transaction begins. The queries live in
//! the files below; each that reads or writes a team's data takes the team first.

mod awaiting;
mod erasure;
mod execution;
mod group;
mod intent;
mod job;
mod ledger;
mod metrics;
mod progress;
mod signal;
mod worker;

use ::store::Error;
use chrono::{DateTime, SubsecRound, Utc};
use serde::{Serialize, Serializer};
pub(crate) use sqlx::PgConnection as Connection;
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

pub(crate) use self::{
    awaiting::*, erasure::*, execution::*, group::*, intent::*, job::*, ledger::*, metrics::*, progress::*,
    signal::*, worker::*,
};
use crate::seal::hex;

/// One accepted call, from intent to outcome.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Execution {
    pub team_id: String,
    pub id: Uuid,
    pub tool_name: String,
    pub tool_version: String,
    pub tool_digest: String,
    pub effect: String,
    pub sensitivity: String,
    pub agent_id: String,
    pub task_id: String,
    pub request_id: String,
    pub selection_id: String,
    pub trace_id: String,
    pub decision_id: Option<Uuid>,
    pub arguments_json: String,
    pub arguments_digest: String,
    pub status: String,
    pub result_json: String,
    pub result_digest: String,
    pub error_json: String,
    pub cost_micro_usd: i64,
    pub create_time: DateTime<Utc>,
    pub end_time: Option<DateTime<Utc>>,
    pub owner: Uuid,
    pub lease_epoch: i32,
    /// JSON array of the attempts; empty while it runs.
    pub attempts_json: String,
    /// Attempts that were the same tool again.
    pub retries: i32,
    /// Where the answer comes from; empty: the tool itself.
    pub source: String,
    pub cache_age_ms: i64,
    /// JSON array of the violations that the tool's output mode let pass.
    pub warnings_json: String,
    pub input_tokens: i64,
    pub output_tokens: i64,
    /// Accepted by `StartExecution`.
    pub asynchronous: bool,
    pub priority: i16,
    pub not_before: Option<DateTime<Utc>>,
    pub start_time: Option<DateTime<Utc>>,
    /// How often a process has taken it up, and how often one may.
    pub deliveries: i32,
    pub max_deliveries: i32,
    /// Whether its decision holds a place in a limit, which ends with the outcome.
    pub reserved: bool,
    /// The access request for whose approval it waits or waited.
    pub access_request_id: Option<Uuid>,
    /// The end user for whom the agent called; empty: none, or erased.
    pub user_id: String,
    /// Whether its texts were erased with their data subject.
    pub erased: bool,
}

/// What must be on disk before a tool runs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Intent {
    #[serde(flatten)]
    pub execution: Execution,
    /// SHA-256 of the request's body, to know the same request again.
    pub body_digest: String,
    /// What a process needs to run it later, sealed, in `PostgreSQL`'s hex form; `None`: it runs at once.
    pub job: Option<String>,
}

/// How an execution ended, with the events that tell of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub team_id: String,
    pub id: Uuid,
    pub lease_epoch: i32,
    pub status: String,
    pub result_json: String,
    pub result_digest: String,
    pub error_json: String,
    pub cost_micro_usd: i64,
    pub end_time: DateTime<Utc>,
    pub attempts_json: String,
    pub retries: i32,
    pub source: String,
    pub cache_age_ms: i64,
    pub warnings_json: String,
    pub error_code: String,
    pub input_tokens: i64,
    pub output_tokens: i64,
    /// Whether it stands in the queue, and leaves it now.
    pub asynchronous: bool,
    /// Whether its request id may be used again: the tool was not run, and the caller was told to come again.
    pub release_request: bool,
    pub events: Vec<OutboxEvent>,
}

/// An event on its way to another service.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OutboxEvent {
    pub destination: &'static str,
    /// The encoded message; written in `PostgreSQL`'s hex form.
    #[serde(serialize_with = "in_hex")]
    pub payload: Vec<u8>,
}

fn in_hex<S: Serializer>(payload: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(payload))
}

/// Something that happened to an execution while it ran.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProgressEvent {
    pub team_id: String,
    pub execution_id: Uuid,
    pub sequence: i64,
    /// progress, log or attempt.
    pub kind: String,
    /// Its fields, as a JSON object.
    pub body_json: String,
    pub create_time: DateTime<Utc>,
}

/// What a listing asks for; `None` matches all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub tool_name: Option<String>,
    pub agent_id: Option<String>,
    pub task_id: Option<String>,
    pub status: Option<String>,
    pub error_code: Option<String>,
    pub request_id: Option<String>,
    pub created_after: Option<DateTime<Utc>>,
    pub created_before: Option<DateTime<Utc>>,
}

/// Now, as finely as the database keeps it: an answer tells the same times as the record.
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// A transaction under way.
pub(crate) type Txn = Transaction<'static, Postgres>;

/// Begins a transaction; one that is not `durable` does not wait for the disk, and survives the death of
/// any process but not of the machine.
pub(crate) async fn begin(pool: &PgPool, durable: bool) -> Result<Transaction<'static, Postgres>, Error> {
    let mut transaction = pool.begin().await?;
    if !durable {
        sqlx::query!("SET LOCAL synchronous_commit = off").execute(&mut *transaction).await?;
    }
    Ok(transaction)
}
