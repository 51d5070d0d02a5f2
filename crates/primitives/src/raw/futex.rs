//! A word that threads sleep on until another thread changes it.
//!
//! On Linux this is the futex of the kernel. It is chosen over a parking lot in user space for two reasons: a signal
//! ends the sleep, so that Python can handle it; and nothing of the sleepers is left in the memory of a forked child.
//! Elsewhere a parking lot stands in, which wakes by itself now and then so that signals are seen; a fork may find it
//! in use by another thread.

use std::time::Instant;

use crate::sync::AtomicU32;

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// Another thread woke this one, or nothing in particular happened: look at the word again.
    Woken,
    /// The deadline has passed. No wake-up was used up.
    TimedOut,
    /// A signal came. No wake-up was used up.
    Interrupted,
}

/// See the module.
pub struct Futex {
    /// What threads look at before they sleep.
    pub word: AtomicU32,
    #[cfg(feature = "model")]
    sleepers: (loom::sync::Mutex<()>, loom::sync::Condvar),
}

impl Futex {
    /// A word with this value.
    #[cfg(not(feature = "model"))]
    pub const fn new(value: u32) -> Self {
        Futex { word: AtomicU32::new(value) }
    }

    /// Sleeps until it is woken, unless the word no longer holds `expected`. Comparing and falling asleep are one step.
    #[cfg(not(feature = "model"))]
    pub fn sleep(&self, expected: u32, deadline: Option<Instant>) -> Sleep {
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if rest.is_some_and(|rest| rest.is_zero()) {
            return Sleep::TimedOut;
        }
        imp::sleep(&self.word, expected, rest)
    }

    /// Wakes one sleeping thread, if there is one.
    #[cfg(not(feature = "model"))]
    pub fn wake_one(&self) {
        imp::wake_one(&self.word);
    }
}

/// The same for the model checker, which has condition variables only. A deadline passes at once there.
#[cfg(feature = "model")]
impl Futex {
    /// A word with this value.
    pub fn new(value: u32) -> Self {
        Futex { word: AtomicU32::new(value), sleepers: (loom::sync::Mutex::new(()), loom::sync::Condvar::new()) }
    }

    /// See above.
    pub fn sleep(&self, expected: u32, deadline: Option<Instant>) -> Sleep {
        let guard = self.sleepers.0.lock().expect("no panic in the model");
        if self.word.load(std::sync::atomic::Ordering::SeqCst) != expected {
            return Sleep::Woken;
        }
        if deadline.is_some() {
            return Sleep::TimedOut;
        }
        drop(self.sleepers.1.wait(guard).expect("no panic in the model"));
        Sleep::Woken
    }

    /// See above.
    pub fn wake_one(&self) {
        let _guard = self.sleepers.0.lock().expect("no panic in the model");
        self.sleepers.1.notify_one();
    }
}

#[cfg(all(target_os = "linux", not(feature = "model")))]
mod imp {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::Sleep;

    pub fn sleep(word: &AtomicU32, expected: u32, rest: Option<Duration>) -> Sleep {
        let rest = rest.map(|rest| libc::timespec {
            // A wait that is longer than the clock can say is one without an end.
            tv_sec: rest.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: rest.subsec_nanos() as _,
        });
        let rest = rest.as_ref().map_or(std::ptr::null(), |rest| rest as *const libc::timespec);
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word and the time outlive the call; the kernel reads both and writes neither.
        let result = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, rest) };
        if result == 0 {
            return Sleep::Woken;
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::ETIMEDOUT) => Sleep::TimedOut,
            Some(libc::EINTR) => Sleep::Interrupted,
            _ => Sleep::Woken,
        }
    }

    pub fn wake_one(word: &AtomicU32) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the kernel only compares the address; it does not matter if the word is freed meanwhile.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 1) };
    }
}

#[cfg(all(not(target_os = "linux"), not(feature = "model")))]
mod imp {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use parking_lot_core::{DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN, ParkResult, park, unpark_one};

    use super::Sleep;

    /// A sleep ends after this time, so that a signal is seen.
    const NAP: Duration = Duration::from_millis(50);

    pub fn sleep(word: &AtomicU32, expected: u32, rest: Option<Duration>) -> Sleep {
        let is_last = rest.is_some_and(|rest| rest <= NAP);
        let until = Instant::now() + if is_last { rest.unwrap_or(NAP) } else { NAP };
        let unchanged = || word.load(Ordering::SeqCst) == expected;
        // SAFETY: the key is the address of our own word, and the functions neither panic nor park.
        let result =
            unsafe { park(word.as_ptr() as usize, unchanged, || {}, |_, _| {}, DEFAULT_PARK_TOKEN, Some(until)) };
        match result {
            ParkResult::TimedOut if is_last => Sleep::TimedOut,
            ParkResult::TimedOut => Sleep::Interrupted,
            _ => Sleep::Woken,
        }
    }

    pub fn wake_one(word: &AtomicU32) {
        // SAFETY: as above.
        unsafe { unpark_one(word.as_ptr() as usize, |_| DEFAULT_UNPARK_TOKEN) };
    }
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_changed_word_is_not_slept_on() {
        assert_eq!(Futex::new(1).sleep(2, None), Sleep::Woken);
    }

    #[test]
    fn a_deadline_ends_the_sleep() {
        let begin = Instant::now();
        let result = Futex::new(1).sleep(1, Some(begin + Duration::from_millis(20)));
        assert_eq!(result, Sleep::TimedOut);
        assert!(begin.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn a_change_and_a_wake_end_the_sleep() {
        let futex = Futex::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while futex.word.load(SeqCst) == 0 {
                    let result = futex.sleep(0, Some(Instant::now() + Duration::from_secs(30)));
                    assert_ne!(result, Sleep::TimedOut);
                }
            });
            std::thread::sleep(Duration::from_millis(20));
            futex.word.store(1, SeqCst);
            futex.wake_one();
        });
    }
}
