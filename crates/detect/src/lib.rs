//! The race detector: what threads that really ran in parallel did without order between them.
//!
//! Threads tell of their accesses, locks and messages while they run; what comes of it are [`memory::Conflict`]s, which
//! [`judge`] puts in words and ranks. It follows FastTrack (Flanagan and Freund, PLDI 2009): the last write of a
//! variable is an epoch, and clocks tick only where a thread gives something away. Beyond it, reads are kept for each
//! thread, since what breaks a Python program is not the single access but the write that no longer fits what was read.
//!
//! It knows no Python and starts no thread: objects are numbers, and so are stacks. What it says was seen in this run
//! or follows from its order of starts, joins and messages; what the run did not do, it cannot say.
//!
//! | module | is |
//! |---|---|
//! | [`clock`] | vector clocks |
//! | [`thread`] | what is known of a thread: its clocks, the locks that it holds |
//! | [`lock`] | what is known of a lock, and sets of locks |
//! | [`memory`] | the variables, and the rules of FastTrack |
//! | [`judge`] | what a conflict is called, and which matters most |
//! | [`order`] | locks that are taken in circles |
//! | [`rules`] | the rules that only a run can breach |

pub mod clock;
pub mod judge;
pub mod lock;
pub mod memory;
pub mod order;
pub mod rules;
pub mod thread;

/// The number of a stack, for whoever keeps them; 0 for none.
pub type Stack = u32;
