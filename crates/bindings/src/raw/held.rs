//! A reference that gives itself back, for code that is too hot for PyO3's or that works on bare pointers.

use std::ptr::null_mut;

use pyo3::ffi::PyObject;
use pyo3::prelude::*;

use super::refcount;

/// A reference of our own, or none (null). It is given back when this is dropped, which only happens attached: in slots,
/// and in code that safe code calls attached. `Py` would put it off, since PyO3 does not know that a slot is attached.
pub struct Held(pub *mut PyObject);

// SAFETY: the object may be used by any thread that is attached.
unsafe impl Send for Held {}

// SAFETY: as above.
unsafe impl Sync for Held {}

impl Held {
    /// None yet: [`Held::out`] gives the place for a function that returns a new reference through a pointer.
    pub fn none() -> Held {
        Held(null_mut())
    }

    /// Takes over a reference, or none.
    ///
    /// # Safety
    /// The caller owns it, and this thread is attached until the reference is dropped.
    #[inline(always)]
    pub unsafe fn owned(object: *mut PyObject) -> Held {
        Held(object)
    }

    /// Takes a reference to what is alive.
    ///
    /// # Safety
    /// `object` is alive, and this thread is attached until the reference is dropped.
    #[inline(always)]
    pub unsafe fn new(object: *mut PyObject) -> Held {
        // SAFETY: the caller's promise.
        unsafe { refcount::incref(object) };
        Held(object)
    }

    /// Takes a reference.
    pub fn of(object: &Bound<'_, PyAny>) -> Held {
        Held(object.clone().into_ptr())
    }

    /// The object; there must be one.
    pub fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: the reference keeps the object alive; for none, PyO3 panics.
        unsafe { Bound::from_borrowed_ptr(py, self.0) }
    }

    /// The object, or null.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut PyObject {
        self.0
    }

    /// Where a function may put a reference.
    pub fn out(&mut self) -> *mut *mut PyObject {
        &mut self.0
    }

    /// Is there none?
    #[inline(always)]
    pub fn is_none(&self) -> bool {
        self.0.is_null()
    }

    /// Hands the reference on.
    #[inline(always)]
    pub fn into_ptr(self) -> *mut PyObject {
        let object = self.0;
        std::mem::forget(self);
        object
    }
}

impl Drop for Held {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: this is our own reference, and whoever made it promised to stay attached.
            unsafe { refcount::decref(self.0) };
        }
    }
}
