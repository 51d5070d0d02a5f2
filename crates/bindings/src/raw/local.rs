//! `ThreadLocal`: a value, and attributes, that every thread has for itself.
//!
//! A thread finds its entry by its own small number, without a lock and without a write that others see. The entry
//! says by serial number whose it is, so nothing that an ended thread left is ever taken for one's own. An object in
//! the dict of the thread state is freed when the thread ends and frees the entries.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use primitives::local::PerThread;
use primitives::thread_index::{ThreadNumber, thread_number};
use pyo3::exceptions::{PyAttributeError, PyLookupError, PyRuntimeError, PyTypeError};
use pyo3::ffi::{self, Py_ssize_t, PyObject, PyTypeObject};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyType};

use super::native_type::{NativeType, slot};
use super::refcount;
use super::slots::{allocate, class_getitem, forget_weakrefs, free, new_ref, none, raise, shared_if};

/// What one thread has in one `ThreadLocal`. Only this thread stores into it, except for emptying it at its end.
#[derive(Default)]
struct Entry {
    /// The serial number of the thread; 0 if nobody's.
    owner: AtomicU64,
    value: AtomicPtr<PyObject>,
    dict: AtomicPtr<PyObject>,
}

impl Entry {
    /// Drops what is in here. Any Python code may run.
    fn empty(&self) {
        self.owner.store(0, Release);
        for place in [&self.value, &self.dict] {
            // SAFETY: the place owned the reference, and whoever empties an entry is attached.
            unsafe { ffi::Py_XDECREF(place.swap(null_mut(), AcqRel)) };
        }
    }
}

type Entries = PerThread<Entry>;

#[repr(C)]
struct Local {
    head: PyObject,
    weakrefs: *mut PyObject,
    factory: *mut PyObject,
    /// What a subclass with an `__init__` was made with: its `__init__` runs again in each thread.
    args: *mut PyObject,
    kwargs: *mut PyObject,
    entries: Option<Arc<Entries>>,
}

/// The interned string `"value"`, which the interpreter passes when it runs `local.value`.
static VALUE: AtomicPtr<PyObject> = AtomicPtr::new(null_mut());

/// Adds the type.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    VALUE.store(PyString::intern(py, "value").into_ptr(), Relaxed);
    super::sharing::pin_class(&py.get_type::<ThreadEnd>());
    NativeType::new::<Local>(c"raceproof.ThreadLocal", DOC)
        .flags(ffi::Py_TPFLAGS_BASETYPE)
        .lifetime(new, dealloc, offset_of!(Local, weakrefs))
        .collected(traverse, clear)
        .slot(ffi::Py_tp_getattro, getattr as _)
        .slot(ffi::Py_tp_setattro, setattr as _)
        .arguments(c"get", get, GET_DOC)
        .one_argument(c"set", set, c"set($self, value, /)\n--\n\nReplaces this thread's value.")
        .property(c"value", value, c"This thread's value. AttributeError if it has none and there is no factory.")
        .no_arguments(c"values", values, VALUES_DOC)
        .class_arguments(c"__class_getitem__", class_getitem, c"ThreadLocal[Buffer], for annotations.")
        .build(module, None)?;
    Ok(())
}

const DOC: &std::ffi::CStr = c"ThreadLocal(factory=None, *, shared=False)\n--\n\n\
A value that every thread has for itself: `local.value`, `local.get()`, `local.set(value)`.\n\n\
factory() makes the value when a thread first asks for it. Attributes of any other name belong to the thread too, and \
a subclass with an __init__ has it run in each thread, as with threading.local. A thread's value and attributes are \
freed when it ends. Nothing blocks, and threads do not slow each other down; shared=True switches the reference \
counting of the ThreadLocal itself off (see share): pass it for one that lives as long as the process.";

const GET_DOC: &std::ffi::CStr = c"get($self, default=<none>, /)\n--\n\n\
This thread's value; made by the factory if there is none yet. Without a factory: default, or LookupError.";

const VALUES_DOC: &std::ffi::CStr = c"values($self, /)\n--\n\n\
A list of the values of all threads that have one and have not ended, in no particular order. Weakly consistent: a \
thread that sets or ends meanwhile may be in it with either value or not at all.";

/// Frees what its thread has in every `ThreadLocal`, when the interpreter frees the dict of the thread.
#[pyclass(frozen)]
struct ThreadEnd {
    number: ThreadNumber,
    kept: Mutex<Vec<Weak<Entries>>>,
}

impl ThreadEnd {
    /// The one of this thread.
    fn current(py: Python<'_>, number: ThreadNumber) -> PyResult<Bound<'_, ThreadEnd>> {
        // SAFETY: attached; the dict is borrowed from the thread state.
        let dict = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyThreadState_GetDict()) };
        let dict = dict.ok_or_else(|| PyRuntimeError::new_err("this thread has no state"))?.cast_into::<PyDict>()?;
        let key = pyo3::intern!(py, "raceproof.ThreadEnd");
        if let Some(end) = dict.get_item(key)? {
            return Ok(end.cast_into::<ThreadEnd>()?);
        }
        let end = Bound::new(py, ThreadEnd { number, kept: Mutex::default() })?;
        dict.set_item(key, &end)?;
        Ok(end)
    }

    fn keep(&self, entries: &Arc<Entries>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // A long-lived thread must not remember each short-lived local; each look over the list pays for itself.
        if kept.len() == kept.capacity() {
            kept.retain(|entries| entries.strong_count() > 0);
        }
        kept.push(Arc::downgrade(entries));
    }
}

thread_local! {
    /// While a thread ends: the locals that it begins to use again, in the `__del__` of a value that is freed. The dict
    /// of the thread is gone by then, and a new one would never be freed.
    static LATE: RefCell<Option<Vec<Weak<Entries>>>> = const { RefCell::new(None) };
}

/// A `__del__` that sets a value whose `__del__` sets a value, and so on, is followed so many times.
const LATE_ROUNDS: usize = 100;

impl ThreadEnd {
    fn empty(&self, kept: Vec<Weak<Entries>>) {
        for entries in kept {
            let entries = entries.upgrade();
            let entry = entries.as_deref().and_then(|entries| entries.at(self.number.index));
            if let Some(entry) = entry.filter(|entry| entry.owner.load(Acquire) == self.number.serial) {
                entry.empty();
            }
        }
    }
}

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        let kept = std::mem::take(self.kept.get_mut().unwrap_or_else(PoisonError::into_inner));
        // After a fork, and when the interpreter ends, another thread frees this.
        if thread_number() != Some(self.number) {
            return self.empty(kept);
        }
        LATE.set(Some(Vec::new()));
        self.empty(kept);
        for _ in 0..LATE_ROUNDS {
            match LATE.replace(Some(Vec::new())) {
                Some(late) if !late.is_empty() => self.empty(late),
                _ => break,
            }
        }
        LATE.set(None);
    }
}

#[inline(always)]
unsafe fn local<'a>(this: *mut PyObject) -> &'a Local {
    // SAFETY: `this` is alive during the slot.
    unsafe { &*this.cast::<Local>() }
}

/// The calling thread's entry, if it has begun to use this local.
#[inline(always)]
unsafe fn entry_of<'a>(this: *mut PyObject, number: ThreadNumber) -> Option<&'a Entry> {
    // SAFETY: see `local`.
    let entry = unsafe { local(this) }.entries.as_ref()?.at(number.index)?;
    (entry.owner.load(Relaxed) == number.serial).then_some(entry)
}

/// The calling thread's entry. At its first use the `__init__` of a subclass runs.
unsafe fn enter<'a>(this: *mut PyObject) -> PyResult<&'a Entry> {
    // SAFETY: see `local`.
    unsafe {
        let number = thread_number().ok_or_else(|| PyRuntimeError::new_err("too many threads"))?;
        if let Some(entry) = entry_of(this, number) {
            return Ok(entry);
        }
        let entry = claim(this, number)?;
        if has_init(ffi::Py_TYPE(this))
            && let Some(init) = (*ffi::Py_TYPE(this)).tp_init
            && init(this, local(this).args, local(this).kwargs) < 0
        {
            entry.empty();
            return Err(PyErr::fetch(Python::assume_attached()));
        }
        Ok(entry)
    }
}

/// Makes the entry of the calling thread its own.
unsafe fn claim<'a>(this: *mut PyObject, number: ThreadNumber) -> PyResult<&'a Entry> {
    // SAFETY: see `local`.
    let (entries, py) = unsafe { (local(this).entries.as_ref(), Python::assume_attached()) };
    let entry = entries.and_then(|entries| Some((entries, entries.make_at(number.index)?)));
    let (entries, entry) = entry.ok_or_else(|| PyRuntimeError::new_err("too many threads"))?;
    entry.empty();
    let is_late = LATE.with_borrow_mut(|late| late.as_mut().map(|late| late.push(Arc::downgrade(entries))).is_some());
    if !is_late {
        ThreadEnd::current(py, number)?.get().keep(entries);
    }
    entry.owner.store(number.serial, Release);
    Ok(entry)
}

/// Does a subclass have an `__init__` of its own?
unsafe fn has_init(class: *mut PyTypeObject) -> bool {
    // SAFETY: both types are ready.
    let (own, base) = unsafe { ((*class).tp_init, ffi::PyBaseObject_Type.tp_init) };
    own.map(|init| init as usize) != base.map(|init| init as usize)
}

/// The value of the calling thread, a new reference. `Ok(None)`: it has none, and there is no factory.
#[inline(always)]
unsafe fn read(this: *mut PyObject) -> PyResult<Option<*mut PyObject>> {
    // SAFETY: the entry owns the reference, and only this thread replaces it.
    unsafe {
        if let Some(entry) = thread_number().and_then(|number| entry_of(this, number)) {
            let value = entry.value.load(Relaxed);
            if !value.is_null() {
                return Ok(Some(new_ref(value)));
            }
        }
        read_first(this)
    }
}

#[cold]
unsafe fn read_first(this: *mut PyObject) -> PyResult<Option<*mut PyObject>> {
    // SAFETY: see `local`; the factory is called with no lock held, and may itself set the value.
    unsafe {
        let entry = enter(this)?;
        if entry.value.load(Relaxed).is_null() {
            if local(this).factory.is_null() {
                return Ok(None);
            }
            let made = ffi::PyObject_CallNoArgs(local(this).factory);
            if made.is_null() {
                return Err(PyErr::fetch(Python::assume_attached()));
            }
            // Storing it frees what the factory may have set, whose `__del__` may delete the new value again.
            let result = new_ref(made);
            store(entry, made);
            return Ok(Some(result));
        }
        Ok(Some(new_ref(entry.value.load(Relaxed))))
    }
}

/// Stores a value, or nothing, whose reference it takes over. `values` may read it from other threads.
unsafe fn store(entry: &Entry, value: *mut PyObject) {
    // SAFETY: the caller owns the reference.
    unsafe {
        if !value.is_null() {
            refcount::make_shareable(value);
        }
        ffi::Py_XDECREF(entry.value.swap(value, AcqRel));
    }
}

/// The dict of this thread's attributes, borrowed from the entry.
unsafe fn attributes<'py>(py: Python<'py>, entry: &Entry) -> Bound<'py, PyDict> {
    if entry.dict.load(Relaxed).is_null() {
        entry.dict.store(PyDict::new(py).into_ptr(), Release);
    }
    // SAFETY: the entry owns a dict, and only this thread replaces it.
    unsafe { Bound::from_borrowed_ptr(py, entry.dict.load(Relaxed)).cast_into_unchecked() }
}

/// Does the class have a data descriptor of this name, such as a property? It goes before a thread's own attribute.
fn has_descriptor(class: &Bound<'_, PyType>, name: &Bound<'_, PyAny>) -> PyResult<bool> {
    for base in class.mro() {
        let names = base.getattr(pyo3::intern!(class.py(), "__dict__"))?;
        if names.contains(name)? {
            let found = names.get_item(name)?;
            // SAFETY: the type of a live object is ready.
            return Ok(unsafe { (*found.get_type().as_type_ptr()).tp_descr_set.is_some() });
        }
    }
    Ok(false)
}

/// `local.name = value`, or `del local.name`.
unsafe fn change(this: *mut PyObject, name: *mut PyObject, value: *mut PyObject) -> PyResult<()> {
    // SAFETY: see `local`.
    unsafe {
        let py = Python::assume_attached();
        let object = Bound::from_borrowed_ptr(py, this);
        let name = Bound::from_borrowed_ptr(py, name);
        if name.eq(pyo3::intern!(py, "__dict__"))? {
            let class = object.get_type().name()?;
            let text = format!("'{class}' object attribute '__dict__' is read-only");
            return Err(PyAttributeError::new_err(text));
        }
        if name.eq(pyo3::intern!(py, "value"))? {
            let entry = enter(this)?;
            if value.is_null() && entry.value.load(Relaxed).is_null() {
                return Err(PyAttributeError::new_err("this thread has no value"));
            }
            if !value.is_null() {
                refcount::incref(value);
            }
            store(entry, value);
            return Ok(());
        }
        if ffi::PyUnicode_Check(name.as_ptr()) == 0 {
            return Err(PyTypeError::new_err("the name of an attribute must be a str"));
        }
        if has_descriptor(&object.get_type(), &name)? {
            return match ffi::PyObject_GenericSetAttr(this, name.as_ptr(), value) {
                0 => Ok(()),
                _ => Err(PyErr::fetch(py)),
            };
        }
        let own = attributes(py, enter(this)?);
        if !value.is_null() {
            return own.set_item(name, Bound::from_borrowed_ptr(py, value));
        }
        if own.contains(&name)? {
            return own.del_item(name);
        }
        Err(PyAttributeError::new_err(format!("'{}' object has no attribute '{name}'", object.get_type().name()?)))
    }
}

slot! {
    fn new(class: *mut PyTypeObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject {
        let (mut factory, mut shared): (*mut PyObject, c_int) = (null_mut(), 0);
        let with_init = has_init(class);
        let keywords = [c"factory".as_ptr(), c"shared".as_ptr(), std::ptr::null()];
        let format = c"|O$p:ThreadLocal".as_ptr();
        let names = keywords.as_ptr() as _;
        if !with_init
            && ffi::PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &raw mut factory, &raw mut shared) == 0
        {
            return null_mut();
        }
        if factory == ffi::Py_None() {
            factory = null_mut();
        }
        if !factory.is_null() && ffi::PyCallable_Check(factory) == 0 {
            return raise(PyTypeError::new_err("factory must be callable"));
        }
        let this = allocate::<Local>(class);
        if this.is_null() {
            return null_mut();
        }
        (&raw mut (*this).entries).write(Some(Arc::default()));
        (*this).factory = ffi::Py_XNewRef(factory);
        if with_init {
            (*this).args = ffi::Py_XNewRef(args);
            (*this).kwargs = ffi::Py_XNewRef(kwargs);
            // The constructor goes on with __init__ in this thread; it must not run twice.
            let claimed = match thread_number() {
                Some(number) => claim(this.cast(), number).map(|_| ()),
                None => Err(PyRuntimeError::new_err("too many threads")),
            };
            if let Err(error) = claimed {
                ffi::Py_DECREF(this.cast());
                return raise(error);
            }
        }
        shared_if(shared != 0, this.cast())
    } else null_mut()

    fn dealloc(this: *mut PyObject) -> () {
        ffi::PyObject_GC_UnTrack(this.cast());
        forget_weakrefs(this, local(this).weakrefs);
        clear(this);
        std::ptr::drop_in_place(&raw mut (*this.cast::<Local>()).entries);
        free(this);
    } else ()

    // Runs with the world stopped: plain reads, nothing allocated.
    fn traverse(this: *mut PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        let it = local(this);
        let class: *mut PyObject = ffi::Py_TYPE(this).cast();
        let held = it.entries.iter().flat_map(|entries| entries.each());
        let held = held.flat_map(|entry| [entry.value.load(Relaxed), entry.dict.load(Relaxed)]);
        let all = [class, it.factory, it.args, it.kwargs].into_iter().chain(held);
        all.filter(|object| !object.is_null()).map(|object| visit(object, arg)).find(|stop| *stop != 0).unwrap_or(0)
    } else -1

    fn clear(this: *mut PyObject) -> c_int {
        for place in [offset_of!(Local, factory), offset_of!(Local, args), offset_of!(Local, kwargs)] {
            let place = this.byte_add(place).cast::<*mut PyObject>();
            ffi::Py_XDECREF(place.replace(null_mut()));
        }
        for entry in local(this).entries.iter().flat_map(|entries| entries.each()) {
            entry.empty();
        }
        0
    } else -1

    fn getattr(this: *mut PyObject, name: *mut PyObject) -> *mut PyObject {
        if name == VALUE.load(Relaxed) {
            return value(this, null_mut());
        }
        let py = Python::assume_attached();
        let entry = match enter(this) {
            Ok(entry) => entry,
            Err(error) => return raise(error),
        };
        if ffi::PyUnicode_Check(name) != 0
            && ffi::PyUnicode_CompareWithASCIIString(name, c"__dict__".as_ptr()) == 0
        {
            return attributes(py, entry).into_ptr();
        }
        if !entry.dict.load(Relaxed).is_null() {
            match attributes(py, entry).get_item(Bound::from_borrowed_ptr(py, name)) {
                Ok(Some(found)) => return found.into_ptr(),
                Ok(None) => {}
                Err(error) => return raise(error),
            }
        }
        ffi::PyObject_GenericGetAttr(this, name)
    } else null_mut()

    fn setattr(this: *mut PyObject, name: *mut PyObject, value: *mut PyObject) -> c_int {
        match change(this, name, value) {
            Ok(()) => 0,
            Err(error) => {
                raise(error);
                -1
            }
        }
    } else -1

    fn value(this: *mut PyObject, _closure: *mut c_void) -> *mut PyObject {
        match read(this) {
            Ok(Some(value)) => value,
            Ok(None) => raise(PyAttributeError::new_err("this thread has no value")),
            Err(error) => raise(error),
        }
    } else null_mut()

    fn get(this: *mut PyObject, args: *mut *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
        match read(this) {
            Ok(Some(value)) => value,
            Ok(None) if count == 1 => new_ref(*args),
            Ok(None) if count == 0 => raise(PyLookupError::new_err("this thread has no value")),
            Ok(None) => raise(PyTypeError::new_err("get expects at most 1 argument")),
            Err(error) => raise(error),
        }
    } else null_mut()

    fn set(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
        match enter(this) {
            Ok(entry) => {
                store(entry, new_ref(value));
                none()
            }
            Err(error) => raise(error),
        }
    } else null_mut()

    fn values(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        let list = PyList::empty(Python::assume_attached());
        for entry in local(this).entries.iter().flat_map(|entries| entries.each()) {
            let value = refcount::load(&entry.value);
            if value.is_null() {
                continue;
            }
            let value = Bound::from_owned_ptr(list.py(), value);
            if let Err(error) = list.append(value) {
                return raise(error);
            }
        }
        list.into_ptr()
    } else null_mut()
}
