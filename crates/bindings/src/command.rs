//! The command line, for `python -m raceproof`: one parser of arguments, in `cli`.

use std::ffi::OsString;

use cli::{Answer, Setting};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Adds `run_command`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(run_command, module)?)
}

/// Runs a command line, its first word being the name of the program; returns the exit code: 0 nothing found,
/// 1 findings, 2 could not do it. Of a verb that runs Python code it returns what is asked: the verb and a dict of the
/// settings. Detached: other threads go on.
#[pyfunction]
#[pyo3(signature = (argv, /))]
fn run_command(py: Python<'_>, argv: Vec<OsString>) -> PyResult<Bound<'_, PyAny>> {
    let request = match py.detach(|| cli::answer(argv)) {
        Answer::Exit(exit) => return Ok(exit.code().into_pyobject(py)?.into_any()),
        Answer::Run(request) => request,
    };
    let settings = PyDict::new(py);
    for (name, setting) in request.settings {
        match setting {
            Setting::Nothing => settings.set_item(name, py.None())?,
            Setting::Text(text) => settings.set_item(name, text)?,
            Setting::Number(number) => settings.set_item(name, number)?,
            Setting::Texts(texts) => settings.set_item(name, texts)?,
            Setting::Flag(flag) => settings.set_item(name, flag)?,
        }
    }
    Ok((request.verb, settings).into_pyobject(py)?.into_any())
}
