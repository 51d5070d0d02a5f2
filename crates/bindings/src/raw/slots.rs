//! What slots of several types need: making and freeing objects, small arguments, small results.
//!
//! All functions here demand what a slot is promised: attached, with live objects of the type that is meant. Those that
//! can fail return a null pointer or `None` with an exception set.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;

use primitives::cell::Overflow;
use pyo3::IntoPyObject;
use pyo3::ffi::{self, Py_ssize_t, PyObject, PyTypeObject, visitproc};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::{refcount, sharing};

/// A new object of `class` without a content yet; null if there is no memory. The caller fills every field beyond the
/// object's head at once: CPython has set them to zero, which is what a garbage collection meets before.
pub unsafe fn allocate<Layout>(class: *mut PyTypeObject) -> *mut Layout {
    // SAFETY: `class` is a ready type whose objects are a `Layout` or begin with one.
    unsafe { (*class).tp_alloc.map_or(null_mut(), |allocate| allocate(class, 0)).cast() }
}

/// A new object of `class`, whose `__init__` does not run.
pub fn without_init<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let args = PyTuple::empty(py);
    let kind = class.as_type_ptr();
    // SAFETY: the type is ready, and its own `__new__` gets what it expects: a type and a tuple.
    unsafe {
        let made = (*kind).tp_new.map_or(null_mut(), |new| new(kind, args.as_ptr(), null_mut()));
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// Gives the memory of an object back, whose fields the caller has dropped.
pub unsafe fn free(this: *mut PyObject) {
    // SAFETY: the object is at its end; an object of a heap type owns a reference to its type.
    unsafe {
        let class = ffi::Py_TYPE(this);
        if let Some(free) = (*class).tp_free {
            free(this.cast::<c_void>());
        }
        refcount::decref(class.cast());
    }
}

/// Tells the weak references of an object that it is going.
pub unsafe fn forget_weakrefs(this: *mut PyObject, list: *mut PyObject) {
    if !list.is_null() {
        // SAFETY: `list` is the field that the type names in `__weaklistoffset__`.
        unsafe { ffi::PyObject_ClearWeakRefs(this) };
    }
}

/// Shows the garbage collector objects, of which some may be null.
pub unsafe fn visit_all<const N: usize>(visit: visitproc, arg: *mut c_void, objects: [*mut PyObject; N]) -> c_int {
    for object in objects {
        if !object.is_null() {
            // SAFETY: see the module.
            let result = unsafe { visit(object, arg) };
            if result != 0 {
                return result;
            }
        }
    }
    0
}

/// The arguments `(number=0, *, shared=False)` of a constructor.
pub unsafe fn number_and_shared(
    format: &'static CStr,
    name: &'static CStr,
    args: *mut PyObject,
    kwargs: *mut PyObject,
) -> Option<(i64, bool)> {
    // SAFETY: `args` is a tuple, `kwargs` a dict or null.
    if unsafe { kwargs.is_null() && ffi::PyTuple_GET_SIZE(args) == 0 } {
        return Some((0, false));
    }
    let keywords: [*const c_char; 3] = [name.as_ptr(), c"shared".as_ptr(), std::ptr::null()];
    let (mut number, mut shared): (i64, c_int) = (0, 0);
    // SAFETY: the format `|L$p` fits the two pointers and the two names.
    let parsed = unsafe {
        ffi::PyArg_ParseTupleAndKeywords(
            args,
            kwargs,
            format.as_ptr(),
            keywords.as_ptr() as _,
            &raw mut number,
            &raw mut shared,
        )
    };
    (parsed != 0).then_some((number, shared != 0))
}

/// Shares a new object if that is wanted, and returns it.
pub unsafe fn shared_if(wanted: bool, this: *mut PyObject) -> *mut PyObject {
    if wanted {
        // SAFETY: the caller owns a reference to the object.
        sharing::try_share(&unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), this) });
    }
    this
}

/// A whole number of 64 bits.
#[inline(always)]
pub unsafe fn number(object: *mut PyObject) -> Option<i64> {
    // SAFETY: see the module.
    unsafe {
        let number = ffi::PyLong_AsLongLong(object);
        (number != -1 || ffi::PyErr_Occurred().is_null()).then_some(number)
    }
}

/// The optional single argument of a method, a number; 1 if it is not given.
#[inline(always)]
pub unsafe fn amount(args: *mut *mut PyObject, count: Py_ssize_t) -> Option<i64> {
    match count {
        0 => Some(1),
        // SAFETY: there is one argument.
        1 => unsafe { number(*args) },
        // SAFETY: see the module.
        _ => unsafe {
            ffi::PyErr_SetString(ffi::PyExc_TypeError, c"expected at most 1 argument".as_ptr());
            None
        },
    }
}

/// Are there as many arguments as the method needs?
#[inline(always)]
pub unsafe fn expect(count: Py_ssize_t, needed: Py_ssize_t) -> bool {
    if count != needed {
        // SAFETY: see the module.
        unsafe { ffi::PyErr_Format(ffi::PyExc_TypeError, c"expected %zd arguments, got %zd".as_ptr(), needed, count) };
    }
    count == needed
}

/// A new int.
#[inline(always)]
pub unsafe fn int(number: i64) -> *mut PyObject {
    // SAFETY: see the module.
    unsafe { ffi::PyLong_FromLongLong(number) }
}

/// A new int of any size that sums have.
pub unsafe fn wide_int(number: i128) -> *mut PyObject {
    match i64::try_from(number) {
        // SAFETY: see the module.
        Ok(number) => unsafe { int(number) },
        // SAFETY: see the module.
        Err(_) => match number.into_pyobject(unsafe { Python::assume_attached() }) {
            Ok(number) => number.into_ptr(),
            Err(error) => raise(error.into()),
        },
    }
}

/// `True` or `False`.
#[inline(always)]
pub fn truth(value: bool) -> *mut PyObject {
    // SAFETY: see the module.
    unsafe { ffi::PyBool_FromLong(value.into()) }
}

/// `None`.
#[inline(always)]
pub fn none() -> *mut PyObject {
    // SAFETY: see the module.
    new_ref(unsafe { ffi::Py_None() })
}

/// A reference of the caller's own; to `None` for null.
#[inline(always)]
pub fn or_none(object: *mut PyObject) -> *mut PyObject {
    if object.is_null() { none() } else { new_ref(object) }
}

/// A reference of the caller's own.
#[inline(always)]
pub fn new_ref(object: *mut PyObject) -> *mut PyObject {
    // SAFETY: see the module.
    unsafe { refcount::incref(object) };
    object
}

/// Sets an exception and returns null.
#[cold]
pub fn raise(error: PyErr) -> *mut PyObject {
    // SAFETY: a slot runs attached.
    error.restore(unsafe { Python::assume_attached() });
    null_mut()
}

/// Raises `OverflowError` and returns null.
#[cold]
pub fn overflow(_: Overflow) -> *mut PyObject {
    raise(pyo3::exceptions::PyOverflowError::new_err("the result does not fit into 64 bits; nothing was changed"))
}

/// `number < other` and its kin, where `other` may be a counter of ours too: both are read once. Takes `number` over.
pub unsafe fn compare(number: *mut PyObject, other: *mut PyObject, operation: c_int) -> *mut PyObject {
    // SAFETY: see the module; each reference that is made here is given back here.
    unsafe {
        if number.is_null() {
            return null_mut();
        }
        let is_number = ffi::PyLong_Check(other) == 0 && ffi::PyIndex_Check(other) != 0;
        let other = if is_number { ffi::PyNumber_Index(other) } else { new_ref(other) };
        let result = if other.is_null() { null_mut() } else { ffi::PyObject_RichCompare(number, other, operation) };
        ffi::Py_XDECREF(other);
        refcount::decref(number);
        result
    }
}

/// `Name(text)`, where the name is that of the object's own class. Takes `value` over.
pub unsafe fn repr_with(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
    // SAFETY: see the module.
    unsafe {
        if value.is_null() {
            return null_mut();
        }
        let name = ffi::PyObject_GetAttrString(ffi::Py_TYPE(this).cast(), c"__name__".as_ptr());
        let text = match name.is_null() {
            true => null_mut(),
            false => ffi::PyUnicode_FromFormat(c"%U(%R)".as_ptr(), name, value),
        };
        ffi::Py_XDECREF(name);
        ffi::Py_DECREF(value);
        text
    }
}

/// A tuple of one. Takes `item` over.
pub unsafe fn tuple_of(item: *mut PyObject) -> *mut PyObject {
    // SAFETY: see the module.
    unsafe {
        let tuple = if item.is_null() { null_mut() } else { ffi::PyTuple_Pack(1, item) };
        ffi::Py_XDECREF(item);
        tuple
    }
}

slot! {
    /// `Class[item]`, for type annotations.
    pub fn class_getitem(class: *mut PyObject, args: *mut *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
        if !expect(count, 1) {
            return null_mut();
        }
        ffi::Py_GenericAlias(class, *args)
    } else null_mut()
}

use super::native_type::slot;
