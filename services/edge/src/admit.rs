//! How often may this key call? One bucket an API key; what is left of it goes with every answer. Must never fail a
//! call because the limiter's store is away: the limiter sees to that.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use limit::{Bucket, Decision, Limiter, Rate};
use rpc::{Details, ErrorReason, ServiceError};
use tonic::Status;
use types::{Caller, Kind};

use crate::Config;

/// What is left (draft-ietf-httpapi-ratelimit-headers, section 4).
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What the limit is (the same, section 3).
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The fields above, which pages of other origins may read.
pub(crate) const FIELDS: [HeaderName; 2] = [RATELIMIT, RATELIMIT_POLICY];
/// The bucket's name in the fields.
const BUCKET: &str = "key";

/// Counts the calls of each key.
#[derive(Debug)]
pub(crate) struct Gate {
    limiter: Limiter,
    /// `None`: nothing is limited.
    rate: Option<Rate>,
}

/// What came of one call at the gate.
#[derive(Debug)]
pub(crate) struct Pass {
    /// The answer instead of the service's.
    pub refusal: Option<Status>,
    fields: Option<[(HeaderName, HeaderValue); 2]>,
}

impl Gate {
    pub(crate) fn new(config: &Config, limiter: Limiter) -> Self {
        let rate =
            Rate { limit: config.requests_per_minute, period: Duration::from_mins(1), burst: config.burst };
        Self { limiter, rate: (rate.limit > 0).then_some(rate) }
    }

    /// Counts one call of the caller's key.
    pub(crate) async fn check(&self, caller: &Caller) -> Pass {
        let Some(rate) = self.rate else { return Pass { refusal: None, fields: None } };
        let key = counted(caller);
        let bucket = Bucket { name: BUCKET.to_owned(), rate, cost: 1 };
        let decision = self.limiter.check(&format!("{}/{key}", caller.team), &[bucket]).await;
        let refusal = (!decision.admitted).then(|| rpc::status(&RateLimited::new(&key, rate, &decision)));
        let (left, policy) = limit::fields(&decision.standings);
        let fields = HeaderValue::try_from(left).ok().zip(HeaderValue::try_from(policy).ok());
        Pass { refusal, fields: fields.map(|(left, policy)| [(RATELIMIT, left), (RATELIMIT_POLICY, policy)]) }
    }
}

/// Whose calls are counted together: those of a key; and of tokens, which are new every few minutes, those of an issuer
/// for an agent.
pub(crate) fn counted(caller: &Caller) -> Cow<'_, str> {
    match caller.key_id.split_once(':') {
        Some((issuer, _)) => format!("{issuer}:{}", caller.agent).into(),
        None if caller.key_id.is_empty() => (&caller.agent).into(),
        None => (&caller.key_id).into(),
    }
}

impl Pass {
    /// Adds the fields to those of the service, which limits by rates of its own: both are lists.
    pub(crate) fn append_fields(&self, headers: &mut HeaderMap) {
        for (name, value) in self.fields.iter().flatten() {
            headers.append(name, value.clone());
        }
    }
}

/// The refusal of a key that calls too often.
#[derive(Debug, thiserror::Error)]
#[error("an API key called more often than it may")]
struct RateLimited {
    subject: String,
    rate: Rate,
    retry: Option<Duration>,
}

impl RateLimited {
    fn new(key: &str, rate: Rate, decision: &Decision) -> Self {
        Self { subject: format!("{BUCKET}:{key}"), rate, retry: decision.retry() }
    }
}

impl ServiceError for RateLimited {
    fn kind(&self) -> Kind {
        Kind::Exhausted
    }

    fn reason(&self) -> ErrorReason {
        ErrorReason::RateLimited
    }

    fn public_message(&self) -> String {
        let Rate { limit, burst, .. } = self.rate;
        let retry = self.retry.map_or(0, |retry| retry.as_micros().div_ceil(1_000));
        format!(
            "this API key may make {limit} requests a minute, {burst} of them at once; try again in {retry} ms"
        )
    }

    fn details(&self) -> Details {
        let Rate { limit, burst, .. } = self.rate;
        Details {
            retry_after: self.retry,
            quota: Some((
                self.subject.clone(),
                format!("{limit} requests a minute, {burst} of them at once"),
            )),
            ..Details::default()
        }
    }
}
