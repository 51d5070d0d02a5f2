//! What `Lock` and `RLock` promises, tried with real threads.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::*;
use crate::raw::thread::ident;

fn soon(ms: u64) -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(ms))
}

/// Counts in two steps, which loses updates where two threads are in at once.
fn counts(n_threads: usize, n_updates: usize, enter: impl Fn() + Sync, leave: impl Fn() + Sync) {
    let count = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                for _ in 0..n_updates {
                    enter();
                    let seen = count.load(Relaxed);
                    std::hint::spin_loop();
                    count.store(seen + 1, Relaxed);
                    leave();
                }
            });
        }
    });
    assert_eq!(count.into_inner(), n_threads * n_updates);
}

const UPDATES: usize = if cfg!(miri) { 40 } else { 20_000 };

#[test]
fn a_lock_excludes() {
    let lock = Lock::new();
    let enter = || assert!(lock.acquire(ident(), None));
    counts(4, UPDATES, enter, || assert_eq!(lock.release(), Ok(false)));
    assert!(!lock.is_held());
    assert_eq!(lock.waiters(), 0);
}

#[test]
fn a_lock_excludes_threads_that_sleep() {
    let lock = Lock::new();
    let enter = || assert_eq!(lock.wait(ident(), None), Outcome::Acquired);
    counts(4, UPDATES, enter, || assert_eq!(lock.release(), Ok(false)));
    assert_eq!(lock.word.word.load(SeqCst), FREE);
}

#[test]
fn a_lock_with_deadlines_excludes_and_strands_nobody() {
    let lock = Lock::new();
    let enter = || while !lock.acquire(ident(), Some(Instant::now() + Duration::from_micros(50))) {};
    counts(4, UPDATES / 10, enter, || assert_eq!(lock.release(), Ok(false)));
}

#[test]
fn a_deadline_passes_and_changes_nothing() {
    let lock = Lock::new();
    assert!(lock.try_acquire(1));
    assert!(!lock.try_acquire(2));
    let begin = Instant::now();
    assert_eq!(lock.wait(2, soon(20)), Outcome::TimedOut);
    assert!(begin.elapsed() >= Duration::from_millis(20));
    assert_eq!((lock.holder(), lock.waiters()), (Some(1), 0));
    assert_eq!(lock.release(), Ok(false));
    assert_eq!(lock.release(), Err(NotHeld));
    assert_eq!(lock.holder(), None);
}

#[test]
fn holder_and_waiters_are_seen() {
    let lock = Lock::new();
    assert!(lock.try_acquire(ident()));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| lock.acquire(ident(), soon(30_000)));
        while lock.waiters() == 0 {
            std::thread::yield_now();
        }
        assert!(lock.is_held_by(ident()));
        lock.release().expect("held");
        assert!(waits.join().expect("no panic"));
    });
    assert!(lock.is_held() && !lock.is_held_by(ident()));
    lock.reset();
    assert!(!lock.is_held());
}

#[test]
fn a_mark_is_told_at_the_release_only() {
    let lock = Lock::new();
    assert!(lock.try_acquire(1));
    lock.mark();
    assert_eq!(lock.release(), Ok(true));
    assert!(lock.try_acquire(1));
    assert_eq!(lock.release(), Ok(false));
}

#[test]
fn an_rlock_is_free_when_it_was_given_back_as_often() {
    let lock = RLock::new();
    assert_eq!(lock.release(1), Err(NotHeld));
    for _ in 0..3 {
        assert_eq!(lock.acquire(1, None), Ok(true));
    }
    assert_eq!(lock.acquire(2, soon(1)), Ok(false));
    assert_eq!(lock.release(2), Err(NotHeld));
    assert_eq!((lock.depth(1), lock.depth(2)), (3, 0));
    assert_eq!(lock.release(1), Ok(false));
    assert_eq!(lock.release_all(1), Ok(2));
    assert!(!lock.lock().is_held());
    assert_eq!(lock.wait(2, None, 2), Outcome::Acquired);
    assert_eq!((lock.release(2), lock.release(2)), (Ok(false), Ok(true)));
}

#[test]
fn an_rlock_counts_as_far_as_it_can() {
    let lock = RLock::new();
    assert_eq!(lock.acquire(1, None), Ok(true));
    lock.depth.store(u32::MAX, Relaxed);
    assert_eq!(lock.acquire(1, None), Err(TooDeep));
}

#[test]
fn an_rlock_excludes() {
    let lock = RLock::new();
    let enter = || {
        for _ in 0..2 {
            assert_eq!(lock.acquire(ident(), None), Ok(true));
        }
    };
    let leave = || {
        for _ in 0..2 {
            lock.release(ident()).expect("held");
        }
    };
    counts(4, UPDATES / 2, enter, leave);
}

#[cfg(all(unix, not(miri)))]
#[test]
fn a_fork_frees_what_other_threads_hold_and_keeps_what_the_forking_thread_holds() {
    use crate::raw::fork::in_forked_child;
    let (theirs, mine, reentrant) = (Lock::new(), Lock::new(), RLock::new());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(theirs.try_acquire(ident()));
            assert_eq!(reentrant.acquire(ident(), None), Ok(true));
            while !is_over.load(SeqCst) {
                std::thread::yield_now();
            }
        });
        while !reentrant.lock().is_held() {
            std::thread::yield_now();
        }
        assert!(mine.try_acquire(ident()));
        let is_right = in_forked_child(|| {
            let me = ident();
            let is_free = !theirs.is_held() && theirs.holder().is_none();
            let is_kept = mine.is_held_by(me) && !mine.try_acquire(me);
            is_free
                && is_kept
                && theirs.release() == Err(NotHeld)
                && theirs.acquire(me, soon(5_000))
                && !theirs.try_acquire(me)
                && theirs.release() == Ok(false)
                && reentrant.acquire(me, soon(5_000)) == Ok(true)
                && reentrant.release(me) == Ok(true)
                && mine.release() == Ok(false)
                // And once more, from a child that forked itself.
                && in_forked_child(|| mine.acquire(ident(), soon(5_000)))
        });
        is_over.store(true, SeqCst);
        assert!(is_right);
        assert!(theirs.is_held() && mine.is_held(), "the parent's locks are as they were");
    });
}
