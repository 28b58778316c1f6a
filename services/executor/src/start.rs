//! Accepts a call that runs later: the same checks as for one that runs at once, then one record that is on disk
//! before the answer. Never waits for the run.

use std::{sync::Arc, time::Duration};

use ::rpc::Call;
use tokio::time::Instant;
use types::Caller;
use uuid::Uuid;

use crate::{
    Error, Executor,
    authorize::Decision,
    invoke::{Answer, Permitted, Request, intent, known, permitted},
    replay,
    seal::{self, Payload},
    signals,
    store::{self, Awaiting, Execution, Intent},
};

/// Queues one call, or answers with how the one of the same request id stands.
pub(crate) async fn start(executor: &Arc<Executor>, call: &Call, request: Request) -> Result<Answer, Error> {
    if let Some(id) = known(executor, call, &request).await? {
        return accepted_before(executor, call, id).await;
    }
    let permitted = permitted(executor, call, &request).await?;
    let (intent, sealed) = sealed(executor, call, &request, &permitted)?;
    let Permitted { decision, admitted, .. } = permitted;
    let accept =
        accept(Arc::clone(executor), call.caller.clone(), (intent.clone(), sealed), decision.clone());
    // In a task of its own: what a client that goes away has reserved is recorded or given back all the same.
    let accepting = executor.runs.spawn(accept);
    drop(admitted);
    match accepting.await {
        Ok(Ok(true)) => {
            Ok(Answer { execution: intent.execution, replayed: false, standings: decision.standings })
        }
        Ok(Ok(false)) => match replay::find(executor, call, &request).await? {
            Some(id) => accepted_before(executor, call, id).await,
            // It was held back, and gave its id up again.
            None => Err(Error::Overtaken),
        },
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::Internal("the call was not recorded".into())),
    }
}

/// The record of a call that waits, with what a process needs to run it.
fn sealed(
    executor: &Executor,
    call: &Call,
    request: &Request,
    permitted: &Permitted,
) -> Result<(Intent, Vec<u8>), Error> {
    let intent = intent(executor, call, request, permitted)?;
    let payload = Payload {
        caller: call.caller.clone(),
        tool_id: permitted.tool.id.clone(),
        arguments_json: request.arguments_json.clone(),
        options: request.options.clone(),
        timeout_ms: request.timeout_ms,
        traceparent: ::rpc::current_traceparent(),
        justification: request.justification.clone(),
    };
    let sealed = executor.seal.seal(&call.caller.team, intent.execution.id, &payload);
    let sealed = sealed.ok_or_else(|| Error::Internal("the call cannot be sealed".into()))?;
    Ok((intent, sealed))
}

/// Records it; `false` when its request id was taken in the meantime. What was not recorded gives its place back.
async fn accept(
    executor: Arc<Executor>,
    caller: Caller,
    (intent, sealed): (Intent, Vec<u8>),
    decision: Decision,
) -> Result<bool, Error> {
    if let Some(access_request_id) = intent.execution.access_request_id {
        return accept_waiting(&executor, &intent, (access_request_id, sealed)).await;
    }
    let intent = Intent { job: Some(seal::hex(&sealed)), ..intent };
    let written = executor.ledger.intent(intent, true).await;
    if matches!(written, Ok(true)) {
        executor.queue.wake();
        let interval = Duration::from_millis(executor.config.queue_poll_ms);
        if executor.queue.overflows(interval, Instant::now()) {
            // They look by themselves as well, so nothing is lost where they cannot be told.
            let _ = signals::job(&executor).await;
        }
    } else {
        let authorizer = executor.authorizer.clone();
        executor.runs.spawn(async move { authorizer.settle(&caller, &decision, false, 0).await });
    }
    Ok(written?)
}

/// Records a call that waits for an approval; `false` when its request id was taken in the meantime.
async fn accept_waiting(
    executor: &Executor,
    intent: &Intent,
    (access_request_id, payload): (Uuid, Vec<u8>),
) -> Result<bool, Error> {
    let Execution { team_id, id, .. } = &intent.execution;
    let awaiting = Awaiting { team_id: team_id.clone(), id: *id, access_request_id, payload };
    let mut transaction = store::begin(executor.database.pool()?, true).await?;
    if store::intents_insert(&mut transaction, &[intent]).await?.is_empty() {
        return Ok(false);
    }
    store::awaiting_insert(&mut transaction, &awaiting).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    Ok(true)
}

/// The execution as it stands now.
async fn accepted_before(executor: &Executor, call: &Call, id: Uuid) -> Result<Answer, Error> {
    let found = store::execution_get(executor.database.pool()?, &call.caller.team, id).await?;
    let execution = found.ok_or_else(|| Error::NotFound(id.to_string()))?;
    Ok(Answer { execution, replayed: true, standings: Vec::new() })
}
