//! `AtomicReference`: one reference that threads read and replace without a lock.

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

use pyo3::ffi::{self, Py_ssize_t, PyObject, PyTypeObject};
use pyo3::prelude::*;

use super::native_type::{NativeType, slot};
use super::refcount;
use super::slots::{allocate, class_getitem, expect, forget_weakrefs, free, none, repr_with, shared_if, truth};

#[repr(C)]
struct Reference {
    head: PyObject,
    weakrefs: *mut PyObject,
    /// Owns a reference; null only when the garbage collector has cleared it, or before the constructor ends.
    target: AtomicPtr<PyObject>,
}

/// Adds the type.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    NativeType::new::<Reference>(c"raceproof.AtomicReference", DOC)
        .flags(ffi::Py_TPFLAGS_BASETYPE)
        .lifetime(new, dealloc, offset_of!(Reference, weakrefs))
        .collected(traverse, clear)
        .slot(ffi::Py_tp_repr, repr as _)
        .no_arguments(c"get", get, c"get($self, /)\n--\n\nThe object that stands here now.")
        .one_argument(c"set", set, c"set($self, value, /)\n--\n\nReplaces the object.")
        .one_argument(c"exchange", exchange, EXCHANGE_DOC)
        .arguments(c"compare_and_set", compare_and_set, COMPARE_AND_SET_DOC)
        .one_argument(c"update_with", update_with, UPDATE_DOC)
        .no_arguments(c"__getnewargs__", newargs, c"__getnewargs__($self, /)\n--\n\nFor copy and pickle.")
        .class_arguments(c"__class_getitem__", class_getitem, c"AtomicReference[Config], for annotations.")
        .build(module, None)?;
    Ok(())
}

const DOC: &std::ffi::CStr = c"AtomicReference(value=None, *, shared=False)\n--\n\n\
A reference that threads read and replace without a lock.\n\n\
Every operation is atomic and linearizable, and nothing blocks. Objects are told apart by identity: \
compare_and_set never calls __eq__. Two references are equal only if they are the same one. shared=True switches its \
reference counting off (see share): pass it for a reference that lives as long as the process.";

const EXCHANGE_DOC: &std::ffi::CStr =
    c"exchange($self, value, /)\n--\n\nReplaces the object and returns the one that stood here.";

const COMPARE_AND_SET_DOC: &std::ffi::CStr = c"compare_and_set($self, expected, new, /)\n--\n\n\
Stores new if the object that stands here is expected (the same object); returns whether it did.";

const UPDATE_DOC: &std::ffi::CStr = c"update_with($self, function, /)\n--\n\n\
Replaces the object by function(object) and returns the new one.\n\n\
The function runs without any lock, and again if another thread replaced the object meanwhile. If it raises, nothing \
is changed.";

#[inline(always)]
unsafe fn target<'a>(this: *mut PyObject) -> &'a AtomicPtr<PyObject> {
    // SAFETY: `this` is alive during the slot.
    unsafe { &(*this.cast::<Reference>()).target }
}

/// A reference to what stands here; `None` if the garbage collector has cleared it.
#[inline(always)]
unsafe fn load(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: all that is stored went through `own`.
    unsafe {
        let object = refcount::load(target(this));
        if object.is_null() { none() } else { object }
    }
}

/// A reference for the place, which may be read by other threads from now on.
#[inline(always)]
unsafe fn own(object: *mut PyObject) -> *mut PyObject {
    // SAFETY: the object is alive.
    unsafe {
        refcount::incref(object);
        refcount::make_shareable(object);
    }
    object
}

/// Stores `new` and returns the reference that stood here, which may be null.
#[inline(always)]
unsafe fn swap(this: *mut PyObject, new: *mut PyObject) -> *mut PyObject {
    // SAFETY: see `target`.
    unsafe { target(this).swap(new, AcqRel) }
}

/// Stores `new` if `expected` stands here.
#[inline(always)]
unsafe fn swap_if(this: *mut PyObject, expected: *mut PyObject, new: *mut PyObject) -> bool {
    // SAFETY: the caller holds a reference to `expected`, so no other object can have its address meanwhile.
    unsafe {
        let owned = own(new);
        let swapped = target(this).compare_exchange(expected, owned, AcqRel, Acquire).is_ok();
        refcount::decref(if swapped { expected } else { owned });
        swapped
    }
}

slot! {
    fn new(class: *mut PyTypeObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject {
        let (mut value, mut shared): (*mut PyObject, c_int) = (ffi::Py_None(), 0);
        let keywords = [c"value".as_ptr(), c"shared".as_ptr(), std::ptr::null()];
        let format = c"|O$p:AtomicReference".as_ptr();
        let names = keywords.as_ptr() as _;
        if ffi::PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &raw mut value, &raw mut shared) == 0 {
            return null_mut();
        }
        let this = allocate::<Reference>(class);
        if this.is_null() {
            return null_mut();
        }
        (*this).target.store(own(value), Relaxed);
        shared_if(shared != 0, this.cast())
    } else null_mut()

    fn dealloc(this: *mut PyObject) -> () {
        ffi::PyObject_GC_UnTrack(this.cast());
        forget_weakrefs(this, (*this.cast::<Reference>()).weakrefs);
        ffi::Py_XDECREF(swap(this, null_mut()));
        free(this);
    } else ()

    // Runs with the world stopped: plain reads, nothing allocated.
    fn traverse(this: *mut PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        let class: *mut PyObject = ffi::Py_TYPE(this).cast();
        match visit(class, arg) {
            0 => {
                let object = target(this).load(Relaxed);
                if object.is_null() { 0 } else { visit(object, arg) }
            }
            stop => stop,
        }
    } else -1

    fn clear(this: *mut PyObject) -> c_int {
        ffi::Py_XDECREF(swap(this, null_mut()));
        0
    } else -1

    fn get(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject { load(this) } else null_mut()

    fn set(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
        ffi::Py_XDECREF(swap(this, own(value)));
        none()
    } else null_mut()

    fn exchange(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
        let old = swap(this, own(value));
        if old.is_null() { none() } else { old }
    } else null_mut()

    fn compare_and_set(this: *mut PyObject, args: *mut *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
        if !expect(count, 2) {
            return null_mut();
        }
        truth(swap_if(this, *args, *args.add(1)))
    } else null_mut()

    fn update_with(this: *mut PyObject, function: *mut PyObject) -> *mut PyObject {
        loop {
            let old = load(this);
            let new = ffi::PyObject_CallOneArg(function, old);
            if new.is_null() {
                refcount::decref(old);
                return null_mut();
            }
            let swapped = swap_if(this, old, new);
            refcount::decref(old);
            if swapped {
                return new;
            }
            refcount::decref(new);
        }
    } else null_mut()

    fn repr(this: *mut PyObject) -> *mut PyObject {
        match ffi::Py_ReprEnter(this) {
            0 => {
                let text = repr_with(this, load(this));
                ffi::Py_ReprLeave(this);
                text
            }
            stop if stop > 0 => ffi::PyUnicode_FromString(c"AtomicReference(...)".as_ptr()),
            _ => null_mut(),
        }
    } else null_mut()

    fn newargs(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        super::slots::tuple_of(load(this))
    } else null_mut()
}
