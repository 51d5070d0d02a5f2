//! The only room of this crate in which `unsafe` may stand; each block says why it is sound.

pub mod once_box;
