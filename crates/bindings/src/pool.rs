//! `PoolBase`: hands Python calls to `primitives::pool::Crew` and runs them in threads of Python's own making.
//! python/raceproof/pool.py makes `Pool` of it: threads, asyncio, the report at the end.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use primitives::pool::{Crew, Next, Rejected};
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::errors;
use crate::fork::PerProcess;
use crate::future::{Call, FutureBase, Parts, lock};
use crate::raw::sharing;
use crate::wait;

/// Adds `PoolBase`, `Worker` and `close_pools`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    sharing::add_class::<PoolBase>(module)?;
    sharing::add_class::<Worker>(module)?;
    module.add_function(wrap_pyfunction!(close_pools, module)?)
}

/// All pools of this process that may have workers.
static POOLS: PerProcess<Mutex<Vec<Weak<Shared>>>> = PerProcess::new();
static EXITING: AtomicBool = AtomicBool::new(false);

/// Lets all pools finish what they were given and take no more. Called when the interpreter ends, before it waits for
/// its threads.
#[pyfunction]
fn close_pools() {
    EXITING.store(true, SeqCst);
    let pools = POOLS.get().map(|pools| std::mem::take(&mut *lock(pools)));
    for pool in pools.into_iter().flatten() {
        if let Some(pool) = pool.upgrade() {
            pool.crew.close(false);
        }
    }
}

/// What a pool, its workers and its futures share.
pub struct Shared {
    crew: Crew<Arc<Call>>,
    name: String,
    on_lost: Mutex<Option<Py<PyAny>>>,
    threads: Mutex<Vec<(usize, Py<PyAny>)>>,
    rejected: AtomicU64,
    cancelled: AtomicU64,
    lost: AtomicU64,
}

impl Shared {
    /// Reports an exception that nobody asked for.
    pub fn report_lost(&self, py: Python<'_>, label: &str, error: Bound<'_, PyBaseException>) {
        self.lost.fetch_add(1, Relaxed);
        let hook = lock(&self.on_lost).as_ref().map(|hook| hook.clone_ref(py));
        match hook {
            Some(hook) => {
                if let Err(failure) = hook.call1(py, (label, error)) {
                    failure.write_unraisable(py, Some(hook.bind(py)));
                }
            }
            None => {
                let text = format!("task {label} of pool {:?}, whose result nobody asked for", self.name);
                let text = PyString::new(py, &text);
                PyErr::from_value(error.into_any()).write_unraisable(py, Some(&text));
            }
        }
    }

    /// Takes a cancelled call out of the queue.
    pub fn forget_call(&self, py: Python<'_>, call: &Arc<Call>) {
        self.cancelled.fetch_add(1, Relaxed);
        let removed = py.detach(|| self.crew.remove(|queued| Arc::ptr_eq(queued, call)));
        drop(removed);
    }

    fn cancel_all(&self, py: Python<'_>, calls: Vec<Arc<Call>>) -> usize {
        self.cancelled.fetch_add(calls.len() as u64, Relaxed);
        calls.iter().for_each(|call| call.cancel(py));
        calls.len()
    }

    /// Starts the thread of a worker that the crew wants. Fails only if that leaves `call` without anybody to run it.
    fn start(self: &Arc<Self>, py: Python<'_>, worker: usize, call: &Arc<Call>) -> PyResult<()> {
        static START: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let work = Worker { shared: Arc::clone(self), number: worker, retired: AtomicBool::new(false) };
        let start = START.import(py, "raceproof.pool", "_start");
        match start.and_then(|start| start.call1((work, format!("{}-{worker}", self.name)))) {
            Ok(_) => Ok(()),
            Err(error) => {
                let stranded = py.detach(|| self.crew.retire(worker));
                let failed = stranded.iter().any(|other| Arc::ptr_eq(other, call));
                self.cancel_all(py, stranded);
                if failed { Err(error) } else { Ok(()) }
            }
        }
    }
}

/// The part of a thread of a pool that is not Python.
#[pyclass(frozen, module = "raceproof._native")]
struct Worker {
    shared: Arc<Shared>,
    number: usize,
    retired: AtomicBool,
}

#[pymethods]
impl Worker {
    /// The thread that is this worker begins.
    fn begin(&self, thread: Py<PyAny>) {
        let old = {
            let mut threads = lock(&self.shared.threads);
            let same = threads.iter().position(|(number, _)| *number == self.number);
            let old = same.map(|idx| threads.swap_remove(idx));
            threads.push((self.number, thread));
            old
        };
        drop(old);
    }

    /// Waits for a call and runs it. Returns False when the pool is shut down and nothing waits.
    fn run_next(&self, py: Python<'_>) -> bool {
        let crew = &self.shared.crew;
        let call = match crew.try_next(self.number) {
            Next::Job(call) => Some(call),
            Next::End => None,
            Next::Wait => py.detach(|| crew.next(self.number)),
        };
        if let Some(call) = &call {
            call.run(py);
        }
        call.is_some()
    }

    /// The thread ends, for whatever reason.
    fn retire(&self, py: Python<'_>) {
        if !self.retired.swap(true, Relaxed) {
            let stranded = py.detach(|| self.shared.crew.retire(self.number));
            self.shared.cancel_all(py, stranded);
        }
    }
}

/// See `raceproof.Pool`.
#[pyclass(frozen, subclass, module = "raceproof._native")]
struct PoolBase {
    generations: PerProcess<Arc<Shared>>,
    on_lost: Mutex<Option<Py<PyAny>>>,
    #[pyo3(get)]
    max_workers: usize,
    #[pyo3(get)]
    max_queue: usize,
    #[pyo3(get)]
    name: String,
    submit_timeout: Option<f64>,
}

impl PoolBase {
    fn shared(&self) -> &Arc<Shared> {
        let make = || {
            let on_lost = Python::attach(|py| lock(&self.on_lost).as_ref().map(|hook| hook.clone_ref(py)));
            let shared = Arc::new(Shared {
                crew: Crew::new(self.max_workers, self.max_queue),
                name: self.name.clone(),
                on_lost: Mutex::new(on_lost),
                threads: Mutex::default(),
                rejected: AtomicU64::new(0),
                cancelled: AtomicU64::new(0),
                lost: AtomicU64::new(0),
            });
            let mut pools = lock(POOLS.get_or_make(Mutex::default));
            if pools.len() == pools.capacity() {
                pools.retain(|pool| pool.strong_count() > 0);
            }
            pools.push(Arc::downgrade(&shared));
            drop(pools);
            // `close_pools` says so first and then looks at the list: one of the two sees the other.
            if EXITING.load(SeqCst) {
                shared.crew.close(false);
            }
            shared
        };
        self.generations.get_or_make(make)
    }

    /// Hands a call over. While the queue is full it waits until `deadline`; without `wait` it does not wait at all.
    fn hand_over<'py>(
        &self,
        py: Python<'py>,
        parts: Parts,
        wait: Option<Option<Instant>>,
    ) -> PyResult<Result<Bound<'py, FutureBase>, Full>> {
        let shared = self.shared();
        let (future, call) = FutureBase::make(py, shared, parts)?;
        let mut answer = shared.crew.try_push(Arc::clone(&call));
        if let (Err(Rejected::Full(_)), Some(deadline)) = (&answer, wait) {
            let waited = wait::until(py, deadline, |until| match shared.crew.push(Arc::clone(&call), until) {
                Err(Rejected::Full(_)) => None,
                answer => Some(answer),
            });
            answer = match waited {
                Ok(waited) => waited.unwrap_or_else(|| Err(Rejected::Full(Arc::clone(&call)))),
                Err(error) => {
                    call.cancel(py);
                    return Err(error);
                }
            };
        }
        match answer {
            Ok(None) => Ok(Ok(future)),
            Ok(Some(worker)) => shared.start(py, worker, &call).map(|()| Ok(future)),
            Err(Rejected::Closed(_)) => {
                call.cancel(py);
                let why = if EXITING.load(Relaxed) { "interpreter shutdown" } else { "shutdown" };
                Err(PyRuntimeError::new_err(format!("cannot schedule new futures after {why}")))
            }
            Err(Rejected::Full(_)) => {
                call.cancel(py);
                Ok(Err(Full))
            }
        }
    }

    fn full(&self, py: Python<'_>) -> PyErr {
        self.shared().rejected.fetch_add(1, Relaxed);
        let text = format!("pool {:?} has {} tasks waiting", self.name, self.max_queue);
        match self.submit_timeout {
            Some(timeout) if timeout > 0.0 => errors::wait_timeout(py, &text),
            _ => errors::queue_full(py, &text),
        }
    }
}

/// The queue is full.
struct Full;

#[pymethods]
impl PoolBase {
    #[new]
    #[pyo3(signature = (max_workers=None, *, max_queue=1000, submit_timeout=None, name=None, on_lost=None))]
    fn new(
        max_workers: Option<isize>,
        max_queue: isize,
        submit_timeout: Option<f64>,
        name: Option<String>,
        on_lost: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let at_least_one = |value: isize, what: &str| match usize::try_from(value) {
            Ok(value) if value > 0 => Ok(value),
            _ => Err(PyValueError::new_err(format!("{what} must be greater than 0"))),
        };
        let cpus = || std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as isize);
        let max_workers = at_least_one(max_workers.unwrap_or_else(|| (cpus() + 4).min(32)), "max_workers")?;
        let max_queue = at_least_one(max_queue, "max_queue")?;
        wait::deadline(submit_timeout)?;
        let name = name.unwrap_or_else(|| format!("pool-{}", NUMBER.fetch_add(1, Relaxed)));
        let (generations, on_lost) = (PerProcess::new(), Mutex::new(on_lost));
        Ok(PoolBase { generations, on_lost, max_workers, max_queue, name, submit_timeout })
    }

    /// Hands fn(*args, **kwargs) to the pool and returns its future. While the queue is full it waits for room:
    /// submit_timeout seconds of the pool, then WaitTimeout; with submit_timeout=0 QueueFull at once. RuntimeError: the
    /// pool is shut down.
    #[pyo3(signature = (fn_, /, *args, **kwargs))]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        fn_: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<Bound<'py, FutureBase>> {
        let wait = match self.submit_timeout {
            Some(timeout) if timeout <= 0.0 => None,
            timeout => Some(wait::deadline(timeout)?),
        };
        let parts = Parts { function: fn_, args, kwargs, context: None };
        self.hand_over(py, parts, wait)?.map_err(|Full| self.full(py))
    }

    /// As submit, but raises QueueFull at once if the queue is full, whatever submit_timeout is.
    #[pyo3(signature = (fn_, /, *args, **kwargs))]
    fn try_submit<'py>(
        &self,
        py: Python<'py>,
        fn_: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<Bound<'py, FutureBase>> {
        let parts = Parts { function: fn_, args, kwargs, context: None };
        self.hand_over(py, parts, None)?.map_err(|Full| {
            self.shared().rejected.fetch_add(1, Relaxed);
            errors::queue_full(py, &format!("pool {:?} has {} tasks waiting", self.name, self.max_queue))
        })
    }

    /// The future, or None if there is no room.
    fn _submit_in<'py>(
        &self,
        py: Python<'py>,
        context: Py<PyAny>,
        function: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<Option<Bound<'py, FutureBase>>> {
        let parts = Parts { function, args, kwargs, context: Some(context) };
        Ok(self.hand_over(py, parts, None)?.ok())
    }

    /// Has callback() called once there may be room. Returns a ticket for _forget_room.
    fn _when_room(&self, py: Python<'_>, callback: Py<PyAny>) -> u64 {
        let shared = self.shared();
        let weak = Arc::downgrade(shared);
        let waker = move || {
            let called = Python::attach(|py| callback.call0(py).map(drop));
            // The loop that wanted room is closed: the room is for the next in line.
            if let (Err(_), Some(shared)) = (called, weak.upgrade()) {
                shared.crew.forget(u64::MAX);
            }
        };
        py.detach(|| shared.crew.when_room(Box::new(waker)))
    }

    fn _forget_room(&self, py: Python<'_>, ticket: u64) {
        let shared = self.shared();
        py.detach(|| shared.crew.forget(ticket));
    }

    /// Takes no more calls; cancels those that wait if asked to, and returns how many.
    fn _close(&self, py: Python<'_>, cancel_pending: bool) -> usize {
        let shared = self.shared();
        let cancelled = py.detach(|| shared.crew.close(cancel_pending));
        shared.cancel_all(py, cancelled)
    }

    /// Waits until all threads have ended, at most `timeout` seconds. Returns whether they have.
    fn _wait_ended(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let shared = self.shared();
        let deadline = wait::deadline(timeout)?;
        let ended = wait::until(py, deadline, |until| shared.crew.wait_ended(until).then_some(()))?;
        Ok(ended.is_some())
    }

    /// The threads that have begun and have not been replaced.
    fn _started(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        lock(&self.shared().threads).iter().map(|(_, thread)| thread.clone_ref(py)).collect()
    }

    /// Name, thread and age in seconds of each task that runs.
    fn _running_tasks(&self, py: Python<'_>) -> Vec<(String, Option<Py<PyAny>>, f64)> {
        let shared = self.shared();
        let running = py.detach(|| shared.crew.running());
        let tasks = running.iter().map(|running| {
            let threads = lock(&shared.threads);
            let thread = threads.iter().find(|(number, _)| *number == running.worker);
            let thread = thread.map(|(_, thread)| thread.clone_ref(py));
            drop(threads);
            (running.job.label(py), thread, running.since.elapsed().as_secs_f64())
        });
        tasks.collect()
    }

    /// How many tasks wait for a thread.
    #[getter]
    fn queued(&self) -> usize {
        self.shared().crew.stats().queued
    }

    /// How many tasks run now.
    #[getter]
    fn running(&self) -> usize {
        self.shared().crew.stats().running
    }

    /// Counts, of one moment except for the last three: queued, running, workers, max_workers, max_queue, submitted,
    /// completed, rejected (the queue was full), cancelled (before they ran), lost (exceptions nobody asked for).
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shared = self.shared();
        let stats = shared.crew.stats();
        let counts = PyDict::new(py);
        counts.set_item("queued", stats.queued)?;
        counts.set_item("running", stats.running)?;
        counts.set_item("workers", stats.workers)?;
        counts.set_item("max_workers", self.max_workers)?;
        counts.set_item("max_queue", self.max_queue)?;
        counts.set_item("submitted", stats.submitted)?;
        counts.set_item("completed", stats.completed)?;
        counts.set_item("rejected", shared.rejected.load(Relaxed))?;
        counts.set_item("cancelled", shared.cancelled.load(Relaxed))?;
        counts.set_item("lost", shared.lost.load(Relaxed))?;
        Ok(counts)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(hook) = self.on_lost.try_lock() {
            visit.call(&*hook)?;
        }
        if let Some(shared) = self.generations.get()
            && let Ok(hook) = shared.on_lost.try_lock()
        {
            visit.call(&*hook)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let own = lock(&self.on_lost).take();
        drop(own);
        if let Some(shared) = self.generations.get() {
            let theirs = lock(&shared.on_lost).take();
            drop(theirs);
        }
    }
}

impl Drop for PoolBase {
    fn drop(&mut self) {
        if let Some(shared) = self.generations.get() {
            shared.crew.close(false);
        }
    }
}
