//! What happens when a value that is made once is not there yet: make it, or wait for the one who does.

use std::sync::Arc;

use primitives::flight::{self, Who};
use primitives::once::Begin;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::raw::lazy::{Cell, KeptCell, Made};
use crate::wait;
use crate::waiting::{self, Flight, Outcome, Turn};

/// What a caller gave.
pub struct Asked<'py> {
    pub positional: Bound<'py, PyTuple>,
    pub named: Option<Bound<'py, PyDict>>,
    pub timeout: Option<f64>,
}

/// The value of an empty cell, or with `is_async` a coroutine that returns it.
pub fn get<'py>(cell: &Cell<'py>, asked: Asked<'py>, is_async: bool) -> PyResult<Bound<'py, PyAny>> {
    let py = cell.object().py();
    let timeout = asked.timeout.or(cell.timeout());
    let until = wait::deadline(timeout)?;
    if is_async {
        let named = asked.named.unwrap_or_else(|| PyDict::new(py));
        let coroutine = py.import("raceproof._once")?.getattr("_aget")?;
        return coroutine.call1((cell.object(), cell.maker(), asked.positional, named, timeout));
    }
    loop {
        match cell.once().begin(Who::thread()) {
            Begin::Made(made) => return Ok(made.value(py)),
            Begin::Make(flight) => {
                let made = cell.maker().call(&asked.positional, asked.named.as_ref()).and_then(finished);
                let landed = made.and_then(|value| cell.land(&flight, &value).map(|()| value));
                return landed.inspect_err(|_| cell.once().fail(&flight));
            }
            Begin::Wait(flight) => {
                waiting::wait(py, &flight, until)?;
                if let Some(made) = flight.outcome() {
                    return Ok(made.value(py));
                }
            }
        }
    }
}

/// Refuses a coroutine: nobody would run it.
fn finished(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let coroutine = value.py().import("types")?.getattr("CoroutineType")?;
    if value.is_instance(&coroutine)? {
        value.call_method0("close")?;
        return Err(PyTypeError::new_err("it is made by async code: await it first, then it can be had without"));
    }
    Ok(value)
}

/// What a task has to do: `(value, None)`, or `(None, Flight)`.
pub fn begin<'py>(cell: &Cell<'py>, task: usize) -> PyResult<Bound<'py, PyAny>> {
    let py = cell.object().py();
    let flight = match cell.once().begin(Who::task(task)) {
        Begin::Made(made) => return (made.value(py), py.None()).into_pyobject(py).map(Bound::into_any),
        Begin::Make(flight) => {
            Flight::turn(Box::new(CellTurn { cell: cell.clone().unbind(), flight: flight.clone() }), flight)
        }
        Begin::Wait(flight) => Flight::wait(flight),
    };
    (py.None(), flight).into_pyobject(py).map(Bound::into_any)
}

/// The turn of a task that makes the value of a cell.
struct CellTurn {
    cell: KeptCell,
    flight: Arc<flight::Flight<Made>>,
}

impl Turn for CellTurn {
    fn land(self: Box<Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let cell = self.cell.bind(value.py());
        cell.land(&self.flight, value).inspect_err(|_| cell.once().fail(&self.flight))
    }

    fn fail(self: Box<Self>, py: Python<'_>, _error: PyErr) {
        self.cell.bind(py).once().fail(&self.flight);
    }
}

impl Outcome for Made {
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.value(py))
    }
}
