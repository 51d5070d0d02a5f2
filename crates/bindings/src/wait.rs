//! Waiting as Python code expects it: detached, with a timeout in seconds, and interrupted by signals.

use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::exploration::gate;

/// How long the main thread waits before it looks for signals such as Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

/// The moment that lies `timeout` seconds ahead; `None` is never.
pub fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    match timeout {
        None => Ok(None),
        Some(timeout) if timeout.is_nan() => Err(PyValueError::new_err("a timeout must be a number of seconds")),
        Some(timeout) => {
            let timeout = Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::MAX);
            Ok(Instant::now().checked_add(timeout))
        }
    }
}

/// Calls `wait`, detached, until it returns something or `deadline` has passed; it gets the moment at which it has to
/// come back. An exception that a signal handler raises ends the wait. In a thread of an exploration others go on
/// meanwhile, and the limit counts on the clock of the run.
pub fn until<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    mut wait: impl FnMut(Option<Instant>) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    if gate::is_controlled() {
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut got = None;
        gate::wait_for(rest, || {
            got = py.detach(|| wait(Some(Instant::now())));
            got.is_some()
        })?;
        return Ok(got);
    }
    loop {
        let slice = Instant::now() + SLICE;
        let last = deadline.is_some_and(|deadline| deadline <= slice);
        let until = if last { deadline } else { Some(slice) };
        let got = py.detach(|| wait(until));
        if got.is_some() || last {
            return Ok(got);
        }
        py.check_signals()?;
    }
}
