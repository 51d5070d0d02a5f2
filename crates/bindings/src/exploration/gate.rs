//! Hands the baton on: announces what a thread is about to do, parks it while others go on, and lets it go on or unwinds
//! it. Also the threads themselves, which are kept from run to run.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use explore::operation::{Effect, Operation, THREADS_MAX, ThreadId};
use explore::trace::Label;
use facts::LockMode;
use pyo3::create_exception;
use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::prelude::*;

use super::session::{Job, SESSION, Turn};
use crate::raw::baton::{self, Aside, DRIVER, NOBODY, Seat};
use crate::raw::fresh::as_in_a_new_thread;

create_exception!(
    raceproof,
    Unwind,
    PyBaseException,
    "Raised in a thread whose run is over; code under test should let it pass."
);

/// Adds `Unwind`, `worker`, `spawn` and `seat`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Unwind", module.py().get_type::<Unwind>())?;
    module.add_function(wrap_pyfunction!(worker, module)?)?;
    module.add_function(wrap_pyfunction!(spawn, module)?)?;
    module.add_function(wrap_pyfunction!(seat, module)?)?;
    module.add_function(wrap_pyfunction!(is_thread_of_run, module)?)?;
    module.add_function(wrap_pyfunction!(aside, module)?)
}

/// Is this thread one of the run?
pub fn is_controlled() -> bool {
    (0..DRIVER).contains(&baton::me())
}

/// The number of the run, for locks that outlive runs.
pub fn run() -> u64 {
    RUN.load(Relaxed)
}

/// The next run begins.
pub fn count_run() {
    RUN.fetch_add(1, Relaxed);
}

/// How many steps have been announced, for whoever watches that threads come back.
pub fn progress() -> u64 {
    STEPS.load(Relaxed)
}

/// A step is announced.
pub fn count_step() {
    // Only the holder of the baton counts.
    STEPS.store(STEPS.load(Relaxed) + 1, Relaxed);
}

/// Asks the run that is under way to end, or takes that back.
pub fn ask_to_stop(is_asked: bool) {
    IS_ASKED_TO_STOP.store(is_asked, Relaxed);
}

/// Has somebody asked the run to end?
pub fn is_asked_to_stop() -> bool {
    IS_ASKED_TO_STOP.load(Relaxed)
}

static STEPS: AtomicU64 = AtomicU64::new(0);
static IS_ASKED_TO_STOP: AtomicBool = AtomicBool::new(false);
static RUN: AtomicU64 = AtomicU64::new(0);

/// What a thread is unwound with.
pub fn unwind() -> PyErr {
    Unwind::new_err("the run is over")
}

/// Announces an operation at the place where the thread stands and does not come back before it is granted.
///
/// # Errors
/// [`Unwind`] if the run is over.
pub fn step(operation: Operation) -> PyResult<Effect> {
    let seat = baton::me();
    let label = SESSION.with(|session| session.label_of(seat));
    step_at(operation, label)
}

/// The same at a label.
pub fn step_at(operation: Operation, label: Label) -> PyResult<Effect> {
    give_back_landed()?;
    one_step(operation, label)
}

fn one_step(operation: Operation, label: Label) -> PyResult<Effect> {
    let seat = baton::me();
    match SESSION.with(|session| session.announce(seat, operation, label)) {
        Turn::Mine => {}
        Turn::Of(other) => baton::hand_over(other),
        Turn::Over => return Err(unwind()),
    }
    SESSION.with(|session| if session.is_unwinding { Err(unwind()) } else { Ok(session.effect(seat)) })
}

/// Waits under control for what `is_over` finds out by trying: others go on meanwhile. With a limit in seconds the wait may
/// also go on to its end, which is then tried once more. Says whether it was found before the end.
///
/// # Errors
/// [`Unwind`] if the run is over.
pub fn wait_for(timeout: Option<Duration>, mut is_over: impl FnMut() -> bool) -> PyResult<bool> {
    while !is_over() {
        let Some(timeout) = timeout else {
            step(Operation::Yield)?;
            continue;
        };
        if step(Operation::Choice { n: 2 })? == Effect::Branch(1) {
            step(Operation::Sleep { timeout_ns: u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX) })?;
            return Ok(is_over());
        }
    }
    Ok(true)
}

/// Gives back the locks of the flights that this thread has landed. That is put off until here because whoever lands one
/// may hold locks that are not seen.
fn give_back_landed() -> PyResult<()> {
    let seat = baton::me();
    while let Some(lock) = SESSION.with(|session| session.landed(seat)) {
        let label = SESSION.with(|session| session.label_of(seat));
        one_step(Operation::Release { lock, mode: LockMode::Exclusive }, label)?;
    }
    Ok(())
}

/// Waits under control for a flight to land, so long at most; false if the time is over, None if it is not known and has
/// to be waited for in another way.
///
/// # Errors
/// [`Unwind`] if the run is over.
pub fn wait_for_flight(number: u64, timeout: Option<Duration>) -> PyResult<Option<bool>> {
    if !is_controlled() {
        return Ok(None);
    }
    let Some(lock) = SESSION.with(|session| session.lock_of_flight(number)) else { return Ok(None) };
    let timeout_ns = timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    // Never given back: nobody takes it alone again.
    if step(Operation::Acquire { lock, mode: LockMode::Shared, timeout_ns })? == Effect::TimedOut {
        return Ok(Some(false));
    }
    SESSION.with(|session| session.order().acquire(ThreadId(baton::me() as u32), lock));
    Ok(Some(true))
}

/// News of flights, for `primitives::flight`.
pub static FLIGHTS: primitives::flight::News = primitives::flight::News {
    begins: |number| {
        if is_controlled() {
            SESSION.with(|session| session.begin_flight(baton::me(), number));
        }
    },
    ends: |number| {
        if is_controlled() {
            SESSION.with(|session| session.end_flight(baton::me(), number));
        }
    },
};

/// Starts a thread under control that calls `callable()`: its number. By the driver it begins with the run. The run is
/// complete without the end of one in the background.
#[pyfunction]
#[pyo3(signature = (callable, in_background = false))]
fn spawn(py: Python<'_>, callable: Py<PyAny>, in_background: bool) -> PyResult<usize> {
    let seat = baton::me();
    if seat == NOBODY {
        return Err(PyRuntimeError::new_err("no exploration is under way in this thread"));
    }
    let job = Job { callable, argument: None };
    let child = SESSION.with(|session| {
        if session.is_unwinding || session.n_threads() >= THREADS_MAX {
            return Err(unwind());
        }
        let child = session.add_thread(job);
        if in_background {
            session.background.push(ThreadId(child as u32));
        }
        Ok(child)
    })?;
    keep_worker(py, child)?;
    if seat != DRIVER {
        let (parent, child) = (ThreadId(seat as u32), ThreadId(child as u32));
        step(Operation::Spawn { child })?;
        SESSION.with(|session| session.order().spawn(parent, child));
    }
    Ok(child)
}

/// Sees to it that there is a thread for this seat. Called by the holder of the baton.
pub fn keep_worker(py: Python<'_>, seat: usize) -> PyResult<()> {
    static N_WORKERS: AtomicUsize = AtomicUsize::new(0);
    while N_WORKERS.load(Relaxed) <= seat {
        let _aside = Aside::step();
        let next = N_WORKERS.load(Relaxed);
        let module = py.import("raceproof._native")?.getattr("control")?;
        let start = py.import("raceproof.instrument._real")?.getattr("start_new_thread")?;
        start.call1((module.getattr("worker")?, (next,)))?;
        N_WORKERS.store(next + 1, Relaxed);
    }
    Ok(())
}

/// The life of a thread under control: waits for the baton, does its job, hands the baton on.
#[pyfunction]
fn worker(py: Python<'_>, number: usize) -> PyResult<()> {
    let seat = number as Seat;
    crate::raw::pin::to_one_cpu();
    loop {
        while baton::wait(seat, None) != baton::Wait::Here {}
        baton::sit(seat);
        let job = SESSION.with(|session| if session.is_unwinding { None } else { session.job(seat) });
        let result = job.as_ref().map(|job| {
            as_in_a_new_thread(|| match &job.argument {
                Some(argument) => job.callable.call1(py, (argument,)),
                None => job.callable.call0(py),
            })
        });
        let result = match give_back_landed() {
            Ok(()) => result,
            Err(error) => Some(result.unwrap_or(Ok(py.None())).and(Err(error))),
        };
        let failure = {
            let _aside = Aside::step();
            result.as_ref().and_then(|result| result.as_ref().err()).and_then(|error| described(py, error))
        };
        // What dies with it may run code, which is part of the run.
        drop((job, result));
        let next = SESSION.with(|session| {
            if let (Some(what), false) = (failure, session.is_unwinding) {
                session.failure.get_or_insert((ThreadId(seat as u32), what));
            }
            session.leave(seat)
        });
        baton::give_and_leave(next);
    }
}

/// An exception in words: its type, a colon, and what it says. None for those that end a thread in order.
pub fn described(py: Python<'_>, error: &PyErr) -> Option<String> {
    let is_order = error.is_instance_of::<Unwind>(py) || error.is_instance_of::<pyo3::exceptions::PySystemExit>(py);
    if is_order {
        return None;
    }
    let kind = error.get_type(py).name().map_or_else(|_| "exception".to_owned(), |name| name.to_string());
    let text = error.value(py).str().map_or_else(|_| String::new(), |text| text.to_string());
    Some(if text.is_empty() { kind } else { format!("{kind}: {text}") })
}

/// Records the failure of a thread that the code under test started: a thread error that nobody sees.
pub fn fail(py: Python<'_>, error: &PyErr) {
    let what = {
        let _aside = Aside::step();
        described(py, error)
    };
    let seat = baton::me();
    if let Some(what) = what {
        SESSION.with(|session| {
            session.failure.get_or_insert((ThreadId(seat as u32), what));
        });
    }
}

/// The number of the thread in its run; 64 for whoever asked for the exploration, -1 outside of one.
#[pyfunction]
fn seat() -> Seat {
    baton::me()
}

/// Is this thread one of the run? Whoever asked for the exploration is none.
#[pyfunction]
fn is_thread_of_run() -> bool {
    is_controlled()
}

/// Calls `callable(*args)` as one from outside: what it does is neither observed nor scheduled.
#[pyfunction]
#[pyo3(signature = (callable, *args))]
fn aside<'py>(callable: &Bound<'py, PyAny>, args: &Bound<'py, pyo3::types::PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let _aside = Aside::step();
    callable.call1(args)
}
