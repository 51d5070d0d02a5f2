//! The frame that runs: locals, and the operands of the instruction that comes next.
//!
//! The layout is that of CPython 3.13, the same with and without the GIL. Between two instructions the depth of the
//! value stack is known from the code alone, so that whoever asks says it.

use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pyo3::ffi::{self, PyObject};

use crate::raw::held::Held;
use crate::raw::refcount;

/// Where `PyThreadState` keeps its frame.
const CURRENT_FRAME: usize = 72;
/// Where `_PyInterpreterFrame` keeps its code, its globals and the first of its locals.
const CODE: usize = 0;
const GLOBALS: usize = 24;
const LOCALS: usize = 72;

/// Where it keeps the frame that called it, the instruction that runs, and who owns it.
const PREVIOUS: usize = 8;
const INSTRUCTION: usize = 56;
const OWNER: usize = 70;
/// The owner of a frame that stands for C code between Python code.
const OWNED_BY_C: u8 = 3;

/// Where a code object keeps its instructions; found out by [`calibrate`].
static INSTRUCTIONS: AtomicUsize = AtomicUsize::new(0);

/// Is the layout the one that is written here?
pub const IS_KNOWN: bool = cfg!(all(Py_3_13, not(Py_3_14)));

/// Where operands come from.
pub trait Operands {
    /// The value so far below the top of the stack, borrowed; null if there is none, or if none that counts.
    fn operand(&self, from_top: usize) -> *mut PyObject;
    /// A local, cell or free variable, borrowed; null if it is not bound.
    fn local(&self, idx: usize) -> *mut PyObject;
    /// The globals of the function, borrowed.
    fn globals(&self) -> *mut PyObject;
}

impl<T: Operands> Operands for &T {
    fn operand(&self, from_top: usize) -> *mut PyObject {
        (**self).operand(from_top)
    }

    fn local(&self, idx: usize) -> *mut PyObject {
        (**self).local(idx)
    }

    fn globals(&self) -> *mut PyObject {
        (**self).globals()
    }
}

/// A frame that stands before an instruction. Only good while the callback runs that asked for it.
#[derive(Clone, Copy)]
pub struct Frame {
    base: *mut u8,
    /// How many locals, cells and free variables lie below the value stack.
    n_locals: usize,
    /// How many values lie on the stack.
    depth: usize,
}

impl Frame {
    /// The frame that runs, if it runs `code`.
    ///
    /// # Safety
    /// The thread is attached and in a callback of `sys.monitoring`, `IS_KNOWN` holds and the self-test has passed (or is
    /// under way); `n_locals` and `depth` are those of the code at the instruction.
    #[inline(always)]
    pub unsafe fn current(code: *mut PyObject, n_locals: usize, depth: usize) -> Option<Frame> {
        // SAFETY: the caller's promise: the state and its frame have this layout.
        unsafe {
            let state = ffi::PyThreadState_Get().cast::<u8>();
            let base = *state.add(CURRENT_FRAME).cast::<*mut u8>();
            if base.is_null() || *base.add(CODE).cast::<*mut PyObject>() != code {
                return None;
            }
            Some(Frame { base, n_locals, depth })
        }
    }

    /// The code that it runs.
    pub fn code(self) -> usize {
        // SAFETY: whoever made the frame promised this layout.
        unsafe { *self.base.add(CODE).cast::<usize>() }
    }

    /// Where the frame lies, for [`is_below`].
    pub fn address(self) -> usize {
        self.base as usize
    }

    fn local_slot(self, idx: usize) -> *mut *mut PyObject {
        self.base.wrapping_add(LOCALS).cast::<*mut PyObject>().wrapping_add(idx)
    }

    fn slot(self, from_top: usize) -> Option<*mut *mut PyObject> {
        let at = self.depth.checked_sub(from_top + 1)?;
        Some(self.local_slot(self.n_locals + at))
    }

    /// Puts another value in the place of an operand: the instruction that comes next uses that one.
    pub fn replace(self, from_top: usize, value: Held) {
        if let Some(slot) = self.slot(from_top) {
            // SAFETY: the stack owns the reference that lies there; the new one takes its place.
            unsafe {
                let old = std::mem::replace(&mut *slot, value.into_ptr());
                if !old.is_null() {
                    refcount::decref(old);
                }
            }
        }
    }
}

impl Operands for Frame {
    #[inline(always)]
    fn operand(&self, from_top: usize) -> *mut PyObject {
        // SAFETY: whoever made the frame promised that so many values lie there.
        self.slot(from_top).map_or(null_mut(), |slot| unsafe { *slot })
    }

    fn local(&self, idx: usize) -> *mut PyObject {
        if idx >= self.n_locals {
            return null_mut();
        }
        // SAFETY: the frame has so many locals.
        unsafe { *self.local_slot(idx) }
    }

    fn globals(&self) -> *mut PyObject {
        // SAFETY: whoever made the frame promised this layout.
        unsafe { *self.base.add(GLOBALS).cast::<*mut PyObject>() }
    }
}

/// Is this frame, which ran `code`, still among the callers of the frame that runs?
///
/// # Safety
/// As [`Frame::current`].
pub unsafe fn is_below(frame: usize, code: usize) -> bool {
    // SAFETY: the caller's promise; the frames below the one that runs stand still meanwhile.
    unsafe {
        let mut base = *ffi::PyThreadState_Get().cast::<u8>().add(CURRENT_FRAME).cast::<*mut u8>();
        while !base.is_null() {
            if base as usize == frame {
                return *base.add(CODE).cast::<usize>() == code;
            }
            base = *base.add(PREVIOUS).cast::<*mut u8>();
        }
    }
    false
}

/// Finds out where code objects keep their instructions, from the frame that stands before `offset` of `code`; false if
/// it does not agree with what was found before.
///
/// # Safety
/// As [`Frame::current`].
pub unsafe fn calibrate(code: *mut PyObject, offset: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let base = *ffi::PyThreadState_Get().cast::<u8>().add(CURRENT_FRAME).cast::<*mut u8>();
        let at = *base.add(INSTRUCTION).cast::<usize>();
        let found = at.wrapping_sub(code as usize).wrapping_sub(offset);
        let known = INSTRUCTIONS.swap(found, Relaxed);
        // Behind the fields of a code object, of which there are fewer than 64.
        (size_of::<PyObject>()..512).contains(&found) && (known == 0 || known == found)
    }
}

/// The calls that led here, the innermost first: code objects, borrowed, and the offsets at which they stand. Says how
/// many there are.
///
/// # Safety
/// The thread is attached, `IS_KNOWN` holds, and [`calibrate`] has agreed.
pub unsafe fn walk(calls: &mut [(usize, u32)]) -> usize {
    let mut n = 0;
    // SAFETY: the caller's promise; the frames below the one that runs stand still meanwhile.
    unsafe {
        let mut base = *ffi::PyThreadState_Get().cast::<u8>().add(CURRENT_FRAME).cast::<*mut u8>();
        while !base.is_null() && n < calls.len() {
            if *base.add(OWNER) != OWNED_BY_C {
                let code = *base.add(CODE).cast::<usize>();
                let at = *base.add(INSTRUCTION).cast::<usize>();
                let offset = at.wrapping_sub(code).wrapping_sub(INSTRUCTIONS.load(Relaxed));
                calls[n] = (code, offset as u32);
                n += 1;
            }
            base = *base.add(PREVIOUS).cast::<*mut u8>();
        }
    }
    n
}

/// Reads a pointer that lies in an object, behind its header and so many bytes.
///
/// # Safety
/// `object` is alive and of a type that keeps a pointer there.
pub unsafe fn member(object: *mut PyObject, behind_header: usize) -> *mut PyObject {
    // SAFETY: the caller's promise.
    unsafe { *object.cast::<u8>().add(size_of::<PyObject>() + behind_header).cast::<*mut PyObject>() }
}

/// The first object that another refers to, its type aside: null if there is none.
///
/// # Safety
/// The object is alive, and the thread is attached.
pub unsafe fn first_referent(object: *mut PyObject) -> *mut PyObject {
    extern "C" fn visit(object: *mut PyObject, found: *mut c_void) -> c_int {
        // SAFETY: `found` is what was handed to the traversal below.
        unsafe {
            if object.is_null() || ffi::PyType_Check(object) != 0 {
                return 0;
            }
            *found.cast::<*mut PyObject>() = object;
        }
        1
    }
    let mut found: *mut PyObject = null_mut();
    // SAFETY: the object is alive; a traversal reads it and runs no Python code.
    unsafe {
        if let Some(traverse) = (*ffi::Py_TYPE(object)).tp_traverse {
            traverse(object, visit, (&raw mut found).cast());
        }
    }
    found
}
