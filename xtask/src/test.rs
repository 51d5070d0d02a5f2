//! All that a change must pass, in one command. The summaries of the test runners are the last that is printed.

use crate::shell::{self, cargo, is_there};
use crate::{build, docs, lint, python};

/// `cargo xtask test`.
pub fn run(accept: bool) -> Result<(), String> {
    let python = python::environment()?;
    lint::run(&python, false)?;
    docs::run(!accept)?;
    build::compiles_for_others()?;
    build::extension(&python, false)?;
    let mut tests = if is_there("cargo", &["nextest", "--version"]) {
        cargo(&["nextest", "run", "--locked", "--workspace", "--no-fail-fast"])
    } else {
        cargo(&["test", "--locked", "--workspace", "--no-fail-fast"])
    };
    if accept {
        tests.env("RACEPROOF_ACCEPT", "1");
    }
    let rust = shell::run_last(&mut tests);
    // A crash of the interpreter shall say in which test, and where.
    let pytest = ["-X", "faulthandler", "-m", "pytest", "-q", "--no-header", "-r", "s"];
    let scripts = shell::run_last(&mut python.command(&pytest));
    rust.and(scripts)
}
