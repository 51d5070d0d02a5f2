//! The code that was met: read without a lock, added to and never taken from. Code objects in it are kept for ever, so
//! that their addresses stay theirs.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::prelude::*;

use crate::raw::held::Held;
use crate::raw::observe::operands::Instruction;

/// What is known of a code object that is seen.
pub struct Code {
    /// How many locals, cells and free variables its frames have.
    pub n_locals: usize,
    /// Is it the constructor of a class?
    pub is_constructor: bool,
    /// For each two bytes of code the number of the instruction plus one.
    pub sites: Box<[u16]>,
    /// The instructions that may touch something.
    pub instructions: Box<[Instruction]>,
}

/// A code object; without a description if it is not seen.
pub struct Met {
    address: usize,
    /// What is known of it.
    pub code: Option<Code>,
    next: *mut Met,
}

const BUCKETS: usize = 8192;

static TABLE: [AtomicPtr<Met>; BUCKETS] = [const { AtomicPtr::new(null_mut()) }; BUCKETS];

fn bucket(address: usize) -> &'static AtomicPtr<Met> {
    &TABLE[((address as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 51) as usize % BUCKETS]
}

/// The code object at this address, if it was met.
pub fn find(address: usize) -> Option<&'static Met> {
    let mut at = bucket(address).load(Ordering::Acquire);
    // SAFETY: what is in the table is never freed and never changed.
    while let Some(met) = unsafe { at.as_ref() } {
        if met.address == address {
            return Some(met);
        }
        at = met.next;
    }
    None
}

/// Adds a code object. Two threads may add the same one: the last stays in front, and both say the same.
pub fn add(object: &Bound<'_, PyAny>, code: Option<Code>) -> &'static Met {
    let address = object.as_ptr() as usize;
    let _ = Held::of(object).into_ptr();
    let met = Box::into_raw(Box::new(Met { address, code, next: null_mut() }));
    let bucket = bucket(address);
    let mut first = bucket.load(Ordering::Relaxed);
    loop {
        // SAFETY: nobody else has it yet.
        unsafe { (*met).next = first };
        match bucket.compare_exchange_weak(first, met, Ordering::Release, Ordering::Relaxed) {
            // SAFETY: as above; from here on nobody changes it.
            Ok(_) => return unsafe { &*met },
            Err(other) => first = other,
        }
    }
}
