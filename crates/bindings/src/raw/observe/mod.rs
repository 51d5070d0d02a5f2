//! Seeing what Python code is about to touch: the callback of `sys.monitoring`, and the operands of the instruction in
//! the frame that runs. Reads and never changes objects; a wrong layout is found by a self-test before anything is read
//! for a user.
//!
//! `portable` and `sources` do without frames, for other interpreters.
//!
//! Described in the documentation of `sys.monitoring` (PEP 669) and `Include/internal/pycore_frame.h` of CPython 3.13.

pub mod builtins;
pub mod callback;
pub mod deaths;
pub mod events;
pub mod factory;
pub mod frame;
pub mod naming;
pub mod operands;
pub mod portable;
pub mod preempt;
pub mod sources;
