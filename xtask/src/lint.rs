//! Formatting, clippy, and ruff on the Python code.

use crate::python::Python;
use crate::shell::{self, cargo, is_there};

/// `cargo xtask lint`.
pub fn run(python: &Python, fix: bool) -> Result<(), String> {
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !is_there("cargo", &[command, "--version"]) {
            let advice = format!("`rustup component add {component}` gets it");
            return Err(format!("`cargo {command}` is not installed; {advice}"));
        }
    }
    let mut format = vec!["fmt", "--all"];
    let mut clippy = vec!["clippy", "--locked", "--workspace", "--all-targets"];
    if fix {
        clippy.extend(["--fix", "--allow-dirty", "--allow-staged"]);
    } else {
        format.push("--check");
    }
    clippy.extend(["--", "-D", "warnings"]);
    shell::run(&mut cargo(&format))?;
    shell::run(&mut cargo(&clippy))?;
    let (mut style, mut layout) = (python.tool("ruff"), python.tool("ruff"));
    style.args(["check", "--quiet"]);
    layout.args(["format", "--quiet"]);
    if fix {
        style.arg("--fix");
    } else {
        layout.arg("--check");
    }
    shell::run(&mut style)?;
    shell::run(&mut layout)
}
