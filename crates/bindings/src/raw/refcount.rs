//! Reference counts of objects that several threads hold, as CPython counts them.
//!
//! On a free-threaded build an object has a count of its owning thread (plain) and a shared one (atomic); on a GIL
//! build there is one plain count. See PEP 703, "Biased reference counting". The layout is that of CPython 3.13 and
//! 3.14; PyO3 refuses to build for a Python that it does not know.

use std::sync::atomic::AtomicPtr;

use pyo3::ffi::PyObject;
#[cfg(not(Py_GIL_DISABLED))]
use pyo3::ffi::{Py_DECREF, Py_INCREF};

/// Takes a reference.
///
/// # Safety
/// `object` is alive, and the caller is attached to the interpreter.
#[inline(always)]
pub unsafe fn incref(object: *mut PyObject) {
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: the caller's promise.
    unsafe {
        free_threaded::incref(object)
    };
    #[cfg(not(Py_GIL_DISABLED))]
    // SAFETY: the caller's promise.
    unsafe {
        Py_INCREF(object)
    };
}

/// Gives a reference back. Any Python code may run in here (`__del__`), so no lock may be held.
///
/// # Safety
/// The caller owns a reference to `object`, and is attached to the interpreter.
#[inline(always)]
pub unsafe fn decref(object: *mut PyObject) {
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: the caller's promise.
    unsafe {
        free_threaded::decref(object)
    };
    #[cfg(not(Py_GIL_DISABLED))]
    // SAFETY: the caller's promise.
    unsafe {
        Py_DECREF(object)
    };
}

/// Was the object made by this thread? With a GIL nobody knows, and the answer is no.
///
/// # Safety
/// `object` is alive.
#[inline(always)]
pub unsafe fn is_made_here(object: *mut PyObject) -> bool {
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: the caller's promise.
    return unsafe { free_threaded::is_owned(object) };
    #[cfg(not(Py_GIL_DISABLED))]
    {
        let _ = object;
        false
    }
}

/// Reads a slot that other threads may replace at the same time, and takes a reference to what it holds; null if the
/// slot is empty. Lock-free: it tries to count, then looks whether the slot still holds the same object.
///
/// # Safety
/// What `slot` holds went through [`make_shareable`] before it was stored, and the caller is attached.
#[inline(always)]
pub unsafe fn load(slot: &AtomicPtr<PyObject>) -> *mut PyObject {
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: the caller's promise.
    return unsafe { free_threaded::load(slot) };
    #[cfg(not(Py_GIL_DISABLED))]
    {
        let object = slot.load(std::sync::atomic::Ordering::Relaxed);
        if !object.is_null() {
            // SAFETY: the slot owns a reference, and no other thread runs Python code now.
            unsafe { Py_INCREF(object) };
        }
        object
    }
}

/// What [`try_load`] saw in a slot.
pub enum Loaded {
    /// An object, with a new reference to it.
    Object(*mut PyObject),
    /// Nothing.
    Empty,
    /// The slot was changed at this moment, and a reference had to be given back: any Python code may have run.
    Changed,
}

/// As [`load`], for callers that must know when Python code may have run meanwhile.
///
/// # Safety
/// As [`load`].
#[inline(always)]
pub unsafe fn try_load(slot: &AtomicPtr<PyObject>) -> Loaded {
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: the caller's promise.
    return unsafe { free_threaded::try_load(slot) };
    #[cfg(not(Py_GIL_DISABLED))]
    {
        // SAFETY: the caller's promise.
        let object = unsafe { load(slot) };
        if object.is_null() { Loaded::Empty } else { Loaded::Object(object) }
    }
}

/// Prepares an object for a slot that [`load`] reads: from now on its memory is not given back while a thread may
/// still try to count it.
///
/// # Safety
/// The caller owns a reference to `object`, and is attached.
#[inline(always)]
pub unsafe fn make_shareable(object: *mut PyObject) {
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: the caller's promise.
    unsafe {
        free_threaded::set_maybe_weakref(object)
    };
    #[cfg(not(Py_GIL_DISABLED))]
    let _ = object;
}

/// Takes an object out of reference counting for good: it is never freed, and threads that use it do not write to its
/// count. Only for objects that live as long as the process. Nothing happens on builds that have a GIL.
///
/// # Safety
/// The calling thread made `object`, and no other thread has seen it yet.
pub unsafe fn immortalize(object: *mut PyObject) {
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: the caller's promise.
    unsafe {
        free_threaded::immortalize(object)
    };
    #[cfg(not(Py_GIL_DISABLED))]
    let _ = object;
}

/// Switches reference counting off for an object if no other thread can be counting it now; says whether it is off.
///
/// # Safety
/// `object` is alive, and the caller is attached.
pub unsafe fn share(object: *mut PyObject) -> bool {
    #[cfg(all(Py_GIL_DISABLED, not(Py_3_14)))]
    // SAFETY: the caller's promise.
    return unsafe {
        let alone = free_threaded::is_unseen(object);
        if alone {
            free_threaded::immortalize(object);
        }
        alone || free_threaded::is_immortal(object)
    };
    #[cfg(all(Py_GIL_DISABLED, Py_3_14))]
    // SAFETY: the caller's promise.
    return unsafe { PyUnstable_Object_EnableDeferredRefcount(object) != 0 || is_uncounted(object) };
    #[cfg(not(Py_GIL_DISABLED))]
    {
        let _ = object;
        false
    }
}

/// Is reference counting switched off for this object?
///
/// # Safety
/// `object` is alive, and the caller is attached.
pub unsafe fn is_uncounted(object: *mut PyObject) -> bool {
    #[cfg(Py_GIL_DISABLED)]
    // SAFETY: the caller's promise.
    return unsafe { free_threaded::is_immortal(object) || free_threaded::is_deferred(object) };
    #[cfg(not(Py_GIL_DISABLED))]
    {
        let _ = object;
        false
    }
}

#[cfg(all(Py_GIL_DISABLED, Py_3_14))]
unsafe extern "C" {
    fn PyUnstable_Object_EnableDeferredRefcount(object: *mut PyObject) -> std::ffi::c_int;
}

#[cfg(Py_GIL_DISABLED)]
mod free_threaded {
    use super::Loaded;
    use std::sync::atomic::AtomicPtr;
    use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

    use pyo3::ffi::{Py_DECREF, Py_INCREF, PyObject};

    const IMMORTAL: u32 = u32::MAX;
    /// One reference in the shared count; the two bits below say in what state it is.
    const SHARED_ONE: isize = 4;
    const STATE: isize = 3;
    const MAYBE_WEAKREF: isize = 1;
    const MERGED: isize = 3;

    /// What CPython compares with `ob_tid`: the address of the thread's control block.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[inline(always)]
    fn thread_id() -> usize {
        let id: usize;
        // SAFETY: the word at fs:0 is the thread's own control block on this platform (System V ABI, TLS variant II).
        unsafe { std::arch::asm!("mov {}, fs:0", out(reg) id, options(nostack, pure, readonly, preserves_flags)) };
        id
    }

    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    #[inline(always)]
    fn thread_id() -> usize {
        usize::MAX
    }

    /// Is the plain count ours to write?
    #[inline(always)]
    pub unsafe fn is_owned(object: *mut PyObject) -> bool {
        // SAFETY: the caller's promise; CPython reads this word racily too.
        unsafe { (*object).ob_tid == thread_id() }
    }

    #[inline(always)]
    pub unsafe fn incref(object: *mut PyObject) {
        // SAFETY: the caller's promise; the counts are atomics.
        unsafe {
            let local = (*object).ob_ref_local.load(Relaxed);
            if local == IMMORTAL {
                return;
            }
            if is_owned(object) {
                (*object).ob_ref_local.store(local + 1, Relaxed);
            } else {
                Py_INCREF(object);
            }
        }
    }

    #[inline(always)]
    pub unsafe fn decref(object: *mut PyObject) {
        // SAFETY: the caller's promise; a count that would reach zero goes the whole way through CPython.
        unsafe {
            let local = (*object).ob_ref_local.load(Relaxed);
            if local == IMMORTAL {
                return;
            }
            if local > 1 && is_owned(object) {
                (*object).ob_ref_local.store(local - 1, Relaxed);
            } else {
                Py_DECREF(object);
            }
        }
    }

    #[inline(always)]
    pub unsafe fn load(slot: &AtomicPtr<PyObject>) -> *mut PyObject {
        loop {
            // SAFETY: the caller's promise.
            match unsafe { try_load(slot) } {
                Loaded::Object(object) => return object,
                Loaded::Empty => return std::ptr::null_mut(),
                Loaded::Changed => std::hint::spin_loop(),
            }
        }
    }

    #[inline(always)]
    pub unsafe fn try_load(slot: &AtomicPtr<PyObject>) -> Loaded {
        loop {
            let object = slot.load(Acquire);
            if object.is_null() {
                return Loaded::Empty;
            }
            // SAFETY: an object that was made shareable keeps its counts readable, freed or not, as long as this
            // thread is attached; a reference that turns out to be late is given back.
            unsafe {
                if (*object).ob_ref_local.load(Relaxed) == IMMORTAL {
                    return Loaded::Object(object);
                }
                if try_incref(object) {
                    if slot.load(Acquire) == object {
                        return Loaded::Object(object);
                    }
                    Py_DECREF(object);
                    return Loaded::Changed;
                }
            }
            std::hint::spin_loop();
        }
    }

    /// Takes a reference unless the object is being freed.
    #[inline(always)]
    unsafe fn try_incref(object: *mut PyObject) -> bool {
        // SAFETY: see `load`.
        unsafe {
            let local = (*object).ob_ref_local.load(Relaxed);
            if is_owned(object) && local > 0 {
                (*object).ob_ref_local.store(local + 1, Relaxed);
                return true;
            }
            let shared = &(*object).ob_ref_shared;
            let mut seen = shared.load(Relaxed);
            while seen != 0 && seen != MERGED {
                match shared.compare_exchange_weak(seen, seen + SHARED_ONE, AcqRel, Relaxed) {
                    Ok(_) => return true,
                    Err(now) => seen = now,
                }
            }
            false
        }
    }

    #[inline(always)]
    pub unsafe fn set_maybe_weakref(object: *mut PyObject) {
        // SAFETY: the caller's promise; the counts are atomics.
        unsafe {
            if (*object).ob_ref_local.load(Relaxed) == IMMORTAL {
                return;
            }
            let shared = &(*object).ob_ref_shared;
            let mut seen = shared.load(Relaxed);
            while seen & STATE == 0 {
                match shared.compare_exchange_weak(seen, seen | MAYBE_WEAKREF, AcqRel, Relaxed) {
                    Ok(_) => return,
                    Err(now) => seen = now,
                }
            }
        }
    }

    #[inline(always)]
    pub unsafe fn is_immortal(object: *mut PyObject) -> bool {
        // SAFETY: the caller's promise; the count is an atomic.
        unsafe { (*object).ob_ref_local.load(Relaxed) == IMMORTAL }
    }

    /// Did this thread make the object, and does no other hold a reference?
    #[cfg(not(Py_3_14))]
    pub unsafe fn is_unseen(object: *mut PyObject) -> bool {
        // SAFETY: the caller's promise; the counts are atomics.
        unsafe { is_owned(object) && (*object).ob_ref_shared.load(Relaxed) & !STATE == 0 && !is_immortal(object) }
    }

    /// Does the garbage collector alone decide when the object is freed? (`_PyGC_BITS_DEFERRED`)
    pub unsafe fn is_deferred(object: *mut PyObject) -> bool {
        const DEFERRED: u8 = 64;
        // SAFETY: the caller's promise; CPython reads these bits racily too.
        unsafe { (*object).ob_gc_bits & DEFERRED != 0 }
    }

    pub unsafe fn immortalize(object: *mut PyObject) {
        // SAFETY: no other thread has seen the object.
        unsafe {
            (*object).ob_tid = 0;
            (*object).ob_ref_local.store(IMMORTAL, Relaxed);
            (*object).ob_ref_shared.store(0, Relaxed);
        }
    }
}
