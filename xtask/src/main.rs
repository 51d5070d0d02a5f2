//! The developer commands: `cargo xtask help` lists them. One command for each thing that a change needs.

mod bench;
mod build;
mod debian;
mod docs;
mod lint;
mod new_rule;
mod python;
mod shell;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The developer commands of raceproof.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the extension module into `.venv`, which is made with a free-threaded Python if it is not there
    Build {
        /// Without link-time optimization: for a quick look, not for figures
        #[arg(long)]
        quick: bool,
    },
    /// Set up what is missing, lint, look for stale pages, build the extension, and run all Rust and Python tests
    Test {
        /// Rewrite the `output` blocks of the pages with what raceproof says now
        #[arg(long)]
        accept: bool,
    },
    /// Look at formatting, run clippy with warnings as errors, and ruff on the Python code
    Lint {
        /// Repair what can be repaired
        #[arg(long)]
        fix: bool,
    },
    /// Write the generated pages: docs/rules.md, docs/configuration.md, docs/cli.md
    Docs {
        /// Write nothing; say which pages are stale
        #[arg(long)]
        check: bool,
    },
    /// Measure `raceproof check` against the peers that are installed
    Bench {
        /// Folders of Python code to measure on
        #[arg(required = true)]
        trees: Vec<PathBuf>,
        /// How often each tool runs on each folder; the fastest run counts
        #[arg(long, default_value_t = 3)]
        runs: u32,
    },
    /// Write the two files of a new rule and its two lines in the list
    NewRule {
        /// What it forbids, in lower case with dashes
        name: String,
        /// Its code, such as RP213
        code: String,
    },
}

fn main() -> ExitCode {
    let done = match Xtask::parse().command {
        Command::Build { quick } => build::run(quick),
        Command::Test { accept } => test::run(accept),
        Command::Lint { fix } => python::environment().and_then(|python| lint::run(&python, fix)),
        Command::Docs { check } => docs::run(check),
        Command::Bench { trees, runs } => bench::run(&trees, runs),
        Command::NewRule { name, code } => new_rule::run(&name, &code),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            if !reason.is_empty() {
                eprintln!("error: {reason}");
            }
            ExitCode::FAILURE
        }
    }
}
