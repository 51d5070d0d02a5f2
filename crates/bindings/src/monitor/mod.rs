//! Health and incidents for `raceproof.monitor`: what the crate `monitor` does, in the types of Python. The classes here
//! are for that package, not for users; they take and give plain values (JSON as text).

mod page;
mod parts;
mod store;
mod stream;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use monitor::Error;
use monitor::incident::Severity;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::errors;
use crate::raw::sharing;

/// The longest wait that is asked of the clock.
const WAIT_MAX_S: f64 = 1e9;

static FAILED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUSY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static TIMEOUT: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Adds the classes and exceptions of this part.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let base = module.getattr("RaceproofError")?.cast_into::<PyType>()?;
    let doc = "The monitor could not do it: the store failed, or it would be against the rules.";
    let failed = errors::class(module, "MonitorError", doc, &[&base])?;
    let doc = "The queue of the store had no room; try again.";
    let busy = errors::class(module, "StoreBusy", doc, &[&failed])?;
    let timeout = module.getattr("WaitTimeout")?.cast_into::<PyType>()?;
    // A second import in the same process keeps the classes of the first.
    let _ = (FAILED.set(py, failed.unbind()), BUSY.set(py, busy.unbind()), TIMEOUT.set(py, timeout.unbind()));
    sharing::add_class::<store::MonitorStore>(module)?;
    sharing::add_class::<stream::MonitorStream>(module)?;
    sharing::add_class::<stream::MonitorCursor>(module)?;
    sharing::add_class::<parts::MonitorRegistry>(module)?;
    sharing::add_class::<parts::MonitorFigures>(module)?;
    sharing::add_class::<parts::MonitorCorrelator>(module)?;
    sharing::add_class::<parts::MonitorSettings>(module)?;
    sharing::add_class::<page::MonitorPage>(module)?;
    module.add_function(wrap_pyfunction!(parts::monitor_default_store, module)?)?;
    module.add_function(wrap_pyfunction!(parts::monitor_usage, module)?)?;
    module.add_function(wrap_pyfunction!(parts::monitor_objects, module)?)?;
    module.add_function(wrap_pyfunction!(parts::monitor_openmetrics, module)?)
}

/// The exception for an error of the crate.
fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error {
        Error::Unknown(id) => return PyKeyError::new_err(id.to_string()),
        Error::Busy => BUSY.get(py),
        Error::Timeout => TIMEOUT.get(py),
        Error::Storage(_) | Error::Newer { .. } | Error::Refused(_) | Error::Closed => FAILED.get(py),
    };
    match class {
        Some(class) => PyErr::from_type(class.bind(py).clone(), error.to_string()),
        None => PyValueError::new_err(error.to_string()),
    }
}

fn severity(word: &str) -> PyResult<Severity> {
    Severity::named(word).ok_or_else(|| {
        let known = Severity::ALL.map(Severity::as_str).join(", ");
        PyValueError::new_err(format!("no severity is called `{word}`; there are {known}"))
    })
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A timeout in seconds; what is negative or no number is no time at all.
fn duration(timeout_s: f64) -> Duration {
    Duration::from_secs_f64(if timeout_s > 0.0 { timeout_s.min(WAIT_MAX_S) } else { 0.0 })
}

fn deadline(timeout_s: Option<f64>) -> Option<Instant> {
    timeout_s.map(|timeout_s| Instant::now() + duration(timeout_s))
}
