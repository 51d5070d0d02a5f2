//! The only room of this crate in which `unsafe` may stand; each block says why it is sound.

pub mod fork;
pub mod futex;
pub mod guarded;
pub mod index;
#[cfg(all(test, feature = "model"))]
pub mod model;
pub mod once_box;
#[cfg(not(feature = "model"))]
pub mod pinned;
pub mod table;
#[cfg(all(test, feature = "model"))]
mod table_model;
pub mod tally;
pub mod thread;
