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
    /// Print the page of a rule
    Explain(ExplainArgs),
    /// List the rules
    Rules,
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
    /// Print nothing but the diff or the refusals
    #[arg(long, short)]
    pub quiet: bool,
}

/// Which files, which rules, for which runtime: the same for every verb that analyses.
#[derive(Debug, Args)]
pub struct Scope {
    /// Files and folders
    #[arg(default_value = ".")]
    pub paths: Vec<PathBuf>,
    /// Run these rules only: names, codes, beginnings of codes such as `RP2`, or `all`
    #[arg(long, value_name = "RULES", value_delimiter = ',')]
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
