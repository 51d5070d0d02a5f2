//! Making the value of a key once, whoever asks: who comes first takes the turn, the others wait until it ends.
//!
//! The turns stand in one `dict` of the process, by object and key, so keys are compared as in any dict: by their own
//! `__eq__`, under no lock of ours. Who waits is detached from the interpreter, and looks for signals now and then.

use std::sync::Arc;
use std::thread;

use primitives::flight::{Circle, Flight, Waker, Who};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::errors;
use crate::exploration::gate;
use crate::raw::{dict, sharing};
use crate::wait;

/// A flight among Python objects.
#[pyclass(frozen, module = "raceproof")]
struct Turn(Arc<Flight<()>>);

/// What the caller is to do.
pub enum Take<'py> {
    /// Make the value; the turn ends when this is dropped.
    Mine(Mine<'py>),
    /// Another's turn has ended: look again.
    Over,
}

/// The turn of the caller.
pub struct Mine<'py> {
    place: Bound<'py, PyTuple>,
    turn: Bound<'py, Turn>,
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        // If comparing the keys fails here, the turn stays in the table; it has ended, and is removed when met.
        let _ = remove(&self.place, &self.turn);
        self.turn.get().0.land(None);
    }
}

fn table(py: Python<'_>) -> &Bound<'_, PyDict> {
    static TABLE: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    TABLE.get_or_init(py, || sharing::keep(PyDict::new(py)).unbind()).bind(py)
}

fn remove(place: &Bound<'_, PyTuple>, turn: &Bound<'_, Turn>) -> PyResult<bool> {
    dict::remove_if(table(place.py()), place.as_any(), turn.as_any())
}

/// Takes the turn for `key` of `owner`, or waits until the turn of another thread is over.
///
/// # Errors
/// `ReentrantError` if the wait would never end; what comparing the keys or a signal handler raises.
pub fn take<'py>(owner: &Bound<'py, PyAny>, key: &Bound<'py, PyAny>) -> PyResult<Take<'py>> {
    let py = owner.py();
    let place = (owner.as_ptr() as usize, key).into_pyobject(py)?;
    let turn = Bound::new(py, Turn(Flight::new(Who::thread())))?;
    let there = dict::set_default(table(py), place.as_any(), turn.as_any())?;
    if there.is(&turn) {
        return Ok(Take::Mine(Mine { place, turn }));
    }
    let there = there.cast_into::<Turn>()?;
    let flight = &there.get().0;
    if flight.is_orphan() || flight.is_landed() {
        remove(&place, &there)?;
        return Ok(Take::Over);
    }
    // Joined and left while attached: a fork does not meet the lock that this takes.
    let ticket = flight.join(Who::thread(), Waker::Thread(thread::current())).map_err(|Circle| circle(py))?;
    if gate::wait_for_flight(flight.number(), None)?.is_none() {
        wait::until(py, None, |until| ticket.park(until).then_some(()))?;
    }
    Ok(Take::Over)
}

fn circle(py: Python<'_>) -> PyErr {
    errors::error(py, "ReentrantError", "the call would wait for itself: its result is needed to make its result")
}
