//! How far a task is, and waiting for its end. One byte that several threads change, and a way to sleep on it that
//! costs nothing as long as nobody sleeps.
//!
//! ```text
//! Pending ---begin---> Running ---finish---> Finished
//!    |------------------finish---------------^
//!    +----cancel---> Cancelled
//! ```

use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Instant;

use crate::raw::futex::{Futex, Sleep};

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// It waits for a worker.
    Pending = 0,
    /// A worker runs it.
    Running = 1,
    /// It was cancelled before it ran.
    Cancelled = 2,
    /// It ran to its end, whatever that was.
    Finished = 3,
}

/// Why a step was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The status does not allow it.
    Status(Status),
    /// Somebody watches, and the step must be made where the watcher agrees: see [`Progress::watch`].
    Watched,
}

const STATUS: u32 = 3;
/// Somebody sleeps in [`Progress::wait_until`].
const AWAITED: u32 = 4;
const WATCHED: u32 = 8;

/// See the module.
pub struct Progress {
    futex: Futex,
}

impl Default for Progress {
    fn default() -> Self {
        Progress { futex: Futex::new(Status::Pending as u32) }
    }
}

fn status(word: u32) -> Status {
    match word & STATUS {
        0 => Status::Pending,
        1 => Status::Running,
        2 => Status::Cancelled,
        _ => Status::Finished,
    }
}

impl Progress {
    /// How far it is now.
    pub fn status(&self) -> Status {
        status(self.futex.word.load(Acquire))
    }

    /// Has it ended, or was it cancelled?
    #[inline]
    pub fn is_done(&self) -> bool {
        self.futex.word.load(Acquire) & STATUS >= Status::Cancelled as u32
    }

    /// A worker takes the task. One worker at most succeeds.
    pub fn begin(&self) -> Result<(), Refused> {
        self.step(Status::Running, true, |from| from == Status::Pending)
    }

    /// The task has ended; what it left was stored before. `watcher_agrees` says that the caller holds what a watcher
    /// demands; without it the step is refused while somebody watches.
    pub fn finish(&self, watcher_agrees: bool) -> Result<(), Refused> {
        self.step(Status::Finished, watcher_agrees, |from| from < Status::Cancelled)
    }

    /// Cancels a task that no worker has begun. `watcher_agrees` as in [`Progress::finish`].
    pub fn cancel(&self, watcher_agrees: bool) -> Result<(), Refused> {
        self.step(Status::Cancelled, watcher_agrees, |from| from == Status::Pending)
    }

    /// From now on the last step waits for a watcher's consent, which is the caller's business. Returns how far the
    /// task is: a task that is done stays as it is.
    pub fn watch(&self) -> Status {
        status(self.futex.word.fetch_or(WATCHED, AcqRel))
    }

    fn step(&self, to: Status, watcher_agrees: bool, may: impl Fn(Status) -> bool) -> Result<(), Refused> {
        let mut seen = self.futex.word.load(Acquire);
        loop {
            let from = status(seen);
            if !may(from) {
                return Err(Refused::Status(from));
            }
            if seen & WATCHED != 0 && !watcher_agrees {
                return Err(Refused::Watched);
            }
            let next = seen & !STATUS | to as u32;
            match self.futex.word.compare_exchange_weak(seen, next, AcqRel, Acquire) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if seen & AWAITED != 0 && to >= Status::Cancelled {
            self.futex.wake_one();
        }
        Ok(())
    }

    /// Sleeps until the task is done, or until `deadline`; says whether it is done.
    pub fn wait_until(&self, deadline: Option<Instant>) -> bool {
        loop {
            let seen = self.futex.word.fetch_or(AWAITED, AcqRel) | AWAITED;
            if status(seen) >= Status::Cancelled {
                // The last step wakes one sleeper, and each wakes the next.
                self.futex.wake_one();
                return true;
            }
            if self.futex.sleep(seen, deadline) == Sleep::TimedOut {
                return self.is_done();
            }
        }
    }
}

impl PartialOrd for Status {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (*self as u32).partial_cmp(&(*other as u32))
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::{Progress, Refused, Status};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    #[test]
    fn a_task_is_begun_or_cancelled_but_never_both() {
        for _ in 0..if cfg!(miri) { 5 } else { 500 } {
            let progress = Progress::default();
            let won = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| progress.begin().map(|()| won.fetch_add(1, Ordering::Relaxed)));
                }
                scope.spawn(|| progress.cancel(false).map(|()| won.fetch_add(1, Ordering::Relaxed)));
            });
            assert_eq!(won.into_inner(), 1);
        }
    }

    #[test]
    fn sleepers_wake_when_it_ends() {
        for _ in 0..if cfg!(miri) { 5 } else { 200 } {
            let progress = Progress::default();
            progress.begin().unwrap();
            std::thread::scope(|scope| {
                let sleepers: Vec<_> = (0..3).map(|_| scope.spawn(|| progress.wait_until(None))).collect();
                progress.finish(false).unwrap();
                assert!(sleepers.into_iter().all(|sleeper| sleeper.join().unwrap()));
            });
        }
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let progress = Progress::default();
        assert!(!progress.wait_until(Some(Instant::now() + Duration::from_millis(20))));
        progress.cancel(false).unwrap();
        assert!(progress.wait_until(Some(Instant::now())));
        assert_eq!(progress.finish(false), Err(Refused::Status(Status::Cancelled)));
    }

    #[test]
    fn a_watched_task_ends_with_consent_only() {
        let progress = Progress::default();
        assert_eq!(progress.watch(), Status::Pending);
        assert_eq!(progress.cancel(false), Err(Refused::Watched));
        progress.begin().unwrap();
        assert_eq!(progress.finish(false), Err(Refused::Watched));
        assert_eq!(progress.status(), Status::Running);
        progress.finish(true).unwrap();
        assert_eq!(progress.watch(), Status::Finished);
    }
}

#[cfg(all(test, feature = "model"))]
mod model {
    use super::Progress;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn all_sleepers_wake_when_it_ends() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let progress = Arc::new(Progress::default());
            let sleepers = [(), ()].map(|()| {
                let progress = progress.clone();
                thread::spawn(move || assert!(progress.wait_until(None)))
            });
            progress.begin().unwrap();
            progress.finish(false).unwrap();
            for sleeper in sleepers {
                sleeper.join().unwrap();
            }
        });
    }

    #[test]
    fn one_of_begin_and_cancel_wins_and_the_sleeper_wakes() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let progress = Arc::new(Progress::default());
            let cancelling = {
                let progress = progress.clone();
                thread::spawn(move || progress.cancel(false).is_ok())
            };
            let working = {
                let progress = progress.clone();
                thread::spawn(move || progress.begin().is_ok_and(|()| progress.finish(false).is_ok()))
            };
            assert!(progress.wait_until(None));
            assert!(cancelling.join().unwrap() != working.join().unwrap());
        });
    }
}
