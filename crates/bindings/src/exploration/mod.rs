//! Exploration under control: the driver of `explore`'s engine for Python programs.
//!
//! `program` knows the code that is seen, `session` is the state that the holder of the baton touches, `gate` hands the baton on, `sync` has what stands in
//! for locks, conditions, sleeps and threads, and `drive` makes the runs. Which thread goes on is decided in `explore`.

pub mod drive;
pub mod gate;
pub mod program;
pub mod report;
pub mod session;
pub mod stepwise;
pub mod sync;

use pyo3::prelude::*;

use crate::raw::observe::preempt;

/// Adds the module `control`: what `raceproof.instrument` and `raceproof.testing` use, and nobody else.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    primitives::flight::tell(&gate::FLIGHTS);
    let control = PyModule::new(module.py(), "control")?;
    for add in [gate::add, sync::add, stepwise::add, program::add, drive::add, preempt::add] {
        add(&control)?;
    }
    module.add("control", control)
}
