//! What was used lately, in bounded memory and for a bounded time: two generations, of which the older is dropped
//! whole; and nothing is older than both may be, however often it is used. A key that is erased is so out of memory
//! soon, too.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// How long a generation takes in at most.
const GENERATION: Duration = Duration::from_mins(5);

/// How long anything stays.
const LONGEST: Duration = Duration::from_mins(10);

/// A map of what was used lately.
pub(super) struct Recent<K, V> {
    new: HashMap<K, (Instant, V)>,
    old: HashMap<K, (Instant, V)>,
    most: usize,
    since: Instant,
}

impl<K: Hash + Eq + Clone, V: Clone> Recent<K, V> {
    /// At most so many.
    pub(super) fn new(most: usize) -> Self {
        Self { new: HashMap::new(), old: HashMap::new(), most, since: Instant::now() }
    }

    /// One that was used lately; it is used now, and no younger for that.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if self.since.elapsed() > GENERATION {
            self.turn();
        }
        let is_young = |since: &Instant| since.elapsed() < LONGEST;
        if let Some((since, value)) = self.new.get(key) {
            return is_young(since).then(|| value.clone());
        }
        let (key, (since, value)) = self.old.remove_entry(key)?;
        if !is_young(&since) {
            return None;
        }
        self.put_since(key, since, value.clone());
        Some(value)
    }

    /// Takes one in.
    pub(super) fn put(&mut self, key: K, value: V) {
        self.put_since(key, Instant::now(), value);
    }

    fn put_since(&mut self, key: K, since: Instant, value: V) {
        if self.new.len() >= self.most / 2 || self.since.elapsed() > GENERATION {
            self.turn();
        }
        self.new.insert(key, (since, value));
    }

    /// Drops one.
    pub(super) fn remove(&mut self, key: &K) {
        self.new.remove(key);
        self.old.remove(key);
    }

    /// Drops all but these.
    pub(super) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.new.retain(|_, (_, value)| keep(value));
        self.old.retain(|_, (_, value)| keep(value));
    }

    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.new);
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes_and_there_is_never_more() {
        let mut recent = Recent::new(10);
        for number in 0..100 {
            recent.put(number, number);
            assert_eq!(recent.get(&0), Some(0), "used all the time");
            assert!(recent.new.len() + recent.old.len() <= 10);
        }
        assert_eq!((recent.get(&50), recent.get(&99)), (None, Some(99)));
        recent.retain(|value| *value != 99);
        recent.remove(&0);
        assert_eq!((recent.get(&99), recent.get(&0)), (None, None));
    }

    #[test]
    fn nothing_stays_for_good_by_being_used() {
        let mut recent = Recent::new(10);
        let minutes = |count| Instant::now().checked_sub(Duration::from_mins(count)).unwrap();
        recent.put_since(1, minutes(6), 1);
        recent.since = minutes(6);
        assert_eq!(recent.get(&1), Some(1), "moved to the new generation");
        assert!(recent.new.contains_key(&1));
        recent.new.get_mut(&1).unwrap().0 = minutes(11);
        assert_eq!(recent.get(&1), None);
    }
}
