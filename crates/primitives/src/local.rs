//! A slot of its own for every thread, found without a lock and without a write that others can see.
//!
//! A slot stays when its thread ends, and the next thread with the same number gets it as it is: who wants it empty
//! empties it before. References to slots stay valid as long as the whole.

use crate::raw::once_box::OnceBox;
use crate::thread_index::{THREADS_MAX, thread_index};

/// The first page has so many slots; each further page doubles their number, so pages never move.
const FIRST: usize = 8;
const PAGES: usize = (THREADS_MAX / FIRST).ilog2() as usize + 1;

/// A `T` for every thread. `T` must bear to be read from other threads, since [`PerThread::each`] does so.
pub struct PerThread<T> {
    pages: [OnceBox<Box<[T]>>; PAGES],
}

/// Page and place in the page.
#[inline(always)]
fn place(index: usize) -> (usize, usize) {
    match index {
        0..FIRST => (0, index),
        _ => {
            let page = (index / FIRST).ilog2() as usize + 1;
            (page, index - (FIRST << (page - 1)))
        }
    }
}

fn length(page: usize) -> usize {
    FIRST << page.saturating_sub(1)
}

impl<T: Default + Send + Sync> PerThread<T> {
    /// Nothing is allocated yet.
    pub const fn new() -> Self {
        PerThread { pages: [const { OnceBox::new() }; PAGES] }
    }

    /// The slot of the calling thread, if it or its page was used before. `None` also where [`thread_index`] is `None`.
    #[inline(always)]
    pub fn get(&self) -> Option<&T> {
        self.at(thread_index()?)
    }

    /// The slot of the calling thread. `None` where [`thread_index`] is `None`.
    #[inline(always)]
    pub fn get_or_make(&self) -> Option<&T> {
        self.make_at(thread_index()?)
    }

    /// The slot of the thread with this number, and its page if need be.
    pub fn make_at(&self, index: usize) -> Option<&T> {
        let (page, offset) = place(index);
        let make = || (0..length(page)).map(|_| T::default()).collect();
        self.pages.get(page)?.get_or_make(make).get(offset)
    }

    /// The slot of the thread with this number.
    #[inline(always)]
    pub fn at(&self, index: usize) -> Option<&T> {
        let (page, offset) = place(index);
        self.pages.get(page)?.get()?.get(offset)
    }

    /// All slots whose page was ever used, those of ended threads and those that nobody used too.
    pub fn each(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().filter_map(OnceBox::get).flatten()
    }
}

impl<T: Default + Send + Sync> Default for PerThread<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{FIRST, PAGES, PerThread, length, place};
    use crate::thread_index::THREADS_MAX;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let mut expected = (0..PAGES).flat_map(|page| (0..length(page)).map(move |offset| (page, offset)));
        for index in 0..THREADS_MAX {
            assert_eq!(expected.next(), Some(place(index)));
        }
        assert_eq!(place(FIRST), (1, 0));
    }

    #[test]
    fn threads_never_see_the_slots_of_others_as_theirs() {
        let slots = PerThread::<AtomicU64>::new();
        assert!(slots.get().is_none());
        let barrier = Barrier::new(20);
        std::thread::scope(|scope| {
            for number in 1..=20 {
                let (slots, barrier) = (&slots, &barrier);
                scope.spawn(move || {
                    let slot = slots.get_or_make().unwrap();
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
