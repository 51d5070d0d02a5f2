//! The only room of this crate in which `unsafe` may stand. Each block says why it is sound.
