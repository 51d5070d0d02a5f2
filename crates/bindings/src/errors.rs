//! The exceptions of the package, under one base class, and under the built-in exception where Python has one.

use pyo3::exceptions::{PyException, PyRuntimeError, PyTimeoutError};
use pyo3::prelude::*;
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
    Ok(())
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
