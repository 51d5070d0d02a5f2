//! The future of a pool: what `concurrent.futures.Future` promises, without a condition variable as long as nobody
//! needs one. python/raceproof/pool.py joins `FutureBase` with the class of the standard library.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use primitives::pool::{Progress, Refused, Status};
use pyo3::PyTraverseError;
use pyo3::exceptions::PyBaseException;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

use crate::failure::FailureBase;
use crate::fork::generation;
use crate::pool::Shared;
use crate::raw::sharing;
use crate::wait;

/// Adds `FutureBase` and its class below `concurrent.futures.Future`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    sharing::add_class::<FutureBase>(module)?;
    module.add_function(wrap_pyfunction!(set_future_class, module)?)
}

/// Locks what is held for a few instructions only, and never while Python code runs.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Says which class below `FutureBase` pools make. Called once, when the package is imported.
#[pyfunction]
#[pyo3(signature = (class_, /))]
fn set_future_class(class_: Bound<'_, PyType>) {
    sharing::pin_class(&class_);
    let _ = CLASS.set(class_.py(), class_.unbind());
}

/// A call that waits or runs.
pub struct Call {
    parts: Mutex<Option<Parts>>,
    /// The future of the call, which stays alive until it is done.
    future: Mutex<Option<Py<FutureBase>>>,
}

/// What is called.
pub struct Parts {
    /// The function.
    pub function: Py<PyAny>,
    /// Its arguments.
    pub args: Py<PyTuple>,
    /// Its named arguments.
    pub kwargs: Option<Py<PyDict>>,
    /// The context to run it in; `None`: that of the thread.
    pub context: Option<Py<PyAny>>,
}

impl Parts {
    fn clone_ref(&self, py: Python<'_>) -> Parts {
        Parts {
            function: self.function.clone_ref(py),
            args: self.args.clone_ref(py),
            kwargs: self.kwargs.as_ref().map(|kwargs| kwargs.clone_ref(py)),
            context: self.context.as_ref().map(|context| context.clone_ref(py)),
        }
    }

    fn call(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let kwargs = self.kwargs.as_ref().map(|kwargs| kwargs.bind(py));
        let Some(context) = &self.context else { return self.function.call(py, self.args.bind(py), kwargs) };
        let args = self.args.bind(py).as_sequence();
        let args = PyTuple::new(py, [&self.function])?.as_sequence().concat(args)?.to_tuple()?;
        context.getattr(py, pyo3::intern!(py, "run"))?.call(py, args, kwargs)
    }
}

impl Call {
    /// The name of what is called, for people.
    pub fn label(&self, py: Python<'_>) -> String {
        let function = lock(&self.parts).as_ref().map(|parts| parts.function.clone_ref(py));
        let Some(function) = function else { return "a task that has ended".to_owned() };
        let named = |name| function.getattr(py, name).and_then(|name| name.extract::<String>(py)).ok();
        let name = named("__qualname__").or_else(|| function.bind(py).repr().ok().map(|text| text.to_string()));
        match (named("__module__"), name) {
            (Some(module), Some(name)) => format!("{module}.{name}"),
            (None, Some(name)) => name,
            (_, None) => "a task without a name".to_owned(),
        }
    }

    /// Runs the call in this thread, unless it was cancelled.
    pub fn run(&self, py: Python<'_>) {
        let Some(future) = lock(&self.future).take() else { return };
        let future = future.into_bound(py);
        let begun = future.get().progress.begin();
        let parts = lock(&self.parts).as_ref().map(|parts| parts.clone_ref(py));
        let (Ok(()), Some(parts)) = (begun, parts) else { return };
        let outcome = match parts.call(py) {
            Ok(result) => Ok(result),
            Err(error) => match FailureBase::make(py, &future.get().shared(), error, self.label(py)) {
                Ok(failure) => Err(failure),
                // No memory for a failure: it has been reported instead.
                Err(_) => Ok(py.None()),
            },
        };
        drop(parts);
        self.forget();
        FutureBase::finish(&future, outcome);
    }

    /// Cancels the call if nobody has begun it.
    pub fn cancel(&self, py: Python<'_>) {
        let future = lock(&self.future).take();
        if let Some(future) = future {
            FutureBase::cancel_now(future.bind(py));
        }
        self.forget();
    }

    /// Drops what would be called. Any Python code may run.
    fn forget(&self) {
        let parts = lock(&self.parts).take();
        drop(parts);
    }
}

#[derive(Default)]
struct Inner {
    outcome: Option<Result<Py<PyAny>, Py<FailureBase>>>,
    callbacks: Vec<Py<PyAny>>,
    callbacks_called: bool,
    /// What `concurrent.futures.wait` and `as_completed` work with: a condition and the list of waiters.
    watch: Option<(Py<PyAny>, Py<PyList>)>,
}

/// The result of a call that a pool was given. See `raceproof.Future`.
#[pyclass(frozen, subclass, module = "raceproof._native")]
pub struct FutureBase {
    progress: Progress,
    inner: Mutex<Inner>,
    origin: Mutex<Option<(Arc<Shared>, Arc<Call>)>>,
    generation: u32,
}

impl FutureBase {
    /// Makes a future and the call that it belongs to.
    pub fn make<'py>(
        py: Python<'py>,
        shared: &Arc<Shared>,
        parts: Parts,
    ) -> PyResult<(Bound<'py, FutureBase>, Arc<Call>)> {
        let class = CLASS.import(py, "raceproof.pool", "Future")?;
        let future = crate::raw::slots::without_init(class)?.cast_into::<FutureBase>()?;
        let kept = Mutex::new(Some(future.clone().unbind()));
        let call = Arc::new(Call { parts: Mutex::new(Some(parts)), future: kept });
        *lock(&future.get().origin) = Some((Arc::clone(shared), Arc::clone(&call)));
        Ok((future, call))
    }

    fn finish(this: &Bound<'_, Self>, outcome: Result<Py<PyAny>, Py<FailureBase>>) {
        let news = if outcome.is_err() { "add_exception" } else { "add_result" };
        lock(&this.get().inner).outcome = Some(outcome);
        Self::settle(this, news, |agreed| this.get().progress.finish(agreed));
    }

    /// Cancels it if nobody has begun it; says whether it did so just now.
    fn cancel_now(this: &Bound<'_, Self>) -> bool {
        Self::settle(this, "add_cancelled", |agreed| this.get().progress.cancel(agreed))
    }

    /// Makes the last step, tells those who watch, and calls the callbacks.
    fn settle(this: &Bound<'_, Self>, news: &str, step: impl Fn(bool) -> Result<(), Refused>) -> bool {
        let py = this.py();
        match step(false) {
            Ok(()) => {}
            Err(Refused::Status(_)) => return false,
            Err(Refused::Watched) => match Self::settle_watched(this, news, step) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => error.write_unraisable(py, Some(this)),
            },
        }
        let callbacks = {
            let mut inner = lock(&this.get().inner);
            inner.callbacks_called = true;
            std::mem::take(&mut inner.callbacks)
        };
        for callback in callbacks {
            Self::call_back(this, callback.bind(py));
        }
        true
    }

    fn settle_watched(
        this: &Bound<'_, Self>,
        news: &str,
        step: impl Fn(bool) -> Result<(), Refused>,
    ) -> PyResult<bool> {
        let py = this.py();
        let watch = lock(&this.get().inner)
            .watch
            .as_ref()
            .map(|(condition, list)| (condition.clone_ref(py).into_bound(py), list.clone_ref(py).into_bound(py)));
        let Some((condition, waiters)) = watch else { return Ok(step(true).is_ok()) };
        condition.call_method0("acquire")?;
        let stepped = step(true).is_ok();
        let told = (|| {
            if stepped {
                for waiter in waiters.iter() {
                    waiter.call_method1(news, (this,))?;
                }
                condition.call_method0("notify_all")?;
            }
            Ok(stepped)
        })();
        condition.call_method0("release")?;
        told
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        lock(&self.origin).as_ref().map(|(shared, _)| Arc::clone(shared))
    }

    fn call_back(this: &Bound<'_, Self>, callback: &Bound<'_, PyAny>) {
        if let Err(error) = callback.call1((this,)) {
            error.write_unraisable(this.py(), Some(callback));
        }
    }

    /// The outcome, of which somebody now knows.
    fn look(&self, py: Python<'_>) -> Option<Result<Py<PyAny>, Py<PyBaseException>>> {
        let outcome = lock(&self.inner).outcome.as_ref().map(|outcome| match outcome {
            Ok(result) => Ok(result.clone_ref(py)),
            Err(failure) => Err(failure.clone_ref(py)),
        });
        match outcome? {
            Ok(result) => Some(Ok(result)),
            Err(failure) => failure.get().look(py).map(Err),
        }
    }

    fn wait_done(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        if self.progress.is_done() {
            return Ok(());
        }
        if self.generation != generation() {
            return Err(crate::errors::raceproof_error(py, "the thread that ran this task is not in a forked child"));
        }
        let deadline = wait::deadline(timeout)?;
        match wait::until(py, deadline, |until| self.progress.wait_until(until).then_some(()))? {
            Some(()) => Ok(()),
            None => Err(crate::errors::wait_timeout(py, "the task has not ended in time")),
        }
    }

    fn cancelled_error(py: Python<'_>) -> PyErr {
        static ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        match ERROR.import(py, "concurrent.futures", "CancelledError") {
            Ok(class) => PyErr::from_type(class.clone(), ()),
            Err(error) => error,
        }
    }
}

#[pymethods]
impl FutureBase {
    #[new]
    fn new() -> Self {
        let (inner, origin) = (Mutex::default(), Mutex::default());
        FutureBase { progress: Progress::default(), inner, origin, generation: generation() }
    }

    /// Cancels the call if no thread has begun it. Returns whether it is cancelled.
    fn cancel(this: &Bound<'_, Self>) -> bool {
        let future = this.get();
        if Self::cancel_now(this) {
            let origin = lock(&future.origin).as_ref().map(|(shared, call)| (Arc::clone(shared), Arc::clone(call)));
            if let Some((shared, call)) = origin {
                if future.generation == generation() {
                    shared.forget_call(this.py(), &call);
                }
                call.cancel(this.py());
            }
        }
        future.progress.status() == Status::Cancelled
    }

    /// Was it cancelled?
    fn cancelled(&self) -> bool {
        self.progress.status() == Status::Cancelled
    }

    /// Does a thread run it now?
    fn running(&self) -> bool {
        self.progress.status() == Status::Running
    }

    /// Has it ended, or was it cancelled?
    fn done(&self) -> bool {
        self.progress.is_done()
    }

    /// Waits for the end, at most `timeout` seconds (None: for ever), and returns what the call returned or raises what
    /// it raised. WaitTimeout, a TimeoutError: it has not ended in time. CancelledError: it was cancelled.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        self.wait_done(py, timeout)?;
        match self.look(py) {
            Some(Ok(result)) => Ok(result),
            Some(Err(error)) => Err(PyErr::from_value(error.into_bound(py).into_any())),
            None => Err(Self::cancelled_error(py)),
        }
    }

    /// Waits as result does and returns what the call raised, or None.
    #[pyo3(signature = (timeout=None))]
    fn exception(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyBaseException>>> {
        self.wait_done(py, timeout)?;
        match self.look(py) {
            Some(Ok(_)) => Ok(None),
            Some(Err(error)) => Ok(Some(error)),
            None => Err(Self::cancelled_error(py)),
        }
    }

    /// Calls function(future) when it is done, in the thread that ended it; at once if it is done. What the function
    /// raises goes to sys.unraisablehook.
    #[pyo3(signature = (function, /))]
    fn add_done_callback(this: &Bound<'_, Self>, function: Bound<'_, PyAny>) {
        {
            let mut inner = lock(&this.get().inner);
            if !inner.callbacks_called {
                inner.callbacks.push(function.unbind());
                return;
            }
        }
        Self::call_back(this, &function);
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let state = match this.get().progress.status() {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Cancelled => "cancelled",
            Status::Finished => "finished",
        };
        let ended = match &lock(&this.get().inner).outcome {
            Some(Ok(result)) => format!(" returned {}", result.bind(this.py()).get_type().name()?),
            Some(Err(failure)) => format!(" raised {}", failure.get().name(this.py())?),
            None => String::new(),
        };
        Ok(format!("<{} at {:#x} state={state}{ended}>", this.get_type().name()?, this.as_ptr() as usize))
    }

    #[getter(_state)]
    fn state_name(&self) -> &'static str {
        match self.progress.status() {
            Status::Pending => "PENDING",
            Status::Running => "RUNNING",
            Status::Cancelled => "CANCELLED_AND_NOTIFIED",
            Status::Finished => "FINISHED",
        }
    }

    #[getter(_condition)]
    fn condition<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.watched(py)?.0)
    }

    #[getter(_waiters)]
    fn waiters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Ok(self.watched(py)?.1)
    }

    #[getter(_result)]
    fn result_now(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.look(py)?.ok()
    }

    #[getter(_exception)]
    fn exception_now(&self, py: Python<'_>) -> Option<Py<PyBaseException>> {
        self.look(py)?.err()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Where a lock is held, what is behind it counts as in use.
        if let Ok(inner) = self.inner.try_lock() {
            match &inner.outcome {
                Some(Ok(result)) => visit.call(result)?,
                Some(Err(failure)) => visit.call(failure)?,
                None => {}
            }
            inner.callbacks.iter().try_for_each(|callback| visit.call(callback))?;
            if let Some((condition, waiters)) = &inner.watch {
                visit.call(condition)?;
                visit.call(waiters)?;
            }
        }
        if let Ok(origin) = self.origin.try_lock()
            && let Some((_, call)) = origin.as_ref()
            && let Ok(parts) = call.parts.try_lock()
            && let Some(parts) = parts.as_ref()
        {
            visit.call(&parts.function)?;
            visit.call(&parts.args)?;
            visit.call(&parts.kwargs)?;
            visit.call(&parts.context)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let inner = std::mem::take(&mut *lock(&self.inner));
        drop(inner);
        let call = lock(&self.origin).as_ref().map(|(_, call)| Arc::clone(call));
        if let Some(call) = call {
            call.forget();
        }
    }
}

impl FutureBase {
    fn watched<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyList>)> {
        let made = (py.import("threading")?.getattr("Condition")?.call0()?, PyList::empty(py));
        let (condition, waiters) = {
            let mut inner = lock(&self.inner);
            let (condition, waiters) =
                inner.watch.get_or_insert_with(|| (made.0.clone().unbind(), made.1.clone().unbind()));
            (condition.clone_ref(py), waiters.clone_ref(py))
        };
        self.progress.watch();
        Ok((condition.into_bound(py), waiters.into_bound(py)))
    }
}
