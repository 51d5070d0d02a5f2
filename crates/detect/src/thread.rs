//! A thread that is watched: what it has heard of the others, and which locks it holds.
//!
//! It has two clocks. The full one hears through everything, locks included, and says what was ordered in this run. The
//! hard one hears only through starts, joins and messages, and says what is ordered in every run: critical sections of
//! one lock could have come in another order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::Stack;
use crate::clock::VectorClock;
use crate::lock::{Lock, LockSets};

/// What one thread tells another: by starting it, at its end, or through a queue.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub(crate) clock: VectorClock,
    pub(crate) hard: VectorClock,
}

impl Message {
    /// Tells both.
    pub fn join(&mut self, other: &Message) {
        self.clock.join(&other.clock);
        self.hard.join(&other.hard);
    }
}

/// A lock that the thread holds.
#[derive(Clone, Debug)]
pub struct Held {
    /// Which.
    pub lock: Arc<Lock>,
    /// When it was taken, in stamps of the thread.
    pub since: u32,
    /// Where.
    pub stack: Stack,
}

/// See the module. Its own thread alone touches it.
#[derive(Debug)]
pub struct Watcher {
    /// Its place in the clocks, which others had before it and have after it.
    pub slot: u32,
    /// Its number, which nobody else has.
    pub thread: u32,
    pub(crate) clock: VectorClock,
    pub(crate) hard: VectorClock,
    /// Counts what changes the locks that are held, or what was heard: an access that was looked at under this stamp
    /// needs no second look.
    pub stamp: u32,
    held: Vec<Held>,
    lock_set: (u32, u32),
}

/// The places in the clocks. One that is free is given to a thread whose starter has heard all of its last owner: what
/// the two did is in order anyway.
#[derive(Debug, Default)]
pub struct Slots {
    n: AtomicU32,
    free: Mutex<Vec<(u32, u32, u32)>>,
    n_threads: AtomicU32,
}

/// No more free places are looked at for a new thread.
const LOOKED_AT_MAX: usize = 64;

impl Slots {
    /// A thread begins that has heard this.
    #[must_use]
    pub fn begin(&self, heard: &Message) -> Watcher {
        let (slot, time, hard_time) = self.take(heard);
        let (mut clock, mut hard) = (heard.clock.clone(), heard.hard.clone());
        clock.set(slot, time + 1);
        hard.set(slot, hard_time + 1);
        let thread = self.n_threads.fetch_add(1, Relaxed) + 1;
        Watcher { slot, thread, clock, hard, stamp: 1, held: Vec::new(), lock_set: (0, 0) }
    }

    fn take(&self, heard: &Message) -> (u32, u32, u32) {
        let mut free = self.free.lock();
        let is_past =
            |(slot, time, hard): &(u32, u32, u32)| heard.clock.covers(*slot, *time) && heard.hard.covers(*slot, *hard);
        match free.iter().rev().take(LOOKED_AT_MAX).position(is_past) {
            Some(from_end) => {
                let at = free.len() - 1 - from_end;
                free.swap_remove(at)
            }
            None => (self.n.fetch_add(1, Relaxed), 0, 0),
        }
    }

    /// A thread is at its end: what it tells whoever waits for that.
    pub fn end(&self, mut watcher: Watcher) -> Message {
        let (time, hard) = (watcher.clock.get(watcher.slot), watcher.hard.get(watcher.slot));
        let told = watcher.send();
        self.free.lock().push((watcher.slot, time, hard));
        told
    }
}

impl Watcher {
    /// The time of its own, by both clocks.
    #[inline]
    #[must_use]
    pub fn times(&self) -> (u32, u32) {
        (self.clock.get(self.slot), self.hard.get(self.slot))
    }

    fn tick(&mut self) {
        self.clock.set(self.slot, self.clock.get(self.slot) + 1);
        self.stamp = self.stamp.wrapping_add(1);
    }

    /// Tells what it has heard and done until now.
    pub fn send(&mut self) -> Message {
        let told = Message { clock: self.clock.clone(), hard: self.hard.clone() };
        self.tick();
        self.hard.set(self.slot, self.hard.get(self.slot) + 1);
        told
    }

    /// Hears what was told.
    pub fn receive(&mut self, told: &Message) {
        self.clock.join(&told.clock);
        self.hard.join(&told.hard);
        self.stamp = self.stamp.wrapping_add(1);
    }

    /// Has taken a lock.
    pub fn acquired(&mut self, lock: &Arc<Lock>, stack: Stack) {
        {
            let given = lock.given.lock();
            self.clock.join(&given.clock);
            if let Some(hard) = &given.hard {
                self.hard.join(hard);
            }
        }
        lock.holder.store(self.thread, Relaxed);
        self.stamp = self.stamp.wrapping_add(1);
        self.held.retain(|held| held.lock.id != lock.id && held.lock.is_held_by(self.thread));
        self.held.push(Held { lock: lock.clone(), since: self.stamp, stack });
    }

    /// Is about to give a lock back.
    pub fn releases(&mut self, lock: &Arc<Lock>) {
        let is_mine = lock.is_held_by(self.thread);
        {
            let mut given = lock.given.lock();
            given.clock.copy_from(&self.clock);
            given.hard = (!is_mine).then(|| self.hard.clone());
        }
        lock.holder.store(0, Relaxed);
        self.tick();
        match is_mine {
            true => self.held.retain(|held| held.lock.id != lock.id),
            false => self.hard.set(self.slot, self.hard.get(self.slot) + 1),
        }
    }

    /// The locks that it holds, those that were taken first in front.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.held.iter().filter(|held| held.lock.is_held_by(self.thread))
    }

    /// The number of the set of locks that it holds.
    pub fn lock_set(&mut self, sets: &LockSets) -> u32 {
        if self.held.is_empty() {
            return 0;
        }
        if self.lock_set.0 != self.stamp {
            let mut ids: Vec<u32> = self.held().map(|held| held.lock.id).collect();
            ids.sort_unstable();
            self.lock_set = (self.stamp, sets.number(&ids));
        }
        self.lock_set.1
    }

    /// The locks that it has held without a break since that stamp.
    pub fn held_since(&self, stamp: u32) -> impl Iterator<Item = u32> {
        self.held().filter(move |held| held.since <= stamp).map(|held| held.lock.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_tells_in_this_run_but_not_in_every_run() {
        let slots = Slots::default();
        let (mut one, mut two) = (slots.begin(&Message::default()), slots.begin(&Message::default()));
        let lock = Lock::new(0);
        one.acquired(&lock, 0);
        let (time, hard) = one.times();
        one.releases(&lock);
        assert!(!two.clock.covers(one.slot, time));
        two.acquired(&lock, 0);
        assert!(two.clock.covers(one.slot, time) && !two.hard.covers(one.slot, hard));
        assert_eq!((one.held().count(), two.held().count()), (0, 1));
    }

    #[test]
    fn a_lock_given_back_by_another_is_a_message() {
        let slots = Slots::default();
        let (mut waiter, mut waker) = (slots.begin(&Message::default()), slots.begin(&Message::default()));
        let lock = Lock::new(0);
        waiter.acquired(&lock, 0);
        let (_, hard) = waker.times();
        waker.releases(&lock);
        assert_eq!(waiter.held().count(), 0);
        waiter.acquired(&lock, 0);
        assert!(waiter.hard.covers(waker.slot, hard));
    }

    #[test]
    fn a_slot_is_used_again_only_by_whoever_heard_of_its_end() {
        let slots = Slots::default();
        let mut parent = slots.begin(&Message::default());
        let told = parent.send();
        let child = slots.begin(&told);
        let slot = child.slot;
        let end = slots.end(child);
        assert_ne!(slots.begin(&parent.send()).slot, slot);
        parent.receive(&end);
        let next = slots.begin(&parent.send());
        assert_eq!(next.slot, slot);
        assert!(next.times().0 > end.clock.get(slot));
    }
}
