//! A flight: one execution that others wait for instead of executing the same thing again.
//!
//! Threads wait parked, tasks of an event loop by a callback: a landing wakes both. A flight lands once, with an
//! outcome or without one (the maker failed or was cancelled: who waited may try for himself). The list of waiters is
//! locked for a few instructions; wakers run, and values are dropped, after it.
//!
//! A wait that could never end is refused at once with [`Circle`]: by the maker itself, by a thread whose event loop
//! runs the maker, and by makers that wait for one another.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use crate::raw::fork::{Stamp, generation};
use crate::thread_index::thread_serial;

/// A thread, or a task of an event loop that runs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    thread: u64,
    task: usize,
}

impl Who {
    /// The calling thread itself: it waits by blocking.
    pub fn thread() -> Who {
        Who { thread: thread_serial(), task: 0 }
    }

    /// A task that runs on the calling thread, by any number but 0: it waits while other tasks of the thread go on.
    pub fn task(task: usize) -> Who {
        Who { thread: thread_serial(), task: task.max(1) }
    }

    /// While `self` waits, does `maker` stand still?
    fn holds_up(self, maker: Who) -> bool {
        self.thread == maker.thread && (self.task == 0 || self.task == maker.task)
    }

    /// Would `maker` never go on if `self`, which runs now, waited for it? A thread that is a maker has called us.
    fn must_not_await(self, maker: Who) -> bool {
        self.holds_up(maker) || (self.thread == maker.thread && maker.task == 0)
    }
}

/// The wait would never end: who should wait is, directly or through others, who must act first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circle;

/// How a waiter is woken.
pub enum Waker {
    /// By unparking it.
    Thread(Thread),
    /// By calling this, in the thread that lands.
    Call(Box<dyn FnOnce() + Send>),
}

impl Waker {
    fn wake(self) {
        match self {
            Waker::Thread(thread) => thread.unpark(),
            Waker::Call(call) => call(),
        }
    }
}

/// Who waits for whom, for as long as it waits.
struct Wait {
    flight: u64,
    waiter: u64,
    who: Who,
    maker: Who,
}

/// Those of one process: what the others were making at a fork is made anew when somebody in the child asks for it.
struct Waits {
    generation: u32,
    list: Vec<Wait>,
}

static WAITS: Mutex<Waits> = Mutex::new(Waits { generation: 0, list: Vec::new() });
static NUMBERS: AtomicU64 = AtomicU64::new(1);

fn number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

fn waits() -> MappedMutexGuard<'static, Vec<Wait>> {
    let mut waits = WAITS.lock();
    if waits.generation != generation() {
        *waits = Waits { generation: generation(), list: Vec::new() };
    }
    MutexGuard::map(waits, |waits| &mut waits.list)
}

/// Would a wait of `who` for `maker` close a circle?
fn closes_circle(waits: &[Wait], who: Who, maker: Who) -> bool {
    let mut makers = vec![maker];
    let mut seen = 0;
    while let Some(&maker) = makers.get(seen) {
        seen += 1;
        if who.must_not_await(maker) {
            return true;
        }
        for wait in waits.iter().filter(|wait| wait.who.holds_up(maker)) {
            if !makers.contains(&wait.maker) {
                makers.push(wait.maker);
            }
        }
    }
    false
}

/// Who is told when flights begin and end, in the thread that does it: an exploration, to know who waits for whom. It gets
/// the number of the flight, must not block, and may be called with locks held.
pub struct News {
    /// A flight begins.
    pub begins: fn(u64),
    /// It has landed, with or without an outcome.
    pub ends: fn(u64),
}

static NEWS: OnceLock<&News> = OnceLock::new();

/// Has somebody told of all flights from now on; only the first to ask is.
pub fn tell(news: &'static News) {
    let _ = NEWS.set(news);
}

enum State<T> {
    Flying(Vec<(u64, Waker)>),
    Landed(Option<Arc<T>>),
}

/// One execution.
pub struct Flight<T> {
    number: u64,
    maker: Who,
    stamp: Stamp,
    is_landed: AtomicBool,
    state: Mutex<State<T>>,
}

impl<T> Flight<T> {
    /// A flight that `maker` will land.
    pub fn new(maker: Who) -> Arc<Self> {
        let number = number();
        if let Some(news) = NEWS.get() {
            (news.begins)(number);
        }
        Arc::new(Flight {
            number,
            maker,
            stamp: Stamp::here(),
            is_landed: AtomicBool::new(false),
            state: Mutex::new(State::Flying(Vec::new())),
        })
    }

    /// Has a fork left its maker behind, so that it will never land?
    pub fn is_orphan(&self) -> bool {
        self.stamp.is_orphan()
    }

    /// Ends the flight and wakes who waits. Without an outcome they may try for themselves. Only the first landing
    /// counts.
    pub fn land(&self, outcome: Option<Arc<T>>) {
        let mut state = self.state.lock();
        if matches!(*state, State::Landed(_)) {
            return;
        }
        let before = mem::replace(&mut *state, State::Landed(outcome));
        self.is_landed.store(true, Ordering::Release);
        drop(state);
        if let Some(news) = NEWS.get() {
            (news.ends)(self.number);
        }
        waits().retain(|wait| wait.flight != self.number);
        if let State::Flying(waiters) = before {
            waiters.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// Joins those who wait. A flight that has landed already wakes at once.
    ///
    /// # Errors
    /// [`Circle`] if the wait would never end.
    pub fn join(self: &Arc<Self>, who: Who, waker: Waker) -> Result<Ticket<T>, Circle> {
        let waiter = number();
        {
            let mut waits = waits();
            // A flight that lands from here on finds this wait in the list and removes it.
            if !self.is_landed() {
                if closes_circle(&waits, who, self.maker) {
                    return Err(Circle);
                }
                waits.push(Wait { flight: self.number, waiter, who, maker: self.maker });
            }
        }
        let ticket = Ticket { flight: Arc::clone(self), waiter };
        let mut state = self.state.lock();
        match &mut *state {
            State::Flying(waiters) => waiters.push((waiter, waker)),
            State::Landed(_) => {
                drop(state);
                waker.wake();
            }
        }
        Ok(ticket)
    }

    /// The number that [`News`] call it by.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Has it landed?
    pub fn is_landed(&self) -> bool {
        self.is_landed.load(Ordering::Acquire)
    }

    /// What it landed with: nothing while it flies, and nothing if it landed without an outcome.
    pub fn outcome(&self) -> Option<Arc<T>> {
        match &*self.state.lock() {
            State::Flying(_) => None,
            State::Landed(outcome) => outcome.clone(),
        }
    }

    /// Waits for the landing in the calling thread, which parks; false after the timeout.
    ///
    /// # Errors
    /// [`Circle`] if the wait would never end.
    pub fn wait(self: &Arc<Self>, until: Option<Instant>) -> Result<bool, Circle> {
        Ok(self.join(Who::thread(), Waker::Thread(thread::current()))?.park(until))
    }
}

/// A place among those who wait for a flight, given up when dropped.
pub struct Ticket<T> {
    flight: Arc<Flight<T>>,
    waiter: u64,
}

impl<T> Ticket<T> {
    /// Parks the thread that joined until the flight lands (true) or the time has come (false). Takes no lock.
    pub fn park(&self, until: Option<Instant>) -> bool {
        while !self.flight.is_landed() {
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return false,
                Some(left) => thread::park_timeout(left),
            }
        }
        true
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut state = self.flight.state.lock();
        let mut own = None;
        if let State::Flying(waiters) = &mut *state
            && let Some(at) = waiters.iter().position(|(waiter, _)| *waiter == self.waiter)
        {
            own = Some(waiters.swap_remove(at));
        }
        drop(state);
        waits().retain(|wait| wait.waiter != self.waiter);
        // The waker may own anything: it is dropped here, when no lock is held.
        drop(own);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    fn late() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(30))
    }

    fn of(thread: u64, task: usize) -> Who {
        Who { thread, task }
    }

    #[test]
    fn a_landing_wakes_threads_and_callbacks() {
        let flight = Flight::new(of(u64::MAX, 0));
        let (send, woken) = mpsc::channel();
        let call = Waker::Call(Box::new(move || send.send(()).expect("a receiver")));
        let _ticket = flight.join(Who::task(7), call).expect("no circle");
        thread::scope(|scope| {
            let waiter = scope.spawn(|| flight.wait(late()));
            thread::sleep(Duration::from_millis(5));
            flight.land(Some(Arc::new(5)));
            assert_eq!(waiter.join().expect("no panic"), Ok(true));
        });
        woken.recv_timeout(Duration::from_secs(30)).expect("the callback was called");
        assert_eq!(flight.outcome().as_deref(), Some(&5));
    }

    #[test]
    fn only_the_first_landing_counts_and_a_late_waiter_is_woken_at_once() {
        let flight = Flight::new(of(u64::MAX, 0));
        flight.land(Some(Arc::new(1)));
        flight.land(Some(Arc::new(2)));
        assert_eq!(flight.wait(None), Ok(true));
        assert_eq!(flight.outcome().as_deref(), Some(&1));
    }

    #[test]
    fn a_wait_ends_at_its_timeout_and_leaves_nothing_behind() {
        let flight: Arc<Flight<i32>> = Flight::new(of(u64::MAX, 0));
        assert_eq!(flight.wait(soon()), Ok(false));
        assert!(matches!(&*flight.state.lock(), State::Flying(waiters) if waiters.is_empty()));
        assert!(waits().iter().all(|wait| wait.flight != flight.number));
    }

    #[test]
    fn who_makes_does_not_wait_for_itself() {
        let flight: Arc<Flight<i32>> = Flight::new(Who::thread());
        assert_eq!(flight.wait(None), Err(Circle));
        let flight: Arc<Flight<i32>> = Flight::new(Who::task(3));
        assert_eq!(flight.wait(None), Err(Circle), "the thread would hold its own event loop up");
        assert!(flight.join(Who::task(3), Waker::Thread(thread::current())).is_err());
        assert!(flight.join(Who::task(4), Waker::Thread(thread::current())).is_ok());
    }

    #[test]
    fn circles_over_several_makers_are_found() {
        let wait = |who, maker| Wait { flight: 0, waiter: 0, who, maker };
        let (a, b, c) = (of(1, 0), of(2, 5), of(3, 0));
        let waits = [wait(b, c), wait(c, a)];
        assert!(closes_circle(&waits, a, b));
        assert!(!closes_circle(&waits[..1], a, b));
        assert!(!closes_circle(&waits, a, of(2, 6)), "another task of the same loop goes on");
        let blocking = [wait(of(2, 0), a)];
        assert!(closes_circle(&blocking, a, b), "a thread that blocks holds all its tasks up");
    }
}
