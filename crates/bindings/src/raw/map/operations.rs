//! What can be done with a key of a map. Each function takes effect at one moment between its beginning and its end.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use primitives::raw::table::{Cursor, Epochs, Found, Hash, Others, Removal, Search, Table};
use primitives::raw::tally::{Refused, Tally};
use pyo3::ffi;
use pyo3::ffi::PyObject;

use super::epochs::{Attached, Window};
use super::key::{self, Key, Raised, held};
use super::value::{Seen, Value, count_overflow, number};
use crate::raw::held::Held;

/// The table of a map.
pub type Map<C> = Table<Key, C, Attached>;

/// Where a search has led.
enum Located<'w, C> {
    Found(Found<'w, Key, C>),
    Absent,
    /// The window closed during the search.
    Again,
}

#[inline(always)]
unsafe fn locate<'w, C: Value>(
    map: &'w Map<C>,
    window: &'w Window,
    hash: Hash,
    key: *mut PyObject,
) -> Result<Located<'w, C>, Raised> {
    let mut raised = false;
    // SAFETY: the key is alive, by the promise of the callers.
    let search = map.find(window, hash, |stored, cell| unsafe { stored.compare(cell, key, window, &mut raised) });
    located(search, raised)
}

/// As `locate`, before an insertion.
#[inline(always)]
unsafe fn locate_noting<'w, C: Value>(
    map: &'w Map<C>,
    window: &'w Window,
    hash: Hash,
    key: *mut PyObject,
    others: &mut Others,
) -> Result<Located<'w, C>, Raised> {
    let mut raised = false;
    // SAFETY: the key is alive, by the promise of the callers.
    let compare = |stored: &Key, cell: &C| unsafe { stored.compare(cell, key, window, &mut raised) };
    let search = map.find_noting(window, hash, others, compare);
    located(search, raised)
}

#[inline(always)]
fn located<C>(search: Search<'_, Key, C>, raised: bool) -> Result<Located<'_, C>, Raised> {
    match search {
        Search::Found(found) => Ok(Located::Found(found)),
        Search::Absent => Ok(Located::Absent),
        Search::Stopped if raised => Err(Raised),
        Search::Stopped => Ok(Located::Again),
    }
}

/// The value of a key.
///
/// # Safety
/// Here and below: the objects are alive, and the thread is attached.
#[inline(always)]
pub unsafe fn lookup<C: Value>(map: &Map<C>, key: *mut PyObject) -> Result<Option<Held>, Raised> {
    // SAFETY: the caller's promise.
    let hash = unsafe { key::hash(key) }?;
    loop {
        let window = Attached::open();
        // SAFETY: the caller's promise.
        match unsafe { locate(map, &window, hash, key) }? {
            Located::Found(found) => match found.cell.see()? {
                Seen::Value(value) => return Ok(Some(value)),
                Seen::Dead => return Ok(None),
                Seen::Changed => {}
            },
            Located::Absent => return Ok(None),
            Located::Again => {}
        }
    }
}

/// Is the key in the map?
#[inline(always)]
pub unsafe fn contains<C: Value>(map: &Map<C>, key: *mut PyObject) -> Result<bool, Raised> {
    // SAFETY: the caller's promise.
    let hash = unsafe { key::hash(key) }?;
    loop {
        let window = Attached::open();
        // SAFETY: the caller's promise.
        match unsafe { locate(map, &window, hash, key) }? {
            Located::Found(found) => return Ok(!found.cell.is_dead()),
            Located::Absent => return Ok(false),
            Located::Again => {}
        }
    }
}

/// Sets the value of a key.
#[inline(always)]
pub unsafe fn store<C: Value>(map: &Map<C>, key: *mut PyObject, value: C::Value) -> Result<(), Raised> {
    // SAFETY: the caller's promise.
    let hash = unsafe { key::hash(key) }?;
    let (mut value, mut others) = (value, Others::default());
    loop {
        let window = Attached::open();
        // SAFETY: the caller's promise.
        match unsafe { locate_noting(map, &window, hash, key, &mut others) }? {
            Located::Found(found) => match found.cell.set(value) {
                Ok(()) => return Ok(()),
                Err(unused) => value = unused,
            },
            Located::Absent => {}
            Located::Again => continue,
        }
        // SAFETY: the caller's promise.
        match map.insert(&window, hash, &others, unsafe { Key::new(key) }, value) {
            Ok(()) => return Ok(()),
            Err((_, unused)) => value = unused,
        }
    }
}

/// Adds a key, unless it is there: then its value is returned.
pub unsafe fn add_key<C: Value>(map: &Map<C>, key: *mut PyObject, value: C::Value) -> Result<Option<Held>, Raised> {
    // SAFETY: the caller's promise.
    let hash = unsafe { key::hash(key) }?;
    let (mut value, mut others) = (value, Others::default());
    loop {
        let window = Attached::open();
        // SAFETY: the caller's promise.
        match unsafe { locate_noting(map, &window, hash, key, &mut others) }? {
            Located::Found(found) => match found.cell.see()? {
                Seen::Value(value) => return Ok(Some(value)),
                Seen::Changed => continue,
                Seen::Dead => {}
            },
            Located::Absent => {}
            Located::Again => continue,
        }
        // SAFETY: the caller's promise.
        match map.insert(&window, hash, &others, unsafe { Key::new(key) }, value) {
            Ok(()) => return Ok(None),
            Err((_, unused)) => value = unused,
        }
    }
}

/// Removes a key, if its value is the one that was seen, or whatever it is, and returns the value.
pub unsafe fn remove<C: Value>(map: &Map<C>, key: *mut PyObject, seen: Option<&Held>) -> Result<Option<Held>, Raised> {
    // SAFETY: the caller's promise.
    let hash = unsafe { key::hash(key) }?;
    loop {
        let window = Attached::open();
        // SAFETY: the caller's promise.
        let found = match unsafe { locate(map, &window, hash, key) }? {
            Located::Found(found) => found,
            Located::Absent => return Ok(None),
            Located::Again => continue,
        };
        match map.remove(&window, &found, |key, cell| cell.take(seen).map(|value| (value, key.release()))) {
            Removal::Removed((value, _key)) => return C::object(value).map(Some),
            Removal::Kept => return Ok(None),
            Removal::Reopen => {}
        }
    }
}

/// Replaces the value of a key if it is the one that was seen; says whether it was.
pub unsafe fn exchange<C: Value>(map: &Map<C>, key: *mut PyObject, seen: &Held, new: C::Value) -> Result<bool, Raised> {
    // SAFETY: the caller's promise.
    let hash = unsafe { key::hash(key) }?;
    loop {
        let window = Attached::open();
        // SAFETY: the caller's promise.
        match unsafe { locate(map, &window, hash, key) }? {
            Located::Found(found) => return Ok(found.cell.exchange(seen, new)),
            Located::Absent => return Ok(false),
            Located::Again => {}
        }
    }
}

/// Replaces the value of a key by what `next` makes of it, and returns the new value. `next` is called outside all
/// locks, with nothing if the key is not there, and again if another thread was faster.
#[inline(always)]
pub unsafe fn update<C: Value>(
    map: &Map<C>,
    key: *mut PyObject,
    mut next: impl FnMut(Option<&Held>) -> Result<Held, Raised>,
) -> Result<Held, Raised> {
    // SAFETY: the caller's promise.
    let hash = unsafe { key::hash(key) }?;
    loop {
        let window = Attached::open();
        // SAFETY: the caller's promise.
        let found = match unsafe { locate(map, &window, hash, key) }? {
            Located::Found(found) => Some(found),
            Located::Absent => None,
            Located::Again => continue,
        };
        let seen = match found.as_ref().map(|found| found.cell.see()).transpose()? {
            Some(Seen::Value(value)) => value,
            Some(Seen::Changed) => continue,
            Some(Seen::Dead) | None => {
                let new = next(None)?;
                // SAFETY: the caller's promise.
                if unsafe { add_key(map, key, C::accept(new.as_ptr())?) }?.is_none() {
                    return Ok(new);
                }
                continue;
            }
        };
        let new = next(Some(&seen))?;
        // SAFETY: the caller's promise.
        let value = unsafe { C::accept(new.as_ptr()) }?;
        let is_stored = match found {
            Some(found) if Attached::is_open(&window) => found.cell.exchange(&seen, value),
            // SAFETY: the caller's promise.
            _ => unsafe { exchange(map, key, &seen, value) }?,
        };
        if is_stored {
            return Ok(new);
        }
    }
}

/// The sum of two numbers.
#[inline(always)]
unsafe fn sum(value: *mut PyObject, n: *mut PyObject) -> Result<Held, Raised> {
    // SAFETY: the caller's objects are alive; exact integers are read without Python code.
    unsafe {
        let int = &raw mut ffi::PyLong_Type;
        if ffi::Py_TYPE(value) == int && ffi::Py_TYPE(n) == int {
            let (mut over, mut over_n) = (0, 0);
            let value = ffi::PyLong_AsLongLongAndOverflow(value, &mut over);
            let n = ffi::PyLong_AsLongLongAndOverflow(n, &mut over_n);
            if over == 0
                && over_n == 0
                && let Some(sum) = value.checked_add(n)
            {
                return number(sum);
            }
        }
        held(ffi::PyNumber_Add(value, n))
    }
}

/// Adds an object to the value of a key, which begins with that object, and returns the sum.
pub unsafe fn add<C: Value>(map: &Map<C>, key: *mut PyObject, n: *mut PyObject) -> Result<Held, Raised> {
    // SAFETY: the caller's promise.
    unsafe { update(map, key, |seen| seen.map_or_else(|| Ok(Held::new(n)), |seen| sum(seen.as_ptr(), n))) }
}

/// Adds to a count, which begins at 0, and returns the sum.
#[inline(always)]
pub unsafe fn count(map: &Map<Tally>, key: *mut PyObject, n: i64) -> Result<i64, Raised> {
    // SAFETY: the caller's promise.
    let hash = unsafe { key::hash(key) }?;
    let mut others = Others::default();
    loop {
        let window = Attached::open();
        // SAFETY: the caller's promise.
        match unsafe { locate_noting(map, &window, hash, key, &mut others) }? {
            Located::Found(found) => match found.cell.add(n) {
                Ok(sum) => return Ok(sum),
                Err(Refused::Overflow) => return Err(count_overflow()),
                Err(Refused::Dead) => {}
            },
            Located::Absent => {}
            Located::Again => continue,
        }
        // SAFETY: the caller's promise.
        if map.insert(&window, hash, &others, unsafe { Key::new(key) }, n).is_ok() {
            return Ok(n);
        }
    }
}

/// The next key and value of a walk.
pub unsafe fn next<C: Value>(map: &Map<C>, cursor: &mut Cursor) -> Result<Option<(Held, Held)>, Raised> {
    loop {
        let window = Attached::open();
        let Some((key, cell)) = map.next(&window, cursor) else { return Ok(None) };
        // SAFETY: the entry is alive.
        let Some(key) = (unsafe { key.get(cell) }) else { continue };
        while Attached::is_open(&window) {
            match cell.see()? {
                Seen::Value(value) => return Ok(Some((key, value))),
                Seen::Dead => break,
                Seen::Changed => {}
            }
        }
        // Either the entry is dead, or the window closed: the key is then looked for in the usual way.
        // SAFETY: the key is alive.
        if let Some(value) = unsafe { lookup(map, key.as_ptr()) }? {
            return Ok(Some((key, value)));
        }
    }
}

/// Removes all keys, shard by shard.
pub unsafe fn clear<C: Value>(map: &Map<C>) {
    map.clear(Attached::open, |key, cell| cell.take(None).map(|value| (value, key.release())), drop);
}

/// Removes some key and returns it with its value. The walk goes on where the last one ended, so emptying a map key by
/// key looks at each entry once.
pub unsafe fn pop_any<C: Value>(map: &Map<C>, from: &AtomicU64) -> Result<Option<(Held, Held)>, Raised> {
    let mut cursor = Cursor::unpack(from.load(Relaxed));
    let mut is_second_round = false;
    loop {
        // SAFETY: the caller's promise.
        let Some((key, value)) = (unsafe { next(map, &mut cursor) })? else {
            if is_second_round {
                return Ok(None);
            }
            (cursor, is_second_round) = (Cursor::default(), true);
            continue;
        };
        from.store(cursor.pack(), Relaxed);
        // SAFETY: the caller's promise; the value was just seen. If it has changed since, another thread was faster.
        if let Some(value) = unsafe { remove(map, key.as_ptr(), Some(&value)) }? {
            return Ok(Some((key, value)));
        }
    }
}
