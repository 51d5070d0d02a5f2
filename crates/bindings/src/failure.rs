//! What a task raised, and that nobody has asked for it yet. It is an object of its own since only an object with a
//! `__del__` learns in time that it is lost: when the garbage collector clears a cycle, the exception is cleared too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use pyo3::PyTraverseError;
use pyo3::exceptions::PyBaseException;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType, PyWeakrefReference};

use crate::fork::{PerProcess, generation};
use crate::future::lock;
use crate::pool::Shared;

/// Adds `FailureBase`, whose class with a `__del__` is in python/raceproof/pool.py, and `report_lost`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    crate::raw::sharing::add_class::<FailureBase>(module)?;
    module.add_function(wrap_pyfunction!(report_lost, module)?)
}

/// Failures that nobody has asked for.
static UNSEEN: PerProcess<Mutex<HashMap<u64, Py<PyWeakrefReference>>>> = PerProcess::new();
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Reports the exceptions that nobody has asked for so far. Called when the interpreter ends.
#[pyfunction]
fn report_lost(py: Python<'_>) {
    let unseen = UNSEEN.get().map(|unseen| std::mem::take(&mut *lock(unseen)));
    for weak in unseen.into_iter().flat_map(HashMap::into_values) {
        if let Some(failure) = weak.bind(py).upgrade()
            && let Ok(failure) = failure.cast_into::<FailureBase>()
        {
            failure.get().report(py);
        }
    }
}

#[derive(Default)]
struct Raised {
    error: Option<Py<PyBaseException>>,
    /// The name of the task.
    label: String,
    shared: Option<Arc<Shared>>,
}

/// An exception of a task.
#[pyclass(frozen, subclass, module = "raceproof._native")]
pub struct FailureBase {
    raised: Mutex<Raised>,
    /// Has somebody asked for it, or was it reported?
    is_seen: AtomicBool,
    number: u64,
    generation: u32,
}

impl FailureBase {
    /// A failure of the task `label`. Where even that fails the error is reported at once.
    pub fn make(py: Python<'_>, shared: &Option<Arc<Shared>>, error: PyErr, label: String) -> PyResult<Py<Self>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let made = (|| {
            let class = CLASS.import(py, "raceproof.pool", "_Failure")?;
            let failure = crate::raw::slots::without_init(class)?.cast_into::<FailureBase>()?;
            let weak = PyWeakrefReference::new(&failure)?.unbind();
            Ok((failure, weak))
        })();
        let (failure, weak) = match made {
            Ok(made) => made,
            Err(failed) => {
                error.write_unraisable(py, Some(&PyString::new(py, &label)));
                return Err(failed);
            }
        };
        let error = Some(error.into_value(py));
        *lock(&failure.get().raised) = Raised { error, label, shared: shared.clone() };
        let old = lock(UNSEEN.get_or_make(Mutex::default)).insert(failure.get().number, weak);
        drop(old);
        Ok(failure.unbind())
    }

    /// The exception, of which somebody now knows.
    pub fn look(&self, py: Python<'_>) -> Option<Py<PyBaseException>> {
        self.see();
        lock(&self.raised).error.as_ref().map(|error| error.clone_ref(py))
    }

    /// The name of the exception's class.
    pub fn name(&self, py: Python<'_>) -> PyResult<String> {
        let error = lock(&self.raised).error.as_ref().map(|error| error.clone_ref(py));
        error.map_or(Ok(String::new()), |error| Ok(error.bind(py).get_type().name()?.to_string()))
    }

    /// Says whether it was unseen until now.
    fn see(&self) -> bool {
        let first = !self.is_seen.swap(true, AcqRel);
        if first
            && self.generation == generation()
            && let Some(unseen) = UNSEEN.get()
        {
            let weak = lock(unseen).remove(&self.number);
            drop(weak);
        }
        first
    }

    /// Reports the exception if nobody has asked for it.
    fn report(&self, py: Python<'_>) {
        if !self.see() {
            return;
        }
        let raised = {
            let raised = lock(&self.raised);
            let error = raised.error.as_ref().map(|error| error.clone_ref(py));
            error.zip(raised.shared.clone()).map(|(error, shared)| (error, shared, raised.label.clone()))
        };
        if let Some((error, shared, label)) = raised {
            shared.report_lost(py, &label, error.into_bound(py));
        }
    }
}

#[pymethods]
impl FailureBase {
    #[new]
    fn new() -> Self {
        let number = NUMBER.fetch_add(1, Relaxed);
        FailureBase { raised: Mutex::default(), is_seen: AtomicBool::new(false), number, generation: generation() }
    }

    /// Reports the exception if nobody has asked for it.
    fn _report(&self, py: Python<'_>) {
        self.report(py);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.raised.try_lock() {
            Ok(raised) => visit.call(&raised.error),
            Err(_) => Ok(()), // held, so in use
        }
    }

    fn __clear__(&self) {
        let error = lock(&self.raised).error.take();
        drop(error);
    }
}
