//! The buckets of one process: exact under any concurrency, and no more of them than are in use. Must never wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

use crate::{
    Bucket, Decision,
    gcra::{Terms, decision},
};

/// As many buckets are kept before idle ones are looked for.
const FEW: usize = 1024;

/// Buckets of this process. Cheap to clone; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    clock: Clock,
    buckets: Arc<Mutex<Buckets>>,
}

impl Memory {
    /// No bucket has been used yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the cost of one call from every bucket, or from none. See `Limiter::check`.
    pub fn check(&self, scope: &str, buckets: &[Bucket]) -> Decision {
        let keys: Vec<String> = buckets.iter().map(|bucket| key(scope, &bucket.name)).collect();
        let terms: Vec<Terms> = buckets.iter().map(|bucket| Terms::new(bucket.rate, bucket.cost)).collect();
        let mut kept = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let read = |(key, terms): (&String, &Terms)| {
            terms.current(kept.get(key).map_or(0, |bucket| bucket.tat), now)
        };
        let mut tats: Vec<u64> = keys.iter().zip(&terms).map(read).collect();
        let admitted = tats.iter().zip(&terms).all(|(tat, terms)| terms.wait(*tat, now) == 0);
        for ((key, terms), tat) in keys.into_iter().zip(&terms).zip(&mut tats) {
            if admitted {
                *tat += terms.need;
            }
            kept.put(key, *tat, *terms, now);
        }
        drop(kept);
        let read = buckets.iter().zip(tats).enumerate().map(|(index, (bucket, tat))| (index, bucket, tat));
        decision(now, admitted, read)
    }

    /// How many buckets are kept.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.buckets.lock().unwrap().kept.len()
    }
}

/// What is known of a bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// Its theoretical arrival time.
    pub tat: u64,
    /// Under which it was last used.
    pub terms: Terms,
}

/// Buckets by key. One that is full is as good as none.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    kept: HashMap<String, Kept>,
    /// So many were left when idle ones were last dropped.
    busy: usize,
}

impl Buckets {
    pub(crate) fn get(&self, key: &str) -> Option<Kept> {
        self.kept.get(key).copied()
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.kept.remove(key);
    }

    /// Keeps a bucket, unless it is full. Drops idle ones whenever twice as many are kept as were busy the last time,
    /// so that this costs a constant time a call.
    pub(crate) fn put(&mut self, key: String, tat: u64, terms: Terms, now: u64) {
        if tat <= now {
            self.kept.remove(&key);
            return;
        }
        self.kept.insert(key, Kept { tat, terms });
        if self.kept.len() >= FEW.max(2 * self.busy) {
            self.kept.retain(|_, bucket| bucket.tat > now);
            self.busy = self.kept.len();
            self.kept.shrink_to(2 * self.busy);
        }
    }
}

/// Microseconds since it was made; never goes back.
#[derive(Debug, Clone)]
pub(crate) struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The key of a bucket, in Redis as well: everything of a scope has one hash tag, the text between the first braces,
/// and so one slot of a Cluster (Redis Cluster specification, "Hash tags").
pub(crate) fn key(scope: &str, name: &str) -> String {
    // An empty tag would count as none, and a closing brace would end it.
    let tag = if scope.is_empty() { "%".into() } else { scope.replace('%', "%25").replace('}', "%7D") };
    format!("limit:{{{tag}}}:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_scopes_share_a_key_and_each_has_one_tag() {
        let scopes = ["", "%", "%25", "a", "a}", "a%7D", "{a", "a}:b", "a:b"];
        let keys: std::collections::HashSet<_> = scopes.iter().map(|scope| key(scope, "b:c")).collect();
        assert_eq!(keys.len(), scopes.len());
        for key in keys {
            let tag = key.split_once('{').unwrap().1.split_once('}').unwrap();
            assert!(!tag.0.is_empty() && tag.1 == ":b:c", "{key}");
        }
    }
}
