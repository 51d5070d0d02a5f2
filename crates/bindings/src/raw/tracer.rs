//! The tracer of references, which CPython calls for each object that is freed, before anything of it is gone
//! (`PyRefTracer_SetTracer`, since 3.13). There is one for the whole process; `tracemalloc` and others may want it too.

use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::ptr::null_mut;

use pyo3::ffi::PyObject;

use super::symbol;

/// What is called: the object, the event, and what was handed over with it.
pub type Tracer = unsafe extern "C" fn(*mut PyObject, c_int, *mut c_void) -> c_int;
type Set = unsafe extern "C" fn(Option<Tracer>, *mut c_void) -> c_int;
type Get = unsafe extern "C" fn(*mut *mut c_void) -> Option<Tracer>;

/// The event for an object that is freed.
pub const DESTROYED: c_int = 1;

/// Who is called now, and with what; `None` if this interpreter has no tracer.
pub fn current() -> Option<(Option<Tracer>, *mut c_void)> {
    let get = symbol::find(c"PyRefTracer_GetTracer")?;
    let mut data = null_mut();
    // SAFETY: the function has this type since 3.13, and the caller of a Python function is attached.
    let tracer = unsafe { transmute::<*mut c_void, Get>(get)(&raw mut data) };
    Some((tracer, data))
}

/// Has this one called from now on, or nobody; false if this interpreter has no tracer.
pub fn set(tracer: Option<Tracer>, data: *mut c_void) -> bool {
    let Some(set) = symbol::find(c"PyRefTracer_SetTracer") else { return false };
    // SAFETY: as above.
    unsafe { transmute::<*mut c_void, Set>(set)(tracer, data) == 0 }
}

/// Are these the same function?
pub fn is(one: Option<Tracer>, other: Tracer) -> bool {
    one.is_some_and(|one| one as usize == other as usize)
}
