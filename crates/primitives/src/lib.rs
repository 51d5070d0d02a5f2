//! The parts that a program without a GIL runs on, for Rust programs and, through `bindings`, for Python programs.
//! No part knows Python. Code that needs `unsafe` stands in `raw/`, behind a safe face.

pub mod async_lock;
pub mod lock;
#[cfg(not(feature = "model"))]
pub mod observe;
#[allow(unsafe_code)]
pub mod raw;
pub mod rwlock;
#[cfg(not(feature = "model"))]
pub mod stats;
pub mod sync;
#[cfg(not(feature = "model"))]
pub mod watch;

#[cfg(all(test, feature = "model"))]
mod models;
