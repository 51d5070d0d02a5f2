//! `Lazy`: a value that is made once. It keeps what was made, and the awaitable that returns it, in two words that are
//! read without a lock: a hit is one call, two loads, and no write where the value is shared. What happens on a miss
//! stands in `crate::once`.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use primitives::flight::Flight;
use primitives::once::Once;
use pyo3::exceptions::{PyLookupError, PyTypeError};
use pyo3::ffi::{self, Py_ssize_t, PyObject, PyTypeObject, visitproc};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::call::answer;
use super::held::Held;
use super::native_type::{NativeType, slot};
use super::ready::ready;
use super::slots::{class_getitem, forget_weakrefs, free, none, visit_all};
use super::{refcount, sharing};
use crate::once::{self, Asked};
use crate::wait;

/// A value and the awaitable that is ready with it.
pub struct Made {
    value: Held,
    ready: Held,
}

impl Made {
    /// The value.
    pub fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.value.bind(py)
    }
}

struct Body {
    maker: Held,
    timeout: Option<f64>,
    is_shared: bool,
    once: Once<Made>,
}

/// The layout of `Lazy`. The two words borrow what `once` holds, and are cleared before it lets go.
#[repr(C)]
pub(super) struct LazyLayout {
    base: PyObject,
    weakrefs: *mut PyObject,
    pub(super) value: AtomicPtr<PyObject>,
    pub(super) ready: AtomicPtr<PyObject>,
    body: Option<Box<Body>>,
}

static LAZY: AtomicPtr<PyTypeObject> = AtomicPtr::new(null_mut());

/// The type.
pub(super) fn lazy_class() -> *mut PyTypeObject {
    LAZY.load(Relaxed)
}

/// A `Lazy`, for safe code.
#[derive(Clone)]
pub struct Cell<'py>(Bound<'py, PyAny>);

impl<'py> Cell<'py> {
    /// # Safety
    /// `this` is an object of the type `Lazy`, and the caller is attached.
    pub(super) unsafe fn borrow(py: Python<'py>, this: *mut PyObject) -> Self {
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
        let made = Made { value: Held::of(value), ready: Held::of(&ready) };
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

/// Adds `Lazy`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    LAZY.store(lazy_type(module)?.as_type_ptr(), Relaxed);
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
    .lifetime(lazy_new, lazy_dealloc, std::mem::offset_of!(LazyLayout, weakrefs))
.collected(lazy_traverse, lazy_clear)
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
        answer(lazy(py, class, maker, timeout, is_shared != 0))
    } else null_mut()

    fn lazy_dealloc(this: *mut PyObject) -> () {
        ffi::PyObject_GC_UnTrack(this.cast());
        let layout = this.cast::<LazyLayout>();
        forget_weakrefs(this, (*layout).weakrefs);
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
        answer(text.map(|text| PyString::new(py, &text).into_any()))
    } else null_mut()

    fn lazy_get(
        this: *mut PyObject,
        args: *const *mut PyObject,
        count: Py_ssize_t,
        names: *mut PyObject,
    ) -> *mut PyObject {
        let value = refcount::load(&(*this.cast::<LazyLayout>()).value);
        if value.is_null() { miss(this, false, false, args, count as usize, names) } else { value }
    } else null_mut()

    fn lazy_aget(
        this: *mut PyObject,
        args: *const *mut PyObject,
        count: Py_ssize_t,
        names: *mut PyObject,
    ) -> *mut PyObject {
        let ready = refcount::load(&(*this.cast::<LazyLayout>()).ready);
        if ready.is_null() { miss(this, true, false, args, count as usize, names) } else { ready }
    } else null_mut()

    fn lazy_reset(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        Cell::borrow(py, this).reset();
        none()
    } else null_mut()

    fn lazy_begin(this: *mut PyObject, task: *mut PyObject) -> *mut PyObject {
        let py = Python::assume_attached();
        let task: PyResult<usize> = Bound::from_borrowed_ptr(py, task).extract();
        answer(task.and_then(|task| once::begin(&Cell::borrow(py, this), task)))
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
        wait::deadline(timeout)?;
        let body = Body { maker: Held::of(&maker), timeout, is_shared, once: Once::default() };
        let made = Bound::from_owned_ptr_or_err(py, (*class).tp_alloc.expect("a type can allocate")(class, 0))?;
        (*made.as_ptr().cast::<LazyLayout>()).body = Some(Box::new(body));
        Ok(made)
    }
}

/// Gets the value where there is none yet.
///
/// # Safety
/// `cell` is a `Lazy`, the rest are the arguments of a vectorcall, and the caller is attached.
#[cold]
#[inline(never)]
pub(super) unsafe fn miss(
    cell: *mut PyObject,
    is_async: bool,
    takes_arguments: bool,
    args: *const *mut PyObject,
    count: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the caller's promise.
    unsafe {
        let py = Python::assume_attached();
        let asked = asked(py, args, count, names).and_then(|asked| {
            match takes_arguments || asked.positional.is_empty() && asked.named.is_none() {
                true => Ok(asked),
                false => Err(PyTypeError::new_err("only `timeout` can be given")),
            }
        });
        answer(asked.and_then(|asked| once::get(&Cell::borrow(py, cell), asked, is_async)))
    }
}
