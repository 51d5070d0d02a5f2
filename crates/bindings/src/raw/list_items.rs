//! The items of a `list` as memory, for steps that CPython has no function for: exchanging two items, replacing one
//! that is still the same, taking all of them.
//!
//! The layout is public (`PyListObject`). Everything here happens under the section of the list. Reading threads do not
//! take it: they look at the size, at the place, and take a reference if the place holds an object. So each word is
//! written atomically, and a place that falls out of the list is emptied before its object may be freed.
//!
//! The second half is what CPython 3.13 does not do: `list.pop` leaves the object in the place behind the last item, and
//! `list.extend` makes that place part of the list again before it writes there. A thread that reads in between takes a
//! reference to an object that may be free, and if the thread itself had freed it, it frees it twice: its store of free
//! tuples then goes round in a circle. So every step of `ThreadSafeList` that makes a list shorter is made here.

use std::ptr::null_mut;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicIsize, AtomicPtr};

use pyo3::ffi::{self, Py_ssize_t, PyObject};

use super::section::locked;

/// The items of a list whose section is held.
pub struct Items<'a> {
    size: &'a AtomicIsize,
    places: &'a [AtomicPtr<PyObject>],
}

impl Items<'_> {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The place that an index means, counted from the end if it is negative.
    pub fn place(&self, idx: Py_ssize_t) -> Option<usize> {
        let len = self.len() as Py_ssize_t;
        let place = if idx < 0 { idx + len } else { idx };
        (0..len).contains(&place).then_some(place as usize)
    }

    /// Borrowed from the list.
    pub fn get(&self, place: usize) -> *mut PyObject {
        self.places[place].load(Acquire)
    }

    /// Puts an object there, with the caller's reference; the list's reference to the one before is the caller's now.
    pub fn put(&self, place: usize, object: *mut PyObject) {
        self.places[place].store(object, Release);
    }

    /// Are these the same objects in the same order?
    pub fn are(&self, others: &Items<'_>) -> bool {
        self.len() == others.len() && (0..self.len()).all(|place| self.get(place) == others.get(place))
    }

    /// Takes one item out, whose reference is the caller's then; those behind it move up.
    pub fn remove(&self, place: usize) -> *mut PyObject {
        let removed = self.get(place);
        self.close(place, place + 1);
        removed
    }

    /// Puts no more items than there were in the place of those from `low` to below `high`, with the caller's references;
    /// those of the ones before are the caller's then.
    pub fn replace(&self, low: usize, high: usize, new: &[*mut PyObject]) -> Vec<*mut PyObject> {
        let removed = (low..high).map(|place| self.get(place)).collect();
        for (place, object) in (low..high).zip(new) {
            self.put(place, *object);
        }
        self.close(low + new.len(), high);
        removed
    }

    /// Takes `n` items out, every `step`th from `first` on; their references are the caller's then.
    pub fn remove_each(&self, first: usize, step: usize, n: usize) -> Vec<*mut PyObject> {
        let is_meant =
            |place: usize| place >= first && (place - first).is_multiple_of(step) && (place - first) / step < n;
        let removed = (0..n).map(|nth| self.get(first + nth * step)).collect();
        let mut to = first;
        for place in (first..self.len()).filter(|place| !is_meant(*place)) {
            self.put(to, self.get(place));
            to += 1;
        }
        self.end_at(to);
        removed
    }

    /// Those from `behind` on move up to `at`, and the list is so much shorter.
    fn close(&self, at: usize, behind: usize) {
        if at == behind {
            return;
        }
        for place in behind..self.len() {
            self.put(at + place - behind, self.get(place));
        }
        self.end_at(at + self.len() - behind);
    }

    /// The list ends before `len`: the places behind are emptied first.
    fn end_at(&self, len: usize) {
        (len..self.len()).for_each(|place| self.put(place, null_mut()));
        self.size.store(len as isize, Release);
    }

    /// Moves all items into a list of the same length, which holds none yet.
    pub fn move_into(&self, empty: &Items<'_>) {
        for place in 0..self.len() {
            empty.put(place, self.get(place));
            self.put(place, null_mut());
        }
        self.size.store(0, Release);
    }
}

/// The items of a list that no other thread changes now.
///
/// # Safety
/// The caller holds the section of `list`, or is the only one that has it, and changes its size by no other way.
pub unsafe fn items<'a>(list: *mut PyObject) -> Items<'a> {
    // SAFETY: the layout is public, and so many places stand there; it has no array while it is empty.
    unsafe {
        let list = list.cast::<ffi::PyListObject>();
        let size = &*(&raw const (*list).ob_base.ob_size).cast::<AtomicIsize>();
        let first = (*list).ob_item.cast::<AtomicPtr<PyObject>>();
        let len = if first.is_null() { 0 } else { size.load(Relaxed) as usize };
        let places = if len == 0 { &[] } else { std::slice::from_raw_parts(first, len) };
        Items { size, places }
    }
}

/// Calls `body` with the items while no other thread can change the list.
///
/// # Safety
/// `list` is alive, the caller is attached, and `body` keeps to what the module `section` says.
pub unsafe fn with_items<R>(list: *mut PyObject, body: impl FnOnce(Items<'_>) -> R) -> R {
    // SAFETY: the caller's promise.
    unsafe { locked(list, || body(items(list))) }
}

/// Appends `value` if the list holds the same objects as `seen`: 1 appended, 0 not, -1 exception.
///
/// # Safety
/// All are alive, the caller is attached, and `seen` is a list that no other thread has.
pub unsafe fn append_if_unchanged(list: *mut PyObject, seen: *mut PyObject, value: *mut PyObject) -> i32 {
    // SAFETY: the caller's promise; `append` runs no Python code.
    unsafe {
        locked(list, || {
            if !items(list).are(&items(seen)) {
                return 0;
            }
            if append(list, value) < 0 { -1 } else { 1 }
        })
    }
}

/// `PyList_Append` for who holds the section: on 3.13 that function would give it up.
#[cfg(all(Py_GIL_DISABLED, not(Py_3_14)))]
unsafe fn append(list: *mut PyObject, value: *mut PyObject) -> i32 {
    unsafe extern "C" {
        fn _PyList_AppendTakeRefListResize(list: *mut ffi::PyListObject, value: *mut PyObject) -> i32;
    }
    // SAFETY: the caller's promise. Where there is room, the place behind the last item belongs to the list; where
    // there is none, CPython's function makes it. Both take over a reference to the value.
    unsafe {
        super::refcount::incref(value);
        let list = list.cast::<ffi::PyListObject>();
        let size = &*(&raw const (*list).ob_base.ob_size).cast::<AtomicIsize>();
        let len = size.load(Relaxed);
        if (*list).allocated > len {
            (*(*list).ob_item.add(len as usize).cast::<AtomicPtr<PyObject>>()).store(value, Release);
            size.store(len + 1, Release);
            return 0;
        }
        _PyList_AppendTakeRefListResize(list, value)
    }
}

/// `PyList_Append`: from 3.14 on it leaves a section held that is the innermost one, and with a GIL there is none.
#[cfg(not(all(Py_GIL_DISABLED, not(Py_3_14))))]
unsafe fn append(list: *mut PyObject, value: *mut PyObject) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { ffi::PyList_Append(list, value) }
}
