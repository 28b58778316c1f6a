//! How often may an address call without a valid API key? One bucket an address, in this process alone: whoever
//! guesses keys must cost neither a call of the permissions service each nor one of Redis. Must never see a key.

use std::{net::SocketAddr, time::Duration};

use limit::{Bucket, Decision, Memory, Rate};
use rpc::{Details, ErrorReason, ServiceError};
use tonic::Status;
use types::Kind;

/// The bucket's name.
const BUCKET: &str = "address";

/// Counts the calls without a valid key of each address.
#[derive(Debug, Clone)]
pub(crate) struct Strangers {
    buckets: Memory,
    /// `None`: nothing is limited.
    rate: Option<Rate>,
}

impl Strangers {
    /// So many calls a minute, which may come at once; 0 limits none.
    pub(crate) fn new(per_minute: u32) -> Self {
        let rate = Rate { limit: per_minute, period: Duration::from_mins(1), burst: per_minute };
        Self { buckets: Memory::new(), rate: (per_minute > 0).then_some(rate) }
    }

    /// Whether a call of this address may still turn out to be without a valid key.
    #[allow(clippy::result_large_err, reason = "what the caller answers with")]
    pub(crate) fn check(&self, peer: Option<SocketAddr>) -> Result<(), Status> {
        // What one more would take is asked for and not taken: a full bucket is left as it is by a cost of 0.
        let left =
            self.take(peer, 0).and_then(|decision| decision.standings.first().map(|left| left.remaining));
        match (self.rate, left) {
            (Some(rate), Some(0)) => Err(refusal(rate, rate.period / rate.limit.max(1))),
            _ => Ok(()),
        }
    }

    /// Counts a call without a valid key; an error where there were too many.
    #[allow(clippy::result_large_err, reason = "what the caller answers with")]
    pub(crate) fn count(&self, peer: Option<SocketAddr>) -> Result<(), Status> {
        match (self.rate, self.take(peer, 1)) {
            (Some(rate), Some(decision)) if !decision.admitted => {
                Err(refusal(rate, decision.retry().unwrap_or(rate.period)))
            }
            _ => Ok(()),
        }
    }

    fn take(&self, peer: Option<SocketAddr>, cost: u32) -> Option<Decision> {
        let bucket = Bucket { name: BUCKET.to_owned(), rate: self.rate?, cost };
        // Without an address it came over no socket, but from this process.
        Some(self.buckets.check(&rpc::site(peer?.ip()).to_string(), &[bucket]))
    }
}

fn refusal(rate: Rate, retry: Duration) -> Status {
    rpc::status(&TooManyStrangers { limit: rate.limit, retry })
}

/// The refusal of an address from which too many calls came without a valid key.
#[derive(Debug, thiserror::Error)]
#[error("too many calls without a valid API key came from one address")]
struct TooManyStrangers {
    limit: u32,
    retry: Duration,
}

impl ServiceError for TooManyStrangers {
    fn kind(&self) -> Kind {
        Kind::Exhausted
    }

    fn reason(&self) -> ErrorReason {
        ErrorReason::RateLimited
    }

    fn public_message(&self) -> String {
        let retry = self.retry.as_micros().div_ceil(1_000);
        format!(
            "{} calls a minute without a valid API key are taken from one address; try again in {retry} ms",
            self.limit
        )
    }

    fn details(&self) -> Details {
        let description = format!("{} calls a minute without a valid API key", self.limit);
        let quota = Some((BUCKET.to_owned(), description));
        Details { retry_after: Some(self.retry), quota, ..Details::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_own_limit_and_a_site_is_one_address() {
        let strangers = Strangers::new(2);
        let peer = |ip: &str| Some(SocketAddr::new(ip.parse().unwrap(), 1));
        for (one, other) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.2", "::ffff:192.0.2.2"),
            ("2001:db8::1", "2001:db8::ffff:2"),
        ] {
            for _ in 0..2 {
                strangers.check(peer(other)).unwrap();
                strangers.count(peer(one)).unwrap();
            }
            assert!(strangers.check(peer(other)).is_err() && strangers.count(peer(other)).is_err(), "{one}");
        }
        assert!(strangers.check(peer("2001:db8:0:1::1")).is_ok() && strangers.count(None).is_ok());
        let unlimited = Strangers::new(0);
        assert!((0..1_000).all(|_| unlimited.count(peer("192.0.2.1")).is_ok()));
    }
}
