//! Keys: Python objects that the table owns a reference to.
//!
//! A *plain* key is an exact `str` or `bytes` of moderate size, or an exact `int` of 64 bits. Plain keys are compared
//! without a reference to the one in the table, so readers do not meet on its count. The table keeps such a key until
//! the epoch of its removal is past. Any other key is given back as soon as it is removed, and who compares with it
//! takes a reference first.

use std::ffi::c_int;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use primitives::raw::table::{Answer, Cell, Epochs};
use pyo3::ffi;
use pyo3::ffi::PyObject;

use super::epochs::{Attached, Window};
use crate::raw::held::Held;
use crate::raw::refcount;

/// A string of more bytes is not plain: keys that wait for their epoch must not fill the memory.
const PLAIN_BYTES_MAX: usize = 256;
/// The mark of a plain key, in the lowest bit of the pointer.
const PLAIN: usize = 1;

/// An exception is set in the interpreter.
#[derive(Debug)]
pub struct Raised;

/// Takes over the result of a call; null says that it has raised.
///
/// # Safety
/// The caller owns it, or it is null and an exception is set.
pub unsafe fn held(object: *mut PyObject) -> Result<Held, Raised> {
    // SAFETY: the caller's promise.
    if object.is_null() { Err(Raised) } else { Ok(unsafe { Held::owned(object) }) }
}

/// A key in the table.
pub struct Key(AtomicPtr<PyObject>);

/// The exact type of the key that is looked for, as far as it matters.
#[inline(always)]
unsafe fn is_exact(object: *mut PyObject, kind: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: the caller's object is alive.
    unsafe { ffi::Py_TYPE(object) == kind }
}

/// The bytes of a string, whose exact type is `str`.
#[inline(always)]
unsafe fn text<'a>(object: *mut PyObject) -> (u32, &'a [u8]) {
    // SAFETY: the caller's object is an exact `str`, alive as long as the bytes are used.
    unsafe {
        let kind = ffi::PyUnicode_KIND(object) as u32;
        let length = ffi::PyUnicode_GET_LENGTH(object) as usize * kind as usize;
        (kind, std::slice::from_raw_parts(ffi::PyUnicode_DATA(object).cast::<u8>(), length))
    }
}

unsafe fn small_int(object: *mut PyObject) -> Option<i64> {
    let mut overflow: c_int = 0;
    // SAFETY: the caller's object is an exact `int`: this runs no Python code and cannot fail.
    let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(object, &mut overflow) };
    (overflow == 0).then_some(number)
}

unsafe fn bytes<'a>(object: *mut PyObject) -> &'a [u8] {
    // SAFETY: the caller's object is an exact `bytes`, alive as long as the bytes are used.
    unsafe {
        let length = ffi::PyBytes_Size(object) as usize;
        std::slice::from_raw_parts(ffi::PyBytes_AsString(object).cast::<u8>(), length)
    }
}

unsafe fn is_plain(object: *mut PyObject) -> bool {
    // SAFETY: the caller's object is alive.
    unsafe {
        if is_exact(object, &raw mut ffi::PyUnicode_Type) {
            text(object).1.len() <= PLAIN_BYTES_MAX
        } else if is_exact(object, &raw mut ffi::PyLong_Type) {
            small_int(object).is_some()
        } else {
            is_exact(object, &raw mut ffi::PyBytes_Type) && bytes(object).len() <= PLAIN_BYTES_MAX
        }
    }
}

/// The hash of a key. Python code may run, unless it is a string.
#[inline(always)]
pub unsafe fn hash(key: *mut PyObject) -> Result<primitives::raw::table::Hash, Raised> {
    // SAFETY: the caller's object is alive; strings keep their hash.
    let hash = unsafe {
        let kept =
            if is_exact(key, &raw mut ffi::PyUnicode_Type) { (*key.cast::<ffi::PyASCIIObject>()).hash } else { -1 };
        if kept == -1 { ffi::PyObject_Hash(key) } else { kept }
    };
    if hash == -1 { Err(Raised) } else { Ok(primitives::raw::table::Hash::new(hash as u64)) }
}

impl Key {
    /// A key for the table, with a reference of its own.
    ///
    /// # Safety
    /// The object is alive.
    #[inline(always)]
    pub unsafe fn new(object: *mut PyObject) -> Key {
        // SAFETY: the caller's promise.
        unsafe {
            refcount::make_shareable(object);
            refcount::incref(object);
            let mark = usize::from(is_plain(object)) * PLAIN;
            Key(AtomicPtr::new(object.map_addr(|address| address | mark)))
        }
    }

    #[inline(always)]
    fn load(&self) -> (*mut PyObject, bool) {
        let marked = self.0.load(Acquire);
        (marked.map_addr(|address| address & !PLAIN), marked.addr() & PLAIN != 0)
    }

    /// The object, for a moment at which no thread changes the table.
    pub fn peek(&self) -> *mut PyObject {
        self.load().0
    }

    /// A reference to the key of an entry; none if the entry has died.
    pub unsafe fn get(&self, cell: &impl Cell) -> Option<Held> {
        let (object, is_plain) = self.load();
        if object.is_null() {
            return None;
        }
        if is_plain {
            // SAFETY: the table owns a reference as long as the window is open.
            return Some(unsafe { Held::new(object) });
        }
        // SAFETY: a key was made shareable before it came into the table.
        let object = unsafe { refcount::load(&self.0) };
        if object.is_null() {
            return None;
        }
        // SAFETY: `load` took a reference.
        let object = unsafe { Held::owned(object) };
        // The key is given back after the cell has died. So if it has not, the reference is to the key.
        if cell.is_dead() { None } else { Some(object) }
    }

    /// Gives the key of a removed entry back at once, unless readers may be comparing it without a reference. Under
    /// the lock; the caller drops it after that.
    pub fn release(&self) -> Option<Held> {
        let (object, is_plain) = self.load();
        if is_plain || object.is_null() {
            return None;
        }
        self.0.store(std::ptr::null_mut(), Relaxed);
        // SAFETY: the table owned the reference.
        Some(unsafe { Held::owned(object) })
    }

    /// Is this the key that is looked for? Decides at once for plain keys; else it asks the objects.
    #[inline(always)]
    pub unsafe fn compare(&self, cell: &impl Cell, key: *mut PyObject, window: &Window, raised: &mut bool) -> Answer {
        let (stored, is_plain) = self.load();
        if stored == key {
            return Answer::Same;
        }
        // SAFETY: the key that is looked for is alive; a plain key in the table is so as long as the window is open.
        unsafe {
            if is_plain && is_exact(key, &raw mut ffi::PyUnicode_Type) {
                let is_same = is_exact(stored, &raw mut ffi::PyUnicode_Type) && text(stored) == text(key);
                return if is_same { Answer::Same } else { Answer::Other };
            }
            self.compare_others(stored, is_plain, cell, key, window, raised)
        }
    }

    #[cold]
    unsafe fn compare_others(
        &self,
        stored: *mut PyObject,
        is_plain: bool,
        cell: &impl Cell,
        key: *mut PyObject,
        window: &Window,
        raised: &mut bool,
    ) -> Answer {
        // SAFETY: as in `compare`.
        unsafe {
            let answer = |is_same| if is_same { Answer::Same } else { Answer::Other };
            if is_plain && is_exact(key, &raw mut ffi::PyLong_Type) {
                let is_int = is_exact(stored, &raw mut ffi::PyLong_Type);
                return answer(is_int && small_int(stored) == small_int(key));
            }
            if is_plain && is_exact(key, &raw mut ffi::PyBytes_Type) {
                return answer(is_exact(stored, &raw mut ffi::PyBytes_Type) && bytes(stored) == bytes(key));
            }
            // A reference to a key that has just died may have been given back in here, so the window is asked again.
            let Some(stored) = self.get(cell) else {
                return if Attached::is_open(window) { Answer::Other } else { Answer::Stop };
            };
            let equal = ffi::PyObject_RichCompareBool(stored.as_ptr(), key, ffi::Py_EQ);
            drop(stored);
            *raised = equal < 0;
            if *raised || !Attached::is_open(window) { Answer::Stop } else { answer(equal == 1) }
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let (object, _) = self.load();
        if !object.is_null() {
            // SAFETY: the table owned a reference, and this thread is attached.
            unsafe { refcount::decref(object) };
        }
    }
}
