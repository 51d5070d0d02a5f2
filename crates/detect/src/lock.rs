//! Locks: what their last holder gave away, and sets of them under a number each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxBuildHasher;

use crate::Stack;
use crate::clock::VectorClock;

/// What is known of a lock. It lives as long as a thread may think that it holds it.
#[derive(Debug)]
pub struct Lock {
    /// Its number; never used twice.
    pub id: u32,
    /// Where it was made.
    pub made: Stack,
    /// The number of the thread that holds it; 0 for none.
    pub(crate) holder: AtomicU32,
    pub(crate) given: Mutex<Given>,
}

/// What comes with the lock to whoever takes it next.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) clock: VectorClock,
    /// Only where it was given back by a thread that had not taken it: that is a message, not exclusion.
    pub(crate) hard: Option<VectorClock>,
}

impl Lock {
    /// A lock that nobody holds.
    #[must_use]
    pub fn new(made: Stack) -> Arc<Lock> {
        static N: AtomicU32 = AtomicU32::new(0);
        let id = N.fetch_add(1, Relaxed) + 1;
        Arc::new(Lock { id, made, holder: AtomicU32::new(0), given: Mutex::default() })
    }

    /// The object is gone: nobody holds it.
    pub fn forget(&self) {
        self.holder.store(0, Relaxed);
    }

    /// Does the thread with this number hold it?
    #[must_use]
    pub fn is_held_by(&self, thread: u32) -> bool {
        self.holder.load(Relaxed) == thread
    }
}

/// Sets of locks that were held, under a number each; 0 is the empty one.
#[derive(Debug, Default)]
pub struct LockSets {
    numbers: Mutex<HashMap<Box<[u32]>, u32, FxBuildHasher>>,
    sets: RwLock<Vec<Box<[u32]>>>,
}

impl LockSets {
    /// The number of a sorted set.
    #[must_use]
    pub fn number(&self, set: &[u32]) -> u32 {
        if set.is_empty() {
            return 0;
        }
        let mut numbers = self.numbers.lock();
        if let Some(number) = numbers.get(set) {
            return *number;
        }
        let mut sets = self.sets.write();
        sets.push(set.into());
        let number = sets.len() as u32;
        numbers.insert(set.into(), number);
        number
    }

    /// The set with this number.
    #[must_use]
    pub fn set(&self, number: u32) -> Box<[u32]> {
        match number {
            0 => Box::default(),
            _ => self.sets.read()[number as usize - 1].clone(),
        }
    }

    /// Is a lock in both?
    #[must_use]
    pub fn meet(&self, one: u32, two: u32) -> bool {
        one != 0 && two != 0 && {
            let sets = self.sets.read();
            let (one, two) = (&sets[one as usize - 1], &sets[two as usize - 1]);
            one.iter().any(|lock| two.binary_search(lock).is_ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_one_number_each() {
        let sets = LockSets::default();
        let (a, ab) = (sets.number(&[1]), sets.number(&[1, 2]));
        assert_ne!(a, ab);
        assert_eq!(sets.number(&[1, 2]), ab);
        assert_eq!(*sets.set(ab), [1, 2]);
        assert!(sets.meet(a, ab) && !sets.meet(sets.number(&[3]), ab) && !sets.meet(0, 0));
    }
}
