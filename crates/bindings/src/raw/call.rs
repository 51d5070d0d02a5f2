//! What hand-written methods share: counting arguments, reading named ones, and leaving for PyO3 where speed is not
//! needed.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::null_mut;

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;

use super::slots::raise;

/// Sets `TypeError` unless between `least` and `most` arguments were given.
///
/// # Safety
/// The caller is attached.
#[inline(always)]
pub unsafe fn is_count_right(
    name: &CStr,
    given: ffi::Py_ssize_t,
    least: ffi::Py_ssize_t,
    most: ffi::Py_ssize_t,
) -> bool {
    if (least..=most).contains(&given) {
        return true;
    }
    // SAFETY: the caller's promise; the format has one text and three numbers.
    unsafe {
        let format = c"%s expected %zd to %zd arguments, got %zd";
        ffi::PyErr_Format(ffi::PyExc_TypeError, format.as_ptr(), name.as_ptr(), least, most, given);
    }
    false
}

/// The arguments of a method, as CPython hands them over: positional ones, then the values of those that are named in
/// a tuple of names (null if there are none).
#[derive(Clone, Copy)]
pub struct Given<'a> {
    pub positional: &'a [*mut PyObject],
    pub named: &'a [*mut PyObject],
    pub names: *mut PyObject,
}

impl<'a> Given<'a> {
    /// # Safety
    /// These are what CPython called a `Keywords` method with.
    pub unsafe fn new(args: *const *mut PyObject, n: ffi::Py_ssize_t, names: *mut PyObject) -> Given<'a> {
        // SAFETY: the caller's promise: so many values stand there. The pointer may be null if there are none.
        unsafe {
            let n_named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) as usize };
            let all = if args.is_null() { &[] } else { std::slice::from_raw_parts(args, n as usize + n_named) };
            let (positional, named) = all.split_at(n as usize);
            Given { positional, named, names }
        }
    }

    /// The argument called `name`, or the one at `position`; null if it was not given. Sets `TypeError` and returns
    /// `Err` for any other name, so it is for methods with one named argument.
    ///
    /// # Safety
    /// The caller is attached.
    pub unsafe fn only_named(&self, name: &CStr, position: usize) -> Result<*mut PyObject, ()> {
        let mut found = self.positional.get(position).copied().unwrap_or(null_mut());
        for (idx, value) in self.named.iter().enumerate() {
            // SAFETY: the names are `str`, as many as there are named values.
            unsafe {
                let given = ffi::PyTuple_GET_ITEM(self.names, idx as ffi::Py_ssize_t);
                if !found.is_null() || ffi::PyUnicode_CompareWithASCIIString(given, name.as_ptr()) != 0 {
                    ffi::PyErr_Format(ffi::PyExc_TypeError, c"unexpected argument '%U'".as_ptr(), given);
                    return Err(());
                }
            }
            found = *value;
        }
        Ok(found)
    }
}

/// What CPython expects of a method: a new reference, or null with the exception set.
pub fn answer(result: PyResult<Bound<'_, PyAny>>) -> *mut PyObject {
    result.map_or_else(raise, Bound::into_ptr)
}

/// Runs the rest of a method with PyO3, and hands back what CPython expects.
pub fn finish(body: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>) -> *mut PyObject {
    Python::attach(|py| answer(body(py)))
}

/// Runs the part of a slot that is off its hot path and may fail; an error becomes the exception of the slot.
///
/// # Safety
/// The thread is attached.
#[cold]
pub unsafe fn slowly(work: impl FnOnce(Python<'_>) -> PyResult<*mut PyObject>) -> *mut PyObject {
    // SAFETY: the caller's promise.
    work(unsafe { Python::assume_attached() }).unwrap_or_else(raise)
}

/// Hands a value over to the interpreter.
#[allow(clippy::unnecessary_wraps)]
pub fn result<T>(value: Bound<'_, T>) -> PyResult<*mut PyObject> {
    Ok(value.into_ptr())
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

/// A name as the text of an object shows it, with a blank after it; nothing for null.
///
/// # Safety
/// The name is a live `str`, or null.
pub unsafe fn in_quotes(py: Python<'_>, name: *mut PyObject) -> String {
    // SAFETY: the caller's promise.
    let name = unsafe { Bound::from_borrowed_ptr_or_opt(py, name) };
    name.map_or(String::new(), |name| format!("'{name}' "))
}

/// An argument as PyO3 sees it.
///
/// # Safety
/// The object is alive as long as the caller runs.
pub unsafe fn borrowed<'a, 'py>(py: Python<'py>, object: *mut PyObject) -> Borrowed<'a, 'py, PyAny> {
    // SAFETY: the caller's promise.
    unsafe { Borrowed::from_ptr(py, object) }
}
