//! The exceptions of the package, under one base class, and under the built-in exception where Python has one.

use pyo3::exceptions::{PyException, PyRuntimeError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

/// Makes `RaceproofError` and those below it.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let exception = py.get_type::<PyException>();
    let base = class(module, "RaceproofError", "What every exception of this package is.", &[&exception])?;
    let timeout = py.get_type::<PyTimeoutError>();
    let runtime = py.get_type::<PyRuntimeError>();
    class(
        module,
        "ReentrantError",
        "A call that would wait for itself, directly or through others.",
        &[&base, &runtime],
    )?;
    class(module, "WaitTimeout", "A wait took longer than its timeout, in seconds.", &[&base, &timeout])?;
    let full = py.import("queue")?.getattr("Full")?.cast_into::<PyType>()?;
    class(module, "QueueFull", "As many tasks wait as may wait.", &[&base, &full])?;
    Ok(())
}

/// A `RaceproofError`.
pub fn raceproof_error(py: Python<'_>, text: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    made(py, &CLASS, "RaceproofError", text)
}

/// A `WaitTimeout`.
pub fn wait_timeout(py: Python<'_>, text: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    made(py, &CLASS, "WaitTimeout", text)
}

/// A `QueueFull`.
pub fn queue_full(py: Python<'_>, text: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    made(py, &CLASS, "QueueFull", text)
}

fn made(py: Python<'_>, class: &PyOnceLock<Py<PyType>>, name: &str, text: &str) -> PyErr {
    match class.import(py, "raceproof._native", name) {
        Ok(class) => PyErr::from_type(class.clone(), (text.to_owned(),)),
        Err(error) => error,
    }
}

/// Makes the exception class `name` below `bases`, and adds it to the module.
pub fn class<'py>(
    module: &Bound<'py, PyModule>,
    name: &str,
    doc: &str,
    bases: &[&Bound<'py, PyType>],
) -> PyResult<Bound<'py, PyType>> {
    let py = module.py();
    let body = PyDict::new(py);
    body.set_item("__module__", "raceproof")?;
    body.set_item("__doc__", doc)?;
    let class = py.get_type::<PyType>().call1((name, PyTuple::new(py, bases)?, body))?;
    let class = class.cast_into::<PyType>()?;
    module.add(name, &class)?;
    Ok(class)
}

/// The exception of the class `name` of this module.
pub fn error(py: Python<'_>, name: &str, message: &str) -> PyErr {
    let made = py.import("raceproof._native").and_then(|module| module.getattr(name)?.call1((message,)));
    made.map_or_else(|error| error, PyErr::from_value)
}
