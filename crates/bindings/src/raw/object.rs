//! Small steps that hand-written slots share.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::null_mut;

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;

use super::refcount;

/// A new reference to `True` or `False`.
#[inline(always)]
pub fn bool_object(value: bool) -> *mut PyObject {
    // SAFETY: both live as long as the interpreter, which whoever calls slots is attached to.
    unsafe {
        let object = if value { ffi::Py_True() } else { ffi::Py_False() };
        refcount::incref(object);
        object
    }
}

/// A new reference to `None`.
#[inline(always)]
pub fn none() -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let object = ffi::Py_None();
        refcount::incref(object);
        object
    }
}

/// Hands a value over to the interpreter.
#[allow(clippy::unnecessary_wraps)]
pub fn result<T>(value: Bound<'_, T>) -> PyResult<*mut PyObject> {
    Ok(value.into_ptr())
}

/// Runs the part of a slot that may fail; an error becomes the exception of the slot.
///
/// # Safety
/// The thread is attached.
#[cold]
pub unsafe fn given(work: impl FnOnce(Python<'_>) -> PyResult<*mut PyObject>) -> *mut PyObject {
    // SAFETY: the caller's promise.
    let py = unsafe { Python::assume_attached() };
    work(py).unwrap_or_else(|error| {
        error.restore(py);
        null_mut()
    })
}

/// The argument `name=None` of a constructor: a new reference to a `str`, or null for none. `Err` if an exception is
/// set.
///
/// # Safety
/// The arguments are those of `tp_new`, and the format has one `O`.
pub unsafe fn name_argument(
    arguments: *mut PyObject,
    named: *mut PyObject,
    format: &CStr,
) -> Result<*mut PyObject, ()> {
    // SAFETY: the caller's promise.
    unsafe {
        if named.is_null() && ffi::PyTuple_GET_SIZE(arguments) == 0 {
            return Ok(null_mut());
        }
        let mut name = ffi::Py_None();
        let words: [*const c_char; 2] = [c"name".as_ptr(), std::ptr::null()];
        let parsed: c_int = ffi::PyArg_ParseTupleAndKeywords(
            arguments,
            named,
            format.as_ptr(),
            words.as_ptr().cast_mut().cast(),
            &raw mut name,
        );
        if parsed == 0 {
            return Err(());
        }
        if name == ffi::Py_None() {
            return Ok(null_mut());
        }
        if ffi::PyUnicode_Check(name) == 0 {
            ffi::PyErr_SetString(ffi::PyExc_TypeError, c"a name must be a str or None".as_ptr());
            return Err(());
        }
        // An instance of a subclass could refer to the lock, which is not looked through for circles.
        let name = ffi::PyUnicode_FromObject(name);
        if name.is_null() { Err(()) } else { Ok(name) }
    }
}

/// Switches the reference count of a type off that was made with PyO3: it lives as long as the process, and threads
/// that make its objects do not meet on it. Call it when the module is made, before other threads see the type.
pub fn keep_for_good<T: PyTypeInfo>(py: Python<'_>) {
    // SAFETY: this thread has just made the type, and no other has seen it yet.
    unsafe { refcount::immortalize(py.get_type::<T>().as_ptr()) };
}
