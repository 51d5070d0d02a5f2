//! The stream of events and its subscribers.

use std::sync::Arc;

use monitor::stream::{Cursor, Event, Next, Stream};
use parking_lot::Mutex;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

use super::{deadline, now_s};

/// An event, in the order of the fields of `raceproof.monitor.Event`.
type EventRow = (u64, f64, String, String);

/// A ring of events that any number of subscribers read.
#[pyclass(frozen, module = "raceproof._native")]
pub struct MonitorStream {
    stream: Arc<Stream>,
}

#[pymethods]
impl MonitorStream {
    #[new]
    fn new(limit: usize) -> Self {
        Self { stream: Arc::new(Stream::new(limit)) }
    }

    /// Adds an event; returns its number, or None if the stream is closed.
    fn publish(&self, topic: String, payload: String) -> Option<u64> {
        self.stream.publish(now_s(), topic, payload)
    }

    /// A place in the stream, `replay` events back.
    fn subscribe(&self, replay: usize) -> MonitorCursor {
        MonitorCursor { stream: Arc::clone(&self.stream), cursor: Mutex::new(self.stream.subscribe(replay)) }
    }

    /// Ends the stream.
    fn close(&self) {
        self.stream.close();
    }
}

/// A place in a stream.
#[pyclass(frozen, module = "raceproof._native")]
pub struct MonitorCursor {
    stream: Arc<Stream>,
    /// Held for a step, never while waiting.
    cursor: Mutex<Cursor>,
}

fn row(event: &Event) -> EventRow {
    (event.seq, event.at_s, event.topic.clone(), event.payload.clone())
}

impl MonitorCursor {
    fn step(&self) -> PyResult<Option<EventRow>> {
        match self.stream.poll(&mut self.cursor.lock()) {
            Next::Event(event) => Ok(Some(row(&event))),
            Next::Nothing => Ok(None),
            Next::Closed => Err(PyStopIteration::new_err("the stream is closed")),
        }
    }
}

#[pymethods]
impl MonitorCursor {
    /// The next event, or None if there is none yet; StopIteration at the end of a closed stream.
    fn poll(&self) -> PyResult<Option<EventRow>> {
        self.step()
    }

    /// Waits for the next event; None after `timeout` seconds.
    #[pyo3(signature = (timeout))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<EventRow>> {
        let deadline = deadline(timeout);
        loop {
            if let Some(event) = self.step()? {
                return Ok(Some(event));
            }
            let next = self.cursor.lock().next();
            // Another thread that reads the same place may come first, so look again.
            if !py.detach(|| self.stream.wait_for(next, deadline)) {
                return self.step();
            }
        }
    }

    /// Calls `wake()` when there is something new, unless there is already; says whether it will.
    fn wake_later(&self, wake: Py<PyAny>) -> bool {
        let call = move || {
            // Without an interpreter there is nobody to wake.
            let _ = Python::try_attach(|py| {
                if let Err(error) = wake.call0(py) {
                    error.write_unraisable(py, Some(wake.bind(py)));
                }
                drop(wake);
            });
        };
        let place = self.cursor.lock().place();
        self.stream.wake_later(place, Box::new(call))
    }

    /// How many events this subscriber missed.
    #[getter]
    fn lost(&self) -> u64 {
        self.cursor.lock().n_lost()
    }
}
