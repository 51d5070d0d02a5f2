//! The index of a shard: an open hash table of words in one piece of memory, probed slot by slot.
//!
//! A word is empty (zero), *vacant* (its key was removed), or a tag above the number of an entry plus one. The place of
//! a word follows from its tag alone, so a larger index is filled from a smaller one without a look at the keys.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::sync::AtomicU64;

const EMPTY: u64 = 0;
/// No entry has this number, so no word of a key looks like it.
const VACANT: u64 = u32::MAX as u64;

/// What stands before the slots.
#[repr(C)]
struct Head {
    mask: u32,
    /// The place of a tag is the tag shifted right by this.
    shift: u32,
}

/// A handle; whoever made it decides when it is freed.
#[derive(Clone, Copy)]
pub struct Index(NonNull<Head>);

/// What a step of a walk shows.
pub enum Place {
    /// The walk is over: a key with this tag would have come before.
    Empty,
    /// An entry with the tag.
    Entry(u32),
}

/// A walk over the entries with one tag.
pub struct Walk {
    slots: NonNull<AtomicU64>,
    mask: u32,
    at: u32,
    tag: u32,
}

fn word(tag: u32, number: u32) -> u64 {
    u64::from(tag) << 32 | (u64::from(number) + 1)
}

impl Index {
    /// An index with `n_slots` empty slots, a power of two.
    pub fn new(n_slots: usize) -> Index {
        assert!(n_slots.is_power_of_two() && n_slots <= 1 << 31);
        let layout = Self::layout(n_slots);
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) }.cast::<Head>();
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        // SAFETY: the memory is ours and has room for the head.
        unsafe { memory.write(Head { mask: n_slots as u32 - 1, shift: 32 - n_slots.ilog2() }) };
        let index = Index(memory);
        #[cfg(feature = "model")]
        for at in 0..n_slots {
            // SAFETY: the slot is in the memory; the atomics of the model are not made of zeros.
            unsafe { index.slots().add(at).write(AtomicU64::new(EMPTY)) };
        }
        index
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// Nobody uses this index any more, and it was not freed before.
    pub unsafe fn free(self) {
        let layout = Self::layout(self.n_slots());
        #[cfg(feature = "model")]
        for at in 0..self.n_slots() {
            // SAFETY: the slot was made in `new`.
            unsafe { self.slots().add(at).drop_in_place() };
        }
        // SAFETY: the memory came from `new` with this layout.
        unsafe { dealloc(self.0.as_ptr().cast(), layout) };
    }

    fn layout(n_slots: usize) -> Layout {
        let slots = Layout::array::<AtomicU64>(n_slots).expect("an index fits into memory");
        Layout::new::<Head>().extend(slots).expect("an index fits into memory").0
    }

    /// The handle as a pointer, for an atomic.
    pub fn into_raw(self) -> *mut u8 {
        self.0.as_ptr().cast()
    }

    /// The handle of a pointer; none for null.
    ///
    /// # Safety
    /// The pointer came from [`into_raw`](Self::into_raw), and the index lives as long as the handle is used.
    #[inline(always)]
    pub unsafe fn from_raw(raw: *mut u8) -> Option<Index> {
        NonNull::new(raw.cast()).map(Index)
    }

    #[inline(always)]
    fn slots(self) -> NonNull<AtomicU64> {
        const { assert!(size_of::<Head>().is_multiple_of(align_of::<u64>())) };
        // SAFETY: the slots stand behind the head, in the same memory.
        unsafe { self.0.add(1).cast() }
    }

    /// How many slots there are.
    pub fn n_slots(self) -> usize {
        // SAFETY: the head was written when the index was made, and is only read since.
        unsafe { self.0.as_ref() }.mask as usize + 1
    }

    /// Begins to walk over the entries with a tag.
    #[inline(always)]
    pub fn walk(self, tag: u32) -> Walk {
        // SAFETY: as in `n_slots`.
        let head = unsafe { self.0.as_ref() };
        Walk { slots: self.slots(), mask: head.mask, at: (u64::from(tag) >> head.shift) as u32, tag }
    }

    /// Where a key with this tag can be put, and whether that slot is empty rather than vacant. None if an entry has an
    /// equal tag and is not among `others`. There is an empty slot, and the lock is held.
    pub fn vacancy(self, tag: u32, others: &[u32]) -> Option<(usize, bool)> {
        let mut walk = self.walk(tag);
        let mut vacant = None;
        loop {
            let at = walk.at as usize;
            match walk.step(Relaxed) {
                EMPTY => return Some(vacant.map_or((at, true), |at| (at, false))),
                VACANT => vacant = vacant.or(Some(at)),
                word if (word >> 32) as u32 == tag && !others.contains(&(word as u32 - 1)) => return None,
                _ => {}
            }
        }
    }

    /// Shows an entry from now on. The lock is held.
    pub fn occupy(self, slot: usize, tag: u32, number: u32) {
        debug_assert!(slot < self.n_slots());
        // SAFETY: `vacancy` named the slot.
        unsafe { self.slots().add(slot).as_ref() }.store(word(tag, number), Release);
    }

    /// Hides an entry from now on. The lock is held.
    pub fn vacate(self, tag: u32, number: u32) {
        let mut walk = self.walk(tag);
        loop {
            let at = walk.at as usize;
            match walk.step(Relaxed) {
                EMPTY => return,
                seen if seen == word(tag, number) => {
                    // SAFETY: the walk stays inside.
                    unsafe { self.slots().add(at).as_ref() }.store(VACANT, Release);
                    return;
                }
                _ => {}
            }
        }
    }

    /// Copies all entries of `old` into this index, which is empty, large enough, and seen by nobody else yet.
    pub fn fill(self, old: Index) {
        for at in 0..old.n_slots() {
            // SAFETY: the slot is inside.
            let seen = unsafe { old.slots().add(at).as_ref() }.load(Relaxed);
            if seen == EMPTY || seen == VACANT {
                continue;
            }
            let mut walk = self.walk((seen >> 32) as u32);
            loop {
                let at = walk.at as usize;
                if walk.step(Relaxed) == EMPTY {
                    // SAFETY: the walk stays inside.
                    unsafe { self.slots().add(at).as_ref() }.store(seen, Relaxed);
                    break;
                }
            }
        }
    }
}

impl Walk {
    #[inline(always)]
    fn step(&mut self, ordering: std::sync::atomic::Ordering) -> u64 {
        // SAFETY: the mask keeps the place below the number of slots.
        let seen = unsafe { self.slots.add(self.at as usize).as_ref() }.load(ordering);
        self.at = (self.at + 1) & self.mask;
        seen
    }

    /// The next entry with the tag. An index always has an empty slot, so a walk ends.
    #[inline(always)]
    pub fn next_tagged(&mut self) -> Place {
        loop {
            let seen = self.step(Acquire);
            if seen == EMPTY {
                return Place::Empty;
            }
            if (seen >> 32) as u32 == self.tag && seen as u32 != VACANT as u32 {
                return Place::Entry(seen as u32 - 1);
            }
        }
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn numbers(index: Index, tag: u32) -> Vec<u32> {
        let mut walk = index.walk(tag);
        std::iter::from_fn(|| match walk.next_tagged() {
            Place::Empty => None,
            Place::Entry(number) => Some(number),
        })
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
    }

    #[test]
    fn entries_are_found_by_tag_hidden_and_carried_over() {
        let small = Index::new(8);
        for (number, tag) in [u32::MAX, 0, u32::MAX, 5].into_iter().enumerate() {
            let (slot, was_empty) = small.vacancy(tag, &[0]).expect("no equal tag but that of entry 0");
            assert!(was_empty);
            small.occupy(slot, tag, number as u32);
        }
        assert_eq!(numbers(small, u32::MAX), [0, 2], "the walk goes on at the beginning");
        assert_eq!(small.vacancy(0, &[7]), None, "an equal tag");
        small.vacate(0, 1);
        assert_eq!(numbers(small, 0), [] as [u32; 0], "a vacant slot is no entry, whatever the tag");
        let (_, was_empty) = small.vacancy(0, &[7]).expect("no equal tag");
        assert!(!was_empty, "vacant slots are used again");
        let large = Index::new(64);
        large.fill(small);
        assert_eq!(numbers(large, u32::MAX), [0, 2]);
        assert_eq!(numbers(large, 5), [3]);
        assert_eq!(numbers(large, 0), [] as [u32; 0]);
        // SAFETY: nobody else has them.
        unsafe {
            small.free();
            large.free();
        }
    }
}
