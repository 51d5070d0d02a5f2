//! `SharedState`: values under names, atomic updates, watchers. `ThreadSafeGlobalState` is its async face, in Python.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use primitives::state::State;
use pyo3::PyTraverseError;
use pyo3::PyVisit;
use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyDict;

use crate::key::PyKey;
use crate::raw::sharing;

type Value = Arc<Py<PyAny>>;
type Core = State<PyKey, Value, Arc<Watcher>>;

/// Adds `SharedState`, `Watch`, `Change` and `ABSENT`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    sharing::add_class::<SharedState>(module)?;
    sharing::add_class::<Watch>(module)?;
    sharing::add_class::<Change>(module)?;
    sharing::add_class::<AbsentType>(module)?;
    let absent = Bound::new(module.py(), AbsentType)?;
    sharing::try_share(&absent);
    module.add("ABSENT", absent)
}

/// The type of `ABSENT`, which stands for the value of a key that has none.
#[pyclass(frozen, module = "raceproof")]
pub struct AbsentType;

#[pymethods]
impl AbsentType {
    fn __repr__(&self) -> &'static str {
        "ABSENT"
    }

    fn __bool__(&self) -> bool {
        false
    }

    fn __reduce__(&self) -> &'static str {
        "ABSENT"
    }
}

fn absent(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("raceproof._native")?.getattr("ABSENT")
}

fn or_absent<'py>(py: Python<'py>, value: Option<Value>) -> PyResult<Bound<'py, PyAny>> {
    value.map_or_else(|| absent(py), |value| Ok(value.bind(py).clone()))
}

/// What a watcher is told: `old` and `new` are `ABSENT` where there was, or is, no value.
#[pyclass(frozen, get_all, module = "raceproof")]
struct Change {
    key: Py<PyAny>,
    old: Py<PyAny>,
    new: Py<PyAny>,
}

#[pymethods]
impl Change {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (key, old, new) = (self.key.bind(py).repr()?, self.old.bind(py).repr()?, self.new.bind(py).repr()?);
        Ok(format!("Change(key={key}, old={old}, new={new})"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.key)?;
        visit.call(&self.old)?;
        visit.call(&self.new)
    }
}

struct Watcher {
    callback: Py<PyAny>,
    is_closed: AtomicBool,
    errors: AtomicU64,
    last_error: Mutex<Option<Py<PyBaseException>>>,
}

impl Watcher {
    /// Tells it of a change. What it raises is counted, kept and reported, and stops nothing.
    fn tell(&self, py: Python<'_>, change: &Bound<'_, Change>) {
        if self.is_closed.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.callback.call1(py, (change,)) {
            self.errors.fetch_add(1, Ordering::Relaxed);
            let before = {
                let mut last = self.last_error.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
                last.replace(error.value(py).clone().unbind())
            };
            drop(before);
            error.write_unraisable(py, Some(self.callback.bind(py)));
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.callback)?;
        match self.last_error.try_lock() {
            Ok(last) => last.as_ref().map_or(Ok(()), |error| visit.call(error)),
            Err(_) => Ok(()),
        }
    }
}

/// Values under keys for all threads of the process; every operation is atomic.
///
/// Watchers and the functions of `update` run in the calling thread, without any lock.
#[pyclass(frozen, weakref, module = "raceproof")]
pub struct SharedState {
    core: Core,
    namespaces: Mutex<HashMap<String, Py<SharedState>>>,
}

impl SharedState {
    /// Tells the watchers of what has changed.
    fn deliver(&self, py: Python<'_>) {
        self.core.deliver(|change| {
            let made = or_absent(py, change.old).and_then(|old| {
                let new = or_absent(py, change.new)?;
                Bound::new(py, Change { key: change.key.object, old: old.unbind(), new: new.unbind() })
            });
            match made {
                Ok(told) => change.watchers.iter().for_each(|watcher| watcher.tell(py, &told)),
                Err(error) => error.write_unraisable(py, None),
            }
        });
    }
}

#[pymethods]
impl SharedState {
    #[new]
    fn new() -> Self {
        SharedState { core: Core::default(), namespaces: Mutex::default() }
    }

    /// The value of `key`, or `default`.
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (value, _) = self.core.get(&PyKey::new(key)?)?;
        Ok(value.map(|value| value.bind(key.py()).clone()).or(default))
    }

    /// Sets the value of `key`.
    #[pyo3(signature = (key, value))]
    fn set(&self, key: &Bound<'_, PyAny>, value: Py<PyAny>) -> PyResult<()> {
        self.core.set(&PyKey::new(key)?, Some(Arc::new(value)))?;
        self.deliver(key.py());
        Ok(())
    }

    /// Deletes `key`; says whether it was there.
    #[pyo3(signature = (key))]
    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let old = self.core.set(&PyKey::new(key)?, None)?;
        self.deliver(key.py());
        Ok(old.is_some())
    }

    /// Deletes everything, in one step. Namespaces keep what they hold.
    fn clear(&self, py: Python<'_>) {
        self.core.clear();
        self.deliver(py);
    }

    /// The keys at one moment, in the order in which they came.
    fn keys(&self) -> Vec<Py<PyAny>> {
        self.core.items().into_iter().map(|(key, _)| key.object).collect()
    }

    /// All keys and values at one moment, in the order in which they came, as a dict of the caller's own.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = PyDict::new(py);
        for (key, value) in self.core.items() {
            snapshot.set_item(key.object, &*value)?;
        }
        Ok(snapshot)
    }

    /// Sets the value of `key` to `function(value)`, or `function(default)` where there is none, and returns it.
    /// Atomic: `function` runs without any lock, and again with the new value if another thread was faster.
    #[pyo3(signature = (key, function, default=None))]
    fn update<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        function: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, key) = (key.py(), PyKey::new(key)?);
        loop {
            let (value, seen) = self.core.get(&key)?;
            let new = match &value {
                Some(value) => function.call1((&**value,))?,
                None => function.call1((&default,))?,
            };
            if self.core.replace(&key, seen, Some(Arc::new(new.clone().unbind())))? {
                self.deliver(py);
                return Ok(new);
            }
            py.check_signals()?;
        }
    }

    /// Sets the value of `key` if it is `expected` (the same object, or equal); says whether it did. `ABSENT` stands
    /// for no value, on both sides. Atomic: the comparison runs without any lock, and again if the value changed.
    #[pyo3(signature = (key, expected, new))]
    fn compare_and_set(
        &self,
        key: &Bound<'_, PyAny>,
        expected: &Bound<'_, PyAny>,
        new: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let (py, key) = (key.py(), PyKey::new(key)?);
        let absent = absent(py)?;
        loop {
            let (value, seen) = self.core.get(&key)?;
            let is_expected = match &value {
                None => expected.is(&absent),
                Some(value) => expected.is(&**value) || (!expected.is(&absent) && value.bind(py).eq(expected)?),
            };
            if !is_expected {
                return Ok(false);
            }
            let value = (!new.is(&absent)).then(|| Arc::new(new.clone().unbind()));
            if self.core.replace(&key, seen, value)? {
                self.deliver(py);
                return Ok(true);
            }
            py.check_signals()?;
        }
    }

    /// Has `callback(change)` called after each change of `key`, or of every key with None, until the handle is closed.
    #[pyo3(signature = (key, callback))]
    fn watch<'py>(
        this: &Bound<'py, Self>,
        key: Option<&Bound<'py, PyAny>>,
        callback: &Bound<'py, PyAny>,
    ) -> PyResult<Watch> {
        if !callback.is_callable() {
            return Err(PyTypeError::new_err("the callback must be callable"));
        }
        let watcher = Arc::new(Watcher {
            callback: callback.clone().unbind(),
            is_closed: AtomicBool::new(false),
            errors: AtomicU64::new(0),
            last_error: Mutex::new(None),
        });
        let key = key.map(PyKey::new).transpose()?;
        let number = this.get().core.watch(key.as_ref(), Arc::clone(&watcher))?;
        Ok(Watch { state: this.clone().unbind(), key, number, watcher })
    }

    /// The state of its own that has this name; made when first asked for.
    #[pyo3(signature = (name))]
    fn namespace(&self, py: Python<'_>, name: String) -> PyResult<Py<SharedState>> {
        let fresh = Py::new(py, SharedState::new())?;
        let mut namespaces = self.namespaces.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        Ok(namespaces.entry(name).or_insert_with(|| fresh.clone_ref(py)).clone_ref(py))
    }

    /// The names of the namespaces.
    fn namespaces(&self, py: Python<'_>) -> Vec<String> {
        let namespaces = self.namespaces.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = namespaces.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.core.get(&PyKey::new(key)?)?.0.is_some())
    }

    fn __len__(&self) -> usize {
        self.core.items().len()
    }

    fn __repr__(&self) -> String {
        format!("<raceproof.SharedState with {} keys>", self.__len__())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a state cannot be copied or pickled: copy or pickle its snapshot()"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.core.try_visit(|key, value, watcher| {
            let seen = key.map_or(Ok(()), |key| visit.call(&key.object));
            let seen = seen.and_then(|()| value.map_or(Ok(()), |value| visit.call(&**value)));
            let seen = seen.and_then(|()| watcher.map_or(Ok(()), |watcher| watcher.traverse(&visit)));
            if seen.is_err() {
                result = seen;
            }
        });
        if let Ok(namespaces) = self.namespaces.try_lock() {
            namespaces.values().try_for_each(|state| visit.call(state))?;
        }
        result
    }

    fn __clear__(&self) {
        self.core.abandon();
        let gone = std::mem::take(&mut *self.namespaces.lock().unwrap_or_else(PoisonError::into_inner));
        drop(gone);
    }
}

/// A watcher at work. It goes on watching when the handle is dropped: close it, or use it in a `with` statement.
#[pyclass(frozen, module = "raceproof")]
struct Watch {
    state: Py<SharedState>,
    key: Option<PyKey>,
    number: u64,
    watcher: Arc<Watcher>,
}

#[pymethods]
impl Watch {
    /// Ends the watching; a call that has begun in another thread may still run. Closing again does nothing.
    fn close(&self) -> PyResult<()> {
        self.watcher.is_closed.store(true, Ordering::Release);
        self.state.get().core.unwatch(self.key.as_ref(), self.number)
    }

    /// How many calls of the callback have raised.
    #[getter]
    fn errors(&self) -> u64 {
        self.watcher.errors.load(Ordering::Relaxed)
    }

    /// The last exception that the callback has raised, or None.
    #[getter]
    fn last_error(&self, py: Python<'_>) -> Option<Py<PyBaseException>> {
        let last = self.watcher.last_error.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|error| error.clone_ref(py))
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.state)?;
        self.key.as_ref().map_or(Ok(()), |key| visit.call(&key.object))
    }
}
