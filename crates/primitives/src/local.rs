//! A slot of its own for every thread, found without a lock and without a write that others can see.
//!
//! A slot stays when its thread ends, and the next thread with the same number gets it as it is: who wants it empty
//! empties it before. References to slots stay valid as long as the whole.

use crate::raw::once_box::OnceBox;
use crate::thread_index::{THREADS_MAX, thread_index};

/// So many slots are there from the beginning. Then come pages; each doubles the number of slots, so none ever moves.
const FIRST: usize = 8;
const PAGES: usize = (THREADS_MAX / FIRST).ilog2() as usize;

/// Slots of two threads never share a cache line.
#[repr(align(64))]
#[derive(Default)]
struct Slot<T>(T);

/// A `T` for every thread. `T` must bear to be read from other threads, since [`PerThread::each`] does so.
pub struct PerThread<T> {
    first: [Slot<T>; FIRST],
    pages: [OnceBox<Box<[Slot<T>]>>; PAGES],
}

/// Page and place in the page, of a number from `FIRST` on.
fn place(index: usize) -> (usize, usize) {
    let page = (index / FIRST).ilog2() as usize;
    (page, index - length(page))
}

fn length(page: usize) -> usize {
    FIRST << page
}

impl<T: Default + Send + Sync> PerThread<T> {
    /// Slots for a few threads, all in their default state.
    pub fn new() -> Self {
        PerThread { first: Default::default(), pages: std::array::from_fn(|_| OnceBox::new()) }
    }

    /// The slot of the calling thread. `None` where [`thread_index`] is `None`.
    #[inline(always)]
    pub fn get(&self) -> Option<&T> {
        self.make_at(thread_index()?)
    }

    /// The slot of the thread with this number, if there is one yet.
    #[inline(always)]
    pub fn at(&self, index: usize) -> Option<&T> {
        match self.first.get(index) {
            Some(slot) => Some(&slot.0),
            None => {
                let (page, offset) = place(index);
                Some(&self.pages.get(page)?.get()?.get(offset)?.0)
            }
        }
    }

    /// The slot of the thread with this number.
    pub fn make_at(&self, index: usize) -> Option<&T> {
        if let Some(slot) = self.first.get(index) {
            return Some(&slot.0);
        }
        let (page, offset) = place(index);
        let make = || (0..length(page)).map(|_| Slot::default()).collect();
        Some(&self.pages.get(page)?.get_or_make(make).get(offset)?.0)
    }

    /// All slots that there are, those of ended threads and those that nobody used too.
    pub fn each(&self) -> impl Iterator<Item = &T> {
        let pages = self.pages.iter().filter_map(OnceBox::get).flatten();
        self.first.iter().chain(pages).map(|slot| &slot.0)
    }
}

impl<T: Default + Send + Sync> Default for PerThread<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::{FIRST, PAGES, PerThread, length, place};
    use crate::thread_index::THREADS_MAX;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let mut expected = (0..PAGES).flat_map(|page| (0..length(page)).map(move |offset| (page, offset)));
        for index in FIRST..THREADS_MAX {
            assert_eq!(expected.next(), Some(place(index)));
        }
        assert_eq!(expected.next(), None);
    }

    #[test]
    fn threads_never_see_the_slots_of_others_as_theirs() {
        let slots = PerThread::<AtomicU64>::new();
        assert!(slots.at(FIRST).is_none());
        let barrier = Barrier::new(20);
        std::thread::scope(|scope| {
            for number in 1..=20 {
                let (slots, barrier) = (&slots, &barrier);
                scope.spawn(move || {
                    let slot = slots.get().unwrap();
                    slot.store(number, Relaxed);
                    barrier.wait();
                    assert_eq!(slots.get().unwrap().load(Relaxed), number);
                    barrier.wait();
                });
            }
        });
        let mut seen: Vec<u64> = slots.each().map(|slot| slot.load(Relaxed)).filter(|number| *number > 0).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(1..=20));
    }
}
