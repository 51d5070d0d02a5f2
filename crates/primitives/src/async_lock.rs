//! [`AsyncLock`]: mutual exclusion between tasks and threads alike. Whoever must wait brings a way to be woken, `W`.
//!
//! Taking a free lock and giving it back without waiters is one atomic operation each. Who comes while the lock is free
//! may overtake the waiters, but a waiter that was woken and found the lock taken again is *passed over* once only: it
//! goes back to the head of the queue and gets the lock handed over at the next release. So nobody starves.
//!
//! A wake-up is never lost: a waiter that was woken owes the others an attempt. It makes it with [`AsyncLock::resume`]
//! or [`AsyncLock::enlist`], or passes it on with [`AsyncLock::leave`], as it must when it is cancelled.
//!
//! Nothing foreign is called in here: functions return the waiters that the caller must wake afterwards.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::lock::NotHeld;
use crate::raw::fork::{self, generation};
use crate::raw::guarded::Guarded;
use crate::sync::{AtomicU32, AtomicUsize, spin};

const FREE: u32 = 0;
const HELD: u32 = 1;
/// The queue is not empty: who gives the lock back looks there.
const QUEUE: u32 = 2;
const GENERATION_SHIFT: u32 = 2;

/// See the module.
pub struct AsyncLock<W> {
    word: AtomicU32,
    /// The thread of the holder.
    holder: AtomicUsize,
    queue: Guarded<Queue<W>>,
}

struct Queue<W> {
    generation: u32,
    waiting: VecDeque<Arc<Waiter<W>>>,
}

/// Someone who waits, or waited.
pub struct Waiter<W> {
    /// How to wake it.
    pub wake: W,
    thread: usize,
    is_passed_over: bool,
    /// Written under the queue's section only.
    turn: AtomicU32,
}

/// In the queue.
const WAITING: u32 = 0;
/// Out of the queue, and owes an attempt.
const WOKEN: u32 = 1;
/// Out of the queue, and holds the lock.
const OWNER: u32 = 2;
/// Out of the queue, and owes nothing.
const GONE: u32 = 3;

/// What came of an entry in the queue.
pub enum Enlisted<W> {
    /// The lock got free: it is the caller's.
    Acquired,
    /// The caller waits until it is woken.
    Waiting(Arc<Waiter<W>>),
}

/// The waiter to wake, outside of every lock. If it cannot be woken, [`AsyncLock::leave`] it.
#[must_use]
pub struct Next<W>(pub Option<Arc<Waiter<W>>>);

impl<W> Default for AsyncLock<W> {
    fn default() -> Self {
        AsyncLock::new()
    }
}

impl<W> AsyncLock<W> {
    /// A free lock.
    pub fn new() -> Self {
        AsyncLock {
            word: AtomicU32::new(FREE),
            holder: AtomicUsize::new(0),
            queue: Guarded::new(Queue { generation: generation(), waiting: VecDeque::new() }),
        }
    }

    /// Takes the lock if it is free. `me` is the calling thread.
    #[inline(always)]
    pub fn try_acquire(&self, me: usize) -> bool {
        self.take_free(me, 0) || self.try_acquire_stale(me)
    }

    #[inline(always)]
    fn take_free(&self, me: usize, bits: u32) -> bool {
        let taken = HELD | bits | fork::in_word::<GENERATION_SHIFT>();
        let is_taken = self.word.compare_exchange(FREE, taken, Acquire, Relaxed).is_ok();
        if is_taken {
            self.holder.store(me, Relaxed);
        }
        is_taken
    }

    #[cold]
    fn try_acquire_stale(&self, me: usize) -> bool {
        let seen = self.word.load(Acquire);
        seen != FREE
            && !self.is_alive(seen)
            && self.word.compare_exchange(seen, FREE, Acquire, Relaxed).is_ok()
            && self.take_free(me, 0)
    }

    fn is_alive(&self, seen: u32) -> bool {
        fork::is_of_now::<GENERATION_SHIFT>(seen) || fork::is_alive(seen >> GENERATION_SHIFT, self.holder.load(Relaxed))
    }

    /// Writes the number of this process to a lock that was taken before a fork, and returns its word; nothing if its
    /// holder is not there any more. While it is given back it has no holder, and would look like one left behind.
    #[cold]
    fn renew(&self, mut seen: u32) -> Option<u32> {
        while self.is_alive(seen) {
            let now = fork::renewed::<GENERATION_SHIFT>(seen);
            match self.word.compare_exchange(seen, now, Relaxed, Relaxed) {
                Ok(_) => return Some(now),
                Err(other) => seen = other,
            }
        }
        let _ = self.word.compare_exchange(seen, FREE, Acquire, Relaxed);
        None
    }

    /// Takes the lock if it gets free within `n_turns` of a busy wait, unless this very thread holds it: then only a
    /// task of the same thread could give it back.
    #[cold]
    pub fn try_acquire_soon(&self, me: usize, n_turns: u32) -> bool {
        for _ in 0..n_turns {
            if self.word.load(Relaxed) == FREE && self.take_free(me, 0) {
                return true;
            }
            if self.holder.load(Relaxed) == me {
                return false;
            }
            spin();
        }
        false
    }

    /// Enters the queue, unless the lock is free now. With `before`, a waiter that [`resume`](Self::resume) was called
    /// for in vain, it goes to the head.
    pub fn enlist(&self, wake: W, me: usize, before: Option<&Waiter<W>>) -> Enlisted<W> {
        let is_passed_over = before.is_some();
        let waiter = Arc::new(Waiter { wake, thread: me, is_passed_over, turn: AtomicU32::new(WAITING) });
        // What is let go here may run foreign code when dropped, so it is dropped after the section.
        let (is_acquired, _dropped) = self.with_queue(|queue| {
            if let Some(before) = before {
                let turn = before.turn.swap(GONE, Relaxed);
                if turn == OWNER {
                    return true;
                }
                queue.retain(|other| !std::ptr::eq(&**other, before));
            }
            match is_passed_over {
                true => queue.push_front(waiter.clone()),
                false => queue.push_back(waiter.clone()),
            }
            let is_taken = self.take_or_announce(me);
            if is_taken {
                let at = if is_passed_over { 0 } else { queue.len() - 1 };
                queue.remove(at);
                self.announce(queue);
            }
            is_taken
        });
        if is_acquired { Enlisted::Acquired } else { Enlisted::Waiting(waiter) }
    }

    /// A woken waiter tries to take the lock. After a false it enlists again, or leaves.
    pub fn resume(&self, waiter: &Waiter<W>, me: usize) -> bool {
        let (is_mine, _dropped) = self.with_queue(|queue| match waiter.turn.load(Relaxed) {
            OWNER => {
                waiter.turn.store(GONE, Relaxed);
                true
            }
            WOKEN => {
                let bits = if queue.is_empty() { 0 } else { QUEUE };
                let is_taken = self.take_free(me, bits);
                if is_taken {
                    waiter.turn.store(GONE, Relaxed);
                }
                is_taken
            }
            _ => false,
        });
        is_mine
    }

    /// A waiter gives up. What it was given or owes goes to another, who must be woken.
    pub fn leave(&self, waiter: &Arc<Waiter<W>>) -> Next<W> {
        let (next, _dropped) = self.with_queue(|queue| {
            let turn = waiter.turn.swap(GONE, Relaxed);
            match turn {
                OWNER => self.pass_on(queue),
                WOKEN if self.word.load(Relaxed) == FREE => wake_first(queue),
                WOKEN => {
                    // Who holds the lock must look here, since this waiter does not.
                    if queue.is_empty() || !self.announce(queue) { None } else { wake_first(queue) }
                }
                _ => {
                    queue.retain(|other| !Arc::ptr_eq(other, waiter));
                    None
                }
            }
        });
        Next(next)
    }

    /// Gives the lock back, whoever holds it.
    #[inline(always)]
    pub fn release(&self) -> Result<Next<W>, NotHeld> {
        let mut seen = self.word.load(Relaxed);
        if seen & HELD == 0 {
            return Err(NotHeld);
        }
        if !fork::is_of_now::<GENERATION_SHIFT>(seen) {
            seen = self.renew(seen).ok_or(NotHeld)?;
        }
        self.holder.store(0, Relaxed);
        if seen & QUEUE == 0 && self.word.compare_exchange(seen, FREE, Release, Relaxed).is_ok() {
            return Ok(Next(None));
        }
        Ok(self.release_to_queue())
    }

    #[cold]
    fn release_to_queue(&self) -> Next<W> {
        let (next, _dropped) = self.with_queue(|queue| match self.word.load(Relaxed) & HELD {
            0 => None,
            _ => self.pass_on(queue),
        });
        Next(next)
    }

    /// The lock is held, and its holder leaves: hands it over, or frees it and wakes the first waiter.
    fn pass_on(&self, queue: &mut VecDeque<Arc<Waiter<W>>>) -> Option<Arc<Waiter<W>>> {
        if queue.front().is_some_and(|first| first.is_passed_over) {
            let first = queue.pop_front()?;
            first.turn.store(OWNER, Relaxed);
            self.holder.store(first.thread, Relaxed);
            let bits = if queue.is_empty() { 0 } else { QUEUE };
            self.word.store(HELD | bits | fork::in_word::<GENERATION_SHIFT>(), Release);
            return Some(first);
        }
        self.holder.store(0, Relaxed);
        self.word.store(FREE, Release);
        wake_first(queue)
    }

    /// Takes the lock if it is free, else tells its holder that the queue is not empty.
    fn take_or_announce(&self, me: usize) -> bool {
        loop {
            if self.take_free(me, 0) {
                return true;
            }
            let seen = self.word.load(Acquire);
            if seen & HELD == 0 {
                continue;
            }
            if !self.is_alive(seen) {
                let _ = self.word.compare_exchange(seen, FREE, Acquire, Relaxed);
                continue;
            }
            if seen & QUEUE != 0 || self.word.compare_exchange(seen, seen | QUEUE, AcqRel, Relaxed).is_ok() {
                return false;
            }
        }
    }

    /// Tells the holder whether the queue is not empty; true if nobody holds the lock any more.
    fn announce(&self, queue: &VecDeque<Arc<Waiter<W>>>) -> bool {
        loop {
            let seen = self.word.load(Relaxed);
            if seen & HELD == 0 {
                return true;
            }
            if queue.is_empty() || self.word.compare_exchange(seen, seen | QUEUE, AcqRel, Relaxed).is_ok() {
                return false;
            }
        }
    }

    /// Works on the queue; after a fork, on an empty one. The waiters of the parent come back as the second result.
    fn with_queue<R>(&self, work: impl FnOnce(&mut VecDeque<Arc<Waiter<W>>>) -> R) -> (R, Option<Abandoned<W>>) {
        self.queue.with(|queue| {
            let mut abandoned = None;
            if queue.generation != generation() {
                queue.generation = generation();
                abandoned = Some(Abandoned(std::mem::take(&mut queue.waiting)));
            }
            (work(&mut queue.waiting), abandoned)
        })
    }

    /// Does somebody hold the lock now?
    pub fn is_held(&self) -> bool {
        let seen = self.word.load(Acquire);
        seen & HELD != 0 && self.is_alive(seen)
    }

    /// The thread on which the holder runs. For a moment after the lock was taken, none.
    pub fn holder(&self) -> Option<usize> {
        let holder = self.holder.load(Relaxed);
        (holder != 0 && self.is_held()).then_some(holder)
    }

    /// How many wait.
    pub fn waiters(&self) -> usize {
        self.with_queue(|queue| queue.len()).0
    }

    /// Shows each waiter in the queue, for a garbage collector. `visit` must not touch the lock.
    pub fn for_each_waiter(&self, mut visit: impl FnMut(&W)) {
        self.queue.with(|queue| queue.waiting.iter().for_each(|waiter| visit(&waiter.wake)));
    }

    /// Empties the queue, for a garbage collector, and returns what was in it.
    pub fn take_waiters(&self) -> Vec<Arc<Waiter<W>>> {
        let waiting = self.queue.with(|queue| std::mem::take(&mut queue.waiting));
        waiting.into_iter().inspect(|waiter| waiter.turn.store(GONE, Relaxed)).collect()
    }
}

/// The waiters of the parent process. They are never dropped: what they refer to belongs to threads that are gone.
struct Abandoned<W>(VecDeque<Arc<Waiter<W>>>);

impl<W> Drop for Abandoned<W> {
    fn drop(&mut self) {
        self.0.drain(..).for_each(std::mem::forget);
    }
}

fn wake_first<W>(queue: &mut VecDeque<Arc<Waiter<W>>>) -> Option<Arc<Waiter<W>>> {
    let first = queue.pop_front()?;
    first.turn.store(WOKEN, Relaxed);
    Some(first)
}

#[cfg(all(test, not(feature = "model")))]
#[path = "async_lock_tests.rs"]
mod tests;
