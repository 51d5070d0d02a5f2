//! The sharing policy: how an object that many threads use at once keeps them from meeting on its reference count.
//!
//! Every use of an object from a thread that did not make it changes an atomic count, and two threads that do so at
//! once are slower than one. A *shared* object is not counted. On CPython 3.13 that is only possible by making it
//! immortal: it is never freed, so share what lives as long as the process. On 3.14 and later its count is deferred to
//! the garbage collector, which frees it as usual. On a build with a GIL nothing happens.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::types::PyType;

static ON: AtomicBool = AtomicBool::new(true);

/// Adds `share`, `is_shared` and `set_sharing`. `RACEPROOF_SHARING=0` in the environment switches sharing off.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if std::env::var_os("RACEPROOF_SHARING").is_some_and(|value| value == "0") {
        ON.store(false, Ordering::Relaxed);
    }
    module.add_function(wrap_pyfunction!(share, module)?)?;
    module.add_function(wrap_pyfunction!(is_shared, module)?)?;
    module.add_function(wrap_pyfunction!(set_sharing, module)?)
}

/// Switches reference counting off for an object that lives as long as the process, and returns the object.
///
/// Call it in the thread that made the object, before other threads see it: elsewhere, and while sharing is switched
/// off by `set_sharing(False)`, it does nothing. On CPython 3.13 a shared object is never freed, nor is what it holds.
#[pyfunction]
#[pyo3(signature = (object, /))]
fn share<'py>(object: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    try_share(object);
    object.clone()
}

/// Is reference counting switched off for this object?
#[pyfunction]
#[pyo3(signature = (object, /))]
fn is_shared(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive, and this thread is attached.
    unsafe { super::refcount::is_uncounted(object.as_ptr()) }
}

/// Switches `share` and `shared=True` on or off; returns what was set before. Tests that count references switch it
/// off. Objects that are shared already stay so.
#[pyfunction]
#[pyo3(signature = (on, /))]
fn set_sharing(on: bool) -> bool {
    ON.swap(on, Ordering::Relaxed)
}

/// Shares `object` if that is possible now; says whether it is shared.
pub fn try_share(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive, and this thread is attached.
    ON.load(Ordering::Relaxed) && unsafe { super::refcount::share(object.as_ptr()) }
}

/// Switches reference counting off for an object that this module keeps for good, whatever `set_sharing` says.
pub fn keep<T>(object: Bound<'_, T>) -> Bound<'_, T> {
    // SAFETY: the object is alive, and this thread is attached.
    unsafe { super::refcount::share(object.as_ptr()) };
    object
}

/// Pins the type of a class of this module, which lives as long as the process: making its objects in two threads at
/// once does not meet on its count. Call it while the module is made, in the thread that makes it.
pub fn pin_class(class: &Bound<'_, PyType>) {
    // SAFETY: this thread made the type a moment ago, and no other has seen it yet.
    unsafe { super::refcount::immortalize(class.as_ptr()) };
}

/// Adds a class written with PyO3 to the module, and pins it.
pub fn add_class<T: PyClass>(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<T>()?;
    pin_class(&module.py().get_type::<T>());
    Ok(())
}
