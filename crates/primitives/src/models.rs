//! The locks under the model checker: every order in which two or three threads can take their steps.
//! `cargo test -p primitives --features model`.

use std::sync::atomic::Ordering::SeqCst;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::async_lock::{AsyncLock, Enlisted, Next, Waiter};
use crate::lock::{Lock, Outcome};
use crate::raw::futex::Futex;
use crate::rwlock::{Mode, RwLock};

/// What a lock protects. The checker reports two accesses that nothing orders.
struct Shared<L> {
    lock: L,
    value: UnsafeCell<usize>,
}

impl<L> Shared<L> {
    fn new(lock: L) -> Arc<Self> {
        Arc::new(Shared { lock, value: UnsafeCell::new(0) })
    }

    fn value(&self) -> usize {
        crate::raw::model::read(&self.value)
    }

    fn increment(&self) {
        crate::raw::model::increment(&self.value);
    }
}

fn check(preemptions_max: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions_max);
    builder.check(model);
}

#[test]
fn a_lock_excludes_and_wakes_who_sleeps() {
    check(3, || {
        let shared = Shared::new(Lock::new());
        let others = [2, 3].map(|me| {
            let shared = shared.clone();
            thread::spawn(move || {
                assert_eq!(shared.lock.wait(me, None), Outcome::Acquired);
                shared.increment();
                shared.lock.release().expect("held");
            })
        });
        assert_eq!(shared.lock.wait(1, None), Outcome::Acquired);
        shared.increment();
        shared.lock.release().expect("held");
        others.map(|other| other.join().expect("no panic"));
        assert!(shared.lock.try_acquire(1));
        assert_eq!(shared.value(), 3);
    });
}

#[test]
fn a_sleeper_that_gives_up_strands_nobody() {
    check(3, || {
        let lock = Arc::new(Lock::new());
        assert!(lock.try_acquire(1));
        let gives_up = {
            let lock = lock.clone();
            thread::spawn(move || {
                if lock.wait(2, Some(std::time::Instant::now())) == Outcome::Acquired {
                    lock.release().expect("held");
                }
            })
        };
        let waits = {
            let lock = lock.clone();
            thread::spawn(move || {
                assert_eq!(lock.wait(3, None), Outcome::Acquired);
                lock.release().expect("held");
            })
        };
        lock.release().expect("held");
        gives_up.join().expect("no panic");
        waits.join().expect("no panic");
        assert!(!lock.is_held());
    });
}

#[test]
fn readers_and_a_writer_are_apart_and_all_get_in() {
    check(3, || {
        let shared = Shared::new(RwLock::new());
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                let outcome = shared.lock.acquire(Mode::Write, 2, None);
                assert_eq!(outcome.expect("no deadlock"), Outcome::Acquired);
                shared.increment();
                shared.lock.release(Mode::Write, 2).expect("held");
            })
        };
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || {
                let deadline = Some(std::time::Instant::now());
                let outcome = shared.lock.acquire(Mode::Read, 3, deadline).expect("no deadlock");
                if outcome == Outcome::Acquired {
                    assert!(shared.value() <= 2);
                    shared.lock.release(Mode::Read, 3).expect("held");
                }
            })
        };
        let outcome = shared.lock.acquire(Mode::Write, 1, None);
        assert_eq!(outcome.expect("no deadlock"), Outcome::Acquired);
        shared.increment();
        shared.lock.release(Mode::Write, 1).expect("held");
        writer.join().expect("no panic");
        reader.join().expect("no panic");
        assert_eq!(shared.value(), 2);
    });
}

type TaskLock = AsyncLock<Futex>;

fn wake(next: Next<Futex>) {
    if let Some(waiter) = next.0 {
        waiter.wake.word.store(1, SeqCst);
        waiter.wake.wake_one();
    }
}

/// Waits as a task does. One that is cancelled leaves at its first chance, woken or not.
fn acquires(lock: &TaskLock, me: usize, is_cancelled: bool) -> bool {
    let mut before: Option<std::sync::Arc<Waiter<Futex>>> = None;
    loop {
        let waiter = match lock.enlist(Futex::new(0), me, before.as_deref()) {
            Enlisted::Acquired => return true,
            Enlisted::Waiting(waiter) => waiter,
        };
        if is_cancelled {
            wake(lock.leave(&waiter));
            return false;
        }
        while waiter.wake.word.load(SeqCst) == 0 {
            waiter.wake.sleep(0, None);
        }
        if lock.resume(&waiter, me) {
            return true;
        }
        before = Some(waiter);
    }
}

fn works(shared: &Shared<TaskLock>, me: usize, is_cancelled: bool) {
    if acquires(&shared.lock, me, is_cancelled) {
        shared.increment();
        wake(shared.lock.release().expect("held"));
    }
}

#[test]
fn an_async_lock_excludes_and_wakes_who_waits() {
    check(3, || {
        let shared = Shared::new(TaskLock::new());
        let others = [2, 3].map(|me| {
            let shared = shared.clone();
            thread::spawn(move || works(&shared, me, false))
        });
        works(&shared, 1, false);
        others.map(|other| other.join().expect("no panic"));
        assert!(shared.lock.try_acquire(1), "it is free");
        assert_eq!(shared.value(), 3);
    });
}

#[test]
fn an_async_lock_loses_no_wake_up_to_a_waiter_that_is_cancelled() {
    check(3, || {
        let shared = Shared::new(TaskLock::new());
        let others = [(2, true), (3, false)].map(|(me, is_cancelled)| {
            let shared = shared.clone();
            thread::spawn(move || works(&shared, me, is_cancelled))
        });
        works(&shared, 1, false);
        others.map(|other| other.join().expect("no panic"));
        assert!(shared.lock.try_acquire(1), "it is free");
    });
}
