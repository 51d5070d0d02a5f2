//! The awaitable that has its result already: what a hit of async code costs is one raise of an exception that was made
//! beforehand.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::ffi::{self, Py_ssize_t, PyObject, PyTypeObject, visitproc};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::native_type::{NativeType, slot};
use super::refcount;
use super::slots::{free, new_ref, none, visit_all};

/// `Py_am_send` of CPython's typeslots.h, which PyO3 does not name.
const PY_AM_SEND: c_int = 81;

/// The layout of `ReadyAwaitable`: both words are owned.
#[repr(C)]
struct ReadyLayout {
    base: PyObject,
    value: *mut PyObject,
    /// A `StopIteration` that is raised again and again: making one costs more than all the rest.
    stop: *mut PyObject,
}

static READY: AtomicPtr<PyTypeObject> = AtomicPtr::new(null_mut());

/// Adds `ReadyAwaitable`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    READY.store(ready_type(module)?.as_type_ptr(), Relaxed);
    Ok(())
}

fn ready_type<'py>(module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyType>> {
    NativeType::new::<ReadyLayout>(
        c"raceproof.ReadyAwaitable",
        c"An awaitable that has its result already: any number of tasks and threads may await it, any number of times.",
    )
    .flags(ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION)
    .slot(ffi::Py_tp_dealloc, ready_dealloc as *mut c_void)
    .slot(ffi::Py_tp_traverse, ready_traverse as *mut c_void)
    .slot(ffi::Py_am_await, itself as *mut c_void)
    .slot(ffi::Py_tp_iter, itself as *mut c_void)
    .slot(ffi::Py_tp_iternext, ready_next as *mut c_void)
    .slot(PY_AM_SEND, ready_am_send as *mut c_void)
    .one_argument(
        c"send",
        ready_send,
        c"send($self, value, /)\n--\n\nReturns the result, as a coroutine does: in a StopIteration.",
    )
    .arguments(c"throw", ready_throw, c"Raises the exception, as a coroutine does that has not begun.")
    .no_arguments(c"close", ready_close, c"close($self, /)\n--\n\nDoes nothing.")
    .build(module, None)
}

/// An awaitable that is ready with `value`.
pub fn ready<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    let stop = py.get_type::<PyStopIteration>().call1((value,))?;
    let class = READY.load(Relaxed);
    // SAFETY: the type was made when the module was; a new object has room for its two words.
    unsafe {
        let alloc = (*class).tp_alloc.expect("a type can allocate");
        let made = Bound::from_owned_ptr_or_err(py, alloc(class, 0))?;
        let layout = made.as_ptr().cast::<ReadyLayout>();
        (*layout).value = value.clone().into_ptr();
        (*layout).stop = stop.into_ptr();
        Ok(made)
    }
}

slot! {
    fn ready_dealloc(this: *mut PyObject) -> () {
        ffi::PyObject_GC_UnTrack(this.cast());
        let layout = this.cast::<ReadyLayout>();
        for owned in [(*layout).value, (*layout).stop] {
            if !owned.is_null() {
                refcount::decref(owned);
            }
        }
        free(this);
    } else ()

    fn ready_traverse(this: *mut PyObject, visit: visitproc, arg: *mut c_void) -> c_int {
        let layout = this.cast::<ReadyLayout>();
        visit_all(visit, arg, [(*layout).value, (*layout).stop])
    } else -1

    fn itself(this: *mut PyObject) -> *mut PyObject {
        new_ref(this)
    } else null_mut()

    fn ready_next(this: *mut PyObject) -> *mut PyObject {
        let layout = this.cast::<ReadyLayout>();
        if (*layout).value == ffi::Py_None() {
            return null_mut(); // the end of an iteration without an exception: the result None
        }
        let stop = (*layout).stop;
        // `await` takes the value out and leaves the exception as it is. Only `next()` in Python code gives it a
        // traceback: from then on each caller gets one of his own, since threads must not write to one traceback.
        if (*stop.cast::<ffi::PyBaseExceptionObject>()).traceback.is_null() {
            refcount::incref(stop);
            raise(stop);
        } else {
            raise_stop((*layout).value);
        }
        null_mut()
    } else null_mut()

    fn ready_am_send(this: *mut PyObject, _value: *mut PyObject, result: *mut *mut PyObject) -> ffi::PySendResult {
        let value = (*this.cast::<ReadyLayout>()).value;
        refcount::incref(value);
        *result = value;
        ffi::PySendResult::PYGEN_RETURN
    } else ffi::PySendResult::PYGEN_ERROR

    fn ready_send(this: *mut PyObject, _value: *mut PyObject) -> *mut PyObject {
        raise_stop((*this.cast::<ReadyLayout>()).value);
        null_mut()
    } else null_mut()

    fn ready_throw(_this: *mut PyObject, args: *mut *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
        let py = Python::assume_attached();
        let at = |idx: usize| (idx < count as usize).then(|| Bound::from_borrowed_ptr(py, *args.add(idx)));
        let error = match (at(0), at(1).filter(|value| !value.is_none())) {
            (Some(kind), Some(value)) if kind.is_instance_of::<PyType>() && !value.is_exact_instance(&kind) => {
                kind.call1((value,)).map(PyErr::from_value)
            }
            (_, Some(value)) => Ok(PyErr::from_value(value)),
            (Some(kind), None) => Ok(PyErr::from_value(kind)),
            (None, None) => Err(PyTypeError::new_err("an exception is expected")),
        };
        error.unwrap_or_else(|error| error).restore(py);
        null_mut()
    } else null_mut()

    fn ready_close(_this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        none()
    } else null_mut()
}

/// # Safety
/// The caller is attached, and `value` is alive.
#[cold]
unsafe fn raise_stop(value: *mut PyObject) {
    // SAFETY: the caller's promise.
    unsafe {
        let stop = ffi::PyObject_CallOneArg(ffi::PyExc_StopIteration, value);
        if !stop.is_null() {
            raise(stop);
        }
    }
}

/// Raises an exception as it is; the exception that is being handled is not noted in it.
///
/// # Safety
/// The caller is attached, and gives its reference to `exception` away.
#[inline(always)]
unsafe fn raise(exception: *mut PyObject) {
    #[cfg(Py_3_12)]
    // SAFETY: the caller's promise.
    unsafe {
        ffi::PyErr_SetRaisedException(exception)
    };
    #[cfg(not(Py_3_12))]
    // SAFETY: the caller's promise.
    unsafe {
        let class = ffi::Py_TYPE(exception).cast();
        refcount::incref(class);
        ffi::PyErr_Restore(class, exception, null_mut());
    };
}
