//! The command `raceproof`. All that it does is in the library of this crate, so that tests can call it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
