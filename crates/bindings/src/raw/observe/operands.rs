//! What an instruction is about to touch: which object, which part of it, and how.
//!
//! One instruction on one built-in container is one step (see `facts::promises`), and so is one call of one method of
//! it. Nothing in here runs Python code: keys are compared only if they are plain values.

use std::cell::Cell;
use std::ptr::null_mut;

use facts::Action;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;

use super::builtins::{Builtins, Call, definition, is_descriptor};
use super::frame::{Frame, Operands, member};

/// What an instruction does. The words are those of `raceproof.instrument`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    LoadAttribute,
    /// `x.__dict__`.
    LoadDict,
    StoreAttribute,
    LoadGlobal,
    StoreGlobal,
    LoadCell,
    StoreCell,
    LoadItem,
    StoreItem,
    DeleteItem,
    Contains,
    /// Reads all of the container on top of the stack.
    ReadTop,
    /// Reads all of the container in the third place.
    LoadSlice,
    /// Writes the container in the third place.
    StoreSlice,
    /// Adds the container on top of the stack to one of the frame's own.
    Merge,
    /// Reads two operands.
    Binary,
    /// Changes the left operand.
    InPlace,
    Iterate,
    Call,
    CallNamed,
    CallSpread,
    Enter,
}

impl Kind {
    pub fn parse(word: &str) -> Option<Kind> {
        Some(match word {
            "load attribute" => Kind::LoadAttribute,
            "load dict" => Kind::LoadDict,
            "store attribute" => Kind::StoreAttribute,
            "load global" => Kind::LoadGlobal,
            "store global" => Kind::StoreGlobal,
            "load cell" => Kind::LoadCell,
            "store cell" => Kind::StoreCell,
            "load item" => Kind::LoadItem,
            "store item" => Kind::StoreItem,
            "delete item" => Kind::DeleteItem,
            "contains" => Kind::Contains,
            "read" => Kind::ReadTop,
            "load slice" => Kind::LoadSlice,
            "store slice" => Kind::StoreSlice,
            "merge" => Kind::Merge,
            "binary" => Kind::Binary,
            "in place" => Kind::InPlace,
            "iterate" => Kind::Iterate,
            "call" => Kind::Call,
            "call with names" => Kind::CallNamed,
            "call spread" => Kind::CallSpread,
            "enter" => Kind::Enter,
            _ => return None,
        })
    }
}

/// An instruction that may touch something.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    pub kind: Kind,
    pub depth: u16,
    /// The operand of the instruction: a count of arguments, the number of a local.
    pub arg: u32,
    /// The attribute or global, if there is one.
    pub name: u32,
}

/// Which part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The attribute or global with this number.
    Name(u32),
    /// The item under the key with this hash.
    Item(u32),
    All,
    /// Something of the thread's own, whatever the object is.
    Own,
}

/// One thing that an instruction does to one object.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    pub action: Action,
    /// Borrowed from the frame.
    pub object: *mut PyObject,
    pub part: Part,
}

/// What was seen before an instruction.
#[derive(Clone, Copy, Debug)]
pub enum Sight {
    Nothing,
    /// Reads or writes, in one step.
    Touches(Touch, Option<Touch>),
    /// The operand at this place is to be replaced by what stands in for it.
    StandIn(usize),
    /// The operand at this place goes over this container, which is read item by item.
    Stepwise(usize, *mut PyObject),
    /// The dict of the attributes of this object is got hold of.
    Dict(*mut PyObject),
    /// `getattr`, `setattr` and `delattr`: the object, the name, and what is done.
    Dynamic(*mut PyObject, *mut PyObject, Action),
}

/// Looks at operands.
pub struct Look<'a, F = Frame> {
    pub frame: F,
    pub builtins: &'a Builtins,
    /// Is C code that reads item by item one step?
    pub is_iteration_atomic: bool,
    /// Where all of a container is touched because its size changes: the hash of the key that comes or goes.
    pub key: Cell<Option<u32>>,
}

impl<F: Operands> Look<'_, F> {
    /// What the instruction is about to touch.
    ///
    /// # Safety
    /// The frame stands before the instruction, and the thread is attached.
    pub unsafe fn at(&self, instruction: &Instruction) -> Sight {
        let top = |k: usize| self.frame.operand(k);
        let name = Part::Name(instruction.name);
        let one = |action: Action, object: *mut PyObject, part: Part| match object.is_null() {
            true => Sight::Nothing,
            false => Sight::Touches(Touch { action, object, part }, None),
        };
        // SAFETY: the caller's promise: all operands are alive.
        unsafe {
            match instruction.kind {
                Kind::LoadAttribute if self.has_stand_in(top(0)) => Sight::StandIn(0),
                Kind::LoadAttribute if self.has_attributes(top(0)) => one(Action::Read, top(0), name),
                Kind::LoadDict if self.has_attributes(top(0)) => Sight::Dict(top(0)),
                Kind::StoreAttribute if self.has_attributes(top(0)) => one(Action::Write, top(0), name),
                Kind::LoadGlobal => one(Action::Read, self.frame.globals(), name),
                Kind::StoreGlobal => one(Action::Write, self.frame.globals(), name),
                Kind::LoadCell => one(Action::Read, self.frame.local(instruction.arg as usize), Part::All),
                Kind::StoreCell => one(Action::Write, self.frame.local(instruction.arg as usize), Part::All),
                Kind::LoadItem => self.item(top(1), top(0), Action::Read),
                Kind::StoreItem => self.item(top(1), top(0), Action::Write),
                Kind::DeleteItem => {
                    self.note_key(top(1), top(0));
                    self.whole(top(1), Action::Update)
                }
                Kind::Contains => match self.builtins.container(top(0)) {
                    object if object.is_null() => Sight::Nothing,
                    object => one(Action::Read, object, key_of(object, top(1))),
                },
                Kind::ReadTop => self.whole(top(0), Action::Read),
                Kind::LoadSlice => self.whole(top(2), Action::Read),
                Kind::StoreSlice => self.whole(top(2), Action::Update),
                Kind::Merge => self.whole(top(0), Action::Read),
                Kind::Binary => self.both(top(1), top(0)),
                Kind::InPlace => self.in_place(top(1), top(0)),
                Kind::Iterate => self.advance(top(0)),
                Kind::Call => self.call(instruction.arg as usize, 0),
                Kind::CallNamed => self.call(instruction.arg as usize, 1),
                Kind::CallSpread => self.call_spread(instruction.arg as usize & 1),
                Kind::Enter if self.has_stand_in(top(0)) => Sight::StandIn(0),
                Kind::Enter | Kind::LoadAttribute | Kind::LoadDict | Kind::StoreAttribute => Sight::Nothing,
            }
        }
    }

    /// Does the object keep attributes that can be set and that threads share? Those of a built-in type do not, and those
    /// of a `threading.local` are each thread's own.
    unsafe fn has_attributes(&self, object: *mut PyObject) -> bool {
        // SAFETY: operands are alive.
        unsafe {
            if object.is_null() {
                return false;
            }
            let kind = ffi::Py_TYPE(object);
            let is_own = [kind, (*kind).tp_base].iter().any(|kind| self.builtins.locals.contains(&(*kind as usize)));
            let has_some = ffi::PyType_HasFeature(kind, ffi::Py_TPFLAGS_HEAPTYPE) != 0 || (*kind).tp_dictoffset != 0;
            has_some && !is_own
        }
    }

    /// Is it one of the locks that others stand in for?
    pub fn has_stand_in(&self, object: *mut PyObject) -> bool {
        // SAFETY: operands are alive.
        !object.is_null() && self.builtins.stand_in_types.contains(&(unsafe { ffi::Py_TYPE(object) } as usize))
    }

    unsafe fn whole(&self, object: *mut PyObject, action: Action) -> Sight {
        // A tuple is never changed: only what stands for a container in it counts, and only where it is gone over.
        // SAFETY: operands are alive.
        let object = unsafe {
            if object.is_null() || ffi::Py_TYPE(object) == &raw mut ffi::PyTuple_Type {
                return Sight::Nothing;
            }
            self.builtins.container(object)
        };
        match object.is_null() {
            true => Sight::Nothing,
            false => Sight::Touches(Touch { action, object, part: Part::All }, None),
        }
    }

    /// Does the key name a part of the container without running Python code?
    ///
    /// # Safety
    /// Both are alive.
    pub unsafe fn names_plainly(&self, container: *mut PyObject, key: *mut PyObject) -> bool {
        // SAFETY: the caller's promise.
        unsafe { key_of(container, key) != Part::All }
    }

    /// The second of the iterators that an iterator goes over: `zip`, `map`.
    unsafe fn second(&self, iterator: *mut PyObject) -> *mut PyObject {
        // SAFETY: operands are alive; the offsets are those of the types.
        unsafe {
            let behind = self.builtins.over.get(&(ffi::Py_TYPE(iterator) as usize));
            let pack = behind.map_or(null_mut(), |behind| member(iterator, *behind));
            let has_two =
                !pack.is_null() && ffi::Py_TYPE(pack) == &raw mut ffi::PyTuple_Type && ffi::PyTuple_GET_SIZE(pack) > 1;
            if has_two { self.builtins.container(ffi::PyTuple_GET_ITEM(pack, 1)) } else { null_mut() }
        }
    }

    /// The next item of an iterator: the container is read, and the iterator goes on.
    unsafe fn advance(&self, iterator: *mut PyObject) -> Sight {
        // SAFETY: operands are alive.
        match unsafe { self.whole(iterator, Action::Read) } {
            // SAFETY: as above.
            Sight::Touches(source, _) if unsafe { !self.second(iterator).is_null() } => {
                let second = Touch { action: Action::Read, object: unsafe { self.second(iterator) }, part: Part::All };
                Sight::Touches(source, Some(second))
            }
            Sight::Touches(source, _) => {
                let iterator = Touch { action: Action::Update, object: iterator, part: Part::All };
                Sight::Touches(source, Some(iterator))
            }
            sight => sight,
        }
    }

    unsafe fn item(&self, object: *mut PyObject, key: *mut PyObject, action: Action) -> Sight {
        // SAFETY: operands are alive.
        unsafe {
            if object.is_null() || !self.builtins.is_container(object, ffi::Py_TYPE(object)) {
                return Sight::Nothing;
            }
            let key_part = key_of(object, key);
            let is_dict = ffi::PyDict_Check(object) != 0;
            // A missing key changes the size; in a defaultdict reading does.
            let is_there = || key_part != Part::All && ffi::PyDict_Contains(object, key) == 1;
            let is_plain = ffi::PyDict_CheckExact(object) != 0 || !is_dict;
            let (action, part) = match (action, is_dict) {
                (Action::Read, _) if is_plain => (Action::Read, key_part),
                (_, true) if is_there() => (action, key_part),
                (Action::Read, _) => (Action::Update, Part::All),
                (_, true) => (Action::Update, Part::All),
                (_, false) => (action, key_part),
            };
            if part == Part::All {
                self.note_key(object, key);
            }
            Sight::Touches(Touch { action, object, part }, None)
        }
    }

    /// Notes the key of a dict or set whose size may change.
    unsafe fn note_key(&self, object: *mut PyObject, key: *mut PyObject) {
        // SAFETY: operands are alive.
        unsafe {
            let is_keyed = !object.is_null() && (ffi::PyDict_Check(object) != 0 || ffi::PySet_Check(object) != 0);
            if is_keyed && let Part::Item(key) = key_of(object, key) {
                self.key.set(Some(key));
            }
        }
    }

    unsafe fn both(&self, left: *mut PyObject, right: *mut PyObject) -> Sight {
        // SAFETY: operands are alive.
        let sights = unsafe { [self.whole(left, Action::Read), self.whole(right, Action::Read)] };
        match sights {
            [Sight::Touches(one, _), Sight::Touches(two, _)] => Sight::Touches(one, Some(two)),
            [Sight::Nothing, sight] | [sight, _] => sight,
        }
    }

    unsafe fn in_place(&self, left: *mut PyObject, right: *mut PyObject) -> Sight {
        // SAFETY: operands are alive.
        let (target, source) = unsafe { (self.whole(left, Action::Update), self.whole(right, Action::Read)) };
        match (target, source) {
            (Sight::Touches(target, _), Sight::Touches(source, _)) => Sight::Touches(source, Some(target)),
            (Sight::Nothing, source) => source,
            (target, _) => target,
        }
    }

    /// `above` values lie above the arguments.
    unsafe fn call(&self, n: usize, above: usize) -> Sight {
        let callable = self.frame.operand(n + 1 + above);
        let bound = self.frame.operand(n + above);
        if callable.is_null() {
            return Sight::Nothing;
        }
        if self.builtins.stand_ins.contains(&(callable as usize)) {
            return Sight::StandIn(n + 1 + above);
        }
        let argument = |idx: usize| {
            let all = n + usize::from(!bound.is_null());
            // The bound object is the first argument.
            if idx >= all { null_mut() } else { self.frame.operand(above + all - 1 - idx) }
        };
        // SAFETY: operands are alive.
        unsafe { self.of_call(callable, argument, above) }
    }

    unsafe fn call_spread(&self, n_named: usize) -> Sight {
        let callable = self.frame.operand(2 + n_named);
        let arguments = self.frame.operand(n_named);
        if callable.is_null() || arguments.is_null() {
            return Sight::Nothing;
        }
        if self.builtins.stand_ins.contains(&(callable as usize)) {
            return Sight::StandIn(2 + n_named);
        }
        // SAFETY: operands are alive.
        unsafe {
            if ffi::PyTuple_Check(arguments) == 0 {
                return self.whole(arguments, Action::Read);
            }
            let n = ffi::PyTuple_GET_SIZE(arguments) as usize;
            let argument = |idx: usize| match idx < n {
                true => ffi::PyTuple_GET_ITEM(arguments, idx as ffi::Py_ssize_t),
                false => null_mut(),
            };
            match self.of_call(callable, argument, 0) {
                // The argument lies in a tuple, where it cannot be replaced.
                Sight::Stepwise(..) => self.arguments(argument, 0),
                sight => sight,
            }
        }
    }

    /// What a call is about to touch. `above` values lie above the arguments.
    ///
    /// # Safety
    /// The callable and its arguments are alive, and the thread is attached.
    pub unsafe fn of_call(
        &self,
        callable: *mut PyObject,
        argument: impl Fn(usize) -> *mut PyObject,
        above: usize,
    ) -> Sight {
        // SAFETY: operands are alive.
        unsafe {
            let Some((definition, bound)) = definition(callable) else {
                return self.of_object_call(callable, argument);
            };
            let is_method = bound.is_null() || (ffi::PyModule_Check(bound) == 0 && ffi::PyType_Check(bound) == 0);
            let is_descriptor = is_descriptor(ffi::Py_TYPE(callable));
            let (owner, first) = match (is_method && !is_descriptor && !bound.is_null(), is_descriptor) {
                (true, _) => (bound, 0),
                (_, true) => (argument(0), 1),
                _ => (null_mut(), 0),
            };
            if !owner.is_null() && self.has_stand_in(owner) {
                // A bound method of a lock that nobody controls.
                return Sight::Nothing;
            }
            let call = self.builtins.calls.get(&definition).copied();
            self.do_call(call.unwrap_or_else(|| self.unknown(owner)), owner, argument, first, above)
        }
    }

    /// A call of what is no function in C: a class, a Python function, an object with `__call__`.
    unsafe fn of_object_call(&self, callable: *mut PyObject, argument: impl Fn(usize) -> *mut PyObject) -> Sight {
        // SAFETY: operands are alive.
        unsafe {
            let kind = ffi::Py_TYPE(callable);
            if ffi::PyType_Check(callable) != 0 {
                // `list(x)` reads; a class in Python sees to itself.
                let is_builtin = ffi::PyType_HasFeature(callable.cast(), ffi::Py_TPFLAGS_HEAPTYPE) == 0;
                return if is_builtin { self.arguments(argument, 0) } else { Sight::Nothing };
            }
            let call = (*kind).tp_call.map_or(0, |call| call as usize);
            let is_python = call == self.builtins.python_call || kind == &raw mut ffi::PyFunction_Type;
            if is_python || self.builtins.immutable.contains(&(kind as usize)) {
                return Sight::Nothing;
            }
            if ffi::PyWeakref_Check(callable) != 0 {
                return Sight::Touches(Touch { action: Action::Read, object: callable, part: Part::All }, None);
            }
            // An object that is called in C keeps state, as a cache does.
            Sight::Touches(Touch { action: Action::Update, object: callable, part: Part::All }, None)
        }
    }

    unsafe fn do_call(
        &self,
        call: Call,
        owner: *mut PyObject,
        argument: impl Fn(usize) -> *mut PyObject,
        first: usize,
        above: usize,
    ) -> Sight {
        let one =
            |action: Action, object: *mut PyObject, part: Part| Sight::Touches(Touch { action, object, part }, None);
        // SAFETY: operands are alive.
        unsafe {
            match call {
                Call::Ignore => Sight::Nothing,
                Call::ReadArguments => self.arguments(argument, first),
                Call::UpdateArguments => match self.arguments(argument, first) {
                    Sight::Touches(one, None) => Sight::Touches(Touch { action: Action::Update, ..one }, None),
                    Sight::Touches(one, Some(two)) => {
                        let [one, two] = [one, two].map(|touch| Touch { action: Action::Update, ..touch });
                        Sight::Touches(one, Some(two))
                    }
                    sight => sight,
                },
                Call::Next => match argument(first) {
                    object if object.is_null() || ffi::PyGen_Check(object) != 0 => Sight::Nothing,
                    object => match self.advance(object) {
                        Sight::Nothing => one(Action::Update, object, Part::All),
                        sight => sight,
                    },
                },
                Call::Stepwise if !self.is_iteration_atomic => match (argument(first), argument(first + 1)) {
                    (object, more) if more.is_null() && !self.builtins.container(object).is_null() => {
                        Sight::Stepwise(above, self.builtins.container(object))
                    }
                    _ => self.arguments(argument, first),
                },
                Call::Stepwise => self.arguments(argument, first),
                // As a function, or as a method of the object.
                Call::GetAttribute | Call::SetAttribute => {
                    let action = if call == Call::GetAttribute { Action::Read } else { Action::Write };
                    match owner.is_null() {
                        true => Sight::Dynamic(argument(first), argument(first + 1), action),
                        false => Sight::Dynamic(owner, argument(first), action),
                    }
                }
                Call::Dict if argument(first).is_null() => Sight::Nothing,
                Call::Dict => Sight::Dict(argument(first)),
                _ if owner.is_null() => Sight::Nothing,
                Call::ReadAll => one(Action::Read, owner, Part::All),
                Call::Put => one(Action::Update, owner, Part::All),
                Call::ReadKey => one(Action::Read, owner, key_of(owner, argument(first))),
                Call::UpdateKey => match key_of(owner, argument(first)) {
                    Part::Item(key) if ffi::PyDict_Check(owner) == 0 || self.holds(owner, argument(first)) => {
                        one(Action::Update, owner, Part::Item(key))
                    }
                    _ => {
                        self.note_key(owner, argument(first));
                        one(Action::Update, owner, Part::All)
                    }
                },
                Call::UpdateAll => {
                    let target = Touch { action: Action::Update, object: owner, part: Part::All };
                    match self.arguments(argument, first) {
                        Sight::Touches(source, _) if source.object != owner => Sight::Touches(source, Some(target)),
                        _ => Sight::Touches(target, None),
                    }
                }
            }
        }
    }

    unsafe fn holds(&self, dict: *mut PyObject, key: *mut PyObject) -> bool {
        // SAFETY: both are alive; whoever asks has seen that the key is a plain value.
        unsafe { ffi::PyDict_Contains(dict, key) == 1 }
    }

    /// What a method that is not in the table does: unless its object never changes, anything, in one step.
    unsafe fn unknown(&self, owner: *mut PyObject) -> Call {
        // SAFETY: operands are alive.
        unsafe {
            if owner.is_null() {
                return Call::UpdateArguments;
            }
            let kind = ffi::Py_TYPE(owner);
            if self.builtins.immutable.contains(&(kind as usize)) { Call::ReadArguments } else { Call::UpdateAll }
        }
    }

    /// The containers among the arguments, two at most.
    unsafe fn arguments(&self, argument: impl Fn(usize) -> *mut PyObject, first: usize) -> Sight {
        let mut found: [Sight; 2] = [Sight::Nothing; 2];
        let mut n = 0;
        for idx in first.. {
            let object = argument(idx);
            if object.is_null() || n == 2 {
                break;
            }
            // SAFETY: operands are alive.
            let sight = unsafe { self.whole(object, Action::Read) };
            if matches!(sight, Sight::Touches(..)) {
                found[n] = sight;
                n += 1;
            }
        }
        match found {
            [Sight::Touches(one, _), Sight::Touches(two, _)] => Sight::Touches(one, Some(two)),
            [sight, _] => sight,
        }
    }
}

/// The part of a container that a key names. Keys whose hash could run Python code name all of it.
unsafe fn key_of(container: *mut PyObject, key: *mut PyObject) -> Part {
    // SAFETY: operands are alive; the hash of such a value is its own.
    unsafe {
        if key.is_null() {
            return Part::All;
        }
        let kind = ffi::Py_TYPE(key);
        let is_int = kind == &raw mut ffi::PyLong_Type;
        if ffi::PyDict_Check(container) == 0 && ffi::PySet_Check(container) == 0 {
            // An index. From the end it depends on the size.
            let idx = if is_int { ffi::PyLong_AsSsize_t(key) } else { -1 };
            if idx == -1 {
                ffi::PyErr_Clear();
            }
            return if idx >= 0 { Part::Item(idx as u32) } else { Part::All };
        }
        let is_plain = is_int
            || [
                &raw mut ffi::PyUnicode_Type,
                &raw mut ffi::PyBytes_Type,
                &raw mut ffi::PyFloat_Type,
                &raw mut ffi::PyBool_Type,
            ]
            .contains(&kind)
            || key == ffi::Py_None();
        if !is_plain {
            return Part::All;
        }
        Part::Item(fold(ffi::PyObject_Hash(key)))
    }
}

fn fold(hash: ffi::Py_hash_t) -> u32 {
    let hash = hash as u64;
    (hash ^ (hash >> 32)) as u32
}

/// The part of an object that an attribute of this name is: that of an item of its `__dict__`.
pub fn key_of_name(name: &Bound<'_, pyo3::types::PyString>) -> u32 {
    // SAFETY: the hash of a string is its own.
    fold(unsafe { ffi::PyObject_Hash(name.as_ptr()) })
}
