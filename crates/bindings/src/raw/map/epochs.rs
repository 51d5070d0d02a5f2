//! When nobody can be looking any more at what was taken out of a map.
//!
//! An access to a map goes from one call of the interpreter to the next, and the thread is attached all the time. So
//! when the interpreter has stopped all threads once, as it does to collect garbage, all accesses have ended that were
//! under way before. These stops are counted. A window is open as long as the count stands: an access that called
//! Python code, or waited for a lock, looks at the count afterwards and begins again if it has moved. Readers and
//! updaters pay nothing for all this.
//!
//! When much waits to be used again, the world is stopped on purpose (`super::stops`).
//!
//! On a build with a GIL each access is alone as long as it calls no Python code, so counting is enough.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;

use primitives::raw::table::Epochs;

use super::stops;

static STOPS: AtomicU64 = AtomicU64::new(0);

/// The epochs of the interpreter. Only attached threads use them.
pub struct Attached;

/// The number of stops when the window was opened.
pub struct Window(u64);

impl Attached {
    /// Opens a window, which closes when the world is stopped.
    #[inline(always)]
    pub fn open() -> Window {
        Window(STOPS.load(Acquire))
    }
}

// SAFETY: a mark is past when the world has stopped since. Then every other thread stood at a point where the
// interpreter may stop it, which lies outside the functions of the table; where a window reaches over such a point, it
// is found not to be open.
unsafe impl Epochs for Attached {
    type Window = Window;
    type Mark = u64;
    type Lock = InterpreterLock;

    fn is_open(window: &Window) -> bool {
        STOPS.load(Acquire) == window.0
    }

    fn mark(_: &Window) -> u64 {
        STOPS.load(Acquire)
    }

    fn is_past(mark: &u64) -> bool {
        STOPS.load(Acquire) > *mark
    }

    fn urge(_: &Window, pressing: bool) -> bool {
        stops::stop(&STOPS, pressing)
    }
}

#[cfg(Py_GIL_DISABLED)]
mod lock {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
    use std::thread;
    use std::time::Duration;

    use primitives::raw::table::Lock;
    use pyo3::ffi::{PyEval_RestoreThread, PyEval_SaveThread};

    /// A lock that only attached threads hold, for a few instructions. Where all threads stand still none is held: not
    /// at a fork, so a child finds all of them free, and not when the process ends, so a daemon thread that never comes
    /// back takes none with it. A thread that waits does so without the lock until it is attached again, so it cannot
    /// be handed the lock: it looks again and again, detached in between.
    #[derive(Default)]
    pub struct InterpreterLock(AtomicBool);

    const N_SPINS: u32 = 100;
    const N_YIELDS: u32 = 10;
    const PAUSE: Duration = Duration::from_micros(50);

    // SAFETY: it is a mutex.
    unsafe impl Lock for InterpreterLock {
        #[inline(always)]
        fn lock(&self) {
            if self.0.compare_exchange(false, true, Acquire, Relaxed).is_err() {
                self.wait();
            }
        }

        #[inline(always)]
        fn unlock(&self) {
            self.0.store(false, Release);
        }
    }

    impl InterpreterLock {
        #[cold]
        fn wait(&self) {
            let mut n_tries: u32 = 0;
            while self.0.load(Relaxed) || self.0.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {
                n_tries = n_tries.saturating_add(1);
                if n_tries < N_SPINS {
                    std::hint::spin_loop();
                    continue;
                }
                // SAFETY: the thread is attached, and holds no lock of ours.
                let state = unsafe { PyEval_SaveThread() };
                if n_tries < N_SPINS + N_YIELDS {
                    thread::yield_now()
                } else {
                    thread::sleep(PAUSE)
                }
                // SAFETY: it was detached a moment ago.
                unsafe { PyEval_RestoreThread(state) };
            }
        }
    }
}

#[cfg(not(Py_GIL_DISABLED))]
mod lock {
    use primitives::raw::table::Lock;

    /// Who works under this lock calls no Python code, so the GIL is enough.
    #[derive(Default)]
    pub struct InterpreterLock;

    // SAFETY: the thread has the GIL from `lock` to `unlock`.
    unsafe impl Lock for InterpreterLock {
        fn lock(&self) {}

        fn unlock(&self) {}
    }
}

pub use lock::InterpreterLock;
