//! The atomics that the algorithms are written with: those of the standard library, or those of the model checker.

#[cfg(feature = "model")]
pub use loom::sync::atomic::{AtomicU32, AtomicUsize};
#[cfg(not(feature = "model"))]
pub use std::sync::atomic::{AtomicU32, AtomicUsize};

/// One turn of a short busy wait.
pub fn spin() {
    #[cfg(feature = "model")]
    loom::thread::yield_now();
    #[cfg(not(feature = "model"))]
    std::hint::spin_loop();
}
