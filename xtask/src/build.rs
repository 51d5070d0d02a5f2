//! Builds the extension module into `.venv`.

use crate::python::{self, Python};
use crate::shell::{self, cargo};

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

/// Pythons that the extension has to compile for, beside the one of `.venv`: version, and what is said of the build.
const OTHERS: [(&str, &str); 2] = [("3.14", "build_flags=Py_GIL_DISABLED\n"), ("3.10", "")];

/// Compiles the extension for Pythons that are not here: the newest free-threaded one, and the oldest with a GIL.
/// It is not linked and not run.
pub fn compiles_for_others() -> Result<(), String> {
    for (version, flags) in OTHERS {
        let folder = shell::root().join("target/other-pythons").join(version);
        let config = folder.join("pyo3.txt");
        let text = format!(
            "implementation=CPython\nversion={version}\nshared=true\nabi3=false\npointer_width=64\n{flags}\
             suppress_build_script_link_lines=true\n"
        );
        let failed = |cause: std::io::Error| format!("{}: {cause}", config.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        std::fs::write(&config, text).map_err(failed)?;
        let mut check = cargo(&["check", "--locked", "--quiet", "--package", "bindings", "--target-dir"]);
        check.arg(&folder).env("PYO3_CONFIG_FILE", &config);
        shell::run(&mut check).map_err(|reason| format!("{reason}: it does not compile for Python {version}"))?;
    }
    Ok(())
}
