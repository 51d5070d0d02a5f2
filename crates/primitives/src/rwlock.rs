//! [`RwLock`]: many readers or one writer, between threads, with a timeout, and with holders that can be seen.
//!
//! A writer that waits goes before readers that come later. When a writer leaves, the readers that wait then go in
//! together, and the next writer after them. So neither side can shut the other out. A thread that reads may read again,
//! and one that writes may read, whoever waits. A thread that reads or writes must not wait for the right to write:
//! that is reported as [`Refused::Deadlock`].
//!
//! The lock is handed over in the order of a queue: who leaves decides who goes next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Instant;

use crate::lock::{NotHeld, Outcome};
use crate::raw::fork;
use crate::raw::futex::{Futex, Sleep};
use crate::raw::guarded::Guarded;

/// In what way a thread holds the lock, or wants to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With other readers.
    Read,
    /// Alone.
    Write,
}

/// Why a thread does not get the lock without waiting.
#[derive(Debug)]
pub enum Refused {
    /// Others are there first.
    Busy,
    /// The thread would wait for itself.
    Deadlock,
}

/// See the module.
pub struct RwLock(Guarded<State>);

struct State {
    generation: u32,
    readers: Vec<Hold>,
    writer: Option<Hold>,
    queue: VecDeque<Arc<Waiter>>,
}

/// A thread that has the lock.
struct Hold {
    thread: usize,
    times: u32,
    mark: Option<u64>,
}

impl Hold {
    fn new(thread: usize) -> Self {
        Hold { thread, times: 1, mark: None }
    }
}

/// A thread in the queue. It owns the lock as soon as `granted` is 1.
struct Waiter {
    thread: usize,
    mode: Mode,
    granted: Futex,
}

impl Default for RwLock {
    fn default() -> Self {
        RwLock::new()
    }
}

impl RwLock {
    /// A free lock.
    #[cfg(not(feature = "model"))]
    pub const fn new() -> Self {
        RwLock(Guarded::new(State::new()))
    }

    /// A free lock.
    #[cfg(feature = "model")]
    pub fn new() -> Self {
        RwLock(Guarded::new(State::new()))
    }

    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        self.0.with(|state| {
            state.drop_the_dead();
            work(state)
        })
    }

    /// Takes the lock if it is to be had without waiting.
    pub fn try_acquire(&self, mode: Mode, me: usize) -> Result<(), Refused> {
        self.with(|state| state.try_admit(mode, me))
    }

    /// Takes the lock, waiting asleep until the deadline if there is one. `Ok(Interrupted)` says that a signal came.
    pub fn acquire(&self, mode: Mode, me: usize, deadline: Option<Instant>) -> Result<Outcome, Refused> {
        let waiter = self.with(|state| match state.try_admit(mode, me) {
            Ok(()) => Ok(None),
            Err(Refused::Busy) => Ok(Some(state.enqueue(mode, me))),
            Err(refused) => Err(refused),
        })?;
        let Some(waiter) = waiter else {
            return Ok(Outcome::Acquired);
        };
        loop {
            if waiter.granted.word.load(Acquire) == 1 {
                return Ok(Outcome::Acquired);
            }
            let outcome = match waiter.granted.sleep(0, deadline) {
                Sleep::Woken => continue,
                Sleep::TimedOut => Outcome::TimedOut,
                Sleep::Interrupted => Outcome::Interrupted,
            };
            return Ok(if self.give_up(&waiter) { outcome } else { Outcome::Acquired });
        }
    }

    /// Leaves the queue; false if the lock was handed over meanwhile.
    fn give_up(&self, waiter: &Arc<Waiter>) -> bool {
        let gone = self.with(|state| {
            let at = state.queue.iter().position(|other| Arc::ptr_eq(other, waiter))?;
            state.queue.remove(at);
            Some(state.admit_next(false))
        });
        gone.map(wake).is_some()
    }

    /// Gives back once what this thread holds in this mode. If it was the last time, returns what
    /// [`set_mark`](Self::set_mark) left there.
    pub fn release(&self, mode: Mode, me: usize) -> Result<Option<u64>, NotHeld> {
        let (mark, next) = self.with(|state| {
            let mark = state.leave(mode, me)?;
            Ok((mark, state.admit_next(mode == Mode::Write)))
        })?;
        wake(next);
        Ok(mark)
    }

    /// Leaves a number with what this thread holds: for [`observe`](crate::observe), the time at which it got it.
    pub fn set_mark(&self, mode: Mode, me: usize, mark: u64) {
        self.with(|state| {
            let hold = match mode {
                Mode::Write => state.writer.as_mut(),
                Mode::Read => state.readers.iter_mut().find(|hold| hold.thread == me),
            };
            if let Some(hold) = hold {
                hold.mark = Some(mark);
            }
        });
    }

    /// Does this thread hold the lock in this mode?
    pub fn is_held_by(&self, mode: Mode, me: usize) -> bool {
        self.with(|state| match mode {
            Mode::Write => state.writes(me),
            Mode::Read => state.reads(me),
        })
    }

    /// The threads that hold the lock in this mode now.
    pub fn holders(&self, mode: Mode) -> Vec<usize> {
        self.with(|state| match mode {
            Mode::Write => state.writer.iter().map(|hold| hold.thread).collect(),
            Mode::Read => state.readers.iter().map(|hold| hold.thread).collect(),
        })
    }

    /// The marks of those that hold the lock in this mode now.
    pub fn marks(&self, mode: Mode) -> Vec<u64> {
        self.with(|state| match mode {
            Mode::Write => state.writer.iter().filter_map(|hold| hold.mark).collect(),
            Mode::Read => state.readers.iter().filter_map(|hold| hold.mark).collect(),
        })
    }

    /// How many threads wait for the lock in this mode.
    pub fn waiters(&self, mode: Mode) -> usize {
        self.with(|state| state.queue.iter().filter(|waiter| waiter.mode == mode).count())
    }
}

/// Tells those that got the lock. They own it already.
fn wake(granted: Vec<Arc<Waiter>>) {
    for waiter in granted {
        waiter.granted.wake_one();
    }
}

impl State {
    const fn new() -> Self {
        State { generation: 0, readers: Vec::new(), writer: None, queue: VecDeque::new() }
    }

    /// After a fork, forgets the threads that are not in this process.
    fn drop_the_dead(&mut self) {
        let then = self.generation;
        if then == fork::generation() {
            return;
        }
        self.readers.retain(|hold| fork::is_alive(then, hold.thread));
        self.writer.take_if(|hold| !fork::is_alive(then, hold.thread));
        self.queue.clear();
        self.generation = fork::generation();
    }

    fn try_admit(&mut self, mode: Mode, me: usize) -> Result<(), Refused> {
        let (reads, writes) = (self.reads(me), self.writes(me));
        match mode {
            Mode::Write if reads || writes => Err(Refused::Deadlock),
            Mode::Write if self.writer.is_some() || !self.readers.is_empty() => Err(Refused::Busy),
            Mode::Read if !reads && !writes && (self.writer.is_some() || self.is_writer_waiting()) => {
                Err(Refused::Busy)
            }
            _ => {
                self.admit(mode, me);
                Ok(())
            }
        }
    }

    fn reads(&self, thread: usize) -> bool {
        self.readers.iter().any(|hold| hold.thread == thread)
    }

    fn writes(&self, thread: usize) -> bool {
        self.writer.as_ref().is_some_and(|hold| hold.thread == thread)
    }

    fn is_writer_waiting(&self) -> bool {
        self.queue.iter().any(|waiter| waiter.mode == Mode::Write)
    }

    fn admit(&mut self, mode: Mode, thread: usize) {
        match mode {
            Mode::Write => self.writer = Some(Hold::new(thread)),
            Mode::Read => match self.readers.iter_mut().find(|hold| hold.thread == thread) {
                Some(hold) => hold.times += 1,
                None => self.readers.push(Hold::new(thread)),
            },
        }
    }

    fn enqueue(&mut self, mode: Mode, thread: usize) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter { thread, mode, granted: Futex::new(0) });
        self.queue.push_back(waiter.clone());
        waiter
    }

    fn leave(&mut self, mode: Mode, me: usize) -> Result<Option<u64>, NotHeld> {
        if mode == Mode::Write {
            let hold = self.writer.take_if(|hold| hold.thread == me).ok_or(NotHeld)?;
            return Ok(hold.mark);
        }
        let at = self.readers.iter().position(|hold| hold.thread == me).ok_or(NotHeld)?;
        self.readers[at].times -= 1;
        match self.readers[at].times {
            0 => Ok(self.readers.swap_remove(at).mark),
            _ => Ok(None),
        }
    }

    /// Hands the lock to those whose turn it is now, and returns them.
    fn admit_next(&mut self, a_writer_left: bool) -> Vec<Arc<Waiter>> {
        let mut granted = Vec::new();
        if self.writer.is_some() || self.queue.is_empty() {
            return granted;
        }
        if a_writer_left || !self.is_writer_waiting() {
            let (readers, writers) = self.queue.drain(..).partition(|waiter| waiter.mode == Mode::Read);
            granted = Vec::from_iter::<VecDeque<_>>(readers);
            self.queue = writers;
        }
        // A writer that reads too keeps the lock for itself until it has left both.
        if self.readers.is_empty() && granted.is_empty() {
            granted.extend(self.queue.pop_front());
        }
        for waiter in &granted {
            self.admit(waiter.mode, waiter.thread);
            waiter.granted.word.store(1, Release);
        }
        granted
    }
}

#[cfg(all(test, not(feature = "model")))]
#[path = "rwlock_tests.rs"]
mod tests;
