//! The safe face of a map, for the calls that no hot loop makes.

use std::sync::OnceLock;

use primitives::raw::table::Cursor;
use primitives::raw::tally::Tally;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::batch;
use super::key::Raised;
use super::object::{make, map_of};
use super::operations;
use super::value::{Slot, Value};
use crate::raw::held::Held;

/// The addresses of the two types.
static TYPES: OnceLock<[usize; 2]> = OnceLock::new();

/// Notes which types are the maps.
pub fn set_types(types: &[Bound<'_, PyType>; 2]) {
    let _ = TYPES.set(types.each_ref().map(|class| class.as_ptr().addr()));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Objects,
    Counts,
}

/// An object of one of the two types, or of a class below one.
#[derive(Clone)]
pub struct AnyMap<'py> {
    object: Bound<'py, PyAny>,
    kind: Kind,
}

fn is_below(class: &Bound<'_, PyType>, base: usize) -> bool {
    // SAFETY: both are types, and alive.
    unsafe { ffi::PyType_IsSubtype(class.as_type_ptr(), std::ptr::with_exposed_provenance_mut(base)) != 0 }
}

fn kind_of(class: &Bound<'_, PyType>) -> Option<Kind> {
    let [objects, counts] = *TYPES.get()?;
    if is_below(class, objects) { Some(Kind::Objects) } else { is_below(class, counts).then_some(Kind::Counts) }
}

fn bound(py: Python<'_>, object: Held) -> Bound<'_, PyAny> {
    // SAFETY: the reference is ours to give.
    unsafe { Bound::from_owned_ptr(py, object.into_ptr()) }
}

fn raise(py: Python<'_>, _: Raised) -> PyErr {
    PyErr::fetch(py)
}

/// Calls an operation for the kind of the map: `on!(self, operation(arguments))`.
macro_rules! on {
    ($this:expr, $operation:path, $($argument:expr),*) => {{
        let this = $this.object.as_ptr();
        // SAFETY: the map and all arguments are alive, and the thread is attached.
        let done = unsafe {
            match $this.kind {
                Kind::Objects => $operation(map_of::<Slot>(this), $($argument),*),
                Kind::Counts => $operation(map_of::<Tally>(this), $($argument),*),
            }
        };
        done.map_err(|raised| raise($this.object.py(), raised))
    }};
}

impl<'py> AnyMap<'py> {
    /// The object as a map, if it is one.
    pub fn of(object: &Bound<'py, PyAny>) -> Option<Self> {
        Some(AnyMap { object: object.clone(), kind: kind_of(&object.get_type())? })
    }

    /// An empty map of a class, which must be one of the two types or below one, with so many shards.
    pub fn new(class: &Bound<'py, PyType>, n_shards: usize) -> PyResult<Self> {
        let Some(kind) = kind_of(class) else {
            return Err(pyo3::exceptions::PyTypeError::new_err("the class is no map"));
        };
        // SAFETY: the class is what `make` demands.
        let made = unsafe {
            match kind {
                Kind::Objects => make::<Slot>(class.as_type_ptr(), n_shards),
                Kind::Counts => make::<Tally>(class.as_type_ptr(), n_shards),
            }
        };
        let object = made.map_err(|raised| raise(class.py(), raised))?;
        Ok(AnyMap { object: bound(class.py(), object), kind })
    }

    /// The Python object.
    pub fn object(&self) -> &Bound<'py, PyAny> {
        &self.object
    }

    /// Are its values counts?
    pub fn is_counter(&self) -> bool {
        self.kind == Kind::Counts
    }

    /// The number of shards.
    pub fn n_shards(&self) -> usize {
        // SAFETY: the map is alive.
        unsafe {
            match self.kind {
                Kind::Objects => map_of::<Slot>(self.object.as_ptr()).n_shards(),
                Kind::Counts => map_of::<Tally>(self.object.as_ptr()).n_shards(),
            }
        }
    }

    /// The next key and value of a walk.
    pub fn next(&self, cursor: &mut Cursor) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        let py = self.object.py();
        let next = on!(self, operations::next, cursor)?;
        Ok(next.map(|(key, value)| (bound(py, key), bound(py, value))))
    }

    /// The value of a key.
    pub fn get(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = on!(self, operations::lookup, key.as_ptr())?;
        Ok(value.map(|value| bound(self.object.py(), value)))
    }

    /// Sets the value of a key.
    pub fn set(&self, key: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        on!(self, set, key.as_ptr(), value.as_ptr())
    }

    /// Adds a key, unless it is there: then its value is returned.
    pub fn add_key(&self, key: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let stored = on!(self, add_key, key.as_ptr(), value.as_ptr())?;
        Ok(stored.map(|value| bound(self.object.py(), value)))
    }

    /// Adds to the value of a key, which begins at 0.
    pub fn add(&self, key: &Bound<'py, PyAny>, n: &Bound<'py, PyAny>) -> PyResult<()> {
        on!(self, super::object::Kind::add, key.as_ptr(), Some(n.as_ptr())).map(drop)
    }

    /// Adds one for each key that `keys` yields.
    pub fn add_many(&self, keys: &Bound<'py, PyAny>) -> PyResult<()> {
        on!(self, batch::add_many, keys.as_ptr())
    }
}

unsafe fn set<C: Value>(
    map: &operations::Map<C>,
    key: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> Result<(), Raised> {
    // SAFETY: the caller's promise.
    unsafe { operations::store(map, key, C::accept(value)?) }
}

unsafe fn add_key<C: Value>(
    map: &operations::Map<C>,
    key: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> Result<Option<Held>, Raised> {
    // SAFETY: the caller's promise.
    unsafe { operations::add_key(map, key, C::accept(value)?) }
}
