//! What `RwLock` promises, tried with real threads.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
use std::time::Duration;

use super::*;
use crate::raw::thread::ident;

fn soon(ms: u64) -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(ms))
}

fn takes(lock: &RwLock, mode: Mode, me: usize) {
    assert!(lock.try_acquire(mode, me).is_ok());
}

fn is_busy(lock: &RwLock, mode: Mode, me: usize) -> bool {
    matches!(lock.try_acquire(mode, me), Err(Refused::Busy))
}

fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

#[test]
fn readers_share_and_writers_do_not() {
    let lock = RwLock::new();
    takes(&lock, Mode::Read, 1);
    takes(&lock, Mode::Read, 2);
    assert!(is_busy(&lock, Mode::Write, 3));
    lock.release(Mode::Read, 1).expect("held");
    assert!(is_busy(&lock, Mode::Write, 3));
    lock.release(Mode::Read, 2).expect("held");
    takes(&lock, Mode::Write, 3);
    assert!(is_busy(&lock, Mode::Write, 1) && is_busy(&lock, Mode::Read, 1));
    assert_eq!((lock.holders(Mode::Write), lock.holders(Mode::Read)), (vec![3], vec![]));
    assert_eq!(lock.release(Mode::Write, 1), Err(NotHeld));
    assert_eq!(lock.release(Mode::Read, 3), Err(NotHeld));
}

#[test]
fn a_thread_never_waits_for_itself() {
    let lock = RwLock::new();
    takes(&lock, Mode::Read, 1);
    assert!(matches!(lock.acquire(Mode::Write, 1, None), Err(Refused::Deadlock)));
    lock.release(Mode::Read, 1).expect("held");
    takes(&lock, Mode::Write, 1);
    assert!(matches!(lock.acquire(Mode::Write, 1, None), Err(Refused::Deadlock)));
    takes(&lock, Mode::Read, 1);
    lock.release(Mode::Write, 1).expect("held");
    takes(&lock, Mode::Read, 2);
    assert!(is_busy(&lock, Mode::Write, 3), "the writer has become a reader");
}

#[test]
fn a_waiting_writer_goes_before_later_readers_but_not_before_a_reader_that_reads_again() {
    let lock = RwLock::new();
    takes(&lock, Mode::Read, 1);
    std::thread::scope(|scope| {
        let writes = scope.spawn(|| lock.acquire(Mode::Write, 2, soon(30_000)).expect("no deadlock"));
        until(|| lock.waiters(Mode::Write) == 1);
        assert!(is_busy(&lock, Mode::Read, 3));
        takes(&lock, Mode::Read, 1);
        lock.release(Mode::Read, 1).expect("held");
        lock.release(Mode::Read, 1).expect("held");
        assert_eq!(writes.join().expect("no panic"), Outcome::Acquired);
        assert!(lock.is_held_by(Mode::Write, 2));
    });
}

#[test]
fn readers_that_wait_go_before_the_next_writer() {
    let lock = RwLock::new();
    takes(&lock, Mode::Write, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| lock.acquire(Mode::Write, 2, soon(30_000)).expect("no deadlock"));
        until(|| lock.waiters(Mode::Write) == 1);
        for reader in [3, 4] {
            let lock = &lock;
            scope.spawn(move || lock.acquire(Mode::Read, reader, soon(30_000)).expect("no deadlock"));
        }
        until(|| lock.waiters(Mode::Read) == 2);
        lock.release(Mode::Write, 1).expect("held");
        until(|| lock.holders(Mode::Read).len() == 2);
        assert!(lock.holders(Mode::Write).is_empty());
        lock.release(Mode::Read, 3).expect("held");
        lock.release(Mode::Read, 4).expect("held");
        until(|| lock.is_held_by(Mode::Write, 2));
    });
}

#[test]
fn a_writer_that_gives_up_lets_the_readers_behind_it_in() {
    let lock = RwLock::new();
    takes(&lock, Mode::Read, 1);
    std::thread::scope(|scope| {
        let writes = scope.spawn(|| lock.acquire(Mode::Write, 2, soon(100)).expect("no deadlock"));
        until(|| lock.waiters(Mode::Write) == 1);
        let reads = scope.spawn(|| lock.acquire(Mode::Read, 3, soon(30_000)).expect("no deadlock"));
        assert_eq!(writes.join().expect("no panic"), Outcome::TimedOut);
        assert_eq!(reads.join().expect("no panic"), Outcome::Acquired);
    });
    assert_eq!(lock.holders(Mode::Read), [1, 3]);
}

#[test]
fn a_mark_comes_back_with_the_last_release() {
    let lock = RwLock::new();
    takes(&lock, Mode::Read, 1);
    takes(&lock, Mode::Read, 1);
    lock.set_mark(Mode::Read, 1, 7);
    assert_eq!(lock.release(Mode::Read, 1), Ok(None));
    assert_eq!(lock.release(Mode::Read, 1), Ok(Some(7)));
    takes(&lock, Mode::Write, 1);
    assert_eq!(lock.release(Mode::Write, 1), Ok(None));
}

#[test]
fn no_reader_sees_a_writer() {
    let n_rounds = if cfg!(miri) { 20 } else { 3000 };
    let lock = RwLock::new();
    let (inside, n_writes) = (AtomicI64::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (lock, inside, n_writes) = (&lock, &inside, &n_writes);
            scope.spawn(move || {
                let me = ident();
                for round in 0..n_rounds {
                    let mode = if (round + thread) % 3 == 0 { Mode::Write } else { Mode::Read };
                    let deadline = if round % 2 == 0 { None } else { soon(1) };
                    if lock.acquire(mode, me, deadline).expect("no deadlock") != Outcome::Acquired {
                        continue;
                    }
                    match mode {
                        Mode::Write => {
                            assert_eq!(inside.swap(-1, SeqCst), 0);
                            n_writes.fetch_add(1, SeqCst);
                            assert_eq!(inside.swap(0, SeqCst), -1);
                        }
                        Mode::Read => {
                            assert!(inside.fetch_add(1, SeqCst) >= 0);
                            inside.fetch_sub(1, SeqCst);
                        }
                    }
                    lock.release(mode, me).expect("held");
                }
            });
        }
    });
    assert!(n_writes.into_inner() > 0);
    assert_eq!(lock.waiters(Mode::Read) + lock.waiters(Mode::Write), 0);
}

#[cfg(all(unix, not(miri)))]
#[test]
fn a_fork_frees_what_other_threads_hold_and_keeps_what_the_forking_thread_holds() {
    use crate::raw::fork::in_forked_child;
    let (theirs, ours) = (RwLock::new(), RwLock::new());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            takes(&theirs, Mode::Write, ident());
            takes(&ours, Mode::Read, ident());
            until(|| is_over.load(SeqCst));
        });
        until(|| theirs.holders(Mode::Write).len() == 1 && ours.holders(Mode::Read).len() == 1);
        let me = ident();
        takes(&ours, Mode::Read, me);
        let is_right = in_forked_child(|| {
            let is_taken = theirs.acquire(Mode::Write, me, soon(5_000)).is_ok();
            is_taken && ours.holders(Mode::Read) == [me] && is_busy(&ours, Mode::Write, me + 1)
        });
        is_over.store(true, SeqCst);
        assert!(is_right);
    });
}
