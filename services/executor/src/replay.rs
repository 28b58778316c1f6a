//! The same request twice: `request_id` and body decide. The first answer is given again, a run under way
//! is joined, another body is refused. Recorded answers are sanitised, as everything stored is.

use std::time::Duration;

use ::rpc::Call;
use types::Caller;

use crate::{
    Error, Executor,
    invoke::{Answer, Request},
    outcome::Status,
    store::{self, Execution},
};

/// How often a run of another process is looked at.
const POLL: Duration = Duration::from_millis(50);

/// The answer of an earlier request with the same id; `None` when there was none, or no id.
pub(crate) async fn of(executor: &Executor, call: &Call, request: &Request) -> Result<Option<Answer>, Error> {
    if request.request_id.is_empty() {
        return Ok(None);
    }
    let pool = executor.database.pool()?;
    match store::request_get(pool, &call.caller.team, &request.request_id).await? {
        None => Ok(None),
        Some((_, digest)) if digest != body_digest(&call.caller, request) => {
            Err(Error::RequestIdReused(request.request_id.clone()))
        }
        Some((id, _)) => ended(executor, call, id).await.map(Some),
    }
}

/// The answer of the request that took the id a moment before this one.
pub(crate) async fn join(executor: &Executor, call: &Call, request: &Request) -> Result<Answer, Error> {
    let lost = || Error::Internal("a request id is taken by no request".into());
    of(executor, call, request).await?.ok_or_else(lost)
}

/// What makes two requests the same: who asks and everything asked, to the letter.
pub(crate) fn body_digest(caller: &Caller, request: &Request) -> String {
    let Request { tool, arguments_json, request_id: _, task_id, timeout_ms, selection_id } = request;
    let parts = [&caller.agent, tool, arguments_json, task_id, &timeout_ms.to_string(), selection_id];
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    types::digest_bytes(&bytes)
}

/// Waits until an execution has ended, at most until the caller's deadline.
async fn ended(executor: &Executor, call: &Call, id: uuid::Uuid) -> Result<Answer, Error> {
    let wait = async {
        loop {
            let found = store::execution_get(executor.database.pool()?, &call.caller.team, id).await?;
            let execution: Execution = found.ok_or_else(|| Error::NotFound(id.to_string()))?;
            if execution.status != Status::Running.as_str() {
                return Ok(Answer { execution, replayed: true });
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

    #[test]
    fn every_part_of_a_request_counts_and_its_id_does_not() {
        let caller = Caller { agent: "a".into(), ..Caller::service("x") };
        let request = Request {
            tool: "t".into(),
            arguments_json: "{}".into(),
            request_id: "r".into(),
            task_id: String::new(),
            timeout_ms: 0,
            selection_id: String::new(),
        };
        let same = body_digest(&caller, &request);
        assert_eq!(body_digest(&caller, &Request { request_id: "s".into(), ..request.clone() }), same);
        let others = [
            Request { tool: "u".into(), ..request.clone() },
            Request { arguments_json: "{ }".into(), ..request.clone() },
            Request { task_id: "k".into(), ..request.clone() },
            Request { timeout_ms: 1, ..request.clone() },
            Request { selection_id: "k".into(), ..request.clone() },
        ];
        for other in &others {
            assert_ne!(body_digest(&caller, other), same, "{other:?}");
        }
        assert_ne!(body_digest(&Caller { agent: "b".into(), ..caller }, &request), same);
    }
}
