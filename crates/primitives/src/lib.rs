//! The parts that a program without a GIL runs on, for Rust programs and, through `bindings`, for Python programs.
//! No part knows Python. Code that needs `unsafe` stands in `raw/`, behind a safe face.

#[cfg(not(feature = "model"))]
pub mod map;
#[allow(unsafe_code)]
pub mod raw;
pub mod sync;

pub mod cell;
pub mod counter;
pub mod flight;
pub mod fork;
pub mod local;
pub mod pool;
pub mod thread_index;
