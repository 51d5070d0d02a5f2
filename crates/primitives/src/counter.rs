//! A counter that threads raise without meeting: each adds to a cell of its own, and reading adds the cells up.
//!
//! What it promises: no addition is lost, and the sum is exact as soon as nobody adds. A sum that is taken while others
//! add is weakly consistent: it holds every addition that had ended before the read began, none that began after it
//! ended, and any of those in between.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::cell::Overflow;
use crate::raw::once_box::OnceBox;
use crate::thread_index::thread_index;

const CELLS: usize = 32;

/// Cells of two threads never share a cache line, nor a pair of lines that the processor fetches together.
#[repr(align(128))]
#[derive(Default)]
struct Cell(AtomicI64);

/// See the module. As long as one thread alone counts, the counter is two words; the cells come with the second thread.
pub struct StripedCounter {
    cells: OnceBox<[Cell; CELLS]>,
    /// The thread that made the counter adds here while there are no cells.
    first: AtomicI64,
    first_thread: usize,
}

impl StripedCounter {
    /// A counter that begins at `initial`.
    pub fn new(initial: i64) -> Self {
        let first_thread = thread_index().unwrap_or(usize::MAX);
        StripedCounter { cells: OnceBox::new(), first: AtomicI64::new(initial), first_thread }
    }

    /// Adds `n`. If the cell of this thread cannot hold the result, nothing is added.
    #[inline(always)]
    pub fn add(&self, n: i64) -> Result<(), Overflow> {
        let cell = self.cell();
        let old = cell.fetch_add(n, Ordering::Relaxed);
        if old.checked_add(n).is_some() {
            return Ok(());
        }
        cell.fetch_sub(n, Ordering::Relaxed);
        Err(Overflow)
    }

    #[inline(always)]
    fn cell(&self) -> &AtomicI64 {
        let index = thread_index().unwrap_or(0);
        match self.cells.get() {
            Some(cells) => &cells[index % CELLS].0,
            None if index == self.first_thread => &self.first,
            None => &self.cells.get_or_make(Default::default)[index % CELLS].0,
        }
    }

    fn each(&self) -> impl Iterator<Item = &AtomicI64> {
        let cells = self.cells.get().into_iter().flatten();
        std::iter::once(&self.first).chain(cells.map(|cell| &cell.0))
    }

    /// The sum. Wider than a cell: no sum of cells overflows.
    pub fn sum(&self) -> i128 {
        self.each().map(|cell| i128::from(cell.load(Ordering::Acquire))).sum()
    }

    /// Sets all cells to zero and returns what they held. Each addition is in exactly one of: what this returns, what
    /// is read later.
    pub fn reset(&self) -> i128 {
        self.each().map(|cell| i128::from(cell.swap(0, Ordering::AcqRel))).sum()
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::StripedCounter;
    use crate::cell::Overflow;
    use std::sync::atomic::{AtomicI64, Ordering};

    const THREADS: i64 = 4;
    const ADDITIONS: i64 = if cfg!(miri) { 50 } else { 50_000 };

    #[test]
    fn no_addition_is_lost() {
        let counter = StripedCounter::new(7);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| (0..ADDITIONS).for_each(|_| counter.add(1).unwrap()));
            }
            (0..ADDITIONS).for_each(|_| counter.add(-1).unwrap());
        });
        assert_eq!(counter.sum(), i128::from(7 + (THREADS - 1) * ADDITIONS));
    }

    #[test]
    fn resets_and_the_rest_hold_each_addition_once() {
        let counter = StripedCounter::new(0);
        let taken = AtomicI64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| (0..ADDITIONS).for_each(|_| counter.add(1).unwrap()));
            }
            scope.spawn(|| {
                for _ in 0..100 {
                    taken.fetch_add(counter.reset() as i64, Ordering::Relaxed);
                }
            });
        });
        assert_eq!(counter.sum() + i128::from(taken.into_inner()), i128::from(THREADS * ADDITIONS));
    }

    #[test]
    fn a_sum_taken_meanwhile_never_goes_back() {
        let counter = StripedCounter::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..ADDITIONS).for_each(|_| counter.add(1).unwrap()));
            let mut last = 0;
            for _ in 0..ADDITIONS / 10 {
                let now = counter.sum();
                assert!(now >= last && now <= i128::from(ADDITIONS));
                last = now;
            }
        });
    }

    #[test]
    fn an_addition_that_does_not_fit_changes_nothing() {
        let counter = StripedCounter::new(i64::MAX);
        assert_eq!(counter.add(1), Err(Overflow));
        assert_eq!(counter.sum(), i128::from(i64::MAX));
        std::thread::scope(|scope| scope.spawn(|| counter.add(1)).join().unwrap()).unwrap();
        assert_eq!(counter.sum(), i128::from(i64::MAX) + 1);
    }
}
