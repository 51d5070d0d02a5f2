//! From a finding to a scenario, and from what came of the scenario to what may be said of the finding.
//!
//! A scenario says, as plain data, which functions run against each other, at which lines they have to arrive, and what
//! would be wrong at the end. Nothing is run here: `raceproof.prove` imports the program, makes objects and arguments,
//! and explores. This crate reads no file and starts no process.

mod judge;
mod scenario;

pub use judge::{Judged, Word, judge};
pub use scenario::{Expects, Function, Lines, Scenario, Side, scenario};
