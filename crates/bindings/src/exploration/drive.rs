//! Makes the runs of an exploration, from the first to the outcome.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use explore::judge::Failure;
use explore::outcome::About;
use explore::strategy::Kind;
use explore::trace::End;
use explore::{After, Explorer, engine::Limits};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::gate;
use super::program;
use super::report::Exploration;
use super::session::{Job, Lines, SESSION, Told, Turn};
use crate::raw::baton::{self, Aside, DRIVER, Wait};
use crate::raw::observe::deaths;
use crate::raw::pin::Pinned;

/// How often the driver looks for signals while a run goes on.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A run in which no thread comes to a point under control for so long is given up.
const STUCK_AFTER: Duration = Duration::from_secs(20);

static IS_STUCK: AtomicBool = AtomicBool::new(false);

create_exception!(
    raceproof,
    NotSerial,
    PyException,
    "An invariant raises this where no serial order of the calls explains what they came to."
);

/// Adds `run_exploration` and `NotSerial`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("NotSerial", module.py().get_type::<NotSerial>())?;
    module.add_function(wrap_pyfunction!(run_exploration, module)?)?;
    super::report::add(module)
}

/// What to explore: see `raceproof.testing.explore`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Scenario {
    setup: Py<PyAny>,
    threads: Vec<Py<PyAny>>,
    /// `(state)`: None if it holds, else what is wrong.
    invariant: Option<Py<PyAny>>,
    /// `(entered)`: the dicts of globals and classes from which objects are numbered, besides the state, after the
    /// exploration has come to these code objects.
    roots: Py<PyAny>,
    strategy: String,
    max_runs: Option<u64>,
    max_steps: Option<usize>,
    seed: u64,
    schedule: Option<String>,
    /// Is C code that reads item by item one step?
    is_iteration_atomic: bool,
    semantics: String,
    /// Are operands read from frames? Otherwise what they were found to be is held until the run is over.
    reads_frames: bool,
    /// Are threads that wait for ever for the invariant to judge?
    blocked_is_outcome: bool,
    /// `(file, first line, last line)`: switches of threads around these are tried first.
    aims: Vec<Lines>,
    /// The same: no thread is switched at these.
    mutes: Vec<Lines>,
}

impl Scenario {
    fn explorer(&self, kind: Kind) -> PyResult<Explorer> {
        let standard = Limits::default();
        let limits = Limits {
            runs_max: self.max_runs.unwrap_or(standard.runs_max),
            steps_max: self.max_steps.unwrap_or(standard.steps_max),
            ..standard
        };
        let explorer = match &self.schedule {
            Some(text) => Explorer::replay(text, limits).map_err(|cause| PyValueError::new_err(cause.to_string()))?,
            None => Explorer::new(kind, limits, self.seed),
        };
        // What a step is, and what is seen, `raceproof.testing` says when all is over.
        let explorer = explorer.about(About { semantics: self.semantics.clone(), ..About::default() });
        Ok(if self.blocked_is_outcome { explorer.letting_threads_wait() } else { explorer })
    }
}

/// The driver has the baton while this lives.
struct Driving;

impl Drop for Driving {
    fn drop(&mut self) {
        SESSION.with(|session| session.explorer = None);
        deaths::listen(false);
        baton::lay_down();
    }
}

/// Explores a scenario.
#[pyfunction]
fn run_exploration(py: Python<'_>, scenario: Scenario) -> PyResult<Exploration> {
    if IS_STUCK.load(Relaxed) {
        let text = "an earlier exploration is stuck in a thread that never came back: begin a new process";
        return Err(PyRuntimeError::new_err(text));
    }
    let kind: Kind = scenario
        .strategy
        .parse()
        .map_err(|cause: explore::strategy::UnknownStrategy| PyValueError::new_err(cause.to_string()))?;
    let explorer = scenario.explorer(kind)?;
    if !baton::take() {
        return Err(PyRuntimeError::new_err("an exploration is under way in this process; one at a time"));
    }
    let driving = Driving;
    let has_news = deaths::listen(true);
    SESSION.with(|session| session.naming.keep_all(!has_news, !scenario.reads_frames));
    let _pinned = Pinned::new();
    program::set_iteration_atomic(scenario.is_iteration_atomic);
    SESSION.with(|session| {
        session.open(explorer, scenario.schedule.is_some(), scenario.aims.clone(), scenario.mutes.clone())
    });
    let mut told = Vec::new();
    let outcome = loop {
        match one_run(py, &scenario, kind, &mut told) {
            Ok(After::More) => {}
            Ok(After::Done(outcome)) => break outcome,
            Err(error) if IS_STUCK.load(Relaxed) => {
                std::mem::forget(driving);
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    };
    let exploration = SESSION.with(|session| Exploration::new(*outcome, &told, session));
    forget_objects();
    Ok(exploration)
}

/// Lets go of the objects of the last run.
fn forget_objects() {
    let old = SESSION.with(|session| (session.naming.clear(), std::mem::take(&mut session.results)));
    let _aside = Aside::step();
    drop(old);
}

fn one_run(py: Python<'_>, scenario: &Scenario, kind: Kind, told: &mut Vec<Told>) -> PyResult<After> {
    forget_objects();
    gate::count_run();
    SESSION.with(|session| {
        session.clear();
        for callable in &scenario.threads {
            session.add_thread(Job { callable: callable.clone_ref(py), argument: None });
        }
    });
    let state = scenario.setup.call0(py)?;
    if SESSION.with(|session| session.n_held_by_driver) > 0 {
        let text = "setup() leaves a lock held, which a run cannot follow: take it in one of the threads";
        return Err(PyRuntimeError::new_err(text));
    }
    number(py, scenario, &state)?;
    let n_threads = SESSION.with(|session| {
        for thread in 0..scenario.threads.len() {
            session.give_state(thread, state.clone_ref(py));
        }
        session.n_threads()
    });
    if n_threads == 0 {
        return Err(PyValueError::new_err("a scenario needs at least one thread"));
    }
    gate::keep_worker(py, n_threads - 1)?;
    if let Turn::Of(first) = SESSION.with(|session| session.begin()) {
        baton::give(first);
        await_end(py)?;
    }
    let seen = seen(py, scenario, &state)?;
    Ok(SESSION.with(|session| {
        let is_stale = session.settle();
        let explorer = session.explorer.as_mut().expect("an exploration is under way");
        if explorer.is_looking() {
            *told = std::mem::take(&mut session.told);
        }
        let after = match is_stale && explorer.is_searching() {
            true => explorer.end_and_restart(kind.make(scenario.seed)),
            false => explorer.end(seen),
        };
        session.tells_all = !explorer.is_searching();
        let loses_attributes = session.loses_attributes();
        let explorer = session.explorer.as_mut().expect("an exploration is under way");
        if loses_attributes && scenario.schedule.is_none() {
            explorer
                .untracked("attributes through the dict of an object, where objects or containers are not told apart");
        }
        if session.naming.hides_deaths() {
            explorer.untracked("what runs when objects die: here some live until the run is over");
        }
        if session.naming.is_full() {
            explorer.untracked("objects beyond the first 200,000 of a run");
        }
        after
    }))
}

/// Gives the objects of the state, and those that globals and classes lead to, their numbers.
fn number(py: Python<'_>, scenario: &Scenario, state: &Py<PyAny>) -> PyResult<()> {
    let mut roots: Vec<Bound<'_, PyAny>> = vec![state.bind(py).clone()];
    roots.extend(scenario.threads.iter().map(|thread| thread.bind(py).clone()));
    {
        let entered = SESSION.with(|session| session.entered.clone());
        let _aside = Aside::step();
        roots.extend(scenario.roots.bind(py).call1((entered,))?.extract::<Vec<Bound<'_, PyAny>>>()?);
    }
    SESSION.with(|session| session.naming.walk(&roots));
    let _aside = Aside::step();
    drop(roots);
    Ok(())
}

/// Waits until all threads of the run have ended.
fn await_end(py: Python<'_>) -> PyResult<()> {
    let (mut last, mut idle, mut interrupted) = (gate::progress(), Duration::ZERO, None);
    baton::sit(baton::NOBODY);
    while baton::wait(DRIVER, Some(LOOK_EVERY)) == Wait::NotYet {
        if let Err(error) = py.check_signals() {
            gate::ask_to_stop(true);
            interrupted.get_or_insert(error);
        }
        let now = gate::progress();
        idle = if now == last { idle + LOOK_EVERY } else { Duration::ZERO };
        last = now;
        if idle >= STUCK_AFTER {
            IS_STUCK.store(true, Relaxed);
            let text =
                "a thread did not come back to a point under control for 20 s: it blocks in code that is not seen";
            return Err(PyRuntimeError::new_err(text));
        }
    }
    baton::sit(DRIVER);
    gate::ask_to_stop(false);
    interrupted.map_or(Ok(()), Err)
}

/// What is wrong with the run as far as Python code can tell.
fn seen(py: Python<'_>, scenario: &Scenario, state: &Py<PyAny>) -> PyResult<Option<Failure>> {
    let (failure, end) = SESSION.with(|session| {
        let failure = session.failure.take().map(|(thread, what)| Failure::Raised { thread, what });
        (failure, session.explorer.as_ref().map(|explorer| explorer.trace().end))
    });
    let is_over = end == Some(End::Complete) || (end == Some(End::Deadlock) && scenario.blocked_is_outcome);
    let (None, true, Some(invariant)) = (&failure, is_over, &scenario.invariant) else {
        return Ok(failure);
    };
    match invariant.bind(py).call1((state,)) {
        Ok(wrong) if wrong.is_none() => Ok(None),
        Ok(wrong) => Ok(Some(Failure::Invariant(wrong.str()?.to_string()))),
        Err(error) if error.is_instance_of::<NotSerial>(py) => {
            Ok(Some(Failure::NotLinearizable(error.value(py).str()?.to_string())))
        }
        Err(error) if error.is_instance_of::<PyException>(py) => {
            let _aside = Aside::step();
            Ok(Some(Failure::Invariant(gate::described(py, &error).unwrap_or_default())))
        }
        Err(error) => Err(error),
    }
}
