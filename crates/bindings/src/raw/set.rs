//! `ThreadSafeSet`: a `set` to CPython, whose iteration is a snapshot, and that says who added or removed an element.
//!
//! What is inherited (`add`, `discard`, `in`, `|`, `copy`) is as fast and as atomic as in `set`. `crate::set` has the
//! logic of the methods that are added.

mod doc;

use std::borrow::Cow;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PySet};

use super::call::{self, finish, is_count_right};
use super::held::Held;
use super::native_type::{NativeType, slot};
use crate::set;

/// What the set holds at one moment, as a set that no other thread has.
pub fn snapshot_of<'py>(set: &Bound<'py, PySet>) -> PyResult<Bound<'py, PySet>> {
    // SAFETY: the set is alive; the result is a new plain set, or null with an exception.
    unsafe {
        let copy = Bound::from_owned_ptr_or_err(set.py(), ffi::PySet_New(set.as_ptr()))?;
        Ok(copy.cast_into_unchecked())
    }
}

/// The type, once it is made.
static OURS: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());

/// A `ThreadSafeSet` with the elements of a plain set. As with `set`, what a method makes is not of a subclass, whose
/// constructor is unknown.
fn ours<'py>(of: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the type is alive for good, and methods run after it was made. Merging a set into an empty one runs no
    // Python code.
    unsafe {
        let made = ffi::PyObject_CallNoArgs(OURS.load(Ordering::Relaxed).cast());
        let made = Bound::from_owned_ptr_or_err(of.py(), made)?;
        Bound::from_owned_ptr_or_err(of.py(), ffi::PyNumber_InPlaceOr(made.as_ptr(), of.as_ptr()))
    }
}

/// Does what a `set` does for an operator, and makes the result a `ThreadSafeSet`.
unsafe fn operate(
    left: *mut PyObject,
    right: *mut PyObject,
    of_set: impl Fn(&ffi::PyNumberMethods) -> Option<ffi::binaryfunc>,
) -> *mut PyObject {
    finish(|py| {
        // SAFETY: CPython calls an operator with what is alive, and `set` has all of them. The result of two sets is
        // the base type's, or an object that says that the operator is not implemented.
        unsafe {
            let operator = of_set(&*ffi::PySet_Type.tp_as_number).expect("set has the operator");
            let result = Bound::from_owned_ptr_or_err(py, operator(left, right))?;
            if ffi::PyAnySet_Check(result.as_ptr()) == 0 { Ok(result) } else { ours(&result) }
        }
    })
}

/// Calls a method of `set`, and makes the result a `ThreadSafeSet`.
unsafe fn method_of_set(
    name: &CStr,
    this: *mut PyObject,
    args: *mut *mut PyObject,
    n: ffi::Py_ssize_t,
) -> *mut PyObject {
    finish(|py| {
        // SAFETY: CPython calls a method with what is alive, and with `n` arguments.
        unsafe {
            let method = ffi::PyObject_GetAttrString((&raw mut ffi::PySet_Type).cast(), name.as_ptr());
            let method = Bound::from_owned_ptr_or_err(py, method)?;
            let mut all = vec![this];
            all.extend((0..n).map(|idx| *args.offset(idx)));
            let result = ffi::PyObject_Vectorcall(method.as_ptr(), all.as_ptr(), all.len(), null_mut());
            ours(&Bound::from_owned_ptr_or_err(py, result)?)
        }
    })
}

/// Removes any element and returns it.
pub fn pop<'py>(set: &Bound<'py, PySet>) -> Option<Bound<'py, PyAny>> {
    if set.is_empty() { None } else { set.pop() }
}

slot! {
    fn iterate(this: *mut PyObject) -> *mut PyObject {
        let seen = Held(ffi::PySet_New(this));
        if seen.is_none() { null_mut() } else { ffi::PyObject_GetIter(seen.0) }
    } else null_mut()

    fn repr(this: *mut PyObject) -> *mut PyObject {
        match ffi::Py_ReprEnter(this) {
            0 => {
                // Nothing of PyO3 is on the stack while the elements are shown: they may be deep.
                let seen = Held(ffi::PySet_New(this));
                let list = Held(if seen.is_none() { null_mut() } else { ffi::PySequence_List(seen.0) });
                let text = Held(if list.is_none() { null_mut() } else { ffi::PyObject_Repr(list.0) });
                ffi::Py_ReprLeave(this);
                if text.is_none() { null_mut() } else { finish(|py| repr_of(&own(py, this), &call::borrowed(py, text.0))) }
            }
            1.. => finish(|py| Ok(format!("{}(...)", own(py, this).get_type().name()?).into_pyobject(py)?.into_any())),
            _ => null_mut(),
        }
    } else null_mut()

    fn snapshot(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        ffi::PySet_New(this)
    } else null_mut()

    fn copy(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        finish(|py| ours(snapshot_of(&own(py, this))?.as_any()))
    } else null_mut()

    fn union(this: *mut PyObject, args: *mut *mut PyObject, n: ffi::Py_ssize_t) -> *mut PyObject {
        method_of_set(c"union", this, args, n)
    } else null_mut()

    fn intersection(this: *mut PyObject, args: *mut *mut PyObject, n: ffi::Py_ssize_t) -> *mut PyObject {
        method_of_set(c"intersection", this, args, n)
    } else null_mut()

    fn difference(this: *mut PyObject, args: *mut *mut PyObject, n: ffi::Py_ssize_t) -> *mut PyObject {
        method_of_set(c"difference", this, args, n)
    } else null_mut()

    fn symmetric_difference(this: *mut PyObject, args: *mut *mut PyObject, n: ffi::Py_ssize_t) -> *mut PyObject {
        method_of_set(c"symmetric_difference", this, args, n)
    } else null_mut()

    fn or(left: *mut PyObject, right: *mut PyObject) -> *mut PyObject {
        operate(left, right, |set| set.nb_or)
    } else null_mut()

    fn and(left: *mut PyObject, right: *mut PyObject) -> *mut PyObject {
        operate(left, right, |set| set.nb_and)
    } else null_mut()

    fn subtract(left: *mut PyObject, right: *mut PyObject) -> *mut PyObject {
        operate(left, right, |set| set.nb_subtract)
    } else null_mut()

    fn xor(left: *mut PyObject, right: *mut PyObject) -> *mut PyObject {
        operate(left, right, |set| set.nb_xor)
    } else null_mut()

    fn add_if_absent(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
        finish(|py| {
            let done = set::add_if_absent(&own(py, this), &call::borrowed(py, value))?;
            Ok(PyBool::new(py, done).to_owned().into_any())
        })
    } else null_mut()

    fn discard_if_present(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
        match ffi::PySet_Discard(this, value) {
            ..0 => null_mut(),
            done => ffi::PyBool_FromLong(done.into()),
        }
    } else null_mut()

    fn discard_if(this: *mut PyObject, predicate: *mut PyObject) -> *mut PyObject {
        finish(|py| Ok(set::discard_if(&own(py, this), &call::borrowed(py, predicate))?.into_any()))
    } else null_mut()

    fn pop_or(this: *mut PyObject, args: *mut *mut PyObject, n: ffi::Py_ssize_t) -> *mut PyObject {
        if !is_count_right(c"pop_or", n, 1, 1) {
            return null_mut();
        }
        finish(|py| Ok(pop(&own(py, this)).unwrap_or_else(|| call::borrowed(py, *args).to_owned())))
    } else null_mut()

    fn drain(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        finish(|py| Ok(set::drain(&own(py, this))?.into_any()))
    } else null_mut()
}

/// How a set shows itself whose elements, as a list, show themselves so.
fn repr_of<'py>(set: &Bound<'py, PySet>, list: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let name = set.get_type().name()?;
    let text = match list.extract::<Cow<'_, str>>()?.as_ref() {
        "[]" => format!("{name}()"),
        list => format!("{name}({{{}}})", &list[1..list.len() - 1]),
    };
    Ok(text.into_pyobject(set.py())?.into_any())
}

/// The set that a method was called on.
unsafe fn own<'a, 'py>(py: Python<'py>, this: *mut PyObject) -> Borrowed<'a, 'py, PySet> {
    // SAFETY: CPython calls the methods of a type with instances of it only, and they live until the method returns.
    unsafe { Borrowed::from_ptr(py, this).cast_unchecked() }
}

/// Makes the type.
pub fn add_type(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let base = module.py().get_type::<PySet>();
    let made = methods(NativeType::new::<()>(c"raceproof.ThreadSafeSet", doc::TYPE))
        .flags(ffi::Py_TPFLAGS_BASETYPE)
        .slot(ffi::Py_tp_iter, iterate as *mut c_void)
        .slot(ffi::Py_tp_repr, repr as *mut c_void)
        .slot(ffi::Py_nb_or, or as *mut c_void)
        .slot(ffi::Py_nb_and, and as *mut c_void)
        .slot(ffi::Py_nb_subtract, subtract as *mut c_void)
        .slot(ffi::Py_nb_xor, xor as *mut c_void)
        .build(module, Some(&base))?;
    OURS.store(made.as_ptr().cast(), Ordering::Relaxed);
    Ok(())
}

fn methods(new: NativeType) -> NativeType {
    new.no_arguments(c"copy", copy, doc::COPY)
        .arguments(c"union", union, doc::UNION)
        .arguments(c"intersection", intersection, doc::INTERSECTION)
        .arguments(c"difference", difference, doc::DIFFERENCE)
        .arguments(c"symmetric_difference", symmetric_difference, doc::SYMMETRIC_DIFFERENCE)
        .no_arguments(c"snapshot", snapshot, doc::SNAPSHOT)
        .one_argument(c"add_if_absent", add_if_absent, doc::ADD_IF_ABSENT)
        .one_argument(c"discard_if_present", discard_if_present, doc::DISCARD_IF_PRESENT)
        .one_argument(c"discard_if", discard_if, doc::DISCARD_IF)
        .arguments(c"pop_or", pop_or, doc::POP_OR)
        .no_arguments(c"drain", drain, doc::DRAIN)
}
