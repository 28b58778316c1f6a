//! A second try for calls that only read, within a budget: one lost connection is not seen by a caller, and
//! a service that is down is not asked twice as often for it. Must never be used for a call that changes anything.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use tonic::{Response, Status};
use tower::retry::budget::{Budget, TpsBudget};
use types::Kind;

use crate::kind_of;

/// Second tries as a share of the calls that reached their service, and how many a second there are in any case.
const SHARE: f32 = 0.2;
const ALWAYS_PER_SECOND: u32 = 5;
/// How long what was not spent is remembered: 1 to 60 s are allowed.
const MEMORY: Duration = Duration::from_secs(10);
/// The wait before the second try, in milliseconds: random, so that callers do not come back all at once.
const WAIT_MS: std::ops::Range<u64> = 10..50;

/// How many second tries are left. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Retries(Arc<TpsBudget>);

impl Retries {
    pub(crate) fn new() -> Self {
        Self(Arc::new(TpsBudget::new(MEMORY, ALWAYS_PER_SECOND, SHARE)))
    }

    /// Makes a call, and makes it once more when the service could not be reached.
    pub(crate) async fn read<T, F>(&self, call: impl Fn() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let answer = call().await;
        if !matches!(&answer, Err(status) if kind_of(status) == Kind::Unavailable) {
            self.0.deposit();
            return answer.map(Response::into_inner);
        }
        if !self.0.withdraw() {
            return answer.map(Response::into_inner);
        }
        let wait = Duration::from_millis(rand::rng().random_range(WAIT_MS));
        tokio::time::sleep(wait).await;
        call().await.map(Response::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Ready, ready},
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    /// Counts its calls and fails the first ones.
    struct Service {
        calls: AtomicU32,
        failures: u32,
        status: fn() -> Status,
    }

    impl Service {
        fn failing(failures: u32, status: fn() -> Status) -> Self {
            Self { calls: AtomicU32::new(0), failures, status }
        }

        fn call(&self) -> Ready<Result<Response<u32>, Status>> {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            ready(if call < self.failures { Err((self.status)()) } else { Ok(Response::new(call)) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_could_not_be_reached_is_asked_once_more_and_no_other() {
        let retries = Retries::new();
        let lost = Service::failing(1, || Status::unavailable("lost"));
        assert_eq!(retries.read(|| lost.call()).await.unwrap(), 1);
        let down = Service::failing(9, || Status::unavailable("down"));
        assert!(retries.read(|| down.call()).await.is_err());
        assert_eq!(down.calls.load(Ordering::Relaxed), 2);
        let denied = Service::failing(1, || Status::permission_denied("no"));
        assert!(retries.read(|| denied.call()).await.is_err());
        assert_eq!(denied.calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_stays_down_is_soon_asked_once_a_call() {
        let retries = Retries::new();
        let down = Service::failing(u32::MAX, || Status::unavailable("down"));
        for _ in 0..1_000 {
            assert!(retries.read(|| down.call()).await.is_err());
        }
        let calls = down.calls.load(Ordering::Relaxed);
        assert!((1_001..1_200).contains(&calls), "{calls} calls for 1000");
    }
}
