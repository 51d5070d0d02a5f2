//! The callables over a `Lazy`: functions that run once, and `get_instance` and `instance` of singletons.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi::{self, PyObject, PyTypeObject, visitproc};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use super::call::answer;
use super::lazy::{self, Cell};
use super::native_type::{NativeType, slot};
use super::refcount;
use super::slots::{forget_weakrefs, free, new_ref, none, visit_all};

/// The layout of `OnceFunction`.
#[repr(C)]
struct CallLayout {
    base: PyObject,
    vectorcall: Option<ffi::vectorcallfunc>,
    /// The `Lazy`, owned.
    cell: *mut PyObject,
    /// The class that the callable belongs to, owned, or null. A function has none, and takes no arguments.
    owner: *mut PyObject,
    is_async: bool,
    weakrefs: *mut PyObject,
    dict: *mut PyObject,
}

/// Adds `OnceFunction`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    call_type(module).map(drop)
}

fn call_type<'py>(module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyType>> {
    NativeType::new::<CallLayout>(
        c"raceproof.OnceFunction",
        c"OnceFunction(lazy, /, owner=None, is_async=False)\n--\n\n\
        Returns the value of a Lazy when called, or with `is_async` an awaitable for it. With a class as `owner` it takes\n\
        the arguments for the one call that makes the value, and `timeout` in seconds; else it takes none.",
    )
    .flags(ffi::Py_TPFLAGS_HAVE_VECTORCALL)
    .offset(c"__vectorcalloffset__", std::mem::offset_of!(CallLayout, vectorcall))
    .lifetime(call_new, call_dealloc, std::mem::offset_of!(CallLayout, weakrefs))
.collected(call_traverse, call_clear)
    .offset(c"__dictoffset__", std::mem::offset_of!(CallLayout, dict))
    .slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void)
    .slot(ffi::Py_tp_descr_get, call_descr_get as *mut c_void)
    .slot(ffi::Py_tp_repr, call_repr as *mut c_void)
    .no_arguments(c"__reduce__", call_reduce, c"By its qualified name, as functions are.")
    .no_arguments(c"reset", call_reset, c"reset($self, /)\n--\n\nForgets the value: the next call makes a new one.")
    .property(c"__dict__", call_dict, c"What was set on the callable.")
    .property(c"lazy", call_lazy, c"The Lazy that holds the value.")
    .property(c"_is_coroutine_marker", call_marker, c"Makes inspect.iscoroutinefunction right.")
    .build(module, None)
}

slot! {
    fn call_new(class: *mut PyTypeObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        let (mut cell, mut owner, mut is_async) = (null_mut::<PyObject>(), null_mut::<PyObject>(), 0 as c_int);
        let mut names = [c"".as_ptr(), c"owner".as_ptr(), c"is_async".as_ptr(), std::ptr::null()];
        let names = names.as_mut_ptr() as *mut _;
        let format = c"O!|Op:OnceFunction".as_ptr();
        let (class_of_cell, cell_at, owner_at, async_at) = (lazy::lazy_class(), &raw mut cell, &raw mut owner, &raw mut is_async);
        if ffi::PyArg_ParseTupleAndKeywords(args, kwargs, format, names, class_of_cell, cell_at, owner_at, async_at) == 0 {
            return null_mut();
        }
        let owner = if owner == ffi::Py_None() { null_mut() } else { owner };
        answer(new_call(py, class, cell, owner, is_async != 0))
    } else null_mut()

    fn call_dealloc(this: *mut PyObject) -> () {
        ffi::PyObject_GC_UnTrack(this.cast());
        forget_weakrefs(this, (*this.cast::<CallLayout>()).weakrefs);
        release_call(this);
        free(this);
    } else ()

    fn call_traverse(this: *mut PyObject, visit: visitproc, arg: *mut c_void) -> c_int {
        let layout = this.cast::<CallLayout>();
        visit_all(visit, arg, [(*layout).cell, (*layout).owner, (*layout).dict])
    } else -1

    fn call_clear(this: *mut PyObject) -> c_int {
        // The cell and the class stay: both were there before, so a circle through them passes the dict or the class.
        let dict = std::mem::replace(&mut (*this.cast::<CallLayout>()).dict, null_mut());
        if !dict.is_null() {
            refcount::decref(dict);
        }
        0
    } else -1

    /// The hit of all callables.
    fn call(this: *mut PyObject, args: *const *mut PyObject, flagged: usize, names: *mut PyObject) -> *mut PyObject {
        let layout = this.cast::<CallLayout>();
        let cell = (*layout).cell.cast::<lazy::LazyLayout>();
        let count = ffi::PyVectorcall_NARGS(flagged) as usize;
        if (*layout).owner.is_null() && (count != 0 || !names.is_null()) {
            return no_arguments(Python::assume_attached());
        }
        let result = refcount::load(if (*layout).is_async { &(*cell).ready } else { &(*cell).value });
        if result.is_null() { lazy::miss((*layout).cell, (*layout).is_async, true, args, count, names) } else { result }
    } else null_mut()

    fn call_descr_get(this: *mut PyObject, _instance: *mut PyObject, class: *mut PyObject) -> *mut PyObject {
        let owner = (*this.cast::<CallLayout>()).owner;
        if owner.is_null() || owner == class || class.is_null() {
            return new_ref(this);
        }
        let py = Python::assume_attached();
        let class = Bound::from_borrowed_ptr(py, class);
        answer(of_class(&class, (*this.cast::<CallLayout>()).is_async))
    } else null_mut()

    fn call_repr(this: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        let this = Bound::from_borrowed_ptr(py, this);
        let name = this.getattr("__qualname__").and_then(|name| name.extract::<String>());
        let text = format!("<raceproof.OnceFunction {}>", name.unwrap_or_else(|_| "without a name".to_owned()));
        answer(Ok(PyString::new(py, &text).into_any()))
    } else null_mut()

    fn call_reduce(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        ffi::PyObject_GetAttrString(this, c"__qualname__".as_ptr())
    } else null_mut()

    fn call_reset(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        Cell::borrow(py, (*this.cast::<CallLayout>()).cell).reset();
        none()
    } else null_mut()

    fn call_dict(this: *mut PyObject, unused: *mut c_void) -> *mut PyObject {
        ffi::PyObject_GenericGetDict(this, unused)
    } else null_mut()

    fn call_lazy(this: *mut PyObject, _unused: *mut c_void) -> *mut PyObject {
        let cell = (*this.cast::<CallLayout>()).cell;
        new_ref(cell)
    } else null_mut()

    fn call_marker(this: *mut PyObject, _unused: *mut c_void) -> *mut PyObject {
        let py = Python::assume_attached();
        match (*this.cast::<CallLayout>()).is_async {
            true => answer(py.import("inspect").and_then(|inspect| inspect.getattr("_is_coroutine_mark"))),
            false => none(),
        }
    } else null_mut()
}

/// # Safety
/// `class` is `OnceFunction`, `cell` a `Lazy`, `owner` a class or null; the caller is attached.
unsafe fn new_call<'py>(
    py: Python<'py>,
    class: *mut PyTypeObject,
    cell: *mut PyObject,
    owner: *mut PyObject,
    is_async: bool,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the caller's promise.
    unsafe {
        let made = Bound::from_owned_ptr_or_err(py, (*class).tp_alloc.expect("a type can allocate")(class, 0))?;
        let layout = made.as_ptr().cast::<CallLayout>();
        (*layout).vectorcall = Some(call);
        refcount::incref(cell);
        (*layout).cell = cell;
        if !owner.is_null() {
            refcount::incref(owner);
        }
        (*layout).owner = owner;
        (*layout).is_async = is_async;
        Ok(made)
    }
}

/// The callable of a class that was found by way of another class, as `super().get_instance` is.
fn of_class<'py>(class: &Bound<'py, PyAny>, is_async: bool) -> PyResult<Bound<'py, PyAny>> {
    let module = class.py().import("raceproof._once")?;
    module.getattr("_of_class")?.call1((class, is_async))
}

#[cold]
fn no_arguments(py: Python<'_>) -> *mut PyObject {
    PyTypeError::new_err("a function that runs once takes no arguments").restore(py);
    null_mut()
}

/// # Safety
/// `this` is a `OnceFunction` that nobody uses any more; the caller is attached.
unsafe fn release_call(this: *mut PyObject) {
    // SAFETY: the caller's promise; each word is owned or null.
    unsafe {
        let layout = this.cast::<CallLayout>();
        for owned in [(*layout).cell, (*layout).owner, (*layout).dict] {
            if !owned.is_null() {
                refcount::decref(owned);
            }
        }
    }
}
