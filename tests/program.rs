//! The command `raceproof`, built where the tests can find it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
