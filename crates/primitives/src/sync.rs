//! The atomics that the algorithms stand on: those of the standard library, or with the feature `model` those of loom,
//! which runs every interleaving of a small program and every value that a weak memory may show.

#[cfg(feature = "model")]
pub use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
#[cfg(not(feature = "model"))]
pub use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

/// A place without a lock of its own. Under the model each access is checked for races.
#[cfg(not(feature = "model"))]
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Racy<T>(std::cell::UnsafeCell<T>);

#[cfg(not(feature = "model"))]
impl<T> Racy<T> {
    /// A place that holds `value`.
    pub fn new(value: T) -> Self {
        Racy(std::cell::UnsafeCell::new(value))
    }

    /// Calls `read` with a pointer for reading.
    #[inline(always)]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Calls `write` with a pointer for writing.
    #[inline(always)]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

#[cfg(feature = "model")]
pub use loom::cell::UnsafeCell as Racy;

/// One turn of a short busy wait.
pub fn spin() {
    #[cfg(feature = "model")]
    loom::thread::yield_now();
    #[cfg(not(feature = "model"))]
    std::hint::spin_loop();
}
