//! The race detector for whole programs: threads run in parallel as they are, and what they touch without order is told
//! in the end. What order is, and what matters, is decided in `detect`.

pub mod names;
pub mod report;
pub mod sync;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use detect::Stack;
use detect::judge::Raced;
use detect::memory::{Conflict, Memory, Relation};
use detect::order::Order;
use detect::thread::Slots;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use crate::exploration::program::{self, Known};
use crate::raw::observe::operands::{Instruction, Kind};
use crate::raw::watch::callback::{self, Named};
use crate::raw::watch::codes::Code;
use crate::raw::watch::deaths;
use names::Names;

/// No more conflicts are kept.
const CONFLICTS_MAX: usize = 20_000;

/// Adds the module `detect`: what `raceproof.detect` uses, and nobody else.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let detect = PyModule::new(module.py(), "detect")?;
    let [on_instruction, on_test] = callback::functions(module.py())?;
    detect.add("on_instruction", on_instruction)?;
    detect.add("on_test", on_test)?;
    detect.add_function(wrap_pyfunction!(install, &detect)?)?;
    detect.add_function(wrap_pyfunction!(agrees, &detect)?)?;
    detect.add_function(wrap_pyfunction!(switch, &detect)?)?;
    detect.add_function(wrap_pyfunction!(stored, &detect)?)?;
    sync::add(&detect)?;
    report::add(&detect)?;
    module.add("detect", detect)
}

/// The functions of `raceproof.detect` that are called from here.
struct Callbacks {
    /// `(code)`: a [`Description`], or None for code that is not seen.
    describe: Py<PyAny>,
    /// `(object)`: what stands in for it, or None.
    stand_in: Py<PyAny>,
}

static CALLBACKS: PyOnceLock<Callbacks> = PyOnceLock::new();

/// All that threads share.
#[derive(Default)]
pub struct Detector {
    /// What was touched.
    pub memory: Memory,
    /// Who has which place in the clocks.
    pub slots: Slots,
    /// Which locks are taken inside which.
    pub order: Order,
    /// Names of attributes.
    pub names: Names,
    found: Mutex<Found>,
    /// Where locks were made.
    locks: Mutex<HashMap<u32, Stack>>,
    /// The names of threads.
    threads: Mutex<BTreeMap<u32, String>>,
    /// Threads that wait for a lock that they hold: where they took it, and where they wait for it.
    waits: Mutex<BTreeMap<u32, (Stack, Stack)>>,
}

/// Instructions of one function that are watched, of those that may touch something.
const INSTRUCTIONS_MAX: usize = u16::MAX as usize - 1;

#[derive(Default)]
struct Found {
    seen: HashSet<(Relation, Stack, Stack, u64)>,
    raced: Vec<Raced>,
    /// Were there more conflicts than are kept?
    is_full: bool,
    /// Was there a function with more instructions than are watched?
    has_long_code: bool,
    /// Containers and cells have no names: they are numbered as they are met.
    numbers: HashMap<usize, usize>,
}

/// One for the process.
pub static DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::default);

impl Detector {
    /// Takes over what a thread has found in a part of an object.
    pub fn hand_on(&self, conflicts: &mut Vec<Conflict>, part: u64, object: &Bound<'_, PyAny>) {
        for conflict in conflicts.drain(..) {
            let key = (conflict.relation, conflict.before.stack, conflict.now.stack, part);
            {
                let mut found = self.found.lock();
                if !found.seen.insert(key) {
                    continue;
                }
                if found.raced.len() >= CONFLICTS_MAX {
                    found.is_full = true;
                    continue;
                }
            }
            let owner = owner(object);
            let mut found = self.found.lock();
            let owner = owner.unwrap_or_else(|kind| {
                let next = found.numbers.len() + 1;
                let number = *found.numbers.entry(object.as_ptr() as usize).or_insert(next);
                format!("{kind} {number}")
            });
            let part = match callback::named(part) {
                Named::Attribute(number) => self.names.name(number),
                Named::Item(key) => format!("[{key}]"),
                Named::Content | Named::Size => String::new(),
            };
            found.raced.push(Raced { owner, part, conflict });
        }
    }
}

/// The name of the class or module that an attribute belongs to; for anything else the kind of object.
fn owner(object: &Bound<'_, PyAny>) -> Result<String, String> {
    if let Ok(globals) = object.cast::<PyDict>()
        && let Ok(Some(name)) = globals.get_item("__name__")
    {
        return Ok(name.to_string());
    }
    let kind = object.cast::<PyType>().map_or_else(|_| object.get_type(), Bound::clone);
    let name = kind.qualname().map_or_else(|_| "object".to_owned(), |name| name.to_string());
    match kind.module().is_ok_and(|module| module == "builtins" || module == "collections") {
        true => Err(name),
        false => Ok(name),
    }
}

/// What Python says of a code object: the number of locals, whether it is a constructor, and the instructions: offset,
/// kind, depth of the stack, operand and attribute.
#[derive(FromPyObject)]
struct Description(usize, bool, Vec<(usize, String, u16, u32, String)>);

/// A code object is met for the first time: what is known of it, if it is seen.
pub fn describe(code: &Bound<'_, PyAny>) -> PyResult<Option<Code>> {
    let Some(callbacks) = CALLBACKS.get(code.py()) else { return Ok(None) };
    let description: Option<Description> = callbacks.describe.bind(code.py()).call1((code,))?.extract()?;
    let Some(Description(n_locals, is_constructor, described)) = description else { return Ok(None) };
    let (mut sites, mut instructions) = (Vec::new(), Vec::new());
    for (offset, kind, depth, arg, attribute) in described {
        let Some(kind) = Kind::parse(&kind) else { continue };
        if instructions.len() >= INSTRUCTIONS_MAX {
            DETECTOR.found.lock().has_long_code = true;
            break;
        }
        instructions.push(Instruction { kind, depth, arg, name: DETECTOR.names.number(code.py(), &attribute) });
        if sites.len() <= offset / 2 {
            sites.resize(offset / 2 + 1, 0);
        }
        sites[offset / 2] = instructions.len() as u16;
    }
    Ok(Some(Code { n_locals, is_constructor, sites: sites.into(), instructions: instructions.into() }))
}

/// What stands in for a lock that was made before anybody watched.
pub fn stand_in<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(callbacks) = CALLBACKS.get(object.py()) else { return Ok(None) };
    let found = callbacks.stand_in.bind(object.py()).call1((object,))?;
    Ok((!found.is_none()).then_some(found))
}

/// Takes what `raceproof.detect` knows; once.
#[pyfunction]
fn install(
    py: Python<'_>,
    known: Known,
    disable: &Bound<'_, PyAny>,
    describe: Py<PyAny>,
    stand_in: Py<PyAny>,
    make_lock: Py<PyAny>,
    make_rlock: Py<PyAny>,
) -> PyResult<()> {
    callback::install(program::builtins(py, known)?, disable);
    sync::install(py, make_lock, make_rlock);
    let _ = CALLBACKS.set(py, Callbacks { describe, stand_in });
    Ok(())
}

/// Did all instructions of the self-test lie where they were expected?
#[pyfunction]
fn agrees() -> bool {
    callback::agrees()
}

/// Watches, or no longer. False if this interpreter does not tell which objects die.
#[pyfunction]
fn switch(is_on: bool) -> bool {
    callback::switch(is_on);
    deaths::listen(is_on)
}

/// Attributes of this name are stored somewhere in the program: reads of them are looked at from now on.
#[pyfunction]
fn stored(py: Python<'_>, names: Vec<String>) {
    for name in names {
        let number = DETECTOR.names.number(py, &name);
        DETECTOR.names.store(number);
    }
}
