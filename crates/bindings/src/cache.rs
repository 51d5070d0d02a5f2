//! `Cache`: bounded, with a time to live, and one load per key at a time.

use std::sync::Arc;
use std::time::Instant;

use primitives::cache::{self, Begin, Load};
use primitives::flight::Who;
use pyo3::PyTraverseError;
use pyo3::PyVisit;
use pyo3::exceptions::{PyException, PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList, PyString, PyTuple, PyType};

use crate::key::PyKey;
use crate::raw::sharing;
use crate::wait;
use crate::waiting::{self, Flight, Outcome, Turn};

type Core = cache::Cache<PyKey, Arc<Py<PyAny>>, PyErr>;
type Loaded = Result<Arc<Py<PyAny>>, PyErr>;

/// Adds `Cache` and `CacheStats`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    sharing::add_class::<Cache>(module)?;
    sharing::add_class::<CacheStats>(module)
}

/// A bounded cache: the least recently used entry makes room, and none is older than `ttl` seconds.
///
/// Every operation is atomic. Loads of the same key at the same time become one; exceptions are not kept. No code of
/// the user (comparisons, finalizers, loaders, the clock) runs under the lock. `maxsize=None` is unbounded, `ttl=None`
/// for ever. `clock` returns seconds that never go back.
#[pyclass(frozen, weakref, module = "raceproof")]
pub struct Cache {
    core: Core,
    maxsize: Option<usize>,
    ttl: Option<f64>,
    name: Option<String>,
    clock: Option<Py<PyAny>>,
    start: Instant,
}

/// What a cache has done and holds.
#[pyclass(frozen, get_all, module = "raceproof")]
pub struct CacheStats {
    hits: u64,
    misses: u64,
    evictions: u64,
    expirations: u64,
    size: usize,
    maxsize: Option<usize>,
}

#[pymethods]
impl CacheStats {
    fn __repr__(&self) -> String {
        let CacheStats { hits, misses, evictions, expirations, size, .. } = self;
        let maxsize = self.maxsize.map_or("None".to_owned(), |maxsize| maxsize.to_string());
        format!(
            "CacheStats(hits={hits}, misses={misses}, evictions={evictions}, expirations={expirations}, size={size}, \
             maxsize={maxsize})"
        )
    }
}

impl Cache {
    fn now_ns(&self, py: Python<'_>) -> PyResult<u64> {
        let nanoseconds = match &self.clock {
            None => return Ok(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)),
            Some(clock) => clock.call0(py)?.extract::<f64>(py)? * 1e9,
        };
        // A cast from a float saturates.
        Ok(nanoseconds as u64)
    }

    fn look<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        let value = self.core.get(&PyKey::new(key)?, self.now_ns(py)?)?;
        Ok(value.map(|value| value.bind(py).clone()))
    }

    fn load<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        timeout: Option<f64>,
        load: impl Fn() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, key) = (key.py(), PyKey::new(key)?);
        let until = wait::deadline(timeout)?;
        loop {
            match self.core.begin(&key, Who::thread(), self.now_ns(py)?)? {
                Begin::Held(value) => return Ok(value.bind(py).clone()),
                Begin::Load(turn) => {
                    let loaded = load().and_then(|value| Ok((value, self.now_ns(py)?)));
                    return match loaded {
                        Ok((value, now_ns)) => {
                            self.core.land(turn, Arc::new(value.clone().unbind()), now_ns);
                            Ok(value)
                        }
                        Err(error) => {
                            self.core.fail(turn, shared(py, &error));
                            Err(error)
                        }
                    };
                }
                Begin::Wait(flight) => {
                    waiting::wait(py, &flight, until)?;
                    if let Some(outcome) = flight.outcome() {
                        return outcome.result(py);
                    }
                }
            }
        }
    }

    fn step<'py>(this: &Bound<'py, Self>, key: &Bound<'py, PyAny>, task: usize) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let flight = match this.get().core.begin(&PyKey::new(key)?, Who::task(task), this.get().now_ns(py)?)? {
            Begin::Held(value) => return (&*value, py.None()).into_pyobject(py).map(Bound::into_any),
            Begin::Load(load) => {
                let flight = Arc::clone(load.flight());
                Flight::turn(Box::new(CacheTurn { cache: this.clone().unbind(), load }), flight)
            }
            Begin::Wait(flight) => Flight::wait(flight),
        };
        (py.None(), flight).into_pyobject(py).map(Bound::into_any)
    }
}

/// What others who wait for a load get of its failure: nothing if the caller was told to end.
fn shared(py: Python<'_>, error: &PyErr) -> Option<PyErr> {
    error.is_instance_of::<PyException>(py).then(|| error.clone_ref(py))
}

/// The key of a call: what `functools.lru_cache` calls equal.
fn call_key<'py>(
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
    typed: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = args.py();
    if kwargs.is_none_or(|kwargs| kwargs.is_empty()) && !typed {
        if args.len() == 1 {
            let only = args.get_item(0)?;
            if only.is_exact_instance_of::<PyString>() || only.is_exact_instance_of::<PyInt>() {
                return Ok(only);
            }
        }
        return Ok(args.clone().into_any());
    }
    let parts = PyList::new(py, args.iter())?;
    if let Some(kwargs) = kwargs {
        // A type that no caller passes as the last positional argument by accident.
        parts.append(py.get_type::<Cache>())?;
        for (name, value) in kwargs.iter() {
            parts.append(name)?;
            parts.append(value)?;
        }
    }
    if typed {
        let values = args.iter().chain(kwargs.iter().flat_map(|kwargs| kwargs.values().iter().collect::<Vec<_>>()));
        for value in values {
            parts.append(value.get_type())?;
        }
    }
    Ok(parts.to_tuple().into_any())
}

#[pymethods]
impl Cache {
    #[new]
    #[pyo3(signature = (maxsize=Some(128), ttl=None, *, name=None, clock=None))]
    fn new(maxsize: Option<isize>, ttl: Option<f64>, name: Option<String>, clock: Option<Py<PyAny>>) -> PyResult<Self> {
        // Like functools: less than nothing is nothing.
        let maxsize = maxsize.map(|maxsize| usize::try_from(maxsize).unwrap_or(0));
        if ttl.is_some_and(|ttl| ttl.is_nan() || ttl <= 0.0) {
            return Err(PyValueError::new_err("the ttl must be a positive number of seconds"));
        }
        let core = Core::new(maxsize, ttl.map(|ttl| (ttl * 1e9) as u64));
        Ok(Cache { core, maxsize, ttl, name, clock, start: Instant::now() })
    }

    /// The value of `key`, or `default`.
    #[pyo3(signature = (key, default=None, /))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.look(key)?.or(default))
    }

    /// Sets the value of `key`; a load of it that runs goes to those who wait for it, and is not kept.
    #[pyo3(signature = (key, value, /))]
    fn set(&self, key: &Bound<'_, PyAny>, value: Py<PyAny>) -> PyResult<()> {
        self.core.set(&PyKey::new(key)?, Arc::new(value), self.now_ns(key.py())?)
    }

    /// Takes the value of `key` out, or returns `default`.
    #[pyo3(signature = (key, default=None, /))]
    fn pop<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        let value = self.core.pop(&PyKey::new(key)?, self.now_ns(py)?)?;
        Ok(value.map(|value| value.bind(py).clone()).or(default))
    }

    /// The value of `key`; where there is none, `loader(key)` is called, by one caller while the others wait for it.
    /// They get its value or its exception; WaitTimeout after `timeout` seconds. An exception is not kept.
    #[pyo3(signature = (key, loader, *, timeout=None))]
    fn get_or_load<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        loader: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.load(key, timeout, || loader.call1((key,)))
    }

    /// As `get_or_load`, in async code: `loader` may be async, and the event loop is never blocked.
    #[pyo3(signature = (key, loader, *, timeout=None))]
    fn aget_or_load<'py>(
        this: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        loader: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let module = this.py().import("raceproof._cache")?;
        module.getattr("_aget_or_load")?.call1((this, key, loader, timeout))
    }

    /// What a task has to do to get the value of `key`: (value, None) or (None, Flight).
    #[pyo3(signature = (key, task, /))]
    fn _begin<'py>(this: &Bound<'py, Self>, key: &Bound<'py, PyAny>, task: usize) -> PyResult<Bound<'py, PyAny>> {
        Self::step(this, key, task)
    }

    /// Calls `function(*args, **kwargs)` unless the result for equal arguments is here.
    #[pyo3(signature = (function, typed, timeout, args, kwargs, /))]
    fn _call<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        typed: bool,
        timeout: Option<f64>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let kwargs = (!kwargs.is_empty()).then_some(kwargs);
        self.load(&call_key(args, kwargs, typed)?, timeout, || function.call(args, kwargs))
    }

    /// The key of a call with these arguments.
    #[staticmethod]
    #[pyo3(signature = (typed, args, kwargs, /))]
    fn _key<'py>(typed: bool, args: &Bound<'py, PyTuple>, kwargs: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        call_key(args, (!kwargs.is_empty()).then_some(kwargs), typed)
    }

    /// Takes everything out; loads that run go to those who wait for them, and are not kept.
    fn clear(&self) {
        self.core.clear();
    }

    /// Takes out what is older than the ttl, and returns how many entries that were.
    fn purge(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.core.purge(self.now_ns(py)?))
    }

    /// The counts at one moment. A caller that waits for another's load counts as a miss.
    fn stats(&self) -> CacheStats {
        let stats = self.core.stats();
        CacheStats {
            hits: stats.hits,
            misses: stats.misses,
            evictions: stats.evictions,
            expirations: stats.expirations,
            size: stats.entries,
            maxsize: self.maxsize,
        }
    }

    /// Sets the counts to 0.
    fn reset_stats(&self) {
        self.core.forget_stats();
    }

    /// The keys at one moment, the least recently used first.
    fn keys(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        Ok(self.core.items(self.now_ns(py)?).into_iter().map(|(key, _)| key.object).collect())
    }

    /// The values at one moment, the least recently used first.
    fn values(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        Ok(self.core.items(self.now_ns(py)?).into_iter().map(|(_, value)| value.clone_ref(py)).collect())
    }

    /// The keys and values at one moment, the least recently used first.
    fn items(&self, py: Python<'_>) -> PyResult<Vec<(Py<PyAny>, Py<PyAny>)>> {
        let items = self.core.items(self.now_ns(py)?).into_iter();
        Ok(items.map(|(key, value)| (key.object, value.clone_ref(py))).collect())
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.look(key)?.ok_or_else(|| PyKeyError::new_err(key.clone().unbind()))
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: Py<PyAny>) -> PyResult<()> {
        self.set(key, value)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = self.core.pop(&PyKey::new(key)?, self.now_ns(key.py())?)?;
        value.map(drop).ok_or_else(|| PyKeyError::new_err(key.clone().unbind()))
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.core.contains(&PyKey::new(key)?, self.now_ns(key.py())?)
    }

    fn __len__(&self) -> usize {
        self.core.stats().entries
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        PyList::new(py, self.keys(py)?)?.call_method0("__iter__")
    }

    fn __repr__(&self) -> String {
        let maxsize = self.maxsize.map_or("None".to_owned(), |maxsize| maxsize.to_string());
        let name = self.name.as_ref().map_or(String::new(), |name| format!(" {name:?}"));
        format!("<raceproof.Cache{name} {} of {maxsize}>", self.__len__())
    }

    /// How many entries it holds at most; None if it is unbounded.
    #[getter]
    fn maxsize(&self) -> Option<usize> {
        self.maxsize
    }

    /// How many seconds an entry lives; None if for ever.
    #[getter]
    fn ttl(&self) -> Option<f64> {
        self.ttl
    }

    /// What it is called in reports.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// For annotations: Cache[str, int].
    #[classmethod]
    fn __class_getitem__<'py>(class: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.getattr("GenericAlias")?.call1((class, item))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a cache cannot be copied or pickled: what it holds belongs to one process"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = self.clock.as_ref().map_or(Ok(()), |clock| visit.call(clock));
        self.core.try_visit(|key, value| {
            let value = || value.map_or(Ok(()), |value| visit.call(&**value));
            result =
                std::mem::replace(&mut result, Ok(())).and_then(|()| visit.call(&key.object)).and_then(|()| value());
        });
        result
    }

    fn __clear__(&self) {
        self.core.clear();
    }
}

/// The turn of a task that loads a value.
struct CacheTurn {
    cache: Py<Cache>,
    load: Load<Arc<Py<PyAny>>, PyErr>,
}

impl Turn for CacheTurn {
    fn land(self: Box<Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = value.py();
        let cache = self.cache.get();
        match cache.now_ns(py) {
            Ok(now_ns) => {
                cache.core.land(self.load, Arc::new(value.clone().unbind()), now_ns);
                Ok(())
            }
            Err(error) => {
                cache.core.fail(self.load, shared(py, &error));
                Err(error)
            }
        }
    }

    fn fail(self: Box<Self>, py: Python<'_>, error: PyErr) {
        self.cache.get().core.fail(self.load, shared(py, &error));
    }
}

impl Outcome for Loaded {
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Ok(value) => Ok(value.bind(py).clone()),
            Err(error) => Err(error.clone_ref(py)),
        }
    }
}
