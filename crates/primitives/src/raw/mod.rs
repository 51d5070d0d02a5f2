//! The only room of this crate in which `unsafe` may stand. Each block says why it is sound.

pub mod fork;
pub mod futex;
pub mod guarded;
#[cfg(all(test, feature = "model"))]
pub mod model;
pub mod thread;
