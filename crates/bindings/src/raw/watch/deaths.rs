//! News of objects that die, so that another one at the same address is not taken for them: the tracer of references of
//! CPython 3.13 (`PyRefTracer_SetTracer`), which is called for each object that is freed.

use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::ptr::null_mut;

use pyo3::ffi::{self, PyObject};

use crate::detection::DETECTOR;
use crate::raw::symbol;

type Tracer = unsafe extern "C" fn(*mut PyObject, c_int, *mut c_void) -> c_int;
type Set = unsafe extern "C" fn(Option<Tracer>, *mut c_void) -> c_int;
type Get = unsafe extern "C" fn(*mut *mut c_void) -> Option<Tracer>;

/// The event for an object that is freed.
const DESTROYED: c_int = 1;

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
    let Some(set) = symbol::find(c"PyRefTracer_SetTracer") else { return false };
    // SAFETY: the function has this type since 3.13, and the caller of a Python function is attached.
    unsafe { transmute::<*mut c_void, Set>(set)(is_on.then_some(trace as Tracer), null_mut()) == 0 }
}

/// Do the news still come here? Somebody else may ask for them, such as `tracemalloc`.
pub fn is_listening() -> bool {
    let Some(get) = symbol::find(c"PyRefTracer_GetTracer") else { return false };
    let mut data = null_mut();
    // SAFETY: as above.
    let now = unsafe { transmute::<*mut c_void, Get>(get)(&raw mut data) };
    now.is_some_and(|now| now as usize == trace as *const () as usize)
}
