//! The callbacks for interpreters whose frames are not read. `sys.monitoring` says where a thread stands, what it calls
//! and with which first argument, and what a function returns; the rest comes from [`super::sources`].
//!
//! Where an operand is unknown, the access is one to all that it could be: the attribute of this name of every object, or
//! every container. That adds schedules and takes none away. Operands cannot be replaced: see `raceproof.instrument`.

use std::cell::Cell;
use std::ptr::null_mut;

use facts::Action;
use pyo3::ffi::{self, Py_ssize_t, PyFrameObject, PyObject};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::builtins::{Builtins, Call, definition, is_descriptor};
use super::callback::{BUILTINS, announce, arrive, dynamic, enter, meet_dict, value};
use super::events::{self, disable, keep};
use super::frame::Operands;
use super::operands::{Instruction, Kind, Look, Part, Sight, Touch};
use super::sources::{self, Origins, Shown, Value};
use crate::exploration::gate;
use crate::exploration::program;
use crate::exploration::session::SESSION;
use crate::raw::baton::{self, Aside, DRIVER, NOBODY, Seat};
use crate::raw::held::Held;
use crate::raw::native_type::slot;
use crate::raw::slots::raise;

/// The callbacks for an instruction, a call, and a return.
pub fn functions(py: Python<'_>) -> PyResult<[Bound<'_, PyAny>; 3]> {
    Ok([
        events::function(py, c"on_instruction_shown", on_instruction)?,
        events::function(py, c"on_call_shown", on_call)?,
        events::function(py, c"on_return_shown", on_return)?,
    ])
}

/// One instruction that a thread stands before.
struct Stand {
    seat: Seat,
    site: u32,
    code: usize,
    offset: u32,
    instruction: Instruction,
    origins: std::sync::Arc<Origins>,
    shown: Shown,
}

/// What the callback answers at once, or where the thread stands.
fn stand(
    code: *mut PyObject,
    offset: usize,
    n_operands: impl FnOnce(&Instruction) -> usize,
) -> Result<Stand, *mut PyObject> {
    let seat = baton::me();
    if seat == NOBODY || seat == DRIVER {
        return Err(keep());
    }
    let (site, instruction, _) = arrive(seat, code as usize, offset, |call| is_calling(call.frame))?;
    let frame = sources::frame();
    if frame.is_null() || SESSION.with(|session| session.is_unwinding) {
        return Err(keep());
    }
    let n = n_operands(&instruction);
    let (origins, shown) = SESSION.with(|session| {
        let origins = session.origins(site);
        // SAFETY: the callback runs in this frame.
        let shown = unsafe { Shown::new(frame, &origins, n, &session.results) };
        (origins, shown)
    });
    Ok(Stand { seat, site, code: code as usize, offset: offset as u32, instruction, origins, shown })
}

/// Is the frame at this address among the callers of the one that runs?
fn is_calling(frame: usize) -> bool {
    // SAFETY: attached, and in a callback: there is a frame.
    let mut at = unsafe { Held::new(sources::frame().cast()) };
    loop {
        // SAFETY: the frame is alive; what is given back is a reference of ours, or nothing.
        let back = unsafe { ffi::PyFrame_GetBack(at.as_ptr().cast()) };
        if back.is_null() {
            return false;
        }
        // SAFETY: as above.
        at = unsafe { Held::owned(back.cast()) };
        if at.as_ptr() as usize == frame {
            return true;
        }
    }
}

impl Stand {
    /// Announces what the thread is about to touch.
    fn announce<F: Operands>(&self, touches: [Option<Touch>; 2], py: Python<'_>, look: &Look<'_, F>) -> PyResult<()> {
        let announced = announce(self.seat, self.site, touches, || value(py, &self.instruction, look))?;
        enter(self.seat, self.site, self.instruction.kind, look, (self.shown.frame as usize, self.code), announced)
    }
}

slot! {
    /// `(code, offset)`: before an instruction.
    fn on_instruction(_this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if n != 2 {
            return keep();
        }
        let offset = ffi::PyLong_AsSsize_t(*args.add(1)) as usize;
        let stand = match stand(*args, offset, |instruction| operands_of(instruction.kind)) {
            Ok(stand) => stand,
            Err(answer) => return answer,
        };
        if is_call(stand.instruction.kind) {
            // There is an event of its own for calls.
            drop_aside(stand);
            return disable();
        }
        let py = Python::assume_attached();
        let done = at_instruction(py, &stand).map(|()| {
            if stand.origins.is_asked {
                let value = { let _aside = Aside::step(); result(&stand) };
                remember(stand.shown.frame, stand.offset, value);
            }
        });
        drop_aside(stand);
        done.map_or_else(raise, |()| keep())
    } else null_mut()

    /// `(code, offset, callable, first argument)`: before a call.
    fn on_call(_this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if n != 4 {
            return keep();
        }
        let offset = ffi::PyLong_AsSsize_t(*args.add(1)) as usize;
        let stand = match stand(*args, offset, |instruction| instruction.arg as usize + 2) {
            Ok(stand) => stand,
            Err(answer) => return answer,
        };
        let py = Python::assume_attached();
        let first = if program::is_missing(py, *args.add(3)) { null_mut() } else { *args.add(3) };
        let done = match is_call(stand.instruction.kind) {
            true => at_call(py, &stand, *args.add(2), first),
            false => Ok(()),
        };
        drop_aside(stand);
        done.map_or_else(raise, |()| keep())
    } else null_mut()

    /// `(code, offset, value)`: a function returns.
    fn on_return(_this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        let seat = baton::me();
        if seat == NOBODY || seat == DRIVER || n != 3 {
            return keep();
        }
        let frame = sources::frame();
        if !frame.is_null() {
            let back = Held(ffi::PyFrame_GetBack(frame).cast());
            let caller: *mut PyFrameObject = back.as_ptr().cast();
            if let Some(offset) = SESSION.with(|session| session.results.caller(caller, *args as usize)) {
                remember(caller, offset, Value::Exact(Held::new(*args.add(2))));
            }
        }
        keep()
    } else null_mut()
}

/// Lets go of objects, which may run code of the program.
fn drop_aside(stand: Stand) {
    let _aside = Aside::step();
    drop(stand);
}

fn remember(frame: *mut PyFrameObject, offset: u32, value: Value) {
    let old = SESSION.with(|session| session.results.put(frame, offset, value));
    let _aside = Aside::step();
    drop(old);
}

fn is_call(kind: Kind) -> bool {
    matches!(kind, Kind::Call | Kind::CallNamed | Kind::CallSpread)
}

/// How many operands from the top of the stack an instruction is described by.
fn operands_of(kind: Kind) -> usize {
    match kind {
        Kind::LoadGlobal | Kind::LoadCell => 0,
        Kind::LoadSlice | Kind::StoreSlice | Kind::StoreItem => 3,
        Kind::LoadItem | Kind::DeleteItem | Kind::Contains | Kind::Binary | Kind::InPlace => 2,
        Kind::StoreAttribute => 2,
        _ if is_call(kind) => 0,
        _ => 1,
    }
}

/// Those of them that say what is touched, and what is done to a container if they are unknown.
fn decisive(kind: Kind) -> (&'static [usize], Action) {
    match kind {
        Kind::LoadItem => (&[1], Action::Read),
        Kind::StoreItem | Kind::DeleteItem => (&[1], Action::Update),
        Kind::LoadSlice => (&[2], Action::Read),
        Kind::StoreSlice => (&[2], Action::Update),
        Kind::Binary => (&[0, 1], Action::Read),
        Kind::InPlace => (&[0, 1], Action::Update),
        Kind::Contains | Kind::ReadTop | Kind::Merge | Kind::Iterate => (&[0], Action::Read),
        _ => (&[], Action::Read),
    }
}

/// An iterator that is the frame's own goes on.
const GOES_ON: Touch = Touch { action: Action::Update, object: null_mut(), part: Part::Own };

fn everywhere(action: Action, part: Part) -> Sight {
    Sight::Touches(Touch { action, object: null_mut(), part }, None)
}

fn at_instruction(py: Python<'_>, stand: &Stand) -> PyResult<()> {
    let Some(builtins) = BUILTINS.get() else { return Ok(()) };
    let look = Look {
        frame: &stand.shown,
        builtins,
        is_iteration_atomic: program::is_iteration_atomic(),
        key: Cell::new(None),
    };
    let (instruction, shown) = (&stand.instruction, &stand.shown);
    let name = Part::Name(instruction.name);
    let (needed, action) = decisive(instruction.kind);
    let sight = match instruction.kind {
        // Which closure a variable belongs to is not shown.
        Kind::LoadCell => everywhere(Action::Read, name),
        Kind::StoreCell => everywhere(Action::Write, name),
        Kind::LoadAttribute if shown.is_unknown(0) => everywhere(Action::Read, name),
        Kind::StoreAttribute if shown.is_unknown(0) => everywhere(Action::Write, name),
        Kind::LoadDict if shown.is_unknown(0) => {
            untracked("`__dict__` of an object that is not known");
            Sight::Nothing
        }
        // The iterator itself is the frame's own.
        Kind::Iterate if matches!(shown.values.first(), Some(Value::Over(object, _)) if !is_iterator(object.as_ptr())) =>
        {
            let container = Touch { action: Action::Read, object: shown.operand(0), part: Part::All };
            Sight::Touches(container, Some(GOES_ON))
        }
        Kind::Iterate if shown.is_unknown(0) => {
            Sight::Touches(Touch { action, object: null_mut(), part: Part::All }, Some(GOES_ON))
        }
        _ if needed.iter().any(|k| shown.is_unknown(*k)) => everywhere(action, Part::All),
        _ => {
            let _aside = Aside::step();
            // SAFETY: the operands are held by what was shown.
            unsafe { look.at(instruction) }
        }
    };
    match sight {
        // The call of a method of such a lock is seen for itself; `with` is not, in all versions.
        Sight::StandIn(0) if instruction.kind == Kind::Enter => wait_for_lock(py, "__enter__", shown.operand(0)),
        Sight::Dict(object) => meet_dict(stand.seat, object),
        Sight::Touches(one, two) => {
            let touches = [Some(one), two];
            stand.announce(touches, py, &look)
        }
        _ => Ok(()),
    }
}

fn untracked(what: &str) {
    SESSION.with(|session| {
        if let Some(explorer) = &mut session.explorer {
            explorer.untracked(what);
        }
    });
}

/// A lock that could not be replaced is about to be taken: lets others go first until it is free.
fn wait_for_lock(py: Python<'_>, method: &str, lock: *mut PyObject) -> PyResult<()> {
    // SAFETY: operands are alive.
    let lock = unsafe { Bound::from_borrowed_ptr(py, lock) };
    untracked("a lock made before the exploration, where it could not be replaced");
    if !matches!(method, "acquire" | "acquire_lock" | "__enter__") {
        return Ok(());
    }
    let mut failed = None;
    gate::wait_for(None, || {
        let _aside = Aside::step();
        program::is_free(&lock).unwrap_or_else(|error| {
            failed = Some(error);
            true
        })
    })?;
    failed.map_or(Ok(()), Err)
}

/// What the instruction comes to, if it does so next.
fn result(stand: &Stand) -> Value {
    let (shown, name) = (&stand.shown, stand.origins.name.as_ptr());
    let exact = |k: usize| shown.values.get(k).and_then(Value::exact);
    // SAFETY: operands are held by what was shown, the name is a string, and the frame is the one that runs.
    unsafe {
        match stand.instruction.kind {
            Kind::LoadAttribute => exact(0).map_or(Value::Unknown, |object| sources::attribute(object, name)),
            Kind::LoadDict => exact(0).map_or(Value::Unknown, sources::attributes),
            Kind::LoadGlobal => sources::global(shown, name),
            Kind::LoadCell => sources::variable(shown.frame, name),
            Kind::LoadItem => exact(1).map_or(Value::Unknown, |container| sources::item(container, exact(0))),
            Kind::LoadSlice if exact(2).is_some_and(is_builtin) => Value::Plain,
            Kind::Binary | Kind::InPlace => of_operator(stand.instruction.kind, shown),
            Kind::ReadTop => over(shown.values.first(), false),
            Kind::Iterate => of_iteration(shown.values.first()),
            _ => Value::Unknown,
        }
    }
}

fn is_iterator(object: *mut PyObject) -> bool {
    // SAFETY: operands are alive.
    unsafe { ffi::PyIter_Check(object) != 0 }
}

/// Is it of a type that is not written in Python? Its operators give something new.
fn is_builtin(object: *mut PyObject) -> bool {
    // SAFETY: operands are alive.
    unsafe { ffi::PyType_HasFeature(ffi::Py_TYPE(object), ffi::Py_TPFLAGS_HEAPTYPE) == 0 }
}

fn of_operator(kind: Kind, shown: &Shown) -> Value {
    let is_known = |k: usize| match &shown.values[k] {
        Value::Plain => true,
        Value::Exact(object) => is_builtin(object.as_ptr()),
        _ => false,
    };
    if shown.values.len() < 2 || !is_known(0) || !is_known(1) {
        return Value::Unknown;
    }
    match (&shown.values[1], BUILTINS.get()) {
        // It may be the left operand itself.
        (Value::Exact(left), Some(builtins)) if kind == Kind::InPlace => {
            // SAFETY: it is held.
            let is_new = builtins.is_immutable(unsafe { ffi::Py_TYPE(left.as_ptr()) });
            // SAFETY: as above.
            if is_new { Value::Plain } else { Value::Exact(unsafe { Held::new(left.as_ptr()) }) }
        }
        _ => Value::Plain,
    }
}

/// An iterator over a value, or a view of it.
fn over(value: Option<&Value>, gives_new: bool) -> Value {
    let Some(builtins) = BUILTINS.get() else { return Value::Unknown };
    match value {
        Some(Value::Plain) => Value::Plain,
        Some(Value::Over(object, is_new)) => {
            // SAFETY: it is held.
            Value::Over(unsafe { Held::new(object.as_ptr()) }, *is_new || gives_new)
        }
        Some(Value::Exact(object)) => {
            // SAFETY: it is held.
            unsafe {
                let kind = ffi::Py_TYPE(object.as_ptr());
                let container = builtins.container(object.as_ptr());
                let is_tuple = kind == &raw mut ffi::PyTuple_Type;
                if !container.is_null() && !is_tuple {
                    // Whoever is an iterator already goes on as itself.
                    let object = if is_iterator(object.as_ptr()) { object.as_ptr() } else { container };
                    return Value::Over(Held::new(object), gives_new);
                }
                if builtins.is_immutable(kind) { Value::Exact(Held::new(object.as_ptr())) } else { Value::Unknown }
            }
        }
        _ => Value::Unknown,
    }
}

/// The next item of an iterator.
fn of_iteration(value: Option<&Value>) -> Value {
    match value {
        Some(Value::Over(_, true) | Value::Plain) => Value::Plain,
        // SAFETY: it is held.
        Some(Value::Exact(object)) => unsafe {
            let kind = ffi::Py_TYPE(object.as_ptr());
            let plain = [&raw mut ffi::PyUnicode_Type, &raw mut ffi::PyBytes_Type, &raw mut ffi::PyRange_Type];
            if plain.contains(&kind) { Value::Plain } else { Value::Unknown }
        },
        _ => Value::Unknown,
    }
}

/// The arguments of a call: the first is shown with the event, the others lie on the stack.
struct Arguments<'a> {
    shown: &'a Shown,
    first: *mut PyObject,
    /// How many lie on the stack, and whether the first one does.
    n: usize,
    is_first_apart: bool,
    /// What lies above them: the names of those that have one.
    above: usize,
    /// Was one asked for that is not known?
    is_unknown: Cell<bool>,
    is_spread: bool,
}

impl Arguments<'_> {
    fn new(stand: &Stand, callable: *mut PyObject, first: *mut PyObject) -> Arguments<'_> {
        // SAFETY: the callable is alive.
        let is_descriptor = is_descriptor(unsafe { ffi::Py_TYPE(callable) });
        let n = stand.instruction.arg as usize;
        let above = usize::from(stand.instruction.kind == Kind::CallNamed);
        let lowest = (above + n).checked_sub(1).filter(|_| n > 0).and_then(|k| stand.shown.values.get(k));
        let is_first_on_stack = lowest.is_some_and(|value| value.object() == first);
        Arguments {
            shown: &stand.shown,
            first,
            n,
            is_first_apart: is_descriptor && !is_first_on_stack,
            above,
            is_unknown: Cell::new(false),
            is_spread: stand.instruction.kind == Kind::CallSpread,
        }
    }

    fn at(&self, idx: usize) -> *mut PyObject {
        if idx == 0 || self.first.is_null() {
            return self.first;
        }
        if self.is_spread {
            // How many there are is not known.
            self.is_unknown.set(true);
            return null_mut();
        }
        let idx = idx - usize::from(self.is_first_apart);
        if idx >= self.n {
            return null_mut();
        }
        let from_top = self.above + self.n - 1 - idx;
        if self.shown.is_unknown(from_top) {
            self.is_unknown.set(true);
        }
        let object = self.shown.operand(from_top);
        // Null would mean that there are no more. A class is no key that is told from others, and no container.
        if object.is_null() { (&raw mut ffi::PyBaseObject_Type).cast() } else { object }
    }
}

fn is_something(object: *mut PyObject) -> bool {
    object == (&raw mut ffi::PyBaseObject_Type).cast()
}

fn at_call(py: Python<'_>, stand: &Stand, callable: *mut PyObject, first: *mut PyObject) -> PyResult<()> {
    let Some(builtins) = BUILTINS.get() else { return Ok(()) };
    if builtins.has_stand_in(callable) {
        untracked("a lock, a clock or a thread made by a name that could not be replaced");
        return Ok(());
    }
    // SAFETY: the interpreter holds both during the event.
    let of_c = unsafe { definition(callable) };
    let owner = of_c.map_or(null_mut(), |(_, bound)| if bound.is_null() { first } else { bound });
    let look = Look {
        frame: &stand.shown,
        builtins,
        is_iteration_atomic: program::is_iteration_atomic(),
        key: Cell::new(None),
    };
    if look.has_stand_in(owner) {
        // SAFETY: the callable is alive.
        let method = unsafe { Bound::from_borrowed_ptr(py, callable) };
        let method: String = method.getattr("__name__").and_then(|name| name.extract()).unwrap_or_default();
        return wait_for_lock(py, &method, owner);
    }
    let arguments = Arguments::new(stand, callable, first);
    let sight = {
        let _aside = Aside::step();
        // SAFETY: the arguments are held by the stack.
        unsafe { look.of_call(callable, |idx| arguments.at(idx), 0) }
    };
    let call = of_c.and_then(|(definition, _)| builtins.call(definition));
    match widened(sight, call, &arguments) {
        Sight::Touches(one, two) => stand.announce([Some(one), two], py, &look)?,
        Sight::Dynamic(object, name, action) => {
            let touch = dynamic(py, stand.seat, object, name, action);
            if touch.is_none() {
                untracked("an attribute by a name that is not known");
            }
            stand.announce([touch, None], py, &look)?;
        }
        Sight::Dict(object) => meet_dict(stand.seat, object)?,
        Sight::Stepwise(_, container) => {
            untracked("C code that goes over a container item by item, seen as one step");
            let touch = Touch { action: Action::Read, object: container, part: Part::All };
            stand.announce([Some(touch), None], py, &look)?;
        }
        Sight::Nothing | Sight::StandIn(_) => {}
    }
    if stand.origins.is_asked {
        // SAFETY: the callable is alive.
        if let Some(code) = unsafe { code_of(callable) } {
            SESSION.with(|session| session.results.call(stand.shown.frame, stand.offset, code));
        }
        let value = {
            let _aside = Aside::step();
            of_call(builtins, callable, of_c, owner, &arguments)
        };
        remember(stand.shown.frame, stand.offset, value);
    }
    Ok(())
}

/// A call some of whose arguments count and are not known.
fn widened(sight: Sight, call: Option<Call>, arguments: &Arguments<'_>) -> Sight {
    if !arguments.is_unknown.get() {
        return sight;
    }
    match call {
        // Of these only the key can be unknown, and then all keys are meant.
        Some(
            Call::GetAttribute
            | Call::SetAttribute
            | Call::Ignore
            | Call::ReadKey
            | Call::UpdateKey
            | Call::ReadAll
            | Call::Put
            | Call::Next,
        ) => sight,
        Some(Call::ReadArguments | Call::Stepwise) => everywhere(Action::Read, Part::All),
        _ => everywhere(Action::Update, Part::All),
    }
}

/// The code of a function or method in Python: what it returns is seen when it does.
unsafe fn code_of(callable: *mut PyObject) -> Option<usize> {
    unsafe extern "C" {
        static mut PyMethod_Type: ffi::PyTypeObject;
        fn PyMethod_Function(method: *mut PyObject) -> *mut PyObject;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let is_method = ffi::Py_TYPE(callable) == &raw mut PyMethod_Type;
        let function = if is_method { PyMethod_Function(callable) } else { callable };
        (ffi::PyFunction_Check(function) != 0).then(|| ffi::PyFunction_GetCode(function) as usize)
    }
}

/// What a call comes to.
fn of_call(
    builtins: &Builtins,
    callable: *mut PyObject,
    of_c: Option<(usize, *mut PyObject)>,
    owner: *mut PyObject,
    arguments: &Arguments<'_>,
) -> Value {
    // SAFETY: callable, owner and arguments are alive.
    unsafe {
        if let Some((definition, _)) = of_c {
            if builtins.is_plain(definition) {
                return Value::Plain;
            }
            let py = Python::assume_attached();
            let name = Bound::from_borrowed_ptr(py, callable).getattr("__name__");
            let name = name.and_then(|name| Ok(name.cast_into::<PyString>()?.to_str()?.to_owned())).unwrap_or_default();
            return of_method(owner, &name, arguments);
        }
        if builtins.is_plain(callable as usize) {
            return Value::Plain;
        }
        let kind = ffi::Py_TYPE(callable);
        if kind == &raw mut ffi::PyType_Type {
            let class: *mut ffi::PyTypeObject = callable.cast();
            let first =
                Value::Exact(Held::new(if arguments.first.is_null() { ffi::Py_None() } else { arguments.first }));
            return match class {
                _ if class == &raw mut ffi::PyEnum_Type => over(Some(&first), true),
                _ if class == &raw mut ffi::PyReversed_Type => over(Some(&first), false),
                _ if class == &raw mut ffi::PyRange_Type => Value::Plain,
                _ if builtins.is_immutable(class) || is_new_container(class) => Value::Plain,
                _ => Value::Unknown,
            };
        }
        Value::Unknown
    }
}

fn is_new_container(class: *mut ffi::PyTypeObject) -> bool {
    [&raw mut ffi::PyList_Type, &raw mut ffi::PyDict_Type, &raw mut ffi::PySet_Type].contains(&class)
}

/// What a method of a built-in type comes to, or a function such as `iter`.
unsafe fn of_method(owner: *mut PyObject, name: &str, arguments: &Arguments<'_>) -> Value {
    // SAFETY: the caller's promise.
    unsafe {
        if owner.is_null() || ffi::PyModule_Check(owner) != 0 {
            let first = (!arguments.first.is_null()).then(|| Value::Exact(Held::new(arguments.first)));
            return if name == "iter" && arguments.n == 1 { over(first.as_ref(), false) } else { Value::Unknown };
        }
        let (kind, whole) = (ffi::Py_TYPE(owner), Value::Exact(Held::new(owner)));
        let n = arguments.n - usize::from(!arguments.is_first_apart && arguments.first == owner).min(arguments.n);
        let own = usize::from(arguments.first == owner);
        match name {
            "keys" | "values" if kind == &raw mut ffi::PyDict_Type => over(Some(&whole), false),
            "items" if kind == &raw mut ffi::PyDict_Type => over(Some(&whole), true),
            "get" if kind == &raw mut ffi::PyDict_Type && n == 1 => {
                let key = arguments.at(own);
                if is_something(key) { Value::Unknown } else { sources::item(owner, Some(key)) }
            }
            "pop" if kind == &raw mut ffi::PyList_Type && n == 0 => sources::at(owner, -1),
            _ => Value::Unknown,
        }
    }
}
