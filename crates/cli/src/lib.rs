//! The command line: reads arguments, configuration and files, asks `check`, shows what `report` makes of it, and
//! writes what `fix` repairs. All contact with the file system, the terminal and the clock is here.
//!
//! It promises three exit codes (0 nothing found, 1 findings, 2 could not do it), and one error, printed once.

mod args;
mod baseline;
mod child;
mod commands;
pub mod config;
mod discover;
mod error;
mod progress;
mod proven;
mod prover;
pub mod repair;
mod replace;
mod request;
mod selection;
mod texts;

use std::ffi::OsString;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use error::Error;
pub use request::{Request, Setting};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Nothing was found.
    Clean,
    /// There are findings.
    Findings,
    /// It could not be done.
    Failed,
}

impl Exit {
    /// The exit code of the process.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Clean => 0,
            Exit::Findings => 1,
            Exit::Failed => 2,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// What came of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Exit(Exit),
    /// It is for Python to do.
    Run(Request),
}

/// Runs the command line of this process, in which there is no Python.
#[must_use]
pub fn main() -> ExitCode {
    let exit = match answer(std::env::args_os()) {
        Answer::Exit(exit) => exit,
        Answer::Run(request) => fail(
            &Error::new(format!("`{}` runs Python code, and this program has no Python", request.verb))
                .help(format!("say it to the package: `python -m raceproof {} ...`", request.verb)),
        ),
    };
    exit.into()
}

/// Runs one command line to its end: what goes wrong is printed, once.
#[must_use]
pub fn answer(argv: impl IntoIterator<Item = OsString>) -> Answer {
    // A failure of ours outside the rules, each of which has a wall of its own: it must not look like a result.
    let ended = catch_unwind(AssertUnwindSafe(|| run(argv))).unwrap_or_else(|_| {
        Err(Error::new("raceproof itself has failed")
            .help("please report it, with the lines above, the files and the command line"))
    });
    ended.unwrap_or_else(|error| Answer::Exit(fail(&error)))
}

fn fail(error: &Error) -> Exit {
    // Nobody is left to tell if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{error}");
    Exit::Failed
}

/// Runs one command line, its first word being the name of the program.
///
/// # Errors
/// If the command cannot be done. What is asked wrongly is said here already, since the parser of arguments knows best
/// how.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> Result<Answer, Error> {
    match args::Cli::try_parse_from(argv) {
        Ok(cli) => commands::run(&cli.command),
        Err(error) => {
            let is_wrong = error.use_stderr();
            // As above: a closed stream cannot be told about itself.
            let _ = error.print();
            Ok(Answer::Exit(if is_wrong { Exit::Failed } else { Exit::Clean }))
        }
    }
}

/// The arguments, for the page that is generated from them.
#[must_use]
pub fn command() -> clap::Command {
    args::Cli::command()
}
