//! `with lock.within(0.5):` and `async with lock.within(0.5):`: a wait with an end, and an error that says who was in
//! the way.

use std::time::Instant;

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::raw::patience::Patience;
use crate::raw::sharing;

/// The types are made here, before other threads see them.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    sharing::pin_class(&module.py().get_type::<Within>());
    sharing::pin_class(&module.py().get_type::<AsyncWithin>());
    Ok(())
}

/// A lock with a limit to the wait for it. It holds nothing itself, and can be used again.
#[pyclass(frozen, module = "raceproof")]
pub struct Within {
    lock: Py<PyAny>,
    timeout_s: f64,
}

/// Reads a timeout in seconds.
pub fn timeout(given: &Bound<'_, PyAny>) -> PyResult<f64> {
    let timeout_s: f64 = given.extract()?;
    if timeout_s.is_nan() || timeout_s < 0.0 {
        return Err(PyValueError::new_err("timeout must be a non-negative number of seconds"));
    }
    // The limits of `acquire`, said here, where the mistake is.
    Patience::new(true, timeout_s).map(|_| timeout_s).map_err(|_| PyOverflowError::new_err("timeout is too large"))
}

impl Within {
    /// `lock.within(timeout)`.
    pub fn new(lock: &Bound<'_, PyAny>, given: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Within { lock: lock.clone().unbind(), timeout_s: timeout(given)? })
    }
}

#[pymethods]
impl Within {
    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        let lock = self.lock.bind(py);
        let began = Instant::now();
        if lock.call_method1("acquire", (true, self.timeout_s))?.is_truthy()? {
            return Ok(true);
        }
        Err(wait_timeout(lock, began.elapsed().as_secs_f64())?)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.lock.bind(py).call_method0("release").map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.lock)
    }
}

/// The same for an `AsyncLock`, with both kinds of `with`.
#[pyclass(frozen, module = "raceproof")]
pub struct AsyncWithin {
    lock: Py<PyAny>,
    timeout_s: f64,
}

impl AsyncWithin {
    /// `lock.within(timeout)`.
    pub fn new(lock: &Bound<'_, PyAny>, given: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(AsyncWithin { lock: lock.clone().unbind(), timeout_s: timeout(given)? })
    }
}

#[pymethods]
impl AsyncWithin {
    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        let lock = self.lock.bind(py);
        let began = Instant::now();
        if lock.call_method1("_acquire_in_thread", (self.timeout_s,))?.is_truthy()? {
            return Ok(true);
        }
        Err(wait_timeout(lock, began.elapsed().as_secs_f64())?)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.lock.bind(py).call_method0("release").map(drop)
    }

    fn __aenter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.lock.bind(py).call_method1("_acquire_within", (self.timeout_s,))
    }

    #[pyo3(signature = (*exc_info))]
    fn __aexit__<'py>(&self, py: Python<'py>, exc_info: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.lock.bind(py).call_method1("__aexit__", exc_info.clone())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.lock)
    }
}

/// A `WaitTimeout` for a lock, with the attributes `name`, `holder`, `held_for` and `waited`.
pub fn wait_timeout(lock: &Bound<'_, PyAny>, waited_s: f64) -> PyResult<PyErr> {
    let py = lock.py();
    let (name, holder) = (lock.getattr("name")?, lock.getattr("holder")?);
    // An `AsyncLock` does not know it.
    let held_for = lock.getattr_opt("held_for")?.unwrap_or_else(|| py.None().into_bound(py));
    let kind = lock.get_type().name()?.to_string();
    let called = match name.extract::<Option<String>>()? {
        Some(name) => format!("{kind} '{name}'"),
        None => kind,
    };
    let by = match holder.extract::<Option<(usize, Option<String>)>>()? {
        None => "its holder has just left".to_owned(),
        Some((ident, None)) => format!("it is held by thread {ident}"),
        Some((ident, Some(thread))) => format!("it is held by {thread} (thread {ident})"),
    };
    let long = held_for.extract::<Option<f64>>()?.map_or(String::new(), |held_s| format!(" for {held_s:.3} s now"));
    let text = format!("{called} was not to be had within {waited_s:.3} s: {by}{long}");
    let class = py.import("raceproof._native")?.getattr("WaitTimeout")?.cast_into::<PyType>()?;
    let error = class.call1((text,))?;
    for (attribute, value) in [("name", name), ("holder", holder), ("held_for", held_for)] {
        error.setattr(attribute, value)?;
    }
    error.setattr("waited", waited_s)?;
    Ok(PyErr::from_value(error))
}
