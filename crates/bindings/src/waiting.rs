//! How threads and tasks of event loops wait for a flight, and the face that async code in Python sees of one.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use primitives::flight::{self, Circle, Waker, Who};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::exploration::gate;
use crate::raw::sharing;
use crate::{errors, wait};

/// Adds `Flight` and `Ticket`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    sharing::add_class::<Flight>(module)?;
    sharing::add_class::<Ticket>(module)
}

/// What a flight lands with.
pub trait Outcome: Send + Sync + 'static {
    /// The value, or the error that all who wait get.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
}

/// Blocks the calling thread, detached, until the flight has landed. Raises WaitTimeout, or ReentrantError.
pub fn wait<T: Outcome>(py: Python<'_>, flight: &Arc<flight::Flight<T>>, until: Option<Instant>) -> PyResult<()> {
    let waker = Waker::Thread(thread::current());
    let ticket = flight.join(Who::thread(), waker).map_err(|Circle| circle(py))?;
    let rest = until.map(|until| until.saturating_duration_since(Instant::now()));
    let landed = match gate::wait_for_flight(flight.number(), rest)? {
        Some(has_landed) => has_landed.then_some(()),
        None => wait::until(py, until, |until| ticket.park(until).then_some(()))?,
    };
    landed.ok_or_else(|| errors::wait_timeout(py, "another caller's attempt took longer than the timeout"))
}

fn circle(py: Python<'_>) -> PyErr {
    errors::error(py, "ReentrantError", "the call would wait for itself: its result is needed to make its result")
}

/// The turn of a task that makes a result for all who wait.
pub trait Turn: Send {
    /// Ends it with a value.
    fn land(self: Box<Self>, value: &Bound<'_, PyAny>) -> PyResult<()>;

    /// Ends it without.
    fn fail(self: Box<Self>, py: Python<'_>, error: PyErr);
}

/// A flight whose outcome has been turned into Python objects.
trait Wait: Send + Sync {
    fn join(&self, who: Who, waker: Waker) -> Result<Box<dyn Send>, Circle>;
    fn result<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>>;
}

impl<T: Outcome> Wait for Arc<flight::Flight<T>> {
    fn join(&self, who: Who, waker: Waker) -> Result<Box<dyn Send>, Circle> {
        let ticket = flight::Flight::join(self, who, waker)?;
        Ok(Box::new(ticket))
    }

    fn result<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        Some(self.outcome()?.result(py))
    }
}

/// What an async caller has to do: make the result, or wait for it.
#[pyclass(frozen, module = "raceproof._native")]
pub struct Flight {
    turn: Mutex<Option<Box<dyn Turn>>>,
    /// Is it for the caller to make the result, and to call `land` or `fail` in any case?
    #[pyo3(get)]
    is_mine: bool,
    wait: Box<dyn Wait>,
}

impl Flight {
    /// The caller makes the result.
    pub fn turn<T: Outcome>(turn: Box<dyn Turn>, flight: Arc<flight::Flight<T>>) -> Self {
        Flight { turn: Mutex::new(Some(turn)), is_mine: true, wait: Box::new(flight) }
    }

    /// The caller waits.
    pub fn wait<T: Outcome>(flight: Arc<flight::Flight<T>>) -> Self {
        Flight { turn: Mutex::new(None), is_mine: false, wait: Box::new(flight) }
    }

    fn take(&self) -> PyResult<Box<dyn Turn>> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        turn.ok_or_else(|| PyRuntimeError::new_err("the turn is over, or another's"))
    }
}

#[pymethods]
impl Flight {
    /// Ends the turn with a value.
    #[pyo3(signature = (value, /))]
    fn land(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.take()?.land(value)
    }

    /// Ends the turn without a value.
    #[pyo3(signature = (error, /))]
    fn fail(&self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.take()?.fail(error.py(), PyErr::from_value(error.clone()));
        Ok(())
    }

    /// Has `wake()` called when the flight lands, in the thread that lands it; it must not block.
    #[pyo3(signature = (task, wake, /))]
    fn join(&self, py: Python<'_>, task: usize, wake: Py<PyAny>) -> PyResult<Ticket> {
        let call = move || {
            Python::attach(move |py| {
                wake.into_bound(py).call0().map_or_else(|error| error.write_unraisable(py, None), drop)
            });
        };
        let ticket = self.wait.join(Who::task(task), Waker::Call(Box::new(call))).map_err(|Circle| circle(py))?;
        Ok(Ticket(Mutex::new(Some(ticket))))
    }

    /// The value in a tuple, or nothing if who waited has to begin again; raises what the maker raised for all.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
        self.wait.result(py).transpose().map(|value| value.map(|value| (value,)))
    }
}

/// A place among those who wait.
#[pyclass(frozen, module = "raceproof._native")]
pub struct Ticket(Mutex<Option<Box<dyn Send>>>);

#[pymethods]
impl Ticket {
    /// Gives the place up.
    fn leave(&self) {
        let ticket = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(ticket);
    }
}
