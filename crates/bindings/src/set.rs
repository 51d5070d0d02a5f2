//! The methods of `ThreadSafeSet` that call functions of the user. No lock is held while they run.

use pyo3::prelude::*;
use pyo3::types::{PyList, PySet};

use crate::flights::{self, Take};
use crate::raw::set::{pop, snapshot_of};

/// CPython does not say whether `set.add` has added. So who adds takes the turn for this element, and the others wait.
pub fn add_if_absent<'py>(set: &Bound<'py, PySet>, value: &Bound<'py, PyAny>) -> PyResult<bool> {
    while !set.contains(value)? {
        if let Take::Mine(_turn) = flights::take(set, value)? {
            let is_absent = !set.contains(value)?;
            if is_absent {
                set.add(value)?;
            }
            return Ok(is_absent);
        }
    }
    Ok(false)
}

pub fn discard_if<'py>(set: &Bound<'py, PySet>, predicate: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let removed = PyList::empty(set.py());
    for value in snapshot_of(set)?.iter() {
        if predicate.call1((&value,))?.is_truthy()? && set.discard(&value)? {
            removed.append(value)?;
        }
    }
    Ok(removed)
}

pub fn drain<'py>(set: &Bound<'py, PySet>) -> PyResult<Bound<'py, PyList>> {
    let taken = PyList::empty(set.py());
    for _ in 0..set.len() {
        match pop(set) {
            Some(value) => taken.append(value)?,
            None => break,
        }
    }
    Ok(taken)
}
