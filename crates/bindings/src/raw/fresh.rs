//! What a new thread has not: variables of a context, and values of `threading.local`. The threads of an exploration are
//! kept from run to run, and must not find what an earlier run has left in them.

use std::ptr::null_mut;

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;

use super::held::Held;

/// What `_thread._local` calls its entries in the dict of a thread.
const LOCALS: &[u8] = b"thread.local.";

/// Calls `function` in an empty context, and forgets what it leaves in the calling thread.
pub fn as_in_a_new_thread<T>(function: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // SAFETY: attached, as whoever runs Python code is.
    let context = unsafe { Held(ffi::PyContext_New()) };
    // SAFETY: as above; a new context can be entered.
    let is_in = !context.is_none() && unsafe { ffi::PyContext_Enter(context.as_ptr()) } == 0;
    let result = function();
    // SAFETY: as above; the dict, if there is one, belongs to this thread.
    unsafe {
        if !is_in || ffi::PyContext_Exit(context.as_ptr()) != 0 {
            ffi::PyErr_Clear();
        }
        forget_locals(ffi::PyThreadState_GetDict());
    }
    result
}

unsafe fn forget_locals(dict: *mut PyObject) {
    if dict.is_null() {
        return;
    }
    // SAFETY: the dict is that of the thread, which nobody else changes; the keys are held while they are used.
    unsafe {
        let (mut at, mut key) = (0, null_mut());
        let mut found: Vec<Held> = Vec::new();
        while ffi::PyDict_Next(dict, &raw mut at, &raw mut key, null_mut()) != 0 {
            let mut n = 0;
            if ffi::PyUnicode_Check(key) == 0 {
                continue;
            }
            let text = ffi::PyUnicode_AsUTF8AndSize(key, &raw mut n);
            if !text.is_null() && std::slice::from_raw_parts(text.cast::<u8>(), n as usize).starts_with(LOCALS) {
                found.push(Held::new(key));
            }
        }
        for key in &found {
            ffi::PyDict_DelItem(dict, key.as_ptr());
        }
        ffi::PyErr_Clear();
    }
}
