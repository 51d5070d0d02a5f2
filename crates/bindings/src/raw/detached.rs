//! Leaves the interpreter for as long as something blocks.

use pyo3::ffi;

/// Runs `blocking` while other threads can stop the world and run Python code.
///
/// # Safety
/// The thread is attached. `blocking` touches no Python object, and does not panic.
pub unsafe fn detached<R>(blocking: impl FnOnce() -> R) -> R {
    // SAFETY: the caller's promise; each saved state is restored once, by the same thread.
    unsafe {
        let state = ffi::PyEval_SaveThread();
        let result = blocking();
        restore(state);
        result
    }
}

#[cfg(not(Py_3_14))]
unsafe fn restore(state: *mut ffi::PyThreadState) {
    unsafe extern "C-unwind" {
        fn PyEval_RestoreThread(state: *mut ffi::PyThreadState);
    }
    /// Before 3.14 the interpreter ends a thread that comes back after its end by unwinding the stack. Frames of ours
    /// must not be unwound, so the thread stands still instead, as it does from 3.14 on.
    struct StandStill;
    impl Drop for StandStill {
        fn drop(&mut self) {
            loop {
                std::thread::park();
            }
        }
    }
    let guard = StandStill;
    // SAFETY: the caller's promise.
    unsafe { PyEval_RestoreThread(state) };
    std::mem::forget(guard);
}

#[cfg(Py_3_14)]
unsafe fn restore(state: *mut ffi::PyThreadState) {
    // SAFETY: the caller's promise.
    unsafe { ffi::PyEval_RestoreThread(state) };
}
