//! The types `ConcurrentMap` and `CounterMap`: their layout, their life, and the slots that hot loops use.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::ops::ControlFlow;
use std::ptr::{null, null_mut};
use std::sync::atomic::AtomicU64;

use primitives::raw::table::Table;
use primitives::raw::tally::Tally;
use pyo3::ffi::{self, Py_ssize_t, PyObject};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::key::{Raised, held};
use super::operations::{self, Map};
use super::value::{self, Slot, Value};
use super::{batch, doc, methods};
use crate::map;
use crate::raw::call::{Given, is_count_right};
use crate::raw::held::Held;
use crate::raw::native_type::{NativeType, slot};

/// As many keys can be added at the same time, unless the constructor says otherwise.
const N_SHARDS: usize = 16;
const N_SHARDS_MAX: usize = 1 << 16;

/// A map as CPython sees it.
#[repr(C)]
pub struct MapObject<C: Value> {
    head: PyObject,
    weak_references: *mut PyObject,
    table: Map<C>,
    /// Where `popitem` goes on.
    pop_from: AtomicU64,
}

/// The map behind an object of one of the types here, or of a class below it.
///
/// # Safety
/// The object is one, and alive as long as the map is used.
#[inline(always)]
pub unsafe fn map_of<'a, C: Value>(this: *mut PyObject) -> &'a Map<C> {
    // SAFETY: the caller's promise; `new` has made the table.
    unsafe { &(*this.cast::<MapObject<C>>()).table }
}

/// The null that says that an exception is set, or the reference.
#[inline(always)]
fn result(result: Result<Held, Raised>) -> *mut PyObject {
    result.map_or(null_mut(), Held::into_ptr)
}

#[inline(always)]
unsafe fn check_arguments(name: &CStr, least: Py_ssize_t, most: Py_ssize_t, n: Py_ssize_t) -> Result<(), Raised> {
    // SAFETY: slots run attached.
    if unsafe { is_count_right(name, n, least, most) } { Ok(()) } else { Err(Raised) }
}

#[cold]
unsafe fn key_error(key: *mut PyObject) -> Raised {
    // SAFETY: the caller's key is alive; a tuple keeps a key that is a tuple itself from being taken for arguments.
    unsafe {
        if let Ok(arguments) = held(ffi::PyTuple_Pack(1, key)) {
            ffi::PyErr_SetObject(ffi::PyExc_KeyError, arguments.as_ptr());
        }
    }
    Raised
}

/// What both types do alike, and where they differ.
pub trait Kind: Value {
    /// `map[key]` where the key is not there.
    unsafe fn missing(key: *mut PyObject) -> Result<Held, Raised>;
    /// Adds an object, or one, to the value of a key.
    unsafe fn add(map: &Map<Self>, key: *mut PyObject, n: Option<*mut PyObject>) -> Result<Held, Raised>;
    /// Adds a number to the value of a key.
    unsafe fn add_number(map: &Map<Self>, key: *mut PyObject, n: i64) -> Result<(), Raised>;
    /// What `setdefault` takes where no default is given.
    fn default() -> Result<Held, Raised>;
    /// The page of `add`.
    const ADD: &CStr;
    /// The page of `setdefault`.
    const SET_DEFAULT: &CStr;
}

impl Kind for Slot {
    unsafe fn missing(key: *mut PyObject) -> Result<Held, Raised> {
        // SAFETY: the caller's promise.
        Err(unsafe { key_error(key) })
    }

    #[inline(always)]
    unsafe fn add(map: &Map<Self>, key: *mut PyObject, n: Option<*mut PyObject>) -> Result<Held, Raised> {
        let one = value::number(1)?;
        // SAFETY: the caller's promise.
        unsafe { operations::add(map, key, n.unwrap_or(one.as_ptr())) }
    }

    unsafe fn add_number(map: &Map<Self>, key: *mut PyObject, n: i64) -> Result<(), Raised> {
        let n = value::number(n)?;
        // SAFETY: the caller's promise.
        unsafe { operations::add(map, key, n.as_ptr()) }.map(drop)
    }

    const ADD: &CStr = doc::ADD;
    const SET_DEFAULT: &CStr = doc::SET_DEFAULT;

    fn default() -> Result<Held, Raised> {
        // SAFETY: `None` is always alive.
        Ok(unsafe { Held::new(ffi::Py_None()) })
    }
}

impl Kind for Tally {
    unsafe fn missing(_: *mut PyObject) -> Result<Held, Raised> {
        value::number(0)
    }

    #[inline(always)]
    unsafe fn add(map: &Map<Self>, key: *mut PyObject, n: Option<*mut PyObject>) -> Result<Held, Raised> {
        // SAFETY: the caller's promise.
        unsafe { value::number(operations::count(map, key, n.map_or(Ok(1), |n| value::count(n))?)?) }
    }

    #[inline(always)]
    unsafe fn add_number(map: &Map<Self>, key: *mut PyObject, n: i64) -> Result<(), Raised> {
        // SAFETY: the caller's promise.
        unsafe { operations::count(map, key, n) }.map(drop)
    }

    const ADD: &CStr = doc::ADD_COUNT;
    const SET_DEFAULT: &CStr = doc::SET_DEFAULT_COUNT;

    fn default() -> Result<Held, Raised> {
        value::number(0)
    }
}

slot! {
    fn subscript<C: Kind>(this: *mut PyObject, key: *mut PyObject) -> *mut PyObject {
        match operations::lookup(map_of::<C>(this), key) {
            Ok(Some(value)) => value.into_ptr(),
            Ok(None) => result(C::missing(key)),
            Err(Raised) => null_mut(),
        }
    } else null_mut()

    fn assign_subscript<C: Kind>(this: *mut PyObject, key: *mut PyObject, value: *mut PyObject) -> c_int {
        let map = map_of::<C>(this);
        let done = if value.is_null() {
            operations::remove(map, key, None).and_then(|removed| removed.ok_or_else(|| key_error(key)).map(|_| ()))
        } else {
            C::accept(value).and_then(|value| operations::store(map, key, value))
        };
        if done.is_ok() { 0 } else { -1 }
    } else -1

    fn contains<C: Kind>(this: *mut PyObject, key: *mut PyObject) -> c_int {
        operations::contains(map_of::<C>(this), key).map_or(-1, c_int::from)
    } else -1

    fn length<C: Kind>(this: *mut PyObject) -> Py_ssize_t {
        map_of::<C>(this).len() as Py_ssize_t
    } else -1

    fn get<C: Kind>(this: *mut PyObject, arguments: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        if check_arguments(c"get", 1, 2, n).is_err() {
            return null_mut();
        }
        match operations::lookup(map_of::<C>(this), *arguments) {
            Ok(Some(value)) => value.into_ptr(),
            Ok(None) if n == 2 => Held::new(*arguments.add(1)).into_ptr(),
            Ok(None) => Held::new(ffi::Py_None()).into_ptr(),
            Err(Raised) => null_mut(),
        }
    } else null_mut()

    fn set_default<C: Kind>(this: *mut PyObject, arguments: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        let (map, key) = (map_of::<C>(this), *arguments);
        result(check_arguments(c"setdefault", 1, 2, n).and_then(|()| {
            if let Some(value) = operations::lookup(map, key)? {
                return Ok(value);
            }
            let default = if n == 2 { Held::new(*arguments.add(1)) } else { C::default()? };
            let stored = operations::add_key(map, key, C::accept(default.as_ptr())?)?;
            Ok(stored.unwrap_or(default))
        }))
    } else null_mut()

    fn add<C: Kind>(this: *mut PyObject, arguments: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        result(check_arguments(c"add", 1, 2, n).and_then(|()| {
            C::add(map_of::<C>(this), *arguments, (n == 2).then(|| *arguments.add(1)))
        }))
    } else null_mut()

    fn update_with<C: Kind>(this: *mut PyObject, arguments: *const *mut PyObject, n: Py_ssize_t, names: *mut PyObject) -> *mut PyObject {
        result(check_arguments(c"update_with", 2, 3, n).and_then(|()| {
            let given = Given::new(arguments, n, names);
            let default = given.only_named(c"default", 2).map_err(|()| Raised)?;
            let (key, function) = (given.positional[0], given.positional[1]);
            operations::update(map_of::<C>(this), key, |seen| {
                let value = match seen {
                    Some(seen) => seen.as_ptr(),
                    None if !default.is_null() => default,
                    None => return Err(key_error(key)),
                };
                held(ffi::PyObject_CallOneArg(function, value))
            })
        }))
    } else null_mut()

    fn compare_and_set<C: Kind>(this: *mut PyObject, arguments: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        let done = check_arguments(c"compare_and_set", 3, 3, n).and_then(|()| {
            let (map, key, expected) = (map_of::<C>(this), *arguments, *arguments.add(1));
            loop {
                let Some(seen) = operations::lookup(map, key)? else { return Ok(false) };
                if !are_equal(seen.as_ptr(), expected)? {
                    return Ok(false);
                }
                if operations::exchange(map, key, &seen, C::accept(*arguments.add(2))?)? {
                    return Ok(true);
                }
            }
        });
        done.map_or(null_mut(), |done| ffi::PyBool_FromLong(done.into()))
    } else null_mut()

    fn pop<C: Kind>(this: *mut PyObject, arguments: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        result(check_arguments(c"pop", 1, 2, n).and_then(|()| {
            match operations::remove(map_of::<C>(this), *arguments, None)? {
                Some(value) => Ok(value),
                None if n == 2 => Ok(Held::new(*arguments.add(1))),
                None => Err(key_error(*arguments)),
            }
        }))
    } else null_mut()

    fn pop_if<C: Kind>(this: *mut PyObject, arguments: *mut *mut PyObject, n: Py_ssize_t) -> *mut PyObject {
        result(check_arguments(c"pop_if", 2, 3, n).and_then(|()| {
            let (map, key, condition) = (map_of::<C>(this), *arguments, *arguments.add(1));
            loop {
                let Some(seen) = operations::lookup(map, key)? else { break };
                if !holds(condition, &seen)? {
                    break;
                }
                if operations::remove(map, key, Some(&seen))?.is_some() {
                    return Ok(seen);
                }
            }
            Ok(Held::new(if n == 3 { *arguments.add(2) } else { ffi::Py_None() }))
        }))
    } else null_mut()

    fn pop_item<C: Kind>(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        let pop_from = &(*this.cast::<MapObject<C>>()).pop_from;
        result(operations::pop_any(map_of::<C>(this), pop_from).and_then(|popped| match popped {
            Some((key, value)) => held(ffi::PyTuple_Pack(2, key.as_ptr(), value.as_ptr())),
            None => {
                ffi::PyErr_SetString(ffi::PyExc_KeyError, c"popitem(): the map is empty".as_ptr());
                Err(Raised)
            }
        }))
    } else null_mut()

    fn clear_method<C: Kind>(this: *mut PyObject, _unused: *mut PyObject) -> *mut PyObject {
        operations::clear(map_of::<C>(this));
        Held::new(ffi::Py_None()).into_ptr()
    } else null_mut()

    fn add_many<C: Kind>(this: *mut PyObject, keys: *mut PyObject) -> *mut PyObject {
        result(batch::add_many(map_of::<C>(this), keys).map(|()| Held::new(ffi::Py_None())))
    } else null_mut()

    /// Lock-free and without allocations: it runs while the world is stopped.
    fn traverse<C: Kind>(this: *mut PyObject, visit: ffi::visitproc, argument: *mut c_void) -> c_int {
        let visited = visit(ffi::Py_TYPE(this).cast(), argument);
        if visited != 0 {
            return visited;
        }
        let shown = map_of::<C>(this).for_each(|key, cell| {
            for object in [key.peek(), cell.peek()] {
                let visited = if object.is_null() { 0 } else { visit(object, argument) };
                if visited != 0 {
                    return ControlFlow::Break(visited);
                }
            }
            ControlFlow::Continue(())
        });
        shown.break_value().unwrap_or(0)
    } else 0

    fn clear_slot<C: Kind>(this: *mut PyObject) -> c_int {
        operations::clear(map_of::<C>(this));
        0
    } else 0

    fn deallocate<C: Kind>(this: *mut PyObject) -> () {
        ffi::PyObject_GC_UnTrack(this.cast());
        let object = this.cast::<MapObject<C>>();
        if !(*object).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
        drop_later((&raw mut (*object).table).read());
        let class = ffi::Py_TYPE(this);
        if let Some(free) = (*class).tp_free {
            free(this.cast());
        }
        ffi::Py_DECREF(class.cast());
    } else ()

    fn new<C: Kind>(class: *mut ffi::PyTypeObject, _arguments: *mut PyObject, named: *mut PyObject) -> *mut PyObject {
        result(n_shards(named).and_then(|n_shards| make::<C>(class, n_shards)))
    } else null_mut()

    fn initialize<C: Kind>(this: *mut PyObject, arguments: *mut PyObject, named: *mut PyObject) -> c_int {
        let names = [c"".as_ptr(), c"shards".as_ptr(), c"shared".as_ptr(), null()];
        let (mut source, mut shards, mut is_shared): (*mut PyObject, *mut PyObject, c_int) = (null_mut(), null_mut(), 0);
        let parsed = ffi::PyArg_ParseTupleAndKeywords(
            arguments, named, c"|O$Op".as_ptr(), names.as_ptr().cast_mut().cast(),
            &mut source, &mut shards, &mut is_shared,
        );
        if parsed == 0 {
            return -1;
        }
        let py = Python::assume_attached();
        let source = if source.is_null() { None } else { Some(Bound::from_borrowed_ptr(py, source)) };
        match map::fill(&Bound::from_borrowed_ptr(py, this), source.as_ref(), is_shared != 0) {
            Ok(()) => 0,
            Err(error) => {
                error.restore(py);
                -1
            }
        }
    } else -1
}

unsafe fn are_equal(left: *mut PyObject, right: *mut PyObject) -> Result<bool, Raised> {
    // SAFETY: the caller's objects are alive.
    match unsafe { ffi::PyObject_RichCompareBool(left, right, ffi::Py_EQ) } {
        -1 => Err(Raised),
        equal => Ok(equal == 1),
    }
}

/// Is a condition, a function or a value, true of what was seen?
unsafe fn holds(condition: *mut PyObject, seen: &Held) -> Result<bool, Raised> {
    // SAFETY: the caller's objects are alive.
    unsafe {
        if ffi::PyCallable_Check(condition) == 0 {
            return are_equal(seen.as_ptr(), condition);
        }
        let answer = held(ffi::PyObject_CallOneArg(condition, seen.as_ptr()))?;
        match ffi::PyObject_IsTrue(answer.as_ptr()) {
            -1 => Err(Raised),
            holds => Ok(holds == 1),
        }
    }
}

/// Drops a table with all that is in it. Maps in maps in maps would use up the stack: from a certain depth on they are
/// dropped when those around them are.
fn drop_later<C: Value>(table: Map<C>) {
    const DEPTH_MAX: usize = 50;
    thread_local! {
        static DEPTH: Cell<usize> = const { Cell::new(0) };
        static LATER: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
    }
    if DEPTH.get() == DEPTH_MAX {
        LATER.with_borrow_mut(|later| later.push(Box::new(table)));
        return;
    }
    DEPTH.set(DEPTH.get() + 1);
    drop(table);
    if DEPTH.get() == 1 {
        while let Some(table) = LATER.with_borrow_mut(Vec::pop) {
            drop(table);
        }
    }
    DEPTH.set(DEPTH.get() - 1);
}

/// An empty map of a class.
///
/// # Safety
/// The class is the type for `C`, or a class below it.
pub unsafe fn make<C: Value>(class: *mut ffi::PyTypeObject, n_shards: usize) -> Result<Held, Raised> {
    // SAFETY: the type's allocator gives zeroed memory of its size, in which the table is made before anybody sees it.
    unsafe {
        let Some(allocate) = (*class).tp_alloc else { return Err(Raised) };
        // The table is made first: the collector may look at the object as soon as it is there.
        let table = Table::new(n_shards);
        let object = held(allocate(class, 0))?;
        (&raw mut (*object.as_ptr().cast::<MapObject<C>>()).table).write(table);
        Ok(object)
    }
}

/// The number of shards that the constructor is asked for.
unsafe fn n_shards(named: *mut PyObject) -> Result<usize, Raised> {
    // SAFETY: the dictionary of named arguments belongs to the call.
    unsafe {
        let given = if named.is_null() { null_mut() } else { ffi::PyDict_GetItemString(named, c"shards".as_ptr()) };
        if given.is_null() || given == ffi::Py_None() {
            return Ok(N_SHARDS);
        }
        let n_shards = ffi::PyNumber_AsSsize_t(given, null_mut());
        if n_shards == -1 && !ffi::PyErr_Occurred().is_null() {
            return Err(Raised);
        }
        if !(1..=N_SHARDS_MAX as Py_ssize_t).contains(&n_shards) {
            ffi::PyErr_SetString(ffi::PyExc_ValueError, c"shards must be from 1 to 65536".as_ptr());
            return Err(Raised);
        }
        Ok(n_shards as usize)
    }
}

/// Adds the methods that both types have.
fn with_methods<C: Kind>(kind: NativeType) -> NativeType {
    kind.arguments(c"get", get::<C>, doc::GET)
        .arguments(c"add", add::<C>, C::ADD)
        .one_argument(c"add_many", add_many::<C>, doc::ADD_MANY)
        .arguments(c"setdefault", set_default::<C>, C::SET_DEFAULT)
        .keywords(c"update_with", update_with::<C>, doc::UPDATE_WITH)
        .arguments(c"compare_and_set", compare_and_set::<C>, doc::COMPARE_AND_SET)
        .arguments(c"pop", pop::<C>, doc::POP)
        .arguments(c"pop_if", pop_if::<C>, doc::POP_IF)
        .no_arguments(c"popitem", pop_item::<C>, doc::POP_ITEM)
        .no_arguments(c"clear", clear_method::<C>, doc::CLEAR)
}

fn build<'py, C: Kind>(module: &Bound<'py, PyModule>, kind: NativeType) -> PyResult<Bound<'py, PyType>> {
    let kind = kind
        .flags(ffi::Py_TPFLAGS_BASETYPE | methods::TPFLAGS_MAPPING)
        .lifetime(new::<C>, deallocate::<C>, offset_of!(MapObject<C>, weak_references))
        .collected(traverse::<C>, clear_slot::<C>)
        .slot(ffi::Py_tp_init, initialize::<C> as *mut c_void)
        .slot(ffi::Py_mp_subscript, subscript::<C> as *mut c_void)
        .slot(ffi::Py_mp_ass_subscript, assign_subscript::<C> as *mut c_void)
        .slot(ffi::Py_mp_length, length::<C> as *mut c_void)
        .slot(ffi::Py_sq_contains, contains::<C> as *mut c_void);
    methods::with_methods(with_methods::<C>(kind)).build(module, None)
}

/// Adds `ConcurrentMap` and `CounterMap`.
pub fn add_types<'py>(module: &Bound<'py, PyModule>) -> PyResult<[Bound<'py, PyType>; 2]> {
    let map = NativeType::new::<MapObject<Slot>>(c"raceproof.ConcurrentMap", doc::CONCURRENT_MAP);
    let map = build::<Slot>(module, methods::with_object_methods(map))?;
    let counter = NativeType::new::<MapObject<Tally>>(c"raceproof.CounterMap", doc::COUNTER_MAP);
    let counter = build::<Tally>(module, methods::with_counter_methods(counter))?;
    Ok([map, counter])
}
