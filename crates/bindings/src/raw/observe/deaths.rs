//! News of objects that die in a run: they lose their numbers, and who asks a weak reference for one races with whoever
//! lets go of it. Comes from the tracer of references of CPython 3.13 (`PyRefTracer_SetTracer`), which is called for each
//! object that is freed, before anything of it is gone.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::ptr::null_mut;

use pyo3::ffi::{self, PyObject};

use super::frame::member;
use crate::exploration::session::SESSION;
use crate::raw::baton::{self, NOBODY};
use crate::raw::symbol;

type Tracer = unsafe extern "C" fn(*mut PyObject, c_int, *mut c_void) -> c_int;
type Set = unsafe extern "C" fn(Option<Tracer>, *mut c_void) -> c_int;
type Get = unsafe extern "C" fn(*mut *mut c_void) -> Option<Tracer>;

/// The event for an object that is freed.
const DESTROYED: c_int = 1;
/// Weak references to one object that are looked at.
const REFERENCES_MAX: usize = 64;

struct Before(UnsafeCell<(Option<Tracer>, *mut c_void)>);

// SAFETY: written by the one thread that explores, before and after the tracer is in place.
unsafe impl Sync for Before {}

/// Who asked for the news before us: they go on to it.
static BEFORE: Before = Before(UnsafeCell::new((None, null_mut())));

unsafe extern "C" fn trace(object: *mut PyObject, event: c_int, _: *mut c_void) -> c_int {
    // SAFETY: not written while the tracer is in place.
    let (before, data) = unsafe { *BEFORE.0.get() };
    if let Some(before) = before {
        // SAFETY: it was handed to the interpreter as a tracer with this argument.
        unsafe { before(object, event, data) };
    }
    if event != DESTROYED || baton::seat() == NOBODY {
        return 0;
    }
    // SAFETY: the object is at its end, but its type and its list of weak references can still be read.
    unsafe {
        let kind = ffi::Py_TYPE(object);
        if ffi::PyType_IS_GC(kind) == 0 {
            return 0;
        }
        let offset = (*kind).tp_weaklistoffset;
        let first = if offset != 0 { *object.byte_offset(offset).cast::<*mut PyObject>() } else { null_mut() };
        SESSION.try_with(|session| {
            let mut reference = first;
            for _ in 0..REFERENCES_MAX {
                if reference.is_null() {
                    break;
                }
                session.loses(reference);
                reference = next_of(reference);
            }
            session.naming.forget(object as usize);
        });
    }
    0
}

/// The next weak reference to the same object: it stands behind the object, the callback, the hash and the one before.
unsafe fn next_of(reference: *mut PyObject) -> *mut PyObject {
    const NEXT: usize = 4 * size_of::<usize>();
    // SAFETY: the caller has it from the list of an object.
    unsafe { member(reference, NEXT) }
}

/// Asks for the news, or no longer; false if this interpreter gives none.
pub fn listen(is_on: bool) -> bool {
    let (Some(set), Some(get)) = (symbol::find(c"PyRefTracer_SetTracer"), symbol::find(c"PyRefTracer_GetTracer"))
    else {
        return false;
    };
    // SAFETY: the functions have these types since 3.13, and the caller of a Python function is attached.
    unsafe {
        let set = transmute::<*mut c_void, Set>(set);
        if !is_on {
            let (before, data) = *BEFORE.0.get();
            return set(before, data) == 0;
        }
        let mut data = null_mut();
        let before = transmute::<*mut c_void, Get>(get)(&raw mut data);
        if before.is_some_and(|before| before as usize == trace as *const () as usize) {
            return true;
        }
        *BEFORE.0.get() = (before, data);
        set(Some(trace), null_mut()) == 0
    }
}
