//! What stands in for locks, conditions, sleeps and the ends of threads while a run is under control.
//!
//! Each call is one operation of the engine, which says whether it can be done and when. Outside a run these locks are
//! plain: for the setup and the invariant, which run alone, and for threads that nobody controls.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use explore::operation::{Effect, ObjectId, Operation, ThreadId};
use facts::LockMode;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::gate::{self, is_controlled, step};
use super::session::SESSION;
use crate::raw::baton::{self, DRIVER, NOBODY, Seat};

const FREE: i32 = -2;
/// How long a thread that nobody controls sleeps before it tries a taken lock again.
const NAP: Duration = Duration::from_millis(1);
/// Numbers of locks that outlive runs.
const LASTING: u32 = (1 << 30) + (66 << 20);

/// Adds the types and functions.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ControlledLock>()?;
    module.add_class::<ControlledRLock>()?;
    module.add_class::<ControlledCondition>()?;
    module.add_class::<SharedLock>()?;
    module.add_function(wrap_pyfunction!(run_number, module)?)?;
    module.add_function(wrap_pyfunction!(sleep, module)?)?;
    module.add_function(wrap_pyfunction!(clock_ns, module)?)?;
    module.add_function(wrap_pyfunction!(join, module)?)?;
    module.add_function(wrap_pyfunction!(choose, module)?)?;
    module.add_function(wrap_pyfunction!(note, module)?)?;
    module.add_function(wrap_pyfunction!(fail, module)?)?;
    module.add_function(wrap_pyfunction!(untracked, module)?)
}

/// Seconds as a length of time of the virtual clock.
fn nanoseconds(seconds: f64) -> PyResult<u64> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("the timeout is not a number"));
    }
    Ok((seconds.max(0.0) * 1e9) as u64)
}

/// The state of a lock, and its number in the engine.
struct Core {
    id: ObjectId,
    holder: AtomicI32,
    depth: AtomicU32,
    /// In which run it was taken: what a run leaves behind counts for nothing in the next.
    run: AtomicU64,
    is_reentrant: bool,
    /// What a schedule calls the places where it is used; without it, what the program does there.
    label: Option<String>,
}

impl Core {
    fn new(is_reentrant: bool, label: Option<String>) -> Core {
        static N_LASTING: AtomicU32 = AtomicU32::new(0);
        let id = match baton::me() {
            NOBODY => ObjectId(LASTING + N_LASTING.fetch_add(1, Relaxed)),
            seat => SESSION.with(|session| session.new_lock(seat)),
        };
        Core { id, holder: AtomicI32::new(FREE), depth: AtomicU32::new(0), run: AtomicU64::new(0), is_reentrant, label }
    }

    fn step(&self, operation: Operation) -> PyResult<Effect> {
        match &self.label {
            Some(label) => {
                let label = SESSION.with(|session| session.label_named(label));
                gate::step_at(operation, label)
            }
            None => step(operation),
        }
    }

    fn holder(&self) -> Seat {
        let holder = self.holder.load(Relaxed);
        let is_past = (0..DRIVER).contains(&holder) && self.run.load(Relaxed) != gate::run();
        if is_past { FREE } else { holder }
    }

    fn take(&self, seat: Seat, depth: u32) {
        self.holder.store(seat, Relaxed);
        self.depth.store(depth, Relaxed);
        self.run.store(gate::run(), Relaxed);
    }

    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        if !blocking && timeout != -1.0 {
            return Err(PyValueError::new_err("can't specify a timeout for a non-blocking call"));
        }
        if timeout < 0.0 && timeout != -1.0 {
            return Err(PyValueError::new_err("timeout value must be a non-negative number"));
        }
        let seat = baton::me();
        if self.is_reentrant && self.holder() == seat && seat != NOBODY {
            self.depth.fetch_add(1, Relaxed);
            return Ok(true);
        }
        if !is_controlled() {
            return self.acquire_outside(py, seat, blocking, timeout);
        }
        let (lock, mode) = (self.id, LockMode::Exclusive);
        let operation = match (blocking, timeout) {
            (false, _) => Operation::TryAcquire { lock, mode },
            (true, -1.0) => Operation::Acquire { lock, mode, timeout_ns: None },
            (true, seconds) => Operation::Acquire { lock, mode, timeout_ns: Some(nanoseconds(seconds)?) },
        };
        if matches!(self.step(operation)?, Effect::Failed | Effect::TimedOut) {
            return Ok(false);
        }
        self.take(seat, 1);
        SESSION.with(|session| session.order().acquire(ThreadId(seat as u32), lock));
        Ok(true)
    }

    fn acquire_outside(&self, py: Python<'_>, seat: Seat, blocking: bool, timeout: f64) -> PyResult<bool> {
        let deadline = (timeout >= 0.0).then(|| Instant::now() + Duration::from_secs_f64(timeout.min(1e9)));
        loop {
            let seen = self.holder.load(Relaxed);
            let is_free = self.holder() == FREE;
            if is_free && self.holder.compare_exchange(seen, seat, Relaxed, Relaxed).is_ok() {
                self.depth.store(1, Relaxed);
                if seat == DRIVER {
                    SESSION.with(|session| session.n_held_by_driver += 1);
                }
                return Ok(true);
            }
            if !blocking {
                return Ok(false);
            }
            if seat == DRIVER {
                return Err(PyRuntimeError::new_err("the lock is held, and no thread is left that could release it"));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            py.detach(|| std::thread::sleep(NAP));
            py.check_signals()?;
        }
    }

    fn release(&self) -> PyResult<()> {
        let (seat, holder) = (baton::me(), self.holder());
        let is_unwinding = is_controlled() && SESSION.with(|session| session.is_unwinding);
        if is_unwinding {
            self.holder.store(FREE, Relaxed);
            return Ok(());
        }
        if holder == FREE {
            return Err(PyRuntimeError::new_err("release unlocked lock"));
        }
        if self.is_reentrant && holder != seat {
            return Err(PyRuntimeError::new_err("cannot release un-acquired lock"));
        }
        if self.is_reentrant && self.depth.load(Relaxed) > 1 {
            self.depth.fetch_sub(1, Relaxed);
            return Ok(());
        }
        if is_controlled() {
            SESSION.with(|session| session.order().release(ThreadId(seat as u32), self.id));
            self.step(Operation::Release { lock: self.id, mode: LockMode::Exclusive })?;
        } else if holder == DRIVER && seat == DRIVER {
            SESSION.with(|session| session.n_held_by_driver -= 1);
        }
        self.holder.store(FREE, Relaxed);
        Ok(())
    }

    fn locked(&self) -> PyResult<bool> {
        if !is_controlled() {
            return Ok(self.holder() != FREE);
        }
        Ok(self.step(Operation::IsHeld { lock: self.id })? == Effect::Done)
    }

    fn shown(&self, name: &str) -> String {
        let state = if self.holder() == FREE { "unlocked" } else { "locked" };
        format!("<{state} raceproof.instrument.{name}>")
    }
}

macro_rules! lock_type {
    ($(#[$meta:meta])* $type:ident, $name:literal, $is_reentrant:literal) => {
        $(#[$meta])*
        #[pyclass(frozen, subclass, weakref, module = "raceproof.instrument", name = $name)]
        pub struct $type(Core);

        #[pymethods]
        impl $type {
            #[new]
            #[pyo3(signature = (label = None))]
            fn new(label: Option<String>) -> Self {
                $type(Core::new($is_reentrant, label))
            }

            /// Takes the lock and returns True; False if that may not wait, or not longer than `timeout` seconds of the
            /// virtual clock.
            #[pyo3(signature = (blocking = true, timeout = -1.0))]
            fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
                self.0.acquire(py, blocking, timeout)
            }

            /// Gives the lock back.
            fn release(&self) -> PyResult<()> {
                self.0.release()
            }

            /// Is it taken?
            fn locked(&self) -> PyResult<bool> {
                self.0.locked()
            }

            /// After a fork the lock of the child is free.
            fn _at_fork_reinit(&self) {
                self.0.holder.store(FREE, Relaxed);
            }

            fn _is_owned(&self) -> bool {
                self.0.holder() == baton::me()
            }

            fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
                self.0.acquire(py, true, -1.0)
            }

            #[pyo3(signature = (*_error))]
            fn __exit__(&self, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
                self.0.release()
            }

            fn __repr__(&self) -> String {
                self.0.shown($name)
            }
        }
    };
}

lock_type! {
    /// Stands in for `threading.Lock` in code under control.
    ControlledLock, "Lock", false
}
lock_type! {
    /// Stands in for `threading.RLock` in code under control.
    ControlledRLock, "RLock", true
}

/// A lock that many can share. Who holds it, and that nobody takes it twice, is for the caller to see to; it is taken in
/// runs only.
#[pyclass(frozen, module = "raceproof.instrument")]
pub struct SharedLock {
    core: Core,
    /// What those who share it hand on: to whoever takes it alone, and not to one another.
    shared: ObjectId,
}

#[pymethods]
impl SharedLock {
    #[new]
    fn new() -> Self {
        SharedLock { core: Core::new(false, None), shared: Core::new(false, None).id }
    }

    /// Takes it, shared or alone: False if that may not wait, or not so many seconds.
    #[pyo3(signature = (is_shared, blocking, timeout = None))]
    fn acquire(&self, is_shared: bool, blocking: bool, timeout: Option<f64>) -> PyResult<bool> {
        let (lock, mode) = (self.core.id, mode(is_shared));
        let operation = match blocking {
            true => Operation::Acquire { lock, mode, timeout_ns: timeout.map(nanoseconds).transpose()? },
            false => Operation::TryAcquire { lock, mode },
        };
        if matches!(step(operation)?, Effect::Failed | Effect::TimedOut) {
            return Ok(false);
        }
        let thread = ThreadId(baton::me() as u32);
        SESSION.with(|session| {
            session.order().acquire(thread, lock);
            if !is_shared {
                session.order().acquire(thread, self.shared);
            }
        });
        Ok(true)
    }

    /// Gives it back.
    fn release(&self, is_shared: bool) -> PyResult<()> {
        let handed_on = if is_shared { self.shared } else { self.core.id };
        SESSION.with(|session| session.order().release(ThreadId(baton::me() as u32), handed_on));
        step(Operation::Release { lock: self.core.id, mode: mode(is_shared) })?;
        Ok(())
    }
}

fn mode(is_shared: bool) -> LockMode {
    if is_shared { LockMode::Shared } else { LockMode::Exclusive }
}

/// The number of the run: what a thread holds is its own in one run only.
#[pyfunction]
fn run_number() -> u64 {
    gate::run()
}

/// Stands in for `threading.Condition` in code under control: a wait is one operation.
#[pyclass(frozen, subclass, weakref, module = "raceproof.instrument", name = "Condition")]
pub struct ControlledCondition {
    id: ObjectId,
    lock: Py<PyAny>,
}

impl ControlledCondition {
    fn core<'a>(&'a self, py: Python<'a>) -> &'a Core {
        let lock = self.lock.bind(py);
        match lock.cast::<ControlledLock>() {
            Ok(lock) => &lock.get().0,
            Err(_) => &lock.cast::<ControlledRLock>().expect("checked when it was made").get().0,
        }
    }

    fn wait_for_notification(&self, py: Python<'_>, timeout_ns: Option<u64>) -> PyResult<bool> {
        let (core, seat) = (self.core(py), baton::me());
        if core.holder() != seat || seat == NOBODY {
            return Err(PyRuntimeError::new_err("cannot wait on un-acquired lock"));
        }
        if !is_controlled() {
            return Err(PyRuntimeError::new_err("nobody is left that could notify the condition"));
        }
        let (thread, depth) = (ThreadId(seat as u32), core.depth.load(Relaxed));
        SESSION.with(|session| session.order().release(thread, core.id));
        core.holder.store(FREE, Relaxed);
        let effect = core.step(Operation::Wait { condition: self.id, lock: Some(core.id), timeout_ns })?;
        core.take(seat, depth);
        let is_notified = effect != Effect::TimedOut;
        SESSION.with(|session| {
            session.order().acquire(thread, core.id);
            if is_notified {
                session.order().acquire(thread, self.id);
            }
        });
        Ok(is_notified)
    }

    fn notify_some(&self, py: Python<'_>, count: u32) -> PyResult<()> {
        let seat = baton::me();
        if self.core(py).holder() != seat {
            return Err(PyRuntimeError::new_err("cannot notify on un-acquired lock"));
        }
        if is_controlled() {
            SESSION.with(|session| session.order().release(ThreadId(seat as u32), self.id));
            self.core(py).step(Operation::Notify { condition: self.id, count })?;
        }
        Ok(())
    }
}

#[pymethods]
impl ControlledCondition {
    #[new]
    #[pyo3(signature = (lock = None))]
    fn new(py: Python<'_>, lock: Option<Py<PyAny>>) -> PyResult<Self> {
        let lock = match lock {
            Some(lock) => lock,
            None => Py::new(py, ControlledRLock::new(None))?.into_any(),
        };
        let bound = lock.bind(py);
        if !bound.is_instance_of::<ControlledLock>() && !bound.is_instance_of::<ControlledRLock>() {
            return Err(PyTypeError::new_err("the lock of a condition under control must be under control too"));
        }
        Ok(ControlledCondition { id: Core::new(false, None).id, lock })
    }

    #[pyo3(signature = (*args, **names))]
    fn acquire<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        names: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.lock.bind(args.py()).call_method("acquire", args, names)
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.core(py).release()
    }

    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        self.core(py).locked()
    }

    /// Waits until it is notified, at most `timeout` seconds of the virtual clock; False if the time is over.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.wait_for_notification(py, timeout.map(nanoseconds).transpose()?)
    }

    /// Waits until `predicate()` is true, at most `timeout` seconds; what it last returned.
    #[pyo3(signature = (predicate, timeout = None))]
    fn wait_for<'py>(
        &self,
        py: Python<'py>,
        predicate: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut rest = timeout.map(nanoseconds).transpose()?;
        let mut result = predicate.call0()?;
        while !result.is_truthy()? {
            let begin = clock_ns();
            if !self.wait_for_notification(py, rest)? {
                return predicate.call0();
            }
            rest = rest.map(|rest| rest.saturating_sub(clock_ns().unwrap_or(0) - begin.unwrap_or(0)));
            result = predicate.call0()?;
        }
        Ok(result)
    }

    /// Wakes so many of those that wait.
    #[pyo3(signature = (n = 1))]
    fn notify(&self, py: Python<'_>, n: u32) -> PyResult<()> {
        self.notify_some(py, n)
    }

    /// Wakes all that wait.
    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        self.notify_some(py, u32::MAX)
    }

    #[pyo3(name = "notifyAll")]
    fn notify_all_by_its_old_name(&self, py: Python<'_>) -> PyResult<()> {
        self.notify_some(py, u32::MAX)
    }

    fn _is_owned(&self, py: Python<'_>) -> bool {
        self.core(py).holder() == baton::me()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.core(py).acquire(py, true, -1.0)
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.core(py).release()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.core(py).shown("Condition")
    }
}

/// Lets the virtual clock of the run move on by so many seconds; without any, lets others go first.
#[pyfunction]
fn sleep(seconds: f64) -> PyResult<()> {
    if seconds < 0.0 {
        return Err(PyValueError::new_err("sleep length must be non-negative"));
    }
    if !is_controlled() {
        return Ok(());
    }
    let timeout_ns = nanoseconds(seconds)?;
    step(if timeout_ns == 0 { Operation::Yield } else { Operation::Sleep { timeout_ns } })?;
    Ok(())
}

/// The virtual clock of the run in nanoseconds; None outside of one.
#[pyfunction]
fn clock_ns() -> Option<u64> {
    if baton::me() == NOBODY {
        return None;
    }
    SESSION.with(|session| session.explorer.as_ref().map(explore::Explorer::clock_ns))
}

/// Waits for the end of the thread with this number, at most `timeout` seconds; False if the time is over.
#[pyfunction]
#[pyo3(signature = (thread, timeout = None))]
fn join(thread: u32, timeout: Option<f64>) -> PyResult<bool> {
    if baton::me() == NOBODY {
        // The run is over, and with it the thread.
        return Ok(true);
    }
    if !is_controlled() {
        return Ok(SESSION.with(|session| session.is_over(thread as Seat)));
    }
    let child = ThreadId(thread);
    let timeout_ns = timeout.map(nanoseconds).transpose()?;
    if step(Operation::Join { child, timeout_ns })? == Effect::TimedOut {
        return Ok(false);
    }
    let seat = baton::me();
    SESSION.with(|session| session.order().join(ThreadId(seat as u32), child));
    Ok(true)
}

/// One of `n` ways to go on, as a number below `n`: the strategy chooses. A schedule calls the place `label`.
#[pyfunction]
fn choose(n: u32, label: &str) -> PyResult<u32> {
    if n < 2 || !is_controlled() {
        return Ok(0);
    }
    let label = SESSION.with(|session| session.label_named(label));
    Ok(match gate::step_at(Operation::Choice { n }, label)? {
        Effect::Branch(branch) => branch,
        _ => 0,
    })
}

/// Says in words what the thread does after the step that it has just been granted, and where.
#[pyfunction]
fn note(text: String, file: String, line: u32) {
    if is_controlled() {
        SESSION.with(|session| {
            if session.tells_all {
                session.tell(None, Some((text, file, line)));
            }
        });
    }
}

/// An exception that ends a thread of the run and that nobody sees: the run has failed.
#[pyfunction]
fn fail(error: &Bound<'_, PyAny>) {
    if is_controlled() {
        gate::fail(error.py(), &PyErr::from_value(error.clone()));
    }
}

/// Something was met that is not under control: nothing is proved any more.
#[pyfunction]
fn untracked(what: &str) {
    if baton::me() != NOBODY {
        SESSION.with(|session| {
            if let Some(explorer) = &mut session.explorer {
                explorer.untracked(what);
            }
        });
    }
}
