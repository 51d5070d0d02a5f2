//! A small number for each thread that is alive: the lowest that is free. Padded cells and per-thread slots are chosen
//! by it. A number is given back when its thread ends, and a later thread gets it; what tells those two apart is a
//! serial number, which no other thread of the process ever gets, and which every thread has.
//!
//! Nothing here blocks, so a fork in the middle leaves nothing locked; the child keeps the numbers of threads that it
//! does not have as taken.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadNumber {
    /// Below [`THREADS_MAX`]; no other living thread has it.
    pub index: usize,
    /// Never 0; no other thread has it, living or not.
    pub serial: u64,
}

const WORDS: usize = 1024;
/// So many threads can have a number at once.
pub const THREADS_MAX: usize = WORDS * 64;
const NONE: ThreadNumber = ThreadNumber { index: usize::MAX, serial: 0 };

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);
static TAKEN: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

thread_local! {
    static SERIAL: u64 = NEXT_SERIAL.fetch_add(1, Ordering::Relaxed);
    // Two variables, since one with a destructor is slower to read.
    static NUMBER: Cell<ThreadNumber> = const { Cell::new(NONE) };
    static GIVE_BACK: GiveBack = const { GiveBack };
}

struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        let ThreadNumber { index, serial } = NUMBER.replace(NONE);
        if serial != 0 {
            TAKEN[index / 64].fetch_and(!(1 << (index % 64)), Ordering::AcqRel);
        }
    }
}

/// The numbers of the calling thread. `None` where more threads are alive than there are numbers, and while the
/// thread's own variables are being destroyed.
#[inline(always)]
pub fn thread_number() -> Option<ThreadNumber> {
    match NUMBER.get() {
        ThreadNumber { serial: 0, .. } => claim(),
        number => Some(number),
    }
}

/// The index alone.
#[inline(always)]
pub fn thread_index() -> Option<usize> {
    thread_number().map(|number| number.index)
}

/// The serial alone.
pub fn thread_serial() -> u64 {
    SERIAL.with(|serial| *serial)
}

#[cold]
fn claim() -> Option<ThreadNumber> {
    GIVE_BACK.try_with(|_| ()).ok()?;
    for (word_idx, word) in TAKEN.iter().enumerate() {
        let mut seen = word.load(Ordering::Relaxed);
        while seen != u64::MAX {
            let bit = seen.trailing_ones();
            match word.compare_exchange_weak(seen, seen | 1 << bit, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    let number = ThreadNumber { index: word_idx * 64 + bit as usize, serial: thread_serial() };
                    NUMBER.set(number);
                    return Some(number);
                }
                Err(now) => seen = now,
            }
        }
    }
    None
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::{thread_index, thread_number};
    use std::collections::HashSet;
    use std::sync::Barrier;

    #[test]
    fn threads_that_are_alive_have_different_numbers_and_keep_them() {
        let barrier = Barrier::new(8);
        let claim = || {
            let number = thread_number().unwrap();
            barrier.wait();
            assert_eq!(thread_number(), Some(number));
            number.index
        };
        let seen: HashSet<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(seen.len(), 8);
    }

    #[test]
    fn numbers_of_ended_threads_are_used_again() {
        // Tests run in threads of their own, so a few other numbers may be taken meanwhile.
        let highest = (0..1000).map(|_| std::thread::spawn(|| thread_index().unwrap()).join().unwrap()).max();
        assert!(highest.unwrap() < 500, "{highest:?}");
        let serials: HashSet<u64> =
            (0..100).map(|_| std::thread::spawn(|| thread_number().unwrap().serial).join().unwrap()).collect();
        assert_eq!(serials.len(), 100);
    }
}
