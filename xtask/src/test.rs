//! All that a change must pass, in one command. The summary of the test runner is the last that is printed.

use crate::shell::{self, cargo, is_there};
use crate::{docs, lint};

/// `cargo xtask test`.
pub fn run(accept: bool) -> Result<(), String> {
    lint::run(false)?;
    if accept {
        docs::run(false)?;
    } else {
        docs::run(true)?;
    }
    let mut tests = if is_there("cargo", &["nextest", "--version"]) {
        cargo(&["nextest", "run", "--locked", "--workspace", "--no-fail-fast"])
    } else {
        cargo(&["test", "--locked", "--workspace", "--no-fail-fast"])
    };
    if accept {
        tests.env("RACEPROOF_ACCEPT", "1");
    }
    shell::run_last(&mut tests)
}
