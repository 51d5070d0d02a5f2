//! What the models need `unsafe` for: a value without a lock of its own, whose every access the checker judges.

use loom::cell::UnsafeCell;

/// Adds one, in two steps.
pub fn increment(value: &UnsafeCell<usize>) {
    // SAFETY: the checker ends the run if another access is not ordered with this one.
    value.with_mut(|value| unsafe { *value += 1 });
}

/// Reads the value.
pub fn read(value: &UnsafeCell<usize>) -> usize {
    // SAFETY: as above.
    value.with(|value| unsafe { *value })
}
