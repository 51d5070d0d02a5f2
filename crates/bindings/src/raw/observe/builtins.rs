//! What is known of functions and methods in C: the table that `raceproof.instrument` hands over, by the addresses of
//! their definitions.

use std::collections::{HashMap, HashSet};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use rustc_hash::FxBuildHasher;

use super::frame::{first_referent, member};

/// What a call of a built-in does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Ignore,
    ReadAll,
    ReadKey,
    UpdateKey,
    UpdateAll,
    /// Changes its object, and puts an argument into it without looking into that.
    Put,
    /// Reads its arguments.
    ReadArguments,
    /// Changes its arguments: what is assumed of a function that is not known.
    UpdateArguments,
    Next,
    /// Reads its first argument item by item: other threads come in between.
    Stepwise,
    GetAttribute,
    SetAttribute,
    /// `vars`.
    Dict,
}

impl Call {
    pub fn parse(word: &str) -> Option<Call> {
        Some(match word {
            "ignore" => Call::Ignore,
            "read all" => Call::ReadAll,
            "read key" => Call::ReadKey,
            "update key" => Call::UpdateKey,
            "update all" => Call::UpdateAll,
            "put" => Call::Put,
            "read arguments" => Call::ReadArguments,
            "update arguments" => Call::UpdateArguments,
            "next" => Call::Next,
            "stepwise" => Call::Stepwise,
            "get attribute" => Call::GetAttribute,
            "set attribute" => Call::SetAttribute,
            "dict" => Call::Dict,
            _ => return None,
        })
    }
}

type Addresses = HashSet<usize, FxBuildHasher>;

/// What is known of built-ins; filled once, before anything is observed.
#[derive(Default)]
pub struct Builtins {
    pub(super) calls: HashMap<usize, Call, FxBuildHasher>,
    /// Functions and methods whose results no thread shares.
    pub(super) plain: Addresses,
    pub(super) stand_ins: Addresses,
    pub(super) stand_in_types: Addresses,
    pub(super) immutable: Addresses,
    /// Types whose attributes are each thread's own.
    pub(super) locals: Addresses,
    pub(super) containers: Addresses,
    /// Where a view or an iterator keeps what it goes over.
    pub(super) over: HashMap<usize, usize, FxBuildHasher>,
    /// Types of views and iterators of which it is not known where they keep it: they are asked what they refer to.
    pub(super) viewers: Addresses,
    /// What calls `__call__` of a class in Python.
    pub(super) python_call: usize,
    pub(super) defaultdict: usize,
}

impl Builtins {
    /// Says what a built-in function or a method of a built-in type does; false if it is none.
    pub fn add_call(&mut self, callable: &Bound<'_, PyAny>, call: Call) -> bool {
        // SAFETY: the object is alive.
        let definition = unsafe { definition(callable.as_ptr()) };
        let Some((definition, _)) = definition else { return false };
        self.calls.insert(definition, call);
        true
    }

    /// Something stands in for this object wherever it is called.
    pub fn add_stand_in(&mut self, object: *mut PyObject) {
        self.stand_ins.insert(object as usize);
    }

    /// Something stands in for each object of exactly this type.
    pub fn add_stand_in_type(&mut self, kind: *mut PyObject) {
        self.stand_in_types.insert(kind as usize);
    }

    /// Does something stand in for this object?
    pub fn has_stand_in(&self, object: *mut PyObject) -> bool {
        self.stand_ins.contains(&(object as usize))
    }

    /// What a function or method in C does, if it is in the table.
    pub fn call(&self, definition: usize) -> Option<Call> {
        self.calls.get(&definition).copied()
    }

    /// Does an object of this type never change?
    pub fn is_immutable(&self, kind: *mut ffi::PyTypeObject) -> bool {
        self.immutable.contains(&(kind as usize))
    }

    /// What a function or method gives is no container, or a new one.
    pub fn add_plain(&mut self, callable: &Bound<'_, PyAny>) {
        // SAFETY: the object is alive.
        let definition = unsafe { definition(callable.as_ptr()) };
        self.plain.insert(definition.map_or(callable.as_ptr() as usize, |it| it.0));
    }

    /// Is what it gives no container, or a new one? Functions in Python are asked for by their address.
    pub fn is_plain(&self, definition: usize) -> bool {
        self.plain.contains(&definition)
    }

    /// The attributes of objects of this type are each thread's own.
    pub fn add_local(&mut self, kind: *mut PyObject) {
        self.locals.insert(kind as usize);
    }

    /// Objects of this type never change.
    pub fn add_immutable(&mut self, kind: *mut PyObject) {
        self.immutable.insert(kind as usize);
    }

    /// Objects of the type of `sample` keep what they go over so many bytes behind their header; in the sample that is
    /// `target`. Says whether it is so.
    pub fn add_over(&mut self, sample: &Bound<'_, PyAny>, behind_header: usize, target: &Bound<'_, PyAny>) -> bool {
        let size = sample.get_type().getattr("__basicsize__").and_then(|size| size.extract::<usize>());
        let is_within = size.is_ok_and(|size| size_of::<PyObject>() + behind_header + size_of::<usize>() <= size);
        // SAFETY: the sample is alive and so large.
        let is_so = is_within && unsafe { member(sample.as_ptr(), behind_header) } == target.as_ptr();
        if is_so {
            self.over.insert(sample.get_type().as_ptr() as usize, behind_header);
        }
        is_so
    }

    /// Objects of the type of `sample` say what they go over when they are asked what they refer to. Says whether that is
    /// `target`.
    pub fn add_viewer(&mut self, sample: &Bound<'_, PyAny>, target: &Bound<'_, PyAny>) -> bool {
        self.viewers.insert(sample.get_type().as_ptr() as usize);
        // SAFETY: the sample is alive.
        unsafe { first_referent(sample.as_ptr()) == target.as_ptr() }
    }

    /// An object of a class in Python that has `__call__` and `__del__`.
    pub fn add_python_class(&mut self, sample: &Bound<'_, PyAny>) {
        // SAFETY: the type of an object is alive.
        let (call, finalize) = unsafe {
            let kind = ffi::Py_TYPE(sample.as_ptr());
            ((*kind).tp_call, (*kind).tp_finalize)
        };
        self.python_call = call.map_or(0, |call| call as usize);
        FINALIZE.store(finalize.map_or(0, |finalize| finalize as usize), Relaxed);
    }

    /// The types `collections.defaultdict` and `types.MethodWrapperType`, and that of event loops.
    pub fn set_types(&mut self, defaultdict: *mut PyObject, method_wrapper: *mut PyObject, event_loop: *mut PyObject) {
        self.defaultdict = defaultdict as usize;
        QUIET.store(event_loop as usize, Relaxed);
        METHOD_WRAPPER.store(method_wrapper as usize, Relaxed);
    }

    /// The type `collections.defaultdict`.
    pub fn defaultdict(&self) -> *const PyObject {
        self.defaultdict as *const PyObject
    }

    /// The container that an object is, views, or goes over; null if it is none of that.
    ///
    /// # Safety
    /// The object is alive, or null, and the thread is attached.
    pub unsafe fn container(&self, object: *mut PyObject) -> *mut PyObject {
        let mut object = object;
        // An iterator over an iterator over a view over a dict.
        for _ in 0..4 {
            if object.is_null() {
                return null_mut();
            }
            // SAFETY: the object is alive, and what it refers to lives as long; the offsets are those of the types.
            unsafe {
                let kind = ffi::Py_TYPE(object);
                if self.is_container(object, kind) {
                    return object;
                }
                let Some(behind) = self.over.get(&(kind as usize)) else {
                    if self.viewers.contains(&(kind as usize)) {
                        object = first_referent(object);
                        continue;
                    }
                    let is_pack = kind == &raw mut ffi::PyTuple_Type && ffi::PyTuple_GET_SIZE(object) > 0;
                    object = if is_pack { ffi::PyTuple_GET_ITEM(object, 0) } else { null_mut() };
                    continue;
                };
                object = member(object, *behind);
            }
        }
        null_mut()
    }

    /// Is it a built-in container, or one that is known?
    ///
    /// # Safety
    /// The object is alive, and this is its type.
    pub unsafe fn is_container(&self, object: *mut PyObject, kind: *mut ffi::PyTypeObject) -> bool {
        // SAFETY: the object is alive.
        unsafe {
            ffi::PyDict_Check(object) != 0
                || ffi::PyList_Check(object) != 0
                || ffi::PySet_Check(object) != 0
                || ffi::PyByteArray_Check(object) != 0
                || self.containers.contains(&(kind as usize))
                || self.containers.contains(&((*kind).tp_base as usize))
        }
    }

    /// A type of containers, besides the built-in ones.
    pub fn add_container(&mut self, kind: *mut PyObject) {
        self.containers.insert(kind as usize);
    }
}

/// What calls `__del__` of a class in Python, and a class of which it is known what that does: nothing that a program
/// could see.
static FINALIZE: AtomicUsize = AtomicUsize::new(0);
static QUIET: AtomicUsize = AtomicUsize::new(0);

/// Has the class a `__del__` in Python that a program could see at work?
///
/// # Safety
/// It is alive.
pub unsafe fn has_finalizer(kind: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: the caller's promise.
    let finalize = unsafe { (*kind).tp_finalize };
    finalize.is_some_and(|finalize| finalize as usize == FINALIZE.load(Relaxed)) && kind as usize != QUIET.load(Relaxed)
}

/// The type of `{}.__setitem__`, which is not exported.
static METHOD_WRAPPER: AtomicUsize = AtomicUsize::new(0);

/// A method of a built-in type, not bound: `dict.pop`, or `dict.__setitem__`, which is of a type of its own. All types
/// share the definition of the latter.
pub(super) fn is_descriptor(kind: *mut ffi::PyTypeObject) -> bool {
    kind == &raw mut ffi::PyMethodDescr_Type || kind == &raw mut ffi::PyWrapperDescr_Type
}

/// The definition of a method or function in C, and the object that it is bound to (null for none).
///
/// # Safety
/// The object is alive.
pub unsafe fn definition(callable: *mut PyObject) -> Option<(usize, *mut PyObject)> {
    // SAFETY: the object is alive; each type keeps its definition there.
    unsafe {
        let kind = ffi::Py_TYPE(callable);
        if kind == &raw mut ffi::PyCFunction_Type || ffi::PyType_IsSubtype(kind, &raw mut ffi::PyCFunction_Type) != 0 {
            let function = callable.cast::<ffi::PyCFunctionObject>();
            return Some(((*function).m_ml as usize, (*function).m_self));
        }
        if is_descriptor(kind) {
            // Behind the type, the name and the qualified name.
            return Some((member(callable, 24) as usize, null_mut()));
        }
        if kind as usize == METHOD_WRAPPER.load(Relaxed) {
            // What it wraps, and the object that it is bound to.
            return Some((member(member(callable, 0), 24) as usize, member(callable, size_of::<usize>())));
        }
    }
    None
}
