//! What the calls are measured against: a bare tonic echo, and the same with two group commits and nothing else.

use proto::executor::v1::{
    ExecuteRequest, ExecuteResponse, Execution, ExecutionStatus, execute_request::Input,
};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::execute::Execute;

/// Rows written at once at most, as in the executor's ledger.
const MAX_BATCH: usize = 256;
/// Rows that may wait.
const QUEUE: usize = 4_096;

/// Answers with the arguments.
pub fn bare() -> Execute {
    Execute::new(|request| Box::pin(async move { Ok(answer(request)) }))
}

/// The same after two rows, each flushed to disk in a transaction that it shares with whatever waits.
pub async fn with_two_commits(pool: PgPool) -> Execute {
    let tables = "CREATE TABLE IF NOT EXISTS intent (id uuid PRIMARY KEY, body text NOT NULL);
                  CREATE TABLE IF NOT EXISTS outcome (id uuid PRIMARY KEY, body text NOT NULL);";
    sqlx::raw_sql(tables).execute(&pool).await.expect("two tables");
    let (rows, waiting) = mpsc::channel(QUEUE);
    tokio::spawn(write(pool, waiting));
    Execute::new(move |request| {
        let rows = rows.clone();
        Box::pin(async move {
            let (id, body) = (types::new_id(), arguments(request.get_ref()).to_owned());
            commit(&rows, Row::Intent(id, body.clone())).await?;
            commit(&rows, Row::Outcome(id, body)).await?;
            Ok(answer(request))
        })
    })
}

enum Row {
    Intent(Uuid, String),
    Outcome(Uuid, String),
}

type Waiting = (Row, oneshot::Sender<()>);

async fn commit(rows: &mpsc::Sender<Waiting>, row: Row) -> Result<(), Status> {
    let (done, answer) = oneshot::channel();
    let gone = || Status::internal("the writer has ended");
    rows.send((row, done)).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())
}

async fn write(pool: PgPool, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let (mut intents, mut outcomes) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        let mut answers = Vec::with_capacity(batch.len());
        for (row, done) in batch.drain(..) {
            let (id, body, rows) = match row {
                Row::Intent(id, body) => (id, body, &mut intents),
                Row::Outcome(id, body) => (id, body, &mut outcomes),
            };
            rows.0.push(id);
            rows.1.push(body);
            answers.push(done);
        }
        let mut transaction = pool.begin().await.expect("a transaction");
        for (table, (ids, bodies)) in [("intent", intents), ("outcome", outcomes)] {
            if ids.is_empty() {
                continue;
            }
            let insert = format!("INSERT INTO {table} SELECT * FROM unnest($1::uuid[], $2::text[])");
            let insert = sqlx::query(sqlx::AssertSqlSafe(insert)).bind(ids).bind(bodies);
            insert.execute(&mut *transaction).await.expect("rows");
        }
        transaction.commit().await.expect("a commit");
        for done in answers {
            // Whoever stopped waiting does not undo a row.
            let _ = done.send(());
        }
    }
}

fn arguments(request: &ExecuteRequest) -> &str {
    match &request.input {
        Some(Input::ArgumentsJson(text)) => text,
        _ => "{}",
    }
}

fn answer(request: Request<ExecuteRequest>) -> Response<ExecuteResponse> {
    let request = request.into_inner();
    let result_json = arguments(&request).to_owned();
    let status = ExecutionStatus::Succeeded.into();
    let execution = Execution { tool_name: request.tool, result_json, status, ..Execution::default() };
    Response::new(ExecuteResponse { execution: Some(execution), replayed: false })
}
