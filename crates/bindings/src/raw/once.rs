//! The hot side of what is made once: `Lazy`, the callables over it, and the awaitable that is ready.
//!
//! A `Lazy` keeps what was made, and the awaitable that returns it, in two words that are read without a lock. A hit is
//! one call, two loads, and no write where the value is shared. What happens on a miss stands in `crate::once`.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use primitives::flight::Flight;
use primitives::once::Once;
use pyo3::exceptions::{PyLookupError, PyTypeError};
use pyo3::ffi::{self, PyObject, PyTypeObject, Py_ssize_t, visitproc};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::native_type::{NativeType, slot};
use super::{refcount, sharing};
use crate::once::{self, Asked};

/// `Py_am_send` of CPython's typeslots.h, which PyO3 does not name.
const PY_AM_SEND: c_int = 81;

/// A reference that is given back when this is dropped, which only happens attached: in slots, and in code that safe
/// code calls attached. `Py` would put it off, since PyO3 does not know that a slot is attached.
struct Owned(*mut PyObject);

// SAFETY: the object may be used by any thread that is attached.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Owned {
    fn of(object: &Bound<'_, PyAny>) -> Self {
        Owned(object.clone().into_ptr())
    }

    fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: the reference keeps the object alive.
        unsafe { Bound::from_borrowed_ptr(py, self.0) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference is owned, and the thread is attached.
        unsafe { refcount::decref(self.0) };
    }
}

/// A value and the awaitable that is ready with it.
pub struct Made {
    value: Owned,
    ready: Owned,
}

impl Made {
    /// The value.
    pub fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.value.bind(py)
    }
}

struct Body {
    maker: Owned,
    timeout: Option<f64>,
    is_shared: bool,
    once: Once<Made>,
}

/// The layout of `Lazy`. The two words borrow what `once` holds, and are cleared before it lets go.
#[repr(C)]
struct LazyLayout {
    base: PyObject,
    weakrefs: *mut PyObject,
    value: AtomicPtr<PyObject>,
    ready: AtomicPtr<PyObject>,
    body: Option<Box<Body>>,
}

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

/// The layout of `ReadyAwaitable`: both words are owned.
#[repr(C)]
struct ReadyLayout {
    base: PyObject,
    value: *mut PyObject,
    /// A `StopIteration` that is raised again and again: making one costs more than all the rest.
    stop: *mut PyObject,
}

static LAZY: AtomicPtr<PyTypeObject> = AtomicPtr::new(null_mut());
static READY: AtomicPtr<PyTypeObject> = AtomicPtr::new(null_mut());

/// A `Lazy`, for safe code.
#[derive(Clone)]
pub struct Cell<'py>(Bound<'py, PyAny>);

impl<'py> Cell<'py> {
    /// # Safety
    /// `this` is an object of the type `Lazy`, and the caller is attached.
    unsafe fn borrow(py: Python<'py>, this: *mut PyObject) -> Self {
        // SAFETY: the caller's promise.
        Cell(unsafe { Bound::from_borrowed_ptr(py, this) })
    }

    fn layout(&self) -> &LazyLayout {
        // SAFETY: a cell is only made of a `Lazy`, and keeps it alive.
        unsafe { &*self.0.as_ptr().cast::<LazyLayout>() }
    }

    fn body(&self) -> &Body {
        self.layout().body.as_deref().expect("`Lazy` is made with its body")
    }

    /// The cell without the proof that this thread is attached, to be kept.
    pub fn unbind(self) -> KeptCell {
        KeptCell(self.0.unbind())
    }

    /// The object.
    pub fn object(&self) -> &Bound<'py, PyAny> {
        &self.0
    }

    /// What makes the value.
    pub fn maker(&self) -> Bound<'py, PyAny> {
        self.body().maker.bind(self.0.py())
    }

    /// How long a caller waits who does not say how long, in seconds.
    pub fn timeout(&self) -> Option<f64> {
        self.body().timeout
    }

    /// The turns of the makers.
    pub fn once(&self) -> &Once<Made> {
        &self.body().once
    }

    /// Keeps and publishes a value that was made in the turn of `flight`.
    pub fn land(&self, flight: &Arc<Flight<Made>>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let body = self.body();
        let ready = ready(value)?;
        if body.is_shared {
            sharing::try_share(value);
            sharing::try_share(&ready);
        }
        // SAFETY: both are alive and referred to here, and this thread is attached.
        unsafe {
            refcount::make_shareable(value.as_ptr());
            refcount::make_shareable(ready.as_ptr());
        }
        let made = Made { value: Owned::of(value), ready: Owned::of(&ready) };
        body.once.land(flight, made, |made| {
            self.layout().ready.store(made.ready.0, Release);
            self.layout().value.store(made.value.0, Release);
        });
        Ok(())
    }

    /// Empties the cell.
    pub fn reset(&self) {
        if let Some(body) = &self.layout().body {
            let withdraw = || {
                self.layout().value.store(null_mut(), Release);
                self.layout().ready.store(null_mut(), Release);
            };
            drop(body.once.reset(withdraw));
        }
    }
}

/// A [`Cell`] that is kept.
pub struct KeptCell(Py<PyAny>);

impl KeptCell {
    /// The cell.
    pub fn bind<'py>(&self, py: Python<'py>) -> Cell<'py> {
        Cell(self.0.bind(py).clone())
    }
}

/// An awaitable that is ready with `value`.
fn ready<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    let stop = py.get_type::<pyo3::exceptions::PyStopIteration>().call1((value,))?;
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

/// Adds `Lazy`, `OnceFunction` and `ReadyAwaitable`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    LAZY.store(lazy_type(module)?.as_type_ptr(), Relaxed);
    READY.store(ready_type(module)?.as_type_ptr(), Relaxed);
    call_type(module)?;
    Ok(())
}

fn lazy_type<'py>(module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyType>> {
    NativeType::new::<LazyLayout>(
        c"raceproof.Lazy",
        c"Lazy(factory, /, *, timeout=None, shared=False)\n--\n\n\
        A value that `factory()` makes when it is first needed, once, under any mix of threads and event loops.\n\n\
        `factory` may be async: then await `aget()`. If it raises, the caller gets the exception, the cell stays empty,\n\
        and the next caller tries. A caller waits `timeout` seconds for another's attempt, or as long as it takes, and\n\
        gets WaitTimeout then; a call that would wait for itself gets ReentrantError at once. `shared=True` switches\n\
        the value's reference count off (see `share`).",
    )
    .flags(ffi::Py_TPFLAGS_HAVE_GC)
    .offset(c"__weaklistoffset__", std::mem::offset_of!(LazyLayout, weakrefs))
    .slot(ffi::Py_tp_new, lazy_new as *mut c_void)
    .slot(ffi::Py_tp_dealloc, lazy_dealloc as *mut c_void)
    .slot(ffi::Py_tp_traverse, lazy_traverse as *mut c_void)
    .slot(ffi::Py_tp_clear, lazy_clear as *mut c_void)
    .slot(ffi::Py_tp_repr, lazy_repr as *mut c_void)
    .keywords(
        c"get",
        lazy_get,
        c"get($self, *, timeout=None)\n--\n\nThe value; made now if it is not there. Blocks while another caller makes it.",
    )
    .keywords(
        c"aget",
        lazy_aget,
        c"aget($self, *, timeout=None)\n--\n\nAwaits the value; made now if it is not there. Never blocks the event loop.",
    )
    .no_arguments(
        c"reset",
        lazy_reset,
        c"reset($self, /)\n--\n\nForgets the value: the next caller makes a new one. What is being made is not kept.",
    )
    .one_argument(c"_begin", lazy_begin, c"_begin($self, task, /)\n--\n\nWhat a task has to do: (value, None) or (None, Flight).")
    .class_arguments(c"__class_getitem__", class_getitem, c"For annotations: Lazy[int].")
    .property(c"value", lazy_value, c"The value. Raises LookupError if it is not made yet.")
    .property(c"is_set", lazy_is_set, c"Is the value made?")
    .build(module, None)
}

fn call_type<'py>(module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyType>> {
    NativeType::new::<CallLayout>(
        c"raceproof.OnceFunction",
        c"OnceFunction(lazy, /, owner=None, is_async=False)\n--\n\n\
        Returns the value of a Lazy when called, or with `is_async` an awaitable for it. With a class as `owner` it takes\n\
        the arguments for the one call that makes the value, and `timeout` in seconds; else it takes none.",
    )
    .flags(ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_HAVE_VECTORCALL)
    .offset(c"__vectorcalloffset__", std::mem::offset_of!(CallLayout, vectorcall))
    .offset(c"__weaklistoffset__", std::mem::offset_of!(CallLayout, weakrefs))
    .offset(c"__dictoffset__", std::mem::offset_of!(CallLayout, dict))
    .slot(ffi::Py_tp_new, call_new as *mut c_void)
    .slot(ffi::Py_tp_dealloc, call_dealloc as *mut c_void)
    .slot(ffi::Py_tp_traverse, call_traverse as *mut c_void)
    .slot(ffi::Py_tp_clear, call_clear as *mut c_void)
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
    .one_argument(c"send", ready_send, c"send($self, value, /)\n--\n\nReturns the result, as a coroutine does: in a StopIteration.")
    .arguments(c"throw", ready_throw, c"Raises the exception, as a coroutine does that has not begun.")
    .no_arguments(c"close", ready_close, c"close($self, /)\n--\n\nDoes nothing.")
    .build(module, None)
}

/// Runs safe code in a slot; its error becomes the exception of the slot.
fn run<'py>(py: Python<'py>, result: PyResult<Bound<'py, PyAny>>) -> *mut PyObject {
    match result {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

/// The arguments of a call: positional ones, and named ones without `timeout`, which is ours.
///
/// # Safety
/// The arguments are those of a vectorcall, and the caller is attached.
unsafe fn asked<'py>(
    py: Python<'py>,
    args: *const *mut PyObject,
    count: usize,
    names: *mut PyObject,
) -> PyResult<Asked<'py>> {
    // SAFETY: the caller's promise: `count` positional arguments are followed by one for each name.
    unsafe {
        let at = |idx: usize| Bound::from_borrowed_ptr(py, *args.add(idx));
        let positional = PyTuple::new(py, (0..count).map(at))?;
        let mut asked = Asked { positional, named: None, timeout: None };
        if let Some(names) = Bound::from_borrowed_ptr_or_opt(py, names) {
            let named = PyDict::new(py);
            for (idx, name) in names.cast_into::<PyTuple>()?.iter().enumerate() {
                match name.cast::<PyString>()?.to_str()? {
                    "timeout" => asked.timeout = at(count + idx).extract()?,
                    _ => named.set_item(name, at(count + idx))?,
                }
            }
            asked.named = (!named.is_empty()).then_some(named);
        }
        Ok(asked)
    }
}

slot! {
    fn lazy_new(class: *mut PyTypeObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        let (mut maker, mut timeout, mut is_shared) = (null_mut::<PyObject>(), null_mut::<PyObject>(), 0 as c_int);
        let mut names = [c"".as_ptr(), c"timeout".as_ptr(), c"shared".as_ptr(), std::ptr::null()];
        let names = names.as_mut_ptr() as *mut _;
        let format = c"O|$Op:Lazy".as_ptr();
        let (maker_at, timeout_at, shared_at) = (&raw mut maker, &raw mut timeout, &raw mut is_shared);
        if ffi::PyArg_ParseTupleAndKeywords(args, kwargs, format, names, maker_at, timeout_at, shared_at) == 0 {
            return null_mut();
        }
        run(py, lazy(py, class, maker, timeout, is_shared != 0))
    } else null_mut()

    fn lazy_dealloc(this: *mut PyObject) -> () {
        ffi::PyObject_GC_UnTrack(this.cast());
        let layout = this.cast::<LazyLayout>();
        if !(*layout).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
        drop((*layout).body.take());
        free(this);
    } else ()

    fn lazy_traverse(this: *mut PyObject, visit: visitproc, arg: *mut c_void) -> c_int {
        let layout = this.cast::<LazyLayout>();
        let maker = (*layout).body.as_ref().map_or(null_mut(), |body| body.maker.0);
        visit_all(visit, arg, [maker, (*layout).value.load(Acquire), (*layout).ready.load(Acquire)])
    } else -1

    fn lazy_clear(this: *mut PyObject) -> c_int {
        // The maker stays: it was there before this cell, so a circle through both passes something else, which clears.
        Cell::borrow(Python::assume_attached(), this).reset();
        0
    } else -1

    fn lazy_repr(this: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        let cell = Cell::borrow(py, this);
        let state = if (*this.cast::<LazyLayout>()).value.load(Acquire).is_null() { "empty" } else { "set" };
        let text = cell.maker().repr().map(|maker| format!("<raceproof.Lazy {state} of {maker}>"));
        run(py, text.map(|text| PyString::new(py, &text).into_any()))
    } else null_mut()

    fn lazy_get(
        this: *mut PyObject,
        args: *const *mut PyObject,
        count: Py_ssize_t,
        names: *mut PyObject,
    ) -> *mut PyObject {
        let value = refcount::load(&(*this.cast::<LazyLayout>()).value);
        if value.is_null() { lazy_miss(this, false, args, count as usize, names) } else { value }
    } else null_mut()

    fn lazy_aget(
        this: *mut PyObject,
        args: *const *mut PyObject,
        count: Py_ssize_t,
        names: *mut PyObject,
    ) -> *mut PyObject {
        let ready = refcount::load(&(*this.cast::<LazyLayout>()).ready);
        if ready.is_null() { lazy_miss(this, true, args, count as usize, names) } else { ready }
    } else null_mut()

    fn lazy_reset(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        Cell::borrow(py, this).reset();
        py.None().into_ptr()
    } else null_mut()

    fn lazy_begin(this: *mut PyObject, task: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        let task: PyResult<usize> = Bound::from_borrowed_ptr(py, task).extract();
        run(py, task.and_then(|task| once::begin(&Cell::borrow(py, this), task)))
    } else null_mut()

    fn lazy_value(this: *mut PyObject, _unused: *mut c_void) -> *mut PyObject {
        let value = refcount::load(&(*this.cast::<LazyLayout>()).value);
        if value.is_null() {
            PyLookupError::new_err("the value is not made yet").restore(Python::assume_attached());
        }
        value
    } else null_mut()

    fn lazy_is_set(this: *mut PyObject, _unused: *mut c_void) -> *mut PyObject {
        let is_set = !(*this.cast::<LazyLayout>()).value.load(Acquire).is_null();
        ffi::PyBool_FromLong(is_set.into())
    } else null_mut()

    fn class_getitem(class: *mut PyObject, args: *mut *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
        if count != 1 {
            PyTypeError::new_err("one parameter is expected").restore(Python::assume_attached());
            return null_mut();
        }
        ffi::Py_GenericAlias(class, *args)
    } else null_mut()

    fn call_new(class: *mut PyTypeObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        let (mut cell, mut owner, mut is_async) = (null_mut::<PyObject>(), null_mut::<PyObject>(), 0 as c_int);
        let mut names = [c"".as_ptr(), c"owner".as_ptr(), c"is_async".as_ptr(), std::ptr::null()];
        let names = names.as_mut_ptr() as *mut _;
        let format = c"O!|Op:OnceFunction".as_ptr();
        let (lazy, cell_at, owner_at, async_at) = (LAZY.load(Relaxed), &raw mut cell, &raw mut owner, &raw mut is_async);
        if ffi::PyArg_ParseTupleAndKeywords(args, kwargs, format, names, lazy, cell_at, owner_at, async_at) == 0 {
            return null_mut();
        }
        let owner = if owner == ffi::Py_None() { null_mut() } else { owner };
        run(py, new_call(py, class, cell, owner, is_async != 0))
    } else null_mut()

    fn call_dealloc(this: *mut PyObject) -> () {
        ffi::PyObject_GC_UnTrack(this.cast());
        if !(*this.cast::<CallLayout>()).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
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
        let cell = (*layout).cell.cast::<LazyLayout>();
        let count = ffi::PyVectorcall_NARGS(flagged) as usize;
        if (*layout).owner.is_null() && (count != 0 || !names.is_null()) {
            return no_arguments(Python::assume_attached());
        }
        let result = refcount::load(if (*layout).is_async { &(*cell).ready } else { &(*cell).value });
        if result.is_null() { miss((*layout).cell, (*layout).is_async, args, count, names) } else { result }
    } else null_mut()

    fn call_descr_get(this: *mut PyObject, _instance: *mut PyObject, class: *mut PyObject) -> *mut PyObject {
        let owner = (*this.cast::<CallLayout>()).owner;
        if owner.is_null() || owner == class || class.is_null() {
            refcount::incref(this);
            return this;
        }
        let py = Python::assume_attached();
        let class = Bound::from_borrowed_ptr(py, class);
        run(py, of_class(&class, (*this.cast::<CallLayout>()).is_async))
    } else null_mut()

    fn call_repr(this: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        let this = Bound::from_borrowed_ptr(py, this);
        let name = this.getattr("__qualname__").and_then(|name| name.extract::<String>());
        let text = format!("<raceproof.OnceFunction {}>", name.unwrap_or_else(|_| "without a name".to_owned()));
        run(py, Ok(PyString::new(py, &text).into_any()))
    } else null_mut()

    fn call_reduce(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        ffi::PyObject_GetAttrString(this, c"__qualname__".as_ptr())
    } else null_mut()

    fn call_reset(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        Cell::borrow(py, (*this.cast::<CallLayout>()).cell).reset();
        py.None().into_ptr()
    } else null_mut()

    fn call_dict(this: *mut PyObject, unused: *mut c_void) -> *mut PyObject {
        ffi::PyObject_GenericGetDict(this, unused)
    } else null_mut()

    fn call_lazy(this: *mut PyObject, _unused: *mut c_void) -> *mut PyObject {
        let cell = (*this.cast::<CallLayout>()).cell;
        refcount::incref(cell);
        cell
    } else null_mut()

    fn call_marker(this: *mut PyObject, _unused: *mut c_void) -> *mut PyObject {
        let py = Python::assume_attached();
        match (*this.cast::<CallLayout>()).is_async {
            true => run(py, py.import("inspect").and_then(|inspect| inspect.getattr("_is_coroutine_mark"))),
            false => py.None().into_ptr(),
        }
    } else null_mut()

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
        refcount::incref(this);
        this
    } else null_mut()

    fn ready_next(this: *mut PyObject) -> *mut PyObject {
        let layout = this.cast::<ReadyLayout>();
        let stop = (*layout).stop;
        // `await` takes the value out and leaves the exception as it is. Only `next()` in Python code gives it a
        // traceback: from then on each caller gets one of his own, since threads must not write to one traceback.
        if (*stop.cast::<ffi::PyBaseExceptionObject>()).traceback.is_null() {
            refcount::incref(stop);
            ffi::PyErr_SetRaisedException(stop);
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
        Python::assume_attached().None().into_ptr()
    } else null_mut()
}

/// # Safety
/// `class` is `Lazy`; `maker` is an object and `timeout` one or null; the caller is attached.
unsafe fn lazy<'py>(
    py: Python<'py>,
    class: *mut PyTypeObject,
    maker: *mut PyObject,
    timeout: *mut PyObject,
    is_shared: bool,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the caller's promise; a new object is all zero, so that its body is `None`.
    unsafe {
        let maker = Bound::from_borrowed_ptr(py, maker);
        if !maker.is_callable() {
            return Err(PyTypeError::new_err("the factory must be callable"));
        }
        let timeout = Bound::from_borrowed_ptr_or_opt(py, timeout).map_or(Ok(None), |timeout| timeout.extract())?;
        once::deadline(timeout)?;
        let body = Body { maker: Owned::of(&maker), timeout, is_shared, once: Once::default() };
        let made = Bound::from_owned_ptr_or_err(py, (*class).tp_alloc.expect("a type can allocate")(class, 0))?;
        (*made.as_ptr().cast::<LazyLayout>()).body = Some(Box::new(body));
        Ok(made)
    }
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
/// The caller is attached, and `value` is alive.
#[cold]
unsafe fn raise_stop(value: *mut PyObject) {
    // SAFETY: the caller's promise.
    unsafe {
        let stop = ffi::PyObject_CallOneArg(ffi::PyExc_StopIteration, value);
        if !stop.is_null() {
            ffi::PyErr_SetRaisedException(stop);
        }
    }
}

/// # Safety
/// `cell` is a `Lazy`, the rest are the arguments of a vectorcall, and the caller is attached.
#[cold]
#[inline(never)]
unsafe fn miss(
    cell: *mut PyObject,
    is_async: bool,
    args: *const *mut PyObject,
    count: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the caller's promise.
    unsafe {
        let py = Python::assume_attached();
        let cell = Cell::borrow(py, cell);
        run(py, asked(py, args, count, names).and_then(|asked| once::get(&cell, asked, is_async)))
    }
}

/// # Safety
/// See [`miss`].
#[cold]
#[inline(never)]
unsafe fn lazy_miss(
    cell: *mut PyObject,
    is_async: bool,
    args: *const *mut PyObject,
    count: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the caller's promise.
    unsafe {
        let py = Python::assume_attached();
        let asked = asked(py, args, count, names).and_then(|asked| match asked.positional.is_empty() && asked.named.is_none() {
            true => Ok(asked),
            false => Err(PyTypeError::new_err("only `timeout` can be given")),
        });
        run(py, asked.and_then(|asked| once::get(&Cell::borrow(py, cell), asked, is_async)))
    }
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

/// # Safety
/// `this` is an object of a type of ours whose content has been released.
unsafe fn free(this: *mut PyObject) {
    // SAFETY: the caller's promise. A heap type counts its objects.
    unsafe {
        let class = ffi::Py_TYPE(this);
        (*class).tp_free.expect("a type can free")(this.cast());
        refcount::decref(class.cast());
    }
}

/// # Safety
/// Called by the garbage collector with objects that are alive, or null.
unsafe fn visit_all<const N: usize>(visit: visitproc, arg: *mut c_void, objects: [*mut PyObject; N]) -> c_int {
    for object in objects {
        if !object.is_null() {
            // SAFETY: the caller's promise.
            let result = unsafe { visit(object, arg) };
            if result != 0 {
                return result;
            }
        }
    }
    0
}
