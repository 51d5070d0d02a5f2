//! `StripedCounter` and `AtomicInt`: the hot slots of counting.

use std::ffi::c_int;
use std::mem::offset_of;
use std::ptr::{drop_in_place, null_mut};

use primitives::cell::AtomicInt;
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
struct Object<Counter> {
    head: PyObject,
    weakrefs: *mut PyObject,
    counter: Counter,
}

/// Adds both types.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    striped(module)?;
    atomic(module)
}

fn striped(module: &Bound<'_, PyModule>) -> PyResult<()> {
    NativeType::new::<Object<StripedCounter>>(c"raceproof.StripedCounter", STRIPED_DOC)
        .flags(ffi::Py_TPFLAGS_BASETYPE)
        .offset(c"__weaklistoffset__", offset_of!(Object<StripedCounter>, weakrefs))
        .slot(ffi::Py_tp_new, striped_new as _)
        .slot(ffi::Py_tp_dealloc, striped_free as _)
        .slot(ffi::Py_tp_repr, striped_repr as _)
        .slot(ffi::Py_tp_richcompare, striped_compare as _)
        .slot(ffi::Py_nb_inplace_add, striped_plus as _)
        .slot(ffi::Py_nb_inplace_subtract, striped_minus as _)
        .slot(ffi::Py_nb_int, striped_int as _)
        .slot(ffi::Py_nb_index, striped_int as _)
        .slot(ffi::Py_nb_bool, striped_bool as _)
        .arguments(c"inc", striped_inc, c"inc($self, n=1, /)\n--\n\nAdds n. OverflowError: nothing was added.")
        .one_argument(c"add", striped_add, c"add($self, n, /)\n--\n\nAdds n. OverflowError: nothing was added.")
        .no_arguments(c"get", striped_get, c"get($self, /)\n--\n\nThe sum, as an int.")
        .property(c"value", striped_value, c"The sum, as an int.")
        .no_arguments(c"reset", striped_reset, RESET_DOC)
        .no_arguments(c"__getnewargs__", striped_newargs, c"__getnewargs__($self, /)\n--\n\nFor copy and pickle.")
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

#[inline(always)]
unsafe fn cells<'a>(this: *mut PyObject) -> &'a StripedCounter {
    // SAFETY: `this` is alive during the slot, and its counter was written in `striped_new`.
    unsafe { &(*this.cast::<Object<StripedCounter>>()).counter }
}

#[inline(always)]
unsafe fn striped_change(this: *mut PyObject, amount: Option<i64>) -> bool {
    match amount {
        // SAFETY: see `cells`.
        Some(amount) => match unsafe { cells(this) }.add(amount) {
            Ok(()) => true,
            Err(error) => !overflow(error).is_null(),
        },
        None => false,
    }
}

slot! {
    fn striped_new(class: *mut PyTypeObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject {
        let Some((initial, shared)) = number_and_shared(c"|L$p:StripedCounter", c"initial", args, kwargs) else {
            return null_mut();
        };
        let this = allocate::<Object<StripedCounter>>(class);
        if !this.is_null() {
            (&raw mut (*this).counter).write(StripedCounter::new(initial));
        }
        shared_if(shared && !this.is_null(), this.cast())
    } else null_mut()

    fn striped_free(this: *mut PyObject) -> () {
        let object = this.cast::<Object<StripedCounter>>();
        forget_weakrefs(this, (*object).weakrefs);
        drop_in_place(&raw mut (*object).counter);
        free(this);
    } else ()

    fn striped_plus(this: *mut PyObject, other: *mut PyObject) -> *mut PyObject {
        if striped_change(this, number(other)) { new_ref(this) } else { null_mut() }
    } else null_mut()

    fn striped_minus(this: *mut PyObject, other: *mut PyObject) -> *mut PyObject {
        let Some(amount) = number(other) else { return null_mut() };
        match amount.checked_neg() {
            Some(amount) if striped_change(this, Some(amount)) => new_ref(this),
            Some(_) => null_mut(),
            None => overflow(primitives::cell::Overflow),
        }
    } else null_mut()

    fn striped_inc(this: *mut PyObject, args: *mut *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
        if striped_change(this, amount(args, count)) { none() } else { null_mut() }
    } else null_mut()

    fn striped_add(this: *mut PyObject, n: *mut PyObject) -> *mut PyObject {
        if striped_change(this, number(n)) { none() } else { null_mut() }
    } else null_mut()

    fn striped_get(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        wide_int(cells(this).sum())
    } else null_mut()

    fn striped_value(this: *mut PyObject, _closure: *mut std::ffi::c_void) -> *mut PyObject {
        wide_int(cells(this).sum())
    } else null_mut()

    fn striped_int(this: *mut PyObject) -> *mut PyObject {
        wide_int(cells(this).sum())
    } else null_mut()

    fn striped_bool(this: *mut PyObject) -> c_int {
        c_int::from(cells(this).sum() != 0)
    } else -1

    fn striped_reset(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        wide_int(cells(this).reset())
    } else null_mut()

    fn striped_repr(this: *mut PyObject) -> *mut PyObject {
        repr_with(this, wide_int(cells(this).sum()))
    } else null_mut()

    fn striped_compare(this: *mut PyObject, other: *mut PyObject, operation: c_int) -> *mut PyObject {
        compare(wide_int(cells(this).sum()), other, operation)
    } else null_mut()

    fn striped_newargs(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        tuple_of(wide_int(cells(this).sum()))
    } else null_mut()
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

fn atomic(module: &Bound<'_, PyModule>) -> PyResult<()> {
    NativeType::new::<Object<Apart>>(c"raceproof.AtomicInt", ATOMIC_DOC)
        .flags(ffi::Py_TPFLAGS_BASETYPE)
        .offset(c"__weaklistoffset__", offset_of!(Object<Apart>, weakrefs))
        .slot(ffi::Py_tp_new, atomic_new as _)
        .slot(ffi::Py_tp_dealloc, atomic_free as _)
        .slot(ffi::Py_tp_repr, atomic_repr as _)
        .slot(ffi::Py_tp_richcompare, atomic_compare as _)
        .slot(ffi::Py_nb_inplace_add, atomic_plus as _)
        .slot(ffi::Py_nb_inplace_subtract, atomic_minus as _)
        .slot(ffi::Py_nb_int, atomic_int as _)
        .slot(ffi::Py_nb_index, atomic_int as _)
        .slot(ffi::Py_nb_bool, atomic_bool as _)
        .no_arguments(c"get", atomic_get, c"get($self, /)\n--\n\nThe value, as an int.")
        .no_arguments(c"load", atomic_get, c"load($self, /)\n--\n\nThe value, as an int; the same as get.")
        .property(c"value", atomic_value, c"The value, as an int.")
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
        .no_arguments(c"__getnewargs__", atomic_newargs, c"__getnewargs__($self, /)\n--\n\nFor copy and pickle.")
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

#[inline(always)]
unsafe fn cell<'a>(this: *mut PyObject) -> &'a AtomicInt {
    // SAFETY: `this` is alive during the slot, and its number was written in `atomic_new`.
    unsafe { &(*this.cast::<Object<Apart>>()).counter.value }
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

#[inline(always)]
unsafe fn negative(amount: Option<i64>) -> Option<i64> {
    let negative = amount?.checked_neg();
    if negative.is_none() {
        overflow(primitives::cell::Overflow);
    }
    negative
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
    fn atomic_new(class: *mut PyTypeObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject {
        let Some((value, shared)) = number_and_shared(c"|L$p:AtomicInt", c"value", args, kwargs) else {
            return null_mut();
        };
        let this = allocate::<Object<Apart>>(class);
        if !this.is_null() {
            (&raw mut (*this).counter).write(Apart { value: AtomicInt::new(value), ..Apart::default() });
        }
        shared_if(shared && !this.is_null(), this.cast())
    } else null_mut()

    fn atomic_free(this: *mut PyObject) -> () {
        forget_weakrefs(this, (*this.cast::<Object<Apart>>()).weakrefs);
        free(this);
    } else ()

    fn atomic_plus(this: *mut PyObject, other: *mut PyObject) -> *mut PyObject {
        if atomic_change(this, number(other)).is_some() { new_ref(this) } else { null_mut() }
    } else null_mut()

    fn atomic_minus(this: *mut PyObject, other: *mut PyObject) -> *mut PyObject {
        if atomic_change(this, negative(number(other))).is_some() { new_ref(this) } else { null_mut() }
    } else null_mut()

    fn atomic_get(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject { int(cell(this).get()) } else null_mut()

    fn atomic_value(this: *mut PyObject, _closure: *mut std::ffi::c_void) -> *mut PyObject {
        int(cell(this).get())
    } else null_mut()

    fn atomic_int(this: *mut PyObject) -> *mut PyObject { int(cell(this).get()) } else null_mut()

    fn atomic_bool(this: *mut PyObject) -> c_int { c_int::from(cell(this).get() != 0) } else -1

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

    fn atomic_repr(this: *mut PyObject) -> *mut PyObject { repr_with(this, int(cell(this).get())) } else null_mut()

    fn atomic_compare(this: *mut PyObject, other: *mut PyObject, operation: c_int) -> *mut PyObject {
        compare(int(cell(this).get()), other, operation)
    } else null_mut()

    fn atomic_newargs(this: *mut PyObject, _none: *mut PyObject) -> *mut PyObject {
        tuple_of(int(cell(this).get()))
    } else null_mut()
}
