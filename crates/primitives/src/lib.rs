//! The parts that a program without a GIL runs on, for Rust programs and, through `bindings`, for Python programs.
//! No part knows Python. Code that needs `unsafe` stands in `raw/`, behind a safe face.

pub mod async_lock;
pub mod cache;
pub mod cell;
pub mod counter;
pub mod flight;
pub mod histogram;
pub mod keyed;
pub mod local;
pub mod lock;
#[cfg(not(feature = "model"))]
pub mod map;
#[cfg(all(test, feature = "model"))]
mod models;
#[cfg(not(feature = "model"))]
pub mod observe;
pub mod once;
pub mod pool;
#[allow(unsafe_code)]
pub mod raw;
pub mod rwlock;
pub mod state;
#[cfg(not(feature = "model"))]
pub mod stats;
pub mod sync;
pub mod thread_index;
#[cfg(not(feature = "model"))]
pub mod watch;
