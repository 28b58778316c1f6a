//! What the service does besides answering: each task runs on its own, and one that panics is started again, so that
//! none takes the others with it. Must never end before every run is recorded and told.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{Executor, Parts, erase_user, metrics, queue, reap, relay, signals};

/// Rest of a task that panicked.
const REST: Duration = Duration::from_millis(500);

/// Runs until told to stop; then: no new calls, runs end, events are delivered, and only then it ends.
pub(crate) async fn run(executor: Arc<Executor>, parts: Parts) {
    let Parts { audit, selector, permissions, outgoing, stop, .. } = parts;
    let ended = CancellationToken::new();
    let (to, out) = (audit, outgoing.clone());
    let to_audit = move |payloads| relay::to_audit(to.clone(), out.clone(), payloads);
    let (to, out) = (selector, outgoing.clone());
    let to_selector = move |payloads| relay::to_selector(to.clone(), out.clone(), payloads);
    let (to, out) = (permissions, outgoing);
    let to_permissions = move |payloads| relay::to_permissions(to.clone(), out.clone(), payloads);
    let shared = || (Arc::clone(&executor), ended.clone());
    tokio::join!(
        wind_down(&executor, &stop, &ended),
        keep_up("reaper", &ended, || {
            let (executor, ended) = shared();
            async move { reap::keep(&executor, ended).await }
        }),
        keep_up("queue", &stop, || {
            let (executor, stop) = (Arc::clone(&executor), stop.clone());
            async move { queue::work(&executor, stop).await }
        }),
        keep_up("approvals", &stop, || {
            let (executor, stop) = (Arc::clone(&executor), stop.clone());
            async move { queue::keep_awaiting(&executor, stop).await }
        }),
        keep_up("decisions", &stop, || {
            let (executor, stop) = (Arc::clone(&executor), stop.clone());
            async move { queue::follow_decisions(&executor, stop).await }
        }),
        keep_up("signals", &ended, || {
            let (executor, ended) = shared();
            async move { signals::run(&executor, ended).await }
        }),
        keep_up("erasures", &stop, || {
            let (executor, stop) = (Arc::clone(&executor), stop.clone());
            async move { erase_user::keep_erasing(&executor, stop).await }
        }),
        keep_up("metrics", &ended, || {
            let (executor, ended) = shared();
            async move { metrics::keep_fresh(&executor, ended).await }
        }),
        keep_up("audit relay", &ended, || {
            let ((executor, ended), deliver) = (shared(), to_audit.clone());
            async move { executor.relays.audit.run(ended, deliver).await }
        }),
        keep_up("selector relay", &ended, || {
            let ((executor, ended), deliver) = (shared(), to_selector.clone());
            async move { executor.relays.selector.run(ended, deliver).await }
        }),
        keep_up("permissions relay", &ended, || {
            let ((executor, ended), deliver) = (shared(), to_permissions.clone());
            async move { executor.relays.permissions.run(ended, deliver).await }
        }),
    );
}

/// Waits for the stop and then for the runs; what takes time to start is not waited for.
async fn wind_down(executor: &Arc<Executor>, stop: &CancellationToken, ended: &CancellationToken) {
    let warming = {
        let executor = Arc::clone(executor);
        tokio::spawn(async move { executor.drivers.warm_up().await })
    };
    stop.cancelled().await;
    warming.abort();
    executor.runs.close();
    executor.runs.wait().await;
    let closing = {
        let executor = Arc::clone(executor);
        tokio::spawn(async move { executor.drivers.close().await })
    };
    if let Err(error) = closing.await {
        tracing::error!(%error, "the drivers were not closed");
    }
    ended.cancel();
}

/// Runs a task until it ends because it was told to stop. One that ends before is started again after a rest.
async fn keep_up<F>(task: &'static str, stop: &CancellationToken, begin: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let ended = tokio::spawn(begin()).await;
        if stop.is_cancelled() {
            return;
        }
        let cause = ended.err().map(|error| error.to_string());
        tracing::error!(task, cause, "a background task ended before its time; it is started again");
        tokio::select! {
            () = tokio::time::sleep(REST) => {}
            () = stop.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_started_again_and_the_others_go_on() {
        let (stop, begun) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let breaking = keep_up("breaking", &stop, || {
            let (stop, begun) = (stop.clone(), Arc::clone(&begun));
            async move {
                assert!(begun.fetch_add(1, Ordering::SeqCst) >= 2, "the first two break");
                stop.cancelled().await;
            }
        });
        let steady = keep_up("steady", &stop, || {
            let (stop, begun) = (stop.clone(), Arc::clone(&begun));
            async move {
                while begun.load(Ordering::SeqCst) < 3 {
                    tokio::time::sleep(REST).await;
                }
                stop.cancel();
            }
        });
        tokio::join!(breaking, steady);
        assert_eq!(begun.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_task_that_panics_at_the_stop_is_left() {
        let stop = CancellationToken::new();
        stop.cancel();
        keep_up("breaking", &stop, || async { panic!("at the stop") }).await;
    }
}
