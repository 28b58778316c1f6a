//! Many calls in one request, a few at a time, each with a status of its own. Each is a whole call, with its own
//! permission, record and events; nothing here may let one of them spoil another.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use ::rpc::Call;
use futures_util::{Stream, StreamExt, stream};

use crate::{
    Error, Executor,
    invoke::{self, Answer, Request},
    outcome::Status,
};

/// Most calls of one batch.
pub(crate) const MAX_CALLS: usize = 100;

/// A checked batch; a call that is not valid stands in it as what is wrong with it.
pub(crate) struct Batch {
    pub calls: Vec<Result<Request, Error>>,
    /// How many run at once; 0: as the settings say.
    pub parallelism: usize,
    pub stop_on_failure: bool,
}

/// Runs the calls and gives what became of each, in their order, as soon as it is known: whoever keeps all of them
/// decides how much of each to keep.
pub(crate) fn batch(
    executor: &Arc<Executor>,
    call: &Call,
    batch: Batch,
) -> impl Stream<Item = Result<Answer, Error>> + Send + use<> {
    let parallelism = match batch.parallelism {
        0 => executor.config.parallel_limit,
        asked => asked,
    };
    let stop = Stop { wanted: batch.stop_on_failure, failed: AtomicBool::new(false), first: OnceLock::new() };
    let (executor, call, stop) = (Arc::clone(executor), Arc::new(call.clone()), Arc::new(stop));
    let one = move |(index, request): (usize, Result<Request, Error>)| {
        let (executor, call, stop) = (Arc::clone(&executor), Arc::clone(&call), Arc::clone(&stop));
        async move {
            if let Some(left_out) = stop.left_out() {
                return Err(left_out);
            }
            let answer = match request {
                Ok(request) => in_time(&executor, &call, request).await,
                Err(error) => Err(error),
            };
            stop.note(index, &answer);
            answer
        }
    };
    stream::iter(batch.calls.into_iter().enumerate().map(one)).buffered(parallelism.max(1))
}

/// The answer of a call, unless the deadline passes before it has begun; a call under way tells so itself.
async fn in_time(executor: &Arc<Executor>, call: &Call, request: Request) -> Result<Answer, Error> {
    let too_late = || Error::NotBegun("the deadline passed before it began".to_owned());
    if call.time_left().is_zero() {
        return Err(too_late());
    }
    let begun = tokio::time::timeout(call.time_left(), invoke::begin(executor, call, &request)).await;
    invoke::go_on(executor, call, request, begun.map_err(|_| too_late())??).await
}

/// Remembers the first call that did not succeed.
struct Stop {
    wanted: bool,
    failed: AtomicBool,
    first: OnceLock<usize>,
}

impl Stop {
    fn note(&self, index: usize, answer: &Result<Answer, Error>) {
        let succeeded =
            answer.as_ref().is_ok_and(|answer| answer.execution.status == Status::Succeeded.as_str());
        if self.wanted && !succeeded {
            self.first.get_or_init(|| index);
            self.failed.store(true, Ordering::Relaxed);
        }
    }

    fn left_out(&self) -> Option<Error> {
        let index = self.failed.load(Ordering::Relaxed).then(|| self.first.get())??;
        Some(Error::NotBegun(format!("left out: call {} of the batch did not succeed", index + 1)))
    }
}
