//! The methods of `ThreadSafeList` that call functions of the user. No lock is held while they run.

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyList, PyString};

use crate::raw::list;

/// How often a list that others change meanwhile is sorted before it is given up.
const SORTS_MAX: usize = 4;

fn index(idx: &Bound<'_, PyAny>) -> PyResult<isize> {
    let idx = idx.py().import("operator")?.call_method1("index", (idx,))?;
    // A number that no list is long enough for is out of range as any other.
    idx.extract().map_err(|_| out_of_range())
}

fn out_of_range() -> PyErr {
    PyIndexError::new_err("list index out of range")
}

pub fn copy<'py>(of: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
    let same = list::empty(of.py())?;
    list::extend(&same, list::snapshot_of(of)?.as_any())?;
    Ok(same)
}

pub fn append_if(to: &Bound<'_, PyList>, value: &Bound<'_, PyAny>, predicate: &Bound<'_, PyAny>) -> PyResult<bool> {
    loop {
        let seen = list::snapshot_of(to)?;
        // What the predicate gets is its own: it may change it.
        let shown = list::snapshot_of(&seen)?;
        if !predicate.call1((shown,))?.is_truthy()? {
            return Ok(false);
        }
        if list::append_if_same(to, &seen, value)? {
            return Ok(true);
        }
    }
}

pub fn update_at<'py>(
    of: &Bound<'py, PyList>,
    idx: &Bound<'py, PyAny>,
    function: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let idx = index(idx)?;
    loop {
        let item = list::item(of, idx).ok_or_else(out_of_range)?;
        let new = function.call1((&item,))?;
        if list::replace_if(of, idx, &item, &new) {
            return Ok(new);
        }
    }
}

pub fn swap(of: &Bound<'_, PyList>, left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> PyResult<()> {
    if list::swap(of, index(left)?, index(right)?) { Ok(()) } else { Err(out_of_range()) }
}

pub fn remove(from: &Bound<'_, PyList>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    'again: loop {
        for (place, item) in list::snapshot_of(from)?.iter().enumerate() {
            if item.is(value) || item.eq(value)? {
                if list::remove_if(from, place, &item) {
                    return Ok(());
                }
                continue 'again;
            }
        }
        return Err(PyValueError::new_err("list.remove(x): x not in list"));
    }
}

/// Can these be compared without running Python code?
fn are_quiet(items: &Bound<'_, PyList>) -> bool {
    items.iter().all(|item| {
        item.is_exact_instance_of::<PyString>()
            || item.is_exact_instance_of::<PyInt>()
            || item.is_exact_instance_of::<PyFloat>()
            || item.is_exact_instance_of::<PyBytes>()
    })
}

pub fn sort(of: &Bound<'_, PyList>, has_key: bool, sort: &dyn Fn(&Bound<'_, PyList>) -> PyResult<()>) -> PyResult<()> {
    if !has_key && list::sort_quietly(of, sort, are_quiet)? {
        return Ok(());
    }
    for _ in 0..SORTS_MAX {
        let seen = list::snapshot_of(of)?;
        let ordered = list::snapshot_of(&seen)?;
        sort(&ordered)?;
        if list::reorder_if_same(of, &seen, &ordered) {
            return Ok(());
        }
    }
    Err(PyValueError::new_err("list modified during sort"))
}
