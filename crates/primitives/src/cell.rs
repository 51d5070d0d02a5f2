//! An integer that threads change without a lock and that never wraps around: a change whose result does not fit into
//! 64 bits is refused and leaves the value as it was. Every operation is linearizable.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

/// A result does not fit into 64 bits; the value was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// See the module.
#[derive(Debug, Default)]
pub struct AtomicInt(AtomicI64);

impl AtomicInt {
    /// An integer that begins at `value`.
    pub const fn new(value: i64) -> Self {
        AtomicInt(AtomicI64::new(value))
    }

    /// The value now.
    #[inline(always)]
    pub fn get(&self) -> i64 {
        self.0.load(SeqCst)
    }

    /// Replaces the value.
    #[inline(always)]
    pub fn set(&self, value: i64) {
        self.0.store(value, SeqCst);
    }

    /// Replaces the value and returns what stood there.
    #[inline(always)]
    pub fn exchange(&self, value: i64) -> i64 {
        self.0.swap(value, SeqCst)
    }

    /// Adds `n` and returns the value before. The sum is checked before it is stored, so nobody ever sees one that has
    /// wrapped around.
    #[inline(always)]
    pub fn fetch_add(&self, n: i64) -> Result<i64, Overflow> {
        let mut old = self.0.load(SeqCst);
        loop {
            let new = old.checked_add(n).ok_or(Overflow)?;
            match self.0.compare_exchange_weak(old, new, SeqCst, SeqCst) {
                Ok(_) => return Ok(old),
                Err(now) => old = now,
            }
        }
    }

    /// Stores `new` if the value is `expected`; says whether it did.
    #[inline(always)]
    pub fn compare_and_set(&self, expected: i64, new: i64) -> bool {
        self.0.compare_exchange(expected, new, SeqCst, SeqCst).is_ok()
    }

    /// Replaces the value by what `change` makes of it and returns the new value. `change` runs again if another
    /// thread was faster; an error of it leaves the value as it was.
    pub fn update<E>(&self, mut change: impl FnMut(i64) -> Result<i64, E>) -> Result<i64, E> {
        loop {
            let old = self.get();
            let new = change(old)?;
            if self.compare_and_set(old, new) {
                return Ok(new);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AtomicInt, Overflow};

    const ROUNDS: i64 = if cfg!(miri) { 50 } else { 20_000 };

    #[test]
    fn additions_and_updates_from_threads_are_exact() {
        let value = AtomicInt::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..ROUNDS).for_each(|_| assert!(value.fetch_add(1).is_ok())));
            scope.spawn(|| (0..ROUNDS).for_each(|_| assert!(value.update(|old| Ok::<_, ()>(old + 2)).is_ok())));
        });
        assert_eq!(value.get(), 3 * ROUNDS);
    }

    #[test]
    fn each_thread_gets_another_number() {
        let value = AtomicInt::new(0);
        let draw = || (0..ROUNDS).map(|_| value.fetch_add(1).unwrap()).collect::<Vec<_>>();
        let mut drawn: Vec<i64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(draw)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        drawn.sort_unstable();
        assert!(drawn.into_iter().eq(0..3 * ROUNDS));
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let value = AtomicInt::new(i64::MAX - 1);
        assert_eq!(value.fetch_add(1), Ok(i64::MAX - 1));
        assert_eq!(value.fetch_add(1), Err(Overflow));
        assert_eq!(value.get(), i64::MAX);
        assert_eq!(value.exchange(i64::MIN), i64::MAX);
        assert_eq!(value.fetch_add(-1), Err(Overflow));
        assert_eq!(value.update(|_| Err::<i64, _>("no")), Err("no"));
        assert_eq!(value.get(), i64::MIN);
        assert!(!value.compare_and_set(0, 1));
        assert!(value.compare_and_set(i64::MIN, 1));
        value.set(5);
        assert_eq!(value.get(), 5);
    }
}
