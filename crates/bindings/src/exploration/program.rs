//! What is known of the program: the code that is seen, the built-ins, and what stands in for what.
//!
//! Python code describes code objects (`raceproof.instrument`); this keeps what it says.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use super::session::{Code, Origin, SESSION};
use crate::raw::baton::Aside;
use crate::raw::held::Held;
use crate::raw::observe::builtins::{Builtins, Call};
use crate::raw::observe::operands::{Instruction, Kind, key_of_name};
use crate::raw::observe::sources::{Origins, Source};
use crate::raw::observe::{callback, portable};

/// The functions of `raceproof.instrument` that are called from here.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Describers {
    /// `(code)`: a [`Description`], or None for code that is not seen.
    describe: Py<PyAny>,
    /// `(code)`: is it seen?
    is_seen: Py<PyAny>,
    /// `(object)`: what stands in for it, or None.
    stand_in: Py<PyAny>,
    /// `(lock)`: could it be taken without a wait?
    is_free: Py<PyAny>,
    /// What `sys.monitoring` shows in the place of an argument that there is not.
    missing: Py<PyAny>,
    /// `(value)`: in words.
    shown: Py<PyAny>,
    /// `(object, key)`: what is read there, in words, or None.
    loaded: Py<PyAny>,
}

/// Stands behind the name of a variable of a closure; as in `raceproof.instrument`.
const OF_CLOSURE: &str = " of a closure";

static DESCRIBERS: PyOnceLock<Describers> = PyOnceLock::new();
static IS_ITERATION_ATOMIC: AtomicBool = AtomicBool::new(false);

/// Adds the functions.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let [on_instruction, on_start, on_probe] = callback::functions(module.py())?;
    let [on_instruction_shown, on_call_shown, on_return_shown] = portable::functions(module.py())?;
    module.add("on_instruction_shown", on_instruction_shown)?;
    module.add("on_call_shown", on_call_shown)?;
    module.add("on_return_shown", on_return_shown)?;
    module.add("on_instruction", on_instruction)?;
    module.add("on_start", on_start)?;
    module.add("on_probe", on_probe)?;
    module.add_function(wrap_pyfunction!(install, module)?)?;
    module.add_function(wrap_pyfunction!(expect, module)?)?;
    module.add_function(wrap_pyfunction!(is_iteration_one_step, module)?)?;
    module.add_function(wrap_pyfunction!(can_observe, module)?)
}

/// Is C code that reads item by item one step in the exploration under way?
pub fn is_iteration_atomic() -> bool {
    IS_ITERATION_ATOMIC.load(Relaxed)
}

/// The same for Python code.
#[pyfunction(name = "is_iteration_atomic")]
fn is_iteration_one_step() -> bool {
    is_iteration_atomic()
}

/// Says whether it is.
pub fn set_iteration_atomic(is_atomic: bool) {
    IS_ITERATION_ATOMIC.store(is_atomic, Relaxed);
}

/// What is known of built-ins.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Known {
    /// Functions and methods in C, and what they do.
    calls: Vec<(Py<PyAny>, String)>,
    stand_ins: Vec<Py<PyAny>>,
    stand_in_types: Vec<Py<PyAny>>,
    immutable: Vec<Py<PyAny>>,
    locals: Vec<Py<PyAny>>,
    /// An object of a class in Python that has `__call__` and `__del__`.
    python_class: Py<PyAny>,
    containers: Vec<Py<PyAny>>,
    defaultdict: Py<PyAny>,
    method_wrapper: Py<PyAny>,
    /// The class of the event loops of a run.
    event_loop: Py<PyAny>,
    /// An iterator or view, where it keeps what it goes over, and what that is.
    over: Vec<(Py<PyAny>, usize, Py<PyAny>)>,
    /// Functions and methods in C whose results no thread shares.
    plain: Vec<Py<PyAny>>,
    /// Is the layout of objects not relied on?
    is_portable: bool,
}

/// Takes what `raceproof.instrument` knows; once.
#[pyfunction]
fn install(py: Python<'_>, known: Known, disable: &Bound<'_, PyAny>, describers: Describers) -> PyResult<()> {
    callback::install(builtins(py, known)?, disable);
    let _ = DESCRIBERS.set(py, describers);
    Ok(())
}

/// The table of what is known of built-ins. It refers to objects that are kept for ever.
pub fn builtins(py: Python<'_>, known: Known) -> PyResult<Builtins> {
    let mut builtins = Builtins::default();
    for (callable, word) in &known.calls {
        let call = Call::parse(word).ok_or_else(|| PyValueError::new_err(format!("no kind of call `{word}`")))?;
        builtins.add_call(callable.bind(py), call);
    }
    known.stand_ins.iter().for_each(|object| builtins.add_stand_in(object.as_ptr()));
    known.stand_in_types.iter().for_each(|kind| builtins.add_stand_in_type(kind.as_ptr()));
    known.immutable.iter().for_each(|kind| builtins.add_immutable(kind.as_ptr()));
    known.locals.iter().for_each(|kind| builtins.add_local(kind.as_ptr()));
    known.plain.iter().for_each(|callable| builtins.add_plain(callable.bind(py)));
    builtins.add_python_class(known.python_class.bind(py));
    builtins.set_types(known.defaultdict.as_ptr(), known.method_wrapper.as_ptr(), known.event_loop.as_ptr());
    known.containers.iter().for_each(|kind| builtins.add_container(kind.as_ptr()));
    for (sample, behind_header, target) in &known.over {
        let (sample, target) = (sample.bind(py), target.bind(py));
        let is_known = match known.is_portable {
            true => builtins.add_viewer(sample, target),
            false => builtins.add_over(sample, *behind_header, target),
        };
        if !is_known {
            return Err(PyRuntimeError::new_err(format!("{} does not look as expected", sample.get_type())));
        }
    }
    // All of these are addresses of objects that must not go away.
    std::mem::forget(known);
    Ok(builtins)
}

/// What Python says of a code object.
#[derive(FromPyObject)]
struct Description(usize, String, bool, Vec<Described>);

/// An instruction: offset, kind, depth, operand, attribute, name in a schedule, line, text, sources of its operands, and
/// whether others ask for its result.
#[derive(FromPyObject)]
struct Described(usize, String, u16, u32, String, String, u32, String, Vec<Source>, bool);

/// A function starts whose code is not known.
pub fn meet(code: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(describers) = DESCRIBERS.get(code.py()) else { return Ok(()) };
    let description: Option<Description> = {
        let _aside = Aside::step();
        describers.describe.bind(code.py()).call1((code,))?.extract()?
    };
    let Some(Description(n_locals, file, is_own, instructions)) = description else { return Ok(()) };
    let names: Vec<_> = instructions.iter().map(|it| PyString::intern(code.py(), &it.4)).collect();
    SESSION.with(|session| {
        let mut sites = Vec::new();
        for (described, attribute) in instructions.into_iter().zip(&names) {
            let Described(offset, kind, depth, arg, text_of_name, name, line, text, sources, is_asked) = described;
            let Some(kind) = Kind::parse(&kind) else { continue };
            // A closure that is not known is no object whose attribute this could be.
            let is_variable = matches!(kind, Kind::LoadCell | Kind::StoreCell) && !text_of_name.is_empty();
            let number = match is_variable {
                false => session.name(&text_of_name, key_of_name(attribute)),
                true => {
                    let text = text_of_name + OF_CLOSURE;
                    session.name(&text, key_of_name(&PyString::new(code.py(), &text)))
                }
            };
            let instruction = Instruction { kind, depth, arg, name: number };
            let origins = Origins { sources, name: Held::of(attribute.as_any()), is_asked };
            let origin = Origin { name, file: file.clone(), line, text, is_own };
            let site = session.add_site(instruction, origin, origins);
            if sites.len() <= offset / 2 {
                sites.resize(offset / 2 + 1, 0);
            }
            sites[offset / 2] = site + 1;
        }
        session.add_code(code.as_ptr() as usize, Code::new(n_locals, sites));
    });
    Ok(())
}

/// Is what this code touches seen? Asked outside of runs.
pub fn is_seen(code: &Bound<'_, PyAny>) -> bool {
    let Some(describers) = DESCRIBERS.get(code.py()) else { return true };
    let answer = describers.is_seen.bind(code.py()).call1((code,));
    answer.and_then(|answer| answer.is_truthy()).unwrap_or(true)
}

/// What stands in for an object.
pub fn stand_in<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(describers) = DESCRIBERS.get(object.py()) else { return Ok(None) };
    let found = describers.stand_in.bind(object.py()).call1((object,))?;
    Ok((!found.is_none()).then_some(found))
}

/// Could the lock be taken without a wait?
pub fn is_free(lock: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(describers) = DESCRIBERS.get(lock.py()) else { return Ok(true) };
    describers.is_free.bind(lock.py()).call1((lock,))?.extract()
}

/// Is it what stands for an argument that there is not?
pub fn is_missing(py: Python<'_>, object: *mut pyo3::ffi::PyObject) -> bool {
    DESCRIBERS.get(py).is_some_and(|describers| describers.missing.as_ptr() == object)
}

/// A value in words.
pub fn shown(value: &Bound<'_, PyAny>) -> Option<String> {
    let describers = DESCRIBERS.get(value.py())?;
    describers.shown.bind(value.py()).call1((value,)).ok()?.extract().ok()
}

/// What is read from an object under a key, or under the name with this number, in words.
pub fn loaded(object: &Bound<'_, PyAny>, key: Option<&Bound<'_, PyAny>>, name: &str) -> Option<String> {
    let py = object.py();
    let describers = DESCRIBERS.get(py)?;
    let name = PyString::new(py, name).into_any();
    describers.loaded.bind(py).call1((object, key.unwrap_or(&name), key.is_some())).ok()?.extract().ok()
}

/// What the self-test expects to find.
struct Expected {
    code: Py<PyAny>,
    offset: usize,
    n_locals: usize,
    depth: usize,
    /// The two operands, the first local, the globals.
    values: [Py<PyAny>; 4],
}

static EXPECTED: Mutex<Option<Expected>> = Mutex::new(None);

/// Says what the self-test is to find before an instruction of a code object.
#[pyfunction]
fn expect(code: Py<PyAny>, offset: usize, n_locals: usize, depth: usize, values: [Py<PyAny>; 4]) {
    let expected = Expected { code, offset, n_locals, depth, values };
    *EXPECTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(expected);
}

/// Looks at a frame if it is the one of the self-test.
pub fn probe(code: &Bound<'_, PyAny>, offset: usize, is_right: impl FnOnce(usize, usize, &[Py<PyAny>; 4]) -> bool) {
    let expected = EXPECTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(expected) = expected.as_ref().filter(|it| it.code.is(code) && it.offset == offset) {
        is_right(expected.n_locals, expected.depth, &expected.values);
    }
}

/// Has the self-test of the interpreter's layout passed?
#[pyfunction]
fn can_observe() -> bool {
    callback::has_passed()
}
