//! Locks that tell what they order, and messages between threads. The real lock stays underneath: who waits, how, and
//! what signals do is its business.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use detect::lock::Lock;
use detect::thread::Message;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use super::DETECTOR;
use crate::raw::watch::callback;
use crate::raw::watch::me;

/// What makes real locks.
static MAKERS: PyOnceLock<[Py<PyAny>; 2]> = PyOnceLock::new();

/// Adds the types and functions.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WatchedLock>()?;
    module.add_class::<WatchedRLock>()?;
    module.add_class::<Token>()?;
    module.add_function(wrap_pyfunction!(begin, module)?)?;
    module.add_function(wrap_pyfunction!(end, module)?)
}

/// Takes what makes real locks; once.
pub fn install(py: Python<'_>, make_lock: Py<PyAny>, make_rlock: Py<PyAny>) {
    let _ = MAKERS.set(py, [make_lock, make_rlock]);
}

/// The thread is about to wait for the lock.
fn wants(lock: &Arc<Lock>, is_for_ever: bool) {
    me::with(|me| {
        let me::Me { watcher, stacks, waits_for_own, .. } = me;
        let thread = watcher.thread;
        if is_for_ever && lock.is_held_by(thread) {
            let at = watcher.held().find(|held| held.lock.id == lock.id).map_or(0, |held| held.stack);
            let now = me::stack_of(stacks);
            DETECTOR.waits.lock().insert(thread, (at, now));
            *waits_for_own = true;
        }
        if callback::is_on() {
            DETECTOR.order.wants(watcher, lock, &DETECTOR.memory.lock_sets, || me::stack_of(stacks));
        }
    });
}

fn took(lock: &Arc<Lock>) {
    me::with(|me| {
        let stack = me.stack();
        if std::mem::take(&mut me.waits_for_own) {
            // Somebody else gave it back, as for a condition.
            DETECTOR.waits.lock().remove(&me.watcher.thread);
        }
        me.watcher.acquired(lock, stack);
    });
}

fn gives(lock: &Arc<Lock>) {
    me::with(|me| me.watcher.releases(lock));
}

fn is_mine(lock: &Arc<Lock>) -> bool {
    me::with(|me| lock.is_held_by(me.watcher.thread)) == Some(true)
}

/// A real lock and its two methods.
struct Real {
    lock: Py<PyAny>,
    acquire: Py<PyAny>,
    release: Py<PyAny>,
}

impl Real {
    fn of(lock: &Bound<'_, PyAny>) -> PyResult<Real> {
        let (acquire, release) = (lock.getattr("acquire")?.unbind(), lock.getattr("release")?.unbind());
        Ok(Real { lock: lock.clone().unbind(), acquire, release })
    }

    fn make(py: Python<'_>, which: usize) -> PyResult<Real> {
        let makers = MAKERS.get(py).ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("nobody watches"))?;
        Real::of(&makers[which].bind(py).call0()?)
    }

    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        let acquire = self.acquire.bind(py);
        match blocking && timeout == -1.0 {
            true => acquire.call0()?.is_truthy(),
            false => acquire.call1((blocking, timeout))?.is_truthy(),
        }
    }
}

/// Stands in for `_thread.lock`.
#[pyclass(frozen, weakref, name = "lock", module = "raceproof.detect")]
pub struct WatchedLock {
    real: Real,
    lock: Arc<Lock>,
}

impl Drop for WatchedLock {
    fn drop(&mut self) {
        self.lock.forget();
    }
}

fn new_lock() -> Arc<Lock> {
    let lock = Lock::new(me::with(me::Me::stack).unwrap_or(0));
    DETECTOR.locks.lock().insert(lock.id, lock.made);
    lock
}

#[pymethods]
impl WatchedLock {
    /// A new one, or one around a real one that was made before.
    #[new]
    #[pyo3(signature = (real=None))]
    fn new(py: Python<'_>, real: Option<&Bound<'_, PyAny>>) -> PyResult<WatchedLock> {
        let real = real.map_or_else(|| Real::make(py, 0), Real::of)?;
        Ok(WatchedLock { real, lock: new_lock() })
    }

    #[pyo3(signature = (blocking=true, timeout=-1.0))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        if blocking {
            wants(&self.lock, timeout == -1.0);
        }
        let has_taken = self.real.acquire(py, blocking, timeout)?;
        if has_taken {
            took(&self.lock);
        }
        Ok(has_taken)
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        gives(&self.lock);
        self.real.release.bind(py).call0().map(drop)
    }

    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        self.real.lock.bind(py).call_method0("locked")?.is_truthy()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, -1.0)
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release(py)
    }

    fn _at_fork_reinit(&self, py: Python<'_>) -> PyResult<()> {
        self.lock.forget();
        self.real.lock.bind(py).call_method0("_at_fork_reinit").map(drop)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.real.lock.bind(py).repr()?.to_string())
    }

    fn acquire_lock(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, -1.0)
    }

    fn release_lock(&self, py: Python<'_>) -> PyResult<()> {
        self.release(py)
    }
}

/// Stands in for `_thread.RLock`.
#[pyclass(frozen, weakref, name = "RLock", module = "raceproof.detect")]
pub struct WatchedRLock {
    real: Real,
    lock: Arc<Lock>,
    /// How often its holder has taken it; only its holder looks.
    depth: AtomicU32,
}

impl Drop for WatchedRLock {
    fn drop(&mut self) {
        self.lock.forget();
    }
}

#[pymethods]
impl WatchedRLock {
    /// A new one, or one around a real one that was made before.
    #[new]
    #[pyo3(signature = (real=None))]
    fn new(py: Python<'_>, real: Option<&Bound<'_, PyAny>>) -> PyResult<WatchedRLock> {
        let real = real.map_or_else(|| Real::make(py, 1), Real::of)?;
        Ok(WatchedRLock { real, lock: new_lock(), depth: AtomicU32::new(0) })
    }

    #[pyo3(signature = (blocking=true, timeout=-1.0))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        let is_again = is_mine(&self.lock);
        if blocking && !is_again {
            wants(&self.lock, false);
        }
        if !self.real.acquire(py, blocking, timeout)? {
            return Ok(false);
        }
        match is_again {
            true => drop(self.depth.fetch_add(1, Relaxed)),
            false => {
                self.depth.store(1, Relaxed);
                took(&self.lock);
            }
        }
        Ok(true)
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        if is_mine(&self.lock) && self.depth.fetch_sub(1, Relaxed) == 1 {
            gives(&self.lock);
        }
        self.real.release.bind(py).call0().map(drop)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, -1.0)
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release(py)
    }

    fn _is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        self.real.lock.bind(py).call_method0("_is_owned")?.is_truthy()
    }

    fn _recursion_count<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.real.lock.bind(py).call_method0("_recursion_count")
    }

    fn _release_save<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let depth = self.depth.load(Relaxed);
        if is_mine(&self.lock) {
            self.depth.store(0, Relaxed);
            gives(&self.lock);
        }
        let state = self.real.lock.bind(py).call_method0("_release_save")?;
        Ok((depth, state).into_pyobject(py)?.into_any())
    }

    fn _acquire_restore(&self, py: Python<'_>, saved: (u32, Py<PyAny>)) -> PyResult<()> {
        self.real.lock.bind(py).call_method1("_acquire_restore", (saved.1,))?;
        self.depth.store(saved.0, Relaxed);
        took(&self.lock);
        Ok(())
    }

    fn _at_fork_reinit(&self, py: Python<'_>) -> PyResult<()> {
        self.lock.forget();
        self.depth.store(0, Relaxed);
        self.real.lock.bind(py).call_method0("_at_fork_reinit").map(drop)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.real.lock.bind(py).repr()?.to_string())
    }
}

/// Carries what one thread has done to another that hears of it.
#[pyclass(frozen, name = "Token", module = "raceproof.detect")]
#[derive(Default)]
pub struct Token(Mutex<Message>);

#[pymethods]
impl Token {
    #[new]
    fn new() -> Token {
        Token::default()
    }

    /// Whoever receives this from now on comes after what this thread has done until now.
    fn send(&self) {
        if let Some(told) = me::with(|me| me.watcher.send()) {
            self.0.lock().join(&told);
        }
    }

    /// What was sent came before.
    fn receive(&self) {
        me::with(|me| me.watcher.receive(&self.0.lock()));
    }
}

/// This thread is watched from now on, under this name; what was sent came before. False if it was watched already.
#[pyfunction]
fn begin(token: Option<&Token>, name: String) -> bool {
    let heard = token.map(|token| token.0.lock().clone()).unwrap_or_default();
    me::begin(|| {
        let watcher = DETECTOR.slots.begin(&heard);
        DETECTOR.threads.lock().insert(watcher.thread, name);
        watcher
    })
}

/// This thread is at its end: whoever receives the token afterwards comes after all of it.
#[pyfunction]
fn end(token: &Token) {
    if let Some(watcher) = me::end() {
        token.0.lock().join(&DETECTOR.slots.end(watcher));
    }
}
