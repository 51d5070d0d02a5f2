//! Finds the place of a value in the table of a `dict`, so that reading it, deciding, and replacing it are one step.
//!
//! CPython has no function that replaces a value only if it is still a certain object, and none that finds an entry
//! without calling `__eq__` of the keys. Both are needed for an update that loses nothing: `__eq__` is Python code,
//! during which a critical section may be given up. So this module walks the table itself. In the section it compares
//! keys only if that runs no Python code; the others it hands out, they are compared outside, and the second walk knows
//! the right one by its address.
//!
//! The layout is that of CPython 3.11 to 3.14 (`Include/internal/pycore_dict.h`), the same with and without a GIL. It is
//! no part of the C interface, so [`check_layout`] compares a walk with what that says when the module is imported. Where
//! they differ, and on 3.10, values are replaced through the C interface, in the section of the dict.
//! Only values are replaced; keys, sizes and order belong to CPython. Dictionary watchers are not told.

use std::ffi::c_int;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr};

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::held::Held;
use super::section;

/// `PyDictKeysObject` up to the index table, which the entries follow.
#[repr(C)]
struct Keys {
    refcount: isize,
    log2_size: u8,
    log2_index_bytes: u8,
    kind: u8,
    mutex: u8,
    version: u32,
    usable: isize,
    n_entries: isize,
}

/// The kind of a table that can hold keys of any type; the others hold exact `str` only, and no hashes.
const GENERAL: u8 = 0;
const UNICODE: u8 = 1;
/// No entry has ever stood at this index.
const EMPTY: isize = -1;

#[repr(C)]
struct Entry {
    hash: isize,
    key: *mut PyObject,
    value: AtomicPtr<PyObject>,
}

#[repr(C)]
struct StrEntry {
    key: *mut PyObject,
    value: AtomicPtr<PyObject>,
}

/// The place of a value.
pub struct Slot<'a>(&'a AtomicPtr<PyObject>);

impl Slot<'_> {
    /// What stands there; borrowed from the dict.
    #[inline(always)]
    pub fn get(&self) -> *mut PyObject {
        self.0.load(Acquire)
    }

    /// Puts `value` there, with the caller's reference to it. The dict's reference to what stood there is now the
    /// caller's.
    #[inline(always)]
    pub fn put(&self, value: *mut PyObject) {
        self.0.store(value, Release);
    }
}

/// What a walk of the table came to.
enum Walk<R> {
    Found(R),
    Absent,
    /// These keys have the right hash, and comparing them could run Python code.
    Unsure(Vec<Held>),
}

/// Can a key of this type be compared with another such key without running Python code? `bytes` are not among them:
/// comparing them with `str` may warn.
#[inline(always)]
unsafe fn is_quiet(key: *mut PyObject) -> bool {
    // SAFETY: the caller's promise: a key that is alive, so its type is.
    unsafe {
        let kind = ffi::Py_TYPE(key);
        if kind == &raw mut ffi::PyUnicode_Type || kind == &raw mut ffi::PyLong_Type {
            return true;
        }
        let compare = (*kind).tp_richcompare.map(|compare| compare as usize);
        let of = |kind: *mut ffi::PyTypeObject| (*kind).tp_richcompare.map(|compare| compare as usize);
        [
            &raw mut ffi::PyBaseObject_Type,
            &raw mut ffi::PyUnicode_Type,
            &raw mut ffi::PyLong_Type,
            &raw mut ffi::PyFloat_Type,
        ]
        .into_iter()
        .any(|quiet| compare == of(quiet))
    }
}

/// Calls `visit` for each entry whose key has this hash, until it returns something.
///
/// # Safety
/// The caller holds the section of `dict`, whose table is not split.
#[inline(always)]
unsafe fn walk<R>(
    dict: *mut PyObject,
    hash: isize,
    mut visit: impl FnMut(*mut PyObject, Slot<'_>) -> Option<R>,
) -> Option<R> {
    // SAFETY: the layout is CPython's; while the section is held the table stays, and an index that is not negative
    // says where an entry with a key and a value stands.
    unsafe {
        let keys = (*dict.cast::<ffi::PyDictObject>()).ma_keys.cast::<Keys>();
        let (log2_size, kind) = ((*keys).log2_size, (*keys).kind);
        let indices = keys.add(1).cast::<u8>();
        let entries = indices.add(1 << (*keys).log2_index_bytes);
        let mask = (1usize << log2_size) - 1;
        let (mut at, mut perturb) = (hash as usize & mask, hash as usize);
        loop {
            let idx = match log2_size {
                0..8 => *indices.cast::<i8>().add(at) as isize,
                8..16 => *indices.cast::<i16>().add(at) as isize,
                16..32 => *indices.cast::<i32>().add(at) as isize,
                _ => *indices.cast::<i64>().add(at) as isize,
            };
            if idx == EMPTY {
                return None;
            }
            if idx >= 0 {
                let (key, value, key_hash) = if kind == GENERAL {
                    let entry = entries.cast::<Entry>().add(idx as usize);
                    ((*entry).key, &(*entry).value, (*entry).hash)
                } else {
                    let entry = entries.cast::<StrEntry>().add(idx as usize);
                    ((*entry).key, &(*entry).value, (*(*entry).key.cast::<ffi::PyASCIIObject>()).hash)
                };
                if key_hash == hash
                    && let Some(end) = visit(key, Slot(value))
                {
                    return Some(end);
                }
            }
            perturb >>= 5;
            at = at.wrapping_mul(5).wrapping_add(perturb).wrapping_add(1) & mask;
        }
    }
}

/// One walk under the section: looks for `key`, or for the key at the address `alias` that is known to equal it.
#[inline(always)]
unsafe fn attempt<R>(
    dict: *mut PyObject,
    key: *mut PyObject,
    alias: *mut PyObject,
    hash: isize,
    act: impl FnOnce(Slot<'_>) -> R,
) -> Walk<R> {
    let mut act = Some(act);
    // SAFETY: the body compares quiet keys, takes references, and calls `act`, whose maker made the same promise.
    unsafe {
        section::locked(dict, || {
            let key_is_quiet = is_quiet(key);
            let mut unsure = Vec::new();
            let found = walk(dict, hash, |stored, slot| {
                let is_it = if stored == key || stored == alias {
                    true
                } else if key_is_quiet && is_quiet(stored) {
                    ffi::PyObject_RichCompareBool(stored, key, ffi::Py_EQ) == 1
                } else {
                    if alias.is_null() {
                        unsure.push(Held::new(stored));
                    }
                    false
                };
                if is_it { act.take().map(|act| act(slot)) } else { None }
            });
            match found {
                Some(done) => Walk::Found(done),
                None if unsure.is_empty() => Walk::Absent,
                None => Walk::Unsure(unsure),
            }
        })
    }
}

/// Calls `act` with the place of the value of `key` while no other thread can change the dict: `Ok(Some)` with what it
/// returned, `Ok(None)` if the key is absent, `Err` if an exception is set. Where keys have to be compared by Python
/// code that happens outside the section, and an entry that changes its key meanwhile counts as absent.
///
/// # Safety
/// `dict` is a `dict` that is no namespace of an instance, `hash` is the hash of `key`, all are alive, the caller is
/// attached, and `act` keeps to what the module `section` says of a body.
#[inline(always)]
pub unsafe fn with_slot<R>(
    dict: *mut PyObject,
    key: *mut PyObject,
    hash: isize,
    act: impl FnOnce(Slot<'_>) -> R + Clone,
) -> Result<Option<R>, ()> {
    if !IS_WALKED.load(Relaxed) {
        // SAFETY: the caller's promise.
        return unsafe { with_copy(dict, key, act) };
    }
    // SAFETY: the caller's promise.
    match unsafe { attempt(dict, key, std::ptr::null_mut(), hash, act.clone()) } {
        Walk::Found(done) => Ok(Some(done)),
        Walk::Absent => Ok(None),
        // SAFETY: the caller's promise.
        Walk::Unsure(unsure) => unsafe { with_slot_of(dict, key, hash, unsure, act) },
    }
}

#[cold]
unsafe fn with_slot_of<R>(
    dict: *mut PyObject,
    key: *mut PyObject,
    hash: isize,
    unsure: Vec<Held>,
    act: impl FnOnce(Slot<'_>) -> R,
) -> Result<Option<R>, ()> {
    for stored in &unsure {
        // SAFETY: both are alive, and no section of ours is held: the comparison may run Python code.
        let equal: c_int = unsafe { ffi::PyObject_RichCompareBool(stored.0, key, ffi::Py_EQ) };
        match equal {
            0 => continue,
            // SAFETY: the caller's promise.
            1 => match unsafe { attempt(dict, key, stored.0, hash, act) } {
                Walk::Found(done) => return Ok(Some(done)),
                _ => return Ok(None),
            },
            _ => return Err(()),
        }
    }
    Ok(None)
}

/// The same by the C interface alone. With a GIL nothing but `__eq__` of a key can come between its two steps; without
/// one, from CPython 3.14 on, nothing else either, since the inner functions leave the section held. On 3.13 without a
/// GIL a change that comes in between is lost.
///
/// # Safety
/// As above.
#[cold]
unsafe fn with_copy<R>(
    dict: *mut PyObject,
    key: *mut PyObject,
    act: impl FnOnce(Slot<'_>) -> R,
) -> Result<Option<R>, ()> {
    // SAFETY: the caller's promise. Who puts a value gets our reference to the one before instead of the dict's.
    unsafe {
        section::locked(dict, || {
            let mut before = Held::none();
            match ffi::compat::PyDict_GetItemRef(dict, key, before.out()) {
                0 => return Ok(None),
                ..0 => return Err(()),
                _ => {}
            }
            let place = AtomicPtr::new(before.0);
            let done = act(Slot(&place));
            let after = place.load(Acquire);
            if after != before.0 {
                let _ = before.into_ptr();
                let after = Held(after);
                if ffi::PyDict_SetItem(dict, key, after.0) < 0 {
                    return Err(());
                }
            }
            Ok(Some(done))
        })
    }
}

/// Are tables walked? Not before [`check_layout`] has seen that this is possible.
static IS_WALKED: AtomicBool = AtomicBool::new(false);

/// Finds out whether the tables of this CPython are laid out as this module thinks, and has them walked if they are.
pub fn check_layout(py: Python<'_>) -> PyResult<()> {
    walk_tables(py, true).map(drop)
}

/// Has tables walked, if their layout is known, or not; says whether they are now. For the import, and for tests.
pub fn walk_tables(py: Python<'_>, wanted: bool) -> PyResult<bool> {
    let is_walked = wanted && cfg!(Py_3_11) && is_layout_known(py)?;
    IS_WALKED.store(is_walked, Relaxed);
    Ok(is_walked)
}

/// Walks tables of each kind, with indices of one and of two bytes, and compares with what the C interface says.
fn is_layout_known(py: Python<'_>) -> PyResult<bool> {
    for (n_keys, kind) in [(5, UNICODE), (5, GENERAL), (300, UNICODE), (300, GENERAL)] {
        let dict = PyDict::new(py);
        for n in 0..n_keys {
            match kind {
                GENERAL => dict.set_item((n, "a tuple"), n + 1000)?,
                _ => dict.set_item(format!("key {n}"), n + 1000)?,
            }
        }
        // SAFETY: nobody else has the dict, so it does not change.
        if !unsafe { is_head_right(dict.as_ptr(), n_keys, kind) } {
            return Ok(false);
        }
        for (key, value) in &dict {
            let hash = key.hash()?;
            let is_it =
                |stored: *mut PyObject, slot: Slot<'_>| (stored == key.as_ptr()).then(|| slot.get() == value.as_ptr());
            // SAFETY: as above, and the head of the table is as expected.
            if unsafe { walk(dict.as_ptr(), hash, is_it) } != Some(true) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Does the head of a table without gaps say what it must, so that a walk of it stays inside and ends?
///
/// # Safety
/// `dict` is a `dict` that nobody else has.
unsafe fn is_head_right(dict: *mut PyObject, n_keys: isize, kind: u8) -> bool {
    // SAFETY: each table has at least so many bytes, whatever they mean.
    unsafe {
        let keys = &*(*dict.cast::<ffi::PyDictObject>()).ma_keys.cast::<Keys>();
        let log2_index_width = u8::from(keys.log2_size >= 8);
        keys.refcount == 1
            && (3..16).contains(&keys.log2_size)
            && keys.log2_index_bytes == keys.log2_size + log2_index_width
            && keys.kind == kind
            && keys.n_entries == n_keys
            && keys.usable == (2 << keys.log2_size) / 3 - n_keys
    }
}
