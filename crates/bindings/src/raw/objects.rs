//! How many objects the garbage collector knows. They are counted without a reference to any of them: `gc.get_objects()`
//! takes one to each, also to a tuple that another thread is making just now, and `tuple(...)` then fails there with a
//! SystemError.

use pyo3::prelude::*;

/// The number of objects. Other threads stand still while they are counted.
#[cfg(Py_3_12)]
pub fn count(_: Python<'_>) -> PyResult<u64> {
    use std::ffi::{c_int, c_void};

    use pyo3::ffi::PyObject;

    unsafe extern "C" {
        fn PyUnstable_GC_VisitObjects(
            visit: unsafe extern "C" fn(*mut PyObject, *mut c_void) -> c_int,
            argument: *mut c_void,
        );
    }

    unsafe extern "C" fn add(_: *mut PyObject, count: *mut c_void) -> c_int {
        // SAFETY: `count` below handed over its own number.
        unsafe { *count.cast::<u64>() += 1 };
        1
    }

    let mut n = 0_u64;
    // SAFETY: this thread is attached, and the visitor touches no object.
    unsafe { PyUnstable_GC_VisitObjects(add, (&raw mut n).cast()) };
    Ok(n)
}

/// The number of objects. With a GIL no other thread runs before the references are given back.
#[cfg(not(Py_3_12))]
pub fn count(py: Python<'_>) -> PyResult<u64> {
    Ok(py.import("gc")?.call_method0("get_objects")?.len()? as u64)
}
