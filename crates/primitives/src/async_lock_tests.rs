//! What an `AsyncLock` promises, tried with real threads.

use std::sync::atomic::AtomicUsize as Count;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::raw::thread::ident;

type Lock = AsyncLock<mpsc::Sender<()>>;

fn enlists(lock: &Lock, me: usize) -> (Arc<Waiter<mpsc::Sender<()>>>, mpsc::Receiver<()>) {
    let (wake, woken) = mpsc::channel();
    match lock.enlist(wake, me, None) {
        Enlisted::Waiting(waiter) => (waiter, woken),
        Enlisted::Acquired => panic!("the lock was held"),
    }
}

fn wake(next: Next<mpsc::Sender<()>>) {
    if let Some(waiter) = next.0 {
        waiter.wake.send(()).expect("somebody waits");
    }
}

#[test]
fn a_free_lock_is_taken_and_given_back() {
    let lock = Lock::new();
    assert!(lock.release().is_err());
    assert!(lock.try_acquire(1) && !lock.try_acquire(2));
    assert_eq!((lock.holder(), lock.waiters()), (Some(1), 0));
    wake(lock.release().expect("held"));
    assert!(!lock.is_held());
}

#[test]
fn the_first_waiter_is_woken_first() {
    let lock = Lock::new();
    assert!(lock.try_acquire(1));
    let ((first, woken_first), (second, woken_second)) = (enlists(&lock, 2), enlists(&lock, 3));
    wake(lock.release().expect("held"));
    woken_first.try_recv().expect("woken");
    woken_second.try_recv().expect_err("not woken");
    assert!(lock.resume(&first, 2));
    assert!(!lock.resume(&second, 3), "it was not woken");
    wake(lock.release().expect("held"));
    woken_second.try_recv().expect("woken");
    assert!(lock.resume(&second, 3));
    assert_eq!(lock.waiters(), 0);
}

#[test]
fn a_waiter_is_passed_over_once_only() {
    let lock = Lock::new();
    assert!(lock.try_acquire(1));
    let (waiter, _woken) = enlists(&lock, 2);
    wake(lock.release().expect("held"));
    assert!(lock.try_acquire(1), "it overtakes");
    assert!(!lock.resume(&waiter, 2));
    let (again, woken) = mpsc::channel();
    let Enlisted::Waiting(waiter) = lock.enlist(again, 2, Some(&waiter)) else {
        panic!("the lock was held");
    };
    wake(lock.release().expect("held"));
    assert!(!lock.try_acquire(1), "it was handed over");
    assert_eq!(lock.holder(), Some(2));
    woken.try_recv().expect("woken");
    assert!(lock.resume(&waiter, 2));
    wake(lock.release().expect("held"));
    assert!(!lock.is_held());
}

#[test]
fn a_woken_waiter_that_leaves_passes_the_wake_up_on() {
    let lock = Lock::new();
    assert!(lock.try_acquire(1));
    let ((first, _), (_second, woken)) = (enlists(&lock, 2), enlists(&lock, 3));
    lock.release().expect("held").0.expect("the first");
    wake(lock.leave(&first));
    woken.try_recv().expect("woken");
}

#[test]
fn a_woken_waiter_that_leaves_while_the_lock_is_held_leaves_the_duty_to_the_holder() {
    let lock = Lock::new();
    assert!(lock.try_acquire(1));
    let ((first, _), (_second, woken)) = (enlists(&lock, 2), enlists(&lock, 3));
    lock.release().expect("held").0.expect("the first");
    assert!(lock.try_acquire(1));
    wake(lock.leave(&first));
    woken.try_recv().expect_err("the lock is held");
    wake(lock.release().expect("held"));
    woken.try_recv().expect("woken");
}

#[test]
fn an_owner_that_leaves_gives_the_lock_on() {
    let lock = Lock::new();
    assert!(lock.try_acquire(1));
    let (first, _woken) = enlists(&lock, 2);
    lock.release().expect("held").0.expect("the first");
    assert!(lock.try_acquire(1) && !lock.resume(&first, 2));
    let (_wake, _) = mpsc::channel();
    let Enlisted::Waiting(first) = lock.enlist(_wake, 2, Some(&first)) else {
        panic!("the lock was held");
    };
    let (_second, woken) = enlists(&lock, 3);
    lock.release().expect("held").0.expect("handed over");
    wake(lock.leave(&first));
    woken.try_recv().expect("woken");
    assert!(!lock.is_held());
}

#[test]
fn a_waiter_that_leaves_the_queue_is_not_woken() {
    let lock = Lock::new();
    assert!(lock.try_acquire(1));
    let (first, woken) = enlists(&lock, 2);
    wake(lock.leave(&first));
    assert_eq!(lock.waiters(), 0);
    wake(lock.release().expect("held"));
    woken.try_recv().expect_err("it left");
    assert!(lock.try_acquire(1));
}

/// Takes the lock as a thread would, with a patience that may end.
fn acquires(lock: &Lock, me: usize, patience: Option<Duration>) -> bool {
    let mut before: Option<Arc<Waiter<_>>> = None;
    loop {
        let (wake_me, woken) = mpsc::channel();
        let waiter = match lock.enlist(wake_me, me, before.as_deref()) {
            Enlisted::Acquired => return true,
            Enlisted::Waiting(waiter) => waiter,
        };
        let in_time = match patience {
            Some(patience) => woken.recv_timeout(patience).is_ok(),
            None => woken.recv().is_ok(),
        };
        if lock.resume(&waiter, me) {
            return true;
        }
        if !in_time {
            if let Some(next) = lock.leave(&waiter).0 {
                let _ = next.wake.send(());
            }
            return false;
        }
        before = Some(waiter);
    }
}

#[test]
fn it_excludes_and_strands_nobody_whoever_gives_up() {
    let n_rounds = if cfg!(miri) { 20 } else { 5000 };
    let lock = Lock::new();
    let (count, n_taken) = (Count::new(0), Count::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (lock, count, n_taken) = (&lock, &count, &n_taken);
            scope.spawn(move || {
                let me = ident();
                for round in 0..n_rounds {
                    let patience = ((round + thread) % 3 == 0).then_some(Duration::from_micros(20));
                    if !(lock.try_acquire(me) || acquires(lock, me, patience)) {
                        continue;
                    }
                    n_taken.fetch_add(1, SeqCst);
                    let seen = count.load(Relaxed);
                    std::hint::spin_loop();
                    count.store(seen + 1, Relaxed);
                    if let Some(next) = lock.release().expect("held").0 {
                        let _ = next.wake.send(());
                    }
                }
            });
        }
    });
    assert_eq!(count.into_inner(), n_taken.into_inner());
    assert!(!lock.is_held());
    assert_eq!(lock.waiters(), 0);
}

#[cfg(all(unix, not(miri)))]
#[test]
fn a_fork_frees_what_another_thread_holds_and_forgets_who_waits() {
    use crate::raw::fork::in_forked_child;
    let lock = Lock::new();
    let me = ident();
    let (held, is_held) = mpsc::channel();
    let (over, is_over) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let lock = &lock;
        scope.spawn(move || {
            assert!(lock.try_acquire(ident()));
            held.send(()).expect("the test waits");
            let _ = is_over.recv();
        });
        is_held.recv().expect("held");
        let _waits = enlists(lock, me);
        let is_right = in_forked_child(|| lock.waiters() == 0 && !lock.is_held() && lock.try_acquire(ident()));
        drop(over);
        assert!(is_right);
    });
    assert_eq!((lock.waiters(), lock.is_held()), (1, true));
}
