//! `ThreadSafeList`: a `list` to CPython, with the slots and methods that a `list` lacks under threads.
//!
//! What is inherited (`append`, `l[i]`, `insert`, `pop`, slices) is as fast and as atomic as in `list`. Overridden is
//! what would see a list that others change (iteration, `repr`), what is not one step (`extend` from an iterable,
//! `remove`), and `sort`, during which a `list` looks empty to other threads. `crate::list` has the methods' logic.

mod doc;

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::OnceLock;
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

/// `list.pop` as it is in the type; it lives as long as the type.
unsafe fn pop_method() -> *mut PyObject {
    static POP: OnceLock<usize> = OnceLock::new();
    // SAFETY: the caller is attached; the method is never freed, since the type is not.
    *POP.get_or_init(
        || unsafe { ffi::PyObject_GetAttrString((&raw mut ffi::PyList_Type).cast(), c"pop".as_ptr()) } as usize
    ) as *mut PyObject
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
            let popped = ffi::PyObject_Vectorcall(pop_method(), [this, index.0].as_ptr(), 2, null_mut());
            if !popped.is_null() || ffi::PyErr_ExceptionMatches(ffi::PyExc_IndexError) == 0 {
                return popped;
            }
            ffi::PyErr_Clear();
        }
        refcount::incref(default);
        default
    } else null_mut()

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
        .keywords(c"pop_or", pop_or, doc::POP_OR)
        .arguments(c"swap", swap_items, doc::SWAP)
        .arguments(c"update_at", update_at, doc::UPDATE_AT)
        .no_arguments(c"drain", drain_items, doc::DRAIN)
}
