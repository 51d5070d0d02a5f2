//! Who runs, and whether it still does after a fork: a forked process has only the thread that called `fork`.
//!
//! The child calls `flight::forked` once. From then on a [`Stamp`] of a thread that is not there any more is an orphan.
//! Locks of these parts are held for a few instructions, and only by threads that the interpreter has stopped before
//! it forks, so none is held at that moment.

use std::sync::atomic::{AtomicU64, Ordering};

static THREADS: AtomicU64 = AtomicU64::new(1);
static GENERATION: AtomicU64 = AtomicU64::new(0);
static SURVIVOR: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: u64 = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// The number of this thread: never 0, never given twice in a process.
pub fn thread() -> u64 {
    THREAD.with(|number| *number)
}

/// The calling thread is the only one that this process has.
pub(crate) fn forked() {
    SURVIVOR.store(thread(), Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// A thread of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    thread: u64,
    generation: u64,
}

impl Stamp {
    /// The calling thread.
    pub fn here() -> Stamp {
        Stamp { thread: thread(), generation: GENERATION.load(Ordering::Relaxed) }
    }

    /// Was this thread left behind by a fork?
    pub fn is_orphan(self) -> bool {
        self.generation != GENERATION.load(Ordering::Relaxed) && self.thread != SURVIVOR.load(Ordering::Relaxed)
    }
}
