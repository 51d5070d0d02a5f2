//! `StripedCounter` and `AtomicInt`: the hot slots of counting.

use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::ptr::{drop_in_place, null_mut};

use primitives::cell::{AtomicInt, Overflow};
use primitives::counter::StripedCounter;
use pyo3::ffi::{self, Py_ssize_t, PyObject, PyTypeObject};
use pyo3::prelude::*;

use super::native_type::{NativeType, slot};
use super::slots::{
    allocate, amount, compare, expect, forget_weakrefs, free, int, new_ref, none, number, number_and_shared, overflow,
    raise, repr_with, shared_if, truth, tuple_of, wide_int,
};

/// An object that holds a counter of either kind.
#[repr(C)]
struct Object<C> {
    head: PyObject,
    weakrefs: *mut PyObject,
    counter: C,
}

/// What both kinds are to Python: a number that can be read and added to.
trait Counter: Sized {
    /// The format of the constructor's arguments, and the name of the first.
    const FORMAT: &'static CStr;
    const ARGUMENT: &'static CStr;

    fn new(number: i64) -> Self;
    fn add(&self, amount: i64) -> Result<(), Overflow>;
    /// The number as a new int. The thread is attached.
    unsafe fn read(&self) -> *mut PyObject;
    fn is_zero(&self) -> bool;
}

impl Counter for StripedCounter {
    const FORMAT: &'static CStr = c"|L$p:StripedCounter";
    const ARGUMENT: &'static CStr = c"initial";

    fn new(number: i64) -> Self {
        StripedCounter::new(number)
    }

    #[inline(always)]
    fn add(&self, amount: i64) -> Result<(), Overflow> {
        self.add(amount)
    }

    unsafe fn read(&self) -> *mut PyObject {
        // SAFETY: the caller's promise.
        unsafe { wide_int(self.sum()) }
    }

    fn is_zero(&self) -> bool {
        self.sum() == 0
    }
}

/// The value lies in a cache line of its own: threads that change it at once would otherwise also take the object's
/// head away from each other, which the interpreter looks at several times in each operation.
#[repr(C)]
#[derive(Default)]
struct Apart {
    before: [u64; 8],
    value: AtomicInt,
    after: [u64; 7],
}

impl Counter for Apart {
    const FORMAT: &'static CStr = c"|L$p:AtomicInt";
    const ARGUMENT: &'static CStr = c"value";

    fn new(number: i64) -> Self {
        Apart { value: AtomicInt::new(number), ..Apart::default() }
    }

    #[inline(always)]
    fn add(&self, amount: i64) -> Result<(), Overflow> {
        self.value.fetch_add(amount).map(drop)
    }

    #[inline(always)]
    unsafe fn read(&self) -> *mut PyObject {
        // SAFETY: the caller's promise.
        unsafe { int(self.value.get()) }
    }

    fn is_zero(&self) -> bool {
        self.value.get() == 0
    }
}

/// Adds both types.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    striped(module)?;
    atomic(module)
}

fn striped(module: &Bound<'_, PyModule>) -> PyResult<()> {
    counter_type::<StripedCounter>(c"raceproof.StripedCounter", STRIPED_DOC)
        .arguments(c"inc", striped_inc, c"inc($self, n=1, /)\n--\n\nAdds n. OverflowError: nothing was added.")
        .one_argument(c"add", striped_add, c"add($self, n, /)\n--\n\nAdds n. OverflowError: nothing was added.")
        .no_arguments(c"get", get::<StripedCounter>, c"get($self, /)\n--\n\nThe sum, as an int.")
        .property(c"value", value::<StripedCounter>, c"The sum, as an int.")
        .no_arguments(c"reset", striped_reset, RESET_DOC)
        .build(module, None)?;
    Ok(())
}

const STRIPED_DOC: &std::ffi::CStr = c"StripedCounter(initial=0, *, shared=False)\n--\n\n\
A counter that many threads raise at once without slowing each other down: `counter += 1`, `inc(n)`, `add(n)`.\n\n\
Each thread adds to a cell of its own; reading adds the cells up. No addition is lost. The sum is exact while nobody \
adds; read while others add, it holds every addition that had ended before, and any of those under way. \
Nothing blocks.\n\n\
It compares with numbers by its value, and has therefore no hash. shared=True switches its reference counting off \
(see share): pass it for a counter that lives as long as the process.";

const RESET_DOC: &std::ffi::CStr = c"reset($self, /)\n--\n\n\
Sets the counter to 0 and returns what it held. Each addition is either in what this returns or stays.";

fn atomic(module: &Bound<'_, PyModule>) -> PyResult<()> {
    counter_type::<Apart>(c"raceproof.AtomicInt", ATOMIC_DOC)
        .no_arguments(c"get", get::<Apart>, c"get($self, /)\n--\n\nThe value, as an int.")
        .no_arguments(c"load", get::<Apart>, c"load($self, /)\n--\n\nThe value, as an int; the same as get.")
        .property(c"value", value::<Apart>, c"The value, as an int.")
        .one_argument(c"set", atomic_set, c"set($self, value, /)\n--\n\nReplaces the value.")
        .one_argument(c"store", atomic_set, c"store($self, value, /)\n--\n\nReplaces the value; the same as set.")
        .one_argument(c"add", atomic_add, c"add($self, n, /)\n--\n\nAdds n and returns the new value.")
        .one_argument(
            c"fetch_add",
            atomic_fetch_add,
            c"fetch_add($self, n, /)\n--\n\nAdds n and returns the old value.",
        )
        .arguments(c"inc", atomic_inc, c"inc($self, n=1, /)\n--\n\nAdds n and returns the new value.")
        .arguments(c"dec", atomic_dec, c"dec($self, n=1, /)\n--\n\nSubtracts n and returns the new value.")
        .one_argument(c"exchange", atomic_exchange, EXCHANGE_DOC)
        .arguments(c"compare_and_set", atomic_compare_and_set, COMPARE_AND_SET_DOC)
        .one_argument(c"update_with", atomic_update_with, UPDATE_DOC)
        .build(module, None)?;
    Ok(())
}

const ATOMIC_DOC: &std::ffi::CStr = c"AtomicInt(value=0, *, shared=False)\n--\n\n\
An integer of 64 bits that threads change without a lock: `number += 1`, `add`, `compare_and_set`, ...\n\n\
Every operation is atomic and linearizable, and nothing blocks. A result that does not fit into 64 bits raises \
OverflowError and leaves the value as it was.\n\n\
It compares with numbers by its value, and has therefore no hash. shared=True switches its reference counting off \
(see share): pass it for a number that lives as long as the process.";

const EXCHANGE_DOC: &std::ffi::CStr =
    c"exchange($self, value, /)\n--\n\nReplaces the value and returns the one that stood there.";

const COMPARE_AND_SET_DOC: &std::ffi::CStr = c"compare_and_set($self, expected, new, /)\n--\n\n\
Stores new if the value is expected; returns whether it did.";

const UPDATE_DOC: &std::ffi::CStr = c"update_with($self, function, /)\n--\n\n\
Replaces the value by function(value) and returns the new value.\n\n\
The function runs without any lock, and again if another thread changed the value meanwhile. If it raises, the value \
stays as it was.";

/// A type with what both have.
fn counter_type<C: Counter>(name: &'static CStr, doc: &'static CStr) -> NativeType {
    NativeType::new::<Object<C>>(name, doc)
        .flags(ffi::Py_TPFLAGS_BASETYPE)
        .lifetime(new::<C>, dealloc::<C>, offset_of!(Object<C>, weakrefs))
        .slot(ffi::Py_tp_repr, repr::<C> as *mut c_void)
        .slot(ffi::Py_tp_richcompare, rich_compare::<C> as *mut c_void)
        .slot(ffi::Py_nb_inplace_add, plus::<C> as *mut c_void)
        .slot(ffi::Py_nb_inplace_subtract, minus::<C> as *mut c_void)
        .slot(ffi::Py_nb_int, as_int::<C> as *mut c_void)
        .slot(ffi::Py_nb_index, as_int::<C> as *mut c_void)
        .slot(ffi::Py_nb_bool, is_true::<C> as *mut c_void)
        .no_arguments(c"__getnewargs__", newargs::<C>, c"__getnewargs__($self, /)\n--\n\nFor copy and pickle.")
}

#[inline(always)]
unsafe fn counter<'a, C: Counter>(this: *mut PyObject) -> &'a C {
    // SAFETY: `this` is alive during the slot, and its counter was written in `new`.
    unsafe { &(*this.cast::<Object<C>>()).counter }
}

/// Adds; false if an exception is set.
#[inline(always)]
unsafe fn change<C: Counter>(this: *mut PyObject, amount: Option<i64>) -> bool {
    match amount {
        // SAFETY: see `counter`.
        Some(amount) => match unsafe { counter::<C>(this) }.add(amount) {
            Ok(()) => true,
            Err(error) => !overflow(error).is_null(),
        },
        None => false,
    }
}

#[inline(always)]
unsafe fn negative(amount: Option<i64>) -> Option<i64> {
    let negative = amount?.checked_neg();
    if negative.is_none() {
        overflow(Overflow);
    }
    negative
}

#[inline(always)]
unsafe fn cell<'a>(this: *mut PyObject) -> &'a AtomicInt {
    // SAFETY: see `counter`.
    unsafe { &counter::<Apart>(this).value }
}

/// Adds `amount` and returns the value before.
#[inline(always)]
unsafe fn atomic_change(this: *mut PyObject, amount: Option<i64>) -> Option<i64> {
    // SAFETY: see `cell`.
    match unsafe { cell(this) }.fetch_add(amount?) {
        Ok(old) => Some(old),
        Err(error) => {
            overflow(error);
            None
        }
    }
}

/// The new value, after `amount` was added.
#[inline(always)]
unsafe fn atomic_changed(this: *mut PyObject, amount: Option<i64>) -> *mut PyObject {
    // SAFETY: see `cell`; the sum was checked when it was stored.
    unsafe {
        match (atomic_change(this, amount), amount) {
            (Some(old), Some(amount)) => int(old.wrapping_add(amount)),
            _ => null_mut(),
        }
    }
}

slot! {
    fn new<C: Counter>(class: *mut PyTypeObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject {
        let Some((number, shared)) = number_and_shared(C::FORMAT, C::ARGUMENT, args, kwargs) else {
            return null_mut();
        };
        let this = allocate::<Object<C>>(class);
        if !this.is_null() {
            (&raw mut (*this).counter).write(C::new(number));
        }
        shared_if(shared && !this.is_null(), this.cast())
    } else null_mut()

    fn dealloc<C: Counter>(this: *mut PyObject) -> () {
        let object = this.cast::<Object<C>>();
        forget_weakrefs(this, (*object).weakrefs);
        drop_in_place(&raw mut (*object).counter);
        free(this);
    } else ()

    fn plus<C: Counter>(this: *mut PyObject, other: *mut PyObject) -> *mut PyObject {
        if change::<C>(this, number(other)) { new_ref(this) } else { null_mut() }
    } else null_mut()

    fn minus<C: Counter>(this: *mut PyObject, other: *mut PyObject) -> *mut PyObject {
        if change::<C>(this, negative(number(other))) { new_ref(this) } else { null_mut() }
    } else null_mut()

    fn get<C: Counter>(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        counter::<C>(this).read()
    } else null_mut()

    fn value<C: Counter>(this: *mut PyObject, _closure: *mut c_void) -> *mut PyObject {
        counter::<C>(this).read()
    } else null_mut()

    fn as_int<C: Counter>(this: *mut PyObject) -> *mut PyObject { counter::<C>(this).read() } else null_mut()

    fn is_true<C: Counter>(this: *mut PyObject) -> c_int { c_int::from(!counter::<C>(this).is_zero()) } else -1

    fn repr<C: Counter>(this: *mut PyObject) -> *mut PyObject {
        repr_with(this, counter::<C>(this).read())
    } else null_mut()

    fn rich_compare<C: Counter>(this: *mut PyObject, other: *mut PyObject, operation: c_int) -> *mut PyObject {
        compare(counter::<C>(this).read(), other, operation)
    } else null_mut()

    fn newargs<C: Counter>(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        tuple_of(counter::<C>(this).read())
    } else null_mut()

    fn striped_inc(this: *mut PyObject, args: *mut *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
        if change::<StripedCounter>(this, amount(args, count)) { none() } else { null_mut() }
    } else null_mut()

    fn striped_add(this: *mut PyObject, n: *mut PyObject) -> *mut PyObject {
        if change::<StripedCounter>(this, number(n)) { none() } else { null_mut() }
    } else null_mut()

    fn striped_reset(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        wide_int(counter::<StripedCounter>(this).reset())
    } else null_mut()

    fn atomic_set(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
        let Some(value) = number(value) else { return null_mut() };
        cell(this).set(value);
        none()
    } else null_mut()

    fn atomic_add(this: *mut PyObject, n: *mut PyObject) -> *mut PyObject {
        atomic_changed(this, number(n))
    } else null_mut()

    fn atomic_fetch_add(this: *mut PyObject, n: *mut PyObject) -> *mut PyObject {
        atomic_change(this, number(n)).map_or(null_mut(), |old| int(old))
    } else null_mut()

    fn atomic_inc(this: *mut PyObject, args: *mut *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
        atomic_changed(this, amount(args, count))
    } else null_mut()

    fn atomic_dec(this: *mut PyObject, args: *mut *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
        atomic_changed(this, negative(amount(args, count)))
    } else null_mut()

    fn atomic_exchange(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
        number(value).map_or(null_mut(), |value| int(cell(this).exchange(value)))
    } else null_mut()

    fn atomic_compare_and_set(this: *mut PyObject, args: *mut *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
        if !expect(count, 2) {
            return null_mut();
        }
        let (Some(expected), Some(new)) = (number(*args), number(*args.add(1))) else { return null_mut() };
        truth(cell(this).compare_and_set(expected, new))
    } else null_mut()

    fn atomic_update_with(this: *mut PyObject, function: *mut PyObject) -> *mut PyObject {
        let function = Bound::from_borrowed_ptr(Python::assume_attached(), function);
        let change = |old: i64| function.call1((old,))?.extract::<i64>();
        match cell(this).update(change) {
            Ok(new) => int(new),
            Err(error) => raise(error),
        }
    } else null_mut()
}
