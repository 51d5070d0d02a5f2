//! What threads that run in parallel touch, for the race detector: the callback of `sys.monitoring`, and what it needs
//! without waiting for anybody: a table of code, a cache for each thread, numbers for stacks, news of objects that die.

pub mod callback;
pub mod codes;
pub mod deaths;
pub mod me;
pub mod stacks;
