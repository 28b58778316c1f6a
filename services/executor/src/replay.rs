//! The same request twice: `request_id` and body decide. The first answer is given again, a run under way
//! is joined, another body is refused. Recorded answers are sanitised, as everything stored is.

use std::time::Duration;

use ::rpc::Call;
use types::Caller;
use uuid::Uuid;

use crate::{
    Error, Executor,
    invoke::{Answer, Request},
    outcome::{self, Status},
    store::{self, Execution},
};

/// How often a run of another process is looked at.
const POLL: Duration = Duration::from_millis(50);

/// The execution of an earlier request with the same id and body; `None` when there was none, or no id.
pub(crate) async fn find(executor: &Executor, call: &Call, request: &Request) -> Result<Option<Uuid>, Error> {
    if request.request_id.is_empty() {
        return Ok(None);
    }
    let pool = executor.database.pool()?;
    match store::request_get(pool, &call.caller.team, &request.request_id).await? {
        None => Ok(None),
        Some((_, digest)) if digest != body_digest(&call.caller, request) => {
            Err(Error::RequestIdReused(request.request_id.clone()))
        }
        Some((id, _)) => Ok(Some(id)),
    }
}

/// The answer of the request that took the id a moment before this one.
pub(crate) async fn join(executor: &Executor, call: &Call, request: &Request) -> Result<Answer, Error> {
    match find(executor, call, request).await? {
        Some(id) => ended(executor, call, id).await,
        // It was held back, and gave its id up again.
        None => Err(Error::Overtaken),
    }
}

/// What makes two requests the same: who asks and everything asked, to the letter.
pub(crate) fn body_digest(caller: &Caller, request: &Request) -> String {
    let Request { tool, arguments_json, request_id: _, task_id, timeout_ms, selection_id, options, turn } =
        request;
    let (timeout_ms, overrides) = (timeout_ms.to_string(), format!("{options:?}{turn:?}"));
    let parts = [&caller.agent, tool, arguments_json, task_id, &timeout_ms, selection_id, &overrides];
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    types::digest_bytes(&bytes)
}

/// Waits until an execution has ended, at most until the caller's deadline.
pub(crate) async fn ended(executor: &Executor, call: &Call, id: Uuid) -> Result<Answer, Error> {
    let wait = async {
        loop {
            let found = store::execution_get(executor.database.pool()?, &call.caller.team, id).await?;
            let execution: Execution = found.ok_or_else(|| Error::NotFound(id.to_string()))?;
            if let Some(error) = outcome::held_back(&execution) {
                // Its request id is free again: whoever joined it is told the same, and may come again too.
                let execution_id = execution.id.to_string();
                return Err(Error::held_back(execution.tool_name, &error, execution_id));
            }
            if Status::is_terminal(&execution.status) {
                return Ok(Answer { execution, replayed: true, standings: Vec::new() });
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let late = || Err(Error::Deadline { execution_id: id.to_string() });
    tokio::time::timeout(call.time_left(), wait).await.unwrap_or_else(|_| late())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invoke::{Options, Turn};

    #[test]
    fn every_part_of_a_request_counts_and_its_id_does_not() {
        let caller = Caller { agent: "a".into(), ..Caller::service("x") };
        let request = Request {
            tool: "t".into(),
            arguments_json: "{}".into(),
            request_id: "r".into(),
            ..Request::default()
        };
        let same = body_digest(&caller, &request);
        assert_eq!(body_digest(&caller, &Request { request_id: "s".into(), ..request.clone() }), same);
        let others = [
            Request { tool: "u".into(), ..request.clone() },
            Request { arguments_json: "{ }".into(), ..request.clone() },
            Request { task_id: "k".into(), ..request.clone() },
            Request { timeout_ms: 1, ..request.clone() },
            Request { selection_id: "k".into(), ..request.clone() },
            Request { options: Options { skip_cache: true, ..Options::default() }, ..request.clone() },
            Request {
                turn: Some(Turn { priority: 0, not_before: None, max_deliveries: 5 }),
                ..request.clone()
            },
        ];
        for other in &others {
            assert_ne!(body_digest(&caller, other), same, "{other:?}");
        }
        assert_ne!(body_digest(&Caller { agent: "b".into(), ..caller }, &request), same);
    }
}
