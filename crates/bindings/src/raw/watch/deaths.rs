//! News of objects that die, so that another one at the same address is not taken for them.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3::ffi::{self, PyObject};

use crate::detection::DETECTOR;
use crate::raw::tracer::{self, DESTROYED, Tracer};

unsafe extern "C" fn trace(object: *mut PyObject, event: c_int, _: *mut c_void) -> c_int {
    if event == DESTROYED {
        // SAFETY: the object is at its end, but its type can still be read.
        let may_be_known = unsafe { ffi::PyType_HasFeature(ffi::Py_TYPE(object), ffi::Py_TPFLAGS_HAVE_GC) != 0 };
        if may_be_known {
            DETECTOR.memory.forget(object as usize);
        }
    }
    0
}

/// Asks for the news, or no longer; false if this interpreter gives none.
pub fn listen(is_on: bool) -> bool {
    tracer::set(is_on.then_some(trace as Tracer), null_mut())
}

/// Do the news still come here? Somebody else may ask for them, such as `tracemalloc`.
pub fn is_listening() -> bool {
    tracer::current().is_some_and(|(now, _)| tracer::is(now, trace))
}
