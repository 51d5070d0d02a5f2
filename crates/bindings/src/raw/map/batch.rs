//! `add_many`: what one thread counts of a key in a row is added at once, so that hot keys are not fought over.

use pyo3::ffi::{self, PyObject};

use super::key::{Raised, held};
use super::object::Kind;
use super::operations::Map;
use crate::raw::held::Held;

/// How many keys are counted aside at one time.
const N_ASIDE: usize = 64;

struct Aside {
    key: Option<Held>,
    n: i64,
}

/// Adds one to the value of each key that `keys` yields.
///
/// Each addition takes effect at some moment of the call; if the iterator or a key raises, what was counted before
/// stays.
///
/// # Safety
/// The objects are alive, and the thread is attached.
pub unsafe fn add_many<C: Kind>(map: &Map<C>, keys: *mut PyObject) -> Result<(), Raised> {
    // SAFETY: the caller's promise; what the calls return is owned or an exception.
    unsafe {
        let keys = held(ffi::PyObject_GetIter(keys))?;
        let mut aside: [Aside; N_ASIDE] = std::array::from_fn(|_| Aside { key: None, n: 0 });
        let Some(next) = (*ffi::Py_TYPE(keys.as_ptr())).tp_iternext else { return Err(Raised) };
        let mut counted = loop {
            let key = next(keys.as_ptr());
            if key.is_null() {
                break if is_raised_by_next() { Err(Raised) } else { Ok(()) };
            }
            let key = Held::owned(key);
            let place = &mut aside[(key.as_ptr().addr() >> 5) % N_ASIDE];
            match &place.key {
                Some(kept) if kept.as_ptr() == key.as_ptr() => place.n += 1,
                _ => {
                    let before = std::mem::replace(place, Aside { key: Some(key), n: 1 });
                    if let Err(raised) = before.add_to(map) {
                        break Err(raised);
                    }
                }
            }
        };
        // What was counted aside is added even if the iterator has raised; its exception is kept.
        let py = pyo3::Python::assume_attached();
        let raised = if counted.is_err() { pyo3::PyErr::take(py) } else { None };
        for place in aside {
            if let Err(raised) = place.add_to(map) {
                counted = counted.and(Err(raised));
            }
        }
        if let Some(raised) = raised {
            raised.restore(py);
        }
        counted
    }
}

/// After `tp_iternext` has returned null: was it an error?
unsafe fn is_raised_by_next() -> bool {
    // SAFETY: the thread is attached.
    unsafe {
        if ffi::PyErr_Occurred().is_null() {
            return false;
        }
        if ffi::PyErr_ExceptionMatches(ffi::PyExc_StopIteration) != 0 {
            ffi::PyErr_Clear();
            return false;
        }
        true
    }
}

impl Aside {
    unsafe fn add_to<C: Kind>(self, map: &Map<C>) -> Result<(), Raised> {
        let Some(key) = self.key else { return Ok(()) };
        // SAFETY: the key is alive.
        unsafe { C::add_number(map, key.as_ptr(), self.n) }
    }
}
