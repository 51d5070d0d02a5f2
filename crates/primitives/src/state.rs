//! Values under names that many parts of a program read and change, with watchers that are told of every change.
//!
//! Each operation is atomic, and a change is put in line for its watchers in the same step, so watchers see changes in
//! the order in which they were made. They are called without any lock, by one thread at a time: the one whose change
//! found nobody calling. It also delivers what is put in line meanwhile, by others or by the watchers themselves.

use std::collections::VecDeque;

use crate::keyed::{Key, Keyed, Place, Table};
use crate::raw::fork::Stamp;

struct Slot<V, W> {
    /// The value, and the number of the change that set it.
    value: Option<(u64, V)>,
    watchers: Vec<(u64, W)>,
}

/// An entry that was taken out, to be dropped after the lock.
type Gone<K, V, W> = Option<(K, Slot<V, W>)>;

/// What happened to one value.
pub struct Change<K, V, W> {
    /// Its key.
    pub key: K,
    /// What it was; nothing if the key was absent.
    pub old: Option<V>,
    /// What it is now; nothing if the key was deleted.
    pub new: Option<V>,
    /// Who watched when it happened.
    pub watchers: Vec<W>,
}

struct Line<K, V, W> {
    changes: u64,
    watches: u64,
    everything: Vec<(u64, W)>,
    waiting: VecDeque<Change<K, V, W>>,
    deliverer: Option<Stamp>,
}

/// The values. `W` is a watcher, for example an `Arc` of a callback.
pub struct State<K, V, W> {
    keyed: Keyed<K, Slot<V, W>, Line<K, V, W>>,
}

/// A value as it was read: it changes hands only if nobody changed it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(Option<u64>);

impl<K: Key, V: Clone, W: Clone> Default for State<K, V, W> {
    fn default() -> Self {
        let line = Line { changes: 0, watches: 0, everything: Vec::new(), waiting: VecDeque::new(), deliverer: None };
        State { keyed: Keyed::new(line) }
    }
}

impl<K: Key, V: Clone, W: Clone> State<K, V, W> {
    /// The value of `key`, and the version for [`State::replace`].
    ///
    /// # Errors
    /// What a comparison of keys fails with, here and below.
    pub fn get(&self, key: &K) -> Result<(Option<V>, Version), K::Error> {
        self.keyed.at(key, |table, _, at| match at.and_then(|at| table.value(at).value.as_ref()) {
            Some((version, value)) => (Some(value.clone()), Version(Some(*version))),
            None => (None, Version(None)),
        })
    }

    /// Sets the value, or deletes it with `None`; returns what it was.
    ///
    /// # Errors
    /// See [`State::get`].
    pub fn set(&self, key: &K, new: Option<V>) -> Result<Option<V>, K::Error> {
        let own = key.clone();
        let (old, _gone) = self.keyed.at(key, |table, line, at| Self::write(table, line, at, own, new))?;
        Ok(old)
    }

    /// Sets the value, or deletes it with `None`, if nobody has changed it since `seen`. False if somebody has.
    ///
    /// # Errors
    /// See [`State::get`].
    pub fn replace(&self, key: &K, seen: Version, new: Option<V>) -> Result<bool, K::Error> {
        let own = key.clone();
        let written = self.keyed.at(key, |table, line, at| {
            let now = at.and_then(|at| table.value(at).value.as_ref()).map(|(version, _)| *version);
            match now == seen.0 {
                true => Ok(Self::write(table, line, at, own, new)),
                // Returned, so that it is dropped after the lock.
                false => Err(new),
            }
        })?;
        Ok(written.is_ok())
    }

    /// Deletes everything.
    pub fn clear(&self) {
        let gone = self.keyed.with(|table, line| {
            let places = table.places().into_iter();
            let clear = places.map(|at| {
                let own = table.key(at).clone();
                Self::write(table, line, Some(at), own, None)
            });
            clear.collect::<Vec<_>>()
        });
        drop(gone);
    }

    /// What it returns is dropped after the lock. `key` is a copy of one that the caller holds or gets back.
    fn write(
        table: &mut Table<K, Slot<V, W>>,
        line: &mut Line<K, V, W>,
        at: Option<Place>,
        key: K,
        new: Option<V>,
    ) -> (Option<V>, Gone<K, V, W>) {
        line.changes += 1;
        let value = new.clone().map(|value| (line.changes, value));
        let Some(at) = at else {
            if value.is_some() {
                let change = Change { key: key.clone(), old: None, new, watchers: Self::watchers(line, &[]) };
                Self::put_in_line(line, change);
                table.insert(key, Slot { value, watchers: Vec::new() });
            }
            return (None, None);
        };
        let slot = table.value_mut(at);
        let is_new = slot.value.is_none() && value.is_some();
        let old = std::mem::replace(&mut slot.value, value).map(|(_, value)| value);
        if old.is_some() || is_new {
            let watchers = Self::watchers(line, &slot.watchers);
            Self::put_in_line(line, Change { key, old: old.clone(), new, watchers });
        }
        let is_empty = slot.value.is_none() && slot.watchers.is_empty();
        (old, is_empty.then(|| table.remove(at)))
    }

    fn watchers(line: &Line<K, V, W>, of_key: &[(u64, W)]) -> Vec<W> {
        let mut watchers: Vec<&(u64, W)> = line.everything.iter().chain(of_key).collect();
        watchers.sort_by_key(|(number, _)| *number);
        watchers.into_iter().map(|(_, watcher)| watcher.clone()).collect()
    }

    fn put_in_line(line: &mut Line<K, V, W>, change: Change<K, V, W>) {
        if change.watchers.is_empty() {
            return;
        }
        line.waiting.push_back(change);
    }

    /// All values at one moment, in the order in which their keys came.
    pub fn items(&self) -> Vec<(K, V)> {
        self.keyed.with(|table, _| {
            let places = table.places().into_iter();
            let items = places.filter_map(|at| {
                let (_, value) = table.value(at).value.as_ref()?;
                Some((table.key(at).clone(), value.clone()))
            });
            items.collect()
        })
    }

    /// Adds a watcher of one key, or of all; returns its number.
    ///
    /// # Errors
    /// See [`State::get`].
    pub fn watch(&self, key: Option<&K>, watcher: W) -> Result<u64, K::Error> {
        let Some(key) = key else {
            return Ok(self.keyed.with(|_, line| {
                line.watches += 1;
                line.everything.push((line.watches, watcher));
                line.watches
            }));
        };
        let own = key.clone();
        let (number, _unused) = self.keyed.at(key, |table, line, at| {
            line.watches += 1;
            let (at, unused) = match at {
                Some(at) => (at, Some(own)),
                None => (table.insert(own, Slot { value: None, watchers: Vec::new() }), None),
            };
            table.value_mut(at).watchers.push((line.watches, watcher));
            (line.watches, unused)
        })?;
        Ok(number)
    }

    /// Removes the watcher with this number. Changes that were made before may still reach it.
    ///
    /// # Errors
    /// See [`State::get`].
    pub fn unwatch(&self, key: Option<&K>, number: u64) -> Result<(), K::Error> {
        let take = |watchers: &mut Vec<(u64, W)>| {
            let at = watchers.iter().position(|(own, _)| *own == number)?;
            Some(watchers.remove(at))
        };
        let Some(key) = key else {
            let gone = self.keyed.with(|_, line| take(&mut line.everything));
            drop(gone);
            return Ok(());
        };
        let gone = self.keyed.at(key, |table, _, at| {
            let at = at?;
            let slot = table.value_mut(at);
            let watcher = take(&mut slot.watchers);
            let is_empty = slot.value.is_none() && slot.watchers.is_empty();
            Some((watcher, is_empty.then(|| table.remove(at))))
        })?;
        drop(gone);
        Ok(())
    }

    /// Calls `tell` with each change that is in line, in order, unless another thread is at it: then that one does.
    pub fn deliver(&self, mut tell: impl FnMut(Change<K, V, W>)) {
        let is_ours = self.keyed.with(|_, line| {
            let is_free = line.deliverer.is_none_or(Stamp::is_orphan) && !line.waiting.is_empty();
            if is_free {
                line.deliverer = Some(Stamp::here());
            }
            is_free
        });
        if !is_ours {
            return;
        }
        let turn = Delivery(self);
        while let Some(change) = turn.next() {
            tell(change);
        }
    }

    /// Calls `visit` with each key, value and watcher if the lock is free: for a garbage collector that has stopped all
    /// threads.
    pub fn try_visit(&self, mut visit: impl FnMut(Option<&K>, Option<&V>, Option<&W>)) -> bool {
        self.keyed.try_look(|table, line| {
            table.for_each(|key, slot| {
                visit(Some(key), slot.value.as_ref().map(|(_, value)| value), None);
                slot.watchers.iter().for_each(|(_, watcher)| visit(None, None, Some(watcher)));
            });
            line.everything.iter().for_each(|(_, watcher)| visit(None, None, Some(watcher)));
        })
    }

    /// Takes everything out and tells nobody: for a garbage collector.
    pub fn abandon(&self) {
        let gone = self.keyed.with(|table, line| {
            (table.drain(), std::mem::take(&mut line.everything), std::mem::take(&mut line.waiting))
        });
        drop(gone);
    }
}

/// The turn of the thread that delivers; given up when there is nothing left, and when a watcher panics.
struct Delivery<'a, K: Key, V: Clone, W: Clone>(&'a State<K, V, W>);

impl<K: Key, V: Clone, W: Clone> Delivery<'_, K, V, W> {
    fn next(&self) -> Option<Change<K, V, W>> {
        self.0.keyed.with(|_, line| {
            let change = line.waiting.pop_front();
            if change.is_none() {
                line.deliverer = None;
            }
            change
        })
    }
}

impl<K: Key, V: Clone, W: Clone> Drop for Delivery<'_, K, V, W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.keyed.with(|_, line| line.deliverer = None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;
    use crate::keyed::Plain;

    type Texts = State<Plain<&'static str>, i32, &'static str>;

    fn key(key: &'static str) -> Plain<&'static str> {
        Plain::new(key)
    }

    fn set(state: &Texts, at: &'static str, value: Option<i32>) -> Option<i32> {
        let Ok(old) = state.set(&key(at), value);
        old
    }

    fn told(state: &Texts) -> String {
        let told = RefCell::new(Vec::new());
        state.deliver(|change| {
            let text = format!("{} {:?}->{:?} {:?}", change.key.key, change.old, change.new, change.watchers);
            told.borrow_mut().push(text);
        });
        told.into_inner().join("\n")
    }

    #[test]
    fn values_are_set_deleted_and_listed_in_the_order_in_which_they_came() {
        let state = Texts::default();
        assert_eq!(set(&state, "b", Some(1)), None);
        assert_eq!(set(&state, "a", Some(2)), None);
        assert_eq!(set(&state, "b", Some(3)), Some(1));
        assert_eq!(set(&state, "c", None), None);
        let items: Vec<_> = state.items().into_iter().map(|(key, value)| (key.key, value)).collect();
        assert_eq!(items, [("b", 3), ("a", 2)]);
        state.clear();
        assert!(state.items().is_empty());
    }

    #[test]
    fn a_value_that_was_changed_back_counts_as_changed() {
        let state = Texts::default();
        set(&state, "a", Some(1));
        let Ok((_, seen)) = state.get(&key("a"));
        set(&state, "a", Some(2));
        set(&state, "a", Some(1));
        assert_eq!(state.replace(&key("a"), seen, Some(9)), Ok(false));
        let Ok((value, seen)) = state.get(&key("a"));
        assert_eq!((value, state.replace(&key("a"), seen, Some(9))), (Some(1), Ok(true)));
        let Ok((_, absent)) = state.get(&key("b"));
        assert_eq!(state.replace(&key("b"), absent, Some(1)), Ok(true));
        assert_eq!(state.replace(&key("b"), absent, Some(2)), Ok(false));
    }

    #[test]
    fn watchers_are_told_in_the_order_of_changes_and_of_watching() {
        let state = Texts::default();
        let Ok(_) = state.watch(Some(&key("a")), "one");
        let Ok(all) = state.watch(None, "all");
        set(&state, "a", Some(1));
        set(&state, "b", Some(2));
        set(&state, "a", None);
        let expected =
            "a None->Some(1) [\"one\", \"all\"]\nb None->Some(2) [\"all\"]\na Some(1)->None [\"one\", \"all\"]";
        assert_eq!(told(&state), expected);
        let Ok(()) = state.unwatch(None, all);
        set(&state, "b", Some(3));
        assert_eq!(told(&state), "");
    }

    #[test]
    fn a_watcher_that_changes_the_state_is_told_afterwards() {
        let state = Texts::default();
        let Ok(_) = state.watch(None, "all");
        set(&state, "a", Some(1));
        let told = RefCell::new(Vec::new());
        state.deliver(|change| {
            told.borrow_mut().push((change.key.key, change.new));
            if change.key.key == "a" {
                set(&state, "b", Some(2));
                state.deliver(|_| panic!("somebody delivers already"));
                told.borrow_mut().push(("end of a", None));
            }
        });
        assert_eq!(told.into_inner(), [("a", Some(1)), ("end of a", None), ("b", Some(2))]);
    }

    #[test]
    fn nothing_is_lost_or_out_of_order_when_threads_write_at_once() {
        type Seen = Arc<Mutex<Vec<Option<u32>>>>;
        let state: State<Plain<u8>, u32, Seen> = State::default();
        let seen = Seen::default();
        let (a, count) = (Plain::new(0_u8), 500_u32);
        let Ok(_) = state.watch(Some(&a), Arc::clone(&seen));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..count {
                        loop {
                            let Ok((value, version)) = state.get(&a);
                            if state.replace(&a, version, Some(value.unwrap_or(0) + 1)) == Ok(true) {
                                break;
                            }
                        }
                        state.deliver(|change| {
                            change.watchers[0].lock().expect("no panic").push(change.new);
                        });
                    }
                });
            }
        });
        let seen = seen.lock().expect("no panic");
        assert_eq!(*seen, (1..=4 * count).map(Some).collect::<Vec<_>>());
    }
}
