//! A count in one word, which an addition changes in one step, and which can be dead.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::table::Cell;
use crate::sync::AtomicU64;

/// The smallest count.
pub const COUNT_MIN: i64 = -(1 << 62);
/// The largest count.
pub const COUNT_MAX: i64 = (1 << 62) - 1;

/// A word is the count plus this, so that a word of zero is far from all counts: it means that the cell is dead.
const BIAS: u64 = 1 << 63;
/// Words that are nearer to zero than this are dead, however many additions came too late.
const MARGIN: u64 = 1 << 61;
/// Additions up to this size, to counts that are far from both ends, need no look at the sum before.
const SMALL: u64 = 1 << 32;
const FAR: u64 = 1 << 61;

/// A count from [`COUNT_MIN`] to [`COUNT_MAX`].
#[derive(Debug)]
pub struct Tally(AtomicU64);

/// Why a count was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The key has been removed.
    Dead,
    /// The sum would lie beyond [`COUNT_MIN`] or [`COUNT_MAX`].
    Overflow,
}

fn is_dead(word: u64) -> bool {
    word.wrapping_add(MARGIN) < 2 * MARGIN
}

fn count(word: u64) -> i64 {
    word.wrapping_sub(BIAS) as i64
}

fn word(count: i64) -> u64 {
    (count as u64).wrapping_add(BIAS)
}

/// Is this number in the range of counts?
pub fn is_count(number: i64) -> bool {
    (COUNT_MIN..=COUNT_MAX).contains(&number)
}

impl Tally {
    /// The count, unless the cell is dead.
    #[inline(always)]
    pub fn load(&self) -> Option<i64> {
        let seen = self.0.load(Acquire);
        (!is_dead(seen)).then(|| count(seen))
    }

    /// Adds in one step and returns the sum.
    ///
    /// # Errors
    /// Says why nothing was added.
    #[inline(always)]
    pub fn add(&self, n: i64) -> Result<i64, Refused> {
        let seen = self.0.load(Relaxed);
        if !is_dead(seen) && count(seen).unsigned_abs() < FAR && n.unsigned_abs() <= SMALL {
            let before = self.0.fetch_add(n as u64, AcqRel);
            if is_dead(before) {
                return Err(Refused::Dead);
            }
            let sum = count(before).wrapping_add(n);
            if is_count(sum) {
                return Ok(sum);
            }
            // Another thread set a count near the end between the look and the addition.
            self.0.fetch_sub(n as u64, AcqRel);
        }
        self.change(|count| count.checked_add(n).filter(|sum| is_count(*sum)).ok_or(Refused::Overflow))
    }

    /// Replaces the count by `next(count)`, in one step, and returns the new one.
    #[cold]
    fn change(&self, next: impl Fn(i64) -> Result<i64, Refused>) -> Result<i64, Refused> {
        let mut seen = self.0.load(Acquire);
        loop {
            if is_dead(seen) {
                return Err(Refused::Dead);
            }
            let new = next(count(seen))?;
            match self.0.compare_exchange_weak(seen, word(new), AcqRel, Acquire) {
                Ok(_) => return Ok(new),
                Err(now) => seen = now,
            }
        }
    }

    /// Sets the count.
    ///
    /// # Errors
    /// [`Refused`] if the cell is dead, or `new` is no count.
    pub fn set(&self, new: i64) -> Result<(), Refused> {
        if !is_count(new) {
            return Err(Refused::Overflow);
        }
        self.change(|_| Ok(new)).map(|_| ())
    }

    /// Sets the count if it is `expected`; says whether it was.
    ///
    /// # Errors
    /// [`Refused`] if the cell is dead, or `new` is no count.
    pub fn compare_and_set(&self, expected: i64, new: i64) -> Result<bool, Refused> {
        if !is_count(new) {
            return Err(Refused::Overflow);
        }
        match self.0.compare_exchange(word(expected), word(new), AcqRel, Acquire) {
            Ok(_) => Ok(true),
            Err(now) if is_dead(now) => Err(Refused::Dead),
            Err(_) => Ok(false),
        }
    }

    /// Kills the cell and returns the last count; none if it was dead.
    pub fn take(&self) -> Option<i64> {
        let seen = self.0.swap(0, AcqRel);
        (!is_dead(seen)).then(|| count(seen))
    }

    /// Kills the cell if the count is `expected`.
    pub fn take_if(&self, expected: i64) -> bool {
        self.0.compare_exchange(word(expected), 0, AcqRel, Acquire).is_ok()
    }
}

// SAFETY: a word of zero is dead; the word is an atomic; a count owns nothing.
unsafe impl Cell for Tally {
    type Value = i64;

    fn is_dead(&self) -> bool {
        is_dead(self.0.load(Acquire))
    }

    fn revive(&self, value: i64) {
        debug_assert!(is_count(value));
        self.0.store(word(value), Release);
    }

    fn dead() -> Self {
        Tally(AtomicU64::new(0))
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::*;

    fn tally(count: i64) -> Tally {
        let tally = Tally::dead();
        tally.revive(count);
        tally
    }

    #[test]
    fn counts_reach_both_ends_and_not_beyond() {
        for (start, n) in [(COUNT_MAX - 1, 1), (COUNT_MIN + 1, -1), (COUNT_MAX - (1 << 40), 1 << 40)] {
            let tally = tally(start);
            assert_eq!(tally.add(n), Ok(start + n));
            assert_eq!(tally.add(n.signum()), Err(Refused::Overflow));
            assert_eq!(tally.load(), Some(start + n), "nothing was changed");
            assert_eq!(tally.add(-n), Ok(start));
        }
        assert_eq!(tally(0).add(i64::MAX), Err(Refused::Overflow));
        assert_eq!(tally(0).set(COUNT_MAX + 1), Err(Refused::Overflow));
        assert_eq!(tally(5).compare_and_set(5, COUNT_MIN), Ok(true));
    }

    #[test]
    fn a_dead_count_stays_dead_whatever_is_added_too_late() {
        let tally = tally(7);
        assert_eq!(tally.take(), Some(7));
        // What an addition does that looked before the cell died.
        for _ in 0..1000 {
            tally.0.fetch_add(SMALL, AcqRel);
        }
        assert!(tally.is_dead());
        for _ in 0..2000 {
            tally.0.fetch_sub(SMALL, AcqRel);
        }
        assert!(tally.is_dead());
        assert_eq!(
            (tally.load(), tally.add(1), tally.set(1), tally.take()),
            (None, Err(Refused::Dead), Err(Refused::Dead), None)
        );
        assert_eq!(tally.compare_and_set(7, 1), Err(Refused::Dead));
        assert!(!tally.take_if(7));
    }

    #[test]
    fn an_addition_that_comes_upon_a_count_near_the_end_is_undone() {
        let tally = tally(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    tally.set(COUNT_MAX).expect("alive");
                    tally.set(0).expect("alive");
                }
            });
            for _ in 0..20_000 {
                match tally.add(1) {
                    Ok(sum) => assert!(is_count(sum)),
                    Err(refused) => assert_eq!(refused, Refused::Overflow),
                }
            }
        });
        assert!(!tally.is_dead());
    }
}
