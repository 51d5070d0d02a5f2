//! Numbers for objects that are the same in every run: by how they are reached from the state that was set up, or by
//! which thread met them as the how-manieth new one. Addresses never leave this file.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use rustc_hash::FxBuildHasher;

use super::builtins::has_finalizer;
use crate::raw::held::Held;

/// More objects are not numbered in one run.
const OBJECTS_MAX: usize = 200_000;
/// The numbers below are those of the state; each thread has as many of its own above.
const STATE_MAX: u32 = 1 << 24;
const OF_THREAD: u32 = 1 << 18;

/// The numbers of one run. An object that dies loses its number, so that another one at its address is not taken for it:
/// nothing is kept alive that the program lets go of, since what dies may run code. What the collector does not track
/// refers to nothing, and is kept until the next run. Where there is no news of deaths, all are kept.
#[derive(Default)]
pub struct Naming {
    numbers: HashMap<usize, u32, FxBuildHasher>,
    kept: Vec<Held>,
    /// How many objects have got a number in this run.
    n_named: usize,
    of_threads: Vec<u32>,
    is_full: bool,
    /// Is there no news of objects that die?
    keeps_all: bool,
    /// May objects live longer than the program lets them, since something else holds them?
    outlives: bool,
    /// Is there one among them whose death the program could see?
    hides_deaths: bool,
}

impl Naming {
    /// Lets go of all objects.
    pub fn clear(&mut self) -> Vec<Held> {
        self.numbers.clear();
        self.of_threads.clear();
        (self.is_full, self.n_named, self.hides_deaths) = (false, 0, false);
        std::mem::take(&mut self.kept)
    }

    /// The object at this address is no more.
    pub fn forget(&mut self, address: usize) {
        self.numbers.remove(&address);
    }

    /// Keeps all objects until the next run, or only those that it has to; says whether others hold some as well.
    pub fn keep_all(&mut self, keeps_all: bool, others_hold: bool) {
        (self.keeps_all, self.outlives) = (keeps_all, keeps_all || others_hold);
    }

    /// May objects live longer than the program lets them?
    pub fn outlives(&self) -> bool {
        self.outlives
    }

    /// Code of the program touches an object that may live too long.
    pub fn touch(&mut self, object: *mut PyObject) {
        // SAFETY: objects that are touched are alive.
        self.hides_deaths |= unsafe { tells_of_death(object) };
    }

    /// May an object live too long whose death the program could see: by a finalizer, or by a weak reference that it asks?
    pub fn hides_deaths(&self) -> bool {
        self.hides_deaths
    }

    /// Were there too many objects?
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    fn keep(&mut self, object: *mut PyObject, number: u32) -> bool {
        if self.n_named >= OBJECTS_MAX {
            self.is_full = true;
            return false;
        }
        self.n_named += 1;
        self.numbers.insert(object as usize, number);
        // SAFETY: whoever gave us the object holds it, and the thread is attached.
        unsafe {
            if self.keeps_all || ffi::PyType_IS_GC(ffi::Py_TYPE(object)) == 0 {
                self.kept.push(Held::new(object));
            }
        }
        true
    }

    /// Numbers all that can be reached from `roots`, in the order in which it is reached.
    pub fn walk(&mut self, roots: &[Bound<'_, PyAny>]) {
        let mut reached: Vec<*mut PyObject> = Vec::new();
        for root in roots {
            // SAFETY: the caller holds the roots, and what they refer to is held by them: nothing else runs.
            unsafe { descend(root.as_ptr(), &mut reached) };
        }
        let mut at = 0;
        while at < reached.len() {
            let object = reached[at];
            at += 1;
            let number = self.n_named as u32;
            if self.numbers.contains_key(&(object as usize)) || number >= STATE_MAX {
                continue;
            }
            if !self.keep(object, number) {
                return;
            }
            // SAFETY: as above.
            unsafe { descend_into(object, &mut reached) };
        }
    }

    /// Gives a dict the number of the object whose attributes it holds.
    pub fn alias(&mut self, dict: *mut PyObject, object: *mut PyObject, thread: usize) {
        let number = self.number(object, thread);
        self.keep(dict, number);
    }

    /// Is it a class?
    pub fn is_type(object: *mut PyObject) -> bool {
        // SAFETY: objects that are touched are alive.
        unsafe { ffi::PyType_Check(object) != 0 }
    }

    /// The number of an object that `thread` touches; a new one if it has none.
    pub fn number(&mut self, object: *mut PyObject, thread: usize) -> u32 {
        // SAFETY: the object is alive. The attributes of a module are the globals of its functions.
        let object = unsafe { if ffi::PyModule_Check(object) != 0 { ffi::PyModule_GetDict(object) } else { object } };
        if let Some(number) = self.numbers.get(&(object as usize)) {
            return *number;
        }
        if self.of_threads.len() <= thread {
            self.of_threads.resize(thread + 1, 0);
        }
        let own = &mut self.of_threads[thread];
        *own = (*own + 1).min(OF_THREAD - 1);
        let number = STATE_MAX + thread as u32 * OF_THREAD + *own;
        self.keep(object, number);
        number
    }
}

/// Has the object a finalizer of the program, or is it a weak reference?
unsafe fn tells_of_death(object: *mut PyObject) -> bool {
    // SAFETY: the object is alive.
    unsafe { ffi::PyWeakref_Check(object) != 0 || has_finalizer(ffi::Py_TYPE(object)) }
}

/// Adds what is worth a number: what the collector tracks, but neither code nor types nor modules, which are known by
/// their names.
unsafe fn descend(object: *mut PyObject, reached: &mut Vec<*mut PyObject>) {
    // SAFETY: the object is alive.
    unsafe {
        let kind = ffi::Py_TYPE(object);
        let is_known_by_name = ffi::PyType_Check(object) != 0 || ffi::PyModule_Check(object) != 0;
        if ffi::PyType_IS_GC(kind) != 0 && !is_known_by_name {
            reached.push(object);
        }
    }
}

unsafe fn descend_into(object: *mut PyObject, reached: &mut Vec<*mut PyObject>) {
    extern "C" fn visit(object: *mut PyObject, list: *mut c_void) -> c_int {
        // SAFETY: `list` is what was handed to the traversal below.
        unsafe {
            if !object.is_null() {
                descend(object, &mut *list.cast::<Vec<*mut PyObject>>());
            }
        }
        0
    }
    // SAFETY: the object is alive; a traversal reads it and runs no Python code.
    unsafe {
        let list: *mut c_void = std::ptr::from_mut(reached).cast();
        if ffi::PyFunction_Check(object) != 0 {
            // Not its globals: they lead to everything.
            for part in [ffi::PyFunction_GetClosure(object), ffi::PyFunction_GetDefaults(object)] {
                visit(part, list);
            }
            return;
        }
        if let Some(traverse) = (*ffi::Py_TYPE(object)).tp_traverse {
            traverse(object, visit, list);
        }
    }
}
