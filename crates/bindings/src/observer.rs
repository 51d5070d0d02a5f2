//! `watch_locks`, `time_locks`, `lock_report`: looking at locks, and what Python sees of it.

use primitives::histogram::Summary;
use primitives::observe::{self, Look, Objection, Observed};
use primitives::raw::guarded::Guarded;
use primitives::stats::{self, now_ns};
use primitives::watch::{self, Inversion, Site};
use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyType};

use crate::errors;

/// How many frames of a stack are kept.
const FRAMES_MAX: usize = 32;
const NS_PER_S: f64 = 1e9;

/// What is done about an inversion.
enum Reaction {
    Warn,
    Raise,
    Call(Py<PyAny>),
}

static REACTION: Guarded<Reaction> = Guarded::new(Reaction::Warn);

static ORDER_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static DEADLOCK_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static ORDER_WARNING: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Adds the functions and the exceptions.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let base = module.getattr("RaceproofError")?.cast_into::<PyType>()?;
    let (error, warning) = (py.get_type::<PyRuntimeError>(), py.get_type::<PyRuntimeWarning>());
    let order = "Locks are taken in an order that contradicts an earlier one. `report` says which, and where.";
    let order = errors::class(module, "LockOrderError", order, &[&base, &error])?;
    let deadlock = "A thread would wait for itself, for ever.";
    let deadlock = errors::class(module, "DeadlockError", deadlock, &[&base, &error])?;
    let warns = "Locks are taken in an order that contradicts an earlier one, which can end in a deadlock.";
    let warning = errors::class(module, "LockOrderWarning", warns, &[&warning])?;
    for (slot, class) in [(&ORDER_ERROR, order), (&DEADLOCK_ERROR, deadlock), (&ORDER_WARNING, warning)] {
        let _ = slot.set(py, class.unbind());
    }
    module.add_function(wrap_pyfunction!(watch_locks, module)?)?;
    module.add_function(wrap_pyfunction!(time_locks, module)?)?;
    module.add_function(wrap_pyfunction!(lock_report, module)?)
}

/// Switches the lock-order watch on or off; returns whether it was on.
///
/// It learns in which order threads take `Lock`, `RLock` and `RWLock`. A thread that is about to wait for a lock in an
/// order that contradicts an earlier one is stopped before it waits, and before it has the lock: with
/// `on_inversion="warn"` by a LockOrderWarning, once for each order; with "raise" by a LockOrderError, each time; a
/// callable gets the report, a dict, once for each order, and what it raises goes to the thread. A thread that would
/// wait for a lock that it holds itself gets a DeadlockError. Switching on forgets what was learnt before. While it is
/// off, an acquisition pays one relaxed load.
#[pyfunction]
#[pyo3(signature = (on=true, *, on_inversion=None))]
fn watch_locks(on: bool, on_inversion: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
    let reaction = match &on_inversion {
        None => Reaction::Warn,
        Some(given) if given.is_callable() => Reaction::Call(given.clone().unbind()),
        Some(given) => match given.extract::<String>().as_deref() {
            Ok("warn") => Reaction::Warn,
            Ok("raise") => Reaction::Raise,
            _ => return Err(PyValueError::new_err("on_inversion must be 'warn', 'raise' or a callable")),
        },
    };
    // The former callable is let go after the section: that may run Python code.
    drop(REACTION.with(|held| std::mem::replace(held, reaction)));
    let was_on = observe::looks_at(Look::Order);
    if on && !was_on {
        watch::clear();
    }
    Ok(observe::switch(Look::Order, on))
}

/// Switches the timing of locks on or off; returns whether it was on. Switching on forgets earlier times.
///
/// `lock_report()["locks"]` has for each name how long threads waited for such locks and held them. The first 128 names
/// are told apart; locks without a name go by their type. While it is off, an acquisition pays one relaxed load.
#[pyfunction]
#[pyo3(signature = (on=true))]
fn time_locks(on: bool) -> bool {
    if on && !observe::looks_at(Look::Times) {
        for series in stats::all() {
            series.waits.clear();
            series.holds.clear();
        }
    }
    observe::switch(Look::Times, on)
}

/// What the watch and the timing have found, as a dict:
///
/// "watching" and "timing": whether they are on; "inversions": a list of reports; "orders": how many pairs of locks
/// were learnt; "is_full": whether the watch has reached its limit of pairs and learns no more; "locks": a list of
/// dicts with "name", "wait" and "hold", each of the two with "count", "p50", "p99" and "max", in seconds. Percentiles
/// are right to a sixteenth.
///
/// A report has "kind", "message", "locks" (names), "threads" (names), "stacks" (texts; the last is that of the thread
/// that was stopped, the others are those that it contradicts) and "steps" (dicts with "held", "taken", "thread").
#[pyfunction]
fn lock_report(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let found = watch::findings();
    let report = PyDict::new(py);
    report.set_item("watching", observe::looks_at(Look::Order))?;
    report.set_item("timing", observe::looks_at(Look::Times))?;
    let inversions: PyResult<Vec<_>> = found.inversions.iter().map(|inversion| as_dict(py, inversion)).collect();
    report.set_item("inversions", inversions?)?;
    report.set_item("orders", found.n_edges)?;
    report.set_item("is_full", found.is_full)?;
    let locks = PyList::empty(py);
    for series in stats::all() {
        let (wait, hold) = (series.waits.summary(), series.holds.summary());
        if wait.count + hold.count == 0 {
            continue;
        }
        let lock = PyDict::new(py);
        lock.set_item("name", &series.name)?;
        lock.set_item("wait", times(py, wait)?)?;
        lock.set_item("hold", times(py, hold)?)?;
        locks.append(lock)?;
    }
    report.set_item("locks", locks)?;
    Ok(report)
}

fn times(py: Python<'_>, summary: Summary) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("count", summary.count)?;
    let seconds = |ns: u64| ns as f64 / NS_PER_S;
    dict.set_item("p50", seconds(summary.p50_ns))?;
    dict.set_item("p99", seconds(summary.p99_ns))?;
    dict.set_item("max", seconds(summary.max_ns))?;
    Ok(dict)
}

fn as_dict<'py>(py: Python<'py>, inversion: &Inversion) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let steps = &inversion.steps;
    dict.set_item("kind", "lock-order-inversion")?;
    dict.set_item("message", inversion.message())?;
    dict.set_item("locks", steps.iter().map(|step| &step.held).collect::<Vec<_>>())?;
    dict.set_item("threads", steps.iter().map(|step| &step.site.thread).collect::<Vec<_>>())?;
    dict.set_item("stacks", steps.iter().map(|step| &step.site.stack).collect::<Vec<_>>())?;
    let list = PyList::empty(py);
    for step in steps {
        let said = PyDict::new(py);
        said.set_item("held", &step.held)?;
        said.set_item("taken", &step.taken)?;
        said.set_item("thread", &step.site.thread)?;
        list.append(said)?;
    }
    dict.set_item("steps", list)?;
    Ok(dict)
}

/// The thread `me` is about to wait for a lock: asks the watch, and does what was asked for if it objects.
pub fn ask(py: Python<'_>, observed: &Observed, me: usize, is_endless: bool) -> PyResult<()> {
    match observed.before(me, is_endless, || site(py, me)) {
        None => Ok(()),
        Some(Objection::SelfDeadlock) => {
            let text = format!("the lock '{}' is held by this thread, which would wait for itself", observed.label());
            Err(deadlock(py, text))
        }
        Some(Objection::Inversion(inversion, is_first)) => react(py, &inversion, is_first),
    }
}

/// A `DeadlockError`.
pub fn deadlock(py: Python<'_>, text: String) -> PyErr {
    PyErr::from_type(DEADLOCK_ERROR.get(py).expect("made with the module").bind(py).clone(), text)
}

fn react(py: Python<'_>, inversion: &Inversion, is_first: bool) -> PyResult<()> {
    let reaction = REACTION.with(|reaction| match reaction {
        Reaction::Warn => Reaction::Warn,
        Reaction::Raise => Reaction::Raise,
        Reaction::Call(function) => Reaction::Call(function.clone_ref(py)),
    });
    match reaction {
        Reaction::Raise => {
            let class = ORDER_ERROR.get(py).expect("made with the module").bind(py);
            let error = class.call1((inversion.message(),))?;
            error.setattr("report", as_dict(py, inversion)?)?;
            Err(PyErr::from_value(error))
        }
        Reaction::Warn if is_first => {
            let text = std::ffi::CString::new(inversion.message().replace('\0', " "))?;
            let class = ORDER_WARNING.get(py).expect("made with the module").bind(py);
            PyErr::warn(py, class, &text, 1)
        }
        Reaction::Call(function) if is_first => function.call1(py, (as_dict(py, inversion)?,)).map(drop),
        _ => Ok(()),
    }
}

/// Where this thread is. What cannot be said is left empty: the watch must not fail where the program would not.
fn site(py: Python<'_>, me: usize) -> Site {
    let stack = || -> PyResult<String> {
        let lines = py.import("traceback")?.call_method1("format_stack", (py.None(), FRAMES_MAX))?;
        Ok(lines.extract::<Vec<String>>()?.concat())
    };
    let name = thread_name(py, me).ok().flatten();
    Site { thread: name.unwrap_or_else(|| format!("thread {me}")), stack: stack().unwrap_or_default() }
}

/// `(identifier, name)`, or `None`.
pub fn thread(py: Python<'_>, ident: Option<usize>) -> PyResult<Bound<'_, PyAny>> {
    match ident {
        None => Ok(py.None().into_bound(py)),
        Some(ident) => Ok((ident, thread_name(py, ident)?).into_pyobject(py)?.into_any()),
    }
}

/// What `threading` calls this thread; `None` for one that it does not know.
pub fn thread_name(py: Python<'_>, ident: usize) -> PyResult<Option<String>> {
    for thread in py.import("threading")?.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        if thread.getattr("ident")?.extract::<Option<usize>>()? == Some(ident) {
            return Ok(Some(thread.getattr("name")?.extract()?));
        }
    }
    Ok(None)
}

/// How many seconds have passed since.
pub fn seconds_since(ns: u64) -> f64 {
    now_ns().saturating_sub(ns) as f64 / NS_PER_S
}
