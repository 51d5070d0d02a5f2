//! Stopping the world on purpose: all threads stand still for a moment at a point where the interpreter may stop them.
//!
//! A stop waits until each attached thread comes to such a point, which takes long if the machine is busy. So it is
//! rationed: normally one percent of the time may go to stops.
//!
//! CPython 3.13 and 3.14 do not bear it that a thread is about to stop the world when the process forks or ends: the
//! lock that it holds is never released then, and the next collection waits for ever. So before a fork and at exit stops
//! are switched off, and those that are under way are waited for. This is the interpreter's business, so the interpreter
//! is asked to call: when `primitives::raw::fork` hears of a fork, the interpreter has begun it.

use std::sync::atomic::AtomicU64;

use pyo3::prelude::*;

/// Stops the world and counts the stop while it stands still. Says whether it was done.
#[cfg(Py_GIL_DISABLED)]
#[cold]
pub fn stop(stops: &'static AtomicU64, pressing: bool) -> bool {
    free_threaded::stop(stops, pressing)
}

/// The GIL makes each moment at which Python code may run one at which all others stand still.
#[cfg(not(Py_GIL_DISABLED))]
pub fn stop(stops: &'static AtomicU64, _: bool) -> bool {
    stops.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
    true
}

/// Has stops switched off before a fork and at exit.
#[cfg(Py_GIL_DISABLED)]
pub fn register(py: Python<'_>) -> PyResult<()> {
    free_threaded::register(py)
}

#[cfg(not(Py_GIL_DISABLED))]
pub fn register(_: Python<'_>) -> PyResult<()> {
    Ok(())
}

#[cfg(Py_GIL_DISABLED)]
mod free_threaded {
    use std::ffi::{c_int, c_void};
    use std::sync::LazyLock;
    use std::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
    use std::sync::atomic::{AtomicU64, AtomicUsize};
    use std::thread;
    use std::time::{Duration, Instant};

    use pyo3::ffi::PyObject;
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    /// So many times longer than the last stop took there is to be none, unless it is pressing.
    const REST: u64 = 100;

    /// How many forks are being made, and one more at exit: stops are off while there are any.
    static N_OFF: AtomicUsize = AtomicUsize::new(0);
    static N_UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
    /// When the next stop may be, in nanoseconds since `START`.
    static NEXT_NS: AtomicU64 = AtomicU64::new(0);
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    fn now_ns() -> u64 {
        START.elapsed().as_nanos() as u64
    }

    unsafe extern "C" {
        fn PyUnstable_GC_VisitObjects(
            visit: unsafe extern "C" fn(*mut PyObject, *mut c_void) -> c_int,
            argument: *mut c_void,
        );
    }

    /// Called while all other threads stand still; 0 ends the visit with the first object.
    unsafe extern "C" fn count(_: *mut PyObject, stops: *mut c_void) -> c_int {
        // SAFETY: `stop` handed over a counter that lives for good.
        unsafe { &*stops.cast::<AtomicU64>() }.fetch_add(1, AcqRel);
        0
    }

    pub fn stop(stops: &'static AtomicU64, pressing: bool) -> bool {
        let start = now_ns();
        if !pressing && start < NEXT_NS.load(Relaxed) {
            return false;
        }
        N_UNDER_WAY.fetch_add(1, SeqCst);
        let is_on = N_OFF.load(SeqCst) == 0;
        if is_on {
            // SAFETY: the thread is attached and holds no lock of ours. The function stops the world for its visit.
            unsafe { PyUnstable_GC_VisitObjects(count, std::ptr::from_ref(stops).cast_mut().cast()) };
        }
        N_UNDER_WAY.fetch_sub(1, SeqCst);
        let end = now_ns();
        NEXT_NS.store(end + (end - start) * REST, Relaxed);
        is_on
    }

    /// Stops are off when this returns.
    #[pyfunction]
    fn switch_off(py: Python<'_>) {
        N_OFF.fetch_add(1, SeqCst);
        py.detach(|| {
            while N_UNDER_WAY.load(SeqCst) > 0 {
                thread::sleep(Duration::from_micros(100));
            }
        });
    }

    #[pyfunction]
    fn switch_on() {
        N_OFF.fetch_sub(1, SeqCst);
    }

    /// The child of a fork has one thread, which forks nothing else at this moment.
    #[pyfunction]
    fn switch_on_in_child() {
        N_OFF.store(0, SeqCst);
    }

    pub fn register(py: Python<'_>) -> PyResult<()> {
        let off = wrap_pyfunction!(switch_off, py)?;
        py.import("atexit")?.call_method1("register", (&off,))?;
        let handlers = PyDict::new(py);
        handlers.set_item("before", off)?;
        handlers.set_item("after_in_parent", wrap_pyfunction!(switch_on, py)?)?;
        handlers.set_item("after_in_child", wrap_pyfunction!(switch_on_in_child, py)?)?;
        if let Ok(register) = py.import("os")?.getattr("register_at_fork") {
            register.call((), Some(&handlers))?;
        }
        Ok(())
    }
}
