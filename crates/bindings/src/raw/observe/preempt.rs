//! Disturbs threads that run for real, in parallel: before an instruction of code that is seen a thread now and then
//! lets others go first, so that narrow races get wide. No baton, no trace: which thread is stopped where is chance.

use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pyo3::ffi::{Py_ssize_t, PyObject};
use pyo3::prelude::*;

use super::events::{self, keep};
use crate::raw::detached::detached;
use crate::raw::native_type::slot;

/// One in about so many instructions is a place to stop; none if it is 0.
static ONE_IN: AtomicU32 = AtomicU32::new(0);
/// How many eighths of the stops are sleeps.
static SLEEPS: AtomicU32 = AtomicU32::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);
static N_THREADS: AtomicU64 = AtomicU64::new(0);
/// The longest stop by far is a sleep of so many microseconds.
const SLEEP_US_MAX: u64 = 60;

thread_local! {
    /// Instructions until the next stop, the state of the dice, and the seed that it began with.
    static DICE: Cell<(u32, u64, u64)> = const { Cell::new((0, 0, u64::MAX)) };
}

/// Adds `on_preempt`, the callback, and `preempt`, which sets how often it stops a thread.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("on_preempt", events::function(module.py(), c"on_preempt", on_preempt)?)?;
    module.add_function(wrap_pyfunction!(preempt, module)?)
}

/// Threads are stopped at one in about `one_in` instructions from now on, at none if it is 0; `sleeps` eighths of the
/// stops are sleeps.
#[pyfunction]
fn preempt(one_in: u32, sleeps: u32, seed: u64) {
    SLEEPS.store(sleeps, Relaxed);
    SEED.store(seed, Relaxed);
    ONE_IN.store(one_in, Relaxed);
}

/// The next number of a thread's dice (xorshift of Marsaglia, 2003).
fn roll(state: u64) -> u64 {
    let state = state ^ (state << 13);
    let state = state ^ (state >> 7);
    state ^ (state << 17)
}

/// Is this a place to stop, and how?
fn is_here(one_in: u32) -> Option<u64> {
    DICE.with(|dice| {
        let (left, mut state, mut begun) = dice.get();
        let seed = SEED.load(Relaxed);
        if begun != seed {
            // A number of its own for each thread: all would stop at the same places otherwise.
            let own = N_THREADS.fetch_add(1, Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (state, begun) = (roll(seed ^ own | 1), seed);
        } else if left > 0 {
            dice.set((left - 1, state, begun));
            return None;
        }
        state = roll(state);
        dice.set(((state >> 33) as u32 % one_in.saturating_mul(2), state, begun));
        Some(state >> 11)
    })
}

fn stop(chance: u64) {
    if chance % 8 < u64::from(SLEEPS.load(Relaxed)) {
        std::thread::sleep(Duration::from_micros(1 + chance / 16 % SLEEP_US_MAX));
    } else if (chance / 8).is_multiple_of(2) {
        std::thread::yield_now();
    } else {
        (0..chance / 16 % 2_000).for_each(|_| std::hint::spin_loop());
    }
}

slot! {
    /// `(code, offset)`: before an instruction.
    fn on_preempt(_this: *mut PyObject, _args: *mut *mut PyObject, _n: Py_ssize_t) -> *mut PyObject {
        let one_in = ONE_IN.load(Relaxed);
        if one_in != 0 && let Some(chance) = is_here(one_in) {
            // Nothing of Python is touched meanwhile.
            detached(|| stop(chance));
        }
        keep()
    } else null_mut()
}
