//! What can be typed on the command line. `docs/cli.md` is generated from here.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use facts::{Confidence, Runtime};
use report::Format;

/// Finds and fixes thread-safety defects in Python programs, with both sides of each race.
#[derive(Debug, Parser)]
#[command(
    name = "raceproof",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "exit status: 0 nothing found, 1 findings, 2 could not do it"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Report the thread-safety defects in Python files
    Check(CheckArgs),
    /// Repair what can be repaired mechanically
    Fix(FixArgs),
    /// Make findings happen: run the code in child processes, and find the schedule that fails
    Prove(ProveArgs),
    /// Print the page of a rule
    Explain(ExplainArgs),
    /// List the rules
    Rules,
    /// Run a scenario under control, schedule after schedule, until one fails or all are walked through. This executes
    /// the code, in a child process with limits on time and memory
    Explore(ExploreArgs),
    /// Run a program under the race detector, and tell what its threads did without order. This executes the program
    Run(RunArgs),
    /// Show what running programs say of their health, and their incidents, on a page of this machine
    Dashboard(DashboardArgs),
}

/// What `check` can be told.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// What is looked at, and how.
    #[command(flatten)]
    pub scope: Scope,
    /// How findings are shown
    #[arg(long, value_parser = formats(), default_value = "text", value_name = "FORMAT")]
    pub format: Format,
    /// Write the findings to a file instead of the terminal
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Hide the findings that this file lists; it is written by `--write-baseline`
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write the present findings to the baseline, and report none of them
    #[arg(long)]
    pub write_baseline: bool,
    /// Exit with 0 even if there are findings
    #[arg(long)]
    pub exit_zero: bool,
    /// Colours: `auto` means on a terminal, unless `NO_COLOR` is set
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: ColorArg,
    /// Print findings only: no summary, no notes, no progress
    #[arg(long, short)]
    pub quiet: bool,
    /// Print how many findings each rule has
    #[arg(long)]
    pub statistics: bool,
}

/// What `fix` can be told.
#[derive(Debug, Args)]
pub struct FixArgs {
    /// What is looked at, and how.
    #[command(flatten)]
    pub scope: Scope,
    /// Also apply fixes that a person should look at: they can change timing, identity or an interface
    #[arg(long)]
    pub r#unsafe: bool,
    /// Print what would change as a unified diff, and write nothing
    #[arg(long)]
    pub diff: bool,
    /// Run the scenario of each finding before and after, in child processes, and refuse fixes that do not help
    #[arg(long)]
    pub prove: bool,
    /// How far `--prove` goes.
    #[command(flatten)]
    pub limits: Limits,
    /// Print nothing but the diff or the refusals
    #[arg(long, short)]
    pub quiet: bool,
}

/// What `prove` can be told.
#[derive(Debug, Args)]
#[command(after_help = "`prove` imports and calls the code that it is about, each finding in a child process of its \
    own. The child has a limit of CPU time and of memory (setrlimit) and is killed after its time. Nothing else keeps \
    the code from doing what it does: do not run it on code that you would not run.\n\nexit status: 1 if a finding fails, \
    else 2 if one was given up or it could not be done, else 0")]
pub struct ProveArgs {
    /// What is looked at, and how.
    #[command(flatten)]
    pub scope: Scope,
    /// How far it goes.
    #[command(flatten)]
    pub limits: Limits,
    /// Write a pytest file for each failure into this folder: it fails until the code is repaired
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,
    /// How the outcome is shown
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub format: ProofFormat,
    /// No progress and no notes
    #[arg(long, short)]
    pub quiet: bool,
}

/// How far runs go.
#[derive(Debug, Args)]
pub struct Limits {
    /// The most runs of one scenario
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub max_runs: u64,
    /// The most seconds for one finding
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub time_limit: u64,
    /// The most seconds for all findings together; those that are not begun by then are given up [default: no limit]
    #[arg(long, value_name = "S")]
    pub budget: Option<u64>,
    /// The most memory for one finding, in megabytes
    #[arg(long, value_name = "MB", default_value_t = 2_048)]
    pub memory_limit: u64,
    /// The interpreter that runs the code, CPython 3.13 with raceproof [default: the one that raceproof was started with]
    #[arg(long, value_name = "FILE")]
    pub python: Option<PathBuf>,
}

/// The forms of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProofFormat {
    /// for people
    Text,
    /// for tools
    Json,
}

/// Which files, which rules, for which runtime: the same for every verb that analyses.
#[derive(Debug, Args)]
pub struct Scope {
    /// Files and folders
    #[arg(default_value = ".")]
    pub paths: Vec<PathBuf>,
    /// Run these rules only: names, codes, beginnings of codes such as `RP2`, or `all`
    #[arg(long, alias = "rule", value_name = "RULES", value_delimiter = ',')]
    pub select: Vec<String>,
    /// Leave these rules out, after `--select`
    #[arg(long, value_name = "RULES", value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// The runtime that the code is meant for [default: free-threaded]
    #[arg(long, value_enum, value_name = "RUNTIME")]
    pub runtime: Option<RuntimeArg>,
    /// Hide findings that we are less sure of [default: medium]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub confidence: Option<ConfidenceArg>,
    /// Read the configuration from this file, not from the nearest `raceproof.toml` or `pyproject.toml`
    #[arg(long, value_name = "FILE", conflicts_with = "isolated")]
    pub config: Option<PathBuf>,
    /// Read no configuration at all
    #[arg(long)]
    pub isolated: bool,
}

/// What `explain` can be told.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The name or the code of a rule
    pub rule: String,
}

/// What `explore` can be told.
#[derive(Debug, Args)]
#[command(after_help = "exit status: 0 proved or nothing found, 1 a schedule fails, 2 gave up or could not do it")]
pub struct ExploreArgs {
    /// `file.py::Scenario`: an object or class with `setup`, `threads` and perhaps `invariant` (or `check`) and `spec`,
    /// or a function that starts threads itself; `file.py` alone is a module with these names
    #[arg(value_name = "SCENARIO")]
    pub scenario: String,
    /// How schedules are chosen: `auto`, `random`, `pct2`, `pct3`, `pos`, `dfs`, `dfs0`, `dfs1`, ..., or `dpor`
    #[arg(long, default_value = "auto", value_name = "NAME")]
    pub strategy: String,
    /// Make no more runs than this [default: 100000]
    #[arg(long, value_name = "N")]
    pub max_runs: Option<u64>,
    /// Walk through the schedules with at most so many preemptions
    #[arg(long, value_name = "N")]
    pub bound: Option<u32>,
    /// Where chance begins
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The runtime that is explored for [default: that of the Python which runs this]
    #[arg(long, value_parser = explored(), value_name = "RUNTIME")]
    pub runtime: Option<RuntimeArg>,
    /// How a failure is shown
    #[arg(long, value_parser = formats(), default_value = "text", value_name = "FORMAT")]
    pub format: Format,
    /// Write the result to a file instead of the terminal
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Run this schedule, once, instead of looking for one
    #[arg(long, value_name = "SCHEDULE")]
    pub replay: Option<String>,
    /// End the child process after so many seconds, and give up
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub time_limit: u64,
    /// Let the child process have no more memory than so many MiB; 0 is no limit
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    pub memory_limit: u64,
}

/// What `run` can be told.
#[derive(Debug, Args)]
#[command(after_help = "exit status: 1 findings, 2 could not do it, else that of the program")]
pub struct RunArgs {
    /// The script
    #[arg(value_name = "SCRIPT")]
    pub target: String,
    /// What the script is told
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<String>,
    /// The script is the name of a module, as for `python -m`
    #[arg(long, short)]
    pub module: bool,
    /// How findings are shown
    #[arg(long, value_parser = formats(), default_value = "text", value_name = "FORMAT")]
    pub format: Format,
    /// Write the findings to a file instead of the standard error
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Hide findings that we are less sure of [default: medium]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub confidence: Option<ConfidenceArg>,
}

/// What `dashboard` can be told.
#[derive(Debug, Args)]
pub struct DashboardArgs {
    /// The file that the programs write to [default: that of this user, or `$RACEPROOF_STORE`]
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// The port on 127.0.0.1; 0 takes one that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
}

/// A runtime as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuntimeArg {
    /// CPython with its lock
    Gil,
    /// CPython 3.13t and later
    FreeThreaded,
    /// compiled, without locks per object
    Codon,
}

impl From<RuntimeArg> for Runtime {
    fn from(typed: RuntimeArg) -> Self {
        match typed {
            RuntimeArg::Gil => Runtime::Gil,
            RuntimeArg::FreeThreaded => Runtime::FreeThreaded,
            RuntimeArg::Codon => Runtime::Codon,
        }
    }
}

/// A confidence as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConfidenceArg {
    /// a type is unknown
    Low,
    /// one step is inferred
    Medium,
    /// all is resolved
    High,
}

impl From<ConfidenceArg> for Confidence {
    fn from(typed: ConfidenceArg) -> Self {
        match typed {
            ConfidenceArg::Low => Confidence::Low,
            ConfidenceArg::Medium => Confidence::Medium,
            ConfidenceArg::High => Confidence::High,
        }
    }
}

/// The formats of [`report`], read as they are written.
fn formats() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::as_str)).try_map(|word| word.parse::<Format>())
}

/// The runtimes that code can be explored for.
fn explored() -> impl TypedValueParser<Value = RuntimeArg> {
    PossibleValuesParser::new(["gil", "free-threaded"]).try_map(|word| RuntimeArg::from_str(&word, false))
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// on a terminal
    Auto,
    /// also when piped
    Always,
    /// not at all
    Never,
}
