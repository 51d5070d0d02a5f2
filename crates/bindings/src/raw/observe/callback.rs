//! The callbacks of `sys.monitoring`: called before each instruction of code that is seen, and at the start of each
//! function that is not known yet.

use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use explore::operation::{Operation, Place};
use explore::trace::Label;
use facts::Action;
use pyo3::ffi::{self, Py_ssize_t, PyObject};
use pyo3::prelude::*;

use super::builtins::Builtins;
use super::events::{self, disable, keep};
use super::factory;
use super::frame::{Frame, IS_KNOWN, Operands, is_below};
use super::operands::{Instruction, Kind, Look, Part, Sight, Touch, key_of_name};
use crate::exploration::gate;
use crate::exploration::program;
use crate::exploration::session::{InCall, SESSION, Visit};
use crate::exploration::stepwise::Stepwise;
use crate::raw::baton::{self, Aside, DRIVER, NOBODY};
use crate::raw::held::Held;
use crate::raw::native_type::slot;
use crate::raw::slots::raise;

/// What is known of built-ins.
pub static BUILTINS: OnceLock<Builtins> = OnceLock::new();
static HAS_PASSED: AtomicBool = AtomicBool::new(false);

/// Takes what is known of built-ins; once.
pub fn install(builtins: Builtins, disable: &Bound<'_, PyAny>) {
    let _ = BUILTINS.set(builtins);
    events::install(disable);
}

/// The callback for an instruction, the one for the start of a function, and the one of the self-test.
pub fn functions(py: Python<'_>) -> PyResult<[Bound<'_, PyAny>; 3]> {
    Ok([
        events::function(py, c"on_instruction", on_instruction)?,
        events::function(py, c"on_start", on_start)?,
        events::function(py, c"on_probe", on_probe)?,
    ])
}

slot! {
    /// `(code, offset)`: before an instruction.
    fn on_instruction(_this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        let seat = baton::me();
        if seat == NOBODY || n != 2 || !HAS_PASSED.load(Relaxed) {
            return keep();
        }
        let code = *args;
        let offset = ffi::PyLong_AsSsize_t(*args.add(1)) as usize;
        let arrived = arrive(seat, code as usize, offset, |call| is_below(call.frame, call.code));
        let (site, instruction, n_locals) = match arrived {
            Ok(arrived) => arrived,
            Err(answer) => return answer,
        };
        let (Some(frame), Some(builtins)) =
            (Frame::current(code, n_locals, instruction.depth as usize), BUILTINS.get())
        else {
            return keep();
        };
        let is_iteration_atomic = program::is_iteration_atomic();
        let look = Look { frame, builtins, is_iteration_atomic, key: Cell::new(None) };
        let sight = {
            let _aside = Aside::step();
            look.at(&instruction)
        };
        if let Sight::Nothing = sight {
            return keep();
        }
        act(Python::assume_attached(), seat, site, &instruction, &look, sight).map_or_else(raise, |()| keep())
    } else null_mut()

    /// `(code, offset)`: at the start of a function.
    fn on_start(_this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if n != 2 {
            return keep();
        }
        let code = *args;
        let py = Python::assume_attached();
        if baton::me() == NOBODY {
            // It may be called under control later, if it is seen at all.
            let is_seen = program::is_seen(&Bound::from_borrowed_ptr(py, code));
            return if is_seen { keep() } else { disable() };
        }
        if SESSION.with(|session| session.knows(code as usize)) {
            return disable();
        }
        let code = Bound::from_borrowed_ptr(py, code);
        program::meet(&code).map_or_else(raise, |()| disable())
    } else null_mut()

    /// `(code, offset)`: in the self-test.
    fn on_probe(_this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if n != 2 {
            return keep();
        }
        let py = Python::assume_attached();
        let code = Bound::from_borrowed_ptr(py, *args);
        let offset = ffi::PyLong_AsSsize_t(*args.add(1)) as usize;
        program::probe(&code, offset, |n_locals, depth, expected| {
            let Some(frame) = IS_KNOWN.then(|| Frame::current(code.as_ptr(), n_locals, depth)).flatten() else { return false };
            let has_passed = frame.operand(0) == expected[0].as_ptr()
                && frame.operand(1) == expected[1].as_ptr()
                && frame.local(0) == expected[2].as_ptr()
                && frame.globals() == expected[3].as_ptr();
            HAS_PASSED.store(has_passed, Relaxed);
            has_passed
        });
        keep()
    } else null_mut()
}

/// A thread comes to an instruction: its site, the instruction, and the number of locals; or what the callback answers
/// at once. Where the thread comes out of a call in C that is not over, the other half of that comes first; `is_calling`
/// says whether the frame of the call is still among the callers of this one.
#[inline(always)]
pub fn arrive(
    seat: baton::Seat,
    code: usize,
    offset: usize,
    is_calling: impl Fn(&InCall) -> bool,
) -> Result<(u32, Instruction, usize), *mut PyObject> {
    loop {
        match SESSION.with(|session| session.visit(seat, code, offset)) {
            Visit::Back(call) if is_calling(&call) => come_back(seat, &call).map_err(raise)?,
            Visit::Back(_) => {}
            Visit::Never => return Err(disable()),
            Visit::Unwind => return Err(raise(gate::unwind())),
            Visit::Yield => return Err(gate::step(Operation::Yield).map_or_else(raise, |_| keep())),
            Visit::Look(site, instruction, n_locals) => return Ok((site, instruction, n_locals)),
        }
    }
}

/// Has the self-test passed?
pub fn has_passed() -> bool {
    HAS_PASSED.load(Relaxed)
}

fn act(
    py: Python<'_>,
    seat: baton::Seat,
    site: u32,
    instruction: &Instruction,
    look: &Look<'_>,
    sight: Sight,
) -> PyResult<()> {
    let touches = match sight {
        Sight::Nothing => return Ok(()),
        Sight::StandIn(place) => {
            let _aside = Aside::step();
            // SAFETY: the operand is alive.
            let object = unsafe { Bound::from_borrowed_ptr(py, look.frame.operand(place)) };
            if let Some(stand_in) = program::stand_in(&object)? {
                look.frame.replace(place, Held::of(&stand_in));
            }
            return Ok(());
        }
        Sight::Stepwise(place, container) => {
            if seat != DRIVER {
                let _aside = Aside::step();
                // SAFETY: both are alive: the operand holds the container.
                let (object, container) = unsafe {
                    let object = Bound::from_borrowed_ptr(py, look.frame.operand(place));
                    (object, Bound::from_borrowed_ptr(py, container))
                };
                let stepwise = Bound::new(py, Stepwise::new(&object, &container)?)?;
                look.frame.replace(place, Held::of(stepwise.as_any()));
            }
            return Ok(());
        }
        Sight::Dict(object) => return meet_dict(seat, object),
        Sight::Touches(one, two) => [Some(one), two],
        Sight::Dynamic(object, name, action) => [dynamic(py, seat, object, name, action), None],
    };
    let announced = announce(seat, site, touches, || value(py, instruction, look))?;
    enter(seat, site, instruction.kind, look, (look.frame.address(), look.frame.code()), announced)
}

/// The dict of the attributes of an object is got hold of.
pub fn meet_dict(seat: baton::Seat, object: *mut PyObject) -> PyResult<()> {
    if seat == DRIVER {
        return Ok(());
    }
    let aside = Aside::step();
    // SAFETY: the object is alive; this is what the instruction does.
    let dict = unsafe { Held(ffi::PyObject_GenericGetDict(object, null_mut())) };
    if dict.is_none() {
        // SAFETY: attached. It has none, which the instruction will say.
        unsafe { ffi::PyErr_Clear() };
        return Ok(());
    }
    drop(aside);
    SESSION.with(|session| session.meet_dict(seat, object, dict.0));
    Ok(())
}

/// What a thread has announced and may now do.
pub struct Announced {
    operation: Operation,
    label: Label,
    places: [Option<(Action, Place)>; 2],
}

/// A thread is about to touch something: comes back when it may, with what it announced if that was a step. `value` says
/// what is read or written, in words.
pub fn announce(
    seat: baton::Seat,
    site: u32,
    touches: [Option<Touch>; 2],
    value: impl FnOnce() -> Option<String>,
) -> PyResult<Option<Announced>> {
    if seat == DRIVER {
        return Ok(None);
    }
    let mut places = [None, None];
    let Some(operation) = SESSION.with(|session| session.touch(seat, site, touches, &mut places)) else {
        return Ok(None);
    };
    let label = SESSION.with(|session| session.label(site));
    gate::step_at(operation, label)?;
    SESSION.with(|session| session.watch(seat, site, &places));
    if SESSION.with(|session| session.tells_all) {
        let value = value();
        SESSION.with(|session| session.tell(value, None));
    }
    Ok(Some(Announced { operation, label, places }))
}

/// The step is the first half of an instruction that may call back Python code, in the frame at this address, which runs
/// this code.
pub fn enter<F: Operands>(
    seat: baton::Seat,
    site: u32,
    kind: Kind,
    look: &Look<'_, F>,
    (frame, code): (usize, usize),
    announced: Option<Announced>,
) -> PyResult<()> {
    let Some(Announced { operation, label, places }) = announced.filter(|_| calls_back(kind)) else { return Ok(()) };
    let call = InCall { frame, code, site, operation, label, places };
    SESSION.with(|session| session.enter_call(seat, call));
    if kind == Kind::LoadItem { factory::await_missing(look, &call) } else { Ok(()) }
}

/// May the instruction run Python code before it has done what it does: a key's `__eq__`, what a cache calls, the key
/// function of a sort?
fn calls_back(kind: Kind) -> bool {
    use Kind::{Call, CallNamed, CallSpread, Contains, DeleteItem, LoadItem, StoreItem};
    matches!(kind, Call | CallNamed | CallSpread | Contains | DeleteItem | LoadItem | StoreItem)
}

/// Other threads come between the two halves of a call.
pub fn come_back(seat: baton::Seat, call: &InCall) -> PyResult<()> {
    gate::step_at(call.operation, call.label)?;
    SESSION.with(|session| session.watch(seat, call.site, &call.places));
    Ok(())
}

/// `getattr`, `setattr` and `delattr`.
pub fn dynamic(
    py: Python<'_>,
    seat: baton::Seat,
    object: *mut PyObject,
    name: *mut PyObject,
    action: Action,
) -> Option<Touch> {
    if object.is_null() || name.is_null() || seat == DRIVER {
        return None;
    }
    // SAFETY: the operand is alive.
    let name = unsafe { Bound::from_borrowed_ptr(py, name) };
    let name = name.cast::<pyo3::types::PyString>().ok()?;
    let (text, key) = (name.to_str().ok()?, key_of_name(name));
    let number = SESSION.with(|session| session.name(text, key));
    Some(Touch { action, object, part: Part::Name(number) })
}

/// What is read or written, in words.
pub fn value<F: Operands>(py: Python<'_>, instruction: &Instruction, look: &Look<'_, F>) -> Option<String> {
    let name = SESSION.with(|session| session.name_of(instruction.name));
    let _aside = Aside::step();
    let frame = &look.frame;
    let operand = |k: usize| {
        let object = frame.operand(k);
        // SAFETY: operands are alive.
        (!object.is_null()).then(|| unsafe { Bound::from_borrowed_ptr(py, object) })
    };
    match instruction.kind {
        Kind::StoreAttribute => program::shown(&operand(1)?),
        Kind::StoreItem => program::shown(&operand(2)?),
        Kind::StoreGlobal | Kind::StoreCell => program::shown(&operand(0)?),
        Kind::LoadAttribute => program::loaded(&operand(0)?, None, &name),
        Kind::LoadItem => program::loaded(&operand(1)?, Some(&operand(0)?), &name),
        Kind::LoadGlobal => {
            // SAFETY: the globals of a running function are alive.
            let globals = unsafe { Bound::from_borrowed_ptr(py, frame.globals()) };
            program::loaded(&globals, None, &name)
        }
        Kind::LoadCell => {
            let cell = frame.local(instruction.arg as usize);
            // SAFETY: the cell belongs to the frame.
            let cell = (!cell.is_null()).then(|| unsafe { Bound::from_borrowed_ptr(py, cell) })?;
            program::loaded(&cell, None, &name)
        }
        _ => None,
    }
}
