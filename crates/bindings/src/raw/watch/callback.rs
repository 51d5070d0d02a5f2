//! Called before each instruction of every thread. Most calls end in the cache of their thread.

use std::cell::Cell;
use std::ffi::c_void;
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use detect::memory::Traits;
use facts::Action;
use pyo3::ffi::{self, Py_ssize_t, PyObject};
use pyo3::prelude::*;

use super::codes::{self, Code, Met};
use super::me::{self, Busy, Me};
use crate::detection::{DETECTOR, describe};
use crate::raw::held::Held;
use crate::raw::native_type::slot;
use crate::raw::observe::builtins::{Builtins, definition};
use crate::raw::observe::events::{self, disable, keep};
use crate::raw::observe::frame::{self, Frame, Operands};
use crate::raw::observe::operands::{Instruction, Kind, Look, Part, Sight, Touch};
use crate::raw::refcount;
use crate::raw::symbol;

static BUILTINS: OnceLock<Builtins> = OnceLock::new();
static IS_ON: AtomicBool = AtomicBool::new(false);
static AGREES: AtomicBool = AtomicBool::new(true);

/// Parts of objects, as one word: an attribute, an item, what a cell holds, and the size of a container.
const ITEM: u64 = 1 << 32;
const NAME: u64 = 2 << 32;
const CONTENT: u64 = 3 << 32;
const SIZE: u64 = 4 << 32;
/// For the cache, accesses that write are another thing.
const WRITES: u64 = 1 << 40;
const ITERATES: u64 = 1 << 41;

/// What a part is.
pub enum Named {
    /// The attribute with this number.
    Attribute(u32),
    /// The item under a key with this hash.
    Item(u32),
    /// The content of a cell.
    Content,
    /// Which items there are.
    Size,
}

/// Says what a part is.
pub fn named(part: u64) -> Named {
    match part & (7 << 32) {
        NAME => Named::Attribute(part as u32),
        ITEM => Named::Item(part as u32),
        CONTENT => Named::Content,
        _ => Named::Size,
    }
}

/// Takes what is known of built-ins; once.
pub fn install(builtins: Builtins, disable: &Bound<'_, PyAny>) {
    let _ = BUILTINS.set(builtins);
    events::install(disable);
}

/// Watches, or no longer.
pub fn switch(is_on: bool) {
    IS_ON.store(is_on, Relaxed);
}

/// Does anybody watch?
pub fn is_on() -> bool {
    IS_ON.load(Relaxed)
}

/// Did all instructions of the self-test lie where they were expected?
pub fn agrees() -> bool {
    AGREES.load(Relaxed)
}

/// The callback, and the one of the self-test.
pub fn functions(py: Python<'_>) -> PyResult<[Bound<'_, PyAny>; 2]> {
    Ok([events::function(py, c"on_instruction", on_instruction)?, events::function(py, c"on_test", on_test)?])
}

slot! {
    /// `(code, offset)`: before an instruction.
    fn on_instruction(_this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        let me = me::pointer();
        if me.is_null() || n != 2 || !is_on() {
            return keep();
        }
        let Some(_busy) = Busy::enter() else { return keep() };
        let me = &mut *me;
        let object = *args;
        let offset = ffi::PyLong_AsSsize_t(*args.add(1)) as usize;
        if me.code.0 != object as usize {
            me.code = (object as usize, Some(met(object)));
        }
        let Some(code) = me.code.1.and_then(|met| met.code.as_ref()) else { return disable() };
        let site = code.sites.get(offset / 2).copied().unwrap_or(0);
        if site == 0 {
            return disable();
        }
        let instruction = &code.instructions[site as usize - 1];
        if instruction.kind == Kind::LoadAttribute && !DETECTOR.names.is_stored(instruction.name) {
            return keep();
        }
        let (Some(frame), Some(builtins)) =
            (Frame::current(object, code.n_locals, instruction.depth as usize), BUILTINS.get())
        else {
            return keep();
        };
        let key = Cell::new(None);
        let look = Look { frame, builtins, is_iteration_atomic: true, key };
        see(me, code, offset, instruction, &look);
        keep()
    } else null_mut()

    /// `(code, offset)`: in the self-test.
    fn on_test(_this: *mut PyObject, args: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if n == 2 && frame::IS_KNOWN && !frame::calibrate(*args, ffi::PyLong_AsSsize_t(*args.add(1)) as usize) {
            AGREES.store(false, Relaxed);
        }
        keep()
    } else null_mut()
}

/// The code object, described if it is met for the first time.
unsafe fn met(object: *mut PyObject) -> &'static Met {
    codes::find(object as usize).unwrap_or_else(|| {
        // SAFETY: the code that runs is alive, and the thread is attached.
        let object = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), object) };
        let code = describe(&object).unwrap_or_else(|cause| {
            cause.write_unraisable(object.py(), Some(&object));
            None
        });
        codes::add(&object, code)
    })
}

/// One access, as it was seen.
struct Seen<'a> {
    code: &'a Code,
    offset: usize,
    instruction: &'a Instruction,
    look: &'a Look<'a>,
}

unsafe fn see(me: &mut Me, code: &Code, offset: usize, instruction: &Instruction, look: &Look<'_>) {
    let seen = Seen { code, offset, instruction, look };
    // SAFETY: the frame stands before the instruction, so its operands are alive.
    unsafe {
        match look.at(instruction) {
            Sight::Nothing | Sight::Stepwise(..) | Sight::Dict(_) => {}
            Sight::StandIn(place) => stand_in(look.frame, place),
            Sight::Touches(one, two) => {
                seen.touch(me, &one);
                // The second one of a loop is the iterator, which is the frame's own.
                if let Some(two) = two.filter(|_| instruction.kind != Kind::Iterate) {
                    seen.touch(me, &two);
                }
            }
            Sight::Dynamic(object, name, _) if object.is_null() || name.is_null() => {}
            Sight::Dynamic(object, name, action) => {
                let name = Bound::from_borrowed_ptr(Python::assume_attached(), name);
                if let Some(number) = DETECTOR.names.dynamic(&name, action.writes()) {
                    seen.touch(me, &Touch { action, object, part: Part::Name(number) });
                }
            }
        }
    }
}

unsafe fn stand_in(frame: Frame, place: usize) {
    // SAFETY: the operand is alive, and the thread is attached.
    let object = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), frame.operand(place)) };
    match crate::detection::stand_in(&object) {
        Ok(Some(other)) => frame.replace(place, Held::of(&other)),
        Ok(None) => {}
        Err(cause) => cause.write_unraisable(object.py(), Some(&object)),
    }
}

impl Seen<'_> {
    unsafe fn touch(&self, me: &mut Me, touch: &Touch) {
        let (object, writes) = (touch.object, touch.action.writes());
        let is_method = touch.action == Action::Update;
        // SAFETY: what is touched is alive.
        unsafe {
            match touch.part {
                Part::Name(number) => self.note(me, object, NAME | u64::from(number), writes, false),
                Part::Item(key) => self.note(me, object, ITEM | u64::from(key), writes, is_method),
                Part::Own => {}
                Part::All if matches!(self.instruction.kind, Kind::LoadCell | Kind::StoreCell) => {
                    self.note(me, object, CONTENT, writes, false);
                }
                Part::All if !self.look.builtins.is_container(object, ffi::Py_TYPE(object)) => {}
                Part::All => {
                    if let Some(key) = self.look.key.get() {
                        let is_one_step = !matches!(self.instruction.kind, Kind::StoreItem | Kind::DeleteItem);
                        self.note(me, object, ITEM | u64::from(key), writes, is_one_step);
                    }
                    self.note(me, object, SIZE, writes, true);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn note(&self, me: &mut Me, object: *mut PyObject, part: u64, writes: bool, is_one_step: bool) {
        let iterates = self.instruction.kind == Kind::Iterate;
        let word = part | if writes { WRITES } else { 0 } | if iterates { ITERATES } else { 0 };
        let generation = DETECTOR.memory.generation(object as usize);
        if me.is_known(object as usize, word, generation) {
            return;
        }
        let traits = Traits { writes, is_one_step, iterates, ..Traits::default() };
        // SAFETY: the object is alive.
        unsafe { self.look_up(me, object, part, traits) };
        me.know(object as usize, word, DETECTOR.memory.generation(object as usize));
    }

    #[inline(never)]
    unsafe fn look_up(&self, me: &mut Me, object: *mut PyObject, part: u64, traits: Traits) {
        let mut traits = traits;
        // SAFETY: the object and the operands are alive, and the thread is attached.
        unsafe {
            let is_attribute = part & (7 << 32) == NAME;
            if traits.iterates {
                traits.iterates = ffi::PyList_Check(object) == 0;
            }
            if traits.writes && is_attribute && !is_plain_store(object, part as u32) {
                return;
            }
            if traits.writes {
                traits.constant = self.constant();
            }
            if traits.writes && traits.is_one_step {
                traits.method = self.method();
            }
            traits.is_initial = self.code.is_constructor && self.look.frame.local(0) == object;
            let object =
                if is_attribute && ffi::PyModule_Check(object) != 0 { ffi::PyModule_GetDict(object) } else { object };
            let is_maker = if cfg!(Py_GIL_DISABLED) { refcount::is_made_here(object) } else { traits.is_initial };
            let stack = me.stacks.number(Some(self.offset));
            let Me { watcher, found, .. } = me;
            DETECTOR.memory.touch(watcher, (object as usize, part), (stack, traits), is_maker, found);
            if !found.is_empty() {
                let object = Bound::from_borrowed_ptr(Python::assume_attached(), object);
                DETECTOR.hand_on(found, part, &object);
            }
        }
    }

    /// Which method changes the container, or which kind of instruction.
    unsafe fn method(&self) -> u32 {
        let Instruction { kind, arg, .. } = *self.instruction;
        let callable = self.look.frame.operand(arg as usize + 1);
        match kind {
            // SAFETY: operands are alive.
            Kind::Call if !callable.is_null() => unsafe { definition(callable) }.map_or(0, |(at, _)| at as u32),
            _ => kind as u32 + 1,
        }
    }

    /// Which of the few constants is stored.
    unsafe fn constant(&self) -> u8 {
        let place = match self.instruction.kind {
            Kind::StoreAttribute => 1,
            Kind::StoreGlobal | Kind::StoreCell => 0,
            Kind::StoreItem => 2,
            _ => return 0,
        };
        let value = self.look.frame.operand(place);
        // SAFETY: these objects live for ever.
        let constants = unsafe { [ffi::Py_None(), ffi::Py_True(), ffi::Py_False()] };
        constants.iter().position(|constant| *constant == value).map_or(0, |at| at as u8 + 1)
    }
}

/// Does storing this attribute store a value, rather than run code of a property or of a class with ways of its own?
unsafe fn is_plain_store(object: *mut PyObject, name: u32) -> bool {
    type LookUp = unsafe extern "C" fn(*mut ffi::PyTypeObject, *mut PyObject) -> *mut PyObject;
    static LOOK_UP: OnceLock<Option<LookUp>> = OnceLock::new();
    // SAFETY: the object is alive; the function has this type and gives a new reference.
    unsafe {
        let is_own_dict = ffi::PyModule_Check(object) != 0 || ffi::PyType_Check(object) != 0;
        if is_own_dict || ffi::PyDict_Check(object) != 0 {
            return true;
        }
        let kind = ffi::Py_TYPE(object);
        if (*kind).tp_setattro.is_none_or(|set| set as usize != ffi::PyObject_GenericSetAttr as *const () as usize) {
            return false;
        }
        let look_up = *LOOK_UP
            .get_or_init(|| symbol::find(c"_PyType_LookupRef").map(|found| transmute::<*mut c_void, LookUp>(found)));
        let Some(look_up) = look_up else { return true };
        let Some(name) = DETECTOR.names.object(name) else { return true };
        let found = Held(look_up(kind, name.0));
        found.is_none() || {
            let kind = ffi::Py_TYPE(found.0);
            kind == &raw mut ffi::PyMemberDescr_Type || (*kind).tp_descr_set.is_none()
        }
    }
}
