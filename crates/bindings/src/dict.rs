//! The methods of `ThreadSafeDict` that call for no speed. Functions of the user run here, and no lock is held.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};

use crate::flights::{self, Take};
use crate::raw::dict::{add_n, empty, is_read_by_us, pairs, remove_if, replace_if, set_default};

/// The value of a key that is missing, made by one of those who ask.
pub fn create<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyAny>,
    factory: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    loop {
        if let Some(value) = dict.get_item(key)? {
            return Ok(value);
        }
        if let Take::Mine(_turn) = flights::take(dict, key)? {
            // Between the look and the turn another turn may have come and gone.
            return match dict.get_item(key)? {
                Some(value) => Ok(value),
                None => set_default(dict, key, &factory.call0()?),
            };
        }
    }
}

fn are_same(left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(left.is(right) || left.eq(right)?)
}

pub fn compare_and_set<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyAny>,
    expected: &Bound<'py, PyAny>,
    new: &Bound<'py, PyAny>,
) -> PyResult<bool> {
    while let Some(value) = dict.get_item(key)? {
        if !are_same(&value, expected)? {
            return Ok(false);
        }
        if replace_if(dict, key, &value, new)? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub fn pop_if<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyAny>,
    condition: &Bound<'py, PyAny>,
    default: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    while let Some(value) = dict.get_item(key)? {
        let holds = if condition.is_callable() {
            condition.call1((&value,))?.is_truthy()?
        } else {
            are_same(&value, condition)?
        };
        if !holds {
            break;
        }
        if remove_if(dict, key, &value)? {
            return Ok(value);
        }
    }
    Ok(default.clone())
}

/// Counts the keys first: a key that comes often is added once, and an iterable that raises has changed nothing.
pub fn add_many(dict: &Bound<'_, PyDict>, keys: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = dict.py();
    let counts = PyDict::new(py);
    let one = PyInt::new(py, 1).into_any();
    for key in keys.try_iter()? {
        add_n(&counts, &key?, &one)?;
    }
    counts.iter().try_for_each(|(key, count)| add_n(dict, &key, &count).map(drop))
}

fn fill(dict: &Bound<'_, PyDict>, pairs: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)>) -> PyResult<()> {
    pairs.into_iter().try_for_each(|(key, value)| dict.set_item(key, value))
}

pub fn snapshot<'py>(dict: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    let plain = PyDict::new(dict.py());
    fill(&plain, pairs(dict))?;
    Ok(plain)
}

pub fn copy<'py>(dict: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    let same = empty(dict.py())?;
    fill(&same, pairs(dict))?;
    Ok(same)
}

/// A source of pairs that cannot change while it is read: a `ThreadSafeDict` is replaced by what it holds now.
fn settled<'py>(source: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match source.cast::<PyDict>() {
        Ok(dict) if is_read_by_us(source) => Ok(snapshot(dict)?.into_any()),
        _ => Ok(source.clone()),
    }
}

/// The arguments of a constructor, with a settled source.
pub fn settled_tuple<'py>(args: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let settled = args.try_iter()?.map(|source| settled(&source?)).collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(args.py(), settled)
}

/// Stores the pairs of `source` at once.
pub fn update(dict: &Bound<'_, PyDict>, source: &Bound<'_, PyAny>) -> PyResult<()> {
    let source = settled(source)?;
    let pairs = match source.cast_exact::<PyDict>() {
        Ok(pairs) => pairs.clone(),
        Err(_) => dict.py().get_type::<PyDict>().call1((source,))?.cast_into::<PyDict>()?,
    };
    dict.update(pairs.as_mapping())
}

/// `left | right`, where one is a `ThreadSafeDict`; so is the result.
pub fn either<'py>(left: &Bound<'py, PyAny>, right: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (Ok(left), Ok(right)) = (left.cast::<PyDict>(), right.cast::<PyDict>()) else {
        return Ok(left.py().NotImplemented().into_bound(left.py()));
    };
    let both = empty(left.py())?;
    update(&both, left)?;
    update(&both, right)?;
    Ok(both.into_any())
}
