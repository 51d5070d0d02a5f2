//! Locks that threads take in circles: what may stand still one day, told from one run in which it did not.
//!
//! A circle counts only if its threads can be in it at once: they differ, no lock is held by two of them all the time,
//! and none of the steps comes after another one by a start, a join or a message.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::Stack;
use crate::clock::VectorClock;
use crate::lock::{Lock, LockSets};
use crate::thread::Watcher;

/// A lock taken while another is held.
#[derive(Clone, Debug)]
pub struct Nested {
    /// The lock that is held.
    pub outer: Arc<Lock>,
    /// Where it was taken.
    pub outer_stack: Stack,
    /// The lock that is taken then.
    pub inner: Arc<Lock>,
    /// Where.
    pub inner_stack: Stack,
    /// The number of the thread.
    pub thread: u32,
    slot: u32,
    time: u32,
    heard: VectorClock,
    /// All that is held.
    locks: u32,
}

/// No more of these are kept.
const NESTED_MAX: usize = 20_000;
/// Longer circles are not looked for.
const CIRCLE_MAX: usize = 5;
/// No more steps are made in looking for circles.
const STEPS_MAX: usize = 2_000_000;

#[derive(Debug, Default)]
struct Seen {
    keys: HashSet<(u32, u32, u32)>,
    nested: Vec<Nested>,
}

/// What was seen of the order of locks.
#[derive(Debug, Default)]
pub struct Order(Mutex<Seen>);

impl Order {
    /// A thread is about to wait for a lock, perhaps while it holds others. `stack_of` is asked only for what is new.
    pub fn wants(&self, watcher: &mut Watcher, lock: &Arc<Lock>, sets: &LockSets, stack_of: impl FnOnce() -> Stack) {
        let outer: Vec<_> = watcher.held().filter(|held| held.lock.id != lock.id).cloned().collect();
        if outer.is_empty() {
            return;
        }
        let locks = watcher.lock_set(sets);
        let mut seen = self.0.lock();
        let mut stack = None;
        let mut stack_of = Some(stack_of);
        for held in outer {
            if seen.nested.len() >= NESTED_MAX || !seen.keys.insert((held.lock.id, lock.id, watcher.thread)) {
                continue;
            }
            let inner_stack = *stack.get_or_insert_with(|| stack_of.take().map_or(0, |ask| ask()));
            seen.nested.push(Nested {
                outer: held.lock,
                outer_stack: held.stack,
                inner: lock.clone(),
                inner_stack,
                thread: watcher.thread,
                slot: watcher.slot,
                time: watcher.times().1,
                heard: watcher.hard.clone(),
                locks,
            });
        }
    }

    /// The circles, the shortest first; one for each set of places where locks are taken.
    #[must_use]
    pub fn circles(&self, sets: &LockSets) -> Vec<Vec<Nested>> {
        let seen = self.0.lock();
        let mut from: BTreeMap<u32, Vec<&Nested>> = BTreeMap::new();
        for nested in &seen.nested {
            from.entry(nested.outer.id).or_default().push(nested);
        }
        let mut search = Search { from, sets, n_steps: 0, found: BTreeMap::new() };
        for nested in &seen.nested {
            search.walk(&mut vec![nested]);
        }
        let mut circles: Vec<Vec<Nested>> = search.found.into_values().collect();
        circles.sort_by_key(Vec::len);
        circles
    }
}

struct Search<'a> {
    from: BTreeMap<u32, Vec<&'a Nested>>,
    sets: &'a LockSets,
    n_steps: usize,
    found: BTreeMap<BTreeSet<(Stack, Stack)>, Vec<Nested>>,
}

impl<'a> Search<'a> {
    /// Goes on from the last step of a path; not deeper than the longest circle.
    fn walk(&mut self, path: &mut Vec<&'a Nested>) {
        let (first, last) = (path[0], path[path.len() - 1]);
        for next in self.from.get(&last.inner.id).cloned().unwrap_or_default() {
            self.n_steps += 1;
            // The smallest lock comes first, so that each circle is found once.
            if self.n_steps > STEPS_MAX || next.outer.id < first.outer.id || path.len() >= CIRCLE_MAX {
                continue;
            }
            if !path.iter().all(|step| can_be_at_once(step, next, self.sets)) {
                continue;
            }
            path.push(next);
            if next.inner.id == first.outer.id {
                let places = path.iter().map(|step| (step.outer_stack, step.inner_stack)).collect();
                self.found.entry(places).or_insert_with(|| path.iter().map(|step| (*step).clone()).collect());
            } else if path.iter().all(|step| step.outer.id != next.inner.id) {
                self.walk(path);
            }
            path.pop();
        }
    }
}

fn can_be_at_once(one: &Nested, two: &Nested, sets: &LockSets) -> bool {
    let is_after = |late: &Nested, early: &Nested| late.heard.covers(early.slot, early.time);
    one.thread != two.thread && !is_after(one, two) && !is_after(two, one) && !sets.meet(one.locks, two.locks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::{Message, Slots};

    struct World {
        order: Order,
        sets: LockSets,
        locks: Vec<Arc<Lock>>,
    }

    impl World {
        fn new() -> World {
            let locks = (0..4).map(|_| Lock::new(0)).collect();
            World { order: Order::default(), sets: LockSets::default(), locks }
        }

        /// Takes the locks one in the other, and gives them back.
        fn nest(&self, watcher: &mut Watcher, which: &[usize]) {
            for idx in which {
                let stack = watcher.thread * 100 + *idx as u32;
                self.order.wants(watcher, &self.locks[*idx], &self.sets, || stack);
                watcher.acquired(&self.locks[*idx], stack);
            }
            for idx in which.iter().rev() {
                watcher.releases(&self.locks[*idx]);
            }
        }

        fn n_circles(&self) -> usize {
            self.order.circles(&self.sets).len()
        }
    }

    fn two_threads() -> (Slots, Watcher, Watcher) {
        let slots = Slots::default();
        let mut main = slots.begin(&Message::default());
        let (one, two) = (slots.begin(&main.send()), slots.begin(&main.send()));
        (slots, one, two)
    }

    #[test]
    fn both_orders_are_a_circle() {
        let (_slots, mut one, mut two) = two_threads();
        let world = World::new();
        world.nest(&mut one, &[0, 1]);
        assert_eq!(world.n_circles(), 0);
        world.nest(&mut two, &[1, 0]);
        assert_eq!(world.n_circles(), 1);
    }

    #[test]
    fn three_locks_are_a_circle_too() {
        let (slots, mut one, mut two) = two_threads();
        let mut three = slots.begin(&Message::default());
        let world = World::new();
        world.nest(&mut one, &[0, 1]);
        world.nest(&mut two, &[1, 2]);
        world.nest(&mut three, &[2, 0]);
        assert_eq!(world.n_circles(), 1);
    }

    #[test]
    fn a_gate_keeps_them_apart() {
        let (_slots, mut one, mut two) = two_threads();
        let world = World::new();
        world.nest(&mut one, &[3, 0, 1]);
        world.nest(&mut two, &[3, 1, 0]);
        assert_eq!(world.n_circles(), 0);
    }

    #[test]
    fn a_join_keeps_them_apart() {
        let (slots, mut one, mut two) = two_threads();
        let world = World::new();
        world.nest(&mut one, &[0, 1]);
        two.receive(&slots.end(one));
        world.nest(&mut two, &[1, 0]);
        assert_eq!(world.n_circles(), 0);
    }
}
