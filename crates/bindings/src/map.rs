//! The calls on maps that no hot loop makes, and the iterators and views.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

use primitives::raw::table::Cursor;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::flights::{self, Take};
use crate::raw::map::{AnyMap, add_types, register_stops, set_types};
use crate::raw::sharing;

mod views;

use views::{MapItems, MapKeys, MapValues};

type Answer<'py> = PyResult<Bound<'py, PyAny>>;

/// Adds the types, and says which abstract classes they are.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let types = add_types(module)?;
    set_types(&types);
    let abstract_classes = py.import("collections.abc")?;
    for class in &types {
        abstract_classes.getattr("MutableMapping")?.call_method1("register", (class,))?;
    }
    for (class, abstract_class) in [
        (py.get_type::<MapKeys>(), "KeysView"),
        (py.get_type::<MapValues>(), "ValuesView"),
        (py.get_type::<MapItems>(), "ItemsView"),
        (py.get_type::<MapIterator>(), "Iterator"),
    ] {
        abstract_classes.getattr(abstract_class)?.call_method1("register", (&class,))?;
        sharing::pin_class(&class);
    }
    register_stops(py)
}

fn map<'py>(this: &Bound<'py, PyAny>) -> PyResult<AnyMap<'py>> {
    AnyMap::of(this).ok_or_else(|| PyTypeError::new_err("this is no map"))
}

fn expect_arguments(name: &str, arguments: &[Bound<'_, PyAny>], most: usize) -> PyResult<()> {
    if arguments.len() <= most {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("{name}() takes at most {most} arguments, {} were given", arguments.len())))
}

fn none(py: Python<'_>) -> Answer<'_> {
    Ok(py.None().into_bound(py))
}

/// What the constructor does after the map was made.
pub fn fill(this: &Bound<'_, PyAny>, source: Option<&Bound<'_, PyAny>>, is_shared: bool) -> PyResult<()> {
    if let Some(source) = source {
        put_all(&map(this)?, source)?;
    }
    if is_shared {
        sharing::try_share(this.get_type().as_any());
        sharing::try_share(this);
    }
    Ok(())
}

/// Puts all pairs of a source into a map, or counts its keys.
fn put_all<'py>(map: &AnyMap<'py>, source: &Bound<'py, PyAny>) -> PyResult<()> {
    let put = |key: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>| {
        if map.is_counter() { map.add(key, value) } else { map.set(key, value) }
    };
    if let Some(other) = AnyMap::of(source) {
        let mut cursor = Cursor::default();
        while let Some((key, value)) = other.next(&mut cursor)? {
            put(&key, &value)?;
        }
    } else if let Ok(dict) = source.cast_exact::<PyDict>() {
        for pair in dict.items() {
            let (key, value) = pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            put(&key, &value)?;
        }
    } else if source.hasattr("keys")? {
        for key in source.call_method0("keys")?.try_iter()? {
            let key = key?;
            put(&key, &source.get_item(&key)?)?;
        }
    } else if map.is_counter() {
        map.add_many(source)?;
    } else {
        for (idx, pair) in source.try_iter()?.enumerate() {
            let (key, value) = pair_of(&pair?, idx)?;
            put(&key, &value)?;
        }
    }
    Ok(())
}

fn pair_of<'py>(pair: &Bound<'py, PyAny>, idx: usize) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let Ok(parts) = pair.try_iter() else {
        return Err(PyTypeError::new_err(format!("element {idx} of the source is not a pair of key and value")));
    };
    match &parts.collect::<PyResult<Vec<_>>>()?[..] {
        [key, value] => Ok((key.clone(), value.clone())),
        parts => Err(PyValueError::new_err(format!(
            "element {idx} of the source has length {}; a pair of key and value has 2",
            parts.len()
        ))),
    }
}

pub fn update<'py>(
    this: &Bound<'py, PyAny>,
    positional: &[Bound<'py, PyAny>],
    names: Option<&Bound<'py, PyTuple>>,
    named: &[Bound<'py, PyAny>],
) -> Answer<'py> {
    expect_arguments("update", positional, 1)?;
    let map = map(this)?;
    if let Some(source) = positional.first() {
        put_all(&map, source)?;
    }
    for (name, value) in names.into_iter().flatten().zip(named) {
        if map.is_counter() { map.add(&name, value)? } else { map.set(&name, value)? }
    }
    none(this.py())
}

fn dict_of<'py>(map: &AnyMap<'py>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(map.object().py());
    let mut cursor = Cursor::default();
    while let Some((key, value)) = map.next(&mut cursor)? {
        dict.set_item(key, value)?;
    }
    Ok(dict)
}

pub fn snapshot<'py>(this: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> Answer<'py> {
    expect_arguments("snapshot", arguments, 0)?;
    Ok(dict_of(&map(this)?)?.into_any())
}

pub fn represent<'py>(this: &Bound<'py, PyAny>, _: &[Bound<'py, PyAny>]) -> Answer<'py> {
    let map = map(this)?;
    let (mut text, mut cursor) = (String::from("{"), Cursor::default());
    while let Some((key, value)) = map.next(&mut cursor)? {
        if text.len() > 1 {
            text.push_str(", ");
        }
        text.push_str(&key.repr()?.to_string_lossy());
        text.push_str(": ");
        text.push_str(&value.repr()?.to_string_lossy());
    }
    text.push('}');
    Ok(PyString::new(this.py(), &text).into_any())
}

/// As `dict`: equal to a mapping with the same keys and equal values.
pub fn compare<'py>(this: &Bound<'py, PyAny>, other: &Bound<'py, PyAny>, operator: c_int) -> Answer<'py> {
    let py = this.py();
    let not_implemented = || Ok(py.NotImplemented().into_bound(py));
    if operator != ffi::Py_EQ && operator != ffi::Py_NE {
        return not_implemented();
    }
    let other = match AnyMap::of(other) {
        Some(other) => dict_of(&other)?,
        None => match other.cast::<PyDict>() {
            Ok(dict) => dict.clone(),
            Err(_) if !is_mapping(other)? => return not_implemented(),
            Err(_) => py.get_type::<PyDict>().call1((other.call_method0("items")?,))?.cast_into()?,
        },
    };
    dict_of(&map(this)?)?.rich_compare(
        other,
        if operator == ffi::Py_EQ { pyo3::basic::CompareOp::Eq } else { pyo3::basic::CompareOp::Ne },
    )
}

fn is_mapping(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    object.is_instance(&object.py().import("collections.abc")?.getattr("Mapping")?)
}

/// An empty map like this one.
fn empty_like<'py>(map: &AnyMap<'py>) -> PyResult<AnyMap<'py>> {
    AnyMap::new(&map.object().get_type(), map.n_shards())
}

pub fn copy<'py>(this: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> Answer<'py> {
    expect_arguments("copy", arguments, 0)?;
    let map = map(this)?;
    let copy = empty_like(&map)?;
    put_all(&copy, this)?;
    if let Ok(state) = this.getattr("__dict__") {
        copy.object().getattr("__dict__")?.call_method1("update", (state,))?;
    }
    Ok(copy.object().clone())
}

/// An empty map, its attributes, and its pairs apart from it, so that a map may hold itself.
pub fn reduce<'py>(this: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> Answer<'py> {
    expect_arguments("__reduce__", arguments, 0)?;
    let py = this.py();
    let state = match this.getattr("__dict__") {
        Ok(state) if state.len()? > 0 => state,
        _ => none(py)?,
    };
    let pairs = dict_of(&map(this)?)?.items();
    let pairs = PyIterator::from_object(&pairs)?;
    Ok((this.get_type(), (), state, py.None(), pairs).into_pyobject(py)?.into_any())
}

pub fn class_getitem<'py>(class: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> Answer<'py> {
    let alias = class.py().import("types")?.getattr("GenericAlias")?;
    alias.call1((class, PyTuple::new(class.py(), arguments)?.get_item(0)?))
}

pub fn from_keys<'py>(class: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> Answer<'py> {
    expect_arguments("fromkeys", arguments, 2)?;
    let [keys, rest @ ..] = arguments else { return Err(PyTypeError::new_err("fromkeys() needs keys")) };
    let made = class.call0()?;
    let value = match rest.first() {
        Some(value) => value.clone(),
        None if AnyMap::of(&made).is_some_and(|map| map.is_counter()) => 0_i64.into_pyobject(class.py())?.into_any(),
        None => none(class.py())?,
    };
    for key in keys.try_iter()? {
        made.set_item(key?, &value)?;
    }
    Ok(made)
}

/// `map | other`, and `other | map`.
pub fn merge<'py>(left: &Bound<'py, PyAny>, right: &Bound<'py, PyAny>) -> Answer<'py> {
    let py = left.py();
    if !is_mapping(left)? || !is_mapping(right)? {
        return Ok(py.NotImplemented().into_bound(py));
    }
    let like = AnyMap::of(left).or_else(|| AnyMap::of(right));
    let Some(like) = like else { return Ok(py.NotImplemented().into_bound(py)) };
    let merged = empty_like(&like)?;
    put_all(&merged, left)?;
    put_all(&merged, right)?;
    Ok(merged.object().clone())
}

pub fn merge_in_place<'py>(this: &Bound<'py, PyAny>, other: &Bound<'py, PyAny>) -> Answer<'py> {
    put_all(&map(this)?, other)?;
    Ok(this.clone())
}

pub fn get_or_create<'py>(this: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> Answer<'py> {
    let [key, factory] = arguments else {
        return Err(PyTypeError::new_err(format!("get_or_create() takes 2 arguments, {} were given", arguments.len())));
    };
    let map = map(this)?;
    loop {
        if let Some(value) = map.get(key)? {
            return Ok(value);
        }
        let Take::Mine(_turn) = flights::take(this, key)? else { continue };
        // Between the look and the turn another turn may have come and gone.
        if let Some(value) = map.get(key)? {
            return Ok(value);
        }
        let value = factory.call0()?;
        return Ok(map.add_key(key, &value)?.unwrap_or(value));
    }
}

pub fn most_common<'py>(this: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> Answer<'py> {
    expect_arguments("most_common", arguments, 1)?;
    let n: Option<usize> = arguments.first().map(|n| n.extract()).transpose()?.flatten();
    let map = map(this)?;
    let (mut pairs, mut cursor) = (Vec::new(), Cursor::default());
    while let Some((key, count)) = map.next(&mut cursor)? {
        pairs.push((count.extract::<i64>()?, key));
    }
    pairs.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    pairs.truncate(n.unwrap_or(usize::MAX));
    let pairs = pairs.into_iter().map(|(count, key)| (key, count));
    Ok(PyList::new(this.py(), pairs.collect::<Vec<_>>())?.into_any())
}

pub fn total<'py>(this: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> Answer<'py> {
    expect_arguments("total", arguments, 0)?;
    let map = map(this)?;
    let (mut total, mut cursor) = (0_i128, Cursor::default());
    while let Some((_, count)) = map.next(&mut cursor)? {
        total += i128::from(count.extract::<i64>()?);
    }
    Ok(total.into_pyobject(this.py())?.into_any())
}

/// What of an entry is shown.
#[derive(Clone, Copy)]
enum Part {
    Key,
    Value,
    Item,
}

/// A walk over a map, weakly consistent. Threads may share it: then each entry is shown to at least one of them.
#[pyclass(frozen, module = "raceproof")]
struct MapIterator {
    map: Py<PyAny>,
    part: Part,
    cursor: AtomicU64,
}

impl MapIterator {
    fn new(map: &Bound<'_, PyAny>, part: Part) -> Self {
        MapIterator { map: map.clone().unbind(), part, cursor: AtomicU64::new(0) }
    }
}

#[pymethods]
impl MapIterator {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut cursor = Cursor::unpack(self.cursor.load(Ordering::Relaxed));
        let next = map(self.map.bind(py))?.next(&mut cursor)?;
        self.cursor.store(cursor.pack(), Ordering::Relaxed);
        let Some((key, value)) = next else { return Ok(None) };
        Ok(Some(match self.part {
            Part::Key => key,
            Part::Value => value,
            Part::Item => (key, value).into_pyobject(py)?.into_any(),
        }))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.map)
    }
}

pub fn iterate<'py>(this: &Bound<'py, PyAny>, _: &[Bound<'py, PyAny>]) -> Answer<'py> {
    Ok(Bound::new(this.py(), MapIterator::new(this, Part::Key))?.into_any())
}

pub fn keys<'py>(this: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> Answer<'py> {
    expect_arguments("keys", arguments, 0)?;
    MapKeys::of(this)
}

pub fn values<'py>(this: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> Answer<'py> {
    expect_arguments("values", arguments, 0)?;
    MapValues::of(this)
}

pub fn items<'py>(this: &Bound<'py, PyAny>, arguments: &[Bound<'py, PyAny>]) -> Answer<'py> {
    expect_arguments("items", arguments, 0)?;
    MapItems::of(this)
}
