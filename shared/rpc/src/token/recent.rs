//! What was worked out a moment ago, for whoever asks the same again. Forgets whenever it likes, and never grows
//! beyond its places. Must never answer for another key: hash and key must both agree.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, PoisonError},
};

/// Places; the hash of a key says which one it has, and a newer key takes it.
const PLACES: usize = 1 << u8::BITS;

/// Values by key. The hash is keyed at random, so that no one outside can tell which keys share a place, nor come to
/// have a key compared with one that is here.
pub(super) struct Recent<K, V> {
    hasher: RandomState,
    places: Box<[Place<K, V>]>,
}

type Place<K, V> = Mutex<Option<Entry<K, V>>>;

struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K, V: Clone> Recent<K, V> {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), places: (0..PLACES).map(|_| Mutex::new(None)).collect() }
    }

    /// The hash of a key, for the two functions below.
    pub(super) fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The value of the key of this hash that `is` the one asked for.
    pub(super) fn get(&self, hash: u64, is: impl FnOnce(&K) -> bool) -> Option<V> {
        let place = self.place(hash).lock().unwrap_or_else(PoisonError::into_inner);
        let known = place.as_ref().filter(|known| known.hash == hash && is(&known.key));
        known.map(|known| known.value.clone())
    }

    pub(super) fn put(&self, hash: u64, key: K, value: V) {
        let entry = Some(Entry { hash, key, value });
        *self.place(hash).lock().unwrap_or_else(PoisonError::into_inner) = entry;
    }

    fn place(&self, hash: u64) -> &Place<K, V> {
        // The lowest eight bits, as many as there are places.
        &self.places[usize::from(hash.to_le_bytes()[0])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_for_the_same_key_only_and_forgets_rather_than_grow() {
        let recent = Recent::new();
        let keys: Vec<String> = (0..10 * PLACES).map(|number| number.to_string()).collect();
        for key in &keys {
            recent.put(recent.hash(key), key.clone(), key.clone());
        }
        let found: Vec<_> = keys
            .iter()
            .filter_map(|key| Some((key, recent.get(recent.hash(key), |known| known == key)?)))
            .collect();
        assert!(found.len() <= PLACES && found.len() > PLACES / 2, "{}", found.len());
        assert!(found.iter().all(|(key, value)| *key == value));
        // The same hash is not enough, nor is the same place.
        let (key, _) = found[0];
        let hash = recent.hash(key);
        assert_eq!(recent.get(hash, |known| known == "another"), None);
        assert_eq!(recent.get(hash.wrapping_add(PLACES as u64), |_| true), None);
    }
}
