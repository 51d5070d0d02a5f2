//! `ThreadSafeList`: a `list` to CPython, with the slots and methods that a `list` lacks under threads.
//!
//! What is inherited (`append`, `l[i]`, `insert`, slices) is as fast and as atomic as in `list`. Overridden is what would
//! see a list that others change (iteration, `repr`), what is not one step (`extend` from an iterable, `remove`), what
//! makes the list shorter (`list_items` says why), and `sort`, during which a `list` looks empty to other threads.
//! `crate::list` has the methods' logic.

mod doc;

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi::{self, Py_ssize_t, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyList};

use super::call::{self, Given, finish, is_count_right};
use super::dict::WEAK_REFERENCES;
use super::held::Held;
use super::list_items::{append_if_unchanged, items, with_items};
use super::native_type::{NativeType, slot};
use super::refcount;
use crate::list;

const WHOLE: Py_ssize_t = Py_ssize_t::MAX;

/// What the list holds at one moment, as a list that no other thread has.
pub fn snapshot_of<'py>(list: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
    // SAFETY: the list is alive; a slice is a new list.
    unsafe {
        let slice = Bound::from_owned_ptr_or_err(list.py(), ffi::PyList_GetSlice(list.as_ptr(), 0, WHOLE))?;
        Ok(slice.cast_into_unchecked())
    }
}

/// The whole of `source` as a plain list.
pub fn settled<'py>(source: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if source.len().is_ok() {
        // SAFETY: the source is alive; the result is a new reference, or null with an exception.
        return unsafe { Bound::from_owned_ptr_or_err(source.py(), ffi::PySequence_List(source.as_ptr())) };
    }
    // As `list.extend`, and other than `list()`, this does not believe a length that is only a hint.
    let whole = PyList::empty(source.py());
    source.try_iter()?.try_for_each(|item| whole.append(item?))?;
    Ok(whole.into_any())
}

/// Appends what `source` gives, in one step.
pub fn extend(list: &Bound<'_, PyList>, source: &Bound<'_, PyAny>) -> PyResult<()> {
    let source = settled(source)?;
    // SAFETY: both are alive.
    match unsafe { ffi::PyList_SetSlice(list.as_ptr(), WHOLE, WHOLE, source.as_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(list.py())),
    }
}

/// The type, once it is made.
static OURS: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());

/// An empty `ThreadSafeList`. As with `list`, what a method makes is not of a subclass, whose constructor is unknown.
pub fn empty<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
    // SAFETY: the type is alive for good, and methods run after it was made.
    let made =
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyObject_CallNoArgs(OURS.load(Ordering::Relaxed).cast()))? };
    Ok(made.cast_into::<PyList>()?)
}

/// Appends `value` if the list holds the same objects as the snapshot `seen`; says whether it did.
pub fn append_if_same(list: &Bound<'_, PyList>, seen: &Bound<'_, PyList>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: all are alive, and a snapshot is the caller's alone.
    match unsafe { append_if_unchanged(list.as_ptr(), seen.as_ptr(), value.as_ptr()) } {
        ..0 => Err(PyErr::fetch(list.py())),
        appended => Ok(appended == 1),
    }
}

/// Puts the objects of the list in the order of `ordered`, if it holds the same objects as `seen` in the same order.
pub fn reorder_if_same(list: &Bound<'_, PyList>, seen: &Bound<'_, PyList>, ordered: &Bound<'_, PyList>) -> bool {
    // SAFETY: all are alive, the others are the caller's alone, and `ordered` has the objects of `seen`: the list's
    // references are to the same objects before and after.
    unsafe {
        with_items(list.as_ptr(), |held| {
            let is_same = held.are(&items(seen.as_ptr()));
            if is_same {
                let ordered = items(ordered.as_ptr());
                (0..held.len()).for_each(|place| held.put(place, ordered.get(place)));
            }
            is_same
        })
    }
}

/// Sorts while no other thread can change the list. Only for items whose comparison runs no Python code.
pub fn sort_quietly(
    list: &Bound<'_, PyList>,
    sort: impl FnOnce(&Bound<'_, PyList>) -> PyResult<()>,
    are_quiet: impl FnOnce(&Bound<'_, PyList>) -> bool,
) -> PyResult<bool> {
    let py = list.py();
    // SAFETY: the copy is ours alone, so working on it gives the section of the list not up; a copy made by hand, since
    // CPython's slice would.
    unsafe {
        super::section::locked(list.as_ptr(), || {
            let held = items(list.as_ptr());
            let copy = Bound::from_owned_ptr_or_err(py, ffi::PyList_New(held.len() as Py_ssize_t))?;
            for place in 0..held.len() {
                refcount::incref(held.get(place));
                items(copy.as_ptr()).put(place, held.get(place));
            }
            let copy = copy.cast_into_unchecked::<PyList>();
            if !are_quiet(&copy) {
                return Ok(false);
            }
            sort(&copy)?;
            (0..held.len()).for_each(|place| held.put(place, items(copy.as_ptr()).get(place)));
            Ok(true)
        })
    }
}

/// Removes the item at `place` if it is still `object`.
pub fn remove_if(list: &Bound<'_, PyList>, place: usize, object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the list is alive; its reference to the object is given back after the section.
    unsafe {
        let removed = with_items(list.as_ptr(), |held| {
            (place < held.len() && held.get(place) == object.as_ptr()).then(|| held.remove(place))
        });
        removed.is_some_and(|removed| {
            refcount::decref(removed);
            true
        })
    }
}

/// The item at an index, or nothing.
pub fn item<'py>(list: &Bound<'py, PyList>, idx: Py_ssize_t) -> Option<Bound<'py, PyAny>> {
    // SAFETY: the list is alive; the reference is taken while the list holds one.
    unsafe {
        let found = with_items(list.as_ptr(), |held| {
            held.place(idx).map(|place| {
                refcount::incref(held.get(place));
                held.get(place)
            })
        })?;
        Some(Bound::from_owned_ptr(list.py(), found))
    }
}

/// Puts `new` at an index if the object there is still `expected`.
pub fn replace_if(
    list: &Bound<'_, PyList>,
    idx: Py_ssize_t,
    expected: &Bound<'_, PyAny>,
    new: &Bound<'_, PyAny>,
) -> bool {
    // SAFETY: all are alive; the list's reference to `expected` is given back after the section.
    unsafe {
        let is_put = with_items(list.as_ptr(), |held| match held.place(idx) {
            Some(place) if held.get(place) == expected.as_ptr() => {
                refcount::incref(new.as_ptr());
                held.put(place, new.as_ptr());
                true
            }
            _ => false,
        });
        if is_put {
            refcount::decref(expected.as_ptr());
        }
        is_put
    }
}

/// Exchanges two items in one step; says whether both indices are in range.
pub fn swap(list: &Bound<'_, PyList>, left: Py_ssize_t, right: Py_ssize_t) -> bool {
    // SAFETY: the list is alive.
    unsafe {
        with_items(list.as_ptr(), |held| {
            let (Some(left), Some(right)) = (held.place(left), held.place(right)) else { return false };
            let moved = held.get(left);
            held.put(left, held.get(right));
            held.put(right, moved);
            true
        })
    }
}

/// Takes all items in one step.
pub fn drain<'py>(list: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
    let py = list.py();
    loop {
        let len = list.len();
        // SAFETY: the list is alive, and the new one is ours alone until it is returned.
        let (taken, is_done) = unsafe {
            let taken = Bound::from_owned_ptr_or_err(py, ffi::PyList_New(len as Py_ssize_t))?;
            let is_done = with_items(list.as_ptr(), |held| {
                let fits = held.len() == len;
                if fits {
                    held.move_into(&items(taken.as_ptr()));
                }
                fits
            });
            (taken.cast_into_unchecked::<PyList>(), is_done)
        };
        if is_done {
            return Ok(taken);
        }
    }
}

/// `list.sort`, for any list.
pub fn sort_method<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    py.get_type::<PyList>().getattr("sort")
}

/// Takes one item out of the list, if there is one at the index.
fn take(list: *mut PyObject, idx: Py_ssize_t) -> Option<Held> {
    // SAFETY: slots are called with live lists; the list's reference is ours afterwards.
    unsafe { with_items(list, |held| held.place(idx).map(|place| Held(held.remove(place)))) }
}

/// A slice of a list of this length: where it begins, where it ends, its step, how many items.
unsafe fn bounds(slice: *mut PyObject, len: Py_ssize_t) -> Option<(Py_ssize_t, Py_ssize_t, Py_ssize_t, usize)> {
    let (mut start, mut stop, mut step) = (0, 0, 0);
    // SAFETY: the caller hands over a slice; unpacking it can run Python code, and no section is held.
    unsafe {
        if ffi::PySlice_Unpack(slice, &mut start, &mut stop, &mut step) < 0 {
            return None;
        }
        let n = ffi::PySlice_AdjustIndices(len, &mut start, &mut stop, step);
        Some((start, stop.max(start), step, n as usize))
    }
}

/// `del l[idx]`
unsafe fn delete_item(list: *mut PyObject, idx: Py_ssize_t) -> c_int {
    if take(list, idx).is_some() {
        return 0;
    }
    // SAFETY: slots are called attached.
    unsafe { ffi::PyErr_SetString(ffi::PyExc_IndexError, c"list assignment index out of range".as_ptr()) };
    -1
}

/// `del l[i:j:k]`
unsafe fn delete_slice(list: *mut PyObject, slice: *mut PyObject) -> c_int {
    // SAFETY: both are alive; what is taken out is given back after the section.
    unsafe {
        loop {
            let len = ffi::PyList_Size(list);
            let Some((start, _, step, n)) = bounds(slice, len) else { return -1 };
            if n == 0 {
                return 0;
            }
            // Backwards or forwards, the same items go.
            let first = if step < 0 { start + (n as Py_ssize_t - 1) * step } else { start };
            let removed = with_items(list, |held| {
                let is_same = held.len() as Py_ssize_t == len;
                is_same.then(|| held.remove_each(first as usize, step.unsigned_abs(), n))
            });
            if let Some(removed) = removed {
                removed.into_iter().for_each(|object| refcount::decref(object));
                return 0;
            }
        }
    }
}

/// `l[i:j] = values`, where `values` is a list of the caller's own.
unsafe fn replace_slice(list: *mut PyObject, slice: *mut PyObject, values: *mut PyObject) -> c_int {
    // SAFETY: all are alive; what is taken out is given back after the section.
    unsafe {
        let new: Vec<*mut PyObject> = (0..items(values).len()).map(|place| items(values).get(place)).collect();
        loop {
            let len = ffi::PyList_Size(list);
            let Some((start, stop, _, n)) = bounds(slice, len) else { return -1 };
            if new.len() >= n {
                // However short the list is by then, this makes it no shorter.
                return ffi::PyList_SetSlice(list, start, stop, values);
            }
            let removed = with_items(list, |held| {
                let is_same = held.len() as Py_ssize_t == len;
                is_same.then(|| {
                    new.iter().for_each(|object| refcount::incref(*object));
                    held.replace(start as usize, stop as usize, &new)
                })
            });
            if let Some(removed) = removed {
                removed.into_iter().for_each(|object| refcount::decref(object));
                return 0;
            }
        }
    }
}

/// What `list` does for `l[key] = value` and, without a value, `del l[key]`.
unsafe fn assign_as_list(list: *mut PyObject, key: *mut PyObject, value: *mut PyObject) -> c_int {
    // SAFETY: all are alive, and `list` has this slot.
    unsafe {
        let mapping = ffi::PyList_Type.tp_as_mapping;
        (*mapping).mp_ass_subscript.map_or(-1, |assign| assign(list, key, value))
    }
}

slot! {
    fn iterate(this: *mut PyObject) -> *mut PyObject {
        let seen = Held(ffi::PyList_GetSlice(this, 0, WHOLE));
        if seen.is_none() { null_mut() } else { ffi::PyObject_GetIter(seen.0) }
    } else null_mut()

    fn reversed(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        let seen = Held(ffi::PyList_GetSlice(this, 0, WHOLE));
        if seen.is_none() || ffi::PyList_Reverse(seen.0) < 0 {
            return null_mut();
        }
        ffi::PyObject_GetIter(seen.0)
    } else null_mut()

    fn snapshot(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        ffi::PyList_GetSlice(this, 0, WHOLE)
    } else null_mut()

    fn pop_or(this: *mut PyObject, args: *const *mut PyObject, n: Py_ssize_t, names: *mut PyObject) -> *mut PyObject {
        let given = Given::new(args, n, names);
        if !is_count_right(c"pop_or", n, 1, 2) {
            return null_mut();
        }
        let Ok(index) = given.only_named(c"index", 1) else { return null_mut() };
        let default = given.positional[0];
        if ffi::PyList_Size(this) > 0 {
            // An `__index__` that raises is not taken for an empty list.
            let index = Held(if index.is_null() { ffi::PyLong_FromLong(-1) } else { ffi::PyNumber_Index(index) });
            if index.is_none() {
                return null_mut();
            }
            let place = ffi::PyNumber_AsSsize_t(index.0, null_mut());
            if place == -1 && !ffi::PyErr_Occurred().is_null() {
                return null_mut();
            }
            if let Some(popped) = take(this, place) {
                return popped.into_ptr();
            }
        }
        refcount::incref(default);
        default
    } else null_mut()

    fn pop(this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if !is_count_right(c"pop", n, 0, 1) {
            return null_mut();
        }
        let idx = if n == 0 { -1 } else { ffi::PyNumber_AsSsize_t(*args, ffi::PyExc_IndexError) };
        if n == 1 && idx == -1 && !ffi::PyErr_Occurred().is_null() {
            return null_mut();
        }
        if let Some(popped) = take(this, idx) {
            return popped.into_ptr();
        }
        let text = if ffi::PyList_Size(this) == 0 { c"pop from empty list" } else { c"pop index out of range" };
        ffi::PyErr_SetString(ffi::PyExc_IndexError, text.as_ptr());
        null_mut()
    } else null_mut()

    fn assign(this: *mut PyObject, key: *mut PyObject, value: *mut PyObject) -> c_int {
        if ffi::PySlice_Check(key) == 0 {
            if !value.is_null() || ffi::PyIndex_Check(key) == 0 {
                return assign_as_list(this, key, value);
            }
            let idx = ffi::PyNumber_AsSsize_t(key, ffi::PyExc_IndexError);
            if idx == -1 && !ffi::PyErr_Occurred().is_null() {
                return -1;
            }
            return delete_item(this, idx);
        }
        if value.is_null() {
            return delete_slice(this, key);
        }
        let Some((_, _, step, _)) = bounds(key, 0) else { return -1 };
        if step != 1 {
            // It has to be as long as what it replaces.
            return assign_as_list(this, key, value);
        }
        let values = Held(ffi::PySequence_Fast(value, c"can only assign an iterable".as_ptr()));
        if values.is_none() {
            return -1;
        }
        // A list or tuple of the caller is copied; what was made of another iterable is ours already.
        let own = if values.0 == value { Held(ffi::PySequence_List(value)) } else { values };
        if own.is_none() { -1 } else { replace_slice(this, key, own.0) }
    } else -1

    fn assign_item(this: *mut PyObject, idx: Py_ssize_t, value: *mut PyObject) -> c_int {
        if !value.is_null() {
            // A negative index was counted from the end already.
            ffi::Py_IncRef(value);
            return ffi::PyList_SetItem(this, idx, value);
        }
        // As above: what is still negative is out of range.
        delete_item(this, if idx < 0 { Py_ssize_t::MAX } else { idx })
    } else -1

    fn append_if(this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if !is_count_right(c"append_if", n, 2, 2) {
            return null_mut();
        }
        finish(|py| {
            let done = list::append_if(&own(py, this), &call::borrowed(py, *args), &call::borrowed(py, *args.add(1)))?;
            Ok(PyBool::new(py, done).to_owned().into_any())
        })
    } else null_mut()

    fn update_at(this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if !is_count_right(c"update_at", n, 2, 2) {
            return null_mut();
        }
        finish(|py| list::update_at(&own(py, this), &call::borrowed(py, *args), &call::borrowed(py, *args.add(1))))
    } else null_mut()

    fn swap_items(this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if !is_count_right(c"swap", n, 2, 2) {
            return null_mut();
        }
        finish(|py| {
            list::swap(&own(py, this), &call::borrowed(py, *args), &call::borrowed(py, *args.add(1)))?;
            Ok(py.None().into_bound(py))
        })
    } else null_mut()

    fn drain_items(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        finish(|py| Ok(drain(&own(py, this))?.into_any()))
    } else null_mut()

    fn copy(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        finish(|py| Ok(list::copy(&own(py, this))?.into_any()))
    } else null_mut()

    fn extend_with(this: *mut PyObject, source: *mut PyObject) -> *mut PyObject {
        finish(|py| {
            extend(&own(py, this), &call::borrowed(py, source))?;
            Ok(py.None().into_bound(py))
        })
    } else null_mut()

    fn extend_in_place(this: *mut PyObject, source: *mut PyObject) -> *mut PyObject {
        finish(|py| {
            extend(&own(py, this), &call::borrowed(py, source))?;
            Ok(own(py, this).to_owned().into_any())
        })
    } else null_mut()

    fn remove(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
        finish(|py| {
            list::remove(&own(py, this), &call::borrowed(py, value))?;
            Ok(py.None().into_bound(py))
        })
    } else null_mut()

    fn sort(this: *mut PyObject, args: *const *mut PyObject, n: Py_ssize_t, names: *mut PyObject) -> *mut PyObject {
        let given = Given::new(args, n, names);
        finish(|py| {
            let method = sort_method(py)?;
            let named = given.named.iter().map(|named| call::borrowed(py, *named));
            let has_key = named.enumerate().any(|(idx, value)| {
                let name = ffi::PyTuple_GET_ITEM(names, idx as Py_ssize_t);
                ffi::PyUnicode_CompareWithASCIIString(name, c"key".as_ptr()) == 0 && !value.is_none()
            });
            let sort = |copy: &Bound<'_, PyList>| {
                let mut all = vec![copy.as_ptr()];
                all.extend(given.positional);
                all.extend(given.named);
                let done = ffi::PyObject_Vectorcall(method.as_ptr(), all.as_ptr(), n as usize + 1, names);
                Bound::from_owned_ptr_or_err(py, done).map(drop)
            };
            list::sort(&own(py, this), has_key, &sort)?;
            Ok(py.None().into_bound(py))
        })
    } else null_mut()

    fn repr(this: *mut PyObject) -> *mut PyObject {
        match ffi::Py_ReprEnter(this) {
            0 => {
                let seen = Held(ffi::PyList_GetSlice(this, 0, WHOLE));
                let text = if seen.is_none() { null_mut() } else { ffi::PyObject_Repr(seen.0) };
                ffi::Py_ReprLeave(this);
                text
            }
            1.. => ffi::PyUnicode_FromString(c"[...]".as_ptr()),
            _ => null_mut(),
        }
    } else null_mut()
}

/// The list that a method was called on.
unsafe fn own<'a, 'py>(py: Python<'py>, this: *mut PyObject) -> Borrowed<'a, 'py, PyList> {
    // SAFETY: CPython calls the methods of a type with instances of it only, and they live until the method returns.
    unsafe { Borrowed::from_ptr(py, this).cast_unchecked() }
}

/// Makes the type.
pub fn add_type(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let base = module.py().get_type::<PyList>();
    let made = methods(NativeType::new::<()>(c"raceproof.ThreadSafeList", doc::TYPE))
        .flags(ffi::Py_TPFLAGS_BASETYPE | WEAK_REFERENCES)
        .slot(ffi::Py_tp_iter, iterate as *mut c_void)
        .slot(ffi::Py_tp_repr, repr as *mut c_void)
        .slot(ffi::Py_mp_ass_subscript, assign as *mut c_void)
        .slot(ffi::Py_sq_ass_item, assign_item as *mut c_void)
        .slot(ffi::Py_sq_inplace_concat, extend_in_place as *mut c_void)
        .build(module, Some(&base))?;
    OURS.store(made.as_ptr().cast(), Ordering::Relaxed);
    Ok(())
}

fn methods(new: NativeType) -> NativeType {
    new.no_arguments(c"__reversed__", reversed, doc::REVERSED)
        .no_arguments(c"copy", copy, doc::COPY)
        .no_arguments(c"snapshot", snapshot, doc::SNAPSHOT)
        .one_argument(c"extend", extend_with, doc::EXTEND)
        .one_argument(c"remove", remove, doc::REMOVE)
        .keywords(c"sort", sort, doc::SORT)
        .arguments(c"append_if", append_if, doc::APPEND_IF)
        .arguments(c"pop", pop, doc::POP)
        .keywords(c"pop_or", pop_or, doc::POP_OR)
        .arguments(c"swap", swap_items, doc::SWAP)
        .arguments(c"update_at", update_at, doc::UPDATE_AT)
        .no_arguments(c"drain", drain_items, doc::DRAIN)
}
