//! Values: objects, or counts that need none.

use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use primitives::raw::table::Cell;
use primitives::raw::tally::{Tally, is_count};
use pyo3::ffi;
use pyo3::ffi::PyObject;

use super::key::{Raised, held};
use crate::raw::held::Held;
use crate::raw::refcount::{self, Loaded};

/// What a look at a cell shows.
pub enum Seen {
    /// The value.
    Value(Held),
    /// The key has been removed.
    Dead,
    /// The value was changed at this moment, and Python code may have run: search again.
    Changed,
}

/// A cell as Python code sees it. What is stored and what is taken out are references of their own; a value that is
/// replaced is given back inside, so Python code may run in `set` and `exchange` after the change.
pub trait Value: Cell<Value: Send> + Sized + Send + Sync + 'static {
    /// Prepares an object for a cell.
    ///
    /// # Safety
    /// The object is alive.
    unsafe fn accept(object: *mut PyObject) -> Result<Self::Value, Raised>;
    /// A value that was taken out, as an object.
    fn object(value: Self::Value) -> Result<Held, Raised>;
    /// A reference to the value.
    fn see(&self) -> Result<Seen, Raised>;
    /// Replaces the value.
    ///
    /// # Errors
    /// Gives the new value back if the cell is dead.
    fn set(&self, new: Self::Value) -> Result<(), Self::Value>;
    /// Replaces the value if it is the one that was seen; says whether it was.
    fn exchange(&self, seen: &Held, new: Self::Value) -> bool;
    /// Kills the cell and takes its value, if it is the one that was seen, or whatever it is. Under the lock.
    fn take(&self, seen: Option<&Held>) -> Option<Self::Value>;
    /// The object that the collector should know of; null if there is none. At a moment at which nobody changes it.
    fn peek(&self) -> *mut PyObject;
}

/// A cell with an object.
pub struct Slot(AtomicPtr<PyObject>);

// SAFETY: null is dead; the pointer is an atomic; dropping the cell gives the object back.
unsafe impl Cell for Slot {
    type Value = Held;

    #[inline(always)]
    fn is_dead(&self) -> bool {
        self.0.load(Acquire).is_null()
    }

    fn revive(&self, value: Held) {
        self.0.store(value.into_ptr(), Release);
    }

    fn dead() -> Self {
        Slot(AtomicPtr::new(null_mut()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.take(None));
    }
}

impl Value for Slot {
    #[inline(always)]
    unsafe fn accept(object: *mut PyObject) -> Result<Held, Raised> {
        // SAFETY: the caller's promise.
        unsafe {
            refcount::make_shareable(object);
            Ok(Held::new(object))
        }
    }

    fn object(value: Held) -> Result<Held, Raised> {
        Ok(value)
    }

    #[inline(always)]
    fn see(&self) -> Result<Seen, Raised> {
        // SAFETY: what is stored went through `accept`.
        Ok(match unsafe { refcount::try_load(&self.0) } {
            // SAFETY: `try_load` took a reference.
            Loaded::Object(object) => Seen::Value(unsafe { Held::owned(object) }),
            Loaded::Empty => Seen::Dead,
            Loaded::Changed => Seen::Changed,
        })
    }

    #[inline(always)]
    fn set(&self, new: Held) -> Result<(), Held> {
        let mut old = self.0.load(Relaxed);
        while !old.is_null() {
            match self.0.compare_exchange_weak(old, new.as_ptr(), AcqRel, Relaxed) {
                Ok(_) => {
                    new.into_ptr();
                    // SAFETY: the cell owned a reference to what was in it.
                    drop(unsafe { Held::owned(old) });
                    return Ok(());
                }
                Err(now) => old = now,
            }
        }
        Err(new)
    }

    #[inline(always)]
    fn exchange(&self, seen: &Held, new: Held) -> bool {
        let exchanged = self.0.compare_exchange(seen.as_ptr(), new.as_ptr(), AcqRel, Relaxed);
        if let Ok(old) = exchanged {
            new.into_ptr();
            // SAFETY: the cell owned a reference to what was in it.
            drop(unsafe { Held::owned(old) });
        }
        exchanged.is_ok()
    }

    fn take(&self, seen: Option<&Held>) -> Option<Held> {
        let taken = match seen {
            None => self.0.swap(null_mut(), AcqRel),
            Some(seen) => self.0.compare_exchange(seen.as_ptr(), null_mut(), AcqRel, Relaxed).ok()?,
        };
        // SAFETY: the cell owned a reference to what was in it.
        (!taken.is_null()).then(|| unsafe { Held::owned(taken) })
    }

    fn peek(&self) -> *mut PyObject {
        self.0.load(Relaxed)
    }
}

/// A number as a Python object.
pub fn number(n: i64) -> Result<Held, Raised> {
    // SAFETY: the thread is attached; the result is a reference of ours, or an exception.
    unsafe { held(ffi::PyLong_FromLongLong(n)) }
}

/// The exception for a count that would be too large.
#[cold]
pub fn count_overflow() -> Raised {
    // SAFETY: the thread is attached.
    unsafe { ffi::PyErr_SetString(ffi::PyExc_OverflowError, c"a count lies between -2**62 and 2**62 - 1".as_ptr()) };
    Raised
}

/// The count that an object stands for.
///
/// # Safety
/// The object is alive.
#[inline(always)]
pub unsafe fn count(object: *mut PyObject) -> Result<i64, Raised> {
    // SAFETY: the caller's promise.
    unsafe {
        let index = held(ffi::PyNumber_Index(object))?;
        let mut overflow = 0;
        let count = ffi::PyLong_AsLongLongAndOverflow(index.as_ptr(), &mut overflow);
        if overflow == 0 && is_count(count) { Ok(count) } else { Err(count_overflow()) }
    }
}

impl Value for Tally {
    #[inline(always)]
    unsafe fn accept(object: *mut PyObject) -> Result<i64, Raised> {
        // SAFETY: the caller's promise.
        unsafe { count(object) }
    }

    fn object(value: i64) -> Result<Held, Raised> {
        number(value)
    }

    #[inline(always)]
    fn see(&self) -> Result<Seen, Raised> {
        self.load().map_or(Ok(Seen::Dead), |count| number(count).map(Seen::Value))
    }

    fn set(&self, new: i64) -> Result<(), i64> {
        // `accept` has let only counts through.
        Tally::set(self, new).map_err(|_| new)
    }

    fn exchange(&self, seen: &Held, new: i64) -> bool {
        // SAFETY: `see` made the object from a count.
        let expected = unsafe { ffi::PyLong_AsLongLong(seen.as_ptr()) };
        self.compare_and_set(expected, new) == Ok(true)
    }

    fn take(&self, seen: Option<&Held>) -> Option<i64> {
        let Some(seen) = seen else { return Tally::take(self) };
        // SAFETY: `see` made the object from a count.
        let expected = unsafe { ffi::PyLong_AsLongLong(seen.as_ptr()) };
        self.take_if(expected).then_some(expected)
    }

    fn peek(&self) -> *mut PyObject {
        null_mut()
    }
}
