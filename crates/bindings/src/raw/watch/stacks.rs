//! Numbers for stacks: the calls that led to an instruction, each stack stored once.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use detect::Stack;
use parking_lot::Mutex;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use rustc_hash::FxBuildHasher;

use crate::raw::observe::frame;
use crate::raw::refcount;

/// Calls further out are left away.
const CALLS_MAX: usize = 24;
const REMEMBERED: usize = 512;

#[derive(Default)]
struct Depot {
    numbers: HashMap<u64, Stack, FxBuildHasher>,
    stacks: Vec<Box<[(usize, u32)]>>,
    kept: HashSet<usize, FxBuildHasher>,
}

static DEPOT: LazyLock<Mutex<Depot>> = LazyLock::new(Mutex::default);

/// The stacks that a thread was in lately.
pub struct Lately(Box<[(u64, Stack); REMEMBERED]>);

impl Default for Lately {
    fn default() -> Lately {
        Lately(Box::new([(0, 0); REMEMBERED]))
    }
}

impl Lately {
    /// The number of the stack that this thread is in, which stands before `offset` of its innermost function, if that
    /// is known better.
    ///
    /// # Safety
    /// As [`frame::walk`].
    pub unsafe fn number(&mut self, offset: Option<usize>) -> Stack {
        let mut calls = [(0, 0); CALLS_MAX];
        // SAFETY: the caller's promise.
        let n = unsafe { frame::walk(&mut calls) };
        if let Some(offset) = offset {
            calls[0].1 = offset as u32;
        }
        let calls = &calls[..n];
        let mut hash = 0x9E37_79B9_7F4A_7C15u64;
        for (code, offset) in calls {
            hash = (hash.rotate_left(5) ^ (*code as u64 >> 3) ^ (u64::from(*offset) << 44))
                .wrapping_mul(0x517C_C1B7_2722_0A95);
        }
        let remembered = &mut self.0[(hash >> 40) as usize % REMEMBERED];
        if remembered.0 != hash {
            *remembered = (hash, number(hash, calls));
        }
        remembered.1
    }
}

fn number(hash: u64, calls: &[(usize, u32)]) -> Stack {
    let mut depot = DEPOT.lock();
    if let Some(number) = depot.numbers.get(&hash) {
        return *number;
    }
    for (code, _) in calls {
        if depot.kept.insert(*code) {
            // SAFETY: the code of a frame that runs is alive; from now on it stays so.
            unsafe { refcount::incref(*code as *mut PyObject) };
        }
    }
    depot.stacks.push(calls.into());
    let number = depot.stacks.len() as Stack;
    depot.numbers.insert(hash, number);
    number
}

/// The code and the offset of a stack's innermost call.
pub fn innermost(stack: Stack) -> Option<(usize, u32)> {
    let depot = DEPOT.lock();
    depot.stacks.get((stack as usize).checked_sub(1)?)?.first().copied()
}

/// The calls of a stack, the innermost first.
pub fn calls(py: Python<'_>, stack: Stack) -> Vec<(Bound<'_, PyAny>, u32)> {
    let calls = {
        let depot = DEPOT.lock();
        (stack as usize).checked_sub(1).and_then(|at| depot.stacks.get(at)).cloned().unwrap_or_default()
    };
    // SAFETY: code in a stack is kept alive.
    calls
        .iter()
        .map(|(code, offset)| unsafe { (Bound::from_borrowed_ptr(py, *code as *mut PyObject), *offset) })
        .collect()
}

/// A code object that stands in some stack, by its address.
pub fn code(py: Python<'_>, address: u64) -> Option<Bound<'_, PyAny>> {
    let is_kept = DEPOT.lock().kept.contains(&(address as usize));
    // SAFETY: as above.
    is_kept.then(|| unsafe { Bound::from_borrowed_ptr(py, address as *mut PyObject) })
}
