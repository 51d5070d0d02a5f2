//! What a pool knows: the jobs that wait, the workers and what each does. It starts no thread and runs no job; whoever
//! has threads lets each call [`Crew::next`] in a loop.
//!
//! Jobs begin in the order in which they came. The queue has a bound, and who finds it full waits or is told so.
//! Everything is decided under one lock, which is held for a few instructions and never while a job runs, is dropped,
//! or is woken for. The lock is that of the standard library, which keeps nothing outside of itself: a forked child that
//! makes a crew of its own meets nothing that another thread held.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Why a job was not taken; it is handed back.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejected<J> {
    /// As many jobs wait as may wait.
    Full(J),
    /// The crew takes no more jobs.
    Closed(J),
}

/// What [`Crew::try_next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<J> {
    /// Run this.
    Job(J),
    /// Nothing to do now: call [`Crew::next`], which waits.
    Wait,
    /// The crew is closed and nothing waits: the worker ends.
    End,
}

/// A job that a worker runs now.
#[derive(Clone, Debug)]
pub struct Running<J> {
    /// The job.
    pub job: J,
    /// The worker, as [`Crew::push`] numbered it.
    pub worker: usize,
    /// Since when.
    pub since: Instant,
}

/// Counts, all of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Jobs that wait for a worker.
    pub queued: usize,
    /// Jobs that a worker runs.
    pub running: usize,
    /// Workers that exist or are being started.
    pub workers: usize,
    /// Jobs that were ever taken.
    pub submitted: u64,
    /// Jobs that a worker is done with.
    pub completed: u64,
}

/// Called, outside the lock, when a place in the queue may be free.
pub type Waker = Box<dyn FnOnce() + Send>;

enum Slot<J> {
    /// No worker has this number.
    Free,
    Idle,
    Busy(Running<J>),
}

struct State<J> {
    queue: VecDeque<J>,
    /// By the number of the worker.
    slots: Vec<Slot<J>>,
    workers: usize,
    busy: usize,
    /// Workers that sleep in `work`, and whether one of them has been woken and has not come yet.
    sleeping: usize,
    waking: bool,
    /// Threads that sleep in `room`, and others that want to be called when there is room.
    waiting: usize,
    wakers: VecDeque<(u64, Waker)>,
    waker_next: u64,
    closed: bool,
    submitted: u64,
    completed: u64,
}

/// See the module.
pub struct Crew<J> {
    state: Mutex<State<J>>,
    work: Condvar,
    room: Condvar,
    ended: Condvar,
    /// How long the queue is, to be looked at without the lock.
    queued: AtomicUsize,
    workers_max: usize,
    queue_max: usize,
}

/// A worker that finds nothing looks again so many times, yielding the processor, before it sleeps: waking a sleeper
/// costs the submitter more than the job itself may take.
const LOOKS: usize = 20;

/// Sleeps until something has changed, or until `deadline`; says whether that has passed.
fn sleep<'a, T>(changed: &Condvar, guard: MutexGuard<'a, T>, deadline: Option<Instant>) -> (MutexGuard<'a, T>, bool) {
    match deadline {
        None => (changed.wait(guard).unwrap_or_else(PoisonError::into_inner), false),
        Some(deadline) => {
            let rest = deadline.saturating_duration_since(Instant::now());
            let (guard, ended) = changed.wait_timeout(guard, rest).unwrap_or_else(PoisonError::into_inner);
            (guard, ended.timed_out())
        }
    }
}

impl<J: Clone> Crew<J> {
    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A crew of at most `workers_max` workers, with at most `queue_max` jobs that wait.
    pub fn new(workers_max: usize, queue_max: usize) -> Self {
        let state = State {
            queue: VecDeque::new(),
            slots: Vec::new(),
            workers: 0,
            busy: 0,
            sleeping: 0,
            waking: false,
            waiting: 0,
            wakers: VecDeque::new(),
            waker_next: 0,
            closed: false,
            submitted: 0,
            completed: 0,
        };
        Crew {
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            ended: Condvar::new(),
            queued: AtomicUsize::new(0),
            workers_max: workers_max.max(1),
            queue_max: queue_max.max(1),
        }
    }

    /// Takes a job if there is room for it now. Returns the number of a worker that the caller has to start, if one is
    /// wanted.
    pub fn try_push(&self, job: J) -> Result<Option<usize>, Rejected<J>> {
        self.admit(self.state(), job)
    }

    /// Takes a job; while the queue is full it waits for room, until `deadline` (for ever if there is none). Returns
    /// the number of a worker that the caller has to start, if one is wanted.
    pub fn push(&self, job: J, deadline: Option<Instant>) -> Result<Option<usize>, Rejected<J>> {
        let mut state = self.state();
        while state.queue.len() >= self.queue_max && !state.closed {
            state.waiting += 1;
            let late;
            (state, late) = sleep(&self.room, state, deadline);
            state.waiting -= 1;
            if late {
                break;
            }
        }
        self.admit(state, job)
    }

    fn admit(&self, mut state: MutexGuard<'_, State<J>>, job: J) -> Result<Option<usize>, Rejected<J>> {
        if state.closed {
            return Err(Rejected::Closed(job));
        }
        if state.queue.len() >= self.queue_max {
            return Err(Rejected::Full(job));
        }
        state.queue.push_back(job);
        state.submitted += 1;
        self.queued.store(state.queue.len(), Ordering::Relaxed);
        let idle = state.workers - state.busy;
        let wanted = state.queue.len() > idle && state.workers < self.workers_max;
        let worker = wanted.then(|| state.enlist());
        let wake = state.wants_waking();
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Ok(worker)
    }

    /// Takes back the promise that worker `worker` comes: its thread could not be started, or it ends. Returns the
    /// jobs that nobody will run now, since no worker is left.
    pub fn retire(&self, worker: usize) -> Vec<J> {
        let mut state = self.state();
        let ended = state.end(worker);
        state.slots[worker] = Slot::Free;
        state.workers -= 1;
        let stranded = match state.workers {
            0 => state.queue.drain(..).collect(),
            _ => Vec::new(),
        };
        self.queued.store(state.queue.len(), Ordering::Relaxed);
        drop(state);
        self.ended.notify_all();
        drop(ended);
        stranded
    }

    /// Says that `worker` is done with its job and looks for another, without ever waiting.
    pub fn try_next(&self, worker: usize) -> Next<J> {
        let mut state = self.state();
        let ended = state.end(worker);
        let next = self.take(state, worker);
        drop(ended);
        next
    }

    /// Says that `worker` is done with its job and waits for another. `None`: the crew is closed and nothing waits.
    pub fn next(&self, worker: usize) -> Option<J> {
        let mut state = self.state();
        let mut ended = state.end(worker);
        loop {
            match self.take(state, worker) {
                Next::Job(job) => return Some(job),
                Next::End => return None,
                Next::Wait => drop(ended.take()),
            }
            for _ in 0..LOOKS {
                if self.queued.load(Ordering::Relaxed) > 0 {
                    break;
                }
                std::thread::yield_now();
            }
            state = self.state();
            if state.queue.is_empty() && !state.closed {
                state.sleeping += 1;
                (state, _) = sleep(&self.work, state, None);
                state.sleeping -= 1;
                state.waking = false;
            }
        }
    }

    fn take(&self, mut state: MutexGuard<'_, State<J>>, worker: usize) -> Next<J> {
        let Some(job) = state.queue.pop_front() else {
            return if state.closed { Next::End } else { Next::Wait };
        };
        self.queued.store(state.queue.len(), Ordering::Relaxed);
        state.busy += 1;
        state.slots[worker] = Slot::Busy(Running { job: job.clone(), worker, since: Instant::now() });
        let wake = state.wants_waking();
        let waker = state.wakers.pop_front();
        let waiting = state.waiting > 0;
        drop(state);
        if wake {
            self.work.notify_one();
        }
        if waiting {
            self.room.notify_one();
        }
        if let Some((_, waker)) = waker {
            waker();
        }
        Next::Job(job)
    }

    /// Takes a job that still waits out of the queue.
    pub fn remove(&self, is_it: impl Fn(&J) -> bool) -> Option<J> {
        let mut state = self.state();
        let idx = state.queue.iter().position(is_it)?;
        let job = state.queue.remove(idx);
        self.queued.store(state.queue.len(), Ordering::Relaxed);
        let waker = state.wakers.pop_front();
        drop(state);
        self.room.notify_one();
        if let Some((_, waker)) = waker {
            waker();
        }
        job
    }

    /// Has `waker` called once when there may be room, at once if there is room now. A caller that is woken tries
    /// again and may find the place taken. Returns a ticket for [`Crew::forget`].
    pub fn when_room(&self, waker: Waker) -> u64 {
        let mut state = self.state();
        let ticket = state.waker_next;
        state.waker_next += 1;
        if state.queue.len() < self.queue_max || state.closed {
            drop(state);
            waker();
        } else {
            state.wakers.push_back((ticket, waker));
        }
        ticket
    }

    /// The holder of the ticket no longer wants room. If it has been woken already, the next in line is woken instead.
    pub fn forget(&self, ticket: u64) {
        let mut state = self.state();
        let waiting = state.wakers.iter().position(|(number, _)| *number == ticket);
        let waker = match waiting {
            Some(idx) => state.wakers.remove(idx),
            None => state.wakers.pop_front(),
        };
        drop(state);
        if let (None, Some((_, waker))) = (waiting, waker) {
            waker();
        }
    }

    /// Takes no more jobs. Those that wait still run, or are returned if `cancel_pending`. Workers end when nothing
    /// waits any more, and who waits for room is woken.
    pub fn close(&self, cancel_pending: bool) -> Vec<J> {
        let mut state = self.state();
        state.closed = true;
        let cancelled = if cancel_pending { state.queue.drain(..).collect() } else { Vec::new() };
        self.queued.store(state.queue.len(), Ordering::Relaxed);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
        wakers.into_iter().for_each(|(_, waker)| waker());
        cancelled
    }

    /// Waits until no worker is left, or until `deadline`; says whether none is left.
    pub fn wait_ended(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state();
        let mut late = false;
        while state.workers > 0 && !late {
            (state, late) = sleep(&self.ended, state, deadline);
        }
        state.workers == 0
    }

    /// What is running now.
    pub fn running(&self) -> Vec<Running<J>> {
        let state = self.state();
        let busy = state.slots.iter().filter_map(|slot| match slot {
            Slot::Busy(running) => Some(running.clone()),
            Slot::Idle | Slot::Free => None,
        });
        busy.collect()
    }

    /// Does the crew take no more jobs?
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Counts, all of one moment.
    pub fn stats(&self) -> Stats {
        let state = self.state();
        Stats {
            queued: state.queue.len(),
            running: state.busy,
            workers: state.workers,
            submitted: state.submitted,
            completed: state.completed,
        }
    }
}

impl<J> State<J> {
    fn enlist(&mut self) -> usize {
        self.workers += 1;
        let free = self.slots.iter().position(|slot| matches!(slot, Slot::Free));
        let worker = free.unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        });
        self.slots[worker] = Slot::Idle;
        worker
    }

    /// The job that the worker was at, to be dropped outside the lock.
    fn end(&mut self, worker: usize) -> Option<Running<J>> {
        match std::mem::replace(&mut self.slots[worker], Slot::Idle) {
            Slot::Busy(running) => {
                self.busy -= 1;
                self.completed += 1;
                Some(running)
            }
            Slot::Idle | Slot::Free => None,
        }
    }

    /// Is a sleeper to be woken? One at a time: who wakes and finds more than one job wakes the next.
    fn wants_waking(&mut self) -> bool {
        let wake = self.sleeping > 0 && !self.waking && !self.queue.is_empty();
        self.waking |= wake;
        wake
    }
}

#[cfg(test)]
mod tests {
    use super::{Crew, Next, Rejected};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    #[test]
    fn a_worker_is_wanted_as_long_as_more_jobs_wait_than_workers_are_idle() {
        let crew = Crew::new(2, 10);
        assert_eq!(crew.try_push("a"), Ok(Some(0)));
        assert_eq!(crew.try_next(0), Next::Job("a"));
        assert_eq!(crew.try_push("b"), Ok(Some(1)));
        assert_eq!(crew.try_push("c"), Ok(None));
        assert_eq!(crew.try_next(0), Next::Job("b"));
        assert_eq!(crew.try_next(0), Next::Job("c"));
        assert_eq!(crew.try_next(0), Next::Wait);
        assert_eq!(crew.try_push("d"), Ok(None));
        let stats = crew.stats();
        assert_eq!((stats.queued, stats.running, stats.workers, stats.submitted, stats.completed), (1, 0, 2, 4, 3));
    }

    #[test]
    fn a_full_queue_refuses_or_keeps_waiting_until_the_deadline() {
        let crew = Crew::new(1, 1);
        crew.try_push(1).unwrap();
        assert_eq!(crew.try_push(2), Err(Rejected::Full(2)));
        assert_eq!(crew.push(2, soon()), Err(Rejected::Full(2)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| crew.push(2, None));
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(crew.try_next(0), Next::Job(1));
            assert_eq!(waiting.join().unwrap(), Ok(None));
        });
    }

    #[test]
    fn closing_lets_the_rest_run_or_returns_it_and_wakes_all() {
        for cancel in [false, true] {
            let crew = Crew::new(1, 1);
            crew.try_push(1).unwrap();
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| crew.push(2, None));
                std::thread::sleep(Duration::from_millis(10));
                assert_eq!(crew.close(cancel), if cancel { vec![1] } else { vec![] });
                assert_eq!(waiting.join().unwrap(), Err(Rejected::Closed(2)));
            });
            assert_eq!(crew.next(0), (!cancel).then_some(1));
            assert_eq!(crew.next(0), None);
            assert!(!crew.wait_ended(soon()));
            assert_eq!(crew.retire(0), vec![]);
            assert!(crew.wait_ended(None));
        }
    }

    #[test]
    fn the_last_worker_that_goes_hands_back_what_nobody_will_run() {
        let crew = Crew::new(2, 10);
        for job in 1..=3 {
            crew.try_push(job).unwrap();
        }
        assert_eq!(crew.retire(0), vec![]);
        assert_eq!(crew.retire(1), vec![1, 2, 3]);
        assert_eq!(crew.try_push(4), Ok(Some(0)));
    }

    #[test]
    fn who_wants_room_is_called_once_and_passes_it_on() {
        let crew = Crew::new(1, 1);
        let called = Arc::new(AtomicUsize::new(0));
        let waker = |amount: usize| {
            let called = Arc::clone(&called);
            Box::new(move || {
                called.fetch_add(amount, Ordering::Relaxed);
            })
        };
        crew.when_room(waker(1));
        assert_eq!(called.load(Ordering::Relaxed), 1);
        crew.try_push(1).unwrap();
        let first = crew.when_room(waker(10));
        let second = crew.when_room(waker(100));
        crew.when_room(waker(1000));
        crew.forget(second);
        assert_eq!(crew.try_next(0), Next::Job(1));
        assert_eq!(called.load(Ordering::Relaxed), 11);
        crew.forget(first);
        assert_eq!(called.load(Ordering::Relaxed), 1011);
    }

    #[test]
    fn every_job_runs_once_whatever_the_number_of_workers() {
        const JOBS: usize = if cfg!(miri) { 30 } else { 20_000 };
        let crew = Crew::new(3, 7);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let work = |worker: usize| {
                while let Some(job) = crew.next(worker) {
                    sum.fetch_add(job, Ordering::Relaxed);
                }
                crew.retire(worker);
            };
            for job in 1..=JOBS {
                if let Some(worker) = crew.push(job, None).unwrap() {
                    scope.spawn(move || work(worker));
                }
            }
            crew.close(false);
            assert!(crew.wait_ended(None));
        });
        assert_eq!(sum.into_inner(), JOBS * (JOBS + 1) / 2);
        assert_eq!(crew.stats().completed, JOBS as u64);
    }
}
