//! Builds the extension module into `.venv`.

use crate::python::{self, Python};
use crate::shell;

/// `cargo xtask build`.
pub fn run(quick: bool) -> Result<(), String> {
    extension(&python::environment()?, quick)
}

/// Builds the extension for `python`, as users get it, or quickly.
pub fn extension(python: &Python, quick: bool) -> Result<(), String> {
    let mut maturin = python.tool("maturin");
    maturin.args(["develop", "--locked", "--profile", if quick { "dev" } else { "extension" }]);
    if python.has_tool("uv") {
        maturin.arg("--uv");
    }
    if let Some(folder) = python.path.parent().and_then(|bin| bin.parent()) {
        let tools = folder.join("bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path)));
        maturin.env("VIRTUAL_ENV", folder).env("PATH", path.map_err(|cause| cause.to_string())?);
    }
    shell::run(&mut maturin)
}
