//! The operands of instructions where frames are not read: from the locals and globals that the interpreter shows of the
//! frame that runs, and from what earlier instructions of the frame came to, which is found out just before they do it.
//!
//! Nothing in here runs Python code: an attribute that could is unknown. What is unknown is said to be.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ptr::null_mut;

use pyo3::exceptions::PyValueError;
use pyo3::ffi::{self, PyFrameObject, PyObject};
use pyo3::prelude::*;
use rustc_hash::FxBuildHasher;

use super::frame::Operands;
use crate::raw::held::Held;

/// More results are not remembered: all are unknown then, until they are made again.
const RESULTS_MAX: usize = 20_000;

/// Where an operand comes from. The numbers are those of `raceproof.instrument`.
pub enum Source {
    Unknown,
    /// A value that no thread shares.
    Plain,
    /// The local of this name.
    Local(Held),
    Constant(Held),
    /// What the instruction at this offset came to.
    Result(u32),
}

impl<'py> FromPyObject<'_, 'py> for Source {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Source> {
        let (kind, value): (u8, Bound<'py, PyAny>) = object.extract()?;
        Ok(match kind {
            0 => Source::Unknown,
            1 => Source::Plain,
            2 => Source::Local(Held::of(&value)),
            3 => Source::Constant(Held::of(&value)),
            4 => Source::Result(value.extract()?),
            _ => return Err(PyValueError::new_err(format!("no kind of source {kind}"))),
        })
    }
}

/// What an instruction has besides its kind.
pub struct Origins {
    /// Of the operands, from the top of the stack.
    pub sources: Vec<Source>,
    /// The attribute, global or variable.
    pub name: Held,
    /// Does an instruction further on ask for what this one comes to?
    pub is_asked: bool,
}

/// A value of the program.
#[derive(Default)]
pub enum Value {
    #[default]
    Unknown,
    /// No thread shares it.
    Plain,
    Exact(Held),
    /// A view of this container, or an iterator over it; do its items come in new objects?
    Over(Held, bool),
}

impl Value {
    /// The object itself, or the container that it goes over; null if neither is known.
    pub fn object(&self) -> *mut PyObject {
        match self {
            Value::Unknown | Value::Plain => null_mut(),
            Value::Exact(object) | Value::Over(object, _) => object.as_ptr(),
        }
    }

    /// The object itself.
    pub fn exact(&self) -> Option<*mut PyObject> {
        if let Value::Exact(object) = self { Some(object.as_ptr()) } else { None }
    }

    fn again(&self) -> Value {
        match self {
            Value::Unknown => Value::Unknown,
            Value::Plain => Value::Plain,
            // SAFETY: it is held, and the thread is attached.
            Value::Exact(object) => Value::Exact(unsafe { Held::new(object.as_ptr()) }),
            // SAFETY: as above.
            Value::Over(object, is_new) => Value::Over(unsafe { Held::new(object.as_ptr()) }, *is_new),
        }
    }
}

/// What instructions of the run came to, by frame and offset. A frame that has ended may give its address to another:
/// that one comes to its own results before it asks for them.
#[derive(Default)]
pub struct Results {
    known: HashMap<(usize, u32), Value, FxBuildHasher>,
    /// For each frame the last call of a Python function: its offset, and the code that was called.
    calls: HashMap<usize, (u32, usize), FxBuildHasher>,
}

impl Results {
    /// Remembers one. What is given back must not be dropped where it could run Python code.
    pub fn put(&mut self, frame: *mut PyFrameObject, offset: u32, value: Value) -> (Option<Value>, Option<Results>) {
        let old = (self.known.len() >= RESULTS_MAX).then(|| std::mem::take(self));
        (self.known.insert((frame as usize, offset), value), old)
    }

    /// A frame calls a function with this code.
    pub fn call(&mut self, frame: *mut PyFrameObject, offset: u32, code: usize) {
        self.calls.insert(frame as usize, (offset, code));
    }

    /// Where a frame has called this code, if that is what it did last.
    pub fn caller(&self, frame: *mut PyFrameObject, code: usize) -> Option<u32> {
        self.calls.get(&(frame as usize)).filter(|call| call.1 == code).map(|call| call.0)
    }
}

/// The operands of an instruction.
pub struct Shown {
    pub frame: *mut PyFrameObject,
    pub values: Vec<Value>,
    globals: OnceCell<Held>,
}

impl Shown {
    /// The first `n` operands from the top of the stack.
    ///
    /// # Safety
    /// The frame is the one that runs, and the thread is attached.
    pub unsafe fn new(frame: *mut PyFrameObject, origins: &Origins, n: usize, results: &Results) -> Shown {
        let value = |source: &Source| match source {
            Source::Unknown => Value::Unknown,
            Source::Plain => Value::Plain,
            // SAFETY: the caller's promise.
            Source::Local(name) => unsafe { variable(frame, name.as_ptr()) },
            // SAFETY: it is held.
            Source::Constant(object) => Value::Exact(unsafe { Held::new(object.as_ptr()) }),
            Source::Result(offset) => {
                results.known.get(&(frame as usize, *offset)).map_or(Value::Unknown, Value::again)
            }
        };
        let values = origins.sources.iter().take(n).map(value).collect();
        Shown { frame, values, globals: OnceCell::new() }
    }

    /// Is nothing known of this operand?
    pub fn is_unknown(&self, from_top: usize) -> bool {
        matches!(self.values.get(from_top), None | Some(Value::Unknown))
    }
}

impl Operands for Shown {
    fn operand(&self, from_top: usize) -> *mut PyObject {
        self.values.get(from_top).map_or(null_mut(), Value::object)
    }

    fn local(&self, _idx: usize) -> *mut PyObject {
        null_mut()
    }

    #[cfg(Py_3_12)]
    fn globals(&self) -> *mut PyObject {
        // SAFETY: the frame runs; a new reference.
        self.globals.get_or_init(|| Held(unsafe { ffi::PyFrame_GetGlobals(self.frame) })).as_ptr()
    }

    #[cfg(not(Py_3_12))]
    fn globals(&self) -> *mut PyObject {
        null_mut()
    }
}

/// The frame that runs, borrowed; null if it cannot be had.
pub fn frame() -> *mut PyFrameObject {
    // SAFETY: attached, as all callbacks are.
    unsafe { ffi::PyEval_GetFrame() }
}

/// A new reference, or nothing and no error.
fn or_nothing(object: *mut PyObject) -> Option<Held> {
    if object.is_null() {
        // SAFETY: attached.
        unsafe { ffi::PyErr_Clear() };
        return None;
    }
    Some(Held(object))
}

/// A borrowed one, held.
fn held(object: *mut PyObject) -> Option<Held> {
    // SAFETY: whoever gave it holds it, and the thread is attached.
    if object.is_null() { or_nothing(object) } else { Some(unsafe { Held::new(object) }) }
}

/// A local or a variable of a closure. Where it is not bound the instruction fails, and nothing is shared.
///
/// # Safety
/// The frame is the one that runs, and the thread is attached.
#[cfg(Py_3_12)]
pub unsafe fn variable(frame: *mut PyFrameObject, name: *mut PyObject) -> Value {
    // SAFETY: the caller's promise.
    or_nothing(unsafe { ffi::PyFrame_GetVar(frame, name) }).map_or(Value::Plain, Value::Exact)
}

/// Frames do not show their locals in this version.
#[cfg(not(Py_3_12))]
pub unsafe fn variable(_frame: *mut PyFrameObject, _name: *mut PyObject) -> Value {
    Value::Unknown
}

/// A global or built-in.
///
/// # Safety
/// The frame is the one that runs, the name a string, and the thread is attached.
#[cfg(Py_3_12)]
pub unsafe fn global(shown: &Shown, name: *mut PyObject) -> Value {
    // SAFETY: the caller's promise.
    unsafe {
        let builtins = Held(ffi::PyFrame_GetBuiltins(shown.frame));
        for dict in [shown.globals(), builtins.as_ptr()] {
            if dict.is_null() || ffi::PyDict_CheckExact(dict) == 0 {
                return Value::Unknown;
            }
            if let Some(found) = held(ffi::PyDict_GetItemWithError(dict, name)) {
                return Value::Exact(found);
            }
        }
    }
    Value::Plain
}

/// Frames do not show their globals in this version.
#[cfg(not(Py_3_12))]
pub unsafe fn global(_shown: &Shown, _name: *mut PyObject) -> Value {
    Value::Unknown
}

/// An attribute, if reading it runs no Python code.
///
/// # Safety
/// The object is alive, the name a string, and the thread is attached.
pub unsafe fn attribute(object: *mut PyObject, name: *mut PyObject) -> Value {
    // SAFETY: the caller's promise; a type and its bases live as long as the object.
    unsafe {
        if ffi::PyModule_CheckExact(object) != 0 {
            let found = held(ffi::PyDict_GetItemWithError(ffi::PyModule_GetDict(object), name));
            return found.map_or(Value::Unknown, Value::Exact);
        }
        let kind = ffi::Py_TYPE(object);
        if kind == &raw mut ffi::PyType_Type {
            return of_class(object.cast(), name);
        }
        let generic: ffi::getattrofunc = ffi::PyObject_GenericGetAttr;
        let is_generic = (*kind).tp_getattro.is_some_and(|get| get as usize == generic as usize);
        if !is_generic {
            return Value::Unknown;
        }
        let Some(found) = looked_up(kind, name) else { return read(object, name) };
        let of = ffi::Py_TYPE(found.as_ptr());
        if of == &raw mut ffi::PyMemberDescr_Type || of == &raw mut ffi::PyFunction_Type || (*of).tp_descr_get.is_none()
        {
            return read(object, name);
        }
        if (*of).tp_descr_set.is_some() {
            return Value::Unknown;
        }
        // What the object itself has comes before it.
        let own = or_nothing(ffi::PyObject_GenericGetDict(object, null_mut()));
        own.and_then(|own| held(ffi::PyDict_GetItemWithError(own.as_ptr(), name))).map_or(Value::Unknown, Value::Exact)
    }
}

/// The dict of the attributes of an object.
pub fn attributes(object: *mut PyObject) -> Value {
    // SAFETY: operands are alive, and the thread is attached. Without such a dict the instruction fails.
    or_nothing(unsafe { ffi::PyObject_GenericGetDict(object, null_mut()) }).map_or(Value::Plain, Value::Exact)
}

unsafe fn read(object: *mut PyObject, name: *mut PyObject) -> Value {
    // SAFETY: the caller has seen that this runs no Python code. Without the attribute the instruction fails.
    or_nothing(unsafe { ffi::PyObject_GetAttr(object, name) }).map_or(Value::Plain, Value::Exact)
}

unsafe fn of_class(class: *mut ffi::PyTypeObject, name: *mut PyObject) -> Value {
    // SAFETY: the class is alive.
    unsafe {
        if looked_up(&raw mut ffi::PyType_Type, name).is_some() {
            return Value::Unknown;
        }
        match looked_up(class, name) {
            Some(found) if (*ffi::Py_TYPE(found.as_ptr())).tp_descr_get.is_none() => Value::Exact(found),
            _ => Value::Unknown,
        }
    }
}

/// What a class or one of its bases has under a name.
unsafe fn looked_up(class: *mut ffi::PyTypeObject, name: *mut PyObject) -> Option<Held> {
    // SAFETY: the class is alive, and with it its bases.
    unsafe {
        let bases = (*class).tp_mro;
        if bases.is_null() {
            return None;
        }
        for idx in 0..ffi::PyTuple_GET_SIZE(bases) {
            let dict = dict_of(ffi::PyTuple_GET_ITEM(bases, idx).cast());
            if dict.is_none() {
                continue;
            }
            if let Some(found) = held(ffi::PyDict_GetItemWithError(dict.as_ptr(), name)) {
                return Some(found);
            }
        }
    }
    None
}

#[cfg(Py_3_12)]
unsafe fn dict_of(class: *mut ffi::PyTypeObject) -> Held {
    unsafe extern "C" {
        fn PyType_GetDict(class: *mut ffi::PyTypeObject) -> *mut PyObject;
    }
    // SAFETY: the class is alive; a new reference, or null.
    Held(unsafe { PyType_GetDict(class) })
}

#[cfg(not(Py_3_12))]
unsafe fn dict_of(class: *mut ffi::PyTypeObject) -> Held {
    // SAFETY: the class is alive, and so is its dict.
    held(unsafe { (*class).tp_dict }).unwrap_or_else(Held::none)
}

/// An item of a built-in container, if reading it runs no Python code.
///
/// # Safety
/// Both are alive, and the thread is attached.
pub unsafe fn item(container: *mut PyObject, key: Option<*mut PyObject>) -> Value {
    // SAFETY: the caller's promise; hashing and comparing values of these types is their own.
    unsafe {
        let kind = ffi::Py_TYPE(container);
        if kind == &raw mut ffi::PyUnicode_Type || kind == &raw mut ffi::PyBytes_Type {
            return Value::Plain;
        }
        let Some(key) = key else { return Value::Unknown };
        let of = ffi::Py_TYPE(key);
        if kind == &raw mut ffi::PyDict_Type && (of == &raw mut ffi::PyUnicode_Type || of == &raw mut ffi::PyLong_Type)
        {
            return held(ffi::PyDict_GetItemWithError(container, key)).map_or(Value::Plain, Value::Exact);
        }
        let is_sequence = kind == &raw mut ffi::PyList_Type || kind == &raw mut ffi::PyTuple_Type;
        if is_sequence && of == &raw mut ffi::PySlice_Type {
            return Value::Plain;
        }
        if is_sequence && of == &raw mut ffi::PyLong_Type {
            let idx = ffi::PyLong_AsSsize_t(key);
            ffi::PyErr_Clear();
            return at(container, idx);
        }
    }
    Value::Unknown
}

/// An item of a built-in sequence by its index, which may count from the end.
///
/// # Safety
/// The sequence is alive and of a built-in type, and the thread is attached.
pub unsafe fn at(sequence: *mut PyObject, idx: isize) -> Value {
    // SAFETY: the caller's promise. Without such an item the instruction fails.
    or_nothing(unsafe { ffi::PySequence_GetItem(sequence, idx) }).map_or(Value::Plain, Value::Exact)
}
