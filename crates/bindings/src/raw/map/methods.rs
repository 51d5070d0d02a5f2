//! The methods that no hot loop calls: slots that hand over to safe code in `crate::map`.

use std::ffi::{c_int, c_ulong, c_void};
use std::ptr::null_mut;

use pyo3::ffi::{self, Py_ssize_t, PyObject};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::doc;
use crate::map;
use crate::raw::native_type::{NativeType, slot};

/// A pattern `case {"key": value}` may match the type.
pub const TPFLAGS_MAPPING: c_ulong = 1 << 6;

type Answer<'py> = PyResult<Bound<'py, PyAny>>;

/// Hands a call over to safe code.
unsafe fn call<'py>(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    n: Py_ssize_t,
    function: impl FnOnce(&Bound<'py, PyAny>, &[Bound<'py, PyAny>]) -> Answer<'py>,
) -> *mut PyObject {
    // SAFETY: CPython calls slots attached, with objects that are alive.
    unsafe {
        let py = Python::assume_attached();
        let this = Bound::from_borrowed_ptr(py, this);
        let arguments: Vec<_> = (0..n as usize).map(|at| Bound::from_borrowed_ptr(py, *arguments.add(at))).collect();
        match function(&this, &arguments) {
            Ok(object) => object.into_ptr(),
            Err(error) => {
                error.restore(py);
                null_mut()
            }
        }
    }
}

/// Slots with positional arguments, each by the name of its function in `crate::map`.
macro_rules! hand_over {
    ($($name:ident),+) => { slot! {$(
        fn $name(this: *mut PyObject, arguments: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
            call(this, arguments, n, map::$name)
        } else null_mut()
    )+} };
}

hand_over!(keys, values, items, snapshot, copy, reduce, class_getitem, from_keys, get_or_create, most_common, total);

slot! {
    fn update(this: *mut PyObject, arguments: *const *mut PyObject, n: Py_ssize_t, names: *mut PyObject) -> *mut PyObject {
        let n_named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) };
        call(this, arguments.cast_mut(), n + n_named, |this, arguments| {
            let names = (!names.is_null()).then(|| Bound::from_borrowed_ptr(this.py(), names).cast_into::<PyTuple>());
            let (positional, named) = arguments.split_at(n as usize);
            map::update(this, positional, names.transpose()?.as_ref(), named)
        })
    } else null_mut()

    fn represent(this: *mut PyObject) -> *mut PyObject {
        match ffi::Py_ReprEnter(this) {
            0 => {
                let text = call(this, null_mut(), 0, map::represent);
                ffi::Py_ReprLeave(this);
                text
            }
            1 => ffi::PyUnicode_FromString(c"{...}".as_ptr()),
            _ => null_mut(),
        }
    } else null_mut()

    fn iterate(this: *mut PyObject) -> *mut PyObject {
        call(this, null_mut(), 0, map::iterate)
    } else null_mut()

    fn compare(this: *mut PyObject, other: *mut PyObject, operator: c_int) -> *mut PyObject {
        let mut other = other;
        call(this, &mut other, 1, |this, others| map::compare(this, &others[0], operator))
    } else null_mut()

    fn merge(this: *mut PyObject, other: *mut PyObject) -> *mut PyObject {
        let mut other = other;
        call(this, &mut other, 1, |this, others| map::merge(this, &others[0]))
    } else null_mut()

    fn merge_in_place(this: *mut PyObject, other: *mut PyObject) -> *mut PyObject {
        let mut other = other;
        call(this, &mut other, 1, |this, others| map::merge_in_place(this, &others[0]))
    } else null_mut()
}

/// Adds them to a type.
pub fn with_methods(kind: NativeType) -> NativeType {
    kind.arguments(c"keys", keys, doc::KEYS)
        .arguments(c"values", values, doc::VALUES)
        .arguments(c"items", items, doc::ITEMS)
        .arguments(c"snapshot", snapshot, doc::SNAPSHOT)
        .arguments(c"copy", copy, doc::COPY)
        .arguments(c"__copy__", copy, doc::COPY_DUNDER)
        .arguments(c"__reduce__", reduce, doc::REDUCE)
        .keywords(c"update", update, doc::UPDATE)
        .class_arguments(c"fromkeys", from_keys, doc::FROM_KEYS)
        .class_arguments(c"__class_getitem__", class_getitem, doc::CLASS_GETITEM)
        .slot(ffi::Py_tp_repr, represent as *mut c_void)
        .slot(ffi::Py_tp_iter, iterate as *mut c_void)
        .slot(ffi::Py_tp_richcompare, compare as *mut c_void)
        .slot(ffi::Py_nb_or, merge as *mut c_void)
        .slot(ffi::Py_nb_inplace_or, merge_in_place as *mut c_void)
}

/// Adds those that only a map of objects has.
pub fn with_object_methods(kind: NativeType) -> NativeType {
    kind.arguments(c"get_or_create", get_or_create, doc::GET_OR_CREATE)
}

/// Adds those that only a map of counts has.
pub fn with_counter_methods(kind: NativeType) -> NativeType {
    kind.arguments(c"most_common", most_common, doc::MOST_COMMON).arguments(c"total", total, doc::TOTAL)
}
