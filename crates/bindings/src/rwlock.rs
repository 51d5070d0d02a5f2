//! The type `RWLock`, and its two sides, which are locks of their own kind.

use std::sync::Arc;

use primitives::lock::Outcome;
use primitives::observe::{self, Observed};
use primitives::raw::once_box::OnceBox;
use primitives::raw::thread::ident;
use primitives::rwlock::{Mode, Refused, RwLock};
use primitives::stats::now_ns;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::observer;
use crate::raw::patience::Patience;
use crate::raw::sharing;
use crate::within::Within;

/// Adds `RWLock` and `RWLockSide`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    sharing::add_class::<ReadWriteLock>(module)?;
    sharing::add_class::<Side>(module)
}

struct Shared {
    name: Option<String>,
    lock: RwLock,
    observed: OnceBox<Observed>,
}

/// Many readers or one writer: `with lock.read():`, `with lock.write():`, between threads.
///
/// A writer that waits goes before readers that come later; when a writer leaves, the readers that wait then go next,
/// so neither side shuts the other out. A thread that reads may read again, and one that writes may read. A thread that
/// reads or writes and waits for the right to write gets a DeadlockError at once. Only the holder may release. In a
/// forked child what other threads held is free.
#[pyclass(frozen, weakref, name = "RWLock", module = "raceproof")]
pub struct ReadWriteLock {
    shared: Arc<Shared>,
    read: Py<Side>,
    write: Py<Side>,
}

#[pymethods]
impl ReadWriteLock {
    #[new]
    #[pyo3(signature = (name=None))]
    fn new(py: Python<'_>, name: Option<String>) -> PyResult<Self> {
        let shared = Arc::new(Shared { name, lock: RwLock::new(), observed: OnceBox::new() });
        let side = |mode| Py::new(py, Side { shared: shared.clone(), mode });
        Ok(ReadWriteLock { read: side(Mode::Read)?, write: side(Mode::Write)?, shared: shared.clone() })
    }

    /// The side of the readers, always the same object: `with lock.read():`, `with lock.read().within(0.5):`.
    fn read(&self, py: Python<'_>) -> Py<Side> {
        self.read.clone_ref(py)
    }

    /// The side of the writer, always the same object.
    fn write(&self, py: Python<'_>) -> Py<Side> {
        self.write.clone_ref(py)
    }

    /// Does a thread read or write now?
    fn locked(&self) -> bool {
        self.shared.blocker().is_some()
    }

    /// The name that was given, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.shared.name.as_deref()
    }

    /// The thread that writes now: (identifier, name), or None.
    #[getter]
    fn writer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        observer::thread(py, self.shared.lock.holders(Mode::Write).first().copied())
    }

    /// The threads that read now: a list of (identifier, name).
    #[getter]
    fn readers<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let readers = self.shared.lock.holders(Mode::Read);
        readers.into_iter().map(|reader| observer::thread(py, Some(reader))).collect()
    }

    /// The thread that writes now, else one that reads: (identifier, name), or None.
    #[getter]
    fn holder<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        observer::thread(py, self.shared.blocker())
    }

    /// How many threads wait, to read or to write.
    #[getter]
    fn waiters(&self) -> usize {
        self.shared.lock.waiters(Mode::Read) + self.shared.lock.waiters(Mode::Write)
    }

    fn __repr__(this: &Bound<'_, Self>) -> String {
        let shared = &this.get().shared;
        let n_readers = shared.lock.holders(Mode::Read).len();
        let state = match (shared.lock.holders(Mode::Write).len(), n_readers) {
            (0, 0) => "unlocked",
            _ => "locked",
        };
        let name = shared.quoted_name();
        format!("<{state} raceproof.RWLock object {name}readers={n_readers} at {:p}>", this.as_ptr())
    }
}

impl Shared {
    fn quoted_name(&self) -> String {
        self.name.as_ref().map_or(String::new(), |name| format!("'{name}' "))
    }

    /// Who is in the way of a writer.
    fn blocker(&self) -> Option<usize> {
        let (writers, readers) = (self.lock.holders(Mode::Write), self.lock.holders(Mode::Read));
        writers.into_iter().chain(readers).next()
    }

    fn observed(&self) -> &Observed {
        // What would be a self-deadlock is refused by the lock itself.
        self.observed.get_or_make(|| Observed::new("RWLock", self.name.as_deref(), true))
    }
}

/// The side of the readers or of the writer of an `RWLock`. It has the methods of a `Lock`.
#[pyclass(frozen, weakref, name = "RWLockSide", module = "raceproof")]
pub struct Side {
    shared: Arc<Shared>,
    mode: Mode,
}

impl Side {
    fn acquire_unseen(&self, py: Python<'_>, patience: Patience) -> PyResult<bool> {
        let (lock, me) = (&self.shared.lock, ident());
        match (lock.try_acquire(self.mode, me), patience) {
            (Ok(()), _) => return Ok(true),
            (Err(_), Patience::None) => return Ok(false),
            (Err(Refused::Deadlock), _) => return Err(self.deadlock(py)),
            (Err(Refused::Busy), _) => {}
        }
        // It was not this thread that was in the way, and no other acts for it.
        let wait = |deadline| lock.acquire(self.mode, me, deadline).unwrap_or(Outcome::TimedOut);
        patience.wait(py, wait)
    }

    fn deadlock(&self, py: Python<'_>) -> PyErr {
        let name = self.shared.quoted_name();
        let text = format!("RWLock {name}is held by this thread, which would wait for itself to write");
        observer::deadlock(py, text)
    }

    #[cold]
    fn acquire_seen(&self, py: Python<'_>, patience: Patience) -> PyResult<bool> {
        let (observed, me) = (self.shared.observed(), ident());
        let is_first = !self.shared.lock.is_held_by(self.mode, me);
        if is_first && patience != Patience::None {
            observer::ask(py, observed, me, patience == Patience::Endless)?;
        }
        let began_ns = now_ns();
        let is_taken = self.acquire_unseen(py, patience)?;
        if is_taken && is_first {
            let mark = observed.acquired(me, began_ns);
            self.shared.lock.set_mark(self.mode, me, mark);
        }
        Ok(is_taken)
    }
}

#[pymethods]
impl Side {
    /// Takes the lock; False if it is not to be had: at once with blocking=False, else within `timeout` seconds (-1: no
    /// limit).
    #[pyo3(signature = (blocking=true, timeout=-1.0))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        let patience = Patience::new(blocking, timeout)?;
        match observe::is_on() {
            true => self.acquire_seen(py, patience),
            false => self.acquire_unseen(py, patience),
        }
    }

    /// Gives back once what this thread holds. RuntimeError if it holds nothing.
    fn release(&self) -> PyResult<()> {
        let me = ident();
        let mark = self.shared.lock.release(self.mode, me);
        let mark = mark.map_err(|_| PyRuntimeError::new_err("cannot release un-acquired lock"))?;
        if let Some(since_ns) = mark {
            self.shared.observed().released(me, since_ns);
        }
        Ok(())
    }

    /// `with lock.read().within(0.5):` waits at most so many seconds, then raises WaitTimeout with the holder's name.
    #[pyo3(signature = (timeout, /))]
    fn within(this: &Bound<'_, Self>, timeout: &Bound<'_, PyAny>) -> PyResult<Within> {
        Within::new(this.as_any(), timeout)
    }

    /// Does a thread hold this side now?
    fn locked(&self) -> bool {
        !self.shared.lock.holders(self.mode).is_empty()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, -1.0)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release()
    }

    /// The name of the RWLock, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.shared.name.as_deref()
    }

    /// The thread that writes now, else one that reads: (identifier, name), or None.
    #[getter]
    fn holder<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        observer::thread(py, self.shared.blocker())
    }

    /// For how many seconds the holder has had the lock (the first of several readers); None while neither the watch nor the timing is on.
    #[getter]
    fn held_for(&self) -> Option<f64> {
        let marks = self.shared.lock.marks(Mode::Write).into_iter().chain(self.shared.lock.marks(Mode::Read));
        marks.min().map(observer::seconds_since)
    }

    /// How many threads wait for this side.
    #[getter]
    fn waiters(&self) -> usize {
        self.shared.lock.waiters(self.mode)
    }

    fn __repr__(this: &Bound<'_, Self>) -> String {
        let side = this.get();
        let state = if side.locked() { "locked" } else { "unlocked" };
        let mode = if side.mode == Mode::Read { "reading" } else { "writing" };
        let name = side.shared.quoted_name();
        format!("<{state} raceproof.RWLockSide object {name}for {mode} at {:p}>", this.as_ptr())
    }
}
