//! What a new thread has not: variables of a context, and values of `threading.local`. The threads of an exploration are
//! kept from run to run, and must not find what an earlier run has left in them.

use std::ffi::CStr;
use std::ptr::null_mut;

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;

use super::held::Held;

/// Where `PyThreadState` of CPython 3.13 keeps what all `threading.local` know the thread by, and what tells them of its
/// end: two objects of a type of `_thread`.
const LOCAL_KEY: usize = 288;
const LOCAL_SENTINEL: usize = 296;
const LOCAL_TYPE: &CStr = c"_thread._localdummy";

/// Calls `function` in an empty context, and forgets what it leaves in the calling thread.
pub fn as_in_a_new_thread<T>(function: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // SAFETY: attached, as whoever runs Python code is.
    let context = unsafe { Held(ffi::PyContext_New()) };
    // SAFETY: as above; a new context can be entered.
    let is_in = !context.is_none() && unsafe { ffi::PyContext_Enter(context.as_ptr()) } == 0;
    let result = function();
    // SAFETY: as above; whoever entered the context leaves it.
    unsafe {
        if !is_in || ffi::PyContext_Exit(context.as_ptr()) != 0 {
            ffi::PyErr_Clear();
        }
        forget_locals();
    }
    result
}

/// As at the end of a thread: all `threading.local` let go of what they hold for it.
unsafe fn forget_locals() {
    if !cfg!(all(Py_3_13, not(Py_3_14))) {
        return;
    }
    // SAFETY: attached; the state belongs to this thread. The first object is looked at only if it can be one, and the
    // references are the state's own.
    unsafe {
        let state = ffi::PyThreadState_Get().cast::<u8>();
        let [key, sentinel] = [LOCAL_KEY, LOCAL_SENTINEL].map(|offset| state.add(offset).cast::<*mut PyObject>());
        let is_known = |slot: *mut *mut PyObject| {
            let object = *slot;
            !object.is_null()
                && object.is_aligned()
                && ffi::Py_TYPE(object).is_aligned()
                && CStr::from_ptr((*ffi::Py_TYPE(object)).tp_name) == LOCAL_TYPE
        };
        if is_known(key) && is_known(sentinel) {
            let gone = [sentinel, key].map(|slot| Held(slot.replace(null_mut())));
            drop(gone);
        }
    }
}
