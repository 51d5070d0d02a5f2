//! A table behind one lock whose keys may be compared by anything, since no comparison runs under the lock.
//!
//! Most keys are told apart at sight. Where that does not suffice, the candidates are copied out, compared without the
//! lock, and looked up again with the verdicts. What [`Keyed::at`] does then is atomic.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use hashbrown::HashTable;
use parking_lot::Mutex;

/// What a table needs of its keys.
pub trait Key: Clone {
    /// What a comparison may fail with.
    type Error;

    /// The hash: the same for equal keys.
    fn hash(&self) -> u64;

    /// Are the keys, whose hashes are the same, equal? Nothing if that cannot be told by code of ours alone: then
    /// [`Key::is_equal`] is asked when no lock is held.
    fn is_equal_at_sight(&self, other: &Self) -> Option<bool>;

    /// Are the keys equal? Runs without any lock, so it may do anything.
    ///
    /// # Errors
    /// What the comparison fails with.
    fn is_equal(&self, other: &Self) -> Result<bool, Self::Error>;
}

/// A key of a Rust program, with its hash.
#[derive(Clone, Debug)]
pub struct Plain<T> {
    /// The key itself.
    pub key: T,
    hash: u64,
}

impl<T: Hash> Plain<T> {
    /// Computes the hash.
    pub fn new(key: T) -> Self {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&key);
        Plain { key, hash }
    }
}

impl<T: Clone + Eq> Key for Plain<T> {
    type Error = std::convert::Infallible;

    fn hash(&self) -> u64 {
        self.hash
    }

    fn is_equal_at_sight(&self, other: &Self) -> Option<bool> {
        Some(self.key == other.key)
    }

    fn is_equal(&self, other: &Self) -> Result<bool, Self::Error> {
        Ok(self.key == other.key)
    }
}

struct Entry<K, V> {
    hash: u64,
    id: u64,
    key: K,
    value: V,
}

/// Where an entry stands, as long as the lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub(crate) u32);

/// The entries, for who holds the lock.
pub struct Table<K, V> {
    index: HashTable<u32>,
    entries: Vec<Option<Entry<K, V>>>,
    free: Vec<u32>,
    next_id: u64,
}

enum Sight<K> {
    Found(Place),
    Absent,
    Unsure(Vec<(u64, K)>),
}

impl<K: Key, V> Table<K, V> {
    fn new() -> Self {
        Table { index: HashTable::new(), entries: Vec::new(), free: Vec::new(), next_id: 0 }
    }

    fn entry(&self, place: Place) -> &Entry<K, V> {
        self.entries[place.0 as usize].as_ref().expect("a place holds an entry")
    }

    fn entry_mut(&mut self, place: Place) -> &mut Entry<K, V> {
        self.entries[place.0 as usize].as_mut().expect("a place holds an entry")
    }

    /// Looks for `key`, with what is known of the entries that were compared before.
    fn look(&self, key: &K, hash: u64, verdicts: &[(u64, bool)]) -> Sight<K> {
        let mut unsure = Vec::new();
        for &idx in self.index.iter_hash(hash) {
            let entry = self.entry(Place(idx));
            if entry.hash != hash {
                continue;
            }
            let known = verdicts.iter().find(|(id, _)| *id == entry.id).map(|(_, equal)| *equal);
            match known.or_else(|| entry.key.is_equal_at_sight(key)) {
                Some(true) => return Sight::Found(Place(idx)),
                Some(false) => {}
                None => unsure.push((entry.id, entry.key.clone())),
            }
        }
        if unsure.is_empty() { Sight::Absent } else { Sight::Unsure(unsure) }
    }

    /// The key at a place.
    pub fn key(&self, place: Place) -> &K {
        &self.entry(place).key
    }

    /// The value at a place.
    pub fn value(&self, place: Place) -> &V {
        &self.entry(place).value
    }

    /// The value at a place, to be changed.
    pub fn value_mut(&mut self, place: Place) -> &mut V {
        &mut self.entry_mut(place).value
    }

    /// The number of the entry at a place: it grows with each insertion and is never given twice.
    pub fn id(&self, place: Place) -> u64 {
        self.entry(place).id
    }

    /// Adds an entry for a key that is absent.
    pub fn insert(&mut self, key: K, value: V) -> Place {
        let (hash, id) = (key.hash(), self.next_id);
        self.next_id += 1;
        let entry = Some(Entry { hash, id, key, value });
        let idx = match self.free.pop() {
            Some(idx) => {
                self.entries[idx as usize] = entry;
                idx
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 entries")
            }
        };
        let entries = &self.entries;
        let rehash = |idx: &u32| entries[*idx as usize].as_ref().expect("an indexed entry").hash;
        self.index.insert_unique(hash, idx, rehash);
        Place(idx)
    }

    /// Takes an entry out. The caller drops it after the lock.
    pub fn remove(&mut self, place: Place) -> (K, V) {
        let entry = self.entries[place.0 as usize].take().expect("a place holds an entry");
        let found = self.index.find_entry(entry.hash, |idx| *idx == place.0);
        found.unwrap_or_else(|_| panic!("an entry is indexed")).remove();
        self.free.push(place.0);
        (entry.key, entry.value)
    }

    /// The place of the entry with this hash and number, if it is still there.
    pub fn find(&self, hash: u64, id: u64) -> Option<Place> {
        self.index.find(hash, |idx| self.entry(Place(*idx)).id == id).map(|idx| Place(*idx))
    }

    /// All places, in the order of insertion.
    pub fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self.index.iter().map(|idx| Place(*idx)).collect();
        places.sort_by_key(|place| self.id(*place));
        places
    }

    /// Takes everything out. The caller drops it after the lock.
    pub fn drain(&mut self) -> Vec<(K, V)> {
        self.index.clear();
        self.free.clear();
        let entries = std::mem::take(&mut self.entries);
        entries.into_iter().flatten().map(|entry| (entry.key, entry.value)).collect()
    }

    /// Calls `visit` with each key and value, in no order, without allocating.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        self.entries.iter().flatten().for_each(|entry| visit(&entry.key, &entry.value));
    }
}

/// A table and what belongs to it, behind one lock.
pub struct Keyed<K, V, S> {
    inner: Mutex<(Table<K, V>, S)>,
}

impl<K: Key, V, S> Keyed<K, V, S> {
    /// An empty table with `state` beside it.
    pub fn new(state: S) -> Self {
        Keyed { inner: Mutex::new((Table::new(), state)) }
    }

    /// Runs `act` under the lock, with the place of `key` if it is there. `act` compares, calls and drops nothing that
    /// is not ours: what it takes out it returns.
    ///
    /// # Errors
    /// What a comparison of keys fails with; `act` has not run then.
    pub fn at<R>(
        &self,
        key: &K,
        act: impl FnOnce(&mut Table<K, V>, &mut S, Option<Place>) -> R,
    ) -> Result<R, K::Error> {
        let hash = key.hash();
        let mut verdicts = Vec::new();
        loop {
            let unsure = {
                let (table, state) = &mut *self.inner.lock();
                match table.look(key, hash, &verdicts) {
                    Sight::Found(place) => return Ok(act(table, state, Some(place))),
                    Sight::Absent => return Ok(act(table, state, None)),
                    Sight::Unsure(candidates) => candidates,
                }
            };
            for (id, candidate) in unsure {
                verdicts.push((id, candidate.is_equal(key)?));
            }
        }
    }

    /// Runs `act` under the lock, by the same rules.
    pub fn with<R>(&self, act: impl FnOnce(&mut Table<K, V>, &mut S) -> R) -> R {
        let (table, state) = &mut *self.inner.lock();
        act(table, state)
    }

    /// Runs `look` under the lock if it is free: for a garbage collector that has stopped all threads.
    pub fn try_look(&self, look: impl FnOnce(&Table<K, V>, &S)) -> bool {
        let Some(inner) = self.inner.try_lock() else { return false };
        look(&inner.0, &inner.1);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A key that cannot be told at sight, with a comparison that may do what it likes.
    #[derive(Clone)]
    struct Odd<'a> {
        number: i32,
        compare: Option<&'a dyn Fn()>,
    }

    impl Key for Odd<'_> {
        type Error = &'static str;

        fn hash(&self) -> u64 {
            1
        }

        fn is_equal_at_sight(&self, _: &Self) -> Option<bool> {
            None
        }

        fn is_equal(&self, other: &Self) -> Result<bool, Self::Error> {
            other.compare.iter().for_each(|compare| compare());
            if other.number < 0 { Err("no") } else { Ok(self.number == other.number) }
        }
    }

    fn odd<'a>(number: i32) -> Odd<'a> {
        Odd { number, compare: None }
    }

    fn put<'a>(keyed: &Keyed<Odd<'a>, i32, ()>, key: &Odd<'a>, value: i32) -> Option<i32> {
        let put = keyed.at(key, |table, (), place| match place {
            Some(place) => Some(std::mem::replace(table.value_mut(place), value)),
            None => {
                table.insert(key.clone(), value);
                None
            }
        });
        put.expect("a comparison that does not fail")
    }

    #[test]
    fn keys_with_one_hash_are_told_apart_by_comparison() {
        let keyed = Keyed::new(());
        assert_eq!(put(&keyed, &odd(1), 10), None);
        assert_eq!(put(&keyed, &odd(2), 20), None);
        assert_eq!(put(&keyed, &odd(1), 11), Some(10));
        assert_eq!(keyed.with(|table, ()| table.places().len()), 2);
    }

    #[test]
    fn a_comparison_may_use_the_table_and_insert_the_same_key() {
        let keyed = Keyed::new(());
        put(&keyed, &odd(1), 10);
        let entered = Cell::new(false);
        let compare = || {
            if !entered.replace(true) {
                put(&keyed, &odd(2), 20);
            }
        };
        let key = Odd { number: 2, compare: Some(&compare) };
        assert_eq!(put(&keyed, &key, 21), Some(20), "the entry that came meanwhile is found");
    }

    #[test]
    fn a_comparison_that_fails_changes_nothing() {
        let keyed = Keyed::new(());
        put(&keyed, &odd(1), 10);
        assert_eq!(keyed.at(&odd(-1), |_, (), _| panic!("not reached")), Err("no"));
        assert_eq!(keyed.with(|table, ()| table.places().len()), 1);
    }

    #[test]
    fn places_come_in_the_order_of_insertion_and_ids_are_not_given_again() {
        let keyed = Keyed::new(());
        for number in 0..5 {
            put(&keyed, &odd(number), number);
        }
        let removed = keyed.at(&odd(1), |table, (), place| {
            let place = place.expect("it was put");
            (table.id(place), table.remove(place).1)
        });
        let (id, value) = removed.expect("a comparison that does not fail");
        assert_eq!(value, 1);
        put(&keyed, &odd(9), 9);
        keyed.with(|table, ()| {
            assert_eq!(table.find(1, id), None);
            let values: Vec<i32> = table.places().into_iter().map(|place| *table.value(place)).collect();
            assert_eq!(values, [0, 2, 3, 4, 9]);
        });
    }
}
