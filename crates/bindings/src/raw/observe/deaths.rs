//! News of objects that die in a run: they lose their numbers, and who asks a weak reference for one races with whoever
//! lets go of it.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3::ffi::{self, PyObject};

use super::frame::member;
use crate::exploration::session::SESSION;
use crate::raw::baton::{self, NOBODY};
use crate::raw::tracer::{self, DESTROYED, Tracer};

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
            while !reference.is_null() {
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
    if !is_on {
        // SAFETY: not written while the tracer is in place, and written only here.
        let (before, data) = unsafe { *BEFORE.0.get() };
        return tracer::set(before, data);
    }
    match tracer::current() {
        Some((now, _)) if tracer::is(now, trace) => true,
        Some(before) => {
            // SAFETY: as above.
            unsafe { *BEFORE.0.get() = before };
            tracer::set(Some(trace), null_mut())
        }
        None => false,
    }
}
