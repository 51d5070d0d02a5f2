//! [`Lock`] and [`RLock`]: mutual exclusion between threads, with a timeout, and with a holder that can be seen.
//!
//! A lock is one word that threads sleep on. Taking a free one and giving it back without sleepers is one atomic
//! operation each. A thread that comes while the lock is free may overtake sleepers; there is no queue. A lock that
//! another thread held at a fork is free in the child (see [`fork`]).
//!
//! The functions take the number of the calling thread ([`thread::ident`](crate::raw::thread::ident)), which callers
//! have at hand, and leave it to them when to wait: Python must detach before it sleeps, and spins before that.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Instant;

use crate::raw::fork::{self, Tally};
use crate::raw::futex::{Futex, Sleep};
use crate::sync::{AtomicU32, AtomicUsize, spin};

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Threads may be asleep: who gives the lock back wakes one.
const SLEEPERS: u32 = 2;
/// The holder asked to be told when the lock is given back, for [`watch`](crate::watch) and [`stats`](crate::stats).
const MARKED: u32 = 4;
/// The rest of the word is the generation in which the lock was taken.
const GENERATION_SHIFT: u32 = 3;

const TURNS_BEFORE_SLEEP: u32 = 100;

/// How an attempt to take a lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The calling thread holds the lock.
    Acquired,
    /// The deadline passed first.
    TimedOut,
    /// A signal came first. The caller decides whether to go on.
    Interrupted,
}

/// The lock is not held, or not by the thread that gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHeld;

/// A lock that is not reentrant. Any thread may give it back.
pub struct Lock {
    word: Futex,
    holder: AtomicUsize,
    waiters: Tally,
}

impl Default for Lock {
    fn default() -> Self {
        Lock::new()
    }
}

impl Lock {
    /// A free lock.
    #[cfg(not(feature = "model"))]
    pub const fn new() -> Self {
        Lock { word: Futex::new(FREE), holder: AtomicUsize::new(0), waiters: Tally::new() }
    }

    /// A free lock.
    #[cfg(feature = "model")]
    pub fn new() -> Self {
        Lock { word: Futex::new(FREE), holder: AtomicUsize::new(0), waiters: Tally::new() }
    }

    /// Takes the lock if it is free.
    #[inline(always)]
    pub fn try_acquire(&self, me: usize) -> bool {
        self.take_free(me, 0) || self.try_acquire_stale(me)
    }

    #[inline(always)]
    fn take_free(&self, me: usize, bits: u32) -> bool {
        let taken = HELD | bits | fork::in_word::<GENERATION_SHIFT>();
        let is_taken = self.word.word.compare_exchange(FREE, taken, Acquire, Relaxed).is_ok();
        if is_taken {
            self.holder.store(me, Relaxed);
        }
        is_taken
    }

    #[cold]
    fn try_acquire_stale(&self, me: usize) -> bool {
        self.free_if_stale(self.word.word.load(Acquire)) && self.take_free(me, 0)
    }

    /// Frees the lock if a thread that a fork left behind holds it. `seen` is its word.
    fn free_if_stale(&self, seen: u32) -> bool {
        seen & HELD != 0
            && !self.is_alive(seen)
            && self.word.word.compare_exchange(seen, FREE, Acquire, Relaxed).is_ok()
    }

    fn is_alive(&self, seen: u32) -> bool {
        fork::is_of_now::<GENERATION_SHIFT>(seen) || fork::is_alive(seen >> GENERATION_SHIFT, self.holder.load(Relaxed))
    }

    /// Writes the number of this process to a lock that was taken before a fork; false if its holder is not there any
    /// more. While it is given back it has no holder, and would look like one that was left behind.
    #[cold]
    fn renew(&self, mut seen: u32) -> bool {
        while self.is_alive(seen) {
            let now = fork::renewed::<GENERATION_SHIFT>(seen);
            match self.word.word.compare_exchange(seen, now, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
        self.free_if_stale(seen);
        false
    }

    /// Takes the lock if it gets free within about a microsecond.
    #[cold]
    pub fn try_acquire_soon(&self, me: usize) -> bool {
        for _ in 0..TURNS_BEFORE_SLEEP {
            if self.word.word.load(Relaxed) == FREE && self.take_free(me, 0) {
                return true;
            }
            spin();
        }
        false
    }

    /// Waits for the lock, asleep, until the deadline if there is one.
    #[cold]
    pub fn wait(&self, me: usize, deadline: Option<Instant>) -> Outcome {
        self.waiters.add(1);
        let outcome = self.wait_counted(me, deadline);
        self.waiters.add(-1);
        outcome
    }

    fn wait_counted(&self, me: usize, deadline: Option<Instant>) -> Outcome {
        loop {
            // Others may be asleep too, and their wake-up may be what woke this thread: the mark stays.
            if self.take_free(me, SLEEPERS) {
                return Outcome::Acquired;
            }
            let seen = self.word.word.load(Relaxed);
            if seen == FREE || self.free_if_stale(seen) {
                continue;
            }
            let marked = seen | SLEEPERS;
            if seen != marked && self.word.word.compare_exchange(seen, marked, Relaxed, Relaxed).is_err() {
                continue;
            }
            match self.word.sleep(marked, deadline) {
                Sleep::Woken => {}
                Sleep::TimedOut => return Outcome::TimedOut,
                Sleep::Interrupted => return Outcome::Interrupted,
            }
        }
    }

    /// Takes the lock, waiting until the deadline if there is one. A signal does not end the wait.
    pub fn acquire(&self, me: usize, deadline: Option<Instant>) -> bool {
        if self.try_acquire(me) || self.try_acquire_soon(me) {
            return true;
        }
        loop {
            match self.wait(me, deadline) {
                Outcome::Acquired => return true,
                Outcome::TimedOut => return false,
                Outcome::Interrupted => {}
            }
        }
    }

    /// Gives the lock back, whichever thread holds it. Says whether the holder had called [`mark`](Self::mark).
    #[inline(always)]
    pub fn release(&self) -> Result<bool, NotHeld> {
        let seen = self.word.word.load(Relaxed);
        if seen & HELD == 0 || (!fork::is_of_now::<GENERATION_SHIFT>(seen) && !self.renew(seen)) {
            return Err(NotHeld);
        }
        self.holder.store(0, Relaxed);
        let before = self.word.word.swap(FREE, Release);
        if before & SLEEPERS != 0 {
            self.word.wake_one();
        }
        Ok(before & MARKED != 0)
    }

    /// The holder asks to be told at the release.
    pub fn mark(&self) {
        self.word.word.fetch_or(MARKED, Relaxed);
    }

    /// Did the holder call [`mark`](Self::mark)?
    #[inline(always)]
    pub fn is_marked(&self) -> bool {
        self.word.word.load(Relaxed) & MARKED != 0
    }

    /// Does a thread hold the lock now?
    pub fn is_held(&self) -> bool {
        let seen = self.word.word.load(Acquire);
        seen & HELD != 0 && self.is_alive(seen)
    }

    /// The thread that holds the lock now. For a moment after a thread took it, nobody.
    pub fn holder(&self) -> Option<usize> {
        let holder = self.holder.load(Relaxed);
        (holder != 0 && self.is_held()).then_some(holder)
    }

    /// Does this thread hold the lock?
    #[inline(always)]
    pub fn is_held_by(&self, me: usize) -> bool {
        self.holder.load(Relaxed) == me && self.is_alive(self.word.word.load(Relaxed))
    }

    /// How many threads wait for the lock.
    pub fn waiters(&self) -> u32 {
        self.waiters.get()
    }

    /// Makes the lock free, as it was made.
    pub fn reset(&self) {
        self.holder.store(0, Relaxed);
        self.word.word.swap(FREE, AcqRel);
        self.word.wake_one();
    }
}

/// A lock that its holder may take again. It is free when it was given back as often.
pub struct RLock {
    lock: Lock,
    /// How often the holder has it. Only the holder writes to it.
    depth: AtomicU32,
}

/// The holder has the lock too often to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep;

impl Default for RLock {
    fn default() -> Self {
        RLock::new()
    }
}

impl RLock {
    /// A free lock.
    #[cfg(not(feature = "model"))]
    pub const fn new() -> Self {
        RLock { lock: Lock::new(), depth: AtomicU32::new(0) }
    }

    /// A free lock.
    #[cfg(feature = "model")]
    pub fn new() -> Self {
        RLock { lock: Lock::new(), depth: AtomicU32::new(0) }
    }

    /// What excludes the threads. Taking it is not taking the [`RLock`].
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Takes the lock once more if this thread holds it.
    #[inline(always)]
    pub fn try_reenter(&self, me: usize) -> Result<bool, TooDeep> {
        if !self.lock.is_held_by(me) {
            return Ok(false);
        }
        let depth = self.depth.load(Relaxed).checked_add(1).ok_or(TooDeep)?;
        self.depth.store(depth, Relaxed);
        Ok(true)
    }

    /// Takes the lock if it is free. `is_held_by(me)` is false.
    #[inline(always)]
    pub fn try_enter(&self, me: usize) -> bool {
        self.lock.try_acquire(me) && self.entered(1)
    }

    /// Takes the lock if it gets free within about a microsecond.
    pub fn try_enter_soon(&self, me: usize) -> bool {
        self.lock.try_acquire_soon(me) && self.entered(1)
    }

    /// Waits for the lock, asleep, until the deadline if there is one. Then it is held `depth` times.
    pub fn wait(&self, me: usize, deadline: Option<Instant>, depth: u32) -> Outcome {
        let outcome = self.lock.wait(me, deadline);
        if outcome == Outcome::Acquired {
            self.entered(depth);
        }
        outcome
    }

    /// Takes the lock, waiting until the deadline if there is one. A signal does not end the wait.
    pub fn acquire(&self, me: usize, deadline: Option<Instant>) -> Result<bool, TooDeep> {
        Ok(self.try_reenter(me)? || (self.lock.acquire(me, deadline) && self.entered(1)))
    }

    fn entered(&self, depth: u32) -> bool {
        self.depth.store(depth, Relaxed);
        true
    }

    /// Says how often this thread, which holds the lock, has it.
    pub fn set_depth(&self, me: usize, depth: u32) {
        debug_assert!(self.lock.is_held_by(me));
        self.depth.store(depth, Relaxed);
    }

    /// How often the holder has the lock, whoever it is.
    pub fn held_depth(&self) -> u32 {
        if self.lock.is_held() { self.depth.load(Relaxed) } else { 0 }
    }

    /// Gives the lock back once. Says whether it is free now.
    #[inline(always)]
    pub fn release(&self, me: usize) -> Result<bool, NotHeld> {
        if !self.lock.is_held_by(me) {
            return Err(NotHeld);
        }
        let depth = self.depth.load(Relaxed);
        self.depth.store(depth - 1, Relaxed);
        if depth > 1 {
            return Ok(false);
        }
        self.lock.release().map(|_| true)
    }

    /// Gives the lock back as often as this thread has it, and returns how often that is.
    pub fn release_all(&self, me: usize) -> Result<u32, NotHeld> {
        if !self.lock.is_held_by(me) {
            return Err(NotHeld);
        }
        let depth = self.depth.swap(0, Relaxed);
        self.lock.release().map(|_| depth)
    }

    /// How often this thread holds the lock.
    pub fn depth(&self, me: usize) -> u32 {
        if self.lock.is_held_by(me) { self.depth.load(Relaxed) } else { 0 }
    }

    /// Makes the lock free, as it was made.
    pub fn reset(&self) {
        self.depth.store(0, Relaxed);
        self.lock.reset();
    }
}

#[cfg(all(test, not(feature = "model")))]
#[path = "lock_tests.rs"]
mod tests;
