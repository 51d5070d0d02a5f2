//! What a fork does to our locks. In the child only the thread that forked is left, so a lock that another thread held
//! would stay locked for good.
//!
//! Each process has a generation number, one more than its parent's. A lock that is taken keeps the number; one that is
//! found taken with an older number is held by nobody, unless the thread that forked took it ([`is_alive`]); what has
//! room for two words keeps a [`Stamp`]. State that is more than one word stands in a
//! [`Guarded`](super::guarded::Guarded), which a fork never cuts in two.
//!
//! [`install`] must be called before the first fork; the Python module does so when it is imported.

use std::sync::Once;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

static GENERATION: AtomicU32 = AtomicU32::new(1);
/// The thread that made the last fork; 0 in a process without one.
static SURVIVOR: AtomicUsize = AtomicUsize::new(0);
/// The oldest generation from which `SURVIVOR` made every fork up to now.
static SURVIVED_SINCE: AtomicU32 = AtomicU32::new(0);

/// The number of this process.
#[inline(always)]
pub fn generation() -> u32 {
    GENERATION.load(Relaxed)
}

/// Does the thread that had this number in that generation exist in this process?
pub fn is_alive(generation_then: u32, thread: usize) -> bool {
    generation_then == generation()
        || (thread == SURVIVOR.load(Relaxed) && generation_then >= SURVIVED_SINCE.load(Relaxed))
}

/// Arranges that the functions of this module know about forks. Further calls do nothing.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        #[cfg(unix)]
        // SAFETY: the handlers are functions that live as long as the process; the child's touches atomics only.
        unsafe {
            libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child));
        }
    });
}

#[cfg(unix)]
extern "C" fn before() {
    super::guarded::enter_all();
}

#[cfg(unix)]
extern "C" fn in_parent() {
    super::guarded::leave_all();
}

#[cfg(unix)]
extern "C" fn in_child() {
    let survivor = super::thread::ident();
    if SURVIVOR.swap(survivor, Relaxed) != survivor {
        SURVIVED_SINCE.store(generation(), Relaxed);
    }
    GENERATION.fetch_add(1, Relaxed);
    super::guarded::leave_all();
}

/// The number of this process for the upper bits of a word, whose lower `SHIFT` bits are for others. The word keeps
/// fewer bits than the number has.
#[inline(always)]
pub fn in_word<const SHIFT: u32>() -> u32 {
    generation() << SHIFT
}

/// Was a word with these upper bits written in this process?
#[inline(always)]
pub fn is_of_now<const SHIFT: u32>(word: u32) -> bool {
    word >> SHIFT == in_word::<SHIFT>() >> SHIFT
}

/// The word with the number of this process.
pub fn renewed<const SHIFT: u32>(word: u32) -> u32 {
    in_word::<SHIFT>() | word & ((1 << SHIFT) - 1)
}

/// A thread of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    thread: usize,
    generation: u32,
}

impl Stamp {
    /// The calling thread.
    pub fn here() -> Stamp {
        Stamp { thread: super::thread::ident(), generation: generation() }
    }

    /// Was this thread left behind by a fork?
    pub fn is_orphan(self) -> bool {
        !is_alive(self.generation, self.thread)
    }
}

/// A count that is 0 again in a forked child.
pub struct Tally(AtomicU64);

impl Tally {
    /// A count of 0.
    pub const fn new() -> Self {
        Tally(AtomicU64::new(0))
    }

    /// Adds to the count.
    pub fn add(&self, n: i32) {
        let count = |word| Some(u64::from(generation()) << 32 | u64::from(now(word).saturating_add_signed(n)));
        let _ = self.0.fetch_update(Relaxed, Relaxed, count);
    }

    /// The count now.
    pub fn get(&self) -> u32 {
        now(self.0.load(Relaxed))
    }
}

impl Default for Tally {
    fn default() -> Self {
        Tally::new()
    }
}

fn now(word: u64) -> u32 {
    if (word >> 32) as u32 == generation() { word as u32 } else { 0 }
}

/// Runs the check in a forked child and reports its answer. The child must not return into the test harness.
#[cfg(all(test, unix, not(miri), not(feature = "model")))]
pub fn in_forked_child(check: impl Fn() -> bool) -> bool {
    install();
    // SAFETY: the child touches our locks only, and leaves by `_exit`.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::alarm(20);
            libc::_exit(if check() { 0 } else { 1 });
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }
}
