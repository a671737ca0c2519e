//! A bounded map that forgets: when the younger half is full, the older half goes. Whoever fills it says since when
//! what it read holds, so that nothing read before a [`Cache::forget`] stays after it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(in crate::store) struct Cache<K, V> {
    halves: Mutex<Halves<K, V>>,
    half: usize,
}

#[derive(Debug)]
struct Halves<K, V> {
    epoch: Epoch,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

/// The time between two [`Cache::forget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Epoch(u64);

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// Holds at most `capacity` entries.
    pub(in crate::store) fn new(capacity: usize) -> Self {
        let halves = Halves { epoch: Epoch(0), young: HashMap::new(), old: HashMap::new() };
        Self { halves: Mutex::new(halves), half: capacity.div_ceil(2) }
    }

    /// To be asked before reading what will be put.
    pub(in crate::store) fn epoch(&self) -> Epoch {
        self.lock().epoch
    }

    pub(in crate::store) fn find(&self, key: &K) -> Option<V> {
        let halves = self.lock();
        halves.young.get(key).or_else(|| halves.old.get(key)).cloned()
    }

    /// Does nothing if something was forgotten since `epoch`.
    pub(in crate::store) fn put(&self, epoch: Epoch, key: K, value: V) {
        let mut halves = self.lock();
        if halves.epoch != epoch {
            return;
        }
        if halves.young.len() >= self.half {
            halves.old = std::mem::take(&mut halves.young);
        }
        halves.young.insert(key, value);
    }

    /// Empties it.
    pub(in crate::store) fn forget(&self) {
        let mut halves = self.lock();
        halves.epoch = Epoch(halves.epoch.0.wrapping_add(1));
        halves.young.clear();
        halves.old.clear();
    }

    /// A panic elsewhere leaves the maps whole: each change is one call.
    fn lock(&self) -> MutexGuard<'_, Halves<K, V>> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_capacity_and_forgets_the_oldest() {
        let cache = Cache::new(4);
        for n in 0..100 {
            cache.put(cache.epoch(), n, n);
            assert_eq!(cache.find(&n), Some(n));
        }
        assert!((0..100).filter(|n| cache.find(n).is_some()).count() <= 4);
        assert_eq!(cache.find(&0), None);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let cache = Cache::new(4);
        let before = cache.epoch();
        cache.forget();
        cache.put(before, 1, 1);
        assert_eq!(cache.find(&1), None);
        cache.put(cache.epoch(), 1, 1);
        assert_eq!(cache.find(&1), Some(1));
        cache.forget();
        assert_eq!(cache.find(&1), None);
    }
}
