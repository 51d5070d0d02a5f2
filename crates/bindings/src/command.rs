//! The command line, for `python -m raceproof`: one parser of arguments, in `cli`.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Adds `run_command`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(run_command, module)?)
}

/// Runs a command line, its first word being the name of the program; returns the exit code: 0 nothing found,
/// 1 findings, 2 could not do it. Detached: other threads go on.
#[pyfunction]
#[pyo3(signature = (argv, /))]
fn run_command(py: Python<'_>, argv: Vec<OsString>) -> u8 {
    py.detach(|| cli::answer(argv).code())
}
