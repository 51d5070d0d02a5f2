//! A bounded cache: at most so many entries, none older than so long, and one load per key at a time.
//!
//! Exactly the least recently used entry is evicted, and every operation is atomic: one lock guards the table and the
//! order. It is held for a few instructions; keys are compared, values dropped and loaders run without it. A cache that
//! may hold nothing (`entries_max` 0) still gives each key one load at a time: that is single flight without caching.
//!
//! The cache has no clock: callers pass the time, in nanoseconds of any clock that does not go back.

use std::sync::Arc;

use crate::flight::{Flight, Who};
use crate::keyed::{Key, Keyed, Place, Table};

const NONE: u32 = u32::MAX;

struct Held<V> {
    value: V,
    expires_ns: u64,
    older: u32,
    newer: u32,
}

enum Slot<V, E> {
    Held(Held<V>),
    Loading(Arc<Flight<Result<V, E>>>),
}

type Entries<K, V, E> = Table<K, Slot<V, E>>;

/// What a cache has done since it was made, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Lookups that found a value.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Entries that made room for others.
    pub evictions: u64,
    /// Entries that were found to be too old.
    pub expirations: u64,
    /// Entries that are held now; some of them may be too old without anybody having looked.
    pub entries: usize,
}

/// The order of use, as a list through the entries, and the counts.
struct Order {
    oldest: u32,
    newest: u32,
    stats: Stats,
}

impl Order {
    fn held<V, E, K: Key>(table: &mut Entries<K, V, E>, idx: u32) -> &mut Held<V> {
        match table.value_mut(Place(idx)) {
            Slot::Held(held) => held,
            Slot::Loading(_) => unreachable!("only held entries are in the order"),
        }
    }

    fn unlink<V, E, K: Key>(&mut self, table: &mut Entries<K, V, E>, idx: u32) {
        let held = Self::held(table, idx);
        let (older, newer) = (held.older, held.newer);
        match older {
            NONE => self.oldest = newer,
            older => Self::held(table, older).newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => Self::held(table, newer).older = older,
        }
    }

    fn link_newest<V, E, K: Key>(&mut self, table: &mut Entries<K, V, E>, idx: u32) {
        let before = std::mem::replace(&mut self.newest, idx);
        let held = Self::held(table, idx);
        (held.older, held.newer) = (before, NONE);
        match before {
            NONE => self.oldest = idx,
            before => Self::held(table, before).newer = idx,
        }
    }

    fn touch<V, E, K: Key>(&mut self, table: &mut Entries<K, V, E>, idx: u32) {
        if self.newest != idx {
            self.unlink(table, idx);
            self.link_newest(table, idx);
        }
    }
}

/// Something taken out of a cache, to be dropped where any code may run.
type Gone<K, V, E> = Option<(K, Slot<V, E>)>;

/// A load that the caller has to end with [`Cache::land`] or [`Cache::fail`].
pub struct Load<V, E> {
    flight: Arc<Flight<Result<V, E>>>,
    hash: u64,
    id: u64,
}

impl<V, E> Load<V, E> {
    /// What others wait for.
    pub fn flight(&self) -> &Arc<Flight<Result<V, E>>> {
        &self.flight
    }
}

/// What a caller has to do to get a value.
pub enum Begin<V, E> {
    /// Nothing: here it is.
    Held(V),
    /// Load it.
    Load(Load<V, E>),
    /// Wait for this to land, and begin again if it has no outcome.
    Wait(Arc<Flight<Result<V, E>>>),
}

/// A cache. `E` is what a load may fail with: the failure goes to all who wait for it, and is not kept.
pub struct Cache<K, V, E> {
    keyed: Keyed<K, Slot<V, E>, Order>,
    entries_max: usize,
    lives_ns: Option<u64>,
}

impl<K: Key, V: Clone, E> Cache<K, V, E> {
    /// A cache for `entries_max` entries, each of which lives for `lives_ns` after it was set.
    pub fn new(entries_max: Option<usize>, lives_ns: Option<u64>) -> Self {
        let order = Order { oldest: NONE, newest: NONE, stats: Stats::default() };
        Cache { keyed: Keyed::new(order), entries_max: entries_max.unwrap_or(usize::MAX), lives_ns }
    }

    fn expires_ns(&self, now_ns: u64) -> u64 {
        self.lives_ns.map_or(u64::MAX, |lives_ns| now_ns.saturating_add(lives_ns))
    }

    /// Takes the entry out if it is too old. True if a value is at the place and stays.
    fn is_fresh(table: &mut Entries<K, V, E>, order: &mut Order, at: Place, now_ns: u64) -> (bool, Gone<K, V, E>) {
        match table.value(at) {
            Slot::Loading(_) => (false, None),
            Slot::Held(held) if now_ns < held.expires_ns => (true, None),
            Slot::Held(_) => {
                order.stats.expirations += 1;
                (false, Some(Self::take(table, order, at)))
            }
        }
    }

    fn take(table: &mut Entries<K, V, E>, order: &mut Order, at: Place) -> (K, Slot<V, E>) {
        if matches!(table.value(at), Slot::Held(_)) {
            order.unlink(table, at.0);
            order.stats.entries -= 1;
        }
        table.remove(at)
    }

    /// Adds a value and takes out what it displaces.
    fn put(
        &self,
        table: &mut Entries<K, V, E>,
        order: &mut Order,
        key: K,
        value: V,
        now_ns: u64,
    ) -> (Gone<K, V, E>, Option<V>) {
        if self.entries_max == 0 {
            return (None, Some(value));
        }
        let mut gone = None;
        if order.stats.entries >= self.entries_max {
            order.stats.evictions += 1;
            gone = Some(Self::take(table, order, Place(order.oldest)));
        }
        let held = Held { value, expires_ns: self.expires_ns(now_ns), older: NONE, newer: NONE };
        let place = table.insert(key, Slot::Held(held));
        order.link_newest(table, place.0);
        order.stats.entries += 1;
        (gone, None)
    }

    fn look(
        table: &mut Entries<K, V, E>,
        order: &mut Order,
        at: Option<Place>,
        now_ns: u64,
    ) -> (Option<V>, Gone<K, V, E>) {
        let (is_fresh, gone) = at.map_or((false, None), |at| Self::is_fresh(table, order, at, now_ns));
        match at {
            Some(at) if is_fresh => {
                order.stats.hits += 1;
                order.touch(table, at.0);
                (Some(Order::held(table, at.0).value.clone()), gone)
            }
            _ => {
                order.stats.misses += 1;
                (None, gone)
            }
        }
    }

    /// The value of `key`; it becomes the most recently used.
    ///
    /// # Errors
    /// What a comparison of keys fails with, here and below.
    pub fn get(&self, key: &K, now_ns: u64) -> Result<Option<V>, K::Error> {
        Ok(self.keyed.at(key, |table, order, at| Self::look(table, order, at, now_ns))?.0)
    }

    /// Is there a value? Neither counts as a lookup nor as a use.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn contains(&self, key: &K, now_ns: u64) -> Result<bool, K::Error> {
        Ok(self
            .keyed
            .at(key, |table, order, at| at.map(|at| Self::is_fresh(table, order, at, now_ns)))?
            .is_some_and(|it| it.0))
    }

    /// Sets the value of `key`; a load of it that runs is not kept.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn set(&self, key: &K, value: V, now_ns: u64) -> Result<(), K::Error> {
        let own = key.clone();
        let gone = self.keyed.at(key, |table, order, at| {
            let before = at.map(|at| Self::take(table, order, at));
            (before, self.put(table, order, own, value, now_ns))
        })?;
        drop(gone);
        Ok(())
    }

    /// Takes the value of `key` out; a load of it that runs is not kept.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn pop(&self, key: &K, now_ns: u64) -> Result<Option<V>, K::Error> {
        let gone = self.keyed.at(key, |table, order, at| {
            let at = at?;
            let (is_fresh, gone) = Self::is_fresh(table, order, at, now_ns);
            match gone {
                Some(gone) => Some((is_fresh, gone)),
                None => Some((is_fresh, Self::take(table, order, at))),
            }
        })?;
        Ok(match gone {
            Some((true, (_, Slot::Held(held)))) => Some(held.value),
            _ => None,
        })
    }

    /// Says what `who` has to do to get the value of `key`.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn begin(&self, key: &K, who: Who, now_ns: u64) -> Result<Begin<V, E>, K::Error> {
        let own = key.clone();
        let (begin, _gone) = self.keyed.at(key, |table, order, at| {
            if let Some(at) = at
                && let Slot::Loading(flight) = table.value(at)
            {
                if !flight.is_orphan() {
                    return (Begin::Wait(Arc::clone(flight)), None);
                }
                let gone = Self::take(table, order, at);
                return (Self::load(table, own, who), Some(gone));
            }
            match Self::look(table, order, at, now_ns) {
                (Some(value), gone) => (Begin::Held(value), gone),
                (None, gone) => (Self::load(table, own, who), gone),
            }
        })?;
        Ok(begin)
    }

    fn load(table: &mut Entries<K, V, E>, key: K, who: Who) -> Begin<V, E> {
        let (flight, hash) = (Flight::new(who), key.hash());
        let place = table.insert(key, Slot::Loading(Arc::clone(&flight)));
        Begin::Load(Load { flight, hash, id: table.id(place) })
    }

    /// Ends a load: keeps the value, unless the key was set, popped or cleared meanwhile, and wakes who waits.
    pub fn land(&self, load: Load<V, E>, value: V, now_ns: u64) {
        let kept = value.clone();
        let gone = self.keyed.with(|table, order| match table.find(load.hash, load.id) {
            Some(at) => {
                let (key, slot) = table.remove(at);
                let own = key.clone();
                Some((key, slot, self.put(table, order, own, kept, now_ns)))
            }
            None => None,
        });
        drop(gone);
        load.flight.land(Some(Arc::new(Ok(value))));
    }

    /// Ends a load without a value: those who wait get the failure, or try for themselves if there is none.
    pub fn fail(&self, load: Load<V, E>, failure: Option<E>) {
        let gone = self.keyed.with(|table, _| table.find(load.hash, load.id).map(|at| table.remove(at)));
        drop(gone);
        load.flight.land(failure.map(|failure| Arc::new(Err(failure))));
    }

    /// Takes everything out; loads that run are not kept.
    pub fn clear(&self) {
        let gone = self.keyed.with(|table, order| {
            (order.oldest, order.newest, order.stats.entries) = (NONE, NONE, 0);
            table.drain()
        });
        drop(gone);
    }

    /// Takes out what is too old, and says how many entries that were.
    pub fn purge(&self, now_ns: u64) -> usize {
        let gone = self.keyed.with(|table, order| {
            let places = table.places().into_iter();
            places.filter_map(|at| Self::is_fresh(table, order, at, now_ns).1).collect::<Vec<_>>()
        });
        gone.len()
    }

    /// All entries at one moment, the least recently used first.
    pub fn items(&self, now_ns: u64) -> Vec<(K, V)> {
        self.keyed.with(|table, order| {
            let (mut items, mut idx) = (Vec::new(), order.oldest);
            while idx != NONE {
                let held = Order::held(table, idx);
                let (is_fresh, newer, value) = (now_ns < held.expires_ns, held.newer, held.value.clone());
                if is_fresh {
                    items.push((table.key(Place(idx)).clone(), value));
                }
                idx = newer;
            }
            items
        })
    }

    /// The counts at one moment.
    pub fn stats(&self) -> Stats {
        self.keyed.with(|_, order| order.stats)
    }

    /// Sets the counts of what was done to 0.
    pub fn forget_stats(&self) {
        self.keyed.with(|_, order| order.stats = Stats { entries: order.stats.entries, ..Stats::default() });
    }

    /// Calls `visit` with each key and value if the lock is free: for a garbage collector that has stopped all threads.
    pub fn try_visit(&self, mut visit: impl FnMut(&K, Option<&V>)) -> bool {
        self.keyed.try_look(|table, _| {
            table.for_each(|key, slot| match slot {
                Slot::Held(held) => visit(key, Some(&held.value)),
                Slot::Loading(_) => visit(key, None),
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed::Plain;

    type Numbers = Cache<Plain<u32>, u32, &'static str>;

    fn key(key: u32) -> Plain<u32> {
        Plain::new(key)
    }

    fn get(cache: &Numbers, at: u32, now_ns: u64) -> Option<u32> {
        let Ok(value) = cache.get(&key(at), now_ns);
        value
    }

    fn set(cache: &Numbers, at: u32, value: u32, now_ns: u64) {
        let Ok(()) = cache.set(&key(at), value, now_ns);
    }

    fn keys(cache: &Numbers) -> Vec<u32> {
        cache.items(0).into_iter().map(|(key, _)| key.key).collect()
    }

    fn begin(cache: &Numbers, at: u32, who: Who) -> Begin<u32, &'static str> {
        let Ok(begin) = cache.begin(&key(at), who, 0);
        begin
    }

    fn load(cache: &Numbers, at: u32) -> Load<u32, &'static str> {
        match begin(cache, at, Who::task(1)) {
            Begin::Load(load) => load,
            _ => panic!("nobody loads {at}"),
        }
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = Numbers::new(Some(2), None);
        set(&cache, 1, 10, 0);
        set(&cache, 2, 20, 0);
        assert_eq!(get(&cache, 1, 0), Some(10));
        set(&cache, 3, 30, 0);
        assert_eq!((get(&cache, 2, 0), keys(&cache)), (None, vec![1, 3]));
        assert_eq!(cache.stats(), Stats { hits: 1, misses: 1, evictions: 1, expirations: 0, entries: 2 });
    }

    /// The same operations on a list kept by hand, for many sequences.
    #[test]
    fn it_does_what_a_simple_model_does() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((seed >> 33) % below) as u32
        };
        for entries_max in [1, 2, 5] {
            let cache = Numbers::new(Some(entries_max), None);
            let mut model: Vec<(u32, u32)> = Vec::new();
            for step in 0..5000 {
                let at = random(8);
                let found = model.iter().position(|(key, _)| *key == at);
                match random(4) {
                    0 => {
                        set(&cache, at, step, 0);
                        found.map(|found| model.remove(found));
                        model.push((at, step));
                        if model.len() > entries_max {
                            model.remove(0);
                        }
                    }
                    1 => {
                        let Ok(popped) = cache.pop(&key(at), 0);
                        assert_eq!(popped, found.map(|found| model.remove(found).1));
                    }
                    _ => {
                        assert_eq!(get(&cache, at, 0), found.map(|found| model[found].1));
                        if let Some(found) = found {
                            let used = model.remove(found);
                            model.push(used);
                        }
                    }
                }
                assert_eq!(keys(&cache), model.iter().map(|(key, _)| *key).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn an_entry_lives_as_long_as_was_said() {
        let cache = Numbers::new(None, Some(100));
        set(&cache, 1, 10, 0);
        set(&cache, 2, 20, 50);
        assert_eq!((get(&cache, 1, 99), get(&cache, 1, 100)), (Some(10), None));
        assert_eq!(cache.stats().expirations, 1);
        assert_eq!((cache.purge(149), cache.purge(150)), (0, 1));
        assert_eq!(cache.stats().entries, 0);
    }

    #[test]
    fn one_load_at_a_time_whose_value_goes_to_all() {
        let cache = Numbers::new(Some(4), None);
        let first = load(&cache, 1);
        let Begin::Wait(flight) = begin(&cache, 1, Who::task(2)) else { panic!("the first loads") };
        load(&cache, 2);
        cache.land(first, 10, 0);
        assert_eq!(flight.outcome().as_deref(), Some(&Ok(10)));
        assert!(matches!(begin(&cache, 1, Who::task(2)), Begin::Held(10)));
    }

    #[test]
    fn a_failure_goes_to_all_and_is_not_kept() {
        let cache = Numbers::new(Some(4), None);
        let first = load(&cache, 1);
        let Begin::Wait(flight) = begin(&cache, 1, Who::task(2)) else { panic!("the first loads") };
        cache.fail(first, Some("no"));
        assert_eq!(flight.outcome().as_deref(), Some(&Err("no")));
        let second = load(&cache, 1);
        let Begin::Wait(flight) = begin(&cache, 1, Who::task(2)) else { panic!("the second loads") };
        cache.fail(second, None);
        assert!(flight.is_landed() && flight.outcome().is_none());
    }

    #[test]
    fn what_was_set_popped_or_cleared_during_a_load_stays_so() {
        let cache = Numbers::new(Some(4), None);
        let first = load(&cache, 1);
        set(&cache, 1, 11, 0);
        cache.land(first, 10, 0);
        assert_eq!(get(&cache, 1, 0), Some(11));
        let second = load(&cache, 2);
        assert_eq!(cache.pop(&key(2), 0).ok().flatten(), None);
        cache.land(second, 20, 0);
        assert_eq!(get(&cache, 2, 0), None);
        let third = load(&cache, 3);
        cache.clear();
        cache.land(third, 30, 0);
        assert_eq!(keys(&cache), []);
    }

    #[test]
    fn a_cache_for_nothing_is_single_flight() {
        let cache = Numbers::new(Some(0), None);
        let first = load(&cache, 1);
        assert!(matches!(begin(&cache, 1, Who::task(2)), Begin::Wait(_)));
        cache.land(first, 10, 0);
        load(&cache, 1);
        assert_eq!(cache.stats().entries, 0);
    }
}
