//! For slots that hand over to safe code: references that such code may hold, errors it returns, and traversal.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3::ffi::{PyObject, visitproc};
use pyo3::prelude::*;

use super::refcount;

/// A reference that is given back when this is dropped, which only happens attached: in slots, and in code that safe
/// code calls attached. `Py` would put it off, since PyO3 does not know that a slot is attached.
pub struct Owned(pub(super) *mut PyObject);

// SAFETY: the object may be used by any thread that is attached.
unsafe impl Send for Owned {}

// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Owned {
    /// Takes a reference.
    pub fn of(object: &Bound<'_, PyAny>) -> Self {
        Owned(object.clone().into_ptr())
    }

    /// The object.
    pub fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: the reference keeps the object alive.
        unsafe { Bound::from_borrowed_ptr(py, self.0) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference is owned, and the thread is attached.
        unsafe { refcount::decref(self.0) };
    }
}

/// Runs safe code in a slot; its error becomes the exception of the slot.
pub fn run<'py>(py: Python<'py>, result: PyResult<Bound<'py, PyAny>>) -> *mut PyObject {
    match result {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

/// # Safety
/// Called by the garbage collector with objects that are alive, or null.
pub unsafe fn visit_all<const N: usize>(visit: visitproc, arg: *mut c_void, objects: [*mut PyObject; N]) -> c_int {
    for object in objects {
        if !object.is_null() {
            // SAFETY: the caller's promise.
            let result = unsafe { visit(object, arg) };
            if result != 0 {
                return result;
            }
        }
    }
    0
}
