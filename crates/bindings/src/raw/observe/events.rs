//! What all callbacks of `sys.monitoring` share: how they are made, and what they answer.

use std::ffi::CStr;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;

use crate::raw::held::Held;

static DISABLE: OnceLock<Held> = OnceLock::new();

/// A callback as an object: a bare function is called in half the time of one of PyO3.
pub fn function<'py>(
    py: Python<'py>,
    name: &'static CStr,
    callback: ffi::PyCFunctionFast,
) -> PyResult<Bound<'py, PyAny>> {
    // It lives as long as the process, as the module does.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: callback },
        ml_flags: ffi::METH_FASTCALL,
        ml_doc: null(),
    }));
    // SAFETY: attached; the definition is never freed.
    unsafe {
        let made = ffi::PyCMethod_New(definition, null_mut(), null_mut(), null_mut());
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// Takes what `sys.monitoring` calls `DISABLE`.
pub fn install(disable: &Bound<'_, PyAny>) {
    let _ = DISABLE.set(Held::of(disable));
}

/// The answer: call again.
pub fn keep() -> *mut PyObject {
    // SAFETY: attached; a new reference to None.
    unsafe { ffi::Py_NewRef(ffi::Py_None()) }
}

/// The answer: not again at this place.
pub fn disable() -> *mut PyObject {
    DISABLE.get().map_or_else(keep, |disable| {
        // SAFETY: attached; the object is held for ever.
        unsafe { ffi::Py_NewRef(disable.0) }
    })
}
