//! When nobody can be looking any more at what was taken out of a map.
//!
//! An access to a map goes from one call of the interpreter to the next, and the thread is attached all the time. So
//! when the interpreter has stopped all threads once, as it does to collect garbage, all accesses have ended that were
//! under way before. These stops are counted. A window is open as long as the count stands: an access that called
//! Python code, or waited for a lock, looks at the count afterwards and begins again if it has moved. Readers and
//! updaters pay nothing for all this.
//!
//! When much waits to be used again, the world is stopped on purpose: once for about a thousand removed keys.
//!
//! On a build with a GIL each access is alone as long as it calls no Python code, so counting is enough.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;

use primitives::raw::table::Epochs;

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

    fn urge(_: &Window) {
        stop_the_world();
    }
}

#[cfg(Py_GIL_DISABLED)]
#[cold]
fn stop_the_world() {
    use std::ffi::{c_int, c_void};

    use pyo3::ffi::PyObject;

    unsafe extern "C" {
        fn PyUnstable_GC_VisitObjects(
            visit: unsafe extern "C" fn(*mut PyObject, *mut c_void) -> c_int,
            argument: *mut c_void,
        );
    }

    /// Called while all other threads stand still; 0 ends the visit with the first object.
    unsafe extern "C" fn count(_: *mut PyObject, _: *mut c_void) -> c_int {
        STOPS.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        0
    }

    // SAFETY: the thread is attached and holds no lock of ours. The function stops the world for its visit.
    unsafe { PyUnstable_GC_VisitObjects(count, std::ptr::null_mut()) };
}

#[cfg(not(Py_GIL_DISABLED))]
#[cold]
fn stop_the_world() {
    STOPS.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
}

#[cfg(Py_GIL_DISABLED)]
mod lock {
    use std::sync::atomic::AtomicU8;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

    use primitives::raw::table::Lock;
    use pyo3::ffi::{PyMutex, PyMutex_Lock, PyMutex_Unlock};

    static FORKS: AtomicU32 = AtomicU32::new(0);
    static RENEWING: AtomicU8 = AtomicU8::new(0);

    /// CPython's own mutex of one byte, which detaches who waits. In a forked process it is free: the interpreter has
    /// stopped all threads before, so whoever held it had not begun to work.
    pub struct InterpreterLock {
        bits: AtomicU8,
        forks: AtomicU32,
    }

    impl Default for InterpreterLock {
        fn default() -> Self {
            InterpreterLock { bits: AtomicU8::new(0), forks: AtomicU32::new(FORKS.load(Relaxed)) }
        }
    }

    fn lock(bits: &AtomicU8) {
        if bits.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            // SAFETY: a `PyMutex` is this byte, and the thread is attached.
            unsafe { PyMutex_Lock(std::ptr::from_ref(bits).cast_mut().cast::<PyMutex>()) };
        }
    }

    fn unlock(bits: &AtomicU8) {
        if bits.compare_exchange(1, 0, Release, Relaxed).is_err() {
            // SAFETY: as above; this thread holds it.
            unsafe { PyMutex_Unlock(std::ptr::from_ref(bits).cast_mut().cast::<PyMutex>()) };
        }
    }

    // SAFETY: it is a mutex.
    unsafe impl Lock for InterpreterLock {
        #[inline(always)]
        fn lock(&self) {
            if self.forks.load(Acquire) != FORKS.load(Relaxed) {
                self.renew();
            }
            lock(&self.bits);
        }

        #[inline(always)]
        fn unlock(&self) {
            unlock(&self.bits);
        }
    }

    impl InterpreterLock {
        /// The first use in a forked process.
        #[cold]
        fn renew(&self) {
            lock(&RENEWING);
            if self.forks.load(Acquire) != FORKS.load(Relaxed) {
                self.bits.store(0, Relaxed);
                self.forks.store(FORKS.load(Relaxed), Release);
            }
            unlock(&RENEWING);
        }
    }

    /// To be called in the child after a fork, in the only thread that it has.
    pub fn forked() {
        RENEWING.store(0, Relaxed);
        FORKS.fetch_add(1, Relaxed);
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

    /// Nothing is locked.
    pub fn forked() {}
}

pub use lock::{InterpreterLock, forked};
