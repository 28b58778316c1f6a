//! Buckets in Redis, shared by all processes: one script a call, on Redis's own clock. A denial is remembered here until
//! it ends, so that hammering costs no round trip. While Redis is away this process admits its share of every rate.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use store::{Redis, RedisError, Script};

use crate::{
    Bucket, Decision, Memory, Rate,
    gcra::{Terms, decision},
    memory::{Buckets, Clock, key},
};

/// Buckets in Redis. Cheap to clone; clones share what they know.
#[derive(Debug, Clone)]
pub struct Distributed {
    redis: Redis,
    script: Arc<Script>,
    replicas: u32,
    /// What counts while Redis is away.
    fallback: Memory,
    denials: Arc<Denials>,
    /// Whether the last answer was missing: an outage is told once.
    away: Arc<AtomicBool>,
}

impl Distributed {
    /// Buckets in this Redis, shared by so many processes (at least 1).
    pub fn new(redis: Redis, replicas: u32) -> Self {
        Self {
            redis,
            script: Arc::new(Script::new(include_str!("gcra.lua"))),
            replicas: replicas.max(1),
            fallback: Memory::new(),
            denials: Arc::default(),
            away: Arc::default(),
        }
    }

    /// Takes the cost of one call from every bucket, or from none. See `Limiter::check`.
    pub async fn check(&self, scope: &str, buckets: &[Bucket]) -> Decision {
        let keys: Vec<String> = buckets.iter().map(|bucket| key(scope, &bucket.name)).collect();
        if keys.is_empty() {
            return decision(0, true, std::iter::empty());
        }
        if let Some(denial) = self.denials.find(&keys, buckets) {
            return denial;
        }
        let asked = self.denials.clock.now();
        match self.ask(&keys, buckets).await {
            Ok(reading) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("rate limits are shared through redis again");
                }
                let tats = || reading.tats.iter().copied();
                if !reading.admitted {
                    self.denials.remember(
                        keys,
                        buckets,
                        tats().map(|tat| asked + (tat - reading.now)),
                        asked,
                    );
                }
                let read = buckets.iter().zip(tats()).enumerate();
                decision(
                    reading.now,
                    reading.admitted,
                    read.map(|(index, (bucket, tat))| (index, bucket, tat)),
                )
            }
            Err(error) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, source, replicas = self.replicas, "this process limits by its share");
                }
                self.check_share(scope, buckets)
            }
        }
    }

    async fn ask(&self, keys: &[String], buckets: &[Bucket]) -> Result<Reading, RedisError> {
        let terms = buckets.iter().map(|bucket| Terms::new(bucket.rate, bucket.cost));
        let arguments: Vec<u64> = terms.flat_map(|terms| [terms.need, terms.capacity]).collect();
        let answer: Vec<u64> = self.redis.eval(&self.script, keys, arguments).await?;
        match answer.as_slice() {
            [admitted, now, tats @ ..] if tats.len() == keys.len() => Ok(Reading {
                admitted: *admitted == 1,
                now: *now,
                // What the script gives is never before its own clock.
                tats: tats.iter().map(|tat| *tat.max(now)).collect(),
            }),
            _ => Err(RedisError::Unavailable(None)),
        }
    }

    /// Counts in memory against this process's share, and tells the rates as they are for all.
    fn check_share(&self, scope: &str, buckets: &[Bucket]) -> Decision {
        let share = |bucket: &Bucket| Bucket { rate: self.share(bucket), ..bucket.clone() };
        let mut decision = self.fallback.check(scope, &buckets.iter().map(share).collect::<Vec<_>>());
        for (standing, bucket) in decision.standings.iter_mut().zip(buckets) {
            standing.period = bucket.rate.period;
        }
        decision
    }

    /// A longer period instead of a smaller limit, which would have to be rounded. A call that the whole bucket holds
    /// is possible still.
    fn share(&self, bucket: &Bucket) -> Rate {
        let Rate { limit, period, burst } = bucket.rate;
        let least = if bucket.cost <= burst { bucket.cost.max(1).min(burst) } else { 0 };
        Rate {
            limit,
            period: period.saturating_mul(self.replicas),
            burst: (burst / self.replicas).max(least),
        }
    }
}

/// What the script answers, in microseconds of Redis's clock.
struct Reading {
    admitted: bool,
    now: u64,
    tats: Vec<u64>,
}

/// Buckets known to refuse: a TAT only moves on, so what was read is what it is at least.
#[derive(Debug, Default)]
struct Denials {
    clock: Clock,
    buckets: Mutex<Buckets>,
}

impl Denials {
    /// The buckets that refuse for sure, if any does. A denial under another rate is forgotten: it changes the bucket.
    fn find(&self, keys: &[String], buckets: &[Bucket]) -> Option<Decision> {
        let mut kept = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let mut found = Vec::new();
        for (index, (key, bucket)) in keys.iter().zip(buckets).enumerate() {
            let Some(known) = kept.get(key) else { continue };
            let terms = Terms::new(bucket.rate, bucket.cost);
            if (terms.interval, terms.capacity) != (known.terms.interval, known.terms.capacity) {
                kept.remove(key);
            } else if known.tat > now && terms.wait(known.tat, now) > 0 {
                found.push((index, bucket, known.tat));
            }
        }
        drop(kept);
        (!found.is_empty()).then(|| decision(now, false, found.into_iter()))
    }

    /// Keeps the buckets that refused, by this process's clock at the time of asking: a denial ends rather too early
    /// than too late.
    fn remember(&self, keys: Vec<String>, buckets: &[Bucket], tats: impl Iterator<Item = u64>, now: u64) {
        let mut kept = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        for ((key, bucket), tat) in keys.into_iter().zip(buckets).zip(tats) {
            let terms = Terms::new(bucket.rate, bucket.cost);
            if terms.wait(tat, now) > 0 {
                kept.put(key, tat, terms, now);
            }
        }
    }
}
