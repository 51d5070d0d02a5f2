//! `ThreadSafeDict`: a `dict` to CPython, with the slots and methods that a `dict` lacks under threads.
//!
//! What is inherited (`d[k]`, `d[k] = v`, `del`, `in`, `len`, `pop`, `clear`) is as fast and as atomic as in `dict`.
//! Overridden is what would see a half-changed dict (iteration, views, `copy`, `|`, `repr`), what takes a lock for
//! nothing (`get`, `setdefault`), and what is not one step (`update` from an iterable). Added are updates that read,
//! decide and write in one step; `crate::dict` has those that call for no speed.

mod doc;

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi::{self, Py_ssize_t, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};

use super::call::{self, Given, finish, is_count_right};
use super::dict_table::{Slot, with_slot};
use super::held::Held;
use super::native_type::{NativeType, slot};
use super::{dict_table, refcount, section};
use crate::dict;

/// The type, once it is made.
static OURS: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());

/// Is it a `ThreadSafeDict`, or of a subclass?
pub fn is_ours(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive, and methods run after the type was made.
    unsafe { ffi::PyObject_TypeCheck(object.as_ptr(), OURS.load(Ordering::Relaxed)) != 0 }
}

/// Is it one of ours that is also read in our way? A subclass may say otherwise by an `__iter__` of its own.
pub fn is_read_by_us(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive, and so is its type.
    let own = unsafe { (*ffi::Py_TYPE(object.as_ptr())).tp_iter };
    is_ours(object) && own.is_some_and(|own| own as usize == iterate as *const () as usize)
}

#[cfg(Py_3_13)]
unsafe extern "C" {
    fn PyDict_SetDefaultRef(
        dict: *mut PyObject,
        key: *mut PyObject,
        value: *mut PyObject,
        result: *mut *mut PyObject,
    ) -> c_int;
}

/// Stores `value` unless there is one already: 0 stored, 1 there was one, -1 exception. `result` gets what is there.
#[cfg(not(Py_3_13))]
#[allow(non_snake_case)]
unsafe fn PyDict_SetDefaultRef(
    dict: *mut PyObject,
    key: *mut PyObject,
    value: *mut PyObject,
    result: *mut *mut PyObject,
) -> c_int {
    // SAFETY: the caller's promise. There is a GIL, and between the two calls the only code that can run is `__eq__`.
    unsafe {
        let found = ffi::compat::PyDict_GetItemRef(dict, key, result);
        if found != 0 || ffi::PyDict_SetItem(dict, key, value) < 0 {
            return if found > 0 { 1 } else { -1 };
        }
        *result = value;
        refcount::incref(value);
        0
    }
}

/// The hash of a key, or -1 with an exception.
#[inline(always)]
unsafe fn hash_of(key: *mut PyObject) -> isize {
    // SAFETY: the caller's promise: the key is alive. A `str` keeps its hash.
    unsafe {
        if ffi::Py_TYPE(key) == &raw mut ffi::PyUnicode_Type {
            let hash = (*key.cast::<ffi::PyASCIIObject>()).hash;
            if hash != -1 {
                return hash;
            }
        }
        ffi::PyObject_Hash(key)
    }
}

unsafe fn is_int(object: *mut PyObject) -> bool {
    // SAFETY: the caller's promise: the object is alive.
    unsafe { ffi::Py_TYPE(object) == &raw mut ffi::PyLong_Type }
}

/// Puts `new` at `key` if `expected` still stands there: true if it was put, false if not, `Err` with an exception.
#[inline(always)]
unsafe fn replace(
    dict: *mut PyObject,
    key: *mut PyObject,
    hash: isize,
    expected: *mut PyObject,
    new: *mut PyObject,
) -> Result<bool, ()> {
    // SAFETY: the caller's promise; the dict's reference to `expected` is given back after the section.
    unsafe {
        let put = with_slot(dict, key, hash, |slot: Slot<'_>| {
            let is_expected = slot.get() == expected;
            if is_expected {
                refcount::incref(new);
                slot.put(new);
            }
            is_expected
        })?;
        if put == Some(true) {
            refcount::decref(expected);
        }
        Ok(put == Some(true))
    }
}

/// `dict[key] = compute(dict[key])` where no update in between is lost: the new value, or null with an exception.
/// `compute` runs outside every lock, with `default` where the key is absent (null: `KeyError`), and again whenever
/// another value has come meanwhile.
#[inline(always)]
unsafe fn update_slot(
    this: *mut PyObject,
    key: *mut PyObject,
    hash: isize,
    default: *mut PyObject,
    mut compute: impl FnMut(*mut PyObject) -> *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the caller's promise: all are alive, this thread is attached, and no lock is held.
    unsafe {
        loop {
            let mut value = Held::none();
            if ffi::compat::PyDict_GetItemRef(this, key, value.out()) < 0 {
                return null_mut();
            }
            let before = if value.is_none() { default } else { value.0 };
            if before.is_null() {
                ffi::PyErr_SetObject(ffi::PyExc_KeyError, key);
                return null_mut();
            }
            let after = Held(compute(before));
            if after.is_none() {
                return null_mut();
            }
            let done = if value.is_none() {
                let mut there = Held::none();
                match PyDict_SetDefaultRef(this, key, after.0, there.out()) {
                    ..0 => return null_mut(),
                    found => found == 0,
                }
            } else {
                match replace(this, key, hash, value.0, after.0) {
                    Ok(done) => done,
                    Err(()) => return null_mut(),
                }
            };
            if done {
                return after.into_ptr();
            }
        }
    }
}

/// What came of an attempt to add in one step.
enum Added {
    /// The value before, and the new one, each with a reference for the caller.
    Done(*mut PyObject, *mut PyObject),
    /// The value is no `int`.
    NoInt,
    Failed,
}

/// Adds in one step if key, value and `n` allow it: the new value, or null with or without an exception.
#[inline(always)]
unsafe fn add_int(dict: *mut PyObject, key: *mut PyObject, hash: isize, n: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller's promise; adding two `int` runs no Python code, and the old one is given back outside.
    unsafe {
        let added = with_slot(dict, key, hash, |slot: Slot<'_>| {
            let before = slot.get();
            if !is_int(before) {
                return Added::NoInt;
            }
            let after = ffi::PyNumber_Add(before, n);
            if after.is_null() {
                return Added::Failed;
            }
            refcount::incref(after);
            slot.put(after);
            Added::Done(before, after)
        });
        match added {
            Ok(Some(Added::Done(before, after))) => {
                refcount::decref(before);
                after
            }
            _ => null_mut(),
        }
    }
}

slot! {
    fn get(this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if !is_count_right(c"get", n, 1, 2) {
            return null_mut();
        }
        let mut value = null_mut();
        // Unlike `dict.get`, this takes no lock to find a value.
        if ffi::compat::PyDict_GetItemRef(this, *args, &mut value) != 0 {
            return value;
        }
        let default = if n == 2 { *args.add(1) } else { ffi::Py_None() };
        refcount::incref(default);
        default
    } else null_mut()

    fn setdefault(this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if !is_count_right(c"setdefault", n, 1, 2) {
            return null_mut();
        }
        let mut value = null_mut();
        // Looking first takes no lock, but hashes twice, which is not for hash functions written in Python.
        let is_looked_up = ffi::PyType_HasFeature(ffi::Py_TYPE(*args), ffi::Py_TPFLAGS_HEAPTYPE) == 0;
        if is_looked_up && ffi::compat::PyDict_GetItemRef(this, *args, &mut value) != 0 {
            return value;
        }
        let default = if n == 2 { *args.add(1) } else { ffi::Py_None() };
        PyDict_SetDefaultRef(this, *args, default, &mut value);
        value
    } else null_mut()

    fn iterate(this: *mut PyObject) -> *mut PyObject {
        let keys = Held(ffi::PyDict_Keys(this));
        if keys.is_none() { null_mut() } else { ffi::PyObject_GetIter(keys.0) }
    } else null_mut()

    fn reversed(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        let keys = Held(ffi::PyDict_Keys(this));
        if keys.is_none() || ffi::PyList_Reverse(keys.0) < 0 {
            return null_mut();
        }
        ffi::PyObject_GetIter(keys.0)
    } else null_mut()

    fn keys(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        ffi::PyDict_Keys(this)
    } else null_mut()

    fn values(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        ffi::PyDict_Values(this)
    } else null_mut()

    fn items(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        section::locked(this, || list_of_items(this)).into_ptr()
    } else null_mut()

    fn update_with(this: *mut PyObject, args: *const *mut PyObject, n: Py_ssize_t, names: *mut PyObject) -> *mut PyObject {
        let given = Given::new(args, n, names);
        if !is_count_right(c"update_with", n, 2, 3) {
            return null_mut();
        }
        let Ok(default) = given.only_named(c"default", 2) else { return null_mut() };
        let (key, function) = (given.positional[0], given.positional[1]);
        let hash = hash_of(key);
        if hash == -1 {
            return null_mut();
        }
        update_slot(this, key, hash, default, |before| ffi::PyObject_CallOneArg(function, before))
    } else null_mut()

    fn add(this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if !is_count_right(c"add", n, 1, 2) {
            return null_mut();
        }
        let one = if n == 1 { Held(ffi::PyLong_FromLong(1)) } else { Held::none() };
        add_to(this, *args, if n == 1 { one.0 } else { *args.add(1) })
    } else null_mut()
}

/// The pairs of a dict whose section is held, or none with an exception. `PyDict_Items` does the same in two passes, and
/// meets tuples that have left the processor's cache in the second.
unsafe fn list_of_items(dict: *mut PyObject) -> Held {
    // SAFETY: the caller's promise; a new list has no items yet, and each of its places is filled once.
    unsafe {
        let items = Held(ffi::PyList_New(ffi::PyDict_Size(dict)));
        let (mut at, mut place, mut key, mut value) = (0, 0, null_mut(), null_mut());
        while !items.is_none() && ffi::PyDict_Next(dict, &mut at, &mut key, &mut value) != 0 {
            let pair = ffi::PyTuple_New(2);
            if pair.is_null() {
                return Held::none();
            }
            refcount::incref(key);
            refcount::incref(value);
            ffi::PyTuple_SET_ITEM(pair, 0, key);
            ffi::PyTuple_SET_ITEM(pair, 1, value);
            ffi::PyList_SET_ITEM(items.0, place, pair);
            place += 1;
        }
        items
    }
}

/// `dict[key] += n` in one step, from 0 where the key is absent: the new value, or null with an exception.
unsafe fn add_to(this: *mut PyObject, key: *mut PyObject, n: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller's promise: all are alive, this thread is attached, and no lock is held.
    unsafe {
        let hash = hash_of(key);
        if hash == -1 {
            return null_mut();
        }
        if is_int(n) {
            let after = add_int(this, key, hash, n);
            if !after.is_null() || !ffi::PyErr_Occurred().is_null() {
                return after;
            }
        }
        let zero = Held(ffi::PyLong_FromLong(0));
        update_slot(this, key, hash, zero.0, |before| ffi::PyNumber_Add(before, n))
    }
}

/// The safe face: see [`add_to`].
pub fn add_n<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyAny>,
    n: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: all are alive; the result is a new reference, or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(dict.py(), add_to(dict.as_ptr(), key.as_ptr(), n.as_ptr())) }
}

/// Puts `new` at `key` if the object `expected` still stands there.
pub fn replace_if(
    dict: &Bound<'_, PyDict>,
    key: &Bound<'_, PyAny>,
    expected: &Bound<'_, PyAny>,
    new: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let hash = key.hash()?;
    // SAFETY: all are alive, and no lock is held.
    unsafe { replace(dict.as_ptr(), key.as_ptr(), hash, expected.as_ptr(), new.as_ptr()) }
        .map_err(|()| PyErr::fetch(dict.py()))
}

/// Stores `value` unless there is one, and returns what stands there then.
pub fn set_default<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut there = null_mut();
    // SAFETY: all are alive; `there` is a new reference unless an exception is set.
    unsafe {
        PyDict_SetDefaultRef(dict.as_ptr(), key.as_ptr(), value.as_ptr(), &mut there);
        Bound::from_owned_ptr_or_err(dict.py(), there)
    }
}

/// Removes `key` if the object `expected` still stands there.
pub fn remove_if(dict: &Bound<'_, PyDict>, key: &Bound<'_, PyAny>, expected: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: all are alive, and no lock is held.
    match unsafe { delete::delete_if(dict.as_ptr(), key.as_ptr(), expected.as_ptr()) } {
        ..0 => Err(PyErr::fetch(dict.py())),
        removed => Ok(removed == 1),
    }
}

/// What a dict held at one moment, in its order.
pub fn pairs<'py>(dict: &Bound<'py, PyDict>) -> Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = dict.py();
    let mut pairs = Vec::with_capacity(dict.len());
    // SAFETY: the body only takes references; a pair that was found is alive while the section is held.
    unsafe {
        section::locked(dict.as_ptr(), || {
            let (mut at, mut key, mut value) = (0, null_mut(), null_mut());
            while ffi::PyDict_Next(dict.as_ptr(), &mut at, &mut key, &mut value) != 0 {
                pairs.push((Bound::from_borrowed_ptr(py, key), Bound::from_borrowed_ptr(py, value)));
            }
        });
    }
    pairs
}

/// An empty `ThreadSafeDict`. As with `dict`, what a method makes is not of a subclass, whose constructor is unknown.
pub fn empty<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: the type is alive for good.
    let made =
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyObject_CallNoArgs(OURS.load(Ordering::Relaxed).cast()))? };
    Ok(made.cast_into::<PyDict>()?)
}

mod delete {
    //! Removing a key on a condition. CPython 3.13 has a function for it that is not in the documentation.

    use std::ffi::{c_int, c_void};
    use std::sync::OnceLock;

    use pyo3::ffi::{self, PyObject};

    use crate::raw::{held::Held, section};

    type Predicate = unsafe extern "C" fn(*mut PyObject, *mut c_void) -> c_int;
    type DeleteIf = unsafe extern "C" fn(*mut PyObject, *mut PyObject, Predicate, *mut c_void) -> c_int;

    unsafe extern "C" fn is_expected(value: *mut PyObject, expected: *mut c_void) -> c_int {
        c_int::from(value.cast::<c_void>() == expected)
    }

    fn delete_if_of_cpython() -> Option<DeleteIf> {
        static FOUND: OnceLock<Option<DeleteIf>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            if !cfg!(Py_3_13) {
                return None;
            }
            let found = crate::raw::symbol::find(c"_PyDict_DelItemIf")?;
            // SAFETY: this is its type from 3.13 on.
            Some(unsafe { std::mem::transmute::<*mut c_void, DeleteIf>(found) })
        })
    }

    /// 1 removed, 0 not, -1 exception.
    pub unsafe fn delete_if(dict: *mut PyObject, key: *mut PyObject, expected: *mut PyObject) -> c_int {
        if let Some(delete_if) = delete_if_of_cpython() {
            // SAFETY: the caller's promise; the predicate only compares addresses.
            return unsafe { delete_if(dict, key, is_expected, expected.cast()) };
        }
        // SAFETY: the caller's promise. With a GIL, and from 3.14 on, the inner functions leave the section held.
        unsafe {
            section::locked(dict, || {
                let mut there = Held::none();
                let found = ffi::compat::PyDict_GetItemRef(dict, key, there.out());
                if found <= 0 || there.0 != expected {
                    return found.min(0);
                }
                if ffi::PyDict_DelItem(dict, key) < 0 { -1 } else { 1 }
            })
        }
    }
}

slot! {
    fn get_or_create(this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if !is_count_right(c"get_or_create", n, 2, 2) {
            return null_mut();
        }
        let mut value = null_mut();
        if ffi::compat::PyDict_GetItemRef(this, *args, &mut value) != 0 {
            return value;
        }
        let (key, factory) = (*args, *args.add(1));
        finish(|py| dict::create(&own(py, this), &call::borrowed(py, key), &call::borrowed(py, factory)))
    } else null_mut()

    fn compare_and_set(this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if !is_count_right(c"compare_and_set", n, 3, 3) {
            return null_mut();
        }
        finish(|py| {
            let [key, expected, new] = [0, 1, 2].map(|idx| call::borrowed(py, *args.add(idx)));
            let done = dict::compare_and_set(&own(py, this), &key, &expected, &new)?;
            Ok(PyBool::new(py, done).to_owned().into_any())
        })
    } else null_mut()

    fn pop_if(this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if !is_count_right(c"pop_if", n, 2, 3) {
            return null_mut();
        }
        finish(|py| {
            let default = call::borrowed(py, if n == 3 { *args.add(2) } else { ffi::Py_None() });
            dict::pop_if(&own(py, this), &call::borrowed(py, *args), &call::borrowed(py, *args.add(1)), &default)
        })
    } else null_mut()

    fn add_many(this: *mut PyObject, keys: *mut PyObject) -> *mut PyObject {
        finish(|py| {
            dict::add_many(&own(py, this), &call::borrowed(py, keys))?;
            Ok(py.None().into_bound(py))
        })
    } else null_mut()

    fn snapshot(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        finish(|py| Ok(dict::snapshot(&own(py, this))?.into_any()))
    } else null_mut()

    fn copy(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        finish(|py| Ok(dict::copy(&own(py, this))?.into_any()))
    } else null_mut()

    fn repr(this: *mut PyObject) -> *mut PyObject {
        match ffi::Py_ReprEnter(this) {
            0 => {
                // Nothing of PyO3 is on the stack while the contents are shown: they may be deep.
                let plain = Held(snapshot(this, null_mut()));
                let text = if plain.is_none() { null_mut() } else { ffi::PyObject_Repr(plain.0) };
                ffi::Py_ReprLeave(this);
                text
            }
            1.. => ffi::PyUnicode_FromString(c"{...}".as_ptr()),
            _ => null_mut(),
        }
    } else null_mut()

    fn initialize(this: *mut PyObject, args: *mut PyObject, names: *mut PyObject) -> c_int {
        let done = finish(|py| {
            let args = dict::settled_tuple(&call::borrowed(py, args))?;
            let init = ffi::PyDict_Type.tp_init.expect("dict can be initialized");
            match init(this, args.as_ptr(), names) {
                0 => Ok(py.None().into_bound(py)),
                _ => Err(PyErr::fetch(py)),
            }
        });
        if done.is_null() { -1 } else { 0 }
    } else -1

    fn update(this: *mut PyObject, args: *const *mut PyObject, n: Py_ssize_t, names: *mut PyObject) -> *mut PyObject {
        let given = Given::new(args, n, names);
        finish(|py| {
            let source = if let ([one], []) = (given.positional, given.named) {
                call::borrowed(py, *one).to_owned()
            } else {
                let kind = (&raw mut ffi::PyDict_Type).cast();
                let made = ffi::PyObject_Vectorcall(kind, args, n as usize, names);
                Bound::from_owned_ptr_or_err(py, made)?
            };
            dict::update(&own(py, this), &source)?;
            Ok(py.None().into_bound(py))
        })
    } else null_mut()

    fn either(left: *mut PyObject, right: *mut PyObject) -> *mut PyObject {
        finish(|py| dict::either(&call::borrowed(py, left), &call::borrowed(py, right)))
    } else null_mut()

    fn update_in_place(this: *mut PyObject, other: *mut PyObject) -> *mut PyObject {
        finish(|py| {
            dict::update(&own(py, this), &call::borrowed(py, other))?;
            Ok(own(py, this).to_owned().into_any())
        })
    } else null_mut()
}

/// The dict that a method was called on.
unsafe fn own<'a, 'py>(py: Python<'py>, this: *mut PyObject) -> Borrowed<'a, 'py, PyDict> {
    // SAFETY: CPython calls the methods of a type with instances of it only, and they live until the method returns.
    unsafe { Borrowed::from_ptr(py, this).cast_unchecked() }
}

/// Has updates of a `ThreadSafeDict` walk the table of the dict if its layout is known, or not; says whether they do now.
/// For tests: it is chosen when the module is imported.
#[pyfunction]
#[pyo3(signature = (wanted, /))]
fn walk_dict_tables(py: Python<'_>, wanted: bool) -> PyResult<bool> {
    dict_table::walk_tables(py, wanted)
}

/// Makes the type.
pub fn add_type(module: &Bound<'_, PyModule>) -> PyResult<()> {
    dict_table::check_layout(module.py())?;
    module.add_function(wrap_pyfunction!(walk_dict_tables, module)?)?;
    let base = module.py().get_type::<PyDict>();
    let made = methods(NativeType::new::<()>(c"raceproof.ThreadSafeDict", doc::TYPE))
        .flags(ffi::Py_TPFLAGS_BASETYPE | WEAK_REFERENCES)
        .slot(ffi::Py_tp_iter, iterate as *mut c_void)
        .slot(ffi::Py_tp_repr, repr as *mut c_void)
        .slot(ffi::Py_tp_init, initialize as *mut c_void)
        .slot(ffi::Py_nb_or, either as *mut c_void)
        .slot(ffi::Py_nb_inplace_or, update_in_place as *mut c_void)
        .build(module, Some(&base))?;
    OURS.store(made.as_ptr().cast(), Ordering::Relaxed);
    Ok(())
}

/// Before 3.12 a type could only have weak references if it grew by a word; there these have none.
pub const WEAK_REFERENCES: std::ffi::c_ulong = if cfg!(Py_3_12) { 1 << 3 } else { 0 };

fn methods(new: NativeType) -> NativeType {
    new.arguments(c"get", get, doc::GET)
        .arguments(c"setdefault", setdefault, doc::SETDEFAULT)
        .no_arguments(c"keys", keys, doc::KEYS)
        .no_arguments(c"values", values, doc::VALUES)
        .no_arguments(c"items", items, doc::ITEMS)
        .no_arguments(c"__reversed__", reversed, doc::REVERSED)
        .no_arguments(c"copy", copy, doc::COPY)
        .no_arguments(c"snapshot", snapshot, doc::SNAPSHOT)
        .keywords(c"update", update, doc::UPDATE)
        .arguments(c"get_or_create", get_or_create, doc::GET_OR_CREATE)
        .keywords(c"update_with", update_with, doc::UPDATE_WITH)
        .arguments(c"compare_and_set", compare_and_set, doc::COMPARE_AND_SET)
        .arguments(c"pop_if", pop_if, doc::POP_IF)
        .arguments(c"add", add, doc::ADD)
        .one_argument(c"add_many", add_many, doc::ADD_MANY)
}
