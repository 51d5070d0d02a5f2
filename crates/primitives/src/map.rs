//! Maps that many threads use at once: [`ConcurrentMap`] for values, [`CounterMap`] for counts.
//!
//! Both stand on the table in [`crate::raw::table`]: readers and those who change the value of a key that is there take
//! no lock; who adds or removes a key takes the lock of one shard for a few instructions.
//!
//! Each call on one key is linearizable: it takes effect at one moment between its beginning and its end. Walks and
//! lengths are weakly consistent: a key that is in the map from the beginning of a walk to its end is shown once. `Eq`,
//! `Hash`, `Clone`, `Drop` and closures run outside all locks, so they may use the map.
//!
//! A replaced or removed value is freed when no thread can be reading it, which may be some operations later.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, RandomState};

use crossbeam_epoch::{self as epoch, Guard, Owned};

use crate::raw::pinned::{Pinned, Slot};
use crate::raw::table::{self, Answer, Cell, Cursor, Found, Others, Removal, Search, Table};
use crate::raw::tally::{Refused, Tally, is_count};

/// The sum would lie beyond [`COUNT_MIN`](crate::raw::tally::COUNT_MIN) or
/// [`COUNT_MAX`](crate::raw::tally::COUNT_MAX). Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountOverflow;

impl std::fmt::Display for CountOverflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the count would lie beyond 2^62")
    }
}

impl std::error::Error for CountOverflow {}

/// The table with its hasher: what both maps do alike.
struct Keyed<K, C, S> {
    table: Table<K, C, Pinned>,
    hasher: S,
}

impl<K: Hash + Eq, C: Cell, S: BuildHasher> Keyed<K, C, S> {
    fn new(n_shards: usize, hasher: S) -> Self {
        Keyed { table: Table::new(n_shards), hasher }
    }

    #[inline(always)]
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> table::Hash {
        table::Hash::new(self.hasher.hash_one(key))
    }

    #[inline(always)]
    fn find<'g, Q>(&'g self, guard: &'g Guard, hash: table::Hash, key: &Q) -> Option<Found<'g, K, C>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        found(self.table.find(guard, hash, |stored, _| answer(stored.borrow() == key)))
    }

    /// As `find`, before an insertion.
    #[inline(always)]
    fn find_noting<'g, Q>(
        &'g self,
        guard: &'g Guard,
        hash: table::Hash,
        key: &Q,
        others: &mut Others,
    ) -> Option<Found<'g, K, C>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        found(self.table.find_noting(guard, hash, others, |stored, _| answer(stored.borrow() == key)))
    }
}

#[inline(always)]
fn answer(is_same: bool) -> Answer {
    if is_same { Answer::Same } else { Answer::Other }
}

#[inline(always)]
fn found<K, C>(search: Search<'_, K, C>) -> Option<Found<'_, K, C>> {
    match search {
        Search::Found(found) => Some(found),
        Search::Absent | Search::Stopped => None,
    }
}

/// A map from keys to values that are replaced as a whole.
pub struct ConcurrentMap<K, V, S = RandomState> {
    keyed: Keyed<K, Slot<V>, S>,
}

/// How many shards a map has unless it is told otherwise: more than there are threads that add keys at once.
fn n_shards() -> usize {
    4 * std::thread::available_parallelism().map_or(4, usize::from)
}

impl<K: Hash + Eq, V> ConcurrentMap<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self::with_hasher(n_shards(), RandomState::new())
    }
}

impl<K: Hash + Eq, V> Default for ConcurrentMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> ConcurrentMap<K, V, S> {
    /// An empty map with so many shards, rounded up to a power of two: as many keys can be added at the same time.
    pub fn with_hasher(n_shards: usize, hasher: S) -> Self {
        ConcurrentMap { keyed: Keyed::new(n_shards, hasher) }
    }

    /// The number of keys; while keys come and go it is that of no one moment.
    pub fn len(&self) -> usize {
        self.keyed.table.len()
    }

    /// Is there no key?
    pub fn is_empty(&self) -> bool {
        self.keyed.table.is_empty()
    }
}

impl<K: Hash + Eq, V: Send + Sync + 'static, S: BuildHasher> ConcurrentMap<K, V, S> {
    /// Calls `read` with the value of a key. The value stays as it is meanwhile, even if it is replaced or removed.
    #[inline(always)]
    pub fn read<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let guard = &epoch::pin();
        let found = self.keyed.find(guard, self.keyed.hash(key), key)?;
        found.cell.load(guard).map(|seen| read(seen.value()))
    }

    /// A copy of the value of a key.
    #[inline(always)]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.read(key, V::clone)
    }

    /// Is the key in the map?
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.read(key, |_| ()).is_some()
    }

    /// Sets the value of a key; says whether the key is new.
    pub fn insert(&self, key: K, value: V) -> bool {
        let guard = &epoch::pin();
        let hash = self.keyed.hash(&key);
        let (mut key, mut value, mut others) = (key, Owned::new(value), Others::default());
        loop {
            if let Some(found) = self.keyed.find_noting(guard, hash, &key, &mut others) {
                while let Some(seen) = found.cell.load(guard) {
                    match found.cell.replace(seen, value, guard) {
                        Ok(_) => return false,
                        Err(unused) => value = unused,
                    }
                }
            }
            match self.keyed.table.insert(guard, hash, &others, key, value) {
                Ok(()) => return true,
                Err(unused) => (key, value) = unused,
            }
        }
    }

    /// The value of a key, which is added with what `make` returns if it is not there. Threads that come at the same
    /// time may each call `make`; one of the values is stored, and all get that one.
    pub fn get_or_insert_with(&self, key: K, make: impl FnOnce() -> V) -> V
    where
        V: Clone,
    {
        if let Some(value) = self.get(&key) {
            return value;
        }
        let value = make();
        let guard = &epoch::pin();
        let hash = self.keyed.hash(&key);
        let (mut key, mut new, mut others) = (key, Owned::new(value.clone()), Others::default());
        loop {
            let found = self.keyed.find_noting(guard, hash, &key, &mut others);
            if let Some(seen) = found.and_then(|found| found.cell.load(guard)) {
                return seen.value().clone();
            }
            match self.keyed.table.insert(guard, hash, &others, key, new) {
                Ok(()) => return value,
                Err(unused) => (key, new) = unused,
            }
        }
    }

    /// Replaces the value of a key by `next(&value)`, in one step, and returns the new one; none if the key is not
    /// there. `next` is called again if another thread was faster.
    pub fn update<Q>(&self, key: &Q, mut next: impl FnMut(&V) -> V) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let guard = &epoch::pin();
        let hash = self.keyed.hash(key);
        let found = self.keyed.find(guard, hash, key)?;
        while let Some(seen) = found.cell.load(guard) {
            let new = Owned::new(next(seen.value()));
            if let Ok(stored) = found.cell.replace(seen, new, guard) {
                return Some(stored.value().clone());
            }
        }
        None
    }

    /// Replaces the value of a key by `new` if it equals `expected`; says whether it did.
    pub fn compare_and_set<Q>(&self, key: &Q, expected: &V, new: V) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: PartialEq,
    {
        let guard = &epoch::pin();
        let hash = self.keyed.hash(key);
        let mut new = Owned::new(new);
        let Some(found) = self.keyed.find(guard, hash, key) else { return false };
        while let Some(seen) = found.cell.load(guard).filter(|seen| seen.value() == expected) {
            match found.cell.replace(seen, new, guard) {
                Ok(_) => return true,
                Err(unused) => new = unused,
            }
        }
        false
    }

    /// Removes a key and returns a copy of its value.
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.remove_if(key, |_| true)
    }

    /// Removes a key if `condition` holds for its value, in one step; returns a copy of the value if it was removed.
    pub fn remove_if<Q>(&self, key: &Q, mut condition: impl FnMut(&V) -> bool) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let guard = &epoch::pin();
        let found = self.keyed.find(guard, self.keyed.hash(key), key)?;
        loop {
            let seen = found.cell.load(guard).filter(|seen| condition(seen.value()))?;
            let taken = self.keyed.table.remove(guard, &found, |_, slot| slot.take(Some(seen), guard));
            if let Removal::Removed(taken) = taken {
                return Some(taken.value().clone());
            }
        }
    }

    /// Removes all keys, shard by shard.
    pub fn clear(&self) {
        let guard = &epoch::pin();
        self.keyed.table.clear(epoch::pin, |_, slot| slot.take(None, guard).map(|_| ()), drop);
    }

    /// Walks over copies of the keys and values.
    pub fn iter(&self) -> Iter<'_, K, V, S> {
        Iter { map: self, cursor: Cursor::default() }
    }

    /// Copies of all keys and values.
    pub fn snapshot(&self) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        self.iter().collect()
    }
}

impl<'m, K: Hash + Eq + Clone, V: Clone + Send + Sync + 'static, S: BuildHasher> IntoIterator
    for &'m ConcurrentMap<K, V, S>
{
    type Item = (K, V);
    type IntoIter = Iter<'m, K, V, S>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A walk over a [`ConcurrentMap`].
pub struct Iter<'m, K, V, S> {
    map: &'m ConcurrentMap<K, V, S>,
    cursor: Cursor,
}

impl<K: Hash + Eq + Clone, V: Clone + Send + Sync + 'static, S: BuildHasher> Iterator for Iter<'_, K, V, S> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        let guard = &epoch::pin();
        loop {
            let (key, slot) = self.map.keyed.table.next(guard, &mut self.cursor)?;
            if let Some(seen) = slot.load(guard) {
                return Some((key.clone(), seen.value().clone()));
            }
        }
    }
}

/// A map from keys to counts, which are changed in place.
pub struct CounterMap<K, S = RandomState> {
    keyed: Keyed<K, Tally, S>,
}

impl<K: Hash + Eq> CounterMap<K> {
    /// An empty map.
    pub fn new() -> Self {
        Self::with_hasher(n_shards(), RandomState::new())
    }
}

impl<K: Hash + Eq> Default for CounterMap<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Hash + Eq, S: BuildHasher> CounterMap<K, S> {
    /// An empty map with so many shards, rounded up to a power of two.
    pub fn with_hasher(n_shards: usize, hasher: S) -> Self {
        CounterMap { keyed: Keyed::new(n_shards, hasher) }
    }

    /// The count of a key.
    pub fn get<Q>(&self, key: &Q) -> Option<i64>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let guard = &epoch::pin();
        self.keyed.find(guard, self.keyed.hash(key), key)?.cell.load()
    }

    /// Adds to the count of a key, which begins at 0, and returns the sum. `own` makes the key if it must be added.
    ///
    /// # Errors
    /// [`CountOverflow`] if the sum is no count; nothing was changed.
    pub fn add<Q>(&self, key: &Q, n: i64, own: impl FnOnce(&Q) -> K) -> Result<i64, CountOverflow>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let guard = &epoch::pin();
        let hash = self.keyed.hash(key);
        let (mut owned, mut own, mut others) = (None, Some(own), Others::default());
        loop {
            if let Some(found) = self.keyed.find_noting(guard, hash, key, &mut others) {
                match found.cell.add(n) {
                    Ok(sum) => return Ok(sum),
                    Err(Refused::Overflow) => return Err(CountOverflow),
                    Err(Refused::Dead) => {}
                }
            }
            if !is_count(n) {
                return Err(CountOverflow);
            }
            let Some(new) = owned.take().or_else(|| own.take().map(|own| own(key))) else { unreachable!() };
            match self.keyed.table.insert(guard, hash, &others, new, n) {
                Ok(()) => return Ok(n),
                Err((unused, _)) => owned = Some(unused),
            }
        }
    }

    /// Removes a key and returns its count.
    pub fn remove<Q>(&self, key: &Q) -> Option<i64>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let guard = &epoch::pin();
        let found = self.keyed.find(guard, self.keyed.hash(key), key)?;
        match self.keyed.table.remove(guard, &found, |_, tally| tally.take()) {
            Removal::Removed(count) => Some(count),
            Removal::Kept | Removal::Reopen => None,
        }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keyed.table.len()
    }

    /// Is there no key?
    pub fn is_empty(&self) -> bool {
        self.keyed.table.is_empty()
    }

    /// Copies of all keys, with their counts.
    pub fn snapshot(&self) -> Vec<(K, i64)>
    where
        K: Clone,
    {
        let (guard, mut cursor) = (&epoch::pin(), Cursor::default());
        let walk = std::iter::from_fn(|| self.keyed.table.next(guard, &mut cursor));
        walk.filter_map(|(key, tally)| Some((key.clone(), tally.load()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// Few keys whose hashes differ little, so that they meet in the index.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Close(u8);

    impl Hash for Close {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            state.write_u8(self.0 % 3);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u32),
        Remove(u8),
        RemoveOdd(u8),
        Get(u8),
        GetOrInsert(u8, u32),
        Update(u8),
        CompareAndSet(u8, u32, u32),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        let (key, value) = (0..40u8, 0..4u32);
        prop_oneof![
            6 => (key.clone(), value.clone()).prop_map(|(key, value)| Step::Insert(key, value)),
            4 => key.clone().prop_map(Step::Remove),
            1 => key.clone().prop_map(Step::RemoveOdd),
            2 => key.clone().prop_map(Step::Get),
            2 => (key.clone(), value.clone()).prop_map(|(key, value)| Step::GetOrInsert(key, value)),
            2 => key.clone().prop_map(Step::Update),
            2 => (key, value.clone(), value).prop_map(|(key, old, new)| Step::CompareAndSet(key, old, new)),
            1 => Just(Step::Clear),
        ]
    }

    fn apply(map: &ConcurrentMap<Close, u32>, model: &mut HashMap<Close, u32>, step: Step) {
        match step {
            Step::Insert(key, value) => {
                assert_eq!(map.insert(Close(key), value), model.insert(Close(key), value).is_none());
            }
            Step::Remove(key) => assert_eq!(map.remove(&Close(key)), model.remove(&Close(key))),
            Step::RemoveOdd(key) => {
                let is_odd = model.get(&Close(key)).is_some_and(|value| value % 2 == 1);
                let expected = is_odd.then(|| model.remove(&Close(key))).flatten();
                assert_eq!(map.remove_if(&Close(key), |value| value % 2 == 1), expected);
            }
            Step::Get(key) => assert_eq!(map.get(&Close(key)), model.get(&Close(key)).copied()),
            Step::GetOrInsert(key, value) => {
                assert_eq!(map.get_or_insert_with(Close(key), || value), *model.entry(Close(key)).or_insert(value));
            }
            Step::Update(key) => {
                let expected = model.get_mut(&Close(key)).map(|value| {
                    *value += 1;
                    *value
                });
                assert_eq!(map.update(&Close(key), |value| value + 1), expected);
            }
            Step::CompareAndSet(key, old, new) => {
                let is_old = model.get(&Close(key)) == Some(&old);
                assert_eq!(map.compare_and_set(&Close(key), &old, new), is_old);
                if is_old {
                    model.insert(Close(key), new);
                }
            }
            Step::Clear => {
                map.clear();
                model.clear();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 64 }, failure_persistence: None, ..Default::default() })]

        #[test]
        fn it_does_what_a_hash_map_does(steps in prop::collection::vec(step(), 1..400), n_shards in 1..5usize) {
            let map = ConcurrentMap::with_hasher(n_shards, RandomState::new());
            let mut model = HashMap::new();
            for step in steps {
                apply(&map, &mut model, step);
                assert_eq!(map.len(), model.len());
            }
            assert_eq!(map.snapshot().into_iter().collect::<HashMap<_, _>>(), model);
        }
    }

    const N: usize = if cfg!(miri) { 60 } else { 20_000 };

    #[test]
    fn readers_never_see_the_value_of_another_key() {
        let map = ConcurrentMap::with_hasher(1, RandomState::new());
        thread::scope(|scope| {
            for seed in 0..2 {
                let map = &map;
                scope.spawn(move || {
                    for n in 0..N {
                        let key = (n * 7 + seed) % 13;
                        if n % 3 == 0 {
                            map.remove(&key);
                        } else {
                            map.insert(key, (key, n));
                        }
                    }
                });
            }
            for n in 0..N {
                let key = n % 13;
                assert!(map.get(&key).is_none_or(|value| value.0 == key));
                if n % 100 == 0 {
                    assert!(map.iter().all(|(key, value)| value.0 == key));
                }
            }
        });
        let mut keys: Vec<_> = map.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), map.len());
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), map.len(), "a key is in the map once");
    }

    #[test]
    fn updates_are_not_lost_while_keys_come_and_go() {
        let (map, counts) = (ConcurrentMap::new(), CounterMap::new());
        let removed = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for n in 0..N {
                        map.get_or_insert_with(1, || 0);
                        assert!(map.update(&1, |value| value + 1).is_some());
                        counts.add(&(n % 5), 1, |key| *key).expect("no overflow");
                        if n % 16 == 0 {
                            let count = counts.remove(&(n % 5)).unwrap_or(0);
                            removed.fetch_add(count as usize, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(map.get(&1), Some(3 * N));
        let left: i64 = counts.snapshot().into_iter().map(|(_, count)| count).sum();
        assert_eq!(left as usize + removed.load(Ordering::Relaxed), 3 * N);
    }

    #[test]
    fn one_value_is_stored_for_all_who_come_at_once() {
        let map = ConcurrentMap::new();
        for round in 0..N / 20 {
            let values: Vec<usize> = thread::scope(|scope| {
                let threads: Vec<_> = (0..2)
                    .map(|me| {
                        scope.spawn({
                            let map = &map;
                            move || map.get_or_insert_with(round, || me)
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            assert_eq!(values[0], values[1]);
        }
    }

    /// Counts what is alive of it.
    struct Alive(Arc<AtomicUsize>);

    impl Alive {
        fn new(count: &Arc<AtomicUsize>) -> Self {
            count.fetch_add(1, Ordering::Relaxed);
            Alive(Arc::clone(count))
        }
    }

    impl Clone for Alive {
        fn clone(&self) -> Self {
            Alive::new(&self.0)
        }
    }

    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl PartialEq for Alive {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }

    #[test]
    fn nothing_is_leaked_and_nothing_freed_twice() {
        let (keys, values) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let map = ConcurrentMap::with_hasher(2, RandomState::new());
        for n in 0..N {
            map.insert(Rc::new(n % 50, &keys), Alive::new(&values));
            map.remove(&Rc::new((n * 3) % 50, &keys));
        }
        map.clear();
        map.insert(Rc::new(1, &keys), Alive::new(&values));
        drop(map);
        assert_eq!(keys.load(Ordering::Relaxed), 0);
        while values.load(Ordering::Relaxed) > 0 {
            epoch::pin().flush();
        }
    }

    /// A key that is counted.
    struct Rc(usize, #[allow(dead_code)] Alive);

    impl Rc {
        fn new(n: usize, count: &Arc<AtomicUsize>) -> Self {
            Rc(n, Alive::new(count))
        }
    }

    impl Hash for Rc {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    impl PartialEq for Rc {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }

    impl Eq for Rc {}

    #[test]
    fn keys_that_come_and_go_do_not_fill_the_memory() {
        let map = ConcurrentMap::with_hasher(1, RandomState::new());
        let keys = Arc::new(AtomicUsize::new(0));
        for n in 0..5 * N {
            map.insert(Rc::new(n, &keys), ());
            map.remove(&Rc::new(n, &keys));
        }
        assert!(map.is_empty());
        assert!(keys.load(Ordering::Relaxed) < 5000, "{} keys are kept", keys.load(Ordering::Relaxed));
    }
}
